//! What inputs have done, as it is seen from outside.

use std::io::Write;
use std::net::UdpSocket;
use std::os::unix::net::UnixStream;

use crate::outside::{ANY_PORT, address, ask, with_service};
use crate::process::{NO_SINK, SMALL, Setup, wait_until};
use crate::prometheus::{self, Samples};

const KINDS: [&str; 2] = ["udp", "unixStream"];

/// The number of an input, which stands at this place.
fn number(samples: &Samples, name: &str, place: usize) -> f64 {
    let labels = format!("input={place},stream=telemetry,type={}", KINDS[place]);
    samples[&format!("forebay_input_{name}{{{labels}}}")]
}

/// `G-119`: each thing that came is in a count, and the counts are seen while it runs.
#[test]
fn counts_of_inputs_are_seen_from_outside() {
    let bounds = r#""maxRecordBytes": 100, "keyFrom": "/id", "onMalformed": "drop""#;
    let setup = Setup::new("input-counts", NO_SINK, SMALL, "");
    let socket = setup.scratch.path().join("input.sock");
    let inputs = format!(
        r#"{{"type": "udp", "stream": "telemetry", "address": "127.0.0.1:0", {bounds}}},
           {{"type": "unixStream", "stream": "telemetry", "path": {socket:?}, {bounds}}}"#
    );
    let text = std::fs::read_to_string(&setup.config).unwrap();
    let text = text.replacen(r#""inputs": []"#, &format!(r#""inputs": [{inputs}]"#), 1);
    std::fs::write(&setup.config, text).unwrap();
    with_service(&setup, ANY_PORT);
    let running = setup.serve(&[]);
    let address = address(&running);
    running.wait_for("input udp: listening at ");
    running.wait_for("input unixStream: listening at ");
    let err = running.err();
    let udp = err.split("input udp: listening at ").nth(1).unwrap();
    let udp = udp.lines().next().unwrap();

    let long = [b'x'; 200];
    let records: [&[u8]; 6] = [
        br#"{"id":1}"#,
        br#"{"id":2}"#,
        br#"{"id":3}"#,
        b"?",
        &long,
        &long,
    ];
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut streams: Vec<_> = (0..3)
        .map(|_| UnixStream::connect(&socket).unwrap())
        .collect();
    for record in records {
        sender.send_to(record, udp).unwrap();
        streams[0].write_all(record).unwrap();
        streams[0].write_all(b"\n").unwrap();
    }
    let samples = || prometheus::read(&ask(&address, "/metrics").body);
    let all = |name: &str, expected: f64| {
        let samples = samples();
        let is = |place: usize| (number(&samples, name, place) - expected).abs() < 0.5;
        is(0) && is(1)
    };
    wait_until("what was received", || all("received_total", 6.0));
    wait_until("what was too long", || all("too_long_total", 2.0));
    assert!(all("records_total", 3.0) && all("malformed_total", 1.0));
    assert!(all("refused_total", 0.0) && all("ended", 0.0));
    let connections = || number(&samples(), "connections", 1);
    wait_until("connections", || (connections() - 3.0).abs() < 0.5);
    let page = ask(&address, "/").body;
    let row = "<tr><td>unixStream</td><td>telemetry</td><td>6</td><td>3</td>\
               <td>1 malformed, 2 too long</td><td>3</td></tr>";
    assert!(page.contains(row), "{page}");
    drop(streams);
    wait_until("no connections", || connections() < 0.5);
}
