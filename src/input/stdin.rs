//! Lines on standard input. While there is no room, the pipe waits: nothing is lost.
//!
//! Where standard input is a file, each record can carry how far it was read (`resume`): after a crash
//! reading goes on exactly behind the last record that is durable, nothing twice and nothing missing. With
//! `follow` the end of the file is not the end of the input.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::lines::{Counted, Line, LineRecord, read_line, text};
use super::{Field, Input, Progress, append_patiently};
use crate::clock::{Clock, System};
use crate::config::json::{Node, Object, quoted};
use crate::config::resolve::Resolver;
use crate::engine::Stream;
use crate::error::Result;
use crate::record::{Record, Source};
use crate::storage::{FileId, seek_stdin, stdin_file};
use crate::watermark::seam::park;

/// The source whose position records carry.
const SOURCE: &str = "stdin";
/// A file that is followed is looked at so often.
const FOLLOW_PAUSE: Duration = Duration::from_millis(100);

/// What the input is told.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The key of records whose line has none.
    pub key: String,
    /// Lines are JSON objects.
    pub is_json: bool,
    /// Records carry their position in the file, and reading begins behind the last durable one.
    pub resumes: bool,
    /// At the end of the file it waits for more.
    pub follows: bool,
}

impl Options {
    fn read(object: &mut Object<'_>) -> Result<Self> {
        let key = object
            .take_set("key")
            .map_or(Ok(String::new()), |node| node.string())?;
        let is_json = object.take_set("format").map_or(Ok(false), |node| {
            node.word(&[("lines", false), ("ndjson", true)])
        })?;
        let is_set = |node: Option<Node<'_>>| node.map_or(Ok(false), |node| node.boolean());
        Ok(Self {
            key,
            is_json,
            resumes: is_set(object.take_set("resume"))?,
            follows: is_set(object.take_set("follow"))?,
        })
    }
}

/// Reads what the input is told.
pub(super) fn read(object: &mut Object<'_>, _: &Resolver<'_>) -> Result<Arc<dyn Input>> {
    Ok(Arc::new(Options::read(object)?))
}

impl Input for Options {
    fn fields(&self) -> Vec<Field> {
        let Self {
            key,
            is_json,
            resumes,
            follows,
        } = self;
        let format = if *is_json { "ndjson" } else { "lines" };
        vec![
            ("key", quoted(key)),
            ("format", quoted(format)),
            ("resume", resumes.to_string()),
            ("follow", follows.to_string()),
        ]
    }

    fn ends_soon(&self) -> bool {
        false
    }

    fn run(&self, stream: &Stream, progress: &Progress) {
        if let Err(error) = append_stdin(self, stream, progress) {
            log::warn!("standard input: {error}");
        }
    }
}

/// Appends a record for each line on standard input.
pub fn append_stdin(options: &Options, stream: &Stream, progress: &Progress) -> io::Result<()> {
    let file = match (options.resumes || options.follows, stdin_file()) {
        (false, _) => None,
        (true, Some(file)) => Some(file),
        (true, None) => {
            let text = "it is no regular file: \"resume\" and \"follow\" have no effect";
            log::warn!("standard input: {text}");
            None
        }
    };
    let mut position = 0;
    if let Some((id, size)) = file {
        let known = stream.source_position(SOURCE).filter(|_| options.resumes);
        position = known
            .and_then(|known| known_position(&known, id))
            .unwrap_or(0);
        if position > size {
            log::warn!(
                "standard input: the file is shorter than it was; it is read from its start"
            );
            position = 0;
        }
        seek_stdin(position)?;
    }
    let mut source = Counted::new(io::stdin().lock(), position);
    append_lines(
        &mut source,
        file.map(|(id, _)| id),
        options,
        stream,
        progress,
    )
}

/// What a position says: which file, and how much of it was read.
fn position_bytes(file: FileId, position: u64) -> [u8; 24] {
    let mut bytes = [0; 24];
    let values = [file.device, file.number, position];
    for (bytes, value) in bytes.chunks_exact_mut(8).zip(values) {
        bytes.copy_from_slice(&value.to_le_bytes());
    }
    bytes
}

/// How much of `file` was read, if the position is one of it.
fn known_position(bytes: &[u8], file: FileId) -> Option<u64> {
    let position = u64::from_le_bytes(bytes.get(16..24)?.try_into().ok()?);
    (bytes == position_bytes(file, position)).then_some(position)
}

/// Appends a record for each line of a source, which is `file` if that is known.
fn append_lines(
    source: &mut Counted<impl io::BufRead>,
    file: Option<FileId>,
    options: &Options,
    stream: &Stream,
    progress: &Progress,
) -> io::Result<()> {
    let clock = System::new();
    let mut line = Vec::new();
    // In JSON six characters may stand for one byte.
    let len_max = stream.record_len_max() * if options.is_json { 6 } else { 1 } + 4096;
    let follows = options.follows && file.is_some();
    while !progress.is_stopping() {
        let start = source.position;
        match read_line(source, &mut line, len_max)? {
            Line::End if follows => {
                park(Some(FOLLOW_PAUSE));
                continue;
            }
            Line::Unfinished | Line::TooLong { is_finished: false } if follows => {
                // Its rest is still to be written.
                seek_stdin(start)?;
                source.position = start;
                park(Some(FOLLOW_PAUSE));
                continue;
            }
            Line::End => break,
            Line::TooLong { .. } => {
                progress.receive();
                Progress::count(&progress.refused);
                continue;
            }
            Line::Whole | Line::Unfinished => progress.receive(),
        }
        let position = file.map(|file| position_bytes(file, source.position));
        let place = position.as_ref().filter(|_| options.resumes);
        let mut record = Record {
            source: place.map(|position| Source {
                name: SOURCE,
                position,
            }),
            ..Record::new(options.key.as_bytes(), clock.wall_ms(), &line)
        };
        if !options.is_json {
            if append_patiently(stream, &record, progress) {
                continue;
            }
            break;
        }
        let Some(parsed) = text(&line).and_then(|line| LineRecord::parse(&line)) else {
            Progress::count(&progress.malformed);
            continue;
        };
        let properties = parsed.borrowed_properties();
        record.properties = &properties;
        record.payload = &parsed.payload;
        record.time_ms = parsed.time_ms.unwrap_or(record.time_ms);
        if !parsed.key.is_empty() {
            record.key = &parsed.key;
        }
        if !append_patiently(stream, &record, progress) {
            break;
        }
    }
    Ok(())
}
