//! Stores in memory that are made of arbitrary bytes, and everything that looks at them.

use std::cell::Cell;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use forebay::clock::{Clock, Mono};
use forebay::counters::{Board, CURSOR_NAME_MAX};
use forebay::error::{Code, Result};
use forebay::format::{
    CHECKPOINT_FILE_SIZE, HALF_SIZE_MAX, HEADER_COPIES, OFFSET_BOUND, PAGE_HEADER_SIZE, PAGE_SIZE,
    SEGMENT_HEADER_SIZE, StoreId,
};
use forebay::log::{
    self, BatchBuffer, Ended, Locator, Log, Opened, Opening, Options, Reader, Repair, Salvage,
    Salvaged, View,
};
use forebay::ring;
use forebay::segment::{Draft, Io};
use forebay::storage::{Dir, Memory, Storage, ram_dir};

/// The longest body of a record.
pub const BODY_MAX: u32 = 12_000;
/// Reading a store ends after so many turns, or it never would.
const TURNS_MAX: u32 = 200_000;

/// A clock that stands still.
pub struct Still;

impl Clock for Still {
    fn mono(&self) -> Mono {
        Mono::default()
    }

    fn wall_ms(&self) -> u64 {
        1_790_000_000_000
    }

    fn boot(&self) -> u64 {
        7
    }
}

/// Directories in memory.
#[derive(Clone, Default)]
pub struct Ram(Arc<Mutex<Vec<(PathBuf, Arc<dyn Dir>)>>>);

impl Storage for Ram {
    fn open_dir(&self, path: &Path, create: bool) -> io::Result<Arc<dyn Dir>> {
        let mut all = self.0.lock().unwrap();
        if let Some((_, dir)) = all.iter().find(|(other, _)| other == path) {
            return Ok(Arc::clone(dir));
        }
        if !create {
            return Err(io::ErrorKind::NotFound.into());
        }
        let dir = ram_dir(64 << 20);
        all.push((path.to_owned(), Arc::clone(&dir)));
        Ok(dir)
    }

    fn shared(&self, _: &Path, len: usize) -> io::Result<Memory> {
        Memory::private(len)
    }

    fn shared_behind(&self, _: &Path, front: usize, len: Option<usize>) -> io::Result<Memory> {
        let len = len.ok_or(io::ErrorKind::NotFound)?;
        Memory::private(front + len)
    }

