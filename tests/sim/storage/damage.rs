//! Damage that destroys what was durable, and what it costs at most.
//!
//! The bytes are taken apart as docs/format.md says: a hit costs the records that it touches, the rest of
//! their page when it touches a length, and all of the page when it touches its header.

use std::collections::BTreeSet;
use std::ops::Range;

use forebay::format::{
    Checkpoint, HEADER_COPIES, PAGE_HEADER_SIZE, PAGE_SIZE, PageHeader, RECORD_HEADER_SIZE,
    RecordHeader, SLOT_COUNT, SLOT_SIZE, SegmentHeader,
};

use super::pages::Pages;
use super::{Content, SECTOR, SimDisk, World};
use crate::sim::traces;

/// The block that a card erases at once.
const ERASE_BLOCK: usize = 32 * 1024;

/// What may be missing because of damage.
#[derive(Clone, Debug, Default)]
pub struct Victims {
    /// Records of the log.
    pub offsets: BTreeSet<u64>,
    /// The newest checkpoint is gone.
    pub checkpoint: bool,
    /// The bases of segments of which both headers are gone, or the name.
    pub headers: BTreeSet<u64>,
    pub hits: u64,
}

/// What is done to bytes on the medium while nobody looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// One bit flips.
    Flip,
    /// A sector holds what stood in another one.
    Misdirected,
    /// A whole page of another place, whose header verifies.
    MisdirectedPage,
    /// A sector holds zeros again.
    Stale,
    /// A block that was erased and never written.
    EraseBlock,
    /// A page cannot be read until it is written again.
    Unreadable,
    /// A durable name is gone.
    Name,
}

impl Damage {
    pub const ALL: [Damage; 7] = [
        Damage::Flip,
        Damage::Misdirected,
        Damage::MisdirectedPage,
        Damage::Stale,
        Damage::EraseBlock,
        Damage::Unreadable,
        Damage::Name,
    ];
}

fn touches(a: &Range<usize>, b: &Range<usize>) -> bool {
    a.start < b.end && b.start < a.end
}

/// The records that a hit in a page costs.
fn in_page(page: &[u8], hit: &Range<usize>, offsets: &mut BTreeSet<u64>) {
    let Some(header) = PageHeader::decode(page) else {
        return;
    };
    let is_all = touches(&(0..PAGE_HEADER_SIZE), hit);
    let start = usize::from(header.start);
    if header.carried > 0 && (is_all || touches(&(PAGE_HEADER_SIZE..start), hit)) {
        offsets.insert(header.first - 1);
    }
    let (mut at, mut is_rest) = (start, is_all);
    for offset in header.first..header.end() {
        let bytes = page.get(at..).unwrap_or_default();
        let record = RecordHeader::decode(bytes);
        let size = record.map_or(PAGE_SIZE, |record| record.size as usize);
        is_rest |= record.is_none();
        let lengths = [at + 4..at + 8, at + 20..at + RECORD_HEADER_SIZE];
        is_rest |= lengths.iter().any(|length| touches(length, hit));
        if is_rest || touches(&(at..at + size), hit) {
            offsets.insert(offset);
        }
        at += size;
    }
}

/// The newest generation of a checkpoint that verifies.
fn generation(bytes: &Pages) -> u64 {
    let mut slots = vec![0; bytes.len().min(SLOT_SIZE * SLOT_COUNT as usize)];
    bytes.read(0, &mut slots);
    let found = slots.chunks(SLOT_SIZE).map(Checkpoint::decode);
    found
        .flatten()
        .map(|found| found.generation)
        .max()
        .unwrap_or(0)
}

/// What a header of a segment says that verifies.
fn header(bytes: &Pages) -> Option<SegmentHeader> {
    let mut copies = 0..HEADER_COPIES as usize;
    copies.find_map(|slot| SegmentHeader::decode(bytes.page(slot)).ok())
}

