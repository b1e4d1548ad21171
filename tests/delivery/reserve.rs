//! The whole budget taken ahead: a disk that others fill later refuses nothing within it.

use std::time::Duration;

use super::Bench;
use crate::sim::delivery::To;
use crate::sim::session::{BUDGET, INTERVAL, SETUP, Setup};
use crate::sim::sink::Plan;

const ALL: Setup = Setup {
    reserves_all: true,
    drop_oldest: false,
    ..SETUP
};
/// More than the budget holds.
const MANY: u64 = 3000;
const LONG: Duration = Duration::from_secs(120);

/// A stream whose sink takes nothing for now.
fn held(setup: Setup, size: u64) -> Bench {
    let bench = Bench::with_sinks(3, setup, vec![To::new("file", 3)]);
    bench.disk.set_size(size);
    bench.script().set(Plan::hang());
    bench
}

/// Appends until the budget is used up; how many were taken.
fn fill(bench: &mut Bench) -> u64 {
    let mut taken = 0;
    for _ in 0..MANY / 30 {
        taken += bench.run.append(&mut bench.oracle, 30);
        bench.pass(INTERVAL);
    }
    taken
}

fn reserved(bench: &Bench) -> usize {
    let names = bench.disk.names();
    let is_spare = |name: &&String| name.starts_with("reserve-") || name.starts_with("spare-");
    names.iter().filter(is_spare).count()
}

/// `G-060`: nothing is refused on a full disk that would not be on an empty one, for as long as the store
/// lives: what is freed stays its own.
#[test]
fn a_disk_that_others_fill_later_refuses_nothing_that_is_reserved() {
    let mut alone = held(ALL, u64::MAX);
    let expected = fill(&mut alone);
    let mut bench = held(ALL, u64::MAX);
    assert!(bench.stats().unreserved_bytes > BUDGET / 2);
    bench.pass(INTERVAL);
    assert_eq!(bench.stats().unreserved_bytes, 0, "before anything came");
    assert_eq!(reserved(&bench), bench.disk.names().len() - 2);
    assert!(bench.stats().allocated_bytes > BUDGET * 3 / 4);
    bench.disk.set_size(bench.disk.allocated());
    assert_eq!(fill(&mut bench), expected);
    assert_eq!(reserved(&bench), 0);
    for round in 1..4 {
        bench.script().set(Plan::accept());
        bench.drain();
        bench.pass(LONG);
        bench.script().set(Plan::hang());
        let taken = fill(&mut bench);
        assert!(taken > expected / 2, "round {round}: {taken}");
        assert_eq!(bench.stats().unreserved_bytes, 0);
    }
    // Without it the full disk refuses.
    let mut bench = held(
        Setup {
            reserves_all: false,
            ..ALL
        },
        u64::MAX,
    );
    bench.append(1);
    bench.pass(INTERVAL);
    bench.disk.set_size(bench.disk.allocated());
    assert!(fill(&mut bench) < expected / 2);
}

/// Where there is no room for all of it the store uses what it has, says how much is missing, and takes
/// the rest when there is room and records come.
#[test]
fn what_the_file_system_has_no_room_for_is_said_and_taken_later() {
    for kept in [0, 100_000] {
        let setup = Setup {
            free_bytes_min: kept,
            ..ALL
        };
        let mut bench = held(setup, BUDGET / 2 + kept);
        bench.pass(LONG);
        let missing = bench.stats().unreserved_bytes;
        assert!(
            (BUDGET / 8..BUDGET / 2).contains(&missing),
            "{missing} bytes are missing"
        );
        let ops = bench.disk.ops();
        bench.pass(LONG * 10);
        assert_eq!(
            bench.disk.ops(),
            ops,
            "nobody waits for it: nothing is tried"
        );
        bench.append(30);
        bench.pass(LONG);
        assert_eq!(bench.stats().unreserved_bytes, missing);
        bench.disk.set_size(u64::MAX);
        bench.append(30);
        bench.pass(LONG);
        assert_eq!(bench.stats().unreserved_bytes, 0);
        let taken = fill(&mut bench) + 60;
        assert_eq!(taken, fill(&mut held(ALL, u64::MAX)));
    }
}

/// What was made once is taken over by the next open, which writes none of it again; without the setting
/// it is given back.
#[test]
fn what_is_reserved_outlives_the_run_and_goes_with_the_setting() {
    let mut bench = held(ALL, u64::MAX);
    bench.append(30);
    bench.pass(LONG);
    let (names, prepared) = (bench.disk.names(), bench.stats().prepared_bytes);
    assert!(prepared > BUDGET / 2 && reserved(&bench) > 2, "{names:?}");
    bench.restart();
    bench.pass(LONG);
    let stats = bench.stats();
    assert_eq!((stats.unreserved_bytes, stats.prepared_bytes), (0, 0));
    assert_eq!(bench.disk.names(), names);
    bench.setup.reserves_all = false;
    bench.restart();
    bench.pass(LONG);
    assert_eq!(reserved(&bench), 0);
    assert_eq!(bench.stats().unreserved_bytes, 0);
    bench.script().set(Plan::accept());
    bench.drain();
    bench.assert_accepted_once(0..30);
}
