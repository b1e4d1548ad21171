//! A store as other processes see it: they take no lock, repair nothing, and touch nothing.
//!
//! While an engine has the store, its board says what is durable and where the active segment ends, and a
//! life that changed says that segments did. Without one, the store is looked at as the next open would
//! look at it, up to the end that it would find.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::open::decide::{Decided, decide};
use super::open::files::{self, Files};
use super::open::{LOCK_NAME, Report};
use super::{Reader, Shared};
use crate::clock::Clock;
use crate::counters::{Board, StreamCounter};
use crate::error::{Code, Error, Result};
use crate::format::{Checkpoint, HEADER_COPIES, StoreId};
use crate::segment::Segment;
use crate::storage::{Dir, Storage};

/// A store that is looked at.
pub struct View {
    dir: Arc<dyn Dir>,
    clock: Arc<dyn Clock>,
    storage: Arc<dyn Storage>,
    shared: Arc<Shared>,
    board: Option<Board>,
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
    /// The segments, oldest first.
    pub segments: Vec<Segment>,
    /// Segments of which a copy of the header does not verify.
    pub bad_headers: Vec<u32>,
    /// What the next open would report; of a live store, what its last one did not.
    pub report: Report,
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
        let board = board(&*dir, &*storage);
        let (shared, summary) = look(&*dir, &clock, board.as_ref())?;
        if summary.checkpoint.generation == 0 && summary.segments.is_empty() {
            let text = format!("{}: there is no store", path.display());
            return Err(Error::text(Code::Io, "open store", text));
        }
        let life = board
            .as_ref()
            .map_or(0, |board| board.get(StreamCounter::Life));
        Ok(Self {
            dir,
            clock,
            storage,
            shared,
            board,
            life,
            summary,
        })
    }

    /// What was seen when the view was opened or refreshed.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// The board of the engine that has the store.
    pub fn board(&self) -> Option<&Board> {
        self.board.as_ref()
    }

    /// What readers share. Of a live store, as of the last [`refresh`](Self::refresh).
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// A reader of what is there now.
    pub fn reader(&self) -> io::Result<Reader> {
        Reader::new(Arc::clone(&self.shared), Arc::clone(&self.clock))
    }

    /// Looks again at a live store. True when its segments changed: readers must be made anew, and go on
    /// at the offset where the old one was.
    pub fn refresh(&mut self) -> Result<bool> {
        let board = board(&*self.dir, &*self.storage);
        let life = board
            .as_ref()
            .map_or(0, |board| board.get(StreamCounter::Life));
        let is_live = board.is_some();
        self.board = board;
        if is_live && life == self.life {
            if let Some(board) = &self.board {
                follow(&self.shared, board);
            }
            return Ok(false);
        }
        if !is_live && !self.summary.is_live {
            return Ok(false);
        }
        (self.shared, self.summary) = look(&*self.dir, &self.clock, self.board.as_ref())?;
        self.life = life;
        Ok(true)
    }
}

/// Takes over what the board says is durable, and how far the active segment is written.
fn follow(shared: &Shared, board: &Board) {
    let durable = board.get(StreamCounter::DurableOffset);
    shared.set_end_word(board.get(StreamCounter::ActiveEnd));
    shared.set_head(board.get(StreamCounter::HeadOffset).max(shared.head()));
    if durable > shared.durable.get() {
        shared.durable.advance(durable);
    }
}

fn look(
    dir: &dyn Dir,
    clock: &Arc<dyn Clock>,
    board: Option<&Board>,
) -> Result<(Arc<Shared>, Summary)> {
    let mut files = files::look(dir, false)?;
    let checkpoint = files.checkpoint.newest.clone().unwrap_or_default();
    let store = files.store.unwrap_or_default();
    let bad = files
        .segments
        .iter()
        .filter(|stored| !stored.bad_copies.is_empty());
    let bad_headers = bad.map(|stored| stored.segment.number).collect();
    files.order(checkpoint.head);
    let epoch = files.epoch();
    let shared = Arc::new(files.shared(store, epoch));
    let mut report = Report {
        is_clean: files.is_clean,
        ..Report::default()
    };
    match board {
        Some(board) => {
            follow(&shared, board);
            report.next = board.get(StreamCounter::NextOffset);
            report.end = shared.durable.get();
        }
        None => settle(&files, &checkpoint, &shared, clock, &mut report)?,
    }
    let summary = Summary {
        store,
        epoch,
        is_live: board.is_some(),
        is_checkpoint_damaged: files.checkpoint.is_damaged,
        segments: files
            .segments
            .iter()
            .map(|stored| stored.segment.clone())
            .collect(),
        bad_headers,
        report,
        other_files: u32::try_from(files.dead.len() + files.spares.len()).unwrap_or(u32::MAX),
        checkpoint,
    };
    Ok((shared, summary))
}

/// Finds the end of a store that nobody has open, as the next open would.
fn settle(
    files: &Files,
    checkpoint: &Checkpoint,
    shared: &Arc<Shared>,
    clock: &Arc<dyn Clock>,
    report: &mut Report,
) -> Result<()> {
    let decided: Decided = decide(files, checkpoint, shared, clock, report)?;
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

/// The board of the engine that has the store open, if one has.
fn board(dir: &dyn Dir, storage: &dyn Storage) -> Option<Board> {
    let lock = dir.open_to_read(LOCK_NAME).ok()?;
    // Held by nobody: it is let go at once.
    if lock.try_lock().unwrap_or(true) {
        return None;
    }
    let mut text = [0; 4096];
    let len = lock.read_at(&mut text, 0).ok()?;
    let text = std::str::from_utf8(&text[..len]).ok()?;
    let path = text.lines().nth(1).filter(|path| !path.is_empty())?;
    let memory = storage.shared_by_other(Path::new(path)).ok()?;
    Board::fits(&memory)
        .then(|| Board::new(memory))
        .filter(|board| board.owner().is_some())
}
