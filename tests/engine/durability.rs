//! What is durable when, and what waiters are told.

use std::thread;
use std::time::Duration;

use forebay::sink::Blocking;
use forebay::{Code, Engine, Record, Source};

use crate::common::collect::{Collect, callback_stream};
use crate::common::gate::{Gate, Syncs};
use crate::common::{LIMIT, Scratch, wait_until};

const SHORT: Duration = Duration::from_millis(20);

/// A stream with a buffer of these fields and no sink.
fn stored(buffer: &str) -> String {
    format!(r#"{{"name": "telemetry", "sink": {{"type": "none"}}, "buffer": {{{buffer}}}}}"#)
}

/// `G-026`, `G-067`, `G-074`, `L-1`: with `fsync: always` each append is durable when it returns, and
/// appends that wait at the same time share a sync.
#[test]
fn always_is_durable_on_return_by_group_commit() {
    let scratch = Scratch::new("always");
    let config = scratch.config(&stored(r#""fsync": "always""#));
    let engine = Engine::open(&config).unwrap();
    let (threads, appends) = (4, 200);
    thread::scope(|scope| {
        for _ in 0..threads {
            let stream = engine.stream("telemetry").unwrap();
            scope.spawn(move || {
                for n in 0..appends {
                    let offset = stream.append(b"key", n, b"payload").unwrap();
                    assert!(stream.stats().durable_offset > offset);
                }
            });
        }
    });
    let stats = engine.stats("telemetry").unwrap();
    assert_eq!(stats.durable_offset, threads * appends);
    assert!(
        stats.syncs_total < threads * appends,
        "{} syncs",
        stats.syncs_total
    );
    assert!(stats.syncs_total > 0);
}

/// `G-068`, `G-069`, `G-070`: under `perBatch` and `interval` a single append returns at once and is
/// durable an interval later, without anybody asking.
#[test]
fn a_single_append_becomes_durable_by_the_timer() {
    for fsync in ["perBatch", "interval"] {
        let scratch = Scratch::new(fsync);
        let buffer = format!(r#""fsync": "{fsync}", "fsyncIntervalMs": 50"#);
        let engine = Engine::open(&scratch.config(&stored(&buffer))).unwrap();
        let stream = engine.stream("telemetry").unwrap();
        for n in 0..100 {
            stream.append(b"", n, b"x").unwrap();
        }
        wait_until("durable", || stream.stats().durable_offset == 100);
        // A segment's header, and few groups.
        assert!(stream.stats().syncs_total < 50);
    }
}

/// `G-027`, `G-063`: while syncs stall nobody waits longer than it said; when the ring is full the newest
/// are refused and counted; all that was taken becomes durable after all.
#[test]
fn while_a_sync_stalls_waits_are_bounded_and_the_newest_are_refused() {
    let scratch = Scratch::new("stall");
    let gate = Gate::default();
    let buffer = r#""maxBufferedRecords": 128, "fsyncIntervalMs": 10"#;
    let config = scratch.config(&stored(buffer));
    let engine = Engine::open_in(&config, &gate.world()).unwrap();
    let stream = engine.stream("telemetry").unwrap();
    assert_eq!(stream.append_durable(b"", 0, b"x", LIMIT).unwrap(), 0);
    gate.set(Syncs::Stalled);
    let error = stream.append_durable(b"", 1, b"x", SHORT).unwrap_err();
    assert_eq!((error.code(), error.code().number()), (Code::Timeout, 9));
    assert_eq!(stream.flush(SHORT).unwrap_err().code(), Code::Timeout);
    let mut taken = 2;
    let refused = loop {
        match stream.append(b"", taken, b"x") {
            Ok(offset) => assert_eq!(offset, taken),
            Err(error) => break error,
        }
        taken += 1;
    };
    assert_eq!((refused.code(), refused.code().number()), (Code::Full, 4));
    assert_eq!(taken, 129, "what is durable and a ring full");
    let stats = stream.stats();
    assert_eq!(
        (stats.rejected_total, stats.queued, stats.durable_offset),
        (1, 128, 1)
    );
    gate.set(Syncs::Done);
    stream.flush(LIMIT).unwrap();
    let stats = stream.stats();
    assert_eq!((stats.appended_total, stats.durable_offset), (129, 129));
    assert_eq!(stream.append(b"", 129, b"x").unwrap(), 129);
}

/// `G-063`, `L-59`: the default ring carries 4,000 records a second over syncs that take a second each:
/// while each sync lasts, 4,000 records come.
#[test]
fn slow_syncs_refuse_nothing_at_four_thousand_records_a_second() {
    let scratch = Scratch::new("slow");
    let gate = Gate::default();
    let engine = Engine::open_in(&scratch.config(&stored("")), &gate.world()).unwrap();
    let stream = engine.stream("telemetry").unwrap();
    let append = || stream.append(b"0123456789abcdef", 1, &[7; 100]).unwrap();
    // The segment is there, and only its records are synced from here on.
    append();
    stream.flush(LIMIT).unwrap();
    let before = stream.stats().syncs_total;
    gate.set(Syncs::Stalled);
    append();
    for _ in 0..6 {
        gate.during_a_stalled_sync(|| {
            for _ in 0..4000 {
                append();
            }
        });
    }
    gate.set(Syncs::Done);
    stream.flush(LIMIT).unwrap();
    let stats = stream.stats();
    assert_eq!((stats.rejected_total, stats.durable_offset), (0, 24_002));
    // Those of the segment, and one of a checkpoint.
    let syncs = stats.syncs_total - before;
    assert!((5..=7).contains(&syncs), "{syncs} syncs");
}

/// `L-46`, `L-49`: on a file system without room for another segment the oldest records go, and those that
/// come are stored; when there is room again, it is used.
#[test]
fn a_full_file_system_is_survived_and_room_is_used_again() {
    let scratch = Scratch::new("full");
    let gate = Gate::default();
    let engine = Engine::open_in(&scratch.config(&stored("")), &gate.world()).unwrap();
    let stream = engine.stream("telemetry").unwrap();
    let fill = |mib: u64| {
        for n in 0..mib * 1024 {
            while stream.append(b"", n, &[7; 1000]).is_err() {
                thread::yield_now();
            }
        }
        stream.flush(LIMIT).unwrap();
    };
    fill(4);
    let taken = stream.stats().allocated_bytes;
    gate.set_full(true);
    fill(20);
    let stats = stream.stats();
    assert_eq!(stats.durable_offset, 24 * 1024);
    assert!(stats.dropped_total > 12 * 1024, "{}", stats.dropped_total);
    // A spare may have been half made.
    assert!(
        stats.allocated_bytes <= taken,
        "{} of {taken}",
        stats.allocated_bytes
    );
    gate.set_full(false);
    wait_until("room is used again", || {
        fill(1);
        stream.stats().allocated_bytes > taken + (4 << 20)
    });
    let stats = stream.stats();
    assert_eq!(stats.durable_offset, stats.next_offset);
}

/// `G-071`, `G-122`: a waiter hears of a disk that fails again and again; its record is stored elsewhere
/// when that is possible, and nothing is lost.
#[test]
fn a_failing_sync_is_told_and_what_was_taken_is_stored_elsewhere() {
    let scratch = Scratch::new("failing");
    let gate = Gate::default();
    let sink = Collect::default();
    let config = scratch
        .config(&callback_stream(""))
        .with_sink("test", Blocking::new(sink.clone()));
    let engine = Engine::open_in(&config, &gate.world()).unwrap();
    let stream = engine.stream("telemetry").unwrap();
    stream.append_durable(b"", 0, b"x", LIMIT).unwrap();
    gate.set(Syncs::Failed);
    let error = stream.append_durable(b"", 1, b"x", LIMIT).unwrap_err();
    assert_eq!((error.code(), error.code().number()), (Code::Io, 2));
    assert!(stream.stats().poisoned_total > 0);
    assert_eq!(stream.append(b"", 2, b"x").unwrap(), 2);
    gate.set(Syncs::Done);
    // A try that failed after the wait began does not end it.
    stream.flush(LIMIT).unwrap();
    wait_until("delivery", || stream.stats().backlog == 0);
    assert_eq!(sink.offsets(), [0, 1, 2]);
    assert!(!engine.is_poisoned());
}

/// `G-071`: after a sync had failed that somebody waited for, the syncer slept until its timer's next turn,
/// which may be an hour away: the waiter heard nothing, and a flush waited with it.
#[test]
fn a_failed_sync_is_tried_again_long_before_the_timer() {
    let scratch = Scratch::new("retried");
    let gate = Gate::default();
    let config = scratch.config(&stored(r#""fsyncIntervalMs": 3600000"#));
    let engine = Engine::open_in(&config, &gate.world()).unwrap();
    let stream = engine.stream("telemetry").unwrap();
    gate.set(Syncs::Failed);
    let error = stream.append_durable(b"", 0, b"x", LIMIT).unwrap_err();
    assert_eq!(error.code(), Code::Io);
    gate.set(Syncs::Done);
    wait_until("durable", || stream.stats().durable_offset == 1);
}

/// `G-023`: keys, properties and source positions come out as they went in; the newest durable position
/// of a source outlives the engine.
#[test]
fn properties_and_source_positions_come_back() {
    let scratch = Scratch::new("properties");
    let sink = Collect::default();
    let open = || {
        let config = scratch.config(&callback_stream(""));
        Engine::open(&config.with_sink("test", Blocking::new(sink.clone()))).unwrap()
    };
    let engine = open();
    let stream = engine.stream("telemetry").unwrap();
    assert_eq!(stream.source_position("tail:/var/log/x"), None);
    let properties: &[(&str, &[u8])] = &[("unit", b"bar"), ("raw", b"\x00\xff")];
    for n in 0..5u8 {
        let record = Record {
            properties,
            source: Some(Source {
                name: "tail:/var/log/x",
                position: &[n],
            }),
            ..Record::new(b"\xff\xfe", 7, b"payload")
        };
        stream.append_record(&record).unwrap();
    }
    stream.append(b"", 8, b"").unwrap();
    stream.flush(LIMIT).unwrap();
    assert_eq!(stream.source_position("tail:/var/log/x"), Some(vec![4]));
    wait_until("delivery", || stream.stats().backlog == 0);
    let got = sink.got();
    assert_eq!(got.len(), 6);
    for (n, record) in got[..5].iter().enumerate() {
        assert_eq!(
            (&record.key[..], &record.payload[..]),
            (&b"\xff\xfe"[..], &b"payload"[..])
        );
        let own = properties
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.to_vec()));
        assert_eq!(record.properties, own.collect::<Vec<_>>());
        let position = vec![u8::try_from(n).unwrap()];
        assert_eq!(
            record.source,
            Some(("tail:/var/log/x".to_owned(), position))
        );
        assert_eq!(record.time_ms, 7);
    }
    assert_eq!((got[5].properties.len(), &got[5].source), (0, &None));
    engine.close(LIMIT).unwrap();
    let engine = open();
    let stream = engine.stream("telemetry").unwrap();
    assert_eq!(stream.source_position("tail:/var/log/x"), Some(vec![4]));
    assert_eq!(stream.source_position("tail:/var/log/y"), None);
}

/// `G-060`: where others are to have more than there is, nothing is made: producers are told so, whatever
/// the policy, and waits for durability end.
#[test]
fn a_store_takes_nothing_of_what_others_are_to_have() {
    for on_full in ["dropOldest", "rejectNew"] {
        let scratch = Scratch::new("min-free");
        let buffer = format!(
            r#""onFull": "{on_full}", "minFreeBytes": 70368744177664, "maxBufferedRecords": 16"#
        );
        let engine = Engine::open(&scratch.config(&stored(&buffer))).unwrap();
        let stream = engine.stream("telemetry").unwrap();
        for n in 0..16 {
            stream.append(b"", n, b"x").unwrap();
        }
        let error = stream.append(b"", 16, b"x").unwrap_err();
        assert_eq!(error.code(), Code::Full);
        let error = stream.flush(SHORT).unwrap_err();
        assert_eq!(error.code(), Code::Timeout);
        let names = scratch.files("data").into_iter().map(|(path, _)| path);
        let names: Vec<_> = names
            .filter(|path| path.to_string_lossy().contains('-'))
            .collect();
        assert!(
            !names.iter().any(|path| path.ends_with("segment-000001")),
            "{names:?}"
        );
        assert_eq!(engine.stats("telemetry").unwrap().durable_offset, 0);
        // Closing would wait for what cannot be stored.
        std::mem::forget(engine);
    }
}
