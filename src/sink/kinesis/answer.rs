//! What the service answered, and what that means.
//!
//! An answer counts only when it is complete and agrees with itself: JSON or CBOR to its end, as many
//! entries as were sent, a sequence number or an error in each, and as many errors as it says. Anything
//! else, whatever its status, says nothing: the records are sent again.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::body::Encoding;
use super::cbor;
use crate::counters::cut;

mod kinds;
mod plain;

pub use kinds::{Kind, kind};

/// The name and the text of an error, from its body.
pub fn error_of(encoding: Encoding, body: &[u8], type_header: &str) -> (String, String) {
    // What stands between here and the service says it in JSON, if it does at all.
    let json = || serde_json::from_slice(body).unwrap_or_default();
    let value: Value = match encoding {
        Encoding::Json => json(),
        Encoding::Cbor => {
            Value::deserialize(&mut cbor::Reader::new(body)).unwrap_or_else(|_| json())
        }
    };
    let text = |names: [&str; 3]| {
        let mut found = names.iter().filter_map(|name| value.get(name)?.as_str());
        found.next().unwrap_or_default()
    };
    let named = match type_header {
        "" => text(["__type", "code", "Code"]),
        header => header,
    };
    // `com.amazonaws.kinesis#Name`, or `Name:http://…`
    let name = named.split(':').next().unwrap_or_default();
    let name = name.rsplit('#').next().unwrap_or_default();
    let is_name = name.len() <= 64 && name.chars().all(|c| c.is_ascii_alphanumeric());
    let name = if is_name { name } else { "" };
    // What follows the first line may repeat what was signed, and with it a token.
    let line = text(["message", "Message", "errorMessage"]).lines().next();
    (
        name.to_owned(),
        cut(line.unwrap_or_default(), 160).to_owned(),
    )
}

/// What became of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    Accepted,
    Failed(Kind),
}

/// The entries of an answer, in memory that is used again.
#[derive(Debug, Default)]
pub struct Entries {
    list: Vec<Entry>,
    /// The shards that the entries name.
    shards: Vec<Option<u64>>,
    /// What the first error of each answer said.
    error: String,
}

impl Entries {
    /// The entries in the order of the records.
    pub fn list(&self) -> &[Entry] {
        &self.list
    }

    /// The numbers of the shards that the entries name, in the same order: those where records went, and
    /// those that have no room for them.
    pub fn shards(&self) -> &[Option<u64>] {
        &self.shards
    }

    /// What the first error said.
    pub fn error(&self) -> &str {
        &self.error
    }

    /// Reads the answer to a request of `count` records; else says what is wrong with it. Allocates
    /// nothing for a record, once it has had as many.
    pub fn read(&mut self, encoding: Encoding, body: &[u8], count: usize) -> Result<(), String> {
        self.list.clear();
        self.shards.clear();
        self.error.clear();
        let found = match encoding {
            Encoding::Json if plain::read(body, &mut self.shards) => {
                self.list.resize(self.shards.len(), Entry::Accepted);
                Ok((true, Some(0)))
            }
            Encoding::Json => {
                let mut json = serde_json::Deserializer::from_slice(body);
                let found = Whole(self).deserialize(&mut json);
                let whole = found.and_then(|found| json.end().map(|()| found));
                whole.map_err(|error| error.to_string())
            }
            Encoding::Cbor => {
                let mut cbor = cbor::Reader::new(body);
                let found = Whole(self).deserialize(&mut cbor);
                let whole = found.and_then(|found| cbor.end().map(|()| found));
                whole.map_err(|error| error.to_string())
            }
        };
        let (found, failed) =
            found.map_err(|error| format!("the answer cannot be read: {error}"))?;
        let errors = self.list.iter().filter(|entry| **entry != Entry::Accepted);
        let errors = errors.count() as u64;
        match (found, failed) {
            (true, _) if self.list.len() != count => Err(format!(
                "the answer has {} entries for {count} records",
                self.list.len()
            )),
            (true, Some(failed)) if failed == errors => Ok(()),
            (true, Some(failed)) => Err(format!(
                "the answer says that {failed} records failed, and has {errors} errors"
            )),
            _ => Err("the answer lacks its entries or their count".to_owned()),
        }
    }
}

/// Whether there are records, and how many are said to have failed.
struct Whole<'a>(&'a mut Entries);

