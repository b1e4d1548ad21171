//! By way of a proxy.

use std::io::{Read, Write, copy};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use forebay::counters::SinkState;
use forebay::{Config, Engine};

use super::credentials::Around;
use super::delivery::Run;
use super::server::Server;
use super::signature::Key;
use super::tls::{STATIC, fixture, front, sink};
use crate::common::{Scratch, wait_until};

/// A proxy that is asked to CONNECT, and connects.
struct Proxy {
    port: u16,
    /// What it was asked: the target, and whom it was told.
    asked: Arc<Mutex<Vec<(String, String)>>>,
    /// What it answers.
    answer: Arc<Mutex<&'static str>>,
}

const WELCOME: &str = "HTTP/1.1 200 Connection established\r\n\r\n";

impl Proxy {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (asked, answer) = (
            Arc::<Mutex<Vec<_>>>::default(),
            Arc::new(Mutex::new(WELCOME)),
        );
        let proxy = Self {
            port,
            asked: Arc::clone(&asked),
            answer: Arc::clone(&answer),
        };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (asked, answer) = (Arc::clone(&asked), Arc::clone(&answer));
                thread::spawn(move || pass(stream, &asked, &answer));
            }
        });
        proxy
    }

    fn asked(&self) -> Vec<(String, String)> {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.clone()
    }
}

fn pass(mut stream: TcpStream, asked: &Mutex<Vec<(String, String)>>, answer: &Mutex<&'static str>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            return;
        }
        head.push(byte[0]);
    }
    let text = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let mut lines = text.lines();
    let target = lines.next().unwrap().strip_prefix("connect ").unwrap();
    let target = target.split(' ').next().unwrap().to_owned();
    let who = lines.find_map(|line| line.strip_prefix("proxy-authorization: "));
    let who = who.unwrap_or_default().to_owned();
    asked.lock().unwrap().push((target.clone(), who));
    let answer = *answer.lock().unwrap();
    stream.write_all(answer.as_bytes()).unwrap();
    if answer != WELCOME {
        return;
    }
    let (_, port) = target.rsplit_once(':').unwrap();
    // Nobody but this machine is asked, whatever the name.
    let far = TcpStream::connect(("127.0.0.1", port.parse().unwrap())).unwrap();
    let (mut from, mut to) = (far.try_clone().unwrap(), stream.try_clone().unwrap());
    let back = thread::spawn(move || {
        let _ = copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Both);
    });
    let _ = copy(&mut stream, &mut &far);
    let _ = far.shutdown(Shutdown::Both);
    let _ = back.join();
}

fn open(scratch: &Scratch, stream: &str, around: Vec<(&'static str, String)>) -> Run {
    let text = scratch.document(stream);
    let config = Config::from_json_in(&text, &Around(around)).unwrap();
    let engine = Engine::open(&config).unwrap();
    let stream = engine.stream("telemetry").unwrap();
    Run { engine, stream }
}

/// A proxy that the settings name, with a password; one that refuses is a state, and costs nothing.
#[test]
fn a_proxy_is_asked_for_the_way() {
    let (scratch, server, proxy) = (Scratch::new("kinesis-proxy"), Server::new(), Proxy::new());
    *proxy.answer.lock().unwrap() = "HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n";
    let port = front(&server);
    let named = format!(r#""proxy":"http://me:secret@127.0.0.1:{}""#, proxy.port);
    let stream = sink(port, "ca.pem", STATIC).replace(r#""proxy":null"#, &named);
    let run = open(&scratch, &stream, Vec::new());
    run.append(0..3);
    wait_until("a state", || run.state() == SinkState::Link);
    assert!(!run.error().contains("secret"), "{}", run.error());
    assert_eq!(server.state().requests, [0; 0]);
    *proxy.answer.lock().unwrap() = WELCOME;
    run.drained();
    assert_eq!(server.payloads(), ["0", "1", "2"]);
    // base64 of what stands in the address, in small letters
    let expected = (format!("localhost:{port}"), "basic bwu6c2vjcmv0".to_owned());
    assert_eq!(proxy.asked().last(), Some(&expected));
}

/// The environment's, for https only; and not for hosts that it leaves out.
#[test]
fn the_environment_may_name_a_proxy() {
    let (server, proxy) = (Server::new(), Proxy::new());
    let port = front(&server);
    let variable = |name, value: &str| (name, value.to_owned());
    let https = variable("HTTPS_PROXY", &format!("http://127.0.0.1:{}", proxy.port));
    for (variables, asked) in [
        (vec![https.clone()], 1),
        (
            vec![https.clone(), variable("NO_PROXY", "local, localhost")],
            1,
        ),
        (vec![https.clone(), variable("NO_PROXY", "example.com")], 2),
    ] {
        let scratch = Scratch::new("kinesis-proxy-environment");
        let run = open(&scratch, &sink(port, "ca.pem", STATIC), variables);
        run.append(0..3);
        run.drained();
        assert_eq!(proxy.asked().len(), asked);
        run.engine.close(crate::common::LIMIT).unwrap();
    }
    // What is not https goes its own way.
    let scratch = Scratch::new("kinesis-proxy-plain");
    let run = open(&scratch, &server.stream("", ""), vec![https]);
    run.append(0..3);
    run.drained();
    assert_eq!((proxy.asked().len(), server.payloads().len()), (2, 12));
}

/// The way to the things' endpoint is the same.
#[test]
fn a_thing_gets_its_keys_by_way_of_the_proxy() {
    let (scratch, server, proxy) = (
        Scratch::new("kinesis-proxy-thing"),
        Server::new(),
        Proxy::new(),
    );
    let port = front(&server);
    server.state().keys = vec![Key::new("THING", "s3", Some("t3"))];
    server.state().pages = Box::new(|request| {
        request.path.strip_prefix("/role-aliases/")?;
        let keys = r#""accessKeyId":"THING","secretAccessKey":"s3","sessionToken":"t3""#;
        Some((200, Vec::new(), format!(r#"{{"credentials":{{{keys}}}}}"#)))
    });
    let iot = format!(
        r#"{{"type":"iot","endpoint":"localhost:{port}","roleAlias":"a","certificateFile":"{}","keyFile":"{}","caFile":"{}"}}"#,
        fixture("device.pem").display(),
        fixture("device.key").display(),
        fixture("ca.pem").display()
    );
    let named = format!(r#""proxy":"http://127.0.0.1:{}""#, proxy.port);
    let stream = sink(port, "ca.pem", &iot).replace(r#""proxy":null"#, &named);
    let run = open(&scratch, &stream, Vec::new());
    run.append(0..3);
    run.drained();
    assert_eq!(server.payloads(), ["0", "1", "2"]);
    assert_eq!(
        proxy.asked().len(),
        2,
        "one for the keys, one for the records"
    );
}
