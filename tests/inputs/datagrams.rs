//! Datagrams: each is a record, and what is too much is counted.

use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use crate::client::{Listening, property, storing, with_input};
use crate::process::{Setup, number, payloads, wait_until};

/// One who sends datagrams.
enum Sender {
    Unix(UnixDatagram),
    Udp(UdpSocket),
}

const KINDS: [&str; 2] = ["unixDatagram", "udp"];

impl Sender {
    fn to(kind: &str, place: &str) -> Self {
        if kind == "udp" {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.connect(place).unwrap();
            return Self::Udp(socket);
        }
        let socket = UnixDatagram::unbound().unwrap();
        socket.connect(Path::new(place)).unwrap();
        Self::Unix(socket)
    }

    fn send(&self, bytes: impl AsRef<[u8]>) {
        match self {
            Self::Unix(socket) => socket.send(bytes.as_ref()).unwrap(),
            Self::Udp(socket) => socket.send(bytes.as_ref()).unwrap(),
        };
    }
}

#[test]
fn each_datagram_is_a_record_and_what_is_wrong_is_counted() {
    for kind in KINDS {
        let more = r#", "maxRecordBytes": 60, "keyFrom": "/id", "timeFrom": "/t", "onMalformed": "drop",
            "onEarly": "drop", "propertiesFrom": {"peer": "sender"}"#;
        let setup = storing("datagrams", kind, more);
        let listening = Listening::start(&setup, kind);
        let sender = Sender::to(kind, &listening.place);
        sender.send("");
        sender.send([0xff; 60]);
        sender.send([b'x'; 61]);
        sender.send([b'x'; 4000]);
        sender.send("{\"id\":1,\"t\":5}");
        sender.send("{\"id\":2,\"t\":1795350780123}");
        listening.wait_for_records(&setup, 1);
        let expected = "1 records, 2 malformed, 0 refused, 2 too long, 1 too early";
        assert_eq!(listening.stop(), expected);
        let stored = setup.stored();
        assert_eq!(payloads(&stored), ["{\"id\":2,\"t\":1795350780123}"]);
        assert_eq!(stored[0]["key"], "2");
        assert_eq!(number(&stored[0], "timeMs"), 1_795_350_780_123);
        let uid = rustix::process::getuid().as_raw().to_string();
        let peer = if kind == "udp" { "127.0.0.1" } else { &*uid };
        assert_eq!(property(&stored[0], "peer"), Some(peer));
    }
}

#[test]
fn only_who_is_on_a_list_may_send_datagrams() {
    let uid = rustix::process::getuid().as_raw();
    for (name, allowed, expected) in [
        ("mine", uid, "1 records, 0 malformed, 0 refused"),
        (
            "other",
            uid + 1,
            "0 records, 0 malformed, 0 refused, 1 denied",
        ),
    ] {
        let more = format!(r#", "allowUids": [{allowed}]"#);
        let setup = storing(&format!("datagrams-{name}"), "unixDatagram", &more);
        let listening = Listening::start(&setup, "unixDatagram");
        Sender::to("unixDatagram", &listening.place).send("x");
        match allowed == uid {
            true => listening.wait_for_records(&setup, 1),
            false => listening.running.wait_for("1 denied"),
        }
        assert_eq!(listening.stop(), expected);
    }
}

/// What a rate or a full stream leaves no room for is counted: each datagram is a record or in a count.
#[test]
fn what_is_too_much_of_datagrams_is_counted() {
    let setup = storing(
        "datagrams-rate",
        "unixDatagram",
        r#", "maxRecordsPerSec": 10"#,
    );
    let listening = Listening::start(&setup, "unixDatagram");
    let sender = Sender::to("unixDatagram", &listening.place);
    for _ in 0..500 {
        sender.send("x"); // waits while the socket's own queue is full
    }
    std::thread::sleep(Duration::from_secs(1));
    let said = listening.stop();
    let (records, rest) = said
        .split_once(" records, 0 malformed, 0 refused, ")
        .unwrap();
    let limited = rest.strip_suffix(" over the rate").unwrap();
    let (records, limited): (u64, u64) = (records.parse().unwrap(), limited.parse().unwrap());
    assert!((10..100).contains(&records), "{said}");
    assert_eq!(records + limited, 500, "{said}");
    assert_eq!(setup.stored().len() as u64, records);

    let buffer = r#", "segmentBytes": 262144, "maxDiskBytes": 1048576, "maxBufferedBytes": 65536,
        "onFull": "rejectNew""#;
    let setup = Setup::to_file("datagrams-full", buffer, "");
    with_input(&setup, "unixDatagram", "");
    std::fs::create_dir_all(setup.out()).unwrap();
    let listening = Listening::start(&setup, "unixDatagram");
    let sender = Sender::to("unixDatagram", &listening.place);
    for _ in 0..4000 {
        sender.send([b'x'; 1000]);
    }
    std::thread::sleep(Duration::from_secs(1));
    // With room again, what was taken can be stored.
    std::fs::remove_dir(setup.out()).unwrap();
    let said = listening.stop();
    let (records, rest) = said.split_once(" records, 0 malformed, ").unwrap();
    let refused = rest.strip_suffix(" refused").unwrap();
    let (records, refused): (u64, u64) = (records.parse().unwrap(), refused.parse().unwrap());
    assert!(refused > 2000, "{said}");
    assert_eq!(records + refused, 4000, "{said}");
}

/// What the system dropped, because it came faster than it was received, is counted as lost.
#[test]
fn what_the_system_drops_of_datagrams_over_udp_is_counted() {
    let setup = storing("drops", "udp", r#", "receiveBufferBytes": 4096"#);
    let listening = Listening::start(&setup, "udp");
    let sender = Sender::to("udp", &listening.place);
    // Held up, it receives nothing.
    listening.running.signal(rustix::process::Signal::STOP);
    for _ in 0..2000 {
        sender.send([b'x'; 100]);
    }
    listening.running.signal(rustix::process::Signal::CONT);
    listening.wait_for_records(&setup, 1);
    sender.send("last");
    wait_until("the last one", || {
        let stored = setup.stored();
        stored
            .last()
            .is_some_and(|record| record["payload"] == "last")
    });
    let said = listening.stop();
    let (records, rest) = said
        .split_once(" records, 0 malformed, 0 refused, ")
        .unwrap();
    let lost = rest.strip_suffix(" lost").unwrap();
    let (records, lost): (u64, u64) = (records.parse().unwrap(), lost.parse().unwrap());
    assert_eq!(records + lost, 2001, "{said}");
    assert!(lost > 1000, "{said}");
}
