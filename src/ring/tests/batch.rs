//! Batches: all or none, next to each other, wherever they start.

use super::*;

fn append_batch(ring: &Ring, payloads: &[Vec<u8>]) -> Result<std::ops::Range<u64>, Refusal> {
    let records: Vec<_> = payloads
        .iter()
        .map(|payload| Record::new(b"key", 7, payload))
        .collect();
    ring.append_batch(&records)
}

/// A random number below `bound`.
fn below(seed: &mut u64, bound: u64) -> u64 {
    *seed = seed
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) % bound
}

#[test]
fn a_batch_comes_out_in_order_with_its_offsets() {
    let (ring, mut consumer) = ring(4096, 100, 40);
    let payloads = [b"a".to_vec(), Vec::new(), b"telemetry".to_vec()];
    assert_eq!(append_batch(&ring, &payloads), Ok(40..43));
    assert_eq!(append(&ring, b"single"), Ok(43));
    assert_eq!(append_batch(&ring, &[]), Ok(44..44), "nothing is taken");
    assert_eq!(append_batch(&ring, &payloads[..1]), Ok(44..45));
    for (at, payload) in payloads.iter().enumerate() {
        assert_eq!(take(&mut consumer), Some((40 + at as u64, payload.clone())));
    }
    assert_eq!(take(&mut consumer), Some((43, b"single".to_vec())));
    assert_eq!(take(&mut consumer), Some((44, b"a".to_vec())));
    assert_eq!(take(&mut consumer), None);
}

/// Every place at which a batch can start, so that the ring's end comes before, within and behind each of
/// its records.
#[test]
fn a_batch_may_start_anywhere_in_the_ring() {
    let steps = if cfg!(miri) { 4096 / 8 / 37 } else { 4096 / 8 };
    for step in 0..steps {
        let (ring, mut consumer) = ring(4096, 1000, u64::from(u32::MAX) - 2);
        let mut left = (4096 / 8 / steps) * step * 8;
        let mut first = u64::from(u32::MAX) - 2;
        // Records of key and header, at least 24 bytes, up to the place.
        while left >= 24 {
            let size = left.min(1000);
            let size = if (1..24).contains(&(left - size)) {
                size - 24
            } else {
                size
            };
            append(&ring, &vec![9; size - 19]).unwrap();
            take(&mut consumer).unwrap();
            left -= size;
            first += 1;
        }
        consumer.release();
        let payloads: Vec<_> = (1..6u8).map(|n| vec![n; usize::from(n) * 41]).collect();
        for _ in 0..2 {
            assert_eq!(append_batch(&ring, &payloads), Ok(first..first + 5));
            for payload in &payloads {
                assert_eq!(take(&mut consumer), Some((first, payload.clone())));
                first += 1;
            }
        }
        consumer.rewind();
        assert_eq!(
            take(&mut consumer),
            Some((first - 10, payloads[0].clone())),
            "they can be taken again"
        );
    }
}

#[test]
fn a_batch_over_its_bounds_is_refused_whatever_is_free() {
    let (ring, mut consumer) = ring(4096, 8, 0);
    let sized = |len: usize, count: usize| vec![vec![1; len]; count];
    // Header 16, key 3, and 237: 256 each, four of them a quarter.
    assert_eq!(append_batch(&ring, &sized(237, 4)), Ok(0..4));
    assert_eq!(
        append_batch(&ring, &sized(238, 4)),
        Err(Refusal::BatchTooLarge)
    );
    assert_eq!(
        append_batch(&ring, &sized(0, 9)),
        Err(Refusal::BatchTooLarge)
    );
    let mut one_is_long = sized(0, 2);
    one_is_long.push(vec![0; 1022]);
    assert_eq!(append_batch(&ring, &one_is_long), Err(Refusal::TooLong));
    assert_eq!(
        append_batch(&ring, &sized(1021, 1)),
        Ok(4..5),
        "as long as a single one may be"
    );
    assert_eq!(ring.next_offset(), 5, "nothing was claimed for those");
    while take(&mut consumer).is_some() {}
    consumer.release();
    assert_eq!(append_batch(&ring, &sized(0, 8)), Ok(5..13));
}

/// Too little room for the last record is too little for the first.
#[test]
fn a_batch_that_does_not_fit_leaves_nothing() {
    let (ring, mut consumer) = ring(4096, 10, 0);
    for _ in 0..8 {
        append(&ring, &[1; 10]).unwrap();
    }
    let three = vec![b"x".to_vec(); 3];
    assert_eq!(append_batch(&ring, &three), Err(Refusal::Full));
    assert_eq!(append_batch(&ring, &three[..2]), Ok(8..10));
    while take(&mut consumer).is_some() {}
    consumer.release();
    for _ in 0..3 {
        append(&ring, &[1; 1000]).unwrap();
    }
    let large = vec![vec![1; 480]; 2];
    assert_eq!(append_batch(&ring, &large), Err(Refusal::Full));
    assert_eq!(append_batch(&ring, &large[..1]), Ok(13..14));
    ring.close();
    assert_eq!(append_batch(&ring, &three), Err(Refusal::Closed));
    assert_eq!(append_batch(&ring, &[]), Err(Refusal::Closed));
    assert_eq!(ring.next_offset(), 14);
}

