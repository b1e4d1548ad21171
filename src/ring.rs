//! Many producers, one syncer: a bounded ring of bytes that holds records of any length, in one order.
//!
//! ```text
//!            released                 position                        claim
//!               │  taken, not durable     │  committed │ being filled   │  free
//!  ─────────────┴──────────┬──────────────┴────┬───────┴────┬───────────┴───────────
//!                          │ state number time lengths │ extra key payload │ padding
//!
//!  producer:  claim ─ fill ─ commit ─ wake           syncer:  take … sync … release
//! ```
//!
//! A producer takes place and number together by one compare-and-swap on `claim`, fills the bytes,
//! and commits by storing the record's `state`. There is no public reservation: a producer stopped
//! between claim and commit would hold up everybody, so [`Ring::append`] does all of it in one go.
//! The syncer takes records in order and gives their bytes back only when they are durable; until then
//! it may go back and take them again. The shape is that of Aeron's log buffers and of bbqueue; the
//! record's number in the claim word is ours.
//!
//! **Invariants.**
//! 1. Between `released` and `claim` each byte belongs to one record: to its producer until `state` says
//!    committed, to the syncer from then on. Between `claim` and `released` + size all bytes are zero
//!    and belong to nobody. Only the syncer moves `released`, only producers move `claim`.
//! 2. Positions are multiples of 8 and wrap at 2³²; the ring's size is a power of two. A record never
//!    wraps: a pad fills the end. `state` of a byte range that nobody has claimed is 0.
//! 3. `claim` is at most `records_max` records and less than `size` bytes ahead of `released`: were it a
//!    whole lap ahead, the record at `released` would be taken for the next one.
//!
//! **Threads.** Any number of producers, and one [`Consumer`]. Appending takes no lock, allocates
//! nothing, and calls the kernel only to wake a sleeping syncer, at most once per sleep.
//!
//! **What it does not do.** It does not wait for room, and knows no time and no disk.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::record::Record;
use crate::storage::Memory;
use crate::watermark::Waker;
use crate::watermark::seam::{AcqRel, Acquire, AtomicU32, AtomicU64, Relaxed, Release};

mod cells;
mod consumer;
pub mod order;

use cells::Cells;
pub use consumer::{Consumer, Taken};
use order::Spot;

/// The smallest and the largest ring, in bytes. The model's rings are far smaller, to be checked at all.
pub const SIZE_MIN: u32 = if cfg!(loom) { 64 } else { 4096 };
/// See [`SIZE_MIN`].
pub const SIZE_MAX: u32 = 1 << 30;
/// What a record takes in the ring besides its body, before it is rounded up to 8.
pub const HEADER_LEN: usize = 24;

/// Why a record was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no room now.
    Full,
    /// The record is longer than the stream allows.
    TooLong,
    /// The ring was closed.
    Closed,
    /// The engine is poisoned.
    Poisoned,
}

/// Where a ring starts and what bounds it.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bytes; a power of two from [`SIZE_MIN`] to [`SIZE_MAX`].
    pub size: u32,
    /// The most records in it.
    pub records_max: u32,
    /// The longest body.
    pub body_len_max: u32,
    /// The number of the first record.
    pub first_offset: u64,
}

/// The producers' end.
#[derive(Debug)]
pub struct Ring {
    cells: Cells,
    options: Options,
    /// What the syncer sleeps through; see [`Asleep`].
    asleep: AtomicU32,
    /// The highest offset that somebody waits for to be durable, plus one.
    demand: AtomicU64,
    /// Wake-ups by producers, for the tests that count them.
    wakes: AtomicU32,
    waker: Arc<Waker>,
}

/// What the syncer is to be woken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Asleep {
    /// It is awake, or looks again soon: nothing.
    No = 0,
    /// It sleeps until a sync is due: a ring half full, or somebody who waits.
    UntilDue = 1,
    /// It sleeps without a limit: anything.
    Idle = 2,
}

/// In the claim word, beside a position that is a multiple of 8.
const CLOSED: u64 = 1;
const POISONED: u64 = 2;
/// In a record's state, beside a size that is a multiple of 8.
const BUSY: u32 = 1;
const COMMITTED: u32 = 2;
const PAD: u32 = 3;
const FLAGS: u32 = 7;

const _: () = assert!(HEADER_LEN.is_multiple_of(8));

impl Ring {
    /// How many bytes of memory a ring of that size takes.
    pub fn memory_len(size: u32) -> usize {
        cells::HEADER_LEN + size as usize
    }

