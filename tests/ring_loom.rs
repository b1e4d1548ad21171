//! The orderings of ring, watermark, wake-ups and published cursors, checked by loom: every interleaving of small programs, and every value that a
//! load may see. Run by `RUSTFLAGS="--cfg loom" cargo test --profile campaign --test ring_loom`.
//!
//! Each ordering stronger than relaxed is then taken away in turn, and a model must fail.

#![cfg(loom)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use forebay::counters::sequence::{read_under, write_under};
use forebay::record::Record;
use forebay::ring::{Asleep, Consumer, Options, Refusal, Ring};
use forebay::storage::Memory;
use forebay::watermark::order::{Spot, WEAKENED};
use forebay::watermark::seam::park;
use forebay::watermark::{Flag, Waited, Waker, Watermark};
use loom::sync::atomic::{AtomicU32, AtomicU64};
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
    bounded_by(3, f);
}

fn bounded_by(preemptions: usize, f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(f);
}

/// A clock that stands still.
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
        for producer in producers {
            producer.join().unwrap();
        }
    });
}

/// A batch of two and a single record by two producers, while the syncer takes: the batch's records have
/// the offsets that it was told and stand next to each other, and all are whole.
fn batch_and_single() {
    bounded(|| {
        let waker = Arc::new(Waker::new());
        let (ring, mut consumer) = ring_of(256, 4, &waker);
        let batch = {
            let ring = Arc::clone(&ring);
            thread::spawn(move || {
                let bodies = [[1u8; 8], [2; 8]];
                let records = [0, 1].map(|at: usize| Record::new(&[], 0, &bodies[at]));
                ring.append_batch(&records).unwrap()
            })
        };
        let single = {
            let ring = Arc::clone(&ring);
            thread::spawn(move || append(&ring, 3).unwrap())
        };
        let mut seen = Vec::new();
        seen.extend(take(&mut consumer));
        seen.extend(take(&mut consumer));
        consumer.release();
        let (batch, single) = (batch.join().unwrap(), single.join().unwrap());
        seen.extend(std::iter::from_fn(|| take(&mut consumer)));
        assert_eq!((batch.end - batch.start, seen.len()), (2, 3));
        let mut expected = [(batch.start, 1), (batch.start + 1, 2), (single, 3)];
        expected.sort_unstable();
        assert_eq!(seen, expected);
    });
}

/// A batch over the ring's end, where the first lap's bytes were: the records do not wrap, and what the
/// syncer has not given back is not touched; a batch that does not fit leaves nothing behind.
fn batch_reuses() {
    bounded(|| {
        let waker = Arc::new(Waker::new());
        let (ring, mut consumer) = ring_of(256, 4, &waker);
        // Three of 72 bytes: 40 are left at the end, where one of the batch's has room.
        for byte in 1..=3 {
            ring.append(&Record::new(&[byte], 0, &[byte; 55])).unwrap();
        }
        let producer = {
            let ring = Arc::clone(&ring);
            thread::spawn(move || {
                let bodies = [[4u8; 16], [5; 16]];
                let records = [0, 1].map(|at: usize| Record::new(&[], 0, &bodies[at]));
                ring.append_batch(&records)
            })
        };
        assert_eq!(take(&mut consumer), Some((0, 1)));
        consumer.release();
        let done = producer.join().unwrap();
        assert_eq!(take(&mut consumer), Some((1, 2)));
        assert_eq!(take(&mut consumer), Some((2, 3)));
        if done.is_ok() {
            assert_eq!(done, Ok(3..5));
            assert_eq!(take(&mut consumer), Some((3, 4)));
            assert_eq!(take(&mut consumer), Some((4, 5)));
        } else {
            assert_eq!(done, Err(Refusal::Full));
        }
        assert_eq!(take(&mut consumer), None);
    });
}

/// Who found no room and waits is woken when there is some.
fn no_lost_room() {
    bounded(|| {
        let waker = Arc::new(Waker::new());
        let (ring, mut consumer) = ring(128, &waker);
        append(&ring, 1).unwrap();
        append(&ring, 2).unwrap();
        let producer = {
            let ring = Arc::clone(&ring);
            thread::spawn(move || {
                loop {
                    let released = ring.released().get();
                    match append(&ring, 3) {
                        Err(Refusal::Full) => {}
                        done => return done,
                    }
                    let never = forebay::clock::Mono::NEVER;
                    ring.released().wait(released + 1, &Never, never);
                }
            })
        };
        assert_eq!(take(&mut consumer), Some((0, 1)));
        consumer.release();
        assert_eq!(producer.join().unwrap(), Ok(2));
    });
}

/// Who waits for room is told when the ring closes.
fn no_lost_close() {
    bounded(|| {
        let waker = Arc::new(Waker::new());
        let (ring, _consumer) = ring(128, &waker);
        append(&ring, 1).unwrap();
        append(&ring, 2).unwrap();
        let closer = {
            let ring = Arc::clone(&ring);
            thread::spawn(move || ring.close())
        };
        let never = forebay::clock::Mono::NEVER;
        assert_eq!(ring.released().wait(1, &Never, never), Waited::Closed);
        assert_eq!(append(&ring, 3), Err(Refusal::Closed));
        closer.join().unwrap();
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
        let waited = watermark.wait(1, &Never, forebay::clock::Mono::NEVER);
        assert_eq!(waited, Waited::Reached);
        assert_eq!(data.load(Ordering::Relaxed), 7);
        writer.join().unwrap();
    });
}

