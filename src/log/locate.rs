//! Where in a store's files something stands, or should.

use std::io;
use std::sync::Arc;

use super::Shared;
use crate::format::{HEADER_COPIES, PAGE_SIZE, PageHeader, RecordHeader};
use crate::segment::{PageReader, Segment, position};

/// A place in a segment's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    /// The file's number.
    pub segment: u32,
    /// The byte in it.
    pub byte: u64,
}

/// Finds places. Reads the headers of a segment's pages once, however many of its places are asked for in a
/// row.
pub struct Locator {
    shared: Arc<Shared>,
    pages: PageReader,
    /// The segment that was gone through last, and its pages at their own places.
    seen: Option<(Segment, Vec<PageHeader>)>,
}

impl Locator {
    /// For the segments of these readers.
    pub fn new(shared: Arc<Shared>) -> io::Result<Self> {
        let pages = PageReader::new(shared.store.tag(), false)?;
        Ok(Self {
            shared,
            pages,
            seen: None,
        })
    }

    /// Where the record with that offset begins; where its page does not verify, where that page is, as
    /// well as its neighbours tell. `None`: no segment has it.
    pub fn find(&mut self, offset: u64) -> Option<Spot> {
        let segment = self.shared.find(offset)?.segment;
        let is_seen = self
            .seen
            .as_ref()
            .is_some_and(|(seen, _)| (seen.number, seen.life) == (segment.number, segment.life));
        if !is_seen {
            let headers = self.headers(&segment);
            self.seen = Some((segment.clone(), headers));
        }
        let (_, headers) = self.seen.as_ref()?;
        let at = headers.partition_point(|header| header.first <= offset);
        let before = at.checked_sub(1).map(|at| headers[at]);
        let byte = match before {
            Some(header) if header.end() > offset => {
                let place = self.place_in(&segment, &header, offset);
                position(header.slot) + place
            }
            before => {
                // The first page between its neighbours that does not verify.
                let from = before.map_or(HEADER_COPIES, |header| header.slot + 1);
                let to = headers.get(at).map_or(segment.pages, |header| header.slot);
                let bad = (from..to).find(|slot| !self.verifies(&segment, *slot));
                position(bad.unwrap_or(from))
            }
        };
        Some(Spot {
            segment: segment.number,
            byte,
        })
    }

    /// The headers of all pages at their own places, in order of what they hold.
    fn headers(&mut self, segment: &Segment) -> Vec<PageHeader> {
        let mut headers: Vec<PageHeader> = Vec::new();
        for slot in HEADER_COPIES..segment.pages {
            if let Ok(Some((header, _))) = self.pages.page(segment, slot, segment.pages)
                && !header.is_tail
                && headers.last().is_none_or(|last| last.first <= header.first)
            {
                headers.push(*header);
            }
        }
        headers
    }

    fn verifies(&mut self, segment: &Segment, slot: u32) -> bool {
        matches!(self.pages.page(segment, slot, segment.pages), Ok(Some(_)))
    }

    /// Where in its page a record begins, as far as the lengths of those before it tell.
    fn place_in(&mut self, segment: &Segment, header: &PageHeader, offset: u64) -> u64 {
        let mut place = usize::from(header.start);
        let page = self.pages.page(segment, header.slot, header.slot + 1);
        if let Ok(Some((_, bytes))) = page {
            for _ in header.first..offset {
                let Some(record) = RecordHeader::decode(&bytes[place.min(PAGE_SIZE)..]) else {
                    break;
                };
                place = (place + record.size as usize).min(PAGE_SIZE);
            }
        }
        place as u64
    }
}
