//! How fast a backlog leaves the store: a reopened log to a sink that takes everything, against the least
//! that could be done with the same bytes.
//!
//! The floor, in the same run: the framed bytes lie in memory; each record's checksum is computed and its
//! body copied. Both sides end with everything acknowledged in a durable checkpoint. Counts first.
//! `drain [DIR] [MIB]`.

#![allow(clippy::disallowed_methods, clippy::print_stdout, missing_docs)]
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use forebay::sink::{Answer, Batch, Blocking, BlockingSink, Limits};
use forebay::{Config, Engine};

const KEY: [u8; 16] = [7; 16];
const RECORD_HEADER: usize = 24;

/// Takes everything and forgets it.
struct Null(Arc<AtomicU64>);

impl BlockingSink for Null {
    fn limits(&self) -> Limits {
        Limits::default()
    }

    fn deliver(&mut self, batch: &Batch<'_>, _timeout: Duration, answer: &mut Answer<'_>) {
        answer.accept_rest();
        self.0.fetch_add(batch.len() as u64, Ordering::Release);
    }
}

fn config(path: &Path, batch: u32) -> Config {
    let (data, run) = (path.join("data"), path.join("run"));
    let text = format!(
        r#"{{"dataDir": {data:?}, "runDir": {run:?}, "streams": [{{"name": "bench",
            "sink": {{"type": "callback", "id": "null"}}, "batch": {{"maxRecords": {batch}, "maxLatencyMs": 0}},
            "buffer": {{"maxDiskBytes": 4294967296}}}}]}}"#
    );
    Config::from_json(&text).unwrap()
}

/// Fills a store; returns how many records it has.
fn fill(path: &Path, payload_len: usize, mib: u64) -> u64 {
    let engine = Engine::open_to_store(&config(path, 500)).unwrap();
    let stream = engine.stream("bench").unwrap();
    let payload = vec![9u8; payload_len];
    let count = (mib << 20) / (RECORD_HEADER + KEY.len() + payload_len) as u64;
    for n in 0..count {
        while stream.append(&KEY, n, &payload).is_err() {
            std::thread::yield_now();
        }
    }
    stream.flush(Duration::from_secs(120)).unwrap();
    engine.close(Duration::from_secs(60)).unwrap();
    count
}

/// Copies each record and computes its checksum.
fn floor(payload_len: usize, mib: u64) -> f64 {
    let framed = RECORD_HEADER + KEY.len() + payload_len;
    let bytes = vec![9u8; (mib << 20) as usize];
    let mut batch = vec![0u8; framed * 500];
    let start = Instant::now();
    for record in bytes.chunks_exact(framed * 500) {
        for (from, to) in record
            .chunks_exact(framed)
            .zip(batch.chunks_exact_mut(framed))
        {
            black_box(crc32fast::hash(from));
            to.copy_from_slice(from);
        }
        black_box(&mut batch);
    }
    start.elapsed().as_secs_f64()
}

fn drain(path: &Path, count: u64, batch: u32) -> (f64, u64) {
    let taken = Arc::new(AtomicU64::new(0));
    let config = config(path, batch).with_sink("null", Blocking::new(Null(Arc::clone(&taken))));
    let start = Instant::now();
    let engine = Engine::open(&config).unwrap();
    while taken.load(Ordering::Acquire) < count {
        std::thread::sleep(Duration::from_micros(200));
    }
    let stream = engine.stream("bench").unwrap();
    engine.close(Duration::from_secs(60)).unwrap();
    let time = start.elapsed().as_secs_f64();
    (time, stream.stats().written_bytes)
}

fn main() {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    let dir = args.first().map_or_else(std::env::temp_dir, PathBuf::from);
    let mib = args.get(1).and_then(|arg| arg.parse().ok()).unwrap_or(256);
    let path = dir.join(format!("forebay-drain-{}", std::process::id()));
    for (payload_len, batch) in [(100, 500), (200, 500), (1000, 500), (100, 10_000)] {
        let mut ratios = Vec::new();
        let mut rates = Vec::new();
        let mut written = 0;
        for round in 0..5 {
            let path = path.join(format!("{payload_len}-{batch}-{round}"));
            let count = fill(&path, payload_len, mib);
            let floor = floor(payload_len, mib);
            let (time, bytes) = drain(&path, count, batch);
            written = bytes;
            ratios.push(floor / time);
            rates.push(count as f64 / time);
            let _ = std::fs::remove_dir_all(&path);
        }
        ratios.sort_by(f64::total_cmp);
        rates.sort_by(f64::total_cmp);
        println!(
            "16 + {payload_len} B, batches of {batch}: {written} bytes written, \
             {:.2} million records/s, {:.2} of copying and checksums",
            rates[2] / 1e6,
            ratios[2],
        );
    }
    let _ = std::fs::remove_dir_all(&path);
}
