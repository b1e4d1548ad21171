//! What a sink will never have becomes a dead letter, durable before the cursor passes it.

use std::time::Duration;

use forebay::counters::SinkState;
use forebay::sink::Link;

use super::Bench;
use crate::sim::delivery::{Delivery, To};
use crate::sim::letters::Dead;
use crate::sim::session::{SETUP, Setup};
use crate::sim::sink::{Plan, Say};
use crate::sim::storage::Failure;

const ACCEPT: Say = Say::Accept;

fn offsets(letters: &[Dead]) -> Vec<u64> {
    letters.iter().map(|dead| dead.offset).collect()
}

/// `G-052`, `L-85`, `L-107`, `L-S10`: a record that can never be accepted becomes a dead letter at once,
/// with who and why, and the rest goes on in order.
#[test]
fn a_rejected_record_becomes_a_dead_letter_and_the_rest_goes_on() {
    let mut bench = Bench::new(8);
    let poison = [ACCEPT, Say::Reject("field x is missing"), Say::Retry(None)];
    bench.script().then(Plan::says(&poison));
    bench.append(30);
    assert!(
        bench.disk.letters_names().is_empty(),
        "nothing is made for nothing"
    );
    bench.drain();
    let requests = bench.script().requests();
    let count = requests[0].len();
    let poisoned: Vec<u64> = requests[0].iter().copied().skip(1).step_by(3).collect();
    let again: Vec<u64> = requests[0].iter().copied().skip(2).step_by(3).collect();
    assert_eq!(requests[1], again);
    assert_eq!(requests[2][0], count as u64);
    let letters = bench.run.session.letters();
    assert_eq!(offsets(&letters), poisoned);
    let first = &letters[0];
    assert_eq!((first.sink.as_str(), first.attempts), ("file", 1));
    assert_eq!(first.reason, "field x is missing");
    let stats = bench.stats();
    let dead = poisoned.len() as u64;
    assert_eq!((stats.failed_total, stats.dead_letters_total), (dead, dead));
    assert_eq!((stats.dropped_total, stats.exported_total), (0, 30 - dead));
    assert_eq!(stats.sinks[0].state, SinkState::Idle);
    let error = stats.sinks[0].last_export_error.as_str();
    assert_eq!(error, "field x is missing");
    bench.restart();
    assert_eq!(
        bench.run.session.letters(),
        letters,
        "they outlive the process"
    );
    assert_eq!(bench.run.position(0), 30);
}

/// Each record of a batch keeps its own reason, also by way of the adapter for sinks that block.
#[test]
fn each_letter_has_the_reason_of_its_own_record() {
    for blocks in [false, true] {
        let mut bench = Bench::with(9, |to| to.blocks = blocks);
        bench.script().then(Plan::says(&[
            Say::Reject("one"),
            Say::Reject("two"),
            ACCEPT,
        ]));
        bench.append(9);
        bench.drain();
        let letters = bench.run.session.letters();
        for dead in &letters {
            let reason = ["one", "two"][usize::try_from(dead.offset % 3).unwrap()];
            assert_eq!(dead.reason, reason);
        }
        assert!(letters.len() > 2);
    }
}

/// `G-095`, `G-111`: after `maxRetries` a record is given up, with a letter and counted; never before.
#[test]
fn after_so_many_retries_a_record_becomes_a_dead_letter() {
    for max in [0u32, 3] {
        let mut bench = Bench::with(10, |to| to.options.retries_max = Some(max));
        let down = Plan::retry().link(Link::Down, "no route");
        (0..=max).for_each(|_| bench.script().then(down.clone()));
        bench.append(25);
        bench.drain();
        let requests = bench.script().requests();
        let tries = usize::try_from(max).unwrap() + 1;
        assert!(
            requests[..tries]
                .iter()
                .all(|offsets| *offsets == requests[0])
        );
        assert!(requests[tries][0] > requests[0][0], "then it is over");
        let letters = bench.run.session.letters();
        assert_eq!(offsets(&letters), requests[0]);
        assert!(letters.iter().all(|dead| dead.attempts == max + 1));
        assert!(
            letters[0].reason.contains("no route"),
            "{}",
            letters[0].reason
        );
        let (stats, dead) = (bench.stats(), letters.len() as u64);
        assert_eq!(
            (stats.failed_total, stats.exported_total),
            (dead, 25 - dead)
        );
        assert_eq!(stats.retries_total, u64::from(max) * dead);
    }
}

