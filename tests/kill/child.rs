//! The process that is killed: an engine, threads that append and flush, and a word for every step.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use forebay::{Code, Config, Engine, Stream};

/// The most records of a batch.
pub const BATCH_RECORDS: u64 = 100;
/// How many threads append, unless none is to.
pub const THREADS: u64 = 3;
/// The most records that a thread appends before it flushes.
const CHUNK_MAX: u64 = 30;
/// A record's longest payload: more than a page, so that records lie across pages.
const PAYLOAD_LEN_MAX: u64 = 5000;

const DIR: &str = "FOREBAY_KILL_DIR";
const RUN: &str = "FOREBAY_KILL_RUN";
const APPENDING: &str = "FOREBAY_KILL_THREADS";
const POLICY: &str = "FOREBAY_KILL_POLICY";
const STREAM: &str = "telemetry";
const LIMIT: Duration = Duration::from_secs(60);

/// This program again, for that test, as the child of that number, with so many threads that append.
pub fn command(test: &str, dir: &Path, run: u64, threads: u64) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]);
    command
        .env(DIR, dir)
        .env(RUN, run.to_string())
        .env(APPENDING, threads.to_string());
    command
}

/// Ways to buffer, as fields of `buffer`: when to sync, how to write, what to take ahead.
pub const POLICIES: [&str; 4] = [
    r#""fsync": "perBatch", "io": "write""#,
    r#""fsync": "interval", "io": "mmap""#,
    r#""fsync": "always", "io": "write""#,
    r#""fsync": "perBatch", "io": "mmap", "reserve": "all""#,
];

/// The same as [`command`], with one of the [`POLICIES`].
pub fn command_with(policy: usize, test: &str, dir: &Path, run: u64, threads: u64) -> Command {
    let mut command = command(test, dir, run, threads);
    command.env(POLICY, policy.to_string());
    command
}

pub fn is_asked_for() -> bool {
    std::env::var_os(DIR).is_some()
}

pub fn store(dir: &Path) -> PathBuf {
    dir.join("data").join(STREAM)
}

pub fn out(dir: &Path) -> PathBuf {
    dir.join("out.ndjson")
}

/// A record: everything about it follows from these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who {
    pub run: u64,
    pub thread: u64,
    pub n: u64,
}

impl Who {
    pub fn key(self) -> String {
        format!("thread-{}", self.thread)
    }

