//! Finds out what the last segment shows, and decides what it means.

use std::io;
use std::sync::Arc;

use super::Report;
use super::files::{Files, StoredSegment};
use crate::clock::{Clock, Stamp};
use crate::counters::{Board, StreamCounter};
use crate::error::{Error, Result};
use crate::format::{Checkpoint, HEADER_COPIES, Loss, Reason, StoreId};
use crate::log::batch::BatchBuffer;
use crate::log::geometry::{LIVES_MAX, REACH_MIN, REACH_UNKNOWN, life_past_unknown};
use crate::log::reader::{Ended, Evidence, Reader};
use crate::log::{Shared, sources};
use crate::ring::Remains;
use crate::rules::{Rule, holds};

/// What an open decides.
#[derive(Debug)]
pub(in crate::log) struct Decided {
    /// The offset that the next record gets.
    pub next: u64,
    /// The greatest life that can be in use.
    pub life: u64,
    /// The page of the last segment in which writing goes on; `None` when it must not.
    pub resume: Option<u32>,
    /// Nothing of the last segment's life is on the medium but its header.
    pub is_fresh: bool,
    /// The ring of the run before goes on behind the log's end.
    pub is_ring_used: bool,
    /// Only checkpoints say that the next record's offset is so great: were all of them lost, offsets that
    /// they say were handed out would be again.
    pub is_unproven: bool,
}

/// What is known of the run before beside what lies in the store: it ran in this boot.
#[derive(Default)]
pub(in crate::log) struct Known<'a> {
    /// Everything below was durable.
    pub durable: u64,
    /// Nothing above was ever said to be.
    pub is_exact: bool,
    /// Its ring.
    pub ring: Option<&'a Remains>,
    /// How many records the ring holds that this run brings: that of the run before may have been as large.
    pub ring_records: u32,
}

impl<'a> Known<'a> {
    /// What the board says, if it is the last run's, and the ring.
    pub fn of(
        board: &Board,
        store: StoreId,
        last: &Checkpoint,
        boot: u64,
        ring: Option<&'a Remains>,
    ) -> Self {
        let released = ring.map_or(0, |ring| ring.options().first_offset);
        let mut known = Self {
            durable: released,
            is_exact: false,
            ring,
            ring_records: 0,
        };
        let on_board = board.get(StreamCounter::DurableOffset);
        // Where the kernel does not say which boot it is, it may be another.
        if boot != 0 && is_of_last_run(board, store, last, boot) && on_board <= durable_max(last) {
            known.durable = released.max(on_board);
            known.is_exact = board.get(StreamCounter::OpenedOffset) == last.opened;
        }
        known
    }
}

impl<'a> Known<'a> {
    /// The ring, if it goes on where the log ends. And where the log ends before its end: what was being
    /// written when the process died is written again from the ring, from the first record on that is not
    /// whole, or may not be on the medium; the segment is left there.
    fn cut(
        &self,
        scanned: &Scanned,
        active: Option<&StoredSegment>,
        evidence: u64,
        end: u64,
    ) -> (Option<&'a Remains>, Option<u64>) {
        let gaps = scanned.gaps.iter();
        let gaps = gaps.filter(|(_, gap_end)| *gap_end > evidence);
        let hole = gaps.map(|(start, _)| (*start).max(evidence)).min();
        let is_good = active.is_none_or(|stored| stored.is_good);
        // Also a hole at the very end: what is left of the record there would stand before the new one.
        let cut = if is_good { hole } else { Some(evidence) };
        let ring = self.ring;
        let ring = ring.filter(|ring| cut.unwrap_or(end) <= ring.end());
        (ring, cut.filter(|_| ring.is_some()))
    }

    /// What a hole above the evidence is.
    fn reason_above(&self) -> Reason {
        match self.is_exact {
            true => Reason::NeverDurable,
            false => Reason::Undecided,
        }
    }
}

