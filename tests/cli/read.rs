//! `read`: from any place to any other, in every format, beside a running engine.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::process::{
    NO_SINK, Running, SMALL, STDIN, Setup, command, lines, number, payloads, verb, wait_until,
};

fn read(setup: &Setup, more: &[&str]) -> Vec<String> {
    let more = [&["--format", "raw"], more].concat();
    let ended = verb("read", &setup.store(), &more).expect(0);
    assert!(ended.err.is_empty(), "{ended:?}");
    ended.out().lines().map(str::to_owned).collect()
}

fn read_command(store: &Path, more: &[&str]) -> Command {
    let mut command = command();
    command.arg("read").arg(store).args(more);
    command
}

#[test]
fn read_starts_and_ends_at_offsets() {
    let setup = Setup::new("read-offsets", NO_SINK, SMALL, "");
    setup.append(&lines(0..1000));
    assert_eq!(read(&setup, &[]).len(), 1000);
    assert_eq!(read(&setup, &["--from", "998"]), ["line 998", "line 999"]);
    assert_eq!(read(&setup, &["--to", "2"]), ["line 0", "line 1"]);
    assert_eq!(read(&setup, &["--from=500", "--to=501"]), ["line 500"]);
    // Nothing lies there, and that is no failure.
    for empty in [["--from", "1000"], ["--from", "99999999999"], ["--to", "0"]] {
        assert!(read(&setup, &empty).is_empty(), "{empty:?}");
    }
    assert!(read(&setup, &["--from", "5", "--to", "3"]).is_empty());
}

#[test]
fn read_starts_and_ends_at_times() {
    let setup = Setup::new("read-times", NO_SINK, SMALL, "");
    let appended = |at: usize| number(&setup.stored()[at], "appendedMs");
    setup.append(&lines(0..100));
    let first = appended(0);
    let mut count = 100;
    // The clock may stand still for a moment, or be set back by a moment.
    wait_until("a later time", || {
        setup.append(&lines(100..200));
        count += 100;
        appended(count - 100) > first
    });
    let second = setup.stored()[count - 100]["offset"].as_u64().unwrap();
    let log = verb("read", &setup.store(), &["--from", &second.to_string()]).expect(0);
    let time = log
        .out()
        .lines()
        .next()
        .unwrap()
        .split(' ')
        .nth(1)
        .unwrap()
        .to_owned();
    assert!(time.ends_with('Z') && time.contains('T'), "{time}");
    assert_eq!(read(&setup, &["--from", &time]).len(), 100);
    assert_eq!(read(&setup, &["--to", &time]).len(), count - 100);
    assert!(read(&setup, &["--from", &time, "--to", &time]).is_empty());
    // A whole day, and ago.
    assert_eq!(read(&setup, &["--from", "1970-01-01"]).len(), count);
    assert_eq!(read(&setup, &["--from=-1d"]).len(), count);
    assert_eq!(read(&setup, &["--to=-1d"]).len(), 0);
    assert!(read(&setup, &["--from", "2999-01-01"]).is_empty());
}

#[test]
fn read_prints_for_people_for_programs_and_as_it_is() {
    let setup = Setup::new("read-formats", NO_SINK, SMALL, "");
    setup.append(b"plain\n\"quoted\"\n\xff\x1b[31m\n\n");
    let print = |format: &str| verb("read", &setup.store(), &["--format", format]).expect(0);
    assert_eq!(print("raw").out, b"plain\n\"quoted\"\n\xff\x1b[31m\n\n");
    let objects = print("ndjson").json_lines();
    let offsets: Vec<u64> = objects
        .iter()
        .map(|object| number(object, "offset"))
        .collect();
    assert_eq!(offsets, [0, 1, 2, 3]);
    assert_eq!(objects[1]["payload"], "\"quoted\"");
    assert_eq!(objects[2]["payloadBase64"], "/xtbMzFt");
    // Nothing that a terminal would obey gets through.
    let log = print("log");
    assert!(
        log.out()
            .lines()
            .nth(2)
            .unwrap()
            .ends_with("\\xff\\x1b[31m"),
        "{log:?}"
    );
    assert_eq!(log.out, verb("read", &setup.store(), &[]).out);
}

/// `G-098`: what a sink wrote and what `read` prints is the same, byte for byte.
#[test]
fn read_prints_what_the_file_sink_writes() {
    let setup = Setup::lines_to_file("read-sink");
    let mut running = setup.serve(&[]);
    running.write(&lines(0..500));
    running.end().expect(0);
    let printed = verb("read", &setup.store(), &["--format", "ndjson"]).expect(0);
    assert_eq!(printed.out, std::fs::read(setup.out()).unwrap());
}

/// Whoever wants only the first lines, `head` for example, gets them and hears nothing else.
#[test]
fn a_reader_that_closes_the_pipe_ends_read_without_a_word() {
    let setup = Setup::new("read-pipe", NO_SINK, SMALL, "");
    setup.append(&lines(0..50_000));
    for format in ["log", "ndjson", "raw"] {
        let mut command = read_command(&setup.store(), &["--format", format]);
        let (running, pipe) = Running::start_with_pipe(&mut command);
        let mut pipe = BufReader::new(pipe);
        let mut line = String::new();
        pipe.read_line(&mut line).unwrap();
        assert!(line.contains("line 0"), "{line}");
        drop(pipe);
        let ended = running.wait().expect(0);
        assert!(ended.err.is_empty(), "{ended:?}");
    }
}

