//! Where a record's key, time and properties come from: fixed, a field of the JSON that the payload is, the
//! topic, or the sender.

use super::Field;
use super::time::parse_ms;
use crate::config::json::{self, Node, Object, quoted};
use crate::config::resolve::Resolver;
use crate::error::Result;
use crate::record::PROPERTIES_MAX;

/// The deepest field of a payload that is looked for.
const DEPTH_MAX: usize = 32;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Place the configuration.
    Fixed,
    /// The topic to which the record was sent.
    Topic,
    /// Who sent it.
    Sender,
    /// A field of the payload: a JSON pointer.
    Payload(String),
}

/// Units of times that are numbers, in nanoseconds.
const UNITS: [(&str, u64); 4] = [
    ("seconds", 1_000_000_000),
    ("milliseconds", 1_000_000),
    ("microseconds", 1000),
    ("nanoseconds", 1),
];

/// What an input is told about its records' fields.
#[derive(Clone, Debug)]
pub struct Fields {
    key: String,
    key_from: Place,
    properties: Vec<(String, String)>,
    properties_from: Vec<(String, Place)>,
    time_from: Option<String>,
    time_unit: u64,
}

/// What is known of a record besides its payload.
#[derive(Clone, Copy, Debug, Default)]
pub struct Origin<'a> {
    /// The topic to which it was sent, where there is such a thing.
    pub topic: &'a str,
    /// Who sent it.
    pub sender: &'a str,
}

/// The fields of a record, as far as they were found.
#[derive(Debug, Default)]
pub struct Found {
    /// The key.
    pub key: Vec<u8>,
    /// The time, if the payload has it.
    pub time_ms: Option<u64>,
    /// Names and values.
    pub properties: Vec<(String, Vec<u8>)>,
    /// A part that was asked for is not in the payload.
    pub is_malformed: bool,
}

impl Fields {
    /// Reads them from an input's object. `has_topic`: its records have one, which is their key by default.
    pub fn read(object: &mut Object<'_>, resolver: &Resolver<'_>, has_topic: bool) -> Result<Self> {
        let from = |node: &Node<'_>| from(node, has_topic);
        let key = object
            .take_set("key")
            .map_or(Ok(String::new()), |node| plain(&node, resolver))?;
        let default = if has_topic {
            Place::Topic
        } else {
            Place::Fixed
        };
        let key_from = object.take_set("keyFrom");
        let key_from = key_from.map_or(Ok(default), |node| from(&node))?;
        let properties = pairs(object.take_set("properties"), |node| plain(node, resolver))?;
        let properties_from = pairs(object.take_set("propertiesFrom"), from)?;
        let time_from = object.take_set("timeFrom");
        let time_from = time_from.map(|node| pointer(&node)).transpose()?;
        let unit = object.take_set("timeUnit");
        let time_unit = unit.map_or(Ok(UNITS[1].1), |node| node.word(&UNITS))?;
        Ok(Self {
            key,
            key_from,
            properties,
            properties_from,
            time_from,
            time_unit,
        })
    }

    /// As they stand in a configuration.
    pub fn to_json(&self) -> Vec<Field> {
        let Self {
            key,
            key_from,
            properties,
            properties_from,
            time_from,
            time_unit,
        } = self;
        let word = |from: &Place| match from {
            Place::Fixed => quoted("fixed"),
            Place::Topic => quoted("topic"),
            Place::Sender => quoted("sender"),
            Place::Payload(pointer) => quoted(pointer),
        };
        let object = |pairs: Vec<String>| format!("{{{}}}", pairs.join(", "));
        let fixed = properties.iter();
        let fixed = fixed.map(|(name, value)| format!("{}: {}", quoted(name), brace(value)));
        let other = properties_from.iter();
        let other = other.map(|(name, from)| format!("{}: {}", quoted(name), word(from)));
        let unit = UNITS.iter().find(|(_, nanos)| nanos == time_unit);
        vec![
            ("key", brace(key)),
            ("keyFrom", word(key_from)),
            ("properties", object(fixed.collect())),
            ("propertiesFrom", object(other.collect())),
            (
                "timeFrom",
                time_from.as_deref().map_or("null".to_owned(), quoted),
            ),
            (
                "timeUnit",
                quoted(unit.map_or("milliseconds", |unit| unit.0)),
            ),
        ]
    }

