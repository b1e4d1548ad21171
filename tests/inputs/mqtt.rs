//! Messages of a real broker: what is taken, what is acknowledged, and what outlives the end of either side.

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::broker::{Broker, Publisher};
use crate::client::{stop_input, storing_with, wait_for};
use crate::process::{Running, Setup, payloads, wait_until};

const OPEN: &str = "allow_anonymous true\nmax_inflight_messages 200";

/// A stream that takes what is published at an address.
fn subscribing(name: &str, address: &str, more: &str) -> Setup {
    let input = format!(
        r#"{{"type": "mqtt", "stream": "telemetry", "address": "{address}", "clientId": "forebay" {more}}}"#
    );
    storing_with(name, |_| (input, ())).0
}

/// The same with a broker of its own, which lies in another test's directory.
fn with_broker(name: &str, conf: &str, more: &str) -> (Setup, Broker) {
    let (mut setup, ()) = storing_with(name, |_| (String::new(), ()));
    let broker = Broker::start(&setup.scratch, conf);
    let text = std::fs::read_to_string(&setup.config).unwrap();
    let input = format!(
        r#"{{"type": "mqtt", "stream": "telemetry", "address": "{}", "clientId": "forebay" {more}}}"#,
        broker.address()
    );
    let text = text.replacen(r#""inputs": []"#, &format!(r#""inputs": [{input}]"#), 1);
    setup.config = setup.scratch.write("forebay.json", text);
    (setup, broker)
}

fn serve(setup: &Setup) -> Running {
    let running = setup.serve(&[]);
    running.wait_for("input mqtt: listening at ");
    running
}

/// Ends it. What it says that the input has done.
fn stop(running: Running) -> String {
    stop_input(running, "mqtt")
}

#[test]
fn messages_of_several_topics_have_the_topic_as_their_key() {
    let more = r#", "topics": ["site/+/bar", "pumps/#"], "propertiesFrom": {"topic": "topic"}"#;
    for qos in [1, 0] {
        let (setup, broker) = with_broker("mqtt-topics", OPEN, &format!(r#"{more}, "qos": {qos}"#));
        let running = serve(&setup);
        let mut publisher = Publisher::new(&broker, None);
        let messages = [
            ("site/1/bar", "a"),
            ("site/1/other", "-"),
            ("pumps", ""),
            ("pumps/7/x", "c"),
        ];
        publisher.publish(1, &messages);
        publisher.publish(0, &[("site/2/bar", "d")]);
        wait_for(&setup, 4);
        assert_eq!(stop(running), "4 records, 0 malformed, 0 refused");
        let stored = setup.stored();
        assert_eq!(payloads(&stored), ["a", "", "c", "d"]);
        let keys: Vec<_> = stored
            .iter()
            .map(|record| record["key"].as_str().unwrap())
            .collect();
        assert_eq!(keys, ["site/1/bar", "pumps", "pumps/7/x", "site/2/bar"]);
        assert_eq!(stored[0]["properties"]["topic"], "site/1/bar");
    }
}

#[test]
fn a_message_that_is_too_long_is_acknowledged_and_the_next_one_is_taken() {
    let more = r##", "topics": ["#"], "maxRecordBytes": 1000"##;
    let (setup, broker) = with_broker("mqtt-long", OPEN, more);
    let running = serve(&setup);
    let mut publisher = Publisher::new(&broker, None);
    let (long, longer) = ("x".repeat(1001), "x".repeat(5_000_000));
    publisher.publish(1, &[("a", "1"), ("a", &long), ("a", &longer), ("a", "2")]);
    wait_for(&setup, 2);
    assert_eq!(
        stop(running),
        "2 records, 0 malformed, 0 refused, 2 too long"
    );
    // They are not sent again.
    let running = serve(&setup);
    publisher.publish(1, &[("a", "3")]);
    wait_for(&setup, 3);
    assert_eq!(stop(running), "1 records, 0 malformed, 0 refused");
    assert_eq!(payloads(&setup.stored()), ["1", "2", "3"]);
}

#[test]
fn a_password_is_needed_where_the_broker_says_so() {
    let (setup, _) = storing_with("mqtt-password-file", |_| (String::new(), ()));
    let passwords = setup.scratch.join("passwords");
    let mut command = std::process::Command::new("/usr/bin/mosquitto_passwd");
    let status = command
        .arg("-c")
        .arg("-b")
        .arg(&passwords)
        .args(["gw", "hunter2"])
        .status();
    assert!(status.unwrap().success());
    let conf = format!(
        "allow_anonymous false\npassword_file {}",
        passwords.display()
    );
    let more = r##", "topics": ["#"], "username": "gw", "password": "hunter2""##;
    let (setup, broker) = with_broker("mqtt-password", &conf, more);
    let running = serve(&setup);
    let mut publisher = Publisher::new(&broker, Some(("gw", "hunter2")));
    publisher.publish(1, &[("a", "1")]);
    wait_for(&setup, 1);
    stop(running);
    let text = std::fs::read_to_string(&setup.config).unwrap();
    std::fs::write(&setup.config, text.replace("hunter2", "hunter3")).unwrap();
    let running = setup.serve(&[]);
    running.wait_for("the broker refused the connection: this client may not connect (code 5)");
    assert!(!running.err().contains("hunter"), "{}", running.err());
    running.wait_for("tried again in 200ms");
}

/// `L-9`, `L-101`: the broker keeps what comes while nobody is there, and both sides may end as they like.
#[test]
fn what_was_published_outlives_kills_of_both_sides() {
    const KILLS: u64 = 8;
    let (setup, mut broker) = with_broker("mqtt-killed", OPEN, r##", "topics": ["load/#"]"##);
    // The session is there before anything is published.
    stop(serve(&setup));
    let mut next = 0_u64;
    for kill in 0..KILLS {
        let running = setup.serve(&[]);
        let began = Instant::now();
        let mut publisher = Publisher::new(&broker, None);
        let first = next;
        while began.elapsed() < Duration::from_millis(150 + 40 * kill) || next < first + 300 {
            let messages: Vec<_> = (next..next + 100).map(|n| n.to_string()).collect();
            let messages: Vec<_> = messages.iter().map(|n| ("load/a", &**n)).collect();
            publisher.publish(1, &messages);
            next += 100;
        }
        running.signal(Signal::KILL);
        drop(running);
        if kill % 2 == 1 {
            drop(publisher);
            broker.stop(true);
            broker.start_again();
        }
    }
    let running = serve(&setup);
    let mut publisher = Publisher::new(&broker, None);
    publisher.publish(1, &[("load/a", "the last one")]);
    wait_until("the last one", || {
        payloads(&setup.stored()).contains(&"the last one")
    });
    let done = stop(running);
    let stored = setup.stored();
    let mut counts: HashMap<&str, u64> = HashMap::new();
    for payload in payloads(&stored) {
        *counts.entry(payload).or_default() += 1;
    }
    let missing: Vec<_> = (0..next)
        .filter(|n| !counts.contains_key(&*n.to_string()))
        .collect();
    assert!(
        missing.is_empty(),
        "{} of {next} are missing: {:?}",
        missing.len(),
        &missing[..1]
    );
    let repeats: u64 = counts.values().map(|count| count - 1).sum();
    let bound = KILLS * 200;
    println!("{next} published, {repeats} repeats, at most {bound}; {done}");
    assert!(
        next > 1000 && repeats <= bound,
        "{repeats} of at most {bound} repeats of {next}"
    );
}

/// `L-9`, `L-101`: the broker gets SIGKILL under load, and so does this side. What of its last moments a broker
/// still knows is its own affair; but what was acknowledged to it must be there.
#[test]
fn what_was_acknowledged_outlives_kills_of_the_broker() {
    const KILLS: u64 = 6;
    const UNDER_WAY: u64 = 200; // as in `OPEN`
    let (setup, mut broker) = with_broker("mqtt-broker-killed", OPEN, r##", "topics": ["#"]"##);
    let (tap, seen) = crate::tap::start(broker.address());
    let text = std::fs::read_to_string(&setup.config).unwrap();
    std::fs::write(&setup.config, text.replace(&broker.address(), &tap)).unwrap();
    let mut running = serve(&setup);
    let mut next = 0_u64;
    for kill in 0..KILLS {
        let began = Instant::now();
        let mut publisher = Publisher::new(&broker, None);
        let first = next;
        while began.elapsed() < Duration::from_millis(150 + 30 * kill) || next < first + 300 {
            let messages: Vec<_> = (next..next + 100).map(|n| n.to_string()).collect();
            let messages: Vec<_> = messages.iter().map(|n| ("load/a", &**n)).collect();
            publisher.publish(1, &messages);
            next += 100;
        }
        broker.stop(false);
        if kill % 3 == 2 {
            running.signal(Signal::KILL);
            drop(running);
            running = setup.serve(&[]);
        }
        broker.start_again();
    }
    Publisher::new(&broker, None).publish(1, &[("load/a", "the last one")]);
    wait_until("the last one", || {
        let seen = seen.lock().unwrap();
        seen.acknowledged.contains("the last one")
    });
    let done = stop(running);
    let stored = setup.stored();
    let payloads = payloads(&stored);
    let found: HashSet<&str> = payloads.iter().copied().collect();
    let seen = seen.lock().unwrap();
    let missing: Vec<_> = seen
        .acknowledged
        .iter()
        .filter(|n| !found.contains(&***n))
        .collect();
    assert!(
        missing.is_empty(),
        "{} are missing: {missing:?}",
        missing.len()
    );
    let repeats = (payloads.len() - found.len()) as u64;
    // Each of them was sent again, as it was under way or the broker had not saved that it was taken.
    let (acknowledged, sent) = (seen.acknowledged.len() as u64, seen.sent);
    println!(
        "{next} published, {sent} sent, {acknowledged} acknowledged, {repeats} repeats; {done}"
    );
    assert!(acknowledged > 1000, "{acknowledged} of {next}");
    let again = sent - acknowledged;
    assert!(repeats <= again, "{repeats} repeats, {again} sent again");
    let bound = 2 * KILLS * UNDER_WAY;
    assert!(repeats <= bound, "{repeats} repeats of {bound} at most");
}

#[test]
fn a_broker_that_ends_is_found_again_and_an_order_to_stop_acknowledges_what_was_taken() {
    let (setup, mut broker) = with_broker("mqtt-broker", OPEN, r##", "topics": ["#"]"##);
    let running = serve(&setup);
    for n in 0..4_u64 {
        let text = n.to_string();
        Publisher::new(&broker, None).publish(1, &[("a", &text)]);
        wait_for(&setup, n + 1);
        broker.stop(true);
        broker.start_again();
        wait_until("the connection", || {
            let err = running.err();
            err.matches("listening at").count() > usize::try_from(n).unwrap() + 1
        });
    }
    Publisher::new(&broker, None).publish(1, &[("a", "4"), ("a", "5")]);
    wait_for(&setup, 6);
    let done = stop(running);
    assert!(
        done.starts_with("6 records, 0 malformed, 0 refused"),
        "{done}"
    );
    // All of it was acknowledged: nothing comes again.
    let running = serve(&setup);
    Publisher::new(&broker, None).publish(1, &[("a", "6")]);
    wait_for(&setup, 7);
    stop(running);
    assert_eq!(
        payloads(&setup.stored()),
        ["0", "1", "2", "3", "4", "5", "6"]
    );
}

/// What a broker retains is sent at the first subscription of a process, and not again when only the connection
/// was lost.
#[test]
fn what_a_broker_retains_is_taken_once_for_each_start() {
    let (setup, mut broker) = with_broker("mqtt-retained", OPEN, r##", "topics": ["#"]"##);
    Publisher::new(&broker, None).publish_with(0x33, &[("a", "retained")]);
    let running = serve(&setup);
    wait_for(&setup, 1);
    broker.stop(true);
    broker.start_again();
    wait_until("the connection", || {
        running.err().matches("listening at").count() == 2
    });
    Publisher::new(&broker, None).publish(1, &[("a", "new")]);
    wait_for(&setup, 2);
    stop(running);
    let running = serve(&setup);
    wait_for(&setup, 3);
    stop(running);
    assert_eq!(payloads(&setup.stored()), ["retained", "new", "retained"]);
}

/// A peer that is no broker, or one that says nothing, is left and tried again.
#[test]
fn a_peer_that_is_no_broker_is_named_and_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let setup = subscribing("mqtt-none", &address, r##", "topics": ["a", "b"]"##);
    let running = setup.serve(&[]);
    let says: [(&[u8], &str); 5] = [
        (
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            "the broker sent a packet that no broker sends",
        ),
        (b"", "the broker closed the connection"),
        (&[0x20, 2, 0, 5], "this client may not connect (code 5)"),
        (
            &[0x20, 2, 0, 0, 0x90, 4, 0, 1, 1, 0x80],
            "refused the subscription to \"b\"",
        ),
        (
            &[0x30, 0xff, 0xff, 0xff, 0xff, 0xff],
            "a length of more than four bytes",
        ),
    ];
    for (bytes, error) in says {
        let (mut peer, _) = listener.accept().unwrap();
        peer.write_all(bytes).unwrap();
        let _ = peer.read(&mut [0; 1000]);
        if bytes.is_empty() {
            drop(peer);
        }
        running.wait_for(error);
    }
    // And one that is silent, after ten seconds.
    let (peer, _) = listener.accept().unwrap();
    running.wait_for("the broker has not answered for 10s");
    drop(peer);
    let done = stop(running);
    assert!(
        done.starts_with("0 records, 0 malformed, 0 refused, 6 restarts"),
        "{done}"
    );
}
