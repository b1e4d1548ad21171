//! What an append costs its producer, against the least that it could cost.
//!
//! The floor, in the same run: copy the record's bytes into a buffer as large as the ring, one atomic
//! read-modify-write, one release store. Counts first; then means over 1,000 appends, taken in turns with
//! the floor; single calls are timed only for the far tail, since reading the clock costs more than an
//! append. Runs wherever the binary is copied to: `ingest [SECONDS]`.

#![allow(clippy::disallowed_methods, clippy::print_stdout, missing_docs)]
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use forebay::engine::World;
use forebay::{Code, Config, Engine, Stream};

#[allow(dead_code)]
#[path = "../tests/common/gate.rs"]
mod gate;

use gate::{Gate, Syncs};

const KEY_LEN: usize = 16;
const PAYLOAD_LEN: usize = 100;
const GROUP: usize = 1000;

/// An engine with one stream that is only stored.
fn engine(path: &std::path::Path, buffer: &str) -> Engine {
    engine_in(path, buffer, &World::real())
}

fn engine_in(path: &std::path::Path, buffer: &str, world: &World) -> Engine {
    let (data, run) = (path.join("data"), path.join("run"));
    let text = format!(
        r#"{{"dataDir": {data:?}, "runDir": {run:?}, "streams": [{{"name": "bench",
            "sink": {{"type": "none"}}, "buffer": {{"maxDiskBytes": 536870912 {buffer}}}}}]}}"#
    );
    Engine::open_in(&Config::from_json(&text).unwrap(), world).unwrap()
}

/// Appends, waiting while there is no room.
fn append(stream: &Stream, key: &[u8], payload: &[u8]) -> u64 {
    let mut waits = 0;
    loop {
        match stream.append(key, 1, payload) {
            Ok(_) => return waits,
            Err(error) => assert_eq!(error.code(), Code::Full),
        }
        waits += 1;
        thread::yield_now();
    }
}

/// The floor: what cannot be left out when many threads put bytes into one buffer.
struct Floor {
    claim: AtomicU64,
    commit: AtomicU32,
    buffer: Vec<u8>,
}

impl Floor {
    fn new() -> Self {
        Self {
            claim: AtomicU64::new(0),
            commit: AtomicU32::new(0),
            buffer: vec![0; 4 << 20],
        }
    }

    #[inline(never)]
    fn put(&mut self, key: &[u8], payload: &[u8]) {
        let size = (key.len() + payload.len()).next_multiple_of(8);
        let at = self.claim.fetch_add(size as u64, Ordering::AcqRel) as usize;
        let at = (at & (self.buffer.len() - 1)).min(self.buffer.len() - size);
        self.buffer[at..at + key.len()].copy_from_slice(key);
        self.buffer[at + key.len()..at + key.len() + payload.len()].copy_from_slice(payload);
        self.commit.store(1, Ordering::Release);
    }
}

/// Minimum, median and 99th percentile.
fn quantiles(values: &mut [f64]) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    let at = |share: f64| values[((values.len() - 1) as f64 * share) as usize];
    (at(0.0), at(0.5), at(0.99))
}

/// One producer that never finds the ring full, against the floor, in turns.
fn one_producer(path: &std::path::Path) {
    // Less than half of the ring between two syncs, so that the syncer sleeps while it is measured.
    let engine = engine(path, "");
    let stream = engine.stream("bench").unwrap();
    let (key, payload) = ([7u8; KEY_LEN], [9u8; PAYLOAD_LEN]);
    let mut floor = Floor::new();
    let (mut floors, mut appends) = (Vec::new(), Vec::new());
    let mut refused = 0;
    for round in 0..400 {
        let start = Instant::now();
        for _ in 0..GROUP {
            floor.put(black_box(&key), black_box(&payload));
        }
        let floor_time = start.elapsed();
        let start = Instant::now();
        for _ in 0..GROUP {
            refused += append(&stream, black_box(&key), black_box(&payload));
        }
        let append_time = start.elapsed();
        if round % 4 == 3 {
            stream.flush(Duration::from_secs(60)).unwrap();
        }
        // The first rounds touch every page of ring and buffer.
        if round >= 60 {
            floors.push(floor_time.as_nanos() as f64 / GROUP as f64);
            appends.push(append_time.as_nanos() as f64 / GROUP as f64);
        }
    }
    let (floor_min, floor_median, floor_p99) = quantiles(&mut floors);
    let (min, median, p99) = quantiles(&mut appends);
    println!(
        "one producer, {KEY_LEN} + {PAYLOAD_LEN} bytes, means over {GROUP}, refused {refused}"
    );
    println!("  floor   min {floor_min:.1} median {floor_median:.1} p99 {floor_p99:.1} ns");
    println!("  append  min {min:.1} median {median:.1} p99 {p99:.1} ns");
    println!(
        "  append / floor: {:.2} (median), {:.2} (min); bound 2.5",
        median / floor_median,
        min / floor_min
    );
    println!("  wake-ups by the producer: {}", stream.ring().wakes());
}

