//! A clock that stands still until it is moved, or ticks when it is asked.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use forebay::clock::{Clock, Mono};

#[derive(Debug)]
pub struct SimClock {
    mono_ns: AtomicU64,
    wall_ms: AtomicU64,
    boot: AtomicU64,
    /// What each look at it takes.
    tick_ns: AtomicU64,
}

impl SimClock {
    pub fn new() -> Self {
        Self {
            tick_ns: AtomicU64::new(0),
            mono_ns: AtomicU64::new(5_000_000_000),
            wall_ms: AtomicU64::new(1_800_000_000_000),
            boot: AtomicU64::new(1),
        }
    }

    /// A clock that shows the same, and goes its own way.
    pub fn fork(&self) -> Self {
        let copy = |word: &AtomicU64| AtomicU64::new(word.load(Ordering::Relaxed));
        Self {
            mono_ns: copy(&self.mono_ns),
            wall_ms: copy(&self.wall_ms),
            boot: copy(&self.boot),
            tick_ns: copy(&self.tick_ns),
        }
    }

    /// From now on time passes whenever it is asked for.
    pub fn tick(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).unwrap();
        self.tick_ns.store(nanos, Ordering::Relaxed);
    }

    pub fn advance(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).unwrap();
        self.mono_ns.fetch_add(nanos, Ordering::Relaxed);
        self.wall_ms.fetch_add(nanos / 1_000_000, Ordering::Relaxed);
    }

    /// The time of day jumps.
    pub fn set_wall_ms(&self, wall_ms: u64) {
        self.wall_ms.store(wall_ms, Ordering::Relaxed);
    }

    /// The board boots again: its clock starts anew.
    pub fn reboot(&self) {
        self.boot.fetch_add(1, Ordering::Relaxed);
        self.mono_ns.store(1_000_000_000, Ordering::Relaxed);
    }
}

impl Clock for SimClock {
    fn mono(&self) -> Mono {
        let tick_ns = self.tick_ns.load(Ordering::Relaxed);
        Mono(self.mono_ns.fetch_add(tick_ns, Ordering::Relaxed))
    }

    fn wall_ms(&self) -> u64 {
        self.wall_ms.load(Ordering::Relaxed)
    }

    fn boot(&self) -> u64 {
        self.boot.load(Ordering::Relaxed)
    }
}
