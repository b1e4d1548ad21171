//! What does not grow: what open reads, how often an idle engine wakes, what a store takes on disk.

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::{LIMIT, Scratch, wait_until};
use forebay::Engine;

const MIB: u64 = 1 << 20;

/// One test at a time: what the threads of another do would be counted too.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The bytes that this thread has read by system calls.
fn read_bytes() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/io").unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with("rchar:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The blocks of all files of a directory, in bytes.
fn allocated(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).unwrap().filter_map(Result::ok);
    // A file may go while it is looked at.
    let blocks = entries.filter_map(|entry| Some(entry.metadata().ok()?.blocks() * 512));
    blocks.sum::<u64>() + fs::metadata(dir).unwrap().blocks() * 512
}

fn fill(stream: &forebay::Stream, mib: u64) {
    let payload = [7u8; 1000];
    for n in 0..mib * MIB / 1024 {
        while stream.append(b"pump-7", n, &payload).is_err() {
            std::thread::yield_now();
        }
    }
    stream.flush(LIMIT).unwrap();
}

/// Copies a store as a crash would leave it: nothing is being written, but nothing says so.
fn crashed_copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

const STREAM: &str = r#"{"name": "telemetry", "sink": {"type": "none"}}"#;
/// What [`open_reads_little_whatever_is_stored`] appends.
const RECORDS: u64 = 200 * 1024 + 1;

/// `G-082`, `L-64`: after a clean close, open reads no more than 1 MiB, however much is stored; after a
/// crash the active segment and no other.
#[test]
fn open_reads_little_whatever_is_stored() {
    let _alone = alone();
    let scratch = Scratch::new("open-reads");
    let config = scratch.config(STREAM);
    let engine = Engine::open(&config).unwrap();
    let stream = engine.stream("telemetry").unwrap();
    fill(&stream, 200);
    // The last record goes on in another page, and behind that nothing is written.
    stream.append(b"pump-7", 0, &[7; 9000]).unwrap();
    stream.flush(LIMIT).unwrap();
    let after_crash = Scratch::new("open-reads-crashed");
    crashed_copy(
        &scratch.join("data/telemetry"),
        &after_crash.join("data/telemetry"),
    );
    let segments = stream.shared().segments();
    let active = segments
        .last()
        .map_or(0, |segment| u64::from(segment.pages) * 4096);
    assert!(segments.len() >= 7, "{} segments", segments.len());
    engine.close(LIMIT).unwrap();

    let open = |scratch: &Scratch| {
        let config = scratch.config(STREAM);
        let before = read_bytes();
        let engine = Engine::open(&config).unwrap();
        let read = read_bytes() - before;
        let stats = engine.stats("telemetry").unwrap();
        engine.close(LIMIT).unwrap();
        (read, stats)
    };
    let (clean, stats) = open(&scratch);
    assert_eq!(stats.next_offset, RECORDS);
    let (crashed, stats) = open(&after_crash);
    assert_eq!(stats.durable_offset - stats.next_offset, 0);
    assert!(stats.next_offset >= RECORDS, "no offset is used twice");
    println!("open read {clean} bytes after a clean close, {crashed} after a crash");
    assert!(clean <= MIB, "{clean} bytes after a clean close");
    assert!(crashed <= active + MIB, "{crashed} bytes after a crash");
}

const STREAMS: u32 = 64;

/// `G-097`, and the idle budget: sixty-four streams with nothing to do wake fewer than five times a second,
/// all threads together, and take less than a hundredth of a core.
#[test]
fn an_idle_engine_hardly_wakes() {
    let _alone = alone();
    let scratch = Scratch::new("idle");
    let streams: Vec<_> = (0..STREAMS)
        .map(|n| {
            let out = scratch.join(&format!("out-{n}"));
            format!(
                r#"{{"name": "s{n}", "sink": {{"type": "file", "path": "{}"}},
                    "batch": {{"maxLatencyMs": 10}}}}"#,
                out.display()
            )
        })
        .collect();
    let engine = Engine::open(&scratch.config(&streams.join(","))).unwrap();
    let names: Vec<String> = (0..STREAMS).map(|n| format!("s{n}")).collect();
    for name in &names {
        let stream = engine.stream(name).unwrap();
        stream.append(b"", 1, b"one").unwrap();
    }
    for name in &names {
        let stream = engine.stream(name).unwrap();
        wait_until("delivery", || stream.stats().backlog == 0);
    }
    // Checkpoints of what was delivered are written within five seconds; then nothing is left to do.
    std::thread::park_timeout(Duration::from_secs(6));
    let switches = || {
        let tasks = fs::read_dir("/proc/self/task")
            .unwrap()
            .filter_map(Result::ok);
        let mut sum = 0u64;
        for task in tasks {
            let comm = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
            let line = status
                .lines()
                .find(|line| line.starts_with("voluntary_ctxt_switches"));
            if comm.starts_with("forebay-")
                && let Some(line) = line
            {
                sum += line
                    .split_whitespace()
                    .nth(1)
                    .unwrap()
                    .parse::<u64>()
                    .unwrap();
            }
        }
        sum
    };
    // In hundredths of a second: the kernel's unit for the times of a process.
    let cpu = || {
        let text = fs::read_to_string("/proc/self/stat").unwrap();
        let fields: Vec<&str> = text
            .rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    };
    let (before, cpu_before) = (switches(), cpu());
    assert!(before > 0, "the threads are not found");
    std::thread::park_timeout(Duration::from_secs(4));
    let (count, cpu_time) = (switches() - before, cpu() - cpu_before);
    println!("{count} wake-ups in four seconds, {cpu_time} hundredths of a second of processor");
    assert!(cpu_time <= 4, "{cpu_time} hundredths of a second");
    assert!(count < 4 * 5, "{count} wake-ups in four seconds");
    engine.close(LIMIT).unwrap();
}

/// `G-060`, `G-062`, `L-53`, `L-56`, `L-65`: the blocks of a store never exceed its budget, with oldest
/// records dropped under way, and what it says of itself is what the file system says.
#[test]
fn the_quota_holds_at_every_look() {
    let _alone = alone();
    let scratch = Scratch::new("quota");
    let budget = 24 * MIB;
    let stream = format!(
        r#"{{"name": "telemetry", "sink": {{"type": "none"}}, "buffer": {{"maxDiskBytes": {budget}}}}}"#
    );
    let config = scratch.config(&stream);
    let engine = Engine::open(&config).unwrap();
    let stream = engine.stream("telemetry").unwrap();
    let dir = scratch.join("data/telemetry");
    let mut peak = 0;
    for _ in 0..80 {
        fill(&stream, 1);
        peak = peak.max(allocated(&dir));
    }
    println!("peak {} KiB of {} KiB", peak >> 10, budget >> 10);
    assert!(peak <= budget, "{peak} bytes in {budget}");
    assert!(peak >= budget / 2, "the budget is there to be used: {peak}");
    let stats = stream.stats();
    assert!(stats.dropped_total > 0);
    assert!(
        stats.allocated_bytes.abs_diff(allocated(&dir)) <= 256 * 1024,
        "{} against {}",
        stats.allocated_bytes,
        allocated(&dir)
    );
    assert_eq!(
        stats.appended_total - stats.dropped_total,
        stats.next_offset - stream.shared().head()
    );
    engine.close(LIMIT).unwrap();
    let files = fs::read_dir(&dir).unwrap().count() as u64;
    assert!(files <= budget / (5 * MIB) + 6, "{files} files");
}
