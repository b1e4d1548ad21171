//! A record's header, and the checksum that ties a record to its offset and its life.

use super::{Fields, Hasher};

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
    /// Writes it.
    #[inline]
    pub fn encode(&self) -> [u8; RECORD_HEADER_SIZE] {
        let mut bytes = [0; RECORD_HEADER_SIZE];
        bytes[..4].copy_from_slice(&self.checksum.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.size.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.time_ms.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.delta_ms.to_le_bytes());
        bytes[20..22].copy_from_slice(&self.key_len.to_le_bytes());
        bytes[22..].copy_from_slice(&self.extra_len.to_le_bytes());
        bytes
    }

    /// Reads the header in front of `bytes`. `None` when it is none: its lengths do not fit each other,
    /// or there is nothing. Whether the record verifies, [`Seal::verifies`] tells.
    #[inline]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields(bytes.get(..RECORD_HEADER_SIZE)?);
        let header = Self {
            checksum: fields.u32(),
            size: fields.u32(),
            time_ms: fields.u64(),
            delta_ms: fields.u32(),
            key_len: fields.u16(),
            extra_len: fields.u16(),
        };
        let least =
            RECORD_HEADER_SIZE + usize::from(header.key_len) + usize::from(header.extra_len);
        (header.size as usize >= least).then_some(header)
    }

    /// The bytes of the body.
    pub fn body_len(&self) -> usize {
        self.size as usize - RECORD_HEADER_SIZE
    }
}

/// Makes and checks the checksums of the records of one life of one store.
///
/// A checksum covers store, life and offset, which the record does not hold, and all of the record but
/// the checksum itself. So no record of a former life, of another store or at another place verifies.
#[derive(Clone, Debug)]
pub struct Seal {
    hasher: Hasher,
}

impl Seal {
    /// For the records of a life. `store` is the first half of the store's id.
    pub fn new(store: u64, life: u64) -> Self {
        let mut hasher = Hasher::new();
        hasher.update(&store.to_le_bytes());
        hasher.update(&life.to_le_bytes());
        Self { hasher }
    }

    /// The checksum of the record with this header (its own checksum left out) and body.
    #[inline]
    pub fn checksum(&self, offset: u64, header: &[u8; RECORD_HEADER_SIZE], body: &[u8]) -> u32 {
        let mut prefix = [0; 8 + RECORD_HEADER_SIZE - 4];
        prefix[..8].copy_from_slice(&offset.to_le_bytes());
        prefix[8..].copy_from_slice(&header[4..]);
        let mut hasher = self.hasher.clone();
        hasher.update(&prefix);
        hasher.update(body);
        hasher.finalize()
    }

    /// Whether `record`, header and body, is the whole record of that offset.
    #[inline]
    pub fn verifies(&self, offset: u64, record: &[u8]) -> bool {
        let Some((header, body)) = record.split_first_chunk::<RECORD_HEADER_SIZE>() else {
            return false;
        };
        let [a, b, c, d, ..] = *header;
        self.checksum(offset, header, body) == u32::from_le_bytes([a, b, c, d])
    }
}
