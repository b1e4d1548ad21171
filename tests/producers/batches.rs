//! Batches of a producer, and what each call waits for under each policy.

use std::thread;
use std::time::{Duration, Instant};

use forebay::{Code, Engine, Record, Result, Source, Stream};

use crate::common::gate::{Gate, Syncs};
use crate::common::{LIMIT, Scratch, wait_until};

/// How long calls wait here.
const WAIT: Duration = Duration::from_millis(100);
/// What a busy machine may add to that.
const SLACK: Duration = Duration::from_secs(3);

fn stored(buffer: &str) -> String {
    format!(r#"{{"name": "telemetry", "sink": {{"type": "none"}}, "buffer": {{{buffer}}}}}"#)
}

fn batch(count: usize) -> Vec<Record<'static>> {
    vec![Record::new(b"pump-7", 7, b"payload"); count]
}

/// `G-026`, `G-067`, `G-068`, `G-069`: a batch is durable on return under `always` and `perBatch`, by one
/// sync; under `interval` when the timer, or a flush, says so.
#[test]
fn a_batch_is_durable_on_return_but_under_interval() {
    for fsync in ["always", "perBatch", "interval"] {
        let scratch = Scratch::new(&format!("batch-{fsync}"));
        let buffer = format!(r#""fsync": "{fsync}", "fsyncIntervalMs": 3600000"#);
        let engine = Engine::open(&scratch.config(&stored(&buffer))).unwrap();
        let stream = engine.stream("telemetry").unwrap();
        let before = stream.stats().syncs_total;
        assert_eq!(stream.append_batch(&batch(100)).unwrap(), 0..100);
        assert_eq!(stream.append_batch(&[]).unwrap(), 100..100);
        let stats = stream.stats();
        let is_by_timer = fsync == "interval";
        assert_eq!(stats.durable_offset, if is_by_timer { 0 } else { 100 });
        assert!(stats.syncs_total - before <= 3, "{}", stats.syncs_total);
        stream.flush(LIMIT).unwrap();
        assert_eq!(stream.stats().durable_offset, 100);
    }
}

/// `G-026`, `G-069`: under `interval` the timer makes a batch durable without anybody asking.
#[test]
fn under_interval_a_batch_becomes_durable_by_the_timer() {
    let scratch = Scratch::new("batch-timer");
    let buffer = r#""fsync": "interval", "fsyncIntervalMs": 30"#;
    let engine = Engine::open(&scratch.config(&stored(buffer))).unwrap();
    let stream = engine.stream("telemetry").unwrap();
    stream.append_batch(&batch(10)).unwrap();
    wait_until("durable", || stream.stats().durable_offset == 10);
}

/// `G-026`, `G-074`: four producers of batches beside one of single records: the offsets of a batch are its
/// own, all of it is durable when its producer goes on, and producers share syncs.
#[test]
fn batches_of_many_producers_share_syncs() {
    let scratch = Scratch::new("batches");
    let engine = Engine::open(&scratch.config(&stored(""))).unwrap();
    let (threads, batches, count) = (4u64, 50u64, 20);
    let mut ranges = thread::scope(|scope| {
        let stream = engine.stream("telemetry").unwrap();
        scope.spawn(move || {
            for n in 0..1000 {
                stream.append(b"single", n, b"").unwrap();
            }
        });
        let producers = (0..threads).map(|_| {
            let stream = engine.stream("telemetry").unwrap();
            scope.spawn(move || {
                let append = |_| {
                    let range = stream.append_batch(&batch(count)).unwrap();
                    assert!(stream.stats().durable_offset >= range.end);
                    range
                };
                (0..batches).map(append).collect::<Vec<_>>()
            })
        });
        let producers: Vec<_> = producers.collect();
        let ranges = producers
            .into_iter()
            .flat_map(|thread| thread.join().unwrap());
        ranges.collect::<Vec<_>>()
    });
    ranges.sort_by_key(|range| range.start);
    assert!(ranges.iter().all(|range| range.end - range.start == 20));
    assert!(ranges.windows(2).all(|two| two[0].end <= two[1].start));
    let stats = engine.stats("telemetry").unwrap();
    assert_eq!(stats.appended_total, threads * batches * 20 + 1000);
    let syncs = stats.syncs_total;
    assert!(syncs < threads * batches, "{syncs} syncs");
}

/// A batch that breaks a bound is refused as a whole, before any of it is taken, with the bound's name.
#[test]
fn a_batch_over_a_bound_is_refused_as_a_whole() {
    let scratch = Scratch::new("batch-bounds");
    let buffer = r#""maxBufferedBytes": 65536, "maxBufferedRecords": 64, "maxRecordBytes": 1000"#;
    let engine = Engine::open(&scratch.config(&stored(buffer))).unwrap();
    let stream = engine.stream("telemetry").unwrap();
    let long = vec![0; 70_000];
    let nameless = Source {
        name: "",
        position: b"",
    };
    let with_third = |record: Record<'static>| {
        let mut records = batch(5);
        records[2] = record;
        records
    };
    let leaked: &'static [u8] = long.leak();
    let refusals = [
        (
            with_third(Record::new(b"", 0, &leaked[..1001])),
            "record 2 of the batch is longer than maxRecordBytes, 1000",
        ),
        (
            with_third(Record::new(leaked, 0, b"")),
            "record 2 of the batch: append: the key",
        ),
        (
            with_third(Record {
                source: Some(nameless),
                ..Record::new(b"", 0, b"")
            }),
            "record 2 of the batch: append: a source's name",
        ),
        (batch(65), "maxBufferedRecords, 64,"),
        // Of 1016 bytes each in the ring.
        (
            vec![Record::new(b"", 0, &leaked[..1000]); 17],
            "at most 16384 bytes, a quarter of maxBufferedBytes",
        ),
    ];
    let mut refused = 0;
    for (records, text) in &refusals {
        refused += records.len() as u64;
        let error = stream.append_batch(records).unwrap_err();
        assert_eq!((error.code(), error.code().number()), (Code::InvalidArg, 8));
        assert!(error.to_string().contains(text), "{error}");
    }
    let stats = stream.stats();
    assert_eq!((stats.rejected_total, stats.next_offset), (refused, 0));
    assert_eq!(stream.append_batch(&refusals[4].0[..16]).unwrap(), 0..16);
    assert_eq!(stream.append_batch(&batch(48)).unwrap(), 16..64);
}

