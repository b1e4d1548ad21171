//! A directory on a disk that loses power.
//!
//! Every file has *live* bytes, which reads see, and *durable* bytes, which survive. A write makes
//! sectors of 512 bytes dirty; a sync makes them durable. When the power goes, each dirty sector
//! becomes durable or not, by chance, whatever page it is in; in one mode some become garbage. An
//! earlier version of a sector that was written twice may also have reached the disk. Names have a
//! durability of their own. Any operation can be the last one, and any can fail.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use forebay::format::{Checkpoint, PAGE_SIZE, PageHeader};
use forebay::storage::Dir;

use super::clock::SimClock;
use super::random::Random;

pub mod damage;
mod dir;
mod faults;
mod file;
pub mod moments;
mod pages;
mod room;
mod window;

use damage::Victims;
use dir::SimDir;
use moments::Moments;
use pages::Pages;

pub const SECTOR: usize = 512;
/// In a page.
const SECTORS: usize = PAGE_SIZE / SECTOR;
const _: () = assert!(SECTORS == 8, "a byte has a bit for each");
/// How the names of files in the directory of the dead letters begin.
const LETTERS: &str = "dead-letters/";

/// What is done differently from what the engine asked, to show that the checks would see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Control {
    /// Everything as it should be.
    None,
    /// Syncs of files do nothing.
    NoSync,
    /// Syncs of the directory do nothing.
    NoDirSync,
    /// A partly filled page is written again where its last durable version stands.
    PageInPlace,
    /// Pages announce what is not durable yet.
    MarkBeforeSync,
    /// The file system drops what the failed sync could not write, and the engine is not told.
    FailureHidden,
}

impl Control {
    /// All that must be noticed.
    pub const ALL: [Self; 5] = [
        Self::NoSync,
        Self::NoDirSync,
        Self::PageInPlace,
        Self::MarkBeforeSync,
        Self::FailureHidden,
    ];
}

/// What an operation that is to fail does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    Io,
    NoSpace,
}

#[derive(Clone, Default)]
struct Content {
    live: Pages,
    durable: Pages,
    /// Sectors of `live` that were written since the last sync: for each page a bit for each.
    dirty: BTreeMap<usize, u8>,
    locked: bool,
    allocated: u64,
    /// Sectors that are not dirty may differ from what is durable.
    is_stale: bool,
    /// It belongs to the dead letters.
    is_of_letters: bool,
}

#[derive(Clone)]
struct World {
    contents: Vec<Content>,
    live_names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    random: Random,
    /// Operations that change something, since the start.
    ops: u64,
    /// Operations left until the power goes.
    fuel: u64,
    is_off: bool,
    /// Counts the boots; files of an earlier one are dead.
    session: u64,
    control: Control,
    garbage: bool,
    /// One in so many syncs fails.
    sync_failures: u64,
    /// The operation of that number fails, and all after it if it is for ever.
    failure: Option<(u64, Failure, bool)>,
    calls: faults::Calls,
    syncs: u64,
    written: u64,
    size: u64,
    page_life: u64,
    opened: u64,
    head: u64,
    /// One in so many reads fails.
    read_failures: u64,
    has_read_failed: bool,
    /// Something failed since the process started.
    has_failed: bool,
    /// One in so many syncs takes long on that clock.
    slow_syncs: Option<(u64, Arc<SimClock>)>,
    /// One in so many sectors that are synced does not reach the medium.
    lost_writes: u64,
    /// One in so many cuts damages the neighbours of what was being written.
    erase_blocks: u64,
    /// Files and their pages that cannot be read.
    unreadable: BTreeSet<(usize, usize)>,
    victims: Victims,
    moments: Moments,
    /// Called at the moment when the power goes.
    on_off: Option<Arc<Mutex<dyn FnMut() + Send>>>,
}

/// The disk, with one directory on it.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<World>>);

impl SimDisk {
    pub fn new(seed: u64) -> Self {
        Self::of(World {
            contents: Vec::new(),
            live_names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            random: Random::new(seed),
            ops: 0,
            fuel: u64::MAX,
            is_off: false,
            session: 0,
            control: Control::None,
            garbage: false,
            sync_failures: 0,
            failure: None,
            calls: faults::Calls::default(),
            syncs: 0,
            written: 0,
            size: u64::MAX,
            page_life: 0,
            opened: 0,
            head: 0,
            read_failures: 0,
            has_read_failed: false,
            has_failed: false,
            slow_syncs: None,
            lost_writes: 0,
            erase_blocks: 0,
            unreadable: BTreeSet::new(),
            victims: Victims::default(),
            moments: Moments::default(),
            on_off: None,
        })
    }

