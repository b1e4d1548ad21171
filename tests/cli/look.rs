//! `stats`, `inspect` and `verify`.

use std::os::unix::fs::MetadataExt;

use rustix::process::Signal;
use serde_json::Value;

use forebay::format::{PageHeader, RECORD_HEADER_SIZE};

use crate::process::{
    NO_SINK, SMALL, STDIN, Setup, forebay_with_input, lines, number, verb, wait_until,
};

/// The names of the contract, of a stream and of a sink.
const STREAM_NAMES: [&str; 23] = [
    "appendedTotal",
    "exportedTotal",
    "droppedTotal",
    "retriesTotal",
    "failedTotal",
    "backlog",
    "diskBytes",
    "ackedOffset",
    "nextOffset",
    "oldestUnackedAgeMs",
    "lastExportError",
    "queued",
    "durableOffset",
    "corruptTotal",
    "syncsTotal",
    "writtenBytes",
    "allocatedBytes",
    "oldestUncommittedMs",
    "droppedQuota",
    "droppedAge",
    "droppedDamage",
    "droppedNeverDurable",
    "rejectedTotal",
];
const SINK_NAMES: [&str; 10] = [
    "name",
    "state",
    "exportedTotal",
    "droppedTotal",
    "retriesTotal",
    "failedTotal",
    "backlog",
    "ackedOffset",
    "oldestUnackedAgeMs",
    "lastExportError",
];

/// `G-132`: the same names, live and stopped.
#[test]
fn stats_as_json_have_every_name_of_the_contract() {
    let setup = Setup::lines_to_file("stats-names");
    let mut running = setup.serve(&[]);
    running.write(&lines(0..10));
    wait_until("delivery", || number(&setup.stats(), "exportedTotal") == 10);
    let live = setup.stats();
    running.end().expect(0);
    for (stats, is_live) in [(live, true), (setup.stats(), false)] {
        assert_eq!(
            (&stats["live"], &stats["stream"]),
            (&is_live.into(), &"telemetry".into())
        );
        let sink = &stats["sinks"][0];
        for name in STREAM_NAMES {
            assert!(!stats[name].is_null(), "{name} in {stats}");
        }
        for name in SINK_NAMES {
            assert!(!sink[name].is_null(), "{name} in {sink}");
        }
        assert_eq!(
            (&sink["name"], &sink["state"]),
            (&"file".into(), &"idle".into())
        );
        assert_eq!(
            (number(&stats, "ackedOffset"), number(&stats, "backlog")),
            (10, 0)
        );
        assert_eq!(
            (
                number(&stats, "durableOffset"),
                number(&stats, "nextOffset")
            ),
            (10, 10)
        );
    }
}

/// `G-019`, `G-119`: the numbers move while the engine serves, and whoever looks asks nobody.
#[test]
fn stats_of_a_running_engine_move_and_do_not_ask_it() {
    let setup = Setup::lines_to_file("stats-live");
    let mut running = setup.serve(&[]);
    let mut before = setup.stats();
    for round in 1..4u64 {
        running.write(&lines(0..100));
        wait_until("delivery", || {
            number(&setup.stats(), "exportedTotal") == 100 * round
        });
        let now = setup.stats();
        for name in [
            "appendedTotal",
            "syncsTotal",
            "writtenBytes",
            "durableOffset",
            "wakeupsTotal",
        ] {
            assert!(
                number(&now, name) > number(&before, name),
                "{name}: {before} and {now}"
            );
        }
        before = now;
    }
    // A process that stands still cannot answer.
    running.signal(Signal::STOP);
    let stats = setup.stats();
    assert_eq!(
        (&stats["live"], number(&stats, "nextOffset")),
        (&true.into(), 300)
    );
    let text = verb("stats", &setup.store(), &[]).expect(0);
    assert!(text.out().starts_with("telemetry (live)\n"), "{text:?}");
    running.signal(Signal::CONT);
    running.end().expect(0);
}

