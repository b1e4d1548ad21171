//! Times from before the clock was set: put right where they can be told, and counted where not.

use std::time::Duration;

use forebay::clock::Clock;

use super::Bench;
use crate::sim::delivery::{Delivery, To};
use crate::sim::session::{INTERVAL, SETUP};
use crate::sim::sink::Plan;

const MINUTE: Duration = Duration::from_secs(60);
const IN_1970: u64 = 5_000;
const IN_2026: u64 = 1_790_000_000_000;
/// Some segments.
const SOME: u64 = 900;

/// Two sinks: one is sent times that are put right, the other times as they are. The clock stands in 1970.
fn bench(seed: u64) -> Bench {
    let to = ["rebase", "asIs"].map(|name| {
        let mut to = To::new(name, seed);
        to.options.rebases = name == "rebase";
        to.options.backoff_max = Duration::from_secs(1);
        to.script.set(Plan::retry());
        to
    });
    let bench = Bench::with_sinks(seed, SETUP, to.to_vec());
    bench.clock.set_wall_ms(IN_1970);
    bench
}

/// How long after the boot, in milliseconds.
fn uptime(bench: &Bench) -> u64 {
    bench.clock.mono().as_millis()
}

/// Appends, and lets that become durable: how long after the boot that was at the earliest.
fn append(bench: &mut Bench, count: u64) -> u64 {
    let since = uptime(bench);
    for _ in 0..count / 30 {
        bench.append(30);
        bench.pass(2 * INTERVAL);
    }
    since
}

/// The lines heal, and everything goes.
fn heal(bench: &mut Bench) {
    for to in &bench.to {
        to.script.set(Plan::accept());
    }
    bench.drain();
    assert_eq!(
        last_times(bench, 1),
        (1..=last_times(bench, 1).len() as u64).collect::<Vec<_>>()
    );
}

/// The time of each record as a sink was sent it last, by offset.
fn last_times(bench: &Bench, sink: usize) -> Vec<u64> {
    let state = bench.to[sink].script.state();
    let mut times = std::collections::BTreeMap::new();
    for request in &state.requests {
        times.extend(request.offsets.iter().zip(&request.times_ms));
    }
    times.into_values().copied().collect()
}

fn counted(bench: &Bench) -> (u64, u64) {
    let stats = bench.run.sink_stats(0);
    (stats.times_corrected, stats.times_unknown)
}

fn reboot(bench: &mut Bench, wall_ms: u64) {
    assert!(bench.run.close(&mut bench.oracle), "it closes");
    bench.disk.kill();
    bench.clock.reboot();
    bench.clock.set_wall_ms(wall_ms);
    bench.run = Delivery::open(&bench.disk, &bench.clock, bench.setup, &bench.to).unwrap();
}

/// `times` belong to appends that began so long after a boot, and that boot was at `booted`. The two clocks of the
/// simulation do not go at the same speed.
fn assert_times(times: &[u64], booted: u64, since: u64) {
    let range = booted + since - 1000..=booted + since + 2000;
    assert!(
        times.iter().all(|time| range.contains(time)),
        "{times:?}: {range:?}"
    );
}

/// Appended at 1970, with the line down; then the clock is set, and the line heals.
#[test]
fn records_from_before_the_sync_get_the_time_of_their_append() {
    let mut bench = bench(1);
    let since = append(&mut bench, 30);
    bench.pass(MINUTE);
    let later = append(&mut bench, 30);
    assert_eq!(counted(&bench).0, 0);
    bench.clock.set_wall_ms(IN_2026);
    let booted = IN_2026 - uptime(&bench);
    bench.pass(MINUTE);
    heal(&mut bench);
    let times = last_times(&bench, 0);
    assert_times(&times[..30], booted, since);
    assert_times(&times[30..], booted, later);
    // The first batch had gone out, and come back, before there was a time.
    let (corrected, unknown) = counted(&bench);
    assert_eq!(corrected, 60);
    assert!(unknown <= 10, "{unknown}");
}

/// What goes out before the sync goes as it is, and is counted.
#[test]
fn nothing_waits_for_the_clock() {
    let mut bench = bench(2);
    for to in &bench.to {
        to.script.set(Plan::accept());
    }
    append(&mut bench, 30);
    bench.drain();
    assert_eq!(last_times(&bench, 0), last_times(&bench, 1));
    assert_eq!(counted(&bench), (0, 30));
}

/// The boot before had no sync: nobody knows when it was.
#[test]
fn records_of_a_boot_without_a_sync_stay_as_they_are() {
    let mut bench = bench(3);
    append(&mut bench, 30);
    reboot(&mut bench, IN_2026);
    let since = append(&mut bench, 30);
    let booted = bench.clock.wall_ms() - uptime(&bench);
    heal(&mut bench);
    let times = last_times(&bench, 0);
    assert_eq!(times[..30], last_times(&bench, 1)[..30]);
    assert_times(&times[30..], booted, since);
    assert_eq!(counted(&bench), (30, 30));
}

/// The boot before had one, after the appends: its last checkpoint says so, also while this boot has none.
#[test]
fn the_last_checkpoint_puts_the_boot_before_right() {
    let mut bench = bench(4);
    let since = append(&mut bench, 30);
    bench.pass(MINUTE);
    bench.clock.set_wall_ms(IN_2026);
    let booted = IN_2026 - uptime(&bench);
    bench.pass(MINUTE);
    reboot(&mut bench, IN_1970);
    heal(&mut bench);
    assert_times(&last_times(&bench, 0), booted, since);
    assert_eq!(counted(&bench), (30, 0));
}

/// Of earlier boots the segments say it that were begun after the sync.
#[test]
fn segments_put_the_boots_before_that_right() {
    let mut bench = bench(5);
    let since = append(&mut bench, 30);
    bench.clock.set_wall_ms(IN_2026);
    let booted = IN_2026 - uptime(&bench);
    append(&mut bench, SOME);
    reboot(&mut bench, IN_1970);
    reboot(&mut bench, IN_1970);
    heal(&mut bench);
    assert_times(&last_times(&bench, 0)[..30], booted, since);
    assert_eq!(counted(&bench), (30 + SOME, 0));
}
