//! Documents that are broken in every way that chance finds: an error or a configuration, never a panic.

use super::*;

const RIGHT: &str = r#"{"dataDir":"/data","runDir":null,"secretsDir":"/x","vars":{"A":"north","B":"{"},
"streams":[
  {"name":"fast","sinks":[{"type":"none","name":"a"},{"type":"callback","name":"b","id":"x{B}{{","startAt":"newest"}],
   "buffer":{"type":"disk","path":"/data/{A}","segmentBytes":65536.0,"maxDiskBytes":1e9,"onFull":"rejectNew",
             "fsync":"always","fsyncIntervalMs":50,"maxBufferedRecords":100,"maxBufferedBytes":65536,
             "maxRecordBytes":1000,"volatile":"refuse","strict":false,"io":"mmap","checkpointMs":100},
   "batch":{"maxRecords":10,"maxBytes":1000,"maxLatencyMs":0,"compression":"none"},
   "delivery":{"maxRetries":-1,"backoffBaseMs":5,"backoffMaxMs":50,"ordering":"stream","maxInFlight":1}},
  {"name":"slow \u00e4\ud83d\ude00"}],"inputs":[{"type":"stdin","stream":"fast","key":"k"}]}"#;

/// What is put in at random places.
const PIECES: [&str; 28] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "\\ud800",
    "\\u0000",
    "null",
    "true",
    "-1",
    "1e999",
    "0.5",
    "99999999999999999999",
    "\"name\":",
    "\"streams\":",
    "\"\":",
    "é",
    "\u{0}",
    "\u{feff}",
    "{\"$secret\":\"x\"}",
    "{Hostname}",
    "{env:PATH}",
    "{{",
    "\\u007bB}",
    "[[[[[[[[[[[[[[[[[[[[",
];

/// `SplitMix64` (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap()
    }
}

/// Breaks a document a little more.
fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    let (at, to) = (random.below(bytes.len() + 1), random.below(bytes.len() + 1));
    let (start, end) = (at.min(to), at.max(to).min(at.min(to) + 40));
    match random.below(7) {
        0 => bytes.truncate(at),
        1 if start < bytes.len() => bytes[start] ^= 1 << random.below(8),
        2 => drop(bytes.drain(start..end)),
        3 => {
            let copy = bytes[start..end].to_vec();
            bytes.splice(to..to, copy);
        }
        4 if start < bytes.len() => bytes[start] = u8::try_from(random.below(256)).unwrap(),
        _ => {
            let piece = PIECES[random.below(PIECES.len())];
            bytes.splice(at..at, piece.bytes());
        }
    }
}

/// Reads whatever it is. An error has a place that lies in the document; a configuration can be asked
/// what it takes, and what is in force is a configuration again.
fn survive(text: &str) -> bool {
    match read(text) {
        Ok(config) => {
            assert!(config.memory().iter().all(|needs| needs.memory > 0));
            let in_force = config.to_json();
            let again = read(&in_force).unwrap_or_else(|error| panic!("{error}: {in_force}"));
            assert_eq!(again.to_json(), in_force, "{text}");
            true
        }
        Err(error) => {
            assert_eq!(error.code(), Code::Config);
            let error = error.to_string();
            let place = error.split(' ').next().unwrap_or_default();
            let (line, column) = place.split_once(':').unwrap_or_default();
            let line: usize = line.parse().unwrap_or_else(|_| panic!("no place: {error}"));
            let column: usize = column
                .parse()
                .unwrap_or_else(|_| panic!("no place: {error}"));
            let lines: Vec<_> = text.split('\n').collect();
            assert!(line >= 1 && line <= lines.len(), "{error}\n{text}");
            assert!(column <= lines[line - 1].len() + 1, "{error}\n{text}");
            false
        }
    }
}

/// `L-29`: no panic is reachable from content. `SEED=` tries others.
#[test]
fn a_broken_document_never_panics() {
    let right = RIGHT.replace(
        "slow \\u00e4\\ud83d\\ude00\"",
        "slow\",\"sink\":{\"type\":\"none\"}",
    );
    assert!(survive(&right));
    assert!(!survive(RIGHT), "the name has an umlaut");
    let seed = std::env::var("SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let mut random = Random(seed.unwrap_or(1));
    let mut taken = 0;
    for _ in 0..20_000 {
        let mut bytes = right.as_bytes().to_vec();
        for _ in 0..=random.below(4) {
            mutate(&mut random, &mut bytes);
        }
        taken += u32::from(survive(&String::from_utf8_lossy(&bytes)));
    }
    assert!(
        (100..19_000).contains(&taken),
        "mutations are too small or too large: {taken}"
    );
}

#[test]
fn every_unfinished_document_is_an_error() {
    for end in (0..RIGHT.len()).filter(|end| RIGHT.is_char_boundary(*end)) {
        assert!(!survive(&RIGHT[..end]));
    }
}

/// As deep as a document may be long: no stack is used up.
#[test]
fn deep_nesting_is_an_error_and_no_crash() {
    let depth = 200_000;
    let array = "[".repeat(depth) + &"]".repeat(depth);
    let object = "{\"a\":".repeat(depth) + "1" + &"}".repeat(depth);
    for value in [&*array, &object] {
        assert!(
            !survive(value) || value == object,
            "our keys are on top only"
        );
        for (place, key) in fields::fields() {
            if place == "buffer" && key != "segmentBytes" {
                continue; // one of them is enough
            }
            survive(&document(place, key, &format!("\"{key}\":{value}")));
        }
        survive(&document("buffer", "x", &format!("\"x\":{value}")));
    }
}

#[test]
fn surrogates_and_escapes_are_text_or_an_error() {
    let named = |name: &str| document("stream", "name", &format!("\"name\":\"{name}\""));
    assert_eq!(read(&named("\\u0061b")).unwrap().stream_names(), ["ab"]);
    for bad in [
        "\\ud83d\\ude00",
        "\\ud800",
        "\\udc00\\ud800",
        "\\ud800\\u0061",
        "\\uD83D",
        "\\u12",
    ] {
        assert!(!survive(&named(bad)), "{bad}");
        survive(&document("stream", "x", &format!("\"{bad}\":1")));
    }
}
