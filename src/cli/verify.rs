//! `verify`: reads all of a store and says what is damaged.

use std::io::{self, IsTerminal};

use super::{Arguments, Done, Failure, place, print, required, say, view};
use crate::error::Error;
use crate::format::Reason;
use crate::log::{BatchBuffer, Ended};

pub const HELP: &str = "\
usage: forebay verify DIR

Reads every record of the store in a directory and checks it. Prints what is missing, as ranges of offsets with the
reason, and what else does not verify. Exit status 0 when nothing is damaged: records that the quota dropped or that
never became durable are no damage. Takes no lock and changes nothing; of a live store it reads what is durable when
it starts.

example: forebay verify /var/lib/forebay/telemetry
";

const BATCH_BYTES: usize = 1 << 20;

pub fn main(mut arguments: Arguments) -> Done {
    let mut path = None;
    while let Some(argument) = arguments.next()? {
        place(&mut [&mut path], argument)?;
    }
    let path = required(path, "DIR")?;
    let view = view(&path)?;
    let failed = |error| Failure::Error(Error::io("read store", error));
    let mut reader = view.reader().map_err(failed)?;
    let mut batch = BatchBuffer::new(10_000, BATCH_BYTES, BATCH_BYTES).map_err(failed)?;
    let head = view.shared().head();
    let limit = view.shared().durable.get();
    let shows_progress = io::stderr().is_terminal();
    let (mut next, mut records, mut damaged) = (head, 0u64, 0u64);
    let mut text = String::new();
    let mut shown = 0;
    loop {
        batch.clear();
        let read = reader.read(next, limit, &mut batch);
        records += batch.entries().len() as u64;
        let (ended, after) = match read {
            Ok(read) => read,
            Err(error) => {
                text.push_str(&format!("a page cannot be read: {error}\n"));
                reader.give_up_unreadable();
                next = reader.position();
                continue;
            }
        };
        next = after;
        match ended {
            Ended::Gap(gap) => {
                let offsets = gap.end - gap.start;
                let (last, reason) = (gap.end - 1, gap.reason.name());
                text.push_str(&format!("missing {} to {last}: {reason}\n", gap.start));
                if matches!(gap.reason, Reason::Damage | Reason::Undecided) {
                    damaged += offsets;
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
    let summary = view.summary();
    for number in &summary.bad_headers {
        text.push_str(&format!(
            "segment {number}: a copy of the header is damaged\n"
        ));
    }
    if summary.is_checkpoint_damaged {
        text.push_str("checkpoint: a slot is damaged\n");
    }
    text.push_str(&format!(
        "{records} records from {head} to {limit}, {damaged} damaged\n"
    ));
    print(&text)?;
    let is_whole = damaged == 0 && summary.bad_headers.is_empty() && !summary.is_checkpoint_damaged;
    if is_whole {
        Ok(())
    } else {
        Err(Failure::Found)
    }
}
