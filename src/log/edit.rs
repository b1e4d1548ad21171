//! Changes cursors and the head in a store that no engine has.
//!
//! Only the checkpoint is written, once: everything else stays as the last run left it, and the next open
//! finds it so. What the board of this boot says of cursors goes into the checkpoint before it is changed,
//! and the board is cleared behind it, so that the next open believes the checkpoint.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::checkpoints::{self, Checkpoints};
use super::open::decide::pass_over_lost;
use super::open::{Report, files, lock};
use super::view::{board_named_in, board_path, settle};
use super::{Reader, Shared};
use crate::clock::Clock;
use crate::counters::{Board, CURSORS_MAX, INTERVALS_MAX, Place};
use crate::error::{Code, Error, Result};
use crate::format::{Checkpoint, CursorEntry, StoreId};
use crate::segment;
use crate::storage::{Dir, File, Storage};

/// A store that is being changed. It is locked as long as this lives.
pub struct Editor {
    lock: Arc<dyn File>,
    dir: Arc<dyn Dir>,
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    found: checkpoints::Found,
    checkpoint: Checkpoint,
    shared: Arc<Shared>,
    next: u64,
}

impl Editor {
    /// Takes the store in a directory.
    ///
    /// [`Code::Io`]: there is none, an engine has it, or it cannot be read. [`Code::Corrupt`]: it is of a
    /// newer format, or its checkpoint does not verify, so that nothing says where its cursors stand.
    pub fn open(path: &Path, storage: Arc<dyn Storage>, clock: Arc<dyn Clock>) -> Result<Self> {
        let told = |code, text: &dyn std::fmt::Display| {
            let text = format!("{}: {text}", path.display());
            Error::text(code, "open store", text)
        };
        let dir = storage.open_dir(path, false);
        let dir = dir.map_err(|error| told(Code::Io, &error))?;
        // A lock file is not made where no store is.
        if let Err(error) = dir.open_to_read(checkpoints::FILE_NAME) {
            let list = dir.list().unwrap_or_default();
            let mut numbers = list.iter().map(|entry| segment::file_number(&entry.name));
            return Err(match error.kind() {
                io::ErrorKind::NotFound if numbers.any(|number| number.is_some()) => {
                    told(Code::Corrupt, &"its checkpoint is gone")
                }
                io::ErrorKind::NotFound => told(Code::Io, &"there is no store"),
                _ => told(Code::Io, &error),
            });
        }
        let lock = lock(&*dir)?;
        let mut files = files::look(&*dir, true)?;
        let Some(mut checkpoint) = files.checkpoint.newest.clone() else {
            return Err(told(Code::Corrupt, &"no checkpoint in it verifies"));
        };
        files.order(checkpoint.head);
        let shared = Arc::new(files.shared(checkpoint.store, checkpoint.epoch));
        let mut report = Report {
            is_clean: files.is_clean,
            ..Report::default()
        };
        let left = board_named_in(&*dir, &*storage);
        settle(
            &files,
            &checkpoint,
            &shared,
            &clock,
            left.as_ref(),
            &mut report,
        )?;
        pass_over_lost(&files, report.next, clock.stamp(), &mut checkpoint);
        let mut this = Self {
            lock,
            dir,
            storage,
            clock,
            found: files.checkpoint,
            checkpoint,
            shared,
            next: report.next,
        };
        if let Some(ring) = this.ring().filter(|_| !report.is_clean) {
            let text = format!(
                "the process that had it died, and what it took may wait in {}: the next engine takes \
                 that over",
                ring.display()
            );
            return Err(told(Code::Io, &text));
        }
        this.take_over_board();
        Ok(this)
    }

    /// The first offset that is kept.
    pub fn head(&self) -> u64 {
        self.checkpoint.head
    }

    /// The offset that the next record gets.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The cursors, of sinks that there are and of those that are gone.
    pub fn cursors(&mut self) -> &mut heapless::Vec<CursorEntry, CURSORS_MAX> {
        &mut self.checkpoint.cursors
    }

    /// Nothing below `to` is kept, as far as it is durable.
    pub fn raise_head(&mut self, to: u64) {
        self.checkpoint.head = to.min(self.checkpoint.mark).max(self.checkpoint.head);
    }

