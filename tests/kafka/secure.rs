//! TLS, passwords and certificates, with a broker that asks for them.
//!
//! The certificates are those of `tests/fixtures/tls`; the server's is for `localhost`.

use std::path::PathBuf;

use super::broker::{Broker, Place, free_port};
use super::{Gateway, alone, assert_complete, wait_long};

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/tls")
        .join(name)
}

/// Ports of a broker beside the one without TLS.
struct Ports {
    /// TLS, and then a password.
    password: u16,
    /// TLS with a certificate on both sides.
    certificate: u16,
}

/// A broker with three listeners, and a user of SCRAM and one of PLAIN.
fn start(name: &str) -> Option<(Broker, Ports)> {
    let place = Place {
        port: Some(free_port()),
        ..Place::default()
    };
    let ports = Ports {
        password: free_port(),
        certificate: free_port(),
    };
    let (plain, controller) = (place.port.unwrap(), free_port());
    let keys = super::common::Scratch::new(&format!("keys-{name}"));
    let server = keys.join("server.pem");
    let read = |name| std::fs::read_to_string(fixture(name)).unwrap();
    std::fs::write(&server, read("server.key") + &read("server.pem")).unwrap();
    let listener = |name: &str, port: u16| {
        let host = if name == "CONTROLLER" {
            "127.0.0.1"
        } else {
            "localhost"
        };
        format!("{name}://{host}:{port}")
    };
    let listeners = [
        listener("PLAINTEXT", plain),
        listener("SASL_SSL", ports.password),
        listener("SSL", ports.certificate),
    ]
    .join(",");
    let module = "org.apache.kafka.common.security";
    let more = format!(
        "controller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners={listeners},{}\nadvertised.listeners={listeners}\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL\n\
         ssl.keystore.type=PEM\nssl.keystore.location={}\n\
         ssl.truststore.type=PEM\nssl.truststore.location={}\n\
         listener.name.ssl.ssl.client.auth=required\n\
         sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512\n\
         listener.name.sasl_ssl.plain.sasl.jaas.config=\
         {module}.plain.PlainLoginModule required user_plain=\"plain-password\";\n\
         listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=\
         {module}.scram.ScramLoginModule required;",
        listener("CONTROLLER", controller),
        server.display(),
        fixture("ca.pem").display(),
    );
    let user = "SCRAM-SHA-512=[name=scram,password=scram-password]";
    let broker = Broker::start_with(name, place, &more, &["--add-scram", user])?;
    // It has read them.
    drop(keys);
    Some((broker, ports))
}

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
    let _alone = alone();
    let Some((broker, ports)) = start("secure") else {
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
            ports.password,
            sink(
                "sasl_ssl",
                "ca.pem",
                &password("PLAIN", "plain", "plain-password"),
            ),
        ),
        (
            "scram",
            ports.password,
            sink(
                "sasl_ssl",
                "ca.pem",
                &password("SCRAM-SHA-512", "scram", "scram-password"),
            ),
        ),
        (
            "certificate",
            ports.certificate,
            sink("ssl", "ca.pem", &own),
        ),
    ];
    for (topic, port, sink) in ways {
        let address = format!("localhost:{port}");
        let gateway = Gateway::open_to(&format!("kafka-{topic}"), &address, topic, &sink);
        gateway.append(0..500);
        gateway.wait_for(500);
        gateway.close();
        assert_complete(&broker.read(topic, 500), 500);
    }
}

/// `L-115`: who has to act is told apart, nothing is lost meanwhile, and nothing is sent to a stranger.
#[test]
fn wrong_passwords_and_strange_brokers_are_states_of_their_own() {
    let _alone = alone();
    let Some((broker, ports)) = start("strange") else {
        return;
    };
    let good = password("SCRAM-SHA-512", "scram", "scram-password");
    let wrong = password("SCRAM-SHA-512", "scram", "another-password");
    let unknown = password("PLAIN", "nobody", "plain-password");
    let cases = [
        (
            "wrong",
            "localhost",
            ports.password,
            sink("sasl_ssl", "ca.pem", &wrong),
            "auth",
        ),
        (
            "unknown",
            "localhost",
            ports.password,
            sink("sasl_ssl", "ca.pem", &unknown),
            "auth",
        ),
        (
            "stranger",
            "localhost",
            ports.password,
            sink("sasl_ssl", "other-ca.pem", &good),
            "config",
        ),
        (
            "name",
            "127.0.0.1",
            ports.password,
            sink("sasl_ssl", "ca.pem", &good),
            "config",
        ),
        (
            "nameless",
            "localhost",
            ports.certificate,
            sink("ssl", "ca.pem", &[]),
            "auth",
        ),
    ];
    for (name, host, port, sink, state) in cases {
        let address = format!("{host}:{port}");
        let gateway = Gateway::open_to(&format!("kafka-{name}"), &address, "secret", &sink);
        gateway.append(0..10);
        wait_long(&format!("{name}: {state}"), || gateway.state() == state);
        assert_eq!(gateway.acked(), 0, "{name}");
        gateway.close();
    }
    assert_eq!(broker.read("secret", 10), []);
}
