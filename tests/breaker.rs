//! `L-83`: a record of which the process dies inside `deliver`, again and again, is found and becomes a dead
//! letter; one that was merely in flight when the process was killed, or the machine rebooted, never does.
//!
//! ```text
//!  this test                                 its child: this same program, one engine, a sink of its own
//!  ─────────────────────────────────         ───────────────────────────────────────────────────────────
//!  starts it until it ends well   ◀── ✗ ──── a batch with the poison: dies, each time in the same way
//!  counts the deaths              ◀── ok ─── all others: notes their offsets, accepts
//!  at the end: notes, dead letters
//! ```

#![cfg(feature = "cli")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // a test is not behind the seams

mod common;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use common::{LIMIT, Scratch, wait_until};
use forebay::clock::System;
use forebay::engine::EventKind;
use forebay::log::{BatchBuffer, Ended, View};
use forebay::sink::{Answer, Batch, Blocking, BlockingSink, Lanes};
use forebay::storage::{Real, Storage, watch_faults};
use forebay::syncer::{LETTERS_DIR, Letter};
use forebay::{Engine, note_fault};
use rustix::process::{Signal, getpid, kill_process};

const DIR: &str = "FOREBAY_BREAKER_DIR";
const WAY: &str = "FOREBAY_BREAKER_WAY";
const RECORDS: u64 = 40;
const POISON: u64 = 17;
/// Deaths after which a test gives up.
const DEATHS_MAX: u32 = 12;

/// A sink that dies of one record, as it is told, and notes what it accepts.
struct Fragile {
    dir: std::path::PathBuf,
    way: String,
}

impl BlockingSink for Fragile {
    fn deliver(&mut self, batch: &Batch<'_>, _: Duration, answer: &mut Answer<'_>) {
        if batch.iter().any(|record| record.payload == b"poison") {
            self.die();
        }
        let offsets = batch.iter().map(|record| format!("{}\n", record.offset));
        let text: String = offsets.collect();
        let path = self.dir.join("out");
        let mut out = std::fs::File::options();
        let mut out = out.create(true).append(true).open(path).unwrap();
        out.write_all(text.as_bytes()).unwrap();
        answer.accept_rest();
    }
}

impl Fragile {
    fn die(&self) {
        match self.way.as_str() {
            "abort" => std::process::abort(),
            "overflow" => drop(sink_into_the_stack(self.way.len())),
            "bus" => read_what_is_gone(&self.dir.join("gone")),
            // As a host's own handler would.
            "noted" => {
                note_fault();
                kill_process(getpid(), Signal::KILL).unwrap();
            }
            "killed" => kill_process(getpid(), Signal::KILL).unwrap(),
            // Somebody sends what a fault would raise.
            "sent" => kill_process(getpid(), Signal::ABORT).unwrap(),
            "well" => return,
            way => panic!("{way}"),
        }
        loop {
            std::thread::park();
        }
    }
}

/// Comes to the guard page of the stack: a SIGSEGV.
#[allow(unconditional_recursion)]
fn sink_into_the_stack(depth: usize) -> Vec<[u8; 512]> {
    let frame = std::hint::black_box([u8::try_from(depth % 7).unwrap(); 512]);
    let mut frames = sink_into_the_stack(depth + 1);
    frames.push(std::hint::black_box(frame));
    frames
}

/// Maps a file, cuts it, and reads what was there: a SIGBUS.
fn read_what_is_gone(path: &Path) {
    let memory = Real.shared(path, 8192).unwrap();
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_len(0).unwrap();
    let read = memory.words()[600].load(std::sync::atomic::Ordering::Relaxed);
    std::hint::black_box(read);
}

/// A life: stores the records if they are not there, and delivers until all are done.
fn live(dir: &Path, way: &str, more: &str) {
    watch_faults().unwrap();
    let lane = || Fragile {
        dir: dir.to_owned(),
        way: way.to_owned(),
    };
    let (data, run) = (dir.join("data"), dir.join("run"));
    let text = format!(
        r#"{{"dataDir": "{}", "runDir": "{}", "streams": [{{"name": "telemetry",
            "sink": {{"type": "callback", "id": "test"}}, "buffer": {{"volatile": "allow",
            "maxDiskBytes": 33554432, "checkpointMs": 10}} {more}}}]}}"#,
        data.display(),
        run.display()
    );
    let is_first = !data.exists();
    let config = || forebay::Config::from_json(&text).unwrap();
    if is_first {
        let engine = Engine::open_to_store(&config()).unwrap();
        let stream = engine.stream("telemetry").unwrap();
        for n in 0..RECORDS {
            let payload: &[u8] = if n == POISON { b"poison" } else { b"good" };
            stream.append(&n.to_le_bytes(), n, payload).unwrap();
        }
        engine.close(LIMIT).unwrap();
    }
    let config = match more.contains("perKey") {
        true => config().with_sink(
            "test",
            Lanes::new((0..4).map(|_| lane()).collect()).unwrap(),
        ),
        false => config().with_sink("test", Blocking::new(lane())),
    };
    let engine = Engine::open(&config).unwrap();
    wait_until("all is delivered", || {
        engine.stats("telemetry").unwrap().acked_offset >= RECORDS
    });
    let stats = engine.stats("telemetry").unwrap();
    engine.close(LIMIT).unwrap();
    let told = engine
        .events()
        .filter(|event| matches!(event.kind, EventKind::CrashLoop { records: 1, .. }));
    let told = u64::try_from(told.count()).unwrap();
    assert_eq!(told, stats.sinks[0].crash_loops_total);
    assert_eq!(told, stats.failed_total);
}

