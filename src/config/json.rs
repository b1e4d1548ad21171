//! JSON in which every value knows where it stands, so that an error can say so.
//!
//! `serde_json` does the reading; a value is kept as the slice of the document that it is
//! (`RawValue`), and only what is asked for is looked into. So nesting costs no stack, and an error names
//! line, column, path, value and rule: `15:21 streams[1].buffer.segmentBytes 5: must be 65536..=1073741824`.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;

use serde::de::{self, Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::error::{Code, Error, Result};

/// The longest value that an error repeats, in bytes.
const SHOWN_MAX: usize = 60;

/// A value in a document.
#[derive(Clone, Debug)]
pub struct Node<'a> {
    document: &'a str,
    raw: &'a str,
    path: String,
}

/// The fields of an object, each taken once.
#[derive(Debug)]
pub struct Object<'a> {
    node: Node<'a>,
    fields: Vec<(Cow<'a, str>, Node<'a>)>,
}

/// Reads a document. Only its syntax is checked.
pub fn parse(document: &str) -> Result<Node<'_>> {
    let raw: &RawValue = serde_json::from_str(document).map_err(|error| {
        let text = error.to_string();
        let what = text.split(" at line ").next().unwrap_or(&text).to_owned();
        config_error(format!("{}:{} {what}", error.line(), error.column()))
    })?;
    Ok(Node {
        document,
        raw: raw.get(),
        path: String::new(),
    })
}

/// Text as a string of JSON.
pub fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

fn config_error(text: String) -> Error {
    Error::text(Code::Config, "", text)
}

impl<'a> Node<'a> {
    /// An error that names this value and the rule that it breaks.
    pub fn error(&self, rule: impl fmt::Display) -> Error {
        let (line, column) = self.place(self.raw);
        let shown = match crate::counters::cut(self.raw, SHOWN_MAX) {
            cut if cut.len() < self.raw.len() => format!("{cut}…"),
            whole => whole.to_owned(),
        };
        let path = if self.path.is_empty() {
            "the document"
        } else {
            &self.path
        };
        config_error(format!("{line}:{column} {path} {shown}: {rule}"))
    }

