//! A line that goes and comes back, in all ways that lines have.
//!
//! `FLAPS=n` cuts and heals it so often, `SEED=n` in another order.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::delivery::Run;
use super::faults::{Random, number};
use super::server::Server;
use crate::common::{Scratch, wait_until};

/// How the line is.
const UP: u32 = 0;
/// Connections end at once: nobody is there, or somebody in between says so.
const RESET: u32 = 1;
/// Bytes go in, and nothing comes out; not on connections that are open either.
const BLACK_HOLE: u32 = 2;
/// Somebody else answers.
const PORTAL: u32 = 3;
/// What is sent arrives, and answers do not.
const HALF_OPEN: u32 = 4;
/// Old connections are dead without a word, new ones are not; heals by itself.
const FORGOTTEN: u32 = 5;
const KINDS: u32 = 6;

const BACKOFF_MAX: Duration = Duration::from_millis(100);
const PAGE: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 20\r\n\r\n<html>Sign in</html>";

/// What lies between the sink and the server.
struct Line {
    port: u16,
    state: Arc<AtomicU32>,
    /// Connections from before this number of the line's are dead.
    life: Arc<AtomicU32>,
}

impl Line {
    fn new(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let line = Self {
            port: listener.local_addr().unwrap().port(),
            state: Arc::default(),
            life: Arc::default(),
        };
        let (state, life, upstream) =
            (Arc::clone(&line.state), Arc::clone(&line.life), server.port);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (state, life) = (Arc::clone(&state), Arc::clone(&life));
                thread::spawn(move || carry(&stream, &state, &life, upstream));
            }
        });
        line
    }

    fn cut(&self, kind: u32) {
        if kind == FORGOTTEN {
            self.life.fetch_add(1, Ordering::Relaxed);
        } else {
            self.state.store(kind, Ordering::Relaxed);
        }
    }
}

fn carry(stream: &TcpStream, state: &Arc<AtomicU32>, life: &Arc<AtomicU32>, upstream: u16) {
    if state.load(Ordering::Relaxed) == RESET {
        return;
    }
    let born = life.load(Ordering::Relaxed);
    let far = TcpStream::connect(("127.0.0.1", upstream)).unwrap();
    let back = {
        let (state, life) = (Arc::clone(state), Arc::clone(life));
        let (from, to) = (far.try_clone().unwrap(), stream.try_clone().unwrap());
        thread::spawn(move || {
            pump(&from, &to, &to, || {
                let is_dead = life.load(Ordering::Relaxed) != born;
                match state.load(Ordering::Relaxed) {
                    RESET => Way::End,
                    BLACK_HOLE | HALF_OPEN => Way::Nowhere,
                    _ if is_dead => Way::Nowhere,
                    _ => Way::On,
                }
            });
        })
    };
    pump(stream, &far, stream, || {
        let is_dead = life.load(Ordering::Relaxed) != born;
        match state.load(Ordering::Relaxed) {
            RESET => Way::End,
            PORTAL => Way::Page,
            BLACK_HOLE => Way::Nowhere,
            _ if is_dead => Way::Nowhere,
            _ => Way::On,
        }
    });
    let _ = back.join();
}

enum Way {
    On,
    Nowhere,
    Page,
    End,
}

fn pump(mut from: &TcpStream, mut to: &TcpStream, mut near: &TcpStream, way: impl Fn() -> Way) {
    let mut bytes = vec![0; 65_536];
    // Nothing that was lost comes later.
    let mut is_lost = false;
    loop {
        let count = from.read(&mut bytes).unwrap_or(0);
        let way = match count {
            0 => Way::End,
            _ => way(),
        };
        let is_written = match way {
            Way::On if !is_lost => to.write_all(&bytes[..count]).is_ok(),
            Way::On | Way::Nowhere => {
                is_lost = true;
                true
            }
            Way::Page => {
                let _ = near.write_all(PAGE);
                false
            }
            Way::End => false,
        };
        if !is_written {
            let _ = from.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
            return;
        }
    }
}

