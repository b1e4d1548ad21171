//! What is to be seen of an engine: its streams' numbers, and whether it works.
//!
//! **Threads.** The main thread writes; whoever answers reads. Numbers come from the streams' boards, without
//! a lock. The lock around the rest is held for moments.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::config::Config;
use crate::counters::Stats;
use crate::engine::{Engine, Stream};
use crate::watermark::seam::Mutex;

/// See the module's description.
pub struct View {
    /// So long nothing may move while records wait.
    pub limit: Duration,
    streams: OnceLock<Vec<Watched>>,
    is_stopping: AtomicBool,
    state: Mutex<State>,
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
