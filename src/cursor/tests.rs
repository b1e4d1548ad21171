//! Cursors over a log in memory.

use std::time::Duration;

use super::*;
use crate::clock::{Clock, System};
use crate::format::Loss;
use crate::log::tests::{open_small, small};
use crate::log::{Log, Opened};
use crate::ring::Left;
use crate::segment::Draft;
use crate::storage::ram_dir;
use crate::watermark::seam;

/// A log with a cursor's place on the board.
struct Bench {
    log: Log,
    board: Arc<Board>,
    clock: Arc<dyn Clock>,
    syncer: Arc<Waker>,
}

impl Bench {
    fn new() -> Self {
        let dir = ram_dir(4 << 20);
        let clock: Arc<dyn Clock> = Arc::new(System::new());
        let opened = open_small(&dir, &clock, small(), &|_| Ok(Left::Nothing));
        let Opened { log, board, .. } = opened.unwrap();
        Self {
            log,
            board,
            clock,
            syncer: Arc::new(Waker::new()),
        }
    }

    /// Appends durably all up to that offset.
    fn append(&mut self, to: u64) {
        for offset in self.log.next()..to {
            let draft = Draft {
                offset,
                time_ms: 0,
                extra_len: 0,
                key_len: 0,
                body: b"x",
            };
            self.log.append(&draft, self.clock.stamp()).unwrap();
        }
        self.log.commit().unwrap();
    }

    /// Notes a loss. What was not appended yet is skipped.
    fn lose(&mut self, start: u64, end: u64, reason: Reason) {
        let wall_s = 0;
        let count = end - start;
        let loss = Loss {
            start,
            end,
            count,
            wall_s,
            reason,
        };
        self.log.shared().ledger().add(loss);
        if self.log.next() == start {
            self.log.skip(end).unwrap();
        }
    }

    /// The cursor in a process that finds that place.
    fn cursor_at(&self, position: u64, intervals: &[(u64, u64)]) -> Cursor {
        let place = Place {
            position,
            intervals: intervals.iter().copied().collect(),
        };
        self.board.cursor(0).set_place(&place);
        let shared = Arc::clone(self.log.shared());
        let reader = Reader::new(Arc::clone(&shared), Arc::clone(&self.clock)).unwrap();
        let (board, syncer) = (Arc::clone(&self.board), Arc::clone(&self.syncer));
        Cursor::new(reader, shared, board, 0, syncer)
    }

    /// What is published.
    fn place(&self) -> (u64, Vec<(u64, u64)>) {
        let place = self.board.cursor(0).place().unwrap();
        (place.position, place.intervals.to_vec())
    }

    fn get(&self, counter: CursorCounter) -> u64 {
        self.board.cursor(0).get(counter)
    }

    /// What was counted as dropped: by quota, by age, damaged, never durable.
    fn dropped(&self) -> [u64; 4] {
        [
            self.get(CursorCounter::DroppedQuota),
            self.get(CursorCounter::DroppedAge),
            self.get(CursorCounter::DroppedDamage),
            self.get(CursorCounter::DroppedNeverDurable),
        ]
    }
}

fn gap(start: u64, end: u64, reason: Reason) -> Gap {
    Gap { start, end, reason }
}

/// Reads once; the offsets.
fn read(cursor: &mut Cursor, records_max: usize) -> (Ended, Vec<u64>) {
    let mut batch = BatchBuffer::new(records_max, 10_000, 1000).unwrap();
    let ended = cursor.read(&mut batch).unwrap();
    let offsets = batch.entries().iter().map(|entry| entry.offset);
    (ended, offsets.collect())
}

#[test]
fn a_new_cursor_reads_all_and_has_its_name() {
    let mut bench = Bench::new();
    bench.append(10);
    let mut cursor = bench.cursor_at(0, &[]);
    assert_eq!((cursor.name().as_str(), cursor.position()), ("file", 0));
    assert_eq!(read(&mut cursor, 4), (Ended::Full, vec![0, 1, 2, 3]));
    assert_eq!(read(&mut cursor, 4), (Ended::Full, vec![4, 5, 6, 7]));
    assert_eq!(read(&mut cursor, 4), (Ended::CaughtUp, vec![8, 9]));
    assert_eq!(cursor.position(), 0, "nothing is acknowledged by reading");
}