/// Whether a life that dies in that way ended well.
fn ends_well(test: &str, dir: &Path, way: &str) -> bool {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]);
    command.env(DIR, dir).env(WAY, way).stdin(Stdio::null());
    let child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
    let ended = child.unwrap().wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(!said.contains("panicked"), "{said}");
    if way == "overflow" && !ended.status.success() {
        // Whoever had the signal before is asked, too.
        assert!(said.contains("overflowed its stack"), "{said}");
    }
    ended.status.success()
}

/// What the sink has accepted, without what came again, and the offsets and reasons of the dead letters.
fn seen(dir: &Path) -> (Vec<u64>, Vec<(u64, String)>) {
    let out = std::fs::read_to_string(dir.join("out")).unwrap();
    let mut accepted: Vec<u64> = out.lines().map(|line| line.parse().unwrap()).collect();
    accepted.sort_unstable();
    accepted.dedup();
    let store = dir.join("data/telemetry").join(LETTERS_DIR);
    let mut letters = Vec::new();
    if !store.join("checkpoint").exists() {
        return (accepted, letters);
    }
    let view = View::open(&store, Arc::new(Real), Arc::new(System::new())).unwrap();
    let mut batch = BatchBuffer::new(100, 1 << 20, 1 << 20).unwrap();
    let read = view
        .reader()
        .unwrap()
        .read(0, u64::MAX, &mut batch)
        .unwrap();
    assert_eq!(read.0, Ended::CaughtUp);
    for entry in batch.entries() {
        let letter = Letter::read(batch.view(entry)).unwrap();
        letters.push((letter.offset, letter.reason.to_owned()));
    }
    (accepted, letters)
}

fn all_but_the_poison() -> Vec<u64> {
    (0..RECORDS).filter(|offset| *offset != POISON).collect()
}

/// A child's part of a test, with more fields of its stream. False in the test itself.
fn is_child(more: &str) -> bool {
    let (dir, way) = (std::env::var_os(DIR), std::env::var(WAY));
    if let (Some(dir), Ok(way)) = (&dir, way) {
        live(Path::new(dir), &way, more);
    }
    dir.is_some()
}

/// How often the process dies of the poison until it ends well; then the poison is a dead letter.
fn deaths(test: &str, way: &str) -> u32 {
    let scratch = Scratch::new(&format!("breaker-{test}-{way}"));
    let deaths = (0..DEATHS_MAX).find(|_| ends_well(test, &scratch.0, way));
    let deaths = deaths.unwrap_or_else(|| panic!("{way}: it dies for ever"));
    let (accepted, letters) = seen(&scratch.0);
    assert_eq!(accepted, all_but_the_poison(), "{way}");
    let [(POISON, reason)] = &letters[..] else {
        panic!("{way}: {letters:?}");
    };
    assert_eq!(
        reason,
        "crashLoop: the process died 3 times while the sink had it"
    );
    deaths
}

/// `L-83`: one death with the whole batch, three with the record alone, however it dies.
#[test]
fn a_record_that_ends_the_process_becomes_a_dead_letter_and_the_rest_is_delivered() {
    if is_child("") {
        return;
    }
    for way in ["abort", "overflow", "bus", "noted"] {
        let test = "a_record_that_ends_the_process_becomes_a_dead_letter_and_the_rest_is_delivered";
        assert_eq!(deaths(test, way), 4, "{way}");
    }
}

/// `L-83`: where batches hold one record anyway it takes three deaths.
#[test]
fn three_deaths_are_enough_where_records_go_alone() {
    if is_child(r#", "batch": {"maxRecords": 1}"#) {
        return;
    }
    assert_eq!(
        deaths("three_deaths_are_enough_where_records_go_alone", "abort"),
        3
    );
}

/// `L-83`: with several batches in flight the same, once the suspects go one by one.
#[test]
fn with_several_lanes_the_record_is_found_too() {
    let more = r#", "batch": {"maxRecords": 5},
        "delivery": {"ordering": "perKey", "maxInFlight": 4}"#;
    if is_child(more) {
        return;
    }
    let deaths = deaths("with_several_lanes_the_record_is_found_too", "abort");
    assert!((4..=6).contains(&deaths), "{deaths}");
}

/// `L-83`: a record that is alone in flight at every kill, at every reboot, and at every signal that
/// somebody sends, is delivered when the outage is over; in whatever order these come, and whatever
/// deaths of its own come between reboots.
#[test]
fn kills_and_reboots_never_take_a_record() {
    if is_child(r#", "batch": {"maxRecords": 1}"#) {
        return;
    }
    let scratch = Scratch::new("breaker-reboots");
    let dies = |way| {
        assert!(
            !ends_well("kills_and_reboots_never_take_a_record", &scratch.0, way),
            "{way}"
        );
    };
    for _ in 0..4 {
        dies("killed");
        dies("sent");
    }
    for _ in 0..3 {
        dies("abort");
        dies("killed");
        dies("abort");
        // What shared memory holds ends with the boot.
        std::fs::remove_dir_all(scratch.join("run")).unwrap();
    }
    assert!(ends_well(
        "kills_and_reboots_never_take_a_record",
        &scratch.0,
        "well"
    ));
    assert_eq!(seen(&scratch.0), ((0..RECORDS).collect(), Vec::new()));
}

/// `L-83`: an answer between deaths starts the count anew.
#[test]
fn an_answer_between_deaths_clears_the_record() {
    if is_child("") {
        return;
    }
    let scratch = Scratch::new("breaker-answer");
    let test = "an_answer_between_deaths_clears_the_record";
    for _ in 0..3 {
        assert!(!ends_well(test, &scratch.0, "abort"));
    }
    assert!(ends_well(test, &scratch.0, "well"));
    assert_eq!(seen(&scratch.0), ((0..RECORDS).collect(), Vec::new()));
}
