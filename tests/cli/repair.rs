//! `repair` and `read --salvage`: what a user has on the bad day.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use forebay::format::{PAGES_MAX, SLOT_SIZE, SegmentHeader};
use forebay::{Config, Engine, Record, Source};
use rustix::process::Signal;

use crate::process::{
    Ended, NO_SINK, STDIN, Setup, forebay_with_input, lines, number, payloads, verb, wait_until,
};

/// Fields of `buffer`: many small segments.
const SEGMENTS: &str =
    r#", "segmentBytes": 65536, "maxDiskBytes": 16777216, "maxBufferedBytes": 65536"#;

fn setup(name: &str) -> Setup {
    setup_with(name, 5000)
}

fn setup_with(name: &str, count: u64) -> Setup {
    let setup = Setup::new(name, NO_SINK, SEGMENTS, "");
    setup.append(&lines(0..count));
    setup
}

/// All files of a directory but the lock, with their bytes.
fn files(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(path).unwrap().map(Result::unwrap);
    let files = entries.filter(|entry| entry.file_type().unwrap().is_file());
    let named = files.map(|entry| {
        let name = entry.file_name().into_string().unwrap();
        (name, std::fs::read(entry.path()).unwrap())
    });
    named.filter(|(name, _)| name != "lock").collect()
}

fn segment(setup: &Setup, number: u32) -> PathBuf {
    setup.store().join(format!("segment-{number:06}"))
}

/// The segments, oldest first, as `inspect` lists them.
fn bases(setup: &Setup) -> Vec<(String, u64)> {
    let found = verb("inspect", &setup.store(), &["--json"]).expect(0);
    let found = found.json_lines().remove(0);
    let segments = found["segments"].as_array().unwrap().clone();
    let row = |row: &Value| {
        let file = row["file"].as_str().unwrap();
        (file.to_owned(), number(row, "base"))
    };
    segments.iter().map(row).collect()
}

