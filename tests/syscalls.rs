//! Which system calls the threads make, counted by strace over a child process: this test again.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::{LIMIT, Scratch};
use forebay::Engine;

/// Set for the child: where its files lie.
const CHILD: &str = "FOREBAY_SYSCALLS_CHILD";
/// And where its ring lies.
const RING: &str = "FOREBAY_SYSCALLS_RING";
const APPENDS: u64 = 1_000_000;
/// Of the syncer, for each MiB that it writes at full speed: writes of 256 KiB, the same in zeros while
/// segments are new, a sync for each half of the ring, headers, and waiting.
const SYNCER_CALLS_PER_MIB: f64 = 16.0;

/// A call that does nothing and that strace shows: from here on, or up to here.
fn mark(name: &str) {
    let _ = std::fs::metadata(format!("/forebay-mark-{name}"));
}

fn thread_id() -> u64 {
    let link = std::fs::read_link("/proc/thread-self").unwrap();
    link.file_name().unwrap().to_str().unwrap().parse().unwrap()
}

/// A thread gives itself its name when it starts, which may be a moment after it was made.
fn thread_named(name: &str) -> u64 {
    loop {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let mut ids = tasks.map(|task| task.unwrap());
        let task = ids.find(|task| {
            std::fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.trim() == name)
        });
        if let Some(task) = task {
            return task.file_name().to_str().unwrap().parse().unwrap();
        }
        std::thread::yield_now();
    }
}

/// The process that strace watches. As a test of its own it does nothing.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(CHILD) else {
        return;
    };
    let scratch = std::mem::ManuallyDrop::new(Scratch(PathBuf::from(dir)));
    let ring = std::env::var(RING).unwrap();
    let stream = format!(
        r#"{{"name": "telemetry", "sink": {{"type": "none"}}, "buffer": {{"ring": "{ring}"}}}}"#
    );
    let engine = Engine::open(&scratch.config(&stream)).unwrap();
    let stream = engine.stream("telemetry").unwrap();
    let payload = [7u8; 100];
    let append = || {
        while stream.append(b"0123456789abcdef", 1, &payload).is_err() {
            std::hint::spin_loop();
        }
    };
    let (appender, syncer) = (thread_id(), thread_named("forebay-sync"));

    append();
    mark("flat-out");
    for _ in 0..APPENDS {
        append();
    }
    mark("flat-out-end");
    stream.flush(LIMIT).unwrap();
    let flat_out = stream.stats();

    mark("paced");
    let began = Instant::now();
    for _ in 0..2000 {
        let start = Instant::now();
        append();
        while start.elapsed() < Duration::from_millis(1) {
            std::hint::spin_loop();
        }
    }
    mark("paced-end");
    let paced_secs = began.elapsed().as_secs();
    let paced = stream.stats();
    engine.close(LIMIT).unwrap();
    let roles = format!(
        "{appender} {syncer} {} {} {} {} {paced_secs}",
        flat_out.written_bytes,
        flat_out.syncs_total,
        paced.syncs_total - flat_out.syncs_total,
        paced.wakeups_total
    );
    std::fs::write(scratch.join("roles"), roles).unwrap();
}

/// The calls of a thread, one a line, between two marks.
fn between<'a>(trace: &'a str, from: &str, to: &str) -> Vec<&'a str> {
    let is = |name: &str| format!("/forebay-mark-{name}\"");
    let (from, to) = (is(from), is(to));
    let lines = trace.lines().skip_while(|line| !line.contains(&from));
    let calls: Vec<_> = lines
        .skip(1)
        .take_while(|line| !line.contains(&to))
        .collect();
    assert!(trace.contains(&to), "{to} is not in the trace");
    calls
}

fn count(trace: &str, what: &str) -> usize {
    trace.lines().filter(|line| line.contains(what)).count()
}

fn trace_of(dir: &Path, thread: u64) -> String {
    std::fs::read_to_string(dir.join(format!("trace.{thread}"))).unwrap()
}

/// `G-067` to `G-070`, `L-52`, `L-S3`, `L-S4`: a million appends call the kernel only to wake a syncer
/// that sleeps, at most once per sleep; the syncer's calls are bounded by what it writes, and what makes
/// records durable is `fdatasync`.
#[test]
fn append_calls_the_kernel_only_to_wake_a_sleeping_syncer() {
    count_calls("private");
}

/// The same with a ring that others can map.
#[test]
fn a_shared_ring_makes_no_more_calls() {
    count_calls("shared");
}

fn count_calls(ring: &str) {
    let scratch = Scratch::new(&format!("syscalls-{ring}"));
    let traced = Command::new("strace")
        .args(["-ff", "-qq", "-s", "64", "-o"])
        .arg(scratch.join("trace"))
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--test-threads", "1"])
        .env(CHILD, &scratch.0)
        .env(RING, ring)
        .output()
        .expect("strace is needed for this test");
    let output = String::from_utf8_lossy(&traced.stdout);
    assert!(traced.status.success(), "{output}");
    let roles = std::fs::read_to_string(scratch.join("roles")).unwrap();
    let mut roles = roles.split(' ').map(|role| role.parse::<u64>().unwrap());
    let mut role = || roles.next().unwrap();
    let (appender, syncer, written, syncs, paced_syncs, sleeps, secs) =
        (role(), role(), role(), role(), role(), role(), role());
    let (appender, syncer) = (trace_of(&scratch.0, appender), trace_of(&scratch.0, syncer));

    let flat_out = between(&appender, "flat-out", "flat-out-end");
    let paced = between(&appender, "paced", "paced-end");
    for call in flat_out.iter().chain(&paced) {
        assert!(call.contains("FUTEX_WAKE"), "append made the call {call}");
    }
    println!(
        "{APPENDS} appends: {} wake-ups; 2000 at 1000/s: {} wake-ups, {paced_syncs} syncs; \
         the syncer slept {sleeps} times",
        flat_out.len(),
        paced.len(),
    );
    assert!(
        (flat_out.len() + paced.len()) as u64 <= sleeps,
        "more wake-ups than sleeps"
    );
    // Two seconds, or more where others have the processors.
    let woken = paced.len() as u64;
    assert!(woken <= 2 * secs + 2, "{woken} wake-ups in {secs} s");
    assert!(paced_syncs <= secs + 2, "{paced_syncs} syncs in {secs} s");

    let calls = syncer.lines().count();
    #[allow(clippy::cast_precision_loss)]
    let per_mib = calls as f64 / (written as f64 / f64::from(1 << 20));
    println!(
        "syncer: {calls} calls for {} MiB: {per_mib:.1} per MiB",
        written >> 20
    );
    assert!(
        per_mib <= SYNCER_CALLS_PER_MIB,
        "{per_mib:.1} calls per MiB"
    );
    let data_syncs = count(&syncer, "fdatasync(") as u64;
    assert!(
        data_syncs >= syncs,
        "{data_syncs} fdatasync for {syncs} syncs"
    );
    assert_eq!(count(&syncer, "MS_ASYNC"), 0);
}
