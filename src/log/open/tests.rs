//! What an open makes of checkpoints and headers that are lost.

use super::*;
use crate::clock::Stamp;
use crate::format::{HEADER_COPIES, PAGE_SIZE, PageHeader, SLOT_COUNT, SLOT_SIZE, SegmentHeader};
use crate::log::tests::{open_small, small};
use crate::segment::{Draft, position, write_headers};
use crate::storage::{Memory, ram_dir};

mod decided;

const STORE: StoreId = StoreId(*b"0123456789abcdef");
const PAGES: u32 = 16;

fn stored(dir: &dyn Dir, number: u32) -> Arc<dyn File> {
    let file = dir.create(&segment::file_name(number)).unwrap();
    file.preallocate(position(PAGES)).unwrap();
    file
}

fn put_header(file: &dyn File, number: u32, base: u64, life: u64) {
    let header = SegmentHeader {
        store: STORE,
        epoch: 1,
        base,
        life,
        number,
        pages: PAGES,
        prepared: Stamp::default(),
        name: Name::default(),
    };
    write_headers(file, &header).unwrap();
}

fn put_page(file: &dyn File, slot: u32, base: u64, life: u64) {
    let header = PageHeader {
        store: STORE.tag(),
        base,
        life,
        first: base,
        slot,
        start: u16::try_from(PAGE_SIZE).unwrap(),
        ..PageHeader::default()
    };
    let mut page = vec![0; PAGE_SIZE];
    header.encode(&mut page);
    file.write_at(&page, position(slot)).unwrap();
}

/// The numbers, bases and lives of the segments that an open finds.
fn found(dir: &dyn Dir) -> Vec<(u32, u64, u64)> {
    let files = files::look(dir, true).unwrap();
    let segments = files.segments.iter().map(|stored| &stored.segment);
    let told = segments.map(|segment| (segment.number, segment.base, segment.life));
    told.collect()
}

/// A page of another segment that came to stand in one without headers does not say what that one is: else
/// one of the two would take the other's place.
#[test]
fn a_header_is_not_made_of_another_segments_page() {
    let dir = ram_dir(1 << 20);
    let (first, second) = (stored(&*dir, 1), stored(&*dir, 2));
    put_header(&*first, 1, 100, 7);
    put_page(&*first, HEADER_COPIES + 3, 100, 7);
    put_page(&*second, HEADER_COPIES + 3, 100, 7);
    assert_eq!(found(&*dir), [(1, 100, 7)]);
    put_page(&*second, HEADER_COPIES, 50, 6);
    put_page(&*second, HEADER_COPIES + 1, 50, 9);
    assert_eq!(found(&*dir), [(1, 100, 7), (2, 50, 6)]);
}

/// Also where that segment has lost the page: what was written to the wrong place is not in the right one.
#[test]
fn a_page_that_went_astray_does_not_take_its_segments_place() {
    let dir = ram_dir(1 << 20);
    let (first, second) = (stored(&*dir, 1), stored(&*dir, 2));
    put_header(&*first, 1, 100, 7);
    put_page(&*first, HEADER_COPIES, 100, 7);
    put_page(&*second, HEADER_COPIES + 3, 100, 7);
    assert_eq!(found(&*dir), [(1, 100, 7)]);
    put_page(&*second, HEADER_COPIES, 50, 6);
    assert_eq!(found(&*dir), [(1, 100, 7), (2, 50, 6)]);
}

/// With no header left at all, the file that has most of the pages is the segment.
#[test]
fn of_two_without_headers_the_one_with_more_pages_is_the_segment() {
    let dir = ram_dir(1 << 20);
    let (first, second) = (stored(&*dir, 1), stored(&*dir, 2));
    let third = stored(&*dir, 3);
    put_header(&*third, 3, 200, 8);
    put_page(&*first, HEADER_COPIES + 3, 100, 7);
    put_page(&*first, HEADER_COPIES + 4, 50, 6);
    for slot in [HEADER_COPIES, HEADER_COPIES + 1] {
        put_page(&*second, slot, 100, 7);
    }
    assert_eq!(found(&*dir), [(3, 200, 8), (2, 100, 7), (1, 50, 6)]);
}

