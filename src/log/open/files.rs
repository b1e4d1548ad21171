//! What lies in a store's directory, before anything is decided.

use std::io;
use std::sync::Arc;

use super::super::spare::{RESERVED_PREFIX, SPARE_PREFIX};
use super::super::{Aside, Ledger, Shared};
use super::{Segment, SegmentHeader, StoreId, checkpoints, newer};
use crate::error::{Error, Result};
use crate::format::{Fault, HEADER_COPIES, PAGE_SIZE, PAGES_MIN, SEGMENT_HEADER_SIZE, SLOT_COUNT};
use crate::rules::{Rule, holds};
use crate::segment::{self, position};
use crate::storage::{Buffer, Dir, File, persist};

pub(in crate::log) const ASIDE_PREFIX: &str = "damaged-";

/// A segment that was found.
pub(in crate::log) struct StoredSegment {
    /// What its header says.
    pub segment: Segment,
    /// It was synced and its header is whole: it may be written to.
    pub is_good: bool,
    /// The header.
    pub header: SegmentHeader,
    /// Copies of the header that do not say the same.
    pub bad_copies: heapless::Vec<u32, { HEADER_COPIES as usize }>,
}

/// A file that nobody needs. Its life is 0 when it has no header.
pub(in crate::log) struct DeadFile {
    pub segment: Segment,
    /// There is nothing in it.
    pub is_blank: bool,
}

/// What was found.
#[derive(Default)]
pub(in crate::log) struct Files {
    is_owner: bool,
    /// The store's id, if anything tells it.
    pub store: Option<StoreId>,
    /// What the checkpoint's slots say.
    pub checkpoint: checkpoints::Found,
    /// The store was closed cleanly.
    pub is_clean: bool,
    /// Segments, in order.
    pub segments: Vec<StoredSegment>,
    /// Files that are no segments any more, or never were.
    pub dead: Vec<DeadFile>,
    /// Files that were to become segments.
    pub spares: Vec<String>,
    /// Files that were set aside.
    pub aside: Vec<Aside>,
    /// Numbers of files that belong to somebody else.
    pub blocked: Vec<u32>,
    /// Whose they are.
    pub owners: Vec<StoreId>,
    /// The greatest life in pages of segments without a header.
    pub life_seen: u64,
    /// Files with a segment's name and no header that verifies.
    pub(super) headless: Vec<Headless>,
}

/// A file without a header: whether it is a segment of this store is told when it is known which that is.
pub(super) struct Headless {
    pub(super) number: u32,
    pub(super) file: Arc<dyn File>,
    pub(super) is_good: bool,
}

/// Looks at everything. The owner's look makes durable whatever is there, and reads the medium; other
/// processes read what the owner sees, and touch nothing.
pub(in crate::log) fn look(dir: &dyn Dir, is_owner: bool) -> Result<Files> {
    if is_owner && holds(Rule::OpenSyncsDirectory) {
        dir.sync()
            .map_err(|error| Error::io("sync directory", error))?;
    }
    let open = |name: &str| {
        if is_owner {
            dir.open(name)
        } else {
            dir.open_to_read(name)
        }
    };
    let mut files = Files {
        is_owner,
        ..Files::default()
    };
    match open(checkpoints::FILE_NAME) {
        Ok(file) => files.read_checkpoint(&*file)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            files.checkpoint.lost = SLOT_COUNT;
        }
        Err(error) => return Err(Error::io("open checkpoint", error)),
    }
    let list = dir
        .list()
        .map_err(|error| Error::io("list directory", error))?;
    let mut numbers: Vec<u32> = list
        .iter()
        .filter_map(|entry| segment::file_number(&entry.name))
        .collect();
    numbers.sort_unstable();
    let is_spare = |name: &str| name.starts_with(SPARE_PREFIX) || name.starts_with(RESERVED_PREFIX);
    let spares = list.iter().map(|entry| &entry.name);
    files.spares = spares.filter(|name| is_spare(name)).cloned().collect();
    // Those that are ready first.
    files.spares.sort_unstable();
    let aside = list
        .iter()
        .filter(|entry| entry.name.starts_with(ASIDE_PREFIX));
    files.aside = aside
        .map(|entry| Aside::new(&entry.name, entry.allocated))
        .collect();
    for number in numbers {
        let name = segment::file_name(number);
        match open(&name) {
            Ok(file) => files.read_segment(number, &file, &name)?,
            // The owner has removed it since.
            Err(error) if !is_owner && error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io("open segment", error)),
        }
    }
    files.settle_store();
    files.settle_strays();
    files.settle_headless();
    Ok(files)
}

