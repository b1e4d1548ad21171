//! Lines on standard input. While there is no room, the pipe waits: nothing is lost.

use std::io;

use super::lines::{Line, LineRecord, read_line, text};
use super::{Progress, append_patiently};
use crate::clock::{Clock, System};
use crate::config::json::Object;
use crate::engine::Stream;
use crate::error::Result;
use crate::record::Record;

/// What the input is told.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The key of records whose line has none.
    pub key: String,
    /// Lines are JSON objects.
    pub is_json: bool,
}

impl Options {
    pub(super) fn read(object: &mut Object<'_>) -> Result<Self> {
        let key = object
            .take_set("key")
            .map_or(Ok(String::new()), |node| node.string())?;
        let is_json = object.take_set("format").map_or(Ok(false), |node| {
            node.word(&[("lines", false), ("ndjson", true)])
        })?;
        Ok(Self { key, is_json })
    }
}

/// Appends a record for each line, until standard input ends.
pub fn run(options: &Options, stream: &Stream, progress: &Progress) {
    let mut source = io::stdin().lock();
    if let Err(error) = append_lines(&mut source, options, stream, progress) {
        log::warn!("standard input: {error}");
    }
}

/// Appends a record for each line of a source.
pub fn append_lines(
    source: &mut impl io::BufRead,
    options: &Options,
    stream: &Stream,
    progress: &Progress,
) -> io::Result<()> {
    let clock = System::new();
    let mut line = Vec::new();
    // In JSON six characters may stand for one byte.
    let len_max = stream.record_len_max() * if options.is_json { 6 } else { 1 } + 4096;
    while !progress.is_stopping() {
        match read_line(source, &mut line, len_max)? {
            Line::End => break,
            Line::TooLong => {
                Progress::count(&progress.refused);
                continue;
            }
            Line::Whole => {}
        }
        let now = clock.wall_ms();
        let is_open = if options.is_json {
            let Some(parsed) = text(&line).and_then(|line| LineRecord::parse(&line)) else {
                Progress::count(&progress.malformed);
                continue;
            };
            let properties = parsed.borrowed_properties();
            let key = if parsed.key.is_empty() {
                options.key.as_bytes()
            } else {
                &parsed.key
            };
            let record = Record {
                key,
                time_ms: parsed.time_ms.unwrap_or(now),
                payload: &parsed.payload,
                properties: &properties,
                source: None,
            };
            append_patiently(stream, &record, progress)
        } else {
            append_patiently(
                stream,
                &Record::new(options.key.as_bytes(), now, &line),
                progress,
            )
        };
        if !is_open {
            break;
        }
    }
    Ok(())
}
