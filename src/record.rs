//! What a producer sends, as it is handed in and as it is handed out.
//!
//! ```text
//!  in memory and on disk a record's body is   | extra | key | payload |
//!  extra:  per property   1 | name length u8 | value length u16    | name | value
//!          the source     2 | name length u8 | position length u16 | name | position
//! ```
//!
//! The body is built once, by the producer in the ring, and copied from there to disk and from disk to
//! the sinks as it is. All numbers are little-endian.

use std::str;

use crate::clock::Stamp;
use crate::error::{Code, Error, Result};

/// The longest key, in bytes.
pub const KEY_LEN_MAX: usize = u16::MAX as usize;
/// The most properties of a record.
pub const PROPERTIES_MAX: usize = 64;
/// The longest name of a property, in bytes.
pub const PROPERTY_NAME_MAX: usize = u8::MAX as usize;
/// The most bytes that properties and source position take together, with 4 for each of them.
pub const EXTRA_LEN_MAX: usize = 16_384;
/// The longest name of a source, in bytes.
pub const SOURCE_NAME_MAX: usize = 128;
/// The longest position in a source, in bytes.
pub const SOURCE_POSITION_MAX: usize = 64;

const TAG_PROPERTY: u8 = 1;
const TAG_SOURCE: u8 = 2;
const ITEM_HEADER_LEN: usize = 4;

/// A record as a producer hands it in. Borrowed for the call only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record<'a> {
    /// Records of one key keep their order downstream. Any bytes, may be empty.
    pub key: &'a [u8],
    /// When it happened, in milliseconds since 1970, as the producer sees it.
    pub time_ms: u64,
    /// Any bytes, may be empty.
    pub payload: &'a [u8],
    /// Names and values that go along; at most [`PROPERTIES_MAX`].
    pub properties: &'a [(&'a str, &'a [u8])],
    /// Where the producer stands in its own source with this record.
    pub source: Option<Source<'a>>,
}

/// A place in a producer's own source: a file and how far it was read, a queue and a message's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source<'a> {
    /// Which source; at most [`SOURCE_NAME_MAX`] bytes.
    pub name: &'a str,
    /// The place; at most [`SOURCE_POSITION_MAX`] bytes that only the producer understands.
    pub position: &'a [u8],
}

impl<'a> Record<'a> {
    /// A record without properties.
    pub fn new(key: &'a [u8], time_ms: u64, payload: &'a [u8]) -> Self {
        Self {
            key,
            time_ms,
            payload,
            properties: &[],
            source: None,
        }
    }

    /// The bytes of key, payload, properties and source: what `maxRecordBytes` bounds.
    #[inline]
    pub fn body_len(&self) -> usize {
        self.extra_len() + self.key.len() + self.payload.len()
    }

    /// The bytes of properties and source.
    #[inline(always)]
    pub(crate) fn extra_len(&self) -> usize {
        match self.has_extra() {
            true => self.items_len(),
            false => 0,
        }
    }

    /// Most records have neither properties nor a source, and pay for none.
    #[inline(always)]
    fn has_extra(&self) -> bool {
        !self.properties.is_empty() || self.source.is_some()
    }

    #[inline(never)]
    fn items_len(&self) -> usize {
        let properties = self.properties.iter();
        let properties = properties.map(|(name, value)| ITEM_HEADER_LEN + name.len() + value.len());
        let source = self.source.as_ref();
        let source = source.map_or(0, |source| {
            ITEM_HEADER_LEN + source.name.len() + source.position.len()
        });
        properties.sum::<usize>() + source
    }

    /// Checks every bound but the whole length, which is the stream's.
    #[inline(always)]
    pub(crate) fn check(&self) -> Result<()> {
        if self.key.len() <= KEY_LEN_MAX && !self.has_extra() {
            return Ok(());
        }
        self.check_all()
    }

