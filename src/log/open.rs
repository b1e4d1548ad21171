//! Opens a store: finds out what is there, decides by evidence, and discards nothing.
//!
//! ```text
//!  lock ─ sync directory ─ checkpoint ┬─ clean: headers only ───────────────┐
//!                                     └─ else: sync and forget every file,  ├─▶ new checkpoint ─▶ Log
//!                                        repair headers, scan the last one ─┘
//! ```
//!
//! The log ends behind the last page whose header verifies with a life that is not below its segment's.
//! Writing goes on in the page behind it, under a new life, so a crash loop burns no segments. Offsets
//! that may have been handed out are skipped. What was durable is told from what was not by *evidence*:
//! the greatest of the checkpoint's mark, the marks of pages that verify, and the bases of segments.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use heapless::String as Name;

use super::aside::Aside;
use super::checkpoints::{self, Checkpoints};
use super::sources::Sources;
use super::spare::{self, Spare};
use super::{Geometry, Log, Options, Trouble};
use crate::clock::{Clock, Mono};
use crate::counters::{Board, CURSOR_NAME_MAX, Owner, StreamCounter};
use crate::error::{Code, Error, Result};
use crate::format::{Checkpoint, CursorEntry, FORMAT, SegmentHeader, StoreId};
use crate::ring::{Left, Remains};
use crate::rules::{Rule, holds};
use crate::segment::{self, Segment, SegmentWriter};
use crate::storage::{Dir, File};
use crate::watermark::seam::park;

pub(super) mod decide;
pub(super) mod files;
mod headless;
mod places;
mod strict;
#[cfg(test)]
mod tests;

use decide::{Decided, Known, decide};
use files::{DeadFile, Files};
use places::places;

/// The name of the lock file.
pub const LOCK_NAME: &str = "lock";
/// How often the lock is tried, with a pause in between: somebody may just be looking whether it is held.
const LOCK_TRIES: u32 = 10;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// How often the first checkpoint is tried before opening fails, and how many slots get it. A segment that
/// has to be begun is tried as often.
const CHECKPOINT_TRIES: u32 = 3;
const CHECKPOINT_COPIES: usize = 2;

/// What a log is opened for.
pub struct Opening<'a> {
    /// The store's directory.
    pub dir: Arc<dyn Dir>,
    /// Where its lock lies: the same, or for a store in memory a place that other processes see.
    pub lock_dir: Arc<dyn Dir>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// The sizes and policies.
    pub options: Options,
    /// The cursors that sinks have, by name, and whether a new one starts at the newest record.
    pub cursors: &'a [(Name<CURSOR_NAME_MAX>, bool)],
    /// The board of the store with that id; what stands on it is used if it is of this boot. And a text
    /// for the lock file that says where the board is.
    pub board: &'a dyn Fn(StoreId) -> io::Result<(Board, String)>,
    /// What the run before left in its ring, if that outlives the process. Asked for after a crash.
    pub ring: &'a dyn Fn(&RunBefore) -> io::Result<Left>,
    /// The process that opens it.
    pub pid: u32,
}

/// What a store says of the run that had it before.
#[derive(Clone, Copy, Debug)]
pub struct RunBefore {
    /// The store's id.
    pub store: StoreId,
    /// The store's epoch.
    pub epoch: u64,
    /// The offset at which it was opened.
    pub opened: u64,
    /// No offset at or above this one was ever announced as durable.
    pub durable_max: u64,
}

impl RunBefore {
    fn of(store: StoreId, epoch: u64, last: &Checkpoint) -> Self {
        Self {
            store,
            epoch,
            opened: last.opened,
            durable_max: decide::durable_max(last),
        }
    }
}

/// A log that was opened.
pub struct Opened {
    /// The log. Its store stays locked as long as it lives.
    pub log: Log,
    /// Its board.
    pub board: Arc<Board>,
    /// What was found.
    pub report: Report,
    /// The ring of the run before: it goes on where the log ends.
    pub ring: Option<Remains>,
}

