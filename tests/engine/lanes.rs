//! Sinks that block, each in a lane of its own.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use forebay::Engine;
use forebay::sink::{Answer, Batch, BlockingSink, Lanes, Limits};

use crate::common::{LIMIT, Scratch, wait_until};

#[derive(Default)]
struct Seen {
    /// Offsets by key, in the order in which they were accepted.
    by_key: Mutex<BTreeMap<Vec<u8>, Vec<u64>>>,
    now: AtomicU64,
    most: AtomicU64,
    batches: AtomicU64,
    closed: AtomicU64,
}

impl Seen {
    fn accepted(&self) -> usize {
        self.by_key.lock().unwrap().values().map(Vec::len).sum()
    }
}

/// Takes some time for each batch, and panics where it is told to.
struct Slow {
    seen: Arc<Seen>,
    time: Duration,
    panics_at: Option<u64>,
}

impl BlockingSink for Slow {
    fn limits(&self) -> Limits {
        Limits::default()
    }

    fn deliver(&mut self, batch: &Batch<'_>, _timeout: Duration, answer: &mut Answer<'_>) {
        let seen = &self.seen;
        let now = seen.now.fetch_add(1, Ordering::SeqCst) + 1;
        seen.most.fetch_max(now, Ordering::SeqCst);
        std::thread::sleep(self.time);
        seen.now.fetch_sub(1, Ordering::SeqCst);
        let number = seen.batches.fetch_add(1, Ordering::SeqCst);
        assert_ne!(self.panics_at, Some(number), "as it is told to");
        let mut by_key = seen.by_key.lock().unwrap();
        for record in batch.iter() {
            assert_eq!(record.payload, record.time_ms.to_string().as_bytes());
            by_key
                .entry(record.key.to_vec())
                .or_default()
                .push(record.time_ms);
        }
        answer.accept_rest();
    }

    fn close(&mut self, _timeout: Duration) {
        self.seen.closed.fetch_add(1, Ordering::SeqCst);
    }
}

fn lanes(count: usize, time: Duration, panics_at: Option<u64>) -> (Arc<Seen>, Lanes) {
    let seen = Arc::new(Seen::default());
    let sinks = (0..count).map(|_| Slow {
        seen: Arc::clone(&seen),
        time,
        panics_at,
    });
    let lanes = Lanes::new(sinks.collect()).unwrap();
    (seen, lanes)
}

/// Stores so many records without a sink, of sixteen keys.
fn store(scratch: &Scratch, count: u64) {
    let engine = Engine::open(&scratch.config(&stream("{}"))).unwrap();
    let telemetry = engine.stream("telemetry").unwrap();
    for n in 0..count {
        let key = [b'a' + u8::try_from(n % 16).unwrap()];
        while telemetry.append(&key, n, n.to_string().as_bytes()).is_err() {
            std::thread::yield_now();
        }
    }
    telemetry.flush(LIMIT).unwrap();
    engine.close(LIMIT).unwrap();
}

/// A stream with small batches.
fn stream(delivery: &str) -> String {
    format!(
        r#"{{"name": "telemetry", "sink": {{"type": "callback", "id": "test"}},
            "batch": {{"maxRecords": 10, "maxLatencyMs": 0}}, "delivery": {delivery}}}"#
    )
}

/// Four lanes deliver at the same time, each key in its order, nothing twice; a stop ends their threads.
#[test]
fn lanes_deliver_at_the_same_time_and_keep_each_keys_order() {
    let scratch = Scratch::new("lanes");
    let count = 1000;
    store(&scratch, count);
    let (seen, sink) = lanes(4, Duration::from_millis(20), None);
    let config = scratch.config(&stream(r#"{"ordering": "perKey"}"#));
    let start = Instant::now();
    let engine = Engine::open(&config.with_sink("test", sink)).unwrap();
    wait_until("delivery", || seen.accepted() as u64 == count);
    println!("{count} records in {:?}", start.elapsed());
    engine.close(LIMIT).unwrap();
    assert_eq!(seen.most.load(Ordering::SeqCst), 4);
    assert_eq!(seen.closed.load(Ordering::SeqCst), 4, "each lane is closed");
    for (key, times) in seen.by_key.lock().unwrap().iter() {
        assert!(times.is_sorted(), "{key:?}: {times:?}");
    }
}

/// `maxInFlight` bounds the lanes that are used; under `stream` it is one, whatever there is.
#[test]
fn no_more_lanes_are_used_than_are_asked_for() {
    for (delivery, most) in [
        (r#"{"ordering": "none", "maxInFlight": 2}"#, 2),
        (r#"{"ordering": "stream", "maxInFlight": 8}"#, 1),
        (r#"{"ordering": "none", "maxInFlight": 8}"#, 3),
    ] {
        let scratch = Scratch::new("lanes-few");
        store(&scratch, 200);
        let (seen, sink) = lanes(3, Duration::from_millis(10), None);
        let config = scratch.config(&stream(delivery));
        let engine = Engine::open(&config.with_sink("test", sink)).unwrap();
        wait_until("delivery", || seen.accepted() == 200);
        engine.close(LIMIT).unwrap();
        assert_eq!(seen.most.load(Ordering::SeqCst), most, "{delivery}");
    }
}

/// A lane that panics is a retry, counted, and the lane goes on.
#[test]
fn a_panic_in_a_lane_is_a_retry() {
    let scratch = Scratch::new("lanes-panic");
    store(&scratch, 100);
    let (seen, sink) = lanes(2, Duration::from_millis(1), Some(3));
    let config = scratch.config(&stream(r#"{"ordering": "none"}"#));
    let engine = Engine::open(&config.with_sink("test", sink)).unwrap();
    let telemetry = engine.stream("telemetry").unwrap();
    wait_until("delivery", || telemetry.stats().backlog == 0);
    assert_eq!(seen.accepted(), 100, "nothing comes twice");
    let sink = &telemetry.stats().sinks[0];
    assert_eq!((sink.panics_total, sink.retries_total), (1, 10));
    engine.close(LIMIT).unwrap();
}