/// Two producers whose records are to be durable, and a syncer that sleeps: it takes both, announces them,
/// and both hear of it.
fn two_wait_until_durable() {
    bounded_by(2, || {
        let waker = Arc::new(Waker::new());
        let (ring, mut consumer) = ring(128, &waker);
        let durable = Arc::new(Watermark::new(0));
        let wait = |byte| {
            let (ring, durable) = (Arc::clone(&ring), Arc::clone(&durable));
            move || {
                let offset = append(&ring, byte).unwrap();
                ring.demand(offset + 1);
                let never = forebay::clock::Mono::NEVER;
                assert_eq!(durable.wait(offset + 1, &Never, never), Waited::Reached);
            }
        };
        let syncer = {
            let (waker, durable) = (Arc::clone(&waker), Arc::clone(&durable));
            thread::spawn(move || {
                waker.register();
                let mut end = 0;
                while end < 2 {
                    if let Some((offset, _)) = take(&mut consumer) {
                        consumer.wake_up();
                        assert_eq!(offset, end);
                        end += 1;
                        durable.advance(end);
                    } else if consumer.fall_asleep(Asleep::Idle, end) {
                        park(None);
                    } else {
                        thread::yield_now(); // claimed and not committed: looks again soon
                    }
                }
            })
        };
        let other = thread::spawn(wait(1));
        wait(2)();
        other.join().unwrap();
        syncer.join().unwrap();
    });
}

/// Runs a thread that sleeps, and once its waker knows it, another one.
fn sleeper(waker: &Arc<Waker>, other: impl FnOnce() + 'static, sleeper: impl FnOnce() + 'static) {
    let waker = Arc::clone(waker);
    let sleeper = thread::spawn(move || {
        waker.register();
        let other = thread::spawn(other);
        sleeper();
        other
    });
    sleeper.join().unwrap().join().unwrap();
}

/// An exporter that has nothing to do sleeps, and is got up by what becomes durable.
fn no_lost_announcement() {
    bounded(|| {
        let waker = Arc::new(Waker::new());
        let durable = Arc::new(Watermark::new(0));
        let syncer = {
            let (waker, durable) = (Arc::clone(&waker), Arc::clone(&durable));
            move || {
                for value in 1..=2 {
                    durable.advance(value);
                    waker.wake();
                }
            }
        };
        sleeper(&waker, syncer, move || {
            while durable.get() < 2 {
                park(None);
            }
        });
    });
}

/// A cursor moves twice while the syncer writes its place down: the last place is written in the end, also
/// when the syncer was not woken for it because the flag was still up. It was taken down by a plain store
/// once, which did not wait for the place that the raised flag stood for.
fn no_lost_move() {
    bounded(|| {
        let waker = Arc::new(Waker::new());
        let (flag, place) = (Arc::new(Flag::default()), Arc::new(AtomicU32::new(0)));
        let exporter = {
            let (waker, flag, place) = (Arc::clone(&waker), Arc::clone(&flag), Arc::clone(&place));
            move || {
                for at in 1..=2 {
                    place.store(at, Ordering::Relaxed);
                    if flag.raise() {
                        waker.wake();
                    }
                }
            }
        };
        sleeper(&waker, exporter, move || {
            let mut written = 0;
            while written < 2 {
                if flag.is_up() {
                    flag.take();
                    written = place.load(Ordering::Relaxed);
                } else {
                    park(None);
                }
            }
        });
    });
}

/// Who reads a published cursor while it moves gets it as it was or as it is, never half of each, and does
/// not see it go back.
fn published_cursor() {
    bounded(|| {
        let words: Arc<[AtomicU64; 3]> = Arc::new(std::array::from_fn(|_| AtomicU64::new(0)));
        let exporter = {
            let words = Arc::clone(&words);
            thread::spawn(move || {
                write_under(&*words, &[1, 1]);
                write_under(&*words, &[2, 2]);
            })
        };
        let mut last = 0;
        for _ in 0..2 {
            let mut values = [0; 2];
            if read_under(&*words, &mut values).is_some() {
                assert_eq!(values[0], values[1], "torn");
                assert!(values[0] >= last, "it went back");
                last = values[0];
            }
        }
        exporter.join().unwrap();
        let mut values = [0; 2];
        assert_eq!(read_under(&*words, &mut values), Some(()));
        assert_eq!(values, [2, 2]);
    });
}

fn all() {
    two_producers();
    reuse();
    stale_claim();
    batch_and_single();
    batch_reuses();
    no_lost_room();
    no_lost_close();
    no_lost_wake_up();
    no_lost_demand();
    watermark();
    no_lost_announcement();
    no_lost_move();
    published_cursor();
    two_wait_until_durable(); // takes longest
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