/// `L-95`: what is longer than the sink takes is set aside before any request holds it.
#[test]
fn a_record_too_long_for_the_sink_is_never_sent() {
    let mut bench = Bench::new(11);
    bench
        .script()
        .set_limits(|limits| limits.record_bytes_max = 1000);
    bench.restart();
    bench.append(200);
    bench.drain();
    let letters = bench.run.session.letters();
    assert!(letters.len() > 2);
    for dead in &letters {
        let len = crate::sim::session::payload(dead.offset + 1).len() + 3;
        assert!(len > 1000, "record {} has {len} bytes", dead.offset);
        assert_eq!(dead.attempts, 0);
        assert_eq!(
            dead.reason,
            "longer than the 1000 bytes that the sink takes"
        );
    }
    let sent: Vec<u64> = bench.script().requests().concat();
    assert!(
        offsets(&letters)
            .iter()
            .all(|offset| !sent.contains(offset))
    );
    assert_eq!(sent.len() + letters.len(), 200);
    assert!(sent.is_sorted());
    assert_eq!(bench.stats().retries_total, 0);
}

/// `L-107`: while letters cannot be written the record is held, whoever looks sees why, and records are
/// still taken; then it goes on.
#[test]
fn while_letters_cannot_be_written_the_record_is_held() {
    for failure in [Failure::Io, Failure::NoSpace] {
        let mut bench = Bench::new(12);
        bench.script().then(Plan::says(&[Say::Reject("never")]));
        bench.append(5);
        bench.run.run_until(&mut bench.oracle, "durable", |run| {
            run.session.log().durable() == 5
        });
        bench.disk.fail_after(1, failure, true);
        bench.pass(Duration::from_secs(60));
        let stats = bench.stats();
        assert_eq!((stats.acked_offset, stats.failed_total), (0, 0));
        assert_eq!(stats.sinks[0].state, SinkState::Backoff);
        let error = stats.sinks[0].last_export_error.clone();
        assert!(error.starts_with("dead letters: "), "{error}");
        assert!(bench.run.session.letters().is_empty());
        bench.disk.heal();
        bench.append(5);
        bench.drain();
        let letters = bench.run.session.letters();
        assert!(!letters.is_empty());
        assert_eq!(bench.stats().failed_total, letters.len() as u64);
        assert_eq!(bench.stats().sinks[0].state, SinkState::Idle);
    }
}

/// `G-047`: a sink that remembers how far it has come gets nothing behind a record whose letter is not durable: after a
/// crash it would say of that record that it was delivered.
#[test]
fn where_letters_come_first_nothing_later_is_sent_before_they_are_durable() {
    for letters_first in [false, true] {
        let mut bench = Bench::new(13);
        bench
            .script()
            .set_limits(|limits| limits.letters_first = letters_first);
        bench.restart();
        let later = Say::Retry(Some(Duration::from_secs(10)));
        bench.script().then(Plan::says(&[later]));
        bench
            .script()
            .then(Plan::says(&[Say::Reject("never"), Say::Retry(None)]));
        bench.append(2);
        bench.run.run_until(&mut bench.oracle, "durable", |run| {
            run.session.log().durable() == 2
        });
        bench.disk.fail_after(1, Failure::Io, true);
        bench.pass(Duration::from_secs(60));
        let requests = bench.script().requests();
        assert!(bench.run.session.letters().is_empty());
        assert_eq!(requests[1], [0, 1]);
        match letters_first {
            true => assert_eq!(requests.len(), 2),
            false => assert_eq!(requests[2], [1]),
        }
        bench.disk.heal();
        bench.drain();
        assert_eq!(bench.script().requests()[2], [1]);
        assert_eq!(offsets(&bench.run.session.letters()), [0]);
        assert_eq!(bench.stats().acked_offset, 2);
    }
}

