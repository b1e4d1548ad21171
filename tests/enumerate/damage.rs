//! Each byte flipped, each length: what comes out, and what is said of the rest.

use std::sync::Arc;

use forebay::clock::Clock;
use forebay::format::{HEADER_COPIES, PAGE_SIZE, Reason};

use super::case;
use super::sim::clock::SimClock;
use super::sim::oracle::Oracle;
use super::sim::session::{CHECKPOINT_INTERVAL, INTERVAL, SETUP, Session};
use super::sim::storage::SimDisk;
use super::store::{Cost, Map, Offsets, Seen, flip, look, map, ranges, read};

const CHECKPOINT: &str = "checkpoint";
const SEGMENT: &str = "segment-000001";

/// Of the bytes of records one in so many is flipped; of all that matters more, each.
fn stride() -> usize {
    let stride = std::env::var("STRIDE").ok();
    stride.and_then(|stride| stride.parse().ok()).unwrap_or(13)
}

/// What damage leaves of what is known besides the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    All,
    /// What was never durable is not told from damage any more.
    NoLedger,
    /// Nothing proves that what is missing had been durable.
    NoEvidence,
}

/// Two lives in one segment, with pages that were filled, padded and left in tail slots.
struct Store {
    disk: SimDisk,
    clock: Arc<SimClock>,
    sound: Seen,
    map: Map,
    bytes: Vec<u8>,
    /// From here on records were written by the last sync: with it, nobody can tell a flip from a tear.
    last_sync: u64,
}

impl Store {
    fn new(is_clean: bool) -> Self {
        let disk = SimDisk::new(7);
        let clock = Arc::new(SimClock::new());
        let mut oracle = Oracle::default();
        let (mut id, mut last_sync) = (1, 0);
        for life in 0..2 {
            let mut session = Session::open(&disk, &clock, SETUP).unwrap();
            for count in [5, 4, 1, 30, 2, 3] {
                for _ in 0..count {
                    assert!(session.append(&mut oracle, id));
                    id += 1;
                }
                last_sync = session.log().durable();
                for _ in 0..2 {
                    assert!(session.step(&mut oracle, INTERVAL));
                }
            }
            // After the first life the ledger has a range that was never handed out.
            if life == 1 && is_clean {
                assert!(session.close(&mut oracle));
                last_sync = u64::MAX;
            }
            drop(session);
            disk.kill();
            disk.power_cut();
            clock.reboot();
        }
        let sound = look(&disk, &clock);
        let bytes = disk.bytes(SEGMENT);
        let map = map(&bytes);
        assert_eq!(sound.found.len(), 90);
        assert!(sound.gaps.iter().all(|gap| gap.2 == Reason::NeverDurable));
        let whole: Offsets = map.ends.keys().copied().collect();
        assert_eq!(whole, sound.found, "the page on the format says the same");
        assert!(map.parts.values().any(|count| *count > 1));
        Self {
            disk,
            clock,
            sound,
            map,
            bytes,
            last_sync,
        }
    }

    /// What is missing stands in ranges that say so, and nothing else does. Returns what is missing.
    fn check(&self, seen: &Seen, left: Left) -> Offsets {
        let lost: Offsets = self.sound.found.difference(&seen.found).copied().collect();
        assert!(seen.found.is_subset(&self.sound.found));
        let told: Offsets = seen.gaps.iter().flat_map(|gap| gap.0..gap.1).collect();
        let told: Offsets = told.intersection(&self.sound.found).copied().collect();
        let decided: Offsets = lost.range(..self.last_sync).copied().collect();
        assert!(
            told.is_subset(&lost),
            "{:?} of {:?}",
            ranges(&told),
            ranges(&lost)
        );
        assert!(
            told.is_superset(&decided),
            "{:?} of {:?}",
            ranges(&told),
            ranges(&lost)
        );
        let damage = seen.missing(Reason::Damage);
        let is_proven = left != Left::NoEvidence;
        assert!(
            !is_proven || damage.is_superset(&decided),
            "{:?}",
            seen.gaps
        );
        // Nothing that never was a record is called damage.
        let never: Offsets = damage.difference(&lost).copied().collect();
        assert!(
            left == Left::NoLedger || never.is_empty(),
            "{:?}",
            ranges(&never)
        );
        lost
    }

