//! A store through several runs of its disk side: scripts and chance decide what happens to it.

use std::sync::Arc;
use std::time::Duration;

#[path = "harm.rs"]
mod harm;

use crate::sim::clock::SimClock;
use crate::sim::oracle::Oracle;
use crate::sim::random::Random;
use crate::sim::session::{
    ALIKE, BULKY, CHECKPOINT_INTERVAL, INTERVAL, RING_RECORDS, SETUP, Session, Setup,
};
use crate::sim::storage::{Control, SimDisk};

/// One store through several runs of the engine.
pub struct World {
    pub disk: SimDisk,
    pub clock: Arc<SimClock>,
    pub oracle: Oracle,
    pub random: Random,
    pub setup: Setup,
    pub next_id: u64,
    /// The medium flips bytes and brings up wrong pages while the power is off.
    pub is_harmed: bool,
}

impl World {
    pub fn new(seed: u64, setup: Setup) -> Self {
        Self {
            disk: SimDisk::new(seed),
            clock: Arc::new(SimClock::new()),
            oracle: Oracle::default(),
            random: Random::new(seed ^ 0xabcd),
            setup,
            next_id: 1,
            is_harmed: false,
        }
    }

    /// Opens the store and checks what is there. `None` when the power went.
    pub fn open(&mut self) -> Option<Session> {
        let mut session = Session::open(&self.disk, &self.clock, self.setup)?;
        if std::env::var("TRACE").is_ok() {
            eprintln!(
                "{:?} {:?}",
                session.report,
                session.log().shared().segments()
            );
        }
        session.check_opened(&mut self.oracle);
        session.note(&mut self.oracle);
        (!self.disk.is_off()).then_some(session)
    }

    pub fn append(&mut self, session: &mut Session, count: u64) {
        for _ in 0..count {
            if session.append(&mut self.oracle, self.next_id) {
                self.next_id += 1;
            }
        }
    }

    /// One step of a run, by chance. False when the power went.
    pub fn step(&mut self, session: &mut Session) -> bool {
        if std::env::var("TRACE").is_ok() {
            let log = session.log();
            eprintln!(
                "ops {} head {} durable {} next {} {:?}",
                self.disk.ops(),
                log.shared().head(),
                log.durable(),
                log.next(),
                log.shared().segments(),
            );
        }
        let on = match self.random.below(16) {
            0..8 => {
                let count = 1 + self.random.below(30);
                self.append(session, count);
                session.step(&mut self.oracle, INTERVAL)
            }
            // Nothing is due: the records wait in the ring.
            8..10 => {
                let count = 1 + self.random.below(5);
                self.append(session, count);
                session.step(&mut self.oracle, Duration::ZERO)
            }
            10..12 => {
                session.acknowledge(&mut self.oracle, &mut self.random);
                session.step(&mut self.oracle, INTERVAL)
            }
            12 => session.step(&mut self.oracle, CHECKPOINT_INTERVAL),
            13 => {
                session.check(&mut self.oracle);
                true
            }
            _ => {
                self.append(session, 1);
                session.step(&mut self.oracle, INTERVAL)
            }
        };
        session.note(&mut self.oracle);
        on && !self.disk.is_off()
    }

    /// A run of so many steps; then it closes, or the process dies, or the power goes.
    pub fn run(&mut self, steps: u64, end: End) {
        if let Some(mut session) = self.open() {
            let mut on = true;
            for _ in 0..steps {
                on = on && self.step(&mut session);
            }
            if on && end == End::Close {
                session.close(&mut self.oracle);
            }
            session.note(&mut self.oracle);
        }
        if std::env::var("TRACE").is_ok() {
            eprintln!("{end:?}");
        }
        match end {
            End::Kill => self.disk.kill(),
            End::Close | End::PowerCut => {
                self.disk.power_cut();
                if self.is_harmed {
                    harm::harm(&self.disk, &mut self.oracle, &mut self.random);
                }
            }
        }
        self.clock.reboot();
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Close,
    Kill,
    PowerCut,
}

/// Random lives of stores, with failing syncs and garbage, cut at random.
pub fn random_life(seed: u64, control: Control) {
    let mut random = Random::new(seed);
    let setup = Setup {
        drop_oldest: random.below(3) > 0,
        // What a crash leaves is never taken for damage.
        is_strict: random.chance(2),
        // Some segments grow too old while they are wanted, some while they are written.
        age_max: random
            .chance(2)
            .then(|| Duration::from_secs(1 + random.below(40))),
        reserves_all: random.chance(4),
        ..SETUP
    };
    let mut world = World::new(seed, setup);
    world.disk.set_control(control);
    world.disk.set_garbage(random.chance(2));
    if random.chance(4) || control == Control::FailureHidden {
        world.disk.set_sync_failures(10);
    }
    for _ in 0..2 + random.below(6) {
        if random.below(4) > 0 {
            world.disk.set_fuel(random.below(120));
        }
        let end = [End::Close, End::Kill, End::PowerCut][random.below(3) as usize];
        let steps = random.below(40);
        world.run(steps, end);
    }
    world.disk.set_sync_failures(0);
    world.run(3, End::Close);
    world.run(0, End::Close);
}

/// Lives on a medium that does damage, too, with rings of other sizes from run to run, records of the same
/// size in some, and syncs that fail often in others.
pub fn rough_life(seed: u64) {
    let mut random = Random::new(seed ^ 0x7007);
    let setup = Setup {
        drop_oldest: random.below(3) > 0,
        ..SETUP
    };
    let mut world = World::new(seed, setup);
    world.is_harmed = true;
    world.disk.set_garbage(random.chance(2));
    world.next_id = [1, ALIKE, BULKY][random.below(3) as usize];
    world.setup.segment_bytes = [1 << 16, 1 << 20][random.below(2) as usize];
    if random.chance(3) {
        world.disk.set_sync_failures(3 + random.below(8));
    }
    for _ in 0..3 + random.below(6) {
        world.setup.ring_records = [8, 16, RING_RECORDS][random.below(3) as usize];
        if random.below(4) > 0 {
            let fuel = 10 << random.below(4);
            world.disk.set_fuel(random.below(fuel));
        }
        let end = [End::Close, End::Kill, End::PowerCut, End::PowerCut][random.below(4) as usize];
        let steps = random.below(25);
        world.run(steps, end);
    }
    world.disk.set_sync_failures(0);
    world.run(3, End::Close);
    world.run(0, End::Close);
}
