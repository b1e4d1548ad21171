//! Space: a spare before it is needed, a segment given up when there is none, files freed behind the head.

use std::io;
use std::time::Duration;

use super::shared::Freed;
use super::spare::{self, Spare};
use super::{Log, Trouble, geometry};
use crate::counters::StreamCounter;
use crate::format::{Loss, PAGE_SIZE, Reason};
use crate::rules::{Rule, holds};
use crate::segment;
use crate::storage::is_room_missing;

/// How long a file system that was full is left alone before a segment is made again.
const NO_SPACE_PAUSE: Duration = Duration::from_secs(5);
/// So many bytes of the spare are prepared for each that is appended.
const SPARE_BYTES_PER_BYTE: u64 = 2;
/// A spare is begun earlier than that asks for, by this part of it.
const SPARE_MARGIN: u32 = 8;

impl Log {
    /// A segment's file to write to: the spare, a new one, or the oldest.
    pub(super) fn take_spare(&mut self) -> Result<Spare, Trouble> {
        let mut is_checkpointed = false;
        loop {
            if !self.has_ready_spare() && !is_checkpointed {
                // Frees what was acknowledged: that costs less than a new file, and less than records.
                is_checkpointed = true;
                self.checkpoint()?;
            }
            match self.spare_in_room() {
                Ok(Some(spare)) => return Ok(spare),
                Ok(None) => self.give_up_oldest()?,
                Err(error) => {
                    // No reason to drop what is stored: the medium may recover.
                    self.shared.durable.fail();
                    return Err(Trouble::Failed("prepare segment", error));
                }
            }
        }
    }

    /// A segment's file to write to, if there is room for it.
    pub(super) fn spare_in_room(&mut self) -> io::Result<Option<Spare>> {
        self.prepare_up_to(u64::MAX)?;
        let ready = self.spares.iter().position(Spare::is_ready);
        Ok(ready.map(|at| self.spares.remove(at)))
    }

    fn has_ready_spare(&self) -> bool {
        self.spares.iter().any(Spare::is_ready)
    }

    /// Does so many steps towards a spare that is ready; none when there is one, or no room for it.
    fn prepare_up_to(&mut self, steps: u64) -> io::Result<()> {
        for _ in 0..steps {
            if self.spares.is_empty() {
                let spare = self.new_spare()?;
                self.spares.extend(spare);
                self.report_space();
            }
            if self.spares.is_empty() || self.has_ready_spare() {
                return Ok(());
            }
            self.step_spare(0, Spare::step)?;
        }
        Ok(())
    }

    /// Does a step towards that spare. One that fails goes; that there is no room is no error.
    pub(super) fn step_spare(
        &mut self,
        at: usize,
        step: impl FnOnce(&mut Spare) -> io::Result<()>,
    ) -> io::Result<()> {
        let spare = &mut self.spares[at];
        let done = step(spare);
        let zeros = spare.take_written_bytes();
        self.board.add(StreamCounter::WrittenBytes, zeros);
        self.board.add(StreamCounter::PreparedBytes, zeros);
        done.or_else(|error| {
            let spare = self.spares.remove(at);
            self.remove_spare(spare);
            self.report_space();
            self.no_space_or(error)
        })
    }

    /// Starts to make a new segment, if there is room for one.
    pub(super) fn new_spare(&mut self) -> io::Result<Option<Spare>> {
        let number = self.shared.with_table(|table| {
            let is_spare = |number| self.spares.iter().any(|spare| spare.number() == number);
            table.free_number(is_spare)
        });
        let Some(pages) = self.next_pages() else {
            return Ok(None);
        };
        if !self.has_room(pages) {
            return Ok(None);
        }
        match Spare::create(&*self.dir, number, pages) {
            Ok(spare) => Ok(Some(spare)),
            Err(error) => {
                if error.kind() == io::ErrorKind::AlreadyExists {
                    self.shared.with_table(|table| table.block(number));
                } else {
                    self.remove_file(spare::spare_name(number), number, pages);
                }
                self.no_space_or(error).map(|()| None)
            }
        }
    }

    /// A file system without room is left alone for a while, as if the quota were full. Any other error
    /// is given back.
    fn no_space_or(&mut self, error: io::Error) -> io::Result<()> {
        if !is_room_missing(&error) {
            return Err(error);
        }
        log::warn!("{}: no new segment: {error}", self.options.name);
        self.no_space_until = self.clock.mono().plus(NO_SPACE_PAUSE);
        Ok(())
    }

    /// Whether quota and file system have room for so many pages more, as far as it is known.
    fn has_room(&mut self, pages: u32) -> bool {
        self.remove_leftovers();
        (self.geometry.has_room(self.taken_pages(), pages) || !holds(Rule::QuotaKept))
            && self.clock.mono() >= self.no_space_until
            && self.leaves_room(pages)
    }

    /// Whether the file system has enough left for others when it gives so many pages. If not, it is left
    /// alone for a while.
    fn leaves_room(&mut self, pages: u32) -> bool {
        let kept = self.options.free_bytes_min;
        if kept == 0 {
            return true;
        }
        let wanted = segment::position(pages).saturating_add(kept);
        match self.dir.free() {
            Ok(free) if free < wanted => {
                let name = &self.options.name;
                log::warn!("{name}: no new segment: {free} bytes are free, {kept} are for others");
                self.no_space_until = self.clock.mono().plus(NO_SPACE_PAUSE);
                false
            }
            Ok(_) => true,
            Err(error) => {
                log::warn!("{}: free space is not known: {error}", self.options.name);
                true
            }
        }
    }

