//! A stream with its sinks, through several runs of the engine.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use forebay::counters::Stats;

use crate::sim::clock::SimClock;
use crate::sim::delivery::{Delivery, To};
use crate::sim::oracle::Oracle;
use crate::sim::session::{SETUP, Setup};
use crate::sim::sink::Script;
use crate::sim::storage::SimDisk;

/// A stream with its sinks, through several runs of the engine.
pub struct Bench {
    pub disk: SimDisk,
    pub clock: Arc<SimClock>,
    pub setup: Setup,
    pub to: Vec<To>,
    pub oracle: Oracle,
    pub run: Delivery,
}

impl Bench {
    /// A stream with one sink.
    pub fn new(seed: u64) -> Self {
        Self::with(seed, |_| {})
    }

    /// The same with other options.
    pub fn with(seed: u64, f: impl FnOnce(&mut To)) -> Self {
        let mut to = To::new("file", seed);
        f(&mut to);
        Self::with_sinks(seed, SETUP, vec![to])
    }

    pub fn with_sinks(seed: u64, setup: Setup, to: Vec<To>) -> Self {
        let (disk, clock) = (SimDisk::new(seed), Arc::new(SimClock::new()));
        let run = Delivery::open(&disk, &clock, setup, &to).unwrap();
        Self {
            disk,
            clock,
            setup,
            to,
            oracle: Oracle::default(),
            run,
        }
    }

    /// The first sink's.
    pub fn script(&self) -> Script {
        self.to[0].script.clone()
    }

    pub fn append(&mut self, count: u64) {
        let taken = self.run.append(&mut self.oracle, count);
        assert_eq!(taken, count, "there is room");
    }

    pub fn pass(&mut self, time: Duration) {
        assert!(self.run.run(&mut self.oracle, time), "the power is on");
    }

    pub fn drain(&mut self) {
        self.run.drain(&mut self.oracle);
    }

    pub fn stats(&self) -> Stats {
        self.run.stats()
    }

    /// Closes cleanly and opens again.
    pub fn restart(&mut self) {
        assert!(self.run.close(&mut self.oracle), "it closes");
        self.disk.kill();
        self.run = Delivery::open(&self.disk, &self.clock, self.setup, &self.to).unwrap();
    }

    /// The first sink accepted just these, each once.
    pub fn assert_accepted_once(&self, offsets: Range<u64>) {
        let mut accepted = self.script().accepted();
        accepted.sort_unstable();
        assert_eq!(accepted, offsets.collect::<Vec<u64>>());
    }
}
