//! What a feed makes of records, and what it counts.

use super::*;
use crate::config::Config;
use crate::config::json;
use crate::engine::Engine;
use crate::storage::Real;

fn options(text: &str) -> Options {
    let node = json::parse(text).unwrap();
    let resolver = Resolver::new(&Real, None);
    Options::read(&mut node.object().unwrap(), &resolver, false).unwrap()
}

/// Feeds a stream in memory with payloads; what became of each, and all counts.
fn feed(text: &str, payloads: &[&[u8]], patience: Patience) -> (Vec<Taken>, String) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or_default().replace(':', "-");
    let name = format!("forebay-{}-{test}", std::process::id());
    let dir = std::env::temp_dir().join(name);
    let config = r#"{"streams":[{"name":"s","sink":{"type":"none"},
        "buffer":{"type":"memory","maxDiskBytes":1048576,"maxBufferedBytes":65536}}]}"#;
    let config = Config::from_json(config).unwrap().with_run_dir(&dir);
    let engine = Engine::open(&config).unwrap();
    let stream = engine.stream("s").unwrap();
    let (options, progress) = (options(text), Progress::default());
    let mut feed = Feed::new("test", &options, &stream, &progress, patience);
    let take = |payload: &&[u8]| feed.take(payload, Origin::default(), None);
    let taken = payloads.iter().map(take).collect();
    drop(engine);
    (taken, progress.summary())
}

#[test]
fn what_is_wrong_with_a_record_is_counted_by_reason() {
    let text = r#"{"timeFrom":"/t","maxRecordBytes":30,"onMalformed":"drop","onEarly":"drop"}"#;
    let payloads: [&[u8]; 5] = [
        b"{\"t\":1795350780123}",
        b"x",
        b"{\"t\":5}",
        b"{\"t\":1795350780123,\"more\":\"xx\"}",
        b"{\"t\":1795350780124}",
    ];
    let (taken, summary) = feed(text, &payloads, Patience::Waits);
    let expected = [
        Taken::Below(1),
        Taken::Not(Reason::Malformed),
        Taken::Not(Reason::Early),
        Taken::Not(Reason::TooLong),
        Taken::Below(2),
    ];
    assert_eq!(taken, expected);
    let expected = "2 records, 1 malformed, 0 refused, 1 too long, 1 too early";
    assert_eq!(summary, expected);
}

#[test]
fn what_is_kept_is_counted_too() {
    let text = r#"{"timeFrom":"/t","onEarly":"now"}"#;
    let (taken, summary) = feed(text, &[b"x", b"{\"t\":5}"], Patience::Waits);
    assert_eq!(taken, [Taken::Below(1), Taken::Below(2)]);
    assert_eq!(summary, "2 records, 1 malformed, 0 refused, 1 too early");
}

#[test]
fn a_rate_is_kept_by_waiting_or_by_counting() {
    let text = r#"{"maxRecordsPerSec":20}"#;
    let payloads = [&b"x"[..]; 25];
    let (taken, summary) = feed(text, &payloads, Patience::Counts);
    let limited = taken
        .iter()
        .filter(|taken| **taken == Taken::Not(Reason::Limited));
    assert!((4..=5).contains(&limited.count()), "{summary}");
    let clock = System::new();
    let began = clock.mono();
    let (_, summary) = feed(text, &payloads, Patience::Waits);
    assert_eq!(summary, "25 records, 0 malformed, 0 refused");
    assert!(clock.mono().since(began) >= Duration::from_millis(200));
}

#[test]
fn lines_of_json_are_records_with_all_their_parts() {
    let text = r#"{"format":"ndjson","key":"k"}"#;
    let payloads: [&[u8]; 2] = [b"{\"payload\":\"x\",\"key\":\"own\"}", b"{}"];
    let (taken, summary) = feed(text, &payloads, Patience::Waits);
    assert_eq!(taken, [Taken::Below(1), Taken::Not(Reason::Malformed)]);
    assert_eq!(summary, "1 records, 1 malformed, 0 refused");
}