    /// Frees the oldest segment, if it may go: it was acknowledged, or the oldest records are dropped.
    fn give_up_oldest(&mut self) -> Result<(), Trouble> {
        assert!(!self.is_active);
        let last_end = Some(self.durable());
        let Some(to) = self.shared.with_table(|table| table.first_end(last_end)) else {
            return Err(Trouble::Full);
        };
        let wanted = self.slowest();
        if wanted.is_none_or(|position| position < to) {
            if !self.options.drop_oldest {
                return Err(Trouble::Full);
            }
            self.drop_below(to, wanted, Reason::Quota);
        }
        self.shared.set_head(to.max(self.shared.head()));
        if !holds(Rule::HeadBeforeRecycling) {
            self.durable_head = self.shared.head();
            self.free();
            return Ok(());
        }
        self.checkpoint_as(false)
    }

    /// Writes down that the records below `to` are gone, of which the slowest cursor stands at `wanted`.
    pub(super) fn drop_below(&mut self, to: u64, wanted: Option<u64>, reason: Reason) {
        let start = wanted.unwrap_or(0).max(self.shared.head());
        let wall_s = self.clock.stamp().wall_s();
        let mut ledger = self.shared.ledger();
        let count = (to - start) - ledger.covered(start, to);
        let loss = Loss {
            start,
            end: to,
            count,
            wall_s,
            reason,
        };
        if holds(Rule::DropsInLedger) {
            ledger.add(loss);
        }
        drop(ledger);
        if count > 0 {
            self.board.add(StreamCounter::Drops, 1);
        }
        if wanted.is_none() {
            let counter = match reason {
                Reason::Age => StreamCounter::ExpiredUnread,
                _ => StreamCounter::DroppedUnread,
            };
            self.board.add(counter, count);
        }
        log::debug!("{}: dropped {count} records below {to}", self.options.name);
    }

    /// Frees the segments behind the durable head.
    pub(super) fn free(&mut self) {
        // The last segment is freed too when it is full and left.
        let last_end = (!self.is_active).then(|| self.durable());
        let mut is_any = false;
        while let Some(freed) = self
            .shared
            .with_table(|table| table.remove_first(self.durable_head, last_end))
        {
            is_any = true;
            let end = self.shared.first_base().unwrap_or(u64::MAX);
            if !self.set_aside(&freed.segment, end) {
                self.keep(freed);
            }
        }
        if is_any {
            self.report_space();
        }
    }

    /// Keeps a freed segment as the spare, if there is none that is ready and it is as good as a new one
    /// would be; removes it otherwise.
    fn keep(&mut self, freed: Freed) {
        let Freed {
            segment,
            is_suspect,
        } = freed;
        let is_right = segment.pages == self.geometry.pages || !self.has_room(self.geometry.pages);
        let is_wanted = self.options.reserves_all || !self.has_ready_spare();
        if is_wanted && is_right && (!is_suspect || !holds(Rule::SuspectNotReused)) {
            if !self.options.reserves_all {
                for unready in std::mem::take(&mut self.spares) {
                    self.remove_spare(unready);
                }
            }
            self.spares.push(Spare::of_segment(segment));
            return;
        }
        let (number, pages) = (segment.number, segment.pages);
        drop(segment);
        self.remove_file(segment::file_name(number), number, pages);
    }

    /// Works on the spare, about as much as the records since the last call need. Never more than a few
    /// steps for each 256 KiB of them.
    pub fn prepare(&mut self) -> Result<(), Trouble> {
        let written = std::mem::take(&mut self.unprepared);
        if self.is_active && (!self.spares.is_empty() || self.is_spare_due()) {
            if self.spares.is_empty() && self.would_free() {
                self.checkpoint()?;
            }
            if let Err(error) =
                self.prepare_up_to(1 + SPARE_BYTES_PER_BYTE * written / spare::STEP_SIZE as u64)
            {
                // The roll will try again, and say so if it fails.
                log::warn!("{}: prepare segment failed: {error}", self.options.name);
            }
        }
        self.reserve_again();
        Ok(())
    }

    /// A header was not written, or its file did not become a segment.
    pub(super) fn start_failed(&mut self, spare: Spare, error: &io::Error) {
        if error.kind() == io::ErrorKind::IsADirectory {
            // Something that is not ours has the name: another one has to do.
            let number = spare.number();
            self.remove_spare(spare);
            self.shared.with_table(|table| table.block(number));
            return;
        }
        // The same file again, under a raised life: what its header says now is not known.
        self.spares.insert(0, spare);
    }

    /// A checkpoint would free a segment.
    fn would_free(&self) -> bool {
        let first_end = self.shared.with_table(|table| table.first_end(None));
        let passed = |end| self.slowest().is_some_and(|position| position >= end);
        first_end.is_some_and(passed)
    }

    /// A new spare has to be begun now to be ready when the active segment is full. Not earlier: in the
    /// meantime a segment may be freed, which saves making one.
    fn is_spare_due(&self) -> bool {
        let Some(writer) = &self.writer else {
            return false;
        };
        let left = writer.segment().pages - writer.end_slot();
        let next = self.geometry.next_pages(Some(writer.segment().pages));
        u64::from(left) * SPARE_BYTES_PER_BYTE <= u64::from(next + next / SPARE_MARGIN)
    }

    /// Counts what the store takes on disk.
    pub(super) fn report_space(&mut self) {
        let pages = self.shared.with_table(|table| table.total_pages());
        let active = self.writer.as_ref().filter(|_| self.is_active);
        let active = active.map_or(0, |writer| u64::from(writer.segment().pages));
        self.sealed_bytes = (pages - active) * PAGE_SIZE as u64;
        let pages = pages + self.spare_pages() + self.leftover_pages();
        let bytes = pages * PAGE_SIZE as u64 + geometry::OVERHEAD_NOW;
        self.board.set(StreamCounter::AllocatedBytes, bytes);
        self.report_reserve();
    }
}
