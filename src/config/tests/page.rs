//! `docs/configuration.md` and the code say the same: its tables are read, and fed to the code.

use std::collections::BTreeSet;

use super::*;

const PAGE: &str = include_str!("../../../docs/configuration.md");
const COLUMNS: &str = "| key | default | accepts | unit | meaning |";
const UNAVAILABLE: &str = "not available in this version";

/// A line of a table. Cells are lists of what stands in backticks.
#[derive(Debug)]
struct Row {
    place: &'static str,
    key: &'static str,
    default: Vec<&'static str>,
    accepts: Vec<&'static str>,
    /// Part of the contract, but refused.
    refused: Vec<&'static str>,
    is_unavailable: bool,
    unit: &'static str,
    meaning: &'static str,
}

fn in_backticks(text: &'static str) -> Vec<&'static str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// The place of a table, from the heading before it.
fn place(heading: &'static str) -> &'static str {
    match in_backticks(heading)[..] {
        [] => "document",
        ["streams[]"] => "stream",
        ["service"] => "service",
        ["inputs[].tls"] => "tls",
        ["inputs[]"] => "input",
        ["inputs[]", "stdin", "host"] => "records",
        [
            "streams[].sink" | "streams[].sink.credentials" | "inputs[]",
            kind,
        ] => kind,
        ["streams[].sink.credentials"] => "credentials",
        [path] if path.starts_with("service.") => &path["service.".len()..],
        [path] => path.strip_prefix("streams[].").expect("a part of a stream"),
        _ => panic!("no place: {heading}"),
    }
}

/// All tables of the page.
fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut heading = "";
    for line in PAGE.lines() {
        if line.starts_with('#') {
            heading = line;
        }
        if !line.starts_with("| `") {
            let is_other = line == "| template | stands for |" || line.starts_with("| {");
            assert!(
                !line.starts_with("| ") || line == COLUMNS || is_other,
                "{line}"
            );
            continue;
        }
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [key, default, accepts, unit, meaning] = cells[..] else {
            panic!("not five cells: {line}");
        };
        let (accepted, refused) = accepts.split_once(UNAVAILABLE).unwrap_or((accepts, ""));
        rows.push(Row {
            place: place(heading),
            key: in_backticks(key)[0],
            default: in_backticks(default),
            accepts: in_backticks(accepted),
            refused: in_backticks(refused),
            is_unavailable: accepts == UNAVAILABLE,
            unit,
            meaning,
        });
    }
    rows.retain(|row| is_compiled_in(row.place));
    rows
}

/// The words that some field takes.
#[cfg(all(feature = "file", feature = "stdout", feature = "cli"))]
pub(super) fn words() -> BTreeSet<&'static str> {
    rows()
        .into_iter()
        .flat_map(|row| row.accepts.into_iter().chain(row.refused))
        .collect()
}

