//! What is to be seen of an engine: its streams' numbers, and whether it works.
//!
//! **Threads.** The main thread writes; whoever answers reads. Numbers come from the streams' boards, without
//! a lock. The lock around the rest is held for moments.

use std::collections::VecDeque;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::history::{History, Rates, Sample};
use crate::clock::Mono;
use crate::config::Config;
use crate::counters::Stats;
use crate::engine::{Engine, Stream};
use crate::watermark::seam::Mutex;

/// So many events are remembered: the newest.
const EVENTS_KEPT: usize = 20;

/// See the module's description.
pub struct View {
    /// So long nothing may move while records wait.
    pub limit: Duration,
    streams: OnceLock<Vec<Watched>>,
    is_stopping: AtomicBool,
    state: Mutex<State>,
    history: Mutex<History>,
    /// When, by the time of day, and what.
    events: Mutex<VecDeque<(u64, String)>>,
}

/// A stream, and how much it may hold.
pub struct Watched {
    /// The stream.
    pub stream: Stream,
    /// Its budget, in bytes.
    pub budget: u64,
    /// The most records in its ring.
    pub ring_records: u64,
    /// It lies in memory.
    pub is_memory: bool,
}

/// What changes seldom.
#[derive(Default)]
struct State {
    /// What is wrong with a thread.
    stuck: Option<String>,
}

/// How far the process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// What is stored is being recovered.
    Opening,
    /// Records are taken.
    Serving,
    /// No more records are taken.
    Stopping,
}

impl View {
    /// One of an engine that is not open yet.
    pub fn new(limit: Duration) -> Self {
        Self {
            limit,
            streams: OnceLock::new(),
            is_stopping: AtomicBool::new(false),
            state: Mutex::default(),
            history: Mutex::default(),
            events: Mutex::default(),
        }
    }

    /// The engine is open.
    pub fn open(&self, config: &Config, engine: &Engine) {
        let streams = config.streams.iter().filter_map(|options| {
            let buffer = &options.buffer;
            Some(Watched {
                stream: engine.stream(&options.name).ok()?,
                budget: buffer.max_disk_bytes,
                ring_records: buffer.max_buffered_records.into(),
                is_memory: buffer.medium == crate::config::Medium::Memory,
            })
        });
        let _ = self.streams.set(streams.collect());
    }

    /// The engine takes no more.
    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::Relaxed);
    }

    /// Remembers whether a thread is stuck.
    pub fn set_stuck(&self, stuck: Option<String>) {
        self.state.lock().stuck = stuck;
    }

    /// What is wrong with a thread, if anything is.
    pub fn stuck(&self) -> Option<String> {
        self.state.lock().stuck.clone()
    }

    /// Remembers how the streams are now.
    pub fn look(&self, now: Mono) {
        let stats = self.stats();
        self.history.lock().look(&stats, now);
    }

    /// How a stream was, the oldest first, and what came and went between the last two looks.
    pub fn history(&self, stream: usize) -> (Vec<Sample>, Rates) {
        let history = self.history.lock();
        (history.samples(stream), history.rates(stream))
    }

    /// Remembers that something happened.
    pub fn happened(&self, wall_ms: u64, what: String) {
        let mut events = self.events.lock();
        if events.len() == EVENTS_KEPT {
            events.pop_front();
        }
        events.push_back((wall_ms, what));
    }

    /// What happened and when, the oldest first.
    pub fn events(&self) -> Vec<(u64, String)> {
        self.events.lock().iter().cloned().collect()
    }

    /// How far the process is.
    pub fn phase(&self) -> Phase {
        match (self.is_stopping.load(Ordering::Relaxed), self.streams.get()) {
            (true, _) => Phase::Stopping,
            (false, None) => Phase::Opening,
            (false, Some(_)) => Phase::Serving,
        }
    }

    /// The streams, in the order of the configuration; none while they are being opened.
    pub fn streams(&self) -> &[Watched] {
        self.streams.get().map_or(&[], Vec::as_slice)
    }

    /// Their numbers, in the same order.
    pub fn stats(&self) -> Vec<Stats> {
        let streams = self.streams().iter();
        streams.map(|watched| watched.stream.stats()).collect()
    }
}
