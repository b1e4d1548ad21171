//! What becomes of segments in which something is damaged.

use std::collections::BTreeSet;
use std::sync::Arc;

use forebay::Engine;
use forebay::clock::System;
use forebay::format::PAGE_SIZE;
use forebay::log::{Salvage, Salvaged, View};
use forebay::sink::Blocking;
use forebay::storage::Real;

use crate::common::collect::{Collect, callback_stream};
use crate::common::{LIMIT, Scratch, wait_until};

const SEGMENT: u64 = 65_536;
const BUDGET: u64 = 1 << 20;

fn payload(n: u64) -> Vec<u8> {
    format!("<record {n:06}>{}", "x".repeat(1000)).into_bytes()
}

fn open(scratch: &Scratch, damaged_bytes: u64, is_delivered: bool) -> Engine {
    let more = format!(
        r#", "buffer": {{"segmentBytes": {SEGMENT}, "maxDiskBytes": {BUDGET}, "checkpointMs": 20,
            "maxDamagedBytes": {damaged_bytes}, "maxBufferedBytes": 65536}}"#
    );
    let config = scratch.config(&callback_stream(&more));
    match is_delivered {
        true => Engine::open(&config.with_sink("test", Blocking::new(Collect::default()))),
        false => Engine::open_to_store(&config),
    }
    .unwrap()
}

/// The names of the files that are kept, and what all files of the store take.
fn kept(scratch: &Scratch) -> (BTreeSet<String>, u64) {
    let files = scratch.files("data/telemetry");
    let total = files.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    let names = files
        .iter()
        .filter_map(|(path, _)| path.file_name()?.to_str());
    let kept = names.filter(|name| name.starts_with("damaged-"));
    (kept.map(str::to_owned).collect(), total)
}

/// `L-25`: a segment with damage is kept when it is no longer needed, the oldest go when the quota is used
/// up, the budget holds, and what is not damaged in them can be salvaged.
#[test]
fn segments_with_damage_are_kept_within_their_quota() {
    let scratch = Scratch::new("damage-kept");
    let engine = open(&scratch, 2 * SEGMENT, false);
    let stream = engine.stream("telemetry").unwrap();
    for n in 0..500 {
        stream.append_durable(b"", n, &payload(n), LIMIT).unwrap();
    }
    engine.close(LIMIT).unwrap();
    let flipped = [100, 200, 300, 400];
    for n in flipped {
        for (path, mut bytes) in scratch.files("data") {
            let wanted = payload(n);
            let at = bytes.windows(wanted.len()).position(|part| part == wanted);
            if let Some(at) = at {
                bytes[at + 3] ^= 1;
                std::fs::write(path, bytes).unwrap();
            }
        }
    }
    let engine = open(&scratch, 2 * SEGMENT, true);
    let stream = engine.stream("telemetry").unwrap();
    wait_until("the rest", || stream.stats().exported_total == 496);
    let mut n = 500;
    // Until the segments of all four have been left.
    while n < 1500 {
        stream.append_durable(b"", n, &payload(n), LIMIT).unwrap();
        n += 1;
    }
    wait_until("delivery", || stream.stats().backlog == 0);
    assert_eq!(stream.stats().dropped_damage, 4);
    engine.close(LIMIT).unwrap();
    let (names, total) = kept(&scratch);
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(total <= BUDGET, "{total}");
    let dir = scratch.join("data/telemetry");
    let view = View::open(&dir, Arc::new(Real), Arc::new(System::new())).unwrap();
    let seen = view.summary().aside.iter();
    assert_eq!(
        seen.clone()
            .map(|aside| aside.name.clone())
            .collect::<BTreeSet<_>>(),
        names
    );
    let bytes: u64 = seen.map(|aside| aside.pages * PAGE_SIZE as u64).sum();
    assert!(bytes <= 2 * SEGMENT && bytes > 0, "{bytes}");

    // The newest two; and of them all but the damaged records.
    let salvage = Salvage::open(&dir, &Real, Arc::new(System::new())).unwrap();
    let mut offsets = BTreeSet::new();
    let read = salvage.read(|salvaged| {
        if let Salvaged::Record(record) = salvaged {
            offsets.insert(record.offset);
        }
        Ok::<_, ()>(())
    });
    read.unwrap().unwrap();
    for n in [300, 400] {
        assert!(!offsets.contains(&n), "{n} is damaged");
        assert!(
            offsets.contains(&(n - 1)) && offsets.contains(&(n + 1)),
            "{n}"
        );
    }
    assert!(!offsets.contains(&201), "the oldest went");

    // They stay over restarts, until there is no quota for them.
    open(&scratch, 2 * SEGMENT, true).close(LIMIT).unwrap();
    assert_eq!(kept(&scratch).0, names);
    open(&scratch, 0, true).close(LIMIT).unwrap();
    assert_eq!(kept(&scratch).0, BTreeSet::new());
}
