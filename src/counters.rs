//! The numbers of one stream, and where its cursors stand, on a board that other processes can read.
//!
//! ```text
//!  words:  | header | stream's counters | cursor 0: name, place, counters, error | cursor 1 … |
//!            once     syncer's threads    one exporter each
//! ```
//!
//! **Threads.** Each word has one writer, so counting is a load and a store and never a locked
//! instruction; `rejected` alone is shared by the producers, on their slow path. Readers, in this
//! process or another, take no lock. What consists of several words (a cursor's place, an error's text)
//! stands under a sequence number: odd while it changes.
//!
//! **Invariants.** The board lies in shared memory named after the store, and outlives the process but
//! not the boot, so cursors found on it after a crash are exact where the checkpoint's are older. At no
//! moment do they leave it: a place is written beside the one before, and the next run takes the board
//! over without clearing it first.

use std::sync::atomic::{AtomicU64, Ordering};

use heapless::{String, Vec};

use crate::clock::Stamp;
use crate::storage::Memory;

mod cursor;
mod faults;
pub mod sequence;
mod stats;

pub use cursor::{CursorBoard, cut};
use faults::FAULT_WORDS;
pub use faults::{Faults, Suspect};
pub use stats::{Health, SinkState, SinkStats, Stats};

/// The most cursors that a stream has.
pub const CURSORS_MAX: usize = 16;
/// The longest name of a cursor, in bytes.
pub const CURSOR_NAME_MAX: usize = 64;
/// The most acknowledged intervals above a cursor's position.
pub const INTERVALS_MAX: usize = 8;
/// The longest text of an error on the board, in bytes; what is longer is cut.
pub const ERROR_TEXT_MAX: usize = 160;

const MAGIC: u64 = u64::from_le_bytes(*b"forebay\x06");
const HEADER_WORDS: usize = 8;
/// Where the header counts refused records: many producers write it, so it shares its cache line with
/// words that are written once.
const REJECTED_AT: usize = 6;
/// Where it counts events that the host did not get; several threads write that too, and rarely.
const EVENTS_LOST_AT: usize = 7;
const NAME_WORDS: usize = CURSOR_NAME_MAX / 8;
/// A number that rises with each place, and how many intervals it has; the position; the intervals.
const PLACE_WORDS: usize = 2 + 2 * INTERVALS_MAX;
const TEXT_WORDS: usize = 1 + ERROR_TEXT_MAX / 8;
const CURSOR_WORDS: usize =
    NAME_WORDS + 2 * (1 + PLACE_WORDS) + CursorCounter::COUNT + 1 + TEXT_WORDS + FAULT_WORDS;
const WORDS: usize = HEADER_WORDS + StreamCounter::COUNT + CURSORS_MAX * CURSOR_WORDS;

