//! Signals, sinks that do not take anything, and verbs beside a running engine.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;

use rustix::process::Signal;

use crate::process::{
    NO_SINK, Running, SMALL, STDIN, Setup, forebay_with_input, lines, number, payloads, wait_until,
};

/// A sink whose link is down for ever: its file is a directory.
fn link_down(setup: &Setup) {
    std::fs::create_dir_all(setup.out()).unwrap();
}

fn expected(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("line {n}")).collect()
}

/// `G-031`, `L-9`, `L-18`: everything that was taken is durable, and delivered where the link is up.
#[test]
fn a_signal_ends_a_run_with_everything_durable_and_delivered() {
    for signal in [Signal::TERM, Signal::INT] {
        let name = format!("signal-{}", signal.as_raw());
        let setup = Setup::lines_to_file(&name);
        let mut running = setup.serve(&[]);
        running.write(&lines(0..5000));
        wait_until("the lines", || {
            number(&setup.stats(), "appendedTotal") == 5000
        });
        running.signal(signal);
        let ended = running.wait().expect(0);
        assert!(
            ended
                .err
                .contains("5000 appended, 5000 exported, 0 still stored"),
            "{ended:?}"
        );
        assert_eq!(payloads(&setup.stored()), expected(5000));
        assert_eq!(payloads(&setup.delivered()), expected(5000));
        let stats = setup.stats();
        assert_eq!(stats["live"], false);
        assert_eq!(
            (number(&stats, "durableOffset"), number(&stats, "backlog")),
            (5000, 0)
        );
    }
}

/// `L-9`, `L-11`: with the link down a signal does not wait for it, and the next run delivers all of it.
#[test]
fn with_the_link_down_a_signal_keeps_everything_for_the_next_run() {
    let setup = Setup::lines_to_file("link-down");
    link_down(&setup);
    let mut running = setup.serve(&["--deadline", "2"]);
    running.write(&lines(0..300));
    wait_until("the link to be seen down", || {
        let stats = setup.stats();
        stats["sinks"][0]["state"] == "link" && number(&stats, "durableOffset") == 300
    });
    let stats = setup.stats();
    assert_eq!(
        (number(&stats, "backlog"), number(&stats, "exportedTotal")),
        (300, 0)
    );
    assert_ne!(stats["lastExportError"], "");
    wait_until("tries", || number(&setup.stats(), "retriesTotal") > 300);
    running.signal(Signal::TERM);
    let ended = running.wait().expect(0);
    assert!(ended.err.contains("300 still stored"), "{ended:?}");
    assert_eq!(payloads(&setup.stored()), expected(300));

    std::fs::remove_dir(setup.out()).unwrap();
    let running = setup.serve(&[]);
    running.end().expect(0);
    assert_eq!(payloads(&setup.delivered()), expected(300));
    // And nothing of it comes again.
    setup.serve(&[]).end().expect(0);
    assert_eq!(setup.delivered().len(), 300);
}

#[test]
fn a_second_signal_ends_at_once() {
    let setup = Setup::lines_to_file("second-signal");
    link_down(&setup);
    let mut running = setup.serve(&["--drain", "600"]);
    running.write(&lines(0..10));
    wait_until("the lines", || {
        number(&setup.stats(), "durableOffset") == 10
    });
    running.signal(Signal::TERM);
    running.wait_for("stopping");
    assert!(!running.has_ended());
    running.signal(Signal::TERM);
    let ended = running.wait();
    assert_eq!(
        ended.status.signal(),
        Some(Signal::TERM.as_raw()),
        "{ended:?}"
    );
    // What was durable stayed so.
    assert_eq!(payloads(&setup.stored()), expected(10));
}

/// A signal while the end of the input waits for a sink is the first one: it ends the wait, cleanly.
#[test]
fn a_signal_ends_the_wait_for_sinks_after_the_end_of_the_input() {
    let setup = Setup::lines_to_file("signal-in-drain");
    link_down(&setup);
    let mut running = setup.serve(&["--drain", "600"]);
    running.write(&lines(0..10));
    drop(running.input.take());
    wait_until("the lines", || {
        number(&setup.stats(), "durableOffset") == 10
    });
    running.signal(Signal::INT);
    let ended = running.wait().expect(0);
    assert!(ended.err.contains("10 still stored"), "{ended:?}");
}

/// A stream that nobody reads has nothing to wait for.
#[test]
fn a_run_without_sinks_ends_with_its_input() {
    let setup = Setup::new("no-sink", NO_SINK, SMALL, STDIN);
    let mut running = setup.serve(&["--drain", "600"]);
    running.write(&lines(0..10));
    running.end().expect(0);
    assert_eq!(payloads(&setup.stored()), expected(10));
}