/// Whether what stands on the board was written in this boot, and by a run of this store.
pub(in crate::log) fn is_of_last_run(
    board: &Board,
    store: StoreId,
    last: &Checkpoint,
    boot: u64,
) -> bool {
    board.owner().is_some_and(|owner| {
        owner.store == store.0 && owner.epoch == last.epoch && owner.boot == boot
    })
}

/// No more can have been announced than the last checkpoint allows.
pub(in crate::log) fn durable_max(last: &Checkpoint) -> u64 {
    last.mark.saturating_add(last.reach)
}

/// Finds evidence, end and losses, and writes the losses into the ledger.
#[allow(clippy::too_many_lines)] // one step after the other
pub(in crate::log) fn decide(
    files: &Files,
    last: &Checkpoint,
    shared: &Arc<Shared>,
    clock: &Arc<dyn Clock>,
    known: &Known<'_>,
    report: &mut Report,
) -> Result<Decided> {
    let bases = files.segments.iter().map(|stored| stored.segment.base);
    let lives = files.segments.iter().map(|stored| stored.segment.life);
    let of = |rule, value| if holds(rule) { value } else { 0 };
    // No record is kept from an offset that was not handed out.
    let mark = of(Rule::EvidenceOfCheckpoint, last.mark.max(last.head))
        .max(of(Rule::EvidenceOfBases, bases.clone().max().unwrap_or(0)));
    let life = of(Rule::LifeAboveCheckpoint, last.life)
        .max(of(Rule::LifeAboveHeaders, lives.max().unwrap_or(0)))
        .max(files.life_seen);
    let active = files.segments.last();
    if files.is_clean {
        let is_it = |stored: &&StoredSegment| {
            (stored.segment.number == last.segment || !holds(Rule::CleanNamesSegment))
                && (HEADER_COPIES..=stored.segment.pages).contains(&last.page)
        };
        let resume = active.filter(is_it).map(|_| last.page);
        (report.evidence, report.end) = (last.mark, last.mark);
        return Ok(Decided {
            next: mark,
            life,
            resume,
            is_fresh: false,
            is_ring_used: false,
            is_unproven: is_unproven(bases.max(), mark),
        });
    }
    let mark = mark.max(known.durable);
    let scanned = match active {
        Some(stored) => scan(stored, mark, last.head, u64::MAX, shared, clock)
            .map_err(|error| Error::io("scan segment", error))?,
        None => Scanned {
            end: mark,
            ..Scanned::default()
        },
    };
    let evidence = mark.max(of(Rule::EvidenceOfPages, scanned.evidence.mark));
    let end = evidence
        .max(of(Rule::EndBehindRecords, scanned.end))
        .max(of(Rule::EndBehindPages, scanned.evidence.first_max));
    let (ring, cut) = known.cut(&scanned, active, evidence, end);
    let (end, is_cut) = cut.map_or((end, false), |cut| (cut, true));
    let wall_s = clock.stamp().wall_s();
    let mut ledger = shared.ledger();
    let above = known.reason_above();
    for (start, gap_end) in scanned.gaps {
        // Below the evidence it was durable once; above it the board of this boot tells, or nobody.
        for (from, to, reason) in [
            (start, gap_end.min(evidence), Reason::Damage),
            (start.max(evidence), gap_end.min(end), above),
        ] {
            if from >= to || !holds(Rule::HolesInLedger) {
                continue;
            }
            let count = (to - from) - ledger.covered(from, to);
            ledger.add(Loss {
                start: from,
                end: to,
                count: to - from,
                wall_s,
                reason,
            });
            match reason {
                Reason::Damage => report.damaged += count,
                Reason::Undecided => report.undecided += count,
                _ => {}
            }
        }
    }
    let next = match ring {
        // It is known what was handed out.
        Some(_) => end,
        None => next_offset(files, last, end, known.ring_records),
    };
    let mut skipped = ring.map_or_else(Vec::new, |ring| ring.holes(end));
    if holds(Rule::SkippedInLedger) {
        skipped.push(end..next);
    }
    skipped.iter().for_each(|range| {
        ledger.add(Loss {
            start: range.start,
            end: range.end,
            count: 0,
            wall_s,
            reason: Reason::NeverDurable,
        });
    });
    drop(ledger);
    let mut found = scanned.sources;
    if let Some(stored) = active
        && found.iter().any(|(offset, _)| *offset >= end)
    {
        // That comes again from the ring; what a source had before it counts.
        found = scan(stored, mark, last.head, end, shared, clock)
            .map_err(|error| Error::io("scan segment", error))?
            .sources;
    }
    for (offset, source) in found {
        sources::put(&mut shared.sources(), offset, source.view());
    }
    (report.evidence, report.end) = (evidence, end);
    report.unreadable = scanned.evidence.unreadable;
    let is_usable = (active.is_some_and(|stored| stored.is_good) && report.unreadable == 0
        || !holds(Rule::ResumeInGoodOnly))
        && !is_cut;
    // What it holds is written again, to a segment of the same base.
    let is_cut_whole = is_cut && active.is_some_and(|stored| end <= stored.segment.base);
    let is_fresh = is_cut_whole || scanned.evidence.end_slot <= HEADER_COPIES;
    let resume = active
        .filter(|_| is_usable)
        .map(|_| match holds(Rule::ResumeBehindPages) {
            true => scanned.evidence.end_slot,
            false => (scanned.evidence.end_slot - 1).max(HEADER_COPIES),
        });
    let seen = life.max(of(Rule::LifeAbovePages, scanned.evidence.life));
    let life = last_life(files, last, seen, clock.stamp());
    let shown = scanned.evidence.mark.max(scanned.evidence.first_max);
    Ok(Decided {
        next,
        life,
        resume,
        is_fresh: is_fresh && (is_cut_whole || report.unreadable == 0),
        is_ring_used: ring.is_some(),
        is_unproven: is_unproven(bases.chain([shown]).max(), next),
    })
}

