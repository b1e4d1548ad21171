//! What is written where.

use super::*;

/// Whatever becomes of the version on its way, the two newest durable ones are whole.
#[test]
fn tail_slots_rotate_and_the_two_newest_durable_versions_stay() {
    let mut bench = Bench::new(Io::Write, 3);
    let home = HEADER_COPIES + TAIL_SLOTS;
    let mut durable: Vec<u32> = Vec::new();
    for _ in 0..12 {
        let before = bench.records();
        // Handed over twice: the second version replaces the first, which is not durable.
        let mut version = 0;
        for _ in 0..2 {
            bench.append(40);
            bench.disk.take_writes();
            bench.writer.flush(false).unwrap();
            let writes = bench.disk.take_writes();
            let [(slot, 1)] = writes[..] else {
                panic!("not one page: {writes:?}")
            };
            version = slot;
            assert!((HEADER_COPIES..home).contains(&slot), "{slot}");
            let newest = durable.iter().rev().take(2);
            assert!(
                newest.into_iter().all(|kept| *kept != slot),
                "{slot} after {durable:?}"
            );
            assert!(bench.disk.with_torn(slot, || bench.records() == before));
        }
        bench.writer.sync().unwrap();
        durable.push(version);
        bench.check();
    }
    let headers = bench.headers();
    assert_eq!(headers.len(), 3, "versions only: the page is not full");
    assert!(
        headers
            .iter()
            .all(|header| header.is_tail && header.tail == HEADER_COPIES)
    );

    // Filled, it goes to its own place, once.
    bench.disk.take_writes();
    while bench.writer.end_slot() == home {
        bench.append(500);
        bench.sync();
    }
    let writes = bench.disk.take_writes();
    assert_eq!(
        writes.iter().filter(|write| write.0 == home).count(),
        1,
        "{writes:?}"
    );
    bench.check();
}

#[test]
fn a_flush_without_new_records_writes_nothing() {
    let mut bench = Bench::new(Io::Write, 3);
    bench.sync();
    assert_eq!(bench.disk.take_writes(), []);
    assert!(bench.writer.is_fresh() && !bench.writer.is_dirty());
    bench.append(10);
    assert!(bench.writer.is_dirty());
    bench.sync();
    assert!(!bench.writer.is_fresh() && !bench.writer.is_dirty());
    let (writes, syncs) = (bench.disk.take_writes().len(), bench.disk.syncs());
    assert_eq!(
        (writes, syncs, bench.writer.take_written_bytes()),
        (1, 1, PAGE_SIZE as u64)
    );
    bench.sync();
    assert_eq!((bench.disk.take_writes().len(), bench.disk.syncs()), (0, 1));
}

#[test]
fn a_sync_that_closed_four_pages_pads_the_last_one() {
    for closed in [PAD_FROM - 1, PAD_FROM, PAD_FROM + 5] {
        let mut bench = Bench::new(Io::Write, 3);
        let begins = bench.writer.end_slot();
        while bench.writer.end_slot() < begins + closed {
            bench.append(1000);
        }
        bench.sync();
        let pads = closed >= PAD_FROM;
        let tails = bench
            .headers()
            .iter()
            .filter(|header| header.is_tail)
            .count();
        assert_eq!(tails, usize::from(!pads), "{closed}");
        let expected = if pads {
            closed + 1
        } else {
            closed + TAIL_SLOTS
        };
        assert_eq!(bench.writer.end_slot(), begins + expected, "{closed}");
        // What comes next begins a page of its own, or goes on with the one in the tail slots.
        bench.append(10);
        bench.sync();
        bench.check();
    }
}

#[test]
fn a_segment_that_is_left_is_sealed_at_its_own_place() {
    let mut bench = Bench::new(Io::Write, 3);
    bench.append(10);
    bench.sync();
    bench.append(10);
    bench.writer.flush(true).unwrap();
    bench.writer.sync().unwrap();
    let home = bench
        .headers()
        .into_iter()
        .find(|header| !header.is_tail)
        .unwrap();
    assert_eq!(
        (home.slot, home.first, home.count),
        (HEADER_COPIES + TAIL_SLOTS, BASE, 2)
    );
    bench.check();
}

