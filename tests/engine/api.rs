//! Opening, closing, names, bounds, locks.

use std::time::Duration;

use forebay::format::PAGE_SIZE;
use forebay::sink::Blocking;
use forebay::{Code, Config, Engine, Record};

use crate::common::collect::{Collect, callback_stream};
use crate::common::{LIMIT, Scratch, lines, wait_until};

fn file_stream(scratch: &Scratch, more: &str) -> String {
    let path = scratch.join("out.ndjson");
    let path = path.display();
    format!(
        r#"{{"name": "telemetry", "sink": {{"type": "file", "path": "{path}"}},
            "batch": {{"maxLatencyMs": 20}} {more}}}"#
    )
}

const NO_SINK: &str = r#"{"name": "telemetry", "sink": {"type": "none"}}"#;

/// `G-020`, `G-030`, `G-098`: what is appended arrives, in order, once; and a clean stop repeats nothing.
#[test]
fn what_is_appended_arrives_and_a_clean_stop_repeats_nothing() {
    let scratch = Scratch::new("arrives");
    for run in 0..3u64 {
        let engine = Engine::open(&scratch.config(&file_stream(&scratch, ""))).unwrap();
        let stream = engine.stream("telemetry").unwrap();
        for n in 0..100 {
            let offset = stream
                .append(b"pump-7", n, format!("{run}-{n}").as_bytes())
                .unwrap();
            assert_eq!(offset, run * 100 + n);
        }
        stream.flush(LIMIT).unwrap();
        wait_until("delivery", || stream.stats().backlog == 0);
        engine.close(LIMIT).unwrap();
        let error = stream.append(b"", 0, b"").unwrap_err();
        assert_eq!(error.code(), Code::Closed);
    }
    let lines = lines(&scratch.join("out.ndjson"));
    assert_eq!(lines.len(), 300);
    for (at, line) in lines.iter().enumerate() {
        assert!(line.contains(&format!("\"offset\":{at},")), "{line}");
        assert!(
            line.ends_with(&format!("\"payload\":\"{}-{}\"}}", at / 100, at % 100)),
            "{line}"
        );
    }
}

