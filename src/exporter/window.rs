//! What was read and is not done: a few buffers of records, in order, and how each record stands.
//!
//! ```text
//!  oldest ▼                                               newest ▼
//!  │ ✓ ✓ a a ✓ │ ✓ w ✓ ✓ ✓ │ a a a a a │ w w w w w │ w w w …      ◀── reading
//!    away, waiting or dead: open              closed   gathering
//! ```
//!
//! A chunk is gathered, then closed: full, lingered, or before a gap. It is free again when none of its
//! records is open. When all chunks are taken, neighbours of which little is left are merged, so that
//! records that fail hold up the others only when they fill a buffer.

use std::hash::{DefaultHasher, Hasher};
use std::io;

use crate::clock::Mono;
use crate::log::{BatchBuffer, Gap};
use crate::rules::{Rule, holds};
use crate::sink::Pick;

/// How a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// To be submitted, perhaps again.
    Waiting,
    /// With the sink.
    Away,
    /// Given up; its letter is not durable yet.
    Dead,
    /// Accepted, or its letter is durable.
    Done,
}

/// Keys are told apart by so many classes: a key whose class holds one that failed waits with it.
pub const CLASSES: usize = 1024;

#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub state: State,
    /// The class of its key; 0 where that does not matter.
    pub class: u16,
    /// How often it was submitted.
    pub submissions: u32,
}

/// The records of one buffer.
pub(super) struct Chunk {
    pub slots: Vec<Slot>,
    /// What comes behind its last record, if it has any.
    gap: Option<Gap>,
    /// Nothing is added to it any more.
    pub is_closed: bool,
    waiting: usize,
    away: usize,
    dead: usize,
    /// Records that failed are not submitted before this instant.
    pub retry_at: Mono,
    /// Tries in a row without an accepted record.
    pub failures: u32,
    /// There may be waiting records that were submitted before.
    pub has_failed: bool,
}

impl Chunk {
    fn new(records_max: usize) -> Self {
        Self {
            slots: Vec::with_capacity(records_max),
            gap: None,
            is_closed: false,
            waiting: 0,
            away: 0,
            dead: 0,
            retry_at: Mono(0),
            failures: 0,
            has_failed: false,
        }
    }

    fn count(&mut self, state: State) -> Option<&mut usize> {
        match state {
            State::Waiting => Some(&mut self.waiting),
            State::Away => Some(&mut self.away),
            State::Dead => Some(&mut self.dead),
            State::Done => None,
        }
    }

    pub fn set(&mut self, entry: usize, state: State) {
        let before = std::mem::replace(&mut self.slots[entry].state, state);
        if let Some(count) = self.count(before) {
            *count -= 1;
        }
        if let Some(count) = self.count(state) {
            *count += 1;
        }
    }

    /// All records.
    pub fn set_all(&mut self, state: State) {
        for slot in &mut self.slots {
            slot.state = state;
        }
        (self.waiting, self.away, self.dead) = (0, 0, 0);
        let len = self.slots.len();
        if let Some(count) = self.count(state) {
            *count = len;
        }
    }

    pub fn waiting(&self) -> usize {
        self.waiting
    }

    fn open(&self) -> usize {
        self.waiting + self.away + self.dead
    }

    /// Whether a record may be submitted now.
    pub fn is_ready(&self, slot: Slot, now: Mono) -> bool {
        slot.state == State::Waiting && (slot.submissions == 0 || now >= self.retry_at)
    }
}

/// All of it.
pub(super) struct Window {
    pub buffers: Vec<BatchBuffer>,
    pub chunks: Vec<Chunk>,
    /// The chunks that have something, oldest first.
    order: Vec<usize>,
    end: u64,
    /// Chunks may be merged: what failed may go together with what comes later.
    merges: bool,
    records_max: usize,
    bytes_max: usize,
}

impl Window {
    pub fn new(
        count: usize,
        merges: bool,
        records_max: usize,
        bytes_max: usize,
        body_len_max: usize,
    ) -> io::Result<Self> {
        let buffers: io::Result<_> = (0..count)
            .map(|_| BatchBuffer::new(records_max, bytes_max, body_len_max))
            .collect();
        Ok(Self {
            buffers: buffers?,
            chunks: (0..count).map(|_| Chunk::new(records_max)).collect(),
            order: Vec::with_capacity(count),
            end: 0,
            merges,
            records_max,
            bytes_max,
        })
    }

    /// The chunks that have something, oldest first.
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// The chunk that reading adds to. `None` when there is no room.
    pub fn gathering(&mut self) -> Option<usize> {
        if let Some(at) = self.order.last().copied()
            && !self.chunks[at].is_closed
        {
            return Some(at);
        }
        let is_free = |at: &usize| !self.order.contains(at);
        let free = (0..self.chunks.len()).find(is_free);
        let at = free.or_else(|| self.merge())?;
        self.order.push(at);
        Some(at)
    }

    /// Nothing is added to the chunk any more; its records can be submitted.
    pub fn close(&mut self, at: usize, gap: Option<Gap>, with_classes: bool) {
        let (chunk, buffer) = (&mut self.chunks[at], &self.buffers[at]);
        let (state, submissions) = (State::Waiting, 0);
        chunk.slots.clear();
        chunk
            .slots
            .extend(buffer.entries().iter().map(|entry| Slot {
                state,
                class: match with_classes {
                    true => class(buffer.view(entry).key),
                    false => 0,
                },
                submissions,
            }));
        chunk.set_all(State::Waiting);
        let last = buffer.entries().last().map(|entry| entry.offset + 1);
        let end = gap.map(|gap| gap.end).or(last);
        self.end = self.end.max(end.unwrap_or(0));
        (chunk.gap, chunk.is_closed) = (gap, true);
        (chunk.failures, chunk.has_failed, chunk.retry_at) = (0, false, Mono(0));
    }