fn change(path: &Path, f: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    f(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

/// Flips a bit in the middle of a record's payload.
fn flip(setup: &Setup, text: &str) {
    for name in files(&setup.store()).into_keys() {
        change(&setup.store().join(name), |bytes| {
            for at in 0..bytes.len().saturating_sub(text.len()) {
                if &bytes[at..at + text.len()] == text.as_bytes() {
                    bytes[at + text.len() / 2] ^= 1;
                }
            }
        });
    }
}

fn repair(setup: &Setup) -> Ended {
    let ended = verb("repair", &setup.store(), &["--apply"]).expect(0);
    // There is nothing left to do.
    let again = verb("repair", &setup.store(), &[]).expect(0);
    assert!(
        again.out().contains("nothing is to be repaired"),
        "{again:?}"
    );
    ended
}

/// Appends with `"strict": true`, which opens nothing that is damaged and not in the ledger.
fn append_strictly(setup: &Setup, input: &[u8]) -> Ended {
    let text = std::fs::read_to_string(&setup.config).unwrap();
    let strict = r#""volatile": "allow", "strict": true"#;
    let text = text.replacen(r#""volatile": "allow""#, strict, 1);
    let config = setup.scratch.write("strict.json", text);
    forebay_with_input(&["append", config.to_str().unwrap(), "telemetry"], input)
}

fn ledger(setup: &Setup) -> Vec<(u64, u64, String)> {
    let rows = verb("ledger", &setup.store(), &["--json"]).expect(0);
    let row = |row: &Value| {
        let reason = row["reason"].as_str().unwrap().to_owned();
        (number(row, "start"), number(row, "end"), reason)
    };
    rows.json_lines().iter().map(row).collect()
}

/// `L-21`: a sound store is not touched.
#[test]
fn a_sound_store_needs_no_repair_and_is_not_touched() {
    let setup = setup("repair-sound");
    let before = files(&setup.store());
    for more in [&[][..], &["--apply"]] {
        let ended = verb("repair", &setup.store(), more).expect(0);
        let told = "saved 0 to 4999: 5000 records\n5000 records saved\nnothing is to be repaired\n";
        assert_eq!(ended.out(), told);
        assert_eq!(files(&setup.store()), before);
    }
    assert!(!setup.store().join("backup-1").exists());
}

/// `L-21`: `repair` says what it would do and touches nothing; with `--apply` it does that, keeps what it
/// changes, and says what is saved and what is lost.
#[test]
fn repair_plans_first_and_keeps_what_it_changes() {
    let setup = setup("repair-plan");
    let (first, _) = &bases(&setup)[0];
    let first = setup.store().join(first);
    flip(&setup, "line 1234");
    flip(&setup, "line 4321");
    change(&first, |bytes| bytes[4096 + 30] ^= 1);
    change(&setup.store().join("checkpoint"), |bytes| bytes.push(0));
    let before = files(&setup.store());
    let refused = append_strictly(&setup, b"refused\n").expect(1);
    assert!(refused.err.contains("damaged"), "{refused:?}");
    assert_eq!(files(&setup.store()), before);

    let plan = verb("repair", &setup.store(), &[]).expect(1);
    assert_eq!(files(&setup.store()), before, "a plan touches nothing");
    let rows = [
        ": write the header at byte 4096 again: it does not verify\n",
        "checkpoint: write what is lost into the ledger\n",
        "saved 0 to 1233: 1234 records\n",
        "saved 1235 to 4320: 3086 records\n",
        "lost 1234 to 1234: damage, 1 records\n",
        "lost 4321 to 4321: damage, 1 records\n",
        "\n4998 records saved\n",
        "nothing was touched",
    ];
    for row in rows {
        assert!(plan.out().contains(row), "{row}: {plan:?}");
    }

    let done = repair(&setup);
    for row in &rows[..7] {
        assert!(done.out().contains(row), "{row}: {done:?}");
    }
    let backup = files(&setup.store().join("backup-1"));
    assert_eq!(backup["checkpoint"], before["checkpoint"][..98_304]);
    let name = first.file_name().unwrap().to_str().unwrap();
    assert_eq!(backup[name], before[name][..8192]);
    assert_eq!(backup.len(), 2);
    let damage = |at: u64| (at, at + 1, "damage".to_owned());
    assert_eq!(ledger(&setup), [damage(1234), damage(4321)]);
    // Now it opens where damage would be refused, and what was whole is.
    append_strictly(&setup, b"accepted\n").expect(0);
    let stored = setup.stored();
    assert_eq!(stored.len(), 4999);
    assert_eq!(payloads(&stored[4998..]), ["accepted"]);
}

/// `L-21`, `L-S8`: without a checkpoint nothing that is stored is lost, nor is an offset used twice.
#[test]
fn repair_makes_a_checkpoint_of_what_the_segments_show() {
    for how in ["gone", "noise"] {
        let setup = setup("repair-checkpoint");
        let checkpoint = setup.store().join("checkpoint");
        match how {
            "gone" => std::fs::remove_file(&checkpoint).unwrap(),
            _ => change(&checkpoint, |bytes| bytes.fill(0x5a)),
        }
        let ended = verb("cursor", &setup.store(), &["seek", "none", "0"]).expect(1);
        assert!(ended.err.contains("checkpoint"), "{how}: {ended:?}");
        let done = repair(&setup);
        assert!(done.out().contains("checkpoint: write it anew"), "{done:?}");
        assert!(done.out().contains("\n5000 records saved\n"), "{done:?}");
        assert!(!done.out().contains("damage"), "{done:?}");
        verb("cursor", &setup.store(), &["list"]).expect(0);
        verb("verify", &setup.store(), &[]).expect(0);
        append_strictly(&setup, b"after\n").expect(0);
        let stored = setup.stored();
        assert_eq!(stored.len(), 5001, "{how}");
        assert!(number(&stored[5000], "offset") > 5000, "{how}");
        assert_eq!(ledger(&setup)[0].0, 5000, "{how}");
    }
}

/// A slot that came to stand in the place of another one: one repair is enough. Found by fuzzing.
#[test]
fn a_slot_in_the_place_of_another_one_is_repaired_once() {
    let setup = setup("repair-slots");
    let checkpoint = setup.store().join("checkpoint");
    let sound = std::fs::read(&checkpoint).unwrap();
    for (from, to) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] {
        let mut bytes = sound.clone();
        bytes.copy_within(from * SLOT_SIZE..(from + 1) * SLOT_SIZE, to * SLOT_SIZE);
        std::fs::write(&checkpoint, bytes).unwrap();
        verb("repair", &setup.store(), &[]).expect(1);
        let done = repair(&setup);
        assert!(done.out().contains("\n5000 records saved\n"), "{done:?}");
    }
}

/// `L-21`: a store that was copied without its newest segments: the ledger says exactly what is not there.
#[test]
fn a_copy_without_the_newest_segments_is_repaired() {
    let setup = setup("repair-newest");
    let bases = bases(&setup);
    let [.., (before, base), (newest, _)] = &bases[..] else {
        panic!("{bases:?}");
    };
    for name in [before, newest] {
        std::fs::remove_file(setup.store().join(name)).unwrap();
    }
    append_strictly(&setup, b"refused\n").expect(1);
    let done = repair(&setup);
    let lost = format!("lost {base} to 4999: damage, {} records\n", 5000 - base);
    assert!(done.out().contains(&lost), "{lost}: {done:?}");
    assert_eq!(ledger(&setup)[0], (*base, 5000, "damage".to_owned()));
    append_strictly(&setup, b"after\n").expect(0);
    let stored = setup.stored();
    assert_eq!(stored.len() as u64, base + 1);
    assert!(number(&stored[stored.len() - 1], "offset") >= 5000);
}

/// A header that promises a million pages to a file that has a few made every look at the store read each
/// of them, many times over: verbs did not end for minutes. Found by fuzzing.
#[test]
fn a_header_that_promises_more_than_the_file_has_holds_nobody_up() {
    let setup = setup("repair-pages");
    let (name, _) = bases(&setup).pop().unwrap();
    change(&setup.store().join(&name), |bytes| {
        let mut header = SegmentHeader::decode(bytes).unwrap();
        header.pages = PAGES_MAX;
        for copy in bytes.chunks_mut(4096).take(2) {
            header.encode(copy);
        }
    });
    std::fs::remove_file(setup.store().join("checkpoint")).unwrap();
    verb("verify", &setup.store(), &[]).expect(1);
    repair(&setup);
    setup.append(b"after\n");
    assert_eq!(setup.stored().len(), 5001);
}

/// A newest segment that was cut costs what was cut off, and not more.
#[test]
fn a_cut_newest_segment_costs_what_was_cut_off() {
    let setup = setup("repair-cut");
    let (name, base) = bases(&setup).pop().unwrap();
    change(&setup.store().join(&name), |bytes| {
        bytes.truncate(2 * 4096 + 100)
    });
    assert!(base < 5000, "the newest segment is empty");
    let done = repair(&setup);
    let rows = [
        format!("saved 0 to {}: {base} records\n", base - 1),
        format!("lost {base} to 4999: damage, {} records\n", 5000 - base),
    ];
    for row in rows {
        assert!(done.out().contains(&row), "{row}: {done:?}");
    }
    setup.append(b"after\n");
    assert_eq!(setup.stored().len() as u64, base + 1);
}

/// A file of another store, with greater lives, is left alone; and where no checkpoint says whose the
/// store is, most of the files do.
#[test]
fn a_file_of_another_store_is_left_alone_and_told() {
    let (setup, other) = (setup("repair-ours"), setup("repair-other"));
    for _ in 0..30 {
        other.append(b"more\n");
    }
    let (newest, _) = bases(&other).pop().unwrap();
    let strange = segment(&setup, 900);
    std::fs::copy(other.store().join(newest), &strange).unwrap();
    std::fs::remove_file(setup.store().join("checkpoint")).unwrap();
    let bytes = std::fs::read(&strange).unwrap();
    let done = repair(&setup);
    assert!(
        done.out().contains("segment-000900: left alone"),
        "{done:?}"
    );
    assert!(done.out().contains("\n5000 records saved\n"), "{done:?}");
    setup.append(b"after\n");
    assert_eq!(setup.stored().len(), 5001);
    assert_eq!(std::fs::read(&strange).unwrap(), bytes);
    let salvaged = verb("read", &setup.store(), &["--salvage", "--format", "raw"]).expect(1);
    assert!(
        salvaged
            .err
            .contains("segment-000900: it belongs to another store")
    );
    assert_eq!(salvaged.out().lines().count(), 5001);
}

/// A copy of a segment that somebody made in the store's directory, and that is older than the segment by
/// now: both say the same of themselves, and the one in its own place counts. It used to be thrown away.
#[test]
fn an_old_copy_of_a_segment_does_not_take_its_place() {
    let setup = Setup::new("repair-copy", NO_SINK, SEGMENTS, "");
    setup.append(&lines(0..100));
    std::fs::copy(segment(&setup, 1), segment(&setup, 9)).unwrap();
    setup.append(&lines(100..200));
    setup.append(&lines(200..201));
    let stored = setup.stored();
    assert_eq!(stored.len(), 201);
    assert_eq!(payloads(&stored[199..]), ["line 199", "line 200"]);
}

/// Without any header and any checkpoint of its own a segment is known by its pages.
#[test]
fn a_segment_without_headers_is_known_by_its_pages() {
    let setup = setup("repair-headers");
    let (first, _) = &bases(&setup)[0];
    change(&setup.store().join(first), |bytes| bytes[..8192].fill(0xee));
    std::fs::remove_file(setup.store().join("checkpoint")).unwrap();
    let done = repair(&setup);
    assert!(
        done.out()
            .contains(&format!("{first}: write the header at byte 0 again"))
    );
    assert!(done.out().contains("\n5000 records saved\n"), "{done:?}");
    setup.append(b"after\n");
    assert_eq!(setup.stored().len(), 5001);
    assert!(!setup.store().join("damaged-000001-1").exists());
}

/// Of a segment without headers that was cut to less than the shortest one, a header was made that did not
/// verify, at each open anew. Found by fuzzing.
#[test]
fn a_short_segment_without_headers_is_repaired_once() {
    let setup = setup("repair-short");
    let (name, base) = bases(&setup).pop().unwrap();
    change(&setup.store().join(&name), |bytes| {
        bytes.truncate(5 * 4096);
        bytes[..8192].fill(0);
    });
    let done = repair(&setup);
    assert!(
        done.out()
            .contains(&format!("{name}: write the header at byte 0 again"))
    );
    setup.append(b"after\n");
    assert!(setup.stored().len() as u64 > base);
}

/// What makes no sense is set aside, and neither removed nor written to.
#[test]
fn a_file_that_makes_no_sense_is_set_aside_as_it_is() {
    let setup = setup("repair-aside");
    let noise = vec![0xa5; 70_000];
    std::fs::write(segment(&setup, 77), &noise).unwrap();
    let done = repair(&setup);
    assert!(
        done.out()
            .contains("segment-000077: keep it as damaged-000077-")
    );
    assert!(!segment(&setup, 77).exists());
    let kept = files(&setup.store());
    let aside: Vec<_> = kept
        .iter()
        .filter(|(name, _)| name.starts_with("damaged-"))
        .collect();
    assert_eq!(aside.len(), 1);
    assert_eq!(*aside[0].1, noise);
    assert_eq!(setup.stored().len(), 5000);
}

/// While an engine has the store nothing is changed, nor guessed.
#[test]
fn a_store_that_an_engine_has_is_not_repaired() {
    let setup = Setup::new("repair-live", NO_SINK, SEGMENTS, STDIN);
    let running = setup.serve(&[]);
    for more in [&[][..], &["--apply"]] {
        let refused = verb("repair", &setup.store(), more).expect(1);
        assert!(refused.err.contains("has it open"), "{refused:?}");
    }
    running.end().expect(0);
    let empty = setup.scratch.join("empty");
    std::fs::create_dir(&empty).unwrap();
    let refused = verb("repair", &empty, &["--apply"]).expect(1);
    assert!(refused.err.contains("there is no store"), "{refused:?}");
    assert!(std::fs::read_dir(&empty).unwrap().next().is_none());
}

/// `read --salvage` believes nothing but checksums: not the checkpoint, nor the head, nor names.
#[test]
fn salvage_reads_whatever_verifies() {
    let setup = setup_with("salvage", 10_000);
    let bases = bases(&setup);
    let store = setup.store();
    let raw = || verb("read", &store, &["--salvage", "--format", "raw"]);
    assert_eq!(raw().expect(0).out, lines(0..10_000));
    // The checkpoint is gone; of one segment the headers; one was set aside; one has another name.
    std::fs::remove_file(store.join("checkpoint")).unwrap();
    change(&store.join(&bases[0].0), |bytes| bytes[..8192].fill(0));
    std::fs::rename(store.join(&bases[1].0), store.join("damaged-000002-9")).unwrap();
    std::fs::rename(store.join(&bases[2].0), segment(&setup, 555)).unwrap();
    let before = files(&store);
    assert_eq!(raw().expect(0).out, lines(0..10_000));
    // One segment is not there, and a record is damaged.
    let (from, to) = (bases[2].1, bases[3].1);
    assert!(from > 1234);
    std::fs::remove_file(segment(&setup, 555)).unwrap();
    flip(&setup, "line 1234");
    let salvaged = raw().expect(0);
    assert_eq!(
        salvaged.out().lines().count() as u64,
        10_000 - (to - from) - 1
    );
    let told: Vec<&str> = salvaged.err.lines().collect();
    assert_eq!(
        told,
        [
            "records 1234 to 1234 are not there".to_owned(),
            format!("records {from} to {} are not there", to - 1),
        ]
    );
    let part = verb(
        "read",
        &store,
        &["--salvage", "--from", "10", "--to", "12", "--format", "raw"],
    );
    assert_eq!(part.expect(0).out, lines(10..12));
    assert_eq!(
        files(&store).len(),
        before.len() - 1,
        "it made or removed a file"
    );
    verb("read", &store, &["--salvage", "--follow"]).expect(2);
    let nothing = verb("read", setup.scratch.path(), &["--salvage"]).expect(1);
    assert!(
        nothing.err.contains("there is nothing that can be read"),
        "{nothing:?}"
    );
}

/// `L-101`: where sinks and sources stood does not end with the checkpoint, as long as the boot or the
/// records have it.
#[test]
fn cursors_and_sources_outlive_the_checkpoint() {
    const WAIT: Duration = Duration::from_secs(30);
    let setup = Setup::to_file("repair-places", SEGMENTS, "");
    let text = std::fs::read_to_string(&setup.config).unwrap();
    let config = Config::from_json(&text).unwrap();
    let engine = Engine::open(&config).unwrap();
    let stream = engine.stream("telemetry").unwrap();
    for n in 0..300u64 {
        let position = n.to_le_bytes();
        let record = Record {
            source: Some(Source {
                name: "tail:/var/log/x",
                position: &position,
            }),
            ..Record::new(b"k", n, b"payload")
        };
        stream.append_record(&record).unwrap();
    }
    stream.flush(WAIT).unwrap();
    wait_until("delivery", || setup.delivered().len() == 300);
    engine.close(WAIT).unwrap();
    drop((stream, engine));
    std::fs::remove_file(setup.store().join("checkpoint")).unwrap();
    let done = repair(&setup);
    let told = [
        "cursor file: goes on at 300, as the last run had it\n",
        "source tail:/var/log/x: as record 299 says\n",
    ];
    for row in told {
        assert!(done.out().contains(row), "{row}: {done:?}");
    }
    let engine = Engine::open(&config).unwrap();
    let stream = engine.stream("telemetry").unwrap();
    let position = stream.source_position("tail:/var/log/x");
    assert_eq!(position, Some(299u64.to_le_bytes().to_vec()));
    stream.append(b"k", 1, b"last").unwrap();
    wait_until("delivery", || setup.delivered().len() == 301);
    engine.close(WAIT).unwrap();
    assert_eq!(
        setup.delivered().len(),
        301,
        "what was delivered came again"
    );
}

/// What a killed process had accepted may lie in its ring and nowhere else: a tool that wrote a checkpoint
/// meanwhile would have the next engine refuse it.
#[test]
fn what_a_killed_process_left_in_its_ring_comes_before_any_tool() {
    let ring = format!(r#"{SEGMENTS}, "ring": "shared""#);
    let setup = Setup::to_file("repair-ring", &ring, STDIN);
    let mut running = setup.serve(&[]);
    running.write(&lines(0..100));
    wait_until("delivery", || setup.delivered().len() == 100);
    running.signal(Signal::KILL);
    running.wait();
    let before = files(&setup.store());
    for (name, more) in [
        ("repair", &[][..]),
        ("repair", &["--apply"]),
        ("cursor", &["seek", "file", "7"]),
    ] {
        let refused = verb(name, &setup.store(), more).expect(1);
        let told = refused.err.contains("may wait in") && refused.err.contains(".ring");
        assert!(told, "{name} {more:?}: {refused:?}");
    }
    assert_eq!(files(&setup.store()), before, "nothing was touched");
    setup.serve(&[]).end().expect(0);
    verb("repair", &setup.store(), &[]).expect(0);
    verb("cursor", &setup.store(), &["seek", "file", "7"]).expect(0);
}
