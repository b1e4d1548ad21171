//! Processes with shared rings are killed (SIGKILL) or abort, again and again, while several threads append
//! as fast as they are let: of what `append` had accepted nothing is missing, whether it was synced or not.
//!
//! ```text
//!  this test                                its child: this same program, one engine
//!  ─────────────────────────────            ────────────────────────────────────────────────────
//!  starts it, kills it        ──── ✗ ─────▶ four threads: append ─▶ note the offset in shared memory
//!  starts the next one on the same store     (a note is a store: it costs no call, and outlives the kill)
//!  at the end: the log against the notes
//! ```
//!
//! The bounds of the ring and the sync interval change between lives, some lives end while they open, and
//! the last one has a private ring. `KILLS` sets how many (default 40), `SEED` the moments.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // a test is not behind the seams

mod common;
#[path = "sim/random.rs"]
#[allow(dead_code)]
mod random;

use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{LIMIT, Scratch};
use forebay::clock::System;
use forebay::log::{BatchBuffer, Ended, View};
use forebay::storage::{Memory, Real, Storage};
use forebay::{Code, Config, Engine, Record, Stream};
use random::{Random, seed};

const THREADS: usize = 4;
/// The most records that a thread of a life appends.
const APPENDS_MAX: usize = 700;
const DIR: &str = "FOREBAY_SURVIVE_DIR";
const RUN: &str = "FOREBAY_SURVIVE_RUN";
const RING: &str = "FOREBAY_SURVIVE_RING";
const LAST: &str = "FOREBAY_SURVIVE_LAST";

/// What a life notes for the test: these, then an offset for each record.
#[derive(Clone, Copy)]
#[repr(usize)]
enum Note {
    Opened,
    Recovered,
    Void,
    Refused,
    Offsets,
}

struct Notes(Memory);

impl Notes {
    fn of(dir: &Path, run: u64) -> Self {
        let len = (Note::Offsets as usize + THREADS * APPENDS_MAX) * 8;
        let path = dir.join(format!("notes-{run}"));
        Self(Real.shared(&path, len).unwrap())
    }

    fn word(&self, note: Note) -> &AtomicU64 {
        &self.0.words()[note as usize]
    }

    /// One more than the offset of a thread's n-th record; 0: append did not return.
    fn offset(&self, thread: usize, n: usize) -> &AtomicU64 {
        &self.0.words()[Note::Offsets as usize + thread * APPENDS_MAX + n]
    }
}

/// Settings that go with a life.
fn config(dir: &Path, run: u64, ring: &str) -> Config {
    let mix = Random::new(run * 7 + 1).below(1 << 20);
    let records = if run % 10 == 3 { 256 } else { 1024 };
    let bytes = if run % 14 == 5 { 65536 } else { 262_144 };
    let interval = [1, 20, 3_600_000][usize::try_from(mix % 3).unwrap()];
    let (data, run) = (dir.join("data"), dir.join("run"));
    let text = format!(
        r#"{{"dataDir": {data:?}, "runDir": {run:?}, "streams": [{{"name": "telemetry",
            "sink": {{"type": "none"}}, "buffer": {{"ring": "{ring}", "volatile": "allow",
            "segmentBytes": 1048576, "maxDiskBytes": 4294967296, "fsyncIntervalMs": {interval},
            "maxBufferedRecords": {records}, "maxBufferedBytes": {bytes}, "maxRecordBytes": 5000}}}}]}}"#
    );
    Config::from_json(&text).unwrap()
}

fn payload(run: u64, thread: usize, n: usize) -> String {
    let len = Random::new(run * 31 + thread as u64 * 7 + n as u64).below(if n % 50 == 7 {
        4000
    } else {
        150
    });
    format!(
        "{run} {thread} {n} {}",
        "x".repeat(usize::try_from(len).unwrap())
    )
}

