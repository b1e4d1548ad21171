//! Resident memory: of the binary as it is shipped, and of the engine against its own formula.

#![cfg(feature = "cli")]

mod common;

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{LIMIT, Scratch, wait_until};
use forebay::{Config, Engine};

const MIB: u64 = 1 << 20;
/// What the code, the stacks and the allocator take besides the streams, resident.
const PROCESS: u64 = 6 * MIB;

/// A line of `/proc/…/status` in bytes.
fn status(child: &Child, key: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let line = text.lines().find(|line| line.starts_with(key)).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1024
}

/// Private and file pages; what lies in shared memory is counted with them.
fn resident(child: &Child) -> u64 {
    status(child, "VmRSS:")
}

struct Run(Child);

impl Run {
    fn start(scratch: &Scratch, text: &str) -> Self {
        let path = scratch.join("forebay.json");
        std::fs::write(&path, text).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_forebay"))
            .arg("run")
            .arg(path)
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(scratch.join("log")).unwrap())
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A stream whose sink never works: where its file should be, there is a directory.
fn stream(scratch: &Scratch, disk: u64) -> String {
    let out = scratch.join("out.ndjson");
    std::fs::create_dir_all(&out).unwrap();
    format!(
        r#"{{"name": "telemetry", "sink": {{"type": "file", "path": "{}"}},
            "buffer": {{"maxDiskBytes": {disk}}}}}"#,
        out.display()
    )
}

/// `L-61`, `L-64`, `L-66`: what is resident does not follow the backlog. 256 MiB of it here; the 2 GiB of
/// `docs/testing.md` with `BACKLOG=2048`.
#[test]
fn resident_memory_does_not_follow_the_backlog() {
    let scratch = Scratch::new("memory");
    let backlog: u64 = std::env::var("BACKLOG").map_or(256, |mib| mib.parse().unwrap());
    let text = scratch.document(&stream(&scratch, 4096 * MIB));
    let config = Config::from_json(&text).unwrap();
    let settle = || std::thread::park_timeout(Duration::from_secs(3));

    let idle = {
        let run = Run::start(&scratch, &text);
        settle();
        resident(&run.0)
    };
    let engine = Engine::open_to_store(&config).unwrap();
    let stream = engine.stream("telemetry").unwrap();
    let payload = [7u8; 1000];
    for n in 0..backlog * MIB / 1024 {
        while stream.append(b"pump-7", n, &payload).is_err() {
            std::thread::yield_now();
        }
    }
    stream.flush(LIMIT).unwrap();
    assert!(stream.stats().disk_bytes >= backlog * MIB);
    engine.close(LIMIT).unwrap();
    let run = Run::start(&scratch, &text);
    settle();
    let loaded = resident(&run.0);
    let peak = status(&run.0, "VmHWM:");
    println!(
        "resident: {} KiB idle, {} KiB with {backlog} MiB of backlog, peak {} KiB",
        idle >> 10,
        loaded >> 10,
        peak >> 10
    );
    assert!(idle <= 8 * MIB, "idle: {} KiB", idle >> 10);
    assert!(loaded <= 12 * MIB, "with a backlog: {} KiB", loaded >> 10);
    assert!(peak <= 12 * MIB, "at its peak: {} KiB", peak >> 10);
}

