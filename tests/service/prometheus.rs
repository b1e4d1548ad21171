//! A strict reader of the text format 0.0.4, by its description and not by what the binary does.

use std::collections::{BTreeMap, BTreeSet};

/// A sample: its name with its labels, sorted, and its value.
pub type Samples = BTreeMap<String, f64>;

/// Reads a whole text; whatever the format does not allow is a panic.
pub fn read(text: &str) -> Samples {
    assert!(text.ends_with('\n'), "the last line has no end");
    let mut samples = Samples::new();
    let (mut helped, mut typed) = (BTreeSet::new(), BTreeMap::new());
    let mut seen = BTreeSet::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect(line);
            assert!(is_name(name) && !help.trim().is_empty(), "{line}");
            assert!(helped.insert(name), "helped twice: {line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect(line);
            assert!(["counter", "gauge"].contains(&kind), "{line}");
            assert!(helped.contains(name), "a type without help: {line}");
            assert!(!seen.contains(name), "a type behind its samples: {line}");
            assert!(typed.insert(name, kind).is_none(), "typed twice: {line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
        } else {
            assert!(!line.starts_with('#') && !line.is_empty(), "{line}");
            let (name, value) = sample(line);
            let family = name.split('{').next().unwrap().to_owned();
            assert!(typed.contains_key(&*family), "no type: {line}");
            if family != current {
                assert!(seen.insert(family.clone()), "apart from its like: {line}");
                current = family;
            }
            assert!(samples.insert(name, value).is_none(), "twice: {line}");
        }
    }
    samples
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    let is_first = bytes
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_' || b == b':');
    is_first && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':')
}

fn sample(line: &str) -> (String, f64) {
    let Some((name, rest)) = line.split_once('{') else {
        let (name, value) = line.split_once(' ').expect(line);
        assert!(is_name(name), "{line}");
        return (name.to_owned(), value.parse().expect(line));
    };
    assert!(is_name(name), "{line}");
    let mut labels = BTreeSet::new();
    let mut rest = rest;
    loop {
        let (label, behind) = rest.split_once("=\"").expect(line);
        assert!(
            is_name(label) && !label.contains(':') && !label.starts_with("__"),
            "{line}"
        );
        let mut value = String::new();
        let mut chars = behind.char_indices();
        let end = loop {
            match chars.next().expect(line) {
                (at, '"') => break at,
                (_, '\\') => match chars.next().expect(line).1 {
                    'n' => value.push('\n'),
                    c @ ('\\' | '"') => value.push(c),
                    _ => panic!("an escape that is none: {line}"),
                },
                (_, c) => value.push(c),
            }
        };
        assert!(
            labels.insert(format!("{label}={value}")),
            "a label twice: {line}"
        );
        rest = &behind[end + 1..];
        if let Some(next) = rest.strip_prefix(',') {
            rest = next;
            continue;
        }
        let value = rest.strip_prefix("} ").expect(line);
        let labels: Vec<_> = labels.into_iter().collect();
        return (
            format!("{name}{{{}}}", labels.join(",")),
            value.parse().expect(line),
        );
    }
}

#[test]
fn the_reader_refuses_what_the_format_does_not_allow() {
    let good = "# HELP a_total x\n# TYPE a_total counter\na_total{b=\"c\\\"\"} 1\na_total 2\n";
    let samples = read(good);
    assert_eq!(
        samples["a_total{b=c\"}"].total_cmp(&1.0),
        std::cmp::Ordering::Equal
    );
    for bad in [
        "a_total 1\n",
        "# HELP a x\n# TYPE a counter\na 1\n",
        "# HELP a x\n# TYPE a gauge\na 1\na 2\n",
        "# HELP a x\n# TYPE a gauge\na{b=\"c} 1\n",
        "# HELP a x\n# TYPE a gauge\na one\n",
        "# HELP a x\n# TYPE a gauge\na 1",
        "# HELP a x\n# TYPE a gauge\n# HELP b x\n# TYPE b gauge\na 1\nb 1\na{c=\"d\"} 1\n",
    ] {
        assert!(std::panic::catch_unwind(|| read(bad)).is_err(), "{bad}");
    }
}
