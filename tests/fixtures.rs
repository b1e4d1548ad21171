//! Stores that were written by this version and by those before it, kept for ever: each opens, and everything
//! in it is as it was.
//!
//! A fixture is a text in `tests/fixtures/`, below its format: the files of a store, of which only what is not zero is
//! written down, and what must come out of it. `FIXTURES=write cargo test --test fixtures` makes those of the
//! present format anew; docs/format.md says when that is done.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // a test is not behind the seams

mod common;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::collect::Collect;
use common::{LIMIT, Scratch, wait_until};
use forebay::clock::System;
use forebay::format::FORMAT;
use forebay::log::{BatchBuffer, Ended, View};
use forebay::record::RecordView;
use forebay::sink::{Blocking, Outcome};
use forebay::storage::Real;
use forebay::{Code, Config, Engine, Record, Source};

const SINKS: [&str; 3] = ["all", "half", "picky"];
/// What a line of a file's bytes holds.
const LINE: usize = 48;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// A stream with three sinks: one takes everything, one what is below `half`, and one rejects one in five.
fn config(scratch: &Scratch, half: u64) -> (Config, [Collect; 3]) {
    let sinks = SINKS.map(|name| {
        let id = name;
        format!(r#"{{"name": "{name}", "type": "callback", "id": "{id}"}}"#)
    });
    let stream = format!(
        r#"{{"name": "telemetry", "sinks": [{}],
            "buffer": {{"volatile": "allow", "segmentBytes": 65536, "maxDiskBytes": 1048576,
                "maxRecordBytes": 6000, "maxBufferedRecords": 16, "maxBufferedBytes": 65536,
                "fsyncIntervalMs": 5, "checkpointMs": 10}},
            "batch": {{"maxRecords": 10, "maxBytes": 16384, "maxLatencyMs": 1}},
            "delivery": {{"backoffMaxMs": 60000, "backoffBaseMs": 60000}},
            "deadLetters": {{"maxBytes": 2097152}}}}"#,
        sinks.join(", ")
    );
    let all = Collect::default();
    let half = Collect::with(move |batch, answer| {
        for (index, record) in batch.iter().enumerate() {
            if record.offset >= half {
                answer.set(index, Outcome::Retry(None));
            }
        }
    });
    let picky = Collect::with(|batch, answer| {
        for (index, record) in batch.iter().enumerate() {
            if record.offset % 5 == 3 {
                answer.set(index, Outcome::Rejected("it ends in 3 or 8"));
            }
        }
    });
    let mut config = scratch.config(&stream);
    for (name, sink) in SINKS.into_iter().zip([&all, &half, &picky]) {
        config = config.with_sink(name, Blocking::new(sink.clone()));
    }
    (config, [all, half, picky])
}

fn store(scratch: &Scratch) -> PathBuf {
    scratch.join("data/telemetry")
}

fn text_of(n: u64) -> String {
    // One is longer than a page.
    let count = if n == 4 { 600 } else { 1 + n % 3 };
    format!(
        "record {n}, {}",
        "and more ".repeat(usize::try_from(count).unwrap())
    )
}

fn append(engine: &Engine, numbers: std::ops::Range<u64>) {
    let stream = engine.stream("telemetry").unwrap();
    for n in numbers {
        let (text, number) = (text_of(n), n.to_le_bytes());
        let properties: [(&str, &[u8]); 2] = [("unit", b"bar"), ("n", &number)];
        let record = Record {
            properties: &properties[..usize::try_from(n % 3).unwrap()],
            source: (n % 4 == 1).then_some(Source {
                name: "/var/log/pump",
                position: &number,
            }),
            ..Record::new(b"pump-7", 1_800_000_000_000 + n, text.as_bytes())
        };
        stream.append_record(&record).unwrap();
        if n % 2 == 0 {
            // Partly filled pages go to tail slots.
            stream.flush(LIMIT).unwrap();
        }
    }
    stream.flush(LIMIT).unwrap();
}

/// Waits until a checkpoint says that the cursors stand there.
fn wait_for(scratch: &Scratch, positions: [u64; 3]) {
    wait_until("the cursors", || {
        let view = View::open(&store(scratch), Arc::new(Real), Arc::new(System::new())).unwrap();
        let cursors = &view.summary().checkpoint.cursors;
        let stands = |(name, position): (&str, u64)| {
            let mut cursors = cursors.iter();
            cursors.any(|cursor| cursor.name == name && cursor.place.position == position)
        };
        SINKS.into_iter().zip(positions).all(stands)
    });
}

