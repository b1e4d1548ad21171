//! A named position in a log: what is read next, what is acknowledged, and what is skipped.
//!
//! ```text
//!            position ▼                 ▼ next
//!  acknowledged ──────┤ in flight │done│ not read yet ······ durable mark
//!                                 └─ interval above the position: acknowledged out of order
//! ```
//!
//! The place is published on the board under a sequence number, so a crash of the process in the same
//! boot repeats only what was in flight; the syncer copies it into checkpoints, for the others.
//!
//! **Invariants.** The position only grows, and passes an offset only when its record was acknowledged
//! or is known to be gone; what is gone is counted once, here. **Threads.** One exporter's own.

use std::io;
use std::sync::Arc;

use crate::counters::{
    Board, CURSOR_NAME_MAX, CursorBoard, CursorCounter, Faults, INTERVALS_MAX, Place,
};
use crate::format::Reason;
use crate::log::{BatchBuffer, Ended, Gap, Reader, Shared};
use crate::rules::{Rule, holds};
use crate::watermark::Waker;

#[cfg(test)]
mod tests;

/// One cursor.
pub struct Cursor {
    reader: Reader,
    shared: Arc<Shared>,
    board: Arc<Board>,
    /// Which of the board's cursors it is.
    index: usize,
    syncer: Arc<Waker>,
    place: Place,
    /// What a former run did out of order: it is not read again.
    former: heapless::Vec<(u64, u64), INTERVALS_MAX>,
    next: u64,
    /// Gaps at or above this offset come from later than the open, and are found when they are met.
    opened: u64,
}

impl Cursor {
    /// The cursor that has a name and a place on the board already. Wakes `syncer` when it moves.
    pub fn new(
        reader: Reader,
        shared: Arc<Shared>,
        board: Arc<Board>,
        index: usize,
        syncer: Arc<Waker>,
    ) -> Self {
        let place = board.cursor(index).place().unwrap_or_default();
        let (next, opened) = (place.position, shared.durable.get());
        let this = Self {
            reader,
            shared,
            board,
            index,
            syncer,
            former: match holds(Rule::DoneNotReadAgain) {
                true => place.intervals.clone(),
                false => heapless::Vec::new(),
            },
            place,
            next,
            opened,
        };
        this.count_gaps_ahead();
        this
    }

    /// Its name.
    pub fn name(&self) -> heapless::String<CURSOR_NAME_MAX> {
        self.board.cursor(self.index).name()
    }

    /// The next offset to acknowledge.
    pub fn position(&self) -> u64 {
        self.place.position
    }

    /// What readers of the log share.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Reads on, adding to `batch`. See [`Reader::read`]; what was acknowledged before is left out.
    pub fn read(&mut self, batch: &mut BatchBuffer) -> io::Result<Ended> {
        loop {
            let next = self.next;
            let inside = |(from, to): &&(u64, u64)| (*from..*to).contains(&next);
            if let Some((_, to)) = self.former.iter().find(inside) {
                self.next = *to;
                continue;
            }
            let above = self
                .former
                .iter()
                .map(|(from, _)| *from)
                .find(|from| *from > next);
            let limit = above.unwrap_or(u64::MAX);
            let read = self.reader.read(next, limit, batch);
            // Also before an error records may have been read.
            self.next = self.reader.position().max(next);
            let (ended, after) = read?;
            self.next = after;
            if ended != Ended::CaughtUp || after < limit {
                return Ok(ended);
            }
        }
    }

    /// Takes pages that cannot be read for damage, until the next record is read.
    pub fn give_up_unreadable(&mut self) {
        self.reader.give_up_unreadable();
    }

    /// The offsets from `from` up to `to` are done. Publishes the new place.
    pub fn acknowledge(&mut self, from: u64, to: u64) {
        self.remember(from, to);
        self.join();
        self.publish();
    }

    /// The offsets up to `to` are done but for the stretches in `open`, which rise, and are not known to be
    /// done. Publishes the new place.
    ///
    /// More stretches than fit are not remembered: what is done in them may be delivered again after the
    /// process ended.
    pub fn acknowledge_but(&mut self, open: impl Iterator<Item = (u64, u64)>, to: u64) {
        self.place.intervals.clear();
        let mut from = self.place.position;
        let open = open.filter(|_| holds(Rule::CursorBelowOpen));
        for (start, end) in open.chain([(to, to)]) {
            if from == self.place.position {
                self.place.position = from.max(start);
            } else if from < start {
                let _ = self.place.intervals.push((from, start));
            }
            from = end;
        }
        // What a former run did in a gap, and behind all this.
        for at in 0..self.former.len() {
            let (from, to) = self.former[at];
            self.remember(from, to);
        }
        self.join();
        self.publish();
    }

