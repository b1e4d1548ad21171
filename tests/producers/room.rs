//! What happens to producers while there is no room, under each policy.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use forebay::sink::{Answer, Batch, Blocking, BlockingSink};
use forebay::{Code, Engine, Record, Stream};

use crate::common::collect::{Collect, callback_stream};
use crate::common::gate::{Gate, Syncs};
use crate::common::{LIMIT, Scratch, wait_until};

/// What the machine may add to a call that waits for nothing. Far less than what it must not wait for.
const SLACK: Duration = Duration::from_millis(600);

/// A stream with a small ring and a small budget.
fn small(more: &str) -> String {
    let buffer = r#""maxDiskBytes": 1048576, "maxBufferedBytes": 65536, "fsyncIntervalMs": 20"#;
    callback_stream(&format!(
        r#", "buffer": {{{buffer}, {more}}}, "delivery": {{"backoffMaxMs": 50}}"#
    ))
}

/// A sink that takes nothing until it is told that it lives.
struct Mortal {
    sink: Collect,
    is_alive: Arc<AtomicBool>,
}

impl BlockingSink for Mortal {
    fn deliver(&mut self, batch: &Batch<'_>, timeout: Duration, answer: &mut Answer<'_>) {
        if self.is_alive.load(Ordering::SeqCst) {
            self.sink.deliver(batch, timeout, answer);
        } else {
            answer.retry_rest(None);
        }
    }
}

fn open(
    scratch: &Scratch,
    stream: &str,
    gate: &Gate,
) -> (Engine, Stream, Collect, Arc<AtomicBool>) {
    let (sink, is_alive) = (Collect::default(), Arc::new(AtomicBool::new(false)));
    let mortal = Mortal {
        sink: sink.clone(),
        is_alive: Arc::clone(&is_alive),
    };
    let config = scratch
        .config(stream)
        .with_sink("test", Blocking::new(mortal));
    let engine = Engine::open_in(&config, &gate.world()).unwrap();
    let stream = engine.stream("telemetry").unwrap();
    (engine, stream, sink, is_alive)
}

/// How appends ended, and the longest.
#[derive(Debug, Default)]
struct Tally {
    taken: u64,
    full: u64,
    timed_out: u64,
    longest: Duration,
}

impl Tally {
    fn append(&mut self, stream: &Stream) {
        let start = Instant::now();
        let done = stream.append(b"pump-7", self.taken, &[7; 1000]);
        self.longest = self.longest.max(start.elapsed());
        match done.map_err(|error| error.code()) {
            Ok(_) => self.taken += 1,
            Err(Code::Full) => self.full += 1,
            Err(code) => {
                assert_eq!(code, Code::Timeout);
                self.timed_out += 1;
            }
        }
    }
}