/// One read goes over what a former run did out of order, and says that it is at the end only there.
#[test]
fn what_a_former_run_did_is_left_out() {
    let mut bench = Bench::new();
    bench.append(20);
    let mut cursor = bench.cursor_at(2, &[(4, 6), (9, 12)]);
    let all = vec![2, 3, 6, 7, 8, 12, 13, 14, 15, 16, 17, 18, 19];
    assert_eq!(read(&mut cursor, 100), (Ended::CaughtUp, all));
    let mut cursor = bench.cursor_at(2, &[(4, 6), (9, 12)]);
    assert_eq!(read(&mut cursor, 3), (Ended::Full, vec![2, 3, 6]));
    assert_eq!(read(&mut cursor, 3), (Ended::Full, vec![7, 8, 12]));
    let mut cursor = bench.cursor_at(2, &[(4, 20)]);
    assert_eq!(read(&mut cursor, 100), (Ended::CaughtUp, vec![2, 3]));
}

#[test]
fn what_is_acknowledged_out_of_order_is_joined() {
    let mut bench = Bench::new();
    bench.append(60);
    let mut cursor = bench.cursor_at(0, &[]);
    for (from, to, position, intervals) in [
        (20, 25, 0, &[(20, 25)][..]),
        (10, 12, 0, &[(10, 12), (20, 25)]),
        (40, 50, 0, &[(10, 12), (20, 25), (40, 50)]),
        // It touches what is there from below, from above, and from both sides.
        (8, 10, 0, &[(8, 12), (20, 25), (40, 50)]),
        (25, 26, 0, &[(8, 12), (20, 26), (40, 50)]),
        (12, 20, 0, &[(8, 26), (40, 50)]),
        // Within what is there, and over it.
        (9, 11, 0, &[(8, 26), (40, 50)]),
        (39, 51, 0, &[(8, 26), (39, 51)]),
        // The position passes what begins just there.
        (0, 8, 26, &[(39, 51)]),
        (3, 5, 26, &[(39, 51)]),
        (20, 30, 30, &[(39, 51)]),
        (30, 45, 51, &[]),
    ] {
        cursor.acknowledge(from, to);
        let place = bench.place();
        assert_eq!(place, (position, intervals.to_vec()), "{from} to {to}");
        assert_eq!(cursor.position(), position);
    }
    // What is behind the place is not read any more.
    let all = (51..60).collect();
    assert_eq!(read(&mut cursor, 100), (Ended::CaughtUp, all));
}

/// What does not fit is forgotten, not what is there.
#[test]
fn more_intervals_than_fit_are_not_remembered() {
    let mut bench = Bench::new();
    bench.append(500);
    let mut cursor = bench.cursor_at(0, &[]);
    let all: Vec<_> = (1..=INTERVALS_MAX as u64)
        .map(|n| (10 * n, 10 * n + 2))
        .collect();
    for (from, to) in all.iter().rev() {
        cursor.acknowledge(*from, *to);
    }
    cursor.acknowledge(450, 451);
    assert_eq!(bench.place(), (0, all.clone()));
    let open = all.iter().map(|(from, to)| (*to, from + 10));
    cursor.acknowledge_but([(0, 10)].into_iter().chain(open).chain([(451, 452)]), 460);
    assert_eq!(bench.place(), (0, all));
}

#[test]
fn all_but_what_is_open_is_acknowledged() {
    let mut bench = Bench::new();
    bench.append(60);
    let mut cursor = bench.cursor_at(10, &[]);
    for (open, to, position, intervals) in [
        (&[(10, 12)][..], 20, 10, &[(12, 20)][..]),
        (&[(10, 12), (14, 16)], 16, 10, &[(12, 14)]),
        (&[(10, 12), (12, 16)], 18, 10, &[(16, 18)]),
        (&[(11, 12), (14, 16)], 20, 11, &[(12, 14), (16, 20)]),
        (&[(14, 16)], 20, 14, &[(16, 20)]),
        (&[(20, 21)], 30, 20, &[(21, 30)]),
        (&[], 30, 30, &[]),
    ] {
        cursor.acknowledge_but(open.iter().copied(), to);
        let place = bench.place();
        assert_eq!(place, (position, intervals.to_vec()), "{open:?} up to {to}");
    }
}

/// What a former run did stays known until the position has passed it.
#[test]
fn what_a_former_run_did_is_kept_with_what_this_one_does() {
    let mut bench = Bench::new();
    bench.append(60);
    let mut cursor = bench.cursor_at(0, &[(10, 20), (40, 50)]);
    cursor.acknowledge_but([(0, 5)].into_iter(), 8);
    assert_eq!(bench.place(), (0, vec![(5, 8), (10, 20), (40, 50)]));
    cursor.acknowledge_but([].into_iter(), 10);
    assert_eq!(bench.place(), (20, vec![(40, 50)]));
    cursor.acknowledge_but([].into_iter(), 30);
    assert_eq!(bench.place(), (30, vec![(40, 50)]));
    cursor.acknowledge_but([].into_iter(), 45);
    assert_eq!(bench.place(), (50, vec![]));
}