/// A batch that finds no room is refused as a whole.
#[test]
fn a_batch_without_room_is_refused_as_a_whole_and_counted() {
    let scratch = Scratch::new("batch-full");
    let gate = Gate::default();
    let buffer = r#""maxBufferedRecords": 64, "fsync": "interval", "fsyncIntervalMs": 3600000"#;
    let engine = Engine::open_in(&scratch.config(&stored(buffer)), &gate.world()).unwrap();
    let stream = engine.stream("telemetry").unwrap();
    gate.set(Syncs::Stalled);
    assert_eq!(stream.append_batch(&batch(60)).unwrap(), 0..60);
    let error = stream.append_batch(&batch(5)).unwrap_err();
    assert_eq!((error.code(), error.code().number()), (Code::Full, 4));
    assert_eq!(stream.append_batch(&batch(4)).unwrap(), 60..64);
    let stats = stream.stats();
    assert_eq!((stats.rejected_total, stats.next_offset), (5, 64));
    gate.set(Syncs::Done);
    stream.flush(LIMIT).unwrap();
    engine.close(LIMIT).unwrap();
    let error = stream.append_batch(&batch(5)).unwrap_err();
    assert_eq!(error.code(), Code::Closed);
    assert_eq!(stream.append_batch(&[]).unwrap_err().code(), Code::Closed);
}

/// Of a batch that asks for room in a ring that is not half full, the refusal brings the sync that
/// makes it.
#[test]
fn a_batch_without_room_does_not_wait_for_the_timer() {
    let scratch = Scratch::new("batch-room");
    let buffer = r#""maxBufferedRecords": 64, "fsync": "interval", "fsyncIntervalMs": 3600000"#;
    let engine = Engine::open(&scratch.config(&stored(buffer))).unwrap();
    let stream = engine.stream("telemetry").unwrap();
    stream.append(b"", 0, b"").unwrap();
    let error = stream.append_batch(&batch(64)).unwrap_err();
    assert_eq!(error.code(), Code::Full);
    wait_until("room", || stream.append_batch(&batch(64)).is_ok());
}

type Call = fn(&Stream) -> Result<()>;

