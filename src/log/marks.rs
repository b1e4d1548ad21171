//! Checkpoints of a log in use: when one is due, what it says, and what is known when it was written.

use super::sources::Sources;
use super::{Log, Trouble};
use crate::counters::{Place, StreamCounter};
use crate::format::CursorEntry;
use crate::rules::{Rule, holds};

impl Log {
    /// The cursors that the board has.
    pub(super) fn cursors(&self) -> impl Iterator<Item = CursorEntry> {
        let boards = (0..crate::counters::CURSORS_MAX).map(|index| self.board.cursor(index));
        let named = boards.take_while(|cursor| !cursor.name().is_empty());
        named.map(|cursor| {
            // Only its own thread writes it, in this process: it is never half written for long.
            let place = cursor.place().unwrap_or_else(|| Place {
                position: self.durable_head,
                ..Place::default()
            });
            CursorEntry {
                name: cursor.name(),
                place,
            }
        })
    }

    /// Writes a checkpoint if anything in it moved since the last one, and frees what it lets go.
    pub fn checkpoint(&mut self) -> Result<(), Trouble> {
        let is_moved = self.durable() != self.durable_mark
            || self.shared.ledger().take_changed()
            || self
                .cursors()
                .zip(&self.state.cursors)
                .any(|(now, then)| now != *then);
        if !is_moved && !self.is_checkpoint_owed {
            return Ok(());
        }
        self.state.reach = self.geometry.shorter_reach(self.durable_reach);
        self.checkpoint_as(false)
    }

    /// Writes the checkpoint of a clean close. Everything appended must be durable.
    pub fn close(&mut self) -> Result<(), Trouble> {
        assert!(!self.is_dirty());
        self.checkpoint_as(true)
    }

    pub(super) fn checkpoint_as(&mut self, is_clean: bool) -> Result<(), Trouble> {
        let cursors: heapless::Vec<_, { crate::counters::CURSORS_MAX }> = self.cursors().collect();
        let slowest = cursors.iter().map(|cursor| cursor.place.position);
        let slowest = match holds(Rule::SlowestCursorKeeps) {
            true => slowest.min(),
            false => slowest.max(),
        };
        if let Some(slowest) = slowest {
            let to = self.shared.with_table(|table| table.base_below(slowest));
            self.shared.set_head(to.max(self.shared.head()));
        }
        let state = &mut *self.state;
        state.generation += 1;
        state.life = self.life;
        state.mark = match holds(Rule::CheckpointMarkAfterSync) {
            true => self.shared.durable.get(),
            false => self.next,
        };
        state.head = self.shared.head();
        state.written = self.clock.stamp();
        state.is_clean = is_clean;
        (state.segment, state.page) = match &self.writer {
            Some(writer) if self.is_active => (writer.segment().number, writer.end_slot()),
            _ => (0, 0),
        };
        state.cursors = cursors;
        for cursor in state
            .cursors
            .iter_mut()
            .filter(|_| !holds(Rule::CheckpointCursors))
        {
            cursor.place.position = self.next;
        }
        for orphan in &self.orphans {
            // There may be more of them than fit; those of sinks that run come first.
            let _ = state.cursors.push(orphan.clone());
        }
        Sources::copy(&mut state.sources, &self.shared);
        state.ledger.clone_from(self.shared.ledger().ranges());
        self.is_checkpoint_owed = true;
        let announced_max = self.state.mark + self.state.reach;
        // If it fails it may be found all the same.
        self.announced_max = self.announced_max.min(announced_max);
        let written = self.checkpoints.write(&self.state);
        self.board.add(StreamCounter::Checkpoints, 1);
        self.board.add(
            StreamCounter::WrittenBytes,
            self.checkpoints.take_written_bytes(),
        );
        if let Err(error) = written {
            log::error!("{}: write checkpoint failed: {error}", self.options.name);
            self.shared.durable.fail();
            return Err(Trouble::Failed("write checkpoint", error));
        }
        self.is_checkpoint_owed = false;
        self.sources.written();
        self.durable_mark = self.state.mark;
        self.durable_head = self.state.head;
        self.durable_reach = self.state.reach;
        self.announced_max = announced_max;
        self.durable_life = self.state.life;
        self.board.set(StreamCounter::HeadOffset, self.durable_head);
        self.free();
        Ok(())
    }
}
