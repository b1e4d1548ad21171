//! How a stream was in the last hours: a bounded row of samples for each.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Mono;
use crate::counters::Stats;

/// The time between two samples.
pub const SAMPLE_EVERY: Duration = Duration::from_secs(15);
/// The most samples of a stream: four hours.
pub const SAMPLES_MAX: usize = 960;
/// The most streams that have samples: those that come first in the configuration.
pub const STREAMS_MAX: usize = 64;

/// A piece of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Sample {
    /// Records taken, a second.
    pub taken: u32,
    /// Records delivered, a second, by all sinks.
    pub delivered: u32,
    /// Records that were to go at its end.
    pub backlog: u32,
}

/// What came and went, a second, between the last two looks.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Rates {
    /// Records taken.
    pub taken: f64,
    /// Records delivered, by all sinks.
    pub delivered: f64,
    /// Bytes handed to the device.
    pub written: f64,
}

/// The samples of all streams.
#[derive(Default)]
pub struct History {
    streams: Vec<Row>,
}

#[derive(Default)]
struct Row {
    samples: VecDeque<Sample>,
    rates: Rates,
    /// At the last look, and at the last sample.
    seen: Option<Seen>,
    sampled: Option<Seen>,
}

/// The totals at some instant.
#[derive(Clone, Copy)]
struct Seen {
    at: Mono,
    taken: u64,
    delivered: u64,
    written: u64,
}

impl Seen {
    fn of(stats: &Stats, at: Mono) -> Self {
        Self {
            at,
            taken: stats.appended_total,
            delivered: stats.exported_total,
            written: stats.written_bytes,
        }
    }

    /// What came since an earlier instant.
    #[allow(clippy::cast_precision_loss)] // shown with three digits
    fn rates_since(&self, before: &Self) -> Rates {
        let seconds = self.at.since(before.at).as_secs_f64().max(0.001);
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
        Rates {
            taken: rate(self.taken, before.taken),
            delivered: rate(self.delivered, before.delivered),
            written: rate(self.written, before.written),
        }
    }
}

impl History {
    /// Looks at the numbers of all streams, always in the same order.
    pub fn look(&mut self, stats: &[Stats], now: Mono) {
        self.streams.resize_with(stats.len(), Row::default);
        for (index, (row, stats)) in self.streams.iter_mut().zip(stats).enumerate() {
            let seen = Seen::of(stats, now);
            if let Some(before) = row.seen.replace(seen) {
                row.rates = seen.rates_since(&before);
            }
            let Some(before) = row.sampled else {
                row.sampled = Some(seen);
                continue;
            };
            // A look may come a little early.
            if now.since(before.at) + SAMPLE_EVERY / 10 < SAMPLE_EVERY || index >= STREAMS_MAX {
                continue;
            }
            row.sampled = Some(seen);
            if row.samples.len() == SAMPLES_MAX {
                row.samples.pop_front();
            }
            let rates = seen.rates_since(&before);
            row.samples.push_back(Sample {
                taken: whole(rates.taken),
                delivered: whole(rates.delivered),
                backlog: u32::try_from(stats.backlog).unwrap_or(u32::MAX),
            });
        }
    }

    /// The streams were those of `before`, and are those of `after` now.
    pub fn reorder(&mut self, before: &[String], after: &[String]) {
        let mut rows = std::mem::take(&mut self.streams);
        rows.resize_with(before.len(), Row::default);
        let mut known: Vec<_> = before.iter().zip(rows).collect();
        let take = |name| {
            let found = known.iter().position(|(known, _)| *known == name);
            found.map_or_else(Row::default, |at| known.swap_remove(at).1)
        };
        self.streams = after.iter().map(take).collect();
    }

    /// The samples of a stream, the oldest first.
    pub fn samples(&self, stream: usize) -> Vec<Sample> {
        let row = self.streams.get(stream);
        row.map_or_else(Vec::new, |row| row.samples.iter().copied().collect())
    }

    /// What came and went between the last two looks.
    pub fn rates(&self, stream: usize) -> Rates {
        self.streams
            .get(stream)
            .map(|row| row.rates)
            .unwrap_or_default()
    }
}

/// To the nearest whole number.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a cast of a float ends at the bounds
fn whole(rate: f64) -> u32 {
    rate.round() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(taken: u64, delivered: u64) -> Stats {
        Stats {
            appended_total: taken,
            exported_total: delivered,
            backlog: taken - delivered,
            ..Stats::default()
        }
    }

    #[test]
    fn a_sample_is_what_came_since_the_one_before() {
        let mut history = History::default();
        let at = |seconds: u64| Mono(seconds * 1_000_000_000);
        for (second, taken) in [(0, 100), (5, 100), (10, 150), (15, 250), (20, 250)] {
            history.look(&[stats(taken, 50)], at(second));
        }
        let sample = Sample {
            taken: 10,
            delivered: 0,
            backlog: 200,
        };
        assert_eq!(history.samples(0), [sample]);
        assert!(history.rates(0).taken.abs() < 0.01);
        history.look(&[stats(300, 200)], at(22));
        assert!((history.rates(0).taken - 25.0).abs() < 0.01);
        assert!((history.rates(0).delivered - 75.0).abs() < 0.01);
    }

    #[test]
    fn a_stream_keeps_its_samples_where_others_come_and_go() {
        let names = |names: &[&str]| {
            names
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>()
        };
        let mut history = History::default();
        history.reorder(&[], &names(&["a", "b"]));
        for n in 0..3 {
            history.look(&[stats(n, 0), stats(n * 150, 0)], Mono(n * 15_000_000_000));
        }
        let of_b = history.samples(1);
        assert_eq!(
            of_b.iter().map(|sample| sample.taken).collect::<Vec<_>>(),
            [10, 10]
        );
        history.reorder(&names(&["a", "b"]), &names(&["c", "b", "d"]));
        assert_eq!(history.samples(1), of_b);
        assert_eq!((history.samples(0), history.samples(2)), (vec![], vec![]));
    }

    #[test]
    fn samples_and_streams_have_a_bound() {
        let mut history = History::default();
        let stats = vec![stats(1, 1); STREAMS_MAX + 1];
        for n in 0..SAMPLES_MAX as u64 + 10 {
            history.look(&stats, Mono(n * 15_000_000_000));
        }
        assert_eq!(history.samples(STREAMS_MAX - 1).len(), SAMPLES_MAX);
        assert_eq!(history.samples(STREAMS_MAX).len(), 0);
        assert_eq!(history.samples(STREAMS_MAX + 1).len(), 0);
    }
}
