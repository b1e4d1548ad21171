//! What a process that died left in its ring.
//!
//! ```text
//!   released      start        hole            end       slots that say nothing
//!      │ in the log │ 17 │ 18 │  ✗  │ 20 │ 21 │ claimed, never committed …
//! ```
//!
//! A ring whose memory outlives the process is found by the next one of the same boot. Which records it
//! holds stands in the slots: one is there when its slot names its number, which is the last thing that its
//! producer stored. The claim is not needed for that, and lies in memory of the process's own.
//!
//! **Invariants.** When a process is gone, each of its threads has done its stores in program order up to
//! some point, and all of them are there: so a slot that says committed has its record's bytes, and an
//! offset that was released was durable before. What does not fit in with that (a place that is not the one
//! behind the record before, lengths over their bounds) is no record: the bytes were never checked before
//! they were taken for lengths.
//!
//! **What it does not do.** It knows whose the ring was only as bytes that its user has put at the head.
//! Records have no checksum of their own: see docs/decisions/0010.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, Release};

use super::cells::{FRONT_LEN, HEADER_LEN, RELEASED_OFFSET_AT, RELEASED_POSITION_AT};
use super::{
    COMMITTED, Consumer, FLAGS, Lengths, Options, Ring, SIZE_MAX, SIZE_MIN, VOID, low, pack,
    size_of, slot_count, unpack,
};
use crate::record::{Source, source_in};
use crate::storage::Memory;
use crate::watermark::Waker;

/// How long the head is, in bytes.
pub const HEAD_LEN: usize = 80;
const OPENED_AT: usize = FRONT_LEN + 128;
const OPENED_NEXT_AT: usize = OPENED_AT + 8;
/// A ring that starts at or above this offset is none.
const OFFSET_MAX: u64 = 1 << 60;

const _: () = assert!(HEAD_LEN.is_multiple_of(8) && FRONT_LEN + HEAD_LEN <= OPENED_AT);

/// What there is of a former process's ring.
#[derive(Debug, Default)]
pub enum Left {
    /// No ring, or one that was never used.
    #[default]
    Nothing,
    /// One that is not this store's, this boot's or this version's, or not the last one.
    Refused,
    /// A ring, perhaps with records.
    Ring(Remains),
}

/// A ring that was found.
#[derive(Debug)]
pub struct Remains {
    memory: Memory,
    /// Of these the first offset is the one that was not released.
    options: Options,
    end: u64,
}

/// Where a record lies, and how many bytes it takes there.
#[derive(Clone, Copy)]
struct Place {
    start: u32,
    len: u32,
}

/// The bytes at the head of a ring's memory.
pub fn head(memory: &Memory) -> [u8; HEAD_LEN] {
    let mut bytes = [0; HEAD_LEN];
    let words = &memory.words()[FRONT_LEN / 8..];
    for (bytes, word) in bytes.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.load(Relaxed).to_le_bytes());
    }
    bytes
}

/// Makes new memory a ring that is found again: with these bytes at its head, of which the first eight make
/// it valid, empty from `first` on. `opened` is the offset at which the store was opened.
pub fn sign(memory: &Memory, head: &[u8; HEAD_LEN], opened: u64, first: u64) {
    memory.words()[RELEASED_OFFSET_AT / 8].store(first, Relaxed);
    for at in [OPENED_AT, OPENED_NEXT_AT] {
        memory.words()[at / 8].store(opened, Relaxed);
    }
    let words = &memory.words()[FRONT_LEN / 8..];
    for (bytes, word) in head.chunks_exact(8).zip(words).rev() {
        let mut value = [0; 8];
        value.copy_from_slice(bytes);
        // Release: the first word comes last.
        word.store(u64::from_le_bytes(value), Release);
    }
}

impl Remains {
    /// The ring in this memory, whose head says these bounds. `None`: they are none, or it does not go with
    /// them.
    pub fn find(memory: Memory, mut options: Options) -> Option<Self> {
        let Options {
            size, records_max, ..
        } = options;
        let is_sound = size.is_power_of_two()
            && (SIZE_MIN..=SIZE_MAX).contains(&size)
            && (1..=1 << 31).contains(&records_max)
            && options.body_len_max <= size / 4;
        if !is_sound || memory.len() < Ring::memory_len(size, records_max) {
            return None;
        }
        options.first_offset = memory.words()[RELEASED_OFFSET_AT / 8].load(Relaxed);
        if options.first_offset >= OFFSET_MAX {
            return None;
        }
        let mut this = Self {
            memory,
            options,
            end: options.first_offset,
        };
        let mut end = this.end;
        this.walk(|offset, place| {
            if place.is_some() {
                end = offset + 1;
            }
        });
        this.end = end;
        Some(this)
    }

    fn word(&self, at: usize) -> u64 {
        self.memory.words()[at / 8].load(Relaxed)
    }

    fn set(&self, at: usize, value: u64) {
        self.memory.words()[at / 8].store(value, Relaxed);
    }

    /// The bounds of the ring. The first offset is the one that was not released: everything below was
    /// durable.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// The offset behind its last record. No later one was ever returned by an append.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Whether the store was opened at this offset by the run whose ring it is.
    pub fn is_of_run(&self, opened: u64) -> bool {
        [OPENED_AT, OPENED_NEXT_AT]
            .iter()
            .any(|at| self.word(*at) == opened)
    }

