//! Durable throughput, against raw sequential writes with the same cadence of syncs; and what the device
//! gets for each payload byte.
//!
//! Counts first, then times. Runs wherever the binary is copied to: `append [DIR] [SECONDS] [ONLY]`. The raw side
//! writes the framed bytes of the same records to a preallocated file by `pwrite` and `fdatasync`s as often.

#![allow(clippy::disallowed_methods, clippy::print_stdout, missing_docs)]
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use forebay::{Code, Config, Engine, Stream};

#[allow(dead_code)]
#[path = "../tests/common/gate.rs"]
mod gate;

use gate::{Gate, Syncs};

const KEY: [u8; 16] = [7; 16];
const RECORD_HEADER: usize = 24;

fn engine(path: &Path, buffer: &str, gate: &Gate) -> Engine {
    let (data, run) = (path.join("data"), path.join("run"));
    let text = format!(
        r#"{{"dataDir": {data:?}, "runDir": {run:?}, "streams": [{{"name": "bench",
            "sink": {{"type": "none"}}, "buffer": {{{buffer}}}}}]}}"#
    );
    Engine::open_in(&Config::from_json(&text).unwrap(), &gate.world()).unwrap()
}

fn append(stream: &Stream, payload: &[u8]) {
    while let Err(error) = stream.append(&KEY, 1, payload) {
        assert_eq!(error.code(), Code::Full);
        for _ in 0..200 {
            std::hint::spin_loop();
        }
    }
}

/// A file for the raw side, written once so that its blocks are there.
struct Raw {
    file: std::fs::File,
    size: u64,
    at: u64,
    /// A sync takes so much longer than the medium does.
    sync_more: Duration,
}

