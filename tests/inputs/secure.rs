//! A broker with TLS: who trusts whom, and what is said when they do not.
//!
//! The certificates in `tests/fixtures/tls` were made for these tests by an authority whose key is gone.

use rustix::process::Signal;

use crate::broker::{Broker, Publisher};
use crate::client::{storing_with, wait_for};
use crate::process::{Setup, number, payloads, wait_until};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/tls");

/// A broker with TLS at one port and without at another, and a process that takes what is published there.
fn with_secure_broker(name: &str, host: &str, conf: &str, tls: &str) -> (Setup, Broker) {
    let (mut setup, ()) = storing_with(name, |_| (String::new(), ()));
    let secure = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = secure.local_addr().unwrap().port();
    drop(secure);
    let conf = format!(
        "allow_anonymous true\nlistener {port} 127.0.0.1\ncafile {FIXTURES}/ca.pem\n\
         certfile {FIXTURES}/server.pem\nkeyfile {FIXTURES}/server.key\n{conf}"
    );
    let broker = Broker::start(&setup.scratch, &conf);
    let input = format!(
        r##"{{"type": "mqtt", "stream": "telemetry", "address": "{host}:{port}", "clientId": "forebay",
            "topics": ["#"], "tls": {{{tls}}}}}"##
    );
    let text = std::fs::read_to_string(&setup.config).unwrap();
    let text = text.replacen(r#""inputs": []"#, &format!(r#""inputs": [{input}]"#), 1);
    setup.config = setup.scratch.write("forebay.json", text);
    (setup, broker)
}

fn trust(ca: &str) -> String {
    format!(r#""caFile": "{FIXTURES}/{ca}.pem""#)
}

/// All that is published arrives, over several reads and writes of TLS, and a lost broker is found again.
#[test]
fn messages_come_over_tls_from_a_broker_with_its_own_authority() {
    let (setup, mut broker) = with_secure_broker(
        "mqtt-tls",
        "localhost",
        "max_inflight_messages 200",
        &trust("ca"),
    );
    let running = setup.serve(&[]);
    running.wait_for("input mqtt: listening at localhost:");
    let long = "x".repeat(200_000);
    let mut wanted = Vec::new();
    for round in 0..2 {
        let mut publisher = Publisher::new(&broker, None);
        let short: Vec<_> = (0..500).map(|n| format!("{round}-{n}")).collect();
        for payload in short.iter().chain([&long]) {
            publisher.publish(1, &[("a", payload)]);
        }
        wanted.extend(short);
        wanted.push(long.clone());
        let count = wanted.len() as u64;
        wait_for(&setup, count);
        drop(publisher);
        if round == 0 {
            broker.stop(true);
            broker.start_again();
            wait_until("the connection", || {
                running.err().matches("listening at").count() == 2
            });
        }
    }
    running.signal(Signal::TERM);
    running.wait().expect(0);
    let stored = setup.stored();
    let mut found = payloads(&stored);
    // What was under way when the broker ended may be there twice.
    found.dedup();
    assert!(found == wanted, "{} of {}", found.len(), wanted.len());
}

#[test]
fn a_broker_that_wants_a_certificate_gets_one_and_its_name_is_that_of_the_client() {
    let conf = "require_certificate true\nuse_identity_as_username true";
    let shown = format!(
        r#"{}, "certificateFile": "{FIXTURES}/device.pem", "keyFile": "{FIXTURES}/device.key""#,
        trust("ca")
    );
    let (setup, broker) = with_secure_broker("mqtt-tls-device", "localhost", conf, &shown);
    let running = setup.serve(&[]);
    running.wait_for("input mqtt: listening at localhost:");
    Publisher::new(&broker, None).publish(1, &[("a", "1")]);
    wait_until("the record", || {
        number(&setup.stats(), "durableOffset") == 1
    });
    running.signal(Signal::TERM);
    running.wait().expect(0);
    drop(broker);

    let (setup, _broker) = with_secure_broker("mqtt-tls-nobody", "localhost", conf, &trust("ca"));
    let running = setup.serve(&[]);
    running.wait_for("received fatal alert");
    running.wait_for("tried again in ");
    assert!(!running.err().contains("listening at"), "{}", running.err());
}

/// Each with what the log says of it; nothing is sent to such a broker.
#[test]
fn a_broker_that_cannot_prove_who_it_is_gets_no_connection() {
    for (name, host, tls, said) in [
        ("authority", "localhost", trust("other-ca"), "UnknownIssuer"),
        ("name", "127.0.0.1", trust("ca"), "not valid for name"),
        ("default", "localhost", String::new(), "UnknownIssuer"),
        (
            "file",
            "localhost",
            r#""caFile": "/nowhere/ca.pem""#.to_owned(),
            "/nowhere/ca.pem: ",
        ),
    ] {
        let name = format!("mqtt-tls-{name}");
        let (setup, _broker) = with_secure_broker(&name, host, "", &tls);
        let running = setup.serve(&[]);
        running.wait_for(said);
        running.wait_for("tried again in ");
        assert!(!running.err().contains("listening at"), "{}", running.err());
        running.signal(Signal::TERM);
        running.wait().expect(0);
    }
}
