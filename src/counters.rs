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
//! not the boot, so cursors found on it after a crash are exact where the checkpoint's are older.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use heapless::{String, Vec};

use crate::clock::Stamp;
use crate::storage::Memory;

mod stats;

pub use stats::{SinkState, SinkStats, Stats};

/// The most cursors that a stream has.
pub const CURSORS_MAX: usize = 16;
/// The longest name of a cursor, in bytes.
pub const CURSOR_NAME_MAX: usize = 64;
/// The most acknowledged intervals above a cursor's position.
pub const INTERVALS_MAX: usize = 8;
/// The longest text of an error on the board, in bytes; what is longer is cut.
pub const ERROR_TEXT_MAX: usize = 160;

const MAGIC: u64 = u64::from_le_bytes(*b"forebay\x01");
const HEADER_WORDS: usize = 8;
const NAME_WORDS: usize = CURSOR_NAME_MAX / 8;
const PLACE_WORDS: usize = 2 + 2 * INTERVALS_MAX;
const TEXT_WORDS: usize = 1 + ERROR_TEXT_MAX / 8;
const CURSOR_WORDS: usize = NAME_WORDS + 1 + PLACE_WORDS + CursorCounter::COUNT + 1 + TEXT_WORDS;
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
    /// What is counted once per stream. Written by the syncer, except `Rejected`.
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
        /// Records that were damaged.
        Corrupt,
        /// Records dropped by a policy while no sink was there to skip them.
        DroppedUnread,
        /// Records refused at append. The producers' own.
        Rejected,
        /// Records in the ring as of the syncer's last turn.
        Queued,
        /// When the syncer first saw the record that is claimed and not committed, in milliseconds on
        /// the boot clock; 0 when there is none.
        UncommittedSinceMs,
        /// Syncs that failed, and segments given up for it.
        Poisoned,
        /// Wake-ups of the syncer's thread.
        Wakeups,
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

    /// Clears it and signs it.
    pub fn take(&self, owner: Owner) {
        for word in self.words(0, WORDS) {
            word.store(0, Ordering::Relaxed);
        }
        let words = self.words(0, HEADER_WORDS);
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

    fn stream_word(&self, counter: StreamCounter) -> &AtomicU64 {
        &self.words(HEADER_WORDS, StreamCounter::COUNT)[counter as usize]
    }

    /// The value of a counter.
    pub fn get(&self, counter: StreamCounter) -> u64 {
        self.stream_word(counter).load(Ordering::Relaxed)
    }

    /// Sets a counter. Only its one writer may.
    pub fn set(&self, counter: StreamCounter, value: u64) {
        self.stream_word(counter).store(value, Ordering::Relaxed);
    }

    /// Adds to a counter. Only its one writer may.
    pub fn add(&self, counter: StreamCounter, count: u64) {
        self.set(counter, self.get(counter) + count);
    }

    /// Counts a record that was refused at append. Any producer may.
    pub fn count_rejected(&self) {
        self.stream_word(StreamCounter::Rejected)
            .fetch_add(1, Ordering::Relaxed);
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

/// One cursor's part of the board.
#[derive(Clone, Copy, Debug)]
pub struct CursorBoard<'a> {
    words: &'a [AtomicU64],
}

impl CursorBoard<'_> {
    const PLACE_AT: usize = NAME_WORDS;
    const COUNTERS_AT: usize = Self::PLACE_AT + 1 + PLACE_WORDS;
    const TEXT_AT: usize = Self::COUNTERS_AT + CursorCounter::COUNT;

    /// The cursor's name; empty when nobody has taken this part.
    pub fn name(&self) -> String<CURSOR_NAME_MAX> {
        text_from(&self.words[..NAME_WORDS])
    }

    /// Names it. Done once, before the other threads start.
    pub fn set_name(&self, name: &str) {
        text_to(&self.words[..NAME_WORDS], name);
    }

    /// Publishes where the cursor stands.
    pub fn set_place(&self, place: &Place) {
        let mut words = [0u64; PLACE_WORDS];
        words[0] = place.position;
        words[1] = place.intervals.len() as u64;
        for (interval, pair) in place.intervals.iter().zip(words[2..].chunks_exact_mut(2)) {
            (pair[0], pair[1]) = *interval;
        }
        write_under(&self.words[Self::PLACE_AT..], &words);
    }

    /// Where the cursor stands. `None` when its process died while it wrote that down.
    pub fn place(&self) -> Option<Place> {
        let mut words = [0u64; PLACE_WORDS];
        read_under(&self.words[Self::PLACE_AT..], &mut words)?;
        let count = usize::try_from(words[1])
            .ok()
            .filter(|count| *count <= INTERVALS_MAX)?;
        let pairs = words[2..].chunks_exact(2).take(count);
        Some(Place {
            position: words[0],
            intervals: pairs.map(|pair| (pair[0], pair[1])).collect(),
        })
    }

    /// The value of a counter.
    pub fn get(&self, counter: CursorCounter) -> u64 {
        self.words[Self::COUNTERS_AT + counter as usize].load(Ordering::Relaxed)
    }

    /// Sets a counter. Only the cursor's exporter may.
    pub fn set(&self, counter: CursorCounter, value: u64) {
        self.words[Self::COUNTERS_AT + counter as usize].store(value, Ordering::Relaxed);
    }

    /// Adds to a counter. Only the cursor's exporter may.
    pub fn add(&self, counter: CursorCounter, count: u64) {
        self.set(counter, self.get(counter) + count);
    }

    /// Publishes the sink's last error, cut to [`ERROR_TEXT_MAX`] bytes.
    pub fn set_error(&self, text: &str) {
        let mut words = [0u64; TEXT_WORDS];
        let text = cut(text, ERROR_TEXT_MAX);
        words[0] = text.len() as u64;
        for (word, bytes) in words[1..].iter_mut().zip(text.as_bytes().chunks(8)) {
            *word = pack(bytes);
        }
        write_under(&self.words[Self::TEXT_AT..], &words);
    }

    /// The sink's last error; empty when there was none.
    pub fn error(&self) -> String<ERROR_TEXT_MAX> {
        let mut words = [0u64; TEXT_WORDS];
        if read_under(&self.words[Self::TEXT_AT..], &mut words).is_none() {
            return String::new();
        }
        let mut bytes = [0u8; ERROR_TEXT_MAX];
        for (bytes, word) in bytes.chunks_exact_mut(8).zip(&words[1..]) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        let len = usize::try_from(words[0]).map_or(0, |len| len.min(ERROR_TEXT_MAX));
        let text = std::str::from_utf8(&bytes[..len]).unwrap_or_default();
        text.try_into().unwrap_or_default()
    }
}

