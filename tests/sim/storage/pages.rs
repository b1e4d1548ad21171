//! Bytes of a file, in pages that copies share until one of them is written.

use std::ops::Range;
use std::sync::Arc;

use forebay::format::PAGE_SIZE;

type Page = [u8; PAGE_SIZE];

static ZEROS: Page = [0; PAGE_SIZE];

/// Bytes of a file. A copy costs next to nothing; a page that is missing holds zeros.
#[derive(Clone, Default)]
pub struct Pages {
    pages: Arc<Vec<Option<Arc<Page>>>>,
    len: usize,
}

/// The parts of a range that lie in one page each: the page, and where in it.
fn parts(range: Range<usize>) -> impl Iterator<Item = (usize, Range<usize>)> {
    let slots = range.start / PAGE_SIZE..range.end.div_ceil(PAGE_SIZE);
    slots.map(move |slot| {
        let at = slot * PAGE_SIZE;
        let end = range.end.min(at + PAGE_SIZE);
        (slot, range.start.max(at) - at..end - at)
    })
}

impl Pages {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Cuts off what is behind `len`, or adds zeros.
    pub fn resize(&mut self, len: usize) {
        if len == self.len {
            return;
        }
        let count = len.div_ceil(PAGE_SIZE);
        Arc::make_mut(&mut self.pages).resize(count, None);
        if len < self.len && !len.is_multiple_of(PAGE_SIZE) {
            self.page_mut(len / PAGE_SIZE)[len % PAGE_SIZE..].fill(0);
        }
        self.len = len;
    }

    /// A page; zeros behind the end.
    pub fn page(&self, slot: usize) -> &Page {
        match self.pages.get(slot) {
            Some(Some(page)) => page,
            _ => &ZEROS,
        }
    }

    fn page_mut(&mut self, slot: usize) -> &mut Page {
        let page = &mut Arc::make_mut(&mut self.pages)[slot];
        Arc::make_mut(page.get_or_insert_with(|| Arc::new(ZEROS)))
    }

    /// The bytes from `at` on.
    pub fn read(&self, at: usize, to: &mut [u8]) {
        assert!(at + to.len() <= self.len);
        let mut done = 0;
        for (slot, part) in parts(at..at + to.len()) {
            let len = part.len();
            to[done..done + len].copy_from_slice(&self.page(slot)[part]);
            done += len;
        }
    }

    pub fn write(&mut self, at: usize, bytes: &[u8]) {
        assert!(at + bytes.len() <= self.len);
        let mut done = 0;
        for (slot, part) in parts(at..at + bytes.len()) {
            let len = part.len();
            self.page_mut(slot)[part].copy_from_slice(&bytes[done..done + len]);
            done += len;
        }
    }

    /// The same as in another file, at the same place.
    pub fn copy(&mut self, other: &Self, range: Range<usize>) {
        assert!(range.end <= self.len && range.end <= other.len);
        for (slot, part) in parts(range) {
            self.page_mut(slot)[part.clone()].copy_from_slice(&other.page(slot)[part]);
        }
    }

    /// The same for a whole page, which both share from then on.
    pub fn share(&mut self, other: &Self, slot: usize) {
        let page = other.pages[slot].clone();
        Arc::make_mut(&mut self.pages)[slot] = page;
    }

    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len];
        self.read(0, &mut bytes);
        bytes
    }

    pub fn from_slice(bytes: &[u8]) -> Self {
        let mut pages = Self::default();
        pages.resize(bytes.len());
        pages.write(0, bytes);
        pages
    }

    /// Where the last byte stands that is not zero.
    pub fn last_used(&self) -> Option<usize> {
        let pages = self.pages.iter().enumerate().rev();
        let mut lasts = pages.filter_map(|(slot, page)| {
            let last = page.as_ref()?.iter().rposition(|byte| *byte != 0)?;
            Some(slot * PAGE_SIZE + last)
        });
        lasts.next()
    }
}