    #[inline(never)]
    fn check_all(&self) -> Result<()> {
        let refused = |what| Err(Error::refused(Code::InvalidArg, what));
        if self.key.len() > KEY_LEN_MAX {
            return refused("append: the key is longer than 65535 bytes");
        }
        if self.properties.len() > PROPERTIES_MAX {
            return refused("append: more than 64 properties");
        }
        let named = |(name, _): &(&str, &[u8])| (1..=PROPERTY_NAME_MAX).contains(&name.len());
        if !self.properties.iter().all(named) {
            return refused("append: a property's name must have 1 to 255 bytes");
        }
        if let Some(source) = &self.source {
            if !(1..=SOURCE_NAME_MAX).contains(&source.name.len()) {
                return refused("append: a source's name must have 1 to 128 bytes");
            }
            if source.position.len() > SOURCE_POSITION_MAX {
                return refused("append: a source position is longer than 64 bytes");
            }
        }
        if self.extra_len() > EXTRA_LEN_MAX {
            return refused("append: properties and source are longer than 16384 bytes");
        }
        Ok(())
    }

    /// Calls `put` with the parts of the body, in order.
    #[inline(always)]
    pub(crate) fn write_body(&self, mut put: impl FnMut(&[u8])) {
        if self.has_extra() {
            self.write_items(&mut put);
        }
        put(self.key);
        put(self.payload);
    }

    #[inline(never)]
    fn write_items(&self, put: &mut dyn FnMut(&[u8])) {
        let mut item = |tag: u8, name: &str, value: &[u8]| {
            // Both lengths were checked: a name has at most 255 bytes, all items at most 16384.
            let name_len = u8::try_from(name.len()).unwrap_or(u8::MAX);
            let [low, high] = u16::try_from(value.len()).unwrap_or(u16::MAX).to_le_bytes();
            put(&[tag, name_len, low, high]);
            put(name.as_bytes());
            put(value);
        };
        for (name, value) in self.properties {
            item(TAG_PROPERTY, name, value);
        }
        if let Some(source) = &self.source {
            item(TAG_SOURCE, source.name, source.position);
        }
    }
}

/// A record as it comes out of the log. Borrowed from a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordView<'a> {
    /// Its number in the stream; rising, never used twice, with gaps.
    pub offset: u64,
    /// When it happened, in milliseconds since 1970, as the producer saw it.
    pub time_ms: u64,
    /// When the engine took it from the ring.
    pub appended: Stamp,
    /// The producer's key.
    pub key: &'a [u8],
    /// The producer's payload.
    pub payload: &'a [u8],
    extra: &'a [u8],
}

impl<'a> RecordView<'a> {
    /// A view of a body whose parts have these lengths. `None` when they do not fit the body.
    pub(crate) fn of_body(
        offset: u64,
        time_ms: u64,
        appended: Stamp,
        body: &'a [u8],
        extra_len: usize,
        key_len: usize,
    ) -> Option<Self> {
        let (extra, rest) = body.split_at_checked(extra_len)?;
        let (key, payload) = rest.split_at_checked(key_len)?;
        Some(Self {
            offset,
            time_ms,
            appended,
            key,
            payload,
            extra,
        })
    }

    /// The bytes of key, payload, properties and source.
    pub fn body_len(&self) -> usize {
        self.extra.len() + self.key.len() + self.payload.len()
    }

    /// Names and values that the producer sent along, in its order.
    pub fn properties(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        Items(self.extra)
            .filter(|item| item.tag == TAG_PROPERTY)
            .map(|item| (item.name, item.value))
    }

    /// Where the producer stood in its source.
    pub fn source(&self) -> Option<Source<'a>> {
        source_in(self.extra)
    }
}

/// The source among the properties and source of a body.
pub(crate) fn source_in(extra: &[u8]) -> Option<Source<'_>> {
    let mut items = Items(extra).filter(|item| item.tag == TAG_SOURCE);
    let source = items.next().map(|item| Source {
        name: item.name,
        position: item.value,
    });
    // No record is taken with a longer one.
    source.filter(|source| {
        source.name.len() <= SOURCE_NAME_MAX && source.position.len() <= SOURCE_POSITION_MAX
    })
}

struct Item<'a> {
    tag: u8,
    name: &'a str,
    value: &'a [u8],
}

/// The items of an extra, up to the first that makes no sense.
struct Items<'a>(&'a [u8]);