/// `G-062` to `G-065`: with a sink that is dead and a budget that is used up, `dropOldest` and `rejectNew`
/// wait for nothing, and `block` waits as long as it was told.
#[test]
fn while_a_sink_is_dead_append_waits_under_block_only() {
    for policy in ["dropOldest", "rejectNew", "block"] {
        let scratch = Scratch::new(&format!("dead-{policy}"));
        let is_blocking = policy == "block";
        let timeout = if is_blocking {
            r#", "blockTimeoutMs": 200"#
        } else {
            ""
        };
        let text = small(&format!(r#""onFull": "{policy}" {timeout}"#));
        let (_engine, stream, _sink, is_alive) = open(&scratch, &text, &Gate::default());
        let mut tally = Tally::default();
        let start = Instant::now();
        // More than twice the budget, at a pace that a disk keeps up with.
        while tally.taken < 2500 && tally.timed_out < 3 && start.elapsed() < LIMIT {
            tally.append(&stream);
            if policy == "rejectNew" && tally.full > 1000 {
                break;
            }
            thread::park_timeout(Duration::from_micros(200));
        }
        let stats = stream.stats();
        let told = format!("{policy}: {tally:?}");
        println!("sink dead, {told}");
        assert_eq!(stats.rejected_total, tally.full + tally.timed_out, "{told}");
        match policy {
            "dropOldest" => assert!(tally.taken == 2500 && tally.timed_out == 0, "{told}"),
            "rejectNew" => assert!(tally.full > 0 && tally.timed_out == 0, "{told}"),
            _ => assert!(tally.full == 0 && tally.timed_out == 3, "{told}"),
        }
        if is_blocking {
            let limit = Duration::from_millis(200);
            assert!((limit..limit + SLACK).contains(&tally.longest), "{told}");
        } else {
            assert!(tally.longest < SLACK, "{told}");
        }
        // What a cursor lost is counted when it goes on.
        is_alive.store(true, Ordering::SeqCst);
        wait_until("delivery", || stream.stats().backlog == 0);
        let stats = stream.stats();
        assert_eq!(stats.dropped_total > 0, policy == "dropOldest", "{told}");
        assert_eq!(
            stats.exported_total + stats.dropped_total,
            tally.taken,
            "{told}"
        );
    }
}

/// A close does not wait for room that nobody makes. It says what is left; what is stored stays stored, and what
/// a shared ring has is stored by the next open that has room.
#[test]
fn a_close_without_room_says_so_and_loses_nothing_durable() {
    for (policy, ring) in [
        ("rejectNew", "private"),
        ("rejectNew", "shared"),
        ("block", "shared"),
    ] {
        let scratch = Scratch::new(&format!("no-room-{policy}-{ring}"));
        let more = r#""blockTimeoutMs": 50"#;
        let text = format!(r#""onFull": "{policy}", "ring": "{ring}""#);
        let text = match policy {
            "block" => small(&format!("{text}, {more}")),
            _ => small(&text),
        };
        let (engine, stream, _, _) = open(&scratch, &text, &Gate::default());
        let mut tally = Tally::default();
        // The ring is full for as long as a sync takes, too.
        let (mut taken, mut since) = (0, Instant::now());
        while since.elapsed() < SLACK {
            tally.append(&stream);
            if tally.taken > taken {
                (taken, since) = (tally.taken, Instant::now());
            }
            thread::park_timeout(Duration::from_micros(200));
        }
        let closed = engine.close(LIMIT).unwrap_err();
        let stats = stream.stats();
        assert_eq!(closed.code(), Code::Full, "{closed}");
        assert!(stats.queued > 0, "{stats:?}");
        assert_eq!(stats.durable_offset + stats.queued, tally.taken);
        let told = format!("has no room for the last {} records", stats.queued);
        assert!(closed.to_string().contains(&told), "{closed}");
        assert_eq!(engine.close(LIMIT).unwrap_err().code(), Code::Full);
        drop((engine, stream));

        let (_engine, stream, sink, is_alive) = open(&scratch, &text, &Gate::default());
        is_alive.store(true, Ordering::SeqCst);
        let expected = match ring {
            "shared" => tally.taken,
            _ => stats.durable_offset,
        };
        wait_until("delivery", || sink.got().len() as u64 >= expected);
        stream.flush(LIMIT).unwrap();
        let delivered = sink.got().into_iter().map(|got| got.time_ms);
        assert!(delivered.eq(0..expected), "{policy} {ring}");
    }
}

/// `G-063`, `G-064`, `G-065`: while each sync takes a second and a half, the ring fills up; whoever does not
/// wait is refused at once, and whoever waits gets in with the next sync.
#[test]
fn while_syncs_take_long_append_waits_under_block_only() {
    for (policy, timeout) in [
        ("dropOldest", 0),
        ("rejectNew", 0),
        ("block", 200),
        ("block", 60_000),
    ] {
        let scratch = Scratch::new(&format!("slow-{policy}-{timeout}"));
        let gate = Gate::default();
        let more = match timeout {
            0 => String::new(),
            _ => format!(r#", "blockTimeoutMs": {timeout}"#),
        };
        let text = small(&format!(r#""onFull": "{policy}" {more}"#));
        let (_engine, stream, _sink, is_alive) = open(&scratch, &text, &gate);
        is_alive.store(true, Ordering::SeqCst);
        stream.append_durable(b"", 0, b"", LIMIT).unwrap();
        let sync = Duration::from_millis(1500);
        gate.set(Syncs::Slow(sync));
        let mut tally = Tally::default();
        let start = Instant::now();
        while start.elapsed() < sync * 2 {
            tally.append(&stream);
            thread::park_timeout(Duration::from_millis(1));
        }
        let told = format!("{policy} {timeout}: {tally:?}");
        println!("syncs of {sync:?}, {told}");
        match timeout {
            0 => {
                assert!(tally.longest < SLACK, "{told}");
                assert!(tally.full > 0 && tally.timed_out == 0, "{told}");
            }
            200 => {
                let limit = Duration::from_millis(200);
                assert!((limit..limit + SLACK).contains(&tally.longest), "{told}");
                assert!(tally.full == 0 && tally.timed_out > 0, "{told}");
            }
            _ => {
                // A roll takes a few syncs.
                assert!((SLACK..sync * 8).contains(&tally.longest), "{told}");
                assert!(tally.full == 0 && tally.timed_out == 0, "{told}");
            }
        }
        gate.set(Syncs::Done);
    }
}

/// `G-062` to `G-065`: the worst that is stated, in all three forms of `onFull` at once: the sink is dead (and
/// under `dropOldest` the budget is used up), and then a sync takes five seconds.
#[test]
fn while_a_sync_takes_five_seconds_and_the_sink_is_dead_append_keeps_its_word() {
    let one = |policy: &str| {
        let scratch = Scratch::new(&format!("stall-{policy}"));
        let (gate, is_blocking) = (Gate::default(), policy == "block");
        let timeout = match is_blocking {
            true => r#", "blockTimeoutMs": 300"#,
            false => "",
        };
        let text = small(&format!(r#""onFull": "{policy}" {timeout}"#));
        let (_engine, stream, _sink, is_alive) = open(&scratch, &text, &gate);
        let mut before = Tally::default();
        // Half as much again as there is room for; or little, so that there is something to sync.
        for _ in 0..if policy == "dropOldest" { 1500 } else { 100 } {
            before.append(&stream);
            thread::park_timeout(Duration::from_micros(300));
        }
        let sync = Duration::from_secs(5);
        gate.set(Syncs::Slow(sync));
        let (mut tally, start) = (Tally::default(), Instant::now());
        while start.elapsed() < sync + SLACK {
            tally.append(&stream);
            thread::park_timeout(Duration::from_millis(1));
        }
        let told = format!("{policy}: {tally:?}");
        println!("a sync of {sync:?} and a dead sink, {told}");
        assert!(tally.taken > 0, "{told}");
        match is_blocking {
            true => {
                let limit = Duration::from_millis(300);
                assert!((limit..limit + SLACK).contains(&tally.longest), "{told}");
                assert!(tally.full == 0 && tally.timed_out > 5, "{told}");
            }
            false => {
                assert!(tally.longest < SLACK, "{told}");
                assert!(tally.full > 0 && tally.timed_out == 0, "{told}");
            }
        }
        // When both are well again, everything that was taken is delivered or counted.
        gate.set(Syncs::Done);
        is_alive.store(true, Ordering::SeqCst);
        wait_until("delivery", || {
            let stats = stream.stats();
            stats.queued == 0 && stats.backlog == 0
        });
        let stats = stream.stats();
        let taken = before.taken + tally.taken;
        assert_eq!(stats.exported_total + stats.dropped_total, taken, "{told}");
        assert_eq!(stats.dropped_total > 0, policy == "dropOldest", "{told}");
    };
    thread::scope(|scope| {
        for policy in ["dropOldest", "rejectNew", "block"] {
            scope.spawn(move || one(policy));
        }
    });
}

/// `G-064`: under `block` nothing is lost: while the sink is dead its producers wait, and when it lives again
/// it gets everything, once and in order.
#[test]
fn blocked_producers_lose_nothing_when_the_sink_heals() {
    let scratch = Scratch::new("lossless");
    let (engine, stream, sink, is_alive) =
        open(&scratch, &small(r#""onFull": "block""#), &Gate::default());
    let (threads, each) = (4u64, 250u64);
    let done = Arc::new(AtomicU64::new(0));
    thread::scope(|scope| {
        for producer in 0..threads {
            let (stream, done) = (stream.clone(), Arc::clone(&done));
            scope.spawn(move || {
                for n in 0..each {
                    let id = (producer << 32 | n).to_le_bytes();
                    let payload = [&id[..], &[7; 900]].concat();
                    let record = Record::new(b"", n, &payload);
                    // A single one, and a batch of three.
                    match n % 2 {
                        0 => assert!(stream.append_record(&record).is_ok()),
                        _ => {
                            let range = stream.append_batch(&[record; 3]);
                            assert!(range.is_ok_and(|range| range.end - range.start == 3));
                        }
                    }
                    done.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        // They have come to a stop: a second without progress, with much left to do.
        let (mut before, mut since) = (0, Instant::now());
        while since.elapsed() < Duration::from_secs(1) {
            thread::park_timeout(Duration::from_millis(20));
            let now = done.load(Ordering::SeqCst);
            if now != before {
                (before, since) = (now, Instant::now());
            }
        }
        assert!(before < threads * each, "nobody had to wait");
        assert!(sink.offsets().is_empty());
        is_alive.store(true, Ordering::SeqCst);
    });
    let total = threads * each * 2;
    stream.flush(LIMIT).unwrap();
    wait_until("delivery", || stream.stats().backlog == 0);
    let stats = stream.stats();
    assert_eq!(
        (stats.next_offset, stats.dropped_total, stats.rejected_total),
        (total, 0, 0)
    );
    let got = sink.got();
    let offsets: Vec<_> = got.iter().map(|record| record.offset).collect();
    assert_eq!(offsets, (0..total).collect::<Vec<_>>(), "once, in order");
    let mut next = vec![0; usize::try_from(threads).unwrap()];
    let id = |at: usize| u64::from_le_bytes(got[at].payload[..8].try_into().unwrap());
    let mut at = 0;
    while at < got.len() {
        let (producer, n) = (usize::try_from(id(at) >> 32).unwrap(), id(at) & 0xffff_ffff);
        assert_eq!(next[producer], n, "a producer's records keep their order");
        next[producer] += 1;
        let len = if n % 2 == 0 { 1 } else { 3 };
        assert!(
            (at..at + len).all(|other| id(other) == id(at)),
            "a batch is whole"
        );
        at += len;
    }
    engine.close(LIMIT).unwrap();
}

/// `G-028`, `G-064`: who waits for room is told when the engine closes or breaks, and a time limit of the
/// call's own holds for the wait too.
#[test]
fn waiting_for_room_ends_with_the_engine() {
    for is_poisoned in [false, true] {
        let scratch = Scratch::new(&format!("room-{is_poisoned}"));
        let gate = Gate::default();
        let (engine, stream, ..) = open(&scratch, &small(r#""onFull": "block""#), &gate);
        stream.append_durable(b"", 0, b"", LIMIT).unwrap();
        gate.set(Syncs::Stalled);
        let mut taken = 0;
        let short = Duration::from_millis(50);
        let error = loop {
            // Waits for its sync while there is room, and for room when there is none.
            let error = stream
                .append_durable(b"", 0, &[7; 5000], short)
                .unwrap_err();
            if !error.to_string().contains("may still become") {
                break error;
            }
            taken += 1;
        };
        assert_eq!((error.code(), error.code().number()), (Code::Timeout, 9));
        assert!(error.to_string().contains("nothing was taken"), "{error}");
        assert_eq!(stream.stats().next_offset, taken + 1);
        let waiters: Vec<_> = (0..3)
            .map(|n| {
                let stream = stream.clone();
                thread::spawn(move || {
                    let payload = [7; 5000];
                    let records = [Record::new(b"", 0, &payload); 2];
                    match n {
                        0 => stream.append(b"", 0, &payload).map(|_| ()),
                        1 => stream.append_batch(&records).map(|_| ()),
                        _ => stream.append_durable(b"", 0, &payload, LIMIT).map(|_| ()),
                    }
                })
            })
            .collect();
        thread::park_timeout(Duration::from_millis(100));
        assert!(!waiters.iter().any(thread::JoinHandle::is_finished));
        let code = if is_poisoned {
            stream.ring().poison();
            Code::Panic
        } else {
            let closed = engine.close(short);
            assert_eq!(closed.unwrap_err().code(), Code::Timeout);
            Code::Closed
        };
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap().unwrap_err().code(), code);
        }
        // So is who waits for its sync.
        stream.shared().durable.close();
        let error = stream.flush(LIMIT).unwrap_err();
        assert_eq!(error.code(), code);
        assert!(error.to_string().contains("may still become"), "{error}");
        gate.set(Syncs::Done);
    }
}