/// The generation of the newest checkpoint, as another process sees it.
pub(in crate::log) fn generation(dir: &dyn Dir) -> Option<u64> {
    let file = dir.open_to_read(checkpoints::FILE_NAME).ok()?;
    let found = checkpoints::read(&*file, false).ok()?.ok()?;
    Some(found.newest.map_or(0, |newest| newest.generation))
}

impl Files {
    fn read_checkpoint(&mut self, file: &dyn File) -> Result<()> {
        if self.is_owner
            && let Err(error) = settle(file)
        {
            // What stands in the cache may not be on the medium; it is read from there.
            log::warn!("sync checkpoint failed: {error}");
        }
        let found = checkpoints::read(file, self.is_owner)
            .map_err(|error| Error::io("read checkpoint", error))?;
        self.checkpoint = found.map_err(|format| newer("the checkpoint", format))?;
        let newest = self.checkpoint.newest.as_ref();
        self.store = newest.map(|newest| newest.store);
        self.is_clean = newest.is_some_and(|newest| newest.is_clean)
            && (self.checkpoint.lost == 0 || !holds(Rule::CleanNeedsAllSlots));
        Ok(())
    }

    fn read_segment(&mut self, number: u32, file: &Arc<dyn File>, name: &str) -> Result<()> {
        let mut is_good = true;
        if self.is_owner
            && !self.is_clean
            && let Err(error) = settle(&**file)
        {
            log::warn!("sync {name} failed: {error}");
            is_good = false;
        }
        let mut headers = [None, None];
        for (copy, found) in (0..HEADER_COPIES).zip(&mut headers) {
            match self.read_header(&**file, copy) {
                Ok(Ok(header)) => *found = Some(header),
                Ok(Err(Fault::Newer(format))) => return Err(newer(name, format)),
                Ok(Err(Fault::Invalid)) => {}
                Err(error) => {
                    log::warn!("read header of {name} failed: {error}");
                    is_good = false;
                }
            }
        }
        // A page of another segment may have come to stand here.
        let newest = headers
            .iter()
            .flatten()
            .max_by_key(|header| match holds(Rule::HeaderNewest) {
                true => (header.number == number, header.life),
                false => (false, 0),
            })
            .cloned();
        let Some(header) = newest else {
            self.headless.push(Headless {
                number,
                file: Arc::clone(file),
                is_good,
            });
            return Ok(());
        };
        let copies = (0..HEADER_COPIES).zip(&headers);
        let bad = copies.filter(|(_, copy)| {
            copy.as_ref() != Some(&header)
                || !holds(Rule::HeaderRepairKeeps) && headers[0] != headers[1]
        });
        let bad_copies = bad.map(|(copy, _)| copy).collect();
        self.add(number, file, header, is_good, bad_copies);
        Ok(())
    }

    pub(super) fn add(
        &mut self,
        number: u32,
        file: &Arc<dyn File>,
        header: SegmentHeader,
        is_good: bool,
        bad_copies: heapless::Vec<u32, { HEADER_COPIES as usize }>,
    ) {
        // A file that was cut has no pages behind its end, whatever its header says.
        let pages = file
            .size()
            .map_or(u64::MAX, |size| size.div_ceil(PAGE_SIZE as u64));
        let pages = u32::try_from(pages).unwrap_or(u32::MAX);
        let segment = Segment {
            file: Arc::clone(file),
            number,
            base: header.base,
            life: header.life,
            pages: header.pages.min(pages).max(PAGES_MIN),
            prepared: header.prepared,
        };
        let is_good = is_good && header.number == number;
        self.segments.push(StoredSegment {
            segment,
            is_good,
            header,
            bad_copies,
        });
    }

    fn read_header(&self, file: &dyn File, copy: u32) -> io::Result<Result<SegmentHeader, Fault>> {
        if self.is_clean {
            // All of a large store's headers are read in a moment.
            let mut bytes = [0; SEGMENT_HEADER_SIZE];
            let len = file.read_at(&mut bytes, position(copy))?;
            return Ok(SegmentHeader::decode(&bytes[..len]));
        }
        let mut page = Buffer::new(PAGE_SIZE)?;
        let len = persist(|| file.read_medium_at(&mut page, position(copy)))?;
        Ok(SegmentHeader::decode(&page[..len]))
    }