/// `G-003`, `G-017`, `G-018`, `G-019`, `G-125`.
#[test]
fn only_configured_streams_are_known() {
    let scratch = Scratch::new("names");
    let named = |name: &str| format!(r#"{{"name": "{name}", "sink": {{"type": "none"}}}}"#);
    let streams = ["water", "air", "fire"].map(named).join(", ");
    let engine = Engine::open(&scratch.config(&streams)).unwrap();
    assert_eq!(engine.stream_names(), ["air", "fire", "water"]);
    let error = engine.stream("earth").err().unwrap();
    assert_eq!(
        (error.code(), error.code().number()),
        (Code::UnknownStream, 5)
    );
    assert!(error.to_string().contains("earth"));
    assert!(engine.stats("earth").is_none() && engine.stats("air").is_some());

    let empty = Engine::open(&Config::from_json(r#"{"other": 1}"#).unwrap()).unwrap();
    assert!(empty.stream_names().is_empty());
    assert_eq!(
        empty.stream("air").err().unwrap().code(),
        Code::UnknownStream
    );
}

/// `G-028`, `G-029`: closing twice is closing once; dropping is closing; handles outlive the engine and
/// refuse in so many words; what was taken before is durable.
#[test]
fn an_engine_closes_once_and_handles_outlive_it() {
    let scratch = Scratch::new("close");
    let config = || scratch.config(NO_SINK);
    let engine = Engine::open(&config()).unwrap();
    let stream = engine.stream("telemetry").unwrap();
    stream.append(b"", 1, b"first").unwrap();
    engine.close(LIMIT).unwrap();
    engine.close(LIMIT).unwrap();
    for result in [
        stream.append(b"", 1, b""),
        stream.append_durable(b"", 1, b"", LIMIT),
        stream.append_record(&Record::new(b"", 1, b"")),
    ] {
        assert_eq!(result.unwrap_err().code(), Code::Closed);
    }
    stream.flush(LIMIT).expect("everything is durable");
    drop(engine);
    let stats = stream.stats();
    assert_eq!(
        (
            stats.next_offset,
            stats.durable_offset,
            stats.rejected_total
        ),
        (1, 1, 3)
    );

    let engine = Engine::open(&config()).unwrap();
    let stream = engine.stream("telemetry").unwrap();
    assert_eq!(
        stream.append(b"", 2, b"second").unwrap(),
        1,
        "offsets go on"
    );
    drop(engine);
    assert_eq!(stream.append(b"", 2, b"").unwrap_err().code(), Code::Closed);
    let engine = Engine::open(&config()).unwrap();
    assert_eq!(engine.stats("telemetry").unwrap().durable_offset, 2);
}

/// `G-022`, `G-024`, `G-025`: a record over a bound is refused with the bound's name, counted, and takes
/// no offset.
#[test]
fn a_record_over_a_bound_is_refused_and_counted() {
    let scratch = Scratch::new("bounds");
    let buffer = r#", "buffer": {"maxRecordBytes": 100000}"#;
    let stream = NO_SINK.replace("}}", &format!("}}{buffer}}}"));
    let engine = Engine::open(&scratch.config(&stream)).unwrap();
    let stream = engine.stream("telemetry").unwrap();
    let long = vec![0; 100_001];
    let source = Some(forebay::Source {
        name: "",
        position: b"",
    });
    let nameless = Record {
        source,
        ..Record::new(b"", 0, b"")
    };
    let refusals = [
        (stream.append(b"", 0, &long), "maxRecordBytes, 100000"),
        (stream.append(b"k", 0, &long[..100_000]), "maxRecordBytes"),
        (stream.append(&long[..65_536], 0, b""), "65535"),
        (
            stream.append_durable(&long[..65_536], 0, b"", LIMIT),
            "65535",
        ),
        (stream.append_record(&nameless), "name"),
    ];
    for (refused, text) in refusals {
        let error = refused.unwrap_err();
        assert_eq!((error.code(), error.code().number()), (Code::InvalidArg, 8));
        assert!(error.to_string().contains(text), "{error}");
    }
    let stats = stream.stats();
    assert_eq!(
        (
            stats.rejected_total,
            stats.next_offset,
            stats.appended_total
        ),
        (5, 0, 0)
    );
    assert_eq!(stream.append(&long[..65_535], 0, b"").unwrap(), 0);
    assert_eq!(stream.append(b"", 0, &long[..100_000]).unwrap(), 1);
    assert_eq!(stream.append(b"", 0, b"").unwrap(), 2);
    assert_eq!(stream.stats().rejected_total, 5);
}

/// `G-034`: one store, one writer. Who comes second is told who has it, and changes nothing.
#[test]
fn a_store_that_is_open_is_refused() {
    let scratch = Scratch::new("lock");
    let engine = Engine::open(&scratch.config(NO_SINK)).unwrap();
    let stream = engine.stream("telemetry").unwrap();
    stream.append_durable(b"", 0, b"one", LIMIT).unwrap();
    let error = Engine::open(&scratch.config(NO_SINK)).err().unwrap();
    assert_eq!((error.code(), error.code().number()), (Code::Io, 2));
    let text = error.to_string();
    assert!(
        text.contains("locked") && text.contains("telemetry"),
        "{text}"
    );
    assert!(
        text.contains(&format!("process {} ", std::process::id())),
        "{text}"
    );
    stream.append_durable(b"", 0, b"two", LIMIT).unwrap();
    drop(engine);
    let engine = Engine::open(&scratch.config(NO_SINK)).unwrap();
    assert_eq!(engine.stats("telemetry").unwrap().durable_offset, 2);
}

/// Raises the format in a header or checkpoint slot, and seals it again.
fn raise_format(bytes: &mut [u8]) {
    assert!(bytes[12] == 1 && bytes[13] == 0);
    bytes[12] = 2;
    let sum = crc32fast::hash(&bytes[4..]);
    bytes[..4].copy_from_slice(&sum.to_le_bytes());
}

/// `G-078`, `G-123`, `L-27`: a store of a newer format is refused, and not a byte of it changes.
#[test]
fn a_newer_format_is_refused_and_not_touched() {
    let scratch = Scratch::new("newer");
    let engine = Engine::open(&scratch.config(NO_SINK)).unwrap();
    let stream = engine.stream("telemetry").unwrap();
    stream.append_durable(b"", 0, b"one", LIMIT).unwrap();
    drop((engine, stream));
    let files = scratch.files("data");
    let (path, bytes) = files
        .iter()
        .find(|(path, _)| path.to_string_lossy().contains("segment-"))
        .unwrap();
    let mut newer = bytes.clone();
    for copy in 0..2 {
        raise_format(&mut newer[copy * PAGE_SIZE..][..512]);
    }
    std::fs::write(path, newer).unwrap();
    let before = scratch.files("data");
    let error = Engine::open(&scratch.config(NO_SINK)).err().unwrap();
    assert_eq!((error.code(), error.code().number()), (Code::Corrupt, 3));
    let text = error.to_string();
    assert!(
        text.contains("format 2") && text.contains("telemetry"),
        "{text}"
    );
    assert!(scratch.files("data") == before, "something was touched");
    std::fs::write(path, bytes).unwrap();
    let engine = Engine::open(&scratch.config(NO_SINK)).unwrap();
    assert_eq!(engine.stats("telemetry").unwrap().durable_offset, 1);
}

/// `G-053`: a callback that nobody registered stores only; once it is there it gets everything.
#[test]
fn a_callback_that_is_not_registered_stores_only() {
    let scratch = Scratch::new("unregistered");
    let engine = Engine::open(&scratch.config(&callback_stream(""))).unwrap();
    let stream = engine.stream("telemetry").unwrap();
    for n in 0..10 {
        stream.append(b"", n, b"").unwrap();
    }
    stream.flush(LIMIT).unwrap();
    let stats = stream.stats();
    assert_eq!((stats.backlog, stats.exported_total), (10, 0));
    assert!(stats.sinks.is_empty());
    drop(engine);
    let sink = Collect::default();
    let config = scratch
        .config(&callback_stream(""))
        .with_sink("test", Blocking::new(sink.clone()));
    let engine = Engine::open(&config).unwrap();
    wait_until("delivery", || {
        engine.stats("telemetry").unwrap().backlog == 0
    });
    assert_eq!(sink.offsets(), (0..10).collect::<Vec<u64>>());
    engine.close(Duration::from_secs(5)).unwrap();
}

/// `L-100`: a store that a reboot would empty is refused where that is asked for, and nothing is made in it.
#[test]
fn a_store_in_memory_is_refused_where_it_is_asked_for() {
    let scratch = Scratch::new("volatile");
    let path =
        std::path::Path::new("/dev/shm").join(format!("forebay-volatile-{}", std::process::id()));
    let stream = |word: &str| {
        format!(
            r#"{{"name": "telemetry", "sink": {{"type": "none"}},
                "buffer": {{"path": {path:?}, "volatile": "{word}", "maxDiskBytes": 16777216}}}}"#
        )
    };
    let error = Engine::open(&scratch.config(&stream("refuse")))
        .err()
        .unwrap();
    assert_eq!(error.code(), Code::Config);
    let text = error.to_string();
    assert!(text.contains("a reboot empties it"), "{text}");
    let files = std::fs::read_dir(&path).map_or(0, Iterator::count);
    assert_eq!(files, 0);
    let engine = Engine::open(&scratch.config(&stream("warn"))).unwrap();
    engine.close(LIMIT).unwrap();
    std::fs::remove_dir_all(&path).unwrap();
}