/// What replaces a segment that held nothing has its base, and a life of its own.
/// No page was written in a life before the first one. Found by fuzzing.
#[test]
fn a_header_is_not_made_of_a_page_without_a_life() {
    let dir = ram_dir(1 << 20);
    put_header(&*stored(&*dir, 1), 1, 0, 3);
    let file = stored(&*dir, 2);
    put_page(&*file, 7, 78, 0);
    assert_eq!(found(&*dir), [(1, 0, 3)]);
    put_page(&*file, 8, 78, 4);
    assert_eq!(found(&*dir), [(1, 0, 3), (2, 78, 4)]);
}

#[test]
fn a_header_is_made_of_pages_with_the_base_of_a_segment_that_is_replaced() {
    let dir = ram_dir(1 << 20);
    let (first, second) = (stored(&*dir, 1), stored(&*dir, 2));
    put_header(&*first, 1, 100, 7);
    put_page(&*first, HEADER_COPIES, 100, 7);
    put_page(&*second, HEADER_COPIES, 100, 8);
    assert_eq!(found(&*dir), [(1, 100, 7), (2, 100, 8)]);
}

/// A block of a card is larger than what is read at once.
#[test]
fn a_header_is_made_of_pages_far_behind_a_block_that_was_erased() {
    let dir = ram_dir(1 << 21);
    let file = stored(&*dir, 1);
    file.preallocate(position(200)).unwrap();
    put_header(&*file, 1, 100, 7);
    put_page(&*file, 150, 100, 7);
    let other = stored(&*dir, 2);
    put_header(&*other, 2, 900, 8);
    file.write_at(&vec![0xff; 140 * PAGE_SIZE], 0).unwrap();
    assert_eq!(found(&*dir), [(2, 900, 8), (1, 100, 7)]);
}

/// Its header was hit, and another one's came to stand there: what its pages hold is not given up for a copy.
#[test]
fn a_segment_with_anothers_header_is_what_its_pages_say() {
    let dir = ram_dir(1 << 20);
    let (first, second) = (stored(&*dir, 1), stored(&*dir, 2));
    put_header(&*first, 1, 100, 7);
    put_page(&*first, HEADER_COPIES, 100, 7);
    put_header(&*second, 1, 100, 7);
    // A copy of it: so it stays one.
    put_page(&*second, HEADER_COPIES, 100, 7);
    assert_eq!(found(&*dir), [(1, 100, 7), (2, 100, 7)]);
    put_page(&*second, HEADER_COPIES, 300, 8);
    assert_eq!(found(&*dir), [(1, 100, 7), (2, 300, 8)]);
}

/// Where one copy of a header is gone, the other may be of what the file was before: its pages are newer.
/// Pages that are older than it are what was there before.
#[test]
fn a_copy_of_an_earlier_header_does_not_hide_newer_pages() {
    let dir = ram_dir(1 << 20);
    let file = stored(&*dir, 1);
    put_header(&*file, 1, 100, 7);
    file.write_at(&[0xff; PAGE_SIZE], 0).unwrap();
    put_page(&*file, HEADER_COPIES + 1, 50, 6);
    assert_eq!(found(&*dir), [(1, 100, 7)]);
    put_page(&*file, HEADER_COPIES, 300, 9);
    assert_eq!(found(&*dir), [(1, 300, 9)]);
    // Both copies say the same: then they are what it is.
    put_header(&*file, 1, 100, 7);
    assert_eq!(found(&*dir), [(1, 100, 7)]);
}

