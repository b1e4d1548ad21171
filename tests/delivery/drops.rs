//! A sink that is not served holds up neither the log nor other sinks; what it loses is counted once.

use std::collections::BTreeSet;
use std::time::Duration;

use forebay::clock::Mono;
use forebay::format::Reason;

use super::Bench;
use crate::sim::delivery::{Delivery, To};
use crate::sim::random::{Random, seed};
use crate::sim::session::{INTERVAL, SETUP, Setup};
use crate::sim::sink::{Plan, Say, When};

/// About twice what the budget holds.
const MANY: u64 = 3000;

/// Of a run from an empty store on, at rest: each offset that the sink's cursor has passed was accepted
/// once or is a gap, and the gaps are counted by their reason.
fn assert_accounted(bench: &Bench, index: usize) {
    let position = bench.run.position(index);
    let script = &bench.to[index].script;
    let accepted = script.accepted();
    let set: BTreeSet<u64> = accepted.iter().copied().collect();
    assert_eq!(set.len(), accepted.len(), "nothing is accepted twice");
    assert!(set.last() < Some(&position));
    let gaps: Vec<u64> = (0..position)
        .filter(|offset| !set.contains(offset))
        .collect();
    let sink = bench.run.sink_stats(index);
    assert_eq!(sink.exported_total, accepted.len() as u64);
    assert_eq!(sink.dropped_quota, gaps.len() as u64, "counted once");
    assert_eq!(sink.dropped_total, sink.dropped_quota);
    assert_eq!(sink.dropped_never_durable, 0);
    assert_eq!(position, sink.exported_total + sink.dropped_total);
    let shared = bench.run.session.log().shared().clone();
    let ledger = shared.ledger();
    for offset in gaps {
        let loss = ledger.covering(offset).expect("the ledger has it");
        assert!(loss.reason == Reason::Quota && offset < shared.head());
    }
}

/// Appends while only the syncer has its turns: the exporters' threads get no time.
fn append_unread(bench: &mut Bench, count: u64) {
    for _ in 0..count / 30 {
        bench.append(30);
        assert!(bench.run.session.step(&mut bench.oracle, INTERVAL));
    }
}

/// `G-005`, `G-062`, `G-063`, `G-066`, `G-105`: while a sink hangs everything becomes durable in time,
/// nothing is refused, and the oldest go. Later it gets all that is left.
#[test]
fn a_sink_that_hangs_stops_neither_the_log_nor_dropping() {
    let mut bench = Bench::new(1);
    bench.script().set(Plan::hang());
    for n in 1..=MANY / 30 {
        bench.append(30);
        bench.pass(INTERVAL);
        let stats = bench.stats();
        assert_eq!(
            (stats.durable_offset, stats.appended_total),
            (n * 30, n * 30)
        );
    }
    let stats = bench.stats();
    assert_eq!((stats.exported_total, stats.rejected_total), (0, 0));
    assert_eq!(stats.acked_offset, 0, "the cursor waits for an answer");
    assert!(stats.head_offset > MANY / 4, "the head has passed it");
    assert_eq!(stats.backlog, MANY - stats.head_offset);
    bench.script().set(Plan::accept());
    bench.drain();
    assert_accounted(&bench, 0);
    let stats = bench.stats();
    assert!(stats.dropped_quota > MANY / 4);
    assert_eq!(
        stats.appended_total,
        stats.exported_total + stats.dropped_total
    );
    assert_eq!(stats.backlog, 0);
}

/// `L-104`: the head passes a reader that is in the middle of a segment, with a batch that is being
/// gathered, is under way, or waits to be sent again. What was read already is delivered whole; the rest
/// is one gap.
#[test]
fn the_head_may_pass_a_reader_anywhere() {
    let first = seed(1);
    for seed in first..first + 24 {
        let mut random = Random::new(seed);
        let linger = Duration::from_secs(if random.chance(3) { 600 } else { 0 });
        let mut bench = Bench::with(seed, |to| to.options.linger = linger);
        // It has come somewhere into the log,
        let before = random.below(500);
        bench.append(before);
        bench.drain();
        // and stands there with a batch.
        bench.script().then(match random.below(3) {
            0 => Plan::accept().when(When::After(Duration::from_secs(1))),
            1 => Plan::says(&[Say::Retry(Some(Duration::from_secs(3))), Say::Accept]),
            _ => Plan::retry(),
        });
        bench.append(1 + random.below(12));
        bench.pass(INTERVAL);
        append_unread(&mut bench, MANY);
        let head = bench.stats().head_offset;
        assert!(head > before + 12, "it was overtaken");
        bench.drain();
        assert_accounted(&bench, 0);
        assert!(bench.stats().dropped_quota > 0, "SEED={seed}");
    }
}