macro_rules! counters {
    ($(#[$doc:meta])* $enum:ident { $($(#[$line:meta])* $name:ident,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum $enum { $($(#[$line])* $name),+ }

        impl $enum {
            const COUNT: usize = [$($enum::$name),+].len();
        }
    };
}

counters! {
    /// What is counted once per stream. Written by the syncer.
    StreamCounter {
        /// The next offset to hand out, as of the syncer's last turn.
        NextOffset,
        /// The next offset when the store was opened.
        OpenedOffset,
        /// The first offset that is not durable.
        DurableOffset,
        /// The first offset that is still kept.
        HeadOffset,
        /// The store's life; it changes whenever segments do.
        Life,
        /// Which segment is active and how far it is written, as the log packs it.
        ActiveEnd,
        /// Syncs of the log's segments.
        Syncs,
        /// Syncs of the checkpoint.
        Checkpoints,
        /// Bytes handed to the device: pages, headers, zeros, checkpoints.
        WrittenBytes,
        /// Bytes of that which only prepare new segments, once for each.
        PreparedBytes,
        /// Bytes of pages in use.
        DiskBytes,
        /// Bytes of disk that the store takes, everything included.
        AllocatedBytes,
        /// Bytes of the budget that are to be reserved and are not yet.
        UnreservedBytes,
        /// Records that the open found damaged.
        Corrupt,
        /// Records that the quota dropped while no sink was there to skip them.
        DroppedUnread,
        /// The same for those that were too old.
        ExpiredUnread,
        /// How often records were dropped that somebody still wanted, or that nobody reads.
        Drops,
        /// Records in the ring as of the syncer's last turn.
        Queued,
        /// When the syncer first saw the record that is claimed and not committed, in milliseconds on
        /// the boot clock; 0 when there is none.
        UncommittedSinceMs,
        /// Syncs that failed, and segments given up for it.
        Poisoned,
        /// Wake-ups of the syncer's thread.
        Wakeups,
        /// Dead letters that were made durable.
        DeadLetters,
        /// Dead letters that their own quota dropped.
        DeadLettersDropped,
        /// Records that the open found in the ring of a process that died.
        RingRecovered,
        /// Offsets in that ring that were claimed and never committed.
        RingVoid,
        /// Rings that the open refused.
        RingRefused,
    }
}

counters! {
    /// What is counted for each cursor. Written by its exporter.
    CursorCounter {
        /// Records accepted by the sink.
        Exported,
        /// Records sent again.
        Retries,
        /// Records given up.
        Failed,
        /// Records skipped because the quota had dropped them.
        DroppedQuota,
        /// Records skipped because they were too old.
        DroppedAge,
        /// Records skipped because they were damaged.
        DroppedDamage,
        /// Offsets skipped because their records never became durable.
        DroppedNeverDurable,
        /// Offsets ahead of the cursor that are known to hold nothing.
        GapsAhead,
        /// Milliseconds on the boot clock of the oldest record not acknowledged, plus one; 0 if none.
        OldestSince,
        /// A [`SinkState`].
        State,
        /// Panics inside the sink.
        Panics,
        /// Records sent under another key, because the far side does not take theirs.
        KeysMapped,
        /// When the sink last accepted something or the cursor moved, in milliseconds on the boot clock.
        ProgressMs,
        /// So much later it counts as stalled, in milliseconds.
        StalledAfterMs,
        /// Records given up because the process died of them.
        CrashLoops,
        /// Records that got the time of their append: theirs was from before the time of day was known.
        TimesCorrected,
        /// Records that were sent with such a time, because nobody knew a better one.
        TimesUnknown,
    }
}

/// Where a cursor stands.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Place {
    /// The next offset to acknowledge: everything below is done.
    pub position: u64,
    /// What is acknowledged above it: rising, apart from each other and from `position`; from, to.
    pub intervals: Vec<(u64, u64), INTERVALS_MAX>,
}

/// Whose board it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The store's id.
    pub store: [u8; 16],
    /// The store's epoch.
    pub epoch: u64,
    /// The boot in which it was written.
    pub boot: u64,
    /// The process that writes it.
    pub pid: u32,
}

/// The board of one stream.
#[derive(Debug)]
pub struct Board {
    memory: Memory,
}

impl Board {
    /// How many bytes of shared memory a board takes.
    pub const LEN: usize = (WORDS * 8).next_multiple_of(crate::storage::PAGE_SIZE);

    /// A board on memory of [`Board::LEN`] bytes, with whatever stands there.
    pub fn new(memory: Memory) -> Self {
        assert!(memory.len() >= WORDS * 8);
        Self { memory }
    }

    /// Whether the memory is long enough to hold a board.
    pub fn fits(memory: &Memory) -> bool {
        memory.len() >= WORDS * 8
    }

    fn words(&self, from: usize, count: usize) -> &[AtomicU64] {
        &self.memory.words()[from..from + count]
    }

