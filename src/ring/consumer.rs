//! The syncer's end of the ring.
//!
//! What producers wrote lies in their cores' caches. Fetching it record by record costs a wait for each
//! line; fetched as one run of committed records, the lines come together. So the consumer copies runs
//! into memory of its own and takes records from there.

use std::sync::Arc;

use super::{
    Acquire, Asleep, COMMITTED, HEADER_LEN, Lengths, Relaxed, Release, Ring, VOID, low, pack,
    size_of, unpack,
};
use crate::watermark::order::{self, Spot};

/// Takes records in order; exists once for each ring.
///
/// Invariant: `released <= position <= claim`; what lies between the first two was taken and may be
/// taken again after [`rewind`](Self::rewind).
#[derive(Debug)]
pub struct Consumer {
    ring: Arc<Ring>,
    /// Where the record taken last ended.
    position: u32,
    /// The number of the record to take next.
    offset: u64,
    released: (u32, u64),
    /// Bytes of whole committed records from `run_at` on, and where the next one to take is in it.
    run: Vec<u8>,
    run_at: u32,
    run_next: usize,
}

/// The most bytes of a run; longer records are lent where they are.
const RUN_LEN_MAX: u32 = 64 * 1024;

/// A committed record, lent out of the ring.
#[derive(Clone, Copy, Debug)]
pub struct Taken<'a> {
    /// Its number.
    pub offset: u64,
    /// When it happened, as the producer saw it.
    pub time_ms: u64,
    /// How many bytes of the body are properties and source.
    pub extra_len: u16,
    /// How many bytes of the body behind those are the key.
    pub key_len: u16,
    /// Extra, key and payload.
    pub body: &'a [u8],
}

impl Consumer {
    pub(super) fn new(ring: Arc<Ring>) -> Self {
        let first = ring.options.first_offset;
        let released = ring.cells.released_position().load(Relaxed);
        let run_len = RUN_LEN_MAX.min(ring.options.size) as usize;
        Self {
            ring,
            position: released,
            offset: first,
            released: (released, first),
            run: Vec::with_capacity(run_len),
            run_at: 0,
            run_next: 0,
        }
    }

    /// The offset of the record that [`take`](Self::take) looks at next.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The ring.
    pub fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    /// Where the record with that number starts, if it is committed.
    #[inline]
    fn committed(&self, offset: u64) -> Option<u32> {
        let number = low(offset);
        // Acquire: pairs with the producer's commit; its bytes are there.
        let slot = self
            .ring
            .cells
            .slot(number)
            .load(order::at(Spot::TakeLoad, Acquire));
        let (position, _) = unpack(slot);
        (slot == pack(position, number) | COMMITTED).then_some(position)
    }

    /// Whether a process died that had claimed that number.
    #[inline]
    fn is_void(&self, offset: u64) -> bool {
        let slot = self.ring.cells.slot(low(offset)).load(Relaxed);
        slot == pack(0, low(offset)) | VOID
    }

