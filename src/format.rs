//! Every byte on disk: encode and decode, nothing else. The twin of `docs/format.md`.
//!
//! ```text
//!  segment:     | header | header (copy) | page | page | page …          each 4096 bytes
//!  page:        | page header | rest of a record | record | record … | zeros |
//!  record:      | record header | extra | key | payload |
//!  checkpoint:  | slot 0: half, same half | slot 1 … | slot 2 … |
//! ```
//!
//! **Invariants.** Decoding never panics, whatever the bytes are, and gives back nothing that does not
//! verify: each structure has a checksum that covers its lengths. All numbers are little-endian. The
//! checksum is CRC-32 (IEEE 802.3), from crc32fast, which no other file uses.

use crc32fast::Hasher;

mod checkpoint;
mod page;
mod record;
mod ring;
mod segment;

pub use checkpoint::{
    CHECKPOINT_FILE_SIZE, Checkpoint, CursorEntry, HALF_SIZE_MAX, HALF_SIZE_MIN, LEDGER_MAX, Loss,
    Reason, SLOT_COUNT, SLOT_SIZE, SOURCES_MAX, SourceEntry,
};
pub use page::{PAGE_BODY_SIZE, PAGE_HEADER_SIZE, PageHeader};
pub use record::{RECORD_HEADER_SIZE, RecordHeader, Seal, record_size};
pub use ring::{RING_FORMAT, RING_HEAD_SIZE, RingHead};
pub use segment::{
    HEADER_COPIES, NAME_LEN_MAX, PAGES_MAX, PAGES_MIN, SEGMENT_HEADER_SIZE, SegmentHeader,
};

pub use crate::storage::PAGE_SIZE;

/// The format that this code writes. It reads this one and refuses newer ones.
pub const FORMAT: u16 = 1;

/// No offset is as great, nor is a distance between two: a million a second for thousands of years.
pub const OFFSET_BOUND: u64 = 1 << 60;
/// No life is as great.
pub const LIFE_BOUND: u64 = 1 << 43;

/// A store's id: random, made with the store.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StoreId(pub [u8; 16]);

impl StoreId {
    /// The first half, which every page carries.
    pub fn tag(self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}

impl std::fmt::Display for StoreId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Why a segment's header or a checkpoint is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It does not verify.
    Invalid,
    /// It verifies and names a format that is newer than [`FORMAT`].
    Newer(u16),
}

fn is_offset(value: u64) -> bool {
    value < OFFSET_BOUND
}

fn is_life(value: u64) -> bool {
    value < LIFE_BOUND
}

/// The checksum of `bytes`.
fn checksum(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// Puts the checksum of `bytes[4..]` in front.
fn seal(bytes: &mut [u8]) {
    let sum = checksum(&bytes[4..]);
    bytes[..4].copy_from_slice(&sum.to_le_bytes());
}

/// Whether the checksum in front is that of the rest.
fn verifies(bytes: &[u8]) -> bool {
    let mut fields = Fields(bytes);
    fields.u32() == checksum(&bytes[4..])
}

/// Writes fields one after the other.
struct Writer<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl<'a> Writer<'a> {
    /// A writer over zeroed bytes.
    fn new(bytes: &'a mut [u8]) -> Self {
        bytes.fill(0);
        Self { bytes, at: 0 }
    }

    fn put(&mut self, bytes: &[u8]) -> &mut Self {
        self.bytes[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
        self
    }

    fn skip(&mut self, count: usize) -> &mut Self {
        self.at += count;
        self
    }

    fn u8(&mut self, value: u8) -> &mut Self {
        self.put(&[value])
    }

    fn u16(&mut self, value: u16) -> &mut Self {
        self.put(&value.to_le_bytes())
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.put(&value.to_le_bytes())
    }

    fn u64(&mut self, value: u64) -> &mut Self {
        self.put(&value.to_le_bytes())
    }
}

/// Reads fields one after the other; behind the end everything is zero, so callers check lengths once.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        match self.0.split_first_chunk::<N>() {
            Some((taken, rest)) => {
                self.0 = rest;
                *taken
            }
            None => {
                self.0 = &[];
                [0; N]
            }
        }
    }

    fn skip(&mut self, count: usize) {
        self.0 = self.0.get(count..).unwrap_or_default();
    }

    fn u8(&mut self) -> u8 {
        let [value] = self.array();
        value
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }
}

/// A length as it is written. Every length here is bounded far below the type's limit.
fn narrow<T: TryFrom<usize>>(len: usize) -> T {
    let Ok(narrow) = T::try_from(len) else {
        panic!("a length of {len} bytes is over its bound");
    };
    narrow
}
