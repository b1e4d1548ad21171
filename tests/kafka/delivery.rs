//! What arrives, and in which order.

use std::path::Path;
use std::process::Command;

use forebay::Record;

use super::once::assert_lines;
use super::process::{Running, SMALL, STDIN, Setup, lines};
use super::{Gateway, assert_complete, shared, time};

/// `G-043`, `G-044`, `G-046`, `G-103`, `G-104`: what a record is made of arrives, and its offset with it.
#[test]
fn records_arrive_whole_and_in_the_order_of_their_key() {
    let Some(shared) = shared::broker() else {
        return;
    };
    let broker = &shared.broker;
    let gateway = Gateway::open("whole", broker.port, "");
    let properties: &[(&str, &[u8])] = &[("unit", b"kPa"), ("site", b"north")];
    for number in 0..2000_u64 {
        let (key, payload) = (format!("key-{}", number % 7), number.to_string());
        let record = Record {
            properties,
            ..Record::new(key.as_bytes(), time() + number, payload.as_bytes())
        };
        gateway.stream.append_record(&record).unwrap();
    }
    gateway.wait_for(2000);
    assert!(["ok", "idle"].contains(&gateway.state().as_str()));
    gateway.close();
    let messages = broker.read("whole", 2000);
    assert_complete(&messages, 2000);
    let epoch = messages[0].header("forebay.epoch").to_owned();
    for message in &messages {
        assert_eq!(message.offset().to_string(), message.value);
        assert_eq!(message.time_ms, time() + message.offset());
        assert_eq!(message.header("forebay.stream"), "telemetry");
        assert_eq!(message.header("forebay.epoch"), epoch);
        assert_eq!(message.header("unit"), "kPa");
        assert_eq!(message.header("site"), "north");
    }
    assert!(
        messages
            .iter()
            .any(|message| message.partition != messages[0].partition)
    );
}

/// `L-S10`: what the brokers refuse is found among what was sent with it, and only that is given up.
#[test]
fn a_record_that_the_brokers_refuse_becomes_a_dead_letter_and_no_other_does() {
    let Some(shared) = shared::broker() else {
        return;
    };
    let broker = &shared.broker;
    broker.create_small("refused");
    let gateway = Gateway::open("refused", broker.port, "");
    for number in 0..300_u64 {
        let key = format!("key-{}", number % 7);
        let len = if number % 60 == 7 { 6000 } else { 1 };
        // As a number, each is what it is counted by.
        let payload = format!("{number:0len$}");
        gateway
            .stream
            .append(key.as_bytes(), time(), payload.as_bytes())
            .unwrap();
    }
    gateway.wait_for(300);
    let stats = gateway.stream.stats();
    assert_eq!((stats.exported_total, stats.failed_total), (295, 5));
    gateway.close();
    let messages = broker.read("refused", 295);
    let mut offsets: Vec<u64> = messages.iter().map(super::Read::offset).collect();
    offsets.sort_unstable();
    let expected: Vec<u64> = (0..300).filter(|number| number % 60 != 7).collect();
    assert!(offsets == expected, "each once: {offsets:?}");
}

/// What is compressed by a codec is stored so, and read back by Kafka's own reader.
#[test]
fn each_codec_is_read_back_by_the_reader_of_kafka() {
    let Some(shared) = shared::broker() else {
        return;
    };
    let broker = &shared.broker;
    let mut codecs = vec![("gzip", 1), ("snappy", 2), ("lz4", 3)];
    if cfg!(feature = "kafka-zstd") {
        codecs.push(("zstd", 4));
    }
    for (codec, number) in codecs {
        let sink = format!(r#", "properties": {{"compression.type": "{codec}"}}"#);
        let gateway = Gateway::open(codec, broker.port, &sink);
        gateway.append(0..2000);
        gateway.wait_for(2000);
        gateway.close();
        assert_complete(&broker.read(codec, 2000), 2000);
        let used = broker.codecs(codec);
        // A batch that would not get smaller is sent as it is.
        assert!(used.contains(&number), "{codec}: {used:?}");
        assert!(
            used.iter().all(|used| [0, number].contains(used)),
            "{used:?}"
        );
    }
}

/// From standard input to a reader, by the binary; with `TARGET` by that which `cross/build` has made for it, in
/// user-mode emulation.
#[test]
fn the_binary_delivers_what_it_reads() {
    let Some(shared) = shared::broker() else {
        return;
    };
    let broker = &shared.broker;
    let address = broker.address();
    for (topic, more) in [("binary", ""), ("binary-once", r#", "exactlyOnce": true"#)] {
        let sink = format!(
            r#"{{"type": "kafka", "bootstrapServers": "{address}", "topic": "{topic}"{more}}}"#
        );
        let setup = Setup::new(&format!("kafka-{topic}"), &sink, SMALL, STDIN);
        let mut command = setup.run(&[]);
        if let Ok(name) = std::env::var("TARGET") {
            let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("cross/run");
            command = Command::new(run);
            command.arg(name).arg("run").arg(&setup.config);
        }
        let mut running = Running::start(&mut command);
        running.write(&lines(0..1000));
        running.end().expect(0);
        assert_lines(&broker.read_committed(topic, 1000), 1000);
    }
}
