//! A sign of life of one thread, for whoever watches over it.
//!
//! ```text
//!  its thread:  turn ─▶ turn ─▶ rest (parked) ─▶ turn …   a watcher: at work, and the same number as before
//! ```
//!
//! **Threads.** One thread writes it; any may read it, without a lock.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts the turns of a thread, and says whether it rests between two of them.
#[derive(Debug, Default)]
pub struct Heartbeat(AtomicU64);

impl Heartbeat {
    /// The thread begins a turn.
    pub fn turn(&self) {
        // Relaxed: the number stands for nothing but itself.
        let beat = self.0.load(Ordering::Relaxed);
        self.0.store((beat | 1).wrapping_add(2), Ordering::Relaxed);
    }

    /// The thread has nothing to do, and waits.
    pub fn rest(&self) {
        let beat = self.0.load(Ordering::Relaxed);
        self.0.store(beat & !1, Ordering::Relaxed);
    }

    /// Where it stands: another number after each turn.
    pub fn beat(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Whether a thread whose number this is was at work.
    pub fn is_at_work(beat: u64) -> bool {
        beat & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_turn_is_another_number_and_a_rest_is_none_at_work() {
        let heart = Heartbeat::default();
        assert!(!Heartbeat::is_at_work(heart.beat()));
        let mut before = heart.beat();
        for _ in 0..3 {
            heart.turn();
            assert!(Heartbeat::is_at_work(heart.beat()) && heart.beat() != before);
            before = heart.beat();
        }
        heart.rest();
        assert!(!Heartbeat::is_at_work(heart.beat()));
        heart.turn();
        assert!(heart.beat() != before);
    }
}