    /// What happens to it from here on is nobody's business outside.
    fn of(mut world: World) -> Self {
        world.on_off = None;
        Self(Arc::new(Mutex::new(world)))
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    pub fn set_control(&self, control: Control) {
        self.world().control = control;
    }

    /// Sectors under writing become garbage now and then.
    pub fn set_garbage(&self, garbage: bool) {
        self.world().garbage = garbage;
    }

    /// One in `one_in` syncs fails; 0 for none.
    pub fn set_sync_failures(&self, one_in: u64) {
        self.world().sync_failures = one_in;
    }

    /// One in `one_in` reads fails, but no two in a row; 0 for none. Returns what it was.
    pub fn set_read_failures(&self, one_in: u64) -> u64 {
        std::mem::replace(&mut self.world().read_failures, one_in)
    }

    /// One in `one_in` syncs takes seconds.
    pub fn set_slow_syncs(&self, slow: Option<(u64, Arc<SimClock>)>) {
        self.world().slow_syncs = slow;
    }

    /// What is done at the moment when the power goes by itself.
    pub fn on_off(&self, f: impl FnMut() + Send + 'static) {
        self.world().on_off = Some(Arc::new(Mutex::new(f)));
    }

    /// The operation that comes after `after` more fails.
    pub fn fail_after(&self, after: u64, failure: Failure, for_ever: bool) {
        let mut world = self.world();
        world.failure = Some((world.ops + after, failure, for_ever));
    }

    pub fn heal(&self) {
        self.world().failure = None;
    }

    /// The power goes after so many more operations.
    pub fn set_fuel(&self, fuel: u64) {
        self.world().fuel = fuel;
    }

    pub fn is_off(&self) -> bool {
        self.world().is_off
    }

    pub fn ops(&self) -> u64 {
        self.world().ops
    }

    pub fn syncs(&self) -> u64 {
        self.world().syncs
    }

    /// The greatest life that any page was written under.
    pub fn page_life(&self) -> u64 {
        self.world().page_life
    }

    /// The greatest offset from which any run said that it would hand out.
    pub fn opened(&self) -> u64 {
        self.world().opened
    }

    /// The greatest head that any run wrote into a checkpoint: what is below may have been given back.
    pub fn head(&self) -> u64 {
        self.world().head
    }

    /// An operation failed since the process started.
    pub fn has_failed(&self) -> bool {
        self.world().has_failed
    }

    /// Operations may fail although the power is on.
    pub fn may_fail(&self) -> bool {
        let world = self.world();
        world.sync_failures > 0
            || world.calls.may_fail()
            || world.failure.is_some()
            || world.read_failures > 0
    }

    pub fn written(&self) -> u64 {
        self.world().written
    }

    /// What the files take on disk together.
    pub fn allocated(&self) -> u64 {
        let world = self.world();
        let names = world.live_names.iter();
        names
            .filter(|(name, _)| !name.starts_with(LETTERS))
            .map(|(_, id)| world.contents[*id].allocated)
            .sum()
    }

    /// The disk has so many bytes. What makes a file longer than there is room for fails.
    pub fn set_size(&self, size: u64) {
        self.world().size = size;
    }

    /// It may be full.
    pub fn is_bounded(&self) -> bool {
        self.world().size < u64::MAX
    }

    /// The process dies; what it wrote stays.
    pub fn kill(&self) {
        self.world().end_session();
    }

    /// The power goes, and comes back.
    pub fn power_cut(&self) {
        let mut world = self.world();
        world.lose_unsynced();
        world.end_session();
    }

    /// The directory, for a process that starts now.
    pub fn dir(&self) -> Arc<dyn Dir> {
        Arc::new(SimDir {
            disk: self.clone(),
            session: self.world().session,
            prefix: "",
        })
    }

    /// The directory of the dead letters in it.
    pub fn letters_dir(&self) -> Arc<dyn Dir> {
        Arc::new(SimDir {
            disk: self.clone(),
            session: self.world().session,
            prefix: LETTERS,
        })
    }

    /// What lies in there.
    pub fn letters_names(&self) -> Vec<String> {
        let world = self.world();
        let names = world.live_names.keys();
        names
            .filter(|name| name.starts_with(LETTERS))
            .cloned()
            .collect()
    }

    pub fn names(&self) -> Vec<String> {
        let world = self.world();
        let names = world.live_names.keys();
        names
            .filter(|name| !name.starts_with(LETTERS))
            .cloned()
            .collect()
    }
}

impl World {
    fn allocated(&self) -> u64 {
        let ids = self.live_names.values();
        ids.map(|id| self.contents[*id].allocated).sum()
    }

