//! What the seeds of other tests may leave out is gone through from the first to the last: each pair of power
//! cuts around an open, a roll, a recycling and a checkpoint; each call to the disk as the one that fails; each
//! byte of a store flipped, each length that its files can have, each file missing.
//!
//! `STRIDE=1` goes through every byte also where one in several is enough every day.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // a test is not behind the seams

mod common;
mod sim;

#[path = "enumerate/damage.rs"]
mod damage;
#[path = "enumerate/metadata.rs"]
mod metadata;
#[path = "enumerate/store.rs"]
mod store;
#[path = "enumerate/world.rs"]
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use sim::session::{SETUP, Setup};
use sim::storage::Failure;
use world::{Kind, Prepared};

/// Says which case it was when one fails.
fn case(name: &str, f: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(f)) {
        eprintln!("in {name}");
        resume_unwind(panic);
    }
}

/// `G-079`, `G-083`, `L-1`, `L-2`, `L-41`: the power goes at any point of an open, a roll, a recycling or a
/// checkpoint, and again at any point of the recovery and of the first writing behind it.
#[test]
fn power_may_go_at_any_two_points() {
    let mut counts = [0u64; Kind::ALL.len()];
    let mut pairs = 0;
    for (seed, is_clean) in [(1, true), (2, false)] {
        let prepared = Prepared::new(seed, SETUP, is_clean);
        for (kind, window) in prepared.windows() {
            counts[kind as usize] += 1;
            for first in window {
                let mut world = prepared.world();
                world.disk.set_garbage(first % 2 == 1);
                world.disk.set_fuel(first);
                world.script(&mut |_, _| ());
                world.lose_power();
                let mut whole = world.fork();
                let before = whole.disk.ops();
                whole.recover();
                let recovery = whole.disk.ops() - before;
                assert!(recovery > 5, "a recovery writes something");
                for second in 0..recovery {
                    case(
                        &format!("{kind:?}, cut at {first}, then at {second}"),
                        || {
                            let mut world = world.fork();
                            world.disk.set_fuel(second);
                            world.recover();
                            world.lose_power();
                            world.end();
                        },
                    );
                    pairs += 1;
                }
            }
        }
    }
    println!("{pairs} pairs; windows of {:?}: {counts:?}", Kind::ALL);
    assert!(counts.iter().all(|count| *count > 0), "{counts:?}");
    assert!(pairs > 500, "{pairs}");
}

/// Runs a script in which the n-th call fails, for each n. Whatever can fail then fails; when the disk is well
/// again, all that was promised is there. Returns how many calls there were.
fn every_failure(setup: Setup, failure: Failure, for_ever: bool, stride: u64) -> u64 {
    let prepared = Prepared::new(3, setup, false);
    let mut whole = prepared.world();
    whole.script(&mut |_, _| ());
    let calls = whole.disk.calls();
    for n in (0..calls).step_by(usize::try_from(stride).unwrap()) {
        case(
            &format!("{failure:?} at call {n}, for ever: {for_ever}"),
            || {
                let mut world = prepared.world();
                world.disk.fail_call_after(n, failure, for_ever);
                world.script(&mut |_, _| ());
                world.disk.heal_calls();
                world.lose_power();
                world.recover();
                world.disk.kill();
                world.end();
            },
        );
    }
    calls
}

/// `G-071`, `G-084`, `L-5`: each call fails with an error of the medium, once or from then on for ever.
#[test]
fn any_call_may_fail_with_an_error_of_the_medium() {
    for for_ever in [false, true] {
        let calls = every_failure(SETUP, Failure::Io, for_ever, 1);
        println!("{calls} calls, for ever: {for_ever}");
        assert!(calls > 200, "only {calls} calls");
    }
}

/// `L-46`, `L-49`: the same with a disk that is full, and with a stream that may not drop anything.
#[test]
fn any_call_may_find_the_disk_full() {
    for drop_oldest in [true, false] {
        let setup = Setup {
            drop_oldest,
            ..SETUP
        };
        for for_ever in [false, true] {
            every_failure(setup, Failure::NoSpace, for_ever, 2);
        }
    }
}
