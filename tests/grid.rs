//! The formula of `docs/limits.md` against what an engine really takes, over a grid of configurations; and
//! after ten times as much was appended as there is room for.
//!
//! What is counted is every writable mapping of this process: rings, stages, batches and windows are
//! mappings of their own, and the allocator's are there too. That is address space, so it is what the
//! engine would take if each page of it were touched.

#![cfg(feature = "cli")] // one of the sinks is a file

mod common;

use std::fs;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use common::{LIMIT, Scratch, wait_until};
use forebay::config::Config;
use forebay::engine::{Engine, World, assemble};
use forebay::sink::{Answer, Batch, Blocking, BlockingSink};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// What the allocator may hold besides what was asked of it.
const HEAP: u64 = 256 * KIB;
/// A thread's stack.
const STACK: u64 = 2 * MIB;

/// One test at a time: what another maps would be counted too.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The bytes of all writable mappings.
fn mapped() -> u64 {
    let text = fs::read_to_string("/proc/self/maps").unwrap();
    let lines = text.lines().filter_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (from, to) = range.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        rest.starts_with("rw")
            .then_some(number(to)? - number(from)?)
    });
    lines.sum()
}

fn threads() -> u64 {
    fs::read_dir("/proc/self/task").unwrap().count() as u64
}

fn formula(config: &Config) -> u64 {
    config.memory().iter().map(|needs| needs.memory).sum()
}

/// A point of the grid.
#[derive(Clone, Copy, Debug)]
struct Point {
    streams: u64,
    /// Those that deliver.
    sinks: u64,
    ring_bytes: u64,
    ring_records: u64,
    batch_bytes: u64,
    batch_records: u64,
    /// `None`: on disk, in a window or not.
    io: Option<&'static str>,
}

impl Point {
    /// The budget of a log in memory.
    const BUDGET: u64 = 8 * MIB;
    /// That of its dead letters.
    const LETTERS_BUDGET: u64 = 16 * MIB;

    fn document(&self, scratch: &Scratch) -> String {
        let medium = match self.io {
            Some(io) => format!(r#""io": "{io}""#),
            None => format!(r#""type": "memory", "maxDiskBytes": {}"#, Self::BUDGET),
        };
        let streams = (0..self.streams).map(|n| {
            let sinks =
                (0..self.sinks).map(|sink| format!(r#"{{"name": "k{sink}", "type": "stdout"}}"#));
            let sinks = match self.sinks {
                0 => r#""sink": {"type": "none"}"#.to_owned(),
                _ => format!(r#""sinks": [{}]"#, sinks.collect::<Vec<_>>().join(", ")),
            };
            format!(
                r#"{{"name": "s{n}", {sinks},
                    "buffer": {{{medium}, "volatile": "allow", "maxBufferedBytes": {},
                        "maxBufferedRecords": {}, "fsyncIntervalMs": 1}},
                    "batch": {{"maxBytes": {}, "maxRecords": {}}},
                    "deadLetters": {{"maxBytes": {}}}}}"#,
                self.ring_bytes,
                self.ring_records,
                self.batch_bytes,
                self.batch_records,
                Self::LETTERS_BUDGET
            )
        });
        scratch.document(&streams.collect::<Vec<_>>().join(", "))
    }

    /// What the formula has and is not taken yet after the first record: logs in memory; for each sink
    /// the lines that it makes; and the tables of the dead letters, which come with the first.
    fn taken_later(&self) -> u64 {
        let lines = 6 * (self.ring_bytes / 4) + 270_336;
        let letters = u64::from(self.sinks > 0);
        let logs = match self.io {
            None => Self::BUDGET + letters * Self::LETTERS_BUDGET,
            Some(_) => 0,
        };
        let letter_tables = (64 * 4 + 32 + 8 + 192) * KIB;
        self.streams * (logs + lines * self.sinks + letters * letter_tables)
    }
}

fn grid() -> Vec<Point> {
    let mut points = Vec::new();
    for (ring_bytes, ring_records) in [(64 * KIB, 1000), (MIB, 4000), (4 * MIB, 100_000)] {
        for (batch_bytes, batch_records) in [(64 * KIB, 100), (4 * MIB, 10_000)] {
            for (streams, sinks) in [(1, 0), (1, 1), (1, 4), (3, 2), (16, 0), (16, 3)] {
                if streams == 16 && (ring_bytes != MIB || batch_records == 100) {
                    continue;
                }
                for io in [Some("write"), Some("mmap"), None] {
                    points.push(Point {
                        streams,
                        sinks,
                        ring_bytes,
                        ring_records,
                        batch_bytes,
                        batch_records,
                        io,
                    });
                }
            }
        }
    }
    points
}

/// `L-61`, `L-66`: what an engine takes when it opens and stores its first record is never more than the
/// formula says, and not much less: the tables of a log are counted as if they were full.
#[test]
fn what_is_taken_at_open_is_what_the_formula_says() {
    let _alone = alone();
    // In a process of its own, whose heap no other test has left full of holes.
    if std::env::var(CHILD).is_err() {
        let ended = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "what_is_taken_at_open_is_what_the_formula_says"])
            .arg("--nocapture")
            .env(CHILD, "grid")
            .env("MALLOC_ARENA_MAX", "1")
            .env("MALLOC_MMAP_THRESHOLD_", "131072")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ended.stdout);
        print!("{said}");
        let failed = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "{failed}");
        return;
    }
    let (mut least, mut most) = (f64::INFINITY, 0.0_f64);
    for point in grid() {
        let scratch = Scratch::new("grid");
        let config = Config::from_json(&point.document(&scratch)).unwrap();
        let formula = formula(&config);
        let before = mapped();
        let mut assembly = assemble(&config, &World::real()).unwrap();
        for stream in &assembly.streams {
            stream.append(b"pump-7", 0, &[7; 1000]).unwrap();
        }
        wait_until("the first records", || {
            for (syncer, ..) in &mut assembly.syncers {
                syncer.step();
            }
            let mut streams = assembly.streams.iter();
            streams.all(|stream| stream.stats().durable_offset == 1)
        });
        let taken = mapped().saturating_sub(before);
        drop(assembly);
        let (at_once, tables) = (formula - point.taken_later(), 192 * KIB * point.streams);
        #[allow(clippy::cast_precision_loss)]
        let share = taken as f64 / at_once as f64;
        (least, most) = (least.min(share), most.max(share));
        let told = format!("{point:?}: {taken} of {at_once}, {formula} in all");
        assert!(taken <= formula + HEAP, "{told}");
        assert!(taken + HEAP + tables >= at_once * 3 / 4, "{told}");
        if point.io.is_some() {
            assert!(taken <= at_once + HEAP, "{told}");
        }
    }
    println!("taken at once: {least:.2} to {most:.2} of what the formula says of it");
}

