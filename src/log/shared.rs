//! What the syncer and the readers of a log share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Ledger;
use crate::clock::Stamp;
use crate::counters::{Board, StreamCounter};
use crate::format::{SOURCES_MAX, SourceEntry, StoreId};
use crate::segment::Segment;
use crate::watermark::seam::{Mutex, MutexGuard};
use crate::watermark::{Flag, Waker, Watermark};

/// A segment has less than 4 GiB, so its pages are counted in so many bits.
const SLOT_BITS: u32 = 20;
const SLOT_MASK: u64 = (1 << SLOT_BITS) - 1;

/// What readers see of a log.
///
/// **Threads.** The syncer writes all of it. Watermark and head are read without a lock; the table is
/// locked for a moment when a reader goes to another segment and when the syncer rolls; ledger and
/// sources are locked when something was lost, and at checkpoints.
#[derive(Debug)]
pub struct Shared {
    /// The store's id.
    pub store: StoreId,
    /// The store's epoch.
    pub epoch: u64,
    /// When the run before this one wrote its last checkpoint.
    before: Stamp,
    /// The first offset that is not durable.
    pub durable: Watermark,
    head: AtomicU64,
    /// Of a store that another process has: where that one says how far it is by now. Watermark and table
    /// are of when this was made.
    owner: Option<Arc<Board>>,
    /// The life under which the active segment was prepared, which no other segment has, above; the first
    /// page that is not written in it below.
    end: AtomicU64,
    table: Mutex<Table>,
    ledger: Mutex<Ledger>,
    sources: Mutex<heapless::Vec<SourceEntry, SOURCES_MAX>>,
    readers: Mutex<Vec<Arc<Waker>>>,
    /// A cursor moved on the board, which is not in the checkpoint yet.
    pub cursor_moved: Flag,
}

impl Shared {
    pub(super) fn new(store: StoreId, epoch: u64, durable: u64, head: u64, ledger: Ledger) -> Self {
        Self {
            store,
            epoch,
            before: Stamp::default(),
            durable: Watermark::new(durable),
            head: AtomicU64::new(head),
            owner: None,
            end: AtomicU64::new(0),
            table: Mutex::new(Table::default()),
            ledger: Mutex::new(ledger),
            sources: Mutex::new(heapless::Vec::new()),
            readers: Mutex::new(Vec::new()),
            cursor_moved: Flag::default(),
        }
    }

    pub(super) fn set_before(&mut self, before: Stamp) {
        self.before = before;
    }

    /// When the run before this one wrote its last checkpoint.
    pub(super) fn before(&self) -> Stamp {
        self.before
    }

    /// A stamp of that boot with the time of day: of the last checkpoint of the run before this one, or of
    /// the newest segment that has one.
    pub(crate) fn stamp_of(&self, boot: u64) -> Option<Stamp> {
        let is_of = |stamp: &Stamp| stamp.boot == boot && stamp.wall_ms > 0;
        let prepared = || {
            let table = self.table.lock();
            let newest = table.rows.iter().rev();
            newest.map(|row| row.segment.prepared).find(is_of)
        };
        Some(self.before).filter(is_of).or_else(prepared)
    }

    /// The first offset that is still kept.
    pub fn head(&self) -> u64 {
        // Acquire: pairs with the store in `set_head`. A reader that met a page which was reused after
        // the head moved then sees the head that had moved.
        let head = self.head.load(Ordering::Acquire);
        self.on_board(StreamCounter::HeadOffset)
            .map_or(head, |on_board| on_board.max(head))
    }

    /// Another process has the store, and this is its board.
    pub(super) fn follow(&mut self, owner: &Arc<Board>) {
        self.owner = Some(Arc::clone(owner));
    }

    fn on_board(&self, counter: StreamCounter) -> Option<u64> {
        self.owner.as_ref().map(|owner| owner.get(counter))
    }

    /// What is durable by now; in another process's store that is more than readers are given.
    pub(super) fn progress(&self) -> u64 {
        self.on_board(StreamCounter::DurableOffset)
            .unwrap_or_else(|| self.durable.get())
    }

    pub(super) fn set_head(&self, head: u64) {
        // Release: what is reused for this head is reused after it.
        self.head.store(head, Ordering::Release);
    }

