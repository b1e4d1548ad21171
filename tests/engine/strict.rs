//! A store in which damage is found is not opened where that was asked for, and nothing of it is touched.

use std::fs;
use std::path::{Path, PathBuf};

use forebay::storage::PAGE_SIZE;
use forebay::{Code, Engine};

use crate::common::{LIMIT, Scratch};

const STREAM: &str = r#"{"name": "telemetry", "sink": {"type": "none"},
    "buffer": {"segmentBytes": 65536, "maxDiskBytes": 8388608, "strict": false}}"#;

fn strict() -> String {
    STREAM.replace("false", "true")
}

/// A store of several segments, closed cleanly, or copied as a crash leaves it.
fn store(scratch: &Scratch, is_clean: bool) -> PathBuf {
    let engine = Engine::open(&scratch.config(&strict())).unwrap();
    let stream = engine.stream("telemetry").unwrap();
    // The first segment has room for a few of the longest records; the others are smaller.
    for n in 0..3000 {
        stream.append(b"pump-7", n, &[7; 1000]).unwrap();
        if n % 500 == 0 {
            stream.flush(LIMIT).unwrap();
        }
    }
    stream.flush(LIMIT).unwrap();
    let dir = scratch.join("data").join("telemetry");
    if is_clean {
        drop((engine, stream));
        return dir;
    }
    crash((engine, stream), scratch, &dir);
    // The next run's checkpoint knows what is active.
    let engine = Engine::open(&scratch.config(STREAM)).unwrap();
    crash(engine, scratch, &dir);
    dir
}

/// Leaves a store as it is now, whatever its engine does when it ends.
fn crash<T>(engine: T, scratch: &Scratch, dir: &Path) {
    let copy = scratch.join("copy");
    fs::create_dir_all(&copy).unwrap();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.join(entry.file_name())).unwrap();
    }
    drop(engine);
    fs::remove_dir_all(dir).unwrap();
    fs::rename(&copy, dir).unwrap();
}

/// Its segments, oldest first.
fn segments(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let is_segment = |path: &PathBuf| path.to_string_lossy().contains("/segment-");
    let mut paths: Vec<_> = entries.filter(is_segment).collect();
    paths.sort();
    paths
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

fn blank(path: &Path) {
    let len = fs::metadata(path).unwrap().len();
    fs::write(path, vec![0xa5; usize::try_from(len).unwrap()]).unwrap();
}

#[derive(Clone, Copy, Debug)]
enum Damage {
    SealedRecord,
    LastRecord,
    Header(usize),
    Checkpoint,
    SegmentGone,
    SegmentBlank,
    LastBlank,
}

fn spoil(dir: &Path, damage: Damage) {
    let segments = segments(dir);
    assert!(segments.len() > 2, "{segments:?}");
    let last = segments.last().unwrap();
    match damage {
        Damage::SealedRecord => flip(&segments[1], 9 * PAGE_SIZE + 1000),
        // Its first page: there is one more behind it, so it was durable.
        Damage::LastRecord => flip(last, 2 * PAGE_SIZE + 1000),
        Damage::Header(copy) => flip(&segments[0], copy * PAGE_SIZE + 40),
        Damage::Checkpoint => fs::remove_file(dir.join("checkpoint")).unwrap(),
        Damage::SegmentGone => fs::remove_file(&segments[1]).unwrap(),
        Damage::SegmentBlank => blank(&segments[1]),
        Damage::LastBlank => blank(last),
    }
}

/// `G-082`, `G-123`: with `strict` an open reads all there is. It fails where anything is damaged, and not one byte
/// is changed; without it the same store opens, and from then on the damage is known.
#[test]
fn a_strict_open_refuses_damage_and_touches_nothing() {
    for is_clean in [true, false] {
        let scratch = Scratch::new("strict-whole");
        store(&scratch, is_clean);
        Engine::open(&scratch.config(&strict())).expect("a crash is no damage");
        for damage in [
            Damage::SealedRecord,
            Damage::LastRecord,
            Damage::Header(0),
            Damage::Header(1),
            Damage::Checkpoint,
            Damage::SegmentGone,
            Damage::SegmentBlank,
            Damage::LastBlank,
        ] {
            let scratch = Scratch::new("strict");
            let dir = store(&scratch, is_clean);
            spoil(&dir, damage);
            let before = scratch.files("data");
            for _ in 0..2 {
                let error = Engine::open(&scratch.config(&strict())).err();
                let error = error.unwrap_or_else(|| panic!("{damage:?} was not found"));
                assert_eq!(error.code(), Code::Corrupt, "{damage:?}: {error}");
                assert!(error.to_string().contains("damaged"), "{error}");
                assert!(scratch.files("data") == before, "{damage:?} was touched");
            }
            let engine = Engine::open(&scratch.config(STREAM)).unwrap();
            let stream = engine.stream("telemetry").unwrap();
            stream.append_durable(b"", 0, b"more", LIMIT).unwrap();
        }
    }
}
