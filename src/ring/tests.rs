//! The ring in plain threads; `tests/ring_loom.rs` has its orderings.

use super::*;
use std::thread;

fn ring(size: u32, records_max: u32, first_offset: u64) -> (Arc<Ring>, Consumer) {
    let memory =
        Memory::private(Ring::memory_len(size, records_max)).expect("a few pages can be had");
    let options = Options {
        size,
        records_max,
        body_len_max: size / 4,
        first_offset,
    };
    Ring::new(memory, options, Arc::new(Waker::new()))
}

fn append(ring: &Ring, payload: &[u8]) -> Result<u64, Refusal> {
    ring.append(&Record::new(b"key", 7, payload))
}

/// Takes the next record and checks that it is whole; returns offset and payload.
fn take(consumer: &mut Consumer) -> Option<(u64, Vec<u8>)> {
    let mut taken = None;
    consumer.take(|record| {
        assert_eq!(
            (record.time_ms, record.extra_len, record.key_len),
            (7, 0, 3)
        );
        assert_eq!(&record.body[..3], b"key");
        taken = Some((record.offset, record.body[3..].to_vec()));
        true
    });
    taken
}

#[test]
fn records_come_out_in_order_with_their_offsets() {
    let (ring, mut consumer) = ring(4096, 100, 40);
    for (at, payload) in [&b"a"[..], b"", b"telemetry"].iter().enumerate() {
        assert_eq!(append(&ring, payload), Ok(40 + at as u64));
    }
    assert_eq!(ring.next_offset(), 43);
    assert_eq!(take(&mut consumer), Some((40, b"a".to_vec())));
    assert_eq!(take(&mut consumer), Some((41, b"".to_vec())));
    assert_eq!(take(&mut consumer), Some((42, b"telemetry".to_vec())));
    assert_eq!(take(&mut consumer), None);
}

/// 500 laps of a ring, with records of all lengths that wrap, pad and fill it to the last byte.
#[test]
fn wrapping_around_loses_and_changes_nothing() {
    let (ring, mut consumer) = ring(4096, 1000, u64::from(u32::MAX) - 50);
    let (mut put, mut got, mut seed) = (0u64, 0u64, 9u64);
    let payload = |n: u64| vec![n.to_le_bytes()[0]; usize::try_from(n * 37 % 1000).unwrap()];
    while got < if cfg!(miri) { 100 } else { 5000 } {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        if seed >> 63 == 0 {
            while append(&ring, &payload(put)).is_ok() {
                put += 1;
            }
        } else {
            while let Some((offset, bytes)) = take(&mut consumer) {
                assert_eq!(
                    (offset, bytes),
                    (u64::from(u32::MAX) - 50 + got, payload(got))
                );
                got += 1;
            }
            consumer.release();
        }
    }
}

#[test]
fn a_full_ring_refuses_until_bytes_are_released() {
    let (ring, mut consumer) = ring(4096, 1000, 0);
    while append(&ring, &[1; 200]).is_ok() {}
    assert_eq!(append(&ring, &[1; 200]), Err(Refusal::Full));
    while take(&mut consumer).is_some() {}
    assert_eq!(
        append(&ring, &[1; 200]),
        Err(Refusal::Full),
        "taken is not released"
    );
    consumer.release();
    assert!(append(&ring, &[1; 200]).is_ok());
}

#[test]
fn the_bound_in_records_binds_too() {
    let (ring, mut consumer) = ring(4096, 3, 0);
    for _ in 0..3 {
        append(&ring, b"").unwrap();
    }
    assert_eq!(append(&ring, b""), Err(Refusal::Full));
    take(&mut consumer);
    consumer.release();
    assert_eq!(append(&ring, b""), Ok(3));
}

#[test]
fn a_record_over_a_quarter_is_refused() {
    let (ring, _consumer) = ring(4096, 10, 0);
    assert_eq!(append(&ring, &[0; 1022]), Err(Refusal::TooLong));
    assert!(append(&ring, &[0; 1021]).is_ok());
}

#[test]
fn rewinding_gives_the_same_records_again() {
    let (ring, mut consumer) = ring(4096, 10, 5);
    for payload in [b"a", b"b", b"c"] {
        append(&ring, payload).unwrap();
    }
    take(&mut consumer);
    consumer.release();
    take(&mut consumer);
    take(&mut consumer);
    consumer.rewind();
    assert_eq!(take(&mut consumer), Some((6, b"b".to_vec())));
    assert_eq!(consumer.released_offset(), 6);
}

