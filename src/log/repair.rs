//! Brings a damaged store into the state in which it opens with the least loss, all of it in the ledger.
//!
//! Opening heals by itself what it meets, and looks at the newest segment only. This looks at everything:
//! it reads each record, so that the ledger is exact before anybody relies on it, takes the cursors from
//! the board and the sources from the records where no checkpoint has them, and writes headers and
//! checkpoint anew where they do not verify. First it plans, and nothing is written; what is changed then
//! is copied before.
//!
//! Records are never written, moved or removed: what verifies now verifies afterwards.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::checkpoints::{self, Checkpoints};
use super::edit::ring_of;
use super::geometry::life_past_unknown;
use super::open::decide::pass_over_lost;
use super::open::{LOCK_NAME, Report, files, lock};
use super::view::{board_named_in, is_locked, settle};
use super::{BatchBuffer, Ended, Reader, Shared, sources};
use crate::clock::{Clock, Stamp};
use crate::counters::{Board, CURSORS_MAX};
use crate::error::{Code, Error, Result};
use crate::format::{
    CHECKPOINT_FILE_SIZE, Checkpoint, CursorEntry, HEADER_COPIES, Loss, PAGE_SIZE, Reason,
    SLOT_COUNT,
};
use crate::segment::{file_name, position};
use crate::storage::{Dir, File, Storage};

/// Records are looked at in batches of so many bytes.
const BATCH_BYTES: usize = 1 << 20;
/// A store has so many backups at most.
const BACKUPS_MAX: u32 = 1000;

/// What is to be done, and what then is there.
#[derive(Debug, Default)]
pub struct Plan {
    /// What would be changed, a sentence each. Empty: the store is sound.
    pub steps: Vec<String>,
    /// What is left as it is, and is worth knowing.
    pub notes: Vec<String>,
    /// The offsets of records that verify.
    pub saved: Vec<Range<u64>>,
    /// What is missing and was not known to be.
    pub lost: Vec<Loss>,
}

impl Plan {
    /// How many records verify.
    pub fn count(&self) -> u64 {
        self.saved.iter().map(|range| range.end - range.start).sum()
    }
}

/// A store that is looked at to be repaired.
pub struct Repair {
    lock: Option<Arc<dyn File>>,
    dir: Arc<dyn Dir>,
    path: PathBuf,
    storage: Arc<dyn Storage>,
    files: files::Files,
    checkpoint: Checkpoint,
    is_checkpoint_owed: bool,
    life: u64,
    plan: Plan,
}

impl Repair {
    /// Reads all of the store in a directory. With `is_owner` it is taken, and what is in caches is made
    /// durable or forgotten, as an open does; else nothing at all is touched.
    ///
    /// [`Code::Io`]: there is none, an engine has it, or it cannot be read. [`Code::Corrupt`]: it is of a
    /// newer format.
    pub fn open(
        path: &Path,
        storage: Arc<dyn Storage>,
        clock: &Arc<dyn Clock>,
        is_owner: bool,
    ) -> Result<Self> {
        let told = |text: &dyn std::fmt::Display| {
            let text = format!("{}: {text}", path.display());
            Error::text(Code::Io, "repair store", text)
        };
        let dir = storage.open_dir(path, false);
        let dir = dir.map_err(|error| told(&error))?;
        // Nothing is made where no store is.
        let seen = files::look(&*dir, false)?;
        if seen.is_new() && seen.dead.is_empty() && seen.checkpoint.bad_slots.is_empty() {
            return Err(told(&"there is no store"));
        }
        let (lock, mut files) = if is_owner {
            let lock = lock(&*dir)?;
            (Some(lock), files::look(&*dir, true)?)
        } else if is_locked(&*dir) {
            return Err(told(&"a process has it open"));
        } else {
            (None, seen)
        };
        let last = files.checkpoint.newest.clone();
        let board = board_named_in(&*dir, &*storage);
        let store = files.store.unwrap_or_default();
        let owner = board.as_ref().and_then(Board::owner);
        let is_of_boot =
            owner.is_some_and(|owner| owner.store == store.0 && owner.boot == clock.boot());
        if is_of_boot
            && !files.is_clean
            && let Ok(lock) = dir.open_to_read(LOCK_NAME)
            && let Some(ring) = ring_of(&*lock, &*storage, store)
        {
            let text = format!(
                "the process that had it died, and what it took may wait in {}: the next engine takes \
                 that over; let it open the store first",
                ring.display()
            );
            return Err(told(&text));
        }
        let head = last.as_ref().map_or(0, |last| last.head);
        files.order(head);
        let epoch = files.epoch();
        let shared = Arc::new(files.shared(store, epoch));
        let mut state = last.clone().unwrap_or_default();
        let mut report = Report::default();
        // A clean store whose newest segment is gone was closed cleanly no more.
        let is_active_there = state.segment == 0
            || files
                .segments
                .iter()
                .any(|stored| stored.segment.number == state.segment);
        files.is_clean &= is_active_there;
        settle(&files, &state, &shared, clock, board.as_ref(), &mut report)?;
        if last.is_none() {
            // What is below was let go, as far as anything tells.
            shared.set_head(shared.first_base().unwrap_or(0));
        }
        shared.durable.advance(report.next);
        let mut this = Self {
            lock,
            dir,
            path: path.to_owned(),
            storage,
            checkpoint: Checkpoint::default(),
            is_checkpoint_owed: false,
            life: state.life.max(files.life_seen) + 1,
            plan: Plan::default(),
            files,
        };
        this.plan_files();
        let found = read(&shared, clock).map_err(|error| Error::io("read store", error))?;
        this.plan.saved = found;
        this.plan_losses(&state, &shared);
        match last {
            Some(_) => {
                this.plan_checkpoint(&mut state, is_active_there);
                pass_over_lost(&this.files, report.next, clock.stamp(), &mut state);
            }
            None => {
                let now = clock.stamp();
                this.plan_new_checkpoint(&mut state, &shared, board.as_ref(), (report.next, now));
            }
        }
        state.ledger.clone_from(shared.ledger().ranges());
        this.checkpoint = state;
        Ok(this)
    }

