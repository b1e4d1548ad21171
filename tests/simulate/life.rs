//! A life of a store: runs of the engine that end in every way, and what must be there after each.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

mod fan;

use crate::sim::books::{Books, Ended};
use crate::sim::clock::SimClock;
use crate::sim::delivery::{Delivery, To};
use crate::sim::letters::Dead;
use crate::sim::oracle::{Fate, Oracle};
use crate::sim::plans::{plan, vary};
use crate::sim::random::Random;
use crate::sim::session::{SETUP, Setup, new_board};
use crate::sim::shm::Shm;
use crate::sim::sink::Plan;
use crate::sim::storage::damage::Damage;
use crate::sim::storage::moments::Told;
use crate::sim::storage::{Control, Failure, SimDisk};
use crate::sim::traces;
use forebay::counters::{Board, Place};
use forebay::format::StoreId;
use forebay::segment::Io;

use fan::Fan;

/// More offsets than any run hands out.
const MANY: u64 = 1 << 24;

/// What may happen in a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Power cuts, deaths, errors that are told.
    Honest,
    /// The same with rings in shared memory.
    SharedRing,
    /// And damage to what was durable.
    Damaged,
}

/// What happened.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub lives: u64,
    /// Cuts and deaths, each with a recovery and a check.
    pub traces: u64,
    pub appended: u64,
    pub accepted: u64,
    pub dead: u64,
    pub gaps: u64,
    /// Records that came from a ring.
    pub recovered: u64,
    pub hits: u64,
    /// Records that damage cost.
    pub lost: u64,
    /// Stores of which damage left nothing, or nothing of how far their last run had come: they began anew.
    pub anew: u64,
}

impl Counts {
    pub fn add(&mut self, more: &Self) {
        let Self {
            lives,
            traces,
            appended,
            accepted,
            dead,
            gaps,
            recovered,
            hits,
            lost,
            anew,
        } = more;
        self.lives += lives;
        self.traces += traces;
        self.appended += appended;
        self.accepted += accepted;
        self.dead += dead;
        self.gaps += gaps;
        self.recovered += recovered;
        self.hits += hits;
        self.lost += lost;
        self.anew += anew;
    }
}

/// Where a cursor may stand after an open.
#[derive(Clone, Copy, Debug)]
struct Bound {
    least: u64,
    most: u64,
    /// Where it first stood: it has to do with nothing before.
    since: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Close,
    Kill,
    PowerCut,
}

struct Life {
    kind: Kind,
    disk: SimDisk,
    clock: Arc<SimClock>,
    setup: Setup,
    random: Random,
    oracle: Oracle,
    /// All sinks that there ever are.
    sinks: Vec<To>,
    /// Those of this run.
    active: Vec<usize>,
    books: BTreeMap<&'static str, Books>,
    bounds: BTreeMap<&'static str, Bound>,
    shm: Option<Shm>,
    /// What a process leaves that has no ring in shared memory.
    board: Option<Board>,
    /// All dead letters below are known.
    letters_next: u64,
    counts: Counts,
    store: Option<StoreId>,
    /// Since it was last open there was nothing that a store is known by, and a new one was begun.
    was_bare: bool,
    is_anew: bool,
    /// Where there are many images of each crash.
    fan: Option<Fan>,
}

/// A life, from a seed, with many images of each crash, and producers that do all they can.
pub fn wide_life(seed: u64, kind: Kind, control: Control) -> Counts {
    let mut life = Life::new(seed, kind);
    life.fan = Some(Fan::new(seed));
    life.change();
    live(life, control)
}

/// A life, from a seed.
pub fn life(seed: u64, kind: Kind, control: Control) -> Counts {
    live(Life::new(seed, kind), control)
}