    /// Where the value is in the document, for people: `streams[1].buffer`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The value as it stands in the document.
    pub fn raw(&self) -> &'a str {
        self.raw
    }

    /// Line and column of a part of the document, both from 1.
    fn place(&self, part: &str) -> (usize, usize) {
        let start = self.document.as_ptr() as usize;
        let at = (part.as_ptr() as usize).wrapping_sub(start);
        let before = self.document.get(..at).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        (line, before[line_start..].chars().count() + 1)
    }

    fn child(&self, raw: &'a RawValue, path: String) -> Node<'a> {
        Node {
            document: self.document,
            raw: raw.get(),
            path,
        }
    }

    /// Whether it is `null`.
    pub fn is_null(&self) -> bool {
        self.raw == "null"
    }

    /// Whether it is an object.
    pub fn is_object(&self) -> bool {
        self.raw.starts_with('{')
    }

    /// An object, whose keys differ from each other.
    pub fn object(&self) -> Result<Object<'a>> {
        let fields: Fields<'a> =
            serde_json::from_str(self.raw).map_err(|_| self.error("must be an object"))?;
        let mut object = Object {
            node: self.clone(),
            fields: Vec::new(),
        };
        let mut keys = BTreeSet::new();
        for (key, raw) in fields.0 {
            if !keys.insert(key.clone()) {
                return Err(object.key_error(key, raw.get(), "stands here twice"));
            }
            let path = match self.path.as_str() {
                "" => key.to_string(),
                path => format!("{path}.{key}"),
            };
            let node = self.child(raw, path);
            object.fields.push((key, node));
        }
        Ok(object)
    }

    /// The items of an array that has so many at most. What comes behind is passed over, so that it
    /// takes no memory.
    pub fn array_of(&self, count_max: usize, what: &str) -> Result<Vec<Node<'a>>> {
        let items = self.items(count_max + 1)?;
        match items.get(count_max) {
            Some(node) => Err(node.error(format_args!("at most {count_max} {what}"))),
            None => Ok(items),
        }
    }

    /// The items of an array.
    pub fn array(&self) -> Result<Vec<Node<'a>>> {
        self.items(usize::MAX)
    }

    /// The first items of an array.
    fn items(&self, count_max: usize) -> Result<Vec<Node<'a>>> {
        let mut text = serde_json::Deserializer::from_str(self.raw);
        let items = text.deserialize_seq(First(count_max));
        let items = items.map_err(|_| self.error("must be an array"))?;
        let items = items.into_iter().enumerate();
        Ok(items
            .map(|(index, raw)| self.child(raw, format!("{}[{index}]", self.path)))
            .collect())
    }

    /// A string.
    pub fn string(&self) -> Result<String> {
        serde_json::from_str(self.raw).map_err(|_| match self.secret() {
            Some(_) => self.error("secrets may stand in sinks and in \"vars\" only"),
            None => self.error("must be a string"),
        })
    }

    /// What a reference to a secret, `{"$secret":"name"}`, refers to.
    pub fn secret(&self) -> Option<(Object<'a>, Node<'a>)> {
        let mut object = self.is_object().then(|| self.object().ok())??;
        let name = object.take("$secret")?;
        Some((object, name))
    }

    /// One of a few words.
    pub fn word<T: Copy>(&self, words: &[(&str, T)]) -> Result<T> {
        self.word_of(&self.string().unwrap_or_default(), words)
    }

    /// One of a few words, which a string of the document stands for.
    pub fn word_of<T: Copy>(&self, text: &str, words: &[(&str, T)]) -> Result<T> {
        let found = words.iter().find(|(word, _)| *word == text);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let words: Vec<_> = words
                .iter()
                .map(|(word, _)| format!("\"{word}\""))
                .collect();
            self.error(format_args!("must be {}", words.join(" or ")))
        })
    }

    /// `true` or `false`.
    pub fn boolean(&self) -> Result<bool> {
        serde_json::from_str(self.raw).map_err(|_| self.error("must be true or false"))
    }

    /// A whole number in a range. It may be written with a fraction of zero, as systems do that know
    /// only floating-point numbers.
    pub fn number(&self, range: RangeInclusive<u64>) -> Result<u64> {
        let (min, max) = (*range.start(), *range.end());
        let number = self.integer().and_then(|number| u64::try_from(number).ok());
        let number = number.filter(|number| range.contains(number));
        number.ok_or_else(|| self.error(format_args!("must be {min}..={max}")))
    }

    /// A whole number in a range that fits 32 bits.
    pub fn number32(&self, range: RangeInclusive<u32>) -> Result<u32> {
        let number = self.number(u64::from(*range.start())..=u64::from(*range.end()))?;
        Ok(u32::try_from(number).unwrap_or(u32::MAX))
    }

    /// A whole number, however it is written. `None` when it is none, or has a fraction and is so large
    /// that a double may stand for several.
    pub fn integer(&self) -> Option<i128> {
        const EXACT: f64 = 9_007_199_254_740_992.0; // 2^53
        if let Ok(number) = self.raw.parse::<i128>() {
            return Some(number);
        }
        let number: f64 = serde_json::from_str(self.raw).ok()?;
        #[allow(clippy::cast_possible_truncation)] // whole and within 2^53
        let whole = (number.fract() == 0.0 && number.abs() < EXACT).then_some(number as i128);
        whole
    }
}

impl<'a> Object<'a> {
    /// The object itself.
    pub fn node(&self) -> &Node<'a> {
        &self.node
    }

    /// A field that is there and not null, and was not taken.
    pub fn get(&self, key: &str) -> Option<&Node<'a>> {
        let field = self.fields.iter().find(|(name, _)| name == key);
        field.map(|(_, node)| node).filter(|node| !node.is_null())
    }

    /// Takes a field, if it is there.
    pub fn take(&mut self, key: &str) -> Option<Node<'a>> {
        let at = self.fields.iter().position(|(name, _)| name == key)?;
        Some(self.fields.remove(at).1)
    }

    /// Takes a field that is there and not null.
    pub fn take_set(&mut self, key: &str) -> Option<Node<'a>> {
        self.take(key).filter(|node| !node.is_null())
    }

    /// Takes a field that must be there.
    pub fn required(&mut self, key: &str) -> Result<Node<'a>> {
        self.take(key)
            .ok_or_else(|| self.node.error(format_args!("\"{key}\" is missing")))
    }

    /// All fields that were not taken, in order.
    pub fn into_fields(self) -> impl Iterator<Item = (Cow<'a, str>, Node<'a>)> {
        self.fields.into_iter()
    }

    /// All fields were taken; what is left is not known.
    pub fn finish(self) -> Result<()> {
        match self.fields.first() {
            None => Ok(()),
            Some((key, node)) => Err(self.key_error(key.clone(), node.raw, "is not known here")),
        }
    }

    /// An error about a key: at the key, where it stands in the document as it is.
    #[allow(clippy::needless_pass_by_value)] // which kind it is says where it stands
    fn key_error(&self, key: Cow<'a, str>, value: &str, rule: &str) -> Error {
        let (line, column) = match key {
            Cow::Borrowed(key) => {
                let (line, column) = self.node.place(key);
                (line, column - 1) // the quote
            }
            Cow::Owned(_) => self.node.place(value),
        };
        let path = match self.node.path() {
            "" => String::new(),
            path => format!("{path}."),
        };
        config_error(format!("{line}:{column} {path}{key}: {rule}"))
    }
}

