//! Files in the memory of this process: what a buffer of type `memory` lies in.
//!
//! ```text
//!  RamDir ── names ──▶ Content: one Buffer a file, as long as it was preallocated
//!     └────── room: what all contents take, never more than the budget
//! ```
//!
//! A file's memory is asked for when it is preallocated or grows, and given back when the last user of a
//! removed file has gone. Its pages are zero and take no RAM until they are written, so what is resident
//! grows with use. Nothing here outlives the process, so a sync has nothing to do.
//!
//! **Invariants.** What lies behind a file's size is zero. `taken` is the sum of what all contents hold,
//! removed ones with users included, and never above the budget.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use super::{Buffer, Dir, Entry, File, PAGE_SIZE, Window};

/// The device of everything in memory: its streams have a syncer of their own, which no medium delays.
pub const RAM_DEVICE: u64 = u64::MAX;

/// A directory in memory whose files take so many bytes at most, and that goes with its last user.
pub fn ram_dir(budget: u64) -> Arc<dyn Dir> {
    let room = Arc::new(Room {
        budget,
        taken: AtomicU64::new(0),
    });
    Arc::new(RamDir {
        files: Mutex::default(),
        room,
    })
}

/// What there is for the files of a directory, in bytes.
struct Room {
    budget: u64,
    taken: AtomicU64,
}

impl Room {
    fn take(&self, bytes: u64) -> io::Result<()> {
        let more = |taken: u64| {
            taken
                .checked_add(bytes)
                .filter(|taken| *taken <= self.budget)
        };
        // Relaxed: a count, which orders nothing.
        let taken = self
            .taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        match taken {
            Ok(_) => Ok(()),
            Err(_) => Err(io::ErrorKind::StorageFull.into()),
        }
    }

    fn give_back(&self, bytes: u64) {
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
    }
}

struct RamDir {
    files: Mutex<Vec<(String, Arc<Content>)>>,
    room: Arc<Room>,
}

impl RamDir {
    fn files(&self) -> MutexGuard<'_, Vec<(String, Arc<Content>)>> {
        // Whoever panicked here left the list whole: each change of it is one step.
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn find(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let files = self.files();
        let found = files.iter().find(|(other, _)| other == name);
        let (_, content) = found.ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(RamFile::of(content)))
    }
}

