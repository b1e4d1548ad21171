//! Whether every thread of an engine makes progress or has nothing to do.
//!
//! A thread is stuck when it has been at one turn for too long; or when records wait in a ring, nothing
//! becomes durable, and its syncer does not even wake up to try. A medium that is full, or a link that is
//! down, is no such thing: there the threads try, and wait between two tries.

use std::time::Duration;

use crate::clock::Mono;
use crate::counters::Stats;
use crate::engine::Engine;
use crate::watermark::heartbeat::Heartbeat;

/// Remembers what it saw, and since when.
pub struct Alive {
    limit: Duration,
    /// A record may wait so much longer for its sync, as configured.
    sync_interval: Duration,
    threads: Vec<Since<u64>>,
    streams: Vec<Since<Sync>>,
}

/// How far a stream's syncer is.
#[derive(PartialEq)]
struct Sync {
    durable: u64,
    wakeups: u64,
    is_waiting: bool,
}

/// A number, and since when it has been the same.
struct Since<T> {
    value: T,
    at: Mono,
}

impl<T: PartialEq> Since<T> {
    /// For how long it has been this value.
    fn look(known: &mut Vec<Self>, index: usize, value: T, now: Mono) -> Duration {
        match known.get_mut(index) {
            Some(since) if since.value == value => now.since(since.at),
            Some(since) => {
                *since = Self { value, at: now };
                Duration::ZERO
            }
            None => {
                known.push(Self { value, at: now });
                Duration::ZERO
            }
        }
    }
}

impl Alive {
    /// One that calls a thread stuck after `limit`; records are synced at most `sync_interval` after their
    /// append.
    pub fn new(limit: Duration, sync_interval: Duration) -> Self {
        Self {
            limit,
            sync_interval,
            threads: Vec::new(),
            streams: Vec::new(),
        }
    }

    /// Looks at all of them; says what is stuck. [`None`]: nothing.
    pub fn look(&mut self, engine: &Engine, now: Mono) -> Option<String> {
        if engine.is_poisoned() {
            return Some("a thread panicked".to_owned());
        }
        let mut stuck = None;
        for (index, (name, beat)) in engine.heartbeats().into_iter().enumerate() {
            let still = Since::look(&mut self.threads, index, beat, now);
            if Heartbeat::is_at_work(beat) && still > self.limit {
                let still = still.as_secs();
                stuck.get_or_insert(format!("thread {name} has been at one turn for {still} s"));
            }
        }
        for (index, name) in engine.stream_names().into_iter().enumerate() {
            let Some(stats) = engine.stats(name) else {
                continue;
            };
            let seen = Sync {
                durable: stats.durable_offset,
                wakeups: stats.wakeups_total,
                is_waiting: is_waiting(&stats),
            };
            let still = Since::look(&mut self.streams, index, seen, now);
            if is_waiting(&stats) && still > self.limit.saturating_add(self.sync_interval) {
                let (queued, still) = (stats.queued, still.as_secs());
                let text =
                    format!("{name}: {queued} records wait, nothing is synced for {still} s");
                stuck.get_or_insert(text);
            }
        }
        stuck
    }
}

/// Records wait to become durable, and no producer holds them up.
fn is_waiting(stats: &Stats) -> bool {
    stats.queued > 0 && stats.oldest_uncommitted_ms == 0
}
