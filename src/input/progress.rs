//! What an input has done, by reason, and the order to stop.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::Thread;

#[cfg(feature = "input-feed")]
use super::system::Wake;

/// Names of what is counted, and what they mean.
pub const MEANINGS: [(&str, &str); 10] = [
    ("records", "Records taken into the stream."),
    (
        "malformed",
        "Records that made no sense, or of which a part that was asked for did not.",
    ),
    (
        "refused",
        "Records for which there was no room, or which the stream does not take.",
    ),
    ("too long", "Records that were too long."),
    ("too early", "Records whose own time lies before 2024."),
    ("over the rate", "Datagrams beyond the rate."),
    (
        "denied",
        "Connections and datagrams of who may not send, and connections without a place.",
    ),
    (
        "lost",
        "Datagrams that the system dropped before they were received.",
    ),
    (
        "perhaps repeated",
        "Records that their sender says it may have sent before.",
    ),
    ("restarts", "How often it began again after a failure."),
];

/// What an input has done, and the order to stop. Shared with whoever watches it.
#[derive(Debug, Default)]
pub struct Progress {
    stop: AtomicBool,
    ended: AtomicBool,
    /// Records that came, whatever became of them.
    pub received: AtomicU64,
    /// Records appended.
    pub records: AtomicU64,
    /// Records that made no sense, or of which a part that was asked for did not.
    pub malformed: AtomicU64,
    /// Records passed over because a bound was broken or there was no room.
    pub refused: AtomicU64,
    /// Records passed over because they were longer than the input takes.
    pub too_long: AtomicU64,
    /// Records whose own time lies before 2024.
    pub early: AtomicU64,
    /// Records passed over because there were too many in a second.
    pub limited: AtomicU64,
    /// Datagrams and connections of peers that may not send, or for which there was no place.
    pub denied: AtomicU64,
    /// Records that the system dropped before the input saw them.
    pub lost: AtomicU64,
    /// Records that their sender says it may have sent before.
    pub repeated: AtomicU64,
    /// How often the input began again after a failure.
    pub restarts: AtomicU64,
    /// Connections that are open now, where there is such a thing.
    pub connections: AtomicU64,
    /// Its thread, which the order to stop wakes.
    pub(super) thread: OnceLock<Thread>,
    /// Woken by the order to stop, too.
    #[cfg(feature = "input-feed")]
    pub(super) wake: Wake,
}

impl Progress {
    /// Tells the input to end after the record at hand.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
        #[cfg(feature = "input-feed")]
        self.wake.wake();
    }

    /// Whether it was told to stop.
    pub fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Whether its source has ended, or it has stopped.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    /// So many connections are open.
    #[cfg(any(feature = "input-unix", feature = "input-tcp", feature = "input-mqtt"))]
    pub(super) fn set_connections(&self, count: usize) {
        self.connections.store(count as u64, Ordering::Relaxed);
    }

    pub(super) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// A record came.
    pub(super) fn receive(&self) {
        Self::count(&self.received);
    }

    /// What became of what came: the name of each number, what it means, and the number.
    pub fn counts(&self) -> [(&'static str, &'static str, u64); 10] {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let number = |(name, meaning), counter| (name, meaning, load(counter));
        [
            number(MEANINGS[0], &self.records),
            number(MEANINGS[1], &self.malformed),
            number(MEANINGS[2], &self.refused),
            number(MEANINGS[3], &self.too_long),
            number(MEANINGS[4], &self.early),
            number(MEANINGS[5], &self.limited),
            number(MEANINGS[6], &self.denied),
            number(MEANINGS[7], &self.lost),
            number(MEANINGS[8], &self.repeated),
            number(MEANINGS[9], &self.restarts),
        ]
    }

    /// All that was counted, for people: the first three, and of the others those that are not zero.
    pub fn summary(&self) -> String {
        let counts = self.counts().into_iter().enumerate();
        let shown = counts.filter(|(at, (_, _, count))| *at < 3 || *count > 0);
        let shown: Vec<_> = shown
            .map(|(_, (name, _, count))| format!("{count} {name}"))
            .collect();
        shown.join(", ")
    }
}
