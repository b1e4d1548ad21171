//! An input that knows where it stands: a growing file is read through any number of kills, and each line
//! is in the store once.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // a test is not behind the seams
#![allow(clippy::unnecessary_debug_formatting)] // a path in quotes is a path in JSON

#[path = "common/process.rs"]
mod process;
#[path = "sim/random.rs"]
#[allow(dead_code)]
mod random;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use process::{NO_SINK, Setup, payloads, wait_until};
use random::{Random, seed};

const RESUME: &str = r#"{"type": "stdin", "stream": "telemetry", "resume": true, "follow": true}"#;

fn start(setup: &Setup, lines: &Path) -> Child {
    let mut command = setup.run(&[]);
    let command = command.stdin(File::open(lines).unwrap());
    command.stderr(Stdio::null()).spawn().unwrap()
}

/// Writes numbered lines in pieces that end anywhere, until it is told to stop; returns how many.
fn writer(path: &Path, is_over: Arc<AtomicBool>, mut random: Random) -> JoinHandle<u64> {
    let mut file = OpenOptions::new().append(true).open(path).unwrap();
    std::thread::spawn(move || {
        let mut count = 0;
        while !is_over.load(Ordering::Relaxed) {
            let mut piece = String::new();
            for _ in 0..=random.below(20) {
                piece.push_str(&format!("line {count}\n"));
                count += 1;
            }
            let middle = usize::try_from(random.below(piece.len() as u64)).unwrap();
            file.write_all(&piece.as_bytes()[..middle]).unwrap();
            std::thread::sleep(Duration::from_micros(random.below(1500)));
            file.write_all(&piece.as_bytes()[middle..]).unwrap();
        }
        count
    })
}

/// `L-101`: a file that grows while the process that reads it is killed again and again: nothing twice,
/// nothing missing, no line in two.
#[test]
fn a_file_is_read_exactly_once_through_any_number_of_kills() {
    read_through_kills("resume", "");
}

/// The same where a line that was accepted outlives the kill, in the ring only.
#[test]
fn with_a_shared_ring_a_file_is_read_exactly_once_too() {
    read_through_kills("resume-shared", r#", "ring": "shared""#);
}

fn read_through_kills(name: &str, buffer: &str) {
    let setup = Setup::new(name, NO_SINK, buffer, RESUME);
    let lines = setup.scratch.write("lines", "");
    let mut random = Random::new(seed(1));
    let is_over = Arc::new(AtomicBool::new(false));
    let writer = writer(&lines, Arc::clone(&is_over), Random::new(seed(1) + 1));
    for _ in 0..30 {
        let mut child = start(&setup, &lines);
        std::thread::sleep(Duration::from_millis(random.below(80)));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    is_over.store(true, Ordering::Relaxed);
    let count = usize::try_from(writer.join().unwrap()).unwrap();
    assert!(count > 1000, "only {count} lines");
    let mut child = start(&setup, &lines);
    wait_until("the last line", || setup.stored().len() >= count);
    child.kill().unwrap();
    child.wait().unwrap();
    let stored = setup.stored();
    let expected: Vec<String> = (0..count).map(|n| format!("line {n}")).collect();
    assert_eq!(payloads(&stored), expected);
}

/// Another file in its place, or one that was cut, is read from its start.
#[test]
fn another_file_is_read_from_its_start() {
    let input = r#"{"type": "stdin", "stream": "telemetry", "resume": true}"#;
    let setup = Setup::new("resume-other", NO_SINK, "", input);
    let run = |lines: &Path| assert!(start(&setup, lines).wait().unwrap().success());
    let first = setup.scratch.write("first", "one\ntwo\n");
    run(&first);
    run(&first);
    assert_eq!(payloads(&setup.stored()), ["one", "two"]);
    let second = setup.scratch.write("second", "three\n");
    run(&second);
    OpenOptions::new()
        .append(true)
        .open(&second)
        .unwrap()
        .write_all(b"four\n")
        .unwrap();
    run(&second);
    File::create(&second).unwrap().write_all(b"five\n").unwrap();
    run(&second);
    let expected = ["one", "two", "three", "four", "five"];
    assert_eq!(payloads(&setup.stored()), expected);
}