/// `L-14`: whoever reads standard output has gone: that is a link that is down, not a loss.
#[test]
fn a_stdout_sink_whose_pipe_is_closed_keeps_its_records_and_tries_again() {
    let setup = Setup::new("stdout-closed", r#"{"type": "stdout"}"#, SMALL, STDIN);
    let (mut running, pipe) = Running::start_with_pipe(&mut setup.run(&[]));
    running.wait_for("serving");
    running.write(&lines(0..1));
    let mut pipe = BufReader::new(pipe);
    let mut line = String::new();
    pipe.read_line(&mut line).unwrap();
    let record: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(record["payload"], "line 0");
    drop(pipe);
    running.write(&lines(1..100));
    wait_until("tries", || {
        let stats = setup.stats();
        number(&stats, "retriesTotal") > 0 && stats["sinks"][0]["state"] == "link"
    });
    let stats = setup.stats();
    assert_eq!(
        (number(&stats, "exportedTotal"), number(&stats, "backlog")),
        (1, 99)
    );
    running.signal(Signal::TERM);
    let ended = running.wait().expect(0);
    assert!(ended.err.contains("the sink is not served"), "{ended:?}");

    let ended = forebay_with_input(&["run", setup.config.to_str().unwrap()], b"").expect(0);
    let again = ended.json_lines();
    assert_eq!(payloads(&again), expected(100)[1..]);
}

/// A reader that has stopped reading holds up its sink only: the run ends by its deadline, and keeps all.
#[test]
fn a_stdout_sink_that_is_stuck_does_not_hold_up_the_end() {
    let setup = Setup::new("stdout-stuck", r#"{"type": "stdout"}"#, SMALL, STDIN);
    let more = ["--drain", "0", "--deadline", "1"];
    let (mut running, pipe) = Running::start_with_pipe(&mut setup.run(&more));
    running.wait_for("serving");
    // More than a pipe holds.
    running.write(&lines(0..5000));
    wait_until("the lines", || {
        number(&setup.stats(), "durableOffset") == 5000
    });
    let seconds = seconds();
    running.signal(Signal::TERM);
    let ended = running.wait().expect(1);
    // Generous, but less than a second wait for the same thread would take.
    assert!(self::seconds() - seconds < 5.0, "{ended:?}");
    assert!(
        ended.err.contains("a thread did not end in time"),
        "{ended:?}"
    );
    drop(pipe);
    assert_eq!(payloads(&setup.stored()), expected(5000));
}

fn seconds() -> f64 {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    START
        .get_or_init(std::time::Instant::now)
        .elapsed()
        .as_secs_f64()
}

#[test]
fn append_stores_into_a_stopped_store_and_the_next_run_delivers() {
    let setup = Setup::lines_to_file("append");
    let config = setup.config.to_str().unwrap();
    let args = ["append", config, "telemetry", "--key", "pump-7"];
    let ended = forebay_with_input(&args, b"one\ntwo\n").expect(0);
    assert_eq!(
        ended.err.lines().last(),
        Some("2 records stored, 0 malformed, 0 refused")
    );
    assert!(ended.out.is_empty() && setup.delivered().is_empty());
    // Lines that are none: it stores the others and says so.
    let args = ["append", config, "telemetry", "--format", "ndjson"];
    let ended = forebay_with_input(&args, b"{\"payload\":\"three\"}\nnonsense\n").expect(1);
    assert_eq!(
        ended.err.lines().last(),
        Some("1 records stored, 1 malformed, 0 refused")
    );
    assert_eq!(payloads(&setup.stored()), ["one", "two", "three"]);
    setup.serve(&[]).end().expect(0);
    let delivered = setup.delivered();
    assert_eq!(payloads(&delivered), ["one", "two", "three"]);
    assert_eq!(
        (&delivered[0]["key"], &delivered[2]["key"]),
        (&"pump-7".into(), &"".into())
    );
}

#[test]
fn append_to_a_store_that_is_taken_is_refused_and_harms_nobody() {
    let setup = Setup::lines_to_file("append-taken");
    let mut running = setup.serve(&[]);
    running.write(b"before\n");
    let config = setup.config.to_str().unwrap();
    let holder = format!("locked: process {} has it open", running.id());
    let ended = forebay_with_input(&["append", config, "telemetry"], b"x\n").expect(1);
    assert!(ended.out.is_empty());
    assert!(ended.err.contains("\"telemetry\""), "{ended:?}");
    assert!(ended.err.contains(&holder), "{ended:?}");
    let ended = forebay_with_input(&["run", config], b"x\n").expect(1);
    assert!(ended.err.contains(&holder), "{ended:?}");
    running.write(b"after\n");
    running.end().expect(0);
    assert_eq!(payloads(&setup.delivered()), ["before", "after"]);
}

#[test]
fn append_to_a_stream_that_is_not_there_says_so() {
    let setup = Setup::lines_to_file("append-unknown");
    let config = setup.config.to_str().unwrap();
    let ended = forebay_with_input(&["append", config, "elsewhere"], b"x\n").expect(1);
    assert!(
        ended.err.contains("no stream is named \"elsewhere\""),
        "{ended:?}"
    );
}
