//! Whatever lies in a store's directory or in a configuration: a verb says what it makes of it, and ends.

use std::os::unix::fs::symlink;
use std::time::Duration;

use forebay::format::{Checkpoint, PageHeader, SLOT_SIZE};
use forebay::{Config, Engine};

use crate::process::{
    Ended, NO_SINK, SMALL, STDIN, Scratch, Setup, forebay_with_input, lines, payloads, verb,
};

#[path = "../sim/random.rs"]
mod random;

use random::{Random, seed};

fn bytes(random: &mut Random, len: usize) -> Vec<u8> {
    (0..len).map(|_| random.next().to_le_bytes()[0]).collect()
}

/// It ended as verbs do, by itself and with a reason.
fn ended_well(what: &str, ended: &Ended) {
    assert!(
        ended.status.code().is_some_and(|code| code <= 2),
        "{what}: {ended:?}"
    );
    assert!(!ended.err.contains("panicked"), "{what}: {ended:?}");
}

/// Calls every verb that looks at a store, then opens it to store, to serve, and looks again.
fn call_all(setup: &Setup, what: &str) {
    let look = || {
        for name in ["read", "inspect", "verify", "stats"] {
            ended_well(what, &verb(name, &setup.store(), &[]));
        }
    };
    look();
    let config = setup.config.to_str().unwrap();
    let args = ["append", config, "telemetry"];
    ended_well(what, &forebay_with_input(&args, b"appended\n"));
    ended_well(what, &forebay_with_input(&["run", config], b"and run\n"));
    look();
}

/// Times at the end of what a page can say are times like others. Found by fuzzing.
#[test]
fn times_at_their_bound_stop_no_verb() {
    let setup = Setup::new("garbage-times", NO_SINK, SMALL, STDIN);
    let text = std::fs::read_to_string(&setup.config).unwrap();
    let engine = Engine::open_to_store(&Config::from_json(&text).unwrap()).unwrap();
    let stream = engine.stream("telemetry").unwrap();
    // Two appends in a page, and time between them.
    for n in 0..2 {
        stream.append(b"key", n, b"line").unwrap();
        stream.flush(Duration::from_secs(10)).unwrap();
        std::thread::park_timeout(Duration::from_millis(20));
    }
    engine.close(Duration::from_secs(10)).unwrap();
    let path = setup.store().join("segment-000001");
    let mut bytes = std::fs::read(&path).unwrap();
    let mut changed = 0;
    for page in bytes.chunks_mut(4096) {
        if let Some(mut header) = PageHeader::decode(page) {
            (header.stamp.mono_ms, header.stamp.wall_ms) = (u64::MAX, u64::MAX);
            header.encode(page);
            changed += 1;
        }
    }
    assert!(changed > 0);
    std::fs::write(&path, bytes).unwrap();
    for name in ["read", "inspect", "verify", "stats"] {
        ended_well(name, &verb(name, &setup.store(), &[]));
    }
    call_all(&setup, "times");
    let read = verb("read", &setup.store(), &[]).expect(0);
    assert!(read.out().contains("appended"), "{read:?}");
}

/// A checkpoint of a clean close whose pages, or offsets, cannot be is read with doubt: what lies in the segments
/// counts. Found by fuzzing.
#[test]
fn a_clean_checkpoint_that_cannot_be_stops_no_verb() {
    type Change = fn(&mut Checkpoint);
    let changes: [(&str, Change); 8] = [
        ("page 0", |last| last.page = 0),
        ("page 1", |last| last.page = 1),
        ("no such page", |last| last.page = u32::MAX),
        ("no segment", |last| last.segment = 0),
        ("no such segment", |last| last.segment = u32::MAX),
        ("head past the mark", |last| last.head = last.mark + 1000),
        ("mark 0", |last| last.mark = 0),
        ("life 0", |last| last.life = 0),
    ];
    for (what, change) in changes {
        let setup = Setup::new("garbage-clean", NO_SINK, SMALL, STDIN);
        setup.append(&lines(0..100));
        let path = setup.store().join("checkpoint");
        let mut bytes = std::fs::read(&path).unwrap();
        let clean = bytes.chunks_mut(SLOT_SIZE).filter_map(|slot| {
            let last = Checkpoint::decode(slot).ok().filter(|last| last.is_clean)?;
            Some((slot, last))
        });
        let (slot, mut last) = clean.max_by_key(|(_, last)| last.generation).unwrap();
        change(&mut last);
        slot.fill(0);
        last.encode(slot);
        std::fs::write(&path, bytes).unwrap();
        call_all(&setup, what);
        let read = verb("read", &setup.store(), &[]).expect(0);
        assert!(read.out().contains("and run"), "{what}: {read:?}");
    }
}

