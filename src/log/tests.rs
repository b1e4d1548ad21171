//! A log in memory, as its writer sees it.

use super::*;
use crate::counters::Place;
use crate::format::{Loss, Reason};
use crate::ring::Left;
use crate::storage::{Memory, ram_dir};

mod files;
mod tools;

/// A small log, for whoever tries something over one.
pub(crate) fn small() -> Options {
    Options {
        name: "telemetry".try_into().unwrap(),
        segment_bytes: 1 << 20,
        disk_bytes_max: 4 << 20,
        aside_bytes_max: u64::MAX,
        drop_oldest: true,
        io: segment::Io::Write,
        ring_records: 64,
        body_len_max: 1000,
        age_max: None,
        is_strict: false,
        free_bytes_min: 0,
        reserves_all: false,
    }
}

/// Opens a log in that directory, with a cursor `file` and a board of its own.
pub(crate) fn open_small(
    dir: &Arc<dyn Dir>,
    clock: &Arc<dyn Clock>,
    options: Options,
    ring: &dyn Fn(&RunBefore) -> io::Result<Left>,
) -> crate::error::Result<Opened> {
    open(Opening {
        dir: Arc::clone(dir),
        lock_dir: Arc::clone(dir),
        clock: Arc::clone(clock),
        options,
        cursors: &[("file".try_into().unwrap(), false)],
        board: &|_| Ok((Board::new(Memory::private(Board::LEN)?), String::new())),
        ring,
        pid: 1,
    })
}

pub(crate) fn log_in(dir: &Arc<dyn Dir>) -> Opened {
    log_of(dir, 4 << 20)
}

fn log_of(dir: &Arc<dyn Dir>, disk_bytes_max: u64) -> Opened {
    let options = Options {
        segment_bytes: 1 << 16,
        disk_bytes_max,
        ring_records: 1024,
        ..small()
    };
    let clock: Arc<dyn Clock> = Arc::new(crate::clock::System::new());
    open_small(dir, &clock, options, &|_| Ok(Left::Nothing)).unwrap()
}

pub(crate) fn append(log: &mut Log, count: u64) {
    for offset in log.next()..log.next() + count {
        let draft = Draft {
            offset,
            time_ms: 0,
            extra_len: 0,
            key_len: 0,
            body: &[b'x'; 500],
        };
        let stamp = log.clock.stamp();
        log.append(&draft, stamp).unwrap();
    }
}

#[test]
fn what_was_appended_is_dirty_until_it_is_committed() {
    let mut log = log_in(&ram_dir(8 << 20)).log;
    assert!(!log.is_dirty() && !log.is_mark_moved());
    append(&mut log, 3);
    assert!(log.is_dirty() && !log.is_mark_moved());
    assert_eq!((log.durable(), log.next()), (0, 3));
    log.commit().unwrap();
    assert!(!log.is_dirty() && log.is_mark_moved());
    assert_eq!((log.durable(), log.next()), (3, 3));
    log.checkpoint().unwrap();
    assert!(!log.is_mark_moved(), "a checkpoint has it");
}

/// What counts is a checkpoint that is durable.
#[test]
fn a_checkpoint_says_where_a_cursor_stands() {
    let Opened { mut log, board, .. } = log_in(&ram_dir(8 << 20));
    append(&mut log, 10);
    log.commit().unwrap();
    let place = |position| Place {
        position,
        ..Place::default()
    };
    assert_eq!(log.checkpointed("file"), Some(0));
    board.cursor(0).set_place(&place(4));
    assert_eq!(
        log.checkpointed("file"),
        Some(0),
        "no checkpoint has it yet"
    );
    log.checkpoint().unwrap();
    assert_eq!(log.checkpointed("file"), Some(4));
    assert_eq!(log.checkpointed("other"), None);
    log.is_checkpoint_owed = true;
    assert_eq!(
        log.checkpointed("file"),
        None,
        "the last one was not written"
    );
}

/// A checkpoint is written when anything in it moved, and only then.
#[test]
fn a_checkpoint_in_which_nothing_moved_is_not_written() {
    let Opened { mut log, board, .. } = log_in(&ram_dir(8 << 20));
    let is_written = |log: &mut Log| {
        let before = log.state.generation;
        log.checkpoint().unwrap();
        log.state.generation > before
    };
    is_written(&mut log);
    assert!(!is_written(&mut log));
    append(&mut log, 10);
    assert!(!is_written(&mut log), "nothing is durable yet");
    log.commit().unwrap();
    assert!(is_written(&mut log), "the mark");
    board.cursor(0).set_place(&Place {
        position: 3,
        ..Place::default()
    });
    assert!(is_written(&mut log), "a cursor");
    let loss = Loss {
        start: 5,
        end: 6,
        count: 1,
        wall_s: 0,
        reason: Reason::Damage,
    };
    log.shared().ledger().add(loss);
    assert!(is_written(&mut log), "the ledger");
    log.is_checkpoint_owed = true;
    assert!(is_written(&mut log), "the last one was not");
    assert!(!is_written(&mut log));
}