    /// Everything below `durable` is on the medium now: wakes waiters and readers.
    pub(super) fn announce(&self, durable: u64) {
        self.durable.advance(durable);
        self.wake_readers();
    }

    /// Lets `waker` be woken whenever something becomes durable. Called before the threads start.
    pub fn add_reader(&self, waker: Arc<Waker>) {
        self.readers.lock().push(waker);
    }

    /// Wakes all readers.
    pub fn wake_readers(&self) {
        for waker in self.readers.lock().iter() {
            waker.wake();
        }
    }

    /// Pages below this one may be written in the segment that was prepared under `life`; `None` when
    /// that is not the active one.
    pub(super) fn end_slot(&self, life: u64) -> Option<u32> {
        let end = self.end_word();
        let slot = u32::try_from(end & SLOT_MASK).ok();
        slot.filter(|_| end >> SLOT_BITS == life)
    }

    pub(super) fn set_end(&self, segment: &Segment, slot: u32) {
        let end = segment.life << SLOT_BITS | u64::from(slot);
        self.end.store(end, Ordering::Release);
    }

    /// What [`set_end`](Self::set_end) has set, here or in the process that has the store, in one word.
    pub(super) fn end_word(&self) -> u64 {
        // Acquire: pairs with the store in `set_end`, which comes before the announcement.
        self.on_board(StreamCounter::ActiveEnd)
            .unwrap_or_else(|| self.end.load(Ordering::Acquire))
    }

    /// The segment in which `offset` stands, or would, and where the next one begins.
    pub(super) fn find(&self, offset: u64) -> Option<Located> {
        let table = self.table.lock();
        let at = table.rows.partition_point(|row| row.segment.base <= offset);
        let row = table.rows.get(at.checked_sub(1)?)?;
        let next_base = table.rows.get(at).map(|row| row.segment.base);
        Some(Located {
            segment: row.segment.clone(),
            next_base,
        })
    }

    /// The base of the first segment.
    pub(super) fn first_base(&self) -> Option<u64> {
        self.table.lock().rows.first().map(|row| row.segment.base)
    }

    /// All segments, oldest first.
    pub fn segments(&self) -> Vec<Segment> {
        self.table
            .lock()
            .rows
            .iter()
            .map(|row| row.segment.clone())
            .collect()
    }

    pub(super) fn with_table<R>(&self, f: impl FnOnce(&mut Table) -> R) -> R {
        f(&mut self.table.lock())
    }

    pub(super) fn push(&self, segment: Segment) {
        self.set_end(&segment, crate::format::HEADER_COPIES);
        self.table.lock().push(segment);
    }

    /// A sync of that segment failed: its file is not used again.
    pub(super) fn suspect(&self, number: u32) {
        let mut table = self.table.lock();
        if let Some(row) = table
            .rows
            .iter_mut()
            .find(|row| row.segment.number == number)
        {
            row.is_suspect = true;
        }
    }

    /// What was lost.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock()
    }

    /// The newest durable position in each source.
    pub fn sources(&self) -> MutexGuard<'_, heapless::Vec<SourceEntry, SOURCES_MAX>> {
        self.sources.lock()
    }
}

/// A segment and where the next one begins.
#[derive(Debug)]
pub(super) struct Located {
    pub segment: Segment,
    pub next_base: Option<u64>,
}

/// The segments, oldest first; bases rise.
#[derive(Debug, Default)]
pub(super) struct Table {
    rows: Vec<Row>,
    /// Numbers of files that are not ours, or whose names cannot be used again yet.
    blocked: Vec<u32>,
}

#[derive(Debug)]
struct Row {
    segment: Segment,
    is_suspect: bool,
}

/// A segment that nobody needs any more.
pub(super) struct Freed {
    pub segment: Segment,
    pub is_suspect: bool,
}

impl Table {
    pub(super) fn push(&mut self, segment: Segment) {
        assert!(
            self.rows
                .last()
                .is_none_or(|row| row.segment.base <= segment.base)
        );
        self.rows.push(Row {
            segment,
            is_suspect: false,
        });
    }

