//! Looks for damage in all of a store, and changes nothing.

use std::io;
use std::sync::Arc;

use super::decide::Decided;
use super::files::Files;
use crate::clock::Clock;
use crate::error::{Code, Error, Result};
use crate::format::{Checkpoint, HEADER_COPIES, Reason};
use crate::log::batch::BatchBuffer;
use crate::log::reader::{Ended, Reader};
use crate::log::{Ledger, Shared};

/// Records are looked at in batches of so many bytes.
const BATCH_BYTES: usize = 64 * 1024;

/// What reading all records shows.
struct Records {
    /// The offset behind the last one.
    end: u64,
    /// How many are damaged, and from where to where they lie.
    damaged: u64,
    first: u64,
    last: u64,
}

/// An error of [`Code::Corrupt`] if anything is damaged that the ledger does not know yet.
///
/// What a crash leaves half written is no damage: the last sync, a slot of the checkpoint, the header of
/// a segment that holds nothing yet, a file without a header that no record is missing for. Reads every
/// record.
pub(super) fn check(
    files: &Files,
    last: &Checkpoint,
    decided: &Decided,
    shared: &Arc<Shared>,
    clock: &Arc<dyn Clock>,
) -> Result<()> {
    let corrupt = |text: String| {
        let text = format!("{text}; nothing was touched, because buffer.strict is set");
        Err(Error::text(Code::Corrupt, "open store", text))
    };
    if last.generation == 0 && !files.segments.is_empty() {
        return corrupt("the checkpoint is damaged".to_owned());
    }
    if is_active_lost(files, last) {
        let number = last.segment;
        return corrupt(format!("segment {number} is damaged beyond reading"));
    }
    if let (Some(stored), Some(slot)) = (files.segments.last(), decided.resume) {
        shared.set_end(&stored.segment, slot);
    }
    shared.durable.advance(decided.next);
    let records = read(last, shared, clock).map_err(|error| Error::io("read store", error))?;
    if records.damaged > 0 {
        let Records {
            damaged,
            first,
            last,
            ..
        } = records;
        return corrupt(format!(
            "{damaged} records between {first} and {last} are damaged"
        ));
    }
    let mut segments = files.segments.iter();
    let is_used = |base: u64| records.end > base.max(last.head);
    let bad = segments.find(|stored| {
        let (is_last, base) = (
            stored.segment.number == files.segments.last().map_or(0, |s| s.segment.number),
            stored.segment.base,
        );
        !stored.bad_copies.is_empty() && (!is_last || is_used(base))
    });
    bad.map_or(Ok(()), |stored| {
        let (count, number) = (stored.bad_copies.len(), stored.segment.number);
        corrupt(format!(
            "{count} of {HEADER_COPIES} headers of segment {number} are damaged"
        ))
    })
}

/// The segment that the checkpoint calls the active one is not there. Its header was durable, and is not
/// written again before another checkpoint is, or another segment took its place.
fn is_active_lost(files: &Files, last: &Checkpoint) -> bool {
    let segments = files.segments.iter().map(|stored| &stored.segment);
    let dead = files.dead.iter().map(|dead| &dead.segment);
    let known = segments.clone().chain(dead.filter(|dead| dead.life > 0));
    let is_known = known
        .map(|segment| segment.number)
        .any(|n| n == last.segment);
    let is_newer = segments
        .map(|segment| segment.base)
        .any(|base| base >= last.mark);
    last.segment > 0 && !is_known && !is_newer
}

/// Reads all records from the head on.
fn read(last: &Checkpoint, shared: &Arc<Shared>, clock: &Arc<dyn Clock>) -> io::Result<Records> {
    let known = Ledger::from_checkpoint(&last.ledger);
    let mut reader = Reader::new(Arc::clone(shared), Arc::clone(clock))?;
    let mut batch = BatchBuffer::new(BATCH_BYTES / 64, BATCH_BYTES, BATCH_BYTES)?;
    let mut next = last.head;
    let mut records = Records {
        end: 0,
        damaged: 0,
        first: u64::MAX,
        last: 0,
    };
    loop {
        batch.clear();
        let done = reader.read(next, u64::MAX, &mut batch);
        if let Some(entry) = batch.entries().last() {
            records.end = entry.offset + 1;
        }
        let Ok((ended, after)) = done else {
            // A page that cannot be read is as bad as one that does not verify.
            next = reader.position();
            reader.give_up_unreadable();
            continue;
        };
        next = after;
        match ended {
            Ended::CaughtUp => return Ok(records),
            Ended::Gap(gap)
                if gap.reason == Reason::Damage && known.covering(gap.start).is_none() =>
            {
                records.damaged += gap.end - gap.start;
                records.first = records.first.min(gap.start);
                records.last = gap.end - 1;
            }
            Ended::Gap(_) | Ended::Full => {}
        }
    }
}
