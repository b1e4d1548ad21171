//! CBOR (RFC 8949): what requests are written with, and what answers are read with.
//!
//! Arrays and maps may have a length or an end, texts may come in parts, tags are passed over. What is
//! nested deeper than an answer can be is refused.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

/// An array of which the end is marked.
pub const ARRAY: u8 = 0x9f;
/// The end of an array.
pub const END: u8 = 0xff;

const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const LIST: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;
/// What stands in place of a length where there is an end instead.
const UNTIL_END: u8 = 31;
/// Maps and arrays in each other, at most; and tags on each other.
const DEPTH_MAX: u32 = 32;

/// Appends the beginning of an item: its kind, and a length or a number.
fn push_head(bytes: &mut Vec<u8>, kind: u8, number: usize) {
    let number = number as u64;
    let [.., e, f, g, h] = number.to_be_bytes();
    match number {
        0..24 => bytes.push(kind << 5 | h),
        24..0x100 => bytes.extend_from_slice(&[kind << 5 | 0x18, h]),
        0x100..0x1_0000 => bytes.extend_from_slice(&[kind << 5 | 0x19, g, h]),
        0x1_0000..0x1_0000_0000 => bytes.extend_from_slice(&[kind << 5 | 0x1a, e, f, g, h]),
        _ => {
            bytes.push(kind << 5 | 0x1b);
            bytes.extend_from_slice(&number.to_be_bytes());
        }
    }
}

/// Appends the beginning of a map of so many names with their values.
pub fn push_map(bytes: &mut Vec<u8>, len: usize) {
    push_head(bytes, MAP, len);
}

/// Appends a text.
pub fn push_text(bytes: &mut Vec<u8>, text: &str) {
    push_head(bytes, TEXT, text.len());
    bytes.extend_from_slice(text.as_bytes());
}

/// Appends bytes.
pub fn push_bytes(bytes: &mut Vec<u8>, data: &[u8]) {
    push_head(bytes, BYTES, data.len());
    bytes.extend_from_slice(data);
}

/// Reads one item, with all that is in it.
#[derive(Debug)]
pub struct Reader<'de> {
    rest: &'de [u8],
    depth: u32,
}

/// Why what is read is not CBOR, or not what is wanted.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault(String);

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Fault {}

impl serde::de::Error for Fault {
    fn custom<T: fmt::Display>(text: T) -> Self {
        Self(text.to_string())
    }
}

fn fault<T>(text: &str) -> Result<T, Fault> {
    Err(Fault(text.to_owned()))
}

