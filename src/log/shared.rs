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