/// Leaves a store as it is at this moment, as a crash does, whatever its engine still writes.
fn crash(engine: Engine, scratch: &Scratch) {
    let left = scratch.files("data");
    drop(engine);
    fs::remove_dir_all(scratch.join("data")).unwrap();
    // Another boot, as far as anybody can tell.
    fs::remove_dir_all(scratch.join("run")).unwrap();
    for (path, bytes) in left {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// Spoils all copies of a record.
fn spoil(scratch: &Scratch, n: u64) {
    let text = text_of(n);
    let mut count = 0;
    for (path, mut bytes) in scratch.files("data/telemetry") {
        let is_letters = path.to_string_lossy().contains("dead-letters");
        while let Some(at) = bytes
            .windows(text.len())
            .position(|window| window == text.as_bytes())
            .filter(|_| !is_letters)
        {
            bytes[at] ^= 0x20;
            count += 1;
        }
        fs::write(path, bytes).unwrap();
    }
    assert!(count > 0, "{text}");
}

/// Two lives with a crash in between, damage that is known and damage that is not. Returns the fixture.
fn make(scratch: &Scratch, is_clean: bool) -> String {
    let engine = Engine::open(&config(scratch, 5).0).unwrap();
    append(&engine, 0..14);
    wait_for(scratch, [14, 5, 14]);
    crash(engine, scratch);
    spoil(scratch, 6);
    let engine = Engine::open(&config(scratch, 10).0).unwrap();
    let next = engine.stats("telemetry").unwrap().next_offset;
    append(&engine, 14..23);
    let end = next + 9;
    wait_for(scratch, [end, 10, end]);
    if is_clean {
        engine.close(LIMIT).unwrap();
        drop(engine);
    } else {
        crash(engine, scratch);
    }
    spoil(scratch, 2);
    let mut text = String::from("# A store, and what comes out of it. See tests/fixtures.rs.\n");
    for (path, bytes) in scratch.files("data/telemetry") {
        let name = path.strip_prefix(store(scratch)).unwrap().to_str().unwrap();
        // The lock names a process and a path, and a spare holds nothing.
        if name.ends_with("lock") || name.contains("spare-") {
            continue;
        }
        let _ = writeln!(text, "file {name} {}", bytes.len());
        for (at, line) in bytes.chunks(LINE).enumerate() {
            if line.iter().any(|byte| *byte != 0) {
                let hex: String = line.iter().map(|byte| format!("{byte:02x}")).collect();
                let _ = writeln!(text, "{:x} {hex}", at * LINE);
            }
        }
    }
    let scratch = Scratch::new(&format!("fixture-look-{is_clean}"));
    unpack(&text, &scratch);
    text + &what_is_in(&scratch).join("\n") + "\n"
}

/// Writes the files of a fixture; the lines that say what comes out are given back.
fn unpack(text: &str, scratch: &Scratch) -> Vec<String> {
    let mut file: Option<(PathBuf, Vec<u8>)> = None;
    let mut expected = Vec::new();
    let finish = |file: &mut Option<(PathBuf, Vec<u8>)>| {
        if let Some((path, bytes)) = file.take() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
    };
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (word, rest) = line.split_once(' ').unwrap();
        if word == "file" {
            finish(&mut file);
            let (name, len) = rest.split_once(' ').unwrap();
            file = Some((store(scratch).join(name), vec![0; len.parse().unwrap()]));
        } else if let Ok(at) = usize::from_str_radix(word, 16) {
            let (_, bytes) = file.as_mut().unwrap();
            for (at, digits) in (at..).zip(rest.as_bytes().chunks(2)) {
                let digits = std::str::from_utf8(digits).unwrap();
                bytes[at] = u8::from_str_radix(digits, 16).unwrap();
            }
        } else {
            expected.push(line.to_owned());
        }
    }
    finish(&mut file);
    expected
}

fn record_line(offset: u64, view: RecordView<'_>) -> String {
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    let mut line = format!("record: {offset}, {}, key {}", view.time_ms, text(view.key));
    for (name, value) in view.properties() {
        let _ = write!(line, ", {name}={}", text(value));
    }
    if let Some(source) = view.source() {
        let _ = write!(line, ", source {} {}", source.name, text(source.position));
    }
    line + &format!(": {}", text(view.payload))
}

/// Records, gaps, cursors, sources and ledger of a store and of its dead letters, a line each.
fn what_is_in(scratch: &Scratch) -> Vec<String> {
    let mut lines = what_lies_in(&store(scratch));
    let letters = what_lies_in(&store(scratch).join("dead-letters"));
    lines.extend(letters.into_iter().map(|line| format!("letters: {line}")));
    lines
}

fn what_lies_in(dir: &Path) -> Vec<String> {
    let view = View::open(dir, Arc::new(Real), Arc::new(System::new())).unwrap();
    let mut reader = view.reader().unwrap();
    let mut batch = BatchBuffer::new(1000, 1 << 20, 1 << 16).unwrap();
    let (mut lines, mut next) = (Vec::new(), view.shared().head());
    loop {
        batch.clear();
        let (ended, after) = reader.read(next, u64::MAX, &mut batch).unwrap();
        for entry in batch.entries() {
            lines.push(record_line(entry.offset, batch.view(entry)));
        }
        next = after;
        match ended {
            Ended::Gap(gap) => {
                let (start, end) = (gap.start, gap.end);
                lines.push(format!("missing: {start} to {end}, {}", gap.reason.name()));
            }
            Ended::Full => {}
            Ended::CaughtUp => break,
        }
    }
    let checkpoint = &view.summary().checkpoint;
    for cursor in &checkpoint.cursors {
        lines.push(format!("cursor: {} {}", cursor.name, cursor.place.position));
    }
    for source in &checkpoint.sources {
        let position = source.position.escape_ascii();
        lines.push(format!(
            "source: {} {} {position}",
            source.name, source.offset
        ));
    }
    for loss in &checkpoint.ledger {
        let (start, end, count) = (loss.start, loss.end, loss.count);
        lines.push(format!(
            "loss: {count} of {start} to {end}, {}",
            loss.reason.name()
        ));
    }
    lines
}

/// The fixtures of all formats, by name.
fn all() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for format in 1..=FORMAT {
        let dir = fixtures().join(format!("format-{format}"));
        let mut paths: Vec<_> = fs::read_dir(&dir)
            .unwrap_or_else(|_| panic!("{} is missing", dir.display()))
            .map(|entry| entry.unwrap().path())
            .collect();
        paths.sort();
        assert!(paths.len() >= 2, "{}", dir.display());
        for path in paths {
            let name = path.file_stem().unwrap().to_str().unwrap();
            all.push((
                format!("{format}-{name}"),
                fs::read_to_string(&path).unwrap(),
            ));
        }
    }
    all
}