impl Victims {
    /// A hit on a file that changed its bytes.
    pub(super) fn add(&mut self, name: &str, before: &Pages, after: &Pages, hit: Range<usize>) {
        self.hits += 1;
        if traces() {
            eprintln!("hit {name} at {hit:?}");
        }
        if name == "checkpoint" {
            self.checkpoint |= generation(after) < generation(before);
        } else if name.starts_with("segment-") {
            let lost = header(before).filter(|_| header(after).is_none());
            self.headers.extend(lost.map(|lost| lost.base));
            let end = hit.end.min(before.len());
            for slot in (hit.start / PAGE_SIZE).max(2)..end.div_ceil(PAGE_SIZE) {
                let at = slot * PAGE_SIZE;
                let inside = hit.start.max(at) - at..end.min(at + PAGE_SIZE) - at;
                in_page(before.page(slot), &inside, &mut self.offsets);
            }
        }
    }

    /// More of it.
    pub fn extend(&mut self, more: Self) {
        self.offsets.extend(more.offsets);
        self.checkpoint |= more.checkpoint;
        self.headers.extend(more.headers);
        self.hits += more.hits;
    }
}

impl World {
    /// The durable name of a file that damage may hit.
    fn name_of(&self, id: usize) -> Option<String> {
        let mut names = self.durable_names.iter();
        let found = names
            .find(|(_, other)| **other == id)
            .map(|(name, _)| name.clone());
        found.filter(|name| self.may_hit(name))
    }

    /// The main log's files; and a checkpoint only where something else says what the store was.
    fn may_hit(&self, name: &str) -> bool {
        let mut names = self.durable_names.keys();
        name.starts_with("segment-")
            || name == "checkpoint" && names.any(|other| other.starts_with("segment-"))
    }

    /// Whether what is written there may get lost.
    pub(super) fn may_lose(&self, id: usize) -> bool {
        self.name_of(id).is_some()
    }

    /// Bytes on the medium change, and so does what the cache has of them.
    pub(super) fn hit(&mut self, id: usize, range: Range<usize>, f: impl FnOnce(&mut [u8])) {
        let Some(name) = self.name_of(id) else { return };
        let content = &mut self.contents[id];
        let range = range.start..range.end.min(content.durable.len());
        if range.is_empty() {
            return;
        }
        let before = content.durable.clone();
        let mut bytes = vec![0; range.len()];
        before.read(range.start, &mut bytes);
        f(&mut bytes);
        content.durable.write(range.start, &bytes);
        self.victims
            .add(&name, &before, &content.durable, range.clone());
        content.refresh(range);
    }

    /// With a write that is cut, the block that is being erased loses its neighbours, too.
    pub(super) fn erase(&mut self, id: usize, sector: usize) {
        let from = sector * SECTOR / ERASE_BLOCK * ERASE_BLOCK;
        self.hit(id, from..from + ERASE_BLOCK, |bytes| bytes.fill(0xff));
    }

    /// Writes that were synced have not reached the medium.
    pub(super) fn lose(&mut self, id: usize, sectors: &[usize]) {
        let Some(name) = self.name_of(id) else { return };
        let content = &self.contents[id];
        let mut after = content.live.clone();
        for sector in sectors {
            after.copy(&content.durable, content.range(*sector));
        }
        for sector in sectors {
            self.victims
                .add(&name, &content.live, &after, content.range(*sector));
        }
        self.contents[id].is_stale |= !sectors.is_empty();
    }
}

impl Content {
    /// What is not being written is read as it lies on the medium.
    fn refresh(&mut self, range: Range<usize>) {
        for sector in range.start / SECTOR..range.end.div_ceil(SECTOR) {
            let range = self.range(sector);
            let range = range.start..range.end.min(self.durable.len());
            if range.start < range.end && !self.is_dirty(sector) {
                self.live.copy(&self.durable, range);
            }
        }
    }
}

