//! Each record once, for readers of what is committed: transactions that are broken off at each of their steps.

use std::path::Path;
use std::thread;
use std::time::Duration;

use super::broker::Read;
use super::process::{SMALL, STDIN, Setup, lines, number};
use super::proxy::Trip;
use super::{Gateway, assert_complete, shared, wait_long};

/// The numbers of the requests that a transaction consists of, in their order.
const INIT_PRODUCER_ID: u16 = 22;
const OFFSET_FETCH: u16 = 9;
const ADD_PARTITIONS: u16 = 24;
const PRODUCE: u16 = 0;
const ADD_OFFSETS: u16 = 25;
const OFFSET_COMMIT: u16 = 28;
const END: u16 = 26;
const STEPS: [u16; 7] = [
    INIT_PRODUCER_ID,
    OFFSET_FETCH,
    ADD_PARTITIONS,
    PRODUCE,
    ADD_OFFSETS,
    OFFSET_COMMIT,
    END,
];

const ONCE: &str = r#", "exactlyOnce": true"#;

fn pause(millis: u64) {
    thread::park_timeout(Duration::from_millis(millis));
}

/// A process that delivers by transactions of at most 100 records.
fn deliverer(name: &str, port: u16, topic: &str) -> Setup {
    let sink = format!(
        r#"{{"type": "kafka", "bootstrapServers": "127.0.0.1:{port}", "topic": "{topic}"{ONCE}}}"#
    );
    let setup = Setup::new(name, &sink, SMALL, STDIN);
    let text = std::fs::read_to_string(&setup.config).unwrap();
    let batch = r#""batch": {"maxRecords": 100, "#;
    std::fs::write(&setup.config, text.replacen(r#""batch": {"#, batch, 1)).unwrap();
    setup
}

fn acked(setup: &Setup) -> u64 {
    number(&setup.stats(), "ackedOffset")
}

/// Waits until all is delivered; of a process that runs, so many records that it was given.
fn wait_for_all(setup: &Setup, appended: u64) {
    wait_long("delivery", || {
        let stats = setup.stats();
        number(&stats, "appendedTotal") >= appended && number(&stats, "backlog") == 0
    });
}

/// Each line is there once.
pub fn assert_lines(messages: &[Read], count: u64) {
    let number = |message: &Read| message.value.strip_prefix("line ")?.parse().ok();
    let mut numbers: Vec<u64> = messages.iter().filter_map(number).collect();
    numbers.sort_unstable();
    let differs = (0..count).zip(&numbers).find(|(a, b)| a != *b);
    let len = messages.len();
    assert!(
        numbers.iter().copied().eq(0..count),
        "{len} of {count}: {differs:?}"
    );
}

/// `G-047`: SIGKILL when the broker has got any of the requests of a transaction and the process no answer
/// to it, and at any other time: nothing is lost, and for a reader of what is committed nothing is there twice.
#[test]
fn a_process_that_is_killed_in_a_transaction_delivers_each_record_once() {
    let Some(shared) = shared::broker() else {
        return;
    };
    let (broker, proxy) = (&shared.broker, &shared.proxy);
    let setup = deliverer("kafka-once-killed", proxy.port, "once-killed");
    let mut count = 0;
    let trips = STEPS.map(Some).into_iter().chain([None; 7]);
    for (round, trip) in (0..).zip(trips.chain(STEPS.map(Some))) {
        setup.append(&lines(count..count + 500));
        count += 500;
        let before = acked(&setup);
        if let Some(kind) = trip {
            proxy.arm(Trip::Deafen(kind));
        }
        let running = setup.serve(&[]);
        match trip {
            Some(_) => wait_long("the request", || proxy.has_tripped()),
            None => {
                wait_long("records", || acked(&setup) > before);
                pause(round * 37 % 100);
            }
        }
        // Some time for the broker to do what it was asked for.
        if trip.is_some() {
            pause(100);
        }
        drop(running);
        proxy.set_silent(false);
        if trip == Some(END) {
            assert_eq!(acked(&setup), before, "committed, and not heard of");
        }
    }
    let running = setup.serve(&[]);
    wait_for_all(&setup, 0);
    drop(running);
    assert_lines(&broker.read_committed("once-killed", count), count);
    let with_taken_back = broker.read("once-killed", count + 1).len();
    assert!(
        with_taken_back as u64 > count,
        "no transaction was broken off"
    );
}

/// `G-047`: the same link trouble while the process lives, for each request of a transaction: no answer, or a
/// connection that is cut.
#[test]
fn a_transaction_that_is_cut_off_anywhere_is_made_once() {
    let Some(shared) = shared::broker() else {
        return;
    };
    let (broker, proxy) = (&shared.broker, &shared.proxy);
    let fields = format!(
        r#"{ONCE}, "answerTimeoutMs": 2000, "properties": {{"reconnect.backoff.max.ms": 200,
              "socket.timeout.ms": 2000}}"#
    );
    let gateway = Gateway::open("once-cut", proxy.port, &fields);
    let mut count = 0;
    let trips = STEPS
        .into_iter()
        .flat_map(|kind| [Trip::Cut(kind), Trip::Deafen(kind)]);
    for trip in trips {
        let (Trip::Cut(kind) | Trip::Deafen(kind)) = trip;
        if [INIT_PRODUCER_ID, OFFSET_FETCH].contains(&kind) {
            // Only a new client sends these.
            proxy.arm(Trip::Deafen(END));
            gateway.append(count..count + 100);
            count += 100;
            wait_long("the request", || proxy.has_tripped());
        }
        proxy.arm(trip);
        proxy.set_silent(false);
        gateway.append(count..count + 300);
        count += 300;
        wait_long(&format!("{trip:?}"), || proxy.has_tripped());
        pause(300);
        proxy.set_silent(false);
        gateway.wait_for(count);
    }
    gateway.close();
    let messages = broker.read_committed("once-cut", count);
    assert_complete(&messages, count);
}

