//! What comes over sockets: cut alike in parts and at once, held within bounds, and searched for its fields.

#![no_main]

use forebay::config::json;
use forebay::config::resolve::Resolver;
use forebay::input::cutter::{Cut, Cutter, Framing};
use forebay::input::fields::{Fields, Found, Origin};
use forebay::storage::Real;
use libfuzzer_sys::fuzz_target;

const LEN_MAX: usize = 200;
const FIELDS: &str = r#"{"key":"k","keyFrom":"/id","timeFrom":"/t","timeUnit":"nanoseconds",
    "propertiesFrom":{"a":"/a/0/b","c":"/~1~0","s":"sender"}}"#;

/// All records, `None` for each that was too long, and whether all of it made sense.
fn all(framing: Framing, data: &[u8], step: usize) -> (Vec<Option<Vec<u8>>>, bool) {
    let mut cutter = Cutter::new(framing, LEN_MAX);
    let mut found = Vec::new();
    let mut take = |cut: Cut<'_>| {
        found.push(match cut {
            Cut::Record(record) => {
                assert!(record.len() <= LEN_MAX);
                Some(record.to_vec())
            }
            Cut::TooLong(begin) => {
                assert!(begin.len() <= 64);
                None
            }
        });
        true
    };
    for part in data.chunks(step) {
        match cutter.cut(part, &mut take) {
            Ok(used) => assert_eq!(used, part.len()),
            Err(_) => return (found, false),
        }
    }
    cutter.end(&mut take);
    assert!(cutter.is_between_records());
    (found, true)
}

fuzz_target!(|data: &[u8]| {
    let Some((first, data)) = data.split_first() else {
        return;
    };
    let framing = match first & 1 {
        0 => Framing::Lines,
        _ => Framing::Frames,
    };
    let at_once = all(framing, data, data.len().max(1));
    let in_parts = all(framing, data, 1 + usize::from(first >> 1));
    assert_eq!(at_once, in_parts);

    let node = json::parse(FIELDS).unwrap();
    let fields = Fields::read(&mut node.object().unwrap(), &Resolver::new(&Real, None), false).unwrap();
    let origin = Origin { topic: "", sender: "7" };
    let mut found = Found::default();
    for record in at_once.0.iter().flatten() {
        fields.find(record, origin, &mut found);
        assert!(found.key.len() <= LEN_MAX && found.properties.len() <= 3);
        assert!(found.is_malformed || found.time_ms.is_some());
    }
});
