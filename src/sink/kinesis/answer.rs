//! What the service answered, and what that means.
//!
//! An answer counts only when it is complete and agrees with itself: JSON to its end, as many entries as
//! were sent, a sequence number or an error in each, and as many errors as it says. Anything else, whatever
//! its status, says nothing: the records are sent again.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::counters::cut;
use crate::sink::Link;

/// What an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing is known: it is sent again.
    Unknown,
    /// The service asks to slow down.
    Throttled,
    /// The credentials are not taken, or do not allow it.
    Auth,
    /// The credentials have ended: newer ones are needed.
    Expired,
    /// The signature is not taken, perhaps because of the clock.
    Signature,
    /// What the configuration asks for is not there, or not allowed.
    Config,
    /// The records themselves are not taken.
    Records,
}

impl Kind {
    /// How the link is then.
    pub fn link(self) -> Link {
        match self {
            Kind::Unknown => Link::Down,
            Kind::Throttled => Link::Throttled,
            Kind::Auth | Kind::Expired | Kind::Signature => Link::Auth,
            Kind::Config | Kind::Records => Link::Config,
        }
    }
}

/// All names that services have for a signature of a wrong time, and for one that is wrong.
pub const SIGNATURE: [&str; 8] = [
    "AuthFailure",
    "InvalidSignatureException",
    "RequestExpired",
    "RequestInTheFuture",
    "RequestTimeTooSkewed",
    "RequestTimeTooSkewedException",
    "SignatureDoesNotMatch",
    "SignatureDoesNotMatchException",
];

const EXPIRED: [&str; 7] = [
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidClientTokenId",
    "InvalidToken",
    "TokenRefreshRequired",
    "UnrecognizedClientException",
    "UnrecognizedClient",
];

const THROTTLED: [&str; 14] = [
    "BandwidthLimitExceeded",
    "EC2ThrottledException",
    "KMSThrottlingException",
    "LimitExceededException",
    "PriorRequestNotComplete",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestThrottledException",
    "SlowDown",
    "ThrottledException",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
];

const AUTH: [&str; 8] = [
    "AccessDenied",
    "AccessDeniedException",
    "IncompleteSignature",
    "IncompleteSignatureException",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "NotAuthorized",
    "OptInRequired",
];

const CONFIG: [&str; 8] = [
    "DryRunOperationException",
    "InvalidAction",
    "KMSAccessDeniedException",
    "KMSDisabledException",
    "KMSInvalidStateException",
    "KMSNotFoundException",
    "KMSOptInRequired",
    "ResourceNotFoundException",
];

const RECORDS: [&str; 5] = [
    "InvalidArgumentException",
    "RequestEntityTooLarge",
    "SerializationException",
    "ValidationError",
    "ValidationException",
];

/// What an error is about, from its status and its name, if it has one.
pub fn kind(status: u16, name: &str) -> Kind {
    let has = |names: &[&str]| names.contains(&name);
    match (status, name) {
        _ if has(&SIGNATURE) => Kind::Signature,
        _ if has(&EXPIRED) => Kind::Expired,
        _ if has(&THROTTLED) => Kind::Throttled,
        _ if has(&AUTH) => Kind::Auth,
        _ if has(&CONFIG) => Kind::Config,
        _ if has(&RECORDS) => Kind::Records,
        (429, _) => Kind::Throttled,
        (413, _) => Kind::Records,
        // Only the service names its errors; a gateway's page or a captive portal says nothing.
        (_, "") => Kind::Unknown,
        (401 | 403, _) => Kind::Auth,
        (400..=499, _) if name != "RequestTimeout" && name != "RequestTimeoutException" => {
            Kind::Config
        }
        _ => Kind::Unknown,
    }
}

/// The name and the text of an error, from its body.
pub fn error_of(body: &[u8], type_header: &str) -> (String, String) {
    let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
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
    /// What the first error of each answer said.
    error: String,
}

impl Entries {
    /// The entries in the order of the records.
    pub fn list(&self) -> &[Entry] {
        &self.list
    }

    /// What the first error said.
    pub fn error(&self) -> &str {
        &self.error
    }

    /// Reads the answer to a request of `count` records; else says what is wrong with it. Allocates
    /// nothing for a record, once it has had as many.
    pub fn read(&mut self, body: &[u8], count: usize) -> Result<(), String> {
        self.list.clear();
        self.error.clear();
        let mut json = serde_json::Deserializer::from_slice(body);
        let found = Whole(self).deserialize(&mut json);
        let (found, failed) = found
            .and_then(|found| json.end().map(|()| found))
            .map_err(|error| format!("the answer cannot be read: {error}"))?;
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
        while let Some(entry) = seq.next_element_seed(One(&mut self.0.error))? {
            self.0.list.push(entry);
        }
        Ok(())
    }
}

struct One<'a>(&'a mut String);

impl<'de> DeserializeSeed<'de> for One<'_> {
    type Value = Entry;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Entry, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for One<'_> {
    type Value = Entry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entry, A::Error> {
        use serde::de::Error;
        let (mut has_number, mut failed) = (false, None);
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
                Name::ErrorMessage if is_first => {
                    map.next_value_seed(Code(Some(&mut message)))?;
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
            (true, None) => Ok(Entry::Accepted),
            (false, Some(kind)) => Ok(Entry::Failed(kind)),
            (true, Some(_)) => Err(A::Error::custom("an entry has a number and an error")),
            (false, None) => Err(A::Error::custom("an entry has neither number nor error")),
        }
    }
}

enum Name {
    Records,
    FailedRecordCount,
    SequenceNumber,
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
