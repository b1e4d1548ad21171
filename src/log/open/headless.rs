//! Files whose headers do not tell what they are: their pages do.

use std::sync::Arc;

use super::files::{DeadFile, Files, Headless};
use super::{Segment, SegmentHeader};
use crate::clock::Stamp;
use crate::format::{HEADER_COPIES, PAGE_SIZE, PAGES_MAX, PAGES_MIN, PageHeader};
use crate::segment::{READ_AHEAD_PAGES, position};
use crate::storage::{Buffer, File, read_what_can_be_read};

impl Files {
    /// Files without a header become segments if their pages tell what it said.
    pub(super) fn settle_headless(&mut self) {
        let mut all: Vec<_> = std::mem::take(&mut self.headless)
            .into_iter()
            .map(|headless| (self.count_newest(&headless), headless))
            .collect();
        // Of two that say the same the one that has more of it is what they say.
        all.sort_by_key(|(count, headless)| (std::cmp::Reverse(*count), headless.number));
        for (_, headless) in all {
            let Headless {
                number,
                file,
                is_good,
            } = headless;
            if let Some(header) = self.header_from_pages(number, &*file, None) {
                let all = (0..HEADER_COPIES).collect();
                self.add(number, &file, header, is_good, all);
                continue;
            }
            let is_blank = is_blank(&*file);
            let segment = Segment {
                file,
                number,
                base: 0,
                life: 0,
                pages: 0,
                prepared: Stamp::default(),
            };
            self.dead.push(DeadFile { segment, is_blank });
        }
    }

    /// A file with the header of another one is that one's copy, or its own header was hit and the
    /// other's came to stand there: then its pages are its own. And where one copy of the header is gone,
    /// the other may be of what the file was before.
    pub(super) fn settle_strays(&mut self) {
        for at in 0..self.segments.len() {
            let stored = &self.segments[at];
            let (number, file) = (stored.segment.number, Arc::clone(&stored.segment.file));
            let is_own = stored.header.number == number;
            if is_own && stored.bad_copies.is_empty() {
                continue;
            }
            let than = is_own.then_some((stored.header.base, stored.header.life));
            if let Some(header) = self.header_from_pages(number, &*file, than) {
                let all = (0..HEADER_COPIES).collect();
                self.add(number, &file, header, false, all);
                self.segments.swap_remove(at);
            }
        }
    }

    /// Both copies are gone: the first pages that are whole tell what the header said. Or one is: then it
    /// is what pages say that were written over those of the base and the life that the other one names.
    fn header_from_pages(
        &mut self,
        number: u32,
        file: &dyn File,
        than: Option<(u64, u64)>,
    ) -> Option<SegmentHeader> {
        let store = self.store?;
        let size = file.size().ok()?;
        let pages = self.first_pages(number, file, store.tag());
        let newest = newest(&pages)?;
        if than.is_some_and(|than| !is_written_over(&pages, newest, than)) {
            return None;
        }
        log::warn!("segment {number}: both headers are damaged; its pages tell what they said");
        self.life_seen = self.life_seen.max(newest.life);
        let newest_checkpoint = self.checkpoint.newest.as_ref();
        let epoch = self.epoch();
        Some(SegmentHeader {
            store,
            epoch: epoch.max(1),
            base: newest.base,
            life: newest.life,
            number,
            // Also of a file that was cut a header is made that verifies.
            pages: u32::try_from(size / PAGE_SIZE as u64)
                .ok()?
                .clamp(PAGES_MIN, PAGES_MAX),
            prepared: newest.stamp,
            name: newest_checkpoint
                .map(|checkpoint| checkpoint.name.clone())
                .unwrap_or_default(),
        })
    }

    /// From this page on a file has none of its own: where a clean close left off, pages of what the file
    /// was before go on.
    fn end_of(&self, number: u32) -> u32 {
        let newest = self.checkpoint.newest.as_ref().filter(|_| self.is_clean);
        newest
            .filter(|newest| newest.segment == number)
            .map_or(PAGES_MAX, |newest| newest.page)
    }

    /// The first pages of what the file was, up to where they end. Many pages may have been hit: the rest
    /// is read until one is found.
    fn first_pages(&self, number: u32, file: &dyn File, store: u64) -> Vec<PageHeader> {
        let end = self.end_of(number);
        let Ok(mut buffer) = Buffer::new(READ_AHEAD_PAGES as usize * PAGE_SIZE) else {
            return Vec::new();
        };
        let mut first = HEADER_COPIES;
        loop {
            let len = read_what_can_be_read(file, &mut buffer, position(first));
            let pages = buffer[..len].chunks_exact(PAGE_SIZE).zip(first..);
            let belongs = |(page, slot): (&[u8], u32)| {
                let header = PageHeader::decode(page).filter(|header| header.slot == slot);
                // Lives begin with 1.
                header.filter(|header| header.life > 0 && slot < end)
            };
            let own = pages
                .filter_map(belongs)
                .filter(|header| header.store == store && !self.is_of_other(number, header));
            let own: Vec<_> = own.collect();
            if !own.is_empty() || len < buffer.len() || first >= end {
                return own;
            }
            first += READ_AHEAD_PAGES;
        }
    }

    /// How many of the first pages say what the newest of them does.
    fn count_newest(&self, headless: &Headless) -> usize {
        let Some(store) = self.store else {
            return 0;
        };
        let pages = self.first_pages(headless.number, &*headless.file, store.tag());
        let says = |page: &PageHeader| (page.base, page.life);
        newest(&pages).map_or(0, |newest| {
            pages
                .iter()
                .filter(|page| says(page) == says(newest))
                .count()
        })
    }

    /// Whether a page is another file's: no two write with the same base and life, and that one's header
    /// is in its place.
    fn is_of_other(&self, number: u32, page: &PageHeader) -> bool {
        self.segments.iter().any(|other| {
            let Segment { base, life, .. } = other.segment;
            let is_at_home = other.header.number == other.segment.number;
            other.segment.number != number && is_at_home && (base, life) == (page.base, page.life)
        })
    }
}

/// The page that says what a file is, of its first ones.
fn newest(pages: &[PageHeader]) -> Option<&PageHeader> {
    pages
        .iter()
        .max_by_key(|header| (header.base, std::cmp::Reverse(header.life)))
}

/// Whether pages were written over those of a segment of that base and life: from the first on, and after
/// all of them. A page that came to stand in their midst was not.
fn is_written_over(pages: &[PageHeader], newest: &PageHeader, (base, life): (u64, u64)) -> bool {
    let is_first = pages.first().is_some_and(|first| first.base == newest.base);
    let mut before = pages.iter().filter(|page| page.base == base);
    is_first
        && newest.base > base
        && newest.life > life
        && before.all(|page| page.life < newest.life)
}

/// Whether there is nothing but zeros behind the headers: a segment that was never used.
fn is_blank(file: &dyn File) -> bool {
    let Ok(mut buffer) = Buffer::new(READ_AHEAD_PAGES as usize * PAGE_SIZE) else {
        return false;
    };
    let mut at = position(HEADER_COPIES);
    loop {
        match file.read_medium_at(&mut buffer, at) {
            Ok(0) => return true,
            Ok(len) if buffer[..len].iter().all(|byte| *byte == 0) => at += len as u64,
            _ => return false,
        }
    }
}
