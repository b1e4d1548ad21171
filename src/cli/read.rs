//! `read`: prints the records of a store.

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{Argument, Arguments, Done, Failure, place, required, say, time, view};
use crate::clock::{Clock, System};
use crate::error::Error;
use crate::log::{BatchBuffer, Ended, Salvage, Salvaged};
use crate::record::RecordView;
use crate::sink::lines::{LineFormat, write_line};
use crate::storage::Real;
use crate::watermark::seam::park;

pub const HELP: &str = "\
usage: forebay read DIR [--from N|TIME] [--to N|TIME] [--follow | --salvage] [--format log|ndjson|raw]

Prints the durable records of the store in a directory, in order. Takes no lock and changes nothing; an engine that has
the store does not notice. What is missing is said on standard error.

  --from N|TIME    start at this offset, or at the first record stored at or after this time
  --to N|TIME      end before this offset, or before the first record stored at or after this time
  --follow         go on as records become durable
  --salvage        whatever verifies, also where no store opens from it: without the checkpoint, the head, cursors and
                   marks, also from files that were set aside; what was delivered or dropped comes out where it is still
                   there. Exit status 1 when a file could not be read
  --format log     offset, time, key and payload, for people (default)
  --format ndjson  one JSON object a record
  --format raw     payloads as they are, a line feed behind each

A time is 2026-11-22, 2026-11-22T12:33:00Z, or -15m: that long ago (s, m, h, d).

example: forebay read /var/lib/forebay/telemetry --from -15m --follow
";

/// How long a follower waits before it looks again.
const FOLLOW_PAUSE: Duration = Duration::from_millis(100);
/// Records are read in batches of so many bytes.
const BATCH_BYTES: usize = 1 << 20;

/// A place in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Offset(u64),
    /// Milliseconds since 1970.
    Time(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Log,
    Lines(LineFormat),
}

pub fn main(mut arguments: Arguments) -> Done {
    let (mut path, mut from, mut to) = (None, Place::Offset(0), None);
    let (mut follows, mut salvages) = (false, false);
    let mut format = Format::Log;
    let clock = System::new();
    while let Some(argument) = arguments.next()? {
        match argument {
            Argument::Option(name) if name == "from" => {
                from = read_place(&arguments.value()?, clock.wall_ms())?;
            }
            Argument::Option(name) if name == "to" => {
                to = Some(read_place(&arguments.value()?, clock.wall_ms())?);
            }
            Argument::Option(name) if name == "follow" => follows = true,
            Argument::Option(name) if name == "salvage" => salvages = true,
            Argument::Option(name) if name == "format" => {
                format = match arguments.value()?.as_str() {
                    "log" => Format::Log,
                    "ndjson" => Format::Lines(LineFormat::Ndjson),
                    "raw" => Format::Lines(LineFormat::Raw),
                    other => {
                        let text = format!("--format {other}: must be log, ndjson or raw");
                        return Err(Failure::Usage(text));
                    }
                };
            }
            argument => place(&mut [&mut path], argument)?,
        }
    }
    let path = required(path, "DIR")?;
    match (salvages, follows) {
        (true, true) => {
            let text = "--salvage and --follow exclude each other".to_owned();
            Err(Failure::Usage(text))
        }
        (true, false) => salvage(&path, from, to, format),
        (false, _) => print_records(&path, from, to, follows, format),
    }
}