/// What `fits` allows stays in the file; what it refuses would not.
#[test]
fn what_fits_stays_in_the_segment() {
    for seed in 0..40u64 {
        let mut bench = Bench::new(Io::Write, 3);
        for step in 0.. {
            let len = body(seed, 1)[0] as usize * 37 * (step % 5) % 9000;
            if !bench.writer.fits(len, stamp(5000)) {
                break;
            }
            bench.append(len);
            if (seed + step as u64).is_multiple_of(3) {
                bench.sync();
            }
        }
        bench.writer.flush(true).unwrap();
        bench.writer.sync().unwrap();
        assert_eq!(bench.disk.pages(), PAGES, "the file did not grow");
        assert!(bench.writer.end_slot() <= PAGES);
        bench.check();
    }
    let bench = Bench::new(Io::Write, 3);
    let all = (PAGES - HEADER_COPIES) as usize * PAGE_BODY_SIZE - RECORD_HEADER_SIZE;
    let fits = |len| bench.writer.fits(len, stamp(5000));
    assert!(fits(all) && !fits(all + 1));
}

/// A clock that jumps begins a page of its own. In the last page of a segment that page would have lain
/// behind the end of the file, where nobody reads: the record was lost, and the quota was exceeded.
#[test]
fn a_jump_of_the_clock_does_not_lead_out_of_the_segment() {
    let mut bench = Bench::new(Io::Write, 3);
    while bench.writer.end_slot() < PAGES - 1 {
        bench.append(1000);
    }
    bench.append(10);
    let jumped = Stamp {
        wall_ms: 3_000_000,
        ..stamp(5000)
    };
    assert!(bench.writer.fits(10, stamp(5000)));
    assert!(!bench.writer.fits(10, jumped));
    bench.writer.flush(true).unwrap();
    bench.writer.sync().unwrap();
    assert_eq!(bench.disk.pages(), PAGES);
    bench.check();
}

/// A map and positional writes make the same file, and so does a map that cannot be had.
#[test]
fn all_ways_to_write_write_the_same_bytes() {
    let run = |io, maps| {
        let mut bench = Bench::on(Disk::new(PAGES), io, 3);
        bench.disk.allow_maps(maps);
        for len in [10, 9000, 0, 4000, 20_000, 7, 7, 7, 100_000, 1] {
            bench.append(len);
            bench.sync();
        }
        bench.check();
        (bench.disk.bytes(), bench.disk.windows())
    };
    let (bytes, windows) = run(Io::Write, true);
    assert_eq!(windows, 0);
    let (mapped, windows) = run(Io::Map, true);
    assert!(mapped == bytes && windows > 0);
    let (without, windows) = run(Io::Map, false);
    assert!(without == bytes && windows == 0);
}

/// A segment is longer than what is mapped of it at a time, and than what is staged.
#[test]
fn a_map_goes_along_with_what_is_written() {
    const PAGES: u32 = 700;
    let window = u32::try_from(WINDOW_SIZE / PAGE_SIZE).unwrap();
    let run = |io, len: usize, syncs| {
        let mut bench = Bench::on(Disk::new(PAGES), io, 3);
        while bench.writer.fits(len, stamp(5000)) {
            bench.append(len);
            if syncs {
                bench.sync();
            }
        }
        bench.writer.flush(true).unwrap();
        bench.writer.sync().unwrap();
        assert_eq!(bench.disk.pages(), PAGES, "the file did not grow");
        let writes = bench.disk.take_writes();
        assert!(writes.iter().all(|(slot, count)| slot + count <= PAGES));
        (bench.disk.bytes(), bench.disk.windows(), writes)
    };
    for (len, syncs) in [(3000, false), (30_000, true)] {
        let (bytes, _, writes) = run(Io::Write, len, syncs);
        let (mapped, windows, parts) = run(Io::Map, len, syncs);
        assert!(mapped == bytes, "{len}");
        assert_eq!(windows, PAGES.div_ceil(window));
        let count = |writes: &[(u32, u32)]| writes.iter().map(|(_, count)| count).sum::<u32>();
        assert_eq!(count(&parts), count(&writes), "each page is written once");
        let within = |(slot, count): &(u32, u32)| slot / window == (slot + count - 1) / window;
        assert!(parts.iter().all(within));
        let most = writes.iter().map(|(_, count)| *count).max();
        let stage = u32::try_from(STAGE_PAGES).unwrap();
        assert!(syncs || most == Some(stage), "what is staged goes at once");
    }
}

