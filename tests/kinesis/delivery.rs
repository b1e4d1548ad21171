//! What arrives, in which requests, and what is said about it.

use std::time::Duration;

use forebay::counters::SinkState;
use forebay::{Code, Config, Engine, Stream};

use super::credentials::Around;
use super::server::{Act, Server};
use crate::common::{LIMIT, Scratch, wait_until};

/// An engine that delivers to a server.
pub struct Run {
    pub engine: Engine,
    pub stream: Stream,
}

impl Run {
    pub fn open(scratch: &Scratch, stream: &str) -> Self {
        let engine = Engine::open(&scratch.config(stream)).unwrap();
        let stream = engine.stream("telemetry").unwrap();
        Self { engine, stream }
    }

    pub fn append(&self, range: std::ops::Range<u64>) {
        for n in range {
            let payload = format!("{n}");
            self.stream
                .append(b"pump-7", n, payload.as_bytes())
                .unwrap();
        }
    }

    pub fn drained(&self) {
        self.stream.flush(LIMIT).unwrap();
        wait_until("delivery", || self.stream.stats().backlog == 0);
    }

    pub fn state(&self) -> SinkState {
        self.stream.stats().sinks[0].state
    }

    pub fn is_served(&self) -> bool {
        matches!(self.state(), SinkState::Ok | SinkState::Idle)
    }

    pub fn error(&self) -> String {
        self.stream.stats().sinks[0]
            .last_export_error
            .as_str()
            .to_owned()
    }
}

