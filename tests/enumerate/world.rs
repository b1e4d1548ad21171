//! A store that is about to roll, recycle and write checkpoints, and what is done with it in each case.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::sim::clock::SimClock;
use super::sim::oracle::Oracle;
use super::sim::random::Random;
use super::sim::session::{CHECKPOINT_INTERVAL, INTERVAL, Session, Setup};
use super::sim::storage::SimDisk;

/// What happens in a step of the script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Open,
    Append,
    Roll,
    Recycle,
    Checkpoint,
    Close,
}

impl Kind {
    /// Those whose every operation is tried.
    pub const ALL: [Self; 6] = [
        Self::Open,
        Self::Append,
        Self::Roll,
        Self::Recycle,
        Self::Checkpoint,
        Self::Close,
    ];
}

pub struct World {
    pub disk: SimDisk,
    clock: Arc<SimClock>,
    oracle: Oracle,
    random: Random,
    setup: Setup,
    next_id: u64,
}

impl World {
    fn new(seed: u64, setup: Setup) -> Self {
        Self {
            disk: SimDisk::new(seed),
            clock: Arc::new(SimClock::new()),
            oracle: Oracle::default(),
            random: Random::new(seed ^ 0xabcd),
            setup,
            next_id: 1,
        }
    }

    /// The same once more; nobody may have it open.
    pub fn fork(&self) -> Self {
        Self {
            disk: self.disk.fork(),
            clock: Arc::new(SimClock::new()),
            oracle: self.oracle.clone(),
            random: self.random.clone(),
            setup: self.setup,
            next_id: self.next_id,
        }
    }

    pub fn lose_power(&mut self) {
        self.disk.power_cut();
        self.clock.reboot();
    }

    /// Opens the store and checks what is there. `None` when the power went, or a call failed.
    fn open(&mut self) -> Option<Session> {
        let mut session = Session::open(&self.disk, &self.clock, self.setup)?;
        // The checks read what is there; that a call fails is not their business.
        self.disk.pause_calls(true);
        session.check_opened(&mut self.oracle);
        session.note(&mut self.oracle);
        self.disk.pause_calls(false);
        (!self.disk.is_off()).then_some(session)
    }

    fn append(&mut self, session: &mut Session, count: u64) {
        for _ in 0..count {
            if session.append(&mut self.oracle, self.next_id) {
                self.next_id += 1;
            }
        }
    }

    fn step(&mut self, session: &mut Session, wait: Duration) -> bool {
        let is_on = session.step(&mut self.oracle, wait);
        session.note(&mut self.oracle);
        is_on
    }

    /// Opens, appends until a segment was rolled and one recycled, with checkpoints in between, and closes.
    /// `seen` is told of each step from which operation on it went, and what came of it.
    pub fn script(&mut self, seen: &mut dyn FnMut(Kind, u64)) {
        let mut session = self.open();
        if session.is_none() && !self.disk.is_off() {
            // A call failed; the engine is started again.
            self.disk.kill();
            session = self.open();
        }
        let Some(mut session) = session else { return };
        seen(Kind::Open, self.disk.ops());
        for round in 0..16 {
            let before = last_segment(&session);
            self.append(&mut session, 45);
            if !self.step(&mut session, INTERVAL) {
                return;
            }
            let after = last_segment(&session);
            let kind = match (before, after) {
                (Some((base, _)), Some((new, is_new))) if base != new => match is_new {
                    true => Kind::Roll,
                    false => Kind::Recycle,
                },
                _ => Kind::Append,
            };
            seen(kind, self.disk.ops());
            if round % 5 == 1 {
                session.acknowledge(&mut self.oracle, &mut self.random);
                if !self.step(&mut session, CHECKPOINT_INTERVAL) {
                    return;
                }
                seen(Kind::Checkpoint, self.disk.ops());
            }
        }
        session.close(&mut self.oracle);
        session.note(&mut self.oracle);
        seen(Kind::Close, self.disk.ops());
    }

    /// Opens and goes on for a moment.
    pub fn recover(&mut self) {
        let Some(mut session) = self.open() else {
            return;
        };
        for count in [3, 40] {
            self.append(&mut session, count);
            if !self.step(&mut session, INTERVAL) {
                return;
            }
        }
        self.step(&mut session, CHECKPOINT_INTERVAL);
    }

    /// Opens and closes, twice.
    pub fn end(&mut self) {
        for _ in 0..2 {
            let mut session = self.open().expect("nothing goes wrong any more");
            self.append(&mut session, 2);
            self.step(&mut session, INTERVAL);
            session.check(&mut self.oracle);
            assert!(session.close(&mut self.oracle), "it closes");
            session.note(&mut self.oracle);
            drop(session);
            self.disk.kill();
        }
    }
}

/// Where the last segment begins, and whether its file has the greatest number there is: it was made, and
/// not recycled.
fn last_segment(session: &Session) -> Option<(u64, bool)> {
    let segments = session.log().shared().segments();
    let number_max = segments.iter().map(|segment| segment.number).max();
    let last = segments.last()?;
    Some((last.base, Some(last.number) == number_max))
}

/// A store that has nearly used up its budget.
pub struct Prepared(World);

impl Prepared {
    pub fn new(seed: u64, setup: Setup, is_clean: bool) -> Self {
        let mut world = World::new(seed, setup);
        let mut session = world.open().unwrap();
        let mut last = None;
        // The last but one segment of the budget is nearly full.
        while session.log().shared().segments().len() < 3 {
            world.append(&mut session, 45);
            world.step(&mut session, INTERVAL);
            if world.next_id.is_multiple_of(8) {
                session.acknowledge(&mut world.oracle, &mut world.random);
            }
            let now = last_segment(&session);
            last = last.max(now);
            assert!(
                world.disk.ops() < 2000,
                "{:?}",
                session.log().shared().segments()
            );
        }
        for _ in 0..4 {
            world.append(&mut session, 45);
            world.step(&mut session, INTERVAL);
        }
        if is_clean {
            assert!(session.close(&mut world.oracle));
            session.note(&mut world.oracle);
        }
        drop(session);
        world.disk.kill();
        Self(world)
    }

    pub fn world(&self) -> World {
        self.0.fork()
    }

    /// The operations of the script, counted from its start, by what is done in them. Of mere appends there
    /// are but the first.
    pub fn windows(&self) -> Vec<(Kind, Range<u64>)> {
        let mut world = self.world();
        let start = world.disk.ops();
        let mut windows: Vec<(Kind, Range<u64>)> = Vec::new();
        let mut from = 0;
        world.script(&mut |kind, ops| {
            let window = from..ops - start;
            from = ops - start;
            let limit = match kind {
                Kind::Append => 1,
                _ => 2,
            };
            let known = windows.iter().filter(|(known, _)| *known == kind).count();
            if known < limit {
                windows.push((kind, window));
            }
        });
        windows
    }
}