impl<'a> Iterator for Items<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        let (&[tag, name_len, low, high], rest) = self.0.split_first_chunk()?;
        let (name, rest) = rest.split_at_checked(name_len.into())?;
        let (value, rest) = rest.split_at_checked(u16::from_le_bytes([low, high]).into())?;
        let name = str::from_utf8(name).ok()?;
        self.0 = rest;
        Some(Item { tag, name, value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(record: &Record<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        record.write_body(|part| bytes.extend_from_slice(part));
        assert_eq!(bytes.len(), record.body_len());
        bytes
    }

    #[test]
    fn a_source_that_no_record_is_taken_with_is_none() {
        let item = |name_len: u8, len: u8| {
            let mut extra = vec![TAG_SOURCE, name_len, len, 0];
            extra.resize(extra.len() + usize::from(name_len) + usize::from(len), b'a');
            extra
        };
        assert!(source_in(&item(128, 64)).is_some());
        assert!(source_in(&item(129, 64)).is_none());
        assert!(source_in(&item(128, 65)).is_none());
    }

    /// `G-023`, `G-024`: keys are bytes; empty ones and empty payloads are legal.
    #[test]
    fn a_body_gives_back_what_was_put_in() {
        let properties: &[(&str, &[u8])] = &[("unit", b"bar"), ("raw", b"\x00\xff")];
        let source = Some(Source {
            name: "tail:/var/log/x",
            position: &[1, 2, 3],
        });
        let record = Record {
            key: b"\xff\xfe",
            time_ms: 5,
            payload: b"",
            properties,
            source,
        };
        assert!(record.check().is_ok());
        let bytes = body(&record);
        let stamp = Stamp::default();
        let view = RecordView::of_body(9, 5, stamp, &bytes, record.extra_len(), 2).unwrap();
        assert_eq!(
            (view.key, view.payload, view.offset),
            (record.key, record.payload, 9)
        );
        assert_eq!(view.properties().collect::<Vec<_>>(), properties);
        assert_eq!(view.source(), source);
        assert!(RecordView::of_body(9, 5, stamp, &bytes, bytes.len(), 1).is_none());
    }

    /// `G-022`: and every other bound, each with its own words.
    #[test]
    fn every_bound_is_checked() {
        let long = vec![b'x'; 70_000];
        let text = str::from_utf8(&long).unwrap();
        let many = vec![("n", &b""[..]); 65];
        let source = |name, position| Some(Source { name, position });
        let base = Record::default();
        let cases = [
            (
                Record {
                    key: &long[..65_536],
                    ..base
                },
                "65535",
            ),
            (
                Record {
                    properties: &many,
                    ..base
                },
                "64 properties",
            ),
            (
                Record {
                    properties: &[("", b"")],
                    ..base
                },
                "1 to 255",
            ),
            (
                Record {
                    properties: &[(&text[..256], b"")],
                    ..base
                },
                "1 to 255",
            ),
            (
                Record {
                    properties: &[("a", &long[..16_381])],
                    ..base
                },
                "16384",
            ),
            (
                Record {
                    source: source("", b""),
                    ..base
                },
                "1 to 128",
            ),
            (
                Record {
                    source: source(&text[..129], b""),
                    ..base
                },
                "1 to 128",
            ),
            (
                Record {
                    source: source("a", &long[..65]),
                    ..base
                },
                "64 bytes",
            ),
        ];
        for (record, words) in cases {
            let error = record.check().unwrap_err();
            assert_eq!(error.code(), Code::InvalidArg);
            assert!(error.to_string().contains(words), "{error} / {words}");
        }
        assert!(
            Record {
                key: &long[..65_535],
                ..base
            }
            .check()
            .is_ok()
        );
        assert!(
            Record {
                properties: &[("a", &long[..16_379])],
                ..base
            }
            .check()
            .is_ok()
        );
    }

    #[test]
    fn garbage_in_an_extra_ends_it() {
        let bytes = [1, 200, 0, 0, b'a'];
        let view = RecordView::of_body(0, 0, Stamp::default(), &bytes, 5, 0).unwrap();
        assert_eq!((view.properties().count(), view.source()), (0, None));
    }
}