enum Item<'de> {
    Number(u64),
    Negative(i64),
    Bytes(&'de [u8]),
    Text(&'de str),
    /// The first part of a text; the others follow, and an end.
    Part(&'de str),
    List(Option<u64>),
    Map(Option<u64>),
    Bool(bool),
    Null,
    Float,
    End,
}

impl<'de> Reader<'de> {
    /// At the beginning of `bytes`.
    pub fn new(bytes: &'de [u8]) -> Self {
        Self {
            rest: bytes,
            depth: 0,
        }
    }

    /// Whether everything was read.
    pub fn end(&self) -> Result<(), Fault> {
        match self.rest {
            [] => Ok(()),
            _ => fault("something follows its end"),
        }
    }

    fn take(&mut self, len: u64) -> Result<&'de [u8], Fault> {
        let parts = usize::try_from(len).ok();
        match parts.and_then(|len| self.rest.split_at_checked(len)) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => fault("it ends too early"),
        }
    }

    /// Kind, what stands beside it, and the number that follows from that.
    fn head(&mut self) -> Result<(u8, u8, u64), Fault> {
        let byte = self.take(1)?[0];
        let (kind, beside) = (byte >> 5, byte & 31);
        let number = match beside {
            0..24 => u64::from(beside),
            24..28 => {
                let bytes = self.take(1 << (beside - 24))?;
                bytes
                    .iter()
                    .fold(0, |number, byte| number << 8 | u64::from(*byte))
            }
            UNTIL_END => 0,
            _ => return fault("an item of no known kind"),
        };
        Ok((kind, beside, number))
    }

    fn text(&mut self, len: u64) -> Result<&'de str, Fault> {
        let text = std::str::from_utf8(self.take(len)?);
        text.map_err(|_| Fault("a text that is none".to_owned()))
    }

    fn item(&mut self) -> Result<Item<'de>, Fault> {
        for _ in 0..DEPTH_MAX {
            let (kind, beside, number) = self.head()?;
            let has_end = beside == UNTIL_END;
            return Ok(match kind {
                TAG if !has_end => continue,
                UNSIGNED if !has_end => Item::Number(number),
                NEGATIVE if !has_end => match i64::try_from(number) {
                    Ok(number) => Item::Negative(-1 - number),
                    Err(_) => return fault("a number that is too great"),
                },
                BYTES if !has_end => Item::Bytes(self.take(number)?),
                TEXT if !has_end => Item::Text(self.text(number)?),
                TEXT => match self.part()? {
                    Some(part) => Item::Part(part),
                    None => Item::Text(""),
                },
                LIST => Item::List((!has_end).then_some(number)),
                MAP => Item::Map((!has_end).then_some(number)),
                7 => match beside {
                    20 | 21 => Item::Bool(beside == 21),
                    22 | 23 => Item::Null,
                    25..28 => Item::Float,
                    UNTIL_END => Item::End,
                    _ => return fault("an item of no known kind"),
                },
                _ => return fault("an item of no known kind"),
            });
        }
        fault("too many tags")
    }

    /// The next part of a text, or its end.
    fn part(&mut self) -> Result<Option<&'de str>, Fault> {
        match self.head()? {
            (TEXT, beside, len) if beside != UNTIL_END => self.text(len).map(Some),
            (7, UNTIL_END, _) => Ok(None),
            _ => fault("a text with something else in it"),
        }
    }

    /// Reads what is in an array or a map.
    fn inside<T>(
        &mut self,
        left: Option<u64>,
        read: impl FnOnce(&mut Inside<'_, 'de>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        if self.depth == DEPTH_MAX {
            return fault("it is nested too deeply");
        }
        self.depth += 1;
        let mut inside = Inside { reader: self, left };
        let value = read(&mut inside)?;
        let is_over = inside.is_over();
        self.depth -= 1;
        match is_over {
            true => Ok(value),
            false => fault("more than is expected"),
        }
    }
}

/// What is still to be read of an array or a map: so many, or up to its end.
struct Inside<'a, 'de> {
    reader: &'a mut Reader<'de>,
    left: Option<u64>,
}

impl<'de> Inside<'_, 'de> {
    fn is_over(&mut self) -> bool {
        match (self.left, self.reader.rest) {
            (Some(left), _) => left == 0,
            (None, [END, rest @ ..]) => {
                self.reader.rest = rest;
                self.left = Some(0);
                true
            }
            (None, _) => false,
        }
    }

    fn next<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Fault> {
        if self.is_over() {
            return Ok(None);
        }
        self.left = self.left.map(|left| left - 1);
        seed.deserialize(&mut *self.reader).map(Some)
    }
}

impl<'de> SeqAccess<'de> for Inside<'_, 'de> {
    type Error = Fault;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        self.next(seed)
    }
}

impl<'de> MapAccess<'de> for Inside<'_, 'de> {
    type Error = Fault;

