//! Whole documents: where ours stands, what is missing, what must differ, what is only worth a look.

use super::*;

const STREAM: &str = r#"{"name":"s","sink":{"type":"none"}}"#;

pub(super) fn warnings(text: &str) -> Vec<String> {
    read(text).unwrap().warnings().to_vec()
}

/// `G-002`: a component's configuration may hold ours under `streaming`, whatever stands beside it.
#[test]
fn ours_may_stand_under_streaming() {
    let text = format!(r#"{{"component":[1],"fsync":5,"streaming":{{"streams":[{STREAM}]}}}}"#);
    assert_eq!(read(&text).unwrap().stream_names(), ["s"]);
    let both = format!(r#"{{"streams":5,"streaming":{{"streams":[{STREAM}]}}}}"#);
    assert_eq!(read(&both).unwrap().stream_names(), ["s"]);
    let bad = r#"{"streaming":{"streams":[],
"fsync":5}}"#;
    assert_eq!(error(bad), "2:1 streaming.fsync: is not known here");
}

/// `G-003`: no section, no streams: it opens, knows none, and `check` says so.
#[test]
fn a_document_without_either_key_has_no_streams_and_a_warning() {
    for (text, warning) in [
        (
            "{}",
            "neither \"streams\" nor \"streaming\" stands in the document: no streams",
        ),
        (
            r#"{"x":1}"#,
            "neither \"streams\" nor \"streaming\" stands in the document: no streams",
        ),
        (r#"{"streams":[]}"#, "no streams are configured"),
        (r#"{"streams":null}"#, "no streams are configured"),
        (r#"{"streaming":{}}"#, "no streams are configured"),
    ] {
        assert!(read(text).unwrap().stream_names().is_empty());
        assert_eq!(warnings(text), [warning], "{text}");
    }
    assert!(warnings(&document("document", "", "")).is_empty());
}

/// `G-008`, `G-009`: what must be there.
#[test]
fn what_is_missing_is_named_with_the_object_that_lacks_it() {
    for (text, expected) in [
        ("5", "1:1 the document 5: must be an object"),
        (r#"{"streams":[5]}"#, "1:13 streams[0] 5: must be an object"),
        (
            r#"{"streams":[{}]}"#,
            r#"1:13 streams[0] {}: "name" is missing"#,
        ),
        (
            r#"{"streams":[{"name":"s"}]}"#,
            r#"1:13 streams[0] {"name":"s"}: "sink" is missing"#,
        ),
        (
            r#"{"streams":[{"name":"s","sinks":[]}]}"#,
            r#"1:13 streams[0] {"name":"s","sinks":[]}: at least one sink"#,
        ),
        (
            r#"{"streams":[{"name":"s","sink":{}}]}"#,
            r#"1:32 streams[0].sink {}: "type" is missing"#,
        ),
        (
            r#"{"streams":[{"name":"s","sinks":[{"type":"none"},{"type":"none"}]}]}"#,
            r#"1:34 streams[0].sinks[0] {"type":"none"}: "name" is missing"#,
        ),
        (
            r#"{"streams":[{"name":"s","sink":{"type":"none"},"sinks":[]}]}"#,
            r#"1:56 streams[0].sinks []: "sink" stands there already"#,
        ),
    ] {
        assert_eq!(error(text), expected);
    }
}

#[test]
#[cfg(feature = "file")]
fn a_file_needs_a_path() {
    let text = r#"{"streams":[{"name":"s","sink":{"type":"file"}}]}"#;
    let expected = r#"1:32 streams[0].sink {"type":"file"}: "path" is missing"#;
    assert_eq!(error(text), expected);
}

#[test]
#[cfg(feature = "cli")]
fn an_input_needs_a_type_and_a_stream() {
    let text = format!(r#"{{"streams":[{STREAM}],"inputs":[{{"stream":"s"}}]}}"#);
    assert!(error(&text).ends_with(r#" inputs[0] {"stream":"s"}: "type" is missing"#));
    let text = format!(r#"{{"streams":[{STREAM}],"inputs":[{{"type":"host"}}]}}"#);
    assert!(error(&text).ends_with(r#" inputs[0] {"type":"host"}: "stream" is missing"#));
}

/// `G-008`: a second stream of the same name does not replace the first.
#[test]
fn names_and_paths_differ() {
    for (text, expected) in [
        (
            format!(r#"{{"streams":[{STREAM},{STREAM}]}}"#),
            format!(r#"1:49 streams[1] {STREAM}: another stream is named "s""#),
        ),
        (
            r#"{"streams":[{"name":"s","sinks":[{"type":"none","name":"a"},{"type":"none","name":"a"}]}]}"#
                .to_owned(),
            r#"1:61 streams[0].sinks[1] {"type":"none","name":"a"}: another sink is named "a""#.to_owned(),
        ),
    ] {
        assert_eq!(error(&text), expected);
    }
    let other = r#"{"name":"t","sink":{"type":"none"},"buffer":{"path":"/var/lib/forebay/s"}}"#;
    let text = format!(r#"{{"streams":[{STREAM},{other}]}}"#);
    assert!(error(&text).ends_with(": another stream has the same buffer.path"));
}

#[test]
fn there_are_only_so_many_streams_and_sinks() {
    let streams = |count: usize| {
        let streams: Vec<_> = (0..count)
            .map(|n| STREAM.replace("\"s\"", &format!("\"s{n}\"")))
            .collect();
        format!(r#"{{"streams":[{}]}}"#, streams.join(","))
    };
    assert_eq!(
        read(&streams(STREAMS_MAX)).unwrap().stream_names().len(),
        STREAMS_MAX
    );
    let text = error(&streams(STREAMS_MAX + 1));
    assert!(text.ends_with(": at most 1024 streams"), "{text}");

    let sinks = |count: usize| {
        let sinks: Vec<_> = (0..count)
            .map(|n| format!(r#"{{"type":"none","name":"k{n}"}}"#))
            .collect();
        format!(
            r#"{{"streams":[{{"name":"s","sinks":[{}]}}]}}"#,
            sinks.join(",")
        )
    };
    assert!(read(&sinks(CURSORS_MAX)).is_ok());
    let text = error(&sinks(CURSORS_MAX + 1));
    assert!(
        text.ends_with(&format!(": at most {CURSORS_MAX} sinks")),
        "{text}"
    );
}

/// `L-66`: a million is an error that says where and why, in a moment. `tests/grid.rs` shows the memory.
#[test]
fn a_million_streams_or_sinks_are_an_error_with_place_and_rule() {
    let million = vec!["{}"; 1_000_000].join(",");
    let text = error(&format!("{{\"streams\":[\n{million}]}}"));
    assert_eq!(
        text,
        format!("2:3073 streams[1024] {{}}: at most {STREAMS_MAX} streams")
    );
    let text = error(&format!(
        "{{\"streams\":[{{\"name\":\"s\",\"sinks\":[\n{million}]}}]}}"
    ));
    assert_eq!(
        text,
        format!("2:49 streams[0].sinks[16] {{}}: at most {CURSORS_MAX} sinks")
    );
}

#[test]
fn names_may_be_as_long_as_their_bound() {
    for (place, max) in [("stream", 249), ("sink", 64)] {
        let named = |len| document(place, "name", &format!("\"name\":\"{}\"", "n".repeat(len)));
        assert!(read(&named(max)).is_ok());
        let text = error(&named(max + 1));
        assert!(
            text.ends_with(&format!(
                "n…: must be 1 to {max} letters, digits, dots, underscores and hyphens"
            )),
            "{text}"
        );
        assert!(
            text.len() < 250,
            "a long value is not repeated as a whole: {text}"
        );
    }
}

/// `G-053`, `L-78`: a type that this build lacks is an error, or buffer-only where it was said so.
#[test]
#[cfg(not(all(feature = "kafka", feature = "kinesis")))]
fn a_sink_that_need_not_be_there_is_a_warning() {
    for lacking in ["kafka", "kinesis"] {
        if is_compiled_in(lacking) {
            continue;
        }
        let sink = format!(r#"{{"type":"{lacking}","required":false,"topic":"x","p":{{"a":1}}}}"#);
        let text = format!(r#"{{"streams":[{{"name":"s","sink":{sink}}}]}}"#);
        let expected = format!(
            "streams[0].sink: this build does not have the feature \"{lacking}\": nothing is delivered"
        );
        assert_eq!(warnings(&text), [expected]);
        let config = read(&text).unwrap();
        assert!(matches!(config.streams[0].sinks[0].kind, SinkKind::None));
        assert_eq!(config.streams[0].sinks[0].name, lacking);
    }
}

/// `G-053`: nothing is ever acknowledged, so refusing what is new refuses everything in the end.
#[test]
fn refusing_new_records_without_a_sink_is_worth_a_look() {
    let text = document("buffer", "onFull", r#""onFull":"rejectNew""#);
    let text = text.replace(r#""type":"callback""#, r#""type":"none""#);
    let warnings = warnings(&text);
    assert!(
        warnings.len() == 1 && warnings[0].starts_with("streams[0]: "),
        "{warnings:?}"
    );
    let text = text.replace(r#""type":"none""#, r#""type":"callback""#);
    assert!(read(&text).unwrap().warnings().is_empty());
}

/// `G-057`, `G-058`: what a buffer in memory has no use for is refused, and its budget is one of RAM.
#[test]
fn a_buffer_in_memory_has_no_path_and_a_budget_of_its_own() {
    let buffer = |fields: &str| document("buffer", "", &format!("\"type\":\"memory\"{fields}"));
    for (field, rule) in [
        (r#""path":"/data/s""#, "must be absent"),
        (r#""reserve":"all""#, r#"must be "none""#),
        (r#""volatile":"refuse""#, r#"must be "allow" or "warn""#),
        (r#""ring":"shared""#, r#"must be "private""#),
        (r#""io":"mmap""#, r#"must be "auto" or "write""#),
    ] {
        let (key, value) = field.split_once(':').unwrap();
        let path = path_of("buffer", key.trim_matches('"'));
        assert_eq!(
            error(&buffer(&format!(",{field}"))),
            format!(
                "2:{} {path} {value}: {rule} where buffer.type is \"memory\"",
                key.len() + 18
            )
        );
    }
    assert!(
        read(&buffer(
            r#","path":null,"volatile":"warn","io":"write","reserve":"none""#
        ))
        .is_ok()
    );
    let config = read(&buffer("")).unwrap();
    assert_eq!(config.streams[0].buffer.max_disk_bytes, 16_777_216);
    assert!(config.has_stream("s") && config.store_path("s").is_none());
    let needs = &config.memory()[0];
    assert_eq!((&needs.path, needs.disk), (&None, 0));
    assert!(needs.memory > 16_777_216);
    // Never less than eight of the longest records.
    let large = r#","maxBufferedBytes":134217728"#;
    let config = read(&buffer(large)).unwrap();
    assert_eq!(config.streams[0].buffer.max_disk_bytes, 8 * 33_554_432);
    assert!(
        read(&buffer(
            r#","maxBufferedBytes":4096,"maxDiskBytes":1048576"#
        ))
        .is_ok()
    );
    let max: u64 = if cfg!(target_pointer_width = "64") {
        1 << 36
    } else {
        1 << 30
    };
    assert!(read(&buffer(&format!(r#","maxDiskBytes":{max}"#))).is_ok());
    let text = error(&buffer(&format!(r#","maxDiskBytes":{}"#, max + 1)));
    assert!(
        text.ends_with(&format!(": must be 8388608..={max}")),
        "{text}"
    );
}

/// A stream in memory has no directory that another one could have.
#[test]
fn a_stream_in_memory_shares_no_path() {
    let text = r#"{"dataDir":"/d","runDir":"/r","streams":[
        {"name":"a","sink":{"type":"none"},"buffer":{"type":"memory"}},
        {"name":"b","sink":{"type":"none"},"buffer":{"path":"/d/a"}},
        {"name":"c","sink":{"type":"none"},"buffer":{"type":"memory"}}]}"#;
    let config = read(text).unwrap();
    let places = ["a", "b", "c"].map(|name| config.memory_place(name));
    assert!(places[0] != places[2] && places[1].is_none());
    // For ever, or a program of another build would look in another place.
    let expected = Path::new("/r/memory-0ae8769c9b01fc56");
    assert_eq!(places[0].as_deref(), Some(expected));
}

/// `G-064`: waiting for room makes sense only where somebody can make some.
#[test]
fn blocking_needs_a_sink_and_its_time_limit_needs_blocking() {
    let text = document("buffer", "onFull", r#""onFull":"block""#);
    assert!(read(&text).unwrap().warnings().is_empty());
    assert_eq!(
        error(&text.replace(r#""type":"callback""#, r#""type":"none""#)),
        "2:10 streams[0].buffer.onFull \"block\": needs a sink that is not \"none\": else nothing ever \
         makes room"
    );
    let text = document("buffer", "blockTimeoutMs", "\"blockTimeoutMs\":5");
    let other = |policy| text.replace("\"block\"", policy);
    assert!(read(&text).is_ok());
    for policy in ["\"dropOldest\"", "\"rejectNew\"", "null"] {
        assert_eq!(
            error(&other(policy)),
            "2:18 streams[0].buffer.blockTimeoutMs 5: is for onFull \"block\" only"
        );
    }
    assert_eq!(
        meaning(&text.replace(":5", ":null")),
        meaning(&text.replace("\n\"blockTimeoutMs\":5", "\n\"fsync\":null"))
    );
}

/// The bounds that follow from other fields.
#[test]
fn bounds_follow_from_what_else_is_configured() {
    let buffer = |fields: &str| document("buffer", "", fields);
    assert_eq!(
        error(&buffer(r#""maxBufferedBytes":4096,"maxRecordBytes":1025"#)),
        "2:42 streams[0].buffer.maxRecordBytes 1025: must be 1..=1024"
    );
    // `G-060`: room for eight of the longest records, and never less than a MiB.
    assert_eq!(
        error(&buffer(r#""maxBufferedBytes":4096,"maxDiskBytes":1048575"#)),
        "2:40 streams[0].buffer.maxDiskBytes 1048575: must be 1048576..=70368744177664"
    );
    assert!(read(&buffer(r#""maxBufferedBytes":4096,"maxDiskBytes":1048576"#)).is_ok());
    assert_eq!(
        error(&buffer(r#""maxRecordBytes":200000,"maxDiskBytes":1599999"#)),
        "2:40 streams[0].buffer.maxDiskBytes 1599999: must be 1600000..=70368744177664"
    );
    let delivery = |fields: &str| document("delivery", "", fields);
    assert_eq!(
        error(&delivery(r#""backoffBaseMs":60000,"backoffMaxMs":59999"#)),
        "2:38 streams[0].delivery.backoffMaxMs 59999: must be 60000..=86400000"
    );
    let config = read(&delivery(r#""backoffBaseMs":60000"#)).unwrap();
    assert_eq!(
        config.streams[0].delivery.backoff_max,
        Duration::from_mins(1)
    );
    // `G-072`: the ring's bytes are a power of two, its longest record follows from what was asked for.
    let config = read(&buffer(r#""maxBufferedBytes":5000"#)).unwrap();
    assert_eq!(config.streams[0].buffer.ring_bytes, 8192);
    assert_eq!(config.streams[0].buffer.max_record_bytes, 1250);
}

#[test]
fn places_count_characters_and_lines() {
    let text = "{\n\t\"streams\": [\r\n{\"sink\": {\"type\": \"none\"}, \
                \"name\": \"ä€\u{1f600}\", \"x\": 1}]}";
    assert!(error(text).starts_with("3:36 streams[0].name \"ä€\u{1f600}\": must be 1 to 249"));
}

/// `G-007`: a document that is no JSON says where it ends to be one.
#[test]
fn what_is_no_json_is_an_error_with_its_place() {
    for (text, expected) in [
        ("", "1:0 EOF while parsing a value"),
        ("{\"streams\":[", "1:12 EOF while parsing a list"),
        ("{\"streams\":\n[]", "2:2 EOF while parsing an object"),
        ("{\"streams\":[]} x", "1:16 trailing characters"),
        ("{'streams':[]}", "1:2 key must be a string"),
        ("{\"streams\":[],}", "1:15 key must be a string"),
        ("{\"streams\":[01]}", "1:14 invalid number"),
        ("{\"a\":\"\\x\"}", "1:8 invalid escape"),
        (
            "{\"a\":\"\t\"}",
            "1:6 control character (\\u0000-\\u001F) found while parsing a string",
        ),
    ] {
        assert_eq!(error(text), expected, "{text}");
    }
}

#[test]
fn only_keeps_one_stream() {
    let text = format!(
        r#"{{"streams":[{STREAM},{}]}}"#,
        STREAM.replace("\"s\"", "\"t\"")
    );
    assert_eq!(
        read(&text).unwrap().only("t").unwrap().stream_names(),
        ["t"]
    );
    assert_eq!(
        read(&text).unwrap().only("u").unwrap_err().code(),
        Code::UnknownStream
    );
}

/// `L-78`: nothing that is configured is silently not there.
#[test]
#[cfg(all(feature = "cli", not(feature = "http")))]
fn what_needs_a_feature_that_is_not_there_is_an_error() {
    for part in [r#""http":{}"#, r#""metrics":{"path":"m"}"#] {
        let text = error(&format!(r#"{{"streams":[{STREAM}],"service":{{{part}}}}}"#));
        assert!(
            text.ends_with("this build does not have the feature \"http\""),
            "{text}"
        );
    }
}
