//! What an open decides: of damage, of files that nobody needs, of cursors, of a new store.

use super::*;
use crate::clock::Mono;
use crate::counters::Place;
use crate::format::{Loss, Reason};
use crate::log::geometry::REACH_UNKNOWN;
use crate::log::tests::{append, log_in};

/// A clock that shows this time of day.
struct Wall(u64);

impl Clock for Wall {
    fn mono(&self) -> Mono {
        Mono(1)
    }
    fn wall_ms(&self) -> u64 {
        self.0
    }
    fn boot(&self) -> u64 {
        7
    }
}

#[test]
fn the_epoch_of_a_new_store_is_the_time_or_random_and_far_above_any_time() {
    let now = 1_800_000_000_000;
    assert_eq!(new_epoch(&Wall(now)), now);
    let mut seen: Vec<u64> = (0..64).map(|_| new_epoch(&Wall(0))).collect();
    assert!(seen.iter().all(|epoch| epoch >> 55 == 1));
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 64);
}

#[test]
fn an_open_tells_a_new_store_from_one_that_was_closed() {
    let dir = ram_dir(8 << 20);
    let mut opened = log_in(&dir);
    assert!(opened.report.is_new && !opened.report.is_clean);
    opened.log.close().unwrap();
    drop(opened);
    let again = log_in(&dir);
    assert!(!again.report.is_new && again.report.is_clean);
}

/// What cannot be told apart from a torn sync is counted as such, what was durable as damage; once.
#[test]
fn what_an_open_finds_damaged_is_counted_once() {
    for (is_proven, expected) in [(false, (0, 1)), (true, (1, 0))] {
        let dir = ram_dir(8 << 20);
        let mut log = log_in(&dir).log;
        append(&mut log, 30);
        log.commit().unwrap();
        if is_proven {
            // Its pages say that what was before is durable.
            append(&mut log, 30);
            log.commit().unwrap();
        }
        let segment = log.shared().segments()[0].clone();
        drop(log);
        // In the second record of the first page.
        let at = position(HEADER_COPIES) + 700;
        segment.file.write_at(&[0xa5], at).unwrap();
        let opened = log_in(&dir);
        let report = opened.report;
        assert_eq!((report.damaged, report.undecided), expected);
        let ranges = opened.log.shared().ledger().ranges().to_vec();
        let lost = ranges.iter().find(|loss| loss.start == 1);
        assert_eq!(lost.map(|loss| (loss.end, loss.count)), Some((2, 1)));
        drop(opened);
        let report = log_in(&dir).report;
        assert_eq!((report.damaged, report.undecided), (0, 0), "it is known");
    }
}

/// A part of what is missing may be known: only the rest of it is new.
#[test]
fn what_is_known_of_a_gap_is_not_counted_again() {
    let dir = ram_dir(8 << 20);
    let mut log = log_in(&dir).log;
    append(&mut log, 30);
    log.commit().unwrap();
    append(&mut log, 30);
    log.commit().unwrap();
    log.shared().ledger().add(Loss {
        start: 1,
        end: 3,
        count: 2,
        wall_s: 0,
        reason: Reason::Damage,
    });
    log.checkpoint().unwrap();
    let segment = log.shared().segments()[0].clone();
    drop(log);
    let header = {
        let mut page = vec![0; PAGE_SIZE];
        segment
            .file
            .read_at(&mut page, position(HEADER_COPIES))
            .unwrap();
        PageHeader::decode(&page).unwrap()
    };
    segment
        .file
        .write_at(&[0; 64], position(HEADER_COPIES))
        .unwrap();
    let report = log_in(&dir).report;
    // The record that goes on in the next page is gone, too: it is one of the page's.
    assert_eq!(report.damaged, header.end() - 2);
}

