//! Segments in order: append, roll, recycle, retain; and, in the files below, recover and read.
//!
//! ```text
//!   head ▼                                              durable ▼   ▼ next
//!  | segment 3 | segment 4 | segment 1 | segment 2 (active)  |······|   spare: segment 5
//!              ▲ base      ▲ base      ▲ base
//! ```
//!
//! Space is given back by whole segments behind the head. A freed segment becomes the spare, which the
//! next roll uses; a stream that has its whole quota recycles its oldest segment instead.
//!
//! **Invariants.**
//! 1. `head <= durable <= next`. Everything from `head` up to `durable` is on the medium, or in the
//!    ledger.
//! 2. A segment is durable in full before the header of the next one is written, so a base is evidence.
//! 3. A segment is reused only when a durable checkpoint says that the head is behind it.
//! 4. No more than `reach` offsets are announced past the mark of a durable checkpoint.
//! 5. A segment whose sync failed is never written again. What was not durable is appended again, from
//!    the ring, to another segment whose base is the durable mark.
//!
//! The rules and their order are those of the model in the project's design; `tests/crash.rs` takes them
//! out to see what breaks. **Threads.** [`Log`] belongs to the syncer; [`Shared`] is what readers see.

use std::io;
use std::sync::Arc;

use crate::clock::{Clock, Mono, Stamp};
use crate::counters::{Board, StreamCounter};
use crate::format::{Checkpoint, CursorEntry, HEADER_COPIES, PAGE_SIZE, SegmentHeader};
use crate::rules::{Rule, holds};
use crate::segment::{self, Draft, Segment, SegmentWriter};
use crate::storage::Dir;

mod age;
mod aside;
mod batch;
mod checkpoints;
mod edit;
mod geometry;
mod ledger;
mod leftover;
mod locate;
mod marks;
mod open;
mod reader;
mod repair;
mod reserve;
mod salvage;
mod shared;
mod sources;
mod space;
mod spare;
mod view;

#[cfg(test)]
pub(crate) mod tests;

pub use aside::Aside;
pub use batch::{BatchBuffer, Entry};
use checkpoints::Checkpoints;
pub use edit::{Editor, note_done};
pub use geometry::{BUDGET_MIN, Geometry, OVERHEAD, Options, SEGMENT_SIZE_MIN, SEGMENTS_MAX};
pub use ledger::Ledger;
pub use locate::{Locator, Spot};
pub use open::{LOCK_NAME, Opened, Opening, Report, RunBefore, open};
pub use reader::{Ended, Gap, Reader};
pub use repair::{Plan, Repair};
pub use salvage::{Salvage, Salvaged};
pub use shared::Shared;
use sources::Sources;
pub use sources::put as put_source;
use spare::Spare;
pub use spare::{RESERVE_SYNC_SIZE, STEP_SIZE};
pub use view::{Summary, View, board_in};

/// Why nothing can be appended or made durable now.
#[derive(Debug)]
pub enum Trouble {
    /// There is no room that may be taken: the quota is full of records that are still wanted.
    Full,
    /// The medium refused. What is not durable is appended again after [`Log::next`] went back.
    Failed(&'static str, io::Error),
}

/// The log of one stream, as its writer holds it.
pub struct Log {
    /// Locked as long as this lives.
    #[allow(dead_code)]
    lock: Arc<dyn crate::storage::File>,
    dir: Arc<dyn Dir>,
    clock: Arc<dyn Clock>,
    board: Arc<Board>,
    shared: Arc<Shared>,
    options: Options,
    geometry: Geometry,
    checkpoints: Checkpoints,
    /// What the next checkpoint says, but for what is collected when it is written.
    state: Box<Checkpoint>,
    /// What a durable checkpoint says.
    durable_mark: u64,
    durable_head: u64,
    durable_reach: u64,
    durable_life: u64,
    /// Up to there whichever checkpoint a crash would leave lets offsets be announced.
    announced_max: u64,
    /// The last checkpoint was not written.
    is_checkpoint_owed: bool,
    life: u64,
    next: u64,
    writer: Option<SegmentWriter>,
    /// `writer` may be written to: its segment is the active one and no sync of it failed.
    is_active: bool,
    /// The number of a segment that never held anything durable and that the next one replaces.
    replaced: Option<u32>,
    /// Files that the next segments are made of: one, or all that the budget has room for.
    spares: Vec<Spare>,
    /// Files that could not be removed.
    leftovers: Vec<leftover::Leftover>,
    /// Files that are kept for what is damaged in them; the budget is without them.
    aside: Vec<Aside>,
    no_space_until: Mono,
    /// When the next step towards the whole budget is due.
    reserve_due: Mono,
    /// The file system had no room for all of it; it is left alone until then.
    reserve_short: Option<Mono>,
    /// When a segment may be too old.
    expiry_due: Mono,
    sources: Sources,
    /// Cursors of sinks that are gone, kept as they were.
    orphans: Vec<CursorEntry>,
    /// Bytes appended since the spare was last worked on.
    unprepared: u64,
    /// The size of all segments but the active one.
    sealed_bytes: u64,
}

impl Log {
    /// What readers see.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The offset that the next record to be appended has. It goes back when a sync failed.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The first offset that is not durable.
    pub fn durable(&self) -> u64 {
        self.shared.durable.get()
    }