fn live(mut life: Life, control: Control) -> Counts {
    life.disk.set_control(control);
    let mut run = life.open().expect("nothing fails yet");
    life.faults();
    for _ in 0..1 + life.random.below(6) {
        if control == Control::FailureHidden {
            life.disk.set_sync_failures(10);
        }
        let ended = life.run(&mut run);
        match life.restart(run, ended) {
            Some(next) => run = next,
            None => return life.counted(),
        }
    }
    life.end(run)
}

impl Life {
    fn new(seed: u64, kind: Kind) -> Self {
        let mut random = Random::new(seed ^ 0x51u64.rotate_left(32));
        let disk = SimDisk::new(seed);
        let drop_oldest = random.below(3) > 0;
        let names = ["first", "second", "third", "newest"];
        let sinks = names.iter().enumerate().map(|(at, name)| {
            let mut to = To::new(name, seed + at as u64);
            to.starts_newest = *name == "newest";
            to
        });
        let mut life = Self {
            kind,
            clock: Arc::new(SimClock::new()),
            setup: Setup {
                drop_oldest,
                age_max: random
                    .chance(3)
                    .then(|| Duration::from_secs(1 + random.below(400))),
                ..SETUP
            },
            oracle: Oracle::default(),
            sinks: sinks.collect(),
            active: vec![0],
            books: names
                .map(|name| (name, Books::default()))
                .into_iter()
                .collect(),
            bounds: BTreeMap::new(),
            shm: (kind == Kind::SharedRing || kind == Kind::Damaged && random.chance(4))
                .then(Shm::new),
            board: None,
            letters_next: 0,
            counts: Counts::default(),
            store: None,
            was_bare: false,
            is_anew: false,
            fan: None,
            disk,
            random,
        };
        if let Some(shm) = life.shm.clone() {
            life.disk.on_off(move || shm.die());
        }
        life.disk.set_garbage(life.random.chance(2));
        life.change();
        life
    }

    /// What may differ from run to run: sizes, sinks, their options.
    fn change(&mut self) {
        let random = &mut self.random;
        if random.chance(3) {
            let pick = |random: &mut Random, of: &[u64]| of[random.below(of.len() as u64) as usize];
            let setup = &mut self.setup;
            setup.budget = pick(random, &[1 << 20, 1 << 20, 3 << 19, 2 << 20]);
            setup.segment_bytes = pick(random, &[1 << 16, 1 << 17, 1 << 20]);
            setup.ring_size = u32::try_from(pick(random, &[1 << 16, 1 << 17])).unwrap();
            setup.ring_records = u32::try_from(pick(random, &[16, 64, 200])).unwrap();
            setup.io = if random.chance(3) { Io::Map } else { Io::Write };
            setup.reserves_all = random.chance(5);
            setup.checkpoint_interval = Duration::from_secs(pick(random, &[1, 5, 60]));
        }
        if random.chance(4) {
            let at = random.below(self.sinks.len() as u64) as usize;
            match self.active.iter().position(|other| *other == at) {
                // Gone, or renamed when another one comes.
                Some(place) if self.active.len() > 1 => drop(self.active.remove(place)),
                Some(_) => {}
                None => self.active.push(at),
            }
        }
        for to in &mut self.sinks {
            vary(to, random);
        }
        let Some(fan) = &mut self.fan else { return };
        fan.vary(&mut self.setup);
        let mut others = (0..self.sinks.len()).filter(|at| !self.active.contains(at));
        if let Some(other) = others.next().filter(|_| fan.random.chance(6)) {
            // Renamed: to the store that is another one.
            self.active[0] = other;
        }
    }

    /// Bytes that were durable change.
    fn has_damage(&self) -> bool {
        self.kind == Kind::Damaged
    }

    /// Where the cursors stand at most.
    fn positions(&self, run: &Delivery) -> Vec<u64> {
        (0..self.active.len())
            .map(|index| run.position(index))
            .collect()
    }

