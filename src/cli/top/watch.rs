//! What is to be seen of streams, look by look: numbers, rates between two looks, and how they were.

use std::collections::VecDeque;
use std::path::Path;

use crate::cli::stats::{self, Store};
use crate::clock::{Clock, Mono, System};
use crate::counters::{Health, SinkState, Stats};
use crate::log::board_in;
use crate::storage::Real;

/// So many looks are remembered: as wide as a line of blocks can be.
pub const LOOKS_MAX: usize = 120;
/// A store that nobody has open is read again after so many looks.
const STOPPED_LOOKS: u32 = 15;

/// All streams.
pub struct Watch {
    streams: Vec<Watched>,
}

struct Watched {
    name: String,
    store: Store,
    life: Life,
    stats: Stats,
    /// Looks since the store was read, while nobody has it open.
    age: u32,
    seen: Option<Mono>,
    taken: Track,
    written: Track,
    delivered: Vec<Track>,
}

/// Whether a stream is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Somebody has it open.
    Live,
    /// Nobody has.
    Stopped,
    /// There is no store, or none that can be read.
    Absent,
}

/// How well a row is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    Good,
    Odd,
    Bad,
    Plain,
}

/// A line of the table: a stream, or one of its sinks.
#[derive(Clone, Debug)]
pub struct Row {
    pub is_sink: bool,
    pub name: String,
    pub state: &'static str,
    pub tone: Tone,
    /// Records a second; [`None`]: of another row, or not known yet.
    pub taken: Option<f64>,
    pub delivered: Option<f64>,
    pub backlog: u64,
    /// How long the oldest of them has waited, in milliseconds.
    pub lag_ms: u64,
    /// Records that a sink never got.
    pub lost: u64,
    /// Bytes a second that the device gets.
    pub written: Option<f64>,
    /// Bytes that the device got for each record since the open.
    pub wear: Option<f64>,
    /// Bytes of disk that the store takes.
    pub disk: Option<u64>,
    /// Records a second, the oldest first.
    pub history: Vec<f64>,
    pub error: String,
}

/// A total, and how fast it grew.
#[derive(Default)]
struct Track {
    total: Option<u64>,
    rates: VecDeque<f64>,
}

impl Track {
    /// `seconds` since the last look. A total that is less than it was has begun anew.
    #[allow(clippy::cast_precision_loss)] // shown with three digits
    fn look(&mut self, total: u64, seconds: f64) {
        if let Some(before) = self.total.replace(total) {
            if self.rates.len() == LOOKS_MAX {
                self.rates.pop_front();
            }
            self.rates
                .push_back(total.saturating_sub(before) as f64 / seconds);
        }
    }

    /// Nobody counts: it stands still, and begins anew.
    fn pause(&mut self) {
        if self.total.is_some() {
            self.look(0, 1.0);
            self.total = Some(0);
        }
    }

    fn rate(&self) -> Option<f64> {
        self.rates.back().copied()
    }
}

impl Watch {
    pub fn new(stores: Vec<(String, Store)>) -> Self {
        let streams = stores.into_iter().map(|(name, store)| Watched {
            name,
            store,
            life: Life::Absent,
            stats: Stats::default(),
            age: 0,
            seen: None,
            taken: Track::default(),
            written: Track::default(),
            delivered: Vec::new(),
        });
        Self {
            streams: streams.collect(),
        }
    }

    /// Looks at all streams.
    pub fn look(&mut self, clock: &System) {
        for stream in &mut self.streams {
            stream.look(clock);
        }
    }

    /// What the last look saw.
    pub fn rows(&self) -> Vec<Row> {
        self.streams.iter().flat_map(Watched::rows).collect()
    }
}

impl Watched {
    fn path(&self) -> &Path {
        let (Store::Disk(path) | Store::Memory(path)) = &self.store;
        path
    }

    fn look(&mut self, clock: &System) {
        let now = clock.mono();
        let before = self.seen.replace(now);
        let seconds = before.map_or(1.0, |before| now.since(before).as_secs_f64());
        if let Some(board) = board_in(self.path(), &Real) {
            self.stats = board.snapshot(None, clock.stamp());
            self.life = Life::Live;
            self.count(seconds.max(0.001));
            return;
        }
        self.taken.pause();
        self.written.pause();
        self.delivered.iter_mut().for_each(Track::pause);
        self.age += 1;
        if self.life == Life::Live || before.is_none() || self.age >= STOPPED_LOOKS {
            self.age = 0;
            self.read();
        }
    }

    /// Takes the numbers of a store that nobody has open.
    fn read(&mut self) {
        let read = match &self.store {
            Store::Disk(path) => stats::snapshot(path).ok(),
            // What it held is gone.
            Store::Memory(_) => Some((Stats::default(), false)),
        };
        self.life = match &read {
            Some(_) => Life::Stopped,
            None => Life::Absent,
        };
        self.stats = read.map(|(stats, _)| stats).unwrap_or_default();
    }