/// A producer stopped between claim and commit publishes nothing, and holds up what comes behind it.
#[test]
fn uncommitted_claim_publishes_nothing() {
    let (ring, mut consumer) = ring(4096, 10, 0);
    assert!(!consumer.is_held_up());
    let claimed = ring.claim(24).unwrap();
    assert!(consumer.is_held_up());
    append(&ring, b"behind").unwrap();
    assert_eq!(take(&mut consumer), None);
    ring.fill(claimed.start, &Record::new(b"key", 7, b"late"));
    assert!(consumer.is_held_up(), "filled is not committed");
    assert_eq!(take(&mut consumer), None);
    ring.cells
        .slot(0)
        .store(pack(claimed.start, 0) | COMMITTED, Release);
    assert_eq!(take(&mut consumer), Some((0, b"late".to_vec())));
    assert_eq!(take(&mut consumer), Some((1, b"behind".to_vec())));
}

#[test]
fn a_closed_ring_refuses_and_gives_out_what_it_has() {
    let (ring, mut consumer) = ring(4096, 10, 0);
    append(&ring, b"last").unwrap();
    ring.close();
    assert_eq!(append(&ring, b"late"), Err(Refusal::Closed));
    assert_eq!(ring.next_offset(), 1);
    assert_eq!(take(&mut consumer), Some((0, b"last".to_vec())));
    let (ring, _consumer) = self::ring(4096, 10, 0);
    ring.poison();
    assert_eq!(append(&ring, b"late"), Err(Refusal::Poisoned));
}

/// At most one wake-up per sleep, and while a sync is due anyway only for half a ring or a waiter.
#[test]
fn wake_ups_are_for_what_the_syncer_wants() {
    let (ring, mut consumer) = ring(4096, 8, 0);
    append(&ring, b"").unwrap();
    assert_eq!(ring.wakes(), 0, "it is awake");
    assert!(!consumer.fall_asleep(Asleep::Idle, 0), "there is a record");
    assert!(consumer.fall_asleep(Asleep::UntilDue, 0));
    append(&ring, b"").unwrap();
    append(&ring, b"").unwrap();
    append(&ring, b"").unwrap();
    assert_eq!(ring.wakes(), 0, "four of eight are half, not more");
    append(&ring, b"").unwrap();
    append(&ring, b"").unwrap();
    assert_eq!(ring.wakes(), 1, "half full, once");
    assert!(
        !consumer.fall_asleep(Asleep::UntilDue, 0),
        "still half full"
    );
    while take(&mut consumer).is_some() {}
    consumer.release();
    assert!(consumer.fall_asleep(Asleep::Idle, 6));
    ring.demand(6);
    assert_eq!(ring.wakes(), 2, "somebody waits");
    assert!(consumer.fall_asleep(Asleep::UntilDue, 6));
    ring.demand(7);
    assert!(
        !consumer.fall_asleep(Asleep::UntilDue, 6),
        "the wait is not over"
    );
    assert_eq!(ring.wakes(), 3);
}

/// `G-021`: eight threads, and each gets the offset at which its own record stands.
#[test]
fn offsets_are_true_under_eight_producers() {
    let each: u64 = if cfg!(miri) { 30 } else { 50_000 };
    let (ring, mut consumer) = ring(1 << 16, 500, 0);
    let producers: Vec<_> = (0..8u64)
        .map(|producer| {
            let ring = Arc::clone(&ring);
            thread::spawn(move || {
                let mut offsets = Vec::new();
                for n in 0..each {
                    let payload = (producer << 32 | n).to_le_bytes();
                    let padded =
                        [&payload[..], &[0; 64][..usize::try_from(n % 60).unwrap()]].concat();
                    loop {
                        match append(&ring, &padded) {
                            Ok(offset) => break offsets.push((offset, producer << 32 | n)),
                            Err(refusal) => assert_eq!(refusal, Refusal::Full),
                        }
                        thread::yield_now();
                    }
                }
                offsets
            })
        })
        .collect();
    let mut seen = Vec::new();
    let mut last = [None; 8];
    while (seen.len() as u64) < 8 * each {
        while let Some((offset, payload)) = take(&mut consumer) {
            assert_eq!(offset, seen.len() as u64);
            let id = u64::from_le_bytes(payload[..8].try_into().unwrap());
            let producer = usize::try_from(id >> 32).unwrap();
            assert!(
                last[producer] < Some(id),
                "a producer's records keep their order"
            );
            last[producer] = Some(id);
            seen.push(id);
        }
        consumer.release();
        thread::yield_now();
    }
    for producer in producers {
        for (offset, id) in producer.join().unwrap() {
            assert_eq!(seen[usize::try_from(offset).unwrap()], id);
        }
    }
}

mod batch;