    /// What goes wrong from now on without being asked for.
    fn faults(&mut self) {
        let (random, disk) = (&mut self.random, &self.disk);
        disk.heal();
        let mut one_in = |often: u64, than: u64| if random.chance(often) { than } else { 0 };
        disk.set_sync_failures(one_in(5, 10));
        disk.set_read_failures(one_in(5, 40));
        let slow = one_in(6, 8);
        disk.set_slow_syncs((slow > 0).then(|| (slow, self.clock.clone())));
        if self.kind == Kind::Damaged {
            disk.set_erase_blocks(one_in(3, 20));
            disk.set_lost_writes(one_in(6, 200));
        }
        disk.set_size(if random.chance(8) {
            (1 << 19) + random.below(1 << 20)
        } else {
            u64::MAX
        });
    }

    fn note(&mut self, run: &Delivery) {
        self.oracle.forgive(self.disk.take_victims());
        self.oracle.life = self.oracle.life.max(self.disk.page_life());
        self.oracle.head_max = self.oracle.head_max.max(self.disk.head());
        for (index, at) in self.active.iter().enumerate() {
            let name = self.sinks[*at].name;
            let bound = self.bounds.get_mut(name).unwrap();
            if let Some(position) = run.session.log().checkpointed(name) {
                bound.least = bound.least.max(position);
            }
            bound.most = bound.most.max(run.position(index));
            self.oracle.cursor_max = self.oracle.cursor_max.max(bound.most);
        }
    }

    /// Opens the store and checks what is there. `None` when it did not come to its end.
    fn open(&mut self) -> Option<Delivery> {
        let to: Vec<To> = self
            .active
            .iter()
            .map(|at| self.sinks[*at].clone())
            .collect();
        let board = match &self.shm {
            Some(shm) => shm.board(),
            None => self.board.take().unwrap_or_else(new_board),
        };
        let (disk, clock) = (self.disk.clone(), self.clock.clone());
        let shm = self.shm.clone();
        self.was_bare |= self.disk.is_bare();
        self.oracle.head_max = self.oracle.head_max.max(self.disk.head());
        let run = Delivery::open_in(board, &disk, &clock, self.setup, &to, shm.as_ref());
        self.oracle.forgive(self.disk.take_victims());
        let mut run = run?;
        let store = run.session.log().shared().store;
        if *self.store.get_or_insert(store) != store {
            assert!(self.was_bare, "there was something of {:?}", self.store);
            self.is_anew = true;
            return None;
        }
        if traces() {
            let log = run.session.log();
            eprintln!("{:?}", self.disk.names());
            eprintln!("{:?} {:?}", run.session.report, log.shared().segments());
            eprintln!(
                "{:?} ring {:?}",
                log.shared().ledger().ranges(),
                run.session.ring_end
            );
        }
        let next = run
            .session
            .report
            .next
            .max(run.session.ring_end.unwrap_or(0));
        if self.oracle.is_run_forgotten(&self.oracle.now(), next) {
            self.is_anew = true;
            return None;
        }
        if !run.session.check_records(&mut self.oracle) {
            return None;
        }
        self.check_cursors(&run);
        self.note(&run);
        self.oracle.keeps_ring = self.shm.is_some();
        self.was_bare = false;
        if let Some(fan) = &mut self.fan {
            fan.producers.resume(&run.session.positions());
        }
        let (shared, ring) = (run.session.log().shared().clone(), run.session.ring.clone());
        self.watch(Arc::new(move || Told {
            durable: shared.durable.get(),
            next: ring.next_offset(),
        }));
        (!self.disk.is_off()).then_some(run)
    }

