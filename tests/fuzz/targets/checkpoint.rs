//! Slots of a checkpoint: what decodes is encoded and decoded again to the same, and a store opens with it.

#![no_main]

use forebay::format::{Checkpoint, SLOT_SIZE};
use libfuzzer_sys::fuzz_target;
use support::{checkpoint_len, seal_file, try_all};

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = data.split_first() else {
        return;
    };
    let mut bytes = rest.to_vec();
    if first & 1 == 0 && bytes.len() >= 16 {
        bytes[4..8].copy_from_slice(b"fbCK");
        bytes[8..10].copy_from_slice(&1u16.to_le_bytes());
        let len = u32::try_from(bytes.len().min(16_384)).unwrap();
        bytes[12..16].copy_from_slice(&len.to_le_bytes());
        seal_file("checkpoint", &mut bytes);
    }
    if let Ok(checkpoint) = Checkpoint::decode(&bytes) {
        // No store comes near the bound of generations: none can follow the last one.
        if checkpoint.generation > u64::MAX >> 2 {
            return;
        }
        let mut slot = vec![0; SLOT_SIZE];
        checkpoint.encode(&mut slot);
        assert_eq!(Checkpoint::decode(&slot), Ok(checkpoint));
        slot.resize(checkpoint_len(), 0);
        try_all(&[("checkpoint".to_owned(), slot)]);
    }
});