    /// A reader of what is stored.
    pub fn reader(&self) -> Result<Reader> {
        let reader = Reader::new(Arc::clone(&self.shared), Arc::clone(&self.clock));
        reader.map_err(|error| Error::io("allocate a reader", error))
    }

    /// Makes the changes durable, all or none of them.
    pub fn write(mut self) -> Result<()> {
        let failed = |error| Error::io("write checkpoint", error);
        self.checkpoint.generation += 1;
        let mut checkpoints = Checkpoints::open(&*self.dir).map_err(failed)?;
        checkpoints.found(&self.found);
        checkpoints.write(&self.checkpoint).map_err(failed)?;
        if let Some(board) = self.board() {
            board.disown();
        }
        Ok(())
    }

    /// The shared ring of the last run, if it had one in this boot.
    fn ring(&self) -> Option<PathBuf> {
        self.board()?;
        ring_of(&*self.lock, &*self.storage, self.checkpoint.store)
    }

    /// The board of the last run, if it is of this store and this boot.
    fn board(&self) -> Option<Board> {
        let path = board_path(&*self.lock)?;
        let memory = self.storage.shared_by_other(&path).ok()?;
        let board = Board::fits(&memory).then(|| Board::new(memory))?;
        let owner = board.owner()?;
        let is_ours = owner.store == self.checkpoint.store.0
            && owner.epoch == self.checkpoint.epoch
            && owner.boot == self.clock.boot();
        is_ours.then_some(board)
    }

    /// A run that ended without a last checkpoint has left its cursors on the board.
    fn take_over_board(&mut self) {
        let Some(board) = self.board() else { return };
        for entry in &mut self.checkpoint.cursors {
            let newer = board
                .place_of(&entry.name)
                .filter(|place| (entry.place.position..=self.next).contains(&place.position));
            entry.place = newer.unwrap_or_else(|| entry.place.clone());
        }
    }
}

/// The shared ring of whoever wrote the lock file, if it had one.
pub(super) fn ring_of(lock: &dyn File, storage: &dyn Storage, store: StoreId) -> Option<PathBuf> {
    let path = board_path(lock)?.with_file_name(format!("{store}.ring"));
    storage.shared_by_other(&path).ok()?;
    Some(path)
}

/// Notes that the offsets from `from` up to `to` are done. False: it would take more intervals than a
/// cursor has, and nothing was noted.
pub fn note_done(place: &mut Place, from: u64, to: u64) -> bool {
    let mut all: Vec<(u64, u64)> = place.intervals.to_vec();
    all.push((0, place.position));
    all.push((from, to));
    all.sort_unstable();
    let mut joined: Vec<(u64, u64)> = Vec::new();
    for (from, to) in all.into_iter().filter(|(from, to)| from < to) {
        match joined.last_mut().filter(|last| from <= last.1) {
            Some(last) => last.1 = last.1.max(to),
            None => joined.push((from, to)),
        }
    }
    let position = match joined.first() {
        Some((0, to)) => *to,
        _ => 0,
    };
    let above = joined.into_iter().filter(|(from, _)| *from > position);
    let above: Vec<(u64, u64)> = above.collect();
    if above.len() > INTERVALS_MAX {
        return false;
    }
    place.position = position;
    place.intervals = above.into_iter().collect();
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_is_joined() {
        let mut place = Place::default();
        assert!(note_done(&mut place, 5, 7) && note_done(&mut place, 9, 10));
        assert_eq!(
            (place.position, &place.intervals[..]),
            (0, &[(5, 7), (9, 10)][..])
        );
        assert!(note_done(&mut place, 7, 9));
        assert_eq!(place.intervals[..], [(5, 10)]);
        assert!(note_done(&mut place, 0, 6));
        assert_eq!((place.position, place.intervals.len()), (10, 0));
    }

    #[test]
    fn more_intervals_than_fit_are_refused_and_change_nothing() {
        let mut place = Place::default();
        for n in 1..=INTERVALS_MAX as u64 {
            assert!(note_done(&mut place, 10 * n, 10 * n + 1));
        }
        let before = place.clone();
        assert!(!note_done(&mut place, 500, 501));
        assert_eq!(place, before);
        assert!(note_done(&mut place, 1, 11));
        assert!(note_done(&mut place, 0, 1));
        assert!(note_done(&mut place, 500, 501));
    }
}