/// `G-018`: by configuration all streams are listed, each on a line of its own.
#[test]
fn stats_of_a_configuration_list_its_streams() {
    let setup = Setup::lines_to_file("stats-config");
    let ended = verb("stats", &setup.config, &[]).expect(1);
    assert!(
        ended.err.contains("telemetry"),
        "nothing is stored yet: {ended:?}"
    );
    setup.append(&lines(0..3));
    let ended = verb("stats", &setup.config, &["--json"]).expect(0);
    let listed = ended.json_lines();
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (&listed[0]["stream"], number(&listed[0], "backlog")),
        (&"telemetry".into(), 3)
    );
    let text = verb("stats", &setup.config, &[]).expect(0);
    assert!(text.out().starts_with("telemetry (stopped)\n"), "{text:?}");
    assert!(text.out().contains("\n  sink file: idle\n"), "{text:?}");
}

/// `G-057`: the numbers of a stream in memory are shown while an engine has it, and after a kill too they are
/// gone; what it holds nobody else can read, and says so.
#[test]
fn a_stream_in_memory_shows_its_numbers_and_nothing_else() {
    let setup = Setup::new("look-memory", NO_SINK, r#", "type": "memory""#, STDIN);
    let stats = || {
        let ended = verb("stats", &setup.config, &["--json"]).expect(0);
        ended.json_lines().remove(0)
    };
    assert_eq!(stats()["live"], false);
    let ended = verb("check", &setup.config, &[]).expect(0);
    assert!(ended.out().contains("ends with the process"), "{ended:?}");
    for _ in 0..2 {
        let mut running = setup.serve(&[]);
        running.write(&lines(0..300));
        wait_until("stored", || number(&stats(), "durableOffset") == 300);
        let live = stats();
        assert_eq!(
            (&live["live"], number(&live, "backlog")),
            (&true.into(), 300)
        );
        for name in ["read", "inspect", "verify"] {
            let ended = verb(name, &setup.config, &[]).expect(2);
            let told = "telemetry: in memory, which only its engine can read";
            assert!(ended.err.contains(told), "{ended:?}");
        }
        let config = setup.config.to_str().unwrap();
        let ended = forebay_with_input(&["append", config, "telemetry"], b"x\n").expect(1);
        assert!(ended.err.contains("lies in memory"), "{ended:?}");
        running.signal(Signal::KILL);
        running.wait();
        let stopped = stats();
        assert_eq!(
            (&stopped["live"], number(&stopped, "nextOffset")),
            (&false.into(), 0)
        );
    }
    let mut running = setup.serve(&["--drain", "0"]);
    running.write(&lines(0..7));
    wait_until("stored", || number(&stats(), "durableOffset") == 7);
    let ended = running.end().expect(0);
    assert!(
        ended.err.contains("the 7 that were not exported end here"),
        "{ended:?}"
    );
    assert!(!setup.scratch.join("data").exists());
}

/// A configuration in place of a store's directory is told from it, with the directories that it means.
#[test]
fn a_configuration_is_told_from_a_store() {
    let setup = Setup::lines_to_file("look-config");
    let ended = verb("inspect", &setup.config, &[]).expect(2);
    let told = format!("telemetry: {}", setup.store().display());
    assert!(ended.err.contains(&told), "{ended:?}");
}

/// What a stopped store shows is what the live one had said of it.
#[test]
fn offsets_and_backlog_outlive_the_run() {
    let setup = Setup::lines_to_file("stats-outlive");
    std::fs::create_dir_all(setup.out()).unwrap();
    let mut running = setup.serve(&["--drain", "0"]);
    running.write(&lines(0..1234));
    wait_until("durability", || {
        number(&setup.stats(), "durableOffset") == 1234
    });
    let live = setup.stats();
    running.end().expect(0);
    let stopped = setup.stats();
    for name in [
        "backlog",
        "ackedOffset",
        "nextOffset",
        "durableOffset",
        "headOffset",
    ] {
        assert_eq!(live[name], stopped[name], "{name}");
    }
    assert_eq!(number(&stopped, "backlog"), 1234);
}

/// `L-53`, `L-54`: what `inspect` lists is what lies on the disk, and the budget holds.
#[test]
fn inspect_lists_what_lies_on_the_disk() {
    let buffer = r#", "segmentBytes": 65536, "maxDiskBytes": 1048576, "maxBufferedBytes": 65536"#;
    let setup = Setup::new("inspect", NO_SINK, buffer, STDIN);
    let mut running = setup.serve(&[]);
    running.write(&lines(0..100_000));
    let inspect = |is_live: bool| {
        let ended = verb("inspect", &setup.store(), &["--json"]).expect(0);
        let found = ended.json_lines().remove(0);
        assert_eq!(
            (&found["live"], &found["stream"]),
            (&is_live.into(), &"telemetry".into())
        );
        found
    };
    inspect(true);
    running.end().expect(0);
    let found = inspect(false);
    assert_eq!(found["clean"], true);
    assert_eq!(
        (number(&found, "next"), number(&found, "mark")),
        (100_000, 100_000)
    );
    assert!(
        number(&found, "head") > 0,
        "the quota dropped nothing: {found}"
    );
    let segments = found["segments"].as_array().unwrap();
    let mut listed: Vec<&str> = segments.iter().filter_map(|s| s["file"].as_str()).collect();
    listed.sort_unstable();
    let (mut there, mut allocated) = (Vec::new(), 0);
    for entry in std::fs::read_dir(setup.store()).unwrap() {
        let entry = entry.unwrap();
        there.push(entry.file_name().into_string().unwrap());
        allocated += entry.metadata().unwrap().blocks() * 512;
    }
    there.retain(|name| name.starts_with("segment-"));
    there.sort_unstable();
    assert_eq!(listed, there);
    assert!(allocated <= 1 << 20, "{allocated}");
    assert_eq!(number(&setup.stats(), "allocatedBytes"), allocated);
    // The same for people.
    let text = verb("inspect", &setup.store(), &[]).expect(0);
    let store = found["store"].as_str().unwrap();
    assert!(
        text.out().starts_with(&format!("store {store} epoch ")),
        "{text:?}"
    );
    assert!(text.out().contains("closed cleanly"), "{text:?}");
    assert!(
        listed.iter().all(|name| text.out().contains(name)),
        "{text:?}"
    );
}

#[test]
fn inspect_shows_cursors_and_where_they_are() {
    let setup = Setup::lines_to_file("inspect-cursor");
    let mut running = setup.serve(&[]);
    running.write(&lines(0..42));
    running.end().expect(0);
    let text = verb("inspect", &setup.store(), &[]).expect(0);
    assert!(text.out().contains("\ncursor file at 42\n"), "{text:?}");
    let ended = verb("inspect", &setup.store(), &["--json"]).expect(0);
    let cursor = &ended.json_lines()[0]["cursors"][0];
    assert_eq!(
        (&cursor["name"], number(cursor, "position")),
        (&"file".into(), 42)
    );
}

/// Changes a byte in the middle of some text in the segments of a store.
fn flip(setup: &Setup, text: &str) {
    for entry in std::fs::read_dir(setup.store()).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        let mut found = false;
        let len = text.len();
        for at in 0..bytes.len().saturating_sub(len) {
            if &bytes[at..at + len] == text.as_bytes() {
                bytes[at + len / 2] ^= 1;
                found = true;
            }
        }
        if found {
            std::fs::write(&path, bytes).unwrap();
            return;
        }
    }
    panic!("{text} is in no file");
}

