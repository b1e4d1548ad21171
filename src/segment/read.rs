//! Reads pages of segments and checks that they are what they should be.

use std::io;

use super::{Segment, position};
use crate::format::{HEADER_COPIES, PAGE_SIZE, PageHeader};
use crate::rules::{Rule, holds};
use crate::storage::{Buffer, persist};

/// How many pages are read at once.
pub const READ_AHEAD_PAGES: u32 = 16;

/// Reads pages through a small buffer.
///
/// A page that verified is kept: at its own place it never changes while its segment has that life. One
/// that did not is read again, since it may have been written in between, unless nobody writes yet.
pub struct PageReader {
    buffer: Buffer,
    store: u64,
    /// Which pages are in the buffer: file's number and life, first slot, how many.
    held: Option<(u32, u64, u32, u32)>,
    /// The last page in the buffer that was checked and belongs there.
    checked: Option<PageHeader>,
    from_medium: bool,
}

impl PageReader {
    /// A reader of the pages of a store, whose id begins with `store`. `from_medium`: around the
    /// page cache, and nobody writes meanwhile. Allocates its buffer.
    pub fn new(store: u64, from_medium: bool) -> io::Result<Self> {
        let buffer = Buffer::new(READ_AHEAD_PAGES as usize * PAGE_SIZE)?;
        Ok(Self {
            buffer,
            store,
            held: None,
            checked: None,
            from_medium,
        })
    }

    /// The page at `slot` if it belongs there: it verifies, names store, segment and slot, and its life
    /// is not below the segment's. Reads ahead, but not to page `end` or beyond.
    pub fn page(
        &mut self,
        segment: &Segment,
        slot: u32,
        end: u32,
    ) -> io::Result<Option<(&PageHeader, &[u8])>> {
        if slot < HEADER_COPIES || slot >= segment.pages {
            return Ok(None);
        }
        let is_checked = self.checked.as_ref().is_some_and(|page| page.slot == slot);
        if !is_checked || !self.holds(segment, slot) {
            self.find(segment, slot, end.min(segment.pages).max(slot + 1))?;
        }
        let header = self.checked.as_ref();
        Ok(header.map(|header| (header, self.bytes(slot))))
    }

    /// Reads a page if it is not held, and checks it.
    fn find(&mut self, segment: &Segment, slot: u32, end: u32) -> io::Result<()> {
        let was_held = self.holds(segment, slot);
        if !was_held {
            self.load(segment, slot, end)?;
        }
        self.checked = self.check(segment, slot);
        // While a store is opened nobody writes, and most of a new segment is not written yet.
        if was_held && !self.from_medium && self.checked.is_none() {
            self.load(segment, slot, end)?;
            self.checked = self.check(segment, slot);
        }
        Ok(())
    }

    /// Forgets what it holds.
    pub fn forget(&mut self) {
        (self.held, self.checked) = (None, None);
    }

    #[inline]
    fn holds(&self, segment: &Segment, slot: u32) -> bool {
        self.held.is_some_and(|(number, life, first, count)| {
            number == segment.number
                && life == segment.life
                && (first..first + count).contains(&slot)
        })
    }

    fn load(&mut self, segment: &Segment, slot: u32, end: u32) -> io::Result<()> {
        self.forget();
        let count = (end - slot).min(READ_AHEAD_PAGES);
        let buf = &mut self.buffer[..count as usize * PAGE_SIZE];
        let len = if self.from_medium {
            persist(|| segment.file.read_medium_at(buf, position(slot)))
        } else {
            segment.file.read_at(buf, position(slot))
        };
        let len = match len {
            Ok(len) => len,
            // One bad block must not hide its neighbours.
            Err(error) if count == 1 => return Err(error),
            Err(_) => return self.load(segment, slot, slot + 1),
        };
        buf[len..].fill(0); // the file ends early: what is missing is not a page
        self.held = Some((segment.number, segment.life, slot, count));
        Ok(())
    }

    /// The bytes of a page that is held.
    #[inline]
    fn bytes(&self, slot: u32) -> &[u8] {
        let first = self.held.map_or(slot, |(_, _, first, _)| first);
        let at = (slot - first) as usize * PAGE_SIZE;
        &self.buffer[at..at + PAGE_SIZE]
    }

    fn check(&self, segment: &Segment, slot: u32) -> Option<PageHeader> {
        let header = PageHeader::decode(self.bytes(slot))?;
        let belongs = (header.store == self.store || !holds(Rule::PageNamesStore))
            && (header.base == segment.base || !holds(Rule::PageNamesBase))
            && (header.slot == slot || !holds(Rule::PageNamesSlot))
            && (header.life >= segment.life || !holds(Rule::PageLife));
        // Where it does not have to name its place it stands where it was found.
        belongs.then_some(PageHeader { slot, ..header })
    }
}
