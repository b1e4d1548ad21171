//! `verify`: reads all of a store and says what is damaged.

use std::io::{self, IsTerminal};
use std::path::Path;
use std::sync::Arc;

use super::{Arguments, Done, Failure, place, print, required, say, view};
use crate::error::Error;
use crate::format::{PAGE_SIZE, Reason, SLOT_SIZE};
use crate::log::{BatchBuffer, Ended, Locator, Summary, View};
use crate::segment::file_name;
use crate::storage::{Real, Storage};
use crate::syncer::LETTERS_DIR;

pub const HELP: &str = "\
usage: forebay verify DIR

Reads every record of the store in a directory and of its dead letters, and checks it; and every copy of every header,
every slot of the checkpoint, and whether cursors, sources and ledger fit what is stored. Prints what is missing, as
ranges of offsets with the reason, for damage with the file and the byte where the first record of the range begins, or
the page that should have it; and what else does not verify. Exit status 0 when nothing is damaged, else 1: records that
the quota dropped or that never became durable are no damage, nor are files that are not of the store. Takes no lock and
changes nothing; of a live store it reads what is durable when it starts.

example: forebay verify /var/lib/forebay/telemetry
";

const BATCH_BYTES: usize = 1 << 20;

/// What was found in a store.
#[derive(Default)]
struct Found {
    text: String,
    is_damaged: bool,
}

impl Found {
    fn damage(&mut self, text: &str) {
        self.text.push_str(text);
        self.text.push('\n');
        self.is_damaged = true;
    }
}

pub fn main(mut arguments: Arguments) -> Done {
    let mut path = None;
    while let Some(argument) = arguments.next()? {
        place(&mut [&mut path], argument)?;
    }
    let path = required(path, "DIR")?;
    let found = verify(&view(&path)?)?;
    print(&found.text)?;
    let letters = verify_letters(&path)?;
    for line in letters.text.lines() {
        print(&format!("{LETTERS_DIR}: {line}\n"))?;
    }
    if found.is_damaged || letters.is_damaged {
        return Err(Failure::Found);
    }
    Ok(())
}

fn verify_letters(path: &Path) -> Result<Found, Failure> {
    let path = path.join(LETTERS_DIR);
    match Real.open_dir(&path, false) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::default()),
        _ => verify(&view(&path)?),
    }
}

fn verify(view: &View) -> Result<Found, Failure> {
    let failed = |error| Failure::Error(Error::io("read store", error));
    let mut reader = view.reader().map_err(failed)?;
    let mut locator = Locator::new(Arc::clone(view.shared())).map_err(failed)?;
    let mut batch = BatchBuffer::new(10_000, BATCH_BYTES, BATCH_BYTES).map_err(failed)?;
    let head = view.shared().head();
    let limit = view.shared().durable.get();
    let shows_progress = io::stderr().is_terminal();
    let (mut next, mut records, mut damaged) = (head, 0u64, 0u64);
    let mut found = Found::default();
    let mut shown = 0;
    loop {
        batch.clear();
        let read = reader.read(next, limit, &mut batch);
        records += batch.entries().len() as u64;
        let (ended, after) = match read {
            Ok(read) => read,
            Err(error) => {
                next = reader.position();
                let place = place_of(&mut locator, next);
                found.damage(&format!("a page cannot be read{place}: {error}"));
                reader.give_up_unreadable();
                continue;
            }
        };
        next = after;
        match ended {
            Ended::Gap(gap) => {
                let is_damage = matches!(gap.reason, Reason::Damage | Reason::Undecided);
                let place = match gap.reason {
                    Reason::Damage => place_of(&mut locator, gap.start),
                    _ => String::new(),
                };
                let (last, reason) = (gap.end - 1, gap.reason.name());
                let text = format!("missing {} to {last}: {reason}{place}\n", gap.start);
                found.text.push_str(&text);
                if is_damage {
                    damaged += gap.end - gap.start;
                    found.is_damaged = true;
                }
            }
            Ended::Full => {}
            Ended::CaughtUp => break,
        }
        let share = (next - head) * 100 / (limit - head).max(1);
        if shows_progress && share > shown {
            shown = share;
            say(&format!("\r{share} %"));
        }
    }
    if shows_progress {
        say("\r");
    }
    look_at_files(view.summary(), &mut found);
    look_at_checkpoint(view.summary(), limit, &mut found);
    found.text.push_str(&format!(
        "{records} records from {head} to {limit}, {damaged} damaged\n"
    ));
    Ok(found)
}

/// The file and the byte where a record is, or should be.
fn place_of(locator: &mut Locator, offset: u64) -> String {
    locator.find(offset).map_or_else(String::new, |spot| {
        format!(", {} at byte {}", file_name(spot.segment), spot.byte)
    })
}

fn look_at_files(summary: &Summary, found: &mut Found) {
    for (number, copy) in &summary.bad_headers {
        let (name, byte) = (file_name(*number), u64::from(*copy) * PAGE_SIZE as u64);
        found.damage(&format!("{name}: the header at byte {byte} is damaged"));
    }
    for number in &summary.unreadable_files {
        // It may be anybody's: if it is ours, its records are missing above.
        let name = file_name(*number);
        found
            .text
            .push_str(&format!("{name}: nothing in it can be read\n"));
    }
    for slot in &summary.bad_slots {
        let byte = u64::from(*slot) * SLOT_SIZE as u64;
        found.damage(&format!("checkpoint: the slot at byte {byte} is damaged"));
    }
}

/// Whether what the checkpoint says fits together, and what is stored.
fn look_at_checkpoint(summary: &Summary, limit: u64, found: &mut Found) {
    let checkpoint = &summary.checkpoint;
    if checkpoint.generation == 0 {
        found.damage("checkpoint: no slot verifies; cursors, sources and ledger are lost");
        return;
    }
    if summary.is_live {
        // It moves on while it is looked at.
        return;
    }
    let end = limit.max(summary.report.next);
    if checkpoint.head > checkpoint.mark || checkpoint.mark > end {
        let (head, mark) = (checkpoint.head, checkpoint.mark);
        found.damage(&format!("checkpoint: head {head}, mark {mark}, end {end}"));
    }
    for cursor in &checkpoint.cursors {
        let (name, position) = (&cursor.name, cursor.place.position);
        let mut from = position;
        let is_rising = cursor.place.intervals.iter().all(|(start, to)| {
            let is_rising = from < *start && start < to;
            from = *to;
            is_rising
        });
        if !is_rising || from > end {
            found.damage(&format!("checkpoint: cursor {name} at {position} of {end}"));
        }
    }
    for source in &checkpoint.sources {
        if source.offset >= end {
            let (name, offset) = (&source.name, source.offset);
            found.damage(&format!("checkpoint: source {name} at {offset} of {end}"));
        }
    }
    let mut from = 0;
    for loss in &checkpoint.ledger {
        let is_range = loss.start >= from && loss.start < loss.end;
        if !is_range || loss.count > loss.end - loss.start || loss.end > end {
            let (start, to, count) = (loss.start, loss.end, loss.count);
            found.damage(&format!("ledger: {count} records of {start} to {to}"));
        }
        from = loss.end;
    }
}
