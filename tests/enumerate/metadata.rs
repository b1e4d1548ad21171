//! A whole engine's files on a real disk, of which each is missing once.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use forebay::clock::{Clock, System};
use forebay::log::{BatchBuffer, Ended, Reader, View};
use forebay::sink::{Blocking, Outcome};
use forebay::storage::Real;
use forebay::{Config, Engine};

use super::case;
use super::common::collect::Collect;
use super::common::{LIMIT, Scratch, wait_until};

const RECORDS: u64 = 400;
/// Where the cursor of the slow sink stands.
const HALF: u64 = 100;
/// One record of so many becomes a dead letter.
const LETTER_ONE_IN: u64 = 50;

fn config(scratch: &Scratch, reserve: &str, below: u64) -> (Config, [Collect; 2]) {
    let stream = format!(
        r#"{{"name": "telemetry",
            "sinks": [{{"name": "half", "type": "callback", "id": "half"}},
                {{"name": "picky", "type": "callback", "id": "picky"}}],
            "buffer": {{"volatile": "allow", "segmentBytes": 65536, "maxDiskBytes": 2097152,
                "maxRecordBytes": 6000, "maxBufferedRecords": 64, "maxBufferedBytes": 131072,
                "fsyncIntervalMs": 5, "checkpointMs": 10, "reserve": "{reserve}"}},
            "batch": {{"maxRecords": 50, "maxLatencyMs": 1}},
            "delivery": {{"backoffBaseMs": 60000, "backoffMaxMs": 60000}}}}"#
    );
    let half = Collect::with(move |batch, answer| {
        for (index, record) in batch.iter().enumerate() {
            if record.offset >= below {
                answer.set(index, Outcome::Retry(None));
            }
        }
    });
    let picky = Collect::with(|batch, answer| {
        for (index, record) in batch.iter().enumerate() {
            if record.offset % LETTER_ONE_IN == 3 {
                answer.set(index, Outcome::Rejected("no"));
            }
        }
    });
    let config = scratch.config(&stream);
    let config = config.with_sink("half", Blocking::new(half.clone()));
    let config = config.with_sink("picky", Blocking::new(picky.clone()));
    (config, [half, picky])
}

fn view(scratch: &Scratch) -> View {
    let store = scratch.join("data/telemetry");
    View::open(&store, Arc::new(Real), Arc::new(System::new())).unwrap()
}

/// All files of a store with known content, as they are while it is open, or once it is closed.
fn files(name: &str, reserve: &str, is_clean: bool) -> Vec<(PathBuf, Vec<u8>)> {
    let scratch = Scratch::new(name);
    let engine = Engine::open(&config(&scratch, reserve, HALF).0).unwrap();
    let stream = engine.stream("telemetry").unwrap();
    for n in 0..RECORDS {
        let durable = n % 20 == 0;
        match durable {
            true => stream.append_durable(b"k", n, &[7; 1000], LIMIT),
            false => stream.append(b"k", n, &[7; 1000]),
        }
        .unwrap();
    }
    stream.flush(LIMIT).unwrap();
    wait_until("the cursors", || {
        let view = view(&scratch);
        let cursors = view.summary().checkpoint.cursors.iter();
        let positions: Vec<u64> = cursors.map(|cursor| cursor.place.position).collect();
        positions == [HALF, RECORDS] && view.summary().checkpoint.mark == RECORDS
    });
    if is_clean {
        engine.close(LIMIT).unwrap();
    }
    let mut files = scratch.files("data");
    files.extend(scratch.files("run"));
    let strip = |(path, bytes): (PathBuf, Vec<u8>)| {
        let path = path.strip_prefix(&scratch.0).unwrap().to_owned();
        (path, bytes)
    };
    files.into_iter().map(strip).collect()
}