/// `G-060`, `L-61`: a buffer in memory whose sink is down takes its budget, and no more than the formula says,
/// however much is appended.
#[test]
fn a_memory_buffer_stays_within_the_formula() {
    let scratch = Scratch::new("memory-ram");
    let text = scratch.document(&stream(&scratch, 32 * MIB));
    let text = text.replace(r#""buffer": {"#, r#""buffer": {"type": "memory", "#);
    let input = r#", "inputs": [{"type": "stdin", "stream": "telemetry"}]}"#;
    let text = format!("{}{input}", text.strip_suffix('}').unwrap());
    let config = Config::from_json(&text).unwrap();
    let formula: u64 = config.memory().iter().map(|needs| needs.memory).sum();
    let path = scratch.join("forebay.json");
    std::fs::write(&path, &text).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_forebay"))
        .args(["run".as_ref(), path.as_os_str()])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut run = Run(child);
    let mut stdin = run.0.stdin.take().unwrap();
    let stats = || {
        let mut stats = Command::new(env!("CARGO_BIN_EXE_forebay"));
        let ended = stats
            .arg("stats")
            .arg(&path)
            .arg("--json")
            .output()
            .unwrap();
        serde_json::from_slice::<serde_json::Value>(&ended.stdout).unwrap()
    };
    wait_until("an engine", || stats()["live"] == true);
    let idle = resident(&run.0);
    let feeder = std::thread::spawn(move || {
        use std::io::Write;
        let block = format!("{}\n", "x".repeat(999)).repeat(1000);
        for _ in 0..100 {
            if stdin.write_all(block.as_bytes()).is_err() {
                return;
            }
        }
        std::thread::park_timeout(Duration::from_secs(30));
    });
    wait_until("a hundred MiB", || {
        stats()["appendedTotal"].as_u64() == Some(100_000)
    });
    let peak = status(&run.0, "VmHWM:");
    feeder.thread().unpark();
    println!(
        "idle {} KiB, peak {} KiB, formula {} KiB",
        idle >> 10,
        peak >> 10,
        formula >> 10
    );
    assert!(peak <= formula + PROCESS, "{} KiB", peak >> 10);
    // Taken with use, and then most of it.
    assert!(idle <= 8 * MIB, "idle: {} KiB", idle >> 10);
    assert!(peak >= 28 * MIB, "{} KiB", peak >> 10);
    drop(run);
    feeder.join().unwrap();
}

/// `L-60`: what a buffer in memory held is given back when its engine and its handles are gone.
#[test]
fn opening_a_memory_buffer_again_and_again_leaks_nothing() {
    let scratch = Scratch::new("memory-again");
    let stream = r#"{"name": "telemetry", "sink": {"type": "none"}, "buffer": {"type": "memory"}}"#;
    let own = || {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: u64 = text.split_whitespace().nth(1).unwrap().parse().unwrap();
        pages * 4096
    };
    let cycle = || {
        let engine = Engine::open(&scratch.config(stream)).unwrap();
        let stream = engine.stream("telemetry").unwrap();
        assert_eq!(stream.stats().next_offset, 0);
        let payload = [7u8; 1000];
        for n in 0..12 * 1024 {
            while stream.append(b"pump-7", n, &payload).is_err() {
                std::thread::yield_now();
            }
        }
        stream.flush(LIMIT).unwrap();
        assert!(stream.stats().disk_bytes >= 8 * MIB);
        engine.close(LIMIT).unwrap();
    };
    cycle();
    let before = own();
    for _ in 0..30 {
        cycle();
    }
    let grown = own().saturating_sub(before);
    println!("{} KiB more after 30 cycles of 12 MiB", grown >> 10);
    // Another test of this process may have its own memory at the moment.
    assert!(grown <= 32 * MIB, "{} KiB", grown >> 10);
    assert_eq!(scratch.files("run").len(), 2, "a lock and a board");
}

/// `L-61`, `L-65`: with every buffer in use, a stream stays within what `check` says of it.
#[test]
fn a_busy_stream_stays_within_the_formula() {
    let scratch = Scratch::new("memory-busy");
    let out = scratch.join("out.ndjson");
    let text = scratch.document(&format!(
        r#"{{"name": "telemetry", "sink": {{"type": "file", "path": "{}", "fsync": "never"}},
            "batch": {{"maxRecords": 10000, "maxLatencyMs": 0}}}}"#,
        out.display()
    ));
    let input = r#", "inputs": [{"type": "stdin", "stream": "telemetry"}]}"#;
    let text = format!("{}{input}", text.strip_suffix('}').unwrap());
    let config = Config::from_json(&text).unwrap();
    let formula: u64 = config.memory().iter().map(|needs| needs.memory).sum();
    std::fs::write(scratch.join("forebay.json"), &text).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_forebay"))
        .arg("run")
        .arg(scratch.join("forebay.json"))
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut run = Run(child);
    let mut stdin = run.0.stdin.take().unwrap();
    let feeder = std::thread::spawn(move || {
        use std::io::Write;
        let line = format!("{}\n", "x".repeat(999));
        let block = line.repeat(1000);
        for _ in 0..60 {
            if stdin.write_all(block.as_bytes()).is_err() {
                return;
            }
        }
        std::thread::park_timeout(Duration::from_secs(30));
    });
    wait_until("sixty MiB", || {
        std::fs::metadata(&out).is_ok_and(|file| file.len() > 50_000_000)
    });
    let peak = status(&run.0, "VmHWM:");
    feeder.thread().unpark();
    println!("peak {} KiB, formula {} KiB", peak >> 10, formula >> 10);
    assert!(peak <= formula + PROCESS, "{} KiB", peak >> 10);
    // The formula is no blank cheque: a good part of it is in use.
    assert!(peak >= formula / 3, "{} KiB", peak >> 10);
    drop(run);
    feeder.join().unwrap();
}

/// `L-62`: what is resident after a backlog was delivered is what was resident after the first records were.
#[test]
fn a_delivered_backlog_leaves_nothing_in_memory() {
    let after = |mib: u64| {
        let scratch = Scratch::new("memory-delivered");
        let text = scratch.document(&stream(&scratch, 4096 * MIB));
        let config = Config::from_json(&text).unwrap();
        let out = scratch.join("out.ndjson");
        let engine = Engine::open_to_store(&config).unwrap();
        let stream = engine.stream("telemetry").unwrap();
        let payload = [7u8; 1000];
        for n in 0..mib * 1024 {
            while stream.append(b"pump-7", n, &payload).is_err() {
                std::thread::yield_now();
            }
        }
        engine.close(LIMIT).unwrap();
        std::fs::remove_dir(&out).unwrap();
        let run = Run::start(&scratch, &text);
        let end = Instant::now() + 2 * LIMIT;
        while !std::fs::metadata(&out).is_ok_and(|file| file.len() >= mib * MIB) {
            if Instant::now() > end {
                let log = std::fs::read_to_string(scratch.join("log")).unwrap();
                panic!("{:?} after {mib} MiB:\n{log}", std::fs::metadata(&out));
            }
            std::thread::park_timeout(Duration::from_millis(10));
        }
        std::thread::park_timeout(Duration::from_secs(3));
        resident(&run.0)
    };
    let (little, much) = (after(2), after(32));
    println!(
        "{} KiB after 2 MiB, {} KiB after 32 MiB",
        little >> 10,
        much >> 10
    );
    assert!(much <= little + little / 10);
}
