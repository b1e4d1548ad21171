//! Where credentials come from, and what happens when they end.

use std::ffi::OsString;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use forebay::counters::SinkState;
use forebay::storage::Surroundings;
use forebay::{Config, Engine};

use super::delivery::Run;
use super::server::Server;
use super::signature::Key;
use crate::common::{Scratch, wait_until};

const DELIVERY: &str = r#","delivery":{"backoffBaseMs":1,"backoffMaxMs":50}"#;

/// `L-111`, `G-038`: a profile file is read again when the service refuses what it said; nothing is lost and
/// nothing needs a restart.
#[test]
fn a_profile_is_read_again_when_its_keys_have_ended() {
    let (scratch, server) = (Scratch::new("kinesis-profile"), Server::new());
    let file = scratch.join("credentials");
    let write = |id: &str, secret: &str| {
        let text = format!("[gw]\naws_access_key_id={id}\naws_secret_access_key={secret}\n");
        std::fs::write(&file, text).unwrap();
    };
    let credentials = format!(
        r#","credentials":{{"type":"profile","profile":"gw","file":"{}"}}"#,
        file.display()
    );
    // It is not there yet: that is a state, not an error at open.
    let run = Run::open(&scratch, &server.stream(&credentials, DELIVERY));
    run.append(0..3);
    wait_until("a state", || run.state() == SinkState::Auth);
    assert!(
        run.error().contains("profile gw: no credentials"),
        "{}",
        run.error()
    );
    write("AKID", "hunter2secret");
    run.drained();
    // They end, and others are written: the next request finds them.
    server.state().keys = vec![Key::new("NEXT", "other", None)];
    write("NEXT", "other");
    run.append(3..6);
    run.drained();
    assert_eq!(server.payloads(), ["0", "1", "2", "3", "4", "5"]);
    assert_eq!(server.state().refused, ["UnrecognizedClientException"]);
    assert_eq!(run.stream.stats().failed_total, 0);
}

/// `G-038`, `L-111`: nothing that the log says shows a secret, whatever goes wrong.
#[test]
fn no_secret_is_logged() {
    static LINES: Mutex<String> = Mutex::new(String::new());
    struct Lines;
    impl log::Log for Lines {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &log::Record<'_>) {
            let mut lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
            *lines += &format!("{} {}\n", record.target(), record.args());
        }
        fn flush(&self) {}
    }
    log::set_logger(&Lines).unwrap();
    // Below this the client writes down each byte of its connections.
    log::set_max_level(log::LevelFilter::Debug);
    let (scratch, server) = (Scratch::new("kinesis-secrets"), Server::new());
    server.state().keys = vec![Key::new("AKID", "another", Some("token-of-7"))];
    let credentials = r#","credentials":{"type":"static","accessKeyId":"AKID",
        "secretAccessKey":"hunter2-is-it","sessionToken":"token-of-7"}"#;
    let run = Run::open(&scratch, &server.stream(credentials, DELIVERY));
    run.append(0..3);
    wait_until("a state", || run.state() == SinkState::Auth);
    server.state().keys = vec![Key::new("AKID", "hunter2-is-it", Some("token-of-7"))];
    run.drained();
    let lines = LINES.lock().unwrap().clone();
    assert!(lines.contains("the sink is not served"), "{lines}");
    assert!(
        lines.contains("ureq"),
        "the client's own lines are looked at, too"
    );
    for secret in ["hunter2-is-it", "token-of-7"] {
        let shown = lines.lines().find(|line| line.contains(secret));
        assert_eq!(shown, None);
    }
}

