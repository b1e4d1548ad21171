//! Where credentials come from, and what happens when they end.

use std::sync::{Mutex, PoisonError};

use forebay::counters::SinkState;

use super::delivery::Run;
use super::server::Server;
use super::signature::Key;
use crate::common::{Scratch, wait_until};

const DELIVERY: &str = r#","delivery":{"backoffBaseMs":1,"backoffMaxMs":50}"#;

/// `L-109`, `G-038`: a profile file is read again when the service refuses what it said; nothing is lost and
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
