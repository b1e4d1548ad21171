//! What tools make of a store: a look, a change of its checkpoint, a repair, and salvage.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use super::*;
use crate::format::{PageHeader, SLOT_SIZE};
use crate::segment::position;
use crate::storage::{File, Storage};

/// Directories in memory, by their paths.
#[derive(Default)]
struct Rooms(Mutex<BTreeMap<PathBuf, Arc<dyn Dir>>>);

impl Storage for Rooms {
    fn open_dir(&self, path: &Path, create: bool) -> io::Result<Arc<dyn Dir>> {
        let mut dirs = self.0.lock().unwrap();
        if create && !dirs.contains_key(path) {
            dirs.insert(path.to_owned(), ram_dir(8 << 20));
        }
        let dir = dirs.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::clone(dir))
    }
    fn shared(&self, _: &Path, _: usize) -> io::Result<Memory> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn shared_behind(&self, _: &Path, _: usize, _: Option<usize>) -> io::Result<Memory> {
        Err(io::ErrorKind::Unsupported.into())
    }
    fn shared_by_other(&self, _: &Path) -> io::Result<Memory> {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// A store whose engine was killed.
struct Store {
    rooms: Arc<Rooms>,
    dir: Arc<dyn Dir>,
    clock: Arc<dyn Clock>,
    segments: Vec<Segment>,
    /// What the last checkpoint said.
    last: Checkpoint,
    next: u64,
}

const PATH: &str = "store";

/// So many segments, committed record by record; nothing of them is acknowledged.
fn store(segments: usize) -> Store {
    let rooms = Arc::new(Rooms::default());
    let dir = rooms.open_dir(Path::new(PATH), true).unwrap();
    let mut log = log_in(&dir).log;
    while log.shared().segments().len() < segments {
        append(&mut log, 1);
        log.commit().unwrap();
    }
    append(&mut log, 20);
    log.commit().unwrap();
    log.checkpoint().unwrap();
    Store {
        segments: log.shared().segments(),
        last: (*log.state).clone(),
        next: log.next(),
        clock: Arc::clone(&log.clock),
        rooms,
        dir,
    }
}

impl Store {
    fn storage(&self) -> Arc<dyn Storage> {
        Arc::clone(&self.rooms) as Arc<dyn Storage>
    }

    fn file(&self, at: usize) -> &dyn File {
        &*self.segments[at].file
    }

    fn page(&self, at: usize, slot: u32) -> Vec<u8> {
        let mut page = vec![0; PAGE_SIZE];
        self.file(at).read_at(&mut page, position(slot)).unwrap();
        page
    }

    fn summary(&self) -> Summary {
        let view = View::open(Path::new(PATH), self.storage(), Arc::clone(&self.clock));
        view.unwrap().summary().clone()
    }

    fn editor(&self) -> Editor {
        Editor::open(Path::new(PATH), self.storage(), Arc::clone(&self.clock)).unwrap()
    }

    fn repair(&self) -> Repair {
        Repair::open(Path::new(PATH), self.storage(), &self.clock, true).unwrap()
    }

    fn salvage(&self) -> Salvage {
        Salvage::open(Path::new(PATH), &*self.rooms, Arc::clone(&self.clock)).unwrap()
    }
}

fn salvaged(salvage: &Salvage) -> Vec<u64> {
    let mut offsets = Vec::new();
    let read = salvage.read(|salvaged| {
        if let Salvaged::Record(record) = salvaged {
            offsets.push(record.offset);
        }
        Ok::<(), ()>(())
    });
    read.unwrap().unwrap();
    offsets
}

#[test]
fn a_look_tells_what_is_damaged_and_what_else_lies_there() {
    let store = store(3);
    let seen = store.summary();
    assert!(!seen.is_checkpoint_damaged && seen.bad_headers.is_empty());
    assert_eq!((seen.unreadable_files, seen.other_files), (vec![], 0));
    // A blank file, one that makes no sense, a spare.
    for (name, byte) in [
        ("segment-000700", 0),
        ("segment-000701", 0xa5),
        ("spare-000702", 0),
    ] {
        let name = match name.strip_prefix("segment-") {
            Some(number) => segment::file_name(number.parse().unwrap()),
            None => name.to_owned(),
        };
        let file = store.dir.create(&name).unwrap();
        file.write_at(&vec![byte; 16 * PAGE_SIZE], 0).unwrap();
    }
    store.file(1).write_at(&[0xa5; 64], position(1)).unwrap();
    let checkpoint = store.dir.open("checkpoint").unwrap();
    checkpoint
        .write_at(&[0xa5; SLOT_SIZE], SLOT_SIZE as u64)
        .unwrap();
    let seen = store.summary();
    assert!(seen.is_checkpoint_damaged);
    assert_eq!(seen.bad_slots, [1]);
    assert_eq!(seen.bad_headers, [(store.segments[1].number, 1)]);
    assert_eq!((seen.unreadable_files, seen.other_files), (vec![701], 3));
}

#[test]
fn the_head_is_raised_no_further_than_what_is_durable() {
    let store = store(3);
    let mut editor = store.editor();
    assert_eq!(editor.head(), 0);
    editor.raise_head(40);
    editor.raise_head(30);
    editor.write().unwrap();
    let mut editor = store.editor();
    assert_eq!(editor.head(), 40);
    editor.raise_head(u64::MAX);
    assert_eq!(editor.head(), store.last.mark);
}

/// What the segments show and what nobody may use again is in the checkpoint that is made.
#[test]
fn a_checkpoint_that_is_made_anew_says_all_that_segments_say() {
    let store = store(3);
    store.dir.remove("checkpoint").unwrap();
    store.repair().apply().unwrap();
    let file = store.dir.open("checkpoint").unwrap();
    let made = checkpoints::read(&*file, false).unwrap().unwrap();
    let made = made.newest.unwrap();
    assert_eq!(
        (made.store, made.epoch),
        (store.last.store, store.last.epoch)
    );
    assert_eq!(made.name, store.last.name);
    assert!(made.life > store.last.life + geometry::LIVES_MAX);
    assert!(made.mark > store.next && made.opened == made.mark);
    assert_eq!(made.head, 0);
}

#[test]
fn a_plan_names_the_bytes_that_it_writes_again() {
    let store = store(2);
    let file = store.dir.open("checkpoint").unwrap();
    let at = 2 * SLOT_SIZE as u64;
    file.write_at(&[0xa5; SLOT_SIZE], at).unwrap();
    let plan = store.repair();
    let steps = &plan.plan().steps;
    let text = format!("checkpoint: write the slot at byte {at} again: it does not verify");
    assert_eq!(*steps, [text]);
}

/// Where a record is, in whichever file was asked for before; where its page does not verify, that page.
#[test]
fn the_place_of_a_record_is_found() {
    let store = store(3);
    let pages = |at: usize| {
        let slots = HEADER_COPIES..store.segments[at].pages;
        let headers = slots.filter_map(|slot| PageHeader::decode(&store.page(at, slot)));
        let home = headers.filter(|header| !header.is_tail && header.count > 0);
        home.collect::<Vec<_>>()
    };
    let view = View::open(Path::new(PATH), store.storage(), Arc::clone(&store.clock)).unwrap();
    let mut locator = Locator::new(Arc::clone(view.shared())).unwrap();
    for at in [0, 1, 0, 2] {
        for header in pages(at) {
            let spot = locator.find(header.first).unwrap();
            let byte = position(header.slot) + u64::from(header.start);
            let expected = (store.segments[at].number, byte);
            assert_eq!((spot.segment, spot.byte), expected);
        }
    }
    let bad = pages(1)[4];
    store
        .file(1)
        .write_at(&[0; 64], position(bad.slot))
        .unwrap();
    let mut locator = Locator::new(Arc::clone(view.shared())).unwrap();
    let spot = locator.find(bad.first).unwrap();
    assert_eq!(spot.byte, position(bad.slot));
}

#[test]
fn salvage_says_whose_the_records_are() {
    let store = store(3);
    let salvage = store.salvage();
    assert_eq!(salvage.stream(), ("telemetry", store.last.epoch));
    assert_eq!(salvaged(&salvage), (0..store.next).collect::<Vec<_>>());
}

/// Of two headers that do not say the same the file's own counts, and of those the newer one.
#[test]
fn salvage_believes_a_files_own_header() {
    for (at, copy) in [(1, 0), (1, 1), (2, 0), (2, 1)] {
        let store = store(3);
        let other = store.page(3 - at, copy);
        store.file(at).write_at(&other, position(copy)).unwrap();
        assert_eq!(
            salvaged(&store.salvage()).len() as u64,
            store.next,
            "{at} {copy}"
        );
    }
    for copy in 0..HEADER_COPIES {
        let store = store(2);
        let mut old = SegmentHeader::decode(&store.page(1, copy)).unwrap();
        (old.life, old.base) = (0, 0);
        segment::write_header_copy(store.file(1), &old, copy).unwrap();
        assert_eq!(
            salvaged(&store.salvage()).len() as u64,
            store.next,
            "{copy}"
        );
    }
}

/// The only page that is left tells, wherever it stands.
#[test]
fn salvage_finds_the_only_page_that_verifies() {
    for slot in [HEADER_COPIES, 17, 18, 20, 39] {
        let store = store(1);
        let file = store.dir.create(&segment::file_name(800)).unwrap();
        file.preallocate(position(40)).unwrap();
        store
            .dir
            .remove(&segment::file_name(store.segments[0].number))
            .unwrap();
        let page = PageHeader {
            store: store.last.store.tag(),
            base: 5,
            life: 9,
            first: 5,
            slot,
            start: u16::try_from(PAGE_SIZE).unwrap(),
            ..PageHeader::default()
        };
        let mut bytes = vec![0; PAGE_SIZE];
        page.encode(&mut bytes);
        file.write_at(&bytes, position(slot)).unwrap();
        let salvage = store.salvage();
        assert!(salvage.notes().is_empty(), "{slot}");
    }
}