pub fn read_place(text: &str, now_ms: u64) -> Result<Place, Failure> {
    let ago = || {
        let (number, unit) = text
            .strip_prefix('-')?
            .split_at_checked(text.len().checked_sub(2)?)?;
        let unit = match unit {
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        Some(now_ms.saturating_sub(number.parse::<u64>().ok()?.checked_mul(unit)?))
    };
    let offset = text.parse().ok().map(Place::Offset);
    let place = offset.or_else(|| time::parse_ms(text).or_else(ago).map(Place::Time));
    place.ok_or_else(|| Failure::Usage(format!("{text}: neither an offset nor a time")))
}

fn print_records(
    path: &Path,
    from: Place,
    to: Option<Place>,
    follows: bool,
    format: Format,
) -> Done {
    let mut view = view(path)?;
    let failed = |error| Failure::Error(Error::io("read store", error));
    let mut reader = view.reader().map_err(failed)?;
    let mut batch = BatchBuffer::new(10_000, BATCH_BYTES, BATCH_BYTES).map_err(failed)?;
    let mut next = match from {
        Place::Offset(offset) => offset.max(view.shared().head()),
        Place::Time(wall_ms) => reader.seek_time(wall_ms).map_err(failed)?,
    };
    let mut out = Printer {
        out: io::stdout().lock(),
        line: Vec::new(),
        format,
    };
    loop {
        batch.clear();
        let limit = match to {
            Some(Place::Offset(offset)) => offset,
            _ => u64::MAX,
        };
        let (ended, after) = reader.read(next, limit, &mut batch).map_err(failed)?;
        for entry in batch.entries() {
            let record = batch.view(entry);
            let is_early = |place| matches!(place, Place::Time(ms) if record.appended.wall_ms < ms);
            if is_early(from) {
                continue;
            }
            if let Some(Place::Time(ms)) = to
                && record.appended.wall_ms >= ms
            {
                return Ok(out.out.flush()?);
            }
            let summary = view.summary();
            out.print(&summary.checkpoint.name, summary.epoch, &record)?;
        }
        next = after;
        match ended {
            Ended::Gap(gap) => {
                let (start, last, reason) = (gap.start, gap.end - 1, gap.reason.name());
                say(&format!(
                    "records {start} to {last} are missing: {reason}\n"
                ));
            }
            Ended::Full => {}
            Ended::CaughtUp if !follows || next >= limit => return Ok(out.out.flush()?),
            Ended::CaughtUp => {
                out.out.flush()?;
                park(Some(FOLLOW_PAUSE));
                if view.refresh()? {
                    reader = view.reader().map_err(failed)?;
                }
            }
        }
    }
}

/// Whether a record is before a place.
fn is_before(record: &RecordView<'_>, place: Place) -> bool {
    match place {
        Place::Offset(offset) => record.offset < offset,
        Place::Time(wall_ms) => record.appended.wall_ms < wall_ms,
    }
}

fn salvage(path: &Path, from: Place, to: Option<Place>, format: Format) -> Done {
    let salvage = Salvage::open(path, &Real, Arc::new(System::new()))?;
    for note in salvage.notes() {
        say(&format!("{note}\n"));
    }
    let (name, epoch) = salvage.stream();
    let mut out = Printer {
        out: io::stdout().lock(),
        line: Vec::new(),
        format,
    };
    let read = salvage.read(|salvaged| match salvaged {
        Salvaged::Missing(start, end) => {
            let last = end - 1;
            say(&format!("records {start} to {last} are not there\n"));
            Ok(())
        }
        Salvaged::Record(record) => {
            let is_asked = !is_before(&record, from) && to.is_none_or(|to| is_before(&record, to));
            match is_asked {
                true => out.print(name, epoch, &record),
                false => Ok(()),
            }
        }
    });
    read.map_err(|error| Failure::Error(Error::io("read store", error)))??;
    out.out.flush()?;
    match salvage.notes() {
        [] => Ok(()),
        _ => Err(Failure::Found),
    }
}

struct Printer<W> {
    out: W,
    line: Vec<u8>,
    format: Format,
}

impl<W: Write> Printer<W> {
    fn print(&mut self, name: &str, epoch: u64, record: &RecordView<'_>) -> Done {
        self.line.clear();
        match self.format {
            Format::Log => {
                let time = match record.appended.wall_ms {
                    0 => "(no clock)".to_owned(),
                    wall_ms => time::format_ms(wall_ms),
                };
                let (key, payload) = (shown(record.key), shown(record.payload));
                let properties: String = record
                    .properties()
                    .map(|(name, value)| format!(" {name}={}", shown(value)))
                    .collect();
                let text = format!("{} {time} {key}{properties} {payload}\n", record.offset);
                self.line.extend_from_slice(text.as_bytes());
            }
            Format::Lines(format) => write_line(&mut self.line, format, name, epoch, record),
        }
        Ok(self.out.write_all(&self.line)?)
    }
}

/// Bytes as text on one line.
fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_offsets_or_times() {
        let place = |text| read_place(text, 1_000_000_000).ok();
        assert_eq!(place("17"), Some(Place::Offset(17)));
        assert_eq!(place("1970-01-02"), Some(Place::Time(86_400_000)));
        assert_eq!(place("-15m"), Some(Place::Time(1_000_000_000 - 900_000)));
        assert_eq!(place("-99999d"), Some(Place::Time(0)));
        for bad in [
            "",
            "-",
            "-m",
            "-5",
            "-5x",
            "yesterday",
            "-99999999999999999999d",
        ] {
            assert_eq!(place(bad), None, "{bad}");
        }
    }
}
