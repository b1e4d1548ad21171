//! Many images of one crash: of what was not synced something else reached the medium in each. Each is
//! recovered and checked, and then forgotten.

use std::sync::Arc;

use forebay::counters::StreamCounter;
use forebay::format::CHECKPOINT_FILE_SIZE;
use forebay::log::{BatchBuffer, Opened, Reader};

use super::Life;
use crate::sim::clock::SimClock;
use crate::sim::oracle::{Found, Moment};
use crate::sim::producers::Producers;
use crate::sim::random::Random;
use crate::sim::session::{BUDGET, CursorSetup, Setup, new_batch, new_board, open_log, read_all};
use crate::sim::storage::SimDisk;
use crate::sim::storage::damage::{Damage, Victims};
use crate::sim::storage::moments::{Told, Watch};
use crate::sim::traces;

/// One in so many operations of a run is one at which the power goes in another world.
const MOMENT_ONE_IN: u64 = 8;
/// So many images of each such moment, and of the end of a run.
const IMAGES_OF_MOMENT: u64 = 4;
const IMAGES_OF_END: u64 = 8;
/// Many more lives than a run takes.
const LIVES_APART: u64 = 1 << 14;
/// The most operations of a recovery before it is cut, too.
const FUEL_MAX: u64 = 25;

/// What a life needs for it, with chances of its own.
pub struct Fan {
    pub random: Random,
    pub producers: Producers,
    batch: BatchBuffer,
    /// Images that were cut, recovered and checked.
    images: u64,
    /// Of which nothing was left that a store is known by.
    anew: u64,
}

/// An image that was recovered.
struct Image {
    disk: SimDisk,
    clock: Arc<SimClock>,
    opened: Opened,
    /// What damage may have cost since the moment.
    damage: Victims,
    /// The greatest life of a page before the open, the greatest head, and the bytes that the files took.
    life: u64,
    head: u64,
    allocated: u64,
    /// Nothing told that there was a store.
    was_bare: bool,
}

impl Fan {
    pub fn new(seed: u64) -> Self {
        Self {
            random: Random::new(seed ^ 0xfa9),
            producers: Producers::default(),
            batch: new_batch(),
            images: 0,
            anew: 0,
        }
    }

    /// Small stores roll and recycle more often, and are read sooner.
    pub fn vary(&mut self, setup: &mut Setup) {
        if self.random.below(4) > 0 {
            (setup.budget, setup.segment_bytes) = (BUDGET, 1 << 16);
        }
    }

    /// What becomes of the machine.
    fn die(&mut self, disk: &SimDisk, clock: &SimClock, is_damaged: bool) -> Victims {
        if self.random.chance(8) {
            disk.kill();
        } else {
            disk.power_cut();
            clock.reboot();
        }
        if is_damaged && self.random.chance(3) {
            let at = self.random.below(Damage::ALL.len() as u64);
            disk.damage_any(Damage::ALL[usize::try_from(at).unwrap()]);
        }
        disk.take_victims()
    }
}

impl Life {
    /// From now on there are images of what the run does.
    pub(super) fn watch(&mut self, watch: Watch) {
        if let Some(fan) = &mut self.fan {
            let random = Random::new(fan.random.next());
            self.disk.watch(MOMENT_ONE_IN, random, watch);
        }
    }

    /// Checks images of the moments since this was last asked; cursors stand where `positions` say, at most.
    pub(super) fn fan_out_moments(&mut self, positions: &[u64]) {
        for (disk, told) in self.disk.take_moments() {
            self.fan_out(&disk, told, IMAGES_OF_MOMENT, positions);
        }
    }

    /// Checks images of what there is now.
    pub(super) fn fan_out_end(&mut self, told: Told, positions: &[u64]) {
        let disk = self.disk.fork();
        self.fan_out(&disk, told, IMAGES_OF_END, positions);
    }

    fn fan_out(&mut self, disk: &SimDisk, told: Told, count: u64, positions: &[u64]) {
        let Some(mut fan) = self.fan.take() else {
            return;
        };
        for _ in 0..count {
            let image = self.image(&mut fan, disk);
            self.check_image(&mut fan, image, told, positions);
        }
        self.counts.traces += std::mem::take(&mut fan.images);
        self.counts.anew += std::mem::take(&mut fan.anew);
        self.fan = Some(fan);
    }

    /// Cuts the power, and recovers.
    fn image(&self, fan: &mut Fan, of: &SimDisk) -> Image {
        let disk = of.fork();
        let clock = Arc::new(self.clock.fork());
        disk.reseed(fan.random.next());
        disk.heal();
        disk.set_slow_syncs(None);
        disk.set_garbage(fan.random.chance(2));
        if fan.random.below(8) > 0 {
            disk.set_sync_failures(0);
            disk.set_read_failures(0);
        }
        if fan.random.chance(2) {
            disk.set_size(u64::MAX);
        }
        let mut damage = self.oracle.damage.clone();
        damage.extend(disk.take_victims());
        let is_damaged = self.has_damage();
        damage.extend(fan.die(&disk, &clock, is_damaged));
        let mut was_bare = false;
        for tries in 0.. {
            was_bare |= damage.hits > 0 && disk.is_bare();
            if tries < 2 && fan.random.chance(4) {
                disk.set_fuel(fan.random.below(FUEL_MAX));
            } else if tries >= 2 {
                disk.set_size(u64::MAX);
                disk.set_sync_failures(0);
                disk.set_read_failures(0);
            }
            let (life, head, allocated) = (disk.page_life(), disk.head(), disk.allocated());
            let opened = self.open_image(&disk, &clock);
            if let Some(opened) = opened.filter(|_| !disk.is_off()) {
                disk.set_fuel(u64::MAX);
                return Image {
                    disk,
                    clock,
                    opened,
                    damage,
                    life,
                    head,
                    allocated,
                    was_bare,
                };
            }
            assert!(tries < 4, "it does not open");
            damage.extend(fan.die(&disk, &clock, is_damaged));
        }
        unreachable!("it opens, or does not")
    }

