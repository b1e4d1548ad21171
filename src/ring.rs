//! Many producers, one syncer: a bounded ring of bytes that holds records of any length, in one order.
//!
//! ```text
//!            released                 position                        claim
//!               │  taken, not durable     │  committed │ being filled   │  free
//!  bytes  ──────┴─────────────────────────┴────────────┴────────────────┴──────────
//!  slots  [ number, where it starts ] … one for each record, by its number
//!
//!  producer:  claim ─ fill ─ commit ─ wake           syncer:  take … sync … release
//! ```
//!
//! A producer takes place and number together by one compare-and-swap on `claim`, fills the bytes, and
//! commits by storing number and place into the slot that its number has. There is no public
//! reservation: a producer stopped between claim and commit would hold up everybody, so
//! [`Ring::append`] does all of it in one go; [`Ring::append_batch`] does it for several records by one
//! claim. The syncer takes records in the order of their numbers and gives their bytes back only when
//! they are durable; until then it may go back and take them again.
//!
//! Claim and commit are those of Aeron's log buffers; that commits stand apart from the bytes, so that
//! nothing has to be zeroed between two laps and nobody has to get past a claim that was never
//! committed, is ours (docs/decisions/0004).
//!
//! **Invariants.**
//! 1. Between `released` and `claim` each byte belongs to one record: to its producer until its slot says
//!    committed, to the syncer from then on. Between `claim` and `released` + size they belong to nobody.
//!    Only the syncer moves `released`, only producers move `claim`.
//! 2. Positions are multiples of 8 and wrap at 2³²; the ring's size is a power of two. A record never
//!    wraps: what is left at the end is claimed with it and stays unused.
//! 3. A slot is written for number n only when n minus the count of slots was released, so a slot never
//!    says less than the syncer has seen; it says n only when n is committed.
//!
//! **Threads.** Any number of producers, and one [`Consumer`]. Appending takes no lock, allocates
//! nothing, and calls the kernel only to wake a sleeping syncer, at most once per sleep.
//!
//! **What it does not do.** It does not wait for room, and knows no time and no disk. Who wants to wait
//! looks at [`Ring::released`], tries, and waits there for it to move.

use std::sync::Arc;

use crate::record::Record;
use crate::storage::Memory;
use crate::watermark::order::{self, Spot};
use crate::watermark::seam::{AcqRel, Acquire, AtomicU32, AtomicU64, Relaxed, Release};
use crate::watermark::{Waker, Watermark};

mod batch;
mod cells;
mod consumer;
pub mod remains;

use cells::Cells;
pub use consumer::{Consumer, Taken};
pub use remains::{Left, Remains};

/// The smallest and the largest ring, in bytes. The model's rings are far smaller, to be checked at all.
pub const SIZE_MIN: u32 = if cfg!(loom) { 64 } else { 4096 };
/// See [`SIZE_MIN`].
pub const SIZE_MAX: u32 = 1 << 30;
/// What is never shared of a ring's memory, in bytes, at its start: the claim. Where it is zeros again, the
/// ring is closed.
pub const FRONT_SIZE: usize = cells::FRONT_LEN;
/// What a record takes in the ring besides its body, before it is rounded up to 8.
pub const HEADER_LEN: usize = 16;

/// Why a record was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no room now.
    Full,
    /// The record is longer than the stream allows.
    TooLong,
    /// The batch is larger than a ring takes at once, even when it is empty.
    BatchTooLarge,
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
    /// The first offset that was not released: whoever waits for room waits here.
    released: Watermark,
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

/// In the claim word, beside a position that is a multiple of 8. A word of zeros says neither: this process
/// has the ring from a parent that forked, and its header was wiped.
const CLOSED: u64 = 1;
const POISONED: u64 = 2;
const OPEN: u64 = 4;
/// In a slot, beside a position that is a multiple of 8: a slot of zeros says nothing.
const COMMITTED: u64 = 1;
/// In a slot: its producer died between claim and commit, so there is no record of that number.
const VOID: u64 = 2;
const FLAGS: u32 = 7;

const _: () = assert!(HEADER_LEN.is_multiple_of(8));

impl Ring {
    /// How many bytes of memory a ring with these bounds takes.
    pub fn memory_len(size: u32, records_max: u32) -> usize {
        cells::HEADER_LEN + slot_count(records_max) as usize * 8 + size as usize
    }