/// What there is to call, and under which policies it waits for a sync: `always`, `perBatch`, `interval`.
const CALLS: [(&str, Call, [bool; 3]); 5] = [
    (
        "append",
        |stream| stream.append(b"key", 1, b"payload").map(|_| ()),
        [true, false, false],
    ),
    (
        "append_record",
        |stream| stream.append_record(&batch(1)[0]).map(|_| ()),
        [true, false, false],
    ),
    (
        "append_batch",
        |stream| stream.append_batch(&batch(3)).map(|_| ()),
        [true, true, false],
    ),
    (
        "append_durable",
        |stream| {
            stream
                .append_durable(b"key", 1, b"payload", WAIT)
                .map(|_| ())
        },
        [true, true, true],
    ),
    ("flush", |stream| stream.flush(WAIT), [true, true, true]),
];
const POLICIES: [&str; 3] = ["always", "perBatch", "interval"];

fn policy_config(fsync: &str, scratch: &Scratch, sync_timeout: Duration) -> forebay::Config {
    let timeout = sync_timeout.as_millis();
    let buffer =
        format!(r#""fsync": "{fsync}", "fsyncIntervalMs": 3600000, "syncTimeoutMs": {timeout}"#);
    scratch.config(&stored(&buffer))
}

/// `G-026`, `G-027`, `G-067` to `G-069`: with a medium that does not answer, each call returns at once or
/// with ERR_TIMEOUT at its limit, as its policy says; what it was about becomes durable afterwards.
#[test]
fn a_medium_that_hangs_costs_each_call_its_time_limit_at_most() {
    for (policy, fsync) in POLICIES.into_iter().enumerate() {
        let scratch = Scratch::new(&format!("hangs-{fsync}"));
        let gate = Gate::default();
        let config = policy_config(fsync, &scratch, WAIT);
        let engine = Engine::open_in(&config, &gate.world()).unwrap();
        let stream = engine.stream("telemetry").unwrap();
        stream
            .append(b"key", 1, b"so that a flush has something to do")
            .unwrap();
        gate.set(Syncs::Stalled);
        for (name, call, waits) in CALLS {
            let start = Instant::now();
            let done = call(&stream);
            let took = start.elapsed();
            if waits[policy] {
                let error = done.expect_err(name);
                assert_eq!((error.code(), error.code().number()), (Code::Timeout, 9));
                assert!(error.to_string().contains("may still become"), "{error}");
                assert!((WAIT..WAIT + SLACK).contains(&took), "{name}: {took:?}");
            } else {
                done.expect(name);
            }
        }
        let stats = stream.stats();
        assert_eq!((stats.next_offset, stats.rejected_total), (7, 0));
        gate.set(Syncs::Done);
        stream.flush(LIMIT).unwrap();
        assert_eq!(stream.stats().durable_offset, 7, "{fsync}");
    }
}

/// `G-026`, `G-027`, `G-071`: with a medium that fails, calls that wait hear ERR_IO before their time is up,
/// others nothing; what they were about becomes durable when the medium is well again.
#[test]
fn a_medium_that_fails_is_told_to_those_who_wait() {
    for (policy, fsync) in POLICIES.into_iter().enumerate() {
        let scratch = Scratch::new(&format!("fails-{fsync}"));
        let gate = Gate::default();
        let config = policy_config(fsync, &scratch, LIMIT);
        let engine = Engine::open_in(&config, &gate.world()).unwrap();
        let stream = engine.stream("telemetry").unwrap();
        gate.set(Syncs::Failed);
        let (_, call, waits) = CALLS[2];
        let start = Instant::now();
        let done = call(&stream);
        if waits[policy] {
            let error = done.unwrap_err();
            assert_eq!((error.code(), error.code().number()), (Code::Io, 2));
            assert!(error.to_string().contains("may still become"), "{error}");
            assert!(start.elapsed() < LIMIT);
        } else {
            done.unwrap();
        }
        // Two tries of the syncer, with a pause that has grown meanwhile.
        let error = stream.flush(LIMIT).unwrap_err();
        assert_eq!(error.code(), Code::Io);
        gate.set(Syncs::Done);
        stream.flush(LIMIT).unwrap();
        let stats = stream.stats();
        assert_eq!((stats.next_offset, stats.durable_offset), (3, 3), "{fsync}");
    }
}