impl<'de> DeserializeSeed<'de> for Whole<'_> {
    type Value = (bool, Option<u64>);

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Whole<'_> {
    type Value = (bool, Option<u64>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        use serde::de::Error;
        let (mut has_records, mut failed) = (false, None);
        while let Some(name) = map.next_key_seed(Word)? {
            match name {
                Name::Records if has_records => return Err(A::Error::duplicate_field("Records")),
                Name::Records => {
                    map.next_value_seed(List(self.0))?;
                    has_records = true;
                }
                Name::FailedRecordCount if failed.is_some() => {
                    return Err(A::Error::duplicate_field("FailedRecordCount"));
                }
                Name::FailedRecordCount => failed = Some(map.next_value::<u64>()?),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok((has_records, failed))
    }
}

struct List<'a>(&'a mut Entries);

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some((entry, shard)) = seq.next_element_seed(One(&mut self.0.error))? {
            self.0.list.push(entry);
            self.0.shards.push(shard);
        }
        Ok(())
    }
}

struct One<'a>(&'a mut String);

impl<'de> DeserializeSeed<'de> for One<'_> {
    type Value = (Entry, Option<u64>);

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for One<'_> {
    type Value = (Entry, Option<u64>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        use serde::de::Error;
        let (mut has_number, mut failed, mut shard) = (false, None, None);
        let is_first = self.0.is_empty();
        let mut message = String::new();
        while let Some(name) = map.next_key_seed(Word)? {
            match name {
                Name::SequenceNumber => has_number |= map.next_value_seed(Filled)?,
                Name::ErrorCode => {
                    if let Some(kind) =
                        map.next_value_seed(Code(is_first.then_some(&mut *self.0)))?
                    {
                        failed = Some(kind);
                    }
                }
                Name::ShardId => shard = map.next_value_seed(Shard(None))?.or(shard),
                Name::ErrorMessage => {
                    let copy = is_first.then_some(&mut message);
                    shard = map.next_value_seed(Shard(copy))?.or(shard);
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        if !message.is_empty() && failed.is_some() {
            self.0.push_str(": ");
            self.0.push_str(&message);
        }
        match (has_number, failed) {
            (true, None) => Ok((Entry::Accepted, shard)),
            (false, Some(kind)) => Ok((Entry::Failed(kind), shard)),
            (true, Some(_)) => Err(A::Error::custom("an entry has a number and an error")),
            (false, None) => Err(A::Error::custom("an entry has neither number nor error")),
        }
    }
}

enum Name {
    Records,
    FailedRecordCount,
    SequenceNumber,
    ShardId,
    ErrorCode,
    ErrorMessage,
    Other,
}

/// The name of a field.
struct Word;

impl<'de> DeserializeSeed<'de> for Word {
    type Value = Name;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Name, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for Word {
    type Value = Name;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Name, E> {
        Ok(match name {
            "Records" => Name::Records,
            "FailedRecordCount" => Name::FailedRecordCount,
            "SequenceNumber" => Name::SequenceNumber,
            "ShardId" => Name::ShardId,
            "ErrorCode" => Name::ErrorCode,
            "ErrorMessage" => Name::ErrorMessage,
            _ => Name::Other,
        })
    }
}

/// Whether there is text in a string, or null.
struct Filled;

impl<'de> DeserializeSeed<'de> for Filled {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<bool, D::Error> {
        json.deserialize_any(self)
    }
}

impl Visitor<'_> for Filled {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or null")
    }

    fn visit_str<E>(self, text: &str) -> Result<bool, E> {
        Ok(!text.is_empty())
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        Ok(false)
    }
}

/// A text that is copied where somebody wants it, and the shard that it names.
struct Shard<'a>(Option<&'a mut String>);

impl<'de> DeserializeSeed<'de> for Shard<'_> {
    type Value = Option<u64>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Option<u64>, D::Error> {
        json.deserialize_any(self)
    }
}

impl Visitor<'_> for Shard<'_> {
    type Value = Option<u64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or null")
    }

    fn visit_str<E>(self, text: &str) -> Result<Option<u64>, E> {
        if let Some(copy) = self.0 {
            copy.push_str(cut(text, 120));
        }
        let (_, number) = text.split_once("shardId-").unwrap_or_default();
        let end = number.find(|c: char| !c.is_ascii_digit());
        Ok(number[..end.unwrap_or(number.len())].parse().ok())
    }

    fn visit_unit<E>(self) -> Result<Option<u64>, E> {
        Ok(None)
    }
}

/// A text that is copied where somebody wants it, and what it means as a code.
struct Code<'a>(Option<&'a mut String>);

impl<'de> DeserializeSeed<'de> for Code<'_> {
    type Value = Option<Kind>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Option<Kind>, D::Error> {
        json.deserialize_any(self)
    }
}

impl Visitor<'_> for Code<'_> {
    type Value = Option<Kind>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or null")
    }

    fn visit_str<E>(self, text: &str) -> Result<Option<Kind>, E> {
        if text.is_empty() {
            return Ok(None);
        }
        if let Some(copy) = self.0 {
            copy.push_str(cut(text, 120));
        }
        // A code that is not known is the service's trouble, not the configuration's.
        Ok(Some(kind(500, text)))
    }

    fn visit_unit<E>(self) -> Result<Option<Kind>, E> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