/// `G-038`, `L-109`: a container's endpoint gives keys that end; they are renewed ahead of that, and at once
/// when the service says so. The token comes from a file that is read each time.
#[test]
fn a_container_gives_keys_and_renews_them() {
    let (scratch, server) = (Scratch::new("kinesis-container"), Server::new());
    let token = scratch.join("token");
    std::fs::write(&token, "token-1\n").unwrap();
    let given = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&given);
    let file = token.clone();
    server.state().pages = Box::new(move |request| {
        if request.path != "/creds" {
            return None;
        }
        let token = std::fs::read_to_string(&file).unwrap();
        if request.header("authorization") != token.trim() {
            return Some((403, Vec::new(), r#"{"code":"no"}"#.to_owned()));
        }
        let n = count.fetch_add(1, Ordering::Relaxed) + 1;
        let body = format!(
            r#"{{"AccessKeyId":"C{n}","SecretAccessKey":"s{n}","Token":"t{n}","Expiration":"2999-01-01T00:00:00Z"}}"#
        );
        Some((200, Vec::new(), body))
    });
    server.state().keys = vec![Key::new("C1", "s1", Some("t1"))];
    let around = Around(vec![
        (
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            format!("http://127.0.0.1:{}/creds", server.port),
        ),
        (
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
            token.display().to_string(),
        ),
    ]);
    let run = open(
        &scratch,
        &server,
        r#","credentials":{"type":"container"}"#,
        &around,
    );
    run.append(0..3);
    run.drained();
    // The service has had enough of them, and the container's token is another one.
    server.state().keys = vec![Key::new("C2", "s2", Some("t2"))];
    std::fs::write(&token, "token-2").unwrap();
    run.append(3..6);
    run.drained();
    assert_eq!(server.payloads().len(), 6);
    assert_eq!(server.state().refused, ["UnrecognizedClientException"]);
    assert_eq!(
        (
            given.load(Ordering::Relaxed),
            run.stream.stats().retries_total
        ),
        (2, 0)
    );
}

/// `G-038`: the metadata service of an instance, version 2, found at the end of the default chain; what it
/// says of a role that may not be had is a state.
#[test]
fn an_instance_gives_keys_by_its_role() {
    let (scratch, server) = (Scratch::new("kinesis-instance"), Server::new());
    let is_ready = Arc::new(AtomicU64::new(0));
    let ready = Arc::clone(&is_ready);
    server.state().pages = Box::new(move |request| {
        const ROLE: &str = "/latest/meta-data/iam/security-credentials/";
        if !request.path.starts_with("/latest") {
            return None;
        }
        let ttl = "x-aws-ec2-metadata-token-ttl-seconds";
        if (request.method.as_str(), request.path.as_str()) == ("PUT", "/latest/api/token") {
            let headers = vec![(ttl, request.header(ttl).to_owned())];
            return Some((200, headers, "session-7".to_owned()));
        }
        if request.header("x-aws-ec2-metadata-token") != "session-7" {
            return Some((401, Vec::new(), String::new()));
        }
        let body = match (
            request.path.strip_prefix(ROLE),
            ready.load(Ordering::Relaxed),
        ) {
            (Some(""), _) => "gateway\n".to_owned(),
            (Some("gateway"), 0) => r#"{"Code":"AssumeRoleUnauthorizedAccess"}"#.to_owned(),
            (Some("gateway"), _) => {
                let keys = r#""AccessKeyId":"AKID","SecretAccessKey":"hunter2secret","Token":"t""#;
                format!(
                    r#"{{"Code":"Success","Type":"AWS-HMAC",{keys},"Expiration":"2020-01-01T00:00:00Z"}}"#
                )
            }
            _ => return Some((404, Vec::new(), String::new())),
        };
        Some((200, Vec::new(), body))
    });
    server.state().keys = vec![Key::new("AKID", "hunter2secret", Some("t"))];
    let base = format!("http://127.0.0.1:{}", server.port);
    let around = Around(vec![
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT", base),
        ("HOME", scratch.join("nobody").display().to_string()),
    ]);
    let run = open(
        &scratch,
        &server,
        r#","credentials":{"type":"default"}"#,
        &around,
    );
    run.append(0..3);
    wait_until("a state", || run.state() == SinkState::Auth);
    let error = "no credentials were found; at last: the metadata service says AssumeRoleUnauthorizedAccess";
    assert_eq!(run.error(), error);
    // What it gives then counts although our clock says that it has ended: the service decides.
    is_ready.store(1, Ordering::Relaxed);
    run.drained();
    assert_eq!(server.payloads(), ["0", "1", "2"]);
}

/// An environment of the test's own.
pub struct Around(pub Vec<(&'static str, String)>);

impl Surroundings for Around {
    fn variable(&self, name: &str) -> Option<OsString> {
        let mut found = self.0.iter().filter(|(known, _)| *known == name);
        found.next().map(|(_, value)| value.into())
    }

    fn host_name(&self) -> Option<String> {
        None
    }
}

fn open(scratch: &Scratch, server: &Server, sink: &str, around: &Around) -> Run {
    let text = scratch.document(&server.stream(sink, DELIVERY));
    let config = Config::from_json_in(&text, around).unwrap();
    let engine = Engine::open(&config).unwrap();
    let stream = engine.stream("telemetry").unwrap();
    Run { engine, stream }
}
