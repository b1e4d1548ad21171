//! How fast `forebay verify` goes through a store that lies in the page cache, against the least that could
//! be done: one thread that reads the same pages, 64 KiB at a time, and computes a checksum of each.
//!
//! The binary is run as a user runs it, so its start, the open and what it looks at besides records count.
//! Both take turns. The counts first: records, pages, and of both the CPU time a record; then the times, with the
//! median of the ratios of each round. `verify [DIR] [MIB] [ROUNDS]`; `taskset -c 0` shows it on one core.

#![allow(clippy::disallowed_methods, clippy::print_stdout, missing_docs)]
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]

use std::fs::File;
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use forebay::{Config, Engine};

const KEY: [u8; 16] = [7; 16];
const RECORD_HEADER: usize = 24;
const PAGE: usize = 4096;
const HEADER_PAGES: u64 = 2;
const READ: usize = 64 << 10;
const TICKS_PER_SECOND: f64 = 100.0;

/// Fills a store; returns how many records it has.
fn fill(path: &Path, payload_len: usize, mib: u64) -> u64 {
    let (data, run) = (path.join("data"), path.join("run"));
    let text = format!(
        r#"{{"dataDir": {data:?}, "runDir": {run:?}, "streams": [{{"name": "bench",
            "sink": {{"type": "none"}}, "buffer": {{"maxDiskBytes": 4294967296}}}}]}}"#
    );
    let engine = Engine::open_to_store(&Config::from_json(&text).unwrap()).unwrap();
    let stream = engine.stream("bench").unwrap();
    let mut payload = vec![0u8; payload_len];
    let count = (mib << 20) / (RECORD_HEADER + KEY.len() + payload_len) as u64;
    for n in 0..count {
        for (at, byte) in payload.iter_mut().enumerate() {
            *byte = (n as u8).wrapping_mul(31).wrapping_add(at as u8);
        }
        while stream.append(&KEY, n, &payload).is_err() {
            std::thread::yield_now();
        }
    }
    stream.flush(Duration::from_secs(120)).unwrap();
    engine.close(Duration::from_secs(60)).unwrap();
    count
}

/// Reads all pages that were written, with a checksum of each; returns how many.
fn read_pages(segments: &[PathBuf]) -> u64 {
    let mut buffer = vec![0u8; READ];
    let mut pages = 0;
    for segment in segments {
        let file = File::open(segment).unwrap();
        let mut position = HEADER_PAGES * PAGE as u64;
        loop {
            let len = file.read_at(&mut buffer, position).unwrap();
            if len == 0 || buffer[..len].iter().all(|byte| *byte == 0) {
                break; // behind the last page that was written
            }
            for page in buffer[..len].chunks_exact(PAGE) {
                black_box(crc32fast::hash(page));
            }
            pages += (len / PAGE) as u64;
            position += len as u64;
        }
    }
    pages
}

fn run(path: &Path, count: u64) {
    let output = Command::new(env!("CARGO_BIN_EXE_forebay"))
        .arg("verify")
        .arg(path)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let whole = format!("{count} records from 0 to {count}, 0 damaged\n");
    assert!(output.status.success() && text == whole, "{text}");
}

/// The CPU seconds of this process, and of the children that it has waited for.
fn cpu_seconds() -> [f64; 2] {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = text.rsplit_once(')').unwrap();
    let ticks: Vec<f64> = fields
        .split_whitespace()
        .skip(11)
        .take(4)
        .map(|field| field.parse().unwrap())
        .collect();
    [ticks[0] + ticks[1], ticks[2] + ticks[3]].map(|ticks| ticks / TICKS_PER_SECOND)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    let number = |at: usize, default: u64| args.get(at).map_or(default, |arg| arg.parse().unwrap());
    let dir = args.first().map_or_else(std::env::temp_dir, PathBuf::from);
    let (mib, rounds) = (number(1, 256), number(2, 31));
    let path = dir.join(format!("forebay-verify-{}", std::process::id()));
    for payload_len in [100, 200, 1000] {
        let path = path.join(payload_len.to_string());
        let count = fill(&path, payload_len, mib);
        let store = path.join("data/bench");
        let files = std::fs::read_dir(&store).unwrap();
        let files = files.map(|file| file.unwrap().path());
        let is_segment = |path: &PathBuf| path.to_string_lossy().contains("/segment-");
        let mut segments: Vec<PathBuf> = files.filter(is_segment).collect();
        segments.sort();
        let pages = read_pages(&segments); // both find it in the cache
        run(&store, count);

        let before = cpu_seconds();
        let mut times = Vec::new();
        for _ in 0..rounds {
            let start = Instant::now();
            read_pages(&segments);
            let floor = start.elapsed().as_secs_f64();
            let start = Instant::now();
            run(&store, count);
            times.push([floor, start.elapsed().as_secs_f64()]);
        }
        let after = cpu_seconds();
        let each = |seconds: f64| seconds * 1e9 / count as f64;
        let [floor_cpu, ours_cpu] = [0, 1].map(|of| each((after[of] - before[of]) / rounds as f64));
        let [floor, ours] =
            [0, 1].map(|of| each(median(times.iter().map(|times| times[of]).collect())));
        let ratio = median(times.iter().map(|[floor, ours]| floor / ours).collect());
        println!("16 + {payload_len} B: {count} records in {pages} pages");
        println!(
            "    CPU ns a record: {ours_cpu:.0}, reading pages with a checksum of each {floor_cpu:.0}: {:.2} of it",
            floor_cpu / ours_cpu
        );
        println!("    ns a record: {ours:.0} and {floor:.0}: {ratio:.2} of it");
        let _ = std::fs::remove_dir_all(&path);
    }
    let _ = std::fs::remove_dir_all(&path);
}
