//! `deadletter`: the records of a store that a sink never took.

use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Argument, Arguments, Done, Failure, say, time};
use crate::clock::{Clock, System};
use crate::counters::Place;
use crate::error::{Code, Error};
use crate::log::{BatchBuffer, Ended, View};
use crate::record::RecordView;
use crate::sink::lines::{LineFormat, write_line};
use crate::storage::{Real, Storage};
use crate::syncer::{LETTERS_DIR, Letter};
use change::{Change, change};

mod change;

pub const HELP: &str = "\
usage: forebay deadletter DIR list [--json]
       forebay deadletter DIR show OFFSET [--json]
       forebay deadletter DIR reinject OFFSET|--all|--from N --to N --config CONFIG [--dry-run]
       forebay deadletter DIR drop OFFSET|--all|--from N --to N [--dry-run]

The dead letters of the store in a directory: records that a sink rejected, that were too long for it, or that were sent
again as often as delivery.maxRetries allows. list and show take no lock and change nothing; an engine that has the
store does not notice. reinject and drop take the store, and are refused while an engine has it; they print what they
did.

  list             a line for each: its own offset, when, which sink, the record's offset, attempts, key, reason
  show OFFSET      all of one letter, with the record's properties and payload
  reinject         appends their records to the stream again, as new ones that every sink gets, and drops the letters
                   when the records are durable; a crash in between repeats it. A letter that has not all of its record
                   stays
  drop             forgets them
  --all            all letters
  --from N         the letters from this offset on
  --to N           the letters before this offset
  --config CONFIG  the configuration that has the stream: its sizes and policies hold for what is appended
  --dry-run        only lists the letters
  --json           one JSON object a letter, as read --format ndjson prints it

example: forebay deadletter /var/lib/forebay/telemetry reinject --all --config forebay.json
";

/// Letters are read in batches of so many bytes.
const BATCH_BYTES: usize = 1 << 20;
/// The cursor in the letters' log that says which of them are done with.
const HANDLED: &str = "handled";

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    All,
    One(u64),
}

/// The options.
#[derive(Default)]
struct Options {
    is_json: bool,
    is_dry: bool,
    is_all: bool,
    from: Option<u64>,
    to: Option<u64>,
    config: Option<PathBuf>,
}

impl Options {
    /// An option that only the other verbs have.
    fn stray(&self, word: &str) -> Option<&'static str> {
        let is_change = matches!(word, "reinject" | "drop");
        let all = [
            ("--json", self.is_json && is_change),
            ("--dry-run", self.is_dry && !is_change),
            ("--all", self.is_all && !is_change),
            ("--from", self.from.is_some() && !is_change),
            ("--to", self.to.is_some() && !is_change),
            ("--config", self.config.is_some() && word != "reinject"),
        ];
        all.into_iter().find(|(_, is)| *is).map(|(name, _)| name)
    }

    /// The letters that are meant.
    fn offsets(&self, one: Option<u64>) -> Option<Range<u64>> {
        let is_range = self.from.is_some() || self.to.is_some();
        match (one, self.is_all, is_range) {
            (Some(offset), false, false) => Some(offset..offset.saturating_add(1)),
            (None, true, false) => Some(0..u64::MAX),
            (None, false, true) => Some(self.from.unwrap_or(0)..self.to.unwrap_or(u64::MAX)),
            _ => None,
        }
    }
}

pub fn main(mut arguments: Arguments) -> Done {
    let (mut plain, mut options) = (Vec::new(), Options::default());
    while let Some(argument) = arguments.next()? {
        match argument {
            Argument::Option(name) => match &*name {
                "json" => options.is_json = true,
                "dry-run" => options.is_dry = true,
                "all" => options.is_all = true,
                "from" => options.from = Some(arguments.number()?),
                "to" => options.to = Some(arguments.number()?),
                "config" => options.config = Some(PathBuf::from(arguments.value()?)),
                _ => return Err(Arguments::unknown(&Argument::Option(name))),
            },
            Argument::Plain(value) if plain.len() < 3 => plain.push(value),
            argument @ Argument::Plain(_) => return Err(Arguments::unknown(&argument)),
        }
    }
    let mut plain = plain.into_iter();
    let usage = |text: &str| Failure::Usage(text.to_owned());
    let path = plain.next().ok_or_else(|| usage("DIR is missing"))?;
    let path = PathBuf::from(path);
    let word = plain
        .next()
        .ok_or_else(|| usage("list, show, reinject or drop is missing"))?;
    let word = word.to_string_lossy();
    let offset = plain.next().map(|offset| {
        let text = offset.to_string_lossy();
        let number = text.parse::<u64>();
        number.map_err(|_| Failure::Usage(format!("{text}: must be a number")))
    });
    if let Some(name) = options.stray(&word) {
        return Err(Failure::Usage(format!("{name} is not for {word}")));
    }
    match (&*word, offset.transpose()?) {
        ("list", None) => print_letters(&path, Asked::All, options.is_json),
        ("list", Some(_)) => Err(usage("list takes no offset")),
        ("show", None) => Err(usage("OFFSET is missing")),
        ("show", Some(offset)) => print_letters(&path, Asked::One(offset), options.is_json),
        ("reinject", _) if options.config.is_none() => Err(usage("--config is missing")),
        ("reinject" | "drop", one) => {
            let offsets = options.offsets(one);
            let offsets = offsets.ok_or_else(|| {
                usage("which letters? give an offset, or --all, or --from and --to")
            })?;
            change(&Change {
                path,
                offsets,
                config: options.config,
                is_dry: options.is_dry,
            })
        }
        _ => {
            let text = format!("{word}: must be list, show, reinject or drop");
            Err(Failure::Usage(text))
        }
    }
}

