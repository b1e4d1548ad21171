//! `run` with its inputs: lines on standard input, and the host itself.

use std::collections::BTreeSet;

use crate::process::{
    SMALL, STDIN, Setup, forebay_with_input, lines, number, payloads, wait_until,
};

/// What `run` says of an input at its end.
fn summary(err: &str) -> &str {
    let said = err
        .lines()
        .find_map(|line| line.split("input stdin: ").nth(1));
    said.unwrap_or_else(|| panic!("{err}"))
}

/// `G-031`: the end of the input is the end of the run, and then everything has been delivered.
#[test]
fn lines_on_standard_input_become_lines_of_json() {
    let setup = Setup::lines_to_file("lines");
    let mut running = setup.serve(&[]);
    running.write(&lines(0..1000));
    let ended = running.end().expect(0);
    assert_eq!(summary(&ended.err), "1000 records, 0 malformed, 0 refused");
    let told = "telemetry: 1000 appended, 1000 exported, 0 still stored, 0 dropped";
    assert!(ended.err.contains(told), "{ended:?}");
    assert!(ended.out.is_empty());
    let delivered = setup.delivered();
    assert_eq!(delivered.len(), 1000);
    for (at, record) in (0..).zip(&delivered) {
        assert_eq!(number(record, "offset"), at);
        assert_eq!(record["stream"], "telemetry");
        assert_eq!(record["payload"], format!("line {at}"));
        assert!(number(record, "timeMs") > 0 && number(record, "epoch") > 0);
    }
}

#[test]
fn lines_arrive_while_the_input_goes_on() {
    let setup = Setup::lines_to_file("goes-on");
    let mut running = setup.serve(&[]);
    for round in 0..5 {
        running.write(&lines(round..round + 1));
        wait_until("delivery", || setup.delivered().len() as u64 == round + 1);
    }
    running.end().expect(0);
}

/// A line is a payload, whatever it is made of; only one that is too long is none.
#[test]
fn lines_that_are_too_long_are_counted_and_the_next_one_is_taken() {
    let buffer = r#", "maxBufferedBytes": 65536, "maxRecordBytes": 1000"#;
    let setup = Setup::to_file("too-long", buffer, STDIN);
    let mut running = setup.serve(&[]);
    // At the bound, above it, and far above everything that is held in memory.
    for len in [1000, 1001, 5000, 5097, 10_000_000] {
        running.write(&[b"x".repeat(len), b"\nshort\n".to_vec()].concat());
    }
    running.write(b"\n\r\nnul\0nul\n\xff\xfe\nthe last one has no end");
    let ended = running.end().expect(0);
    assert_eq!(summary(&ended.err), "11 records, 0 malformed, 4 refused");
    let delivered = setup.delivered();
    assert_eq!(delivered.len(), 11);
    assert_eq!(delivered[0]["payload"], "x".repeat(1000));
    assert!(
        delivered[1..6]
            .iter()
            .all(|record| record["payload"] == "short")
    );
    let rest = payloads(&delivered[6..9]);
    assert_eq!(rest, ["", "", "nul\0nul"]);
    assert_eq!(delivered[9]["payloadBase64"], "//4=");
    assert_eq!(delivered[10]["payload"], "the last one has no end");
}

