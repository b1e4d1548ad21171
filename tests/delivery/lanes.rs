//! Several batches under way at once, and what stays in order.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use forebay::exporter::Ordering;

use super::Bench;
use crate::sim::session::{SETUP, Setup, key};
use crate::sim::sink::{Plan, Say, When};

const ROUND_TRIP: Duration = Duration::from_millis(300);
const BATCH: u32 = 10;

/// A bench whose sink takes so many batches at once.
fn bench(seed: u64, ordering: Ordering, lanes: u32, keeps_order: bool) -> Bench {
    Bench::with(seed, |to| {
        to.options.ordering = ordering;
        to.options.in_flight_max = lanes;
        to.options.records_max = BATCH;
        to.options.bytes_max = 1 << 20;
        to.script.set_limits(|limits| {
            limits.in_flight_max = lanes;
            limits.keeps_order = keeps_order;
        });
    })
}

/// Appends so many records, and waits until they are durable, while nothing is delivered.
fn fill(bench: &mut Bench, count: u64) {
    bench.script().set(Plan::hang());
    let mut left = count;
    while left > 0 {
        bench.append(left.min(50));
        left -= left.min(50);
        bench.pass(Duration::from_secs(2));
    }
    assert_eq!(bench.run.session.log().durable(), count);
    bench.restart();
    bench.script().state().requests.clear();
}

/// Records per second that a sink with a round trip gets of a backlog, as a part of what so many lanes
/// with full batches would bring.
fn rate(ordering: Ordering, lanes: u32, keeps_order: bool) -> f64 {
    let mut bench = bench(9, ordering, lanes, keeps_order);
    let count = 800;
    fill(&mut bench, count);
    bench
        .script()
        .set(Plan::accept().when(When::After(ROUND_TRIP)));
    let start = bench.run.now();
    bench.drain();
    bench.assert_accepted_once(0..count);
    let accepted = bench.script().state().accepted.clone();
    let (last, _) = *accepted.last().unwrap();
    let most = bench.script().state().in_flight;
    assert!(most <= lanes as usize, "{most} batches at once");
    #[allow(clippy::cast_precision_loss)]
    let rate = count as f64 / last.since(start).as_secs_f64();
    rate / (f64::from(lanes * BATCH) / ROUND_TRIP.as_secs_f64())
}

/// A sink whose answers take 300 ms is drained at 0.8 of what its lanes can bring, or better.
#[test]
fn a_long_round_trip_is_made_up_for_by_lanes() {
    for lanes in [1, 2, 4, 8] {
        for (ordering, keeps_order) in [
            (Ordering::None, false),
            (Ordering::Stream, true),
            (Ordering::PerKey, false),
        ] {
            // There are seven keys: more lanes than that have nothing to do.
            if ordering == Ordering::PerKey && lanes > 4 {
                continue;
            }
            let rate = rate(ordering, lanes, keeps_order);
            println!("{ordering:?}, {lanes} lanes: {rate:.2}");
            assert!(rate >= 0.8, "{ordering:?}, {lanes} lanes: {rate:.2}");
        }
    }
}

/// Under `stream` a sink that may mix up requests never has two of them.
#[test]
fn the_stream_order_has_one_batch_at_a_time_unless_the_sink_keeps_it() {
    let mut bench = bench(10, Ordering::Stream, 8, false);
    bench
        .script()
        .set(Plan::accept().when(When::After(ROUND_TRIP)));
    bench.append(60);
    bench.drain();
    assert_eq!(bench.script().state().in_flight, 1);
    let accepted = bench.script().accepted();
    assert!(accepted.is_sorted(), "{accepted:?}");
}

/// The keys of accepted records.
fn accepted_by_key(bench: &Bench) -> BTreeMap<[u8; 3], Vec<u64>> {
    let mut by_key: BTreeMap<_, Vec<u64>> = BTreeMap::new();
    for offset in bench.script().accepted() {
        by_key.entry(key(offset + 1)).or_default().push(offset);
    }
    by_key
}

