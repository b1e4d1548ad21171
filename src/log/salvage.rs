//! Reads whatever verifies in a directory, whether or not a store opens from it.
//!
//! Nothing is believed but checksums: no checkpoint, no head, no cursor, no mark, no name of a file. Files
//! that were set aside are read, too, and what was delivered or dropped long ago comes out where its
//! segment is still there. What a recycled segment held before is not looked for.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::open::files::{ASIDE_PREFIX, number_aside};
use super::{BatchBuffer, Ended, Ledger, Reader, Shared};
use crate::clock::{Clock, Stamp};
use crate::error::{Code, Error, Result};
use crate::format::{
    Fault, HEADER_COPIES, PAGE_SIZE, PAGES_MAX, PageHeader, SegmentHeader, StoreId,
};
use crate::record::RecordView;
use crate::segment::{READ_AHEAD_PAGES, Segment, file_number, position};
use crate::storage::{Buffer, Dir, File, Storage};

/// Records are read in batches of so many bytes.
const BATCH_BYTES: usize = 1 << 20;

/// A directory of which is read what can be.
pub struct Salvage {
    clock: Arc<dyn Clock>,
    store: StoreId,
    epoch: u64,
    name: String,
    segments: Vec<Segment>,
    notes: Vec<String>,
}

/// What comes out.
pub enum Salvaged<'a> {
    /// A record.
    Record(RecordView<'a>),
    /// The offsets from the first up to the second are not there.
    Missing(u64, u64),
}

/// A file that may be a segment.
struct Candidate {
    file_name: String,
    segment: Segment,
    /// The store's id as far as it is known, and its first half.
    tag: u64,
    header: Option<SegmentHeader>,
}

impl Salvage {
    /// Looks at the files in a directory. Takes no lock and changes nothing.
    pub fn open(path: &Path, storage: &dyn Storage, clock: Arc<dyn Clock>) -> Result<Self> {
        let told = |text: &dyn std::fmt::Display| {
            let text = format!("{}: {text}", path.display());
            Error::text(Code::Io, "read directory", text)
        };
        let dir = storage
            .open_dir(path, false)
            .map_err(|error| told(&error))?;
        let mut names: Vec<String> = dir
            .list()
            .map_err(|error| told(&error))?
            .into_iter()
            .map(|entry| entry.name)
            .filter(|name| file_number(name).is_some() || name.starts_with(ASIDE_PREFIX))
            .collect();
        names.sort_unstable();
        let (mut candidates, mut notes) = (Vec::new(), Vec::new());
        for (number, name) in (1..).zip(names) {
            match candidate(&*dir, &name, number) {
                Ok(Ok(candidate)) => candidates.push(candidate),
                Ok(Err(text)) => notes.push(format!("{name}: {text}")),
                Err(error) => notes.push(format!("{name}: {error}")),
            }
        }
        // Whose most of them are.
        let tags = candidates.iter().map(|candidate| candidate.tag);
        let count = |tag: u64| tags.clone().filter(|other| *other == tag).count();
        let newest = candidates
            .iter()
            .max_by_key(|candidate| (count(candidate.tag), candidate.segment.life));
        let Some(tag) = newest.map(|candidate| candidate.tag) else {
            return Err(told(&"there is nothing that can be read"));
        };
        let (ours, others): (Vec<_>, Vec<_>) = candidates
            .into_iter()
            .partition(|candidate| candidate.tag == tag);
        for other in &others {
            let name = &other.file_name;
            notes.push(format!("{name}: it belongs to another store"));
        }
        let header = ours
            .iter()
            .filter_map(|candidate| candidate.header.clone())
            .max_by_key(|header| header.life);
        let mut id = [0; 16];
        id[..8].copy_from_slice(&tag.to_le_bytes());
        let mut segments: Vec<Segment> = ours.into_iter().map(|ours| ours.segment).collect();
        segments.sort_by_key(|segment| (segment.base, segment.life));
        Ok(Self {
            clock,
            store: header.as_ref().map_or(StoreId(id), |header| header.store),
            epoch: header.as_ref().map_or(0, |header| header.epoch),
            name: header.map_or_else(String::new, |header| header.name.as_str().to_owned()),
            segments,
            notes,
        })
    }

    /// The stream's name, as far as a header tells, and the store's epoch.
    pub fn stream(&self) -> (&str, u64) {
        (&self.name, self.epoch)
    }

