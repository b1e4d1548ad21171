//! Rules that no life misses, each with what it takes to miss it.

use std::ops::Range;
use std::time::Duration;

use forebay::format::{HEADER_COPIES, PAGE_SIZE, PageHeader};
use forebay::log::{BatchBuffer, Ended};
use forebay::rules::{Rule, without};

use crate::sim::session::{ALIKE, BODY_MAX, INTERVAL, SETUP, Session, Setup};
use crate::world::World;

const HOUR: Duration = Duration::from_secs(3600);

/// The rings of two runs are not of the same size, and the one that crashed had announced all that its
/// checkpoint allowed, and had filled its ring.
#[test]
fn offsets_are_skipped_by_the_ring_of_the_run_that_crashed() {
    let opened = || {
        let setup = Setup {
            checkpoint_interval: HOUR,
            ..SETUP
        };
        let mut world = World::new(1, setup);
        let mut session = world.open().unwrap();
        let ring = u64::from(setup.ring_records);
        for _ in 0..2 {
            world.append(&mut session, ring);
            assert!(session.step(&mut world.oracle, INTERVAL));
        }
        world.append(&mut session, ring);
        assert_eq!(session.log().durable(), 2 * ring);
        let handed_out = world.oracle.next();
        assert_eq!(handed_out, 3 * ring);
        drop(session);
        world.disk.power_cut();
        world.clock.reboot();
        world.setup.ring_records = 4;
        let session = Session::open(&world.disk, &world.clock, world.setup).unwrap();
        (session.report.next, handed_out)
    };
    let (next, handed_out) = opened();
    assert!(next >= handed_out, "{next} was handed out before");
    let (next, handed_out) = without(Rule::OffsetsSkippedByOldRing, opened);
    assert!(next < handed_out, "nobody notices");
}

/// The offsets that a page is needed for.
fn offsets(page: &PageHeader) -> Range<u64> {
    page.first - u64::from(page.carried > 0)..page.end()
}

/// Whether reading from an offset on finds its record.
fn is_found(session: &mut Session, offset: u64) -> bool {
    let mut batch = BatchBuffer::new(1, 100_000, BODY_MAX as usize).unwrap();
    let (ended, _) = session.reader.read(offset, offset + 1, &mut batch).unwrap();
    assert!(batch.count() == 1 || matches!(ended, Ended::Gap(_)));
    batch.count() == 1
}

/// A page that came to stand at another place of its segment costs the records of the page that stood
/// there. A reader that believes it is led past others: it looks for its place by halving.
#[test]
fn a_page_at_the_wrong_place_costs_no_more_than_the_page_that_it_hits() {
    const NAME: &str = "segment-000001";
    let mut world = World::new(1, SETUP);
    world.next_id = ALIKE;
    let mut session = world.open().unwrap();
    for _ in 0..20 {
        world.append(&mut session, 60);
        assert!(session.step(&mut world.oracle, INTERVAL));
    }
    assert!(session.close(&mut world.oracle));
    drop(session);
    world.disk.power_cut();
    let bytes = world.disk.bytes(NAME);
    let pages = bytes.chunks(PAGE_SIZE).filter_map(PageHeader::decode);
    let pages: Vec<_> = pages.filter(|page| !page.is_tail).collect();
    assert!(pages.len() > 30, "{} pages", pages.len());
    let begins = |page: &PageHeader| page.slot as usize * PAGE_SIZE;
    let from = begins(&pages[0]);
    // Of the pages behind each that is hit.
    let lost = || {
        let mut lost = 0;
        for hit in &pages[1..] {
            let disk = world.disk.fork();
            disk.damage(NAME, |bytes| {
                bytes.copy_within(from..from + PAGE_SIZE, begins(hit));
            });
            let mut session = Session::open(&disk, &world.clock, world.setup).unwrap();
            // Backwards, so that each is looked for anew.
            let firsts = pages.iter().rev().map(|page| page.first);
            let others = firsts.filter(|first| !offsets(hit).contains(first));
            lost += others
                .filter(|first| !is_found(&mut session, *first))
                .count();
        }
        lost
    };
    assert_eq!(lost(), 0);
    assert!(without(Rule::PageNamesSlot, lost) > 0, "nobody notices");
}

/// The power goes after so many operations of a run; the newest segment then loses a copy of its header,
/// and the other one at the open after that. Each open finds all records. Whether the segment is known
/// for what it was all the time; `None` when the run ended before.
fn is_known_after_two_hits(ops: u64) -> Option<bool> {
    let setup = Setup {
        segment_bytes: 1 << 16,
        checkpoint_interval: HOUR,
        ..SETUP
    };
    let mut world = World::new(1, setup);
    world.next_id = ALIKE;
    let mut session = world.open().unwrap();
    world.disk.set_fuel(ops);
    let mut steps = 0..40;
    while !world.disk.is_off() && steps.next().is_some() {
        world.append(&mut session, 30);
        session.step(&mut world.oracle, INTERVAL);
    }
    if !world.disk.is_off() {
        return None;
    }
    drop(session);
    world.disk.power_cut();
    // Number, base, life and stamp of the newest.
    let open = |world: &mut World| {
        world.clock.reboot();
        let session = world.open().unwrap();
        let newest = session.log().shared().segments().pop();
        drop(session);
        world.disk.power_cut();
        newest.map(|newest| (newest.number, newest.base, newest.life, newest.prepared))
    };
    let Some(newest) = open(&mut world) else {
        return Some(true); // it is cut before the first one
    };
    let name = format!("segment-{:06}", newest.0);
    let mut is_known = true;
    for copy in 0..HEADER_COPIES as usize {
        let at = copy * PAGE_SIZE + 20;
        world.disk.damage(&name, |bytes| bytes[at] ^= 1);
        is_known &= open(&mut world) == Some(newest);
    }
    Some(is_known)
}

/// Where the first copy is not written again before the second one goes bad as well, the pages tell what both
/// said, though not when the segment was prepared; one that nothing was written to yet is given up.
#[test]
fn two_copies_of_a_header_that_go_bad_one_after_the_other_cost_nothing() {
    let known = |ops| is_known_after_two_hits(ops);
    let with: Vec<bool> = (0..).map_while(known).collect();
    assert!(
        with.len() > 90 && with.iter().all(|known| *known),
        "{with:?}"
    );
    let known = |ops| without(Rule::HeaderRepaired, || is_known_after_two_hits(ops));
    let without: Vec<bool> = (0..).map_while(known).collect();
    assert!(without.iter().any(|known| !known), "nobody notices");
}
