//! What is found again, and what must not be.

use super::*;

/// Where a page ends, in all the ways in which a record can meet it.
#[test]
fn a_record_of_any_length_is_found_again() {
    let room = PAGE_BODY_SIZE - RECORD_HEADER_SIZE;
    let edges = [room - 25, room - 24, room - 23, room - 1, room, room + 1];
    for long in edges
        .into_iter()
        .chain([PAGE_BODY_SIZE, 2 * PAGE_BODY_SIZE + room, 40_000])
    {
        for first in [None, Some(0), Some(100), Some(room - 24), Some(room - 30)] {
            for synced in [false, true] {
                let mut bench = Bench::new(Io::Write, 3);
                for len in first.into_iter().chain([long, 0, long, 1]) {
                    bench.append(len);
                    if synced {
                        bench.sync();
                        bench.check();
                    }
                }
                bench.sync();
                bench.check();
            }
        }
    }
}

/// `L-119`: a segment full of valid old pages yields none of them.
#[test]
fn a_page_of_a_former_life_is_not_read() {
    let mut old = Bench::new(Io::Write, 3);
    while old.writer.fits(3100, stamp(5000)) {
        old.append(3000);
        old.append(20);
    }
    old.writer.flush(true).unwrap();
    old.check();
    assert!(old.headers().len() > 50);

    let mut new = Bench::on(old.disk.clone(), Io::Write, 5);
    assert_eq!(
        new.headers(),
        [],
        "before anything was written in this life"
    );
    // The same offsets and the same bytes, and pages of the old life behind them.
    for _ in 0..6 {
        new.append(3000);
        new.append(20);
        new.sync();
        assert!(new.headers().iter().all(|header| header.life == 5));
        new.check();
    }
}

#[test]
fn a_page_at_the_wrong_place_is_not_read() {
    let mut bench = Bench::new(Io::Write, 3);
    (0..10).for_each(|_| bench.append(1000));
    bench.writer.flush(true).unwrap();
    let headers = bench.headers();
    // A misdirected write.
    bench.disk.copy_page(HEADER_COPIES, 20);
    assert_eq!(bench.headers(), headers);

    let right = bench.writer.segment().clone();
    for (store, segment) in [
        (1, right.clone()),
        (
            STORE.tag(),
            Segment {
                base: BASE + 1,
                ..right.clone()
            },
        ),
        (
            STORE.tag(),
            Segment {
                life: 4,
                ..right.clone()
            },
        ),
        (
            STORE.tag(),
            Segment {
                pages: HEADER_COPIES,
                ..right
            },
        ),
    ] {
        let mut reader = PageReader::new(store, false).unwrap();
        let page = reader.page(&segment, HEADER_COPIES, PAGES).unwrap();
        assert!(page.is_none(), "{segment:?} of {store:x}");
    }
}

#[test]
fn a_block_that_cannot_be_read_hides_only_its_page() {
    let mut bench = Bench::new(Io::Write, 3);
    (0..40).for_each(|_| bench.append(1000));
    bench.writer.flush(true).unwrap();
    bench.disk.fail_reads_of(HEADER_COPIES + 2, u32::MAX);
    let mut reader = PageReader::new(STORE.tag(), true).unwrap();
    for slot in HEADER_COPIES..HEADER_COPIES + 8 {
        let page = reader.page(bench.writer.segment(), slot, PAGES);
        match page {
            Ok(page) => assert!(page.is_some() && slot != HEADER_COPIES + 2, "{slot}"),
            Err(_) => assert_eq!(slot, HEADER_COPIES + 2),
        }
    }
}

/// What an open takes for damage stays damage: one failed read is no reason.
#[test]
fn a_read_of_an_open_that_fails_is_tried_again() {
    let mut bench = Bench::new(Io::Write, 3);
    (0..40).for_each(|_| bench.append(1000));
    bench.writer.flush(true).unwrap();
    let slot = HEADER_COPIES + 2;
    let page = |from_medium| {
        bench.disk.fail_reads_of(slot, 2);
        let mut reader = PageReader::new(STORE.tag(), from_medium).unwrap();
        let page = reader.page(bench.writer.segment(), slot, slot + 1);
        page.map(|page| page.is_some())
    };
    assert!(page(true).unwrap());
    assert!(page(false).is_err(), "a cursor comes again by itself");
}

