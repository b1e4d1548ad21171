//! What an open finds of a process that died: its shared ring and its board. The death is a copy of all
//! files of an engine that runs; `tests/survive.rs` kills real processes.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // a test is not behind the seams

mod common;
#[path = "sim/clock.rs"]
#[allow(dead_code)]
mod sim_clock;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::{LIMIT, Scratch};
use forebay::clock::{Clock, System};
use forebay::engine::World;
use forebay::format::Reason;
use forebay::log::{BatchBuffer, Ended, View};
use forebay::storage::Real;
use forebay::{Engine, Record, Source, Stream};

const SHARED: &str = r#", "ring": "shared""#;

/// One stream that is not synced by the timer.
fn stream_with(fields: &str) -> String {
    format!(
        r#"{{"name": "telemetry", "sink": {{"type": "none"}}, "buffer": {{"volatile": "allow",
        "segmentBytes": 1048576, "maxDiskBytes": 16777216, "fsyncIntervalMs": 3600000 {fields}}}}}"#
    )
}

fn open(scratch: &Scratch, fields: &str) -> (Engine, Stream) {
    let engine = Engine::open(&scratch.config(&stream_with(fields))).unwrap();
    let stream = engine.stream("telemetry").unwrap();
    (engine, stream)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, to) = {
            let entry = entry.unwrap();
            (entry.path(), to.join(entry.file_name()))
        };
        match path.is_dir() {
            true => copy(&path, &to),
            false => drop(std::fs::copy(path, to).unwrap()),
        }
    }
}

/// What the death of the process leaves of everything that lies here.
fn death(scratch: &Scratch, name: &str) -> Scratch {
    let left = Scratch::new(name);
    copy(&scratch.join("data"), &left.join("data"));
    copy(&scratch.join("run"), &left.join("run"));
    left
}

fn files_in_run(scratch: &Scratch, end: &str) -> Vec<PathBuf> {
    let files = scratch.files("run").into_iter().map(|(path, _)| path);
    files
        .filter(|path| path.to_str().unwrap().ends_with(end))
        .collect()
}

fn append(stream: &Stream, numbers: std::ops::Range<u64>) {
    for n in numbers {
        assert_eq!(
            stream
                .append(b"key", n, format!("record {n}").as_bytes())
                .unwrap(),
            n
        );
    }
}

/// Offsets and payloads of all that is in the store.
fn read(scratch: &Scratch) -> Vec<(u64, String)> {
    let path = scratch.join("data/telemetry");
    let view = View::open(&path, Arc::new(Real), Arc::new(System::new())).unwrap();
    let mut reader = view.reader().unwrap();
    let mut batch = BatchBuffer::new(1000, 1 << 20, 1 << 20).unwrap();
    let (mut all, mut next) = (Vec::new(), 0);
    loop {
        batch.clear();
        let (ended, after) = reader.read(next, u64::MAX, &mut batch).unwrap();
        for entry in batch.entries() {
            let payload = String::from_utf8_lossy(batch.view(entry).payload).into_owned();
            all.push((entry.offset, payload));
        }
        next = after;
        if matches!(ended, Ended::CaughtUp) {
            return all;
        }
    }
}

fn expected(numbers: std::ops::Range<u64>) -> Vec<(u64, String)> {
    numbers.map(|n| (n, format!("record {n}"))).collect()
}

/// Closes, and looks at everything.
fn close_and_read(engine: &Engine, scratch: &Scratch) -> Vec<(u64, String)> {
    engine.close(LIMIT).unwrap();
    read(scratch)
}

/// Through any number of deaths, each before anything more was synced.
#[test]
fn what_was_accepted_is_there_after_the_death_of_the_process() {
    let mut scratch = Scratch::new("rings-0");
    for life in 0..5 {
        let (engine, stream) = open(&scratch, SHARED);
        let stats = stream.stats();
        assert_eq!(stats.ring_recovered_total, 20 * life, "life {life}");
        assert_eq!((stats.appended_total, stats.next_offset), (0, 20 * life));
        append(&stream, 20 * life..20 * life + 20);
        assert_eq!(stream.stats().appended_total, 20);
        let left = death(&scratch, &format!("rings-{}", life + 1));
        engine.close(LIMIT).unwrap();
        scratch = left;
    }
    let (engine, stream) = open(&scratch, SHARED);
    stream.flush(LIMIT).unwrap();
    append(&stream, 100..101);
    assert_eq!(close_and_read(&engine, &scratch), expected(0..101));
    // A clean close leaves nothing to be found.
    let (engine, stream) = open(&scratch, SHARED);
    assert_eq!(stream.stats().ring_recovered_total, 0);
    engine.close(LIMIT).unwrap();
}

