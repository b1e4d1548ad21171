//! The system's own files.

#![allow(clippy::disallowed_methods)] // this is the file system's seam

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{Advice, FallocateFlags, FlockOperation, Mode, OFlags};

use super::{Dir, Entry, File, FileId, Memory, PAGE_SIZE, Storage, Window};

/// The system's file systems and shared memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Real;

impl Storage for Real {
    fn open_dir(&self, path: &Path, create: bool) -> io::Result<Arc<dyn Dir>> {
        if create {
            make_dir(path)?;
        }
        let handle = fs::File::open(path)?;
        if !handle.metadata()?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(Arc::new(RealDir {
            handle,
            path: path.to_owned(),
        }))
    }

    fn shared(&self, path: &Path, len: usize) -> io::Result<Memory> {
        if let Some(parent) = path.parent() {
            make_dir(parent)?;
        }
        match fs::OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) if file.metadata()?.len() == len as u64 => return Memory::of_file(&file, len),
            // Never cut: another process may be looking at it.
            Ok(_) => fs::remove_file(path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let mut options = fs::OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        // A hole would be a signal, not an error, when memory runs out.
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, len as u64)?;
        Memory::of_file(&file, len)
    }

    fn shared_behind(&self, path: &Path, front: usize, len: Option<usize>) -> io::Result<Memory> {
        let file = match len {
            None => fs::OpenOptions::new().read(true).write(true).open(path)?,
            Some(_) => {
                if let Some(parent) = path.parent() {
                    fs::DirBuilder::new()
                        .recursive(true)
                        .mode(0o700)
                        .create(parent)?;
                }
                match fs::remove_file(path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
                let mut options = fs::OpenOptions::new();
                let options = options.read(true).write(true).create_new(true);
                options.mode(0o600).open(path)?
            }
        };
        let size = match len {
            Some(len) => len as u64,
            None => file.metadata()?.len(),
        };
        if size == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // A hole would be a signal, not an error, when memory runs out.
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, size)?;
        let len = usize::try_from(size).map_err(io::Error::other)?;
        Memory::of_file_behind(front, &file, len)
    }

    fn shared_by_other(&self, path: &Path) -> io::Result<Memory> {
        let file = fs::OpenOptions::new().read(true).write(true).open(path)?;
        let len = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        Memory::of_file(&file, len)
    }
}

/// Makes a directory and its parents where they are missing.
fn make_dir(path: &Path) -> io::Result<()> {
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path);
    made.map_err(|error| match error.kind() {
        // What is there is something else.
        io::ErrorKind::AlreadyExists => io::ErrorKind::NotADirectory.into(),
        _ => error,
    })
}

/// Reads a whole text file of at most `size_max` bytes.
pub fn read_text(path: &Path, size_max: u64) -> io::Result<String> {
    use io::Read;
    let mut text = String::new();
    let mut file = fs::File::open(path)?.take(size_max + 1);
    file.read_to_string(&mut text)?;
    if text.len() as u64 > size_max {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "the file is too large",
        ));
    }
    Ok(text)
}

/// Opens a file to read it from front to back.
pub fn open_to_read(path: &Path) -> io::Result<impl io::Read> {
    fs::File::open(path)
}

/// The names of all entries of a directory that a text can be made of.
#[cfg(any(feature = "input-tail", feature = "input-hardware"))]
pub fn names_in(dir: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        names.extend(entry?.file_name().into_string());
    }
    Ok(names)
}

/// Which file standard input is, and how long; `None` when it is no regular file.
pub fn stdin_file() -> Option<(FileId, u64)> {
    let stat = rustix::fs::fstat(io::stdin()).ok()?;
    let is_file = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file();
    let size = u64::try_from(stat.st_size).ok()?;
    #[allow(clippy::useless_conversion)] // their widths differ by target
    let id = FileId {
        device: u64::from(stat.st_dev),
        number: u64::from(stat.st_ino),
    };
    is_file.then_some((id, size))
}

/// Goes on reading standard input, which is a regular file, from `position` on. Nothing of it may lie in
/// a buffer.
pub fn seek_stdin(position: u64) -> io::Result<()> {
    rustix::fs::seek(io::stdin(), rustix::fs::SeekFrom::Start(position))?;
    Ok(())
}

/// Removes a directory with all that is in it. What cannot be removed stays.
pub fn remove_tree(path: &Path) {
    let _ = fs::remove_dir_all(path);
}

