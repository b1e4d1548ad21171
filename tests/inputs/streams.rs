//! Lines and frames over stream sockets: what becomes of them, who may send, and what happens without room.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::client::{Listening, STREAMS, frame, input, property, storing, with_input};
use crate::process::{NO_SINK, SMALL, Setup, number, payloads, verb, wait_until};

#[test]
fn each_line_and_each_frame_is_a_record() {
    for kind in STREAMS {
        let setup = storing("lines", kind, r#", "key": "k""#);
        let listening = Listening::start(&setup, kind);
        let mut client = listening.connect();
        client.send("one\n\ntwo\r\nthr");
        client.send("ee\nlast, without its end");
        assert!(client.end().is_empty(), "nobody asked for answers");
        assert_eq!(listening.stop(), "5 records, 0 malformed, 0 refused");
        let stored = setup.stored();
        let expected = ["one", "", "two", "three", "last, without its end"];
        assert_eq!(payloads(&stored), expected);
        assert!(stored.iter().all(|record| record["key"] == "k"));

        let setup = storing("frames", kind, r#", "framing": "frames""#);
        let listening = Listening::start(&setup, kind);
        let mut client = listening.connect();
        let frames = ["a\nb", "", "\r\n", "c"].map(frame).concat();
        for part in frames.chunks(3) {
            client.send(part);
        }
        // A frame without its end is none.
        client.send([0, 0, 0, 9, b'x']);
        client.end();
        assert_eq!(listening.stop(), "4 records, 0 malformed, 0 refused");
        assert_eq!(payloads(&setup.stored()), ["a\nb", "", "\r\n", "c"]);
    }
}

#[test]
fn key_time_and_properties_come_from_fields_and_the_sender() {
    for (kind, sender) in [("unixStream", "0"), ("tcp", "127.0.0.1")] {
        let more = r#", "keyFrom": "/device/id", "key": "unknown", "timeFrom": "/at", "timeUnit": "seconds",
            "properties": {"site": "north"}, "propertiesFrom": {"peer": "sender", "unit": "/unit"}"#;
        let setup = storing("fields", kind, more);
        let listening = Listening::start(&setup, kind);
        let mut client = listening.connect();
        client.send("{\"device\":{\"id\":7},\"at\":1795350780.5,\"unit\":\"bar\"}\nno JSON\n");
        client.end();
        assert_eq!(listening.stop(), "2 records, 1 malformed, 0 refused");
        let stored = setup.stored();
        let uid = rustix::process::getuid().as_raw().to_string();
        let sender = if sender == "0" { &*uid } else { sender };
        assert_eq!(stored[0]["key"], "7");
        assert_eq!(number(&stored[0], "timeMs"), 1_795_350_780_500);
        assert_eq!(property(&stored[0], "site"), Some("north"));
        assert_eq!(property(&stored[0], "peer"), Some(sender));
        assert_eq!(property(&stored[0], "unit"), Some("bar"));
        // What a payload does not have is as fixed, or as it was received.
        assert_eq!(stored[1]["key"], "unknown");
        assert!(number(&stored[1], "timeMs") > 1_704_067_200_000);
        assert_eq!(property(&stored[1], "unit"), None);
        assert_eq!(property(&stored[1], "peer"), Some(sender));
    }
}

/// What is wrong with a record is counted by its reason, said once, and ends nothing.
#[test]
fn what_is_wrong_with_a_record_is_counted_by_reason_and_never_fatal() {
    for kind in STREAMS {
        let more =
            r#", "timeFrom": "/t", "maxRecordBytes": 40, "onMalformed": "drop", "onEarly": "drop""#;
        let setup = storing("reasons", kind, more);
        let listening = Listening::start(&setup, kind);
        let mut client = listening.connect();
        for n in 0..100 {
            client.send(format!("{{\"t\":1795350780{n:03}}}\n"));
            client.send(format!("{}\nno JSON {n}\n{{\"t\":{n}}}\n", "x".repeat(41)));
            client.send(b"\xff\xfe\0\n");
        }
        client.end();
        let (done, warnings) = listening.stop_and_tell();
        let expected = "100 records, 200 malformed, 0 refused, 100 too long, 100 too early";
        assert_eq!(done, expected);
        assert_eq!(setup.stored().len(), 100);
        // Of each reason a line, not one for each record.
        let warnings: Vec<_> = warnings
            .lines()
            .filter(|line| line.contains("the last one"))
            .collect();
        assert_eq!(warnings.len(), 3, "{warnings:?}");
    }
}

#[test]
fn lines_of_json_are_records_with_their_own_key_time_and_properties() {
    let setup = storing(
        "ndjson",
        "unixStream",
        r#", "format": "ndjson", "key": "none", "onEarly": "now""#,
    );
    let listening = Listening::start(&setup, "unixStream");
    let mut client = listening.connect();
    client.send(r#"{"payload":"p","key":"own","timeMs":1795350780123,"properties":{"a":"b"}}"#);
    client.send("\n{\"payload\":\"q\",\"timeMs\":5}\n{}\n");
    client.end();
    let expected = "2 records, 1 malformed, 0 refused, 1 too early";
    assert_eq!(listening.stop(), expected);
    let stored = setup.stored();
    assert_eq!(payloads(&stored), ["p", "q"]);
    assert_eq!(
        (&stored[0]["key"], &stored[1]["key"]),
        (&"own".into(), &"none".into())
    );
    assert_eq!(property(&stored[0], "a"), Some("b"));
    assert!(number(&stored[1], "timeMs") > 1_704_067_200_000);
}

/// The system says who is at the other end. Another user needs rights of its own, so the lists change.
#[test]
fn only_who_is_on_a_list_may_send() {
    let (uid, gid) = (rustix::process::getuid(), rustix::process::getgid());
    let (uid, gid) = (uid.as_raw(), gid.as_raw());
    for (n, (more, may)) in [
        (format!(r#", "allowUids": [{uid}]"#), true),
        (format!(r#", "allowUids": [{}]"#, uid + 1), false),
        (format!(r#", "allowGids": [{gid}]"#), true),
        (
            format!(
                r#", "allowGids": [{}], "allowUids": [{}]"#,
                gid + 1,
                uid + 1
            ),
            false,
        ),
        (
            format!(r#", "allowGids": [{}], "allowUids": [{uid}]"#, gid + 1),
            true,
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let setup = storing(
            &format!("allow-{n}"),
            "unixStream",
            &format!(r#"{more}, "mode": "0660""#),
        );
        let listening = Listening::start(&setup, "unixStream");
        let mode = std::fs::metadata(&listening.place)
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o660);
        let mut client = listening.connect();
        // Who may not send is closed, perhaps before this.
        let _ = client.socket.write_all(b"x\n");
        client.end();
        let expected = match may {
            true => "1 records, 0 malformed, 0 refused",
            false => "0 records, 0 malformed, 0 refused, 1 denied",
        };
        assert_eq!(listening.stop(), expected, "{more}");
    }
}

/// What lies where the socket should be is replaced if a process left it behind, and only then.
#[test]
fn a_path_that_somebody_has_is_left_alone() {
    let setup = storing("place", "unixStream", "");
    let path = setup.scratch.write("input.sock", "somebody's");
    let running = setup.serve(&[]);
    running.wait_for("tried again");
    assert_eq!(std::fs::read(&path).unwrap(), b"somebody's");
    std::fs::remove_file(&path).unwrap();
    running.wait_for("listening at");
    // Another process does not take it away.
    let other = Setup::new(
        "place-other",
        NO_SINK,
        SMALL,
        &input("unixStream", setup.scratch.path(), ""),
    );
    let second = other.serve(&[]);
    second.wait_for("tried again");
    drop(running);
    // Killed: the socket is left behind.
    second.wait_for("listening at");
}

const ACKNOWLEDGED: &str = r#", "acknowledge": "always""#;

/// One with little room, and a sink that takes nothing until its directory is removed.
fn full(name: &str, policy: &str, kind: &str, more: &str) -> Setup {
    let buffer = format!(
        r#", "segmentBytes": 262144, "maxDiskBytes": 1048576, "maxRecordBytes": 4096,
           "maxBufferedBytes": 65536, "onFull": "{policy}""#
    );
    let setup = Setup::to_file(name, &buffer, "");
    with_input(&setup, kind, more);
    std::fs::create_dir_all(setup.out()).unwrap();
    setup
}

/// `L-9`, `L-14`: without room nobody is read, so who sends waits; when there is room again, all of it comes.
#[test]
fn a_full_stream_makes_those_who_send_wait_and_loses_nothing() {
    for (kind, policy) in [
        ("unixStream", "rejectNew"),
        ("tcp", "block"),
        ("unixStream", "block"),
    ] {
        let setup = full(&format!("full-{policy}-{kind}"), policy, kind, "");
        let listening = Listening::start(&setup, kind);
        let mut client = listening.connect();
        let mut other = listening.connect();
        other.send("0: from another\n");
        listening.wait_for_records(&setup, 1);
        client.socket.set_write_timeout(Duration::from_secs(30));
        let text = "x".repeat(1000);
        let (sent, total) = (std::sync::atomic::AtomicU64::new(0), 16_000);
        let order = std::sync::atomic::Ordering::Relaxed;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 0..total {
                    client.send(format!("{n}: {text}\n"));
                    sent.store(n + 1, order);
                }
                client.end();
            });
            // It comes to a stand, far from its end.
            let mut before = 0;
            wait_until("who sends to wait", || {
                std::thread::sleep(Duration::from_millis(300));
                let now = sent.load(order);
                std::mem::replace(&mut before, now) == now && now > 100
            });
            assert!(before < total - 1000, "{before} were sent");
            let stats = setup.stats();
            assert_eq!(
                (
                    number(&stats, "droppedTotal"),
                    number(&stats, "exportedTotal")
                ),
                (0, 0)
            );
            std::fs::remove_dir(setup.out()).unwrap();
        });
        listening.wait_for_records(&setup, total + 1);
        let expected = format!("{} records, 0 malformed, 0 refused", total + 1);
        assert_eq!(listening.stop(), expected);
        wait_until("delivery", || setup.delivered().len() as u64 > total);
        let delivered = setup.delivered();
        let numbers = payloads(&delivered).into_iter().skip(1);
        let numbers = numbers.map(|text| text.split_once(':').unwrap().0.parse::<u64>().unwrap());
        assert!(numbers.eq(0..total));
    }
}

/// `L-18`: whoever waits for room ends when the process is to; what was answered is stored.
#[test]
fn a_stop_does_not_wait_for_room() {
    for policy in ["rejectNew", "block"] {
        let setup = full(
            &format!("stop-{policy}"),
            policy,
            "unixStream",
            ACKNOWLEDGED,
        );
        let text = std::fs::read_to_string(&setup.config).unwrap();
        let service = r#"{"service": {"shutdownMs": 1000}, "#;
        std::fs::write(&setup.config, text.replacen('{', service, 1)).unwrap();
        let listening = Listening::start(&setup, "unixStream");
        let mut client = listening.connect();
        client.socket.set_write_timeout(Duration::from_secs(1));
        let line = "x".repeat(1000) + "\n";
        while client.socket.write_all(line.as_bytes()).is_ok() {}
        let began = Instant::now();
        listening.running.signal(Signal::TERM);
        let ended = listening.running.wait();
        let took = began.elapsed();
        assert!(took < Duration::from_secs(5), "{took:?}");
        assert!(!ended.err.contains("panicked"), "{ended:?}");
        let answered = client.end();
        assert!(answered.len() > 100 && answered.iter().all(|answer| answer == "ok"));
        assert!(setup.stored().len() >= answered.len());
    }
}

/// The rate is kept by waiting: nothing is lost.
#[test]
fn a_rate_that_is_bounded_makes_those_who_send_wait() {
    let setup = storing("rate", "tcp", r#", "maxRecordsPerSec": 100"#);
    let listening = Listening::start(&setup, "tcp");
    let began = Instant::now();
    let mut client = listening.connect();
    client.send("x\n".repeat(200));
    client.end();
    listening.wait_for_records(&setup, 200);
    assert!(
        began.elapsed() >= Duration::from_millis(900),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(listening.stop(), "200 records, 0 malformed, 0 refused");
}

#[test]
fn what_is_configured_is_shown() {
    let setup = storing(
        "shown",
        "unixStream",
        r#", "mode": "0660", "allowUids": [5], "keyFrom": "/id""#,
    );
    let shown = verb("config", &setup.config, &[]).expect(0);
    for text in [
        r#""mode": "0660""#,
        r#""allowUids": [5]"#,
        r#""keyFrom": "/id""#,
    ] {
        assert!(shown.out().contains(text), "{text}: {shown:?}");
    }
    verb("check", &setup.config, &[]).expect(0);
}