    /// Whose store this is; segments of another one are left alone.
    fn settle_store(&mut self) {
        if self.store.is_none() {
            // A file from elsewhere may be among them: most of them tell, and then the newest.
            let stores = self.segments.iter().map(|stored| stored.header.store);
            let count = |store| stores.clone().filter(|other| *other == store).count();
            let newest = self
                .segments
                .iter()
                .max_by_key(|stored| (count(stored.header.store), stored.header.life));
            self.store = newest.map(|stored| stored.header.store);
        }
        let store = self.store;
        let (ours, foreign): (Vec<_>, Vec<_>) = std::mem::take(&mut self.segments)
            .into_iter()
            .partition(|stored| Some(stored.header.store) == store);
        for stored in &foreign {
            log::warn!(
                "{:?} belongs to store {}: left alone",
                stored.segment,
                stored.header.store
            );
        }
        self.blocked
            .extend(foreign.iter().map(|stored| stored.segment.number));
        self.owners = foreign.iter().map(|stored| stored.header.store).collect();
        self.segments = ours;
    }

    /// Nothing is there, and never was.
    pub fn is_new(&self) -> bool {
        self.checkpoint.newest.is_none() && self.segments.is_empty()
    }

    /// Nothing is left that says what the last run handed out.
    pub fn is_run_unknown(&self) -> bool {
        !self.is_new() && (self.checkpoint.newest.is_none() || self.checkpoint.lost > 1)
    }

    /// Puts the segments in order and takes out those that nobody needs: the next one begins at or
    /// below the head, or where they begin, because it replaced them.
    pub fn order(&mut self, head: u64) {
        // Of two files that say the same one is a copy, maybe an old one: the one in its place counts.
        self.segments.sort_by_key(|stored| {
            let Segment { base, life, .. } = stored.segment;
            (base, life, stored.header.number == stored.segment.number)
        });
        let mut at = 0;
        while at + 1 < self.segments.len() {
            let (base, next) = (
                self.segments[at].segment.base,
                self.segments[at + 1].segment.base,
            );
            if next <= head || next == base && holds(Rule::ReplacedGoes) {
                let gone = self.segments.remove(at);
                self.dead.push(DeadFile {
                    segment: gone.segment,
                    is_blank: false,
                });
            } else {
                at += 1;
            }
        }
    }

    /// What readers of these segments share; nothing is durable in it yet.
    pub fn shared(&self, store: StoreId, epoch: u64) -> Shared {
        let last = self.checkpoint.newest.as_ref();
        let head = last.map_or(0, |last| last.head);
        let ledger = last
            .map(|last| Ledger::from_checkpoint(&last.ledger))
            .unwrap_or_default();
        let mut shared = Shared::new(store, epoch, 0, head, ledger);
        shared.set_before(last.map(|last| last.written).unwrap_or_default());
        shared.with_table(|table| {
            self.segments
                .iter()
                .for_each(|stored| table.push(stored.segment.clone()));
            self.blocked.iter().for_each(|number| table.block(*number));
        });
        if let Some(last) = last {
            shared.sources().clone_from(&last.sources);
        }
        shared
    }

    /// The epoch that the newest of them says; 0 when nothing does.
    pub fn epoch(&self) -> u64 {
        let headers = self.segments.iter().map(|stored| stored.header.epoch);
        let last = self.checkpoint.newest.as_ref().map(|last| last.epoch);
        headers.chain(last).max().unwrap_or(0)
    }

    /// The last segment may be written to.
    pub fn is_last_good(&self) -> bool {
        self.segments.last().is_some_and(|stored| stored.is_good)
    }

    /// Makes the copies of each header equal again. Returns how many were not.
    pub fn repair(&mut self) -> u32 {
        let mut repaired = 0;
        for stored in &mut self.segments {
            if stored.bad_copies.is_empty() || !holds(Rule::HeaderRepaired) {
                continue;
            }
            repaired += 1;
            let file = &*stored.segment.file;
            let copies = stored.bad_copies.iter();
            let mut writes =
                copies.map(|copy| segment::write_header_copy(file, &stored.header, *copy));
            let written = writes
                .try_for_each(|written| written)
                .and_then(|()| file.sync());
            if let Err(error) = written {
                log::warn!("repair header of {:?} failed: {error}", stored.segment);
                file.drop_cache();
                stored.is_good = false;
            }
        }
        repaired
    }
}

/// Makes durable what stands in the cache, and forgets what could not be.
fn settle(file: &dyn File) -> io::Result<()> {
    let done = match holds(Rule::OpenSyncsFiles) {
        true => file.sync(),
        false => Ok(()),
    };
    if holds(Rule::OpenDropsCaches) {
        file.drop_cache();
    }
    done
}

/// What a file is called that is kept because it makes no sense. The life makes the name new.
pub(in crate::log) fn aside_name(number: u32, life: u64) -> String {
    format!("{ASIDE_PREFIX}{number:06}-{life}")
}

/// The number that such a file had as a segment.
pub(in crate::log) fn number_aside(name: &str) -> Option<u32> {
    let (number, _) = name.strip_prefix(ASIDE_PREFIX)?.split_once('-')?;
    number.parse().ok()
}