/// Offsets that are skipped are in the ledger, and no record has them; what was appended before stays.
#[test]
fn offsets_that_are_skipped_hold_nothing() {
    let dir = ram_dir(8 << 20);
    let mut log = log_in(&dir).log;
    let skip = |log: &mut Log, to| {
        let loss = Loss {
            start: log.next(),
            end: to,
            count: 0,
            wall_s: 0,
            reason: Reason::NeverDurable,
        };
        log.shared().ledger().add(loss);
        log.skip(to).unwrap();
        assert_eq!(log.next(), to);
    };
    skip(&mut log, 5);
    append(&mut log, 3);
    skip(&mut log, 10);
    append(&mut log, 1);
    log.commit().unwrap();
    let mut reader = Reader::new(Arc::clone(log.shared()), Arc::clone(&log.clock)).unwrap();
    let mut batch = BatchBuffer::new(100, 100_000, 1000).unwrap();
    let (mut next, mut gaps) = (0, Vec::new());
    while let (Ended::Gap(gap), after) = reader.read(next, u64::MAX, &mut batch).unwrap() {
        gaps.push((gap.start, gap.end, gap.reason));
        next = after;
    }
    let reason = Reason::NeverDurable;
    assert_eq!(gaps, [(0, 5, reason), (8, 10, reason)]);
    let offsets = batch.entries().iter().map(|entry| entry.offset);
    assert_eq!(offsets.collect::<Vec<_>>(), [5, 6, 7, 10]);
}

/// What is handed to the files is counted: pages, both headers of a segment, checkpoints.
#[test]
fn what_is_written_and_what_is_taken_is_counted() {
    let Opened { mut log, board, .. } = log_in(&ram_dir(8 << 20));
    let page = PAGE_SIZE as u64;
    let written = || board.get(StreamCounter::WrittenBytes);
    log.checkpoint().unwrap();
    let before = written();
    append(&mut log, 1);
    log.commit().unwrap();
    let headers = u64::from(HEADER_COPIES) * page;
    assert!(written() >= before + headers + page, "a version of a page");
    let before = written();
    append(&mut log, 1);
    log.commit().unwrap();
    assert_eq!(written(), before + page);
    while log.shared().segments().len() < 3 {
        append(&mut log, 1);
    }
    log.commit().unwrap();
    let segments = log.shared().segments();
    let sealed: u64 = segments[..2].iter().map(|one| u64::from(one.pages)).sum();
    let active = u64::from(log.shared().end_slot(segments[2].life).unwrap());
    let taken = board.get(StreamCounter::DiskBytes);
    assert_eq!(taken, (sealed + active) * page);
}

/// An open skips so many lives: where more segments are begun in a row, a checkpoint says it in between.
#[test]
fn no_more_lives_are_taken_than_an_open_skips() {
    let mut log = log_of(&ram_dir(64 << 20), 48 << 20).log;
    let mut most = 0;
    let first = log.state.generation;
    for _ in 0..300 {
        append(&mut log, 1);
        log.commit().unwrap();
        // It is made ahead: else there is a checkpoint before.
        let spare = log.spare_in_room().unwrap();
        log.spares.extend(spare);
        let next = log.next();
        log.roll(next).unwrap();
        most = most.max(log.life - log.durable_life);
    }
    assert_eq!(most, geometry::LIVES_MAX);
    assert_eq!(log.state.generation - first, 1, "once");
}

/// A new file is begun when the rest of the active one leaves just time to prepare it: half as many bytes,
/// and an eighth of the file more. Before, a segment may be freed that serves as well.
#[test]
fn a_file_is_begun_when_half_of_the_active_segment_is_left() {
    let Opened { mut log, board, .. } = log_in(&ram_dir(8 << 20));
    let step = |log: &mut Log| {
        append(log, 1);
        log.prepare().unwrap();
        log.writer.as_ref().map_or(0, SegmentWriter::end_slot)
    };
    let mut before = 0;
    while log.spares.is_empty() {
        before = step(&mut log);
    }
    let pages = log.writer.as_ref().unwrap().segment().pages;
    assert_eq!((pages, before), (16, 7));
    let first = log.shared().segments()[0].number;
    while log.shared().segments().len() < 2 {
        step(&mut log);
    }
    let generation = log.state.generation;
    while log.spares.is_empty() {
        step(&mut log);
    }
    assert_eq!(log.state.generation, generation, "nothing would be freed");
    while log.shared().segments().len() < 3 {
        step(&mut log);
    }
    let second = log.shared().segments()[1].base;
    board.cursor(0).set_place(&Place {
        position: second,
        ..Place::default()
    });
    while log.spares.is_empty() {
        step(&mut log);
    }
    assert_eq!(log.spares[0].number(), first, "it was freed instead");
    assert_eq!(log.shared().segments()[0].base, second);
}