    /// Makes a chunk free of which nothing is open.
    fn free(&mut self, at: usize) {
        self.order.retain(|other| *other != at);
        self.buffers[at].clear();
        let chunk = &mut self.chunks[at];
        chunk.slots.clear();
        (chunk.gap, chunk.is_closed) = (None, false);
        chunk.set_all(State::Done);
    }

    /// Frees the chunks of which nothing is open, up to one with a gap behind it: the gap. It is passed when
    /// everything before it is done, and not earlier: so it is counted once, also by a cursor that
    /// remembers only some of what is done out of order.
    pub fn free_done(&mut self) -> Option<Gap> {
        loop {
            let oldest = self.order.first().copied();
            let is_done = |at: &&usize| {
                let chunk = &self.chunks[**at];
                let is_passed = chunk.gap.is_none() || oldest == Some(**at);
                chunk.is_closed && chunk.open() == 0 && is_passed
            };
            let at = *self.order.iter().find(is_done)?;
            let gap = self.chunks[at].gap;
            self.free(at);
            if gap.is_some() {
                return gap;
            }
        }
    }

    /// Merges two neighbours that are at rest and fit into one. The chunk that is free then.
    fn merge(&mut self) -> Option<usize> {
        let mut pairs = self.order.windows(2).map(|pair| (pair[0], pair[1]));
        let (into, from) = pairs.find(|(into, from)| self.can_merge(*into, *from))?;
        let [to_chunk, from_chunk] = self.chunks.get_disjoint_mut([into, from]).ok()?;
        let [to_buffer, from_buffer] = self.buffers.get_disjoint_mut([into, from]).ok()?;
        to_buffer.keep(|entry| to_chunk.slots[entry].state == State::Waiting);
        to_chunk.slots.retain(|slot| slot.state == State::Waiting);
        for (entry, slot) in from_chunk.slots.iter().enumerate() {
            if slot.state == State::Waiting {
                // Its room was looked for.
                to_buffer.copy(from_buffer, entry).ok()?;
                to_chunk.slots.push(*slot);
            }
        }
        to_chunk.set_all(State::Waiting);
        to_chunk.retry_at = to_chunk.retry_at.max(from_chunk.retry_at);
        to_chunk.failures = to_chunk.failures.max(from_chunk.failures);
        to_chunk.has_failed |= from_chunk.has_failed;
        to_chunk.gap = from_chunk.gap.take();
        self.free(from);
        Some(from)
    }

    fn can_merge(&self, into: usize, from: usize) -> bool {
        let chunks = [into, from].map(|at| &self.chunks[at]);
        let at_rest = chunks
            .iter()
            .all(|chunk| chunk.is_closed && chunk.away == 0 && chunk.dead == 0);
        let records = chunks[0].waiting + chunks[1].waiting;
        self.merges
            && at_rest
            && chunks[0].gap.is_none()
            && records <= self.records_max
            && self.waiting_bytes(into) + self.waiting_bytes(from) <= self.bytes_max
    }

    fn waiting_bytes(&self, at: usize) -> usize {
        let slots = self.chunks[at].slots.iter();
        let waiting = slots
            .zip(self.buffers[at].entries())
            .filter(|(slot, _)| slot.state == State::Waiting);
        waiting.map(|(_, entry)| entry.body_len()).sum()
    }

    /// A batch of one of the chunks and another record still keeps the limits.
    pub fn fits(&self, records: usize, bytes: usize, body_len: usize) -> bool {
        records == 0 || records < self.records_max && bytes + body_len <= self.bytes_max
    }

    pub fn body_len(&self, pick: Pick) -> usize {
        self.buffers[pick.buffer as usize].entries()[pick.entry as usize].body_len()
    }

    /// When the oldest record was appended that is in here.
    pub fn oldest(&self) -> Option<crate::clock::Stamp> {
        let mut first = self.order.iter().map(|at| self.buffers[*at].entries());
        first.find_map(|entries| Some(entries.first()?.appended))
    }

    /// The stretches of offsets that are open, rising, of what is closed; gaps that are not passed are.
    pub fn open(&self) -> impl Iterator<Item = (u64, u64)> {
        self.order.iter().flat_map(|at| {
            let (chunk, entries) = (&self.chunks[*at], self.buffers[*at].entries());
            // One stretch where nothing is done, for that is what most often is.
            let whole = entries.first().zip(entries.last()).filter(|(first, last)| {
                chunk.open() == entries.len()
                    && holds(Rule::CursorAfterAnswer)
                    && last.offset - first.offset + 1 == entries.len() as u64
            });
            let slots = match whole {
                Some(_) => &[],
                None => &chunk.slots[..],
            };
            let open = slots
                .iter()
                .zip(entries)
                .filter(|(slot, _)| match slot.state {
                    State::Done => false,
                    State::Away => holds(Rule::CursorAfterAnswer),
                    State::Waiting | State::Dead => true,
                });
            whole
                .map(|(first, last)| (first.offset, last.offset + 1))
                .into_iter()
                .chain(open.map(|(_, entry)| (entry.offset, entry.offset + 1)))
                .chain(chunk.gap.map(|gap| (gap.start, gap.end)))
        })
    }

    /// The offset behind everything that was closed.
    pub fn end(&self) -> u64 {
        self.end
    }
}

fn class(key: &[u8]) -> u16 {
    let mut hasher = DefaultHasher::new();
    hasher.write(key);
    u16::try_from(hasher.finish() % CLASSES as u64).unwrap_or(0)
}
