//! What a sink did not accept is sent again, and nothing else.

use std::time::Duration;

use forebay::counters::SinkState;
use forebay::exporter::Next;
use forebay::sink::Link;

use super::Bench;
use crate::sim::sink::{Panics, Plan, Say, When};

const ACCEPT: Say = Say::Accept;
const RETRY: Say = Say::Retry(None);

/// `G-098`, `G-101`, `G-110`, `L-75`, `L-S7`: however often it fails, the same records come again, in
/// order, none is skipped, and nothing is acknowledged before it was accepted.
#[test]
fn a_sink_that_fails_gets_the_same_records_again() {
    let mut bench = Bench::new(1);
    bench.script().fail_first(40);
    bench.append(25);
    while bench.script().requests().len() <= 40 {
        assert_eq!(bench.run.position(0), 0, "nothing was accepted yet");
        assert_eq!(bench.stats().exported_total, 0);
        bench.pass(Duration::from_millis(100));
    }
    bench.drain();
    let requests = bench.script().requests();
    let first: Vec<u64> = requests[0].clone();
    assert!(requests[..=40].iter().all(|offsets| *offsets == first));
    bench.assert_accepted_once(0..25);
    let stats = bench.stats();
    assert_eq!((stats.exported_total, stats.acked_offset), (25, 25));
    assert_eq!(stats.retries_total, 40 * first.len() as u64);
    assert_eq!((stats.backlog, stats.failed_total), (0, 0));
}

/// `G-040`, `G-100`, `L-87`, `L-S2`, `L-105`, `L-108`: what was accepted does not come again, and what
/// comes later waits (the sink notes any batch that came too early, see [`crate::sim::sink`]).
#[test]
fn only_what_failed_is_sent_again_and_nothing_later_before_it() {
    let mut bench = Bench::new(2);
    bench.script().then(Plan::says(&[RETRY, ACCEPT, ACCEPT]));
    bench.script().then(Plan::says(&[ACCEPT, RETRY]));
    bench.script().then(Plan::retry());
    bench.append(20);
    bench.drain();
    let requests = bench.script().requests();
    let first = requests[0].clone();
    let again: Vec<u64> = first.iter().copied().step_by(3).collect();
    let rest: Vec<u64> = again.iter().copied().skip(1).step_by(2).collect();
    assert_eq!(requests[1], again);
    assert_eq!((&requests[2], &requests[3]), (&rest, &rest));
    assert_eq!(requests[4][0], first.len() as u64);
    bench.assert_accepted_once(0..20);
    let sent_again = again.len() + 2 * rest.len();
    assert_eq!(bench.stats().retries_total, sent_again as u64);
}

/// `L-72`: what falls due just while the exporter looks for it is not waited for in vain.
#[test]
fn a_retry_that_falls_due_meanwhile_is_not_slept_through() {
    const TICK: Duration = Duration::from_micros(10);
    let mut bench = Bench::new(7);
    bench.append(1);
    bench.pass(Duration::from_secs(1));
    bench.script().fail_first(300);
    bench.append(1);
    bench.clock.tick(TICK);
    for turn in 0..3000u32 {
        bench.run.turn(&mut bench.oracle);
        if bench.run.is_drained() {
            assert!(bench.script().requests().len() > 300);
            return;
        }
        let Next::At(at) = bench.run.next_of(0) else {
            panic!("waits for nothing after {turn} turns");
        };
        let early = TICK * (turn % 40);
        let wait = at.since(bench.run.now()).saturating_sub(early);
        bench.clock.advance(wait);
    }
    panic!("not delivered");
}

/// `L-S1`, `L-82`, `L-92`: what nobody answered for is not accepted; after `answer_timeout` it comes
/// again, alone, and an answer to the old batch changes nothing any more.
#[test]
fn silence_is_not_success_and_late_answers_change_nothing() {
    let mut bench = Bench::new(3);
    let timeout = Duration::from_secs(7);
    bench
        .script()
        .set_limits(|limits| limits.answer_timeout = timeout);
    bench.restart();
    bench.script().then(Plan::says(&[ACCEPT, Say::Nothing]));
    bench
        .script()
        .then(Plan::accept().when(When::After(timeout * 3 / 2)));
    bench.script().then(Plan::hang());
    bench.append(10);
    bench.pass(Duration::from_secs(5));
    let count = bench.script().requests()[0].len() as u64;
    assert_eq!(bench.script().requests().len(), 1, "it is waited for");
    bench.pass(Duration::from_secs(4));
    let requests = bench.script().requests();
    assert_eq!(bench.stats().exported_total, count.div_ceil(2));
    let silent: Vec<u64> = (0..count).skip(1).step_by(2).collect();
    assert_eq!(requests[1], silent);
    let times = bench.script().times();
    assert!(times[1].since(times[0]) >= timeout);
    let stats = bench.stats();
    assert_eq!(stats.sinks[0].state, SinkState::Link);
    assert_eq!(
        stats.sinks[0].last_export_error.as_str(),
        "no answer in time"
    );
    // The second is given up, too, and answered for while the third is under way.
    bench
        .run
        .run_until(&mut bench.oracle, "a late answer", |run| {
            !run.lines[0].script.state().late.is_empty()
        });
    assert_eq!(bench.stats().exported_total, count.div_ceil(2));
    bench.drain();
    bench.assert_accepted_once(0..10);
    assert_eq!(bench.script().state().abandoned.len(), 3);
    assert_eq!(bench.script().state().late, silent);
    assert_eq!(bench.script().requests()[2..4], [silent.clone(), silent]);
}