impl Dir for RamDir {
    fn list(&self) -> io::Result<Vec<Entry>> {
        let entry = |(name, content): &(String, Arc<Content>)| Entry {
            name: name.clone(),
            size: content.size(),
            allocated: content.taken(),
        };
        Ok(self.files().iter().map(entry).collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let mut files = self.files();
        if files.iter().any(|(other, _)| other == name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let content = Arc::new(Content {
            bytes: RwLock::default(),
            is_locked: AtomicBool::new(false),
            room: Arc::clone(&self.room),
        });
        files.push((name.to_owned(), Arc::clone(&content)));
        Ok(Arc::new(RamFile::of(&content)))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.find(name)
    }

    fn open_to_read(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.find(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.files();
        if !files.iter().any(|(name, _)| name == from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        if from != to {
            files.retain(|(name, _)| name != to);
        }
        for (name, _) in files.iter_mut().filter(|(name, _)| name == from) {
            to.clone_into(name);
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut files = self.files();
        let at = files.iter().position(|(other, _)| other == name);
        files.swap_remove(at.ok_or(io::ErrorKind::NotFound)?);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn device(&self) -> u64 {
        RAM_DEVICE
    }

    /// Whoever asks for memory knows that it forgets.
    fn volatile(&self) -> Option<&'static str> {
        None
    }

    fn allocated(&self) -> io::Result<u64> {
        Ok(0)
    }
}

/// The bytes of a file, whatever it is called.
struct Content {
    bytes: RwLock<Bytes>,
    is_locked: AtomicBool,
    room: Arc<Room>,
}

#[derive(Default)]
struct Bytes {
    /// Whole pages; none while there is nothing.
    buffer: Option<Buffer>,
    size: usize,
}

impl Bytes {
    fn capacity(&self) -> usize {
        self.buffer.as_ref().map_or(0, |buffer| buffer.len())
    }

    /// Takes memory for `size` bytes, if there is less.
    fn reserve(&mut self, size: usize, room: &Room) -> io::Result<()> {
        let pages = size.checked_next_multiple_of(PAGE_SIZE);
        let capacity = pages.ok_or(io::ErrorKind::FileTooLarge)?;
        let old = self.capacity();
        if capacity <= old {
            return Ok(());
        }
        room.take((capacity - old) as u64)?;
        let buffer = Buffer::new(capacity).map_err(|error| {
            room.give_back((capacity - old) as u64);
            // To a log this is a medium without room, which is survived.
            io::Error::new(io::ErrorKind::StorageFull, error)
        });
        let mut buffer = buffer?;
        if let Some(old) = &self.buffer {
            buffer[..self.size].copy_from_slice(&old[..self.size]);
        }
        self.buffer = Some(buffer);
        Ok(())
    }

    fn set_size(&mut self, size: usize, room: &Room) -> io::Result<()> {
        self.reserve(size, room)?;
        if let Some(buffer) = self.buffer.as_mut().filter(|_| size < self.size) {
            buffer[size..self.size].fill(0);
        }
        self.size = size;
        Ok(())
    }
}

impl Content {
    fn size(&self) -> u64 {
        self.bytes
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .size as u64
    }

    fn taken(&self) -> u64 {
        let bytes = self.bytes.read().unwrap_or_else(PoisonError::into_inner);
        bytes.capacity() as u64
    }

    fn change<T>(&self, change: impl FnOnce(&mut Bytes) -> io::Result<T>) -> io::Result<T> {
        change(&mut self.bytes.write().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        self.room.give_back(self.taken());
    }
}

/// An open file.
struct RamFile {
    content: Arc<Content>,
    has_lock: AtomicBool,
}

impl RamFile {
    fn of(content: &Arc<Content>) -> Self {
        Self {
            content: Arc::clone(content),
            has_lock: AtomicBool::new(false),
        }
    }
}

impl Drop for RamFile {
    fn drop(&mut self) {
        if *self.has_lock.get_mut() {
            self.content.is_locked.store(false, Ordering::Release);
        }
    }
}

fn in_memory(position: u64) -> io::Result<usize> {
    usize::try_from(position).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

impl File for RamFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        let bytes = &self.content.bytes;
        let bytes = bytes.read().unwrap_or_else(PoisonError::into_inner);
        let from = usize::try_from(position).map_or(bytes.size, |at| at.min(bytes.size));
        let count = buf.len().min(bytes.size - from);
        if let Some(buffer) = &bytes.buffer {
            buf[..count].copy_from_slice(&buffer[from..from + count]);
        }
        Ok(count)
    }

    fn read_medium_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        self.read_at(buf, position)
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let from = in_memory(position)?;
        let end = from.checked_add(bytes.len());
        let end = end.ok_or(io::ErrorKind::FileTooLarge)?;
        self.content.change(|content| {
            if end > content.size {
                content.set_size(end, &self.content.room)?;
            }
            if let Some(buffer) = &mut content.buffer {
                buffer[from..end].copy_from_slice(bytes);
            }
            Ok(())
        })
    }

    fn preallocate(&self, size: u64) -> io::Result<()> {
        let size = in_memory(size)?;
        self.content.change(|content| {
            let size = size.max(content.size);
            content.set_size(size, &self.content.room)
        })
    }

    fn is_ready_when_preallocated(&self) -> bool {
        true
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        let size = in_memory(size)?;
        self.content
            .change(|content| content.set_size(size, &self.content.room))
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn drop_cache(&self) {}

    fn size(&self) -> io::Result<u64> {
        Ok(self.content.size())
    }

    fn allocated(&self) -> io::Result<u64> {
        Ok(self.content.taken())
    }

    fn try_lock(&self) -> io::Result<bool> {
        let is_ours = !self.content.is_locked.swap(true, Ordering::AcqRel);
        if is_ours {
            self.has_lock.store(true, Ordering::Release);
        }
        Ok(is_ours || self.has_lock.load(Ordering::Acquire))
    }

    fn is_locked(&self) -> io::Result<bool> {
        let is_ours = self.has_lock.load(Ordering::Acquire);
        Ok(!is_ours && self.content.is_locked.load(Ordering::Acquire))
    }

    /// There is nothing to map: positional writes are copies already.
    fn map(&self, _position: u64, _len: usize) -> io::Result<Box<dyn Window>> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: u64 = PAGE_SIZE as u64;

    #[test]
    fn files_in_memory_take_no_more_than_the_budget_and_give_it_back() {
        let dir = ram_dir(4 * PAGE);
        let first = dir.create("first").unwrap();
        first.preallocate(3 * PAGE - 1).unwrap();
        assert_eq!(first.allocated().unwrap(), 3 * PAGE);
        let second = dir.create("second").unwrap();
        for refused in [second.preallocate(2 * PAGE), first.set_size(5 * PAGE)] {
            assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::StorageFull);
        }
        assert_eq!(
            second.size().unwrap(),
            0,
            "what was refused changes nothing"
        );
        second.write_at(b"x", PAGE - 1).unwrap();
        dir.remove("first").unwrap();
        // It is still in use.
        assert!(second.preallocate(2 * PAGE).is_err());
        first.write_at(b"y", 0).unwrap();
        drop(first);
        second.preallocate(4 * PAGE).unwrap();
        let mut byte = [0; 2];
        second.read_at(&mut byte, PAGE - 1).unwrap();
        assert_eq!(&byte, b"x\0", "it grew around what was in it");
    }

    #[test]
    fn what_was_cut_off_is_zero_when_the_file_grows_again() {
        let file = ram_dir(PAGE).create("a").unwrap();
        file.write_at(b"telemetry", 0).unwrap();
        file.set_size(4).unwrap();
        let mut bytes = [9; 9];
        assert_eq!(file.read_at(&mut bytes, 0).unwrap(), 4, "short at the end");
        assert_eq!(file.read_at(&mut bytes, 100).unwrap(), 0);
        file.set_size(9).unwrap();
        assert_eq!(file.read_at(&mut bytes, 0).unwrap(), 9);
        assert_eq!(&bytes, b"tele\0\0\0\0\0");
    }

    #[test]
    fn names_in_memory_are_made_once_replaced_and_removed() {
        let dir = ram_dir(2 * PAGE);
        dir.create("a").unwrap().write_at(b"a", 0).unwrap();
        dir.create("b").unwrap().write_at(b"b", 0).unwrap();
        let taken = dir.create("a").err().unwrap();
        assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
        dir.rename("a", "b").unwrap();
        let list = dir.list().unwrap();
        assert_eq!((list.len(), &*list[0].name, list[0].size), (1, "b", 1));
        let mut byte = [0];
        dir.open("b").unwrap().read_at(&mut byte, 0).unwrap();
        assert_eq!(&byte, b"a");
        for gone in [dir.open("a").err(), dir.remove("a").err()] {
            assert_eq!(gone.unwrap().kind(), io::ErrorKind::NotFound);
        }
        assert!(dir.rename("a", "c").is_err());
    }

    #[test]
    fn a_file_in_memory_has_one_lock() {
        let dir = ram_dir(PAGE);
        let first = dir.create("lock").unwrap();
        let second = dir.open("lock").unwrap();
        assert!(first.try_lock().unwrap() && !second.try_lock().unwrap());
        assert!(second.is_locked().unwrap());
        drop(first);
        assert!(!second.is_locked().unwrap() && second.try_lock().unwrap());
    }
}