/// What opening a store has found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// There was no store; it was made.
    pub is_new: bool,
    /// It had been closed cleanly, so nothing was scanned.
    pub is_clean: bool,
    /// The offset that the next record gets.
    pub next: u64,
    /// Everything below is proven to have been durable.
    pub evidence: u64,
    /// Where the log ends.
    pub end: u64,
    /// Records found damaged by this open: they had been durable.
    pub damaged: u64,
    /// Records of the last sync before a crash that are not whole; it cannot be told why.
    pub undecided: u64,
    /// Headers of segments that were repaired.
    pub repaired: u32,
    /// Pages that could not be read.
    pub unreadable: u32,
    /// Segments in the store.
    pub segments: u32,
    /// Records that the process before had accepted and not made durable, found in its ring.
    pub ring_recovered: u64,
    /// Offsets in that ring that were claimed and never committed.
    pub ring_void: u64,
    /// There was a ring that is not the last run's.
    pub is_ring_refused: bool,
}

impl Report {
    fn count_ring(&mut self, ring: &Remains, next: u64) {
        self.ring_recovered = ring.count(next);
        self.ring_void = ring.end() - next - self.ring_recovered;
    }
}

/// Opens the log in a directory, or makes one.
///
/// Blocks for a few reads and syncs after a clean close; after a crash also for a scan of the segment
/// that was written last. Never fails because of what stands in the store, except when that is of a
/// newer format, or damaged where that is not to be passed over ([`Options::is_strict`], which reads
/// all of it); then nothing was touched.
#[allow(clippy::too_many_lines)] // one step after the other
pub fn open(opening: Opening<'_>) -> Result<Opened> {
    let Opening {
        dir,
        lock_dir,
        clock,
        options,
        cursors,
        board,
        ring,
        pid,
    } = opening;
    let geometry = Geometry::of(&options);
    let lock = lock(&*lock_dir)?;
    let mut files = files::look(&*dir, true)?;
    let last = files.checkpoint.newest.clone().unwrap_or_default();
    let store = files.store.unwrap_or_else(new_store_id);
    let mut report = Report {
        is_new: files.is_new(),
        is_clean: files.is_clean,
        ..Report::default()
    };
    let epoch = match files.epoch() {
        0 => new_epoch(&*clock),
        epoch => epoch,
    };
    let mut state = Box::new(Checkpoint {
        store,
        epoch,
        generation: last.generation,
        name: options.name.clone(),
        ..Checkpoint::default()
    });
    files.order(last.head);
    let shared = Arc::new(files.shared(store, epoch));
    let (board, place) = board(store).map_err(|error| Error::io("open shared counters", error))?;
    let ring = match files.is_new() || files.is_clean {
        true => Left::Nothing,
        false => ring(&RunBefore::of(store, epoch, &last))
            .map_err(|error| Error::io("open ring", error))?,
    };
    let (mut ring, is_refused) = match ring {
        Left::Ring(ring) => (Some(ring), false),
        Left::Refused => (None, true),
        Left::Nothing => (None, false),
    };
    report.is_ring_refused = is_refused;
    let mut known = Known::of(&board, store, &last, clock.boot(), ring.as_ref());
    known.ring_records = options.ring_records;
    let mut decided = decide(&files, &last, &shared, &clock, &known, &mut report)?;
    if !decided.is_ring_used {
        report.is_ring_refused |= ring.take().is_some();
    }
    if options.is_strict {
        strict::check(&files, &last, &decided, &shared, &clock)?;
    }
    // Only from here on anything is written.
    report.repaired = files.repair();
    if !files.is_clean && !files.is_last_good() && holds(Rule::ResumeInGoodOnly) {
        decided.resume = None;
    }
    let is_evidence_owed = files.is_run_unknown() || decided.is_unproven;
    if is_evidence_owed {
        // The last segment stays as it is, for what it shows.
        (decided.resume, decided.is_fresh) = (None, false);
    }
    report.next = decided.next;
    report.segments = u32::try_from(files.segments.len()).unwrap_or(u32::MAX);
    let life = decided.life + u64::from(holds(Rule::LifePerOpen));

    let found = (&last, files.checkpoint.lost < 2);
    let places = places(cursors, &board, found, &clock, store, &decided);
    let owner = Owner {
        store: store.0,
        epoch,
        boot: clock.boot(),
        pid,
    };
    board.take(owner, &places);
    // Until the checkpoint is written, and the process may die before.
    board.set(StreamCounter::DurableOffset, report.evidence);
    let board = Arc::new(board);
    write_lock(&*lock, pid, &place)?;
    let is_orphan = |entry: &&CursorEntry| places.iter().all(|(name, _)| *name != entry.name);
    let orphans: Vec<CursorEntry> = last.cursors.iter().filter(is_orphan).cloned().collect();

    let mut checkpoints =
        Checkpoints::open(&*dir).map_err(|error| Error::io("open checkpoint", error))?;
    checkpoints.found(&files.checkpoint);
    state.reach = geometry.reach();
    state.opened = decided.next;
    state.ring_records = options.ring_records;
    if let Some(ring) = &ring {
        state.ring_records = state.ring_records.max(ring.options().records_max);
        report.count_ring(ring, decided.next);
        ring.note_opened(last.opened, decided.next);
    }
    let reach = state.reach;
    shared.durable.advance(decided.next);
    let mut log = Log {
        lock,
        dir,
        clock,
        board: Arc::clone(&board),
        shared,
        options,
        geometry,
        checkpoints,
        state,
        durable_mark: decided.next,
        durable_head: last.head,
        durable_reach: reach,
        durable_life: decided.life,
        announced_max: decided.next + reach,
        is_checkpoint_owed: true,
        life,
        next: decided.next,
        writer: None,
        is_active: false,
        replaced: None,
        spares: Vec::new(),
        leftovers: Vec::new(),
        aside: Vec::new(),
        no_space_until: Mono::default(),
        reserve_due: Mono::default(),
        reserve_short: None,
        expiry_due: Mono::default(),
        sources: Sources::default(),
        orphans,
        unprepared: 0,
        sealed_bytes: 0,
    };
    log.resume(&files, &decided)?;
    log.begin(&files, &report, is_evidence_owed)?;
    Ok(Opened {
        log,
        board,
        report,
        ring,
    })
}