    /// Lends the next record if it is committed. It is taken when `f` returns true, and stays the next
    /// one otherwise. `None`: there is none, or its producer has not committed it yet.
    #[inline]
    pub fn take(&mut self, f: impl FnOnce(Taken<'_>) -> bool) -> Option<bool> {
        if self.run_next == self.run.len() && !self.fetch_run()? {
            let start = self.run_at;
            let (len, is_taken) = self.lend(start, |record| lend(self.offset, record, f));
            if is_taken {
                self.position = start.wrapping_add(len);
                self.offset += 1;
            }
            return Some(is_taken);
        }
        let (len, is_taken) = lend(self.offset, &self.run[self.run_next..], f);
        if is_taken {
            self.run_next += len as usize;
            #[allow(clippy::cast_possible_truncation)] // a run is short
            let end = self.run_at.wrapping_add(self.run_next as u32);
            self.position = end;
            self.offset += 1;
        }
        Some(is_taken)
    }

    /// Copies the committed records from the next one on, but the last, whose end its slot does not tell.
    /// `None`: the next one is not committed. False: it is the last one, or too long, and starts at
    /// `run_at`.
    fn fetch_run(&mut self) -> Option<bool> {
        while self.is_void(self.offset) {
            self.offset += 1;
        }
        let start = self.committed(self.offset)?;
        let size = self.ring.options.size;
        let to_end = size - (start & (size - 1));
        let mut len = 0;
        let mut next = self.offset + 1;
        while let Some(position) = self.committed(next) {
            let distance = position.wrapping_sub(start);
            // The next one is too far; or it lies at the ring's start again, and does not tell where the one
            // before it ended.
            if distance > RUN_LEN_MAX || distance >= to_end {
                break;
            }
            len = distance;
            next += 1;
        }
        self.run.clear();
        (self.run_at, self.run_next) = (start, 0);
        let run = &mut self.run;
        // SAFETY: these are records that are committed and not released (invariant), one behind the
        // other, up to the ring's end at most.
        unsafe {
            self.ring
                .cells
                .read(start, len as usize, |bytes| run.extend_from_slice(bytes));
        };
        Some(len > 0)
    }

    /// Lends the record at `start` where it is.
    fn lend<R>(&self, start: u32, f: impl FnOnce(&[u8]) -> R) -> R {
        let cells = &self.ring.cells;
        let mut header = [0u8; HEADER_LEN];
        // SAFETY: the record is committed and not released (invariant), and never wraps.
        unsafe { cells.read(start, HEADER_LEN, |bytes| header.copy_from_slice(bytes)) };
        let len = HEADER_LEN + Lengths::in_header(&header).body as usize;
        // SAFETY: as above; header and body are what the producer claimed.
        unsafe { cells.read(start, len, f) }
    }

    /// Gives back everything that was taken. Called when it is durable.
    pub fn release(&mut self) {
        self.released = (self.position, self.offset);
        let cells = &self.ring.cells;
        cells.released_offset().store(self.offset, Relaxed);
        // Release: pairs with the producers' load; the reads and the offset come before it.
        let order = order::at(Spot::ReleasedStore, Release);
        cells.released_position().store(self.position, order);
        // Only now: who waits for room saw the old value before it looked for room, and looks again.
        self.ring.released.advance(self.offset);
    }

    /// Goes back to the first record that was not released, to take them all again.
    pub fn rewind(&mut self) {
        (self.position, self.offset) = self.released;
        self.run.clear();
        self.run_next = 0;
    }

    /// The first offset that was not released.
    pub fn released_offset(&self) -> u64 {
        self.released.1
    }

    /// How many records are in the ring: claimed and not released.
    pub fn queued(&self) -> u64 {
        let (_, number) = unpack(self.ring.cells.claim().load(Relaxed));
        u64::from(number.wrapping_sub(low(self.released.1)))
    }

    /// Whether half of the ring's bytes or records are claimed and not released.
    pub fn half_full(&self) -> bool {
        let (position, _) = unpack(self.ring.cells.claim().load(Relaxed));
        let bytes = position.wrapping_sub(self.released.0);
        let options = &self.ring.options;
        bytes >= options.size / 2 || self.queued() > u64::from(options.records_max / 2)
    }

    /// Whether the next record is claimed and not committed.
    pub fn is_held_up(&self) -> bool {
        let (_, number) = unpack(self.ring.cells.claim().load(Relaxed));
        number != low(self.offset)
            && self.committed(self.offset).is_none()
            && !self.is_void(self.offset)
    }

    /// Whether somebody waits for an offset at or above `durable`.
    pub fn is_wanted(&self, durable: u64) -> bool {
        self.ring.demand.load(Relaxed) > durable
    }

    /// Raises the flag that lets producers wake the syncer, and then looks once more.
    ///
    /// False when there is something to do now, with the flag down again; for [`Asleep::Idle`] that is
    /// any record, for [`Asleep::UntilDue`] half a ring or somebody who waits. `durable` is the first
    /// offset that is not. After true, the syncer parks.
    pub fn fall_asleep(&self, how: Asleep, durable: u64) -> bool {
        let ring = &*self.ring;
        ring.asleep.store(how as u32, Relaxed);
        // Release: pairs with the producers' compare-and-swap and the waiters' maximum: who comes later
        // in these words' order sees the flag; who came earlier is seen here.
        let claim = ring
            .cells
            .claim()
            .fetch_add(0, order::at(Spot::SleepClaim, Release));
        let demand = ring
            .demand
            .fetch_add(0, order::at(Spot::SleepDemand, Release));
        let (_, number) = unpack(claim);
        let busy = match how {
            Asleep::No => true,
            Asleep::UntilDue => self.half_full(),
            Asleep::Idle => number != low(self.released.1),
        };
        if busy || demand > durable {
            self.wake_up();
            return false;
        }
        true
    }

    /// Lowers the flag.
    pub fn wake_up(&self) {
        self.ring.asleep.store(Asleep::No as u32, Relaxed);
    }
}

/// Hands on the record in front of `bytes`. Returns how much it takes in the ring, and what `f` did.
#[inline]
fn lend(offset: u64, bytes: &[u8], f: impl FnOnce(Taken<'_>) -> bool) -> (u32, bool) {
    let Some((header, rest)) = bytes.split_first_chunk::<HEADER_LEN>() else {
        panic!("a record has a header");
    };
    let lengths = Lengths::in_header(header);
    let [time @ .., _, _, _, _, _, _, _, _] = *header;
    let is_taken = f(Taken {
        offset,
        time_ms: u64::from_le_bytes(time),
        extra_len: lengths.extra,
        key_len: lengths.key,
        body: &rest[..lengths.body as usize],
    });
    (size_of(lengths.body as usize), is_taken)
}