    /// `run thread n` and a filling of some length, which follows from them.
    pub fn payload(self) -> String {
        let Self { run, thread, n } = self;
        let mix = (run * 31 + thread * 7 + n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // Most are short.
        let len = match mix >> 60 {
            0 => mix >> 20 & 0xffff_ffff,
            _ => (mix >> 20) % 200,
        };
        let letter = char::from(b'a' + u8::try_from((mix >> 8) % 26).unwrap());
        let len = usize::try_from(len % PAYLOAD_LEN_MAX).unwrap();
        format!("{run} {thread} {n} {}", letter.to_string().repeat(len))
    }

    pub fn of_payload(payload: &str) -> Option<Self> {
        let mut words = payload.split(' ');
        let mut number = || words.next()?.parse().ok();
        let (run, thread, n) = (number()?, number()?, number()?);
        Some(Self { run, thread, n })
    }
}

/// What a child says. A line is written at once, and is short enough for a pipe to take it whole.
pub enum Said {
    /// The engine is open, at this offset.
    Open { next: u64, durable: u64 },
    /// A thread will append records up to this number.
    Will { run: u64, thread: u64, below: u64 },
    /// Append gave a record this offset.
    Got { offset: u64, who: Who },
    /// A flush returned: these are durable.
    Kept { offsets: Vec<u64> },
    /// Everything below is durable, as stats say.
    Durable(u64),
}

impl Said {
    /// What a line says; several things, or nothing when it is not one of ours.
    pub fn parse(line: &str) -> Vec<Self> {
        let mut words = line.split_whitespace();
        let kind = words.next().unwrap_or_default();
        let numbers: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
        match (kind, &numbers[..]) {
            ("open", &[next, durable]) => vec![Self::Open { next, durable }],
            ("will", &[run, thread, below]) => vec![Self::Will { run, thread, below }],
            ("got", &[run, thread, first, ref offsets @ ..]) => {
                let who = |n| Who { run, thread, n };
                let got = (first..).zip(offsets);
                got.map(|(n, offset)| Self::Got {
                    offset: *offset,
                    who: who(n),
                })
                .collect()
            }
            ("kept", offsets) => vec![Self::Kept {
                offsets: offsets.to_vec(),
            }],
            ("durable", &[durable]) => vec![Self::Durable(durable)],
            _ => Vec::new(),
        }
    }
}

fn say(line: &str) {
    // The parent may have gone, or what it does not read any more may fill the pipe.
    let _ = std::io::stdout().lock().write_all(line.as_bytes());
}

/// A sink that is a file, and room for everything that a campaign of many processes brings; not more, where all of
/// it is taken ahead.
pub const SHARED_OUT: (&str, u64) = ("file", 256 << 20);
/// A sink that is a file, and room for everything.
pub const DELIVERED: (&str, u64) = ("file", 1 << 30);
/// No sink, and room for little: the oldest are dropped all the time.
pub const AT_THE_EDGE: (&str, u64) = ("none", 2 << 20);

/// The child: appends until standard input ends, or it dies.
pub fn main((sink, budget): (&str, u64)) {
    let dir = PathBuf::from(std::env::var_os(DIR).unwrap());
    let [run, threads] = [RUN, APPENDING].map(|name| std::env::var(name).unwrap().parse().unwrap());
    let engine = Engine::open(&config(&dir, sink, budget)).unwrap();
    let stream = engine.stream(STREAM).unwrap();
    let stats = stream.stats();
    say(&format!(
        "\nopen {} {}\n",
        stats.next_offset, stats.durable_offset
    ));
    let stops = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (stream, stops) = (&stream, &stops);
        for thread in 0..threads {
            scope.spawn(move || append(stream, run, thread, stops));
        }
        scope.spawn(|| {
            while !stops.load(Ordering::Relaxed) {
                say(&format!("durable {}\n", stream.stats().durable_offset));
                std::thread::park_timeout(Duration::from_millis(1));
            }
        });
        // Nothing is ever sent.
        let _ = std::io::Read::read(&mut std::io::stdin(), &mut [0]);
        stops.store(true, Ordering::Relaxed);
    });
    engine.close(LIMIT).unwrap();
}

fn config(dir: &Path, sink: &str, budget: u64) -> Config {
    let (data, run, out) = (dir.join("data"), dir.join("run"), out(dir));
    let sink = match sink {
        "file" => format!(r#"{{"type": "file", "path": {out:?}, "maxFileBytes": 0}}"#),
        other => format!(r#"{{"type": "{other}"}}"#),
    };
    let policy = std::env::var(POLICY)
        .unwrap_or_default()
        .parse()
        .unwrap_or(0);
    let policy: &str = POLICIES[policy];
    let text = format!(
        r#"{{"dataDir": {data:?}, "runDir": {run:?}, "streams": [{{"name": "{STREAM}",
            "sink": {sink},
            "buffer": {{{policy}, "volatile": "allow", "segmentBytes": 262144, "maxDiskBytes": {budget},
                "maxBufferedRecords": 1000, "maxBufferedBytes": 262144, "checkpointMs": 50,
                "fsyncIntervalMs": 5}},
            "batch": {{"maxRecords": {BATCH_RECORDS}, "maxLatencyMs": 2}}}}]}}"#
    );
    Config::from_json(&text).unwrap()
}

fn append(stream: &Stream, run: u64, thread: u64, stops: &AtomicBool) {
    let mut n = 0;
    while !stops.load(Ordering::Relaxed) {
        let count = 1 + n % CHUNK_MAX;
        say(&format!("will {run} {thread} {}\n", n + count));
        let mut offsets = String::new();
        for n in n..n + count {
            let who = Who { run, thread, n };
            let offset = loop {
                match stream.append(who.key().as_bytes(), n, who.payload().as_bytes()) {
                    Ok(offset) => break offset,
                    Err(error) if error.code() == Code::Full => std::thread::yield_now(),
                    Err(error) => panic!("{error}"),
                }
            };
            offsets.push_str(&format!(" {offset}"));
        }
        say(&format!("got {run} {thread} {n}{offsets}\n"));
        stream.flush(LIMIT).unwrap();
        say(&format!("kept{offsets}\n"));
        n += count;
    }
}