/// What is behind the last checkpoint's reach counts, and what a lost one may have reached.
#[test]
fn offsets_go_on_behind_two_rings() {
    let mut last = last();
    let ring = u64::from(last.ring_records);
    let end = last.mark + last.reach + 10;
    let next =
        |last: &Checkpoint, lost| decide::next_offset(&files_with(lost, last), last, end, 64);
    assert_eq!(next(&last, 0), end + 2 * ring);
    last.reach = 10;
    assert_eq!(next(&last, 1) - next(&last, 0), 2 * (2 * ring) + 2 * ring);
    assert!(!decide::is_unproven(Some(5), 5 + REACH_UNKNOWN));
    assert!(decide::is_unproven(Some(5), 6 + REACH_UNKNOWN));
}

#[test]
fn a_cursor_keeps_what_it_acknowledged_within_what_there_is() {
    let board = Board::new(Memory::private(Board::LEN).unwrap());
    let clock: Arc<dyn Clock> = Arc::new(Wall(0));
    let decided = Decided {
        next: 700,
        life: 1,
        resume: None,
        is_fresh: false,
        is_ring_used: false,
        is_unproven: false,
    };
    let name = Name::try_from("file").unwrap();
    let at = |position, intervals: &[(u64, u64)]| Place {
        position,
        intervals: intervals.iter().copied().collect(),
    };
    let mut last = last();
    let intervals = [(400, 410), (450, 460), (690, 700), (690, 701)];
    let _ = last.cursors.push(CursorEntry {
        name: name.clone(),
        place: at(400, &intervals),
    });
    let cursors = [(name.clone(), false)];
    let place = |board: &Board| {
        let places = places(&cursors, board, (&last, true), &clock, STORE, &decided);
        places[0].1.clone()
    };
    assert_eq!(place(&board), at(400, &intervals[1..3]));
    let owner = Owner {
        store: STORE.0,
        epoch: last.epoch,
        boot: clock.boot(),
        pid: 1,
    };
    let on_board = |owner, position| {
        board.take(owner, &[(name.clone(), at(position, &[]))]);
        place(&board).position
    };
    assert_eq!(on_board(owner, 500), 500);
    assert_eq!(on_board(owner, 700), 700);
    assert_eq!(on_board(owner, 701), 400, "it is not there");
    assert_eq!(on_board(owner, 399), 400, "the checkpoint is newer");
    for other in [
        Owner { boot: 8, ..owner },
        Owner { epoch: 99, ..owner },
        Owner {
            store: [9; 16],
            ..owner
        },
    ] {
        assert_eq!(on_board(other, 500), 400, "another run's: {other:?}");
    }
}

/// A checkpoint in all slots, so that none is missed.
fn put_checkpoint(dir: &dyn Dir, checkpoint: &Checkpoint) {
    let mut checkpoints = Checkpoints::open(dir).unwrap();
    for generation in 1..=3 {
        checkpoints
            .write(&Checkpoint {
                generation,
                ..checkpoint.clone()
            })
            .unwrap();
    }
}

fn open_with(dir: &Arc<dyn Dir>, is_strict: bool) -> Result<Opened> {
    let clock: Arc<dyn Clock> = Arc::new(crate::clock::System::new());
    let options = Options {
        segment_bytes: u64::from(PAGES) * PAGE_SIZE as u64,
        is_strict,
        ..small()
    };
    open_small(dir, &clock, options, &|_| Ok(Left::Nothing))
}

