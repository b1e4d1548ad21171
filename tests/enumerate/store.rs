//! A small store with known content, and for each of its bytes what may be lost with it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::{io, slice};

use forebay::clock::Clock;
use forebay::format::{
    HEADER_COPIES, PAGE_HEADER_SIZE, PAGE_SIZE, PageHeader, RECORD_HEADER_SIZE, Reason,
    RecordHeader,
};
use forebay::log::{BatchBuffer, Ended, Gap, Reader, Shared, View};
use forebay::storage::{Dir, Memory, Storage};

use super::sim::clock::SimClock;
use super::sim::session::payload;
use super::sim::storage::SimDisk;

/// Offsets.
pub type Offsets = BTreeSet<u64>;

/// The simulated disk, for those who look at a store from outside.
pub struct Outside(pub SimDisk);

impl Storage for Outside {
    fn open_dir(&self, _: &Path, _: bool) -> io::Result<Arc<dyn Dir>> {
        Ok(self.0.dir())
    }

    fn shared(&self, _: &Path, _: usize) -> io::Result<Memory> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn shared_behind(&self, _: &Path, _: usize, _: Option<usize>) -> io::Result<Memory> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn shared_by_other(&self, _: &Path) -> io::Result<Memory> {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// What `verify` sees: the records that come out, and the ranges that do not.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    pub found: Offsets,
    pub gaps: Vec<(u64, u64, Reason)>,
}

impl Seen {
    /// Offsets in the ranges that are missing for that reason.
    pub fn missing(&self, reason: Reason) -> Offsets {
        let gaps = self.gaps.iter().filter(|gap| gap.2 == reason);
        gaps.flat_map(|gap| gap.0..gap.1).collect()
    }
}

/// Looks at a store as `verify` does: takes nothing, changes nothing.
pub fn look(disk: &SimDisk, clock: &Arc<SimClock>) -> Seen {
    let clock: Arc<dyn Clock> = clock.clone();
    let view = View::open(
        Path::new("/"),
        Arc::new(Outside(disk.clone())),
        clock.clone(),
    );
    read(view.unwrap().shared(), &clock)
}

/// Reads all there is; each record is as it was appended.
pub fn read(shared: &Arc<Shared>, clock: &Arc<dyn Clock>) -> Seen {
    let mut reader = Reader::new(shared.clone(), clock.clone()).unwrap();
    let mut batch = BatchBuffer::new(2000, 1 << 20, 1 << 16).unwrap();
    let mut seen = Seen {
        found: Offsets::new(),
        gaps: Vec::new(),
    };
    let mut next = shared.head();
    loop {
        batch.clear();
        let (ended, after) = reader.read(next, u64::MAX, &mut batch).unwrap();
        for entry in batch.entries() {
            let view = batch.view(entry);
            assert!(view.payload == payload(view.time_ms), "at {}", entry.offset);
            assert!(seen.found.insert(entry.offset), "{} twice", entry.offset);
        }
        assert!(
            after > next || ended == Ended::CaughtUp,
            "it makes progress"
        );
        next = after;
        match ended {
            Ended::Gap(Gap {
                start, end, reason, ..
            }) => seen.gaps.push((start, end, reason)),
            Ended::Full => {}
            Ended::CaughtUp => return seen,
        }
    }
}

/// What a flip of a byte may cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cost {
    Nothing,
    /// That record, and certainly, if that part of it stands nowhere else.
    Record(u64, u32),
    /// Anything that lies in the page.
    Page(usize),
}

/// The bytes of a segment, and what stands where.
pub struct Map {
    pub costs: Vec<Cost>,
    /// The records that lie in a page, whole or in part.
    pub pages: Vec<Offsets>,
    /// How often each part of a record is there, by how many of the record's bytes lie before it.
    pub parts: BTreeMap<(u64, u32), u32>,
    /// Up to which byte of the file each record goes.
    pub ends: BTreeMap<u64, usize>,
}

/// Goes through a sound segment by the rules of docs/format.md.
pub fn map(bytes: &[u8]) -> Map {
    let pages = bytes.len() / PAGE_SIZE;
    let mut map = Map {
        costs: vec![Cost::Nothing; bytes.len()],
        pages: vec![Offsets::new(); pages],
        parts: BTreeMap::new(),
        ends: BTreeMap::new(),
    };
    for slot in HEADER_COPIES as usize..pages {
        let page = &bytes[slot * PAGE_SIZE..][..PAGE_SIZE];
        let Some(header) = PageHeader::decode(page) else {
            continue;
        };
        map.costs[slot * PAGE_SIZE..][..PAGE_HEADER_SIZE].fill(Cost::Page(slot));
        if header.carried > 0 {
            let from = slot * PAGE_SIZE + PAGE_HEADER_SIZE;
            let to = slot * PAGE_SIZE + usize::from(header.start);
            map.pages[slot].insert(header.first - 1);
            map.costs[from..to].fill(Cost::Record(header.first - 1, header.carried));
            *map.parts
                .entry((header.first - 1, header.carried))
                .or_default() += 1;
        }
        let mut at = usize::from(header.start);
        for offset in header.first..header.end() {
            let record = RecordHeader::decode(&page[at..]).expect("a sound store");
            let end = (at + record.size as usize).min(PAGE_SIZE);
            map.pages[slot].insert(offset);
            let place = slot * PAGE_SIZE + at;
            map.costs[place..slot * PAGE_SIZE + end].fill(Cost::Record(offset, 0));
            // Lengths: the size, and those of key and extra.
            map.costs[place + 4..place + 8].fill(Cost::Page(slot));
            map.costs[place + 20..place + RECORD_HEADER_SIZE].fill(Cost::Page(slot));
            let (here, rest) = (end - at, at + record.size as usize - end);
            *map.parts.entry((offset, 0)).or_default() += 1;
            if let Some(last) = end_of(bytes, slot, header.life, (offset, here, rest)) {
                let copy = map.ends.entry(offset).or_insert(last);
                *copy = (*copy).min(last);
            }
            at = end;
        }
    }
    map
}

/// Up to which byte of the file a record goes that begins in a page, of which `here` bytes lie there and `rest`
/// do not. `None`: it is not whole.
fn end_of(
    bytes: &[u8],
    slot: usize,
    life: u64,
    (offset, mut here, mut rest): (u64, usize, usize),
) -> Option<usize> {
    let mut end = (slot + 1) * PAGE_SIZE;
    while rest > 0 {
        let pages = bytes.chunks_exact(PAGE_SIZE).enumerate();
        let headers = pages.filter_map(|(slot, page)| Some((slot, PageHeader::decode(page)?)));
        let goes_on = |(_, header): &(usize, PageHeader)| {
            header.life == life && header.first == offset + 1 && header.carried as usize == here
        };
        let (slot, header) = headers.filter(goes_on).min_by_key(|(slot, _)| *slot)?;
        let more = usize::from(header.start) - PAGE_HEADER_SIZE;
        (here, rest) = (here + more, rest.checked_sub(more)?);
        end = end.max((slot + 1) * PAGE_SIZE);
    }
    Some(end)
}

/// The ranges that a set of offsets makes.
pub fn ranges(offsets: &Offsets) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for offset in offsets {
        match ranges.last_mut() {
            Some(last) if last.1 == *offset => last.1 += 1,
            _ => ranges.push((*offset, offset + 1)),
        }
    }
    ranges
}

pub fn flip(disk: &SimDisk, name: &str, at: usize, bits: u8) {
    disk.damage(name, |bytes| {
        for byte in slice::from_mut(&mut bytes[at]) {
            *byte ^= bits;
        }
    });
}
