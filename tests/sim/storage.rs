//! A directory on a disk that loses power.
//!
//! Every file has *live* bytes, which reads see, and *durable* bytes, which survive. A write makes
//! sectors of 512 bytes dirty; a sync makes them durable. When the power goes, each dirty sector
//! becomes durable or not, by chance, whatever page it is in; in one mode some become garbage. An
//! earlier version of a sector that was written twice may also have reached the disk. Names have a
//! durability of their own. Any operation can be the last one, and any can fail.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use forebay::format::{Checkpoint, PAGE_SIZE, PageHeader};
use forebay::storage::{Dir, Entry, File, Window};

use super::random::Random;

mod faults;
mod room;
mod window;

use window::SimWindow;

pub const SECTOR: usize = 512;
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

/// What an operation that is to fail does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    Io,
    NoSpace,
}

#[derive(Clone, Default)]
struct Content {
    live: Vec<u8>,
    durable: Vec<u8>,
    /// For each sector of `live`: written since the last sync.
    dirty: Vec<bool>,
    locked: bool,
    allocated: u64,
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
}

/// The disk, with one directory on it.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<World>>);

impl SimDisk {
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(World {
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
        })))
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

    /// Operations may fail although the power is on.
    pub fn may_fail(&self) -> bool {
        let world = self.world();
        world.sync_failures > 0 || world.failure.is_some() || world.calls.may_fail()
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
        self.is_off = false;
        self.fuel = u64::MAX;
        for content in &mut self.contents {
            content.locked = false;
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
            return Err(io::Error::other("the power is off"));
        }
        self.fuel -= 1;
        match self.failure {
            Some((at, failure, for_ever)) if self.ops == at || (for_ever && self.ops > at) => {
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
        for id in 0..self.contents.len() {
            let mut content = std::mem::take(&mut self.contents[id]);
            if content.live.len() != content.durable.len() {
                // A length is written with the file's metadata: it may be there before the bytes are.
                let len = match self.random.chance(2) {
                    true => content.live.len(),
                    false => content.durable.len(),
                };
                content.durable.resize(len, 0);
            }
            for sector in 0..content.dirty.len() {
                if !content.dirty[sector] {
                    continue;
                }
                if self.random.below(4) < quarters {
                    content.persist(sector);
                } else if self.garbage && self.random.chance(4) {
                    let garbage = self.random.next();
                    content.spoil(sector, garbage);
                }
            }
            content.live.clone_from(&content.durable);
            content.dirty = vec![false; content.live.len().div_ceil(SECTOR)];
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
    }

    fn write(&mut self, id: usize, bytes: &[u8], position: usize) {
        self.written += bytes.len() as u64;
        for header in bytes.chunks(PAGE_SIZE).filter_map(PageHeader::decode) {
            self.page_life = self.page_life.max(header.life);
        }
        if let Ok(checkpoint) = Checkpoint::decode(bytes) {
            self.opened = self.opened.max(checkpoint.opened);
        }
        let redirected = self.redirect(id, bytes, position);
        let (bytes, position) = match &redirected {
            Some((bytes, position)) => (&bytes[..], *position),
            None => (bytes, position),
        };
        let end = position + bytes.len();
        self.contents[id].extend(end);
        for sector in position / SECTOR..end.div_ceil(SECTOR) {
            // What stood there unsynced may have been written back meanwhile.
            if self.contents[id].dirty[sector] && self.random.chance(2) {
                self.contents[id].persist(sector);
            }
            self.contents[id].dirty[sector] = true;
        }
        self.contents[id].live[position..end].copy_from_slice(bytes);
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

impl Content {
    fn extend(&mut self, len: usize) {
        if self.live.len() < len {
            self.live.resize(len, 0);
        }
        let sectors = self.live.len().div_ceil(SECTOR);
        self.dirty.resize(sectors, false);
        self.allocated = self
            .allocated
            .max(self.live.len().next_multiple_of(PAGE_SIZE) as u64);
    }

    fn range(&self, sector: usize) -> std::ops::Range<usize> {
        sector * SECTOR..((sector + 1) * SECTOR).min(self.live.len())
    }

    fn persist(&mut self, sector: usize) {
        let range = self.range(sector);
        if self.durable.len() < range.end {
            self.durable.resize(range.end, 0);
        }
        self.durable[range.clone()].copy_from_slice(&self.live[range]);
    }

    fn spoil(&mut self, sector: usize, garbage: u64) {
        let range = self.range(sector);
        if self.durable.len() >= range.end {
            for (at, byte) in self.durable[range].iter_mut().enumerate() {
                *byte = garbage
                    .rotate_left(u32::try_from(at).unwrap() % 63)
                    .to_le_bytes()[0];
            }
        }
    }
}

struct SimDir {
    disk: SimDisk,
    session: u64,
    prefix: &'static str,
}

impl SimDir {
    fn world(&self) -> io::Result<MutexGuard<'_, World>> {
        self.disk.world_of(self.session)
    }

    fn file(&self, id: usize) -> Arc<dyn File> {
        Arc::new(SimFile {
            disk: self.disk.clone(),
            session: self.session,
            id,
            has_lock: Arc::default(),
        })
    }

    fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn id_of(&self, world: &World, name: &str) -> io::Result<usize> {
        world
            .live_names
            .get(&self.name(name))
            .copied()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Dir for SimDir {
    fn list(&self) -> io::Result<Vec<Entry>> {
        let world = self.world()?;
        let entry = |(name, id): (&String, &usize)| {
            let content = &world.contents[*id];
            let size = content.live.len() as u64;
            Entry {
                name: name[self.prefix.len()..].to_owned(),
                size,
                allocated: content.allocated,
            }
        };
        let is_here = |(name, _): &(&String, &usize)| {
            let rest = name.strip_prefix(self.prefix);
            rest.is_some_and(|rest| !rest.contains('/'))
        };
        Ok(world.live_names.iter().filter(is_here).map(entry).collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let mut world = self.world()?;
        world.tick()?;
        if world.live_names.contains_key(&self.name(name)) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        world.contents.push(Content::default());
        let id = world.contents.len() - 1;
        world.live_names.insert(self.name(name), id);
        Ok(self.file(id))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let world = self.world()?;
        Ok(self.file(self.id_of(&world, name)?))
    }

    fn open_to_read(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.open(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut world = self.world()?;
        world.tick()?;
        let id = self.id_of(&world, from)?;
        world.live_names.remove(&self.name(from));
        world.live_names.insert(self.name(to), id);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut world = self.world()?;
        world.tick()?;
        self.id_of(&world, name)?;
        world.live_names.remove(&self.name(name));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = self.world()?;
        world.tick()?;
        if world.control != Control::NoDirSync {
            // Each directory on its own.
            let is_here = |name: &String| name.starts_with(LETTERS) != self.prefix.is_empty();
            let world = &mut *world;
            world.durable_names.retain(|name, _| !is_here(name));
            let live = world.live_names.iter().filter(|(name, _)| is_here(name));
            let live = live.map(|(name, id)| (name.clone(), *id));
            world.durable_names.extend(live);
        }
        Ok(())
    }

    fn device(&self) -> u64 {
        1
    }

    fn volatile(&self) -> Option<&'static str> {
        None
    }

    fn allocated(&self) -> io::Result<u64> {
        Ok(PAGE_SIZE as u64)
    }

    fn free(&self) -> io::Result<u64> {
        let world = self.world()?;
        Ok(world.size.saturating_sub(world.allocated()))
    }
}

#[derive(Clone)]
struct SimFile {
    disk: SimDisk,
    session: u64,
    id: usize,
    has_lock: Arc<AtomicBool>,
}

impl Drop for SimFile {
    /// The last user of a file gives its lock back.
    fn drop(&mut self) {
        if Arc::strong_count(&self.has_lock) == 1
            && self.has_lock.load(Ordering::Relaxed)
            && let Ok(mut world) = self.disk.0.lock()
            && world.session == self.session
        {
            world.contents[self.id].locked = false;
        }
    }
}

impl SimFile {
    fn world(&self) -> io::Result<MutexGuard<'_, World>> {
        self.disk.world_of(self.session)
    }
}

fn narrow(n: u64) -> usize {
    usize::try_from(n).unwrap()
}

impl File for SimFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        let world = self.world()?;
        let live = &world.contents[self.id].live;
        let from = narrow(position).min(live.len());
        let len = buf.len().min(live.len() - from);
        buf[..len].copy_from_slice(&live[from..from + len]);
        Ok(len)
    }

    fn read_medium_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        self.read_at(buf, position)
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let mut world = self.world()?;
        world.tick()?;
        world.make_room(self.id, position + bytes.len() as u64)?;
        world.write(self.id, bytes, narrow(position));
        Ok(())
    }

    fn preallocate(&self, size: u64) -> io::Result<()> {
        let mut world = self.world()?;
        world.tick()?;
        world.make_room(self.id, size)?;
        world.contents[self.id].extend(narrow(size));
        Ok(())
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        let mut world = self.world()?;
        world.tick()?;
        let content = &mut world.contents[self.id];
        content.live.resize(narrow(size), 0);
        content
            .dirty
            .resize(content.live.len().div_ceil(SECTOR), true);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = self.disk.world_that_syncs(self.session, self.id)?;
        world.tick()?;
        world.syncs += 1;
        if world.control == Control::NoSync {
            return Ok(());
        }
        let failures = world.sync_failures;
        let fails = failures > 0 && world.random.chance(failures);
        let mut content = std::mem::take(&mut world.contents[self.id]);
        content.durable.resize(content.live.len(), 0);
        for sector in 0..content.dirty.len() {
            // A failed sync is told once; the sectors it lost are clean from then on.
            if std::mem::take(&mut content.dirty[sector]) && !(fails && world.random.chance(2)) {
                content.persist(sector);
            }
        }
        world.contents[self.id] = content;
        match fails && world.control != Control::FailureHidden {
            true => Err(io::Error::from_raw_os_error(5)),
            false => Ok(()),
        }
    }

    fn drop_cache(&self) {
        if let Ok(mut world) = self.disk.world_without_failures(self.session) {
            let content = &mut world.contents[self.id];
            for sector in 0..content.dirty.len() {
                let range = content.range(sector);
                if !content.dirty[sector] && content.durable.len() >= range.end {
                    content.live[range.clone()].copy_from_slice(&content.durable[range]);
                }
            }
        }
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.world()?.contents[self.id].live.len() as u64)
    }

    fn allocated(&self) -> io::Result<u64> {
        Ok(self.world()?.contents[self.id].allocated)
    }

    fn try_lock(&self) -> io::Result<bool> {
        let mut world = self.world()?;
        let locked = &mut world.contents[self.id].locked;
        let is_taken = !std::mem::replace(locked, true);
        self.has_lock.fetch_or(is_taken, Ordering::Relaxed);
        Ok(is_taken)
    }

    fn is_locked(&self) -> io::Result<bool> {
        Ok(self.world()?.contents[self.id].locked)
    }

    fn map(&self, position: u64, len: usize) -> io::Result<Box<dyn Window>> {
        drop(self.world()?);
        Ok(Box::new(SimWindow {
            file: self.clone(),
            position,
            len,
        }))
    }
}
