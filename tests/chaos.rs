//! A whole engine with everything at once: three streams, one for each order of delivery, with three sinks each
//! and lanes of their own; eight producers that append to all of them; and pauses of any length at any place. Each sink gets each record at least once, as it was appended and
//! in the order that it was promised.
//!
//! `CHAOS_SECS` sets for how long (default 3), `SEED` the pauses. ThreadSanitizer goes over it by the command in
//! docs/testing.md.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // a test is not behind the seams

mod common;
#[path = "sim/random.rs"]
#[allow(dead_code)]
mod random;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{LIMIT, Scratch};
use forebay::sink::{Answer, Batch, Blocking, BlockingSink, Lanes, Outcome};
use forebay::{Code, Engine, Record, Stream};
use random::{Random, seed};

const PRODUCERS: u64 = 8;
/// A producer's records go to so many keys in turn, which are its own.
const KEYS: u64 = 4;
const ORDERS: [&str; 3] = ["stream", "perKey", "none"];
const SINKS: usize = 3;
const LANES: u64 = 4;
/// The most records that wait for the slowest sink.
const BACKLOG_MAX: u64 = 5000;

/// What a sink has taken for good.
#[derive(Default)]
struct Taken {
    /// How often each of a producer's records was accepted.
    counts: [Vec<u8>; PRODUCERS as usize],
    /// The newest number of each producer and key.
    newest: HashMap<(u64, u64), u64>,
    newest_offset: u64,
    accepted: u64,
    retried: u64,
    late: u64,
}

/// One lane of a sink that takes its time, fails, and takes a part of what it gets.
struct Lane {
    order: &'static str,
    taken: Arc<Mutex<Taken>>,
    random: Random,
}

impl Lane {
    /// Notes that a record was accepted, which comes in order where that was promised.
    fn accept(&self, taken: &mut Taken, offset: u64, key: &[u8], payload: &[u8]) {
        let text = std::str::from_utf8(payload).unwrap();
        let mut words = text.split(' ').map(|word| word.parse::<u64>().unwrap());
        let (producer, n) = (words.next().unwrap(), words.next().unwrap());
        assert_eq!(text, payload_of(producer, n));
        assert_eq!(key, key_of(producer, n).as_bytes());
        let counts = &mut taken.counts[usize::try_from(producer).unwrap()];
        let at = usize::try_from(n).unwrap();
        counts.resize(counts.len().max(at + 1), 0);
        counts[at] = counts[at].saturating_add(1);
        taken.accepted += 1;
        let newest = taken.newest.entry((producer, n % KEYS)).or_default();
        let is_late = *newest > n;
        *newest = n.max(*newest);
        taken.late += u64::from(is_late);
        match self.order {
            "stream" => {
                assert!(offset >= taken.newest_offset, "{offset} comes late");
                taken.newest_offset = offset;
            }
            "perKey" => assert!(!is_late, "{n} of {producer} comes late"),
            _ => {}
        }
    }
}

impl BlockingSink for Lane {
    fn deliver(&mut self, batch: &Batch<'_>, _timeout: Duration, answer: &mut Answer<'_>) {
        pause(&mut self.random, 3000);
        // Nothing at all, and sometimes not even an answer.
        if self.random.chance(12) {
            self.taken.lock().unwrap().retried += batch.len() as u64;
            assert!(!self.random.chance(4), "a sink may panic");
            return;
        }
        let fails_from = match self.random.chance(5) {
            true => usize::try_from(self.random.below(batch.len() as u64 + 1)).unwrap(),
            false => batch.len(),
        };
        let mut failed: Vec<Vec<u8>> = Vec::new();
        let mut taken = self.taken.lock().unwrap();
        for (index, record) in batch.iter().enumerate() {
            // One that takes parts keeps the order that it promises.
            let fails = match self.order {
                "stream" => index >= fails_from,
                "perKey" => index == fails_from || failed.iter().any(|key| *key == record.key),
                _ => fails_from < batch.len() && self.random.chance(3),
            };
            if fails {
                failed.push(record.key.to_vec());
                taken.retried += 1;
                answer.set(index, Outcome::Retry(None));
            } else {
                self.accept(&mut taken, record.offset, record.key, record.payload);
                answer.set(index, Outcome::Accepted);
            }
        }
    }
}