/// Tail slots are taken as long as the page has its own place behind them in the file; else it is padded.
#[test]
fn tail_slots_are_taken_up_to_the_end_of_the_segment() {
    for (left, tails) in [
        (TAIL_SLOTS + 2, 1),
        (TAIL_SLOTS + 1, 1),
        (TAIL_SLOTS, 0),
        (1, 0),
    ] {
        let mut bench = Bench::new(Io::Write, 3);
        let segment = bench.writer.segment().clone();
        bench.writer.turn_to(segment, PAGES - left, 3, BASE);
        bench.append(10);
        bench.sync();
        let headers = bench.headers();
        assert_eq!(
            headers.iter().filter(|header| header.is_tail).count(),
            tails,
            "{left}"
        );
        bench.writer.flush(true).unwrap();
        assert!(
            bench.writer.end_slot() <= PAGES && bench.disk.pages() == PAGES,
            "{left}"
        );
        bench.check();
    }
}

/// Skipped offsets are no records; a page that holds some is closed, and a sync makes it durable.
#[test]
fn offsets_that_are_skipped_begin_another_page() {
    let mut bench = Bench::new(Io::Write, 3);
    // Nothing is in the page yet.
    bench.next += 5;
    bench.writer.skip(bench.next).unwrap();
    assert!(!bench.writer.is_dirty());
    assert_eq!(bench.writer.end_slot(), HEADER_COPIES);
    bench.append(10);
    bench.next += 5;
    bench.writer.skip(bench.next).unwrap();
    assert!(bench.writer.is_dirty(), "the record before is not durable");
    bench.sync();
    bench.check();
    // A page that only ends a record is not empty.
    bench.append(PAGE_SIZE);
    bench.next += 5;
    bench.writer.skip(bench.next).unwrap();
    bench.append(10);
    bench.sync();
    bench.check();
    let headers = bench.headers();
    let firsts: Vec<_> = headers.iter().map(|header| header.first - BASE).collect();
    assert_eq!(firsts, [5, 11, 12, 17]);
    let slots: Vec<_> = headers.iter().map(|header| header.slot).collect();
    assert_eq!(slots, [2, 3, 4, 5]);
}

/// Where just a header has room, a record without a body has.
#[test]
fn a_record_without_a_body_fills_a_page_up() {
    let mut bench = Bench::new(Io::Write, 3);
    while bench.writer.end_slot() < PAGES - 1 {
        bench.append(1000);
    }
    let rest = (0..).find(|len| !bench.writer.fits(*len, stamp(5000)));
    bench.append(rest.unwrap() - 1 - RECORD_HEADER_SIZE);
    assert_eq!(bench.writer.end_slot(), PAGES - 1);
    assert!(bench.writer.fits(0, stamp(5000)) && !bench.writer.fits(1, stamp(5000)));
    bench.append(0);
    assert_eq!(bench.writer.end_slot(), PAGES - 1);
    bench.writer.flush(true).unwrap();
    bench.writer.sync().unwrap();
    assert_eq!(bench.disk.pages(), PAGES, "the file did not grow");
    bench.check();
}

/// A record counts from its page's stamp, so one that cannot begins another page.
#[test]
fn a_record_whose_time_does_not_agree_begins_a_page() {
    let at = |mono_ms| stamp(mono_ms);
    let same = [
        at(100),
        at(100),
        at(90_000),
        Stamp {
            wall_ms: at(90_000).wall_ms + 1000,
            ..at(90_000)
        },
    ];
    for next in same {
        let mut bench = Bench::new(Io::Write, 3);
        bench.append_at(10, at(100));
        bench.append_at(10, next);
        assert_eq!(bench.writer.end_slot(), HEADER_COPIES, "{next:?}");
    }
    for next in [
        Stamp { boot: 8, ..at(100) },
        at(99),
        Stamp {
            wall_ms: 0,
            ..at(100)
        },
        Stamp {
            wall_ms: at(100).wall_ms + 1001,
            ..at(100)
        },
        Stamp {
            wall_ms: at(100).wall_ms - 1001,
            ..at(100)
        },
        at(100 + (1 << 32)),
    ] {
        let mut bench = Bench::new(Io::Write, 3);
        bench.append_at(10, at(100));
        bench.append_at(10, next);
        assert_eq!(bench.writer.end_slot(), HEADER_COPIES + 1, "{next:?}");
        bench.sync();
        assert_eq!(bench.headers().last().unwrap().stamp, next);
        bench.check();
    }
}