#[test]
fn lines_of_json_that_are_no_records_are_counted_and_the_next_one_is_taken() {
    let input = r#"{"type": "stdin", "stream": "telemetry", "format": "ndjson", "key": "k"}"#;
    let setup = Setup::to_file("malformed", r#", "maxRecordBytes": 1000"#, input);
    let mut running = setup.serve(&[]);
    let bad: [&[u8]; 9] = [
        b"",
        b"\0",
        b"\xff\xfe",
        b"{\"payload\":\"\xff\"}",
        b"{",
        b"[]",
        b"{\"payload\":5}",
        b"{\"payload\":\"a\"} {\"payload\":\"b\"}",
        b"{\"payloadBase64\":\"%\"}",
    ];
    for bad in bad {
        running.write(&[bad, b"\n{\"payload\":\"good\"}\n"].concat());
    }
    // Well made, and too long in one way or another: as text, as key, as what stands in JSON.
    let long = "x".repeat(1001);
    running.write(format!("{{\"payload\":\"{long}\"}}\n").as_bytes());
    running.write(format!("{{\"payload\":\"\",\"key\":\"{long}\"}}\n").as_bytes());
    running.write(format!("{{\"payload\":\"{}\"}}\n", "x".repeat(1 << 20)).as_bytes());
    // Nested deeper than any stack.
    running.write(format!("{}\n", "[".repeat(9000)).as_bytes());
    let last = r#"{"payload":"last","key":"own","timeMs":5,"properties":{"unit":"bar"}}"#;
    running.write(last.as_bytes());
    let ended = running.end().expect(0);
    assert_eq!(summary(&ended.err), "10 records, 10 malformed, 3 refused");
    let delivered = setup.delivered();
    let (last, good) = delivered.split_last().unwrap();
    assert!(
        good.iter()
            .all(|record| record["payload"] == "good" && record["key"] == "k")
    );
    assert_eq!(last["key"], "own");
    assert_eq!(
        (number(last, "timeMs"), &last["properties"]["unit"]),
        (5, &"bar".into())
    );
}

/// What the sink writes, the input reads: with any bytes in it.
#[test]
fn what_one_engine_writes_another_reads() {
    let from = Setup::lines_to_file("pass-from");
    forebay_with_input(
        &["run", from.config.to_str().unwrap()],
        b"text\n\xff\xfe\n\"quoted\"\n\nnul\0\n",
    )
    .expect(0);
    let input = r#"{"type": "stdin", "stream": "telemetry", "format": "ndjson"}"#;
    let to = Setup::to_file("pass-to", SMALL, input);
    let text = std::fs::read(from.out()).unwrap();
    forebay_with_input(&["run", to.config.to_str().unwrap()], &text).expect(0);
    let (from, to) = (from.delivered(), to.delivered());
    assert_eq!((from.len(), to.len()), (5, 5));
    for (from, to) in from.iter().zip(&to) {
        for field in ["payload", "payloadBase64", "key", "timeMs", "offset"] {
            assert_eq!(from[field], to[field]);
        }
    }
}

/// Numbers of this machine: what every Linux has must be among them, and each is an object of its own.
#[test]
fn the_host_input_delivers_its_metrics_as_json() {
    let input = r#"{"type": "host", "stream": "telemetry", "ratePerSecond": 2000}"#;
    let setup = Setup::to_file("host", SMALL, input);
    let running = setup.serve(&[]);
    let mut metrics = BTreeSet::new();
    wait_until("two rounds of metrics", || {
        let delivered = setup.delivered();
        for record in &delivered {
            let payload = record["payload"].as_str().unwrap();
            let metric: serde_json::Value = serde_json::from_str(payload).unwrap();
            assert_eq!(metric["metric"], record["key"]);
            // The kernel shows it of few disks.
            if metric["metric"] == "disk.wear" && metric["value"].is_null() {
                continue;
            }
            let value = metric["value"].as_f64().unwrap();
            assert!(value.is_finite(), "{metric}");
            assert!(metric["unit"].as_str().is_some_and(|unit| !unit.is_empty()));
            if metric["unit"] == "percent" {
                assert!((0.0..=100.0).contains(&value), "{metric}");
            }
            metrics.insert(record["key"].as_str().unwrap().to_owned());
        }
        let is_load = |record: &&serde_json::Value| record["key"] == "load.1m";
        delivered.iter().filter(is_load).count() >= 2
    });
    for known in [
        "cpu.user",
        "cpu.system",
        "cpu.iowait",
        "cpu.switches",
        "processes.started",
        "memory.total",
        "memory.free",
        "memory.available",
        "load.1m",
        "load.5m",
        "load.15m",
    ] {
        assert!(metrics.contains(known), "{known} in {metrics:?}");
    }
    running.signal(rustix::process::Signal::TERM);
    let ended = running.wait().expect(0);
    assert!(ended.err.contains("input host: "), "{ended:?}");
    assert!(ended.err.contains(" 0 malformed, 0 refused"), "{ended:?}");
    // Nothing is left behind when the link is up.
    assert_eq!(number(&setup.stats(), "backlog"), 0);
}

/// With two inputs the run ends when both have: the host never does, so only a signal ends it.
#[test]
fn a_run_with_another_input_goes_on_when_standard_input_has_ended() {
    let inputs = format!(r#"{STDIN}, {{"type": "host", "stream": "telemetry"}}"#);
    let setup = Setup::to_file("two-inputs", SMALL, &inputs);
    let mut running = setup.serve(&[]);
    running.write(b"one\n");
    drop(running.input.take());
    let count = || setup.delivered().len();
    wait_until("the line", || payloads(&setup.delivered()).contains(&"one"));
    let before = count();
    wait_until("more of the host", || count() > before);
    assert!(!running.has_ended());
    running.signal(rustix::process::Signal::INT);
    let ended = running.wait().expect(0);
    assert_eq!(summary(&ended.err), "1 records, 0 malformed, 0 refused");
}

/// Standard input that is closed, a directory or nothing at all is an end like any other.
#[test]
fn standard_input_that_cannot_be_read_ends_the_run() {
    let setup = Setup::lines_to_file("no-input");
    let dir = std::fs::File::open(setup.scratch.path()).unwrap();
    let status = setup.run(&[]).stdin(dir).status().unwrap();
    assert_eq!(status.code(), Some(0));
    let status = setup.run(&[]).stdin(std::process::Stdio::null()).status();
    assert_eq!(status.unwrap().code(), Some(0));
}
