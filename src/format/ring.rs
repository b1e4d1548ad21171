//! The head of a ring in shared memory: whose it is, and its bounds.

use super::{Fault, Fields, StoreId, Writer, seal, verifies};

/// The bytes of the head.
pub const RING_HEAD_SIZE: usize = 80;
/// The format of the ring that this code makes and takes.
pub const RING_FORMAT: u16 = 1;

const MAGIC: &[u8; 8] = b"fbayRNG\n";

/// The head of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RingHead {
    /// The store's id.
    pub store: StoreId,
    /// The store's epoch.
    pub epoch: u64,
    /// The boot in which it was made. Of another one nothing is taken: its memory was written to a disk
    /// that nobody had synced.
    pub boot: u64,
    /// The bytes for records.
    pub size: u32,
    /// The most records.
    pub records_max: u32,
    /// The longest body.
    pub body_len_max: u32,
}

impl RingHead {
    /// The head as it is written.
    pub fn encode(&self) -> [u8; RING_HEAD_SIZE] {
        let mut bytes = [0; RING_HEAD_SIZE];
        Writer::new(&mut bytes)
            .skip(4)
            .put(MAGIC)
            .u16(RING_FORMAT)
            .skip(2)
            .put(&self.store.0)
            .u64(self.epoch)
            .u64(self.boot)
            .u32(self.size)
            .u32(self.records_max)
            .u32(self.body_len_max);
        seal(&mut bytes);
        bytes
    }

    /// The head in these bytes. What a newer format says is not known.
    pub fn decode(bytes: &[u8; RING_HEAD_SIZE]) -> Result<Self, Fault> {
        let mut fields = Fields(bytes);
        fields.skip(4);
        let (magic, format) = (fields.array::<8>(), fields.u16());
        if magic != *MAGIC || !verifies(bytes) {
            return Err(Fault::Invalid);
        }
        if format != RING_FORMAT {
            return Err(Fault::Newer(format));
        }
        fields.skip(2);
        Ok(Self {
            store: StoreId(fields.array()),
            epoch: fields.u64(),
            boot: fields.u64(),
            size: fields.u32(),
            records_max: fields.u32(),
            body_len_max: fields.u32(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_of_which_any_byte_is_changed_is_none() {
        let head = RingHead {
            store: StoreId([7; 16]),
            epoch: 1,
            boot: 2,
            size: 4096,
            records_max: 16,
            body_len_max: 1024,
        };
        let bytes = head.encode();
        assert_eq!(RingHead::decode(&bytes), Ok(head));
        for at in 0..bytes.len() {
            let mut bytes = bytes;
            bytes[at] ^= 1;
            assert_eq!(RingHead::decode(&bytes), Err(Fault::Invalid), "byte {at}");
        }
        let mut newer = bytes;
        newer[12] = 2;
        seal(&mut newer);
        assert_eq!(RingHead::decode(&newer), Err(Fault::Newer(2)));
    }
}
