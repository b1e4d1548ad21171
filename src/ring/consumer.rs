//! The syncer's end of the ring.

use std::sync::Arc;

use super::order::{self, Spot};
use super::{
    Acquire, Asleep, BUSY, COMMITTED, FLAGS, HEADER_LEN, Lengths, PAD, Relaxed, Release, Ring,
    unpack,
};

/// Takes records in order; exists once for each ring.
///
/// Invariant: `released <= position <= claim`; what lies between the first two was taken and may be
/// taken again after [`rewind`](Self::rewind).
#[derive(Debug)]
pub struct Consumer {
    ring: Arc<Ring>,
    position: u32,
    offset: u64,
    released: (u32, u64),
}

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
        Self {
            ring,
            position: 0,
            offset: first,
            released: (0, first),
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

    /// Lends the next record if it is committed. It is taken when `f` returns true, and stays the next
    /// one otherwise. `None`: there is none, or its producer has not committed it yet.
    pub fn take(&mut self, f: impl FnOnce(Taken<'_>) -> bool) -> Option<bool> {
        let ring = &self.ring;
        let size = loop {
            // Acquire: pairs with the producer's commit; its bytes are there.
            let state = ring
                .cells
                .state(self.position)
                .load(order::at(Spot::TakeLoad, Acquire));
            match (state & FLAGS, state & !FLAGS) {
                (PAD, pad) => self.position = self.position.wrapping_add(pad),
                (COMMITTED, size) => break size,
                _ => return None,
            }
        };
        let header_at = self.position.wrapping_add(4);
        let mut header = [0u8; HEADER_LEN - 4];
        // SAFETY: the record is committed and not released (invariant), and never wraps.
        unsafe {
            ring.cells.read(header_at, header.len(), |bytes| {
                header.copy_from_slice(bytes)
            });
        }
        let ([n0, n1, n2, n3, time @ .., l0, l1, l2, l3, l4, l5, l6, l7], offset) =
            (header, self.offset);
        let lengths = Lengths::decode([l0, l1, l2, l3, l4, l5, l6, l7]);
        #[allow(clippy::cast_possible_truncation)] // compared with the low half
        let low = offset as u32;
        assert_eq!(
            u32::from_le_bytes([n0, n1, n2, n3]),
            low,
            "the ring is in order"
        );
        assert!(
            HEADER_LEN + lengths.body as usize <= size as usize,
            "a body lies in its record"
        );
        let body_at = self.position.wrapping_add(24);
        // SAFETY: as above; header and body lie in the record's size, as just asserted.
        let done = unsafe {
            ring.cells.read(body_at, lengths.body as usize, |body| {
                f(Taken {
                    offset,
                    time_ms: u64::from_le_bytes(time),
                    extra_len: lengths.extra,
                    key_len: lengths.key,
                    body,
                })
            })
        };
        if done {
            self.position = self.position.wrapping_add(size);
            self.offset += 1;
        }
        Some(done)
    }

    /// Gives back everything that was taken. Called when it is durable.
    pub fn release(&mut self) {
        let cells = &self.ring.cells;
        let len = self.position.wrapping_sub(self.released.0);
        let size = self.ring.options.size;
        let to_end = (size - (self.released.0 & (size - 1))).min(len);
        // SAFETY: taken and not released, so the consumer's; up to the ring's end it does not wrap.
        unsafe { cells.zero(self.released.0, to_end as usize) };
        if len > to_end {
            // SAFETY: as above, from the ring's start on.
            unsafe {
                cells.zero(
                    self.released.0.wrapping_add(to_end),
                    (len - to_end) as usize,
                )
            };
        }
        self.released = (self.position, self.offset);
        cells.released_offset().store(self.offset, Relaxed);
        // Release: pairs with the producers' load; the zeroing and the offset come before it.
        let order = order::at(Spot::ReleasedStore, Release);
        cells.released_position().store(self.position, order);
    }

    /// Goes back to the first record that was not released, to take them all again.
    pub fn rewind(&mut self) {
        (self.position, self.offset) = self.released;
    }

    /// The first offset that was not released.
    pub fn released_offset(&self) -> u64 {
        self.released.1
    }

    /// How many records are in the ring: claimed and not released.
    pub fn queued(&self) -> u64 {
        let (_, number) = unpack(self.ring.cells.claim().load(Relaxed));
        #[allow(clippy::cast_possible_truncation)] // the difference of two low halves
        let records = number.wrapping_sub(self.released.1 as u32);
        u64::from(records)
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
        let (position, _) = unpack(self.ring.cells.claim().load(Relaxed));
        if position == self.position {
            return false;
        }
        let state = self.ring.cells.state(self.position).load(Relaxed);
        state == 0 || state & FLAGS == BUSY
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
        let (position, _) = unpack(claim);
        let busy = match how {
            Asleep::No => true,
            Asleep::UntilDue => self.half_full(),
            Asleep::Idle => position != self.released.0,
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