/// `L-72`: whatever the line does, records go on to arrive within the back-off and 5 s after it heals, and
/// none is missing in the end.
#[test]
fn sending_resumes_whenever_the_line_heals() {
    let flaps = number("FLAPS").unwrap_or(KINDS.into());
    let mut random = Random(number("SEED").unwrap_or(1));
    let (scratch, server) = (Scratch::new("kinesis-flaps"), Server::new());
    let line = Line::new(&server);
    let sink = r#","requestTimeoutMs":2000,"connectTimeoutMs":2000,"maxRequestRecords":50,"maxShardRecordsPerSec":1000000"#;
    let delivery = format!(
        r#","delivery":{{"backoffBaseMs":1,"backoffMaxMs":{},"ordering":"none","maxInFlight":2}}"#,
        BACKOFF_MAX.as_millis()
    );
    let here = format!("127.0.0.1:{}/", server.port);
    let there = format!("127.0.0.1:{}/", line.port);
    let run = Run::open(
        &scratch,
        &server.stream(sink, &delivery).replace(&here, &there),
    );
    let (mut appended, mut slowest) = (0, Duration::ZERO);
    let mut kinds = [0; KINDS as usize];
    for flap in 0..flaps {
        let kind = match flap {
            0..6 => u32::try_from(flap).unwrap(),
            _ => u32::try_from(random.below(KINDS.into())).unwrap(),
        };
        kinds[kind as usize] += 1;
        line.cut(kind);
        run.append(appended..appended + 60);
        appended += 60;
        run.stream.flush(crate::common::LIMIT).unwrap();
        thread::sleep(Duration::from_millis(random.below(60)));
        line.state.store(UP, Ordering::Relaxed);
        let (healed, before) = (Instant::now(), run.stream.stats().exported_total);
        wait_until("a record that arrives", || {
            let stats = run.stream.stats();
            stats.exported_total > before || stats.backlog == 0
        });
        let took = healed.elapsed();
        assert!(
            took < BACKOFF_MAX + Duration::from_secs(5),
            "flap {flap} of kind {kind}: {took:?}"
        );
        slowest = slowest.max(took);
    }
    run.drained();
    let mut payloads: Vec<u64> = server
        .payloads()
        .iter()
        .map(|text| text.parse().unwrap())
        .collect();
    let arrived = payloads.len();
    payloads.sort_unstable();
    payloads.dedup();
    assert!(
        payloads.iter().copied().eq(0..appended),
        "{} of {appended}",
        payloads.len()
    );
    let stats = run.stream.stats();
    assert_eq!((stats.exported_total, stats.failed_total), (appended, 0));
    println!(
        "{flaps} flaps ({:?}): at most {slowest:?} until records arrived; {} of {appended} came twice",
        kinds,
        arrived as u64 - appended
    );
}

/// A name that nobody knows is a state, and costs nothing but time.
#[test]
fn a_name_that_is_not_known_is_a_state() {
    let (scratch, server) = (Scratch::new("kinesis-name"), Server::new());
    let here = format!("127.0.0.1:{}/", server.port);
    let delivery = r#","delivery":{"backoffBaseMs":1,"backoffMaxMs":20}"#;
    let stream = server
        .stream("", delivery)
        .replace(&here, "no-such-host.invalid/");
    let run = Run::open(&scratch, &stream);
    run.append(0..3);
    wait_until("a state", || {
        run.state() == forebay::counters::SinkState::Link
    });
    assert_eq!(run.stream.stats().backlog, 3);
    run.engine.close(crate::common::LIMIT).unwrap();
    // The same records by another address.
    let run = Run::open(&scratch, &server.stream("", delivery));
    run.drained();
    assert_eq!(server.payloads(), ["0", "1", "2"]);
}