/// One file of the right size is kept for the next segment; what makes no sense is kept aside; the rest goes.
#[test]
fn files_that_nobody_needs_are_used_again_or_go() {
    let dir = ram_dir(8 << 20);
    let base = 100;
    put_checkpoint(
        &*dir,
        &Checkpoint {
            store: STORE,
            epoch: 1,
            mark: base,
            life: 8,
            ..Checkpoint::default()
        },
    );
    // Of four with the same base the newest counts. The first has another size.
    let odd = stored(&*dir, 3);
    odd.preallocate(position(2 * PAGES)).unwrap();
    let header = SegmentHeader {
        store: STORE,
        epoch: 1,
        base,
        life: 4,
        number: 3,
        pages: 2 * PAGES,
        prepared: Stamp::default(),
        name: Name::default(),
    };
    write_headers(&*odd, &header).unwrap();
    for (number, life) in [(1, 5), (6, 6), (2, 7)] {
        put_header(&*stored(&*dir, number), number, base, life);
    }
    stored(&*dir, 4);
    let noise = stored(&*dir, 5);
    noise.write_at(&[0xa5; 3 * PAGE_SIZE], 0).unwrap();
    let opened = open_with(&dir, false).unwrap();
    let spares: Vec<u32> = opened.log.spares.iter().map(Spare::number).collect();
    assert_eq!(spares, [1]);
    let entries = dir.list().unwrap().into_iter().map(|entry| entry.name);
    let mut left: Vec<String> = entries
        .filter(|name| segment::file_number(name).is_some() || name.starts_with("damaged-"))
        .collect();
    left.sort_unstable();
    let mut expected = vec![
        files::aside_name(5, opened.log.life),
        segment::file_name(1),
        segment::file_name(2),
    ];
    expected.sort_unstable();
    assert_eq!(left, expected);
}

fn refusal(dir: &Arc<dyn Dir>) -> Option<String> {
    open_with(dir, true).err().map(|error| error.to_string())
}

/// A strict open says which records are damaged.
#[test]
fn a_strict_open_names_what_is_damaged() {
    let dir = ram_dir(8 << 20);
    let mut log = open_with(&dir, false).unwrap().log;
    while log.shared().segments().len() < 3 {
        append(&mut log, 1);
        log.commit().unwrap();
    }
    let segments = log.shared().segments();
    log.close().unwrap();
    drop(log);
    assert_eq!(refusal(&dir), None);
    let first = &segments[1];
    let mut page = vec![0; PAGE_SIZE];
    let mut damaged = Vec::new();
    for slot in HEADER_COPIES..first.pages {
        first.file.read_at(&mut page, position(slot)).unwrap();
        let header = PageHeader::decode(&page).filter(|header| !header.is_tail);
        if let Some(header) = header
            && damaged.len() < 2
            && header.count > 1
            && usize::from(header.start) < 3000
        {
            // The first record that begins there, and nothing else.
            let at = position(slot) + u64::from(header.start) + 30;
            first.file.write_at(&[0xa5], at).unwrap();
            damaged.push(header.first);
        }
    }
    let text = refusal(&dir).unwrap();
    let told = format!(
        "2 records between {} and {} are damaged",
        damaged[0], damaged[1]
    );
    assert!(text.contains(&told), "{text} {told}");
}

/// The segment that is written to is missed when its file makes no sense, and not when another one took its
/// place, or came after it.
#[test]
fn a_strict_open_misses_the_active_segment() {
    let with = |last: &Checkpoint, files: &[(u32, u64, u64)]| {
        let dir = ram_dir(8 << 20);
        put_checkpoint(&*dir, last);
        for (number, base, life) in files {
            let file = stored(&*dir, *number);
            match life {
                0 => file.write_at(&[0xa5; 3 * PAGE_SIZE], 0).unwrap(),
                _ => put_header(&*file, *number, *base, *life),
            }
        }
        refusal(&dir)
    };
    let last = Checkpoint {
        store: STORE,
        epoch: 1,
        mark: 200,
        head: 200,
        life: 8,
        segment: 2,
        ..Checkpoint::default()
    };
    assert_eq!(with(&last, &[(1, 50, 6), (2, 100, 7)]), None);
    let lost = with(&last, &[(1, 50, 6), (2, 0, 0)]).unwrap();
    assert!(
        lost.contains("segment 2 is damaged beyond reading"),
        "{lost}"
    );
    let lost = with(&last, &[(1, 50, 6)]).unwrap();
    assert!(
        lost.contains("segment 2 is damaged beyond reading"),
        "{lost}"
    );
    assert_eq!(with(&last, &[(1, 50, 6), (3, 200, 9)]), None, "a newer one");
    assert_eq!(with(&last, &[(2, 100, 7), (3, 100, 8)]), None, "replaced");
    let none = Checkpoint { segment: 0, ..last };
    assert_eq!(with(&none, &[(1, 50, 6)]), None);
}