impl Log {
    /// Goes on in the last segment, if it may be written to.
    fn resume(&mut self, files: &Files, decided: &Decided) -> Result<()> {
        let Some(last) = files.segments.last() else {
            return Ok(());
        };
        match decided.resume {
            Some(slot) => {
                let (io, store) = (self.options.io, self.state.store);
                let segment = last.segment.clone();
                self.shared.set_end(&segment, slot);
                let (life, next) = (self.life, self.next);
                let writer = SegmentWriter::new(io, store, segment, slot, life, next, next);
                self.writer = Some(writer.map_err(|error| Error::io("allocate a stage", error))?);
                self.is_active = true;
            }
            None if files.is_clean => {}
            None => {
                self.shared.suspect(last.segment.number);
                if decided.is_fresh {
                    self.replaced = Some(last.segment.number);
                }
            }
        }
        Ok(())
    }

    /// Makes the new life durable; only then may anything be handed out or written.
    fn begin(&mut self, files: &Files, report: &Report, is_evidence_owed: bool) -> Result<()> {
        self.board.set(StreamCounter::Life, self.life);
        self.board
            .set(StreamCounter::ActiveEnd, self.shared.end_word());
        self.board.set(StreamCounter::OpenedOffset, self.next);
        self.board.set(StreamCounter::NextOffset, self.next);
        self.board.set(StreamCounter::HeadOffset, self.durable_head);
        for (counter, count) in [
            (StreamCounter::Corrupt, report.damaged),
            (StreamCounter::RingRecovered, report.ring_recovered),
            (StreamCounter::RingVoid, report.ring_void),
            (StreamCounter::RingRefused, report.is_ring_refused.into()),
        ] {
            self.board.set(counter, count);
        }
        let is_clean = files.is_clean && !holds(Rule::CleanFlagCleared);
        // Whichever is lost, another one says what this run may hand out; and no slot stays blank.
        let copies = files.checkpoint.empty_slots().max(CHECKPOINT_COPIES);
        for _ in 0..copies {
            let mut written = Ok(());
            for at in 0..CHECKPOINT_TRIES {
                if (at == 0 || written.is_err()) && holds(Rule::CheckpointAtOpen) {
                    written = self.checkpoint_as(is_clean);
                }
            }
            if let Err(Trouble::Failed(op, error)) = written {
                return Err(Error::io(op, error));
            }
        }
        // Not before: below it everything is on the medium, or in a ledger that is.
        self.board.set(StreamCounter::DurableOffset, self.next);
        self.adopt_aside(&files.aside);
        for name in &files.spares {
            if self.adopt_spare(name, files) {
                continue;
            }
            // One with an odd name takes no number from a segment.
            let number = spare::read_name(name).map_or(u32::MAX, |(number, _)| number);
            self.remove_found(name, number);
        }
        for dead in &files.dead {
            self.settle_dead(dead);
        }
        self.drop_aside(0);
        if is_evidence_owed {
            self.leave_evidence();
        }
        self.report_space();
        Ok(())
    }

