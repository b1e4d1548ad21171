//! When batches go, how large they are, how long a failed one waits, and what shows meanwhile.

use std::time::Duration;

use forebay::clock::Clock;
use forebay::counters::SinkState;
use forebay::sink::Link;

use super::Bench;
use crate::sim::delivery::Delivery;
use crate::sim::random::{Random, seed};
use crate::sim::session::{INTERVAL, payload};
use crate::sim::sink::{Plan, Say, When};

const ACCEPT: Say = Say::Accept;
const RETRY: Say = Say::Retry(None);

/// What was waited before each batch but the first.
fn waits(bench: &Bench) -> Vec<Duration> {
    let times = bench.script().times();
    times
        .windows(2)
        .map(|pair| pair[1].since(pair[0]))
        .collect()
}

/// `G-096`, `L-72`: waits are drawn from zero up to a range that doubles, never beyond `backoffMaxMs`; an
/// accepted record starts it anew.
#[test]
fn waits_are_drawn_from_a_range_that_doubles_until_something_is_accepted() {
    let (base, max) = (Duration::from_millis(50), Duration::from_secs(2));
    let range = |attempt: u32| (base * 2u32.pow(attempt)).min(max);
    // Ten in vain, one that takes something, three in vain, one that takes all; then another batch.
    let attempts: Vec<u32> = (0..10).chain(0..4).chain(0..3).collect();
    let mut extremes = vec![(Duration::MAX, Duration::ZERO); attempts.len()];
    let mut random = Random::new(seed(1));
    for _ in 0..200 {
        let jitter = random.next();
        let mut bench = Bench::with(jitter, |to| {
            to.options.backoff_base = base;
            to.options.backoff_max = max;
            to.options.records_max = 4;
            to.options.linger = Duration::ZERO;
        });
        let script = bench.script();
        script.fail_first(10);
        script.then(Plan::says(&[ACCEPT, RETRY]));
        script.fail_first(3);
        script.then(Plan::accept());
        script.fail_first(3);
        bench.append(8);
        bench.drain();
        let mut waits = waits(&bench);
        assert_eq!(
            waits.remove(14),
            Duration::ZERO,
            "the next batch comes at once"
        );
        for ((wait, attempt), extreme) in waits.iter().zip(&attempts).zip(&mut extremes) {
            assert!(*wait <= range(*attempt), "attempt {attempt}: {wait:?}");
            *extreme = (extreme.0.min(*wait), extreme.1.max(*wait));
        }
    }
    for ((least, most), attempt) in extremes.iter().zip(&attempts) {
        let range = range(*attempt);
        assert!(
            *least < range / 10 && *most > range * 9 / 10,
            "{attempt}: {least:?} {most:?}"
        );
    }
}

/// `L-S7`: a wait that the service asked for is never made shorter, also beyond `backoffMaxMs`.
#[test]
fn a_wait_that_was_asked_for_is_honoured() {
    let mut bench = Bench::new(2);
    let asks = [3, 90, 7].map(|seconds| Say::Retry(Some(Duration::from_secs(seconds))));
    bench.script().then(Plan::says(&asks));
    bench.script().then(Plan::says(&[asks[0], RETRY, ACCEPT]));
    bench.script().then(Plan::retry());
    bench.append(9);
    bench.drain();
    let waits = waits(&bench);
    let (most, base) = (Duration::from_secs(90), Duration::from_millis(50));
    assert!(waits[0] >= most && waits[0] <= most + base, "{waits:?}");
    assert!(waits[1] >= Duration::from_secs(3), "{waits:?}");
    assert!(
        waits[2] <= 2 * base,
        "what was asked for once does not hold for ever: {waits:?}"
    );
    bench.assert_accepted_once(0..9);
}

