//! The documents say what the code does: bounds, memory, and tests that exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use forebay::config::{Config, STREAMS_MAX, resolve};
use forebay::{counters, engine, exporter, format, log, record, segment, syncer};

fn document(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The cells of each row of each table below a heading.
fn rows(text: &str, heading: &str) -> Vec<Vec<String>> {
    let mut lines = text.lines().skip_while(|line| *line != heading).skip(1);
    let section: Vec<&str> = lines
        .by_ref()
        .take_while(|line| !line.starts_with("## "))
        .collect();
    assert!(!section.is_empty(), "there is no {heading}");
    let rows = section.iter().filter(|line| line.starts_with('|'));
    let cells = |line: &&&str| {
        let line = line.trim().trim_start_matches('|').trim_end_matches('|');
        line.split(" | ")
            .map(|cell| cell.trim().to_owned())
            .collect()
    };
    let rows: Vec<Vec<String>> = rows.map(|line| cells(&line)).collect();
    // The head of the table and the line below it.
    rows.into_iter().skip(2).collect()
}

/// `L-66`: each bound of `docs/limits.md` is the one in the code, and none is missing there.
#[test]
fn the_bounds_are_those_of_the_code() {
    let expected: [u64; 30] = [
        STREAMS_MAX as u64,
        counters::CURSORS_MAX as u64,
        counters::CURSOR_NAME_MAX as u64,
        u64::from(exporter::IN_FLIGHT_MAX),
        exporter::CLASSES as u64,
        counters::INTERVALS_MAX as u64,
        counters::ERROR_TEXT_MAX as u64,
        resolve::VARS_MAX as u64,
        resolve::VAR_NAME_MAX as u64,
        resolve::SECRET_LEN_MAX,
        resolve::TEXT_LEN_MAX as u64,
        record::KEY_LEN_MAX as u64,
        record::PROPERTIES_MAX as u64,
        record::PROPERTY_NAME_MAX as u64,
        record::EXTRA_LEN_MAX as u64,
        record::SOURCE_NAME_MAX as u64,
        record::SOURCE_POSITION_MAX as u64,
        format::SOURCES_MAX as u64,
        format::LEDGER_MAX as u64,
        log::SEGMENTS_MAX,
        log::SEGMENT_SIZE_MIN,
        log::BUDGET_MIN,
        log::STEP_SIZE as u64,
        log::RESERVE_SYNC_SIZE,
        segment::STAGE_PAGES as u64,
        u64::from(segment::READ_AHEAD_PAGES),
        segment::WINDOW_SIZE as u64,
        engine::EVENTS_MAX as u64,
        format::CHECKPOINT_FILE_SIZE,
        syncer::LETTERS_MAX as u64,
    ];
    let rows = rows(&document("docs/limits.md"), "## Built-in bounds");
    let written: Vec<u64> = rows.iter().map(|row| row[1].parse().unwrap()).collect();
    for (row, value) in rows.iter().zip(&expected) {
        assert_eq!(row[1], value.to_string(), "{}", row[0]);
    }
    assert_eq!(written, expected);
}

/// `L-61`, `L-66`: the formula for memory, by examples.
#[test]
#[cfg(feature = "stdout")]
fn the_memory_of_a_stream_is_as_written() {
    let rows = rows(&document("docs/limits.md"), "## Memory");
    assert!(rows.len() >= 4);
    for row in rows {
        let stream = row[0].trim_matches('`');
        let text = format!(r#"{{"dataDir": "/d", "runDir": "/r", "streams": [{stream}]}}"#);
        let needs = Config::from_json(&text).unwrap().memory();
        assert_eq!(row[1], needs[0].memory.to_string(), "{stream}");
    }
}

/// All Rust files below a directory.
fn sources(below: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(below).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            found.push(path);
        }
    }
}