    /// Begins a segment before anything is handed out, where there is room for one: the checkpoint may be
    /// lost again, and nothing else says yet which offsets and lives this run goes on with.
    fn leave_evidence(&mut self) {
        for _ in 0..CHECKPOINT_TRIES {
            let begun = match self.spare_in_room() {
                Ok(Some(spare)) => self.start(spare, self.next),
                Ok(None) => Ok(()),
                Err(error) => Err(Trouble::Failed("prepare segment", error)),
            };
            let Err(Trouble::Failed(op, error)) = begun else {
                return;
            };
            log::warn!("{}: {op} failed: {error}", self.options.name);
        }
    }

    /// A file that is no segment any more becomes the spare or goes. What makes no sense is set aside.
    fn settle_dead(&mut self, dead: &DeadFile) {
        let DeadFile { segment, is_blank } = dead;
        if self.is_wanted(segment.pages) && segment.life > 0 {
            self.spares.push(Spare::of_segment(segment.clone()));
            return;
        }
        let name = segment::file_name(segment.number);
        if *is_blank || segment.life > 0 {
            self.remove_found(&name, segment.number);
            return;
        }
        let aside = files::aside_name(segment.number, self.life);
        log::error!(
            "{}: {name} is damaged beyond reading; it is kept as {aside}",
            self.options.name
        );
        let settled = self.dir.rename(&name, &aside);
        if let Err(error) = settled.and_then(|()| self.dir.sync()) {
            self.shared.with_table(|table| table.block(segment.number));
            log::warn!("{}: rename {name} failed: {error}", self.options.name);
        }
        let size = segment.file.size().unwrap_or(0);
        self.take_out(Aside::new(&aside, size));
    }
}

/// Takes the store for this process.
pub(super) fn lock(dir: &dyn Dir) -> Result<Arc<dyn File>> {
    let op = "lock store";
    let opened = match dir.open(LOCK_NAME) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => dir.create(LOCK_NAME),
        opened => opened,
    };
    let file = opened.map_err(|error| Error::io(op, error))?;
    for _ in 0..LOCK_TRIES {
        if file.try_lock().map_err(|error| Error::io(op, error))? {
            return Ok(file);
        }
        park(Some(LOCK_PAUSE));
    }
    Err(Error::text(Code::Io, op, locked_by(&*file)))
}

/// Who has the store, as far as its lock file tells.
fn locked_by(lock: &dyn File) -> String {
    let mut bytes = [0; 32];
    let read = lock.read_at(&mut bytes, 0).unwrap_or(0);
    let text = String::from_utf8_lossy(&bytes[..read]);
    match text.lines().next().map(str::parse::<u32>) {
        Some(Ok(pid)) => format!("locked: process {pid} has it open"),
        _ => "locked: another process has it open".to_owned(),
    }
}

/// Writes down who has the store and where its board is: `pid`, then a path, a line each.
fn write_lock(lock: &dyn File, pid: u32, board: &str) -> Result<()> {
    let text = format!("{pid}\n{board}\n");
    let write = lock
        .set_size(0)
        .and_then(|()| lock.write_at(text.as_bytes(), 0));
    write.map_err(|error| Error::io("write lock file", error))
}

/// A random id.
fn new_store_id() -> StoreId {
    let mut id = [0; 16];
    crate::storage::random(&mut id);
    StoreId(id)
}

/// The epoch of a new store: when it was made, so that one which was wiped and made again shows. Where the
/// time of day is not known, it is random.
fn new_epoch(clock: &dyn Clock) -> u64 {
    let wall_ms = clock.stamp().wall_ms;
    if wall_ms > 0 {
        return wall_ms;
    }
    let mut bytes = [0; 8];
    crate::storage::random(&mut bytes);
    // Far above any time of day.
    u64::from_le_bytes(bytes) >> 8 | 1 << 55
}

/// A store of a format that this code does not know.
fn newer(what: &str, format: u16) -> Error {
    let text =
        format!("{what} has format {format}, this program knows {FORMAT}; nothing was touched");
    Error::text(Code::Corrupt, "open store", text)
}