    /// A ring on zeroed memory of [`Ring::memory_len`] bytes, and its one consumer. `waker` wakes it.
    pub fn new(memory: Memory, options: Options, waker: Arc<Waker>) -> (Arc<Self>, Consumer) {
        assert!(options.size.is_power_of_two() && options.size >= SIZE_MIN);
        assert!(options.size <= SIZE_MAX && options.records_max > 0);
        assert!(
            options.body_len_max <= options.size / 4,
            "a record is at most a quarter"
        );
        let claim = pack(0, low(options.first_offset));
        Self::begin(memory, options, 0, claim, waker)
    }

    /// A ring on memory whose slots and records say what lies between `released`, a position, and the claim.
    fn begin(
        memory: Memory,
        options: Options,
        released: u32,
        claim: u64,
        waker: Arc<Waker>,
    ) -> (Arc<Self>, Consumer) {
        let cells = Cells::new(memory, options.size, slot_count(options.records_max));
        cells.released_offset().store(options.first_offset, Relaxed);
        cells.released_position().store(released, Relaxed);
        cells.claim().store(claim | OPEN, Release);
        let ring = Arc::new(Self {
            cells,
            options,
            asleep: AtomicU32::new(Asleep::No as u32),
            demand: AtomicU64::new(0),
            wakes: AtomicU32::new(0),
            waker,
            released: Watermark::new(options.first_offset),
        });
        let consumer = Consumer::new(Arc::clone(&ring));
        (ring, consumer)
    }

    /// Puts one record in and returns its offset. Never blocks.
    #[inline(always)]
    pub fn append(&self, record: &Record<'_>) -> Result<u64, Refusal> {
        let body_len = record.body_len();
        if body_len > self.options.body_len_max as usize {
            return Err(Refusal::TooLong);
        }
        let claimed = self.claim(size_of(body_len))?;
        self.fill(claimed.start, record);
        self.commit(claimed.start, low(claimed.offset));
        self.wake_if_due(claimed.half_full);
        Ok(claimed.offset)
    }

    /// Takes a place for `size` bytes and a number, in one step.
    #[inline]
    fn claim(&self, size: u32) -> Result<Claimed, Refusal> {
        self.claim_places(1, |position| {
            let start = self.start_of(position, size);
            (start, start.wrapping_add(size))
        })
    }

    /// Where a record of `size` bytes starts that comes behind `position`: there, or at the ring's start
    /// again.
    #[inline(always)]
    fn start_of(&self, position: u32, size: u32) -> u32 {
        let left = self.options.size - (position & (self.options.size - 1));
        if left < size {
            position.wrapping_add(left)
        } else {
            position
        }
    }

    /// Takes `count` numbers and the bytes that `place` says, in one step: it gets the position behind the
    /// last claim, and returns where the new one starts and ends.
    #[inline(always)]
    fn claim_places(
        &self,
        count: u32,
        place: impl Fn(u32) -> (u32, u32),
    ) -> Result<Claimed, Refusal> {
        let cells = &self.cells;
        let mut claim = cells.claim().load(Relaxed);
        loop {
            if claim & u64::from(FLAGS) != OPEN {
                return Err(if claim & (CLOSED | POISONED) == POISONED {
                    Refusal::Poisoned
                } else {
                    Refusal::Closed
                });
            }
            let (position, number) = unpack(claim);
            let (start, end) = place(position);
            // Acquire: pairs with the store in `release`; what the consumer read of these bytes it read
            // before this producer writes there.
            let released = cells
                .released_position()
                .load(order::at(Spot::ReleasedLoad, Acquire));
            // Not older than the position above, so less than a ring of records behind the claim.
            let first = cells.released_offset().load(Relaxed);
            let bytes = end.wrapping_sub(released);
            let records = number.wrapping_sub(low(first)).wrapping_add(count);
            if bytes > self.options.size || records > self.options.records_max {
                // By a read-modify-write, which sees the newest: a load may see the stale one again,
                // when of what was released since only the offset is seen.
                let now = cells.claim().fetch_add(0, Relaxed);
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
            let next = pack(end, number.wrapping_add(count)) | OPEN;
            match cells
                .claim()
                .compare_exchange_weak(claim, next, taken, Relaxed)
            {
                Err(now) => claim = now,
                Ok(_) => {
                    let half_full =
                        bytes >= self.options.size / 2 || records > self.options.records_max / 2;
                    let offset = first + u64::from(records - count);
                    return Ok(Claimed {
                        start,
                        offset,
                        half_full,
                    });
                }
            }
        }
    }

    /// Writes header and body into claimed bytes.
    #[inline(always)]
    fn fill(&self, start: u32, record: &Record<'_>) {
        let header = [record.time_ms, Lengths::of(record).encode()].map(u64::to_le_bytes);
        // SAFETY: invariant 1: a claim gave the calling thread alone as many bytes from `start` on as
        // header and body have, and they do not wrap (invariant 2).
        unsafe { self.cells.write(start, header.as_flattened()) };
        #[allow(clippy::cast_possible_truncation)] // 16
        let mut at = start.wrapping_add(HEADER_LEN as u32);
        let mut put = |bytes: &[u8]| {
            // SAFETY: as above, behind the header.
            unsafe { self.cells.write(at, bytes) };
            #[allow(clippy::cast_possible_truncation)] // a part of a body of less than 1 GiB
            let len = bytes.len() as u32;
            at = at.wrapping_add(len);
        };
        record.write_body(&mut put);
    }

    /// Hands the record at `start` over to the consumer.
    #[inline(always)]
    fn commit(&self, start: u32, number: u32) {
        // Release: pairs with the consumer's load in `take`; publishes everything that `fill` wrote.
        let commit = order::at(Spot::Commit, Release);
        self.cells
            .slot(number)
            .store(pack(start, number) | COMMITTED, commit);
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
            let claim = self.cells.claim().load(Acquire);
            if claim == 0 {
                return first; // It is the parent's, and this process has no part in it.
            }
            let (_, number) = unpack(claim);
            let records = number.wrapping_sub(low(first));
            if records <= self.options.records_max {
                return first + u64::from(records);
            }
        }
    }