impl SimDisk {
    /// Nothing on it says that there was a store: no checkpoint and no header of a segment verifies.
    pub fn is_bare(&self) -> bool {
        let world = self.world();
        let mut files = world.live_names.iter().map(|(name, id)| {
            let mut bytes = world.contents[*id].live.clone();
            for (_, page) in world.unreadable.range((*id, 0)..(*id + 1, 0)) {
                let at = page * PAGE_SIZE;
                let len = PAGE_SIZE.min(bytes.len().saturating_sub(at));
                bytes.write(at, &vec![0; len]);
            }
            (name, bytes)
        });
        files.all(|(name, bytes)| match name.as_str() {
            "checkpoint" => generation(&bytes) == 0,
            _ => !name.starts_with("segment-") || header(&bytes).is_none(),
        })
    }

    /// What damage may have cost since this was last asked.
    pub fn take_victims(&self) -> Victims {
        std::mem::take(&mut self.world().victims)
    }

    /// One in so many cuts takes the neighbours of what was being written along; 0 for none.
    pub fn set_erase_blocks(&self, one_in: u64) {
        self.world().erase_blocks = one_in;
    }

    /// One in so many sectors that are synced does not reach the medium; 0 for none.
    pub fn set_lost_writes(&self, one_in: u64) {
        self.world().lost_writes = one_in;
    }

    /// Does some damage to some file, but not to two at once.
    pub fn damage_any(&self, damage: Damage) {
        let mut world = self.world();
        let files: Vec<(String, usize)> = world
            .durable_names
            .iter()
            .filter(|(name, id)| world.may_hit(name) && !world.contents[**id].durable.is_empty())
            .map(|(name, id)| (name.clone(), *id))
            .collect();
        if files.is_empty() {
            return;
        }
        let pick = |world: &mut World| {
            let at = world.random.below(files.len() as u64);
            files[usize::try_from(at).unwrap()].clone()
        };
        let (name, id) = pick(&mut world);
        let len = world.contents[id].durable.len();
        // Most of a file may be empty: what is written lies in front.
        let used = world.contents[id].durable.last_used();
        let used = used.map_or(1, |last| last + 1);
        let at = usize::try_from(world.random.below(used as u64)).unwrap();
        let sector = at / SECTOR * SECTOR..(at / SECTOR * SECTOR + SECTOR).min(len);
        let page = at / PAGE_SIZE * PAGE_SIZE..(at / PAGE_SIZE * PAGE_SIZE + PAGE_SIZE).min(len);
        match damage {
            Damage::Flip => {
                let bit = world.random.below(8);
                world.hit(id, at..at + 1, |bytes| bytes[0] ^= 1 << bit);
            }
            Damage::Misdirected | Damage::MisdirectedPage => {
                let range = if damage == Damage::Misdirected {
                    sector
                } else {
                    page
                };
                let (_, other) = pick(&mut world);
                let from = &world.contents[other].durable;
                let count = (from.len() / range.len()).max(1) as u64;
                let place = usize::try_from(world.random.next() % count).unwrap() * range.len();
                let from = &world.contents[other].durable;
                let mut bytes = vec![0; range.len()];
                let len = bytes.len().min(from.len().saturating_sub(place));
                from.read(place.min(from.len()), &mut bytes[..len]);
                world.hit(id, range, |to| to.copy_from_slice(&bytes[..to.len()]));
            }
            Damage::Stale => world.hit(id, sector, |bytes| bytes.fill(0)),
            Damage::EraseBlock => world.erase(id, at / SECTOR),
            Damage::Unreadable => {
                // A page is the least that can be read around the cache.
                world.unreadable.insert((id, page.start / PAGE_SIZE));
                let before = world.contents[id].durable.clone();
                let mut after = before.clone();
                after.write(page.start, &vec![0; page.len()]);
                world.victims.add(&name, &before, &after, page);
            }
            Damage::Name => {
                let before = world.contents[id].durable.clone();
                let len = before.len();
                world.victims.add(&name, &before, &Pages::default(), 0..len);
                world.live_names.remove(&name);
                world.durable_names.remove(&name);
            }
        }
    }
}