/// A life: appends until it is killed.
fn live(dir: &Path, run: u64, ring: &str, is_last: bool) {
    let notes = Notes::of(dir, run);
    let engine = Engine::open(&config(dir, run, ring)).unwrap();
    let stream = engine.stream("telemetry").unwrap();
    let stats = stream.stats();
    notes
        .word(Note::Recovered)
        .store(stats.ring_recovered_total, Ordering::Relaxed);
    notes
        .word(Note::Void)
        .store(stats.ring_void_total, Ordering::Relaxed);
    notes
        .word(Note::Refused)
        .store(stats.ring_refused_total, Ordering::Relaxed);
    notes.word(Note::Opened).store(1, Ordering::Release);
    if is_last {
        return engine.close(LIMIT).unwrap();
    }
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (stream, notes) = (&stream, &notes);
            scope.spawn(move || append(stream, notes, run, thread));
        }
    });
    loop {
        std::thread::park();
    }
}

fn append(stream: &Stream, notes: &Notes, run: u64, thread: usize) {
    let mut random = Random::new(run * 13 + thread as u64);
    let mut n = 0;
    while n < APPENDS_MAX {
        let count = usize::try_from(1 + random.below(40))
            .unwrap()
            .min(APPENDS_MAX - n);
        let payloads: Vec<String> = (n..n + count).map(|n| payload(run, thread, n)).collect();
        if thread == 0 && count < 5 {
            // All of a batch have their offsets before it is durable; it is only noted when it is.
            let records: Vec<_> = payloads
                .iter()
                .map(|p| Record::new(b"batch", 0, p.as_bytes()))
                .collect();
            if let Ok(offsets) = stream.append_batch(&records) {
                for (n, offset) in (n..).zip(offsets) {
                    notes.offset(thread, n).store(offset + 1, Ordering::Release);
                }
            }
        } else {
            for (n, payload) in (n..).zip(&payloads) {
                let offset = loop {
                    match stream.append(b"single", n as u64, payload.as_bytes()) {
                        Ok(offset) => break offset,
                        Err(error) => assert_eq!(error.code(), Code::Full, "{error}"),
                    }
                    std::thread::yield_now();
                };
                notes.offset(thread, n).store(offset + 1, Ordering::Release);
            }
        }
        n += count;
        if run % 9 == 4 && thread == 1 && n > 300 {
            std::process::abort();
        }
        std::thread::park_timeout(Duration::from_micros(random.below(3000)));
    }
}