    /// Takes numbers out of use, for good.
    pub(super) fn block(&mut self, number: u32) {
        self.blocked.push(number);
    }

    /// The names of removed files may be used again.
    pub(super) fn unblock(&mut self, number: u32) {
        self.blocked.retain(|blocked| *blocked != number);
    }

    pub(super) fn total_pages(&self) -> u64 {
        self.rows
            .iter()
            .map(|row| u64::from(row.segment.pages))
            .sum()
    }

    /// The pages of the newest segment.
    pub(super) fn newest_pages(&self) -> Option<u32> {
        self.rows.last().map(|row| row.segment.pages)
    }

    /// Whether a segment has that number, or it is blocked.
    pub(super) fn has_number(&self, number: u32) -> bool {
        let mut rows = self.rows.iter();
        self.blocked.contains(&number) || rows.any(|row| row.segment.number == number)
    }

    /// A number that nothing has, as far as this and `is_spare` know.
    pub(super) fn free_number(&self, is_spare: impl Fn(u32) -> bool) -> u32 {
        (1..u32::MAX)
            .find(|number| !self.has_number(*number) && !is_spare(*number))
            .unwrap_or(u32::MAX)
    }

    /// Where each segment but the last ends, and when the next one was prepared; the newest first.
    pub(super) fn sealed(&self) -> impl Iterator<Item = (u64, Stamp)> {
        let next = self.rows.iter().skip(1).rev();
        next.map(|row| (row.segment.base, row.segment.prepared))
    }

    /// Where the first segment ends; the last segment ends at `last_end`, if it is not written to.
    pub(super) fn first_end(&self, last_end: Option<u64>) -> Option<u64> {
        match &self.rows[..] {
            [] => None,
            [_] => last_end,
            [_, second, ..] => Some(second.segment.base),
        }
    }

    /// The base of the segment in which `offset` stands.
    pub(super) fn base_below(&self, offset: u64) -> u64 {
        let at = self.rows.partition_point(|row| row.segment.base <= offset);
        at.checked_sub(1).map_or(0, |at| self.rows[at].segment.base)
    }

    pub(super) fn base_of(&self, number: u32) -> Option<u64> {
        let row = self.rows.iter().find(|row| row.segment.number == number);
        row.map(|row| row.segment.base)
    }

    /// Takes out the first segment if it ends at or below `head`; see [`first_end`](Self::first_end).
    pub(super) fn remove_first(&mut self, head: u64, last_end: Option<u64>) -> Option<Freed> {
        let end = self.first_end(last_end);
        end.filter(|end| *end <= head).map(|_| self.take(0))
    }

    pub(super) fn remove(&mut self, number: u32) -> Option<Freed> {
        let at = self
            .rows
            .iter()
            .position(|row| row.segment.number == number)?;
        Some(self.take(at))
    }