/// `G-039`, `G-091`, `G-092`, `L-93`, `L-96`, `L-97`: a batch keeps the stream's bounds and the sink's,
/// always has a record, and is as full as they let it be.
#[test]
fn batches_are_full_and_keep_all_bounds() {
    let first = seed(1);
    for seed in first..first + 40 {
        let mut random = Random::new(seed);
        let mut bound = |max: u64| u32::try_from(1 + random.below(max)).unwrap();
        let (records, bytes) = (bound(40), bound(9000));
        let (sink_records, sink_bytes) = (bound(40), bound(9000));
        let mut bench = Bench::with(seed, |to| {
            (to.options.records_max, to.options.bytes_max) = (records, bytes);
            to.script.set_limits(|limits| {
                (limits.records_max, limits.bytes_max) = (sink_records, sink_bytes);
            });
        });
        // Behind the first batch a backlog grows.
        let answer = When::After(Duration::from_secs(30));
        bench.script().then(Plan::accept().when(answer));
        for _ in 0..5 {
            bench.append(40);
            bench.pass(INTERVAL);
        }
        bench.drain();
        bench.assert_accepted_once(0..200);
        let (records, bytes) = (
            records.min(sink_records) as usize,
            bytes.min(sink_bytes) as usize,
        );
        let size = |offset: u64| b"key".len() + payload(offset + 1).len();
        let script = bench.script();
        let requests = &script.state().requests;
        for (at, request) in requests.iter().enumerate() {
            let len = request.offsets.len();
            let sum: usize = request.offsets.iter().copied().map(size).sum();
            assert_eq!(sum, request.bytes);
            assert!(
                len <= records && (sum <= bytes || len == 1),
                "{len} records, {sum} bytes"
            );
            if let Some(next) = requests.get(at + 1).filter(|_| at > 0) {
                let is_full = len == records || sum + size(next.offsets[0]) > bytes;
                assert!(is_full, "SEED={seed}: {len} of {records}, {sum} of {bytes}");
            }
        }
    }
}

/// `G-093`: a batch that is not full goes when its oldest record has waited `maxLatencyMs`, whatever
/// comes behind it; a full one goes at once.
#[test]
fn a_batch_lingers_until_its_oldest_record_has_waited() {
    let linger = Duration::from_millis(4500);
    let mut bench = Bench::with(4, |to| to.options.linger = linger);
    bench.append(3);
    bench.pass(INTERVAL); // now they are durable
    let start = bench.clock.mono();
    bench.append(3);
    bench.pass(INTERVAL);
    bench.pass(linger.saturating_sub(INTERVAL + Duration::from_millis(2)));
    assert_eq!(bench.script().requests().len(), 0, "it lingers");
    bench.pass(Duration::from_millis(3));
    assert_eq!(bench.script().requests(), [[0, 1, 2, 3, 4, 5]]);
    let waited = bench.script().times()[0].since(start);
    assert!(
        waited <= linger && waited + Duration::from_millis(2) > linger,
        "{waited:?}"
    );

    bench.append(4);
    bench.pass(INTERVAL * 2);
    bench.append(6);
    bench.pass(INTERVAL);
    assert_eq!(
        bench.script().requests().len(),
        2,
        "ten records are a batch"
    );
    bench.drain();
    bench.assert_accepted_once(0..16);
}

/// `G-116`, `G-117`, `L-111`: the stats say what a sink does and how its link is; its last error stays.
/// Whatever the link is, nothing is given up.
#[test]
fn the_stats_show_the_link() {
    let mut bench = Bench::with(5, |to| to.options.linger = Duration::ZERO);
    assert_eq!(bench.stats().sinks[0].state, SinkState::Idle);
    let links = [
        (Link::Down, SinkState::Link, "link", "no route to host"),
        (
            Link::Throttled,
            SinkState::Throttled,
            "throttled",
            "slow down",
        ),
        (Link::Auth, SinkState::Auth, "auth", "the token expired"),
        (Link::Config, SinkState::Config, "config", "no such topic"),
        (Link::Ok, SinkState::Backoff, "backoff", "no such topic"),
    ];
    for (link, state, name, error) in links {
        bench.script().set(Plan::retry().link(link, error));
        bench.append(20);
        bench.pass(Duration::from_secs(40));
        let stats = bench.stats();
        let sink = &stats.sinks[0];
        assert_eq!((sink.state, sink.state.name()), (state, name));
        assert_eq!(sink.last_export_error.as_str(), error);
        assert!(
            stats.oldest_unacked_age_ms >= 39_000 - 1000,
            "{}",
            stats.oldest_unacked_age_ms
        );

        let answer = When::After(Duration::from_secs(40));
        bench
            .script()
            .set(Plan::accept().link(Link::Ok, "").when(answer));
        // One was accepted, the next one is under way.
        let accepted = bench.script().accepted().len();
        let script = bench.script();
        bench.run.run_until(&mut bench.oracle, "accepted", |_| {
            script.accepted().len() > accepted
        });
        assert_eq!(bench.stats().sinks[0].state, SinkState::Ok);
        bench.drain();
        let sink = &bench.stats().sinks[0];
        assert_eq!(
            (sink.state, sink.oldest_unacked_age_ms),
            (SinkState::Idle, 0)
        );
        assert_eq!(sink.last_export_error.as_str(), error, "it is kept");
    }
    bench.assert_accepted_once(0..100);
}