/// Also of verbs that print little: their pipe is closed before they begin.
#[test]
fn no_verb_minds_a_pipe_that_is_closed() {
    let setup = Setup::new("closed-pipe", NO_SINK, SMALL, "");
    setup.append(&lines(0..10));
    for verb in ["read", "stats", "inspect", "verify"] {
        let mut command = command();
        let (running, pipe) = Running::start_with_pipe(command.arg(verb).arg(setup.store()));
        drop(pipe);
        let ended = running.wait().expect(0);
        assert!(ended.err.is_empty(), "{verb}: {ended:?}");
    }
}

#[test]
fn read_follows_a_store_from_run_to_run() {
    let setup = Setup::new("follow", NO_SINK, SMALL, STDIN);
    setup.append(b"zero\n");
    let mut command = read_command(&setup.store(), &["--follow", "--format", "raw"]);
    let (running, pipe) = Running::start_with_pipe(&mut command);
    let mut printed = BufReader::new(pipe).lines().map(Result::unwrap);
    assert_eq!(printed.next().unwrap(), "zero");
    for text in ["one", "two"] {
        let mut run = setup.serve(&[]);
        run.write(format!("{text}\n").as_bytes());
        assert_eq!(printed.next().unwrap(), text);
        run.end().expect(0);
    }
    // Also what was stored and left between two looks.
    for n in 0..10 {
        setup.append(format!("quick {n}\n").as_bytes());
    }
    for n in 0..10 {
        assert_eq!(printed.next().unwrap(), format!("quick {n}"));
    }
    running.signal(Signal::TERM);
    drop(printed);
    assert!(running.wait().err.is_empty());
}

/// `G-090`, `L-104`: a small store whose oldest segments are dropped and written anew all the time. Each
/// look at it shows some part of what was appended, in order; what it lacks it says.
#[test]
fn looking_at_a_store_that_is_written_never_fails() {
    let buffer = r#", "segmentBytes": 65536, "maxDiskBytes": 1048576, "maxBufferedBytes": 65536"#;
    let setup = Setup::new("read-live", NO_SINK, buffer, STDIN);
    let mut running = setup.serve(&[]);
    let mut input = running.input.take().unwrap();
    let (stop, is_stopped) = std::sync::mpsc::channel::<()>();
    let feed = std::thread::spawn(move || {
        use std::io::Write;
        let mut from = 0;
        while is_stopped.try_recv().is_err() {
            input.write_all(&lines(from..from + 1000)).unwrap();
            from += 1000;
        }
        from
    });
    // Until the store has been written anew a few times.
    let mut looks = 0;
    wait_until("laps", || {
        looks += 1;
        look(&setup);
        number(&setup.stats(), "headOffset") > 200_000 && looks > 20
    });
    stop.send(()).unwrap();
    let appended = feed.join().unwrap();
    running.end().expect(0);
    assert_eq!(number(&setup.stats(), "nextOffset"), appended);
    look(&setup);
}

/// Reads and verifies once.
fn look(setup: &Setup) {
    let read = verb("read", &setup.store(), &["--format", "ndjson"]).expect(0);
    let records = read.json_lines();
    let mut next = 0;
    for record in &records {
        let offset = number(record, "offset");
        assert!(offset >= next, "{offset} after {next}");
        assert_eq!(record["payload"], format!("line {offset}"));
        next = offset + 1;
    }
    for said in read.err.lines() {
        assert!(said.ends_with(": quota"), "{said}");
    }
    let from = records
        .get(records.len() / 2)
        .map_or(0, |record| number(record, "offset"));
    let part = verb("read", &setup.store(), &["--from", &from.to_string()]);
    part.expect(0);
    let verified = verb("verify", &setup.store(), &[]).expect(0);
    assert!(verified.out().contains(", 0 damaged"), "{verified:?}");
    let inspected = verb("inspect", &setup.store(), &["--json"]).expect(0);
    let inspected: Value = serde_json::from_str(inspected.out()).unwrap();
    assert!(
        inspected["segments"]
            .as_array()
            .is_some_and(|segments| segments.len() <= 16)
    );
}

#[test]
fn what_is_read_while_it_is_written_is_what_was_appended() {
    let setup = Setup::new("read-again", NO_SINK, SMALL, STDIN);
    let mut running = setup.serve(&[]);
    let mut count = 0;
    for _ in 0..10 {
        running.write(&lines(count..count + 100));
        count += 100;
        wait_until("durability", || {
            number(&setup.stats(), "durableOffset") == count
        });
        let stored = setup.stored();
        let expected: Vec<String> = (0..count).map(|n| format!("line {n}")).collect();
        assert_eq!(payloads(&stored), expected);
    }
    running.end().expect(0);
}