fn key_of(producer: u64, n: u64) -> String {
    format!("p{producer}-{}", n % KEYS)
}

fn payload_of(producer: u64, n: u64) -> String {
    let len = Random::new(producer * 31 + n).below(if n % 40 == 3 { 6000 } else { 120 });
    format!(
        "{producer} {n} {}",
        10u128.pow(u32::try_from(len % 30).unwrap())
    )
}

/// Nothing, a moment, or up to `us_max` microseconds.
fn pause(random: &mut Random, us_max: u64) {
    match random.below(8) {
        0 => std::thread::sleep(Duration::from_micros(random.below(us_max))),
        1..3 => std::thread::yield_now(),
        _ => {}
    }
}

/// Appends to all streams by all the ways there are until it is told to stop. Returns how many each has taken.
fn produce(streams: &[Stream], producer: u64, mut random: Random, stops: &AtomicBool) -> [u64; 3] {
    let (mut numbers, mut last) = ([0; 3], [None; 3]);
    while !stops.load(Ordering::Relaxed) {
        pause(&mut random, 2000);
        let at = usize::try_from(random.below(3)).unwrap();
        let (stream, n) = (&streams[at], numbers[at]);
        if stream.stats().backlog > BACKLOG_MAX {
            std::thread::sleep(Duration::from_millis(2));
            continue;
        }
        let count = if random.chance(6) {
            1 + random.below(20)
        } else {
            1
        };
        let payloads: Vec<_> = (n..n + count).map(|n| payload_of(producer, n)).collect();
        let keys: Vec<_> = (n..n + count).map(|n| key_of(producer, n)).collect();
        let pairs = keys.iter().zip(&payloads);
        let records: Vec<_> = pairs
            .map(|(key, payload)| Record::new(key.as_bytes(), n, payload.as_bytes()))
            .collect();
        let done = if count > 1 {
            stream.append_batch(&records).map(|offsets| {
                assert_eq!(offsets.end - offsets.start, count);
                offsets.start
            })
        } else if random.chance(30) {
            stream.append_durable(records[0].key, n, records[0].payload, LIMIT)
        } else {
            stream.append_record(&records[0])
        };
        match done {
            Ok(offset) => {
                let before = last[at].replace(offset + count - 1);
                assert!(before < Some(offset), "{offset} after {before:?}");
                numbers[at] += count;
            }
            Err(error) => assert_eq!(error.code(), Code::Full, "{error}"),
        }
    }
    numbers
}

/// What each sink of each stream has taken.
type AllTaken = [[Arc<Mutex<Taken>>; SINKS]; ORDERS.len()];

fn config(scratch: &Scratch, taken: &AllTaken, seed: u64) -> forebay::Config {
    let streams = ORDERS.map(|order| {
        let lanes = if order == "stream" { 1 } else { LANES };
        let sinks = (0..SINKS).map(|sink| {
            format!(r#"{{"name": "s{sink}", "type": "callback", "id": "{order}-{sink}"}}"#)
        });
        let sinks: Vec<_> = sinks.collect();
        format!(
            r#"{{"name": "{order}", "sinks": [{}],
                "batch": {{"maxRecords": 64, "maxBytes": 65536, "maxLatencyMs": 1}},
                "delivery": {{"ordering": "{order}", "maxInFlight": {lanes}, "backoffBaseMs": 1,
                    "backoffMaxMs": 20}},
                "buffer": {{"volatile": "allow", "segmentBytes": 1048576, "maxDiskBytes": 67108864,
                    "maxBufferedRecords": 1000, "maxBufferedBytes": 262144, "fsyncIntervalMs": 3,
                    "checkpointMs": 20}}}}"#,
            sinks.join(", ")
        )
    });
    let mut config = scratch.config(&streams.join(", "));
    for (at, order) in ORDERS.into_iter().enumerate() {
        for (sink, taken) in taken[at].iter().enumerate() {
            let id = format!("{order}-{sink}");
            let lane = |lane: u64| Lane {
                order,
                taken: Arc::clone(taken),
                random: Random::new(seed * 100 + lane * 10 + (at * SINKS + sink) as u64),
            };
            config = if order == "stream" {
                config.with_sink(&id, Blocking::new(lane(0)))
            } else {
                let lanes = (0..LANES).map(lane).collect();
                config.with_sink(&id, Lanes::new(lanes).unwrap())
            };
        }
    }
    config
}