/// Fills `bytes` with random ones from the system.
pub fn random(bytes: &mut [u8]) {
    let mut done = 0;
    while done < bytes.len() {
        match rustix::rand::getrandom(&mut bytes[done..], rustix::rand::GetRandomFlags::empty()) {
            Ok(count) => done += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("the system gives no random bytes: {error}"),
        }
    }
}

struct RealDir {
    handle: fs::File,
    path: PathBuf,
}

impl RealDir {
    fn open_with(&self, name: &str, flags: OFlags) -> io::Result<Arc<dyn File>> {
        let flags = flags | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.handle, name, flags, Mode::RUSR | Mode::WUSR)?;
        let file = fs::File::from(file);
        Ok(Arc::new(RealFile {
            file,
            path: self.path.join(name),
            direct: OnceLock::new(),
        }))
    }
}

impl Dir for RealDir {
    fn list(&self) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.handle)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else {
                continue;
            };
            let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
            let stat = match rustix::fs::statat(&self.handle, name, flags) {
                Err(rustix::io::Errno::NOENT) => continue, // removed since it was listed
                stat => stat?,
            };
            if rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file() {
                let name = name.to_owned();
                let size = stat.st_size.unsigned_abs();
                entries.push(Entry {
                    name,
                    size,
                    allocated: allocated(stat.st_blocks),
                });
            }
        }
        Ok(entries)
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.open_with(name, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.open_with(name, OFlags::RDWR)
    }

    fn open_to_read(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.open_with(name, OFlags::RDONLY)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.handle, from, &self.handle, to)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(
            &self.handle,
            name,
            rustix::fs::AtFlags::empty(),
        )?)
    }

    fn sync(&self) -> io::Result<()> {
        self.handle.sync_all()
    }

    fn device(&self) -> u64 {
        self.handle.metadata().map_or(0, |metadata| metadata.dev())
    }

    fn volatile(&self) -> Option<&'static str> {
        let stat = rustix::fs::fstatfs(&self.handle).ok()?;
        super::surroundings::volatile_kind(&stat)
    }

    fn allocated(&self) -> io::Result<u64> {
        Ok(self.handle.metadata()?.blocks() * 512)
    }

    fn free(&self) -> io::Result<u64> {
        let stat = rustix::fs::fstatvfs(&self.handle)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// The system counts blocks of 512 bytes whatever the file system's own are.
fn allocated(blocks: impl TryInto<u64>) -> u64 {
    blocks.try_into().unwrap_or(0) * 512
}

struct RealFile {
    file: fs::File,
    path: PathBuf,
    direct: OnceLock<Option<fs::File>>,
}

impl RealFile {
    /// A second handle that reads around the page cache, where the file system has that.
    fn direct(&self) -> Option<&fs::File> {
        let open = || {
            let flags = OFlags::RDONLY | OFlags::DIRECT | OFlags::CLOEXEC;
            let file = rustix::fs::open(&self.path, flags, Mode::empty());
            file.ok().map(|file: OwnedFd| fs::File::from(file))
        };
        self.direct.get_or_init(open).as_ref()
    }
}

fn read_until_full(file: &fs::File, buf: &mut [u8], position: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < buf.len() {
        match file.read_at(&mut buf[done..], position + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

impl File for RealFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        read_until_full(&self.file, buf, position)
    }

    fn read_medium_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        let aligned = buf.as_ptr().align_offset(PAGE_SIZE) == 0
            && buf.len().is_multiple_of(PAGE_SIZE)
            && position.is_multiple_of(PAGE_SIZE as u64);
        if let Some(direct) = self.direct().filter(|_| aligned) {
            match read_until_full(direct, buf, position) {
                // The file system opens files this way but does not read them so.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {}
                done => return done,
            }
        }
        self.read_at(buf, position)
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, position)
    }

    fn preallocate(&self, size: u64) -> io::Result<()> {
        use rustix::io::Errno;
        match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), 0, size) {
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => self.file.set_len(size),
            done => Ok(done?),
        }
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.file.set_len(size)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn drop_cache(&self) {
        // Advice only: where it is not taken, reads from the medium go around the cache.
        let _ = rustix::fs::fadvise(&self.file, 0, None, Advice::DontNeed);
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn allocated(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.blocks() * 512)
    }

    fn try_lock(&self) -> io::Result<bool> {
        match rustix::fs::flock(&self.file, FlockOperation::NonBlockingLockExclusive) {
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
            done => Ok(done.map(|()| true)?),
        }
    }

    fn is_locked(&self) -> io::Result<bool> {
        match rustix::fs::flock(&self.file, FlockOperation::NonBlockingLockShared) {
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
            done => {
                done?;
                rustix::fs::flock(&self.file, FlockOperation::Unlock)?;
                Ok(false)
            }
        }
    }

    fn map(&self, position: u64, len: usize) -> io::Result<Box<dyn Window>> {
        let stat = rustix::fs::fstatfs(&self.file)?;
        if super::surroundings::is_copied_on_write(&stat) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let raw = MmapOptions::new()
            .offset(position)
            .len(len)
            .map_raw(&self.file)?;
        Ok(Box::new(RealWindow { raw, position }))
    }
}