/// Dead letters that are full drop their oldest, counted, and never hold anything up.
#[test]
fn a_full_log_of_dead_letters_drops_its_oldest() {
    let setup = Setup {
        letters_budget: 2 << 20,
        ..SETUP
    };
    let mut bench = Bench::with_sinks(13, setup, vec![To::new("file", 13)]);
    bench.script().set(Plan::says(&[Say::Reject("never")]));
    let mut appended = 0;
    while bench.stats().dead_letters_dropped_total == 0 {
        bench.append(50);
        appended += 50;
        bench.drain();
        assert!(appended < 20_000, "the budget is bounded");
    }
    let (stats, letters) = (bench.stats(), bench.run.session.letters());
    assert_eq!(
        (stats.failed_total, stats.dead_letters_total),
        (appended, appended)
    );
    let kept = letters.len() as u64;
    assert_eq!(kept + stats.dead_letters_dropped_total, appended);
    let newest: Vec<u64> = (appended - kept..appended).collect();
    assert_eq!(offsets(&letters), newest);
}

/// `L-107`: the power goes after each operation between a rejection and the checkpoint: the record is
/// there, or its letter is; perhaps both.
#[test]
fn a_power_cut_at_any_operation_loses_no_letter() {
    let mut both = 0;
    for fuel in 0.. {
        let mut bench = Bench::new(fuel);
        bench
            .script()
            .set(Plan::says(&[ACCEPT, Say::Reject("never")]));
        bench.append(8);
        bench.run.run_until(&mut bench.oracle, "durable", |run| {
            run.session.log().durable() == 8
        });
        bench.disk.set_fuel(fuel);
        let on = bench.run.run(&mut bench.oracle, Duration::from_secs(12));
        let counted = bench.stats().failed_total;
        bench.disk.power_cut();
        bench.clock.reboot();
        bench.oracle.end_run();
        bench.script().set(Plan::accept());
        bench.run = Delivery::open(&bench.disk, &bench.clock, bench.setup, &bench.to).unwrap();
        let dead = offsets(&bench.run.session.letters());
        assert!(dead.len() as u64 >= counted, "a counted letter is gone");
        bench.drain();
        let accepted = bench.script().accepted();
        for offset in 0..8 {
            let (is_dead, is_accepted) = (dead.contains(&offset), accepted.contains(&offset));
            assert!(is_dead || is_accepted, "record {offset} is nowhere");
            both += usize::from(is_dead && is_accepted);
        }
        if on {
            assert!(fuel > 10, "there was something to cut");
            break;
        }
    }
    assert!(
        both > 0,
        "the cut came between a letter and the cursor at least once"
    );
}

/// `L-107`: any operation may fail, once: no letter is lost, and no record is passed without one.
#[test]
fn a_failure_at_any_operation_loses_no_letter() {
    let mut repeats = 0;
    for after in 1.. {
        let mut bench = Bench::new(after);
        bench.script().set(Plan::says(&[Say::Reject("never")]));
        let start = bench.disk.ops();
        bench.disk.fail_after(after, Failure::Io, false);
        bench.append(40);
        bench.drain();
        let is_over = bench.disk.ops() - start < after;
        bench.disk.heal();
        assert_eq!(bench.stats().failed_total, 40);
        bench.restart();
        let mut dead = offsets(&bench.run.session.letters());
        repeats += dead.len() - 40;
        dead.sort_unstable();
        dead.dedup();
        assert_eq!(dead, (0..40).collect::<Vec<u64>>());
        if is_over {
            assert!(after > 20, "there was something to fail");
            break;
        }
    }
    println!("{repeats} letters came twice");
}
