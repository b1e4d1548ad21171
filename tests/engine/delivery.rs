//! Delivery with real threads.

use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use forebay::clock::System;
use forebay::counters::{SinkState, Stats};
use forebay::log::{BatchBuffer, View};
use forebay::sink::{Answer, Batch, Blocking, Outcome};
use forebay::storage::Real;
use forebay::syncer::{LETTERS_DIR, Letter};
use forebay::{Code, Engine, Record};

use crate::common::collect::{Collect, callback_stream};
use crate::common::gate::Gate;
use crate::common::{LIMIT, Scratch, wait_until};

/// What holds at any time. Numbers are read one after the other while threads count, so only those that
/// are read in the right order can be compared.
fn assert_ordered(stats: &Stats) {
    assert!(stats.durable_offset <= stats.next_offset);
    assert!(stats.exported_total <= stats.appended_total);
    assert!(stats.backlog <= stats.next_offset);
    assert!(stats.acked_offset <= stats.next_offset);
}

/// `G-021`, `G-107` to `G-115`, `G-134`: offsets are true under many producers, one order comes out, and
/// the numbers add up.
#[test]
fn many_producers_get_their_own_offsets_and_the_numbers_add_up() {
    let scratch = Scratch::new("producers");
    let sink = Collect::default();
    let config = scratch
        .config(&callback_stream(""))
        .with_sink("test", Blocking::new(sink.clone()));
    let engine = Engine::open(&config).unwrap();
    let (threads, appends) = (8u64, 500u64);
    let appended = thread::scope(|scope| {
        let producers: Vec<_> = (0..threads)
            .map(|thread| {
                let stream = engine.stream("telemetry").unwrap();
                scope.spawn(move || {
                    let mut offsets = Vec::new();
                    for n in 0..appends {
                        let payload = format!("{thread}-{n}");
                        let offset = stream.append(&[1], n, payload.as_bytes()).unwrap();
                        offsets.push((offset, payload));
                        if n % 50 == 0 {
                            assert_ordered(&stream.stats());
                        }
                    }
                    assert!(offsets.is_sorted(), "a thread's offsets rise");
                    offsets
                })
            })
            .collect();
        let offsets = producers
            .into_iter()
            .flat_map(|producer| producer.join().unwrap());
        offsets.collect::<BTreeMap<u64, String>>()
    });
    let total = threads * appends;
    assert_eq!(
        appended.len() as u64,
        total,
        "no offset is handed out twice"
    );
    let stream = engine.stream("telemetry").unwrap();
    stream.flush(LIMIT).unwrap();
    wait_until("delivery", || stream.stats().backlog == 0);
    let got = sink.got();
    assert_eq!(got.len() as u64, total);
    for (at, record) in got.iter().enumerate() {
        assert_eq!(record.offset, at as u64);
        assert_eq!(appended[&record.offset].as_bytes(), record.payload);
    }
    let stats = stream.stats();
    assert_eq!(
        stats.appended_total,
        stats.exported_total + stats.backlog + stats.dropped_total
    );
    assert_eq!(
        (stats.next_offset, stats.durable_offset, stats.acked_offset),
        (total, total, total)
    );
    assert_eq!(
        (stats.queued, stats.retries_total, stats.rejected_total),
        (0, 0, 0)
    );
    assert!(
        stats.written_bytes > stats.disk_bytes / 2 && stats.allocated_bytes >= stats.disk_bytes
    );
    assert_eq!(stats.sinks[0].exported_total, total);
}

/// `L-104`: the oldest segment is used again under a reader on another thread. No batch is torn, nothing
/// reads as damage, and each offset was delivered or counted.
#[test]
fn the_oldest_go_under_a_reader_and_no_batch_is_torn() {
    let scratch = Scratch::new("overtaken");
    let mut random = 1u64;
    let sink = Collect::with(move |_, _| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        // Slower than what comes, by far.
        thread::park_timeout(Duration::from_micros(random >> 53));
    });
    let buffer = r#", "buffer": {"maxDiskBytes": 1048576, "maxBufferedBytes": 131072,
        "maxBufferedRecords": 500, "fsyncIntervalMs": 1}"#;
    let stream = callback_stream(buffer).replace(r#""maxLatencyMs": 5"#, r#""maxRecords": 7"#);
    let config = scratch
        .config(&stream)
        .with_sink("test", Blocking::new(sink.clone()));
    let engine = Engine::open(&config).unwrap();
    let stream = engine.stream("telemetry").unwrap();
    let payload = |n: u64| vec![n.to_le_bytes()[0]; 100 + usize::try_from(n % 900).unwrap()];
    let mut next = 0;
    while next < 20_000 {
        match stream.append(b"k", next, &payload(next)) {
            Ok(offset) => {
                assert_eq!(offset, next);
                next += 1;
            }
            // The ring is full: nobody waits, so this does.
            Err(error) => {
                assert_eq!(error.code(), Code::Full);
                stream.flush(LIMIT).unwrap();
            }
        }
    }
    stream.flush(LIMIT).unwrap();
    wait_until("delivery", || stream.stats().acked_offset == next);
    let got = sink.got();
    assert!(
        got.is_sorted_by(|a, b| a.offset < b.offset),
        "in order, each once"
    );
    for record in &got {
        assert_eq!(record.time_ms, record.offset);
        assert!(record.payload == payload(record.offset));
    }
    let stats = stream.stats();
    assert_eq!(stats.exported_total, got.len() as u64);
    assert_eq!(stats.exported_total + stats.dropped_quota, next);
    assert_eq!(
        (stats.dropped_damage, stats.corrupt_total, stats.dropped_age),
        (0, 0, 0)
    );
    assert!(stats.dropped_quota > 0, "it was overtaken");
    assert!(stats.allocated_bytes <= 1 << 20);
}