/// The names of all tests, with the file or module that they stand in: `crash::controls_fail`,
/// `ring::a_full_ring_refuses`.
fn tests() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    sources(&root.join("tests"), &mut files);
    let mut names = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let path = file.strip_prefix(root).unwrap().with_extension("");
        let place = path.iter().nth(1).unwrap().to_str().unwrap();
        let mut is_test = false;
        for line in text.lines().map(str::trim) {
            if line == "#[test]" {
                is_test = true;
            } else if let Some(name) = line.strip_prefix("fn ").filter(|_| is_test) {
                names.insert(format!("{place}::{}", name.split('(').next().unwrap()));
                is_test = false;
            }
        }
    }
    names
}

/// `L-8`: each requirement names a test that exists, and each number that a test cites stands there. A
/// row without a test says what shows it instead, or why nothing does yet.
#[test]
fn each_requirement_is_shown_by_a_test_that_exists() {
    let text = document("docs/requirements.md");
    let tests = tests();
    assert!(tests.len() > 150, "only {} tests were found", tests.len());
    let mut numbers = BTreeSet::new();
    for line in text.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [number, sentence, shown] = cells[..] else {
            panic!("three cells: {line}");
        };
        let number = number.trim_matches('`').to_owned();
        assert!(sentence.len() > 20, "{number}: a sentence");
        assert!(
            numbers.insert(number.clone()),
            "{number} stands there twice"
        );
        let named: Vec<&str> = shown.split('`').skip(1).step_by(2).collect();
        for test in &named {
            assert!(tests.contains(*test), "{number}: there is no test {test}");
        }
        assert!(
            !named.is_empty() || shown.starts_with("not yet") || shown.starts_with("by "),
            "{number}: what shows it?"
        );
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "tests", "benches"] {
        sources(&root.join(folder), &mut files);
    }
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for cited in text.split('`').filter(|part| is_number(part)) {
            assert!(
                numbers.contains(cited),
                "{}: {cited} is not in docs/requirements.md",
                file.display()
            );
        }
    }
}

/// `G`, `L` or `L-S`, a hyphen where it is missing, and digits.
fn is_number(text: &str) -> bool {
    let digits = text
        .strip_prefix("G-")
        .or_else(|| text.strip_prefix("L-S"))
        .or_else(|| text.strip_prefix("L-"));
    digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit()))
}

/// `L-8`: each guarantee of the README names tests that exist, and each file that a document links to is
/// there.
#[test]
fn each_guarantee_names_its_test() {
    let readme = document("README.md");
    let tests = tests();
    let rows = rows(&readme, "## Guarantees");
    assert!(rows.len() >= 8);
    for row in rows {
        let named: Vec<&str> = row[1].split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "{}: which test?", row[0]);
        for test in named {
            assert!(tests.contains(test), "there is no test {test}");
        }
    }
}

/// `L-8`: the same for each promise of docs/durability.md, to which the guarantees link.
#[test]
fn each_promise_names_its_test() {
    assert!(document("README.md").contains("](docs/durability.md)"));
    let tests = tests();
    let rows = rows(&document("docs/durability.md"), "## Promises");
    assert!(rows.len() >= 12);
    for row in rows {
        let [promise, shown] = &row[..] else {
            panic!("two cells: {row:?}");
        };
        assert!(promise.ends_with('.'), "{promise}: a sentence");
        let named: Vec<&str> = shown.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "{promise}: which test?");
        for test in named {
            assert!(tests.contains(test), "there is no test {test}");
        }
    }
}

#[test]
fn links_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = vec![root.join("README.md")];
    for folder in ["docs", "docs/decisions", "cross", "hil"] {
        let entries = fs::read_dir(root.join(folder)).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        pages.extend(paths.filter(|path| path.extension().is_some_and(|kind| kind == "md")));
    }
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1) {
            let target = link.split(')').next().unwrap().split('#').next().unwrap();
            if target.is_empty() || target.starts_with("http") {
                continue;
            }
            let path = page.parent().unwrap().join(target);
            assert!(path.exists(), "{}: {target} is not there", page.display());
        }
    }
}