/// `G-082`, `L-34`, `L-37`: a flipped byte costs the record that holds it, and its offsets are named.
#[test]
fn verify_names_the_records_that_a_flipped_byte_damaged() {
    let setup = Setup::new("verify", NO_SINK, SMALL, "");
    setup.append(&lines(1000..2000));
    let sound = verb("verify", &setup.store(), &[]).expect(0);
    assert_eq!(sound.out(), "1000 records from 0 to 1000, 0 damaged\n");
    flip(&setup, "line 1250");
    flip(&setup, "line 1700");
    let found = verb("verify", &setup.store(), &[]).expect(1);
    // Where the damage is in the file: the byte that was changed lies in the record that begins there.
    let bytes = std::fs::read(setup.store().join("segment-000001")).unwrap();
    let begins = |offset: usize| {
        let flipped = |text: &[u8]| {
            let mut text = text.to_vec();
            text[4] ^= 1;
            text
        };
        let payload = format!("line {}", 1000 + offset).into_bytes();
        let place = bytes.windows(9).rposition(|at| at == flipped(&payload));
        place.unwrap() - RECORD_HEADER_SIZE
    };
    assert_eq!(
        found.out(),
        format!(
            "missing 250 to 250: damage, segment-000001 at byte {}\n\
             missing 700 to 700: damage, segment-000001 at byte {}\n\
             998 records from 0 to 1000, 2 damaged\n",
            begins(250),
            begins(700)
        )
    );
    // It changed nothing: a second look says the same.
    assert_eq!(verb("verify", &setup.store(), &[]).expect(1).out, found.out);
    // All others can be read.
    let read = verb("read", &setup.store(), &["--format", "raw"]).expect(0);
    assert_eq!(read.out().lines().count(), 998);
    let told = read.err.lines().filter(|line| line.starts_with("records "));
    assert_eq!(
        told.collect::<Vec<_>>(),
        [
            "records 250 to 250 are missing: damage",
            "records 700 to 700 are missing: damage"
        ]
    );
}