/// A ring of other bounds is emptied before a new one is made, and so is one that is not wanted any more;
/// that one is gone afterwards.
#[test]
fn a_ring_with_other_settings_is_emptied_at_open() {
    let scratch = Scratch::new("rings-settings");
    let (engine, stream) = open(&scratch, SHARED);
    append(&stream, 0..30);
    for (name, fields, count) in [
        (
            "rings-smaller",
            r#", "ring": "shared", "maxBufferedBytes": 8192"#,
            1,
        ),
        (
            "rings-fewer",
            r#", "ring": "shared", "maxBufferedRecords": 4"#,
            1,
        ),
        ("rings-private", "", 0),
    ] {
        let left = death(&scratch, name);
        let (engine, stream) = open(&left, fields);
        let stats = stream.stats();
        assert_eq!(
            (stats.ring_recovered_total, stats.durable_offset),
            (30, 30),
            "{name}"
        );
        assert_eq!(files_in_run(&left, ".ring").len(), count, "{name}");
        append(&stream, 30..32);
        assert_eq!(close_and_read(&engine, &left), expected(0..32), "{name}");
    }
    engine.close(LIMIT).unwrap();
}

/// While the log has no room that it may take, what the ring holds stays there, whatever is configured by
/// then.
#[test]
fn a_ring_that_cannot_be_emptied_is_kept_as_it_is() {
    let scratch = Scratch::new("rings-full");
    let wanted = |fields: &str| {
        let sink = r#"{"type": "file", "path": "/dev/full", "maxFileBytes": 0, "fsync": "never"}"#;
        let fields = format!(r#"{fields}, "onFull": "rejectNew""#);
        let fields = stream_with(&fields).replace(r#"{"type": "none"}"#, sink);
        fields.replace("16777216", "8388608")
    };
    let engine = Engine::open(&scratch.config(&wanted(SHARED))).unwrap();
    let stream = engine.stream("telemetry").unwrap();
    let payload = vec![b'x'; 20_000];
    let mut refused = 0;
    while refused < 100 {
        if stream.append(b"", 0, &payload).is_err() {
            refused += 1;
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
    let (next, durable) = (stream.stats().next_offset, stream.stats().durable_offset);
    assert!(next > durable + 10);
    let left = death(&scratch, "rings-full-left");
    std::mem::forget(engine); // A close would wait for the room in vain.
    let smaller = r#", "ring": "shared", "maxBufferedBytes": 131072"#;
    let engine = Engine::open(&left.config(&wanted(smaller))).unwrap();
    let stream = engine.stream("telemetry").unwrap();
    let stats = stream.stats();
    assert_eq!(stats.next_offset, next);
    assert!(stats.ring_recovered_total >= next - durable);
    let left_again = death(&left, "rings-full-again");
    std::mem::forget(engine);
    // Where there is room again, they are all there.
    let (engine, stream) = open(&left_again, smaller);
    assert_eq!(stream.stats().durable_offset, next);
    let all = close_and_read(&engine, &left_again);
    assert_eq!(all.len() as u64, next - all[0].0);
}

/// `G-086`: rings of another boot, another store, another version, an older run, or with a damaged head: none of
/// their records comes back, no offset is handed out twice, and it is counted.
#[test]
fn a_ring_that_is_not_the_last_runs_is_refused_and_counted() {
    let scratch = Scratch::new("rings-refused");
    let (engine, stream) = open(&scratch, SHARED);
    append(&stream, 0..10);
    let ring = |scratch: &Scratch| files_in_run(scratch, ".ring").remove(0);
    let check = |left: &Scratch, world: &World, name: &str| {
        let engine = Engine::open_in(&left.config(&stream_with(SHARED)), world).unwrap();
        let stream = engine.stream("telemetry").unwrap();
        let stats = stream.stats();
        let found = (stats.ring_recovered_total, stats.ring_refused_total);
        assert_eq!(found, (0, 1), "{name}");
        assert!(stream.append(b"", 0, b"new").unwrap() >= 10, "{name}");
        stream.flush(LIMIT).unwrap();
        engine.close(LIMIT).unwrap();
        assert_eq!(read(left).len(), 1, "{name}");
    };
    let left = death(&scratch, "rings-boot");
    let clock = sim_clock::SimClock::new();
    assert_ne!(clock.boot(), System::new().boot());
    let (storage, clock) = (Arc::new(Real), Arc::new(clock));
    check(&left, &World { storage, clock }, "another boot");

    // Each byte of the head counts.
    for at in [0, 5, 12, 20, 35, 41, 48, 52, 56, 79] {
        let left = death(&scratch, "rings-head");
        let mut bytes = std::fs::read(ring(&left)).unwrap();
        bytes[at] ^= 0x10;
        std::fs::write(ring(&left), bytes).unwrap();
        check(&left, &World::real(), &format!("byte {at}"));
    }
    let left = death(&scratch, "rings-short");
    std::fs::write(ring(&left), [1; 100]).unwrap();
    check(&left, &World::real(), "too short");

    // Another store's, under our name.
    let (left, other) = (death(&scratch, "rings-ours"), Scratch::new("rings-other"));
    let (other_engine, other_stream) = open(&other, SHARED);
    append(&other_stream, 0..5);
    std::fs::copy(ring(&other), ring(&left)).unwrap();
    check(&left, &World::real(), "another store's");
    other_engine.close(LIMIT).unwrap();

    // A run in between had its ring elsewhere.
    let left = death(&scratch, "rings-between");
    let elsewhere = Scratch::new("rings-elsewhere");
    copy(&left.join("data"), &elsewhere.join("data"));
    let (between, stream) = open(&elsewhere, SHARED);
    let first = stream.append(b"", 0, b"between").unwrap();
    let dead = death(&elsewhere, "rings-between-dead");
    between.close(LIMIT).unwrap();
    std::fs::remove_dir_all(dead.join("run")).unwrap();
    copy(&left.join("run"), &dead.join("run"));
    check(&dead, &World::real(), "an older run's");
    assert!(read(&dead)[0].0 > first);
    engine.close(LIMIT).unwrap();
}

/// Whatever the ring's file holds, it opens, and the ring is good for new records.
#[test]
fn no_bytes_of_a_ring_keep_a_store_from_opening() {
    let scratch = Scratch::new("rings-bytes");
    let fields = r#", "ring": "shared", "maxBufferedBytes": 4096, "maxBufferedRecords": 16"#;
    let (engine, stream) = open(&scratch, fields);
    append(&stream, 0..8);
    let mut seed = 11u64;
    let mut next = |below: usize| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(seed >> 40).unwrap() % below
    };
    for round in 0..60 {
        let left = death(&scratch, "rings-bytes-left");
        let path = files_in_run(&left, ".ring").remove(0);
        let mut bytes = std::fs::read(&path).unwrap();
        for _ in 0..1 + next(20) {
            // Behind the head, where no checksum is: slots, words, records.
            let at = 80 + next(bytes.len() - 80).min(next(8192));
            bytes[at] = u8::try_from(next(256)).unwrap();
        }
        std::fs::write(path, bytes).unwrap();
        let (engine, stream) = open(&left, fields);
        let offset = stream.append(b"key", 0, b"new").unwrap();
        stream.flush(LIMIT).unwrap();
        engine.close(LIMIT).unwrap();
        assert_eq!(
            read(&left).last(),
            Some(&(offset, "new".to_owned())),
            "round {round}"
        );
    }
    engine.close(LIMIT).unwrap();
}

/// A source goes on behind the last record that was accepted, though it is not durable yet.
#[test]
fn a_source_goes_on_behind_what_the_ring_had_kept() {
    let scratch = Scratch::new("rings-source");
    let (engine, stream) = open(&scratch, SHARED);
    for position in [b"1", b"2", b"3"] {
        let source = Some(Source {
            name: "lines",
            position,
        });
        let record = Record {
            source,
            ..Record::new(b"", 0, b"line")
        };
        stream.append_record(&record).unwrap();
        if position == b"1" {
            stream.flush(LIMIT).unwrap();
        }
    }
    assert_eq!(stream.source_position("lines"), Some(b"1".to_vec()));
    for (name, fields) in [
        ("rings-source-shared", SHARED),
        ("rings-source-private", ""),
    ] {
        let left = death(&scratch, name);
        let (engine, stream) = open(&left, fields);
        assert_eq!(
            stream.source_position("lines"),
            Some(b"3".to_vec()),
            "{name}"
        );
        engine.close(LIMIT).unwrap();
    }
    engine.close(LIMIT).unwrap();
}

/// A flush that was cut by the death of the process: with its board the open knows what had been durable.
/// What lies above is no riddle, and what lies below is damage. Without it neither can be told.
#[test]
fn the_board_of_this_boot_tells_what_was_durable() {
    let scratch = Scratch::new("rings-board");
    let (engine, stream) = open(&scratch, r#", "io": "write""#);
    let append = |count: u64| {
        for _ in 0..count {
            stream.append(b"", 0, &[b'x'; 1000]).unwrap();
        }
        stream.flush(LIMIT).unwrap();
    };
    append(10);
    let board_before = death(&scratch, "rings-board-before");
    append(40);
    let with_hole = |name: &str, run: Option<&Scratch>| {
        let left = death(&scratch, name);
        std::fs::remove_dir_all(left.join("run")).unwrap();
        if let Some(run) = run {
            copy(&run.join("run"), &left.join("run"));
        }
        let path = left.join("data/telemetry/segment-000001");
        let mut bytes = std::fs::read(&path).unwrap();
        // In a record of the second flush that is not its last.
        let written = bytes.iter().rposition(|byte| *byte == b'x').unwrap();
        bytes[written - 12_000..written - 11_000].fill(0);
        std::fs::write(&path, bytes).unwrap();
        let (engine, stream) = open(&left, "");
        let ledger = stream.shared().ledger().ranges().to_vec();
        engine.close(LIMIT).unwrap();
        assert!(ledger[0].start >= 10 && ledger[0].end < 50, "{ledger:?}");
        (ledger[0].reason, stream.stats().corrupt_total > 0)
    };
    let nothing = with_hole("rings-board-none", None);
    assert_eq!(nothing, (Reason::Undecided, false));
    let above = with_hole("rings-board-above", Some(&board_before));
    assert_eq!(above, (Reason::NeverDurable, false));
    let below = with_hole("rings-board-below", Some(&scratch));
    assert_eq!(below, (Reason::Damage, true));
    engine.close(LIMIT).unwrap();
}

/// What was being written when the process died, and is not whole, comes from the ring.
#[test]
fn a_write_that_was_cut_is_made_up_for_from_the_ring() {
    cut_a_write(10, 1000);
    cut_a_write(10, 9000);
}

/// The same where nothing of the segment had been durable before.
#[test]
fn a_first_write_that_was_cut_is_made_up_for_too() {
    cut_a_write(0, 1000);
    cut_a_write(0, 9000);
}

/// So many records are durable, and the rest of fifty are being written.
fn cut_a_write(durable: u64, len: usize) {
    let scratch = Scratch::new(&format!("rings-cut-{durable}-{len}"));
    let (engine, stream) = open(&scratch, r#", "ring": "shared", "io": "write""#);
    let payload = |n: u64| format!("{n} {}", "x".repeat(len));
    for n in 0..durable {
        stream.append(b"", 0, payload(n).as_bytes()).unwrap();
    }
    stream.flush(LIMIT).unwrap();
    for n in durable..50 {
        stream.append(b"", 0, payload(n).as_bytes()).unwrap();
    }
    let before = death(&scratch, &format!("rings-cut-before-{durable}-{len}"));
    stream.flush(LIMIT).unwrap();
    // Whole pages from some on are missing, too: that is how a kernel leaves off.
    let holes_in_records = [
        &[12_000usize][..],
        &[12_000, 20_000],
        &[500],
        &[37_500],
        &[12_000, 37_500],
        &[4_500],
        &[8_500],
    ];
    let pages_missing: Vec<[usize; 1]> = (1..=8).map(|pages| [pages << 20]).collect();
    let missing = pages_missing.iter().map(|pages| &pages[..]);
    for holes in holes_in_records.into_iter().chain(missing) {
        // The second flush is in the log, but for these bytes; the ring has not been released.
        let left = death(&scratch, &format!("rings-cut-left-{durable}-{len}"));
        std::fs::remove_dir_all(left.join("run")).unwrap();
        copy(&before.join("run"), &left.join("run"));
        let path = left.join("data/telemetry/segment-000001");
        let mut bytes = std::fs::read(&path).unwrap();
        let written = bytes.iter().rposition(|byte| *byte == b'x').unwrap();
        for hole in holes {
            match hole >> 20 {
                0 => bytes[written - hole..written - hole + 400].fill(0),
                pages => bytes[((written >> 12) + 1 - pages) << 12..=written].fill(0),
            }
        }
        std::fs::write(&path, bytes).unwrap();
        let (again, stream) = open(&left, SHARED);
        let twice = death(&left, &format!("rings-cut-twice-{durable}-{len}"));
        assert_eq!(stream.append(b"", 0, payload(50).as_bytes()).unwrap(), 50);
        let all = close_and_read(&again, &left);
        let check = |all: Vec<(u64, String)>, what: &str| {
            let offsets: Vec<u64> = all.iter().map(|(offset, _)| *offset).collect();
            assert_eq!(offsets, Vec::from_iter(0..51), "{holes:?}, {what}");
            assert!(all.iter().all(|(n, text)| *text == payload(*n)));
        };
        check(all, "once");
        assert!(stream.shared().ledger().ranges().is_empty());
        // It died again before anything was synced.
        let (again, stream) = open(&twice, SHARED);
        assert_eq!(stream.append(b"", 0, payload(50).as_bytes()).unwrap(), 50);
        check(close_and_read(&again, &twice), "twice");
    }
    engine.close(LIMIT).unwrap();
}