    /// Whether there is something that [`commit`](Self::commit) would make durable.
    pub fn is_dirty(&self) -> bool {
        self.next > self.durable()
    }

    /// Where a cursor stands in the last durable checkpoint.
    pub fn checkpointed(&self, name: &str) -> Option<u64> {
        let entry = self.state.cursors.iter().find(|entry| entry.name == name);
        let written = entry.filter(|_| !self.is_checkpoint_owed);
        written.map(|entry| entry.place.position)
    }

    /// The durable mark is ahead of the one in the checkpoint.
    pub fn is_mark_moved(&self) -> bool {
        self.durable() > self.durable_mark
    }

    /// The record that was appended last goes behind it. Rolls to another segment when it does not fit.
    ///
    /// The record is not durable yet. Blocks for as long as the medium takes to write, and at a roll to
    /// sync. Allocates only when a roll makes a new segment.
    pub fn append(&mut self, record: &Draft<'_>, stamp: Stamp) -> Result<(), Trouble> {
        if !self.append_here(record, stamp)? {
            self.roll(record.offset)?;
            if !self.append_here(record, stamp)? {
                return Err(Trouble::Full);
            }
        }
        Ok(())
    }

    /// Like [`append`](Self::append), but false, and nothing done, when it does not fit into the active
    /// segment.
    #[inline]
    pub fn append_here(&mut self, record: &Draft<'_>, stamp: Stamp) -> Result<bool, Trouble> {
        assert!(record.offset == self.next, "the log is in order");
        let writer = self.writer.as_mut().filter(|_| self.is_active);
        let Some(writer) = writer.filter(|writer| writer.fits(record.body.len(), stamp)) else {
            return Ok(false);
        };
        if let Err(error) = writer.append(record, stamp) {
            return Err(self.poison("write segment", error));
        }
        if record.extra_len > 0 {
            self.sources
                .note(record.offset, &record.body[..usize::from(record.extra_len)]);
        }
        self.unprepared += record.body.len() as u64;
        self.next = record.offset + 1;
        Ok(true)
    }

    /// The offsets up to `to` hold nothing, as the ledger says: the next record has that one.
    pub fn skip(&mut self, to: u64) -> Result<(), Trouble> {
        assert_eq!(
            self.shared.ledger().covered(self.next, to),
            to - self.next,
            "what is skipped is in the ledger"
        );
        // In a segment that is full, or given up, there is no page to be closed.
        if self.is_active
            && let Some(writer) = self.writer.as_mut().filter(|writer| writer.has_page())
            && let Err(error) = writer.skip(to)
        {
            return Err(self.poison("write segment", error));
        }
        self.next = to;
        Ok(())
    }

    /// Makes everything appended durable and announces it.
    pub fn commit(&mut self) -> Result<(), Trouble> {
        self.commit_as(false)
    }

    /// Like [`commit`](Self::commit), where the next record does not go into the active segment.
    pub fn commit_and_leave(&mut self) -> Result<(), Trouble> {
        self.commit_as(true)
    }

    fn commit_as(&mut self, seal: bool) -> Result<(), Trouble> {
        let Some(writer) = self.writer.as_mut().filter(|_| self.is_active) else {
            return Ok(());
        };
        if let Err(error) = writer.flush(seal) {
            return Err(self.poison("write segment", error));
        }
        if !writer.is_dirty() || (seal && !holds(Rule::SyncBeforeRoll)) {
            return Ok(());
        }
        if self.next > self.announced_max && holds(Rule::ReachKept) {
            // No failed try extends it. What comes at once may be more than twice that, where a larger ring
            // was found than is asked for.
            let reach = self.geometry.longer_reach(self.durable_reach);
            self.state.reach = reach.max(self.next - self.durable());
            self.checkpoint_as(false)?;
        }
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };
        let done = writer.sync();
        self.board.add(StreamCounter::Syncs, 1);
        match done {
            Ok(()) => {
                self.announce();
                Ok(())
            }
            Err(error) => Err(self.poison("sync segment", error)),
        }
    }