fn command(dir: &Path, run: u64, ring: &str, is_last: bool) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([
        "--exact",
        "nothing_that_was_accepted_is_missing_after_any_number_of_kills",
        "--nocapture",
    ]);
    command
        .env(DIR, dir)
        .env(RUN, run.to_string())
        .env(RING, ring);
    if is_last {
        command.env(LAST, "1");
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// Lets a process live for a while and kills it.
fn live_and_die(dir: &Path, run: u64, ring: &str, random: &mut Random) {
    let notes = Notes::of(dir, run);
    let mut child = command(dir, run, ring, false).spawn().unwrap();
    let start = Instant::now();
    if random.chance(6) {
        // While it opens, or before.
        std::thread::sleep(Duration::from_micros(random.below(15_000)));
    } else {
        while notes.word(Note::Opened).load(Ordering::Acquire) == 0 {
            assert!(
                child.try_wait().unwrap().is_none(),
                "run {run} did not open"
            );
            assert!(start.elapsed() < LIMIT);
            std::thread::sleep(Duration::from_micros(200));
        }
        std::thread::sleep(Duration::from_micros(random.below(60_000)));
    }
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert!(
        status.code().is_none(),
        "run {run} ended by itself: {status}"
    );
}

/// What a campaign shows.
#[derive(Debug, Default)]
struct Shown {
    accepted: u64,
    missing: u64,
    /// Records that came from rings, claims that were void, rings that were refused.
    rings: [u64; 3],
}

/// So many lives, all of them on one store.
fn campaign(name: &str, ring: &str, kills: u64, random: &mut Random) -> Shown {
    let scratch = Scratch::new(name);
    for run in 0..kills {
        live_and_die(&scratch.0, run, ring, random);
    }
    let last = command(&scratch.0, kills, "private", true).status();
    assert!(last.unwrap().success());
    let there = read(&scratch.join("data/telemetry"));
    let mut shown = Shown::default();
    for run in 0..=kills {
        let notes = Notes::of(&scratch.0, run);
        let of = [Note::Recovered, Note::Void, Note::Refused];
        for (sum, note) in shown.rings.iter_mut().zip(of) {
            *sum += notes.word(note).load(Ordering::Relaxed);
        }
        for thread in 0..THREADS {
            let mut last = None;
            for n in 0..APPENDS_MAX {
                let noted = notes.offset(thread, n).load(Ordering::Relaxed);
                let noted = noted.checked_sub(1);
                let stored = there.get(&(run, thread, n)).copied();
                let who = (run, thread, n);
                shown.accepted += u64::from(noted.is_some());
                shown.missing += u64::from(noted.is_some() && stored.is_none());
                let is_true = noted.is_none() || stored.is_none() || stored == noted;
                assert!(
                    is_true,
                    "{who:?} has offset {stored:?}, append said {noted:?}"
                );
                assert!(stored.is_none() || stored > last, "{who:?} is out of order");
                last = stored.or(last);
            }
        }
    }
    shown
}

/// `G-086`: what append accepted outlives SIGKILL and abort of the host process, in order, under the offset
/// that it returned.
#[test]
fn nothing_that_was_accepted_is_missing_after_any_number_of_kills() {
    if let Some(dir) = std::env::var_os(DIR) {
        let [run, ring] = [RUN, RING].map(|name| std::env::var(name).unwrap());
        let is_last = std::env::var_os(LAST).is_some();
        return live(Path::new(&dir), run.parse().unwrap(), &ring, is_last);
    }
    let kills = std::env::var("KILLS");
    let kills: u64 = kills.map_or(40, |kills| kills.parse().unwrap());
    let seed = seed(std::process::id().into());
    let shown = campaign("survive", "shared", kills, &mut Random::new(seed));
    println!("SEED={seed}, {kills} kills: {shown:?}");
    assert_eq!(shown.missing, 0);
    let [recovered, _, refused] = shown.rings;
    assert_eq!(refused, 0, "rings were refused");
    assert!(
        recovered > 10 * kills,
        "too few came from rings to show anything"
    );
    assert!(shown.accepted > 100 * kills);
}

/// The campaign finds what it is there to find.
#[test]
fn with_a_private_ring_the_same_kills_lose_records() {
    let shown = campaign("survive-private", "private", 8, &mut Random::new(seed(1)));
    assert!(shown.missing > 10, "{shown:?}");
}

/// All records of a log, by run, thread and number, with their offsets. Each is as it was made.
fn read(store: &Path) -> HashMap<(u64, usize, usize), u64> {
    let view = View::open(store, Arc::new(Real), Arc::new(System::new())).unwrap();
    let mut reader = view.reader().unwrap();
    let mut batch = BatchBuffer::new(1000, 1 << 20, 1 << 16).unwrap();
    let (mut there, mut next) = (HashMap::new(), 0);
    loop {
        batch.clear();
        let (ended, after) = reader.read(next, u64::MAX, &mut batch).unwrap();
        for entry in batch.entries() {
            let text = std::str::from_utf8(batch.view(entry).payload).unwrap();
            let mut words = text.split(' ');
            let mut number = || words.next().unwrap().parse::<u64>().unwrap();
            let who = [number(), number(), number()];
            let [thread, n] = [who[1], who[2]].map(|word| usize::try_from(word).unwrap());
            assert_eq!(text, payload(who[0], thread, n), "at {}", entry.offset);
            let before = there.insert((who[0], thread, n), entry.offset);
            assert_eq!(before, None, "{who:?} is there twice");
        }
        next = after;
        match ended {
            Ended::CaughtUp => return there,
            Ended::Gap(gap) => {
                let reason = gap.reason;
                assert_eq!(reason, forebay::format::Reason::NeverDurable, "{gap:?}");
            }
            Ended::Full => {}
        }
    }
}