/// Each reason has its counter, and the position goes on behind a gap.
#[test]
fn what_is_skipped_is_counted_by_its_reason() {
    let mut bench = Bench::new();
    bench.append(100);
    let mut cursor = bench.cursor_at(0, &[]);
    let mut dropped = [0; 4];
    for (at, (reason, counter)) in [
        (Reason::Quota, 0),
        (Reason::Age, 1),
        (Reason::Damage, 2),
        (Reason::NeverDurable, 3),
        (Reason::Undecided, 3),
    ]
    .into_iter()
    .enumerate()
    {
        let (start, len) = (10 * at as u64, at as u64 + 1);
        cursor.acknowledge(cursor.position(), start);
        cursor.skip(gap(start, start + len, reason));
        dropped[counter] += len;
        assert_eq!(bench.dropped(), dropped, "{reason:?}");
        assert_eq!(bench.place(), (start + len, vec![]));
    }
    let (ended, offsets) = read(&mut cursor, 100);
    assert_eq!((ended, offsets[0]), (Ended::CaughtUp, 45));
}

/// What was delivered before it was dropped is not lost.
#[test]
fn what_a_former_run_did_is_not_counted_in_a_gap() {
    let mut bench = Bench::new();
    bench.append(100);
    // It ends within the gap, stands in it, and begins in it; one lies apart.
    let done = [(5, 12), (14, 15), (18, 30), (60, 70)];
    let mut cursor = bench.cursor_at(0, &done);
    cursor.acknowledge(0, 5);
    cursor.skip(gap(10, 20, Reason::Damage));
    assert_eq!(bench.dropped(), [0, 0, 10 - 2 - 1 - 2, 0]);
    assert_eq!(cursor.position(), 30);
}

/// A range that was dropped counts without what stands in the ledger for another reason; damage counts
/// as the reader found it.
#[test]
fn what_held_nothing_is_not_counted_as_dropped() {
    let mut bench = Bench::new();
    bench.append(100);
    bench.lose(8, 12, Reason::NeverDurable);
    bench.lose(15, 16, Reason::Damage);
    bench.lose(16, 18, Reason::Quota);
    bench.lose(19, 25, Reason::NeverDurable);
    bench.lose(50, 60, Reason::NeverDurable);
    for (reason, at, count) in [
        (Reason::Quota, 0, 10 - 2 - 1 - 1),
        (Reason::Age, 1, 10 - 2 - 1 - 2 - 1),
        (Reason::Damage, 2, 10),
    ] {
        let mut cursor = bench.cursor_at(10, &[]);
        let before = bench.dropped()[at];
        cursor.skip(gap(10, 20, reason));
        assert_eq!(bench.dropped()[at] - before, count, "{reason:?}");
    }
}

/// What is between the cursor and the end of the log when it was opened, and is known to hold nothing, does
/// not count as backlog.
#[test]
fn gaps_ahead_are_known_from_the_start() {
    let mut bench = Bench::new();
    bench.append(20);
    bench.lose(20, 30, Reason::NeverDurable);
    bench.append(40);
    let mut cursor = bench.cursor_at(10, &[]);
    assert_eq!(bench.get(CursorCounter::GapsAhead), 10);
    // Later ones are found when they are met.
    bench.lose(40, 45, Reason::NeverDurable);
    bench.append(50);
    cursor.acknowledge(10, 20);
    cursor.skip(gap(20, 25, Reason::NeverDurable));
    assert_eq!(bench.get(CursorCounter::GapsAhead), 5);
    cursor.skip(gap(25, 30, Reason::NeverDurable));
    assert_eq!(bench.get(CursorCounter::GapsAhead), 0);
    cursor.acknowledge(30, 40);
    cursor.skip(gap(40, 45, Reason::NeverDurable));
    assert_eq!(bench.get(CursorCounter::GapsAhead), 0);
    assert_eq!(bench.dropped(), [0, 0, 0, 15]);
}

/// The syncer is woken once until it has looked.
#[test]
fn the_syncer_hears_of_each_move() {
    let mut bench = Bench::new();
    bench.append(10);
    let mut cursor = bench.cursor_at(0, &[]);
    let moved = &cursor.shared().clone().cursor_moved;
    moved.take();
    bench.syncer.register();
    cursor.acknowledge(0, 1);
    assert!(moved.is_up());
    let began = bench.clock.mono();
    seam::park(Some(Duration::from_secs(60)));
    let waited = bench.clock.mono().since(began);
    assert!(waited < Duration::from_secs(30), "nobody woke it");
    moved.take();
    cursor.acknowledge_but([].into_iter(), 2);
    assert!(moved.is_up());
}