/// Whether an open that finds no checkpoint would come to an offset below `next`, where segments show no more
/// than `shown`.
pub(super) fn is_unproven(shown: Option<u64>, next: u64) -> bool {
    next > shown.unwrap_or(0) + REACH_UNKNOWN
}

/// The first offset that nobody can have been handed.
pub(super) fn next_offset(
    files: &Files,
    last: &Checkpoint,
    end: u64,
    own_ring_records: u32,
) -> u64 {
    let ring = match holds(Rule::OffsetsSkippedByOldRing) {
        true => u64::from(last.ring_records),
        false => u64::from(own_ring_records),
    };
    if files.is_new() {
        return 0;
    }
    if last.generation == 0 {
        // No checkpoint survived: nothing is known of the run that crashed.
        return end + REACH_UNKNOWN;
    }
    // Two rings behind what the log shows: what was in the ring, and what was announced and then torn.
    let opened = match holds(Rule::OffsetsSkippedFromOpen) {
        true => last.opened,
        false => 0,
    };
    let rings = match (
        holds(Rule::OffsetsSkipped),
        holds(Rule::OffsetsSkippedTwice),
    ) {
        (true, true) => 2,
        (true, false) => 1,
        (false, _) => 0,
    };
    let behind_end = end.max(opened) + rings * ring;
    let next = match holds(Rule::OffsetsSkippedByReach) && holds(Rule::OffsetsSkipped) {
        true => behind_end.max(last.mark + last.reach + ring),
        false => behind_end,
    };
    match files.checkpoint.lost {
        0 => next,
        // The newest may be lost. It was the same run's, or nobody was handed anything behind it yet: an open
        // writes two. It was written within what this one covers, and reaches at most twice as far.
        1 => next + 2 * last.reach.max(REACH_MIN * ring) + 2 * ring,
        // It may have been the next run's, with a ring of any size.
        _ => next + REACH_UNKNOWN,
    }
}