    /// No cursor went back beyond its checkpoint, and none ahead.
    fn check_cursors(&mut self, run: &Delivery) {
        let head = run.session.log().shared().head();
        let is_lost = self.oracle.damage.checkpoint;
        for (index, at) in self.active.iter().enumerate() {
            let (name, place) = (self.sinks[*at].name, run.position(index));
            let Some(bound) = self.bounds.get_mut(name) else {
                let (least, most, since) = (place, place, place);
                let bound = Bound { least, most, since };
                self.bounds.insert(name, bound);
                continue;
            };
            let least = if is_lost { 0 } else { bound.least };
            // A cursor that nobody had when the checkpoint was lost is forgotten, and new when it comes back.
            let is_new = is_lost && self.sinks[*at].starts_newest;
            let most = bound.most.max(head);
            assert!(
                is_new || (least..=most).contains(&place),
                "the cursor {name} stands at {place}, not from {least} to {most}"
            );
            bound.least = bound.least.min(place);
        }
    }

    /// A run, up to how it ends.
    fn run(&mut self, run: &mut Delivery) -> (End, Vec<Ended>) {
        let starts: Vec<(Place, usize)> = self
            .active
            .iter()
            .enumerate()
            .map(|(index, at)| {
                let place = run.session.board.cursor(index).place().unwrap();
                (place, self.sinks[*at].script.accepted().len())
            })
            .collect();
        let mut end = [End::Close, End::Kill, End::PowerCut][self.random.below(3) as usize];
        if self.random.chance(2) {
            end = if end == End::Close {
                End::PowerCut
            } else {
                end
            };
            self.disk.set_fuel(self.random.below(250));
        }
        let load = 1 + self.random.below(80);
        let mut on = true;
        for _ in 0..self.random.below(50) {
            on = self.step(run, load);
            if !on {
                break;
            }
        }
        if on && end == End::Close {
            run.close(&mut self.oracle);
            self.fan_out_moments(&self.positions(run));
            self.note(run);
        }
        self.disk.unwatch();
        if end == End::PowerCut {
            let told = Told {
                durable: run.session.log().durable(),
                next: run.session.ring.next_offset(),
            };
            self.fan_out_end(told, &self.positions(run));
        }
        self.counts.traces += u64::from(end != End::Close);
        let ended = starts
            .into_iter()
            .enumerate()
            .map(|(index, (start, count))| {
                let script = &self.sinks[self.active[index]].script;
                let ended = Ended {
                    start,
                    position: run.position(index),
                    accepted: script.accepted()[count..].to_vec(),
                    sink: run.sink_stats(index),
                };
                for offset in &ended.accepted {
                    let fate = self.oracle.fate(*offset);
                    assert_eq!(fate, Some(Fate::Promised), "{offset} was delivered");
                }
                ended
            });
        (end, ended.collect())
    }

    /// One step of a run. False when the power went.
    fn step(&mut self, run: &mut Delivery, load: u64) -> bool {
        let random = &mut self.random;
        match random.below(60) {
            0 => {
                let failure = [Failure::Io, Failure::NoSpace][random.below(2) as usize];
                self.disk
                    .fail_after(1 + random.below(30), failure, random.chance(2));
            }
            1..4 => self.disk.heal(),
            4 => self.clock.set_wall_ms(random.below(2_000_000_000_000)),
            5 if self.kind == Kind::Damaged => {
                let damage = Damage::ALL[random.below(Damage::ALL.len() as u64) as usize];
                // A name that goes while a file is open is another matter.
                if damage != Damage::Name {
                    self.disk.damage_any(damage);
                    trace(damage);
                }
            }
            _ => {}
        }
        self.oracle.forgive(self.disk.take_victims());
        let count = random.below(load);
        for at in &self.active {
            self.sinks[*at].script.set(plan(random));
        }
        let wait = match random.below(20) {
            0 => Duration::from_secs(random.below(30)),
            _ => Duration::from_millis(random.below(2000)),
        };
        let is_checked = random.chance(12);
        self.counts.appended += match &mut self.fan {
            Some(Fan {
                random, producers, ..
            }) => run
                .session
                .produce(&mut self.oracle, producers, random, count),
            None => run.append(&mut self.oracle, count),
        };
        let on = run.run(&mut self.oracle, wait);
        self.fan_out_moments(&self.positions(run));
        self.note(run);
        if on && is_checked {
            run.session.check(&mut self.oracle);
        }
        on && !self.disk.is_off()
    }