/// Lines of a kind, and what comes behind their word.
fn lines_of<'a>(lines: &'a [String], kind: &str) -> Vec<&'a str> {
    lines
        .iter()
        .filter_map(|line| line.strip_prefix(kind))
        .collect()
}

/// `L-27`: a store of every version opens: each record, cursor, source, letter and range of the ledger is there as
/// it was written down; what is delivered goes on at the cursors; and what is appended comes behind it.
#[test]
fn stores_of_all_versions_open() {
    for (name, text) in all() {
        let scratch = Scratch::new(&format!("fixture-{name}"));
        let expected = unpack(&text, &scratch);
        assert_eq!(what_is_in(&scratch), expected, "{name}");
        let records = lines_of(&expected, "record: ");
        let offsets: Vec<u64> = records
            .iter()
            .map(|line| line.split_once(',').unwrap().0.parse().unwrap())
            .collect();
        assert!(records.len() > 15 && !lines_of(&expected, "letters: record: ").is_empty());

        let (config, sinks) = config(&scratch, u64::MAX);
        let engine = Engine::open(&config).unwrap();
        let stream = engine.stream("telemetry").unwrap();
        assert_eq!(
            stream.source_position("/var/log/pump").unwrap(),
            21u64.to_le_bytes()
        );
        let new = stream.append_durable(b"", 0, b"one more", LIMIT).unwrap();
        assert!(new > *offsets.last().unwrap(), "{name}: {new}");
        wait_until("delivery", || stream.stats().backlog == 0);
        for (cursor, sink) in SINKS.into_iter().zip(&sinks) {
            let cursors = lines_of(&expected, "cursor: ");
            let at = cursors.iter().find_map(|line| line.strip_prefix(cursor));
            let from: u64 = at.unwrap().trim().parse().unwrap();
            let due: BTreeSet<u64> = offsets.iter().copied().filter(|at| *at >= from).collect();
            let got: BTreeSet<u64> = sink.offsets().into_iter().collect();
            let expected: BTreeSet<u64> = due.into_iter().chain([new]).collect();
            assert_eq!(got, expected, "{name}: {cursor} from {from}");
        }
        engine.close(LIMIT).unwrap();
        drop(engine);
        let after = what_is_in(&scratch);
        let kept: Vec<_> = lines_of(&after, "record: ");
        assert_eq!(kept[..records.len()], records, "{name}");
        assert!(kept.last().unwrap().ends_with(": one more"), "{name}");
        for kind in ["letters: record: ", "loss: "] {
            let (before, after) = (lines_of(&expected, kind), lines_of(&after, kind));
            assert!(
                before.iter().all(|line| after.contains(line)),
                "{name}: {after:?}"
            );
        }
    }
}