/// What a checkpoint has to say that is written before an engine opens the store, where the newest one may
/// be lost: behind it that shows no more.
pub(in crate::log) fn pass_over_lost(files: &Files, next: u64, now: Stamp, state: &mut Checkpoint) {
    if files.checkpoint.lost == 0 {
        return;
    }
    let lives = files.segments.iter().map(|stored| stored.segment.life);
    let seen = lives.max().unwrap_or(0).max(files.life_seen);
    state.is_clean = false;
    state.opened = state.opened.max(next);
    state.life = life_past_unknown(state.life.max(seen), now);
}

/// The greatest life that can have been in use, where `seen` is the greatest that anything shows: segments
/// that were begun after the last checkpoint may be lost, and no life is used again.
pub(super) fn last_life(files: &Files, last: &Checkpoint, seen: u64, now: Stamp) -> u64 {
    if files.is_new() || !holds(Rule::LivesSkipped) {
        return seen;
    }
    if last.generation == 0 || files.checkpoint.lost > 0 {
        return life_past_unknown(seen, now);
    }
    match holds(Rule::LifeAboveCheckpoint) {
        true => seen.max(last.life + LIVES_MAX),
        false => seen,
    }
}

/// What the scan of the last segment shows.
#[derive(Default)]
struct Scanned {
    evidence: Evidence,
    /// The offset behind the last record that is whole.
    end: u64,
    /// Where records are missing.
    gaps: Vec<(u64, u64)>,
    sources: Vec<(u64, OwnedSource)>,
}

/// A source position that was found.
struct OwnedSource {
    name: String,
    position: Vec<u8>,
}

impl OwnedSource {
    fn view(&self) -> crate::record::Source<'_> {
        crate::record::Source {
            name: &self.name,
            position: &self.position,
        }
    }
}

/// Source positions only of records below `sources_end`.
fn scan(
    stored: &StoredSegment,
    mark: u64,
    head: u64,
    sources_end: u64,
    shared: &Arc<Shared>,
    clock: &Arc<dyn Clock>,
) -> io::Result<Scanned> {
    /// Records are looked at in batches of so many bytes.
    const BATCH_BYTES: usize = 64 * 1024;
    let segment = stored.segment.clone();
    let mut scanned = Scanned {
        end: mark.max(segment.base),
        ..Scanned::default()
    };
    let mut next = segment.base;
    let mut reader = Reader::scan(Arc::clone(shared), Arc::clone(clock), segment)?;
    let mut batch = BatchBuffer::new(BATCH_BYTES / 64, BATCH_BYTES, BATCH_BYTES)?;
    loop {
        batch.clear();
        let (ended, after) = reader.read_all(next, &mut batch)?;
        for entry in batch.entries() {
            scanned.end = scanned.end.max(entry.offset + 1);
            if let Some(source) = batch.view(entry).source()
                && entry.offset < sources_end
            {
                let (name, position) = (source.name.to_owned(), source.position.to_owned());
                scanned.sources.retain(|(_, source)| source.name != name);
                scanned
                    .sources
                    .push((entry.offset, OwnedSource { name, position }));
            }
        }
        next = after;
        match ended {
            Ended::Gap(gap) if gap.end > head => {
                scanned.gaps.push((gap.start.max(head), gap.end));
            }
            Ended::Gap(_) | Ended::Full => {}
            Ended::CaughtUp => break,
        }
    }
    // Offsets that the last page was opened for, and that no page shows, lie in no gap of the walk.
    scanned.evidence = reader.evidence();
    let known_to = scanned
        .evidence
        .first_max
        .max(scanned.evidence.mark)
        .max(scanned.end);
    if next < known_to {
        scanned.gaps.push((next.max(head), known_to));
    }
    Ok(scanned)
}