fn lay(files: &[(PathBuf, Vec<u8>)], without: &Path, scratch: &Scratch) {
    for (path, bytes) in files.iter().filter(|(path, _)| path != without) {
        let path = scratch.0.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

/// The offsets that a segment of the whole store holds, none of any other file; and the first that is stored.
fn held(files: &[(PathBuf, Vec<u8>)], path: &Path) -> (BTreeSet<u64>, u64) {
    let scratch = Scratch::new("metadata-held");
    lay(files, Path::new(""), &scratch);
    let segments = view(&scratch).summary().segments.clone();
    let ends = segments.iter().skip(1).map(|segment| segment.base);
    let ends: Vec<u64> = ends.chain([RECORDS]).collect();
    let name = |number: u32| PathBuf::from(format!("data/telemetry/segment-{number:06}"));
    let mut spans = segments.iter().zip(ends);
    let span = spans.find(|(segment, _)| name(segment.number) == path);
    let gone = span.map_or_else(BTreeSet::new, |(segment, end)| {
        (segment.base..end).collect()
    });
    (gone, segments[0].base)
}

/// How many dead letters there are.
fn letters(scratch: &Scratch) -> u64 {
    let dir = scratch.join("data/telemetry/dead-letters");
    let view = View::open(&dir, Arc::new(Real), Arc::new(System::new())).unwrap();
    let clock: Arc<dyn Clock> = Arc::new(System::new());
    let mut reader = Reader::new(view.shared().clone(), clock).unwrap();
    let mut batch = BatchBuffer::new(1000, 1 << 20, 1 << 16).unwrap();
    let (mut count, mut next) = (0, view.shared().head());
    loop {
        batch.clear();
        let (ended, after) = reader.read(next, u64::MAX, &mut batch).unwrap();
        count += batch.entries().len() as u64;
        next = after;
        if ended == Ended::CaughtUp {
            return count;
        }
    }
}

/// Opens a store that lacks a file, and holds what comes out against what may be gone with it.
fn check(files: &[(PathBuf, Vec<u8>)], reserve: &str, path: &Path) {
    let (gone, mut first) = held(files, path);
    let scratch = Scratch::new("metadata");
    lay(files, path, &scratch);
    let text = path.to_string_lossy();
    let is_checkpoint = text == "data/telemetry/checkpoint";
    if is_checkpoint {
        // Freed segments that wait to be used again count once more.
        first = view(&scratch).summary().segments[0].base;
    }
    let (config, [half, picky]) = config(&scratch, reserve, u64::MAX);
    let engine = Engine::open(&config).unwrap();
    let stream = engine.stream("telemetry").unwrap();
    let new = stream.append_durable(b"k", 0, b"new", LIMIT).unwrap();
    assert!(new >= RECORDS, "{new} was used before");
    wait_until("delivery", || stream.stats().backlog == 0);
    // Without a checkpoint nobody knows where the cursors stood: they begin anew, and nothing is passed over.
    for (sink, position) in [(&half, HALF), (&picky, RECORDS)] {
        let from = if is_checkpoint { first } else { position };
        let expected: BTreeSet<u64> = (from..RECORDS).filter(|at| !gone.contains(at)).collect();
        let got: BTreeSet<u64> = sink.offsets().into_iter().collect();
        let got: BTreeSet<u64> = got.range(..RECORDS).copied().collect();
        assert_eq!(got, expected, "from {from}");
    }
    engine.close(LIMIT).unwrap();
    drop(engine);
    let is_letters = text.contains("dead-letters/segment");
    let rejected = |from: u64| (from..RECORDS).filter(|at| at % LETTER_ONE_IN == 3).count() as u64;
    let again = if is_checkpoint { rejected(first) } else { 0 };
    let expected = if is_letters { 0 } else { rejected(0) + again };
    assert_eq!(letters(&scratch), expected, "dead letters");
    let ledger = view(&scratch).summary().checkpoint.ledger.clone();
    let told = ledger
        .iter()
        .flat_map(|loss| loss.start..loss.end.min(RECORDS));
    // Nor what had been freed, which without a checkpoint looks like a loss.
    let told: BTreeSet<u64> = told.filter(|at| *at >= first).collect();
    // What the slowest cursor had passed is nobody's loss.
    let wanted: BTreeSet<u64> = gone.range(HALF..).copied().collect();
    assert!(
        told.is_subset(&gone) && told.is_superset(&wanted),
        "{ledger:?} of {gone:?}"
    );
}

/// `G-082`, `L-34`: checkpoint, lock, shared counters, spare and reserved files, segments and the files of the
/// dead letters: whichever is gone, the store opens, only what stood in it is missing, and that is said.
#[test]
fn each_file_of_a_real_store_may_be_gone() {
    let mut seen = BTreeSet::new();
    for (reserve, is_clean) in [
        ("none", false),
        ("none", true),
        ("all", false),
        ("all", true),
    ] {
        let files = files("metadata-made", reserve, is_clean);
        for (path, _) in &files {
            let name = path.file_name().unwrap().to_string_lossy();
            let kind = match name.ends_with(".board") {
                true => "board",
                false => name.trim_end_matches(|c: char| c.is_ascii_digit()),
            };
            let is_letters = path.to_string_lossy().contains("dead-letters");
            let is_known = !seen.insert((kind.to_owned(), is_letters, reserve, is_clean));
            // Of segments and reserved files the first and the last of each store.
            let is_last = name.ends_with('5') || name.ends_with('7');
            if is_known && !is_last {
                continue;
            }
            case(
                &format!("without {}, {reserve}, {is_clean}", path.display()),
                || {
                    check(&files, reserve, path);
                },
            );
        }
    }
    let kinds: BTreeSet<_> = seen
        .iter()
        .map(|(kind, letters, ..)| (&**kind, *letters))
        .collect();
    for kind in ["checkpoint", "lock", "segment-"] {
        assert!(
            kinds.contains(&(kind, false)) && kinds.contains(&(kind, true)),
            "{kinds:?}"
        );
    }
    for kind in ["reserve-", "board"] {
        assert!(kinds.contains(&(kind, false)), "{kinds:?}");
    }
}