    fn take(&mut self, at: usize) -> Freed {
        let Row {
            segment,
            is_suspect,
        } = self.rows.remove(at);
        Freed {
            segment,
            is_suspect,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::HEADER_COPIES;
    use crate::storage::{File, ram_dir};

    fn segment(file: &Arc<dyn File>, number: u32, base: u64) -> Segment {
        Segment {
            file: Arc::clone(file),
            number,
            base,
            life: u64::from(number),
            pages: 10 * number,
            prepared: Stamp {
                boot: 1,
                mono_ms: base,
                wall_ms: 0,
            },
        }
    }

    /// Segments 3, 1 and 2, from 100, 200 and 300 on.
    fn shared() -> Shared {
        let file = ram_dir(1 << 20).create("x").unwrap();
        let store = StoreId(*b"0123456789abcdef");
        let shared = Shared::new(store, 1, 350, 120, Ledger::default());
        for (number, base) in [(3, 100), (1, 200), (2, 300)] {
            shared.push(segment(&file, number, base));
        }
        shared
    }

    #[test]
    fn the_table_knows_where_each_segment_ends() {
        let shared = shared();
        let found = |offset| {
            let located = shared.find(offset)?;
            Some((located.segment.number, located.next_base))
        };
        assert_eq!(found(99), None);
        assert_eq!((found(100), found(199)), (Some((3, Some(200))), found(100)));
        assert_eq!((found(300), found(999)), (Some((2, None)), found(300)));
        assert_eq!(shared.first_base(), Some(100));
        let table = |f: fn(&mut Table) -> Option<u64>| shared.with_table(f);
        assert_eq!(table(|table| Some(table.total_pages())), Some(60));
        assert_eq!(
            table(|table| table.newest_pages().map(Into::into)),
            Some(20)
        );
        for (offset, base) in [(99, 0), (100, 100), (299, 200), (300, 300)] {
            assert_eq!(shared.with_table(|table| table.base_below(offset)), base);
        }
        assert_eq!(table(|table| table.base_of(1)), Some(200));
        assert_eq!(table(|table| table.base_of(4)), None);
        let sealed = |table: &mut Table| {
            let ends = table.sealed().map(|(end, stamp)| (end, stamp.mono_ms));
            ends.collect::<Vec<_>>()
        };
        assert_eq!(shared.with_table(sealed), [(300, 300), (200, 200)]);
    }

    /// The last one goes when nobody writes to it and all of it is below the head.
    #[test]
    fn a_segment_goes_when_all_of_it_is_below_the_head() {
        let shared = shared();
        shared.suspect(1);
        let remove = |head, last_end| {
            let freed = shared.with_table(|table| table.remove_first(head, last_end));
            freed.map(|freed| (freed.segment.number, freed.is_suspect))
        };
        assert_eq!(remove(199, None), None);
        assert_eq!(remove(200, None), Some((3, false)));
        assert_eq!(remove(300, None), Some((1, true)));
        assert_eq!(remove(999, None), None);
        assert_eq!(remove(349, Some(350)), None);
        assert_eq!(remove(350, Some(350)), Some((2, false)));
        assert_eq!(remove(350, Some(350)), None);
    }

    #[test]
    fn a_number_is_free_when_nothing_has_it() {
        let shared = shared();
        let free = |spare| shared.with_table(|table| table.free_number(|number| number == spare));
        assert_eq!((free(0), free(4)), (4, 5));
        shared.with_table(|table| {
            table.block(4);
            table.block(6);
        });
        assert_eq!((free(0), free(5)), (5, 7));
        shared.with_table(|table| table.unblock(4));
        assert_eq!((free(0), free(4)), (4, 5));
        assert!(shared.with_table(|table| table.has_number(6)));
        let taken = shared.with_table(|table| table.remove(1));
        assert!(taken.is_some_and(|freed| freed.segment.base == 200));
        assert!(shared.with_table(|table| table.remove(1)).is_none());
        assert_eq!(free(0), 1);
    }

    /// Only of the segment that is written to it is known how far.
    #[test]
    fn the_end_of_what_is_written_is_the_active_segments() {
        let shared = shared();
        let active = shared.segments().pop().unwrap();
        assert_eq!(shared.end_slot(2), Some(HEADER_COPIES));
        shared.set_end(&active, 19);
        assert_eq!((shared.end_slot(2), shared.end_slot(1)), (Some(19), None));
    }

    #[test]
    fn a_stamp_with_the_time_of_day_is_found_by_its_boot() {
        let mut shared = shared();
        let stamp = |boot, wall_ms| Stamp {
            boot,
            mono_ms: 7,
            wall_ms,
        };
        assert_eq!(shared.stamp_of(1), None, "no segment knew it");
        let file = ram_dir(1 << 20).create("x").unwrap();
        for (number, base, wall_ms) in [(5, 400, 50), (6, 500, 60), (7, 600, 0)] {
            shared.push(Segment {
                prepared: stamp(1, wall_ms),
                ..segment(&file, number, base)
            });
        }
        assert_eq!(
            shared.stamp_of(1),
            Some(stamp(1, 60)),
            "the newest that knew it"
        );
        assert_eq!(shared.stamp_of(2), None);
        for (before, found) in [
            (stamp(1, 90), stamp(1, 90)),
            (stamp(1, 0), stamp(1, 60)),
            (stamp(3, 90), stamp(1, 60)),
        ] {
            shared.set_before(before);
            assert_eq!(shared.before(), before);
            assert_eq!(shared.stamp_of(1), Some(found));
        }
    }
}