/// The longest part of `text` that has at most `len_max` bytes and ends between two characters.
pub fn cut(text: &str, len_max: usize) -> &str {
    let end = (0..=len_max.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

fn pack(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

fn text_to(words: &[AtomicU64], text: &str) {
    assert!(text.len() <= words.len() * 8);
    for (word, bytes) in words.iter().zip(text.as_bytes().chunks(8)) {
        word.store(pack(bytes), Ordering::Relaxed);
    }
}

fn text_from<const LEN: usize>(words: &[AtomicU64]) -> String<LEN> {
    let bytes = words
        .iter()
        .flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes());
    let bytes: Vec<u8, LEN> = bytes.take_while(|byte| *byte != 0).take(LEN).collect();
    String::from_utf8(bytes).unwrap_or_default()
}

/// Writes `values` behind the sequence number that stands in `words[0]`.
fn write_under(words: &[AtomicU64], values: &[u64]) {
    let sequence = words[0].load(Ordering::Relaxed) | 1;
    words[0].store(sequence, Ordering::Relaxed);
    // Release fence: who sees one of the values below also sees the odd number above.
    fence(Ordering::Release);
    for (word, value) in words[1..].iter().zip(values) {
        word.store(*value, Ordering::Relaxed);
    }
    // Release: who sees the even number sees all the values.
    words[0].store(sequence.wrapping_add(1), Ordering::Release);
}

/// Reads what [`write_under`] wrote. `None` when it stays half written.
fn read_under(words: &[AtomicU64], values: &mut [u64]) -> Option<()> {
    const TRIES: usize = 1000;
    for _ in 0..TRIES {
        let before = words[0].load(Ordering::Acquire);
        for (value, word) in values.iter_mut().zip(&words[1..]) {
            *value = word.load(Ordering::Relaxed);
        }
        // Acquire fence: if a value above was new, the number read below is its odd one or later.
        fence(Ordering::Acquire);
        if before % 2 == 0 && words[0].load(Ordering::Relaxed) == before {
            return Some(());
        }
        std::hint::spin_loop();
    }
    None
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
    fn a_place_left_half_written_is_not_believed() {
        let board = board();
        board.cursor(0).set_name("file");
        board.cursor(0).set_place(&Place {
            position: 7,
            ..Place::default()
        });
        let word = &board.cursor(0).words[CursorBoard::PLACE_AT];
        word.store(word.load(Ordering::Relaxed) | 1, Ordering::Relaxed);
        assert_eq!(board.place_of("file"), None);
        board.cursor(0).set_place(&Place {
            position: 8,
            ..Place::default()
        });
        assert_eq!(board.place_of("file").unwrap().position, 8);
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
        board.take(owner);
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