/// Each stream's numbers move forward only.
fn watch(streams: &[Stream], stops: &AtomicBool) -> u64 {
    let (mut durable, mut looks) = (vec![0; streams.len()], 0);
    while !stops.load(Ordering::Relaxed) {
        for (stream, durable) in streams.iter().zip(&mut durable) {
            let stats = stream.stats();
            assert!(stats.durable_offset >= *durable, "{stats:?}");
            *durable = stats.durable_offset;
            looks += 1;
        }
        std::thread::sleep(Duration::from_micros(500));
    }
    looks
}

/// Waits until everything is delivered; as long as there is progress.
fn drain(stream: &Stream) {
    let mut last = (u64::MAX, Instant::now());
    loop {
        let backlog = stream.stats().backlog;
        if backlog == 0 {
            return;
        }
        if backlog < last.0 {
            last = (backlog, Instant::now());
        }
        assert!(last.1.elapsed() < LIMIT * 3, "{:?}", stream.stats());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// `G-004`, `G-021`, `G-071`.
#[test]
fn everything_at_once_loses_and_reorders_nothing() {
    let secs = std::env::var("CHAOS_SECS").ok();
    let secs: u64 = secs.map_or(3, |secs| secs.parse().unwrap());
    let seed = seed(u64::from(std::process::id()));
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let is_meant = panic.payload().downcast_ref::<&str>() == Some(&"a sink may panic");
        if !is_meant {
            hook(panic);
        }
    }));
    let scratch = Scratch::new("chaos");
    let taken = AllTaken::default();
    let engine = Engine::open(&config(&scratch, &taken, seed)).unwrap();
    let streams = ORDERS.map(|order| engine.stream(order).unwrap());
    let stops = AtomicBool::new(false);
    let start = Instant::now();
    let (appended, looks) = std::thread::scope(|scope| {
        let (streams, stops) = (&streams, &stops);
        let producers = (0..PRODUCERS).map(|producer| {
            let random = Random::new(seed * 1000 + producer);
            scope.spawn(move || produce(streams, producer, random, stops))
        });
        let producers: Vec<_> = producers.collect();
        // Somebody looks all the time, and somebody else flushes.
        let watch = scope.spawn(|| watch(streams, stops));
        scope.spawn(|| {
            while !stops.load(Ordering::Relaxed) {
                streams
                    .iter()
                    .for_each(|stream| stream.flush(LIMIT).unwrap());
                std::thread::sleep(Duration::from_millis(7));
            }
        });
        while start.elapsed() < Duration::from_secs(secs) {
            assert!(!engine.is_poisoned());
            std::thread::sleep(Duration::from_millis(20));
        }
        stops.store(true, Ordering::Relaxed);
        let joined = producers
            .into_iter()
            .map(|producer| producer.join().unwrap());
        (joined.collect::<Vec<_>>(), watch.join().unwrap())
    });
    streams.iter().for_each(drain);
    let stats = streams.each_ref().map(Stream::stats);
    engine.close(LIMIT).unwrap();
    println!("SEED={seed}, {secs} s, {PRODUCERS} producers, {looks} looks:");
    for (at, order) in ORDERS.into_iter().enumerate() {
        let stats = &stats[at];
        let sum: u64 = appended.iter().map(|numbers| numbers[at]).sum();
        assert_eq!(stats.appended_total, sum);
        assert_eq!(
            (stats.dropped_total, stats.failed_total),
            (0, 0),
            "{stats:?}"
        );
        assert!(sum > 50 * secs, "{sum} records show little");
        for taken in &taken[at] {
            let taken = taken.lock().unwrap();
            for (counts, numbers) in taken.counts.iter().zip(&appended) {
                let missing = counts.iter().position(|count| *count == 0);
                assert_eq!(
                    (counts.len() as u64, missing),
                    (numbers[at], None),
                    "{order}"
                );
            }
            let Taken {
                accepted,
                retried,
                late,
                ..
            } = &*taken;
            println!(
                "  {order}: {sum} appended, {accepted} accepted, {retried} sent again, {late} overtaken"
            );
            assert!(*retried > 0);
        }
    }
}