/// `L-104`: a sink that is a little too slow is overtaken again and again.
#[test]
fn a_slow_sink_is_overtaken_again_and_again() {
    let mut bench = Bench::new(2);
    bench
        .script()
        .set(Plan::accept().when(When::After(Duration::from_millis(900))));
    for _ in 0..4 * MANY / 30 {
        bench.append(30);
        bench.pass(INTERVAL);
    }
    bench.drain();
    assert_accounted(&bench, 0);
    let stats = bench.stats();
    assert!(stats.dropped_quota > MANY && stats.exported_total > MANY / 2);
}

/// `G-065`: where nothing may be dropped, the newest are refused, and each one that was taken is
/// delivered when the sink is back.
#[test]
fn nothing_is_dropped_where_the_newest_are_refused() {
    let setup = Setup {
        drop_oldest: false,
        ..SETUP
    };
    let mut bench = Bench::with_sinks(3, setup, vec![To::new("file", 3)]);
    bench.script().set(Plan::hang());
    let mut taken = 0;
    for _ in 0..MANY / 30 {
        taken += bench.run.append(&mut bench.oracle, 30);
        bench.pass(INTERVAL);
    }
    assert!(taken < MANY * 3 / 4, "the budget is used up");
    assert_eq!(bench.run.append(&mut bench.oracle, 1), 0);
    bench.script().set(Plan::accept());
    bench.drain();
    bench.assert_accepted_once(0..taken);
    assert_eq!(bench.stats().dropped_total, 0);
    bench.append(30);
    bench.drain();
    bench.assert_accepted_once(0..taken + 30);
}

/// What a sink accepted, and when, while another one of the same stream does as it is told.
fn beside(other: Option<Plan>) -> (Vec<(Mono, u64)>, Bench) {
    let mut to = vec![To::new("live", 4)];
    to[0]
        .script
        .set(Plan::accept().when(When::After(Duration::from_millis(30))));
    if let Some(plan) = other {
        to.push(To::new("other", 5));
        to[1].script.set(plan);
    }
    let mut bench = Bench::with_sinks(4, SETUP, to);
    for _ in 0..MANY / 30 {
        bench.append(30);
        bench.pass(INTERVAL);
    }
    let accepted = bench.script().state().accepted.clone();
    (accepted, bench)
}

/// `G-004`, `L-71`: cursors are independent. A dead sink changes nothing for another one of the stream,
/// which gets everything at the same instants as if it were alone.
#[test]
fn a_dead_sink_does_not_delay_another() {
    let (alone, _) = beside(None);
    assert!(alone.len() as u64 > MANY - 60);
    for plan in [Plan::hang(), Plan::retry()] {
        let (accepted, mut bench) = beside(Some(plan));
        assert!(accepted == alone, "the live sink was held up");
        let stats = bench.stats();
        assert_eq!(stats.sinks[0].dropped_total, 0);
        assert_eq!(stats.acked_offset, stats.sinks[1].acked_offset);
        assert_eq!(stats.backlog, stats.sinks[1].backlog);
        bench.to[1].script.set(Plan::accept());
        bench.drain();
        assert_accounted(&bench, 0);
        assert_accounted(&bench, 1);
        let stats = bench.stats();
        assert!(stats.sinks[1].dropped_quota > 0);
        let exported: u64 = stats.sinks.iter().map(|sink| sink.exported_total).sum();
        assert_eq!(stats.exported_total, exported);
    }
}

