//! A ring whose process is gone: memory that is mapped again.

use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;

use super::super::Refusal;
use super::*;
use crate::record::Record;
use crate::storage::{Real, Storage, remove_tree};

const SIZE: u32 = 4096;
const RECORDS_MAX: u32 = 16;

/// Shared memory that is gone when the test ends.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let name = format!("forebay-{}-remains-{name}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    fn map(&self, len: Option<usize>) -> Memory {
        let path = self.0.join("ring");
        Real.shared_behind(&path, FRONT_LEN, len).unwrap()
    }

    fn new_ring(&self, first_offset: u64) -> (Arc<Ring>, Consumer) {
        let len = Ring::memory_len(SIZE, RECORDS_MAX) - FRONT_LEN;
        let memory = self.map(Some(len));
        sign(&memory, &[1; HEAD_LEN], first_offset, first_offset);
        let options = Options {
            first_offset,
            ..options()
        };
        Ring::new(memory, options, Arc::new(Waker::new()))
    }

    fn find(&self) -> Option<Remains> {
        Remains::find(self.map(None), options())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        remove_tree(&self.0);
    }
}

fn options() -> Options {
    Options {
        size: SIZE,
        records_max: RECORDS_MAX,
        body_len_max: SIZE / 4,
        first_offset: 0,
    }
}

fn adopt(remains: Remains, start: u64) -> (Arc<Ring>, Consumer) {
    remains.adopt(start, Arc::new(Waker::new()))
}

fn append(ring: &Ring, payload: &[u8]) -> Result<u64, Refusal> {
    ring.append(&Record::new(b"key", 7, payload))
}

fn take_all(consumer: &mut Consumer) -> Vec<(u64, Vec<u8>)> {
    let mut taken = Vec::new();
    let mut take = |consumer: &mut Consumer| {
        consumer.take(|record| {
            let key_len = usize::from(record.key_len + record.extra_len);
            taken.push((record.offset, record.body[key_len..].to_vec()));
            true
        })
    };
    while take(consumer).is_some() {}
    taken
}

/// What was released is not there again, what was only taken is.
#[test]
fn what_was_not_released_comes_out_again_with_its_offsets() {
    let place = Place::new("again");
    let (ring, mut consumer) = place.new_ring(40);
    for payload in [b"a", b"b", b"c", b"d"] {
        append(&ring, payload).unwrap();
    }
    consumer.take(|_| true);
    consumer.release();
    consumer.take(|_| true);
    drop((ring, consumer));

    let remains = place.find().unwrap();
    assert_eq!((remains.options().first_offset, remains.end()), (41, 44));
    assert_eq!((remains.count(41), remains.count(43)), (3, 1));
    assert!(remains.is_of_run(40) && !remains.is_of_run(41));
    // The log had one more than was released.
    let (ring, mut consumer) = adopt(remains, 42);
    assert_eq!(append(&ring, b"e"), Ok(44));
    let expected = [
        (42, b"c".to_vec()),
        (43, b"d".to_vec()),
        (44, b"e".to_vec()),
    ];
    assert_eq!(take_all(&mut consumer), expected);
    consumer.release();
    assert_eq!(consumer.queued(), 0);
}

/// Producers died between claim and commit: those before, between and behind are there, in order.
#[test]
fn a_claim_never_committed_is_void_and_holds_up_nobody() {
    let place = Place::new("void");
    let (ring, consumer) = place.new_ring(0);
    append(&ring, b"first").unwrap();
    let _ = ring.claim(24).unwrap();
    let _ = ring.claim(1024).unwrap();
    append(&ring, b"behind").unwrap();
    let last = ring.claim(64).unwrap();
    ring.fill(
        last.start,
        &Record::new(b"key", 7, b"filled, not committed"),
    );
    drop((ring, consumer));

    let remains = place.find().unwrap();
    assert_eq!((remains.end(), remains.count(0)), (4, 2));
    assert_eq!(
        Vec::from_iter(remains.holes(0).into_iter().flatten()),
        [1, 2]
    );
    let (ring, mut consumer) = adopt(remains, 0);
    assert!(!consumer.is_held_up());
    // And once more: what is void stays void.
    drop((ring, consumer));
    let (ring, mut consumer_again) = adopt(place.find().unwrap(), 0);
    let expected = [(0, b"first".to_vec()), (3, b"behind".to_vec())];
    assert_eq!(take_all(&mut consumer_again), expected);
    assert_eq!(
        append(&ring, b"next"),
        Ok(4),
        "the last claim was never returned"
    );
    consumer_again.rewind();
    assert_eq!(take_all(&mut consumer_again).len(), 3);
    consumer = consumer_again;
    consumer.release();
    assert_eq!(take_all(&mut consumer), []);
}

/// Source positions are those of records that are there.
#[test]
fn source_positions_are_found_in_the_ring() {
    let place = Place::new("sources");
    let (ring, consumer) = place.new_ring(0);
    for position in [b"one", b"two"] {
        let source = Source {
            name: "lines",
            position,
        };
        let properties = [("unit", &b"bar"[..])];
        let record = Record {
            source: Some(source),
            properties: &properties,
            ..Record::new(b"key", 7, b"")
        };
        ring.append(&record).unwrap();
    }
    drop((ring, consumer));
    let mut found = Vec::new();
    place.find().unwrap().sources(1, |offset, source| {
        found.push((offset, source.name.to_owned(), source.position.to_vec()));
    });
    assert_eq!(found, [(1, "lines".to_owned(), b"two".to_vec())]);
}

