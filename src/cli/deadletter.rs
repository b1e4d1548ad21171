//! `deadletter`: the records of a store that a sink never took.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Argument, Arguments, Done, Failure, say, time};
use crate::clock::{Clock, System};
use crate::error::{Code, Error};
use crate::log::{BatchBuffer, Ended, View};
use crate::sink::lines::{LineFormat, write_line};
use crate::storage::{Real, Storage};
use crate::syncer::{LETTERS_DIR, Letter};

pub const HELP: &str = "\
usage: forebay deadletter DIR list [--json]
       forebay deadletter DIR show OFFSET [--json]

Prints the dead letters of the store in a directory: records that a sink rejected, that were too long for it, or that
were sent again as often as delivery.maxRetries allows. Takes no lock and changes nothing; an engine that has the store
does not notice. To send letters back to the stream, or to drop them, is not available in this version.

  list             a line for each: its own offset, when, which sink, the record's offset, attempts, key, reason
  show OFFSET      all of one letter, with the record's properties and payload
  --json           one JSON object a letter, as read --format ndjson prints it

example: forebay deadletter /var/lib/forebay/telemetry list
";

/// Letters are read in batches of so many bytes.
const BATCH_BYTES: usize = 1 << 20;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    All,
    One(u64),
}

pub fn main(mut arguments: Arguments) -> Done {
    let (mut plain, mut is_json) = (Vec::new(), false);
    while let Some(argument) = arguments.next()? {
        match argument {
            Argument::Option(name) if name == "json" => is_json = true,
            Argument::Plain(value) if plain.len() < 3 => plain.push(value),
            argument => return Err(Arguments::unknown(&argument)),
        }
    }
    let mut plain = plain.into_iter();
    let usage = |text: &str| Failure::Usage(text.to_owned());
    let path = plain.next().ok_or_else(|| usage("DIR is missing"))?;
    let what = plain
        .next()
        .ok_or_else(|| usage("list or show is missing"))?;
    let offset = plain.next();
    let asked = match (what.to_str(), offset) {
        (Some("list"), None) => Asked::All,
        (Some("list"), Some(_)) => return Err(usage("list takes no offset")),
        (Some("show"), None) => return Err(usage("OFFSET is missing")),
        (Some("show"), Some(offset)) => {
            let text = offset.to_string_lossy();
            let number = text.parse();
            Asked::One(number.map_err(|_| Failure::Usage(format!("{text}: must be a number")))?)
        }
        (Some(word @ ("reinject" | "drop")), _) => {
            let text = format!("{word}: not available in this version");
            return Err(Failure::Usage(text));
        }
        _ => {
            let text = format!("{}: must be list or show", what.to_string_lossy());
            return Err(Failure::Usage(text));
        }
    };
    print_letters(&PathBuf::from(path), asked, is_json)
}

fn print_letters(path: &Path, asked: Asked, is_json: bool) -> Done {
    let clock: Arc<dyn Clock> = Arc::new(System::new());
    let failed = |error| Failure::Error(Error::io("read dead letters", error));
    // Says so when there is no store.
    View::open(path, Arc::new(Real), Arc::clone(&clock))?;
    let letters = path.join(LETTERS_DIR);
    match Real.open_dir(&letters, false) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match asked {
                Asked::All => Ok(()),
                Asked::One(offset) => Err(none_at(offset)),
            };
        }
        Err(error) => return Err(failed(error)),
        Ok(_) => {}
    }
    let view = View::open(&letters, Arc::new(Real), clock)?;
    let mut reader = view.reader().map_err(failed)?;
    let mut batch = BatchBuffer::new(10_000, BATCH_BYTES, BATCH_BYTES).map_err(failed)?;
    let (mut next, limit) = match asked {
        Asked::All => (view.shared().head(), u64::MAX),
        Asked::One(offset) => (offset, offset.saturating_add(1)),
    };
    let (mut out, mut line, mut count) = (io::stdout().lock(), Vec::new(), 0);
    loop {
        batch.clear();
        let (ended, after) = reader.read(next, limit, &mut batch).map_err(failed)?;
        for entry in batch.entries() {
            let record = batch.view(entry);
            line.clear();
            match (Letter::read(record), asked) {
                _ if is_json => {
                    let summary = view.summary();
                    let name = &summary.checkpoint.name;
                    write_line(&mut line, LineFormat::Ndjson, name, summary.epoch, &record);
                }
                (None, _) => {
                    say(&format!("record {} is no dead letter\n", record.offset));
                    continue;
                }
                (Some(letter), Asked::All) => line.extend_from_slice(row(&letter).as_bytes()),
                (Some(letter), Asked::One(_)) => line.extend_from_slice(all_of(&letter).as_bytes()),
            }
            count += 1;
            out.write_all(&line)?;
        }
        next = after;
        match ended {
            Ended::Gap(gap) if asked == Asked::All => {
                let (start, last, reason) = (gap.start, gap.end - 1, gap.reason.name());
                say(&format!(
                    "letters {start} to {last} are missing: {reason}\n"
                ));
            }
            Ended::Gap(_) if next >= limit => break,
            Ended::Gap(_) | Ended::Full => {}
            Ended::CaughtUp => break,
        }
    }
    out.flush()?;
    match asked {
        Asked::One(offset) if count == 0 => Err(none_at(offset)),
        _ => Ok(()),
    }
}

fn none_at(offset: u64) -> Failure {
    let text = format!("there is no letter at offset {offset}");
    Failure::Error(Error::text(Code::InvalidArg, "deadletter", text))
}

fn when(wall_ms: u64) -> String {
    match wall_ms {
        0 => "(no clock)".to_owned(),
        wall_ms => time::format_ms(wall_ms),
    }
}

fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

fn row(letter: &Letter<'_>) -> String {
    let Letter { record, sink, .. } = letter;
    let (own, offset, attempts) = (record.offset, letter.offset, letter.attempts);
    let (time, key) = (when(letter.time_ms), shown(record.key));
    let reason = letter.reason.escape_debug();
    format!("{own} {time} {sink} {offset} {attempts} {key} {reason}\n")
}

fn all_of(letter: &Letter<'_>) -> String {
    let record = &letter.record;
    let mut rows = vec![
        ("letter", record.offset.to_string()),
        ("given up", when(letter.time_ms)),
        ("sink", letter.sink.to_owned()),
        ("reason", letter.reason.escape_debug().to_string()),
        ("attempts", letter.attempts.to_string()),
        ("offset", letter.offset.to_string()),
        ("time", when(record.time_ms)),
        ("appended", when(letter.appended_ms)),
        ("key", shown(record.key)),
    ];
    for (name, value) in letter.properties() {
        let property = format!("{}={}", name.escape_debug(), shown(value));
        rows.push(("property", property));
    }
    if letter.cut > 0 {
        let (kept, cut) = (record.payload.len(), letter.cut);
        rows.push(("cut", format!("the first {kept} of {cut} bytes are kept")));
    }
    rows.push(("payload", shown(record.payload)));
    let rows = rows.iter();
    rows.map(|(name, value)| format!("{name:<9} {value}\n"))
        .collect()
}
