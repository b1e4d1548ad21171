//! The real disk, with syncs that can be held up or made to fail, and room that can be gone.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use forebay::clock::System;
use forebay::engine::World;
use forebay::storage::{Dir, Entry, File, Memory, Real, Storage, Window};

/// What syncs of files do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syncs {
    Done,
    /// They wait until that changes.
    Stalled,
    /// They take so long.
    Slow(Duration),
    Failed,
}

#[derive(Default)]
struct Gates {
    syncs: Option<Syncs>,
    /// How many syncs are held up.
    waiting: u32,
    /// How many of these may go.
    released: u32,
}

#[derive(Default)]
struct State {
    gates: Mutex<Gates>,
    changed: Condvar,
    is_full: AtomicBool,
}

/// Decides what syncs do. Cheap to clone.
#[derive(Clone, Default)]
pub struct Gate(Arc<State>);

impl Gate {
    pub fn set(&self, syncs: Syncs) {
        self.0.gates.lock().unwrap().syncs = Some(syncs);
        self.0.changed.notify_all();
    }

    /// Waits for a sync that is held up, does `what` meanwhile, and lets that one sync go.
    pub fn during_a_stalled_sync(&self, what: impl FnOnce()) {
        let idle = |gates: &mut Gates| gates.waiting == gates.released;
        drop(
            self.0
                .changed
                .wait_while(self.0.gates.lock().unwrap(), idle)
                .unwrap(),
        );
        what();
        self.0.gates.lock().unwrap().released += 1;
        self.0.changed.notify_all();
    }

    /// The file system has no room: files that are there can be written, others not be made.
    pub fn set_full(&self, is_full: bool) {
        self.0.is_full.store(is_full, Ordering::SeqCst);
    }

    fn room(&self) -> io::Result<()> {
        match self.0.is_full.load(Ordering::SeqCst) {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }

    /// The real world behind this gate.
    pub fn world(&self) -> World {
        World {
            storage: Arc::new(Gated(self.clone())),
            clock: Arc::new(System::new()),
        }
    }

    fn pass(&self) -> io::Result<()> {
        let mut gates = self.0.gates.lock().unwrap();
        gates.waiting += 1;
        self.0.changed.notify_all();
        let is_held =
            |gates: &mut Gates| gates.syncs == Some(Syncs::Stalled) && gates.released == 0;
        gates = self.0.changed.wait_while(gates, is_held).unwrap();
        gates.waiting -= 1;
        gates.released = gates.released.saturating_sub(1);
        let syncs = gates.syncs;
        drop(gates);
        match syncs {
            Some(Syncs::Failed) => Err(io::Error::from_raw_os_error(5)),
            Some(Syncs::Slow(time)) => {
                std::thread::sleep(time);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

struct Gated(Gate);

impl Storage for Gated {
    fn open_dir(&self, path: &Path, create: bool) -> io::Result<Arc<dyn Dir>> {
        let dir = Real.open_dir(path, create)?;
        Ok(Arc::new(GatedDir(self.0.clone(), dir)))
    }

    fn shared(&self, path: &Path, len: usize) -> io::Result<Memory> {
        Real.shared(path, len)
    }

    fn shared_behind(&self, path: &Path, front: usize, len: Option<usize>) -> io::Result<Memory> {
        Real.shared_behind(path, front, len)
    }

    fn shared_by_other(&self, path: &Path) -> io::Result<Memory> {
        Real.shared_by_other(path)
    }
}

struct GatedDir(Gate, Arc<dyn Dir>);

impl GatedDir {
    #[allow(clippy::unnecessary_wraps)]
    fn gated(&self, file: Arc<dyn File>) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(GatedFile(self.0.clone(), file)))
    }
}

impl Dir for GatedDir {
    fn list(&self) -> io::Result<Vec<Entry>> {
        self.1.list()
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.0.room()?;
        self.gated(self.1.create(name)?)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.gated(self.1.open(name)?)
    }

    fn open_to_read(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.gated(self.1.open_to_read(name)?)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.1.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.1.remove(name)
    }

    fn sync(&self) -> io::Result<()> {
        self.1.sync()
    }

    fn device(&self) -> u64 {
        self.1.device()
    }

    fn volatile(&self) -> Option<&'static str> {
        self.1.volatile()
    }

    fn allocated(&self) -> io::Result<u64> {
        self.1.allocated()
    }

    fn free(&self) -> io::Result<u64> {
        match self.0.room() {
            Ok(()) => self.1.free(),
            Err(_) => Ok(0),
        }
    }
}

struct GatedFile(Gate, Arc<dyn File>);

impl File for GatedFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        self.1.read_at(buf, position)
    }

    fn read_medium_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        self.1.read_medium_at(buf, position)
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.1.write_at(bytes, position)
    }

    fn preallocate(&self, size: u64) -> io::Result<()> {
        self.0.room()?;
        self.1.preallocate(size)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.1.set_size(size)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.pass()?;
        self.1.sync()
    }

    fn drop_cache(&self) {
        self.1.drop_cache();
    }

    fn size(&self) -> io::Result<u64> {
        self.1.size()
    }

    fn allocated(&self) -> io::Result<u64> {
        self.1.allocated()
    }

    fn try_lock(&self) -> io::Result<bool> {
        self.1.try_lock()
    }

    fn is_locked(&self) -> io::Result<bool> {
        self.1.is_locked()
    }

    fn map(&self, position: u64, len: usize) -> io::Result<Box<dyn Window>> {
        self.1.map(position, len)
    }
}
