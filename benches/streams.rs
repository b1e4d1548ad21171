//! Many streams on one device: what a record costs when the same load is spread over 1, 8 and 64 streams,
//! what an idle second costs, and four sinks on one stream.
//!
//! Counts first (syncs, bytes handed to the device, wake-ups), then processor time by the kernel's clock,
//! which other processes disturb less than the time of day. `streams [DIR] [SECONDS]`.

#![allow(clippy::disallowed_methods, clippy::print_stdout, missing_docs)]
#![allow(clippy::cast_precision_loss)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use forebay::sink::{Answer, Batch, Blocking, BlockingSink};
use forebay::{Config, Engine, Stream};

const RECORDS_PER_SECOND: u64 = 10_000;
const PAYLOAD: [u8; 100] = [9; 100];

/// Takes everything; may never answer in time.
struct Null {
    taken: Arc<AtomicU64>,
    is_dead: bool,
    /// What a batch takes on its way.
    pace: Duration,
}

impl BlockingSink for Null {
    fn deliver(&mut self, batch: &Batch<'_>, _timeout: Duration, answer: &mut Answer<'_>) {
        if self.is_dead {
            answer.retry_rest(None);
            return;
        }
        if !self.pace.is_zero() {
            thread::sleep(self.pace);
        }
        answer.accept_rest();
        self.taken.fetch_add(batch.len() as u64, Ordering::Relaxed);
    }
}

/// The processor time of this process in seconds.
fn processor() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = text
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    ticks as f64 / 100.0
}

fn open(path: &Path, streams: usize, sinks: &str, with: impl Fn(Config) -> Config) -> Engine {
    Engine::open(&with(config(path, streams, sinks))).unwrap()
}