    /// The run that opened the store at `opened` has ended; it is about to be opened at `next`. The ring is
    /// of both, as whoever comes next may find either in the store.
    pub fn note_opened(&self, opened: u64, next: u64) {
        self.memory.words()[OPENED_AT / 8].store(opened, Release);
        self.memory.words()[OPENED_NEXT_AT / 8].store(next, Release);
    }

    fn slot_at(&self, offset: u64) -> usize {
        HEADER_LEN + (low(offset) & (slot_count(self.options.records_max) - 1)) as usize * 8
    }

    fn released_position(&self) -> u32 {
        low(self.word(RELEASED_POSITION_AT)) & !FLAGS
    }

    /// Shows each number that may be in the ring, rising, and where its record lies, if it is there.
    fn walk(&self, mut f: impl FnMut(u64, Option<Place>)) {
        let base = self.released_position();
        let size = self.options.size;
        let mask = size - 1;
        // Where the record before ended, as a distance, and whether it was there: then it is known where the
        // next one starts.
        let (mut end, mut is_known) = (0, false);
        let first = self.options.first_offset;
        for offset in first..first + u64::from(self.options.records_max) {
            let place = self.place(offset).filter(|place| {
                let (start, len) = (place.start.wrapping_sub(base), place.len);
                let left = size - (base.wrapping_add(end) & mask);
                let expected = if left < len { end + left } else { end };
                let is_next = start == expected || !is_known && start >= end;
                is_next && len <= size && start <= size - len
            });
            if let Some(place) = place {
                end = place.start.wrapping_sub(base) + place.len;
            }
            is_known = place.is_some();
            f(offset, place);
        }
    }

    /// Where a record lies, if its slot says so and its lengths are within their bounds.
    fn place(&self, offset: u64) -> Option<Place> {
        let slot = self.word(self.slot_at(offset));
        let (start, _) = unpack(slot);
        if slot != pack(start, low(offset)) | COMMITTED {
            return None;
        }
        let lengths = self.lengths(start);
        let (body, fields) = (
            lengths.body,
            u32::from(lengths.key) + u32::from(lengths.extra),
        );
        if body > self.options.body_len_max || fields > body {
            return None;
        }
        let len = size_of(body as usize);
        let left = self.options.size - (start & (self.options.size - 1));
        (len <= left).then_some(Place { start, len })
    }

    fn byte_at(&self, position: u32) -> usize {
        let slots = slot_count(self.options.records_max) as usize * 8;
        HEADER_LEN + slots + (position & (self.options.size - 1)) as usize
    }

    fn lengths(&self, start: u32) -> Lengths {
        let mut header = [0; super::HEADER_LEN];
        let word = |start: u32| self.word(self.byte_at(start)).to_le_bytes();
        header[..8].copy_from_slice(&word(start));
        header[8..].copy_from_slice(&word(start.wrapping_add(8)));
        Lengths::in_header(&header)
    }

    /// How many records there are from `start` on.
    pub fn count(&self, start: u64) -> u64 {
        let holes = self.holes(start);
        let void: u64 = holes.iter().map(|hole| hole.end - hole.start).sum();
        self.end.saturating_sub(start) - void
    }

    /// The numbers from `start` on, and below the last record, that were claimed and never committed.
    pub fn holes(&self, start: u64) -> Vec<Range<u64>> {
        let mut holes: Vec<Range<u64>> = Vec::new();
        self.walk(|offset, place| {
            if place.is_some() || offset < start || offset >= self.end {
                return;
            }
            match holes.last_mut().filter(|hole| hole.end == offset) {
                Some(hole) => hole.end += 1,
                None => holes.push(offset..offset + 1),
            }
        });
        holes
    }

    /// Shows the source positions that records from `start` on have, in order.
    pub fn sources(&self, start: u64, mut f: impl FnMut(u64, Source<'_>)) {
        let mut extra = Vec::new();
        self.walk(|offset, place| {
            let Some(place) = place.filter(|_| offset >= start) else {
                return;
            };
            let len = usize::from(self.lengths(place.start).extra);
            extra.clear();
            let body = self.byte_at(place.start) + super::HEADER_LEN;
            let words = (0..len.div_ceil(8)).map(|at| self.word(body + at * 8));
            words.for_each(|word| extra.extend_from_slice(&word.to_le_bytes()));
            if let Some(source) = source_in(&extra[..len]) {
                f(offset, source);
            }
        });
    }

    /// Goes on with it: a ring whose first records are those from `start` on. Nothing below is needed any
    /// more, and `start` is not above its end.
    pub fn adopt(self, start: u64, waker: Arc<Waker>) -> (Arc<Ring>, Consumer) {
        assert!((self.options.first_offset..=self.end).contains(&start));
        let base = self.released_position();
        let (mut from, mut to) = (None, base);
        self.walk(|offset, place| {
            let word = match place {
                _ if offset < start || offset >= self.end => 0,
                None => pack(0, low(offset)) | VOID,
                Some(place) => {
                    from.get_or_insert(place.start);
                    to = place.start.wrapping_add(place.len);
                    return;
                }
            };
            self.set(self.slot_at(offset), word);
        });
        let walked = self.options.first_offset + u64::from(self.options.records_max);
        let slots = u64::from(slot_count(self.options.records_max));
        for offset in walked..self.options.first_offset + slots {
            self.set(self.slot_at(offset), 0);
        }
        self.note_opened(start, start);
        let options = Options {
            first_offset: start,
            ..self.options
        };
        let claim = pack(to, low(self.end));
        Ring::begin(self.memory, options, from.unwrap_or(to), claim, waker)
    }
}

// Miri maps no files.
#[cfg(all(test, not(loom), not(miri)))]
mod tests;