/// `L-34`, `L-37`: a page whose header does not verify costs what is in it, and is found where it lies.
#[test]
fn verify_finds_the_page_that_does_not_verify() {
    let setup = Setup::new("verify-page", NO_SINK, SMALL, "");
    setup.append(&lines(0..3000));
    let path = setup.store().join("segment-000001");
    let mut bytes = std::fs::read(&path).unwrap();
    let pages = bytes.chunks(4096).enumerate();
    let headers = pages.filter_map(|(slot, page)| Some((slot, PageHeader::decode(page)?)));
    let full = headers.filter(|(_, header)| !header.is_tail && header.count > 50);
    let (slot, header) = full.collect::<Vec<_>>()[4];
    bytes[slot * 4096 + 20] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let found = verb("verify", &setup.store(), &[]).expect(1);
    let row = found.out().lines().next().unwrap();
    let rest = row.strip_prefix("missing ").unwrap();
    let (range, place) = rest
        .split_once(": damage, segment-000001 at byte ")
        .unwrap();
    let (start, last) = range.split_once(" to ").unwrap();
    let (start, last): (u64, u64) = (start.parse().unwrap(), last.parse().unwrap());
    // What begins in the page before and ends in this one is lost with it.
    assert!(start == header.first || start + 1 == header.first, "{row}");
    assert!(
        (header.end() - 1..=header.end()).contains(&(last + 1)),
        "{row}"
    );
    let place: usize = place.parse().unwrap();
    let place_of_page = if start == header.first {
        slot * 4096
    } else {
        place
    };
    assert!((slot * 4096 - 200..=slot * 4096).contains(&place), "{row}");
    assert_eq!(place, place_of_page, "{row}");
    assert_eq!(found.out().lines().count(), 2, "{found:?}");
}

/// Without a checkpoint the records are there, and what only it had is said to be lost.
#[test]
fn verify_says_that_the_checkpoint_is_gone() {
    let setup = Setup::new("verify-gone", NO_SINK, SMALL, "");
    setup.append(&lines(0..100));
    std::fs::remove_file(setup.store().join("checkpoint")).unwrap();
    let found = verb("verify", &setup.store(), &[]).expect(1);
    let told = "checkpoint: no slot verifies; cursors, sources and ledger are lost\n";
    assert!(found.out().starts_with(told), "{found:?}");
    assert!(
        found
            .out()
            .contains("\n100 records from 0 to 100, 0 damaged\n"),
        "{found:?}"
    );
    let ended = verb("cursor", &setup.store(), &["seek", "file", "0"]).expect(1);
    assert!(ended.err.contains("its checkpoint is gone"), "{ended:?}");
}