/// Where a clean close left off, the pages of what the file was before go on: they do not tell what it is.
#[test]
fn a_header_is_not_made_of_pages_behind_a_clean_close() {
    let dir = ram_dir(1 << 20);
    let file = stored(&*dir, 1);
    let (own, earlier) = (HEADER_COPIES + 4, HEADER_COPIES + 5);
    put_page(&*file, own, 300, 9);
    put_page(&*file, earlier, 100, 7);
    let checkpoints = dir.create("checkpoint").unwrap();
    for slot in 0..SLOT_COUNT {
        let checkpoint = Checkpoint {
            store: STORE,
            generation: u64::from(slot) + 1,
            segment: 1,
            page: earlier,
            is_clean: true,
            ..last()
        };
        let mut bytes = vec![0; SLOT_SIZE];
        checkpoint.encode(&mut bytes);
        let at = u64::from(slot) * SLOT_SIZE as u64;
        checkpoints.write_at(&bytes, at).unwrap();
    }
    assert_eq!(found(&*dir), [(1, 300, 9)]);
    file.write_at(&[0; PAGE_SIZE], position(own)).unwrap();
    assert_eq!(found(&*dir), []);
}

fn files_with(lost: u32, last: &Checkpoint) -> Files {
    let mut files = Files::default();
    files.checkpoint.newest = Some(last.clone());
    files.checkpoint.lost = lost;
    files
}

fn last() -> Checkpoint {
    Checkpoint {
        generation: 9,
        life: 20,
        mark: 1000,
        opened: 500,
        ring_records: 64,
        reach: 128,
        ..Checkpoint::default()
    }
}

#[test]
fn an_open_goes_on_behind_all_that_a_lost_checkpoint_may_have_allowed() {
    let last = last();
    let ring = u64::from(last.ring_records);
    let next = |lost| decide::next_offset(&files_with(lost, &last), &last, last.mark, 64);
    assert_eq!(next(0), last.mark + last.reach + ring);
    // Written when the one that is left reached no further, and with twice its reach.
    let handed_out = last.mark + last.reach + 2 * last.reach + ring;
    assert!(next(1) >= handed_out);
    assert_eq!(next(1), next(0) + 4 * ring + 2 * ring);
    // With two lost it may be that of a run with another ring.
    assert!(next(2) > next(1) + 64 * (1 << 26));
}

#[test]
fn no_life_is_used_again_that_a_lost_checkpoint_may_have_allowed() {
    let last = last();
    let life = |lost| {
        let files = files_with(lost, &last);
        decide::last_life(&files, &last, 21, Stamp::default())
    };
    assert_eq!(life(0), 20 + 256);
    assert!(life(1) > 20 + 2 * 256);
}

/// A checkpoint that a tool writes over what is left says it instead.
#[test]
fn what_was_lost_stays_known_when_only_a_cursor_is_moved() {
    let last = Checkpoint {
        is_clean: true,
        ..last()
    };
    let mut state = last.clone();
    let now = Stamp::default();
    decide::pass_over_lost(&files_with(0, &last), 1500, now, &mut state);
    assert_eq!(state, last);
    decide::pass_over_lost(&files_with(1, &last), 1500, now, &mut state);
    assert!(!state.is_clean && state.opened == 1500 && state.life > 20 + 2 * 256);
}

#[test]
fn a_cursor_that_may_have_been_lost_is_not_taken_for_a_new_one() {
    let board = Board::new(Memory::private(Board::LEN).unwrap());
    let clock: Arc<dyn Clock> = Arc::new(crate::clock::System::new());
    let decided = Decided {
        next: 700,
        life: 1,
        resume: None,
        is_fresh: false,
        is_ring_used: false,
        is_unproven: false,
    };
    let last = Checkpoint {
        head: 300,
        ..last()
    };
    let cursors = [(Name::try_from("live").unwrap(), true)];
    let position = |is_of_last| {
        let found = (&last, is_of_last);
        let places = places(&cursors, &board, found, &clock, STORE, &decided);
        places[0].1.position
    };
    assert_eq!(position(true), 700);
    assert_eq!(position(false), 300);
}

/// Opens a small log.
fn open_in(
    dir: &Arc<dyn Dir>,
    clock: &Arc<dyn Clock>,
    ring: &dyn Fn(&RunBefore) -> io::Result<Left>,
) -> Result<Opened> {
    let options = Options {
        ring_records: 16,
        ..small()
    };
    open_small(dir, clock, options, ring)
}