fn next(seed: &mut u64) -> usize {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    usize::try_from(*seed >> 40).unwrap()
}

/// Hundreds of processes, one after the other, die at any point with a ring that wraps; each finds what the
/// one before had not released, whole and in order.
#[test]
fn any_number_of_deaths_lose_nothing_that_was_accepted() {
    let place = Place::new("deaths");
    let (mut ring, mut consumer) = place.new_ring(u64::from(u32::MAX) - 300);
    let mut released = ring.next_offset();
    let mut seed = 3;
    let payload =
        |offset: u64| vec![offset.to_le_bytes()[0]; usize::try_from(offset * 37 % 900).unwrap()];
    let mut holes = std::collections::BTreeSet::new();
    for _ in 0..300 {
        for _ in 0..next(&mut seed) % 40 {
            match next(&mut seed) % 4 {
                0..=1 => {
                    let offset = ring.next_offset();
                    let _ = append(&ring, &payload(offset));
                }
                2 => {
                    consumer.take(|record| {
                        assert!(!holes.contains(&record.offset));
                        assert_eq!(record.body[3..], payload(record.offset));
                        true
                    });
                }
                _ => {
                    consumer.release();
                    released = consumer.released_offset();
                }
            }
        }
        let offset = ring.next_offset();
        if next(&mut seed).is_multiple_of(2) && ring.claim(24 + 8 * 5).is_ok() {
            // It may be the last one: then it is as if it had never been.
            match append(&ring, &payload(offset + 1)) {
                Ok(_) => drop(holes.insert(offset)),
                Err(refusal) => assert_eq!(refusal, Refusal::Full),
            }
        }
        let end = ring.next_offset();
        drop((ring, consumer));
        let remains = place.find().unwrap();
        assert_eq!(remains.options().first_offset, released);
        let found: std::collections::BTreeSet<u64> =
            remains.holes(released).into_iter().flatten().collect();
        assert_eq!(
            found,
            holes.range(released..remains.end()).copied().collect()
        );
        assert!(remains.end() == end || remains.end() + 1 == end);
        let step = remains.end() - released + 1;
        let start = released + next(&mut seed) as u64 % step;
        (ring, consumer) = adopt(remains, start);
        released = start;
    }
    assert!(holes.len() > 20);
}

/// Whatever the bytes are: no panic, no endless loop, nothing beyond the bounds; and the ring is good for
/// new records afterwards.
#[test]
fn no_bytes_in_the_ring_do_any_harm() {
    let place = Place::new("bytes");
    let (ring, consumer) = place.new_ring(5);
    for n in 0..12 {
        append(&ring, &vec![n; usize::from(n) * 20]).unwrap();
    }
    drop((ring, consumer));
    let words = |memory: &Memory| {
        memory
            .words()
            .iter()
            .map(|word| word.load(Relaxed))
            .collect()
    };
    let good: Vec<u64> = words(&place.map(None));
    let (mut seed, mut found) = (1, 0);
    for _ in 0..5000 {
        let memory = place.map(None);
        for (word, good) in memory.words().iter().zip(&good) {
            word.store(*good, Relaxed);
        }
        let from = FRONT_LEN / 8 + 32;
        for _ in 0..=next(&mut seed) % 6 {
            // Mostly where slots and headers are.
            let at = match next(&mut seed) % 4 {
                0 => from + next(&mut seed) % 2,
                1 => HEADER_LEN / 8 + next(&mut seed) % 16,
                _ => HEADER_LEN / 8 + next(&mut seed) % 200,
            };
            let word = &memory.words()[at];
            match next(&mut seed) % 3 {
                0 => word.fetch_xor(1 << (next(&mut seed) % 64), Relaxed),
                1 => word.swap(seed, Relaxed),
                _ => word.swap(
                    memory.words()[from + next(&mut seed) % 150].load(Relaxed),
                    Relaxed,
                ),
            };
        }
        let Some(remains) = Remains::find(memory, options()) else {
            continue;
        };
        found += 1;
        let first = remains.options().first_offset;
        let count = remains.end() - first;
        assert!(count <= u64::from(RECORDS_MAX));
        let start = first + next(&mut seed) as u64 % (count + 1);
        remains.sources(start, |_, _| {});
        let expected = remains.count(start);
        let (ring, mut consumer) = adopt(remains, start);
        assert_eq!(take_all(&mut consumer).len() as u64, expected);
        consumer.release();
        let offset = append(&ring, b"new").unwrap();
        assert_eq!(take_all(&mut consumer), [(offset, b"new".to_vec())]);
    }
    assert!(found > 10);
}

/// Bounds that no ring has are refused.
#[test]
fn bounds_that_do_not_go_with_the_memory_are_none() {
    let place = Place::new("bounds");
    drop(place.new_ring(0));
    let good = options();
    for bad in [
        Options { size: 0, ..good },
        Options { size: 4104, ..good },
        Options { size: 8192, ..good },
        Options {
            size: 1 << 31,
            ..good
        },
        Options {
            records_max: 0,
            ..good
        },
        Options {
            records_max: u32::MAX,
            ..good
        },
        Options {
            records_max: 1 << 20,
            ..good
        },
        Options {
            body_len_max: SIZE,
            ..good
        },
    ] {
        assert!(Remains::find(place.map(None), bad).is_none(), "{bad:?}");
    }
    assert!(Remains::find(place.map(None), good).is_some());
}
