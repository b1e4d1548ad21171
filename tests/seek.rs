//! A reader finds its place: by offset in any order, and by time, over segments, lives and tail slots.

#![allow(clippy::unwrap_used)] // a test fails by panicking

mod sim;

use std::sync::Arc;

use forebay::log::{BatchBuffer, Ended};
use sim::clock::SimClock;
use sim::oracle::Oracle;
use sim::random::{Random, seed};
use sim::session::{BODY_MAX, INTERVAL, SETUP, Session};
use sim::storage::SimDisk;

/// So few that nothing is dropped.
const RECORDS: u64 = 700;
/// The time of day before somebody has set it.
const UNSET_MS: u64 = 1000;
const START_MS: u64 = 1_800_000_000_000;

struct World {
    session: Session,
    oracle: Oracle,
    random: Random,
}

/// A log of records that were appended seconds apart, in three runs. `set_at`: from which record on the
/// time of day is known.
fn world(set_at: u64) -> World {
    let (disk, clock) = (SimDisk::new(1), Arc::new(SimClock::new()));
    clock.set_wall_ms(if set_at == 0 { START_MS } else { UNSET_MS });
    let mut oracle = Oracle::default();
    let mut session = Session::open(&disk, &clock, SETUP).unwrap();
    for id in 0..RECORDS {
        if id == set_at {
            clock.set_wall_ms(START_MS);
        }
        if id % 250 == 249 {
            assert!(session.close(&mut oracle));
            drop(session);
            disk.kill(); // which lets go of the lock
            session = Session::open(&disk, &clock, SETUP).unwrap();
        }
        assert!(session.append(&mut oracle, id));
        if id % 3 == 0 {
            assert!(session.step(&mut oracle, 3 * INTERVAL));
        }
    }
    session.step(&mut oracle, INTERVAL);
    session.step(&mut oracle, INTERVAL);
    let segments = disk
        .names()
        .iter()
        .filter(|name| name.starts_with("segment"))
        .count();
    assert!(segments >= 3, "several segments are what this is about");
    let random = Random::new(seed(1));
    World {
        session,
        oracle,
        random,
    }
}

/// Offset and time of day of every record from `from` on.
fn read(session: &mut Session, from: u64) -> Vec<(u64, u64)> {
    let mut batch = BatchBuffer::new(50, 100_000, BODY_MAX as usize).unwrap();
    let (mut found, mut next) = (Vec::new(), from);
    loop {
        batch.clear();
        let (ended, after) = session.reader.read(next, u64::MAX, &mut batch).unwrap();
        let entries = batch.entries().iter();
        found.extend(entries.map(|entry| (entry.offset, entry.appended.wall_ms)));
        next = after;
        if ended == Ended::CaughtUp {
            return found;
        }
    }
}

/// Forwards, backwards, over and over.
#[test]
fn every_offset_is_found_in_any_order() {
    let World {
        mut session,
        oracle,
        mut random,
    } = world(0);
    let all = session.read(&oracle, 0);
    assert_eq!(all, (0..RECORDS).collect::<Vec<_>>());
    for _ in 0..300 {
        let from = random.below(RECORDS + 1);
        let found = session.read(&oracle, from);
        assert!(
            found == all[usize::try_from(from).unwrap()..],
            "from {from}"
        );
        assert!(session.gaps.is_empty());
    }
}

/// Never too late, and too early by no more than a page.
#[test]
fn a_time_is_found_never_too_late() {
    let World {
        mut session,
        mut random,
        ..
    } = world(0);
    let all = read(&mut session, 0);
    let (first, last) = (all[0].1, all[all.len() - 1].1);
    let mut times: Vec<_> = (0..300)
        .map(|_| first + random.below(last - first))
        .collect();
    times.extend([0, first, first + 1, last, last + 1, u64::MAX]);
    for time in times {
        let from = session.reader.seek_time(time).unwrap();
        let wanted = all.iter().find(|(_, wall_ms)| *wall_ms >= time);
        let wanted = wanted.map_or(RECORDS, |(offset, _)| *offset);
        assert!(from <= wanted, "{time}: {from} is behind {wanted}");
        assert!(
            wanted - from <= 60,
            "{time}: {from} is long before {wanted}"
        );
        // The reader reads on from there.
        assert_eq!(read(&mut session, from)[0].0, from);
    }
}

/// As long as nobody knew the time, every record may be meant.
#[test]
fn records_from_before_the_time_was_known_are_not_passed_over() {
    for set_at in [300, RECORDS] {
        let World {
            mut session,
            mut random,
            ..
        } = world(set_at);
        let all = read(&mut session, 0);
        let unknown = all.iter().take_while(|(_, wall_ms)| *wall_ms == 0).count() as u64;
        assert!((set_at - 10..=set_at).contains(&unknown), "{unknown}");
        for _ in 0..100 {
            let time = START_MS + random.below(10_000_000);
            let from = session.reader.seek_time(time).unwrap();
            let wanted = all.iter().find(|(_, wall_ms)| *wall_ms >= time);
            let wanted = wanted.map_or(RECORDS, |(offset, _)| *offset);
            assert!(from <= wanted, "{time}: {from} is behind {wanted}");
        }
    }
}