/// A sink of the host's that is no good.
#[derive(Clone, Copy)]
enum Bad {
    /// It takes nothing.
    Dead,
    /// It does not answer for a long time.
    Silent,
    /// It rejects each record, which makes dead letters.
    Rejects,
}

impl BlockingSink for Bad {
    fn deliver(&mut self, _batch: &Batch<'_>, _timeout: Duration, answer: &mut Answer<'_>) {
        match self {
            Self::Dead => answer.retry_rest(None),
            Self::Silent => std::thread::park_timeout(Duration::from_secs(2)),
            Self::Rejects => answer.reject_rest("no"),
        }
    }
}

/// Streams that are overloaded: one sink of each is a file, which works; the others are no good.
fn overloaded(scratch: &Scratch, streams: u64, is_memory: bool, bad: &[Bad]) -> Config {
    let kind = if is_memory { "memory" } else { "disk" };
    let texts = (0..streams).map(|n| {
        let bad = (0..bad.len()).map(|sink| {
            format!(r#", {{"name": "bad{sink}", "type": "callback", "id": "s{n}-{sink}"}}"#)
        });
        format!(
            r#"{{"name": "s{n}",
                "sinks": [{{"name": "good", "type": "file", "path": {:?}, "fsync": "never",
                    "maxFileBytes": 4194304}} {}],
                "buffer": {{"type": "{kind}", "volatile": "allow", "maxDiskBytes": {BUDGET},
                    "maxBufferedBytes": 262144, "fsyncIntervalMs": 20}},
                "batch": {{"maxBytes": 131072, "maxRecords": 1000, "maxLatencyMs": 5}},
                "delivery": {{"backoffMaxMs": 100}},
                "deadLetters": {{"maxBytes": {BUDGET}}}}}"#,
            scratch.join(&format!("out-{n}")),
            bad.collect::<String>()
        )
    });
    let mut config = scratch.config(&texts.collect::<Vec<_>>().join(", "));
    for n in 0..streams {
        for (sink, bad) in bad.iter().enumerate() {
            config = config.with_sink(&format!("s{n}-{sink}"), Blocking::new(*bad));
        }
    }
    config
}

/// The budget of each log in [`overloaded`].
const BUDGET: u64 = 2 * MIB;