    /// A ring on zeroed memory of [`Ring::memory_len`] bytes, and its one consumer, which `waker` wakes.
    pub fn new(memory: Memory, options: Options, waker: Arc<Waker>) -> (Arc<Self>, Consumer) {
        assert!(options.size.is_power_of_two() && options.size >= SIZE_MIN);
        assert!(options.size <= SIZE_MAX && options.records_max > 0);
        assert!(
            options.body_len_max <= options.size / 4,
            "a record is at most a quarter"
        );
        let cells = Cells::new(memory, options.size);
        cells.released_offset().store(options.first_offset, Relaxed);
        #[allow(clippy::cast_possible_truncation)] // the claim holds the low half of the number
        let number = options.first_offset as u32;
        cells.claim().store(pack(0, number), Release);
        let ring = Arc::new(Self {
            cells,
            options,
            asleep: AtomicU32::new(Asleep::No as u32),
            demand: AtomicU64::new(0),
            wakes: AtomicU32::new(0),
            waker,
        });
        let consumer = Consumer::new(Arc::clone(&ring));
        (ring, consumer)
    }

    /// Puts one record in and returns its offset. Never blocks.
    #[inline]
    pub fn append(&self, record: &Record<'_>) -> Result<u64, Refusal> {
        let body_len = record.body_len();
        if body_len > self.options.body_len_max as usize {
            return Err(Refusal::TooLong);
        }
        #[allow(clippy::cast_possible_truncation)] // at most a quarter of a ring of at most 1 GiB
        let size = (HEADER_LEN + body_len).next_multiple_of(8) as u32;
        let claimed = self.claim(size)?;
        self.fill(&claimed, size, record);
        // Release: pairs with the consumer's load in `take`; publishes everything that `fill` wrote.
        let commit = order::at(Spot::Commit, Release);
        self.cells
            .state(claimed.start)
            .store(size | COMMITTED, commit);
        self.wake_if_due(claimed.half_full);
        Ok(claimed.offset)
    }

    /// Takes a place for `size` bytes and a number, in one step.
    #[inline]
    fn claim(&self, size: u32) -> Result<Claimed, Refusal> {
        let cells = &self.cells;
        let mut claim = cells.claim().load(Relaxed);
        loop {
            if claim & u64::from(FLAGS) != 0 {
                return Err(if claim & CLOSED != 0 {
                    Refusal::Closed
                } else {
                    Refusal::Poisoned
                });
            }
            let (position, number) = unpack(claim);
            let left = self.options.size - (position & (self.options.size - 1));
            let pad = if left < size { left } else { 0 };
            let end = position.wrapping_add(pad + size);
            // Acquire: pairs with the store in `release`; what the consumer did with these bytes, and
            // their zeroing, comes before what this producer writes there.
            let released = cells
                .released_position()
                .load(order::at(Spot::ReleasedLoad, Acquire));
            // Not older than the position above, so less than a ring of records behind the claim.
            let first = cells.released_offset().load(Relaxed);
            let bytes = end.wrapping_sub(released);
            #[allow(clippy::cast_possible_truncation)] // the difference of two low halves
            let records = number.wrapping_sub(first as u32).wrapping_add(1);
            if bytes >= self.options.size || records > self.options.records_max {
                let now = cells.claim().load(Relaxed);
                if now == claim {
                    return Err(Refusal::Full);
                }
                // The claim was stale, and what was released since made it look full.
                claim = now;
                continue;
            }
            // Acquire: pairs with the syncer's read-modify-write in `fall_asleep`, which comes before
            // or after this one in the claim's own order. Before: this producer sees the flag that was
            // raised before it. After: the syncer sees this claim.
            let taken = order::at(Spot::ClaimTaken, Acquire);
            let next = pack(end, number.wrapping_add(1));
            match cells
                .claim()
                .compare_exchange_weak(claim, next, taken, Relaxed)
            {
                Err(now) => claim = now,
                Ok(_) => {
                    let half_full =
                        bytes >= self.options.size / 2 || records > self.options.records_max / 2;
                    let offset = first + u64::from(records - 1);
                    return Ok(Claimed {
                        position,
                        pad,
                        start: position.wrapping_add(pad),
                        offset,
                        half_full,
                    });
                }
            }
        }
    }

