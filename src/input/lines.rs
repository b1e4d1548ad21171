//! Lines of bounded length, and what they say.

use std::borrow::Cow;
use std::io::{self, BufRead};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use crate::config::json;

/// A line that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// It is in the buffer, without its end.
    Whole,
    /// It is in the buffer, and the source has ended where its end should be.
    Unfinished,
    /// It is longer than the buffer may be; it was passed over.
    TooLong {
        /// The source had its end.
        is_finished: bool,
    },
    /// There is none: the source has ended.
    End,
}

/// Reads the next line into `line`, which never holds more than `len_max` bytes.
///
/// Ends are `\n` and `\r\n`; the last line need not have one.
pub fn read_line(
    source: &mut impl BufRead,
    line: &mut Vec<u8>,
    len_max: usize,
) -> io::Result<Line> {
    line.clear();
    let mut is_too_long = false;
    let mut is_any = false;
    loop {
        let bytes = match source.fill_buf() {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if bytes.is_empty() && !is_any {
            return Ok(Line::End);
        }
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let part = &bytes[..end.unwrap_or(bytes.len())];
        // One more for a carriage return, which is no part of the line.
        if is_too_long || line.len() + part.len() > len_max + 1 {
            is_too_long = true;
        } else {
            line.extend_from_slice(part);
        }
        let is_end = end.is_some() || bytes.is_empty();
        is_any = true;
        let used = part.len() + usize::from(end.is_some());
        source.consume(used);
        if is_end {
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            return Ok(match end {
                _ if is_too_long || line.len() > len_max => Line::TooLong {
                    is_finished: end.is_some(),
                },
                Some(_) => Line::Whole,
                None => Line::Unfinished,
            });
        }
    }
}

/// A source that knows how much of it was read.
pub struct Counted<R> {
    source: R,
    /// The bytes before the next one.
    pub position: u64,
}

impl<R> Counted<R> {
    /// A source that is at `position`.
    pub fn new(source: R, position: u64) -> Self {
        Self { source, position }
    }
}

impl<R: BufRead> io::Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = self.source.read(buf)?;
        self.position += len as u64;
        Ok(len)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.source.fill_buf()
    }

    fn consume(&mut self, len: usize) {
        self.source.consume(len);
        self.position += len as u64;
    }
}

/// A record in a line of JSON: what [`crate::sink::lines`] writes, and as much of it as is there.
#[derive(Debug, Default)]
pub struct LineRecord {
    /// The key; empty if the line has none.
    pub key: Vec<u8>,
    /// The time, if the line has one.
    pub time_ms: Option<u64>,
    /// The payload.
    pub payload: Vec<u8>,
    /// Names and values.
    pub properties: Vec<(String, Vec<u8>)>,
}

impl LineRecord {
    /// Reads a line: an object with `payload` or `payloadBase64`, and perhaps `key` or `keyBase64`,
    /// `timeMs`, `properties` and `propertiesBase64`. Other fields are passed over. `None` when it is
    /// none.
    pub fn parse(line: &str) -> Option<Self> {
        let mut object = json::parse(line).ok()?.object().ok()?;
        let mut record = Self::default();
        let mut bytes = |name: &str, name_base64: &str| -> Option<Option<Vec<u8>>> {
            if let Some(node) = object.take(name) {
                return node.string().ok().map(|text| Some(text.into_bytes()));
            }
            match object.take(name_base64) {
                Some(node) => BASE64_STANDARD.decode(node.string().ok()?).ok().map(Some),
                None => Some(None),
            }
        };
        record.payload = bytes("payload", "payloadBase64")??;
        record.key = bytes("key", "keyBase64")?.unwrap_or_default();
        record.time_ms = match object.take("timeMs") {
            Some(node) => Some(node.number(0..=u64::MAX).ok()?),
            None => None,
        };
        for (field, is_text) in [("properties", true), ("propertiesBase64", false)] {
            let Some(node) = object.take(field) else {
                continue;
            };
            for (name, value) in node.object().ok()?.into_fields() {
                let text = value.string().ok()?;
                let value = match is_text {
                    true => text.into_bytes(),
                    false => BASE64_STANDARD.decode(text).ok()?,
                };
                record.properties.push((name.into_owned(), value));
            }
        }
        Some(record)
    }

    /// The properties as a record borrows them.
    pub fn borrowed_properties(&self) -> Vec<(&str, &[u8])> {
        self.properties
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_slice()))
            .collect()
    }
}

/// A line as text, if it is.
pub fn text(line: &[u8]) -> Option<Cow<'_, str>> {
    std::str::from_utf8(line).ok().map(Cow::Borrowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOO_LONG: Line = Line::TooLong { is_finished: true };

    fn all(text: &[u8], len_max: usize) -> Vec<Result<String, Line>> {
        // A reader that gives three bytes at a time.
        let mut source = io::BufReader::with_capacity(3, text);
        let mut line = Vec::new();
        let mut lines = Vec::new();
        loop {
            match read_line(&mut source, &mut line, len_max).unwrap() {
                Line::Whole | Line::Unfinished => {
                    lines.push(Ok(String::from_utf8(line.clone()).unwrap()));
                }
                Line::TooLong { .. } => lines.push(Err(TOO_LONG)),
                Line::End => return lines,
            }
            assert!(line.len() <= len_max + 1);
        }
    }

    #[test]
    fn lines_end_in_every_way_and_long_ones_are_passed_over() {
        let lines = all(b"one\r\n\ntwo three four\n12345\nlast", 5);
        let ok = |text: &str| Ok(text.to_owned());
        let too_long = || Err(TOO_LONG);
        assert_eq!(
            lines,
            [ok("one"), ok(""), too_long(), ok("12345"), ok("last")]
        );
        assert_eq!(all(b"", 5), []);
        assert_eq!(all(b"123456\r\n12345\r\n", 5), [too_long(), ok("12345")]);
    }

    #[test]
    fn a_line_of_json_gives_back_what_the_sink_wrote() {
        let line = r#"{"stream":"s","offset":7,"timeMs":5,"keyBase64":"/g==","payload":"a\nb",
            "properties":{"unit":"bar"},"propertiesBase64":{"raw":"/w=="}}"#;
        let record = LineRecord::parse(line).unwrap();
        assert_eq!((record.key, record.time_ms), (vec![0xfe], Some(5)));
        assert_eq!(record.payload, b"a\nb");
        assert_eq!(record.properties[1], ("raw".to_owned(), vec![0xff]));
    }

    #[test]
    fn what_is_no_record_is_none() {
        let bad = [
            "",
            "[]",
            "{}",
            r#"{"payload":5}"#,
            r#"{"payloadBase64":"%"}"#,
            r#"{"payload":"x","timeMs":-1}"#,
            r#"{"payload":"x","timeMs":1.5}"#,
            r#"{"payload":"x","properties":{"a":1}}"#,
            r#"{"payload":"x","payload":"y"}"#,
        ];
        for line in bad {
            assert!(LineRecord::parse(line).is_none(), "{line}");
        }
    }
}