fn numbers(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

/// `G-035`, `G-037`: signed requests to a configured address, over one connection; each record once, in order.
#[test]
fn records_arrive_once_and_in_order() {
    let (scratch, server) = (Scratch::new("kinesis"), Server::new());
    let run = Run::open(&scratch, &server.stream("", ""));
    run.append(0..2000);
    run.drained();
    assert_eq!(server.payloads(), numbers(0..2000));
    let stats = run.stream.stats();
    assert_eq!((stats.exported_total, stats.retries_total), (2000, 0));
    assert!(run.is_served());
    let state = server.state();
    assert_eq!((state.connections, &state.refused[..]), (1, &[][..]));
    assert!(state.taken.iter().all(|taken| taken.key == "pump-7"));
    assert!(state.requests.iter().all(|count| *count <= 500));
}

/// `G-040`, `L-87`, `L-S2`: only what failed is sent again, and nothing arrives twice.
#[test]
fn only_failed_records_are_sent_again() {
    let (scratch, server) = (Scratch::new("kinesis-partly"), Server::new());
    let mut count = 0;
    server.script(move |body| {
        count += 1;
        let len = body["Records"].as_array().unwrap().len();
        let slow = "ProvisionedThroughputExceededException";
        match count % 3 {
            0 => Act::Take,
            1 => Act::Partly((0..len).step_by(3).map(|at| (at, slow)).collect()),
            _ => Act::Partly(
                (0..len)
                    .step_by(2)
                    .map(|at| (at, "InternalFailure"))
                    .collect(),
            ),
        }
    });
    let run = Run::open(
        &scratch,
        &server.stream("", r#","delivery":{"backoffBaseMs":1,"backoffMaxMs":2}"#),
    );
    run.append(0..1000);
    run.drained();
    let mut payloads = server.payloads();
    payloads.sort_by_key(|text| text.parse::<u64>().unwrap());
    assert_eq!(payloads, numbers(0..1000));
    assert!(run.stream.stats().retries_total > 0);
}

/// `L-115`: throttling, credentials, configuration and link are told apart, each with the service's words.
#[test]
fn each_trouble_has_its_state() {
    for (act, state, error) in [
        (
            Act::Refuse(400, "ProvisionedThroughputExceededException"),
            SinkState::Throttled,
            "ProvisionedThroughputExceededException: no",
        ),
        (
            Act::Refuse(403, "AccessDeniedException"),
            SinkState::Auth,
            "AccessDeniedException: no",
        ),
        (
            Act::Refuse(400, "ResourceNotFoundException"),
            SinkState::Config,
            "ResourceNotFoundException: no",
        ),
        (
            Act::Refuse(500, "InternalFailure"),
            SinkState::Link,
            "InternalFailure: no",
        ),
        (
            Act::Say(200, "<html>Sign in</html>".to_owned()),
            SinkState::Link,
            "the answer cannot be read",
        ),
        (
            Act::Say(302, String::new()),
            SinkState::Link,
            "the answer's status is 302",
        ),
        (Act::Cut, SinkState::Link, ""),
    ] {
        let (scratch, server) = (Scratch::new("kinesis-states"), Server::new());
        let trouble = act.clone();
        server.script(move |_| trouble.clone());
        let delivery = r#","delivery":{"backoffBaseMs":1,"backoffMaxMs":20}"#;
        let run = Run::open(&scratch, &server.stream("", delivery));
        run.append(0..3);
        wait_until("a state", || run.state() == state);
        assert!(run.error().starts_with(error), "{}", run.error());
        assert_eq!(server.payloads(), [""; 0]);
        server.script(|_| Act::Take);
        run.drained();
        assert!(run.is_served(), "{act:?}");
        assert_eq!(server.payloads(), numbers(0..3), "{act:?}");
    }
}

/// `L-S10`: what the service refuses for good is found by halves and set aside; the others arrive once.
#[test]
fn a_record_that_is_refused_for_good_is_isolated() {
    let (scratch, server) = (Scratch::new("kinesis-poison"), Server::new());
    server.script(|body| {
        let records = body["Records"].as_array().unwrap();
        let is_bad =
            |data: &&serde_json::Value| ["MTc=", "NDI="].contains(&data["Data"].as_str().unwrap());
        match records.iter().find(is_bad) {
            Some(_) => Act::Refuse(400, "InvalidArgumentException"), // 17 or 42
            None => Act::Take,
        }
    });
    let run = Run::open(
        &scratch,
        &server
            .stream("", r#","batch":{"maxLatencyMs":300}"#)
            .replace(r#""batch":{"maxLatencyMs":5},"#, ""),
    );
    run.append(0..100);
    run.drained();
    let expected: Vec<_> = numbers(0..100)
        .into_iter()
        .filter(|text| text != "17" && text != "42")
        .collect();
    assert_eq!(server.payloads(), expected);
    let stats = run.stream.stats();
    assert_eq!((stats.failed_total, stats.exported_total), (2, 98));
    assert!(
        run.error().starts_with("InvalidArgumentException"),
        "{}",
        run.error()
    );
    assert!(
        server.state().requests.len() < 40,
        "by halves, not one by one"
    );
}

/// Where nothing was ever taken, the records are not at fault: a wrong setting makes no dead letters.
#[test]
fn what_is_refused_from_the_start_is_kept() {
    let (scratch, server) = (Scratch::new("kinesis-refused"), Server::new());
    server.script(|_| Act::Refuse(400, "ValidationException"));
    let run = Run::open(
        &scratch,
        &server.stream("", r#","delivery":{"backoffMaxMs":100}"#),
    );
    run.append(0..3);
    wait_until("a state", || run.state() == SinkState::Config);
    assert_eq!(run.stream.stats().failed_total, 0);
    server.script(|_| Act::Take);
    run.drained();
    assert_eq!(server.payloads(), numbers(0..3));
}

/// `G-039`, `G-042`, `L-95`: what is too long never leaves, and keys that the service refuses are mapped.
#[test]
fn long_records_are_set_aside_and_odd_keys_are_mapped() {
    let (scratch, server) = (Scratch::new("kinesis-long"), Server::new());
    server.state().record_bytes_max = 1000;
    let run = Run::open(&scratch, &server.stream(r#","maxRecordBytes":1000"#, ""));
    run.stream.append(b"k", 0, &[b'x'; 999]).unwrap();
    run.stream.append(b"k", 0, &[b'y'; 1000]).unwrap();
    run.stream.append(b"\xff\xfe", 0, b"z").unwrap();
    run.stream.append(b"", 0, b"z").unwrap();
    run.stream.append(&[b'k'; 300], 0, b"z").unwrap();
    run.drained();
    let stats = run.stream.stats();
    assert_eq!((stats.failed_total, stats.exported_total), (1, 4));
    assert_eq!(stats.sinks[0].keys_mapped, 3);
    let state = server.state();
    assert_eq!(state.refused, [""; 0]);
    assert_eq!(
        (state.taken[0].data.len(), state.taken[1].key.as_str()),
        (999, "hex:fffe")
    );
}

/// Several lanes deliver at the same time where no order is asked for.
#[test]
fn lanes_deliver_side_by_side() {
    let (scratch, server) = (Scratch::new("kinesis-lanes"), Server::new());
    server.script(|_| {
        std::thread::sleep(Duration::from_millis(1));
        Act::Take
    });
    let delivery = r#","delivery":{"ordering":"none","maxInFlight":4}"#;
    let run = Run::open(
        &scratch,
        &server.stream(r#","maxRequestRecords":20"#, delivery),
    );
    run.append(0..2000);
    run.drained();
    let mut payloads = server.payloads();
    payloads.sort_by_key(|text| text.parse::<u64>().unwrap());
    assert_eq!(payloads, numbers(0..2000));
    assert!((1..=4).contains(&server.state().connections));
}

/// The round trip of 300 ms is not the limit: four lanes take a third of the time of one at most, and send eight
/// tenths of what four lanes, ten records and this round trip allow. On a machine that has much else to do, one
/// of five attempts.
#[test]
fn four_lanes_hide_a_long_way() {
    let took = |lanes: u32| {
        let (scratch, server) = (Scratch::new("kinesis-far"), Server::new());
        server.script(|_| Act::TakeAndWait(Duration::from_millis(300)));
        let delivery = format!(r#","delivery":{{"ordering":"none","maxInFlight":{lanes}}}"#);
        let run = Run::open(
            &scratch,
            &server.stream(r#","maxRequestRecords":10"#, &delivery),
        );
        let began = std::time::Instant::now();
        run.append(0..160);
        run.drained();
        assert_eq!(run.stream.stats().retries_total, 0);
        began.elapsed()
    };
    let one = took(1);
    let best = Duration::from_millis(300) * 160 / 4 / 10;
    let is_full =
        |four: &Duration| one >= *four * 3 && best.as_secs_f64() >= four.as_secs_f64() * 0.8;
    let four = (0..5).map(|_| took(4)).find(is_full);
    println!("{one:?} with one lane, {four:?} with four");
    assert!(four.is_some(), "{one:?}");
}

/// `G-016`: what is missing is named; what is secret is not.
#[test]
fn a_configuration_is_refused_or_shown_without_secrets() {
    let sink = |more: &str| {
        let sink = format!(r#"{{"type":"kinesis","streamName":"s","region":"eu-west-1"{more}}}"#);
        Config::from_json(&format!(r#"{{"streams":[{{"name":"s","sink":{sink}}}]}}"#))
    };
    let keys = r#","credentials":{"type":"static","accessKeyId":"AKID","secretAccessKey":"hunter2",
        "sessionToken":"token7"},"proxy":"http://me:hunter2@proxy:3128""#;
    let config = sink(keys).unwrap();
    for text in [config.to_json(), format!("{config:?}")] {
        assert!(
            !text.contains("hunter2") && !text.contains("token7"),
            "{text}"
        );
    }
    for (more, rule) in [
        (r#","endpointUrl":"kinesis.local""#, "must be an address"),
        (
            r#","credentials":{"type":"iot"}"#,
            "\"endpoint\" is missing",
        ),
        (
            r#","credentials":{"type":"static","profile":"x"}"#,
            "\"accessKeyId\" is missing",
        ),
    ] {
        let error = sink(more).unwrap_err();
        assert_eq!(error.code(), Code::Config);
        assert!(error.to_string().contains(rule), "{error}");
    }
}

/// `G-036`: settings, then the environment, then the shared files, then the endpoint for things.
#[test]
fn the_region_is_looked_for_where_it_may_stand() {
    let scratch = Scratch::new("kinesis-region");
    let file = scratch.join("config");
    std::fs::write(&file, "[default]\nregion = eu-central-1\n").unwrap();
    let in_file = ("AWS_CONFIG_FILE", file.display().to_string());
    let variable = |name, value: &str| (name, value.to_owned());
    let iot = r#","credentials":{"type":"iot","endpoint":"c1.credentials.iot.eu-north-1.amazonaws.com",
        "roleAlias":"a","certificateFile":"c","keyFile":"k"}"#;
    let of = |more: &str, variables: Vec<(&'static str, String)>| {
        let sink = format!(r#"{{"type":"kinesis","streamName":"s"{more}}}"#);
        let text = format!(r#"{{"streams":[{{"name":"s","sink":{sink}}}]}}"#);
        let config = Config::from_json_in(&text, &Around(variables));
        config
            .map(|config| config.to_json())
            .map_err(|error| error.to_string())
    };
    let default = variable("AWS_DEFAULT_REGION", "us-west-2");
    let region = variable("AWS_REGION", "us-east-1");
    for (more, variables, expected) in [
        (
            r#","region":"eu-west-1""#,
            vec![region.clone()],
            "eu-west-1",
        ),
        ("", vec![default.clone(), region], "us-east-1"),
        (iot, vec![default, in_file.clone()], "us-west-2"),
        (iot, vec![in_file], "eu-central-1"),
        (iot, Vec::new(), "eu-north-1"),
    ] {
        let text = of(more, variables).unwrap();
        assert!(
            text.contains(&format!("\"region\": \"{expected}\"")),
            "{text}"
        );
    }
    assert!(
        of("", Vec::new())
            .unwrap_err()
            .contains("\"region\" is missing")
    );
}

/// The example of the documents is taken as it is.
#[test]
#[cfg(feature = "cli")]
fn the_example_is_checked() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/examples/kinesis.json");
    let forebay = env!("CARGO_BIN_EXE_forebay");
    let checked = std::process::Command::new(forebay)
        .args(["check", example])
        .output()
        .unwrap();
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
}