    /// Whether a parent has opened it that forked this process: then it is closed here, for ever.
    pub fn is_inherited(&self) -> bool {
        self.cells.claim().load(Relaxed) & u64::from(FLAGS) == 0
    }

    /// Closes it in each process that is forked from this one. Linux has it since 4.14.
    pub fn wipe_on_fork(&self) -> std::io::Result<()> {
        self.cells.wipe_on_fork()
    }

    /// Takes no record from now on. What was claimed before is still taken by the consumer.
    pub fn close(&self) {
        self.cells.claim().fetch_or(CLOSED, AcqRel);
        self.released.close();
    }

    /// Refuses everything from now on with [`Refusal::Poisoned`].
    pub fn poison(&self) {
        self.cells.claim().fetch_or(POISONED, AcqRel);
        self.released.close();
    }

    /// The first offset that was not released. Who found no room waits for it to move; it is closed with
    /// the ring.
    pub fn released(&self) -> &Watermark {
        &self.released
    }

    /// Whether it was poisoned.
    pub fn is_poisoned(&self) -> bool {
        self.cells.claim().load(Relaxed) & POISONED != 0
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

/// A place and the first number.
struct Claimed {
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

    /// The eight bytes as they lie in a header, the first one lowest.
    #[inline]
    fn encode(self) -> u64 {
        u64::from(self.body) | u64::from(self.key) << 32 | u64::from(self.extra) << 48
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation)] // each takes its bytes
    fn in_header(header: &[u8; HEADER_LEN]) -> Self {
        let [.., a, b, c, d, e, f, g, h] = *header;
        let word = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        Self {
            body: word as u32,
            key: (word >> 32) as u16,
            extra: (word >> 48) as u16,
        }
    }
}

/// How many slots a ring for so many records has: a power of two.
fn slot_count(records_max: u32) -> u32 {
    records_max.next_power_of_two()
}

/// How many bytes a record with such a body takes in the ring.
#[inline]
#[allow(clippy::cast_possible_truncation)] // at most a quarter of a ring of at most 1 GiB
fn size_of(body_len: usize) -> u32 {
    ((HEADER_LEN + body_len) as u32).wrapping_add(7) & !7
}

/// The low half of an offset: a record's number in the ring.
#[inline]
#[allow(clippy::cast_possible_truncation)] // that is what it is for
fn low(offset: u64) -> u32 {
    offset as u32
}

/// Number above, position below: the claim word, and a slot.
#[inline]
fn pack(position: u32, number: u32) -> u64 {
    u64::from(number) << 32 | u64::from(position)
}

#[inline]
fn unpack(word: u64) -> (u32, u32) {
    (low(word) & !FLAGS, low(word >> 32))
}

#[cfg(all(test, not(loom)))]
mod tests;
