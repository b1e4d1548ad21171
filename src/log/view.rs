//! A store as other processes see it: they take no lock, repair nothing, and touch nothing.
//!
//! While an engine has the store, its board says what is durable, where the active segment ends and how
//! far the oldest were dropped; a life that changed says that segments did. Without one, the store is
//! looked at as the next open would look at it, up to the end that it would find.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::open::decide::{Decided, Known, decide};
use super::open::files::{self, Files};
use super::open::{LOCK_NAME, Report};
use super::{Aside, Reader, Shared};
use crate::clock::Clock;
use crate::counters::{Board, StreamCounter};
use crate::error::{Code, Error, Result};
use crate::format::{Checkpoint, HEADER_COPIES, StoreId};
use crate::segment::Segment;
use crate::storage::{Dir, File, Storage};
use crate::watermark::seam::park;

/// While an engine opens the store it is waited for, so often and so long.
const OPENING_LOOKS: u32 = 100;
const OPENING_PAUSE: Duration = Duration::from_millis(10);
/// What an engine may just be writing is looked at again, so often and so much later.
const DAMAGE_LOOKS: u32 = 10;
const DAMAGE_PAUSE: Duration = Duration::from_millis(5);

/// A store that is looked at.
pub struct View {
    dir: Arc<dyn Dir>,
    clock: Arc<dyn Clock>,
    storage: Arc<dyn Storage>,
    board: Option<Arc<Board>>,
    seen: Seen,
}

/// What one look shows.
struct Seen {
    shared: Arc<Shared>,
    /// The life of the active segment, if an engine has the store.
    life: u64,
    summary: Summary,
}

/// What a look at a store shows.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// The store's id.
    pub store: StoreId,
    /// The store's epoch.
    pub epoch: u64,
    /// An engine has it open.
    pub is_live: bool,
    /// The newest checkpoint.
    pub checkpoint: Checkpoint,
    /// A slot of the checkpoint does not verify.
    pub is_checkpoint_damaged: bool,
    /// Which slots those are.
    pub bad_slots: Vec<u32>,
    /// The segments, oldest first.
    pub segments: Vec<Segment>,
    /// Copies of headers that do not verify: the segment's number, and which page of it.
    pub bad_headers: Vec<(u32, u32)>,
    /// Files with a segment's name in which nothing can be read.
    pub unreadable_files: Vec<u32>,
    /// What the next open would report; of a live store, what its last one did not.
    pub report: Report,
    /// Files that are kept for what is damaged in them.
    pub aside: Vec<Aside>,
    /// Files that are no segments, nor will be.
    pub other_files: u32,
}

impl View {
    /// Looks at the store in a directory.
    ///
    /// [`Code::Io`]: there is no store, or it cannot be read. [`Code::Corrupt`]: it is of a newer format.
    pub fn open(path: &Path, storage: Arc<dyn Storage>, clock: Arc<dyn Clock>) -> Result<Self> {
        let dir = storage.open_dir(path, false).map_err(|error| {
            Error::text(
                Code::Io,
                "open store",
                format!("{}: {error}", path.display()),
            )
        })?;
        let (board, seen) = look(&*dir, &*storage, &clock)?;
        if seen.summary.checkpoint.generation == 0 && seen.summary.segments.is_empty() {
            let text = format!("{}: there is no store", path.display());
            return Err(Error::text(Code::Io, "open store", text));
        }
        Ok(Self {
            dir,
            clock,
            storage,
            board,
            seen,
        })
    }

    /// What was seen when the view was opened or refreshed.
    pub fn summary(&self) -> &Summary {
        &self.seen.summary
    }

    /// The board of the engine that has the store.
    pub fn board(&self) -> Option<&Board> {
        self.board.as_deref()
    }

    /// What readers share. Of a live store, as of the last [`refresh`](Self::refresh).
    pub fn shared(&self) -> &Arc<Shared> {
        &self.seen.shared
    }

