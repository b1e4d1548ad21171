//! Whatever a sink may do, by chance, and options that differ from run to run.

use std::time::Duration;

use forebay::exporter::Ordering;
use forebay::sink::Link;

use super::delivery::To;
use super::random::Random;
use super::sink::{Panics, Plan, Say, When};

/// Whatever a sink may do.
pub fn plan(random: &mut Random) -> Plan {
    let mut says = Vec::new();
    for _ in 0..=random.below(4) {
        says.push(match random.below(12) {
            0 => Say::Retry(Some(Duration::from_millis(random.below(5000)))),
            1 | 2 => Say::Retry(None),
            3 => Say::Reject("never"),
            4 => Say::Nothing,
            5 => Say::RetryThenAccept,
            _ => Say::Accept,
        });
    }
    let mut plan = Plan::says(&says).when(match random.below(8) {
        0 => When::After(Duration::from_millis(random.below(10_000))),
        1 => When::AtPoll(u32::try_from(random.below(20)).unwrap()),
        2 if random.chance(2) => When::Never,
        _ => When::AtOnce,
    });
    plan.panics = match random.below(30) {
        0 => Some(Panics::Submit),
        1 => Some(Panics::Poll),
        2 => Some(Panics::Abandon),
        _ => None,
    };
    plan.strays = random.chance(10);
    match random.below(10) {
        0 => plan.link(Link::Down, "down"),
        1 => plan.link(Link::Ok, ""),
        _ => plan,
    }
}

/// Options that may differ from run to run.
pub fn vary(to: &mut To, random: &mut Random) {
    to.options.records_max = u32::try_from(1 + random.below(40)).unwrap();
    to.options.bytes_max = u32::try_from(1 + random.below(40_000)).unwrap();
    to.options.linger = Duration::from_millis(random.below(3000));
    to.options.seed = random.next();
    let retries = u32::try_from(random.below(5)).unwrap();
    to.options.retries_max = Some(retries).filter(|_| random.chance(3));
    let orders = [Ordering::Stream, Ordering::PerKey, Ordering::None];
    to.options.ordering = orders[usize::try_from(random.below(3)).unwrap()];
    to.options.in_flight_max = u32::try_from(1 + random.below(8)).unwrap();
    let lanes = u32::try_from(1 + random.below(8)).unwrap();
    let is_picky = random.chance(3);
    to.script.set_limits(|limits| {
        limits.answer_timeout = Duration::from_secs(1 + random.below(20));
        limits.in_flight_max = lanes;
        limits.record_bytes_max = if is_picky { 5000 } else { u32::MAX };
    });
}
