//! Many records in one of the service's: what a reader finds in them.

use std::collections::BTreeMap;
use std::process::Command;
#[cfg(all(feature = "cli", feature = "zstd"))]
use std::process::Stdio;

use super::delivery::Run;
use super::readers::{piped, python, run_python};
use super::server::{Act, Server};
use super::wire::{self, Part, hash, parts};
use crate::common::Scratch;
#[cfg(all(feature = "cli", feature = "zstd"))]
use crate::common::wait_until;

/// Waits for many records before it sends.
pub fn stream(server: &Server, sink: &str, batch: &str, rest: &str) -> String {
    let sink = format!(r#","aggregation":"kpl"{sink}"#);
    let stream = server.stream(&sink, rest);
    let batch = format!(r#""batch":{{"maxLatencyMs":100,"maxRecords":5000{batch}}}"#);
    stream.replace(r#""batch":{"maxLatencyMs":5}"#, &batch)
}

pub fn append(run: &Run, range: std::ops::Range<u64>) {
    for n in range {
        let key = format!("pump-{}", n * n % 11);
        let payload = format!("{n}");
        run.stream
            .append(key.as_bytes(), n, payload.as_bytes())
            .unwrap();
    }
}

pub fn number(part: &Part) -> u64 {
    std::str::from_utf8(&part.data).unwrap().parse().unwrap()
}

/// All of `0..count` once, those of each key in order.
pub fn check_once_in_order(parts: &[Part], count: u64) {
    let mut by_key: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for part in parts {
        by_key.entry(&part.key).or_default().push(number(part));
    }
    assert!(by_key.values().all(|numbers| numbers.is_sorted()));
    let mut all: Vec<_> = by_key.into_values().flatten().collect();
    all.sort_unstable();
    assert_eq!(all, (0..count).collect::<Vec<_>>());
}

/// `G-039`, `G-104`, `L-94`: aggregates keep the limits and are filled up to them; a key has one hash key, whatever
/// aggregate it is in, and that lies in the same group as the key's own.
#[test]
fn aggregates_are_full_and_keep_keys_together() {
    let (scratch, server) = (Scratch::new("kinesis-aggregates"), Server::new());
    server.state().record_bytes_max = 600;
    let sink = r#","aggregationGroups":4,"maxRecordBytes":600"#;
    let run = Run::open(&scratch, &stream(&server, sink, "", ""));
    append(&run, 0..3000);
    run.drained();
    let state = server.state();
    assert_eq!(state.refused, [""; 0]);
    assert!(state.taken.len() < 150, "{}", state.taken.len());
    let parts = parts(&state.taken);
    check_once_in_order(&parts, 3000);
    let mut of_key = BTreeMap::new();
    let width = u128::MAX / 4;
    for part in &parts {
        assert_eq!(Some(part.hash_key), state.taken[part.of].hash_key);
        assert_eq!(
            *of_key.entry(&part.key).or_insert(part.hash_key),
            part.hash_key
        );
        assert_eq!(part.hash_key / width, hash(&part.key) / width);
    }
    // Behind one that is not full no other of its group follows, in the same request: so few are short.
    let short = state.taken.iter().filter(|taken| taken.data.len() < 560);
    assert!(short.count() <= 4 * state.requests.len());
}

/// `G-040`: records of an aggregate share its outcome; only those of one that failed come again.
#[test]
fn only_aggregates_that_failed_are_sent_again() {
    let (scratch, server) = (Scratch::new("kinesis-aggregates-partly"), Server::new());
    let mut count = 0;
    server.script(move |body| {
        count += 1;
        let len = body["Records"].as_array().unwrap().len();
        let slow = "ProvisionedThroughputExceededException";
        match count % 2 {
            1 => Act::Partly((0..len).step_by(2).map(|at| (at, slow)).collect()),
            _ => Act::Take,
        }
    });
    let delivery = r#","delivery":{"backoffBaseMs":1,"backoffMaxMs":2}"#;
    let run = Run::open(
        &scratch,
        &stream(&server, r#","encoding":"cbor""#, "", delivery),
    );
    append(&run, 0..1000);
    run.drained();
    let stats = run.stream.stats();
    assert_eq!((stats.exported_total, stats.failed_total), (1000, 0));
    assert!(stats.retries_total > 0);
    check_once_in_order(&parts(&server.state().taken), 1000);
}

/// `L-95`, `G-042`: what is too long for an aggregate goes alone, what is too long for the stream nowhere;
/// keys are mapped as they are without aggregates.
#[test]
fn long_records_and_odd_keys_are_what_they_are_without_aggregates() {
    let (scratch, server) = (Scratch::new("kinesis-aggregates-long"), Server::new());
    server.state().record_bytes_max = 1000;
    let sink = r#","maxRecordBytes":1000,"aggregationGroups":1"#;
    let run = Run::open(&scratch, &stream(&server, sink, "", ""));
    let append = |key: &[u8], payload: &[u8]| run.stream.append(key, 0, payload).unwrap();
    append(b"k", &[b'x'; 999]);
    append(b"k", &[b'y'; 1000]);
    for key in [&b"k"[..], b"\xff\xfe", b"", b"", &[b'k'; 300]] {
        append(key, b"z");
    }
    run.drained();
    let stats = run.stream.stats();
    assert_eq!((stats.failed_total, stats.exported_total), (1, 6));
    assert_eq!(stats.sinks[0].keys_mapped, 4);
    let state = server.state();
    assert_eq!(state.refused, [""; 0]);
    let parts = parts(&state.taken);
    let lens: Vec<_> = parts.iter().map(|part| part.data.len()).collect();
    assert_eq!(lens, [999, 1, 1, 1, 1, 1]);
    assert_eq!(
        (parts[2].key.as_str(), parts[2].of),
        ("hex:fffe", parts[5].of)
    );
    assert!(parts[3].key.starts_with("offset:") && parts[3].key != parts[4].key);
}

/// The program of the documents that reads envelopes.
fn documented() -> String {
    let page = include_str!("../../docs/sinks.md");
    let program = page.split("```python\n").nth(1).unwrap();
    program.split("```").next().unwrap().to_owned()
}

/// `G-103`: a reader that knows device, stream, epoch and offset rebuilds what was appended, each record once,
/// from a run in which answers were lost and records failed.
#[test]
fn envelopes_give_each_record_once_whatever_came_twice() {
    let mut modes = vec![
        (r#","envelope":true"#, ""),
        (r#","envelope":true,"aggregation":"kpl""#, ""),
    ];
    if cfg!(feature = "zstd") {
        modes.push((r#","aggregation":"kpl""#, r#","compression":"zstd""#));
    }
    for (mode, compression) in modes {
        let (scratch, server) = (Scratch::new("kinesis-envelopes"), Server::new());
        let mut count = 0;
        server.script(move |body| {
            count += 1;
            let len = body["Records"].as_array().unwrap().len();
            match count % 5 {
                0 => Act::Take,
                1 => Act::TakeAndCut,
                2 => Act::Partly(
                    (0..len)
                        .step_by(2)
                        .map(|at| (at, "InternalFailure"))
                        .collect(),
                ),
                3 => Act::TakeAndHalve,
                _ => Act::TakeAndMiscount,
            }
        });
        let sink = format!(r#"{mode},"device":"gateway-7""#);
        let delivery = r#","delivery":{"backoffBaseMs":1,"backoffMaxMs":2}"#;
        let text = server.stream(&sink, delivery);
        let batch = format!(r#""batch":{{"maxLatencyMs":20,"maxRecords":200{compression}}}"#);
        let run = Run::open(
            &scratch,
            &text.replace(r#""batch":{"maxLatencyMs":5}"#, &batch),
        );
        append(&run, 0..1000);
        run.drained();
        let taken = server.state().taken.clone();
        assert!(
            taken.iter().any(|taken| taken.is_lost),
            "nothing came twice"
        );
        let input = wire::printed(&taken);
        let expected: Vec<_> = (0..1000)
            .map(|n: u64| format!("{n} pump-{} {n}", n * n % 11))
            .collect();
        if let Some(dir) = python() {
            let found = run_python(&dir, &documented(), &input);
            let mut found: Vec<_> = found.lines().collect();
            let device = "gateway-7 telemetry ";
            assert!(found.iter().all(|line| line.starts_with(device)));
            found.sort_by_key(|line| {
                line[device.len()..]
                    .split(' ')
                    .next()
                    .unwrap()
                    .parse::<u64>()
                    .unwrap()
            });
            let found: Vec<_> = found.iter().map(|line| &line[device.len()..]).collect();
            assert_eq!(found, expected, "{mode}");
        }
        #[cfg(feature = "cli")]
        {
            let mut forebay = Command::new(env!("CARGO_BIN_EXE_forebay"));
            let forebay = forebay.args(["read", "--kinesis-envelope", "--format", "ndjson"]);
            let found = piped(forebay, &input);
            let mut found: Vec<serde_json::Value> = found
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect();
            found.sort_by_key(|line| line["offset"].as_u64().unwrap());
            let text = |line: &serde_json::Value| {
                let [key, payload] = ["key", "payload"].map(|name| line[name].as_str().unwrap());
                assert_eq!(line["timeMs"], line["offset"]);
                format!("{} {key} {payload}", line["offset"])
            };
            assert_eq!(
                found.iter().map(text).collect::<Vec<_>>(),
                expected,
                "{mode}"
            );
        }
    }
}

/// Bytes on the wire for each byte of payload, of this machine's own telemetry.
#[test]
#[cfg(all(feature = "cli", feature = "zstd"))]
fn compressed_envelopes_take_a_fraction_of_their_payloads() {
    let mut ratios = Vec::new();
    for (sink, compression) in [
        ("", "none"),
        (r#","encoding":"cbor""#, "none"),
        (r#","encoding":"cbor","aggregation":"kpl""#, "none"),
        (r#","aggregation":"kpl""#, "zstd"),
        (r#","encoding":"cbor","aggregation":"kpl""#, "zstd"),
    ] {
        let (scratch, server) = (Scratch::new("kinesis-wire"), Server::new());
        let batch = format!(
            r#""batch":{{"maxLatencyMs":10000,"maxRecords":5000,"compression":"{compression}"}}"#
        );
        let stream = server.stream(sink, "");
        let stream = stream.replace(r#""batch":{"maxLatencyMs":5}"#, &batch);
        let inputs = r#"{"inputs":[{"type":"host","stream":"telemetry","ratePerSecond":20000}],"#;
        let path = scratch.join("config.json");
        let text = scratch.document(&stream).replacen('{', inputs, 1);
        std::fs::write(&path, text).unwrap();
        let mut forebay = Command::new(env!("CARGO_BIN_EXE_forebay"));
        let mut child = forebay
            .arg("run")
            .arg(&path)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_until("some batches", || server.state().requests.len() >= 3);
        child.kill().unwrap();
        child.wait().unwrap();
        let state = server.state();
        let payloads: usize = match compression {
            "none" => parts(&state.taken).iter().map(|part| part.data.len()).sum(),
            _ => {
                let mut forebay = Command::new(env!("CARGO_BIN_EXE_forebay"));
                let forebay = forebay.args(["read", "--kinesis-envelope", "--format", "raw"]);
                let found = piped(forebay, &wire::printed(&state.taken));
                found.lines().map(str::len).sum()
            }
        };
        let ratio = state.body_bytes as f64 / payloads as f64;
        println!("{ratio:.3} bytes for each of payload: {sink} {compression}");
        ratios.push(ratio);
    }
    assert!(ratios.is_sorted_by(|a, b| a > b), "{ratios:?}");
    assert!(ratios[3] <= 0.45 && ratios[4] <= 0.35, "{ratios:?}");
}