/// Producers flat out: what the ring takes while the syncer drains it.
fn flat_out(path: &std::path::Path, producers: usize, seconds: f64) {
    let engine = engine(path, "");
    let stream = engine.stream("bench").unwrap();
    let barrier = Arc::new(Barrier::new(producers + 1));
    let is_over = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..producers)
        .map(|_| {
            let (stream, barrier) = (stream.clone(), Arc::clone(&barrier));
            let is_over = Arc::clone(&is_over);
            thread::spawn(move || {
                let (key, payload) = ([7u8; KEY_LEN], [9u8; PAYLOAD_LEN]);
                let mut waits = 0;
                let mut count = 0u64;
                barrier.wait();
                while !is_over.load(Ordering::Relaxed) {
                    waits += append(&stream, &key, &payload);
                    count += 1;
                }
                (count, waits)
            })
        })
        .collect();
    barrier.wait();
    let start = Instant::now();
    thread::sleep(Duration::from_secs_f64(seconds));
    is_over.store(true, Ordering::Relaxed);
    let counts: Vec<(u64, u64)> = threads.into_iter().map(|t| t.join().unwrap()).collect();
    let time = start.elapsed().as_secs_f64();
    let count: u64 = counts.iter().map(|(count, _)| count).sum();
    let waits: u64 = counts.iter().map(|(_, waits)| waits).sum();
    let stats = stream.stats();
    println!(
        "{producers} producers flat out: {:.2} million records/s, {waits} refusals, {} syncs, \
         {:.2} device bytes per payload byte",
        count as f64 / time / 1e6,
        stats.syncs_total,
        stats.written_bytes as f64 / (count as f64 * PAYLOAD_LEN as f64),
    );
}

/// The far tail of single calls at a set rate; with `syncs` that take so long, if at all. Returns the 99.9th
/// percentile in nanoseconds.
fn tail(path: &std::path::Path, rate: u64, seconds: f64, syncs: Option<Duration>) -> f64 {
    let gate = Gate::default();
    let engine = engine_in(path, "", &gate.world());
    if let Some(time) = syncs {
        gate.set(Syncs::Slow(time));
    }
    let stream = engine.stream("bench").unwrap();
    let (key, payload) = ([7u8; KEY_LEN], [9u8; PAYLOAD_LEN]);
    let mut times = Vec::new();
    let start = Instant::now();
    let mut refused = 0;
    for n in 0..(rate as f64 * seconds) as u64 {
        let due = Duration::from_secs_f64(n as f64 / rate as f64);
        while start.elapsed() < due {
            thread::sleep(due.saturating_sub(start.elapsed()));
        }
        let call = Instant::now();
        refused += u64::from(stream.append(&key, 1, &payload).is_err());
        times.push(call.elapsed().as_nanos() as f64);
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize] / 1000.0;
    let slow = syncs.map_or(String::new(), |time| format!(", each sync takes {time:?}"));
    println!(
        "paced at {rate}/s{slow}: p99 {:.2} p99.9 {:.2} p99.99 {:.2} max {:.2} us, refused {refused}, \
         {} syncs, {} wake-ups by the producer",
        at(0.99),
        at(0.999),
        at(0.9999),
        at(1.0),
        stream.stats().syncs_total,
        stream.ring().wakes(),
    );
    gate.set(Syncs::Done);
    at(0.999)
}

/// The tail while every sync takes a second against the same without, in turns.
fn slow_syncs(path: &std::path::Path, seconds: f64) {
    let mut ratios: Vec<f64> = (0..5)
        .map(|round| {
            let path = path.join(round.to_string());
            let plain = tail(&path.join("plain"), 4000, seconds, None);
            let slow = tail(
                &path.join("slow"),
                4000,
                seconds,
                Some(Duration::from_secs(1)),
            );
            slow / plain
        })
        .collect();
    let (min, median, _) = quantiles(&mut ratios);
    println!("p99.9 with slow syncs / without: {median:.2} (median), {min:.2} (min); bound 1.5");
}

fn main() {
    let seconds = std::env::args()
        .skip(1)
        .find_map(|arg| arg.parse().ok())
        .unwrap_or(2.0);
    let path = std::env::temp_dir().join(format!("forebay-ingest-{}", std::process::id()));
    for (at, run) in [
        &(|path: &std::path::Path| one_producer(path)) as &dyn Fn(&std::path::Path),
        &|path| flat_out(path, 1, seconds),
        &|path| flat_out(path, 2, seconds),
        &|path| flat_out(path, 4, seconds),
        &|path| {
            tail(path, 1000, seconds, None);
        },
        &|path| slow_syncs(path, 2.0 * seconds),
    ]
    .into_iter()
    .enumerate()
    {
        run(&path.join(at.to_string()));
        let _ = std::fs::remove_dir_all(&path);
    }
}
