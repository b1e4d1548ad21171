//! The memory of a ring whose process died: found, counted, gone on with, drained and appended to.

#![no_main]

use std::sync::Arc;
use std::sync::atomic::Ordering;

use forebay::record::{Record, SOURCE_NAME_MAX};
use forebay::ring::{Options, Remains, Ring};
use forebay::storage::Memory;
use forebay::watermark::Waker;
use libfuzzer_sys::fuzz_target;

const SIZE: u32 = 65_536;
const RECORDS: u32 = 16;

fuzz_target!(|data: &[u8]| {
    let memory = Memory::private(Ring::memory_len(SIZE, RECORDS)).unwrap();
    // The parts that mean something lie far apart: runs of words, each with its place in front.
    let mut rest = data;
    while let Some((head, more)) = rest.split_first_chunk::<4>() {
        let place = usize::from(u16::from_le_bytes([head[0], head[1]]));
        let count = usize::from(head[2] % 16) + 1;
        let words = memory.words().iter().skip(place);
        for (word, bytes) in words.zip(more.chunks_exact(8)).take(count) {
            word.store(u64::from_le_bytes(bytes.try_into().unwrap()), Ordering::Relaxed);
        }
        rest = more.get(count * 8..).unwrap_or_default();
    }
    let options = Options {
        size: SIZE,
        records_max: RECORDS,
        body_len_max: SIZE / 4,
        first_offset: 0,
    };
    let Some(remains) = Remains::find(memory, options) else {
        return;
    };
    let (first, end) = (remains.options().first_offset, remains.end());
    assert!(end - first <= u64::from(RECORDS));
    let start = data.first().map_or(0, |byte| u64::from(*byte));
    let start = first + start % (end - first + 1);
    let count = remains.count(start);
    let holes: u64 = remains.holes(start).iter().map(|hole| hole.end - hole.start).sum();
    assert_eq!(count + holes, end - start);
    remains.sources(start, |_, source| assert!(source.name.len() <= SOURCE_NAME_MAX));
    let (ring, mut consumer) = remains.adopt(start, Arc::new(Waker::new()));
    let mut taken = 0;
    for _ in 0..2 * RECORDS {
        match consumer.take(|_| true) {
            Some(_) => taken += 1,
            None => break,
        }
    }
    assert!(taken <= RECORDS, "{taken}");
    consumer.release();
    let _ = ring.append(&Record::new(b"k", 1, b"after"));
});
