//! Segments over a file in memory.

use std::collections::BTreeMap;

use super::*;
use crate::clock::Stamp;
use crate::format::{
    PAGE_BODY_SIZE, PAGE_HEADER_SIZE, PageHeader, RECORD_HEADER_SIZE, RecordHeader, Seal, StoreId,
};

mod disk;
mod read;
mod write;

use disk::Disk;

const STORE: StoreId = StoreId(*b"0123456789abcdef");
const PAGES: u32 = 64;
const BASE: u64 = 1000;

/// Bytes that follow from the offset.
fn body(offset: u64, len: usize) -> Vec<u8> {
    (0..len as u64)
        .map(|at| (offset * 31 + at * 7).to_le_bytes()[0] | 1)
        .collect()
}

fn stamp(mono_ms: u64) -> Stamp {
    Stamp {
        boot: 7,
        mono_ms,
        wall_ms: 1_800_000_000_000 + mono_ms,
    }
}

/// A segment, its writer, and what was appended.
struct Bench {
    disk: Disk,
    writer: SegmentWriter,
    bodies: BTreeMap<u64, Vec<u8>>,
    next: u64,
}

impl Bench {
    fn new(io: Io, life: u64) -> Self {
        Self::on(Disk::new(PAGES), io, life)
    }

    /// A segment that is prepared under `life` on what is there.
    fn on(disk: Disk, io: Io, life: u64) -> Self {
        let segment = Segment {
            file: Arc::new(disk.clone()),
            number: 1,
            base: BASE,
            life,
            pages: disk.pages(),
            prepared: Stamp::default(),
        };
        let writer =
            SegmentWriter::new(io, STORE, segment, HEADER_COPIES, life, BASE, BASE).unwrap();
        Self {
            disk,
            writer,
            bodies: BTreeMap::new(),
            next: BASE,
        }
    }

    fn append(&mut self, len: usize) {
        self.append_at(len, stamp(5000));
    }

    fn append_at(&mut self, len: usize, stamp: Stamp) {
        let body = body(self.next, len);
        let (offset, key_len) = (self.next, u16::try_from(len.min(3)).unwrap());
        let draft = Draft {
            offset,
            time_ms: offset * 2,
            extra_len: 0,
            key_len,
            body: &body,
        };
        self.writer.append(&draft, stamp).unwrap();
        self.bodies.insert(offset, body);
        self.next += 1;
    }

    fn sync(&mut self) {
        self.writer.flush(false).unwrap();
        self.writer.sync().unwrap();
    }

    /// The headers of all pages that belong to the segment.
    fn headers(&self) -> Vec<PageHeader> {
        let segment = self.writer.segment();
        let mut reader = PageReader::new(STORE.tag(), false).unwrap();
        let pages = (0..PAGES).map(|slot| {
            reader
                .page(segment, slot, PAGES)
                .unwrap()
                .map(|page| *page.0)
        });
        pages.flatten().collect()
    }

    /// Every record that verifies somewhere, in a simpler way than the log reads them.
    fn records(&self) -> BTreeMap<u64, Vec<u8>> {
        let pages: Vec<_> = self
            .headers()
            .into_iter()
            .map(|header| (header, self.disk.page(header.slot)))
            .collect();
        let mut records = BTreeMap::new();
        for (header, bytes) in &pages {
            let mut at = usize::from(header.start);
            for offset in header.first..header.end() {
                let record = RecordHeader::decode(&bytes[at..]).unwrap();
                let size = record.size as usize;
                let mut whole = bytes[at..PAGE_SIZE.min(at + size)].to_vec();
                let goes_on = |header: &PageHeader, done| {
                    (header.first, header.carried as usize) == (offset + 1, done)
                };
                // The part that comes next, in any version of the page that has it.
                while let Some((_, part)) = pages
                    .iter()
                    .find(|(header, _)| whole.len() < size && goes_on(header, whole.len()))
                {
                    let rest = (size - whole.len()).min(PAGE_BODY_SIZE);
                    whole.extend(&part[PAGE_HEADER_SIZE..PAGE_HEADER_SIZE + rest]);
                }
                if Seal::new(STORE.tag(), header.life).verifies(offset, &whole) {
                    records.insert(offset, whole.split_off(RECORD_HEADER_SIZE));
                }
                at += size;
            }
        }
        records
    }

    fn check(&self) {
        assert!(
            self.records() == self.bodies,
            "what is read is not what was appended"
        );
    }
}