/// The fields of an object, in order, repeated ones included.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut map: A,
            ) -> std::result::Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some((key, value)) = map.next_entry::<Key<'de>, &'de RawValue>()? {
                    fields.push((key.0, value));
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// A key: borrowed from the document where it has no escapes.
struct Key<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E: de::Error>(
                self,
                key: &'de str,
            ) -> std::result::Result<Self::Value, E> {
                Ok(Key(Cow::Borrowed(key)))
            }

            fn visit_str<E: de::Error>(self, key: &str) -> std::result::Result<Self::Value, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }
        deserializer.deserialize_str(Collect)
    }
}

/// Keeps the first items of an array.
struct First(usize);

impl<'de> Visitor<'de> for First {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(
        self,
        mut seq: A,
    ) -> std::result::Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while items.len() < self.0 {
            match seq.next_element()? {
                Some(item) => items.push(item),
                None => return Ok(items),
            }
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_line_column_path_value_and_rule() {
        let document = "{\n  \"streams\": [{\"ä\": 1, \"size\": 5}]\n}";
        let mut root = parse(document).unwrap().object().unwrap();
        let streams = root.take("streams").unwrap().array().unwrap();
        let mut stream = streams[0].object().unwrap();
        let size = stream.take("size").unwrap();
        assert_eq!(
            size.number(10..=20).unwrap_err().to_string(),
            "2:32 streams[0].size 5: must be 10..=20"
        );
        let error = stream.finish().unwrap_err();
        assert_eq!(error.to_string(), "2:16 streams[0].ä: is not known here");
    }

    #[test]
    fn a_repeated_key_is_refused_where_it_stands() {
        let error = parse(r#"{"a":1,"a":2}"#).unwrap().object().unwrap_err();
        assert_eq!(error.to_string(), "1:8 a: stands here twice");
        let error = parse(r#"{"a":1,"\u0061":2}"#)
            .unwrap()
            .object()
            .unwrap_err();
        assert_eq!(error.to_string(), "1:17 a: stands here twice");
    }

    /// Each key was compared with all before it: a document of a few megabytes took hours.
    #[test]
    fn an_object_of_many_keys_is_read_in_a_moment() {
        let keys: Vec<_> = (0..300_000).map(|n| format!("\"{n}\":0")).collect();
        let document = format!("{{{},\"7\":1}}", keys.join(","));
        let error = parse(&document).unwrap().object().unwrap_err();
        assert!(error.to_string().ends_with(" 7: stands here twice"));
    }

    #[test]
    fn syntax_errors_say_where() {
        let error = parse("{\"a\": }").unwrap_err().to_string();
        assert!(error.starts_with("1:7 "), "{error}");
        assert_eq!(error.matches("line").count(), 0);
    }

    /// `G-013`: 64.0 is 64, 64.5 is an error and not 64.
    #[test]
    fn numbers_may_have_a_fraction_of_zero() {
        let number = |text: &str| parse(text).unwrap().number(0..=u64::MAX).ok();
        assert_eq!(number("64.0"), Some(64));
        assert_eq!(number("1048576.0"), Some(1_048_576));
        assert_eq!(number("5e2"), Some(500));
        assert_eq!(number("18446744073709551615"), Some(u64::MAX));
        for bad in [
            "64.5",
            "-1",
            "\"64\"",
            "1e300",
            "1e999",
            "9007199254740993.0e3",
            // A double cannot tell it from 2^53.
            "9007199254740993.0",
            "null",
            "[]",
        ] {
            assert_eq!(number(bad), None, "{bad}");
        }
    }

    /// Deep nesting, escapes and surrogates: an error or a value, never a crash.
    #[test]
    fn nothing_overflows_or_panics() {
        let deep = "[".repeat(1_000_000) + &"]".repeat(1_000_000);
        let node = parse(&deep).unwrap();
        assert_eq!(node.array().unwrap().len(), 1);
        assert!(parse(&"{\"a\":".repeat(100_000)).is_err());
        assert!(parse(r#""\ud800""#).and_then(|node| node.string()).is_err());
        assert_eq!(
            parse(r#""\ud83d\ude00""#).unwrap().string().unwrap(),
            "\u{1f600}"
        );
        for bytes in 0..=255u8 {
            let text =
                String::from_utf8_lossy(&[b'{', b'"', bytes, b'"', b':', bytes]).into_owned();
            let _ = parse(&text).map(|node| node.object().map(|_| ()));
        }
    }
}