    /// Writes header and body into claimed bytes.
    #[inline]
    fn fill(&self, claimed: &Claimed, size: u32, record: &Record<'_>) {
        let cells = &self.cells;
        // Relaxed: only a later process reads it, to get past a producer that died in here.
        cells.state(claimed.start).store(size | BUSY, Relaxed);
        if claimed.pad > 0 {
            // Release: as for a record; the consumer steps over it.
            let commit = order::at(Spot::CommitPad, Release);
            cells
                .state(claimed.position)
                .store(claimed.pad | PAD, commit);
        }
        let lengths = Lengths::of(record);
        let mut header = [0u8; HEADER_LEN - 4];
        #[allow(clippy::cast_possible_truncation)] // the low half, to check against
        header[..4].copy_from_slice(&(claimed.offset as u32).to_le_bytes());
        header[4..12].copy_from_slice(&record.time_ms.to_le_bytes());
        header[12..].copy_from_slice(&lengths.encode());
        let mut at = claimed.start.wrapping_add(4);
        let mut put = |bytes: &[u8]| {
            // SAFETY: invariant 1: `claim` gave bytes start..start+size to this call alone, they do not
            // wrap (invariant 2), and header and body are not longer than `size`.
            unsafe { cells.write(at, bytes) };
            #[allow(clippy::cast_possible_truncation)] // a part of a body of less than 1 GiB
            let len = bytes.len() as u32;
            at = at.wrapping_add(len);
        };
        put(&header);
        record.write_body(put);
    }

    /// Wakes the syncer if it sleeps and this is what it wants to be woken for.
    #[inline]
    fn wake_if_due(&self, urgent: bool) {
        // Relaxed: ordered by the read-modify-write that came before, see `claim` and `demand`.
        let asleep = self.asleep.load(Relaxed);
        if asleep == Asleep::Idle as u32 || (urgent && asleep == Asleep::UntilDue as u32) {
            self.wake();
        }
    }

    #[cold]
    fn wake(&self) {
        // Relaxed: a read-modify-write has one winner, and the wake-up itself orders the rest.
        if self.asleep.swap(Asleep::No as u32, Relaxed) != Asleep::No as u32 {
            self.wakes.fetch_add(1, Relaxed);
            self.waker.wake();
        }
    }

    /// Asks for a sync that covers all offsets below `offset` as soon as can be. Wakes the syncer.
    pub fn demand(&self, offset: u64) {
        // Acquire: pairs with the syncer's read-modify-write in `fall_asleep`, as in `claim`.
        self.demand
            .fetch_max(offset, order::at(Spot::DemandRaised, Acquire));
        self.wake_if_due(true);
    }

    /// The offset that the next record gets.
    pub fn next_offset(&self) -> u64 {
        // A released offset that is too new would be above the claim, so it is read first.
        loop {
            let first = self.cells.released_offset().load(Acquire);
            let (_, number) = unpack(self.cells.claim().load(Acquire));
            #[allow(clippy::cast_possible_truncation)] // the difference of two low halves
            let records = number.wrapping_sub(first as u32);
            if records <= self.options.records_max {
                return first + u64::from(records);
            }
        }
    }

    /// Takes no record from now on. What was claimed before is still taken by the consumer.
    pub fn close(&self) {
        self.cells.claim().fetch_or(CLOSED, AcqRel);
    }

    /// Refuses everything from now on with [`Refusal::Poisoned`].
    pub fn poison(&self) {
        self.cells.claim().fetch_or(POISONED, AcqRel);
    }

    /// How often producers woke the syncer.
    pub fn wakes(&self) -> u32 {
        self.wakes.load(Relaxed)
    }

    /// The bounds that it was made with.
    pub fn options(&self) -> &Options {
        &self.options
    }
}

/// A place and a number.
struct Claimed {
    position: u32,
    pad: u32,
    start: u32,
    offset: u64,
    half_full: bool,
}

/// The lengths in a record's header.
#[derive(Clone, Copy)]
struct Lengths {
    body: u32,
    key: u16,
    extra: u16,
}

impl Lengths {
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // bounds of `Record::check` and of the ring
    fn of(record: &Record<'_>) -> Self {
        Self {
            body: record.body_len() as u32,
            key: record.key.len() as u16,
            extra: record.extra_len() as u16,
        }
    }

    #[inline]
    fn encode(self) -> [u8; 8] {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&self.body.to_le_bytes());
        bytes[4..6].copy_from_slice(&self.key.to_le_bytes());
        bytes[6..].copy_from_slice(&self.extra.to_le_bytes());
        bytes
    }

    fn decode(bytes: [u8; 8]) -> Self {
        let [a, b, c, d, e, f, g, h] = bytes;
        Self {
            body: u32::from_le_bytes([a, b, c, d]),
            key: u16::from_le_bytes([e, f]),
            extra: u16::from_le_bytes([g, h]),
        }
    }
}

/// The claim word: number above, position below.
#[inline]
fn pack(position: u32, number: u32) -> u64 {
    u64::from(number) << 32 | u64::from(position)
}

#[inline]
#[allow(clippy::cast_possible_truncation)] // the two halves of a word
fn unpack(claim: u64) -> (u32, u32) {
    (claim as u32 & !FLAGS, (claim >> 32) as u32)
}

#[cfg(all(test, not(loom)))]
mod tests;