    fn shared_by_other(&self, _: &Path) -> io::Result<Memory> {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// Puts the checksum of the rest in front.
pub fn seal(bytes: &mut [u8]) {
    if bytes.len() >= 4 {
        let sum = crc32fast::hash(&bytes[4..]);
        bytes[..4].copy_from_slice(&sum.to_le_bytes());
    }
}

/// Makes the checksums of a file right again, so that what is behind them is looked at.
pub fn seal_file(name: &str, bytes: &mut [u8]) {
    if name == "checkpoint" {
        for at in (0..bytes.len()).step_by(PAGE_SIZE / 2) {
            let half = &mut bytes[at..];
            let len = half.get(12..16).map_or(0, |len| {
                u32::from_le_bytes([len[0], len[1], len[2], len[3]]) as usize
            });
            if half.get(4..8) == Some(b"fbCK") && (16..=HALF_SIZE_MAX).contains(&len) {
                let len = len.min(half.len());
                seal(&mut half[..len]);
            }
        }
        return;
    }
    for (slot, page) in bytes.chunks_mut(PAGE_SIZE).enumerate() {
        let len = if slot < HEADER_COPIES as usize {
            SEGMENT_HEADER_SIZE
        } else {
            PAGE_HEADER_SIZE
        };
        if page.len() >= len && page[..len].iter().any(|byte| *byte != 0) {
            seal(&mut page[..len]);
        }
    }
}

/// Writes a file.
pub fn put(dir: &dyn Dir, name: &str, bytes: &[u8]) {
    let file = dir.open(name).or_else(|_| dir.create(name)).unwrap();
    file.set_size(0).unwrap();
    file.write_at(bytes, 0).unwrap();
}

/// All of a file.
pub fn get(dir: &dyn Dir, name: &str) -> Vec<u8> {
    let file = dir.open(name).unwrap();
    let mut bytes = vec![0; usize::try_from(file.size().unwrap()).unwrap()];
    file.read_at(&mut bytes, 0).unwrap();
    bytes
}

/// Opens a store as an engine does.
pub fn open(dir: &Arc<dyn Dir>, is_strict: bool) -> Result<Opened> {
    let board = Board::new(Memory::private(Board::LEN).unwrap());
    let board = Cell::new(Some(board));
    let cursor: heapless::String<CURSOR_NAME_MAX> = "file".try_into().unwrap();
    log::open(Opening {
        dir: Arc::clone(dir),
        lock_dir: Arc::clone(dir),
        clock: Arc::new(Still),
        options: Options {
            name: "telemetry".try_into().unwrap(),
            segment_bytes: 65_536,
            disk_bytes_max: 1 << 20,
            drop_oldest: true,
            age_max: None,
            is_strict,
            free_bytes_min: 0,
            aside_bytes_max: u64::MAX,
            reserves_all: false,
            io: Io::Write,
            ring_records: 64,
            body_len_max: BODY_MAX,
        },
        cursors: &[(cursor, false)],
        board: &|_: StoreId| Ok((board.take().unwrap(), "nowhere".to_owned())),
        ring: &|_| Ok(ring::Left::Nothing),
        pid: 1,
    })
}

/// Appends a record and makes it durable.
pub fn append(log: &mut Log, body: &[u8]) {
    let draft = Draft {
        offset: log.next(),
        time_ms: 5,
        extra_len: 0,
        key_len: 2.min(u16::try_from(body.len()).unwrap_or(2)),
        body,
    };
    let _ = log.append(&draft, Still.stamp());
    let _ = log.commit();
}

/// Reads everything below `limit`; the offsets rise.
pub fn read(mut reader: Reader, from: u64, limit: u64) {
    let mut batch = BatchBuffer::new(1000, 100_000, 100_000).unwrap();
    let (mut next, mut last) = (from, None);
    for _ in 0..TURNS_MAX {
        batch.clear();
        let Ok((ended, after)) = reader.read(next, limit, &mut batch) else {
            reader.give_up_unreadable();
            continue;
        };
        for entry in batch.entries() {
            assert!(last.is_none_or(|last| last < entry.offset));
            last = Some(entry.offset);
            let record = batch.view(entry);
            let _ = (record.properties().count(), record.source().is_some());
        }
        assert!(after >= next);
        next = after;
        if ended == Ended::CaughtUp {
            return;
        }
    }
    panic!("reading does not end");
}

/// A small store with several segments, as its files are after a clean close.
pub fn template() -> Vec<(String, Vec<u8>)> {
    let dir = ram_dir(64 << 20);
    let mut log = open(&dir, false).unwrap().log;
    for n in 0..90u32 {
        let len = if n % 9 == 0 { 9000 } else { 700 };
        let body: Vec<u8> = (0..len).map(|at: u32| (n * 7 + at).to_le_bytes()[0]).collect();
        append(&mut log, &body);
    }
    log.close().unwrap();
    drop(log);
    let entries = dir.list().unwrap();
    let names = entries.into_iter().map(|entry| entry.name);
    names.map(|name| (name.clone(), get(&*dir, &name))).collect()
}

/// Everything that can be done with a directory, one after the other: looked at, planned, salvaged,
/// repaired, opened, written to, and looked at again.
pub fn try_all(files: &[(String, Vec<u8>)]) {
    let storage = Ram::default();
    let path = Path::new("/store");
    let dir = storage.open_dir(path, true).unwrap();
    for (name, bytes) in files {
        put(&*dir, name, bytes);
    }
    let clock: Arc<dyn Clock> = Arc::new(Still);
    let shared_storage: Arc<dyn Storage> = Arc::new(storage.clone());
    look(path, &shared_storage, &clock);
    if let Ok(salvage) = Salvage::open(path, &storage, Arc::clone(&clock)) {
        let mut last = None;
        let read = salvage.read(|salvaged| {
            if let Salvaged::Record(record) = salvaged {
                assert!(last.is_none_or(|last| last < record.offset));
                last = Some(record.offset);
            }
            Ok::<(), ()>(())
        });
        let _ = read.unwrap();
    }
    let plan = Repair::open(path, Arc::clone(&shared_storage), &clock, false);
    if let Ok(repair) = plan {
        let planned = repair.plan().count();
        drop(repair);
        let repair = Repair::open(path, Arc::clone(&shared_storage), &clock, true).unwrap();
        assert_eq!(repair.plan().count(), planned);
        let plan = repair.plan();
        let last = plan.saved.last().map_or(0, |range| range.end);
        let last = plan.lost.last().map_or(0, |loss| loss.end).max(last);
        repair.apply().unwrap();
        // What was repaired is sound. No store comes near the bound of offsets: what is behind the last one
        // that there is cannot be written down.
        if last < OFFSET_BOUND - (1 << 40) {
            let again = Repair::open(path, Arc::clone(&shared_storage), &clock, false).unwrap();
            assert!(again.plan().steps.is_empty(), "{:?}", again.plan());
            assert_eq!(again.plan().count(), planned);
        }
        look(path, &shared_storage, &clock);
    }
    match open(&dir, false) {
        Ok(mut opened) => {
            let next = opened.report.next;
            append(&mut opened.log, b"k-appended");
            let reader = Reader::new(Arc::clone(opened.log.shared()), Arc::clone(&clock));
            let head = opened.log.shared().head();
            read(reader.unwrap(), head, next + 10);
            opened.log.close().ok();
        }
        Err(error) => assert_eq!(error.code(), Code::Corrupt, "{error}"),
    }
    look(path, &shared_storage, &clock);
}

fn look(path: &Path, storage: &Arc<dyn Storage>, clock: &Arc<dyn Clock>) {
    let Ok(view) = View::open(path, Arc::clone(storage), Arc::clone(clock)) else {
        return;
    };
    let (head, limit) = (view.shared().head(), view.shared().durable.get());
    read(view.reader().unwrap(), head, limit);
    let mut locator = Locator::new(Arc::clone(view.shared())).unwrap();
    for offset in [0, head, limit / 2, limit] {
        let _ = locator.find(offset);
    }
    let _ = view.reader().unwrap().seek_time(1_790_000_000_000);
}

/// The size of a checkpoint's file, as a length.
pub fn checkpoint_len() -> usize {
    usize::try_from(CHECKPOINT_FILE_SIZE).unwrap()
}
