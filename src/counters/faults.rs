//! Records that a process died of: what the board of this boot says of them.
//!
//! ```text
//!  death inside `deliver` ─▶ its batch is suspect ─▶ one record at a time ─▶ alone, three times: given up
//! ```

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Board, CURSOR_WORDS, CursorBoard};
use crate::storage::{MARK, at_risk};

/// What a dying thread writes (three words), whether its batch is the only one under way, and the suspects.
pub(super) const FAULT_WORDS: usize = 7;
const ALONE_AT: usize = 3;
const SUSPECT_AT: usize = 4;

/// Offsets of which one may end the process. None when it is empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Suspect {
    /// The first that has not been answered for since.
    pub from: u64,
    /// Behind the last.
    pub to: u64,
    /// How often the process died while the first was alone in flight.
    pub deaths: u64,
}

impl Suspect {
    /// Nothing is suspected.
    pub fn is_empty(self) -> bool {
        self.from >= self.to
    }
}

impl CursorBoard<'_> {
    fn fault_words(&self) -> &[AtomicU64] {
        &self.words[CURSOR_WORDS - FAULT_WORDS..]
    }

    /// What is suspected, as it was published.
    pub fn suspect(&self) -> Suspect {
        let [from, to, deaths] = [0, 1, 2].map(|at| self.fault(SUSPECT_AT + at));
        Suspect { from, to, deaths }
    }

    /// Publishes what is suspected. Only the cursor's exporter may.
    pub fn set_suspect(&self, suspect: Suspect) {
        let Suspect { from, to, deaths } = suspect;
        for (word, value) in self.fault_words()[SUSPECT_AT..]
            .iter()
            .zip([from, to, deaths])
        {
            word.store(value, Ordering::Relaxed);
        }
    }

    /// Says whether a batch that is under way is the only one. Only the cursor's exporter may.
    pub fn set_alone(&self, is_alone: bool) {
        self.fault_words()[ALONE_AT].store(is_alone.into(), Ordering::Relaxed);
    }

    fn fault(&self, at: usize) -> u64 {
        // Acquire: pairs with the store of the mark.
        self.fault_words()[at].load(Ordering::Acquire)
    }

    /// What is suspected after the end of the process that had the board.
    pub(super) fn suspect_after(&self) -> Suspect {
        let before = self.suspect();
        let [mark, from, to] = [0, 1, 2].map(|at| self.fault(at));
        if mark != MARK || from >= to {
            return before;
        }
        let is_alone = to - from == 1 && self.fault(ALONE_AT) != 0;
        let is_again = before.from == from && !before.is_empty();
        let is_inside = (before.from..before.to).contains(&from);
        Suspect {
            from,
            // The others of a batch that ended a process stay suspects.
            to: if is_inside { before.to.max(to) } else { to },
            deaths: match (is_alone, is_again) {
                (true, true) => before.deaths + 1,
                (true, false) => 1,
                (false, _) => 0,
            },
        }
    }
}

/// Where a death while a sink has records of one cursor is noted.
#[derive(Clone, Debug)]
pub struct Faults {
    board: Arc<Board>,
    index: usize,
}

impl Faults {
    /// Those of one of the board's cursors.
    pub fn new(board: Arc<Board>, index: usize) -> Self {
        Self { board, index }
    }

    /// Runs `body`, which has the records of these offsets.
    pub fn watch<R>(&self, offsets: &Range<u64>, body: impl FnOnce() -> R) -> R {
        let cursor = self.board.cursor(self.index);
        match cursor.fault_words().first_chunk() {
            Some(words) => at_risk(words, offsets.start, offsets.end, body),
            None => body(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::{Owner, Place};
    use crate::storage::{Memory, note_fault};

    const OWNER: Owner = Owner {
        store: [5; 16],
        epoch: 1,
        boot: 2,
        pid: 3,
    };

    fn board() -> Arc<Board> {
        let board = Board::new(Memory::private(Board::LEN).unwrap());
        take(&board, OWNER);
        Arc::new(board)
    }

    /// A process that had the board dies, and another one of that owner takes it.
    fn die(board: &Arc<Board>, offsets: Range<u64>, is_alone: bool, owner: Owner) -> Suspect {
        board.cursor(0).set_alone(is_alone);
        Faults::new(Arc::clone(board), 0).watch(&offsets, note_fault);
        take(board, owner)
    }

    fn take(board: &Board, owner: Owner) -> Suspect {
        board.take(owner, &[("file".try_into().unwrap(), Place::default())]);
        board.cursor(0).suspect()
    }

    fn suspect(from: u64, to: u64, deaths: u64) -> Suspect {
        Suspect { from, to, deaths }
    }

    /// `L-83`: deaths count for a record that was alone in flight, and one after the other; those of a
    /// batch say which records to look at.
    #[test]
    fn deaths_are_counted_for_the_record_that_was_alone() {
        let board = board();
        assert_eq!(die(&board, 10..20, true, OWNER), suspect(10, 20, 0));
        board.cursor(0).set_suspect(suspect(13, 20, 0));
        assert_eq!(die(&board, 13..14, true, OWNER), suspect(13, 20, 1));
        // A process that is killed changes nothing.
        assert_eq!(take(&board, OWNER), suspect(13, 20, 1));
        assert_eq!(die(&board, 13..14, true, OWNER), suspect(13, 20, 2));
        // The next one is another record.
        assert_eq!(die(&board, 14..15, true, OWNER), suspect(14, 20, 1));
        // One of which others were under way, too.
        assert_eq!(die(&board, 14..15, false, OWNER), suspect(14, 20, 0));
    }

    /// `L-83`: what another boot saw is forgotten, and so is what another store's board says.
    #[test]
    fn a_reboot_forgets_suspects() {
        for owner in [
            Owner { boot: 3, ..OWNER },
            Owner {
                store: [6; 16],
                ..OWNER
            },
        ] {
            let board = board();
            assert_eq!(die(&board, 7..8, true, OWNER), suspect(7, 8, 1));
            assert_eq!(die(&board, 7..8, true, owner), Suspect::default());
        }
    }
}
