//! What a sink for Kafka takes, and what it says to what it does not take.

use super::documents::warnings;
use super::*;

/// `G-048`: what the client does not take is refused with the property's name, before anything is opened.
#[test]
fn a_bad_property_of_the_client_is_an_error_that_names_it() {
    for (property, rule) in [
        (
            r#""linger.mss": 5"#,
            r#"No such configuration property: "linger.mss""#,
        ),
        (
            r#""acks": "most""#,
            r#"Invalid value for configuration property "request.required.acks""#,
        ),
        (
            r#""transactional.id": "x""#,
            r#"the property "transactional.id": "exactlyOnce": true sets it"#,
        ),
        (
            r#""delivery.report.only.error": true"#,
            r#"the property "delivery.report.only.error": without reports nothing would ever be accepted"#,
        ),
        (r#""linger.ms": [5]"#, "must be a string"),
        (r#""linger.ms": null"#, "must be a string"),
    ] {
        let text = document(
            "kafka",
            "properties",
            &format!(r#""properties":{{{property}}}"#),
        );
        let (name, value) = property.split_once(": ").unwrap();
        let path = format!("streams[0].sink.properties.{}", name.trim_matches('"'));
        let told = error(&text);
        assert!(told.contains(&format!("{path} {value}: ")), "{told}");
        assert!(told.contains(rule), "{told}");
    }
}

/// `G-048`: transactions need what other settings can take from them.
#[test]
fn what_rules_transactions_out_is_an_error_that_names_it() {
    let sink = |more: &str| {
        document(
            "kafka",
            "exactlyOnce",
            &format!(r#""exactlyOnce":true{more}"#),
        )
    };
    meaning(&sink(""));
    for property in [
        r#""acks":"all""#,
        r#""acks":-1"#,
        r#""enable.idempotence":true"#,
    ] {
        meaning(&sink(&format!(r#","properties":{{{property}}}"#)));
    }
    for (property, value) in [
        ("acks", "1"),
        ("request.required.acks", "0"),
        ("enable.idempotence", "false"),
        ("message.timeout.ms", "0"),
    ] {
        let told = error(&sink(&format!(r#","properties":{{"{property}":{value}}}"#)));
        let place = "streams[0].sink.exactlyOnce true: ";
        let rule = format!(r#"not with the property "{property}": {value}"#);
        assert!(told.contains(place) && told.contains(&rule), "{told}");
    }
    let text = sink("").replacen(r#""sink""#, r#""delivery":{"ordering":"perKey"},"sink""#, 1);
    let told = error(&text);
    let place = r#"streams[0].delivery.ordering "perKey": "#;
    let rule = r#"must be "stream" where a sink has "exactlyOnce": true"#;
    assert!(told.contains(place) && told.contains(rule), "{told}");
    // Without transactions it is as good as any other.
    meaning(&text.replace(r#""exactlyOnce":true"#, r#""exactlyOnce":false"#));
}

/// `G-054`, `L-78`: a codec that the build lacks is refused, and not replaced by another.
#[test]
fn a_codec_that_the_build_lacks_is_an_error() {
    for (codec, is_there) in [
        ("none", true),
        ("gzip", true),
        ("snappy", true),
        ("lz4", true),
        ("zstd", cfg!(feature = "kafka-zstd")),
    ] {
        let properties = format!(r#""properties":{{"compression.type":"{codec}"}}"#);
        let text = document("kafka", "properties", &properties);
        if is_there {
            assert!(read(&text).is_ok(), "{codec}");
        } else {
            assert!(error(&text).contains("not available at build time"));
        }
    }
}

/// `G-045`, `G-047`: the user's properties win, and what they cost is said.
#[test]
fn properties_that_cost_a_promise_are_warned_of() {
    let properties = r#""properties":{"linger.ms":5,"enable.idempotence":"false","acks":"1",
        "message.timeout.ms":30000}"#;
    let text = document("kafka", "properties", properties);
    let told = warnings(&text);
    let expected = [
        "enable.idempotence: after a lost connection",
        "acks: records are accepted that",
        "message.timeout.ms: the client gives",
    ];
    assert_eq!(told.len(), expected.len());
    for (told, expected) in told.iter().zip(expected) {
        assert!(told.contains(expected), "{told}");
    }
    let config = read(&text).unwrap();
    let SinkKind::Kafka(options) = &config.streams[0].sinks[0].kind else {
        panic!("another sink");
    };
    let properties = options.properties.iter();
    let properties: Vec<_> = properties
        .map(|(name, value)| (name.as_str(), value.reveal()))
        .collect();
    assert_eq!(properties[0], ("linger.ms", "5"));
    assert_eq!(properties[3], ("message.timeout.ms", "30000"));
}

/// The documents of the page on sinks, and the whole example beside it, are right.
#[test]
#[cfg(feature = "cli")]
fn the_examples_of_the_sinks_are_right() {
    let page = include_str!("../../../docs/sinks.md");
    let whole = include_str!("../../../docs/examples/kafka.json");
    let blocks = page.split("```json\n").skip(1);
    let blocks = blocks.map(|block| block.split("```").next().unwrap());
    let mut checked = 0;
    for example in blocks.chain([whole]) {
        // The last one names a secret that is not here, and a feature that need not be.
        let expected = match example.contains("$secret") {
            true if cfg!(feature = "kafka-tls") => Some("sasl.password"),
            true => Some("not available at build time"),
            false => None,
        };
        match (read(example), expected) {
            (Ok(config), None) => assert_eq!(config.warnings(), [""; 0]),
            (Err(error), Some(expected)) => {
                assert!(error.to_string().contains(expected), "{error}")
            }
            (done, _) => panic!("{done:?}"),
        }
        checked += 1;
    }
    assert_eq!(checked, 4);
}