/// `G-045`, `L-S6`: a broker that dies between and in transactions.
#[test]
fn a_broker_that_is_killed_under_transactions_has_each_record_once() {
    let Some(mut shared) = shared::broker() else {
        return;
    };
    let broker = &mut shared.broker;
    let gateway = Gateway::open("once-broker", broker.port, ONCE);
    thread::scope(|scope| {
        let load = scope.spawn(|| {
            for round in 0..200 {
                gateway.append(round * 50..(round + 1) * 50);
                pause(50);
            }
        });
        wait_long("the first records", || gateway.acked() > 200);
        for _ in 0..2 {
            broker.kill();
            wait_long("that it is noticed", || gateway.state() == "link");
            broker.restart();
            let before = gateway.acked();
            wait_long("that it goes on", || gateway.acked() > before);
        }
        load.join().unwrap();
    });
    gateway.wait_for(10_000);
    gateway.close();
    let messages = broker.read_committed("once-broker", 10_000);
    assert_complete(&messages, 10_000);
}

/// `L-S10`: what the brokers refuse becomes a dead letter, and all else is there once.
#[test]
fn a_record_that_is_refused_in_a_transaction_becomes_a_dead_letter() {
    let Some(shared) = shared::broker() else {
        return;
    };
    let broker = &shared.broker;
    broker.create_small("once-refused");
    let gateway = Gateway::open("once-refused", broker.port, ONCE);
    for number in 0..300_u64 {
        let payload = match number % 60 {
            // One that the client itself does not take.
            7 if number == 67 => "x".repeat(1_040_000),
            7 => "x".repeat(6000),
            _ => number.to_string(),
        };
        gateway
            .stream
            .append(b"key", super::time(), payload.as_bytes())
            .unwrap();
    }
    gateway.wait_for(300);
    let stats = gateway.stream.stats();
    assert_eq!((stats.exported_total, stats.failed_total), (295, 5));
    gateway.close();
    let messages = broker.read_committed("once-refused", 295);
    let offsets: Vec<u64> = messages.iter().map(Read::offset).collect();
    let expected: Vec<u64> = (0..300).filter(|number| number % 60 != 7).collect();
    assert_eq!(offsets, expected);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).unwrap()),
        }
    }
}

/// A store that was copied: of two that deliver as one, one is fenced off, sends nothing, and says so.
#[test]
fn a_copy_of_the_store_and_the_store_do_not_both_deliver() {
    let Some(shared) = shared::broker() else {
        return;
    };
    let broker = &shared.broker;
    let [first, second] = ["first", "second"]
        .map(|name| deliverer(&format!("kafka-once-{name}"), broker.port, "once-copy"));
    let mut serving = first.serve(&[]);
    serving.write(&lines(0..300));
    wait_for_all(&first, 300);
    drop(serving);
    copy(&first.scratch.join("data"), &second.scratch.join("data"));
    let mut serving = first.serve(&[]);
    serving.write(&lines(300..400));
    wait_for_all(&first, 100);
    // What it calls 300 to 400 is there already, as far as anybody knows.
    let mut copied = second.serve(&[]);
    copied.write(&lines(300..500));
    wait_for_all(&second, 200);
    serving.write(&lines(400..500));
    wait_long("that it is fenced off", || {
        first.stats()["sinks"][0]["state"] == "config"
    });
    assert_eq!(number(&first.stats(), "exportedTotal"), 100);
    let error = first.stats()["sinks"][0]["lastExportError"].clone();
    assert!(
        error.as_str().unwrap().contains("another instance"),
        "{error}"
    );
    drop((serving, copied));
    let messages = broker.read_committed("once-copy", 500);
    assert_lines(&messages, 500);
}
