//! Several words that change together, behind a number that is odd while they change.
//!
//! **Threads.** One writes, and never waits. Any number read, in this process or another; who meets a change
//! reads again, and gives up when the writer seems to have died in the middle of one.

use std::sync::atomic::{self, Ordering};

use crate::watermark::order::{self, Spot};
use crate::watermark::seam;

/// So often a reader looks. Under loom, which tries all that each look may see, it gives up at once.
const LOOKS_MAX: u32 = if cfg!(loom) { 1 } else { 1000 };

/// A word that threads or processes share; the model checker has its own.
pub trait Word {
    /// See [`atomic::AtomicU64::load`].
    fn load(&self, order: Ordering) -> u64;
    /// See [`atomic::AtomicU64::store`].
    fn store(&self, value: u64, order: Ordering);
}

impl Word for atomic::AtomicU64 {
    #[inline]
    fn load(&self, order: Ordering) -> u64 {
        self.load(order)
    }

    #[inline]
    fn store(&self, value: u64, order: Ordering) {
        self.store(value, order);
    }
}

#[cfg(loom)]
impl Word for seam::AtomicU64 {
    fn load(&self, order: Ordering) -> u64 {
        self.load(order)
    }

    fn store(&self, value: u64, order: Ordering) {
        self.store(value, order);
    }
}

/// Writes `values` behind the number that stands in `words[0]`.
pub fn write_under(words: &[impl Word], values: &[u64]) {
    let sequence = words[0].load(Ordering::Relaxed) | 1;
    words[0].store(sequence, Ordering::Relaxed);
    // Release fence: who sees one of the values below also sees the odd number above.
    fence(order::at(Spot::WordsChange, Ordering::Release));
    for (word, value) in words[1..].iter().zip(values) {
        word.store(*value, Ordering::Relaxed);
    }
    // Release: who sees the even number sees all the values.
    let release = order::at(Spot::WordsChanged, Ordering::Release);
    words[0].store(sequence.wrapping_add(1), release);
}

/// Reads what [`write_under`] wrote. `None` when it stays half written.
pub fn read_under(words: &[impl Word], values: &mut [u64]) -> Option<()> {
    for _ in 0..LOOKS_MAX {
        let before = words[0].load(order::at(Spot::WordsLooked, Ordering::Acquire));
        for (value, word) in values.iter_mut().zip(&words[1..]) {
            *value = word.load(Ordering::Relaxed);
        }
        // Acquire fence: if a value above was new, the number read below is its odd one or later.
        fence(order::at(Spot::WordsRead, Ordering::Acquire));
        if before.is_multiple_of(2) && words[0].load(Ordering::Relaxed) == before {
            return Some(());
        }
        std::hint::spin_loop();
    }
    None
}

/// A fence, unless the model has taken it away.
#[inline]
fn fence(order: Ordering) {
    if order != Ordering::Relaxed {
        seam::fence(order);
    }
}