/// `G-099`: under `perKey` a key that fails for hours holds up its own records and no others, also more of
/// them than are read at once; and when it works again, each key has its order.
#[test]
fn a_key_that_fails_holds_up_no_other() {
    let mut bench = bench(11, Ordering::PerKey, 2, false);
    let bad = key(1);
    bench.script().fail_keys(vec![bad.to_vec()]);
    let mut total = 0;
    for _ in 0..20 {
        bench.append(40);
        total += 40;
        bench.pass(Duration::from_secs(60));
        let of_bad = (0..total).filter(|offset| key(offset + 1) == bad).count();
        if of_bad > 15 {
            break;
        }
    }
    let is_other = |offset: &u64| key(offset + 1) != bad;
    let others: Vec<u64> = (0..total).filter(is_other).collect();
    let accepted: BTreeSet<u64> = bench.script().accepted().into_iter().collect();
    assert_eq!(accepted, others.iter().copied().collect());
    bench.script().fail_keys(Vec::new());
    bench.drain();
    for (key, offsets) in accepted_by_key(&bench) {
        assert!(offsets.is_sorted(), "{key:?}: {offsets:?}");
    }
    bench.assert_accepted_once(0..total);
}

/// `G-099`: under `none` records that fail hold up nothing, however many batches come behind them.
#[test]
fn records_that_fail_hold_up_nothing_where_nothing_is_in_order() {
    for lanes in [1, 3] {
        let mut bench = bench(12, Ordering::None, lanes, false);
        let bad: Vec<u64> = vec![3, 17, 40, 77];
        bench.script().fail_offsets(bad.clone());
        for _ in 0..20 {
            bench.append(20);
            bench.pass(Duration::from_secs(60));
        }
        let accepted: BTreeSet<u64> = bench.script().accepted().into_iter().collect();
        let good = (0..400).filter(|offset| !bad.contains(offset));
        assert_eq!(accepted, good.collect());
        assert_eq!(bench.run.position(0), bad[0], "what is left is remembered");
        bench.script().fail_offsets(Vec::new());
        bench.drain();
        bench.assert_accepted_once(0..400);
    }
}

/// A stop waits for what is under way in all lanes, and nothing of it comes again.
#[test]
fn a_stop_waits_for_all_lanes() {
    let mut bench = bench(13, Ordering::None, 4, false);
    bench
        .script()
        .set(Plan::accept().when(When::After(Duration::from_secs(20))));
    bench.append(40);
    bench.pass(Duration::from_secs(3));
    assert!(bench.script().accepted().is_empty());
    assert!(bench.script().state().in_flight > 1);
    bench.restart();
    assert_eq!(bench.script().accepted().len(), 40);
    bench.script().set(Plan::accept());
    bench.append(10);
    bench.drain();
    bench.assert_accepted_once(0..50);
}

/// A crash of the process behind outcomes in any order repeats only what was in flight, as far as the
/// cursor can remember it.
#[test]
fn what_was_done_out_of_order_does_not_come_again() {
    let mut bench = bench(14, Ordering::None, 3, false);
    bench.script().then(Plan::hang());
    bench.append(50);
    bench.pass(Duration::from_secs(5));
    let (done, first) = (
        bench.script().accepted(),
        bench.script().requests()[0].clone(),
    );
    assert_eq!(
        done.len() + first.len(),
        50,
        "one batch hangs, the others went on"
    );
    let board = bench.run.board();
    bench.disk.kill();
    bench.run = crate::sim::delivery::Delivery::open_on(
        board,
        &bench.disk,
        &bench.clock,
        bench.setup,
        &bench.to,
    )
    .unwrap();
    bench.drain();
    bench.assert_accepted_once(0..50);
}

/// Gaps between what is under way are counted once, and hold up nothing.
#[test]
fn gaps_are_counted_once_behind_open_records() {
    let setup = Setup {
        drop_oldest: true,
        ..SETUP
    };
    for ordering in [Ordering::None, Ordering::PerKey] {
        let mut bench = Bench::with_sinks(15, setup, {
            let mut to = crate::sim::delivery::To::new("file", 15);
            to.options.ordering = ordering;
            to.options.in_flight_max = 3;
            to.script.set_limits(|limits| limits.in_flight_max = 3);
            vec![to]
        });
        bench.script().set(Plan::says(&[Say::Retry(None)]));
        let mut total = 0;
        while bench.run.session.log().shared().head() == 0 {
            bench.append(50);
            total += 50;
            bench.pass(Duration::from_secs(3));
        }
        bench.script().set(Plan::accept());
        bench.drain();
        let stats = bench.stats();
        let accepted = bench.script().accepted().len() as u64;
        assert_eq!(accepted + stats.sinks[0].dropped_total, total);
        assert!(stats.sinks[0].dropped_total > 0);
    }
}
