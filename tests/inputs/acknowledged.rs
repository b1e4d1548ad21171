//! Answers: `ok` when a record is durable, `no` and why when it was passed over.

use crate::client::{Listening, STREAMS, frame, storing};
use crate::process::{number, payloads, wait_until};

/// `L-10`: each record is answered, in order; what was passed over with its reason.
#[test]
fn who_asks_is_answered_for_each_record_in_order() {
    for kind in STREAMS {
        for framing in ["lines", "frames"] {
            let more = format!(
                r#", "acknowledge": "asked", "framing": "{framing}", "timeFrom": "/t",
                    "onMalformed": "drop", "onEarly": "drop", "maxRecordBytes": 30"#
            );
            let setup = storing(&format!("asked-{framing}"), kind, &more);
            let listening = Listening::start(&setup, kind);
            let mut client = listening.connect();
            let long = "x".repeat(31);
            let records = [
                "#acknowledge",
                "{\"t\":1795350780123}",
                &long,
                "{",
                "{\"t\":5}",
            ];
            for record in records {
                match framing {
                    "lines" => client.send(format!("{record}\n")),
                    _ => client.send(frame(record)),
                }
            }
            client.expect(&["ok", "ok", "no too long", "no malformed", "no too early"]);
            // It is durable when it is answered, and not before.
            assert_eq!(number(&setup.stats(), "durableOffset"), 1);
            assert!(client.end().is_empty());
            let expected = "1 records, 1 malformed, 0 refused, 1 too long, 1 too early";
            assert_eq!(listening.stop(), expected);
            assert_eq!(payloads(&setup.stored()), ["{\"t\":1795350780123}"]);
        }
    }
}

#[test]
fn who_does_not_ask_is_answered_only_where_all_are() {
    let setup = storing("never", "unixStream", "");
    let listening = Listening::start(&setup, "unixStream");
    let mut client = listening.connect();
    client.send("#acknowledge\nx\n");
    assert!(client.end().is_empty());
    listening.stop();
    assert_eq!(payloads(&setup.stored()), ["#acknowledge", "x"]);

    let setup = storing("always", "tcp", r#", "acknowledge": "always""#);
    let listening = Listening::start(&setup, "tcp");
    let mut client = listening.connect();
    client.send("x\n#acknowledge\nno end");
    assert_eq!(client.end(), ["ok"; 3]);
    listening.stop();
    assert_eq!(payloads(&setup.stored()), ["x", "#acknowledge", "no end"]);

    // Behind the first record it is one like any other, and nobody has asked.
    let setup = storing("late", "tcp", r#", "acknowledge": "asked""#);
    let listening = Listening::start(&setup, "tcp");
    let mut client = listening.connect();
    client.send("x\n#acknowledge\n");
    assert!(client.end().is_empty());
    listening.stop();
    assert_eq!(payloads(&setup.stored()), ["x", "#acknowledge"]);
}

/// An answer waits for a sync that all share, and not for the timer.
#[test]
fn an_answer_does_not_wait_for_the_timer() {
    let setup = storing("timer", "unixStream", r#", "acknowledge": "asked""#);
    let text = std::fs::read_to_string(&setup.config).unwrap();
    let text = text.replace(r#""fsyncIntervalMs": 20"#, r#""fsyncIntervalMs": 60000"#);
    std::fs::write(&setup.config, text).unwrap();
    let listening = Listening::start(&setup, "unixStream");
    let mut clients = [listening.connect(), listening.connect()];
    let before = number(&setup.stats(), "syncsTotal");
    let lines: String = (0..1000).map(|n| format!("{n}\n")).collect();
    for client in &mut clients {
        client.send(format!("#acknowledge\n{lines}"));
    }
    for client in &mut clients {
        client.expect(&["ok"; 1001]);
    }
    let stats = setup.stats();
    assert_eq!(number(&stats, "durableOffset"), 2000);
    let syncs = number(&stats, "syncsTotal") - before;
    assert!(syncs < 200, "{syncs} syncs for 2000 records");
    listening.stop();
}

/// A stop answers what was taken before it.
#[test]
fn a_stop_answers_what_was_taken() {
    let setup = storing("stopped", "tcp", r#", "acknowledge": "always""#);
    let listening = Listening::start(&setup, "tcp");
    let mut client = listening.connect();
    client.send("x\n".repeat(500));
    listening.wait_for_records(&setup, 500);
    let said = listening.stop();
    let answers = client.end();
    let said: usize = said.split(' ').next().unwrap().parse().unwrap();
    assert_eq!((said, answers.len()), (500, 500));
}

/// A client that does not read its answers is not read from, and costs no more memory for it.
#[test]
fn who_does_not_read_answers_is_read_no_more() {
    let setup = storing("deaf", "unixStream", r#", "acknowledge": "always""#);
    let listening = Listening::start(&setup, "unixStream");
    let mut deaf = listening.connect();
    deaf.socket
        .set_write_timeout(std::time::Duration::from_millis(500));
    let mut sent = 0;
    while deaf.socket.write_all(&[b'\n'; 1000]).is_ok() {
        sent += 1000;
        assert!(sent < 5_000_000, "it is read for ever");
    }
    let mut other = listening.connect();
    other.send("x\n");
    other.expect(&["ok"]);
    let taken = number(&setup.stats(), "appendedTotal");
    // When it reads again, it is read again.
    let mut answered = 0;
    wait_until("more of it", || {
        deaf.expect(&["ok"; 1000]);
        answered += 1000;
        number(&setup.stats(), "appendedTotal") > taken || answered >= taken
    });
    listening.stop();
}
