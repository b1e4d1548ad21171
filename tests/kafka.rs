//! The sink for Kafka against Apache Kafka itself, and what it does when there is none.
//!
//! The broker is fetched once and runs in a process of its own. What was delivered is read back by the
//! reader that comes with Kafka, which shares no code with the client in the sink.

#![cfg(feature = "kafka")]

mod common;

#[path = "kafka/broker.rs"]
mod broker;
#[path = "kafka/delivery.rs"]
mod delivery;
#[path = "kafka/flaps.rs"]
mod flaps;
#[path = "kafka/once.rs"]
mod once;
#[path = "common/process.rs"]
mod process;
#[path = "kafka/proxy.rs"]
mod proxy;
#[cfg(feature = "kafka-tls")]
#[path = "kafka/secure.rs"]
mod secure;
#[path = "kafka/shared.rs"]
mod shared;
#[path = "kafka/trouble.rs"]
mod trouble;

use std::collections::HashMap;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use broker::Read;
use common::Scratch;
use forebay::{Engine, Stream};

/// An engine with a stream `telemetry`.
struct Gateway {
    engine: Engine,
    stream: Stream,
    _scratch: Scratch,
}

impl Gateway {
    /// To a topic of a broker at a port, with more fields of the sink.
    fn open(topic: &str, port: u16, sink: &str) -> Self {
        Self::open_to(&format!("127.0.0.1:{port}"), topic, sink)
    }

    /// To a topic of the broker at an address.
    fn open_to(address: &str, topic: &str, sink: &str) -> Self {
        let scratch = Scratch::new(&format!("kafka-{topic}"));
        let config = scratch.config(&format!(
            r#"{{"name": "telemetry", "buffer": {{"volatile": "allow", "fsyncIntervalMs": 20}},
                "batch": {{"maxLatencyMs": 20}}, "delivery": {{"backoffMaxMs": 500, "maxInFlight": 4}},
                "sink": {{"type": "kafka", "bootstrapServers": "{address}", "topic": "{topic}"
                          {sink}}}}}"#
        ));
        let engine = Engine::open(&config).unwrap();
        let stream = engine.stream("telemetry").unwrap();
        Self {
            engine,
            stream,
            _scratch: scratch,
        }
    }

    /// Appends records of seven keys whose payloads are numbers.
    fn append(&self, numbers: std::ops::Range<u64>) {
        for number in numbers {
            let (key, payload) = (format!("key-{}", number % 7), number.to_string());
            self.stream
                .append(key.as_bytes(), time() + number, payload.as_bytes())
                .unwrap();
        }
    }

    fn acked(&self) -> u64 {
        self.stream.stats().acked_offset
    }

    fn state(&self) -> String {
        self.stream.stats().sinks[0].state.name().to_owned()
    }

    /// Waits until all up to an offset is acknowledged, for at most two minutes.
    fn wait_for(&self, offset: u64) {
        for _ in 0..12_000 {
            if self.acked() >= offset {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
        panic!("not delivered: {:?}", self.stream.stats());
    }

    fn close(self) {
        self.engine.close(Duration::from_secs(20)).unwrap();
    }
}

/// The time of the first record: that of the first call, in milliseconds.
///
/// It is not far back: what a broker knows of a producer, by which it finds repeats, is forgotten with a restart
/// when the producer's last record is older than `producer.id.expiration.ms`.
fn time() -> u64 {
    static TIME: OnceLock<u64> = OnceLock::new();
    *TIME.get_or_init(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        u64::try_from(since.as_millis()).unwrap()
    })
}

/// Each key's numbers, in the order in which a reader gets them.
fn by_key(messages: &[Read]) -> HashMap<&str, Vec<u64>> {
    let mut keys: HashMap<_, Vec<_>> = HashMap::new();
    for message in messages {
        let number = message.value.parse().unwrap();
        keys.entry(message.key.as_str()).or_default().push(number);
    }
    keys
}

/// The messages without those that came a second time.
fn first_of_each(messages: Vec<Read>) -> Vec<Read> {
    let mut seen = std::collections::BTreeSet::new();
    let is_new = |message: &Read| seen.insert(message.offset());
    messages.into_iter().filter(is_new).collect()
}

/// Every number is there once, and those of a key in their order.
fn assert_complete(messages: &[Read], count: u64) {
    let mut seen: Vec<u64> = messages
        .iter()
        .map(|message| message.value.parse().unwrap())
        .collect();
    seen.sort_unstable();
    let is_each_there_once = seen.iter().copied().eq(0..count);
    let (len, first) = (seen.len(), (0..count).zip(&seen).find(|(a, b)| a != *b));
    assert!(is_each_there_once, "{len} of {count}: {first:?}");
    for (key, numbers) in by_key(messages) {
        assert!(numbers.is_sorted(), "{key}");
    }
    let mut partitions: HashMap<&str, u32> = HashMap::new();
    for message in messages {
        let partition = partitions.entry(&message.key).or_insert(message.partition);
        assert_eq!(
            *partition, message.partition,
            "a key stays in its partition"
        );
    }
}

/// Waits longer than [`wait_until`] does: brokers take their time.
fn wait_long(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..12_000 {
        if is_so() {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    panic!("{what}: not within two minutes");
}
