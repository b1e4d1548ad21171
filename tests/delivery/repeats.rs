//! How often a record may come twice: never after a clean close, only what was in flight after a crash of
//! the process, and what was acknowledged within `checkpointMs` after a power cut.

use std::collections::BTreeSet;
use std::time::Duration;

use forebay::clock::{Clock, Mono};

use super::Bench;
use crate::sim::delivery::Delivery;
use crate::sim::random::{Random, seed};
use crate::sim::session::CHECKPOINT_INTERVAL;
use crate::sim::sink::{Plan, Say, When};

const ACCEPT: Say = Say::Accept;
const RETRY: Say = Say::Retry(None);

/// The most records of a batch.
const BATCH: u64 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Close,
    Kill,
    PowerCut,
}

/// A run that ended.
struct Ended {
    /// When the cursor came to which position; rising.
    positions: Vec<(Mono, u64)>,
    /// What was accepted while the cursor waited for the rest of the answer.
    in_flight: u64,
    at: Mono,
}

impl Ended {
    /// The position that a checkpoint must have had: the last one that is older than `checkpointMs`.
    fn checkpointed(&self) -> u64 {
        let until = |at: &Mono| at.plus(CHECKPOINT_INTERVAL) < self.at;
        let mut old = self.positions.iter().filter(|(at, _)| until(at));
        old.next_back().map_or(0, |(_, position)| *position)
    }

    fn position(&self) -> u64 {
        self.positions.last().map_or(0, |(_, position)| *position)
    }
}

/// What a sink does that mostly works.
fn plan(random: &mut Random) -> Plan {
    let says = match random.below(12) {
        0 => vec![RETRY],
        1 => vec![ACCEPT, RETRY, RETRY],
        2 => vec![RETRY, ACCEPT],
        3 => vec![ACCEPT, Say::Nothing],
        _ => vec![ACCEPT],
    };
    let when = match random.below(4) {
        0 => When::After(Duration::from_millis(random.below(3000))),
        _ => When::AtOnce,
    };
    Plan::says(&says).when(when)
}

/// Runs for a while under load, and ends.
fn run(bench: &mut Bench, random: &mut Random, end: End) -> Ended {
    let mut positions = Vec::new();
    let accepted_before = bench.script().accepted().len();
    for _ in 0..random.below(300) {
        let (count, plan) = (random.below(3), plan(random));
        bench.run.append(&mut bench.oracle, count);
        bench.script().set(plan);
        if end == End::PowerCut && random.chance(60) {
            bench.disk.set_fuel(random.below(20));
        }
        let wait = Duration::from_millis(random.below(400));
        let on = bench.run.run(&mut bench.oracle, wait);
        positions.push((bench.clock.mono(), bench.run.position(0)));
        if !on {
            break;
        }
    }
    let at = bench.clock.mono();
    if end == End::Close {
        bench.script().set(plan(random));
        assert!(bench.run.close(&mut bench.oracle));
        positions.push((bench.clock.mono(), bench.run.position(0)));
    }
    let place = bench.run.session.board.cursor(0).place().unwrap();
    let is_done = |offset: &u64| {
        let inside = |(from, to): &(u64, u64)| (*from..*to).contains(offset);
        *offset < place.position || place.intervals.iter().any(inside)
    };
    let accepted = bench.script().accepted();
    let accepted = accepted[accepted_before..].iter();
    let in_flight = accepted.filter(|offset| !is_done(offset)).count() as u64;
    Ended {
        positions,
        in_flight,
        at,
    }
}

/// What comes twice after runs that end in one way, with what bounds it.
fn repeats(seed: u64, end: End, checkpoint_interval: Duration) -> (u64, u64) {
    let mut random = Random::new(seed);
    let mut bench = Bench::new(seed);
    bench.setup.checkpoint_interval = checkpoint_interval;
    let answer_timeout = Duration::from_secs(4);
    bench
        .script()
        .set_limits(|limits| limits.answer_timeout = answer_timeout);
    bench.restart();
    let ended = run(&mut bench, &mut random, end);
    let before: BTreeSet<u64> = bench.script().accepted().into_iter().collect();
    let count = bench.script().accepted().len();
    bench.script().set(Plan::accept());
    let board = bench.run.board();
    let (disk, clock) = (&bench.disk, &bench.clock);
    bench.run = match end {
        End::Kill => {
            disk.kill();
            Delivery::open_on(board, disk, clock, bench.setup, &bench.to)
        }
        End::Close | End::PowerCut => {
            disk.power_cut();
            clock.reboot();
            Delivery::open(disk, clock, bench.setup, &bench.to)
        }
    }
    .unwrap();
    bench.drain();
    let after = bench.script().accepted()[count..].to_vec();
    let repeated = after
        .iter()
        .filter(|offset| before.contains(offset))
        .count() as u64;
    let bound = match end {
        End::Close => 0,
        End::Kill => ended.in_flight,
        // Of the batch that was not done, what was accepted may not have been written down either.
        End::PowerCut => ended.position() - ended.checkpointed() + BATCH,
    };
    (repeated, bound)
}

/// Runs many seeds; how many records came twice, and how many could have.
fn sum(end: End, interval: Duration, seeds: u64) -> (u64, u64, u64) {
    let first = seed(1);
    let (mut repeated, mut bounds, mut broken) = (0, 0, 0);
    for seed in first..first + seeds {
        let (count, bound) = repeats(seed, end, interval);
        if count > bound {
            broken += 1;
            if interval == CHECKPOINT_INTERVAL {
                eprintln!("SEED={seed}: {count} repeats, not {bound}");
            }
        }
        repeated += count;
        bounds += bound;
    }
    println!("{end:?}: {repeated} repeats in {seeds} runs, {bounds} allowed, {broken} runs beyond");
    (repeated, bounds, broken)
}

/// `G-030`, `G-106`: not even when part of a batch was accepted and the rest waits to be sent again.
#[test]
fn a_clean_close_repeats_nothing() {
    assert_eq!(sum(End::Close, CHECKPOINT_INTERVAL, 200), (0, 0, 0));
}

/// `G-102`, `L-101`: the cursor stands in memory that outlives the process.
#[test]
fn a_crash_of_the_process_repeats_only_what_was_in_flight() {
    let (repeated, bounds, broken) = sum(End::Kill, CHECKPOINT_INTERVAL, 200);
    assert_eq!((repeated, broken), (bounds, 0));
    assert!(repeated > 0);
}

/// `G-102`, `L-101`: and the bound would not hold if the cursors were not written down in time.
#[test]
fn a_power_cut_repeats_what_was_acknowledged_within_the_checkpoint_interval() {
    let (repeated, bounds, broken) = sum(End::PowerCut, CHECKPOINT_INTERVAL, 300);
    assert_eq!(broken, 0);
    assert!(repeated * 4 > bounds, "the bound is far from what happens");
    let (_, _, broken) = sum(End::PowerCut, Duration::from_secs(86_400), 100);
    assert!(
        broken > 50,
        "a bound that holds without checkpoints says nothing"
    );
}
