//! What the engine tells its host, when, and that it never waits for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use forebay::clock::{Clock, Mono, System};
use forebay::counters::{Health, SinkState};
use forebay::engine::{BACKLOG_LEVELS, EVENTS_MAX, EventKind, World};
use forebay::sink::Blocking;
use forebay::{Code, Config, Engine};

use crate::common::collect::{Collect, callback_stream};
use crate::common::{LIMIT, Scratch, wait_until};

/// Events until one that is looked for, that one included.
fn until(engine: &Engine, last: &EventKind) -> Vec<EventKind> {
    let mut kinds = Vec::new();
    wait_until(&format!("{last:?}"), || {
        for event in engine.events() {
            assert_eq!(&*event.stream, "telemetry");
            kinds.push(event.kind);
        }
        kinds.contains(last)
    });
    kinds
}

fn sink(name: &str, state: SinkState) -> EventKind {
    let name = Arc::from(name);
    EventKind::Sink { name, state }
}

/// A backlog that grows is told level by level, then that records are dropped; and when the sink is back,
/// all of it in the other direction. Each of them once.
#[test]
fn a_backlog_that_comes_and_goes_is_told_level_by_level() {
    let scratch = Scratch::new("events-backlog");
    let is_up = Arc::new(AtomicBool::new(false));
    let up = Arc::clone(&is_up);
    let collect = Collect::with(move |_, answer| {
        if !up.load(Ordering::SeqCst) {
            answer.retry_rest(None);
        }
    });
    let more = r#", "delivery": {"backoffMaxMs": 100}, "buffer": {"maxDiskBytes": 1048576, "checkpointMs": 20,
        "maxBufferedBytes": 65536, "fsyncIntervalMs": 5}"#;
    let config = scratch.config(&callback_stream(more));
    let config = config.with_sink("test", Blocking::new(collect));
    let engine = Engine::open(&config).unwrap();
    let stream = engine.stream("telemetry").unwrap();
    let mut n = 0;
    let mut append = |count| {
        for _ in 0..count {
            while stream.append(b"pump-7", n, &[7; 1000]).is_err() {
                std::thread::yield_now();
            }
            n += 1;
        }
        stream.flush(LIMIT).unwrap();
    };
    append(100);
    assert_eq!(
        until(&engine, &sink("callback", SinkState::Backoff)).len(),
        1
    );
    append(300);
    let [half, high, _] = BACKLOG_LEVELS.map(EventKind::BacklogOver);
    assert_eq!(until(&engine, &half), std::slice::from_ref(&half));
    append(1600);
    let grown = until(&engine, &EventKind::DroppingBegan);
    assert_eq!(grown[0], high);
    let count = |kind: &EventKind| grown.iter().filter(|other| *other == kind).count();
    assert_eq!((count(&EventKind::DroppingBegan), count(&half)), (1, 0));
    assert!(!grown.contains(&EventKind::DroppingEnded));
    is_up.store(true, Ordering::SeqCst);
    let [half, high, _] = BACKLOG_LEVELS.map(EventKind::BacklogUnder);
    let mut gone = until(&engine, &EventKind::DroppingEnded);
    if !gone.contains(&half) {
        gone.extend(until(&engine, &half));
    }
    let at = |kind: &EventKind| gone.iter().position(|other| other == kind);
    assert!(at(&sink("callback", SinkState::Ok)).is_some(), "{gone:?}");
    assert!(at(&high) < at(&half) && at(&high).is_some(), "{gone:?}");
    assert_eq!(stream.stats().events_lost_total, 0);
    engine.close(LIMIT).unwrap();
}