/// After all of a checkpoint was lost, a segment says from where on offsets are handed out; also where the
/// first open did not come so far and the second finds its checkpoint.
#[test]
fn a_segment_says_where_offsets_go_on_behind_a_lost_checkpoint() {
    let dir = ram_dir(4 << 20);
    let clock: Arc<dyn Clock> = Arc::new(crate::clock::System::new());
    let nothing = |_: &RunBefore| Ok(Left::Nothing);
    // No checkpoint, and one segment.
    put_header(&*stored(&*dir, 9), 9, 100, 7);
    let opened = open_in(&dir, &clock, &nothing).unwrap();
    let next = opened.report.next;
    assert!(next > 1 << 32, "{next}");
    drop(opened);
    let last = |dir| found(dir).into_iter().max_by_key(|(_, base, _)| *base);
    let (number, base, _) = last(&*dir).unwrap();
    assert_eq!(base, next);
    dir.remove(&segment::file_name(number)).unwrap();
    let again = open_in(&dir, &clock, &nothing).unwrap();
    let (_, base, _) = last(&*dir).unwrap();
    assert!(base >= next && base == again.report.next, "{base} {next}");
}

/// A ring that was larger than the one asked for is made durable at once: the checkpoint reaches as far.
#[test]
fn no_more_is_announced_than_the_checkpoint_that_is_left_allows() {
    let dir = ram_dir(4 << 20);
    let clock: Arc<dyn Clock> = Arc::new(crate::clock::System::new());
    let allowed = std::cell::Cell::new(0);
    let open = || {
        open_in(&dir, &clock, &|before| {
            allowed.set(before.durable_max);
            Ok(Left::Nothing)
        })
    };
    let mut opened = open().unwrap();
    for offset in 0..1000 {
        let draft = Draft {
            offset,
            time_ms: 0,
            extra_len: 0,
            key_len: 0,
            body: b"x",
        };
        opened.log.append(&draft, clock.stamp()).unwrap();
    }
    opened.log.commit().unwrap();
    assert_eq!(opened.log.durable(), 1000);
    drop(opened);
    let again = open().unwrap();
    assert_eq!(again.report.end, 1000);
    assert!(allowed.get() >= 1000, "{}", allowed.get());
}

/// The first copy was written and did not reach the medium, although its sync returned: the second counts.
#[test]
fn after_a_clean_close_an_old_first_copy_of_a_header_is_not_believed() {
    let dir = ram_dir(1 << 20);
    let file = stored(&*dir, 1);
    put_header(&*file, 1, 100, 7);
    let mut old = vec![0; PAGE_SIZE];
    file.read_at(&mut old, position(0)).unwrap();
    put_header(&*file, 1, 300, 9);
    file.write_at(&old, position(0)).unwrap();
    let clean = Checkpoint {
        store: STORE,
        is_clean: true,
        ..last()
    };
    let mut checkpoints = Checkpoints::open(&*dir).unwrap();
    for generation in 1..=4 {
        checkpoints
            .write(&Checkpoint {
                generation,
                ..clean.clone()
            })
            .unwrap();
    }
    assert!(files::look(&*dir, true).unwrap().is_clean);
    assert_eq!(found(&*dir), [(1, 300, 9)]);
}

/// Else the next damage would hit the only copy that is left.
#[test]
fn an_open_writes_the_copy_of_a_header_again_that_does_not_verify() {
    for copy in 0..HEADER_COPIES {
        let dir = ram_dir(1 << 20);
        let file = stored(&*dir, 1);
        put_header(&*file, 1, 100, 7);
        put_page(&*file, HEADER_COPIES, 100, 7);
        file.write_at(&[0xa5; 64], position(copy)).unwrap();
        let mut found = files::look(&*dir, true).unwrap();
        assert_eq!((found.repair(), found.is_last_good()), (1, true));
        let headers = (0..HEADER_COPIES).map(|copy| {
            let mut page = vec![0; PAGE_SIZE];
            file.read_at(&mut page, position(copy)).unwrap();
            SegmentHeader::decode(&page).ok().map(|header| header.base)
        });
        assert!(headers.into_iter().all(|base| base == Some(100)), "{copy}");
        assert_eq!(files::look(&*dir, true).unwrap().repair(), 0);
    }
}