/// `L-S1`: the first outcome of a record counts, and none for what is not under way.
#[test]
fn answers_for_other_batches_and_records_change_nothing() {
    let mut bench = Bench::new(4);
    bench
        .script()
        .then(Plan::says(&[ACCEPT, Say::RetryThenAccept]).with_strays());
    bench.script().set(Plan::accept().with_strays());
    bench.append(10);
    bench.drain();
    let requests = bench.script().requests();
    let again: Vec<u64> = requests[0].iter().copied().skip(1).step_by(2).collect();
    assert_eq!(requests[1], again);
    bench.assert_accepted_once(0..10);
}

/// `L-82`: an answer may take as long as the sink says; until then nothing is sent twice.
#[test]
fn a_slow_answer_is_waited_for() {
    let mut bench = Bench::new(5);
    bench.script().then(Plan::accept().when(When::AtPoll(50)));
    bench
        .script()
        .then(Plan::accept().when(When::After(Duration::from_secs(59))));
    bench.append(15);
    bench.drain();
    bench.assert_accepted_once(0..15);
    let stats = bench.stats();
    assert_eq!((stats.retries_total, stats.exported_total), (0, 15));
    assert!(bench.script().state().polls > 50);
}

/// `G-051`: a panic inside a sink is a retry, counted, and the exporter lives on.
#[test]
fn a_panic_is_a_retry() {
    let mut bench = Bench::new(6);
    let second = Duration::from_secs(1);
    bench
        .script()
        .set_limits(|limits| limits.answer_timeout = second);
    bench.restart();
    bench.script().then(Plan::panic(Panics::Submit));
    bench.script().then(Plan::panic(Panics::Poll));
    bench.script().then(Plan::panic(Panics::Submit));
    bench
        .script()
        .then(Plan::panic(Panics::Abandon).when(When::Never));
    bench.append(10);
    bench.run.run_until(&mut bench.oracle, "a panic", |run| {
        run.sink_stats(0).panics_total == 1
    });
    let sink = bench.run.sink_stats(0);
    assert_eq!((sink.exported_total, sink.state), (0, SinkState::Backoff));
    assert_eq!(sink.last_export_error.as_str(), "the sink panicked");
    bench.drain();
    bench.assert_accepted_once(0..10);
    let requests = bench.script().requests();
    // It had accepted one when it panicked in its answer.
    assert_eq!(requests[1], requests[0]);
    assert_eq!(requests[2], requests[0][1..]);
    assert_eq!(requests[4], requests[3]);
    assert_eq!(bench.stats().sinks[0].panics_total, 4);
}

/// `L-S1`: outcomes that a sink made up for a batch of another size are none, and break nothing.
#[test]
fn outcomes_of_another_batch_are_a_retry() {
    let mut bench = Bench::new(8);
    let mut plan = Plan::accept();
    plan.replaces = true;
    bench.script().then(plan);
    bench.append(10);
    bench.drain();
    let requests = bench.script().requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[1], requests[0]);
    assert_eq!(bench.stats().exported_total, 10);
}

/// `G-051`, `L-S1`: of a sink that blocks, too, only what it answered for was accepted, also when it
/// panics.
#[test]
fn a_sink_that_blocks_gets_again_what_it_did_not_answer_for() {
    let mut bench = Bench::with(7, |to| to.blocks = true);
    bench.script().then(Plan::says(&[ACCEPT, Say::Nothing]));
    bench.script().then(Plan::panic(Panics::Submit));
    bench
        .script()
        .then(Plan::retry().link(Link::Down, "no route"));
    bench.append(10);
    bench.drain();
    bench.assert_accepted_once(0..10);
    let requests = bench.script().requests();
    let silent: Vec<u64> = requests[0].iter().copied().skip(1).step_by(2).collect();
    assert_eq!(requests[1], silent);
    assert_eq!(requests[2], silent[1..]);
    assert_eq!(requests[3], silent[1..]);
    let sink = bench.run.sink_stats(0);
    assert_eq!(sink.panics_total, 1);
    assert_eq!(sink.last_export_error.as_str(), "no route");
}