impl Raw {
    fn new(path: &Path, sync_more: Duration) -> Self {
        std::fs::create_dir_all(path).unwrap();
        let file = std::fs::File::create(path.join("raw")).unwrap();
        let size = 64 << 20;
        let zeros = vec![0; 1 << 20];
        for at in 0..size >> 20 {
            file.write_all_at(&zeros, at << 20).unwrap();
        }
        file.sync_all().unwrap();
        Self {
            file,
            size,
            at: 0,
            sync_more,
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.at + bytes.len() as u64 > self.size {
            self.at = 0;
        }
        self.file.write_all_at(bytes, self.at).unwrap();
        self.file.sync_data().unwrap();
        if !self.sync_more.is_zero() {
            thread::sleep(self.sync_more);
        }
        self.at += bytes.len() as u64;
    }
}

/// Records a second with a sync for every so many of them, ours and raw, in turns. Syncs of both take so
/// much longer than the medium does.
fn cadence(path: &Path, per_sync: usize, payload_len: usize, sync_more: Duration, seconds: f64) {
    // The ring is half full after `per_sync` records, which is when the syncer syncs; the producer goes on.
    // A quota of a few segments: after the first lap they are recycled.
    let buffer = format!(
        r#""maxBufferedRecords": {}, "segmentBytes": 8388608, "maxDiskBytes": 50331648,
           "fsyncIntervalMs": 60000"#,
        2 * per_sync
    );
    let gate = Gate::default();
    let engine = engine(path, &buffer, &gate);
    let stream = engine.stream("bench").unwrap();
    let payload = vec![9u8; payload_len];
    let framed = RECORD_HEADER + KEY.len() + payload_len;
    let mut raw = Raw::new(path, sync_more);
    // The bytes of a hundred thousand records, one after the other, as ours are.
    let bytes: Vec<u8> = (0..100_000 * framed).map(|at| at as u8).collect();
    let chunk = per_sync * framed;
    let mut chunks = bytes.chunks_exact(chunk).cycle();
    // The first lap prepares segments.
    for _ in 0..(100 << 20) / framed {
        append(&stream, &payload);
    }
    stream.flush(Duration::from_secs(60)).unwrap();
    if !sync_more.is_zero() {
        gate.set(Syncs::Slow(sync_more));
    }
    let (mut ratios, mut rates, mut raw_rates) = (Vec::new(), Vec::new(), Vec::new());
    let mut counts = (0, 0, 0);
    let rounds = 15;
    for _ in 0..rounds {
        let slice = seconds / f64::from(rounds) / 2.0;
        let before = stream.stats();
        let start = Instant::now();
        let mut count = 0;
        while start.elapsed().as_secs_f64() < slice {
            for _ in 0..per_sync {
                append(&stream, &payload);
            }
            count += per_sync;
        }
        stream.flush(Duration::from_secs(60)).unwrap();
        let rate = count as f64 / start.elapsed().as_secs_f64();
        let after = stream.stats();
        counts.0 += count;
        counts.1 += after.syncs_total - before.syncs_total;
        counts.2 += after.written_bytes - before.written_bytes;
        let start = Instant::now();
        let mut count = 0;
        while start.elapsed().as_secs_f64() < slice {
            raw.write(chunks.next().unwrap());
            count += per_sync;
        }
        let raw_rate = count as f64 / start.elapsed().as_secs_f64();
        rates.push(rate);
        raw_rates.push(raw_rate);
        ratios.push(rate / raw_rate);
    }
    let median = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    println!(
        "{per_sync} records of {} + {payload_len} B per sync, syncs {sync_more:?} longer: {:.0} records per sync, \
         {:.3} device bytes per payload byte",
        KEY.len(),
        counts.0 as f64 / counts.1 as f64,
        counts.2 as f64 / (counts.0 * payload_len) as f64,
    );
    println!(
        "  {:.0} records/s, {:.1} MB/s framed, {:.1} MB/s payload; raw {:.0} records/s; ratio {:.2}",
        median(&mut rates),
        median(&mut rates) * framed as f64 / 1e6,
        median(&mut rates) * payload_len as f64 / 1e6,
        median(&mut raw_rates),
        median(&mut ratios),
    );
    gate.set(Syncs::Done);
}

/// The default policy at a paced rate: syncs a second and device bytes for each byte of keys and payloads.
/// The first seconds, which make the first segment, are not counted.
fn paced(path: &Path, rate: u64, record_len: usize, seconds: f64) {
    let engine = engine(path, "", &Gate::default());
    let stream = engine.stream("bench").unwrap();
    let payload = vec![9u8; record_len - KEY.len()];
    let run = |seconds: f64| {
        let start = Instant::now();
        let mut count = 0;
        while start.elapsed().as_secs_f64() < seconds {
            append(&stream, &payload);
            count += 1;
            let due = Duration::from_secs_f64(count as f64 / rate as f64);
            thread::sleep(due.saturating_sub(start.elapsed()));
        }
    };
    run(3.0);
    let before = stream.stats();
    run(seconds);
    let stats = stream.stats();
    let prepared = stats.prepared_bytes - before.prepared_bytes;
    let written = stats.written_bytes - before.written_bytes - prepared;
    let taken = (stats.durable_offset - before.durable_offset) * record_len as u64;
    println!(
        "paced at {rate}/s of {record_len} B: {:.2} syncs/s, {:.3} device bytes for each byte, \
         checkpoints included (preparing segments apart)",
        (stats.syncs_total - before.syncs_total) as f64 / seconds,
        written as f64 / taken as f64,
    );
}

/// What one append costs, with the ring in memory of the process and in shared memory, in turns; the ring is
/// never half full, so the syncer sleeps meanwhile.
fn rings(path: &Path, seconds: f64) {
    const BURST: u32 = 5000;
    let payload = [9u8; 100];
    let gate = Gate::default();
    let engines = ["private", "shared"].map(|ring| {
        let buffer = format!(r#""ring": "{ring}", "fsyncIntervalMs": 60000"#);
        (ring, engine(&path.join(ring), &buffer, &gate))
    });
    let streams = engines
        .each_ref()
        .map(|(_, engine)| engine.stream("bench").unwrap());
    let mut times = [Vec::new(), Vec::new()];
    let (start, mut round) = (Instant::now(), 0);
    // The first laps touch the memory and make the first segments.
    while round < 40 || start.elapsed().as_secs_f64() < seconds {
        for (stream, times) in streams.iter().zip(&mut times) {
            let start = Instant::now();
            for _ in 0..BURST {
                append(stream, &payload);
            }
            if round >= 10 {
                times.push(start.elapsed().as_secs_f64() * 1e9 / f64::from(BURST));
            }
            stream.flush(Duration::from_secs(60)).unwrap();
        }
        round += 1;
    }
    for ((ring, _), times) in engines.iter().zip(&mut times) {
        times.sort_by(f64::total_cmp);
        println!(
            "{ring} ring: {:.1} ns an append (least {:.1}, p99 {:.1}), {} bursts of {BURST}",
            times[times.len() / 2],
            times[0],
            times[times.len() * 99 / 100],
            times.len()
        );
    }
}

fn main() {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    let dir = args.first().map_or_else(std::env::temp_dir, PathBuf::from);
    let seconds = args.get(1).and_then(|arg| arg.parse().ok()).unwrap_or(6.0);
    let only: Option<usize> = args.get(2).and_then(|arg| arg.parse().ok());
    let path = dir.join(format!("forebay-append-{}", std::process::id()));
    let cases = [
        (500, 100, 0),
        (500, 200, 0),
        // An eMMC or an SD card takes a millisecond and more for a sync, where a fast disk takes a tenth.
        (500, 100, 1),
        (5000, 100, 0),
        (50, 100, 0),
    ];
    for (at, (per_sync, payload_len, sync_more_ms)) in cases.into_iter().enumerate() {
        if only.is_some_and(|only| only != at) {
            continue;
        }
        let sync_more = Duration::from_millis(sync_more_ms);
        let path = path.join(at.to_string());
        cadence(&path, per_sync, payload_len, sync_more, seconds);
        let _ = std::fs::remove_dir_all(&path);
    }
    if only.is_none_or(|only| only == cases.len()) {
        rings(&path.join("rings"), seconds);
        let _ = std::fs::remove_dir_all(&path);
    }
    if only.is_some() {
        return;
    }
    paced(&path.join("paced"), 100, 200, seconds.max(20.0));
    let _ = std::fs::remove_dir_all(&path);
}