#[test]
fn pages_carry_the_mark_that_was_announced_before() {
    let mut bench = Bench::new(Io::Write, 3);
    bench.append(10);
    bench.sync();
    bench.writer.set_mark(BASE + 1);
    bench.append(10);
    bench.sync();
    let marks: Vec<_> = bench.headers().iter().map(|header| header.mark).collect();
    assert_eq!(marks, [BASE, BASE + 1]);
}

/// `L-121`: the log decides what follows; the segment says it and promises nothing.
#[test]
fn a_sync_that_fails_makes_nothing_durable() {
    let mut bench = Bench::new(Io::Write, 3);
    bench.append(10);
    bench.disk.fail_syncs(true);
    bench.writer.flush(false).unwrap();
    assert!(bench.writer.sync().is_err());
    assert!(bench.writer.is_fresh() && bench.writer.is_dirty());
}

#[test]
fn a_writer_turns_to_another_segment() {
    let mut bench = Bench::new(Io::Write, 3);
    bench.append(10);
    bench.sync();
    let disk = Disk::new(PAGES);
    let file = Arc::new(disk.clone());
    let segment = Segment {
        file,
        number: 2,
        base: bench.next,
        life: 4,
        pages: PAGES,
        prepared: Stamp::default(),
    };
    let next = bench.next;
    bench.writer.turn_to(segment, HEADER_COPIES, 4, next);
    assert!(bench.writer.is_fresh() && !bench.writer.is_dirty());
    bench.disk = disk;
    bench.bodies.clear();
    bench.append(10);
    bench.sync();
    bench.check();
    assert_eq!(bench.headers()[0].base, next);
}

#[test]
#[should_panic(expected = "lives never decrease")]
fn a_life_below_the_segments_is_a_broken_invariant() {
    let mut bench = Bench::new(Io::Write, 3);
    let segment = bench.writer.segment().clone();
    bench.writer.turn_to(segment, HEADER_COPIES, 2, BASE);
}

#[test]
fn names_of_files_have_one_number_and_numbers_one_name() {
    for number in [1, 999_999, 1_000_000, u32::MAX] {
        assert_eq!(file_number(&file_name(number)), Some(number));
    }
    for name in [
        "segment-",
        "segment-1",
        "segment-000000",
        "segment-0000001",
        "segment-00000x",
        "segment-+00001",
        "spare-000001",
        "segment-4294967296",
        "segment-000001.bak",
    ] {
        assert_eq!(file_number(name), None, "{name}");
    }
}

/// A page in which no record starts had the stamp of a record before the one that goes on in it, so
/// that reading from a time on began behind records that were meant.
#[test]
fn a_page_that_only_goes_on_has_the_stamp_of_its_record() {
    let mut bench = Bench::new(Io::Write, 3);
    bench.append_at(10, stamp(100));
    bench.append_at(3 * PAGE_SIZE, stamp(9000));
    bench.append_at(10, stamp(9500));
    bench.sync();
    let headers = bench.headers();
    let home = headers.iter().filter(|header| !header.is_tail);
    let stamps: Vec<_> = home.map(|header| header.stamp.mono_ms).collect();
    assert_eq!(stamps, [100, 9000, 9000]);
    let begins = headers.iter().filter(|header| header.carried > 0);
    let starts: Vec<_> = begins.map(|header| usize::from(header.start)).collect();
    assert_eq!(starts[..2], [PAGE_SIZE; 2], "none begins there");
    assert_eq!(headers.last().unwrap().count, 1);
    bench.check();
}