    /// The run ended; the next one begins, perhaps after some that did not get far. `None` when nothing was left
    /// of the store and a new one was begun: what is promised of offsets and lives is promised of one store.
    fn restart(&mut self, run: Delivery, (mut end, ended): (End, Vec<Ended>)) -> Option<Delivery> {
        let active = self.active.clone();
        let mut board = Some(run.board());
        drop(run);
        let mut tries = 0;
        let run = loop {
            self.die(end, board.take());
            tries += 1;
            if tries == 1 {
                self.change();
                self.faults();
            }
            if tries > 3 {
                // It must open in the end.
                self.disk.heal();
                self.disk.set_size(u64::MAX);
                self.disk.set_sync_failures(0);
                self.disk.set_read_failures(0);
            } else if self.random.chance(3) {
                self.disk.set_fuel(self.random.below(25));
            }
            let opened = self.open();
            self.counts.traces += 1;
            if self.is_anew {
                self.counts.anew += 1;
                return None;
            }
            if opened.is_none() {
                let told = Told {
                    durable: self.oracle.durable,
                    next: self.oracle.next(),
                };
                let names = self.active.iter().map(|at| self.sinks[*at].name);
                let bounds = names.map(|name| self.bounds.get(name));
                let positions = bounds.map(|bound| bound.map_or(u64::MAX, |bound| bound.most));
                let positions: Vec<u64> = positions.collect();
                self.fan_out_end(told, &positions);
            }
            self.disk.set_fuel(u64::MAX);
            match opened {
                Some(run) => break run,
                None => assert!(tries < 5, "it does not open"),
            }
            end = [End::Kill, End::PowerCut][self.random.below(2) as usize];
        };
        self.counts.recovered += run.session.report.ring_recovered;
        let failures = self.disk.set_read_failures(0);
        let letters = run.session.letters_at();
        let next = self.letters_next;
        let is_all_kept = run.session.letters_head() <= self.letters_next;
        for (at, ended) in active.iter().zip(ended) {
            let name = self.sinks[*at].name;
            let is_mine = |letter: &&(u64, Dead)| letter.0 >= next && letter.1.sink == name;
            let mine = letters.iter().filter(is_mine);
            let dead: Vec<u64> = mine.map(|(_, dead)| dead.offset).collect();
            let books = self.books.get_mut(name).unwrap();
            let passed = ended.start.position..ended.position;
            let handed_out = self.oracle.fates().map(|(offset, _)| offset);
            let handed_out = handed_out.filter(|offset| *offset >= passed.start);
            if !is_all_kept {
                // Letters that were dropped tell no more whose they were; some may be ahead of the cursor.
                books.accepted.extend(handed_out);
                continue;
            }
            if passed.end - passed.start > MANY {
                // Without a checkpoint offsets go on far behind: most of these nobody had.
                let passed = handed_out.filter(|offset| *offset < passed.end);
                books
                    .gaps
                    .extend(passed.filter(|offset| !ended.accepted.contains(offset)));
                books.accepted.extend(&ended.accepted);
                books.dead.extend(dead);
                continue;
            }
            if traces() {
                eprintln!(
                    "{name}: from {} to {}, {:?}",
                    ended.start.position, ended.position, ended.sink
                );
                eprintln!("{dead:?} of {} letters", letters.len());
            }
            let gaps = books.close(&ended, &dead);
            for offset in gaps {
                let is_there = self.oracle.fate(offset) == Some(Fate::Promised);
                let is_hit = self.oracle.damage.offsets.contains(&offset);
                let is_kept = offset >= self.oracle.head_max;
                assert!(
                    !(is_there && is_kept) || is_hit,
                    "{name} passed over {offset}"
                );
            }
        }
        self.disk.set_read_failures(failures);
        let last = letters.last().map(|(at, _)| at + 1);
        self.letters_next = last.unwrap_or(next).max(next);
        Some(run)
    }