    /// Everything appended is durable now.
    fn announce(&mut self) {
        if let Some(writer) = &mut self.writer {
            writer.set_mark(self.next);
            let slot = writer.end_slot();
            self.board
                .add(StreamCounter::WrittenBytes, writer.take_written_bytes());
            self.board.set(
                StreamCounter::DiskBytes,
                segment::position(slot) + self.sealed_bytes,
            );
            self.shared.set_end(writer.segment(), slot);
            self.board
                .set(StreamCounter::ActiveEnd, self.shared.end_word());
        }
        self.sources.durable(&self.shared);
        self.board.set(StreamCounter::DurableOffset, self.next);
        self.board.set(StreamCounter::NextOffset, self.next);
        self.shared.announce(self.next);
    }

    /// The active segment is given up: what is not durable is appended again elsewhere.
    #[cold]
    fn poison(&mut self, op: &'static str, error: io::Error) -> Trouble {
        log::error!(
            "{}: {op} failed: {error}; what is not durable is written again elsewhere",
            self.options.name
        );
        self.board.add(StreamCounter::Poisoned, 1);
        if let Some(writer) = &mut self.writer {
            self.board
                .add(StreamCounter::WrittenBytes, writer.take_written_bytes());
            let number = writer.segment().number;
            if writer.is_fresh() {
                self.replaced = Some(number);
            }
            self.shared.suspect(number);
        }
        self.is_active = false;
        self.sources.forget_undurable();
        self.next = self.durable();
        self.shared.durable.fail();
        Trouble::Failed(op, error)
    }

    /// Leaves the active segment and starts another, whose first record is `first`.
    #[cold]
    #[inline(never)]
    fn roll(&mut self, first: u64) -> Result<(), Trouble> {
        if self.is_active {
            self.commit_as(true)?;
            self.is_active = false;
        }
        self.expire()?;
        if self.sources.is_owed() {
            // After a crash only the active segment is scanned: what records behind it said must not be lost.
            self.checkpoint()?;
        }
        if self.life >= self.durable_life + geometry::LIVES_MAX {
            self.checkpoint_as(false)?;
        }
        let spare = self.take_spare()?;
        self.start(spare, first)
    }

    /// Where the slowest cursor stands that counts; `None` when there is none.
    fn slowest(&self) -> Option<u64> {
        let places = self.cursors().map(|cursor| cursor.place.position);
        places.min()
    }

    /// Puts a header on a file and makes it the active segment.
    fn start(&mut self, mut spare: Spare, first: u64) -> Result<(), Trouble> {
        let base = self
            .replaced
            .and_then(|number| self.shared.with_table(|t| t.base_of(number)));
        let base = base.filter(|_| holds(Rule::SameBase));
        let base = base.unwrap_or_else(|| match holds(Rule::SyncBeforeRoll) {
            true => self.durable(),
            false => first,
        });
        self.life += u64::from(holds(Rule::LifePerSegment));
        let header = SegmentHeader {
            store: self.state.store,
            epoch: self.state.epoch,
            base,
            life: self.life,
            number: spare.number(),
            pages: spare.pages(),
            prepared: self.clock.stamp(),
            name: self.options.name.clone(),
        };
        let written = segment::write_headers(&**spare.file(), &header);
        let written = written.and_then(|()| match holds(Rule::HeaderSynced) {
            true => spare.file().sync(),
            false => Ok(()),
        });
        let written = written.and_then(|()| spare.become_segment(&*self.dir));
        self.board.add(
            StreamCounter::WrittenBytes,
            u64::from(HEADER_COPIES) * PAGE_SIZE as u64,
        );
        self.board.add(StreamCounter::Syncs, 1);
        if let Err(error) = written {
            self.start_failed(spare, &error);
            self.shared.durable.fail();
            return Err(Trouble::Failed("write segment header", error));
        }
        if let Some(number) = self.replaced.take() {
            // Nothing in it was ever durable. Its file serves the next try.
            let replaced = self.shared.with_table(|table| table.remove(number));
            if let Some(replaced) = replaced
                && (self.spares.is_empty() || self.options.reserves_all)
            {
                self.spares.push(Spare::of_segment(replaced.segment));
            }
        }
        let segment = Segment {
            file: Arc::clone(spare.file()),
            number: spare.number(),
            base,
            life: self.life,
            pages: spare.pages(),
            prepared: header.prepared,
        };
        self.shared.push(segment.clone());
        let mark = self.durable();
        match &mut self.writer {
            Some(writer) => {
                writer.turn_to(segment, HEADER_COPIES, self.life, first);
                writer.set_mark(mark);
            }
            None => {
                let (io, store) = (self.options.io, self.state.store);
                let slot = HEADER_COPIES;
                let writer = SegmentWriter::new(io, store, segment, slot, self.life, first, mark);
                self.writer =
                    Some(writer.map_err(|error| Trouble::Failed("allocate a stage", error))?);
            }
        }
        self.is_active = true;
        self.expect_expiry();
        self.board
            .set(StreamCounter::ActiveEnd, self.shared.end_word());
        // Last: whoever sees the new life finds the new segment.
        self.board.set(StreamCounter::Life, self.life);
        self.report_space();
        Ok(())
    }
}
