//! Whole lives of a store: sinks that do anything, crashes of the process, power cuts, clean stops, other
//! batch sizes. In the end each record that was durable was accepted, is a dead letter, or is counted as a
//! gap.

#![cfg_attr(feature = "rules", allow(dead_code))] // its test is left out there

#[cfg(not(feature = "rules"))]
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use super::Bench;
use crate::sim::books::{Books, Ended};
use crate::sim::delivery::{Delivery, To};
use crate::sim::oracle::Fate;
use crate::sim::plans::{plan, vary};
use crate::sim::random::Random;
#[cfg(not(feature = "rules"))]
use crate::sim::random::seed;
use crate::sim::session::{SETUP, Setup};
use crate::sim::sink::Plan;

/// One run; then it ends in some way, and the next one begins.
fn run(bench: &mut Bench, books: &mut [Books], random: &mut Random, is_last: bool) {
    let starts: Vec<_> = (0..bench.to.len())
        .map(|index| bench.run.session.board.cursor(index).place().unwrap())
        .collect();
    let counts: Vec<usize> = bench
        .to
        .iter()
        .map(|to| to.script.accepted().len())
        .collect();
    let known = bench.run.session.letters().len();
    let mut on = true;
    let mut ended = Vec::new();
    if random.chance(2) && !is_last {
        bench.disk.set_fuel(random.below(200));
    }
    let load = 1 + random.below(60);
    for _ in 0..random.below(60) {
        bench.run.append(&mut bench.oracle, random.below(load));
        for to in &bench.to {
            to.script.set(plan(random));
        }
        on = bench
            .run
            .run(&mut bench.oracle, Duration::from_millis(random.below(2000)));
        if !on {
            break;
        }
    }
    if is_last {
        bench.to.iter().for_each(|to| to.script.set(Plan::accept()));
        bench.drain();
    }
    if on && (is_last || random.chance(3)) {
        bench.run.close(&mut bench.oracle);
    }
    for (index, place) in starts.into_iter().enumerate() {
        let accepted = bench.to[index].script.accepted()[counts[index]..].to_vec();
        let sink = bench.run.sink_stats(index);
        let end = bench.run.session.board.cursor(index).place().unwrap();
        // What is accepted counts when the answer is complete; it is remembered as far as there is room.
        let is_passed = |offset: &&u64| {
            let inside = |(from, to): &(u64, u64)| (*from..*to).contains(*offset);
            **offset < end.position || end.intervals.iter().any(inside)
        };
        let passed = accepted.iter().filter(is_passed).count() as u64;
        assert!((passed..=accepted.len() as u64).contains(&sink.exported_total));
        ended.push(Ended {
            start: place,
            position: end.position,
            accepted,
            sink,
        });
    }
    bench.oracle.end_run();
    let board = bench.run.board();
    for to in &mut bench.to {
        vary(to, random);
    }
    let (disk, clock, setup) = (&bench.disk, &bench.clock, bench.setup);
    let run = if random.chance(2) || !on {
        disk.power_cut();
        clock.reboot();
        Delivery::open(disk, clock, setup, &bench.to)
    } else {
        disk.kill();
        Delivery::open_on(board, disk, clock, setup, &bench.to)
    };
    bench.run = run.expect("nothing fails at open");
    let letters = bench.run.session.letters();
    for (index, ended) in ended.iter().enumerate() {
        let name = bench.to[index].name;
        let new = letters[known..].iter().filter(|dead| dead.sink == name);
        let dead: Vec<u64> = new.map(|dead| dead.offset).collect();
        books[index].close(ended, &dead);
    }
}

pub fn life(seed: u64) -> (usize, usize, usize) {
    let mut random = Random::new(seed);
    let setup = Setup {
        drop_oldest: random.below(3) > 0,
        ..SETUP
    };
    let mut to = vec![To::new("first", seed)];
    if random.chance(3) {
        to.push(To::new("second", seed + 1));
    }
    to.iter_mut().for_each(|to| vary(to, &mut random));
    let mut books: Vec<Books> = to.iter().map(|_| Books::default()).collect();
    let mut bench = Bench::with_sinks(seed, setup, to);
    for _ in 0..=random.below(4) {
        run(&mut bench, &mut books, &mut random, false);
    }
    run(&mut bench, &mut books, &mut random, true);
    for books in &books {
        for (offset, fate) in bench.oracle.fates() {
            let is_there = books.accepted.contains(&offset);
            let is_gap = books.gaps.contains(&offset);
            let is_there = is_there || books.dead.contains(&offset);
            if fate == Fate::Promised {
                assert!(is_there || is_gap, "the durable record {offset} is nowhere");
                assert!(is_there || setup.drop_oldest, "record {offset} was dropped");
            }
        }
    }
    let sum = |f: fn(&Books) -> usize| books.iter().map(f).sum();
    (
        sum(|books| books.accepted.len()),
        sum(|books| books.gaps.len()),
        sum(|books| books.dead.len()),
    )
}

/// `G-066`, `G-098`, `G-099`, `L-72`, `L-74`, `L-75`, `L-85`, `L-101`, `L-107`: everything that was durable is
/// delivered at least once and in order, or a dead letter, or, where the oldest may go, counted as a gap: in
/// each run every offset that a cursor passes is one of these. (The order is checked by the sink, batch by batch.)
#[test]
#[cfg(not(feature = "rules"))]
fn each_durable_record_is_accepted_or_counted() {
    let first = seed(1);
    let lives = std::env::var("LIVES").ok();
    let lives = lives.and_then(|lives| lives.parse().ok()).unwrap_or(500);
    let mut sums = (0, 0, 0);
    for seed in first..first + lives {
        match catch_unwind(AssertUnwindSafe(|| life(seed))) {
            Ok((accepted, gaps, dead)) => {
                sums = (sums.0 + accepted, sums.1 + gaps, sums.2 + dead);
            }
            Err(panic) => {
                eprintln!("SEED={seed}");
                resume_unwind(panic);
            }
        }
    }
    let (accepted, gaps, dead) = sums;
    assert!(dead > 0, "some are given up");
    println!("{lives} lives: {accepted} accepted, {gaps} gaps, {dead} dead letters");
}