    /// Looks for the fields of a record. What is not there is as fixed; a property is left out then.
    pub fn find(&self, payload: &[u8], origin: Origin<'_>, found: &mut Found) {
        found.key.clear();
        found.properties.clear();
        found.time_ms = None;
        found.is_malformed = false;
        let is_json = |from: &Place| matches!(from, Place::Payload(_));
        let needs_json = is_json(&self.key_from)
            || self.time_from.is_some()
            || self.properties_from.iter().any(|(_, from)| is_json(from));
        let text = std::str::from_utf8(payload).ok().filter(|_| needs_json);
        let document = text.and_then(|text| json::parse(text).ok());
        let value = |from: &Place| match from {
            Place::Fixed => None,
            Place::Topic => Some(origin.topic.to_owned()),
            Place::Sender => Some(origin.sender.to_owned()),
            Place::Payload(pointer) => scalar(&at(document.as_ref()?, pointer)?),
        };
        let key = value(&self.key_from);
        found.is_malformed |= key.is_none() && self.key_from != Place::Fixed;
        found
            .key
            .extend_from_slice(key.as_deref().unwrap_or(&self.key).as_bytes());
        if let Some(pointer) = &self.time_from {
            let node = document.as_ref().and_then(|document| at(document, pointer));
            found.time_ms = node.and_then(|node| time_ms(&node, self.time_unit));
            found.is_malformed |= found.time_ms.is_none();
        }
        for (name, value) in &self.properties {
            let property = (name.clone(), value.clone().into_bytes());
            found.properties.push(property);
        }
        for (name, from) in &self.properties_from {
            match value(from) {
                Some(value) => found.properties.push((name.clone(), value.into_bytes())),
                None => found.is_malformed = true,
            }
        }
    }

    /// Nothing is looked for in a record but its bytes: the key is fixed, and that is all.
    pub fn is_plain(&self) -> bool {
        self.key_from == Place::Fixed
            && self.properties.is_empty()
            && self.properties_from.is_empty()
            && self.time_from.is_none()
    }

    /// The key of records whose own is not known.
    pub fn key(&self) -> &str {
        &self.key
    }
}

/// Text whose templates are filled in. It is shown, so it has no secrets.
pub fn plain(node: &Node<'_>, resolver: &Resolver<'_>) -> Result<String> {
    let text = resolver.text(node)?;
    if text.is_secret() {
        return Err(node.error("must be without secrets: it is shown"));
    }
    Ok(text.reveal().to_owned())
}

/// Text whose templates were filled in, as a document has it.
pub fn brace(text: &str) -> String {
    quoted(&text.replace('{', "{{").replace('}', "}}"))
}

fn from(node: &Node<'_>, has_topic: bool) -> Result<Place> {
    match node.string()?.as_str() {
        "fixed" => Ok(Place::Fixed),
        "topic" if has_topic => Ok(Place::Topic),
        "sender" => Ok(Place::Sender),
        text if text.starts_with('/') => pointer(node).map(Place::Payload),
        _ if has_topic => {
            Err(node.error("must be fixed, topic, sender or a JSON pointer, as in \"/device/id\""))
        }
        _ => Err(node.error("must be fixed, sender or a JSON pointer, as in \"/device/id\"")),
    }
}

fn pointer(node: &Node<'_>) -> Result<String> {
    let text = node.string()?;
    if !text.starts_with('/') || text.matches('/').count() > DEPTH_MAX {
        let rule =
            format!("must be a JSON pointer of at most {DEPTH_MAX} parts, as in \"/device/id\"");
        return Err(node.error(rule));
    }
    Ok(text)
}

/// The fields of an object, which become properties.
fn pairs<T>(
    node: Option<Node<'_>>,
    value: impl Fn(&Node<'_>) -> Result<T>,
) -> Result<Vec<(String, T)>> {
    let mut pairs = Vec::new();
    let Some(node) = node else {
        return Ok(pairs);
    };
    for (name, field) in node.object()?.into_fields() {
        if !(1..=255).contains(&name.len()) {
            return Err(field.error("the name of a property must have 1 to 255 bytes"));
        }
        if pairs.len() == PROPERTIES_MAX {
            return Err(field.error(format_args!("at most {PROPERTIES_MAX} properties")));
        }
        pairs.push((name.into_owned(), value(&field)?));
    }
    Ok(pairs)
}

/// What a JSON pointer (RFC 6901) points at.
fn at<'a>(document: &Node<'a>, pointer: &str) -> Option<Node<'a>> {
    let mut node = document.clone();
    for part in pointer.split('/').skip(1) {
        node = match node.object() {
            Ok(mut object) => object.take(&part.replace("~1", "/").replace("~0", "~"))?,
            Err(_) => node.array().ok()?.into_iter().nth(part.parse().ok()?)?,
        };
    }
    Some(node)
}

/// A text, a number or a truth value, as text.
fn scalar(node: &Node<'_>) -> Option<String> {
    if let Ok(text) = node.string() {
        return Some(text);
    }
    let is_scalar = !node.is_null() && !node.raw().starts_with(['{', '[']);
    is_scalar.then(|| node.raw().to_owned())
}

