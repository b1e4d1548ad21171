//! Files, directories and memory behind a small trait; the only place that touches a file system.
//!
//! ```text
//!  Storage ── open_dir ──▶ Dir ── create, open ──▶ File ── map ──▶ Window
//!     └────── shared ────▶ Memory ◀── private
//! ```
//!
//! [`Real`] is the system's, [`ram_dir`] lies in this process's memory. Tests bring one that loses power.
//! Everything is a plain blocking call that does what its name says once: no retry, no cache, no policy.
//! What else a process finds around it (environment, host name, private files, free memory and disk) comes
//! from here too: [`Surroundings`].
//!
//! **Invariants.** A [`Memory`] never moves, is zero when new, is aligned to a page, and is only lent
//! out as atomic words or as a raw pointer whose user keeps its own rules ([`crate::ring`]). A
//! [`Window`] lies on blocks that were allocated and written before it was made, so that a store into it
//! cannot find the disk full.

use std::io;
use std::path::Path;
use std::sync::Arc;

mod faults;
#[cfg(feature = "input-tail")]
mod followed;
mod memory;
mod ram;
mod real;
#[cfg(feature = "cli")]
mod socket;
mod surroundings;

#[cfg(feature = "cli")]
pub use faults::watch_faults;
pub use faults::{MARK, at_risk, note_fault};
#[cfg(feature = "input-tail")]
pub use followed::{Followed, Shown, shown_at};
pub use memory::{Buffer, Memory};
pub use ram::{RAM_DEVICE, ram_dir};
#[cfg(any(feature = "input-tail", feature = "input-hardware"))]
pub use real::names_in;
pub use real::{Real, open_to_read, random, read_text, remove_tree, seek_stdin, stdin_file};
#[cfg(feature = "http")]
pub use socket::{forget_socket, listen_at};
#[cfg(feature = "cli")]
pub use socket::{replace_text, write_new};
pub use surroundings::{
    Medium, Surroundings, default_run_dir, is_journal, memory_available, memory_limit, read_private,
};
#[cfg(feature = "cli")]
pub use surroundings::{check_writable, hang_up, started};

/// A page: the unit in which a log is written, and what file systems and memory have in common.
pub const PAGE_SIZE: usize = 4096;

/// Opens directories and shared memory.
pub trait Storage: Send + Sync {
    /// Opens a directory; with `create`, makes it and its parents (mode 0700) where they are missing.
    fn open_dir(&self, path: &Path, create: bool) -> io::Result<Arc<dyn Dir>>;

    /// Opens `len` bytes of memory that other processes can map by the same path, made and zeroed if
    /// missing or of another length. It does not outlive the boot.
    fn shared(&self, path: &Path, len: usize) -> io::Result<Memory>;

    /// `front` bytes of this process, and behind them memory that other processes can map by `path`: with
    /// `len` so many zero bytes, in the place of whatever had that path; without it what is there, as long
    /// as it is. All of it is there to be written: where memory runs out, it runs out here. It outlives the
    /// process and not the boot. Both parts are whole pages.
    fn shared_behind(&self, path: &Path, front: usize, len: Option<usize>) -> io::Result<Memory>;

    /// Opens shared memory that another process made, as long as it is.
    fn shared_by_other(&self, path: &Path) -> io::Result<Memory>;
}

/// What a directory says of one of its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The file's name.
    pub name: String,
    /// Its length in bytes.
    pub size: u64,
    /// The bytes of disk that it takes.
    pub allocated: u64,
}

/// Names a file as long as it is there, whatever it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileId {
    /// The file system.
    pub device: u64,
    /// The file in it.
    pub number: u64,
}