    /// What becomes of the machine.
    fn die(&mut self, end: End, board: Option<Board>) {
        match end {
            End::Kill => {
                self.disk.kill();
                self.board = board;
                if let Some(shm) = &self.shm {
                    shm.die();
                    shm.come_back();
                }
            }
            End::Close | End::PowerCut => {
                self.disk.power_cut();
                self.clock.reboot();
                if self.random.chance(4) {
                    self.clock.set_wall_ms(self.random.below(1_000_000));
                }
                self.shm.iter().for_each(Shm::reboot);
            }
        }
        self.oracle.keeps_ring &= end == End::Kill;
        if self.kind == Kind::Damaged && self.random.chance(3) {
            let damage = Damage::ALL[self.random.below(Damage::ALL.len() as u64) as usize];
            self.disk.damage_any(damage);
            trace(damage);
        }
        self.oracle.forgive(self.disk.take_victims());
    }

    /// All faults are gone: everything arrives, and stays so.
    fn end(mut self, mut run: Delivery) -> Counts {
        let ended = {
            self.disk.heal();
            self.disk.set_size(u64::MAX);
            self.disk.set_sync_failures(0);
            self.disk.set_read_failures(0);
            self.disk.set_slow_syncs(None);
            self.disk.set_lost_writes(0);
            self.disk.set_erase_blocks(0);
            for to in &self.sinks {
                to.script.set(Plan::accept());
            }
            let starts = self.active.iter().enumerate().map(|(index, at)| {
                let place = run.session.board.cursor(index).place().unwrap();
                (place, self.sinks[*at].script.accepted().len())
            });
            let starts: Vec<_> = starts.collect();
            self.counts.appended += run.append(&mut self.oracle, 10);
            run.drain(&mut self.oracle);
            assert!(run.close(&mut self.oracle), "it closes");
            self.fan_out_moments(&self.positions(&run));
            self.note(&run);
            self.disk.unwatch();
            starts
                .into_iter()
                .enumerate()
                .map(|(index, (start, count))| Ended {
                    start,
                    position: run.position(index),
                    accepted: self.sinks[self.active[index]].script.accepted()[count..].to_vec(),
                    sink: run.sink_stats(index),
                })
                .collect()
        };
        let (kind, active) = (self.kind, self.active.clone());
        self.kind = Kind::Honest;
        let run = self.restart(run, (End::Close, ended));
        let run = run.expect("nothing is hit any more");
        self.kind = kind;
        self.disk.unwatch();
        drop(run);
        let is_lost = self.oracle.damage.checkpoint;
        for (name, books) in &self.books {
            let Some(bound) = self.bounds.get(name) else {
                continue;
            };
            let is_active = active.iter().any(|at| self.sinks[*at].name == *name);
            for (offset, fate) in self
                .oracle
                .fates()
                .filter(|(offset, _)| *offset >= bound.since)
            {
                let is_there = books.accepted.contains(&offset) || books.dead.contains(&offset);
                let is_known = is_there || books.gaps.contains(&offset);
                if fate == Fate::Promised && is_active {
                    assert!(
                        is_known || is_lost,
                        "the durable record {offset} is nowhere for {name}"
                    );
                }
            }
            self.counts.accepted += books.accepted.len() as u64;
            self.counts.dead += books.dead.len() as u64;
            self.counts.gaps += books.gaps.len() as u64;
        }
        self.counted()
    }

    fn counted(mut self) -> Counts {
        self.counts.lives = 1;
        self.counts.hits = self.oracle.damage.hits;
        self.counts.lost = self.oracle.forgiven;
        self.counts
    }
}

fn trace(damage: Damage) {
    if traces() {
        eprintln!("{damage:?}");
    }
}