/// Appends ten budgets to each stream, at a pace that the log follows, and returns the most that was mapped.
fn overload(engine: &Engine) -> u64 {
    // Control characters: in JSON each takes six bytes, and lines of them once took more than was stated.
    let payload = [7u8; 1000];
    let streams: Vec<_> = engine
        .stream_names()
        .into_iter()
        .map(str::to_owned)
        .collect();
    let mut most = mapped();
    for part in 0..20 {
        for name in &streams {
            let stream = engine.stream(name).unwrap();
            for n in 0..BUDGET / 2 / 1024 {
                let deadline = Instant::now() + LIMIT;
                while stream.append(b"pump-7", part * n, &payload).is_err() {
                    assert!(Instant::now() < deadline, "the log does not go on");
                    std::thread::yield_now();
                }
            }
        }
        most = most.max(mapped());
    }
    most
}

/// What is overloaded: how many streams, whether they lie in memory, and the sinks beside the good one.
const OVERLOADS: [(u64, bool, &[Bad]); 4] = [
    (1, false, &[]),
    (1, true, &[Bad::Dead]),
    (1, true, &[Bad::Rejects, Bad::Dead, Bad::Silent]),
    (4, false, &[Bad::Rejects, Bad::Dead, Bad::Silent]),
];

/// Which of them the process is to try that this test starts. As a test of its own it does nothing.
const CHILD: &str = "FOREBAY_GRID_CHILD";

#[test]
fn child() {
    let Ok(index) = std::env::var(CHILD) else {
        return;
    };
    let (streams, is_memory, bad) = OVERLOADS[index.parse::<usize>().unwrap()];
    let scratch = Scratch::new("overload");
    let config = overloaded(&scratch, streams, is_memory, bad);
    let formula = formula(&config);
    let (before, others) = (mapped(), threads());
    let engine = Engine::open(&config).unwrap();
    let once = overload(&engine);
    // From here on everything is in use that will be.
    let rejects = bad.iter().any(|bad| matches!(bad, Bad::Rejects));
    for name in engine.stream_names() {
        wait_until("delivery and dead letters", || {
            let stats = engine.stats(name).unwrap();
            stats.exported_total > 0 && (stats.failed_total > 0 || !rejects)
        });
    }
    let first = once.max(overload(&engine));
    let second = overload(&engine);
    let besides = before + (threads() - others) * STACK;
    let told = format!(
        "{streams} streams, in memory: {is_memory}, bad sinks: {}: {} KiB, then {} KiB of {} KiB",
        bad.len(),
        first.saturating_sub(besides) / KIB,
        second.saturating_sub(besides) / KIB,
        formula / KIB
    );
    println!("{told}");
    assert!(first.max(second) <= besides + formula + HEAP, "{told}");
    assert!(second <= first + HEAP, "{told}");
    assert!(second >= besides + formula / 3, "{told}");
    for name in engine.stream_names() {
        let stats = engine.stats(name).unwrap();
        assert!(stats.allocated_bytes <= BUDGET, "{name}: {stats:?}");
        let is_over = stats.appended_total >= 30 * BUDGET / 1024;
        assert!(is_over, "{name}: {stats:?}");
    }
    engine.close(LIMIT).unwrap();
}

/// `G-060`, `L-61`, `L-65`: ten times as much as there is room for, with sinks that work, are dead, silent or
/// reject everything, takes no more than the formula says; and ten times that again takes nothing more. Each
/// in a process of its own, whose allocator keeps one heap for all threads.
#[test]
fn an_overload_takes_no_more_than_the_formula_says() {
    let _alone = alone();
    for index in 0..OVERLOADS.len() {
        let ended = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(CHILD, index.to_string())
            .env("MALLOC_ARENA_MAX", "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ended.stdout);
        let is_line = |line: &&str| line.contains(" streams, in memory");
        println!("{}", said.lines().find(is_line).unwrap_or_default());
        let err = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "{said}\n{err}");
    }
}

/// `L-66`: a million streams, or sinks of a stream, are an error that says where and why, in a moment and with
/// little memory: 64 MiB of address space, code and document included.
#[test]
fn a_million_streams_are_refused_with_little_memory() {
    let _alone = alone();
    let scratch = Scratch::new("million");
    let million = vec!["{}"; 1_000_000].join(",");
    let path = scratch.join("forebay.json");
    for (text, expected) in [
        (
            format!(r#"{{"streams": [{million}]}}"#),
            "streams[1024] {}: at most 1024 streams",
        ),
        (
            format!(r#"{{"streams": [{{"name": "s", "sinks": [{million}]}}]}}"#),
            "streams[0].sinks[16] {}: at most 16 sinks",
        ),
    ] {
        fs::write(&path, text).unwrap();
        let start = Instant::now();
        let ended = Command::new("sh")
            .args(["-c", "ulimit -v 65536 && exec \"$0\" check \"$1\""])
            .arg(env!("CARGO_BIN_EXE_forebay"))
            .arg(&path)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(2), "{said}");
        assert!(said.trim_end().ends_with(expected), "{said}");
        assert!(start.elapsed() < LIMIT / 2, "{:?}", start.elapsed());
    }
}