    /// A reader of what is there now.
    pub fn reader(&self) -> io::Result<Reader> {
        Reader::new(Arc::clone(&self.seen.shared), Arc::clone(&self.clock))
    }

    /// Looks again. True when segments may have changed: readers must be made anew, and go on at the
    /// offset where the old one was.
    pub fn refresh(&mut self) -> Result<bool> {
        let owner = owner(&*self.dir, &*self.storage);
        if let Owner::Has(board) = &owner {
            // In this order: what is announced later may stand in a segment of a later life.
            let durable = board.get(StreamCounter::DurableOffset);
            if self.board.is_some() && board.get(StreamCounter::Life) == self.seen.life {
                if durable > self.seen.shared.durable.get() {
                    self.seen.shared.durable.advance(durable);
                }
                return Ok(false);
            }
        }
        if matches!(owner, Owner::Nobody) && self.board.is_none() {
            let generation = files::generation(&*self.dir);
            if generation == Some(self.seen.summary.checkpoint.generation) {
                return Ok(false);
            }
        }
        (self.board, self.seen) = look(&*self.dir, &*self.storage, &self.clock)?;
        Ok(true)
    }
}

/// The board of the engine that has locked the place of a stream in memory, if there is one. What the
/// stream holds only that engine can read.
pub fn board_in(path: &Path, storage: &dyn Storage) -> Option<Arc<Board>> {
    let dir = storage.open_dir(path, false).ok()?;
    match settled_owner(&*dir, storage) {
        Owner::Has(board) => Some(board),
        Owner::Nobody | Owner::Opening => None,
    }
}

/// Who has the store; an engine that opens it is waited for.
fn settled_owner(dir: &dyn Dir, storage: &dyn Storage) -> Owner {
    let mut owner = owner(dir, storage);
    for _ in 0..OPENING_LOOKS {
        if !matches!(owner, Owner::Opening) {
            break;
        }
        park(Some(OPENING_PAUSE));
        owner = self::owner(dir, storage);
    }
    owner
}

fn look(
    dir: &dyn Dir,
    storage: &dyn Storage,
    clock: &Arc<dyn Clock>,
) -> Result<(Option<Arc<Board>>, Seen)> {
    let Owner::Has(board) = settled_owner(dir, storage) else {
        let left = board_named_in(dir, storage);
        return Ok((None, look_once(dir, clock, None, left.as_ref())?));
    };
    let mut seen = look_once(dir, clock, Some(&board), None)?;
    for _ in 0..DAMAGE_LOOKS {
        if !seen.summary.is_checkpoint_damaged && seen.summary.bad_headers.is_empty() {
            break;
        }
        // It may have been read while it was being written.
        park(Some(DAMAGE_PAUSE));
        seen = look_once(dir, clock, Some(&board), None)?;
    }
    Ok((Some(board), seen))
}