fn config(path: &Path, streams: usize, sinks: &str) -> Config {
    let (data, run) = (path.join("data"), path.join("run"));
    let streams: Vec<_> = (0..streams)
        .map(|n| format!(r#"{{"name": "s{n}", "sinks": [{sinks}]}}"#))
        .collect();
    let text = format!(
        r#"{{"dataDir": {data:?}, "runDir": {run:?}, "streams": [{}]}}"#,
        streams.join(",")
    );
    Config::from_json(&text).unwrap()
}

/// Appends at a rate to all streams in turns; returns how many records.
fn load(streams: &[Stream], seconds: f64) -> u64 {
    let start = Instant::now();
    let mut count = 0u64;
    while start.elapsed().as_secs_f64() < seconds {
        // In bursts of a millisecond, so that pacing costs little.
        for _ in 0..RECORDS_PER_SECOND / 1000 {
            let stream = &streams[usize::try_from(count).unwrap() % streams.len()];
            stream.append(b"0123456789abcdef", count, &PAYLOAD).unwrap();
            count += 1;
        }
        let due = Duration::from_secs_f64(count as f64 / RECORDS_PER_SECOND as f64);
        thread::sleep(due.saturating_sub(start.elapsed()));
    }
    count
}

fn spread(path: &Path, count: usize, seconds: f64) {
    let sinks = r#"{"name": "none", "type": "none"}"#;
    let engine = open(path, count, sinks, |config| config);
    let names: Vec<String> = (0..count).map(|n| format!("s{n}")).collect();
    let streams: Vec<Stream> = names.iter().map(|n| engine.stream(n).unwrap()).collect();
    load(&streams, 2.0);
    let sum = |f: &dyn Fn(&forebay::counters::Stats) -> u64| -> u64 {
        streams.iter().map(|stream| f(&stream.stats())).sum()
    };
    let written = || sum(&|stats| stats.written_bytes - stats.prepared_bytes);
    let before = (written(), sum(&|stats| stats.syncs_total), processor());
    let records = load(&streams, seconds);
    let time = processor() - before.2;
    println!(
        "{count} streams: {:.1} syncs/s, {:.2} device bytes per payload byte, {:.2} us of processor a record",
        (sum(&|stats| stats.syncs_total) - before.1) as f64 / seconds,
        (written() - before.0) as f64 / (records * PAYLOAD.len() as u64) as f64,
        time / records as f64 * 1e6,
    );
    thread::sleep(Duration::from_secs(7));
    let wakeups = || sum(&|stats| stats.wakeups_total) / count as u64;
    let before = (wakeups(), processor());
    thread::sleep(Duration::from_secs_f64(seconds));
    println!(
        "  idle: {:.2} wake-ups/s of the syncer, {:.2} % of a core",
        (wakeups() - before.0) as f64 / seconds,
        (processor() - before.1) / seconds * 100.0
    );
}

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// So many callback sinks, as JSON.
fn callbacks(count: usize) -> String {
    let sinks = NAMES[..count]
        .iter()
        .map(|name| format!(r#"{{"name": "{name}", "type": "callback", "id": "{name}"}}"#));
    sinks.collect::<Vec<_>>().join(",")
}

/// How long a sink with a pace takes for what is stored, beside so many dead ones.
fn time_beside(path: &Path, dead: usize) -> f64 {
    const RECORDS: u64 = 200_000;
    let _ = std::fs::remove_dir_all(path);
    let sinks = callbacks(1 + dead);
    let engine = Engine::open_to_store(&config(path, 1, &sinks)).unwrap();
    let stream = engine.stream("s0").unwrap();
    for n in 0..RECORDS {
        while stream.append(b"0123456789abcdef", n, &PAYLOAD).is_err() {
            thread::yield_now();
        }
    }
    engine.close(Duration::from_secs(60)).unwrap();
    let taken: Arc<AtomicU64> = Arc::default();
    let start = Instant::now();
    let engine = open(path, 1, &sinks, |config| {
        let named = NAMES[..=dead].iter().enumerate();
        named.fold(config, |config, (at, name)| {
            let sink = Null {
                taken: Arc::clone(&taken),
                is_dead: at > 0,
                pace: Duration::from_millis(2),
            };
            config.with_sink(name, Blocking::new(sink))
        })
    });
    while taken.load(Ordering::Relaxed) < RECORDS {
        thread::sleep(Duration::from_millis(1));
    }
    let time = start.elapsed().as_secs_f64();
    engine.close(Duration::from_secs(60)).unwrap();
    time
}

/// What dead sinks cost another one: its time beside three of them over its time alone, in pairs.
fn beside(path: &Path) {
    let ratio = |_| time_beside(path, 3) / time_beside(path, 0);
    let mut ratios: Vec<f64> = (0..9).map(ratio).collect();
    ratios.sort_by(f64::total_cmp);
    println!(
        "a sink beside three dead ones takes {:.3} of its time alone ({:.3} to {:.3})",
        ratios[4], ratios[0], ratios[8]
    );
}

/// One stream with one sink, and with four of which two never take anything.
fn sinks(path: &Path, seconds: f64) {
    for count in [1, 4] {
        let names = NAMES;
        let taken: Vec<Arc<AtomicU64>> = names.iter().map(|_| Arc::default()).collect();
        let engine = open(
            &path.join(count.to_string()),
            1,
            &callbacks(count),
            |config| {
                let named = names[..count].iter().zip(&taken).enumerate();
                named.fold(config, |config, (at, (name, taken))| {
                    let sink = Null {
                        taken: Arc::clone(taken),
                        is_dead: at >= 2,
                        pace: Duration::ZERO,
                    };
                    config.with_sink(name, Blocking::new(sink))
                })
            },
        );
        let stream = engine.stream("s0").unwrap();
        load(std::slice::from_ref(&stream), 2.0);
        let before = processor();
        let records = load(&[stream], seconds);
        let time = processor() - before;
        thread::sleep(Duration::from_secs(3));
        println!(
            "{count} sinks, those behind the second dead: {:.2} us of processor a record; taken {:?}",
            time / records as f64 * 1e6,
            taken[..count]
                .iter()
                .map(|taken| taken.load(Ordering::Relaxed))
                .collect::<Vec<_>>(),
        );
    }
}

fn main() {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    let dir = args.first().map_or_else(std::env::temp_dir, PathBuf::from);
    let seconds = args.get(1).and_then(|arg| arg.parse().ok()).unwrap_or(5.0);
    let path = dir.join(format!("forebay-streams-{}", std::process::id()));
    for count in [1, 8, 64] {
        spread(&path.join(count.to_string()), count, seconds);
        let _ = std::fs::remove_dir_all(&path);
    }
    sinks(&path, seconds);
    beside(&path.join("beside"));
    let _ = std::fs::remove_dir_all(&path);
}