    fn count(&mut self, seconds: f64) {
        self.taken.look(self.stats.appended_total, seconds);
        self.written.look(self.stats.written_bytes, seconds);
        self.delivered
            .resize_with(self.stats.sinks.len(), Track::default);
        for (track, sink) in self.delivered.iter_mut().zip(&self.stats.sinks) {
            track.look(sink.exported_total, seconds);
        }
    }

    fn rows(&self) -> Vec<Row> {
        let (stats, is_live) = (&self.stats, self.life == Life::Live);
        let (state, tone) = match (self.life, stats.health) {
            (Life::Absent, _) => ("absent", Tone::Bad),
            (Life::Stopped, _) => ("stopped", Tone::Odd),
            (Life::Live, Health::Ok) => ("live", Tone::Good),
            (Life::Live, health) => (health.name(), Tone::Bad),
        };
        let now = |track: &Track| track.rate().filter(|_| is_live);
        let delivered: Vec<Option<f64>> = self.delivered.iter().map(now).collect();
        let sum: Option<f64> = delivered.iter().copied().sum();
        let on_disk = matches!(self.store, Store::Disk(_));
        let oldest = stats.oldest_unacked_age_ms;
        let stream = Row {
            is_sink: false,
            name: self.name.clone(),
            state,
            tone,
            taken: now(&self.taken),
            delivered: sum.filter(|_| is_live && !delivered.is_empty()),
            backlog: stats.backlog,
            lag_ms: oldest,
            lost: stats.dropped_total,
            written: now(&self.written).filter(|_| on_disk),
            wear: wear(stats).filter(|_| on_disk && is_live),
            disk: on_disk.then_some(stats.allocated_bytes),
            history: self.taken.rates.iter().copied().collect(),
            error: String::new(),
        };
        let mut rows = vec![stream];
        for (index, sink) in stats.sinks.iter().enumerate() {
            let tone = match (sink.state, sink.health) {
                _ if !is_live => Tone::Plain,
                (SinkState::Idle | SinkState::Ok, Health::Ok) => Tone::Good,
                (SinkState::Throttled | SinkState::Backoff, _) => Tone::Odd,
                _ => Tone::Bad,
            };
            let state = match (is_live, sink.health) {
                (false, _) => "",
                (true, Health::Stalled) => "stalled",
                (true, _) => sink.state.name(),
            };
            let track = self.delivered.get(index);
            let history = track.map(|track| track.rates.iter().copied().collect());
            rows.push(Row {
                is_sink: true,
                name: sink.name.as_str().to_owned(),
                state,
                tone,
                taken: None,
                delivered: track.and_then(now),
                backlog: sink.backlog,
                lag_ms: sink.oldest_unacked_age_ms,
                lost: sink.dropped_total,
                written: None,
                wear: None,
                disk: None,
                history: history.unwrap_or_default(),
                error: match tone {
                    Tone::Odd | Tone::Bad => sink.last_export_error.as_str().to_owned(),
                    Tone::Good | Tone::Plain => String::new(),
                },
            });
        }
        rows
    }
}

/// What each record cost of the flash, all that is written for it included.
#[allow(clippy::cast_precision_loss)] // shown with three digits
fn wear(stats: &Stats) -> Option<f64> {
    let written = stats.written_bytes as f64;
    (stats.appended_total > 0).then(|| written / stats.appended_total as f64)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn a_rate_is_what_came_since_the_look_before_and_looks_have_a_bound() {
        let mut track = Track::default();
        track.look(100, 2.0);
        assert_eq!(track.rate(), None);
        track.look(150, 2.0);
        assert_eq!(track.rate(), Some(25.0));
        // It was opened anew.
        track.look(10, 2.0);
        assert_eq!(track.rate(), Some(0.0));
        track.pause();
        assert_eq!(track.rate(), Some(0.0));
        track.look(30, 3.0);
        assert_eq!(track.rate(), Some(10.0));
        for n in 0..2 * LOOKS_MAX as u64 {
            track.look(n, 1.0);
        }
        assert_eq!(track.rates.len(), LOOKS_MAX);
    }

    #[test]
    fn a_store_that_is_not_there_is_absent() {
        let nowhere = PathBuf::from("is/not/there");
        let mut watch = Watch::new(vec![
            ("a".to_owned(), Store::Disk(nowhere.clone())),
            ("b".to_owned(), Store::Memory(nowhere)),
        ]);
        let clock = System::new();
        for _ in 0..3 {
            watch.look(&clock);
            let states: Vec<_> = watch.rows().iter().map(|row| row.state).collect();
            assert_eq!(states, ["absent", "stopped"]);
        }
    }
}