    fn next_key_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, Fault> {
        self.next(seed)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Fault> {
        seed.deserialize(&mut *self.reader)
    }
}

impl<'de> Deserializer<'de> for &mut Reader<'de> {
    type Error = Fault;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Fault> {
        match self.item()? {
            Item::Number(number) => visitor.visit_u64(number),
            Item::Negative(number) => visitor.visit_i64(number),
            Item::Bytes(bytes) => visitor.visit_borrowed_bytes(bytes),
            Item::Text(text) => visitor.visit_borrowed_str(text),
            Item::Part(first) => {
                let mut whole = first.to_owned();
                while let Some(part) = self.part()? {
                    whole.push_str(part);
                }
                visitor.visit_string(whole)
            }
            Item::List(left) => self.inside(left, |inside| visitor.visit_seq(inside)),
            Item::Map(left) => self.inside(left, |inside| visitor.visit_map(inside)),
            Item::Bool(value) => visitor.visit_bool(value),
            // No answer has one that matters.
            Item::Null | Item::Float => visitor.visit_unit(),
            Item::End => fault("an end of nothing"),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::{Value, json};

    use super::*;

    fn read(bytes: &[u8]) -> Result<Value, Fault> {
        let mut reader = Reader::new(bytes);
        let value = Value::deserialize(&mut reader)?;
        reader.end().map(|()| value)
    }

    /// Examples of RFC 8949, appendix A.
    #[test]
    fn the_published_examples_are_read() {
        for (bytes, value) in [
            (&b"\x00"[..], json!(0)),
            (b"\x17", json!(23)),
            (b"\x18\x18", json!(24)),
            (b"\x19\x03\xe8", json!(1000)),
            (b"\x1a\x00\x0f\x42\x40", json!(1_000_000)),
            (
                b"\x1b\x00\x00\x00\xe8\xd4\xa5\x10\x00",
                json!(1_000_000_000_000_u64),
            ),
            (b"\x20", json!(-1)),
            (b"\x39\x03\xe7", json!(-1000)),
            (b"\xf4", json!(false)),
            (b"\xf5", json!(true)),
            (b"\xf6", json!(null)),
            (b"\xfb\x3f\xf1\x99\x99\x99\x99\x99\x9a", json!(null)),
            (b"\x60", json!("")),
            (b"\x64IETF", json!("IETF")),
            (b"\x62\xc3\xbc", json!("ü")),
            (b"\x7f\x65strea\x64ming\xff", json!("streaming")),
            (b"\x80", json!([])),
            (
                b"\x83\x01\x82\x02\x03\x82\x04\x05",
                json!([1, [2, 3], [4, 5]]),
            ),
            (
                b"\x9f\x01\x82\x02\x03\x9f\x04\x05\xff\xff",
                json!([1, [2, 3], [4, 5]]),
            ),
            (b"\x9f\xff", json!([])),
            (
                b"\xa2\x61a\x01\x61b\x82\x02\x03",
                json!({"a": 1, "b": [2, 3]}),
            ),
            (
                b"\xbf\x61a\x01\x61b\x9f\x02\x03\xff\xff",
                json!({"a": 1, "b": [2, 3]}),
            ),
            (b"\xc1\x1a\x51\x4b\x67\xb0", json!(1_363_896_240)),
        ] {
            assert_eq!(read(bytes), Ok(value), "{bytes:x?}");
            for end in 0..bytes.len() {
                read(&bytes[..end]).unwrap_err();
            }
            read(&[bytes, b"\x00"].concat()).unwrap_err();
        }
    }

    #[test]
    fn what_is_no_cbor_is_a_fault_and_never_a_panic() {
        for bytes in [
            &b"<html>"[..],
            b"{}",
            b"\xff",
            b"\x1c",
            b"\x1f",
            b"\xdf\x00",
            b"\x61\xff",
            b"\x7f\x01\xff",
            b"\x3b\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff\x00",
            b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff\x00",
            b"\xa1\x01\x01",
            &[0x81; 40],
            &[0xc1; 40],
        ] {
            assert!(read(bytes).is_err(), "{bytes:x?}");
        }
        for first in 0..=255_u8 {
            for second in 0..=255 {
                let _ = read(&[first, second, 0x61, 0x61, 0, 0xff]);
            }
        }
    }

    #[test]
    fn lengths_of_every_size_come_back() {
        for len in [0, 1, 23, 24, 255, 256, 65_535, 65_536, 70_000] {
            let mut bytes = Vec::new();
            push_text(&mut bytes, &"x".repeat(len));
            assert_eq!(read(&bytes), Ok(json!("x".repeat(len))));
        }
        let mut bytes = Vec::new();
        push_map(&mut bytes, 1);
        push_text(&mut bytes, "a");
        bytes.push(ARRAY);
        push_bytes(&mut bytes, b"\xff\xff");
        bytes.push(END);
        assert_eq!(bytes, b"\xa1\x61a\x9f\x42\xff\xff\xff");
    }
}