/// `G-050`: a sink need not say anything of its link. It showed as idle while it failed, and as waiting
/// for ever after a panic.
#[test]
fn what_a_sink_does_shows_without_a_word_of_its_link() {
    let mut bench = Bench::with(6, |to| to.options.linger = Duration::ZERO);
    let slow = When::After(Duration::from_secs(40));
    let state = |bench: &Bench| bench.stats().sinks[0].state;
    bench.script().set(Plan::retry());
    bench.append(40);
    bench.pass(Duration::from_secs(5));
    assert_eq!(state(&bench), SinkState::Backoff);
    bench.script().then(Plan::says(&[ACCEPT, RETRY]));
    bench.script().set(Plan::accept().when(slow));
    let script = bench.script();
    bench.run.run_until(&mut bench.oracle, "accepted", |_| {
        script.accepted().contains(&9)
    });
    assert_eq!(state(&bench), SinkState::Ok, "the next batch is under way");
    bench
        .script()
        .then(Plan::panic(crate::sim::sink::Panics::Poll).when(slow));
    bench.run.run_until(&mut bench.oracle, "a panic", |run| {
        run.sink_stats(0).panics_total == 1
    });
    assert_eq!(state(&bench), SinkState::Backoff);
    bench.run.run_until(&mut bench.oracle, "accepted", |_| {
        script.accepted().contains(&29)
    });
    assert_eq!(state(&bench), SinkState::Ok, "the last batch is under way");
    bench.drain();
    assert_eq!(state(&bench), SinkState::Idle);
    bench.assert_accepted_once(0..40);
}

/// Without the time of day nobody knows how old a record of another boot is. It counted as new at each look, so
/// less than a batch of them waited until more came, for ever.
#[test]
fn a_few_records_of_another_boot_do_not_wait_for_more() {
    let mut bench = Bench::with(9, |to| {
        to.options.linger = Duration::from_secs(5);
        to.script.set(Plan::retry());
    });
    bench.clock.set_wall_ms(5_000);
    bench.append(3);
    bench.pass(Duration::from_secs(20));
    assert!(bench.script().accepted().is_empty());
    assert!(bench.run.close(&mut bench.oracle), "it closes");
    bench.disk.power_cut();
    bench.clock.reboot();
    bench.script().set(Plan::accept());
    bench.run = Delivery::open(&bench.disk, &bench.clock, bench.setup, &bench.to).unwrap();
    bench.pass(Duration::from_secs(6));
    bench.assert_accepted_once(0..3);
}

/// Records that only the versions of a partly filled page have are not taken for damage when one read of it
/// fails.
#[test]
fn a_read_that_fails_once_costs_no_record_of_a_partly_filled_page() {
    for seed in 0..20 {
        let mut bench = Bench::new(seed);
        bench.script().set(Plan::retry());
        for _ in 0..4 {
            bench.append(3);
            bench.pass(Duration::from_secs(2));
        }
        bench.restart();
        // Behind the version there are pages of another life.
        bench.append(3);
        bench.pass(Duration::from_secs(2));
        bench.restart();
        bench.script().set(Plan::accept());
        bench.disk.set_read_failures(3);
        bench.pass(Duration::from_secs(300));
        bench.disk.set_read_failures(0);
        bench.drain();
        assert_eq!(bench.stats().dropped_damage, 0, "seed {seed}");
        bench.assert_accepted_once(0..15);
    }
}