    /// A flip costs what the page on the format says, and no more.
    fn check_flip(&self, at: usize, lost: &Offsets) {
        match &self.map.costs[at] {
            Cost::Nothing => assert!(lost.is_empty(), "{lost:?}"),
            Cost::Record(offset, from) => {
                let is_only = self.map.parts[&(*offset, *from)] == 1;
                assert!(
                    lost.len() <= 1 && lost.iter().all(|lost| lost == offset),
                    "{lost:?}"
                );
                assert!(
                    !is_only || lost.len() == 1,
                    "{offset} came out all the same"
                );
            }
            Cost::Page(slot) => {
                assert!(lost.is_subset(&self.map.pages[*slot]), "{lost:?}");
            }
        }
    }

    /// The bytes that are flipped: all headers and lengths, one in `stride` of the others.
    fn places(&self, stride: usize) -> Vec<usize> {
        let is_used = |page: &[u8]| page.iter().any(|byte| *byte != 0);
        let pages = self.bytes.chunks_exact(PAGE_SIZE).enumerate();
        let used = pages
            .filter(|(_, page)| is_used(page))
            .map(|(slot, _)| slot);
        let of_page = |slot: usize| slot * PAGE_SIZE..(slot + 1) * PAGE_SIZE;
        let all = used.flat_map(of_page).enumerate();
        let is_chosen = |(n, at): &(usize, usize)| {
            let matters = matches!(self.map.costs[*at], Cost::Page(_)) && stride < 100;
            n.is_multiple_of(stride) || matters
        };
        all.filter(is_chosen).map(|(_, at)| at).collect()
    }

    /// The owner's way: opens, reads, closes. What it found stands in its ledger, and is the same for
    /// whoever looks after it.
    fn open(&self, disk: &SimDisk) -> Seen {
        let clock: Arc<dyn Clock> = self.clock.clone();
        let mut session = Session::open(disk, &self.clock, SETUP).unwrap();
        let shared = session.log().shared().clone();
        let mut seen = read(&shared, &clock);
        let next = session.log().next();
        assert!(
            next > *self.sound.found.last().unwrap(),
            "{next} was used before"
        );
        let mut oracle = Oracle::default();
        session.step(&mut oracle, CHECKPOINT_INTERVAL);
        assert!(session.close(&mut oracle));
        let ledger: Vec<_> = shared.ledger().ranges().iter().copied().collect();
        for (start, end, reason) in &seen.gaps {
            let known = ledger
                .iter()
                .any(|loss| loss.start <= *start && *end <= loss.end && loss.reason == *reason);
            assert!(known, "{start} to {end} of {ledger:?}");
        }
        drop(session);
        disk.kill();
        let again = look(disk, &self.clock);
        assert_eq!(again.found, seen.found);
        seen.gaps
            .retain(|gap| gap.0 <= *self.sound.found.last().unwrap());
        seen
    }
}

/// `G-082`, `L-34`, `L-37`: a flip costs the record that it hits, or at most what lies in the page when it hits
/// a page's header or a length; the rest comes out, and what is missing is said exactly. A flip in the
/// header of a segment or in the checkpoint costs nothing.
#[test]
fn a_flipped_byte_costs_what_it_hits() {
    for is_clean in [true, false] {
        let store = Store::new(is_clean);
        let (mut count, mut cost) = (0, 0);
        for at in store.places(stride()) {
            let bits = [0x01, 0x80, 0xff][at % 3];
            case(
                &format!("byte {at} of a segment, closed: {is_clean}"),
                || {
                    flip(&store.disk, SEGMENT, at, bits);
                    let lost = store.check(&look(&store.disk, &store.clock), Left::All);
                    flip(&store.disk, SEGMENT, at, bits);
                    store.check_flip(at, &lost);
                    cost += lost.len();
                },
            );
            count += 1;
        }
        for at in store.places(stride() * 40) {
            case(
                &format!("byte {at} of a segment that is opened, closed: {is_clean}"),
                || {
                    let disk = store.disk.fork();
                    flip(&disk, SEGMENT, at, 0x10);
                    let lost = store.check(&store.open(&disk), Left::All);
                    store.check_flip(at, &lost);
                },
            );
        }
        println!("closed: {is_clean}: {count} flips cost {cost} records");
        assert!(count > 2000 && cost > count / 4);
        assert_eq!(look(&store.disk, &store.clock), store.sound, "as it was");
    }
}