    /// What would be done.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Does what is planned, and makes it durable. Returns the directory in which what was changed lies as
    /// it was before. After an error the store is as it was, or as far as it came; the backup is whole.
    pub fn apply(mut self) -> Result<PathBuf> {
        assert!(self.lock.is_some(), "it was opened to be changed");
        let failed = |error| Error::io("write store", error);
        let backup = self
            .back_up()
            .map_err(|error| Error::io("write backup", error))?;
        self.files.repair();
        for dead in &self.files.dead {
            if dead.segment.life == 0 && !dead.is_blank {
                let number = dead.segment.number;
                let aside = files::aside_name(number, self.life);
                self.dir
                    .rename(&file_name(number), &aside)
                    .map_err(failed)?;
            }
        }
        self.dir.sync().map_err(failed)?;
        if self.is_checkpoint_owed {
            let mut checkpoints = Checkpoints::open(&*self.dir).map_err(failed)?;
            checkpoints.found(&self.files.checkpoint);
            // To all slots: of two that hold the same generation either may be the wrong one.
            for _ in 0..SLOT_COUNT {
                self.checkpoint.generation += 1;
                checkpoints.write(&self.checkpoint).map_err(failed)?;
            }
            self.dir.sync().map_err(failed)?;
        }
        Ok(backup)
    }

    /// Headers that are written again, and files that are set aside.
    fn plan_files(&mut self) {
        for stored in &self.files.segments {
            for copy in &stored.bad_copies {
                let (name, byte) = (file_name(stored.segment.number), position(*copy));
                self.plan.steps.push(format!(
                    "{name}: write the header at byte {byte} again: it does not verify"
                ));
            }
        }
        for dead in &self.files.dead {
            if dead.segment.life == 0 && !dead.is_blank {
                let name = file_name(dead.segment.number);
                let aside = files::aside_name(dead.segment.number, self.life);
                self.plan.steps.push(format!(
                    "{name}: keep it as {aside}: nothing in it can be read"
                ));
            }
        }
        for (number, owner) in self.files.blocked.iter().zip(&self.files.owners) {
            let name = file_name(*number);
            self.plan.notes.push(format!(
                "{name}: left alone: it belongs to the store {owner}"
            ));
        }
    }

    /// What is missing and the old ledger does not know.
    fn plan_losses(&mut self, last: &Checkpoint, shared: &Shared) {
        let known = super::Ledger::from_checkpoint(&last.ledger);
        for loss in shared.ledger().ranges() {
            let mut start = loss.start;
            while start < loss.end {
                let (end, is_known) = match known.covering(start) {
                    Some(range) => (range.end.min(loss.end), true),
                    None => {
                        let mut starts = known.ranges().iter().map(|range| range.start);
                        let next = starts.find(|next| *next > start);
                        (next.map_or(loss.end, |next| next.min(loss.end)), false)
                    }
                };
                if !is_known {
                    let count = if loss.count == 0 { 0 } else { end - start };
                    self.plan.lost.push(Loss {
                        start,
                        end,
                        count,
                        ..*loss
                    });
                }
                start = end;
            }
        }
        let mut lost = self.plan.lost.iter();
        if lost.any(|loss| loss.reason == Reason::Damage) {
            self.is_checkpoint_owed = true;
            let text = "checkpoint: write what is lost into the ledger";
            self.plan.steps.push(text.to_owned());
        }
    }

    /// The checkpoint stays what it is, but for what is found wrong.
    fn plan_checkpoint(&mut self, state: &mut Checkpoint, is_active_there: bool) {
        for slot in &self.files.checkpoint.bad_slots {
            self.is_checkpoint_owed = true;
            let byte = u64::from(*slot) * crate::format::SLOT_SIZE as u64;
            self.plan.steps.push(format!(
                "checkpoint: write the slot at byte {byte} again: it does not verify"
            ));
        }
        if !is_active_there {
            self.is_checkpoint_owed = true;
            let name = file_name(state.segment);
            self.plan.steps.push(format!(
                "checkpoint: {name} was the newest segment and is not there: go on behind what is"
            ));
            (state.segment, state.page) = (0, 0);
        }
        // What was found damaged was not closed cleanly: the next open looks at the newest segment itself.
        state.is_clean &= is_active_there;
    }