/// The letters of a store; `None` when it never had any.
fn letters_view(path: &Path) -> Result<Option<View>, Failure> {
    let clock: Arc<dyn Clock> = Arc::new(System::new());
    // Says so when there is no store.
    View::open(path, Arc::new(Real), Arc::clone(&clock))?;
    let letters = path.join(LETTERS_DIR);
    match Real.open_dir(&letters, false) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("read dead letters", error).into()),
        Ok(_) => {}
    }
    Ok(Some(View::open(&letters, Arc::new(Real), clock)?))
}

/// Which letters are done with.
fn handled(view: &View) -> Place {
    let mut cursors = view.summary().checkpoint.cursors.iter();
    let entry = cursors.find(|entry| entry.name == HANDLED);
    entry.map(|entry| entry.place.clone()).unwrap_or_default()
}

fn is_done(place: &Place, offset: u64) -> bool {
    let mut intervals = place.intervals.iter();
    offset < place.position || intervals.any(|(from, to)| (*from..*to).contains(&offset))
}

/// Calls `each` with all records between these offsets. What is missing is said.
fn all_letters(
    view: &View,
    offsets: Range<u64>,
    mut each: impl FnMut(RecordView<'_>) -> Done,
) -> Done {
    let failed = |error| Failure::Error(Error::io("read dead letters", error));
    let mut reader = view.reader().map_err(failed)?;
    let mut batch = BatchBuffer::new(10_000, BATCH_BYTES, BATCH_BYTES).map_err(failed)?;
    let mut next = offsets.start.max(view.shared().head());
    while next < offsets.end {
        batch.clear();
        let (ended, after) = reader.read(next, offsets.end, &mut batch).map_err(failed)?;
        for entry in batch.entries() {
            each(batch.view(entry))?;
        }
        next = after;
        match ended {
            Ended::Gap(gap) => {
                let (start, last, reason) = (gap.start, gap.end - 1, gap.reason.name());
                say(&format!(
                    "letters {start} to {last} are missing: {reason}\n"
                ));
            }
            Ended::Full => {}
            Ended::CaughtUp => break,
        }
    }
    Ok(())
}

fn print_letters(path: &Path, asked: Asked, is_json: bool) -> Done {
    let Some(view) = letters_view(path)? else {
        return match asked {
            Asked::All => Ok(()),
            Asked::One(offset) => Err(none_at(offset)),
        };
    };
    let place = handled(&view);
    let offsets = match asked {
        Asked::All => 0..u64::MAX,
        Asked::One(offset) if offset >= view.shared().durable.get() => return Err(none_at(offset)),
        Asked::One(offset) => offset..offset.saturating_add(1),
    };
    let (mut out, mut line, mut count) = (io::stdout().lock(), Vec::new(), 0);
    all_letters(&view, offsets, |record| {
        if is_done(&place, record.offset) {
            return Ok(());
        }
        line.clear();
        match (Letter::read(record), asked) {
            _ if is_json => {
                let summary = view.summary();
                let name = &summary.checkpoint.name;
                write_line(&mut line, LineFormat::Ndjson, name, summary.epoch, &record);
            }
            (None, _) => {
                say(&format!("record {} is no dead letter\n", record.offset));
                return Ok(());
            }
            (Some(letter), Asked::All) => line.extend_from_slice(row(&letter).as_bytes()),
            (Some(letter), Asked::One(_)) => line.extend_from_slice(all_of(&letter).as_bytes()),
        }
        count += 1;
        Ok(out.write_all(&line)?)
    })?;
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
