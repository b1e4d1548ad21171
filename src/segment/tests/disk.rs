//! A file in memory that remembers what was done to it.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::format::PAGE_SIZE;
use crate::segment::position;
use crate::storage::{File, Window};

#[derive(Default)]
struct Content {
    bytes: Vec<u8>,
    /// First page and count.
    writes: Vec<(u32, u32)>,
    /// The same.
    reads: Vec<(u32, u32)>,
    syncs: u32,
    windows: u32,
    maps_fail: bool,
    syncs_fail: bool,
    /// A page that cannot be read, so many times.
    unreadable: Option<(u32, u32)>,
}

/// Cheap to clone; clones are the same file.
#[derive(Clone)]
pub(super) struct Disk(Arc<Mutex<Content>>);

impl Disk {
    pub(super) fn new(pages: u32) -> Self {
        let bytes = vec![0; pages as usize * PAGE_SIZE];
        Self(Arc::new(Mutex::new(Content {
            bytes,
            ..Content::default()
        })))
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap()
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        self.content().bytes.clone()
    }

    pub(super) fn pages(&self) -> u32 {
        pages(self.content().bytes.len())
    }

    pub(super) fn page(&self, slot: u32) -> Vec<u8> {
        self.content().bytes[at(slot)..][..PAGE_SIZE].to_vec()
    }

    /// The writes since this was last asked.
    pub(super) fn take_writes(&self) -> Vec<(u32, u32)> {
        std::mem::take(&mut self.content().writes)
    }

    /// The reads since this was last asked.
    pub(super) fn take_reads(&self) -> Vec<(u32, u32)> {
        std::mem::take(&mut self.content().reads)
    }

    pub(super) fn syncs(&self) -> u32 {
        self.content().syncs
    }

    pub(super) fn windows(&self) -> u32 {
        self.content().windows
    }

    pub(super) fn allow_maps(&self, allow: bool) {
        self.content().maps_fail = !allow;
    }

    pub(super) fn fail_syncs(&self, fail: bool) {
        self.content().syncs_fail = fail;
    }

    pub(super) fn fail_reads_of(&self, slot: u32, times: u32) {
        self.content().unreadable = Some((slot, times));
    }

    pub(super) fn copy_page(&self, from: u32, to: u32) {
        self.content()
            .bytes
            .copy_within(at(from)..at(from) + PAGE_SIZE, at(to));
    }

    /// What `f` says while the page at `slot` is only half written.
    pub(super) fn with_torn<T>(&self, slot: u32, f: impl FnOnce() -> T) -> T {
        let whole = self.page(slot);
        self.content().bytes[at(slot)..][..512].fill(0xa5);
        let said = f();
        self.content().bytes[at(slot)..][..PAGE_SIZE].copy_from_slice(&whole);
        said
    }
}

fn at(slot: u32) -> usize {
    usize::try_from(position(slot)).unwrap()
}

fn pages(len: usize) -> u32 {
    u32::try_from(len / PAGE_SIZE).unwrap()
}

impl File for Disk {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        let mut content = self.content();
        let start = usize::try_from(position).unwrap().min(content.bytes.len());
        let len = buf.len().min(content.bytes.len() - start);
        content.reads.push((pages(start), pages(len)));
        if let Some((slot, times)) = &mut content.unreadable
            && *times > 0
            && (start..start + len).contains(&at(*slot))
        {
            *times -= 1;
            return Err(io::Error::other("a bad block"));
        }
        buf[..len].copy_from_slice(&content.bytes[start..start + len]);
        Ok(len)
    }

    fn read_medium_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        self.read_at(buf, position)
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let mut content = self.content();
        let start = usize::try_from(position).unwrap();
        let end = start + bytes.len();
        assert!(start.is_multiple_of(PAGE_SIZE) && bytes.len().is_multiple_of(PAGE_SIZE));
        if content.bytes.len() < end {
            content.bytes.resize(end, 0);
        }
        content.bytes[start..end].copy_from_slice(bytes);
        content.writes.push((pages(start), pages(bytes.len())));
        Ok(())
    }

    fn preallocate(&self, size: u64) -> io::Result<()> {
        self.set_size(size)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.content()
            .bytes
            .resize(usize::try_from(size).unwrap(), 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut content = self.content();
        content.syncs += 1;
        if content.syncs_fail {
            return Err(io::Error::other("a sync that fails"));
        }
        Ok(())
    }

    fn drop_cache(&self) {}

    fn size(&self) -> io::Result<u64> {
        Ok(self.content().bytes.len() as u64)
    }

    fn allocated(&self) -> io::Result<u64> {
        self.size()
    }

    fn try_lock(&self) -> io::Result<bool> {
        Ok(true)
    }

    fn is_locked(&self) -> io::Result<bool> {
        Ok(false)
    }

    fn map(&self, position: u64, len: usize) -> io::Result<Box<dyn Window>> {
        let mut content = self.content();
        if content.maps_fail {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        assert!(
            position + len as u64 <= content.bytes.len() as u64,
            "a window ends in the file"
        );
        content.windows += 1;
        Ok(Box::new(Mapped {
            disk: self.clone(),
            position,
            len,
        }))
    }
}

struct Mapped {
    disk: Disk,
    position: u64,
    len: usize,
}

impl Window for Mapped {
    fn write_at(&mut self, bytes: &[u8], position: u64) {
        assert!(self.holds(position, bytes.len()));
        self.disk.write_at(bytes, position).unwrap();
    }

    fn holds(&self, position: u64, len: usize) -> bool {
        let end = self.position + self.len as u64;
        position >= self.position && position + len as u64 <= end
    }
}