    fn open_image(&self, disk: &SimDisk, clock: &Arc<SimClock>) -> Option<Opened> {
        let to = self.active.iter().map(|at| &self.sinks[*at]);
        let cursors = to.map(|to| (to.name.try_into().unwrap(), to.starts_newest));
        let cursors: Vec<CursorSetup> = cursors.collect();
        let nothing = |_: &_| forebay::ring::Left::Nothing;
        open_log(disk, clock, self.setup, &cursors, new_board(), &nothing)
    }

    fn check_image(&self, fan: &mut Fan, mut image: Image, told: Told, positions: &[u64]) {
        image.damage.extend(image.disk.take_victims());
        let Image {
            disk,
            clock,
            opened,
            damage,
            ..
        } = &image;
        let shared = opened.log.shared().clone();
        if traces() {
            eprintln!("image: {:?} {told:?} {:?}", opened.report, damage.hits);
            eprintln!("{:?} {:?}", shared.segments(), shared.ledger().ranges());
        }
        if self.store != Some(shared.store) {
            assert!(image.was_bare && damage.hits > 0, "it was this store");
            fan.anew += 1;
            return;
        }
        let moment = Moment {
            durable: told.durable,
            next: told.next,
            head: disk.head(),
            damage,
        };
        let oracle = &self.oracle;
        if oracle.is_run_forgotten(&moment, opened.report.next) {
            fan.anew += 1;
            return;
        }
        let mut reader = Reader::new(shared.clone(), clock.clone()).unwrap();
        let head = shared.head();
        let seen = (oracle, &moment);
        let (offsets, _) = read_all(disk, &mut reader, &mut fan.batch, seen, head);
        let reached = oracle.head_max.max(oracle.cursor_max).max(image.head);
        let reached = positions.iter().copied().max().unwrap_or(0).max(reached);
        assert!(head <= reached, "the head {head} was never so far");
        let life = opened.board.get(StreamCounter::Life);
        // What says which lives were taken may all be lost; then it is far from each of them.
        let is_apart = damage.checkpoint && life.abs_diff(image.life) > LIVES_APART;
        assert!(life > image.life || is_apart, "life {life} was used before");
        let next = opened.report.next;
        let sources = shared.sources().clone();
        oracle.check_positions(&moment, &sources, &offsets, (head, next));
        let ledger = shared.ledger().ranges().to_vec();
        oracle.check_opened(
            &moment,
            &Found {
                head,
                durable_head: head,
                next,
                durable: opened.log.durable(),
                ring_end: None,
                offsets: &offsets,
                ledger: &ledger,
                evidence: opened.report.evidence,
                settled: disk.opened(),
            },
        );
        for (index, (at, most)) in self.active.iter().zip(positions).enumerate() {
            let name = self.sinks[*at].name;
            let place = opened.board.cursor(index).place().unwrap().position;
            let Some(bound) = self.bounds.get(name).filter(|_| !damage.checkpoint) else {
                continue;
            };
            let bound = bound.least..=bound.most.max(*most).max(head);
            assert!(
                bound.contains(&place),
                "the cursor {name} stands at {place}, not in {bound:?}"
            );
        }
        let allocated = disk.allocated() + 4096;
        // A store may be above a quota that was made smaller; and a checkpoint that was lost is made anew.
        let anew = if damage.checkpoint {
            CHECKPOINT_FILE_SIZE
        } else {
            0
        };
        let quota = self.setup.budget.max(image.allocated + 4096 + anew);
        assert!(allocated <= quota, "the quota: {allocated} of {quota}");
        fan.images += 1;
        drop(reader);
        if fan.random.chance(4) {
            self.check_again(fan, image, &offsets, next, life);
        }
    }

    /// What an open has found stays, and nothing comes back, when the power goes at once.
    fn check_again(&self, fan: &mut Fan, image: Image, found: &[u64], next: u64, life: u64) {
        let Image {
            disk,
            clock,
            opened,
            damage,
            ..
        } = image;
        drop(opened);
        disk.set_erase_blocks(0);
        disk.set_size(u64::MAX);
        disk.set_sync_failures(0);
        disk.set_read_failures(0);
        disk.power_cut();
        clock.reboot();
        let opened = self.open_image(&disk, &clock).expect("nothing fails");
        let shared = opened.log.shared().clone();
        let head = shared.head();
        let mut reader = Reader::new(shared, clock.clone()).unwrap();
        let moment = Moment {
            head: disk.head(),
            damage: &damage,
            ..self.oracle.now()
        };
        let seen = (&self.oracle, &moment);
        let (again, _) = read_all(&disk, &mut reader, &mut fan.batch, seen, head);
        for offset in found.iter().filter(|offset| **offset >= head) {
            let is_there = again.binary_search(offset).is_ok();
            assert!(
                is_there || damage.offsets.contains(offset),
                "{offset} was found, and is gone"
            );
        }
        for offset in again.iter().filter(|offset| **offset < next) {
            let was_there = found.binary_search(offset).is_ok();
            assert!(
                was_there || damage.hits > 0,
                "{offset} was gone, and is back"
            );
        }
        assert!(opened.report.next >= next, "offsets go on");
        assert!(opened.board.get(StreamCounter::Life) > life, "so do lives");
        fan.images += 1;
    }
}
