//! The power goes after every single storage operation of a scripted workload, and everything that was
//! promised is there.

#[path = "crash/world.rs"]
mod world;

mod sim;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use forebay::segment::Io;
use sim::random::seed;
use sim::session::{INTERVAL, SETUP, Session, Setup};
use sim::storage::Control;
use world::{End, World, random_life, rough_life};

/// A scripted life of a store: rolls, recycling, quota drops, checkpoints, a clean close, ten crashes in a
/// row. The power goes after `cut` operations of it; what comes then is checked twice.
fn scripted(seed: u64, setup: Setup, control: Control, garbage: bool, cut: u64) -> bool {
    let mut world = World::new(seed, setup);
    world.disk.set_control(control);
    world.disk.set_garbage(garbage);
    world.disk.set_fuel(cut);
    world.run(6, End::Close);
    let was_cut = |world: &World, ops: u64| world.disk.ops() >= ops;
    // The fuel is what is left of it after a reboot, so that one cut falls anywhere in the script.
    for (steps, end) in [(40, End::PowerCut), (12, End::Close), (60, End::Kill)] {
        let left = cut.saturating_sub(world.disk.ops());
        world.disk.set_fuel(if left > 0 { left } else { u64::MAX });
        world.run(steps, end);
    }
    for _ in 0..10 {
        let left = cut.saturating_sub(world.disk.ops());
        world.disk.set_fuel(if left > 0 { left } else { u64::MAX });
        world.run(1, End::PowerCut);
    }
    world.run(5, End::Close);
    world.run(0, End::Close);
    was_cut(&world, cut)
}

/// Runs the script with a cut after each operation, until it comes to its end. Returns how many.
fn every_cut(seed: u64, setup: Setup, step: u64) -> u64 {
    let mut cut = 0;
    let mut count = 0;
    while scripted(seed, setup, Control::None, count % 2 == 1, cut) {
        cut += step;
        count += 1;
    }
    count
}

/// `G-079`, `G-081`, `G-083`, `G-085`, `G-086`, `G-088`, `L-1`, `L-2`, `L-5`, `L-20`, `L-41`.
#[test]
fn power_may_go_after_any_operation() {
    let seed = seed(1);
    let count = every_cut(seed, SETUP, 1);
    assert!(count > 300, "only {count} operations");
}

#[test]
fn power_may_go_after_any_operation_of_a_mapped_log() {
    let count = every_cut(
        seed(2),
        Setup {
            io: Io::Map,
            ..SETUP
        },
        3,
    );
    assert!(count > 100, "only {count} operations");
}

#[test]
fn power_may_go_after_any_operation_when_nothing_is_dropped() {
    let count = every_cut(
        seed(3),
        Setup {
            drop_oldest: false,
            ..SETUP
        },
        3,
    );
    assert!(count > 100, "only {count} operations");
}

/// `G-060`, `L-60`: also in the middle of preparing the whole budget. The next open goes on with what is
/// there, within the quota.
#[test]
fn power_may_go_after_any_operation_when_the_budget_is_reserved() {
    for drop_oldest in [true, false] {
        let setup = Setup {
            reserves_all: true,
            drop_oldest,
            ..SETUP
        };
        let count = every_cut(seed(5), setup, 2);
        assert!(count > 100, "only {count} operations");
    }
}

/// `L-60`: a board that never gets far loses nothing of what it had stored: crashes in a row use up neither
/// pages nor segments, however many there are.
#[test]
fn a_hundred_crashes_in_a_row_burn_no_backlog() {
    let mut world = World::new(seed(4), SETUP);
    let mut session = world.open().unwrap();
    for _ in 0..40 {
        world.append(&mut session, 20);
        session.step(&mut world.oracle, INTERVAL);
    }
    session.note(&mut world.oracle);
    drop(session);
    world.disk.kill();
    world.clock.reboot();
    world.run(0, End::PowerCut);
    let look = |world: &mut World| {
        let session = world.open().unwrap();
        let log = session.log();
        let segments = log.shared().segments();
        let last = segments.last().map(|segment| segment.base);
        let seen = (log.shared().head(), segments.len(), last);
        drop(session);
        world.disk.power_cut();
        world.clock.reboot();
        seen
    };
    let before = look(&mut world);
    assert!(before.1 > 1, "{before:?}");
    for _ in 0..100 {
        world.run(0, End::PowerCut);
    }
    let written = world.disk.ops();
    assert_eq!(look(&mut world), before);
    assert!(world.disk.ops() - written < 40, "an open writes little");
}

/// Calls `life` with seeds from `first` on, and says which one broke a promise.
fn lives(first: u64, count: u64, life: fn(u64)) {
    let count = std::env::var("LIVES")
        .ok()
        .and_then(|lives| lives.parse().ok())
        .unwrap_or(count);
    for seed in first..first + count {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| life(seed))) {
            eprintln!("SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

/// `G-071`, `G-084`, `L-1`, `L-5`, `L-41`, `L-119`.
#[test]
fn random_lives_keep_every_promise() {
    lives(seed(1000), 300, |seed| random_life(seed, Control::None));
}

/// `G-071`, `L-1`: what a flipped byte costs, what the bytes prove, and pages that belong somewhere else.
#[test]
fn lives_on_a_bad_medium_cost_what_was_hit() {
    lives(seed(1000), 200, rough_life);
}

/// `L-120`: the checks would see it if the engine, or the disk, did not do what it must.
#[test]
fn controls_fail() {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let controls = [
        Control::NoSync,
        Control::NoDirSync,
        Control::PageInPlace,
        Control::MarkBeforeSync,
        Control::FailureHidden,
    ];
    let found = controls.map(|control| {
        (0..2000).find(|seed| catch_unwind(|| random_life(*seed, control)).is_err())
    });
    std::panic::set_hook(hook);
    for (control, seed) in controls.iter().zip(found) {
        println!("{control:?}: found by seed {seed:?}");
        assert!(seed.is_some(), "{control:?} was not noticed");
    }
}

/// A segment is lost that was begun after the last checkpoint, and nothing is left that tells its life.
#[test]
fn the_life_of_a_lost_segment_is_not_used_again() {
    let setup = Setup {
        segment_bytes: 1 << 16,
        ring_records: 200,
        checkpoint_interval: Duration::from_secs(3600),
        ..SETUP
    };
    let mut world = World::new(1, setup);
    let mut session = world.open().unwrap();
    while session.log().shared().segments().len() < 2 {
        world.append(&mut session, 10);
        assert!(session.step(&mut world.oracle, INTERVAL));
    }
    let newest = session.log().shared().segments().last().unwrap().number;
    drop(session);
    world.disk.power_cut();
    world.clock.reboot();
    world.disk.remove(&format!("segment-{newest:06}"));
    let session = Session::open(&world.disk, &world.clock, world.setup).unwrap();
    let life = session.board.get(forebay::counters::StreamCounter::Life);
    let used = world.disk.page_life();
    assert!(life > used, "life {life} again, after {used}");
}
