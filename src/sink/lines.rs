//! Records as lines of text: one JSON object each, or the payload as it is.

use std::io;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::Batch;
use crate::record::RecordView;

/// Lines are handed over when they have so many bytes, in bytes.
const PART_SIZE: usize = 256 * 1024;
/// What a byte may become: a control character is written as `\u0007`.
const ESCAPED_LEN_MAX: usize = 6;
/// What a line has besides: names, numbers, the stream's name; in whole pages.
const LINE_TABLES: usize = 8192;

/// What a line holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LineFormat {
    /// A JSON object: stream, epoch, offset, timeMs, appendedMs, key, properties, payload. Bytes that are
    /// not UTF-8 stand as base64 under `keyBase64`, `payloadBase64` and `propertiesBase64`.
    #[default]
    Ndjson,
    /// The payload and a line feed. What the payload is made of is up to the producer.
    Raw,
}

/// The most memory that lines take, if no record is longer.
pub fn lines_size_max(record_bytes_max: usize) -> usize {
    PART_SIZE + ESCAPED_LEN_MAX * record_bytes_max + LINE_TABLES
}

/// Makes the lines of a batch and hands them over in parts of whole lines. Allocates when a record is
/// longer than all before, within [`lines_size_max`].
pub fn write_lines(
    lines: &mut Vec<u8>,
    format: LineFormat,
    batch: &Batch<'_>,
    mut write: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    lines.clear();
    for record in batch.iter() {
        if lines.len() >= PART_SIZE {
            write(lines)?;
            lines.clear();
        }
        let size = lines_size_max(record.body_len()).next_multiple_of(LINE_TABLES / 2);
        if lines.capacity() < size {
            lines.reserve_exact(size - lines.len());
        }
        write_line(lines, format, batch.stream(), batch.epoch(), &record);
    }
    write(lines)
}

/// Appends a record's line to `out`. Allocates nothing once `out` is large enough.
pub fn write_line(
    out: &mut Vec<u8>,
    format: LineFormat,
    stream: &str,
    epoch: u64,
    record: &RecordView<'_>,
) {
    match format {
        LineFormat::Raw => out.extend_from_slice(record.payload),
        LineFormat::Ndjson => write_object(out, stream, epoch, record),
    }
    out.push(b'\n');
}

fn write_object(out: &mut Vec<u8>, stream: &str, epoch: u64, record: &RecordView<'_>) {
    out.extend_from_slice(b"{\"stream\":");
    write_string(out, stream);
    write_number(out, ",\"epoch\":", epoch);
    write_number(out, ",\"offset\":", record.offset);
    write_number(out, ",\"timeMs\":", record.time_ms);
    if record.appended.wall_ms > 0 {
        write_number(out, ",\"appendedMs\":", record.appended.wall_ms);
    }
    out.extend_from_slice(b",\"");
    write_bytes(out, "key", record.key);
    write_properties(out, record);
    out.extend_from_slice(b",\"");
    write_bytes(out, "payload", record.payload);
    out.push(b'}');
}

/// Properties that are text, and those that are not, each in an object of their own.
fn write_properties(out: &mut Vec<u8>, record: &RecordView<'_>) {
    for (name, is_text) in [("properties", true), ("propertiesBase64", false)] {
        let mut is_first = true;
        for (property, value) in record.properties() {
            if std::str::from_utf8(value).is_ok() != is_text {
                continue;
            }
            match std::mem::take(&mut is_first) {
                true => {
                    out.extend_from_slice(b",\"");
                    out.extend_from_slice(name.as_bytes());
                    out.extend_from_slice(b"\":{");
                }
                false => out.push(b','),
            }
            write_string(out, property);
            out.push(b':');
            match std::str::from_utf8(value) {
                Ok(text) => write_string(out, text),
                Err(_) => write_base64(out, value),
            }
        }
        if !is_first {
            out.push(b'}');
        }
    }
}

/// The rest of a name, and the bytes as text or as base64.
fn write_bytes(out: &mut Vec<u8>, name: &str, bytes: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    if let Ok(text) = std::str::from_utf8(bytes) {
        out.extend_from_slice(b"\":");
        write_string(out, text);
    } else {
        out.extend_from_slice(b"Base64\":");
        write_base64(out, bytes);
    }
}

fn write_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    let at = out.len();
    out.resize(at + bytes.len().div_ceil(3) * 4, 0);
    let written = BASE64_STANDARD.encode_slice(bytes, &mut out[at..]);
    debug_assert_eq!(written, Ok(out.len() - at));
    out.push(b'"');
}

fn write_string(out: &mut Vec<u8>, text: &str) {
    // Writing to memory cannot fail.
    let _ = serde_json::to_writer(out, text);
}

fn write_number(out: &mut Vec<u8>, name: &str, number: u64) {
    out.extend_from_slice(name.as_bytes());
    let _ = serde_json::to_writer(out, &number);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Stamp;
    use crate::record::Record;

    fn line(format: LineFormat, record: &Record<'_>, wall_ms: u64) -> String {
        let mut body = Vec::new();
        record.write_body(|part| body.extend_from_slice(part));
        let stamp = Stamp {
            boot: 1,
            mono_ms: 1,
            wall_ms,
        };
        let (extra_len, key_len) = (record.extra_len(), record.key.len());
        let view = RecordView::of_body(7, record.time_ms, stamp, &body, extra_len, key_len);
        let mut out = Vec::new();
        write_line(&mut out, format, "s", 3, &view.unwrap());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_stays_text() {
        let properties: &[(&str, &[u8])] = &[("unit", b"\"bar\""), ("raw", b"\xff")];
        let record = Record {
            key: b"pump-7",
            time_ms: 5,
            payload: b"a\nb",
            properties,
            source: None,
        };
        assert_eq!(
            line(LineFormat::Ndjson, &record, 9),
            concat!(
                r#"{"stream":"s","epoch":3,"offset":7,"timeMs":5,"appendedMs":9,"key":"pump-7","#,
                r#""properties":{"unit":"\"bar\""},"propertiesBase64":{"raw":"/w=="},"#,
                r#""payload":"a\nb"}"#,
                "\n"
            )
        );
        assert_eq!(line(LineFormat::Raw, &record, 9), "a\nb\n");
    }

    #[test]
    fn bytes_that_are_no_text_become_base64() {
        let record = Record::new(b"\xfe", 5, b"\x00\xff\x01\x02");
        assert_eq!(
            line(LineFormat::Ndjson, &record, 0),
            "{\"stream\":\"s\",\"epoch\":3,\"offset\":7,\"timeMs\":5,\"keyBase64\":\"/g==\",\
             \"payloadBase64\":\"AP8BAg==\"}\n"
        );
    }
}