    /// Remembers that the offsets from `from` up to `to` are done, if there is room.
    fn remember(&mut self, mut from: u64, mut to: u64) {
        if from <= self.place.position {
            self.place.position = self.place.position.max(to);
            return;
        }
        let intervals = &mut self.place.intervals;
        intervals.retain(|(start, end)| {
            let touches = *start <= to && from <= *end;
            if touches {
                (from, to) = (from.min(*start), to.max(*end));
            }
            !touches
        });
        let at = intervals.iter().position(|(start, _)| *start > from);
        let _ = intervals.insert(at.unwrap_or(intervals.len()), (from, to));
    }

    /// The position goes on behind what was done out of order.
    fn join(&mut self) {
        let place = &mut self.place;
        while let Some((from, to)) = place.intervals.first().copied() {
            if from > place.position {
                break;
            }
            place.position = place.position.max(to);
            place.intervals.remove(0);
        }
        // A gap may end within what was done before.
        self.next = self.next.max(place.position);
    }

    /// Skips a gap and counts it.
    pub fn skip(&mut self, gap: Gap) {
        let offsets = (gap.end - gap.start).saturating_sub(self.done_in(gap));
        let (counter, count) = match gap.reason {
            Reason::Quota => (
                CursorCounter::DroppedQuota,
                offsets.saturating_sub(self.known_gaps(gap)),
            ),
            Reason::Age => (
                CursorCounter::DroppedAge,
                offsets.saturating_sub(self.known_gaps(gap)),
            ),
            Reason::Damage => (CursorCounter::DroppedDamage, offsets),
            Reason::NeverDurable | Reason::Undecided => {
                (CursorCounter::DroppedNeverDurable, offsets)
            }
        };
        self.board.cursor(self.index).add(counter, count);
        self.next = self.next.max(gap.end);
        self.acknowledge(gap.start, gap.end);
        self.count_gaps_ahead();
    }

    /// What of a gap had been acknowledged before it became one.
    fn done_in(&self, gap: Gap) -> u64 {
        let part = |(from, to): &(u64, u64)| {
            let end = to.min(&gap.end);
            end.saturating_sub(*from.max(&gap.start))
        };
        match holds(Rule::DoneIsNoGap) {
            true => self.former.iter().map(part).sum(),
            false => 0,
        }
    }

    /// What of a dropped range held nothing anyway.
    fn known_gaps(&self, gap: Gap) -> u64 {
        if !holds(Rule::GapCountedOnce) {
            return 0;
        }
        let ledger = self.shared.ledger();
        let parts = ledger
            .ranges()
            .iter()
            .filter(|loss| loss.reason != gap.reason);
        let part = |start: u64, end: u64| end.min(gap.end).saturating_sub(start.max(gap.start));
        parts.map(|loss| part(loss.start, loss.end)).sum()
    }

    fn publish(&self) {
        self.board.cursor(self.index).set_place(&self.place);
        if self.shared.cursor_moved.raise() {
            self.syncer.wake();
        }
    }

    fn count_gaps_ahead(&self) {
        let from = self.place.position.max(self.shared.head());
        let ahead = match self.opened > from {
            true => self.shared.ledger().covered(from, self.opened),
            false => 0,
        };
        self.board
            .cursor(self.index)
            .set(CursorCounter::GapsAhead, ahead);
    }

    /// A counter of this cursor. Only its exporter's thread may set it.
    pub fn add(&self, counter: CursorCounter, count: u64) {
        self.board.cursor(self.index).add(counter, count);
    }

    /// Sets a counter of this cursor.
    pub fn set(&self, counter: CursorCounter, value: u64) {
        self.board.cursor(self.index).set(counter, value);
    }

    /// Its part of the board. Only its exporter's thread may set anything there.
    pub fn on_board(&self) -> CursorBoard<'_> {
        self.board.cursor(self.index)
    }

    /// Where a death while its records are delivered is noted.
    pub fn faults(&self) -> Faults {
        Faults::new(Arc::clone(&self.board), self.index)
    }

    /// Publishes the sink's last error.
    pub fn set_error(&self, text: &str) {
        self.board.cursor(self.index).set_error(text);
    }
}