/// A batch of which only the first records are committed gives out those: it is all or none at the claim.
#[test]
fn a_batch_that_is_being_filled_gives_out_what_is_committed() {
    let (ring, mut consumer) = ring(4096, 10, 0);
    let claimed = ring
        .claim_places(2, |position| (position, position + 48))
        .unwrap();
    for (number, payload) in [(0, b"one"), (1, b"two")] {
        assert!(consumer.is_held_up());
        assert_eq!(take(&mut consumer), None);
        let start = claimed.start + number * 24;
        ring.fill(start, &Record::new(b"key", 7, payload));
        ring.commit(start, number);
        assert_eq!(take(&mut consumer), Some((number.into(), payload.to_vec())));
    }
    assert!(!consumer.is_held_up());
}

/// `G-021`, `G-026`: batches and single records by eight threads into a ring that is often full. Each batch
/// is there as a whole, at the offsets that its producer was told, with nothing in between; one that was
/// refused has left nothing.
#[test]
fn batches_are_never_torn_under_eight_producers() {
    let each: u64 = if cfg!(miri) { 6 } else { 10_000 };
    let (ring, mut consumer) = ring(1 << 13, 60, 0);
    let producers: Vec<_> = (0..8u64)
        .map(|producer| {
            let ring = Arc::clone(&ring);
            thread::spawn(move || {
                let (mut seed, mut done, mut refused) = (producer, Vec::new(), 0u64);
                for batch in 0..each {
                    let count = below(&mut seed, 20);
                    let payloads: Vec<_> = (0..count)
                        .map(|n| {
                            let id = (producer << 48 | batch << 16 | n).to_le_bytes();
                            let more = below(&mut seed, 60);
                            [&id[..], &[0; 64][..usize::try_from(more).unwrap()]].concat()
                        })
                        .collect();
                    let offsets = loop {
                        match append_batch(&ring, &payloads) {
                            Ok(offsets) => break offsets,
                            Err(refusal) => assert_eq!(refusal, Refusal::Full),
                        }
                        refused += 1;
                        thread::yield_now();
                    };
                    assert_eq!(offsets.end - offsets.start, count);
                    done.push(offsets);
                }
                (done, refused)
            })
        })
        .collect();
    let mut seen = Vec::new();
    while !(producers.iter().all(thread::JoinHandle::is_finished)
        && seen.len() as u64 == ring.next_offset())
    {
        // Not everything, so that the ring's end and a full ring come at every place.
        for _ in 0..7 {
            let Some((offset, payload)) = take(&mut consumer) else {
                break;
            };
            assert_eq!(offset, seen.len() as u64);
            seen.push(u64::from_le_bytes(payload[..8].try_into().unwrap()));
        }
        consumer.release();
        thread::yield_now();
    }
    let (mut records, mut refusals) = (0, 0);
    for (producer, thread) in (0u64..).zip(producers) {
        let (done, refused) = thread.join().unwrap();
        refusals += refused;
        for (batch, offsets) in (0u64..).zip(done) {
            for (n, offset) in (0u64..).zip(offsets) {
                let id = producer << 48 | batch << 16 | n;
                assert_eq!(seen[usize::try_from(offset).unwrap()], id);
                records += 1;
            }
        }
    }
    assert_eq!(records, seen.len(), "nothing else is in the ring");
    assert!(refusals > 0, "the ring was never full");
}

/// Who waits for room is woken by the release and by the end, and by nothing else.
#[test]
fn released_bytes_are_told_to_those_who_wait() {
    use crate::clock::{Clock, Mono};
    use crate::watermark::Waited;

    /// Miri has no clock that goes on while the machine sleeps.
    struct Still;
    impl Clock for Still {
        fn mono(&self) -> Mono {
            Mono(5)
        }
        fn wall_ms(&self) -> u64 {
            0
        }
        fn boot(&self) -> u64 {
            0
        }
    }

    let (ring, mut consumer) = ring(4096, 2, 5);
    append(&ring, b"").unwrap();
    append(&ring, b"").unwrap();
    take(&mut consumer);
    assert_eq!(ring.released().wait(6, &Still, Mono(5)), Waited::TimedOut);
    consumer.release();
    assert_eq!(ring.released().get(), 6);
    assert_eq!(ring.released().wait(6, &Still, Mono(5)), Waited::Reached);
    ring.close();
    assert_eq!(ring.released().wait(7, &Still, Mono(5)), Waited::Closed);
    consumer.rewind();
    take(&mut consumer);
    consumer.release();
    assert_eq!(ring.released().get(), 7, "what is left is still released");
}
