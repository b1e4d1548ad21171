//! Retention by age: whole segments go, when their time has come and not before; what a sink loses by it
//! is counted once.

use std::collections::BTreeSet;
use std::time::Duration;

use forebay::clock::{Clock, Mono, WALL_KNOWN_MS};
use forebay::format::Reason;
use forebay::syncer::Next;

use super::Bench;
use crate::sim::delivery::{Delivery, To};
use crate::sim::session::{INTERVAL, SETUP, Setup};
use crate::sim::sink::{Plan, When};

const HOUR: Duration = Duration::from_secs(3600);
const MINUTE: Duration = Duration::from_secs(60);
/// Some segments, though far less than the budget.
const SOME: u64 = 900;
const YEAR_MS: u64 = 366 * 24 * 3_600_000;

const HOURLY: Setup = Setup {
    age_max: Some(HOUR),
    ..SETUP
};

fn hourly(seed: u64) -> Bench {
    Bench::with_sinks(seed, HOURLY, vec![To::new("file", seed)])
}

/// Appends while only the syncer has its turns: no exporter gets any time.
fn append_unread(bench: &mut Bench, count: u64) {
    for _ in 0..count / 30 {
        bench.append(30);
        assert!(bench.run.session.step(&mut bench.oracle, INTERVAL));
    }
}

/// Lets the syncer alone have its turns, at the instants that it waits for. Returns how many there were.
fn pass_unread(bench: &mut Bench, time: Duration) -> u32 {
    let end = bench.run.now().plus(time);
    let mut turns = 0;
    loop {
        assert!(bench.run.session.step(&mut bench.oracle, Duration::ZERO));
        let next = match bench.run.session.next {
            Next::At(at) => at.min(end),
            Next::Woken => end,
        };
        let now = bench.run.now();
        if now >= end {
            return turns;
        }
        turns += u32::from(next < end);
        bench
            .clock
            .advance(next.since(now).max(Duration::from_micros(1)));
    }
}

/// Where segments begin.
fn bases(bench: &Bench) -> Vec<u64> {
    let segments = bench.run.session.log().shared().segments();
    segments.iter().map(|segment| segment.base).collect()
}

fn head(bench: &Bench) -> u64 {
    bench.run.session.log().shared().head()
}

/// The power goes and comes back; the clock then shows that time of day.
fn reboot(bench: &mut Bench, wall_ms: u64) {
    bench.disk.power_cut();
    bench.clock.reboot();
    bench.clock.set_wall_ms(wall_ms);
    bench.run = Delivery::open(&bench.disk, &bench.clock, bench.setup, &bench.to).unwrap();
}

/// All that the sink's cursor passed was accepted once, or is too old and counted so.
fn assert_accounted(bench: &Bench) {
    let accepted = bench.script().accepted();
    let set: BTreeSet<u64> = accepted.iter().copied().collect();
    assert_eq!(set.len(), accepted.len(), "nothing is accepted twice");
    let position = bench.run.position(0);
    let gaps: Vec<u64> = (0..position).filter(|at| !set.contains(at)).collect();
    let sink = bench.run.sink_stats(0);
    assert_eq!(sink.dropped_age, gaps.len() as u64, "counted once");
    assert_eq!(sink.dropped_total, sink.dropped_age);
    let shared = bench.run.session.log().shared().clone();
    let ledger = shared.ledger();
    for offset in gaps {
        let loss = ledger.covering(offset).expect("the ledger has it");
        assert!(loss.reason == Reason::Age && offset < shared.head());
    }
}

/// `G-061`: a segment goes an hour after its last record at the earliest, and when the next one was
/// begun an hour ago at the latest. In between nobody wakes up for it.
#[test]
fn a_segment_goes_when_its_newest_record_is_too_old() {
    let mut bench = hourly(1);
    bench.script().set(Plan::hang());
    append_unread(&mut bench, SOME);
    let bases = bases(&bench);
    assert!(bases.len() > 2, "{bases:?}");
    let begun = bench.run.now();
    // The first record of the second segment, when it was appended, came a second for each 30 before.
    let sealed = |at: usize| begun.0 - (SOME - bases[at]) / 30 * 1_000_000_000;
    pass_unread(&mut bench, 30 * MINUTE);
    assert_eq!(head(&bench), 0);
    for at in 1..bases.len() {
        let due = Mono(sealed(at)).plus(HOUR);
        let early = due.since(bench.run.now()).saturating_sub(2 * INTERVAL);
        pass_unread(&mut bench, early);
        assert_eq!(head(&bench), bases[at - 1], "too early");
        pass_unread(&mut bench, 4 * INTERVAL);
        assert_eq!(head(&bench), bases[at], "too late");
    }
    assert_eq!(
        pass_unread(&mut bench, 1000 * HOUR),
        0,
        "nothing is left to wake up for"
    );
    let last = *bases.last().unwrap();
    assert_eq!(head(&bench), last, "what is being written stays");
    bench.script().set(Plan::accept());
    bench.drain();
    assert_accounted(&bench);
    assert!(bench.stats().dropped_age > SOME / 2);
    assert_eq!(bench.stats().dropped_quota, 0);
}