/// `L-17`, `L-26`, `L-42`: the engine delivers what is whole, counts what is not, and goes on.
#[test]
fn a_damaged_record_is_passed_over_and_counted() {
    let setup = Setup::lines_to_file("damage-run");
    setup.append(&lines(1000..1500));
    flip(&setup, "line 1100");
    let mut running = setup.serve(&[]);
    running.write(b"after\n");
    wait_until("delivery", || {
        number(&setup.stats(), "exportedTotal") == 500
    });
    let stats = setup.stats();
    assert_eq!(
        (number(&stats, "droppedDamage"), number(&stats, "backlog")),
        (1, 0)
    );
    running.end().expect(0);
    let delivered = setup.delivered();
    assert_eq!(delivered.len(), 500);
    let has = |text: &str| delivered.iter().any(|record| record["payload"] == text);
    assert!(!has("line 1100") && has("line 1101") && has("after"));
}

/// A copy of a header and a slot of the checkpoint are spare: their loss is said, and costs nothing.
#[test]
fn verify_finds_damage_of_what_is_stored_twice() {
    let setup = Setup::new("verify-meta", NO_SINK, SMALL, "");
    setup.append(&lines(0..100));
    // A byte of either copy of the header; and a slot with both of its halves.
    let places = [
        ("segment-000001", 20..21),
        ("segment-000001", 4096 + 20..4096 + 21),
        ("checkpoint", 0..32_768),
    ];
    for (file, place) in places {
        let path = setup.store().join(file);
        let sound = std::fs::read(&path).unwrap();
        let mut bytes = sound.clone();
        let first = place.start;
        bytes[place].iter_mut().for_each(|byte| *byte ^= 0x40);
        std::fs::write(&path, bytes).unwrap();
        let found = verb("verify", &setup.store(), &[]).expect(1);
        let told = if file == "checkpoint" {
            "checkpoint: the slot at byte 0 is damaged\n".to_owned()
        } else {
            let byte = first / 4096 * 4096;
            format!("segment-000001: the header at byte {byte} is damaged\n")
        };
        assert!(found.out().contains(&told), "{found:?}");
        assert!(
            found.out().contains("100 records from 0 to 100, 0 damaged"),
            "{found:?}"
        );
        std::fs::write(&path, sound).unwrap();
        verb("verify", &setup.store(), &[]).expect(0);
    }
}

/// Nobody who looks leaves a trace: not a byte, not a file, not a time.
#[test]
fn looking_changes_nothing() {
    let setup = Setup::lines_to_file("no-trace");
    setup.append(&lines(0..1000));
    let all = || {
        let entries = std::fs::read_dir(setup.store()).unwrap();
        let mut all: Vec<(String, Vec<u8>, i64, i64)> = entries
            .map(|entry| {
                let entry = entry.unwrap();
                let data = entry.metadata().unwrap();
                let name = entry.file_name().into_string().unwrap();
                let bytes = std::fs::read(entry.path()).unwrap();
                (name, bytes, data.mtime(), data.mtime_nsec())
            })
            .collect();
        all.sort_unstable();
        all
    };
    let before = all();
    for name in ["read", "inspect", "verify", "stats"] {
        verb(name, &setup.store(), &[]).expect(0);
    }
    verb("stats", &setup.config, &[]).expect(0);
    verb("check", &setup.config, &[]).expect(0);
    assert!(all() == before);
}

/// Whoever looks whether an engine has the store must not be taken for one by the next who does.
#[test]
fn many_who_look_at_once_do_not_see_each_other() {
    let setup = Setup::new("look-many", NO_SINK, SMALL, "");
    setup.append(&lines(0..10));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..20 {
                    assert_eq!(setup.stats()["live"], false);
                }
            });
        }
    });
}

/// A directory that is no store is not taken for an empty one.
#[test]
fn a_directory_without_a_store_is_refused() {
    let setup = Setup::lines_to_file("no-store");
    std::fs::create_dir_all(setup.store()).unwrap();
    for name in ["read", "inspect", "verify", "stats"] {
        let ended = verb(name, &setup.store(), &[]).expect(1);
        assert!(ended.out.is_empty(), "{ended:?}");
        assert!(ended.err.contains("there is no store"), "{ended:?}");
    }
    let left: Vec<Value> = Vec::new();
    assert_eq!(setup.delivered(), left);
}