    /// Files that are not read, and why.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Calls `each` with all records that verify, by rising offset, each once, and with what lies between
    /// them. The outer error is the medium's or of memory; the inner one what `each` says.
    pub fn read<E>(
        &self,
        mut each: impl FnMut(Salvaged<'_>) -> std::result::Result<(), E>,
    ) -> io::Result<std::result::Result<(), E>> {
        let mut batch = BatchBuffer::new(10_000, BATCH_BYTES, BATCH_BYTES)?;
        let mut done = 0;
        for segment in &self.segments {
            let shared = Shared::new(self.store, self.epoch, 0, 0, Ledger::default());
            let (shared, clock) = (Arc::new(shared), Arc::clone(&self.clock));
            let mut next = segment.base;
            let mut reader = Reader::scan(shared, clock, segment.clone())?;
            loop {
                batch.clear();
                let (ended, after) = reader.read_all(next, &mut batch)?;
                // What an earlier segment had stands here again after a failed sync.
                for entry in batch.entries() {
                    if entry.offset < done {
                        continue;
                    }
                    if entry.offset > done
                        && let Err(error) = each(Salvaged::Missing(done, entry.offset))
                    {
                        return Ok(Err(error));
                    }
                    done = entry.offset + 1;
                    if let Err(error) = each(Salvaged::Record(batch.view(entry))) {
                        return Ok(Err(error));
                    }
                }
                next = after;
                if ended == Ended::CaughtUp {
                    break;
                }
            }
        }
        Ok(Ok(()))
    }
}

/// What a file is; else why nothing is read from it. `number` tells it from the others.
fn candidate(
    dir: &dyn Dir,
    name: &str,
    number: u32,
) -> io::Result<std::result::Result<Candidate, String>> {
    let file = dir.open_to_read(name)?;
    let own = file_number(name).or_else(|| number_aside(name));
    let mut page = Buffer::new(PAGE_SIZE)?;
    let mut header: Option<SegmentHeader> = None;
    for copy in 0..HEADER_COPIES {
        let Ok(len) = file.read_at(&mut page, position(copy)) else {
            continue;
        };
        match SegmentHeader::decode(&page[..len]) {
            Ok(found) => {
                let rank = |header: &SegmentHeader| (Some(header.number) == own, header.life);
                if header.as_ref().is_none_or(|old| rank(old) < rank(&found)) {
                    header = Some(found);
                }
            }
            Err(Fault::Newer(format)) => {
                return Ok(Err(format!("has format {format}, which is newer")));
            }
            _ => {}
        }
    }
    let size = file.size()?;
    let pages = u32::try_from(size.div_ceil(PAGE_SIZE as u64)).unwrap_or(PAGES_MAX);
    let pages = pages.min(PAGES_MAX);
    let candidate = match header {
        Some(header) => Candidate {
            file_name: name.to_owned(),
            tag: header.store.tag(),
            segment: segment(file, number, header.base, header.life, pages),
            header: Some(header),
        },
        None => match first_page(&*file, pages)? {
            None => return Ok(Err("no page in it verifies".to_owned())),
            Some(page) => Candidate {
                file_name: name.to_owned(),
                tag: page.store,
                segment: segment(file, number, page.base, page.life, pages),
                header: None,
            },
        },
    };
    Ok(Ok(candidate))
}

fn segment(file: Arc<dyn File>, number: u32, base: u64, life: u64, pages: u32) -> Segment {
    Segment {
        file,
        number,
        base,
        life,
        pages,
        prepared: Stamp::default(),
    }
}

/// The header of the page of the newest base with the least life: the file's own header said that.
fn first_page(file: &dyn File, pages: u32) -> io::Result<Option<PageHeader>> {
    let mut buffer = Buffer::new(READ_AHEAD_PAGES as usize * PAGE_SIZE)?;
    let mut found: Option<PageHeader> = None;
    let mut slot = HEADER_COPIES;
    while slot < pages {
        let len = file.read_at(&mut buffer, position(slot)).unwrap_or(0);
        for (page, slot) in buffer[..len].chunks_exact(PAGE_SIZE).zip(slot..) {
            let header = PageHeader::decode(page).filter(|header| header.slot == slot);
            found = found.into_iter().chain(header).max_by_key(|header| {
                let life = std::cmp::Reverse(header.life);
                (header.base, life)
            });
        }
        slot += READ_AHEAD_PAGES;
    }
    Ok(found)
}
