//! One record at a time, where a batch ended the process: so the one that does it is found, and given up
//! when it did it [`DEATHS_MAX`] times.
//!
//! ```text
//!  death with a batch ─▶ its records one by one ─▶ answered: no suspect any more
//!                                               └▶ three deaths with one alone ─▶ dead letter
//! ```
//!
//! Whatever the sink answers clears a record, also that it does not take it now. What is known of deaths
//! lies on the board, so a boot forgets it: see [`crate::counters::Suspect`].

use std::sync::Arc;

use super::Exporter;
use super::picking::pick;
use super::window::State;
use crate::counters::{Faults, Suspect};
use crate::cursor::Cursor;
use crate::sink::{Batch, Pick};

/// So many deaths with a record alone in flight, and it becomes a dead letter.
pub const DEATHS_MAX: u64 = 3;

/// What may be sent while a record is looked for.
pub(super) struct Narrow {
    suspect: Suspect,
    faults: Faults,
    has_one_lane: bool,
}

impl Narrow {
    pub fn new(cursor: &Cursor, has_one_lane: bool) -> Self {
        let suspect = cursor.on_board().suspect();
        let this = Self {
            suspect,
            faults: cursor.faults(),
            has_one_lane,
        };
        this.publish(cursor);
        this
    }

    /// Runs `submit`, which has that batch: a death in it is noted.
    pub fn watch(&self, batch: &Batch<'_>, submit: impl FnOnce()) {
        self.faults.watch(&batch.offsets(), submit);
    }

    /// The process died of this record as often as it may.
    pub fn is_fatal(&self, offset: u64) -> bool {
        let Suspect { from, deaths, .. } = self.suspect;
        !self.suspect.is_empty() && offset == from && deaths >= DEATHS_MAX
    }

    /// The process lived on behind that record.
    pub fn clear(&mut self, cursor: &Cursor, offset: u64) {
        let Suspect { from, to, .. } = self.suspect;
        if (from..to).contains(&offset) {
            let (from, deaths) = (offset + 1, 0);
            self.suspect = Suspect { from, to, deaths };
            self.publish(cursor);
        }
    }

    /// What the cursor has passed is no suspect.
    pub fn pass_to(&mut self, cursor: &Cursor) {
        if !self.suspect.is_empty() && cursor.position() >= self.suspect.to {
            self.suspect = Suspect::default();
            self.publish(cursor);
        }
    }

    fn publish(&self, cursor: &Cursor) {
        let board = cursor.on_board();
        board.set_suspect(self.suspect);
        board.set_alone(self.has_one_lane || !self.suspect.is_empty());
    }
}

impl Exporter {
    /// Whether anything may be sent beside what is under way.
    pub(super) fn may_pick(&self) -> bool {
        if self.giving_up.holds_up() {
            return false;
        }
        let is_busy = || self.lanes.iter().any(|lane| lane.is_busy);
        self.narrow.suspect.is_empty() || !is_busy() && !self.giving_up.is_any()
    }

    /// Leaves the first of the records that a lane has picked, where one alone may be sent.
    pub(super) fn pick_fewer(&mut self, lane: usize) {
        if self.narrow.suspect.is_empty() {
            return;
        }
        let lane = &mut self.lanes[lane];
        if let Some(at) = lane.whole.take() {
            lane.picks.push(pick(at, 0));
        }
        lane.picks.truncate(1);
    }

    /// A lane's batch came back, so the process did not die of it.
    pub(super) fn clear_alone(&mut self, lane: usize) {
        if let [Pick { buffer, entry }] = self.lanes[lane].picks[..] {
            let entries = self.window.buffers[buffer as usize].entries();
            let offset = entries[entry as usize].offset;
            self.narrow.clear(&self.cursor, offset);
        }
    }

    /// Sets aside the record that the process died of, if it is in a chunk that was just closed.
    pub(super) fn set_aside_fatal(&mut self, at: usize) {
        let entries = self.window.buffers[at].entries();
        let is_it = |offset: u64| self.narrow.is_fatal(offset);
        let Some(entry) = entries.iter().position(|entry| is_it(entry.offset)) else {
            return;
        };
        let (offset, deaths) = (entries[entry].offset, self.narrow.suspect.deaths);
        let chunk = &mut self.window.chunks[at];
        if chunk.slots[entry].state != State::Waiting {
            return;
        }
        let reason: Arc<str> =
            format!("crashLoop: the process died {deaths} times while the sink had it").into();
        log::error!("{}: record {offset}: {reason}", self.options.stream);
        chunk.slots[entry].submissions = u32::try_from(deaths).unwrap_or(u32::MAX);
        chunk.set(entry, State::Dead);
        self.giving_up.add(pick(at, entry), reason);
    }
}
