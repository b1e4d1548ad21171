//! Copies of the disk as it is in the middle of what happens: there the power might have gone.

use std::sync::Arc;

use super::{SimDisk, World};
use crate::sim::random::Random;

/// What had been said when a copy was taken.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// Everything below is durable.
    pub durable: u64,
    /// Offsets below were handed out.
    pub next: u64,
}

pub type Watch = Arc<dyn Fn() -> Told + Send + Sync>;

/// The most copies before somebody takes them.
const TAKEN_MAX: usize = 6;

/// When copies are taken, and those that were. A copy takes none of its own.
#[derive(Default)]
pub(super) struct Moments {
    /// One in so many operations, and who is asked what had been said.
    asked: Option<(u64, Random, Watch)>,
    taken: Vec<(SimDisk, Told)>,
}

impl Clone for Moments {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl World {
    /// Before an operation.
    pub(super) fn take_moment(&mut self) {
        let moments = &mut self.moments;
        let Some((one_in, random, watch)) = &mut moments.asked else {
            return;
        };
        if moments.taken.len() == TAKEN_MAX || !random.chance(*one_in) {
            return;
        }
        let told = watch();
        let copy = SimDisk::of(self.clone());
        self.moments.taken.push((copy, told));
    }
}

impl SimDisk {
    /// One in so many operations may be the last one in a world that is like this one up to there.
    pub fn watch(&self, one_in: u64, random: Random, watch: Watch) {
        let before = self.world().moments.asked.replace((one_in, random, watch));
        // It may hold the last handle of a file, which asks for this world.
        drop(before);
    }

    pub fn unwatch(&self) {
        let before = self.world().moments.asked.take();
        drop(before);
    }

    /// The copies since this was last asked.
    pub fn take_moments(&self) -> Vec<(Self, Told)> {
        std::mem::take(&mut self.world().moments.taken)
    }

    /// From now on other things happen than in what it is a copy of.
    pub fn reseed(&self, seed: u64) {
        self.world().random = Random::new(seed);
    }
}