/// The strings in a file's code that could be keys or words.
#[cfg(all(feature = "file", feature = "stdout", feature = "cli"))]
pub(super) fn words_in(source: &'static str) -> BTreeSet<&'static str> {
    let mut found = BTreeSet::new();
    for line in source.lines() {
        let code = line
            .split("//")
            .next()
            .unwrap_or_default()
            .replace("\\\"", "  ");
        assert_eq!(
            code.len(),
            line.split("//").next().unwrap_or_default().len()
        );
        for (at, text) in code.split('"').enumerate() {
            let start = text.as_bytes().first().copied().unwrap_or(b' ');
            if at % 2 == 1
                && start.is_ascii_lowercase()
                && text.bytes().all(|b| b.is_ascii_alphanumeric())
            {
                let at = line.find(text).expect("it is part of the line");
                found.insert(&line[at..at + text.len()]);
            }
        }
    }
    found
}

/// A token of the page as it stands in a document.
fn json(token: &str) -> String {
    let is_json = json::parse(token).is_ok();
    if is_json {
        token.to_owned()
    } else {
        format!("\"{token}\"")
    }
}

fn with(row: &Row, value: &str) -> String {
    // What must be there besides stands in the smallest document of the place.
    let place = match (row.place, row.key, value) {
        ("sink", "type", "\"file\"") => return document("file", "none", ""),
        ("sink", "type", "\"kinesis\"") => return document("kinesis", "none", ""),
        ("credentials", "type", "\"static\"") => return document("static", "none", ""),
        ("credentials", "type", "\"iot\"") => return document("iot", "none", ""),
        ("batch", "compression", "\"zstd\"") => {
            let sink =
                r#"{"type":"kinesis","streamName":"t","region":"eu-west-1","aggregation":"kpl"}"#;
            let stream =
                format!(r#"{{"name":"s","sink":{sink},"batch":{{"compression":"zstd"}}}}"#);
            return format!(r#"{{"streams":[{stream}]}}"#);
        }
        ("input", "type", kind) => {
            let kind = kind.trim_matches('"');
            let known = INPUTS.iter().find(|(name, _)| *name == kind);
            match known {
                Some((name, _)) => return document(name, "none", ""),
                None => row.place,
            }
        }
        ("sink", "type", "\"kafka\"") => return document("kafka", "none", ""),
        (place, ..) => place,
    };
    document(place, row.key, &format!("\"{}\":{value}", row.key))
}

/// It is allowed only where another field of its object has a certain value.
fn needs_others(row: &Row) -> bool {
    row.key == "blockTimeoutMs"
}

/// A range's bounds.
fn bounds(token: &str) -> Option<(i128, i128)> {
    match token.split_once("..=") {
        Some((min, max)) => Some((min.parse().ok()?, max.parse().ok()?)),
        None => token.parse().ok().map(|number| (number, number)),
    }
}

#[test]
fn the_page_has_every_field_and_no_other() {
    let on_page: BTreeSet<_> = rows().iter().map(|row| (row.place, row.key)).collect();
    assert_eq!(
        on_page.len(),
        rows().len(),
        "a key stands on the page twice"
    );
    assert_eq!(on_page, fields::fields());
}

#[test]
fn the_defaults_are_those_of_the_page() {
    let mut checked = 0;
    for row in rows().iter().filter(|row| !row.is_unavailable) {
        // Two values: one for each width of addresses. More: by another setting, whose default has the first.
        let of_target = usize::from(row.default.len() == 2 && cfg!(target_pointer_width = "32"));
        let default = match row.default.get(of_target).copied() {
            None | Some("sink" | "sinks") => continue,
            // Not a value of its own: nothing to compare with.
            Some(_) if ["streams", "inputs"].contains(&row.key) => continue,
            Some("<dataDir>/<name>") => "/var/lib/forebay/s",
            Some(default) => default,
        };
        // With what the field needs beside it, and without what stands for it otherwise.
        let key = if needs_others(row) { row.key } else { "" };
        let plain = document(row.place, key, "");
        assert_eq!(
            meaning(&with(row, &json(default))),
            meaning(&plain),
            "{row:?}"
        );
        checked += 1;
    }
    assert!(checked >= 25, "the page was not understood: {checked}");
}

/// What a comparison with the default would not see: a field that is read and forgotten.
#[test]
fn every_other_value_means_something_else() {
    for row in rows().iter().filter(|row| !row.is_unavailable) {
        // Read, checked, and not used in this version; or tested as warnings.
        if ["pollIntervalMs", "required"].contains(&row.key) || row.default.is_empty() {
            continue;
        }
        let key = if needs_others(row) { row.key } else { "" };
        let plain = meaning(&document(row.place, key, ""));
        for token in row.accepts.iter().filter(|token| is_compiled_in(token)) {
            let values = match bounds(token) {
                Some((min, max)) => vec![min.to_string(), max.to_string()],
                None => vec![(*token).to_owned()],
            };
            for value in values
                .iter()
                .filter(|value| !row.default.contains(&value.as_str()))
            {
                assert_ne!(meaning(&with(row, &json(value))), plain, "{value}: {row:?}");
            }
        }
    }
}

/// `G-033`: each value of the page is printed, and taken again as what it was.
#[test]
fn the_configuration_in_force_is_a_document_that_means_the_same() {
    let mut checked = 0;
    for row in rows().iter().filter(|row| !row.is_unavailable) {
        let tokens = row.accepts.iter().chain(&row.default);
        for token in tokens.filter(|token| is_compiled_in(token) && !token.starts_with('<')) {
            let values = match bounds(token) {
                Some((min, max)) => vec![min.to_string(), max.to_string()],
                None => vec![json(token)],
            };
            for value in values {
                let Ok(config) = read(&with(row, &value)) else {
                    continue; // a word of prose
                };
                let text = config.to_json();
                let again = read(&text).unwrap_or_else(|error| panic!("{text}\n{error}"));
                let streams = |config: &Config| format!("{:#?}", config.streams);
                assert_eq!(streams(&again), streams(&config), "{value}: {row:?}");
                assert_eq!(again.to_json(), text);
                checked += 1;
            }
        }
    }
    assert!(checked >= 60, "the page was not understood: {checked}");
}

/// `G-013`: each bound, one below, one above, halves, and numbers that are none.
#[test]
fn the_ranges_are_those_of_the_page() {
    let mut checked = 0;
    for row in rows() {
        let taken = row.accepts.iter().filter_map(|token| bounds(token));
        let refused = row.refused.iter().filter_map(|token| bounds(token));
        let (taken, refused): (Vec<_>, Vec<_>) = (taken.collect(), refused.collect());
        let all = taken.iter().chain(&refused);
        let (Some(min), Some(max)) = (
            all.clone().map(|range| range.0).min(),
            all.map(|range| range.1).max(),
        ) else {
            continue;
        };
        for value in taken.iter().flat_map(|(min, max)| [min, max]) {
            let plain = meaning(&with(&row, &value.to_string()));
            assert_eq!(
                meaning(&with(&row, &format!("{value}.0"))),
                plain,
                "{row:?}"
            );
        }
        for value in refused.iter().flat_map(|(min, max)| [min, max]) {
            let text = error(&with(&row, &value.to_string()));
            assert!(text.ends_with(UNAVAILABLE), "{text}");
        }
        let rule = match min {
            -1 => format!("must be -1 or 0..={max}"),
            _ => format!("must be {min}..={max}"),
        };
        let mut bad = vec![
            (min - 1).to_string(),
            (max + 1).to_string(),
            format!("{min}.5"),
        ];
        bad.extend(["1e999", "\"1\"", "true", "[]", "{}"].map(str::to_owned));
        for value in bad {
            let text = error(&with(&row, &value));
            assert!(
                text.ends_with(&format!("{} {value}: {rule}", row.key)),
                "{text}"
            );
        }
        checked += 1;
    }
    assert!(checked >= 15, "the page was not understood: {checked}");
}

/// `G-014`: words are those of the page, in any order; any other is an error that lists them.
#[test]
fn the_words_are_those_of_the_page() {
    let mut checked = 0;
    for row in rows() {
        let is_word = |token: &&str| bounds(token).is_none();
        let words = row.accepts.iter().chain(&row.refused).copied();
        let words: BTreeSet<_> = words.filter(is_word).collect();
        let (place, key) = (row.place, row.key);
        if words.is_empty() {
            continue;
        }
        for word in row.accepts.iter().filter(|word| is_word(word)) {
            let is_there = is_compiled_in(word);
            let done = read(&with(&row, &json(word)));
            assert_eq!(done.is_ok(), is_there, "{place}.{key} {word}: {done:?}");
        }
        for word in row.refused.iter().filter(|word| is_word(word)) {
            let text = error(&with(&row, &json(word)));
            let expected = match (place, key) {
                ("sink", "type") => format!("this build does not have the feature \"{word}\""),
                _ => UNAVAILABLE.to_owned(),
            };
            assert!(text.ends_with(&expected), "{text}");
        }
        let text = error(&with(&row, "\"nonsense\""));
        let rule = text
            .split_once(": must be ")
            .expect("a rule")
            .1
            .replace('"', "");
        assert_eq!(
            rule.split(" or ").collect::<BTreeSet<_>>(),
            words,
            "{place}.{key}"
        );
        checked += 1;
    }
    assert!(checked >= 10, "the page was not understood: {checked}");
}

#[test]
fn what_is_not_available_is_refused_in_so_many_words() {
    let unavailable: Vec<_> = rows()
        .into_iter()
        .filter(|row| row.is_unavailable)
        .collect();
    assert_eq!(unavailable.len(), 0);
    for row in unavailable {
        for value in ["5", "{}", "\"x\""] {
            let text = error(&with(&row, value));
            assert!(text.ends_with(UNAVAILABLE), "{text}");
        }
    }
}

/// A number without a unit is a guess.
#[test]
fn times_and_sizes_have_their_unit_in_the_key_and_on_the_page() {
    for row in rows() {
        let unit = ["Ms", "Secs", "Bytes"]
            .into_iter()
            .find(|end| row.key.ends_with(end));
        let expected = match unit {
            Some("Ms") => "milliseconds",
            Some("Secs") => "seconds",
            Some(_) => "bytes",
            None => row.unit,
        };
        assert_eq!(row.unit, expected, "{}", row.key);
        assert!(!row.meaning.is_empty(), "{}", row.key);
    }
}

#[test]
#[cfg(all(feature = "file", feature = "stdout", feature = "cli"))]
fn the_examples_of_the_page_are_right() {
    let examples: Vec<_> = PAGE.split("```json\n").skip(1).collect();
    assert!(examples.len() >= 8);
    for example in examples {
        let example = example.split("```").next().unwrap();
        assert!(read(example).unwrap().warnings().is_empty(), "{example}");
    }
}

/// Those of the page for who comes from elsewhere, as far as this build has what they need.
#[test]
#[cfg(all(feature = "file", feature = "cli"))]
fn the_examples_for_who_comes_from_elsewhere_are_right() {
    let page = include_str!("../../../docs/coming-from.md");
    let examples = page.split("```json\n").skip(1);
    let mut count = 0;
    for example in examples {
        let example = example.split("```").next().unwrap();
        match read(example) {
            Ok(config) => assert!(config.warnings().is_empty(), "{example}"),
            Err(error) => assert!(error.to_string().contains("feature"), "{error}"),
        }
        count += 1;
    }
    assert_eq!(count, page.matches("\n## ").count() - 1); // edgestreamlog's is ours
}

/// The numbers in the page's prose.
#[test]
fn the_counts_of_the_page_are_those_of_the_code() {
    for text in [
        format!("at most {STREAMS_MAX} objects"),
        format!("an array of 1 to {CURSORS_MAX} objects"),
        format!("1 to {NAME_LEN_MAX} letters"),
        format!("1 to {CURSOR_NAME_MAX} letters"),
        format!("8 × `maxRecordBytes`, and {BUDGET_MIN}"),
        format!("at least a {}th", crate::log::SEGMENTS_MAX),
        format!("an object of at most {} strings", resolve::VARS_MAX),
        format!("`vars` are 1 to {} letters", resolve::VAR_NAME_MAX),
        format!("at most {} bytes of text", resolve::SECRET_LEN_MAX),
        format!("at most {} bytes of one string", resolve::TEXT_LEN_MAX),
        #[cfg(feature = "kafka")]
        format!("at most {} properties", sinks::kafka::PROPERTIES_MAX),
    ] {
        assert!(PAGE.contains(&text), "not on the page: {text}");
    }
}