/// `board` is that of the engine that has the store, `left` that of the last one that had it.
fn look_once(
    dir: &dyn Dir,
    clock: &Arc<dyn Clock>,
    board: Option<&Arc<Board>>,
    left: Option<&Board>,
) -> Result<Seen> {
    // Before the segments are looked at: what is announced later may stand in one that is not seen.
    let numbers = board.map(|board| {
        let [durable, life, next] = [
            StreamCounter::DurableOffset,
            StreamCounter::Life,
            StreamCounter::NextOffset,
        ]
        .map(|counter| board.get(counter));
        (durable, life, next)
    });
    let mut files = files::look(dir, false)?;
    let checkpoint = files.checkpoint.newest.clone().unwrap_or_default();
    let store = files.store.unwrap_or_default();
    let bad = files.segments.iter().flat_map(|stored| {
        let copies = stored.bad_copies.iter();
        copies.map(|copy| (stored.segment.number, *copy))
    });
    let bad_headers = bad.collect();
    let dead = files.dead.iter();
    let unreadable = dead.filter(|dead| dead.segment.life == 0 && !dead.is_blank);
    let unreadable_files = unreadable.map(|dead| dead.segment.number).collect();
    files.order(checkpoint.head);
    let epoch = files.epoch();
    let mut shared = files.shared(store, epoch);
    if let Some(board) = board {
        shared.follow(board);
    }
    let shared = Arc::new(shared);
    let mut report = Report {
        is_clean: files.is_clean,
        ..Report::default()
    };
    let mut seen_life = 0;
    match numbers {
        Some((durable, life, next)) => {
            seen_life = life;
            shared.durable.advance(durable.max(shared.durable.get()));
            (report.next, report.end) = (next, durable);
        }
        None => settle(&files, &checkpoint, &shared, clock, left, &mut report)?,
    }
    let segments = files.segments.iter();
    let summary = Summary {
        store,
        epoch,
        is_live: board.is_some(),
        is_checkpoint_damaged: !files.checkpoint.bad_slots.is_empty(),
        bad_slots: files.checkpoint.bad_slots.to_vec(),
        segments: segments.map(|stored| stored.segment.clone()).collect(),
        bad_headers,
        unreadable_files,
        report,
        aside: files.aside.clone(),
        other_files: u32::try_from(files.dead.len() + files.spares.len()).unwrap_or(u32::MAX),
        checkpoint,
    };
    Ok(Seen {
        shared,
        life: seen_life,
        summary,
    })
}

/// Finds the end of a store that nobody has open, as the next open would.
pub(super) fn settle(
    files: &Files,
    checkpoint: &Checkpoint,
    shared: &Arc<Shared>,
    clock: &Arc<dyn Clock>,
    known: Option<&Board>,
    report: &mut Report,
) -> Result<()> {
    let known = known.map_or_else(Known::default, |board| {
        Known::of(board, shared.store, checkpoint, clock.boot(), None)
    });
    let decided: Decided = decide(files, checkpoint, shared, clock, &known, report)?;
    report.next = decided.next;
    report.segments = u32::try_from(files.segments.len()).unwrap_or(u32::MAX);
    if let Some(last) = files.segments.last() {
        let slot = decided
            .resume
            .unwrap_or(last.segment.pages)
            .max(HEADER_COPIES);
        shared.set_end(&last.segment, slot.min(last.segment.pages));
    }
    shared.durable.advance(report.end.max(shared.durable.get()));
    Ok(())
}

/// Who has the store.
enum Owner {
    Nobody,
    /// A process that has not signed its board yet.
    Opening,
    /// An engine, with its board.
    Has(Arc<Board>),
}

/// Whether a process has the store, an engine or one that changes it.
pub(super) fn is_locked(dir: &dyn Dir) -> bool {
    let lock = dir.open_to_read(LOCK_NAME);
    lock.is_ok_and(|lock| lock.is_locked().unwrap_or(false))
}

fn owner(dir: &dyn Dir, storage: &dyn Storage) -> Owner {
    if !is_locked(dir) {
        return Owner::Nobody;
    }
    let board = board_named_in(dir, storage);
    board.map_or(Owner::Opening, |board| Owner::Has(Arc::new(board)))
}

/// The board that the lock file names, if it was signed.
pub(super) fn board_named_in(dir: &dyn Dir, storage: &dyn Storage) -> Option<Board> {
    let lock = dir.open_to_read(LOCK_NAME).ok()?;
    let memory = storage.shared_by_other(&board_path(&*lock)?).ok()?;
    Board::fits(&memory)
        .then(|| Board::new(memory))
        .filter(|board| board.owner().is_some())
}

/// Where the board is of whoever wrote the lock file.
pub(super) fn board_path(lock: &dyn File) -> Option<PathBuf> {
    let mut text = [0; 4096];
    let len = lock.read_at(&mut text, 0).ok()?;
    let text = std::str::from_utf8(&text[..len]).ok()?;
    let path = text.lines().nth(1).filter(|path| !path.is_empty())?;
    Some(PathBuf::from(path))
}
