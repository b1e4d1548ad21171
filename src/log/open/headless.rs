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
        for Headless {
            number,
            file,
            is_good,
        } in std::mem::take(&mut self.headless)
        {
            if let Some(header) = self.header_from_pages(number, &*file) {
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

    /// A file with the header of another one is that one's copy, or its own header was hit and the other's
    /// came to stand there: then its pages are its own.
    pub(super) fn settle_strays(&mut self) {
        for at in 0..self.segments.len() {
            let stored = &self.segments[at];
            let (number, file) = (stored.segment.number, Arc::clone(&stored.segment.file));
            if stored.header.number == number {
                continue;
            }
            if let Some(header) = self.header_from_pages(number, &*file) {
                let all = (0..HEADER_COPIES).collect();
                self.add(number, &file, header, false, all);
                self.segments.swap_remove(at);
            }
        }
    }

    /// Both copies are gone: the first pages that are whole tell what the header said.
    fn header_from_pages(&mut self, number: u32, file: &dyn File) -> Option<SegmentHeader> {
        let store = self.store?;
        let size = file.size().ok()?;
        let newest = self.first_pages(file, store.tag())?;
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

    /// The first page of the newest segment that the file was. Many pages may have been hit: the rest is read
    /// until one is found.
    fn first_pages(&self, file: &dyn File, store: u64) -> Option<PageHeader> {
        let mut buffer = Buffer::new(READ_AHEAD_PAGES as usize * PAGE_SIZE).ok()?;
        let mut first = HEADER_COPIES;
        loop {
            let len = read_what_can_be_read(file, &mut buffer, position(first));
            let pages = buffer[..len].chunks_exact(PAGE_SIZE).zip(first..);
            let belongs = |(page, slot): (&[u8], u32)| {
                PageHeader::decode(page).filter(|header| header.slot == slot)
            };
            let own = pages
                .filter_map(belongs)
                .filter(|header| header.store == store && !self.is_copy(header));
            let newest = own.max_by_key(|header| (header.base, std::cmp::Reverse(header.life)));
            if newest.is_some() || len < buffer.len() || first >= PAGES_MAX {
                return newest;
            }
            first += READ_AHEAD_PAGES;
        }
    }

    /// Whether another segment has that page at the same place: no two write with the same base and life.
    fn is_copy(&self, page: &PageHeader) -> bool {
        let others = self.segments.iter();
        let mut others = others.filter(|stored| stored.segment.base == page.base);
        others.any(|stored| {
            let Ok(mut bytes) = Buffer::new(PAGE_SIZE) else {
                return false;
            };
            let at = position(page.slot);
            let len = read_what_can_be_read(&*stored.segment.file, &mut bytes, at);
            let told = |page: &PageHeader| (page.store, page.base, page.life, page.slot);
            PageHeader::decode(&bytes[..len]).is_some_and(|other| told(&other) == told(page))
        })
    }
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