/// `G-051`: a panic in a sink of the host's is a retry; the engine lives.
#[test]
fn a_sink_that_panics_is_called_again() {
    let scratch = Scratch::new("panics");
    let mut panics = 3;
    let sink = Collect::with(move |_, _| {
        if panics > 0 {
            panics -= 1;
            std::panic::resume_unwind(Box::new("as told"));
        }
    });
    let config = scratch
        .config(&callback_stream(""))
        .with_sink("test", Blocking::new(sink.clone()));
    let engine = Engine::open(&config).unwrap();
    let stream = engine.stream("telemetry").unwrap();
    stream.append_durable(b"", 0, b"x", LIMIT).unwrap();
    wait_until("delivery", || stream.stats().backlog == 0);
    let stats = stream.stats();
    assert_eq!((stats.sinks[0].panics_total, stats.retries_total), (3, 3));
    assert_eq!(sink.offsets(), [0]);
    wait_until("idle", || stream.stats().sinks[0].state == SinkState::Idle);
    assert!(!engine.is_poisoned());
}

/// `G-004`, `G-005`, `L-71`, `L-18`: a sink that blocks for ever holds up no other stream and no other
/// sink, no append, and no close beyond its time.
#[test]
fn a_sink_that_blocks_for_ever_holds_up_nobody() {
    let scratch = Scratch::new("blocks");
    let (release, released) = mpsc::channel::<()>();
    let stuck = Collect::with(move |_, _| {
        let _ = released.recv();
    });
    let live = Collect::default();
    let streams = r#"{"name": "two", "sinks": [{"type": "callback", "name": "stuck"},
        {"type": "callback", "name": "live"}], "batch": {"maxLatencyMs": 5}}"#;
    let config = scratch.config(streams);
    let config = config.with_sink("stuck", Blocking::new(stuck.clone()));
    let engine = Engine::open(&config.with_sink("live", Blocking::new(live.clone()))).unwrap();
    let stream = engine.stream("two").unwrap();
    for n in 0..100 {
        stream.append_durable(b"", n, b"x", LIMIT).unwrap();
    }
    wait_until("delivery", || live.offsets().len() == 100);
    let stats = stream.stats();
    assert_eq!((stats.backlog, stats.acked_offset), (100, 0));
    let error = engine.close(Duration::from_millis(200)).unwrap_err();
    assert_eq!((error.code(), error.code().number()), (Code::Timeout, 9));
    assert_eq!(stream.append(b"", 0, b"").unwrap_err().code(), Code::Closed);
    drop(release);
    engine.close(LIMIT).expect("now it ends");
    assert_eq!(stream.stats().durable_offset, 100);
}

/// `L-16`, `L-46`: the power went when the first letter's log was hardly made, and the disk is full since:
/// the stream opens and delivers, and what is rejected is held until there is room.
#[test]
fn letters_that_a_full_disk_has_no_room_for_hold_up_no_open() {
    let scratch = Scratch::new("letters-full");
    let gate = Gate::default();
    let open = || {
        let reject = |batch: &Batch<'_>, answer: &mut Answer<'_>| {
            for (index, record) in batch.iter().enumerate() {
                if record.payload == b"bad" {
                    answer.set(index, Outcome::Rejected("it is bad"));
                }
            }
        };
        let config = scratch.config(&callback_stream(""));
        let config = config.with_sink("test", Blocking::new(Collect::with(reject)));
        Engine::open_in(&config, &gate.world()).unwrap()
    };
    let engine = open();
    let stream = engine.stream("telemetry").unwrap();
    stream.append_durable(b"", 0, b"good", LIMIT).unwrap();
    engine.close(LIMIT).unwrap();
    std::fs::create_dir(scratch.join("data/telemetry").join(LETTERS_DIR)).unwrap();
    gate.set_full(true);
    let engine = open();
    let stream = engine.stream("telemetry").unwrap();
    for payload in ["good", "bad"] {
        stream.append(b"", 0, payload.as_bytes()).unwrap();
    }
    wait_until("delivery", || stream.stats().acked_offset == 2);
    assert_eq!(stream.stats().dead_letters_total, 0);
    gate.set_full(false);
    wait_until("a letter", || stream.stats().dead_letters_total == 1);
    engine.close(LIMIT).unwrap();
}

