//! Status, health and numbers by HTTP and in a file, as who asks sees them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::process::Signal;

use crate::process::{NO_SINK, Running, SMALL, STDIN, Setup, lines, number, verb, wait_until};
use crate::prometheus::{Samples, read};

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

/// Reads an answer to its end.
pub fn answer(mut from: impl Read) -> Answer {
    let mut bytes = Vec::new();
    let _ = from.read_to_end(&mut bytes);
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    Answer {
        status: status.unwrap_or(0),
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

/// Asks with these lines besides.
pub fn ask_with(address: &str, path: &str, more: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{more}\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    answer(stream)
}

pub fn ask(address: &str, path: &str) -> Answer {
    ask_with(address, path, "")
}

/// Puts this under `service`.
pub fn with_service(setup: &Setup, service: &str) {
    let text = std::fs::read_to_string(&setup.config).unwrap();
    let text = text.replacen('{', &format!("{{\"service\": {service},"), 1);
    std::fs::write(&setup.config, text).unwrap();
}

pub const ANY_PORT: &str = r#"{"http": {"listen": "127.0.0.1:0"}, "stalledSecs": 1}"#;

/// Where it listens, as it says.
pub fn address(running: &Running) -> String {
    running.wait_for("status at http://");
    let err = running.err();
    let behind = err.split("status at http://").last().unwrap();
    behind.split('/').next().unwrap().to_owned()
}

fn samples(address: &str) -> Samples {
    let answer = ask(address, "/metrics");
    assert_eq!(answer.status, 200, "{answer:?}");
    let head = answer.head.to_ascii_lowercase();
    assert!(
        head.contains("content-type: text/plain; version=0.0.4"),
        "{head}"
    );
    read(&answer.body)
}

fn value(samples: &Samples, name: &str) -> u64 {
    let value = samples
        .get(name)
        .unwrap_or_else(|| panic!("{name} in {samples:?}"));
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let whole = *value as u64;
    whole
}

/// `G-119`: the numbers of `stats`, under names of their own, with help and type.
#[test]
fn metrics_are_the_numbers_of_stats_in_the_format_of_prometheus() {
    let setup = Setup::lines_to_file("metrics");
    with_service(&setup, ANY_PORT);
    let mut running = setup.serve(&[]);
    let address = address(&running);
    running.write(&lines(0..500));
    wait_until("delivery", || {
        number(&setup.stats(), "exportedTotal") == 500
    });
    let stats = setup.stats();
    let samples = samples(&address);
    let of_stream = "{stream=telemetry}";
    for (name, key) in [
        ("appended_total", "appendedTotal"),
        ("exported_total", "exportedTotal"),
        ("backlog", "backlog"),
        ("next_offset", "nextOffset"),
        ("corrupt_total", "corruptTotal"),
        ("written_bytes_total", "writtenBytes"),
        ("allocated_bytes", "allocatedBytes"),
    ] {
        let name = format!("forebay_stream_{name}{of_stream}");
        assert_eq!(value(&samples, &name), number(&stats, key), "{name}");
    }
    let sink = "sink=file,stream=telemetry";
    assert_eq!(
        value(&samples, &format!("forebay_sink_exported_total{{{sink}}}")),
        500
    );
    let states = samples.iter();
    let states: Vec<_> = states
        .filter(|(name, _)| name.starts_with("forebay_sink_state{"))
        .collect();
    assert_eq!(states.len(), 7);
    let sum: f64 = states.iter().map(|(_, value)| **value).sum();
    assert!((sum - 1.0).abs() < 0.01, "one state at a time: {states:?}");
    assert_eq!(value(&samples, "forebay_ready"), 1);
    assert_eq!(value(&samples, "forebay_health{state=ok}"), 1);
    // Each number of a stream and of a sink has its own.
    let object = stats.as_object().unwrap();
    let numbers = object.values().filter(|value| value.is_u64()).count();
    let families = samples
        .keys()
        .filter(|name| name.starts_with("forebay_stream_"));
    assert_eq!(families.count(), numbers + 1); // and the budget
    running.end().expect(0);
}

/// The names on the page are those that there are, and no other.
#[test]
fn the_names_of_metrics_are_those_of_the_page() {
    let setup = Setup::lines_to_file("metrics-names");
    with_service(&setup, ANY_PORT);
    let running = setup.serve(&[]);
    let text = ask(&address(&running), "/metrics").body;
    let page = std::fs::read_to_string("docs/service.md").unwrap();
    let on_page: Vec<_> = page
        .lines()
        .filter(|line| line.starts_with("| `forebay_"))
        .map(|line| {
            let cells: Vec<_> = line.split('|').map(str::trim).collect();
            (cells[1].trim_matches('`').to_owned(), cells[2].to_owned())
        })
        .collect();
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let there: Vec<_> = types
        .map(|line| {
            let (name, kind) = line.split_once(' ').unwrap();
            (name.to_owned(), kind.to_owned())
        })
        .collect();
    assert_eq!(on_page, there);
    running.end().expect(0);
}

#[test]
fn a_file_of_numbers_is_whole_whenever_it_is_read() {
    let setup = Setup::new("metrics-file", NO_SINK, SMALL, STDIN);
    let path = setup.scratch.join("forebay.prom");
    let service = format!("{{\"metrics\": {{\"path\": {path:?}, \"intervalMs\": 100}}}}");
    with_service(&setup, &service);
    let mut running = setup.serve(&[]);
    running.write(&lines(0..10));
    let name = "forebay_stream_appended_total{stream=telemetry}";
    let mut looks = 0;
    wait_until("the numbers", || {
        looks += 1;
        std::fs::read_to_string(&path).is_ok_and(|text| value(&read(&text), name) == 10)
    });
    for n in 1..200 {
        running.write(&lines(0..1));
        let text = std::fs::read_to_string(&path).unwrap();
        assert!((10..=10 + n).contains(&value(&read(&text), name)));
        std::thread::sleep(Duration::from_millis(2));
    }
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o444, 0o444);
    running.end().expect(0);
}

/// `L-23`, `L-115`: a link that is down is degraded and no more as long as there is room.
#[test]
fn health_follows_progress_and_readiness_the_process() {
    let setup = Setup::lines_to_file("health");
    with_service(&setup, ANY_PORT);
    std::fs::create_dir_all(setup.out()).unwrap();
    let mut running = setup.serve(&["--drain", "600"]);
    let address = address(&running);
    let health = || ask(&address, "/health");
    assert_eq!(health().body, "{\"health\":\"ok\",\"reasons\":[]}\n");
    assert_eq!(ask(&address, "/ready").body, "{\"ready\":true}\n");
    running.write(&lines(0..100));
    wait_until("the link to be seen down", || {
        health().body.contains("\"degraded\"")
    });
    // For longer than nothing may move otherwise.
    std::thread::sleep(Duration::from_millis(1500));
    let answer = health();
    assert_eq!(answer.status, 200);
    assert!(
        answer
            .body
            .contains("telemetry: sink file: the link is down; "),
        "{answer:?}"
    );
    std::fs::remove_dir(setup.out()).unwrap();
    wait_until("delivery", || health().body.contains("\"ok\""));
    assert_eq!(setup.delivered().len(), 100);
    std::fs::remove_file(setup.out()).unwrap();
    std::fs::create_dir_all(setup.out()).unwrap();
    // Nothing is ready any more, and the rest still answers.
    running.write(&lines(0..1));
    drop(running.input.take());
    wait_until("the end of readiness", || {
        ask(&address, "/ready").status == 503
    });
    assert!(ask(&address, "/ready").body.contains("it is stopping"));
    assert_eq!(
        samples(&address)["forebay_ready"].total_cmp(&0.0),
        std::cmp::Ordering::Equal
    );
    running.signal(Signal::TERM);
    running.wait().expect(0);
}

/// `L-23`, `L-82`: a sink that is said to work and takes nothing is no good health.
#[test]
fn records_that_wait_while_the_link_is_up_are_bad_health_after_a_time() {
    let setup = Setup::new("stalled", r#"{"type": "stdout"}"#, SMALL, STDIN);
    with_service(&setup, ANY_PORT);
    let (mut running, pipe) = Running::start_with_pipe(&mut setup.run(&["--deadline", "1"]));
    let address = address(&running);
    running.wait_for("serving");
    // More than a pipe holds, and nobody reads it.
    running.write(&lines(0..5000));
    wait_until("bad health", || ask(&address, "/health").status == 503);
    let body = ask(&address, "/health").body;
    assert!(
        body.contains("\"unhealthy\"") && body.contains("none was accepted for "),
        "{body}"
    );
    let reader = std::thread::spawn(move || answer(pipe));
    wait_until("good health", || ask(&address, "/health").status == 200);
    running.signal(Signal::TERM);
    running.wait().expect(0);
    drop(reader);
}

#[test]
fn a_token_is_asked_for_where_others_can_reach_the_address() {
    let setup = Setup::new("token", NO_SINK, SMALL, STDIN);
    with_service(&setup, r#"{"http": {"listen": "0.0.0.0:0"}}"#);
    let ended = verb("run", &setup.config, &[]).expect(2);
    assert!(
        ended
            .err
            .contains("\"token\" is missing: others can reach the address")
    );

    let setup = Setup::new("token-there", NO_SINK, SMALL, STDIN);
    let token = "0123456789abcdef";
    with_service(
        &setup,
        &format!(r#"{{"http": {{"listen": "127.0.0.1:0", "token": "{token}"}}}}"#),
    );
    let running = setup.serve(&[]);
    let address = address(&running);
    for path in ["/health", "/ready", "/metrics", "/", "/nothing"] {
        let refused = ask(&address, path);
        assert_eq!(refused.status, 401, "{path}");
        assert!(
            refused.head.contains("WWW-Authenticate: Basic"),
            "{refused:?}"
        );
    }
    let bearer = format!("Authorization: Bearer {token}\r\n");
    assert_eq!(ask_with(&address, "/health", &bearer).status, 200);
    // me:0123456789abcdef
    let basic = "Authorization: Basic bWU6MDEyMzQ1Njc4OWFiY2RlZg==\r\n";
    assert_eq!(ask_with(&address, "/health", basic).status, 200);
    let wrong = "Authorization: Bearer 0123456789abcdeX\r\n";
    assert_eq!(ask_with(&address, "/health", wrong).status, 401);
    assert!(!running.err().contains(token));
    running.end().expect(0);
}

/// A page of somebody else's, shown by a browser on this machine, gets nothing by a name that it lets point here.
#[test]
fn a_name_that_somebody_lets_point_here_gets_nothing() {
    let setup = Setup::new("rebind", NO_SINK, SMALL, STDIN);
    with_service(&setup, ANY_PORT);
    let running = setup.serve(&[]);
    let address = address(&running);
    let mut stream = TcpStream::connect(&address).unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n")
        .unwrap();
    assert_eq!(answer(stream).status, 403);
    running.end().expect(0);
}

#[test]
fn a_unix_socket_is_for_its_owner_and_outlives_no_run() {
    let setup = Setup::new("unix", NO_SINK, SMALL, STDIN);
    let path = setup.scratch.join("http.socket");
    with_service(
        &setup,
        &format!(r#"{{"http": {{"listen": "unix:{}"}}}}"#, path.display()),
    );
    // What a run that was killed left behind is replaced.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let running = setup.serve(&[]);
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(b"GET /ready HTTP/1.1\r\n\r\n").unwrap();
    assert_eq!(answer(stream).status, 200);
    // Somebody else's is not.
    let other = Setup::new("unix-other", NO_SINK, SMALL, STDIN);
    with_service(
        &other,
        &format!(r#"{{"http": {{"listen": "unix:{}"}}}}"#, path.display()),
    );
    let ended = verb("run", &other.config, &[]).expect(1);
    assert!(ended.err.contains("listen for HTTP"), "{ended:?}");
    running.end().expect(0);
    assert!(!path.exists());
}
