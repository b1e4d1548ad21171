//! The ring's orderings, checked by loom: every interleaving of small programs, and every value that a
//! load may see. Run by `RUSTFLAGS="--cfg loom" cargo test --release --test ring_loom`.
//!
//! Each ordering stronger than relaxed is then taken away in turn, and a model must fail.

#![cfg(loom)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use forebay::record::Record;
use forebay::ring::order::{Spot, WEAKENED};
use forebay::ring::{Asleep, Consumer, Options, Refusal, Ring};
use forebay::storage::Memory;
use forebay::watermark::seam::park;
use forebay::watermark::{Waited, Waker, Watermark};
use loom::sync::atomic::AtomicU32;
use loom::thread;

fn ring(size: u32, waker: &Arc<Waker>) -> (Arc<Ring>, Consumer) {
    ring_of(size, 2, waker)
}

fn ring_of(size: u32, records_max: u32, waker: &Arc<Waker>) -> (Arc<Ring>, Consumer) {
    let memory = Memory::private(Ring::memory_len(size, records_max)).unwrap();
    let options = Options {
        size,
        records_max,
        body_len_max: size / 4,
        first_offset: 0,
    };
    Ring::new(memory, options, Arc::clone(waker))
}

fn append(ring: &Ring, byte: u8) -> Result<u64, Refusal> {
    ring.append(&Record::new(&[byte], 0, &[byte; 7]))
}

fn take(consumer: &mut Consumer) -> Option<(u64, u8)> {
    let mut taken = None;
    consumer.take(|record| {
        assert!(
            record.body.iter().all(|byte| *byte == record.body[0]),
            "a whole record"
        );
        taken = Some((record.offset, record.body[0]));
        true
    });
    taken
}

fn bounded(f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(f);
}

/// Two producers, each gets its own offset, and what is taken is whole.
fn two_producers() {
    bounded(|| {
        let waker = Arc::new(Waker::new());
        let (ring, mut consumer) = ring(128, &waker);
        let producers = [1u8, 2].map(|byte| {
            let ring = Arc::clone(&ring);
            thread::spawn(move || append(&ring, byte).unwrap())
        });
        let mut seen = Vec::new();
        seen.extend(take(&mut consumer));
        seen.extend(take(&mut consumer));
        let offsets = producers.map(|producer| producer.join().unwrap());
        seen.extend(take(&mut consumer));
        seen.extend(take(&mut consumer));
        assert_eq!(seen.len(), 2);
        for (at, (offset, byte)) in seen.iter().enumerate() {
            assert_eq!(*offset, at as u64);
            assert_eq!(offsets[usize::from(*byte) - 1], *offset);
        }
    });
}

/// Bytes that the consumer has read and given back are written again by a producer: records of 48 bytes
/// in a ring of 128, so the third leaves the end unused and lies where the first was.
fn reuse() {
    bounded(|| {
        let waker = Arc::new(Waker::new());
        let (ring, mut consumer) = ring(128, &waker);
        ring.append(&Record::new(&[1], 0, &[1; 31])).unwrap();
        ring.append(&Record::new(&[2], 0, &[2; 31])).unwrap();
        let producer = {
            let ring = Arc::clone(&ring);
            thread::spawn(move || append(&ring, 3).is_ok() && append(&ring, 4).is_ok())
        };
        assert_eq!(take(&mut consumer), Some((0, 1)));
        consumer.release();
        assert_eq!(take(&mut consumer), Some((1, 2)));
        consumer.release();
        if producer.join().unwrap() {
            assert_eq!(take(&mut consumer), Some((2, 3)));
            assert_eq!(take(&mut consumer), Some((3, 4)));
        }
    });
}

/// A producer had read the claim, then other records were claimed, taken and released. When of the release
/// it saw the offset only, the ring looked full, and looking once more at the claim by a load could see the
/// old one again: the record was refused with nearly all of the ring free.
fn stale_claim() {
    bounded(|| {
        let waker = Arc::new(Waker::new());
        let (ring, mut consumer) = ring_of(128, 4, &waker);
        let producers = [&[1u8, 2][..], &[3]].map(|bytes| {
            let ring = Arc::clone(&ring);
            thread::spawn(move || {
                for byte in bytes {
                    append(&ring, *byte).expect("there is always room");
                }
            })
        });
        take(&mut consumer);
        take(&mut consumer);
        consumer.release();
        producers.map(|producer| producer.join().unwrap());
    });
}

/// The syncer sleeps without a limit, and no record is ever left lying while it does.
fn no_lost_wake_up() {
    bounded(|| {
        let waker = Arc::new(Waker::new());
        let (ring, mut consumer) = ring(128, &waker);
        let syncer = {
            let waker = Arc::clone(&waker);
            thread::spawn(move || {
                waker.register();
                loop {
                    if let Some(taken) = take(&mut consumer) {
                        consumer.wake_up();
                        return taken;
                    }
                    if consumer.fall_asleep(Asleep::Idle, 0) {
                        park(None);
                    } else {
                        thread::yield_now(); // claimed and not committed: looks again soon
                    }
                }
            })
        };
        append(&ring, 3).unwrap();
        assert_eq!(syncer.join().unwrap(), (0, 3));
        assert!(ring.wakes() <= 1, "at most one wake-up per sleep");
    });
}

/// While the syncer sleeps until a sync is due, somebody who waits gets it up.
fn no_lost_demand() {
    bounded(|| {
        let waker = Arc::new(Waker::new());
        let (ring, consumer) = ring(128, &waker);
        append(&ring, 4).unwrap();
        let syncer = {
            let waker = Arc::clone(&waker);
            thread::spawn(move || {
                waker.register();
                while !consumer.is_wanted(0) {
                    if consumer.fall_asleep(Asleep::UntilDue, 0) {
                        park(None);
                    }
                }
            })
        };
        ring.demand(1);
        syncer.join().unwrap();
    });
}

/// Who waits for a watermark sees it, and everything that was done before it.
fn watermark() {
    bounded(|| {
        let watermark = Arc::new(Watermark::new(0));
        let data = Arc::new(AtomicU32::new(0));
        let writer = {
            let (watermark, data) = (Arc::clone(&watermark), Arc::clone(&data));
            thread::spawn(move || {
                data.store(7, Ordering::Relaxed);
                watermark.advance(1);
            })
        };
        struct Never;
        impl forebay::clock::Clock for Never {
            fn mono(&self) -> forebay::clock::Mono {
                forebay::clock::Mono(0)
            }
            fn wall_ms(&self) -> u64 {
                0
            }
            fn boot(&self) -> u64 {
                0
            }
        }
        let waited = watermark.wait(1, &Never, forebay::clock::Mono::NEVER);
        assert_eq!(waited, Waited::Reached);
        assert_eq!(data.load(Ordering::Relaxed), 7);
        writer.join().unwrap();
    });
}

fn all() {
    two_producers();
    reuse();
    stale_claim();
    no_lost_wake_up();
    no_lost_demand();
    watermark();
}

/// One test, because the weakened spot is one for the whole process.
#[test]
fn holds_as_it_is_and_fails_when_any_ordering_is_weakened() {
    all();
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let unseen: Vec<Spot> = Spot::ALL
        .into_iter()
        .filter(|spot| {
            WEAKENED.store(*spot as u32, Ordering::SeqCst);
            catch_unwind(AssertUnwindSafe(all)).is_ok()
        })
        .collect();
    std::panic::set_hook(hook);
    WEAKENED.store(0, Ordering::SeqCst);
    assert_eq!(unseen, [], "weakened, and no model failed");
}