/// A time of day, as a number in a unit or as a text of RFC 3339.
fn time_ms(node: &Node<'_>, unit: u64) -> Option<u64> {
    if let Some(number) = node.integer() {
        let nanos = number.checked_mul(i128::from(unit))?;
        return u64::try_from(nanos / 1_000_000).ok();
    }
    if let Ok(number) = node.raw().parse::<f64>() {
        #[allow(clippy::cast_precision_loss)] // a unit is a power of ten
        let ms = (number * (unit as f64 / 1e6)).round();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        // in the range of dates
        return (0.0..1e15).contains(&ms).then_some(ms as u64);
    }
    parse_ms(&node.string().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Real;

    fn fields(text: &str, has_topic: bool) -> Result<Fields> {
        let node = json::parse(text)?;
        let mut object = node.object()?;
        Fields::read(&mut object, &Resolver::new(&Real, None), has_topic)
    }

    fn find(fields: &Fields, payload: &str) -> Found {
        let origin = Origin {
            topic: "site/pump",
            sender: "10.0.0.7",
        };
        let mut found = Found::default();
        fields.find(payload.as_bytes(), origin, &mut found);
        found
    }

    #[test]
    fn key_time_and_properties_come_from_where_the_configuration_says() {
        let text = r#"{"key":"k","keyFrom":"/dev/0/id","timeFrom":"/t","timeUnit":"seconds",
            "properties":{"site":"north"},"propertiesFrom":{"topic":"topic","peer":"sender","u":"/a~1b"}}"#;
        let fields = fields(text, true).unwrap();
        let found = find(&fields, r#"{"dev":[{"id":7}],"t":1795350780.5,"a/b":true}"#);
        assert_eq!(found.key, b"7");
        assert_eq!(found.time_ms, Some(1_795_350_780_500));
        let pair = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
        assert_eq!(
            found.properties,
            [
                pair("site", "north"),
                pair("topic", "site/pump"),
                pair("peer", "10.0.0.7"),
                pair("u", "true")
            ]
        );
        assert!(!found.is_malformed);
    }

    #[test]
    fn what_is_not_in_the_payload_is_as_fixed_and_is_noticed() {
        let fields = fields(r#"{"key":"k","keyFrom":"/id","timeFrom":"/t"}"#, false).unwrap();
        for payload in [
            "",
            "x",
            "[]",
            "{}",
            r#"{"id":{},"t":"y"}"#,
            r#"{"id":null}"#,
        ] {
            let found = find(&fields, payload);
            assert_eq!((found.key.as_slice(), found.time_ms), (&b"k"[..], None));
            assert!(found.is_malformed, "{payload}");
        }
    }

    #[test]
    fn times_are_numbers_in_their_unit_or_texts() {
        for (unit, text, ms) in [
            ("milliseconds", "1795350780123", 1_795_350_780_123),
            ("seconds", "1795350780", 1_795_350_780_000),
            ("microseconds", "1795350780123456", 1_795_350_780_123),
            ("nanoseconds", "1795350780123456789", 1_795_350_780_123),
            ("seconds", "\"2026-11-22T12:33:00Z\"", 1_795_350_780_000),
        ] {
            let fields = format!(r#"{{"timeFrom":"/t","timeUnit":"{unit}"}}"#);
            let fields = self::fields(&fields, false).unwrap();
            let found = find(&fields, &format!("{{\"t\":{text}}}"));
            assert_eq!(found.time_ms, Some(ms), "{text}");
        }
        let fields = fields(r#"{"timeFrom":"/t"}"#, false).unwrap();
        for text in [
            "-1",
            "1e300",
            "true",
            "[1]",
            "340282366920938463463374607431768211456",
        ] {
            let found = find(&fields, &format!("{{\"t\":{text}}}"));
            assert_eq!(found.time_ms, None, "{text}");
        }
    }

    #[test]
    fn what_is_printed_means_the_same() {
        let text = r#"{"key":"{{k}}","keyFrom":"/id","timeFrom":"/t","timeUnit":"seconds",
            "properties":{"a":"b"},"propertiesFrom":{"c":"/d","e":"sender"}}"#;
        let first = fields(text, false).unwrap();
        let printed = first.to_json().into_iter();
        let printed: Vec<_> = printed
            .map(|(key, value)| format!("\"{key}\":{value}"))
            .collect();
        let again = fields(&format!("{{{}}}", printed.join(",")), false).unwrap();
        assert_eq!(format!("{again:?}"), format!("{first:?}"));
        assert!(fields(r#"{"keyFrom":"topic"}"#, false).is_err());
    }
}
