//! Several records by one claim: all of them, one behind the other, or none.
//!
//! ```text
//!  before    …──────────┤ position                     ring's end │
//!  after     …──────────┤ record 5 │ record 6 │ record 7 │ unused │ record 8 │ record 9 ├ position
//! ```
//!
//! One compare-and-swap takes the bytes and the numbers of the whole batch, so no other record gets
//! between two of it. How it lies depends on where it starts: no record wraps, so what is left at the
//! ring's end before a record that does not fit there stays unused, as between single records. The
//! layout is computed again for each position that is tried; only its end is claimed.
//!
//! Each record is committed through its own slot, as single ones are: the claim needs no other ordering,
//! and the consumer, which knows nothing of batches, may take the first records of one while its
//! producer still fills the rest. So "all or none" is about refusal. What survives a power cut before the
//! whole batch was durable may be the first records of it.

use std::ops::Range;

use super::{Record, Refusal, Ring, low, size_of};

impl Ring {
    /// Puts all records in, with consecutive offsets, or none. Never blocks.
    ///
    /// A batch takes at most a quarter of the ring, each record with [`HEADER_LEN`](super::HEADER_LEN)
    /// more and rounded up to 8, so that it fits into an empty ring wherever it starts; a single record
    /// may be as long as [`append`](Self::append) takes it.
    pub fn append_batch(&self, records: &[Record<'_>]) -> Result<Range<u64>, Refusal> {
        let (count, len) = self.measure(records)?;
        let claimed = self.claim_places(count, |position| {
            (position, self.end_behind(position, len, records))
        })?;
        let mut offset = claimed.offset;
        let mut position = claimed.start;
        for record in records {
            // The same as when the end was computed: the records are borrowed and cannot have changed.
            let size = size_of(record.body_len());
            let start = self.start_of(position, size);
            self.fill(start, record);
            self.commit(start, low(offset));
            position = start.wrapping_add(size);
            offset += 1;
        }
        self.wake_if_due(claimed.half_full);
        Ok(claimed.offset..offset)
    }

    /// How many records there are, and what they take without padding, if that is within the bounds.
    fn measure(&self, records: &[Record<'_>]) -> Result<(u32, u32), Refusal> {
        let options = &self.options;
        let count = u32::try_from(records.len()).map_err(|_| Refusal::BatchTooLarge)?;
        if count > options.records_max {
            return Err(Refusal::BatchTooLarge);
        }
        let mut len = 0u32;
        for record in records {
            let body_len = record.body_len();
            if body_len > options.body_len_max as usize {
                return Err(Refusal::TooLong);
            }
            // No overflow: both are at most a quarter of a ring of at most 1 GiB, and a header.
            len += size_of(body_len);
            if count > 1 && len > options.size / 4 {
                return Err(Refusal::BatchTooLarge);
            }
        }
        Ok((count, len))
    }

    /// Where records of `len` bytes end that start behind `position`.
    fn end_behind(&self, position: u32, len: u32, records: &[Record<'_>]) -> u32 {
        if self.start_of(position, len) == position {
            return position.wrapping_add(len);
        }
        records.iter().fold(position, |position, record| {
            let size = size_of(record.body_len());
            self.start_of(position, size).wrapping_add(size)
        })
    }
}