/// What a fixture says, without what differs from one making to the next.
fn gist(lines: &[String]) -> Vec<String> {
    let records = lines.iter().filter(|line| line.contains("record: "));
    let records = records.map(|line| match line.split_once(", 18") {
        Some((_, rest)) if line.starts_with("record: ") => format!("record: {rest}"),
        _ => "a letter".to_owned(),
    });
    let mut gist: Vec<String> = records.collect();
    for kind in ["missing: ", "loss: ", "cursor: ", "source: "] {
        let word = |line: &&str| {
            line.rsplit(", ")
                .next()
                .unwrap()
                .split(' ')
                .next()
                .unwrap()
                .to_owned()
        };
        let words: BTreeSet<String> = lines_of(lines, kind).iter().map(word).collect();
        gist.extend(words.into_iter().map(|word| format!("{kind}{word}")));
    }
    gist
}

/// The fixtures of the present format are what this version writes.
#[test]
fn the_fixtures_can_still_be_made() {
    for (name, is_clean) in [("closed", true), ("crashed", false)] {
        let scratch = Scratch::new(&format!("fixture-made-{name}"));
        let made = make(&scratch, is_clean);
        let path = fixtures().join(format!("format-{FORMAT}/{name}.txt"));
        if std::env::var("FIXTURES").is_ok_and(|word| word == "write") {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &made).unwrap();
        }
        let kept = fs::read_to_string(&path).unwrap();
        let [made, kept] = [made, kept].map(|text| {
            let scratch = Scratch::new(&format!("fixture-gist-{name}"));
            gist(&unpack(&text, &scratch))
        });
        assert_eq!(made, kept, "{name}");
    }
}

/// CRC-32 as in IEEE 802.3, written out: a sum that is not the program's own.
fn crc(bytes: &[u8]) -> u32 {
    let bit = |crc: u32, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1));
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), bit)
    })
}

/// Makes a structure of a newer format of one: its number, and the checksum of bytes 4 to `len` in front.
fn make_newer(bytes: &mut [u8], format_at: usize, len: usize) {
    assert_eq!(
        bytes[..4],
        crc(&bytes[4..len]).to_le_bytes(),
        "the place is wrong"
    );
    bytes[format_at..format_at + 2].copy_from_slice(&(FORMAT + 1).to_le_bytes());
    let sum = crc(&bytes[4..len]);
    bytes[..4].copy_from_slice(&sum.to_le_bytes());
}

/// Makes every half of a checkpoint that holds something newer.
fn make_checkpoint_newer(bytes: &mut [u8]) {
    let starts: Vec<usize> = (0..bytes.len())
        .step_by(2048)
        .filter(|at| bytes[at + 4..].starts_with(b"fbCK"))
        .collect();
    assert!(starts.len() >= 4, "{starts:?}");
    for at in starts {
        let half = &mut bytes[at..];
        let len = u32::from_le_bytes(half[12..16].try_into().unwrap());
        make_newer(half, 8, len as usize);
    }
}

/// `G-078`, `L-27`: a store whose segment or checkpoint is of a newer format is refused with a message that says what and which, and
/// not one byte is touched; by an engine, and by those who only look.
#[test]
fn a_newer_store_is_refused_and_not_touched() {
    for (name, text) in all() {
        for what in ["segment-000001", "checkpoint"] {
            let scratch = Scratch::new(&format!("fixture-newer-{name}-{what}"));
            unpack(&text, &scratch);
            let path = store(&scratch).join(what);
            let mut bytes = fs::read(&path).unwrap();
            match what {
                "checkpoint" => make_checkpoint_newer(&mut bytes),
                _ => {
                    make_newer(&mut bytes, 12, 512);
                    make_newer(&mut bytes[4096..], 12, 512);
                }
            }
            fs::write(&path, bytes).unwrap();
            // The lock is made by whoever tries.
            fs::write(store(&scratch).join("lock"), "").unwrap();
            let before = scratch.files("data");
            let error = Engine::open(&config(&scratch, 0).0).err().unwrap();
            let looked = View::open(&store(&scratch), Arc::new(Real), Arc::new(System::new()));
            for error in [error, looked.err().unwrap()] {
                assert_eq!(error.code(), Code::Corrupt, "{error}");
                let told = error.to_string();
                let newer = format!("has format {}, this program knows {FORMAT}", FORMAT + 1);
                for part in [what, &newer, "nothing was touched"] {
                    assert!(told.contains(part), "{part:?} is not in: {told}");
                }
            }
            assert!(
                scratch.files("data") == before,
                "{name}: {what} was touched"
            );
        }
    }
}