/// `G-052`, `L-S10`: with threads and a real disk: what is rejected is durable as a letter, with all that it
/// had, before it is counted; others come through, and an idle stream has no letters.
#[test]
fn what_a_sink_rejects_lies_beside_the_stream() {
    let scratch = Scratch::new("letters");
    let open = || {
        let sink = Collect::with(|batch, answer| {
            for (index, record) in batch.iter().enumerate() {
                if record.payload.starts_with(b"bad") {
                    answer.set(index, Outcome::Rejected("bad begins it"));
                }
            }
        });
        let config = scratch.config(&callback_stream(""));
        Engine::open(&config.with_sink("test", Blocking::new(sink))).unwrap()
    };
    let engine = open();
    let stream = engine.stream("telemetry").unwrap();
    stream.append(b"k", 1, b"good").unwrap();
    wait_until("delivery", || stream.stats().exported_total == 1);
    let path = scratch.join("data/telemetry").join(LETTERS_DIR);
    assert!(!path.exists(), "nothing is made for nothing");
    for n in 0..300u64 {
        let payload = if n % 3 == 0 { "bad" } else { "good" };
        let record = Record {
            properties: &[("unit", b"bar")],
            ..Record::new(b"k", n, payload.as_bytes())
        };
        stream.append_record(&record).unwrap();
    }
    wait_until("delivery", || stream.stats().backlog == 0);
    let stats = stream.stats();
    assert_eq!((stats.exported_total, stats.failed_total), (201, 100));
    assert_eq!(stats.dead_letters_total, 100);
    engine.close(LIMIT).unwrap();
    // The next engine goes on in the same log.
    let engine = open();
    let stream = engine.stream("telemetry").unwrap();
    stream.append(b"k", 300, b"bad").unwrap();
    wait_until("delivery", || stream.stats().failed_total == 1);
    let view = View::open(&path, Arc::new(Real), Arc::new(System::new())).unwrap();
    assert!(view.summary().is_live);
    let mut batch = BatchBuffer::new(1000, 1 << 20, 1 << 20).unwrap();
    view.reader()
        .unwrap()
        .read(0, u64::MAX, &mut batch)
        .unwrap();
    let letters = batch.entries().iter().map(|entry| batch.view(entry));
    let letters: Vec<_> = letters
        .map(|record| Letter::read(record).unwrap())
        .collect();
    assert_eq!(letters.len(), 101);
    for (n, letter) in letters.iter().enumerate() {
        let n = n as u64;
        assert_eq!((letter.record.time_ms, letter.offset), (n * 3, n * 3 + 1));
        assert_eq!((letter.sink, letter.reason), ("callback", "bad begins it"));
        assert!(letter.time_ms >= letter.appended_ms && letter.appended_ms > 0);
        let unit: Vec<_> = letter.properties().collect();
        assert_eq!(unit.len(), usize::from(n < 100));
    }
    engine.close(LIMIT).unwrap();
}

/// `L-50`, `L-51`: what was drained stays drained: a hundred openings send nothing, and the store takes no
/// more than the active segment, one that is ready to follow it, and what describes them.
#[test]
fn what_was_drained_is_sent_by_no_later_opening() {
    let scratch = Scratch::new("drained");
    let (sink, segment) = (Collect::default(), 64 << 10);
    let buffer = format!(
        r#", "buffer": {{"volatile": "allow", "segmentBytes": {segment}, "maxRecordBytes": 1024,
            "maxDiskBytes": 16777216}}"#
    );
    let open = || {
        let config = scratch
            .config(&callback_stream(&buffer))
            .with_sink("test", Blocking::new(sink.clone()));
        Engine::open(&config).unwrap()
    };
    let engine = open();
    let stream = engine.stream("telemetry").unwrap();
    for n in 0..2000 {
        stream.append(b"key", n, &[7; 200]).unwrap();
        if n % 100 == 0 {
            stream.flush(LIMIT).unwrap();
        }
    }
    stream.flush(LIMIT).unwrap();
    wait_until("delivery", || stream.stats().backlog == 0);
    engine.close(LIMIT).unwrap();
    assert_eq!(sink.got().len(), 2000);

    for _ in 0..100 {
        let engine = open();
        let stats = engine.stats("telemetry").unwrap();
        assert_eq!((stats.next_offset, stats.backlog), (2000, 0));
        engine.close(LIMIT).unwrap();
    }
    assert_eq!(sink.got().len(), 2000, "nothing was sent again");
    let engine = open();
    let stream = engine.stream("telemetry").unwrap();
    assert_eq!(stream.append(b"key", 0, b"later").unwrap(), 2000);
    stream.flush(LIMIT).unwrap();
    wait_until("delivery", || sink.got().len() == 2001);
    let taken = stream.stats().allocated_bytes;
    assert!(taken <= 2 * segment + (256 << 10), "{taken} bytes");
}
