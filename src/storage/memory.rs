//! Memory that is taken once and stays where it is.

use std::fs::File;
use std::io;
use std::ops::{Deref, DerefMut};
use std::slice;
use std::sync::atomic::AtomicU64;

use memmap2::{MmapMut, MmapOptions, MmapRaw};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap};

/// Bytes that never move: private to the process, shared with others, or private in front and shared behind.
///
/// Untouched pages take no RAM. See the parent module for who may look at it, and how.
#[derive(Debug)]
pub struct Memory {
    raw: MmapRaw,
}

impl Memory {
    /// `len` zero bytes of this process.
    pub fn private(len: usize) -> io::Result<Self> {
        Ok(Self {
            raw: MmapMut::map_anon(len)?.into(),
        })
    }

    /// Makes the first `len` bytes, in whole pages, zeros in each process that is forked from this one.
    /// Private memory only. Linux has it since 4.14.
    pub fn wipe_on_fork(&self, len: usize) -> io::Result<()> {
        assert!(len <= self.len());
        // SAFETY: the pages are mapped while `self` lives, and nothing changes in this process.
        let done = unsafe { madvise(self.as_ptr().cast(), len, Advice::LinuxWipeOnFork) };
        Ok(done?)
    }

    /// The first `len` bytes of a file in memory, which others may map too.
    pub(super) fn of_file(file: &File, len: usize) -> io::Result<Self> {
        Ok(Self {
            raw: MmapOptions::new().len(len).map_raw(file)?,
        })
    }

    /// `front` zero bytes of this process, and behind them the first `len` bytes of a file in memory.
    pub(super) fn of_file_behind(front: usize, file: &File, len: usize) -> io::Result<Self> {
        assert!(front.is_multiple_of(super::PAGE_SIZE) && len > 0);
        let memory = Self::private(front + len)?;
        // SAFETY: the front is a part of the mapping.
        let at = unsafe { memory.as_ptr().add(front) };
        let (access, flags) = (
            ProtFlags::READ | ProtFlags::WRITE,
            MapFlags::SHARED | MapFlags::FIXED,
        );
        // SAFETY: what is replaced are pages of `memory` behind its front, which nobody has seen yet; they
        // are unmapped with the rest of it.
        unsafe { mmap(at.cast(), len, access, flags, file, 0) }?;
        Ok(memory)
    }

    /// The first byte. Valid for [`len`](Self::len) bytes as long as `self` lives.
    pub fn as_ptr(&self) -> *mut u8 {
        self.raw.as_mut_ptr()
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.raw.len()
    }

    /// Never true: memory of no length cannot be had.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of it as words that any thread or process may read and write at any time.
    #[allow(clippy::cast_ptr_alignment)] // aligned to a page
    pub fn words(&self) -> &[AtomicU64] {
        let words = self.as_ptr().cast::<AtomicU64>();
        // SAFETY: the memory is valid and mapped writable for `len` bytes while `self` is borrowed, is
        // aligned to a page, and every bit pattern is a valid word. Whoever reaches the same bytes by
        // `as_ptr` uses atomics for them too, or is the ring, which never lends its memory as words.
        unsafe { slice::from_raw_parts(words, self.len() / size_of::<AtomicU64>()) }
    }
}

/// Plain bytes for one owner, aligned to a page so that they can be read into from the medium. Zero when
/// new; what was never touched takes no RAM.
#[derive(Debug)]
pub struct Buffer(MmapMut);

impl Buffer {
    /// `len` zero bytes.
    pub fn new(len: usize) -> io::Result<Self> {
        Ok(Self(MmapMut::map_anon(len)?))
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering;

    #[test]
    fn private_memory_is_zero_and_aligned() {
        let memory = Memory::private(10_000).expect("a few pages can be had");
        assert_eq!(memory.as_ptr().align_offset(super::super::PAGE_SIZE), 0);
        assert_eq!(memory.words().len(), 1250);
        assert!(
            memory
                .words()
                .iter()
                .all(|word| word.load(Ordering::Relaxed) == 0)
        );
    }
}
