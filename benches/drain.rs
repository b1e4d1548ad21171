//! How fast a backlog leaves the store: a reopened log to a sink that takes everything, against the least
//! that could be done with the same bytes.
//!
//! The floor, in the same run: the framed bytes lie in memory; each record's checksum is computed and the
//! record copied, and as many durable checkpoints are written. The floor from the file, too: the same bytes
//! read through the page cache first, 64 KiB at a time.
//!
//! The drain begins before the store is opened. It is counted until the sink has all records, and until the
//! engine is closed: then the last checkpoint is durable, and the segments are removed, which takes longer.
//! Counts first. `drain [DIR] [MIB]`.

#![allow(clippy::disallowed_methods, clippy::print_stdout, missing_docs)]
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use forebay::sink::{Answer, Batch, Blocking, BlockingSink, Limits};
use forebay::{Config, Engine};

const KEY: [u8; 16] = [7; 16];
const RECORD_HEADER: usize = 24;
const PAGE: usize = 4096;
const READ: usize = 64 << 10;

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

/// Computes the checksum of each record and copies it.
fn checked_copy(from: &[u8], to: &mut [u8], framed: usize) {
    for (from, to) in from.chunks_exact(framed).zip(to.chunks_exact_mut(framed)) {
        black_box(crc32fast::hash(from));
        to.copy_from_slice(from);
    }
}

/// The floor, with so many checkpoints: from memory, and from the file.
fn floors(path: &Path, payload_len: usize, count: u64, checkpoints: u64) -> [f64; 2] {
    let framed = RECORD_HEADER + KEY.len() + payload_len;
    let bytes = vec![9u8; framed * count as usize];
    let mut batch = vec![0u8; framed * 500];
    let name = path.join("floor");
    std::fs::write(&name, &bytes).unwrap();
    let file = File::options().read(true).write(true).open(&name).unwrap();
    file.sync_all().unwrap();
    let checkpoint = |file: &File| {
        for _ in 0..checkpoints {
            file.write_all_at(&bytes[..PAGE], 0).unwrap();
            file.sync_data().unwrap();
        }
    };
    let start = Instant::now();
    for from in bytes.chunks(framed * 500) {
        checked_copy(from, &mut batch, framed);
        black_box(&mut batch);
    }
    checkpoint(&file);
    let from_memory = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let mut buffer = vec![0u8; READ.next_multiple_of(framed)];
    let mut position = 0;
    while position < bytes.len() as u64 {
        let len = file.read_at(&mut buffer, position).unwrap();
        checked_copy(&buffer[..len], &mut batch, framed);
        black_box(&mut batch);
        position += len as u64;
    }
    checkpoint(&file);
    [from_memory, start.elapsed().as_secs_f64()]
}

/// Seconds until the sink has all records, and until the engine is closed; and bytes written.
fn drain(path: &Path, count: u64, batch: u32) -> ([f64; 2], u64) {
    let taken = Arc::new(AtomicU64::new(0));
    let config = config(path, batch).with_sink("null", Blocking::new(Null(Arc::clone(&taken))));
    let start = Instant::now();
    let engine = Engine::open(&config).unwrap();
    while taken.load(Ordering::Acquire) < count {
        std::thread::sleep(Duration::from_micros(200));
    }
    let delivered = start.elapsed().as_secs_f64();
    let stream = engine.stream("bench").unwrap();
    engine.close(Duration::from_secs(60)).unwrap();
    let time = start.elapsed().as_secs_f64();
    ([delivered, time], stream.stats().written_bytes)
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
        let mut rounds = Vec::new();
        let mut written = 0;
        for round in 0..5 {
            let path = path.join(format!("{payload_len}-{batch}-{round}"));
            let count = fill(&path, payload_len, mib);
            let ([delivered, time], bytes) = drain(&path, count, batch);
            written = bytes;
            let ([_, idle], _) = drain(&path, 0, batch);
            let [memory, file] = floors(&path, payload_len, count, written / PAGE as u64);
            let nanos = |seconds: f64| seconds * 1e9 / count as f64;
            rounds.push([
                memory / delivered,
                file / delivered,
                memory / time,
                nanos(delivered),
                nanos(memory),
                nanos(file),
                (time - delivered) * 1e3,
                idle * 1e3,
            ]);
            let _ = std::fs::remove_dir_all(&path);
        }
        let medians: [f64; 8] = std::array::from_fn(|of| {
            let mut values: Vec<f64> = rounds.iter().map(|round| round[of]).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        });
        let [
            of_memory,
            of_file,
            closed,
            time,
            memory,
            file,
            closing,
            idle,
        ] = medians;
        println!(
            "16 + {payload_len} B, batches of {batch}: {written} bytes written, {:.2} million records/s, \
             {of_memory:.2} of copying and checksums, {of_file:.2} of the same from a file, \
             {closed:.2} until it is closed",
            1e3 / time,
        );
        println!(
            "    ns a record: {time:.0}, {memory:.0} and {file:.0}; closing takes {closing:.1} ms more, \
             opening and closing with nothing to drain {idle:.1} ms"
        );
    }
    let _ = std::fs::remove_dir_all(&path);
}