/// `L-17`, `L-25`: what is not ours is left alone, and ours is found beside it.
#[test]
fn files_that_are_not_of_the_store_disturb_nobody() {
    let setup = Setup::new("garbage-beside", NO_SINK, SMALL, STDIN);
    setup.append(&lines(0..100));
    let mut random = Random::new(seed(1));
    let store = setup.store();
    let names = [
        "core",
        "segment",
        "segment-",
        "segment-000000",
        "segment-1",
        "segment-000009",
        "segment-000010",
        "segment-4294967295",
        "segment-99999999999999",
        "spare-000003",
        "spare-x",
        "checkpoint~",
        "checkpoint.1",
        "damaged-000001-1",
        ".hidden",
        "\u{1f980}",
    ];
    for name in names {
        let len = usize::try_from(random.below(20_000)).unwrap();
        std::fs::write(store.join(name), bytes(&mut random, len)).unwrap();
    }
    std::fs::create_dir(store.join("segment-000011")).unwrap();
    std::fs::create_dir(store.join("lost+found")).unwrap();
    symlink("/nowhere", store.join("segment-000012")).unwrap();
    symlink("segment-000001", store.join("segment-000013")).unwrap();
    for name in ["read", "inspect", "verify", "stats"] {
        ended_well(name, &verb(name, &store, &[]).expect(0));
    }
    let config = setup.config.to_str().unwrap();
    forebay_with_input(&["append", config, "telemetry"], b"appended\n").expect(0);
    forebay_with_input(&["run", config], b"and run\n").expect(0);
    let stored = setup.stored();
    assert_eq!(stored.len(), 102);
    assert_eq!(payloads(&stored[99..]), ["line 99", "appended", "and run"]);
    assert!(store.join("core").exists() && store.join("lost+found").exists());
}

/// `L-28`, `L-38`: each file of the store in turn is emptied, filled with noise, cut, or made a directory.
#[test]
fn a_file_of_the_store_that_makes_no_sense_stops_no_verb() {
    let mut random = Random::new(seed(2));
    for file in ["checkpoint", "lock", "segment-000001"] {
        for how in [
            "empty",
            "noise",
            "zeros",
            "cut",
            "long",
            "directory",
            "gone",
        ] {
            let what = format!("{file}, {how}");
            let setup = Setup::new("garbage-file", NO_SINK, SMALL, STDIN);
            setup.append(&lines(0..500));
            let path = setup.store().join(file);
            let mut old = std::fs::read(&path).unwrap();
            std::fs::remove_file(&path).unwrap();
            let half = old.len() / 2;
            match how {
                "empty" => old.clear(),
                "noise" => old = bytes(&mut random, old.len()),
                "zeros" => old.fill(0),
                "cut" => old.truncate(half + 1),
                "long" => old.extend(bytes(&mut random, 100_000)),
                "directory" => std::fs::create_dir(&path).unwrap(),
                _ => {}
            }
            if !matches!(how, "directory" | "gone") {
                std::fs::write(&path, old).unwrap();
            }
            call_all(&setup, &what);
            let is_lossless = file != "segment-000001" || how == "long";
            // A directory in the place of a file is an error of whoever put it there.
            if is_lossless && how != "directory" {
                let stored = setup.stored();
                assert_eq!(payloads(&stored[..2]), ["line 0", "line 1"], "{what}");
                assert_eq!(payloads(&stored[500..]), ["appended", "and run"], "{what}");
            }
        }
    }
}

/// A few bytes anywhere in the store.
#[test]
fn noise_anywhere_in_a_store_stops_no_verb() {
    let mut random = Random::new(seed(3));
    for round in 0..20 {
        let setup = Setup::new("garbage-bytes", NO_SINK, SMALL, STDIN);
        setup.append(&lines(0..2000));
        for _ in 0..=random.below(8) {
            let file = ["checkpoint", "segment-000001"][usize::try_from(random.below(2)).unwrap()];
            let path = setup.store().join(file);
            let mut old = std::fs::read(&path).unwrap();
            // Where something stands, mostly.
            let reach = if random.chance(4) {
                old.len()
            } else {
                100_000.min(old.len())
            };
            let at = usize::try_from(random.below(reach as u64)).unwrap();
            let noise = bytes(&mut random, 16);
            let end = (at + noise.len()).min(old.len());
            old[at..end].copy_from_slice(&noise[..end - at]);
            std::fs::write(&path, old).unwrap();
        }
        call_all(&setup, &format!("round {round}"));
        let stored = setup.stored();
        let last = stored.last().unwrap();
        assert_eq!(last["payload"], "and run", "round {round}");
    }
}

#[test]
fn a_configuration_that_is_noise_is_refused_with_2() {
    let scratch = Scratch::new("garbage-config");
    let mut random = Random::new(seed(4));
    let mut documents: Vec<Vec<u8>> = vec![
        Vec::new(),
        b"\0".to_vec(),
        b"\xef\xbb\xbf".to_vec(),
        b"null".to_vec(),
        b"[]".to_vec(),
        b"5".to_vec(),
        b"{".repeat(100_000),
        b"[".repeat(100_000),
        b"{\"streams\":".repeat(10_000),
        b"{\"streams\": 5}".to_vec(),
        b"{\"streams\": [null]}".to_vec(),
        b"{\"streaming\": [], \"streams\": []}".to_vec(),
        b"{\"streams\": [], \"streams\": []}".to_vec(),
        b"{\"streams\": []} x".to_vec(),
    ];
    for _ in 0..10 {
        let len = usize::try_from(random.below(5000)).unwrap();
        documents.push(bytes(&mut random, len));
        // Noise of what JSON is made of.
        let signs = br#"{}[]":,0e-+.\u truefalsenull streams"#;
        let sign = |byte: &u8| signs[usize::from(*byte) % signs.len()];
        documents.push(bytes(&mut random, len).iter().map(sign).collect());
    }
    for (at, document) in documents.iter().enumerate() {
        let path = scratch.write("noise.json", document);
        for name in ["check", "config", "run", "stats"] {
            let ended = verb(name, &path, &[]).expect(2);
            assert!(
                ended.out.is_empty() && !ended.err.is_empty(),
                "{at}: {ended:?}"
            );
        }
        verb("append", &path, &["telemetry"]).expect(2);
    }
    for name in ["check", "run"] {
        verb(name, scratch.path(), &[]).expect(2);
    }
}