    /// Whose it is; `None` when it was never written, by this version at least.
    pub fn owner(&self) -> Option<Owner> {
        let words = self.words(0, HEADER_WORDS);
        // Acquire: pairs with the store in `take`, so the other words are its.
        if words[0].load(Ordering::Acquire) != MAGIC {
            return None;
        }
        let mut store = [0; 16];
        store[..8].copy_from_slice(&words[1].load(Ordering::Relaxed).to_le_bytes());
        store[8..].copy_from_slice(&words[2].load(Ordering::Relaxed).to_le_bytes());
        Some(Owner {
            store,
            epoch: words[3].load(Ordering::Relaxed),
            boot: words[4].load(Ordering::Relaxed),
            pid: u32::try_from(words[5].load(Ordering::Relaxed)).unwrap_or(0),
        })
    }

    /// Signs it for a run whose cursors stand at these places, and counts from nothing again.
    ///
    /// If the same store signed it before, in the same boot, it says at each moment where a cursor stands
    /// that keeps its number, and up to where records were durable: the process may die in here as well.
    /// What the cursors are suspected to die of is kept, too.
    pub fn take(&self, owner: Owner, cursors: &[(String<CURSOR_NAME_MAX>, Place)]) {
        let key = |owner: &Owner| (owner.store, owner.epoch, owner.boot);
        let is_same = self.owner().is_some_and(|old| key(&old) == key(&owner));
        let words = self.words(0, HEADER_WORDS);
        if !is_same {
            self.disown();
            clear(self.words(0, WORDS));
        }
        let before = (0..CURSORS_MAX).map(|index| self.cursor(index));
        let suspects: Vec<_, CURSORS_MAX> = before
            .map(|cursor| (cursor.name(), cursor.suspect_after()))
            .collect();
        for index in 0..CURSORS_MAX {
            let (name, place) = cursors.get(index).cloned().unwrap_or_default();
            let mut suspects = suspects.iter();
            let suspect = suspects.find(|(other, _)| !name.is_empty() && *other == name);
            let suspect = suspect.map(|(_, suspect)| *suspect);
            self.cursor(index)
                .take(&name, &place, suspect.unwrap_or_default());
        }
        let durable = StreamCounter::DurableOffset as usize;
        let counters = self.words(HEADER_WORDS, StreamCounter::COUNT);
        clear(&counters[..durable]);
        clear(&counters[durable + 1..]);
        clear(&words[REJECTED_AT..]);
        let half = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&owner.store[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        words[1].store(half(0), Ordering::Relaxed);
        words[2].store(half(8), Ordering::Relaxed);
        words[3].store(owner.epoch, Ordering::Relaxed);
        words[4].store(owner.boot, Ordering::Relaxed);
        words[5].store(u64::from(owner.pid), Ordering::Relaxed);
        // Release: a reader that sees the signature sees whose it is.
        words[0].store(MAGIC, Ordering::Release);
    }

    /// Takes the signature away: nothing that stands here is used by the next run.
    pub fn disown(&self) {
        self.words(0, 1)[0].store(0, Ordering::Release);
    }

    fn stream_word(&self, counter: StreamCounter) -> &AtomicU64 {
        &self.words(HEADER_WORDS, StreamCounter::COUNT)[counter as usize]
    }

    /// The records that were refused at append.
    pub fn rejected(&self) -> u64 {
        self.words(0, HEADER_WORDS)[REJECTED_AT].load(Ordering::Relaxed)
    }

    /// The value of a counter.
    pub fn get(&self, counter: StreamCounter) -> u64 {
        // Acquire: pairs with `set`. Who reads a counter in another process finds on the board, and in the
        // files, what was written before it: of the durable offset the life and the end of its segment.
        self.stream_word(counter).load(Ordering::Acquire)
    }

    /// Sets a counter. Only its one writer may.
    pub fn set(&self, counter: StreamCounter, value: u64) {
        // Release: see `get`.
        self.stream_word(counter).store(value, Ordering::Release);
    }

    /// Adds to a counter. Only its one writer may.
    pub fn add(&self, counter: StreamCounter, count: u64) {
        self.set(counter, self.get(counter) + count);
    }

    /// Counts records that were refused at append. Any producer may.
    pub fn count_rejected(&self, count: usize) {
        self.words(0, HEADER_WORDS)[REJECTED_AT].fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Counts an event for which there was no room. Any thread may.
    pub fn count_event_lost(&self) {
        self.words(0, HEADER_WORDS)[EVENTS_LOST_AT].fetch_add(1, Ordering::Relaxed);
    }

    /// The events for which there was no room.
    pub fn events_lost(&self) -> u64 {
        self.words(0, HEADER_WORDS)[EVENTS_LOST_AT].load(Ordering::Relaxed)
    }

    /// The part of one cursor.
    pub fn cursor(&self, index: usize) -> CursorBoard<'_> {
        assert!(index < CURSORS_MAX);
        let from = HEADER_WORDS + StreamCounter::COUNT + index * CURSOR_WORDS;
        CursorBoard {
            words: self.words(from, CURSOR_WORDS),
        }
    }

    /// Where the cursor of that name stands, if the board has it and it was not left half written.
    pub fn place_of(&self, name: &str) -> Option<Place> {
        let mut cursors = (0..CURSORS_MAX).map(|index| self.cursor(index));
        cursors
            .find(|cursor| cursor.name().as_str() == name)
            .and_then(|cursor| cursor.place())
    }
}

fn clear(words: &[AtomicU64]) {
    for word in words {
        word.store(0, Ordering::Relaxed);
    }
}

/// The instant of a record's append on this boot's clock, in milliseconds, as well as it is known.
///
/// A record of another boot is placed by the time of day; if that is unknown, it counts as new.
pub fn millis_on_this_boot(appended: Stamp, now: Stamp) -> u64 {
    if appended.boot == now.boot {
        return appended.mono_ms;
    }
    let age = match (appended.wall_ms, now.wall_ms) {
        (0, _) | (_, 0) => 0,
        (then, now) => now.saturating_sub(then),
    };
    now.mono_ms.saturating_sub(age)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board() -> Board {
        Board::new(Memory::private(Board::LEN).unwrap())
    }

    #[test]
    fn a_cursor_is_found_by_its_name() {
        let board = board();
        board.cursor(3).set_name("kinesis");
        let mut place = Place {
            position: 7,
            ..Place::default()
        };
        place.intervals.push((9, 12)).unwrap();
        board.cursor(3).set_place(&place);
        assert_eq!(board.place_of("kinesis"), Some(place));
        assert_eq!(board.place_of("file"), None);
    }

    #[test]
    fn an_error_is_cut_between_characters() {
        let board = board();
        let long = "ä".repeat(ERROR_TEXT_MAX);
        board.cursor(1).set_error(&long);
        assert_eq!(board.cursor(1).error().as_str(), &long[..ERROR_TEXT_MAX]);
        assert_eq!(cut("aä", 2), "a");
    }

    #[test]
    fn a_board_never_taken_has_no_owner() {
        let board = board();
        assert_eq!(board.owner(), None);
        let owner = Owner {
            store: [5; 16],
            epoch: 1,
            boot: 2,
            pid: 3,
        };
        board.add(StreamCounter::Syncs, 2);
        board.take(owner, &[]);
        assert_eq!(
            (board.owner(), board.get(StreamCounter::Syncs)),
            (Some(owner), 0)
        );
    }

    /// A record from before the first time sync has no known age, so it is never too old.
    #[test]
    fn a_record_of_unknown_age_counts_as_new() {
        let now = Stamp {
            boot: 2,
            mono_ms: 10_000,
            wall_ms: 1_800_000_000_000,
        };
        let old = Stamp {
            boot: 1,
            mono_ms: 5,
            wall_ms: 1_799_999_999_000,
        };
        assert_eq!(
            millis_on_this_boot(
                Stamp {
                    boot: 2,
                    mono_ms: 400,
                    wall_ms: 0
                },
                now
            ),
            400
        );
        assert_eq!(millis_on_this_boot(old, now), 9_000);
        assert_eq!(
            millis_on_this_boot(Stamp { wall_ms: 0, ..old }, now),
            10_000
        );
        assert_eq!(
            millis_on_this_boot(old, Stamp { wall_ms: 0, ..now }),
            10_000
        );
    }
}