    fn end_session(&mut self) {
        self.session += 1;
        self.has_failed = false;
        self.is_off = false;
        self.fuel = u64::MAX;
        let names = || self.live_names.values().chain(self.durable_names.values());
        let used: BTreeSet<usize> = names().copied().collect();
        for (id, content) in self.contents.iter_mut().enumerate() {
            content.locked = false;
            if !used.contains(&id) {
                *content = Content::default();
            }
        }
    }

    /// Counts an operation that changes something; the power may go instead, or it fails.
    fn tick(&mut self) -> io::Result<()> {
        if self.is_off {
            return Err(io::Error::other("the power is off"));
        }
        self.ops += 1;
        if self.fuel == 0 {
            self.is_off = true;
            self.on_off.iter().for_each(|f| (f.lock().unwrap())());
            return Err(io::Error::other("the power is off"));
        }
        self.fuel -= 1;
        self.take_moment();
        match self.failure {
            Some((at, failure, for_ever)) if self.ops == at || (for_ever && self.ops > at) => {
                self.has_failed = true;
                Err(match failure {
                    Failure::Io => io::Error::from_raw_os_error(5),
                    Failure::NoSpace => io::Error::from_raw_os_error(28),
                })
            }
            _ => Ok(()),
        }
    }

    fn lose_unsynced(&mut self) {
        // How much of it reached the disk differs from cut to cut.
        let quarters = self.random.below(5);
        let mut erased = Vec::new();
        for id in 0..self.contents.len() {
            let mut content = std::mem::take(&mut self.contents[id]);
            if content.live.len() != content.durable.len() {
                // A length is written with the file's metadata: it may be there before the bytes are.
                let len = match self.random.chance(2) {
                    true => content.live.len(),
                    false => content.durable.len(),
                };
                content.durable.resize(len);
                content.is_stale = true;
            }
            for sector in content.take_dirty() {
                content.is_stale = true;
                if self.erase_blocks > 0 && self.random.chance(self.erase_blocks) {
                    erased.push((id, sector));
                }
                if self.random.below(4) < quarters {
                    content.persist(sector);
                } else if self.garbage && self.random.chance(4) {
                    let garbage = self.random.next();
                    content.spoil(sector, garbage);
                }
            }
            if std::mem::take(&mut content.is_stale) {
                content.live.clone_from(&content.durable);
            }
            self.contents[id] = content;
        }
        // Each name that changed is there as it was before or as it was after.
        let mut names: Vec<String> = self.live_names.keys().cloned().collect();
        names.extend(self.durable_names.keys().cloned());
        names.sort();
        names.dedup();
        for name in names {
            let (live, durable) = (self.live_names.get(&name), self.durable_names.get(&name));
            if live != durable && self.random.chance(2) {
                match live.copied() {
                    Some(id) => self.durable_names.insert(name, id),
                    None => self.durable_names.remove(&name),
                };
            }
        }
        self.live_names = self.durable_names.clone();
        // One block is being erased when the power goes.
        if let Some((id, sector)) = erased.first() {
            self.erase(*id, *sector);
        }
    }

    fn write(&mut self, id: usize, bytes: &[u8], position: usize) {
        self.written += bytes.len() as u64;
        if !self.contents[id].is_of_letters {
            for header in bytes.chunks(PAGE_SIZE).filter_map(PageHeader::decode) {
                self.page_life = self.page_life.max(header.life);
            }
            if let Ok(checkpoint) = Checkpoint::decode(bytes) {
                self.opened = self.opened.max(checkpoint.opened);
                self.head = self.head.max(checkpoint.head);
            }
        }
        let redirected = self.redirect(id, bytes, position);
        let (bytes, position) = match &redirected {
            Some((bytes, position)) => (&bytes[..], *position),
            None => (bytes, position),
        };
        let end = position + bytes.len();
        for page in position / PAGE_SIZE..end.div_ceil(PAGE_SIZE) {
            self.unreadable.remove(&(id, page));
        }
        let content = &mut self.contents[id];
        content.extend(end);
        for sector in position / SECTOR..end.div_ceil(SECTOR) {
            // What stood there unsynced may have been written back meanwhile.
            if !content.soil(sector) && self.random.chance(2) {
                content.persist(sector);
            }
        }
        content.live.write(position, bytes);
    }