/// An open directory. Names are plain file names without a slash.
pub trait Dir: Send + Sync {
    /// All regular files in it, in no order.
    fn list(&self) -> io::Result<Vec<Entry>>;
    /// Makes a new, empty file (mode 0600) that only this process uses; an error if the name is taken.
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>>;
    /// Opens a file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Arc<dyn File>>;
    /// Opens a file for reading only.
    fn open_to_read(&self, name: &str) -> io::Result<Arc<dyn File>>;
    /// Gives a file another name, in one step; one that has it already is replaced.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a name. The bytes go with the last user of the file.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes the names durable.
    fn sync(&self) -> io::Result<()>;
    /// Names the device, so that streams on one device share a thread.
    fn device(&self) -> u64;
    /// The kind of file system if it forgets everything when the power goes.
    fn volatile(&self) -> Option<&'static str>;
    /// The bytes of disk that the directory itself takes.
    fn allocated(&self) -> io::Result<u64>;
    /// The bytes that anybody but root can still take of its file system, if that has a bound.
    fn free(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

/// An open file. All calls take a position and share nothing but the bytes, so any thread may use it.
pub trait File: Send + Sync {
    /// Reads until `buf` is full or the file ends; returns how much.
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize>;

    /// Like [`read_at`](Self::read_at), but from the medium and not from a cache, where the system
    /// can: what a failed sync left in the cache does not count as written.
    fn read_medium_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize>;

    /// Writes all of `bytes`.
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()>;

    /// Takes disk for the first `size` bytes and makes the file that long. Where the file system has no
    /// such call, only the length is set.
    fn preallocate(&self, size: u64) -> io::Result<()>;

    /// Whether what was preallocated is as good as written, so that nothing is gained by writing zeros to
    /// it first.
    fn is_ready_when_preallocated(&self) -> bool {
        false
    }

    /// Cuts the file or makes it longer.
    fn set_size(&self, size: u64) -> io::Result<()>;

    /// Makes what was written durable, and whatever is needed to read it again. The error of a write
    /// that failed in the background comes here, once.
    fn sync(&self) -> io::Result<()>;

    /// Asks the system to forget what it holds of the file in memory.
    fn drop_cache(&self);

    /// The length in bytes.
    fn size(&self) -> io::Result<u64>;

    /// The bytes of disk that it takes.
    fn allocated(&self) -> io::Result<u64>;

    /// Takes the file for this process; false when another has it. Held until the file is dropped.
    fn try_lock(&self) -> io::Result<bool>;

    /// Whether another process has taken the file. Takes nothing, so any number may ask at once.
    fn is_locked(&self) -> io::Result<bool>;

    /// Maps `len` bytes from `position` on for writing. An error where a store into what is allocated may
    /// find no room, and would be a signal: on file systems that copy what is written again.
    fn map(&self, position: u64, len: usize) -> io::Result<Box<dyn Window>>;
}

/// A part of a file in memory. What is written becomes durable with the file's next sync.
pub trait Window: Send {
    /// Writes `bytes` at a position *in the file*, which must lie in the window as a whole.
    fn write_at(&mut self, bytes: &[u8], position: u64);
    /// Whether `len` bytes from `position` on lie in the window.
    fn holds(&self, position: u64, len: usize) -> bool;
}

/// Reads exactly `buf.len()` bytes; a file that ends before is an error of kind `UnexpectedEof`.
pub fn read_exact_at(file: &dyn File, buf: &mut [u8], position: u64) -> io::Result<()> {
    if file.read_at(buf, position)? == buf.len() {
        Ok(())
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

/// The file system, or its user's part of it, has no room for more.
pub fn is_room_missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

/// How often a read of the medium is tried.
pub const READ_TRIES: u32 = 3;

/// Tries to read until it succeeds, [`READ_TRIES`] times: for whoever takes what cannot be read for damage,
/// for good. The error is the last one's.
pub fn persist<T>(mut read: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut tries = 1..READ_TRIES;
    loop {
        match read() {
            Err(_) if tries.next().is_some() => {}
            done => return done,
        }
    }
}

/// Reads from the medium like [`File::read_medium_at`], and page by page where that fails: what cannot be
/// read at all is 0xff, which nothing verifies. Both sizes are whole pages. Returns how much there is.
pub fn read_what_can_be_read(file: &dyn File, buf: &mut [u8], position: u64) -> usize {
    let read = |buf: &mut [u8], at| persist(|| file.read_medium_at(buf, at)).ok();
    if let Some(len) = read(buf, position) {
        return len;
    }
    let (mut at, mut end) = (position, 0);
    for page in buf.chunks_mut(PAGE_SIZE) {
        let len = read(page, at).unwrap_or_else(|| {
            page.fill(0xff);
            page.len()
        });
        at += page.len() as u64;
        if len > 0 {
            end = at - page.len() as u64 - position + len as u64;
        }
    }
    usize::try_from(end).unwrap_or(buf.len())
}
