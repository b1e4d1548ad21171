//! What is to be seen of an engine: its streams' numbers, and whether it works.
//!
//! **Threads.** The main thread writes; whoever answers reads. Numbers come from the streams' boards, without
//! a lock. The locks around the rest are held for moments.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::history::{History, Rates, Sample};
use crate::clock::Mono;
use crate::config::Config;
use crate::counters::Stats;
use crate::engine::{Engine, Stream};
use crate::input::Running;
use crate::watermark::seam::Mutex;

/// So many events are remembered: the newest.
const EVENTS_KEPT: usize = 20;

/// See the module's description.
pub struct View {
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
struct State {
    phase: Phase,
    /// So long nothing may move while records wait.
    limit: Duration,
    streams: Arc<[Watched]>,
    inputs: Arc<[Running]>,
    /// What is wrong with a thread.
    stuck: Option<String>,
}

/// All streams and their numbers at one instant.
pub struct Now {
    /// So long nothing may move while records wait.
    pub limit: Duration,
    /// The streams, in the order of the configuration; none while they are being opened for the first time.
    pub streams: Arc<[Watched]>,
    /// Their numbers, in the same order.
    pub stats: Vec<Stats>,
}

impl Now {
    /// Each stream with its numbers.
    pub fn each(&self) -> impl Iterator<Item = (&Watched, &Stats)> {
        self.streams.iter().zip(&self.stats)
    }
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

/// Of an engine that is not open yet.
impl Default for View {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                phase: Phase::Opening,
                limit: Duration::MAX,
                streams: Arc::new([]),
                inputs: Arc::new([]),
                stuck: None,
            }),
            history: Mutex::default(),
            events: Mutex::default(),
        }
    }
}

impl View {
    /// The engine is open, for the first time or again. What is known of a stream that was there before is
    /// kept.
    pub fn open(&self, config: &Config, engine: &Engine, inputs: &[Running]) {
        let streams = config.streams.iter().filter_map(|options| {
            let buffer = &options.buffer;
            Some(Watched {
                stream: engine.stream(&options.name).ok()?,
                budget: buffer.max_disk_bytes,
                ring_records: buffer.max_buffered_records.into(),
                is_memory: buffer.medium == crate::config::Medium::Memory,
            })
        });
        let streams: Arc<[Watched]> = streams.collect();
        let names = |streams: &[Watched]| -> Vec<String> {
            let names = streams.iter().map(|watched| watched.stream.name());
            names.map(str::to_owned).collect()
        };
        let mut state = self.state.lock();
        let (before, after) = (names(&state.streams), names(&streams));
        self.history.lock().reorder(&before, &after);
        state.phase = Phase::Serving;
        state.limit = config.service().stalled;
        state.streams = streams;
        state.inputs = inputs.into();
        state.stuck = None;
    }

    /// The engine is about to be opened again.
    pub fn reopens(&self) {
        self.state.lock().phase = Phase::Opening;
    }

    /// The engine takes no more.
    pub fn stop(&self) {
        self.state.lock().phase = Phase::Stopping;
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
    pub fn look(&self, at: Mono) {
        let now = self.now();
        self.history.lock().look(&now.stats, at);
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

    /// The inputs, in the order of the configuration.
    pub fn inputs(&self) -> Arc<[Running]> {
        Arc::clone(&self.state.lock().inputs)
    }

    /// How far the process is.
    pub fn phase(&self) -> Phase {
        self.state.lock().phase
    }

    /// The streams and their numbers.
    pub fn now(&self) -> Now {
        let state = self.state.lock();
        let (limit, streams) = (state.limit, Arc::clone(&state.streams));
        drop(state);
        let stats = streams.iter().map(|watched| watched.stream.stats());
        Now {
            limit,
            stats: stats.collect(),
            streams,
        }
    }
}