    /// Whether a read fails.
    fn read_fails(&mut self, id: usize, position: usize, len: usize) -> bool {
        let pages = position / PAGE_SIZE..(position + len).div_ceil(PAGE_SIZE);
        let bad = (id, pages.start)..(id, pages.end.max(pages.start));
        if self.unreadable.range(bad).next().is_some() {
            self.has_failed = true;
            return true;
        }
        let one_in = self.read_failures;
        self.has_read_failed = one_in > 0 && !self.has_read_failed && self.random.chance(one_in);
        self.has_failed |= self.has_read_failed;
        self.has_read_failed
    }

    /// What the controls do to pages of the log.
    fn redirect(&mut self, _id: usize, bytes: &[u8], position: usize) -> Option<(Vec<u8>, usize)> {
        if !matches!(self.control, Control::PageInPlace | Control::MarkBeforeSync) {
            return None;
        }
        let mut bytes = bytes.to_vec();
        let mut at = position;
        for page in bytes.chunks_mut(PAGE_SIZE) {
            let Some(mut header) = PageHeader::decode(page) else {
                continue;
            };
            match self.control {
                Control::MarkBeforeSync => header.mark = header.end(),
                _ if header.is_tail => {
                    header.slot = header.tail;
                    at = header.tail as usize * PAGE_SIZE;
                }
                _ => {}
            }
            header.encode(page);
        }
        Some((bytes, at))
    }
}

/// The bit of a sector among those of its page.
fn bit_of(sector: usize) -> u8 {
    1 << (sector % SECTORS)
}

impl Content {
    fn extend(&mut self, len: usize) {
        if self.live.len() < len {
            self.live.resize(len);
        }
        self.allocated = self
            .allocated
            .max(self.live.len().next_multiple_of(PAGE_SIZE) as u64);
    }

    fn range(&self, sector: usize) -> std::ops::Range<usize> {
        sector * SECTOR..((sector + 1) * SECTOR).min(self.live.len())
    }

    fn is_dirty(&self, sector: usize) -> bool {
        let bits = self.dirty.get(&(sector / SECTORS));
        bits.is_some_and(|bits| bits & bit_of(sector) != 0)
    }

    /// A sector is written to. False when it was dirty before.
    fn soil(&mut self, sector: usize) -> bool {
        let bits = self.dirty.entry(sector / SECTORS).or_default();
        let was_clean = *bits & bit_of(sector) == 0;
        *bits |= bit_of(sector);
        was_clean
    }

    /// A sector is no more.
    fn clean(&mut self, sector: usize) {
        if let Some(bits) = self.dirty.get_mut(&(sector / SECTORS)) {
            *bits &= !bit_of(sector);
        }
    }

    /// The sectors that were dirty, in order.
    fn take_dirty(&mut self) -> impl Iterator<Item = usize> + use<> {
        let dirty = std::mem::take(&mut self.dirty).into_iter();
        dirty.flat_map(|(page, bits)| {
            let sectors = page * SECTORS..(page + 1) * SECTORS;
            sectors.filter(move |sector| bits & bit_of(*sector) != 0)
        })
    }

    fn persist(&mut self, sector: usize) {
        let range = self.range(sector);
        if self.durable.len() < range.end {
            self.durable.resize(range.end);
        }
        self.durable.copy(&self.live, range);
    }

    /// Everything that is dirty becomes durable.
    fn persist_all(&mut self) {
        for (page, bits) in std::mem::take(&mut self.dirty) {
            if bits == u8::MAX {
                self.durable.share(&self.live, page);
                continue;
            }
            let sectors = page * SECTORS..(page + 1) * SECTORS;
            for sector in sectors.filter(|sector| bits & bit_of(*sector) != 0) {
                self.persist(sector);
            }
        }
    }

    /// What is not dirty is read as it lies on the medium.
    fn forget(&mut self) {
        if !self.is_stale {
            return;
        }
        for sector in 0..self.live.len().div_ceil(SECTOR) {
            let range = self.range(sector);
            if self.durable.len() >= range.end && !self.is_dirty(sector) {
                self.live.copy(&self.durable, range);
            }
        }
    }

    fn spoil(&mut self, sector: usize, garbage: u64) {
        let range = self.range(sector);
        if self.durable.len() >= range.end {
            let byte = |at: usize| garbage.rotate_left(u32::try_from(at).unwrap() % 63);
            let bytes: Vec<u8> = (0..range.len())
                .map(|at| byte(at).to_le_bytes()[0])
                .collect();
            self.durable.write(range.start, &bytes);
        }
    }
}