/// A new cursor begins where `startAt` says, and keeps its place from then on, also while its sink is
/// not configured.
#[test]
fn a_new_cursor_begins_at_the_oldest_or_the_newest_record() {
    let mut bench = Bench::new(6);
    bench.append(30);
    bench.drain();
    let [mut oldest, mut newest] = ["oldest", "newest"].map(|name| To::new(name, 7));
    newest.starts_newest = true;
    oldest.script.set(Plan::hang());
    bench.to.extend([newest.clone(), oldest.clone()]);
    bench.restart();
    bench.append(20);
    bench.pass(Duration::from_secs(5));
    assert_eq!(newest.script.accepted(), (30..50).collect::<Vec<u64>>());
    assert_eq!(oldest.script.requests()[0][0], 0);
    bench.to.truncate(1);
    bench.restart();
    bench.append(20);
    bench.drain();
    oldest.script = crate::sim::sink::Script::default();
    bench.to.extend([newest.clone(), oldest.clone()]);
    bench.restart();
    bench.append(20);
    bench.drain();
    assert_eq!(newest.script.accepted(), (30..90).collect::<Vec<u64>>());
    assert_eq!(oldest.script.accepted(), (0..90).collect::<Vec<u64>>());
    bench.assert_accepted_once(0..90);
}

/// `G-066`: below the head, what was dropped and what never was durable are counted apart, and nothing is left out.
#[test]
fn a_sink_that_comes_back_counts_each_gap_below_the_head_by_its_reason() {
    let sinks = ["file", "absent"].map(|name| To::new(name, 9));
    let mut bench = Bench::with_sinks(9, SETUP, sinks.to_vec());
    bench.append(30);
    bench.drain();
    let absent = bench.to.pop().unwrap();
    bench.restart();
    bench.append(30);
    bench.drain();
    bench.disk.power_cut();
    bench.clock.reboot();
    bench.run = Delivery::open(&bench.disk, &bench.clock, bench.setup, &bench.to).unwrap();
    let skipped = bench.run.session.report.next - 60;
    for _ in 0..MANY / 30 {
        bench.append(30);
        bench.drain();
    }
    bench.to.push(absent);
    bench.restart();
    bench.drain();
    let (head, sink) = (bench.stats().head_offset, bench.run.sink_stats(1));
    assert!(skipped > 0 && head > 60 + skipped, "{skipped} below {head}");
    assert_eq!(sink.dropped_never_durable, skipped);
    assert_eq!(sink.dropped_quota, head - 30 - skipped);
    assert_eq!(sink.exported_total, bench.run.position(1) - head);
}

/// What the disk has left while others use it, at every step.
fn fill_beside_others(bench: &mut Bench, size: u64, kept: u64) -> u64 {
    bench.disk.set_size(size);
    let mut taken = 0;
    for _ in 0..MANY / 30 {
        taken += bench.run.append(&mut bench.oracle, 30);
        bench.pass(INTERVAL);
        let free = size - bench.disk.allocated();
        assert!(free >= kept, "{free} bytes are left, {kept} are for others");
    }
    taken
}

/// `G-060`: a store leaves others their part of the file system, and does then as if its budget were used
/// up. When there is room again, it takes it.
#[test]
fn others_keep_their_part_of_the_disk() {
    let (kept, size) = (1 << 20, 3 << 19);
    for drop_oldest in [true, false] {
        let setup = Setup {
            drop_oldest,
            free_bytes_min: kept,
            ..SETUP
        };
        let mut bench = Bench::with_sinks(8, setup, vec![To::new("file", 8)]);
        bench.script().set(Plan::hang());
        let taken = fill_beside_others(&mut bench, size, kept);
        let few = bench.run.session.log().shared().segments().len();
        assert!((1..=2).contains(&few), "{few} segments");
        let stats = bench.stats();
        match drop_oldest {
            true => assert!(stats.head_offset > MANY / 2 && taken == MANY),
            false => assert!(stats.head_offset == 0 && taken < MANY / 2),
        }
        let more = fill_beside_others(&mut bench, 2 * size, kept);
        assert!(more > MANY / 8, "{more}");
        let many = bench.run.session.log().shared().segments().len();
        assert!(many > few, "{many} segments");
        bench.script().set(Plan::accept());
        bench.drain();
        assert_accounted(&bench, 0);
    }
}
