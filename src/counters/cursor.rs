//! One cursor's part of the board, and what consists of several words: under a sequence number.

use std::sync::atomic::{AtomicU64, Ordering};

use heapless::{String, Vec};

use super::sequence::{read_under, write_under};
use super::{
    CURSOR_NAME_MAX, CursorCounter, ERROR_TEXT_MAX, INTERVALS_MAX, NAME_WORDS, PLACE_WORDS, Place,
    TEXT_WORDS,
};

/// One cursor's part of the board.
#[derive(Clone, Copy, Debug)]
pub struct CursorBoard<'a> {
    pub(super) words: &'a [AtomicU64],
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::Board;
    use crate::storage::Memory;

    #[test]
    fn a_place_left_half_written_is_not_believed() {
        let board = Board::new(Memory::private(Board::LEN).unwrap());
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
}