#[test]
fn a_flipped_byte_of_a_checkpoint_costs_nothing() {
    for is_clean in [true, false] {
        let store = Store::new(is_clean);
        let bytes = store.disk.bytes(CHECKPOINT);
        let used = (0..bytes.len()).filter(|at| bytes[*at] != 0 || at % 1021 == 0);
        let mut count = 0;
        for at in used.step_by(stride().div_ceil(3)) {
            case(
                &format!("byte {at} of the checkpoint, closed: {is_clean}"),
                || {
                    flip(&store.disk, CHECKPOINT, at, 0x40);
                    assert_eq!(look(&store.disk, &store.clock), store.sound);
                    flip(&store.disk, CHECKPOINT, at, 0x40);
                    if at.is_multiple_of(37) {
                        let disk = store.disk.fork();
                        flip(&disk, CHECKPOINT, at, 0x04);
                        assert!(store.check(&store.open(&disk), Left::All).is_empty());
                    }
                },
            );
            count += 1;
        }
        assert!(count > 100, "{count}");
    }
}

/// `L-34`: what was cut off is missing, and said to be; what was not is there.
#[test]
fn a_file_may_end_anywhere() {
    for is_clean in [true, false] {
        let store = Store::new(is_clean);
        let used = store.bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        for len in (0..used).step_by(stride() * 24).chain([used, 4096, 8192]) {
            case(
                &format!("a segment of {len} bytes, closed: {is_clean}"),
                || {
                    let disk = store.disk.fork();
                    disk.damage(SEGMENT, |bytes| bytes.truncate(len));
                    // The owner says it also where the end of the log is gone: what it skips stands in its ledger.
                    let left = if is_clean {
                        Left::All
                    } else {
                        Left::NoEvidence
                    };
                    let seen = store.open(&disk);
                    let lost = store.check(&seen, left);
                    let is_before = |offset: &&u64| store.map.ends[offset] <= len;
                    let before: Vec<_> = lost.iter().filter(is_before).collect();
                    let has_header = len >= HEADER_COPIES as usize * PAGE_SIZE;
                    assert!(before.is_empty() || !has_header, "{before:?} of {lost:?}");
                },
            );
        }
        let len = store.disk.bytes(CHECKPOINT).len();
        for len in (0..len).step_by(stride() * 80 - 1) {
            case(
                &format!("a checkpoint of {len} bytes, closed: {is_clean}"),
                || {
                    let disk = store.disk.fork();
                    disk.damage(CHECKPOINT, |bytes| bytes.truncate(len));
                    let lost = store.check(&look(&disk, &store.clock), Left::NoLedger);
                    assert!(lost.is_empty(), "{lost:?}");
                    assert!(store.check(&store.open(&disk), Left::NoLedger).is_empty());
                },
            );
        }
    }
}

/// `G-082`, `L-34`: each file gone, each copy of a header and each slot of the checkpoint blank: only what a segment
/// holds goes with it.
#[test]
fn each_file_and_each_copy_may_be_gone() {
    for is_clean in [true, false] {
        let store = Store::new(is_clean);
        for name in store.disk.names() {
            case(&format!("without {name}, closed: {is_clean}"), || {
                let disk = store.disk.fork();
                disk.remove(&name);
                let seen = store.open(&disk);
                let left = match &*name {
                    CHECKPOINT => Left::NoLedger,
                    SEGMENT if !is_clean => Left::NoEvidence,
                    _ => Left::All,
                };
                let lost = store.check(&seen, left);
                let expected = if name == SEGMENT {
                    store.sound.found.len()
                } else {
                    0
                };
                assert_eq!(lost.len(), expected);
            });
        }
        let copies = [
            (SEGMENT, 0, 4096),
            (SEGMENT, 4096, 4096),
            (SEGMENT, 0, 8192),
        ];
        let slots = (0..3).map(|slot| (CHECKPOINT, slot * 32768, 32768));
        let halves = (0..6).map(|half| (CHECKPOINT, half / 2 * 32768 + half % 2 * 2048, 2048));
        for (name, at, len) in copies.into_iter().chain(slots).chain(halves) {
            for byte in [0, 0xa5] {
                case(
                    &format!("{name} from {at}, {len} of {byte}, closed: {is_clean}"),
                    || {
                        let disk = store.disk.fork();
                        disk.damage(name, |bytes| bytes[at..at + len].fill(byte));
                        assert!(
                            store
                                .check(&look(&disk, &store.clock), Left::All)
                                .is_empty()
                        );
                        let seen = store.open(&disk);
                        assert!(store.check(&seen, Left::All).is_empty());
                    },
                );
            }
        }
    }
}
