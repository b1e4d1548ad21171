//! Other ways of writing requests and records: what arrives is the same.

use forebay::counters::SinkState;

use super::delivery::Run;
use super::server::{Act, Server};
use crate::common::{Scratch, wait_until};

fn numbers(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

/// `G-035`: requests and answers in CBOR, signed as they are, without base64; partial answers and errors are
/// understood as in JSON.
#[test]
fn cbor_delivers_what_json_does_in_fewer_bytes() {
    let mut bodies = Vec::new();
    for encoding in ["json", "cbor"] {
        let (scratch, server) = (Scratch::new("kinesis-encoding"), Server::new());
        let mut count = 0;
        server.script(move |body| {
            count += 1;
            let len = body["Records"].as_array().unwrap().len();
            let slow = "ProvisionedThroughputExceededException";
            match count {
                1 => Act::Refuse(400, "LimitExceededException"),
                2 => Act::Partly((0..len).step_by(3).map(|at| (at, slow)).collect()),
                _ => Act::Take,
            }
        });
        let run = Run::open(
            &scratch,
            &server.stream(
                &format!(r#","encoding":"{encoding}""#),
                r#","delivery":{"backoffBaseMs":1,"backoffMaxMs":2}"#,
            ),
        );
        run.append(0..100);
        run.stream
            .append("k\u{fc}".as_bytes(), 0, &[0xff; 600])
            .unwrap();
        run.drained();
        assert!(run.stream.stats().retries_total > 0);
        let state = server.state();
        assert_eq!(state.refused, [""; 0]);
        assert_eq!(
            state.content_type,
            format!("application/x-amz-{encoding}-1.1")
        );
        let mut texts = Vec::new();
        for taken in &state.taken {
            match taken.key.as_str() {
                "pump-7" => texts.push(String::from_utf8(taken.data.clone()).unwrap()),
                key => assert_eq!((key, &taken.data[..]), ("k\u{fc}", &[0xff; 600][..])),
            }
        }
        texts.sort_by_key(|text| text.parse::<u64>().unwrap());
        assert_eq!((texts, state.taken.len()), (numbers(0..100), 101));
        bodies.push(state.body_bytes);
    }
    assert!(bodies[1] < bodies[0], "{bodies:?}");
}

/// `L-115`: what the service says in CBOR, and what a gateway says in the middle of it.
#[test]
fn errors_in_cbor_have_their_states() {
    let (scratch, server) = (Scratch::new("kinesis-cbor-states"), Server::new());
    let delivery = r#","delivery":{"backoffBaseMs":1,"backoffMaxMs":20}"#;
    let run = Run::open(&scratch, &server.stream(r#","encoding":"cbor""#, delivery));
    for (act, state, error) in [
        (
            Act::Refuse(403, "AccessDeniedException"),
            SinkState::Auth,
            "AccessDeniedException: no",
        ),
        (
            Act::Say(200, "<html>Sign in</html>".to_owned()),
            SinkState::Link,
            "the answer cannot be read",
        ),
        (Act::Cut, SinkState::Link, ""),
    ] {
        server.script(move |_| act.clone());
        run.append(0..1);
        wait_until("a state", || {
            run.state() == state && run.error().starts_with(error)
        });
    }
    server.script(|_| Act::Take);
    run.drained();
    assert_eq!(server.payloads(), ["0", "0", "0"]);
}
