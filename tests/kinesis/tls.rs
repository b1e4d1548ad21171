//! TLS: a private authority, and a thing that shows its certificate.
//!
//! The certificates in `tests/fixtures/tls` were made for these tests by an authority whose key is gone.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use forebay::counters::SinkState;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use super::delivery::Run;
use super::server::{Server, read_request};
use super::signature::Key;
use super::time::open_at;
use crate::common::{Scratch, wait_until};

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/tls")
        .join(name)
}

/// A port where TLS is spoken, before a server that speaks none. It says who has shown a certificate.
fn front(server: &Server) -> u16 {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(fixture("ca.pem")).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let verifier = verifier.allow_unauthenticated().build().unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(
            vec![CertificateDer::from_pem_file(fixture("server.pem")).unwrap()],
            PrivateKeyDer::from_pem_file(fixture("server.key")).unwrap(),
        )
        .unwrap();
    let (config, upstream) = (Arc::new(config), server.port);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let config = Arc::clone(&config);
            thread::spawn(move || pass(ServerConnection::new(config).unwrap(), stream, upstream));
        }
    });
    port
}

fn pass(connection: ServerConnection, stream: TcpStream, upstream: u16) {
    let mut tls = StreamOwned::new(connection, stream);
    let mut plain = TcpStream::connect(("127.0.0.1", upstream)).unwrap();
    while let Some(request) = read_request(&mut tls) {
        let who = match tls.conn.peer_certificates() {
            Some(_) => "a-thing",
            None => "nobody",
        };
        let mut text = format!(
            "{} {} HTTP/1.1\r\nx-shown-by: {who}\r\n",
            request.method, request.path
        );
        for (name, value) in &request.headers {
            text += &format!("{name}: {value}\r\n");
        }
        text += "\r\n";
        plain.write_all(text.as_bytes()).unwrap();
        plain.write_all(&request.body).unwrap();
        let mut bytes = vec![0; 1 << 20];
        // The server writes an answer at once, and it is small.
        let Ok(count) = plain.read(&mut bytes) else {
            return;
        };
        if tls.write_all(&bytes[..count]).is_err() {
            return;
        }
    }
}

fn sink(port: u16, ca: &str, credentials: &str) -> String {
    format!(
        r#"{{"name":"telemetry","sink":{{"type":"kinesis","streamName":"telemetry","region":"eu-west-1",
        "endpointUrl":"https://localhost:{port}/","caFile":"{}","proxy":null,"credentials":{credentials}}},
        "batch":{{"maxLatencyMs":5}},"delivery":{{"backoffBaseMs":1,"backoffMaxMs":50}}}}"#,
        fixture(ca).display()
    )
}

const STATIC: &str = r#"{"type":"static","accessKeyId":"AKID","secretAccessKey":"hunter2secret"}"#;

/// Only what the configured authority has signed is trusted.
#[test]
fn a_private_authority_is_trusted_where_it_is_named() {
    let (scratch, server) = (Scratch::new("kinesis-tls"), Server::new());
    let port = front(&server);
    let run = Run::open(&scratch, &sink(port, "ca.pem", STATIC));
    run.append(0..3);
    run.drained();
    assert_eq!(server.payloads(), ["0", "1", "2"]);
    drop(run);
    let (scratch, server) = (Scratch::new("kinesis-tls-other"), Server::new());
    let port = front(&server);
    let run = Run::open(&scratch, &sink(port, "other-ca.pem", STATIC));
    run.append(0..3);
    wait_until("a state", || run.state() == SinkState::Link);
    assert!(run.error().contains("certificate"), "{}", run.error());
    assert_eq!(server.state().requests, [0; 0]);
}

/// `L-112`: a board that boots in 1970 cannot know that the certificate is valid by now; it learns the time
/// from the service. What it can know it checks: an authority that it does not trust stays out.
#[test]
fn a_clock_in_1970_is_no_reason_to_send_nothing() {
    let (scratch, server) = (Scratch::new("kinesis-tls-1970"), Server::new());
    let port = front(&server);
    let (run, _) = open_at(&scratch, &sink(port, "ca.pem", STATIC), 0);
    run.append(0..3);
    run.drained();
    assert_eq!(server.payloads(), ["0", "1", "2"]);
    assert_eq!(server.state().refused, ["InvalidSignatureException"]);
    drop(run);
    let (scratch, server) = (Scratch::new("kinesis-tls-1970-other"), Server::new());
    let port = front(&server);
    let (run, _) = open_at(&scratch, &sink(port, "other-ca.pem", STATIC), 0);
    run.append(0..3);
    wait_until("a state", || run.state() == SinkState::Link);
    assert_eq!(server.state().requests, [0; 0]);
    drop(run);
    // A clock that was set, and wrongly, is believed: these certificates are from 2020, and end in 2120.
    let (scratch, server) = (Scratch::new("kinesis-tls-2130"), Server::new());
    let port = front(&server);
    let (run, _) = open_at(&scratch, &sink(port, "ca.pem", STATIC), 5_049_000_000_000);
    run.append(0..3);
    wait_until("a state", || run.state() == SinkState::Link);
    assert!(run.error().contains("expired"), "{}", run.error());
}

/// `L-109`: device certificate, role alias and thing name are enough.
#[test]
fn a_thing_gets_keys_by_its_certificate() {
    let (scratch, server) = (Scratch::new("kinesis-thing"), Server::new());
    let port = front(&server);
    server.state().keys = vec![Key::new("THING", "s3", Some("t3"))];
    server.state().pages = Box::new(|request| {
        let alias = request.path.strip_prefix("/role-aliases/")?;
        let (who, thing) = (
            request.header("x-shown-by"),
            request.header("x-amzn-iot-thingname"),
        );
        if (alias, who, thing) != ("telemetry-writer/credentials", "a-thing", "gateway-7") {
            return Some((403, Vec::new(), r#"{"message":"no"}"#.to_owned()));
        }
        let keys = r#""accessKeyId":"THING","secretAccessKey":"s3","sessionToken":"t3""#;
        let body = format!(r#"{{"credentials":{{{keys},"expiration":"2999-01-18T09:18:06Z"}}}}"#);
        Some((200, Vec::new(), body))
    });
    let iot = |thing: &str| {
        format!(
            r#"{{"type":"iot","endpoint":"localhost:{port}","roleAlias":"telemetry-writer","thingName":"{thing}",
            "certificateFile":"{}","keyFile":"{}","caFile":"{}"}}"#,
            fixture("device.pem").display(),
            fixture("device.key").display(),
            fixture("ca.pem").display()
        )
    };
    let run = Run::open(&scratch, &sink(port, "ca.pem", &iot("gateway-7")));
    run.append(0..3);
    run.drained();
    assert_eq!(server.payloads(), ["0", "1", "2"]);
    drop(run);
    let other = Scratch::new("kinesis-other-thing");
    let run = Run::open(&other, &sink(port, "ca.pem", &iot("gateway-8")));
    run.append(0..3);
    wait_until("a state", || run.state() == SinkState::Auth);
    assert_eq!(run.error(), "the credentials provider answers 403");
}
