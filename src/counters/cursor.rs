//! One cursor's part of the board, and what consists of several words: under a sequence number.

use std::sync::atomic::{AtomicU64, Ordering};

use heapless::{String, Vec};

use super::sequence::{read_under, write_under};
use super::{
    CURSOR_NAME_MAX, CursorCounter, ERROR_TEXT_MAX, INTERVALS_MAX, NAME_WORDS, PLACE_WORDS, Place,
    Suspect, TEXT_WORDS, clear,
};

/// The bits of a place's first word that say how many intervals it has; its number stands above them.
const COUNT_BITS: u32 = 8;

/// One cursor's part of the board.
#[derive(Clone, Copy, Debug)]
pub struct CursorBoard<'a> {
    pub(super) words: &'a [AtomicU64],
}

impl CursorBoard<'_> {
    const PLACE_AT: usize = NAME_WORDS;
    const COUNTERS_AT: usize = Self::PLACE_AT + 2 * (1 + PLACE_WORDS);
    const TEXT_AT: usize = Self::COUNTERS_AT + CursorCounter::COUNT;

    /// The cursor's name; empty when nobody has taken this part.
    pub fn name(&self) -> String<CURSOR_NAME_MAX> {
        text_from(&self.words[..NAME_WORDS])
    }

    /// Names it. Done once, before the other threads start.
    pub fn set_name(&self, name: &str) {
        text_to(&self.words[..NAME_WORDS], name);
    }

    /// Takes this part over for a run. One that had the same name says where it stands all the time.
    pub(super) fn take(&self, name: &str, place: &Place, suspect: Suspect) {
        if self.name().as_str() != name {
            clear(self.words);
        }
        self.set_place(place);
        self.set_name(name);
        clear(&self.words[Self::COUNTERS_AT..]);
        self.set_suspect(suspect);
    }

    /// Publishes where the cursor stands, beside the place before, which stays until this one is whole.
    pub fn set_place(&self, place: &Place) {
        let number = |words: [u64; PLACE_WORDS]| words[0] >> COUNT_BITS;
        let (last, at) = match self.places().map(|words| words.map(number)) {
            [Some(first), Some(second)] if first < second => (second, 0),
            [Some(first), _] => (first, 1),
            [None, second] => (second.unwrap_or(0), 0),
        };
        let mut words = [0u64; PLACE_WORDS];
        words[0] = (last + 1) << COUNT_BITS | place.intervals.len() as u64;
        words[1] = place.position;
        for (interval, pair) in place.intervals.iter().zip(words[2..].chunks_exact_mut(2)) {
            (pair[0], pair[1]) = *interval;
        }
        write_under(self.place_words(at), &words);
    }

    /// Where the cursor stands: the newer of two places that is whole.
    pub fn place(&self) -> Option<Place> {
        let whole = self.places().into_iter().flatten();
        let words = whole.max_by_key(|words| words[0])?;
        let count = usize::try_from(words[0] & ((1 << COUNT_BITS) - 1))
            .ok()
            .filter(|count| *count <= INTERVALS_MAX)?;
        let pairs = words[2..].chunks_exact(2).take(count);
        Some(Place {
            position: words[1],
            intervals: pairs.map(|pair| (pair[0], pair[1])).collect(),
        })
    }

    fn place_words(&self, at: usize) -> &[AtomicU64] {
        &self.words[Self::PLACE_AT + at * (1 + PLACE_WORDS)..][..=PLACE_WORDS]
    }

    /// Both places. `None` for one that is not whole: its process died while it wrote that down.
    fn places(&self) -> [Option<[u64; PLACE_WORDS]>; 2] {
        [0, 1].map(|at| {
            let mut words = [0u64; PLACE_WORDS];
            read_under(self.place_words(at), &mut words).map(|()| words)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::Board;
    use crate::storage::Memory;

    fn at(position: u64) -> Place {
        Place {
            position,
            ..Place::default()
        }
    }

    /// `G-098`: wherever the process dies while it publishes a place, the one before is there.
    #[test]
    fn a_place_left_half_written_is_not_believed_and_the_one_before_is() {
        let board = Board::new(Memory::private(Board::LEN).unwrap());
        let cursor = board.cursor(0);
        cursor.set_name("file");
        for position in 7..20 {
            cursor.set_place(&at(position));
            assert_eq!(board.place_of("file"), Some(at(position)));
            let [first, second] = cursor
                .places()
                .map(|words| words.map_or(0, |words| words[0]));
            // The next one goes where the older stands, and is cut off there.
            let word = &cursor.place_words(usize::from(second < first))[0];
            word.store(word.load(Ordering::Relaxed) | 1, Ordering::Relaxed);
            assert_eq!(board.place_of("file"), Some(at(position)));
        }
    }

    /// `G-098`: a run that takes over the board of the one before does not lose its places for a moment.
    #[test]
    fn a_board_taken_over_tells_the_places_all_the_time() {
        let board = Board::new(Memory::private(Board::LEN).unwrap());
        let owner = crate::counters::Owner {
            store: [5; 16],
            epoch: 1,
            boot: 2,
            pid: 3,
        };
        let name = String::try_from("file").unwrap();
        board.take(owner, &[(name.clone(), at(7))]);
        let (board, done) = (&board, &std::sync::atomic::AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for run in 0..2000 {
                    board.cursor(0).set_place(&at(8 + run));
                    board.take(
                        crate::counters::Owner { pid: 4, ..owner },
                        &[(name.clone(), at(8 + run))],
                    );
                }
                done.store(true, Ordering::Release);
            });
            let mut last = 7;
            while !done.load(Ordering::Acquire) {
                assert!(board.owner().is_some());
                let position = board.place_of("file").unwrap().position;
                assert!(position >= last, "{position} after {last}");
                last = position;
            }
        });
        // Another store's, or one of another boot, it does not tell.
        board.take(crate::counters::Owner { boot: 9, ..owner }, &[]);
        assert_eq!(board.place_of("file"), None);
    }
}