/// Events that nobody receives are counted when there is no room for them, and hold up nothing.
#[test]
fn events_that_nobody_receives_hold_up_nothing_and_are_counted() {
    let scratch = Scratch::new("events-lost");
    let mut is_second = true;
    let collect = Collect::with(move |_, answer| {
        is_second = !is_second;
        if !is_second {
            answer.retry_rest(None);
        }
    });
    let more = r#", "delivery": {"backoffBaseMs": 1, "backoffMaxMs": 1}, "buffer": {"fsyncIntervalMs": 5}"#;
    let text = callback_stream(more).replace(r#""maxLatencyMs": 5"#, r#""maxRecords": 1"#);
    let config = scratch.config(&text);
    let config = config.with_sink("test", Blocking::new(collect));
    let engine = Engine::open(&config).unwrap();
    let stream = engine.stream("telemetry").unwrap();
    for n in 0..200 {
        stream.append(b"", n, b"x").unwrap();
    }
    wait_until("delivery", || stream.stats().exported_total == 200);
    let lost = 2 * 200 - EVENTS_MAX as u64;
    wait_until("the last event", || {
        stream.stats().events_lost_total == lost
    });
    let kinds: Vec<_> = engine.events().map(|event| event.kind).collect();
    assert_eq!(kinds.len(), EVENTS_MAX);
    for pair in kinds.chunks(2) {
        let [failed, works] =
            [SinkState::Backoff, SinkState::Ok].map(|state| sink("callback", state));
        assert_eq!(pair, [failed, works]);
    }
    assert_eq!(engine.events().try_recv(), None);
    engine.close(LIMIT).unwrap();
}

/// The system's clock, which can be set, and which the syncer may not survive.
#[derive(Default)]
struct Switch {
    ahead_ms: AtomicI64,
    panics: AtomicBool,
    late_s: AtomicU64,
}

struct Set(System, Arc<Switch>);

impl Clock for Set {
    fn mono(&self) -> Mono {
        let is_syncer = std::thread::current().name() == Some("forebay-sync");
        assert!(
            !is_syncer || !self.1.panics.load(Ordering::SeqCst),
            "asked for"
        );
        let late = Duration::from_secs(self.1.late_s.load(Ordering::SeqCst));
        self.0.mono().plus(late)
    }

    fn wall_ms(&self) -> u64 {
        let ahead_ms = self.1.ahead_ms.load(Ordering::SeqCst);
        self.0.wall_ms().checked_add_signed(ahead_ms).unwrap()
    }

    fn boot(&self) -> u64 {
        self.0.boot()
    }
}

/// A time of day that was set is told with by how much, and a panic of the engine's own thread as what it is.
#[test]
fn a_clock_that_was_set_and_a_panic_are_told() {
    let scratch = Scratch::new("events-clock");
    let switch = Arc::new(Switch::default());
    let world = World {
        clock: Arc::new(Set(System::new(), Arc::clone(&switch))),
        ..World::real()
    };
    let stream = r#"{"name": "telemetry", "sink": {"type": "none"}, "buffer": {"type": "memory"}}"#;
    let engine = Engine::open_in(&scratch.config(stream), &world).unwrap();
    let stream = engine.stream("telemetry").unwrap();
    // The turn of the second append begins when that of the first, which saw the clock as it was, has ended.
    let steps = [
        (0, 0),
        (0, 0),
        (3_600_000, 3_600_000),
        (-60_000, -3_660_000),
    ];
    for (set_ms, expected_ms) in steps {
        switch.ahead_ms.store(set_ms, Ordering::SeqCst);
        stream.append_durable(b"", 0, b"x", LIMIT).unwrap();
        let mut steps = Vec::new();
        wait_until("the turn's end", || {
            let kinds = engine.events().map(|event| event.kind);
            steps.extend(kinds.map(|kind| match kind {
                EventKind::ClockStepped { by_ms } => by_ms,
                other => panic!("{other:?}"),
            }));
            expected_ms == 0 || !steps.is_empty()
        });
        let is_near = |by_ms: &i64| (by_ms - expected_ms).abs() < 1000;
        assert!(
            steps.len() == usize::from(expected_ms != 0) && steps.iter().all(is_near),
            "{steps:?}"
        );
    }
    switch.panics.store(true, Ordering::SeqCst);
    let _ = stream.append_durable(b"", 0, b"x", Duration::from_secs(5));
    assert_eq!(until(&engine, &EventKind::Poisoned), [EventKind::Poisoned]);
    assert!(engine.is_poisoned());
    assert_eq!(stream.append(b"", 0, b"").unwrap_err().code(), Code::Panic);
}

/// A sink that says nothing and does nothing shows: its stream is stalled after a minute, and well again
/// when something is accepted.
#[test]
fn a_sink_that_hangs_makes_its_stream_stalled() {
    let scratch = Scratch::new("events-stalled");
    let switch = Arc::new(Switch::default());
    let world = World {
        clock: Arc::new(Set(System::new(), Arc::clone(&switch))),
        ..World::real()
    };
    let (release, held) = std::sync::mpsc::channel::<()>();
    let collect = Collect::with(move |_, _| {
        let _ = held.recv();
    });
    let config = scratch.config(&callback_stream(r#", "buffer": {"type": "memory"}"#));
    let config = config.with_sink("test", Blocking::new(collect.clone()));
    let engine = Engine::open_in(&config, &world).unwrap();
    let stream = engine.stream("telemetry").unwrap();
    // Long after the open, so that the wait of the record counts and not the time since then.
    switch.late_s.store(3600, Ordering::SeqCst);
    stream.append_durable(b"", 0, b"x", LIMIT).unwrap();
    wait_until("a delivery", || stream.stats().oldest_unacked_age_ms > 20);
    assert_eq!(stream.stats().health, Health::Ok);
    switch.late_s.store(3600 + 50, Ordering::SeqCst);
    assert_eq!(stream.stats().health, Health::Ok);
    switch.late_s.store(3600 + 62, Ordering::SeqCst);
    assert_eq!(stream.stats().health, Health::Stalled);
    release.send(()).unwrap();
    wait_until("delivery", || stream.stats().exported_total == 1);
    wait_until("health", || stream.stats().health == Health::Ok);
    drop(release);
    engine.close(LIMIT).unwrap();
}

/// Two streams whose sinks are the test's: events of the first are records of the second.
fn with_events(scratch: &Scratch, telemetry: &str) -> Config {
    let events = r#"{"name": "forebay.events", "sink": {"type": "callback", "id": "events"},
        "batch": {"maxLatencyMs": 5}, "buffer": {"fsyncIntervalMs": 5, "onFull": "block"}}"#;
    let streams = format!("{telemetry}, {events}");
    let text = scratch.document(&streams);
    let text = text.replacen('{', r#"{"eventsStream": "forebay.events", "#, 1);
    Config::from_json(&text).unwrap()
}

/// `L-25`, `G-084`: a damaged record that a sink never gets is told, once and with its name, to the host and
/// as a record; not again for another sink, nor after a restart.
#[test]
fn damage_is_told_once_and_becomes_a_record() {
    let scratch = Scratch::new("events-damage");
    // What the events' own sink does is no record.
    let mut tries = 0;
    let events = Collect::with(move |_, answer| {
        tries += 1;
        if tries == 1 {
            answer.retry_rest(None);
        }
    });
    let one = callback_stream("");
    let two = one.replace(
        r#""sink": {"type": "callback", "id": "test"}"#,
        r#""sinks": [{"name": "callback", "type": "callback", "id": "test"},
            {"name": "late", "type": "callback", "id": "late"}]"#,
    );
    let late = Collect::default();
    let open = |telemetry, is_last| {
        let mut config = with_events(&scratch, telemetry);
        for (id, sink) in [
            ("events", &events),
            ("test", &Collect::default()),
            ("late", &late),
        ] {
            config = config.with_sink(id, Blocking::new(sink.clone()));
        }
        let engine = Engine::open(&config).unwrap();
        wait_until("the others", || {
            engine.stats("telemetry").unwrap().backlog == 0
        });
        wait_until("the events", || {
            let stats = engine.stats("forebay.events").unwrap();
            stats.backlog == 0 && (is_last || stats.next_offset == 1)
        });
        engine
    };
    let engine = Engine::open_to_store(&with_events(&scratch, &one)).unwrap();
    let stream = engine.stream("telemetry").unwrap();
    for payload in [&b"before"[..], b"unmistakable", b"after"] {
        stream.append(b"", 0, payload).unwrap();
    }
    let store = stream.shared().store;
    engine.close(LIMIT).unwrap();
    let mut flipped = 0;
    for (path, mut bytes) in scratch.files("data") {
        let at = bytes.windows(12).position(|part| part == b"unmistakable");
        if let Some(at) = at {
            bytes[at] ^= 1;
            std::fs::write(path, bytes).unwrap();
            flipped += 1;
        }
    }
    assert_eq!(flipped, 1);
    let engine = open(&one, false);
    let damage = EventKind::Damage {
        store,
        start: 1,
        end: 2,
        records: 1,
    };
    let told: Vec<_> = engine.events().collect();
    let of = |name: &str| {
        let own = told.iter().filter(|event| &*event.stream == name);
        own.map(|event| event.kind.clone()).collect::<Vec<_>>()
    };
    assert_eq!(of("telemetry"), [damage]);
    assert!(!of("forebay.events").is_empty(), "{told:?}");
    let stats = engine.stats("telemetry").unwrap();
    assert_eq!((stats.corrupt_total, stats.exported_total), (1, 2));
    assert_eq!(stats.events_lost_total, 0);
    engine.close(LIMIT).unwrap();
    let records = events.got();
    let record = records.last().unwrap();
    assert_eq!(record.key, b"telemetry");
    let payload = std::str::from_utf8(&record.payload).unwrap();
    let (start, time_ms) = (1, record.time_ms);
    let expected = format!(
        r#"{{"event":"damage","stream":"telemetry","timeMs":{time_ms},"id":"{store}-{start}","start":1,"end":2,"records":1}}"#
    );
    assert_eq!((payload, time_ms > 0), (&*expected, true));
    let seen = events.got().len();
    let engine = open(&two, true);
    assert_eq!(late.offsets(), [0, 2], "another cursor met the same damage");
    assert_eq!(engine.stats("telemetry").unwrap().dropped_damage, 1);
    assert_eq!(engine.stats("forebay.events").unwrap().next_offset, 1);
    assert_eq!(engine.events().count(), 0);
    engine.close(LIMIT).unwrap();
    assert_eq!(events.got().len(), seen);
}