#[test]
fn a_page_that_did_not_verify_is_read_again() {
    let mut bench = Bench::new(Io::Write, 3);
    let segment = bench.writer.segment().clone();
    let mut reader = PageReader::new(STORE.tag(), false).unwrap();
    assert!(
        reader
            .page(&segment, HEADER_COPIES, PAGES)
            .unwrap()
            .is_none()
    );
    bench.append(10);
    bench.sync();
    assert!(
        reader
            .page(&segment, HEADER_COPIES, PAGES)
            .unwrap()
            .is_some()
    );
}

#[test]
fn a_page_that_is_kept_is_none_of_another_segment() {
    let mut bench = Bench::new(Io::Write, 3);
    (0..10).for_each(|_| bench.append(1000));
    bench.writer.flush(true).unwrap();
    let right = bench.writer.segment().clone();
    let mut reader = PageReader::new(STORE.tag(), false).unwrap();
    let later = Segment {
        life: 4,
        ..right.clone()
    };
    for _ in 0..2 {
        let page = reader.page(&right, HEADER_COPIES, PAGES).unwrap();
        assert_eq!(page.map(|(header, _)| header.first), Some(BASE));
        assert!(reader.page(&later, HEADER_COPIES, PAGES).unwrap().is_none());
    }
}

#[test]
fn what_was_forgotten_is_read_again() {
    let mut bench = Bench::new(Io::Write, 3);
    bench.append(10);
    bench.sync();
    let segment = bench.writer.segment().clone();
    let mut reader = PageReader::new(STORE.tag(), false).unwrap();
    let count = |reader: &mut PageReader| {
        let page = reader.page(&segment, HEADER_COPIES, PAGES).unwrap();
        page.map(|(header, _)| header.count)
    };
    assert_eq!(count(&mut reader), Some(1));
    // The tail slots take turns: the fourth version stands where the first one stood.
    for _ in 0..3 {
        bench.append(10);
        bench.sync();
    }
    assert_eq!(count(&mut reader), Some(1), "it is kept");
    reader.forget();
    assert_eq!(count(&mut reader), Some(4));
}

/// A read ends where nothing is written yet, or at the end of the segment, and holds [`READ_AHEAD_PAGES`].
#[test]
fn no_more_is_read_ahead_than_there_is() {
    let mut bench = Bench::new(Io::Write, 3);
    while bench.writer.end_slot() < PAGES - 1 {
        bench.append(1000);
    }
    bench.writer.flush(true).unwrap();
    let segment = bench.writer.segment();
    let reads = |slots: std::ops::Range<u32>, end| {
        let mut reader = PageReader::new(STORE.tag(), false).unwrap();
        for slot in slots {
            assert!(reader.page(segment, slot, end).unwrap().is_some(), "{slot}");
        }
        bench.disk.take_reads()
    };
    assert_eq!(reads(2..7, 7), [(2, 5)]);
    assert_eq!(reads(20..40, 40), [(20, 16), (36, 4)]);
    assert_eq!(reads(50..PAGES, u32::MAX), [(50, 14)]);
    // The page that is asked for is read whatever the end is.
    assert_eq!(reads(9..11, 9), [(9, 1), (10, 1)]);
}

/// Most of a new segment is not written yet: a scan reads all of it once, a cursor what it asks for again.
#[test]
fn a_page_that_did_not_verify_is_read_again_only_where_somebody_may_write() {
    let bench = Bench::new(Io::Write, 3);
    let reads = |from_medium| {
        let mut reader = PageReader::new(STORE.tag(), from_medium).unwrap();
        for slot in [2, 3, 3] {
            let page = reader.page(bench.writer.segment(), slot, 18).unwrap();
            assert!(page.is_none());
        }
        bench.disk.take_reads()
    };
    assert_eq!(reads(true), [(2, 16)]);
    assert_eq!(reads(false), [(2, 16), (3, 15), (3, 15)]);
}