/// `G-061`: records that expire while a sink has a batch of them, or waits in the middle of their
/// segment. What was read already is delivered; the rest is one gap, and goes on behind it.
#[test]
fn a_segment_may_go_under_a_reader() {
    for seed in 1..12 {
        let mut bench = hourly(seed);
        bench.script().then(Plan::accept());
        bench.script().then(match seed % 3 {
            0 => Plan::hang().when(When::After(2 * HOUR)),
            1 => Plan::retry(),
            _ => Plan::accept().when(When::After(MINUTE)),
        });
        bench.append(10 + seed);
        bench.pass(INTERVAL);
        append_unread(&mut bench, SOME);
        assert_eq!(head(&bench), 0);
        pass_unread(&mut bench, 2 * HOUR);
        assert!(head(&bench) > SOME / 2, "SEED={seed}");
        bench.append(30);
        bench.drain();
        assert_accounted(&bench);
        let stats = bench.stats();
        assert!(stats.dropped_age > SOME / 2, "SEED={seed}");
        assert_eq!(
            stats.appended_total,
            stats.exported_total + stats.dropped_age
        );
    }
}

/// `G-061`: within a boot a clock that is set makes nothing older or younger.
#[test]
fn a_clock_that_steps_expires_nothing() {
    for wall_ms in [0, WALL_KNOWN_MS, 3 * WALL_KNOWN_MS] {
        let mut bench = hourly(2);
        bench.script().set(Plan::hang());
        append_unread(&mut bench, SOME / 2);
        bench.clock.set_wall_ms(wall_ms);
        append_unread(&mut bench, SOME / 2);
        pass_unread(&mut bench, 58 * MINUTE);
        assert_eq!(head(&bench), 0, "{wall_ms}");
        pass_unread(&mut bench, 2 * MINUTE);
        assert_eq!(head(&bench), *bases(&bench).last().unwrap(), "{wall_ms}");
    }
}

/// `G-061`: after a reboot the time of day says how old a record is. While it is not known nothing
/// expires; when it went back, nothing does before its time.
#[test]
fn after_a_reboot_the_time_of_day_counts() {
    let mut bench = hourly(3);
    bench.script().set(Plan::hang());
    append_unread(&mut bench, SOME);
    let appended = bench.clock.wall_ms();
    let last = *bases(&bench).last().unwrap();
    // Unknown for ever so long.
    reboot(&mut bench, 0);
    let turns = pass_unread(&mut bench, 100 * HOUR);
    assert!((5990..6010).contains(&turns), "{turns} looks");
    assert_eq!(head(&bench), 0);
    // Known: a minute later they are gone.
    reboot(&mut bench, appended - YEAR_MS);
    pass_unread(&mut bench, 2 * HOUR);
    assert_eq!(head(&bench), 0, "it went back");
    reboot(&mut bench, appended + 30 * 60_000);
    pass_unread(&mut bench, 28 * MINUTE);
    assert_eq!(head(&bench), 0, "too early");
    pass_unread(&mut bench, 3 * MINUTE);
    assert_eq!(head(&bench), last, "too late");
    bench.script().set(Plan::accept());
    bench.drain();
    assert_eq!(bench.stats().dropped_quota, 0);
    assert!(bench.stats().dropped_age > SOME / 2);
}

/// `G-061`: what was appended before the clock was set, in a boot that never set it, has no age.
#[test]
fn a_record_of_unknown_age_never_expires() {
    let mut bench = hourly(4);
    bench.script().set(Plan::hang());
    let wall_ms = bench.clock.wall_ms();
    bench.clock.set_wall_ms(0);
    append_unread(&mut bench, SOME);
    reboot(&mut bench, wall_ms + YEAR_MS);
    assert_eq!(pass_unread(&mut bench, 1000 * HOUR), 0, "no polling");
    assert_eq!(head(&bench), 0);
    // What comes behind it in its segment is of this boot, and becomes too old; then so is all before.
    append_unread(&mut bench, SOME / 3);
    pass_unread(&mut bench, 2 * HOUR);
    assert_eq!(head(&bench), *bases(&bench).last().unwrap());
}

/// `G-061`: where nothing may be dropped, age drops nothing either.
#[test]
fn nothing_expires_where_nothing_may_be_dropped() {
    let setup = Setup {
        drop_oldest: false,
        ..HOURLY
    };
    let mut bench = Bench::with_sinks(5, setup, vec![To::new("file", 5)]);
    bench.script().set(Plan::hang());
    append_unread(&mut bench, SOME);
    pass_unread(&mut bench, MINUTE);
    assert_eq!(pass_unread(&mut bench, 1000 * HOUR), 0, "no polling");
    assert_eq!(head(&bench), 0);
    bench.script().set(Plan::accept());
    bench.drain();
    bench.assert_accepted_once(0..SOME);
}

/// `G-061`, `G-066`: without a sink that would skip them, the stream counts what grew too old.
#[test]
fn without_a_sink_the_stream_counts_what_expired() {
    let mut bench = Bench::with_sinks(6, HOURLY, Vec::new());
    append_unread(&mut bench, SOME);
    pass_unread(&mut bench, 2 * HOUR);
    let stats = bench.stats();
    assert_eq!(stats.dropped_age, *bases(&bench).last().unwrap());
    assert_eq!(
        (stats.dropped_total, stats.dropped_quota),
        (stats.dropped_age, 0)
    );
    assert_eq!(stats.head_offset, stats.dropped_age);
}
