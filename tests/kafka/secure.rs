//! TLS, passwords, certificates and rights, with a broker that asks for them.

use super::shared::fixture;
use super::{Gateway, assert_complete, shared, wait_long};

/// Fields of a sink that trusts an authority, with more properties.
fn sink(protocol: &str, authority: &str, more: &[(&str, &str)]) -> String {
    let mut text = format!(
        r#", "properties": {{"broker.address.family": "v4", "security.protocol": "{protocol}",
             "ssl.ca.location": {:?}"#,
        fixture(authority)
    );
    for (name, value) in more {
        text += &format!(r#", "{name}": "{value}""#);
    }
    text + "}"
}

fn password<'a>(mechanism: &'a str, user: &'a str, password: &'a str) -> [(&'a str, &'a str); 3] {
    [
        ("sasl.mechanism", mechanism),
        ("sasl.username", user),
        ("sasl.password", password),
    ]
}

/// Passwords by PLAIN and by SCRAM, and certificates on both sides.
#[test]
fn records_arrive_over_tls_with_passwords_and_with_certificates() {
    let Some(shared) = shared::broker() else {
        return;
    };
    let (certificate, key) = (fixture("device.pem"), fixture("device.key"));
    let own = [
        ("ssl.certificate.location", certificate.to_str().unwrap()),
        ("ssl.key.location", key.to_str().unwrap()),
    ];
    let ways = [
        (
            "plain",
            shared.password,
            sink(
                "sasl_ssl",
                "ca.pem",
                &password("PLAIN", "plain", "plain-password"),
            ),
        ),
        (
            "scram",
            shared.password,
            sink(
                "sasl_ssl",
                "ca.pem",
                &password("SCRAM-SHA-512", "scram", "scram-password"),
            ),
        ),
        (
            "certificate",
            shared.certificate,
            sink("ssl", "ca.pem", &own),
        ),
    ];
    for (topic, port, sink) in ways {
        let address = format!("localhost:{port}");
        let gateway = Gateway::open_to(&address, topic, &sink);
        gateway.append(0..500);
        gateway.wait_for(500);
        gateway.close();
        assert_complete(&shared.broker.read(topic, 500), 500);
    }
}

/// `L-115`: who has to act is told apart, nothing is lost meanwhile, and nothing is sent to a stranger.
#[test]
fn wrong_passwords_and_strange_brokers_are_states_of_their_own() {
    let Some(shared) = shared::broker() else {
        return;
    };
    let good = password("SCRAM-SHA-512", "scram", "scram-password");
    let wrong = password("SCRAM-SHA-512", "scram", "another-password");
    let unknown = password("PLAIN", "nobody", "plain-password");
    let cases = [
        (
            "wrong",
            "localhost",
            shared.password,
            sink("sasl_ssl", "ca.pem", &wrong),
            "auth",
        ),
        (
            "unknown",
            "localhost",
            shared.password,
            sink("sasl_ssl", "ca.pem", &unknown),
            "auth",
        ),
        (
            "stranger",
            "localhost",
            shared.password,
            sink("sasl_ssl", "other-ca.pem", &good),
            "config",
        ),
        (
            "name",
            "127.0.0.1",
            shared.password,
            sink("sasl_ssl", "ca.pem", &good),
            "config",
        ),
        (
            "nameless",
            "localhost",
            shared.certificate,
            sink("ssl", "ca.pem", &[]),
            "auth",
        ),
    ];
    for (name, host, port, sink, state) in cases {
        let address = format!("{host}:{port}");
        let gateway = Gateway::open_to(&address, "secret", &sink);
        gateway.append(0..10);
        wait_long(&format!("{name}: {state}"), || gateway.state() == state);
        assert_eq!(gateway.acked(), 0, "{name}");
        gateway.close();
    }
    // Nothing is there but what was sent by somebody whom the broker knows.
    let gateway = Gateway::open("secret", shared.broker.port, "");
    gateway.append(0..1);
    gateway.wait_for(1);
    gateway.close();
    assert_complete(&shared.broker.read("secret", 1), 1);
}

/// `L-115`: without a right it is the state `auth`, and nothing is lost: when the right is given, all is
/// delivered. So it is with the right to write to a topic, and with those that transactions need.
#[test]
fn rights_that_are_missing_are_a_state_and_lose_nothing() {
    let Some(shared) = shared::broker() else {
        return;
    };
    let acl = |args: &[&str]| shared.broker.ask("org.apache.kafka.tools.AclCommand", args);
    let user = password("PLAIN", "plain", "plain-password");
    let plain = sink("sasl_ssl", "ca.pem", &user);
    let once = plain.clone() + r#", "exactlyOnce": true"#;
    let ways = [
        ("guarded", &plain, vec!["--topic", "guarded"]),
        (
            "guarded-once",
            &once,
            vec![
                "--transactional-id",
                "forebay-",
                "--resource-pattern-type",
                "prefixed",
            ],
        ),
        (
            "guarded-group",
            &once,
            vec!["--group", "forebay-", "--resource-pattern-type", "prefixed"],
        ),
    ];
    for (topic, sink, resource) in ways {
        // What one may do, no other may.
        let other = ["--allow-principal", "User:another", "--operation", "All"];
        let ours = ["--allow-principal", "User:plain", "--operation", "All"];
        acl(&[&["--add"], &other[..], &resource].concat());
        let address = format!("localhost:{}", shared.password);
        let gateway = Gateway::open_to(&address, topic, sink);
        gateway.append(0..200);
        wait_long(topic, || gateway.state() == "auth");
        assert_eq!(
            (gateway.acked(), gateway.stream.stats().failed_total),
            (0, 0),
            "{topic}"
        );
        acl(&[&["--add"], &ours[..], &resource].concat());
        gateway.wait_for(200);
        assert!(
            ["ok", "idle"].contains(&gateway.state().as_str()),
            "{topic}"
        );
        gateway.close();
        acl(&[&["--remove", "--force"], &resource[..]].concat());
        assert_complete(&shared.broker.read_committed(topic, 200), 200);
    }
}