struct RealWindow {
    raw: MmapRaw,
    position: u64,
}

impl Window for RealWindow {
    fn write_at(&mut self, bytes: &[u8], position: u64) {
        assert!(self.holds(position, bytes.len()));
        #[allow(clippy::cast_possible_truncation)] // in the window, whose length is a usize
        let at = (position - self.position) as usize;
        // SAFETY: `holds` says that the target lies in the mapping, so the sum stays in it.
        let target = unsafe { self.raw.as_mut_ptr().add(at) };
        // SAFETY: the mapping is writable and `bytes` is not part of it: nobody else gets its address,
        // and `&mut self` makes this the only writer. Its blocks are allocated (parent module).
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len()) };
    }

    fn holds(&self, position: u64, len: usize) -> bool {
        let end = self.position + self.raw.len() as u64;
        position >= self.position && position + len as u64 <= end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("forebay-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        path
    }

    #[test]
    fn a_second_lock_is_refused_until_the_first_is_dropped() {
        let path = scratch("lock");
        let dir = Real.open_dir(&path, true).unwrap();
        let first = dir.create("lock").unwrap();
        assert!(first.try_lock().unwrap());
        let second = dir.open("lock").unwrap();
        assert!(!second.try_lock().unwrap());
        assert!(second.is_locked().unwrap());
        drop(first);
        // Whoever asks takes nothing.
        let third = dir.open("lock").unwrap();
        assert!(!second.is_locked().unwrap() && !third.is_locked().unwrap());
        assert!(third.try_lock().unwrap());
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn what_a_window_writes_is_read_by_position() {
        let path = scratch("window");
        let dir = Real.open_dir(&path, true).unwrap();
        let file = dir.create("a").unwrap();
        file.preallocate(16384).unwrap();
        let mut window = file.map(4096, 8192).unwrap();
        assert!(window.holds(4096, 8192) && !window.holds(4095, 1) && !window.holds(8192, 4097));
        window.write_at(b"telemetry", 5000);
        file.sync().unwrap();
        let mut memory = [0u8; 9];
        assert_eq!(file.read_at(&mut memory, 5000).unwrap(), 9);
        assert_eq!(&memory, b"telemetry");
        assert_eq!(
            file.read_at(&mut [0; 100], 16380).unwrap(),
            4,
            "short at the end of the file"
        );
        assert_eq!(dir.list().unwrap()[0].size, 16384);
        fs::remove_dir_all(&path).unwrap();
    }

    #[test]
    fn shared_memory_is_the_same_for_two_openers() {
        use std::sync::atomic::Ordering;
        let path = scratch("shared").join("page");
        let first = Real.shared(&path, 8192).unwrap();
        let second = Real.shared(&path, 8192).unwrap();
        first.words()[7].store(42, Ordering::Relaxed);
        assert_eq!(second.words()[7].load(Ordering::Relaxed), 42);
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }

    /// Of two openers, each has its own front, and both have the same bytes behind it.
    #[test]
    fn what_lies_behind_a_private_front_is_shared() {
        use std::sync::atomic::Ordering;
        let path = scratch("behind").join("ring");
        let missing = Real.shared_behind(&path, PAGE_SIZE, None).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        let first = Real.shared_behind(&path, PAGE_SIZE, Some(8192)).unwrap();
        let second = Real.shared_behind(&path, PAGE_SIZE, None).unwrap();
        assert_eq!(
            (first.len(), second.len()),
            (PAGE_SIZE + 8192, PAGE_SIZE + 8192)
        );
        first.words()[7].store(1, Ordering::Relaxed);
        first.words()[512 + 7].store(42, Ordering::Relaxed);
        assert_eq!(second.words()[7].load(Ordering::Relaxed), 0);
        assert_eq!(second.words()[512 + 7].load(Ordering::Relaxed), 42);
        let third = Real.shared_behind(&path, PAGE_SIZE, Some(4096)).unwrap();
        assert_eq!(
            third.words()[512 + 7].load(Ordering::Relaxed),
            0,
            "made anew"
        );
        fs::remove_dir_all(path.parent().unwrap()).unwrap();
    }
}