    /// No checkpoint is left: one is made of what the segments show and of what stands on the board.
    fn plan_new_checkpoint(
        &mut self,
        state: &mut Checkpoint,
        shared: &Shared,
        board: Option<&Board>,
        (next, now): (u64, Stamp),
    ) {
        self.is_checkpoint_owed = true;
        let (head, next) = (shared.head(), next.max(shared.head()));
        self.plan.steps.push(format!(
            "checkpoint: write it anew: no slot verifies; the store begins at {head} and goes on at {next}"
        ));
        let lives = self.files.segments.iter();
        let lives = lives.map(|stored| stored.segment.life);
        let newest = self.files.segments.last();
        *state = Checkpoint {
            store: shared.store,
            epoch: shared.epoch,
            life: life_past_unknown(lives.max().unwrap_or(0).max(self.files.life_seen), now),
            mark: next,
            opened: next,
            head,
            name: newest.map_or_else(Default::default, |newest| newest.header.name.clone()),
            ..Checkpoint::default()
        };
        let owner = board.and_then(Board::owner);
        let is_ours = owner.is_some_and(|owner| owner.store == shared.store.0);
        if let Some(board) = board.filter(|_| is_ours) {
            let cursors = (0..CURSORS_MAX).map(|index| board.cursor(index));
            for cursor in cursors.take_while(|cursor| !cursor.name().is_empty()) {
                let (name, Some(mut place)) = (cursor.name(), cursor.place()) else {
                    continue;
                };
                place.position = place.position.min(next);
                self.plan.steps.push(format!(
                    "cursor {name}: goes on at {}, as the last run had it",
                    place.position
                ));
                let _ = state.cursors.push(CursorEntry { name, place });
            }
        }
        if state.cursors.is_empty() {
            self.plan.notes.push(
                "no cursor is left: each sink begins where its startAt says, and may deliver again"
                    .to_owned(),
            );
        }
        state.sources.clone_from(&shared.sources());
        for source in &state.sources {
            let (name, offset) = (&source.name, source.offset);
            self.plan
                .steps
                .push(format!("source {name}: as record {offset} says"));
        }
    }

    /// Copies what will be changed.
    fn back_up(&self) -> io::Result<PathBuf> {
        let free = (1..BACKUPS_MAX)
            .map(|number| self.path.join(format!("backup-{number}")))
            .find(|path| self.storage.open_dir(path, false).is_err());
        let path = free.ok_or_else(|| io::Error::other("there are too many backups"))?;
        let to = self.storage.open_dir(&path, true)?;
        let copy = |name: &str, size: u64| {
            let from = self.dir.open_to_read(name)?;
            let into = to.create(name)?;
            let mut page = vec![0; PAGE_SIZE];
            let mut at = 0;
            while at < size {
                // What cannot be read is zeros in the copy.
                let len = match from.read_at(&mut page, at) {
                    Ok(0) => break,
                    Ok(len) => len,
                    Err(_) => {
                        page.fill(0);
                        PAGE_SIZE
                    }
                };
                into.write_at(&page[..len], at)?;
                at += len as u64;
            }
            into.sync()
        };
        match copy(checkpoints::FILE_NAME, CHECKPOINT_FILE_SIZE) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            copied => copied?,
        }
        let segments = self.files.segments.iter();
        for stored in segments.filter(|stored| !stored.bad_copies.is_empty()) {
            copy(&file_name(stored.segment.number), position(HEADER_COPIES))?;
        }
        to.sync()?;
        self.dir.sync()?;
        Ok(path)
    }
}

/// Reads all records that are kept; what is missing comes into the shared ledger. Returns the offsets of
/// those that verify. Their sources come into the shared ones.
fn read(shared: &Arc<Shared>, clock: &Arc<dyn Clock>) -> io::Result<Vec<Range<u64>>> {
    let mut reader = Reader::new(Arc::clone(shared), Arc::clone(clock))?;
    let mut batch = BatchBuffer::new(10_000, BATCH_BYTES, BATCH_BYTES)?;
    let mut saved: Vec<Range<u64>> = Vec::new();
    let mut next = shared.head();
    loop {
        batch.clear();
        let done = reader.read(next, u64::MAX, &mut batch);
        for entry in batch.entries() {
            match saved.last_mut().filter(|last| last.end == entry.offset) {
                Some(last) => last.end += 1,
                None => saved.push(entry.offset..entry.offset + 1),
            }
            if let Some(source) = batch.view(entry).source() {
                sources::put(&mut shared.sources(), entry.offset, source);
            }
        }
        let Ok((ended, after)) = done else {
            next = reader.position();
            reader.give_up_unreadable();
            continue;
        };
        next = after;
        if ended == Ended::CaughtUp {
            return Ok(saved);
        }
    }
}
