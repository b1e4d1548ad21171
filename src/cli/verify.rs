//! `verify`: reads all of a store and says what is damaged.

use std::cmp::Reverse;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use super::{Arguments, Done, Failure, place, print, required, say, view};
use crate::error::Error;
use crate::format::{PAGE_SIZE, Reason, SLOT_SIZE};
use crate::log::{BatchBuffer, Ended, Locator, Reader, Summary, View};
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

/// So many records are gone through between two looks at the progress.
const BATCH_RECORDS: usize = 10_000;
/// The most threads that read.
const THREADS_MAX: usize = 4;

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

/// What is done by as many threads as there are cores: each takes the offsets of a segment at a time.
struct Work<'a> {
    view: &'a View,
    /// From, to; the longest first, so that the threads end together.
    ranges: Vec<(u64, u64)>,
    taken: AtomicUsize,
    /// Offsets that were gone through.
    done: AtomicU64,
    shown: AtomicU64,
    shows_progress: bool,
}

/// What was found in one of the ranges.
#[derive(Default)]
struct Part {
    from: u64,
    found: Found,
    records: u64,
    damaged: u64,
}

impl<'a> Work<'a> {
    fn new(view: &'a View, head: u64, limit: u64) -> Self {
        let segments = view.shared().segments();
        let bases = segments.iter().skip(1).map(|segment| segment.base);
        let inside = bases.filter(|base| (head + 1..limit).contains(base));
        let mut ends: Vec<u64> = inside.chain([limit]).collect();
        ends.dedup();
        let starts = std::iter::once(head).chain(ends.iter().copied());
        let mut ranges: Vec<_> = starts.zip(ends.iter().copied()).collect();
        ranges.sort_by_key(|(from, to)| Reverse(to.saturating_sub(*from)));
        Self {
            view,
            ranges,
            taken: AtomicUsize::new(0),
            done: AtomicU64::new(0),
            shown: AtomicU64::new(0),
            shows_progress: io::stderr().is_terminal(),
        }
    }

    /// Takes ranges until none is left.
    fn run(&self) -> io::Result<Vec<Part>> {
        let mut reader = self.view.reader()?;
        let mut locator = Locator::new(Arc::clone(self.view.shared()))?;
        let mut batch = BatchBuffer::that_counts(BATCH_RECORDS)?;
        let mut parts = Vec::new();
        loop {
            let next = self.taken.fetch_add(1, Ordering::Relaxed);
            let Some((from, to)) = self.ranges.get(next).copied() else {
                return Ok(parts);
            };
            let mut part = Part {
                from,
                ..Part::default()
            };
            let mut next = from;
            while next < to {
                let before = next;
                next = part.go_on(next, to, &mut reader, &mut locator, &mut batch);
                self.advance(next - before);
            }
            parts.push(part);
        }
    }

    fn advance(&self, count: u64) {
        if !self.shows_progress {
            return;
        }
        let done = self.done.fetch_add(count, Ordering::Relaxed) + count;
        let lens = self
            .ranges
            .iter()
            .map(|(from, to)| to.saturating_sub(*from));
        let all: u64 = lens.sum();
        let share = done * 100 / all.max(1);
        if self.shown.fetch_max(share, Ordering::Relaxed) < share {
            say(&format!("\r{share} %"));
        }
    }
}

impl Part {
    /// Reads as much as the batch takes, or up to the next gap. Returns where to go on.
    fn go_on(
        &mut self,
        next: u64,
        to: u64,
        reader: &mut Reader,
        locator: &mut Locator,
        batch: &mut BatchBuffer,
    ) -> u64 {
        batch.clear();
        let read = reader.read(next, to, batch);
        self.records += batch.count() as u64;
        let (ended, after) = match read {
            Ok(read) => read,
            Err(error) => {
                let place = place_of(locator, reader.position());
                self.found
                    .damage(&format!("a page cannot be read{place}: {error}"));
                reader.give_up_unreadable();
                return reader.position();
            }
        };
        let Ended::Gap(gap) = ended else {
            return match ended {
                Ended::CaughtUp => to,
                _ => after,
            };
        };
        // What was dropped meanwhile may reach into the next range.
        let end = gap.end.min(to);
        let place = match gap.reason {
            Reason::Damage => place_of(locator, gap.start),
            _ => String::new(),
        };
        let (last, reason) = (end - 1, gap.reason.name());
        let text = format!("missing {} to {last}: {reason}{place}\n", gap.start);
        self.found.text.push_str(&text);
        if matches!(gap.reason, Reason::Damage | Reason::Undecided) {
            self.damaged += end - gap.start;
            self.found.is_damaged = true;
        }
        end
    }
}

fn verify(view: &View) -> Result<Found, Failure> {
    let head = view.shared().head();
    let limit = view.shared().durable.get();
    let work = Work::new(view, head, limit);
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let threads = cores.min(THREADS_MAX).min(work.ranges.len());
    let parts: io::Result<Vec<_>> = thread::scope(|scope| {
        let run = || work.run();
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        let joined = threads.into_iter().map(|thread| match thread.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        joined.collect()
    });
    let parts = parts.map_err(|error| Failure::Error(Error::io("read store", error)))?;
    let mut parts: Vec<Part> = parts.into_iter().flatten().collect();
    parts.sort_unstable_by_key(|part| part.from);
    if work.shows_progress {
        say("\r");
    }
    let mut found = Found::default();
    let (mut records, mut damaged) = (0, 0);
    for part in parts {
        found.text.push_str(&part.found.text);
        found.is_damaged |= part.found.is_damaged;
        records += part.records;
        damaged += part.damaged;
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
    for aside in &summary.aside {
        let text = format!("{}: kept for its damage, not read\n", aside.name);
        found.text.push_str(&text);
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
