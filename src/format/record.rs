//! A record's header, and the checksum that ties a record to its offset and its life.

use super::{Hasher, checksum};
use crate::rules::{Rule, holds};

/// The bytes of a record's header.
pub const RECORD_HEADER_SIZE: usize = 24;

/// The size of a record with a body of that length.
pub fn record_size(body_len: usize) -> usize {
    RECORD_HEADER_SIZE + body_len
}

/// The header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// The checksum, see [`Seal`].
    pub checksum: u32,
    /// The record's bytes, header included.
    pub size: u32,
    /// When it happened, in milliseconds since 1970, as the producer saw it.
    pub time_ms: u64,
    /// Milliseconds from its page's stamp to its append.
    pub delta_ms: u32,
    /// The bytes of the key.
    pub key_len: u16,
    /// The bytes of properties and source.
    pub extra_len: u16,
}

impl RecordHeader {
    /// Writes it to the front of `out`.
    #[inline]
    pub fn encode_to(&self, out: &mut [u8]) {
        // In whole words: what is written in small pieces and read at once has to wait for its way
        // through the store buffer.
        let lengths = u64::from(self.key_len) << 32 | u64::from(self.extra_len) << 48;
        let words = [
            u64::from(self.checksum) | u64::from(self.size) << 32,
            self.time_ms,
            u64::from(self.delta_ms) | lengths,
        ];
        let (places, _) = out[..RECORD_HEADER_SIZE].as_chunks_mut();
        for (place, word) in places.iter_mut().zip(words) {
            *place = word.to_le_bytes();
        }
    }

    /// Reads the header in front of `bytes`. `None` when it is none: its lengths do not fit each other,
    /// or there is nothing. Whether the record verifies, [`Seal::verifies`] tells.
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // halves and quarters of words
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        // In whole words, as it is written: this is done for each record.
        let (words, _) = bytes.get(..RECORD_HEADER_SIZE)?.as_chunks::<8>();
        let [front, time, back] = words else {
            return None;
        };
        let (front, back) = (u64::from_le_bytes(*front), u64::from_le_bytes(*back));
        let header = Self {
            checksum: front as u32,
            size: (front >> 32) as u32,
            time_ms: u64::from_le_bytes(*time),
            delta_ms: back as u32,
            key_len: (back >> 32) as u16,
            extra_len: (back >> 48) as u16,
        };
        let least =
            RECORD_HEADER_SIZE + usize::from(header.key_len) + usize::from(header.extra_len);
        (header.size as usize >= least).then_some(header)
    }

    /// The bytes of the body.
    #[inline]
    pub fn body_len(&self) -> usize {
        self.size as usize - RECORD_HEADER_SIZE
    }
}

/// Makes and checks the checksums of the records of one life of one store.
///
/// A record's checksum is the CRC of all of it but the checksum itself, continued from a number that is
/// made of store, life and offset, which the record does not hold. So no record of a former life, of another
/// store or at another place verifies.
#[derive(Clone, Copy, Debug)]
pub struct Seal {
    life: u32,
}

/// Spreads neighbouring offsets over all values (Fibonacci hashing; Knuth, TAOCP vol. 3, 6.4).
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

impl Seal {
    /// For the records of a life. `store` is the first half of the store's id.
    pub fn new(store: u64, life: u64) -> Self {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&store.to_le_bytes());
        if holds(Rule::SealLife) {
            bytes[8..].copy_from_slice(&life.to_le_bytes());
        }
        Self {
            life: checksum(&bytes),
        }
    }

    /// What the checksum of the record with that offset is continued from.
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // the upper half of a product
    fn start(self, offset: u64) -> u32 {
        let offset = if holds(Rule::SealOffset) { offset } else { 0 };
        ((offset ^ u64::from(self.life)).wrapping_mul(SPREAD) >> 32) as u32
    }

    /// The checksum of a record, of which all but the first four bytes come in these parts.
    #[inline]
    pub fn checksum(self, offset: u64, parts: &[&[u8]]) -> u32 {
        let mut hasher = Hasher::new_with_initial(self.start(offset));
        parts.iter().for_each(|part| hasher.update(part));
        hasher.finalize()
    }

    /// Whether `record`, header and body, is the whole record of that offset.
    #[inline]
    pub fn verifies(self, offset: u64, record: &[u8]) -> bool {
        let Some((sum, rest)) = record.split_first_chunk::<4>() else {
            return false;
        };
        let mut hasher = Hasher::new_with_initial(self.start(offset));
        hasher.update(rest);
        !holds(Rule::RecordChecksum) || hasher.finalize() == u32::from_le_bytes(*sum)
    }
}
