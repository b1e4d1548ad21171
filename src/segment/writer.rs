//! The segment being written, and the page being filled.

use std::io;

use super::{PAD_FROM, STAGE_PAGES, Segment, TAIL_SLOTS, WINDOW_SIZE, position};
use crate::clock::Stamp;
use crate::format::{
    HEADER_COPIES, PAGE_HEADER_SIZE, PAGE_SIZE, PageHeader, RECORD_HEADER_SIZE, RecordHeader, Seal,
    StoreId, record_size,
};
use crate::rules::{Rule, holds};
use crate::storage::{Buffer, Window};

/// A record's stamp may differ from its page's by so much time of day before a page is begun anew.
const WALL_DRIFT_MAX_MS: u64 = 1000;

/// How pages get into the file. The bytes are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Io {
    /// By positional writes of as many pages as there are.
    Write,
    /// By stores into a mapped window.
    Map,
}

/// A record to append.
#[derive(Clone, Copy, Debug)]
pub struct Draft<'a> {
    /// Its number: one more than that of the record before it in this segment's life.
    pub offset: u64,
    /// When it happened.
    pub time_ms: u64,
    /// The bytes of properties and source in the body.
    pub extra_len: u16,
    /// The bytes of the key in the body.
    pub key_len: u16,
    /// Extra, key and payload.
    pub body: &'a [u8],
}

/// The segment being written, and the page being filled.
#[allow(clippy::struct_excessive_bools)] // four facts that change apart from each other
pub struct SegmentWriter {
    io: Io,
    window: Option<Box<dyn Window>>,
    segment: Segment,
    life: u64,
    mark: u64,
    seal: Seal,
    /// Closed pages that are not written yet, then the page being filled.
    stage: Buffer,
    staged: usize,
    page: PageHeader,
    /// The stamp of the last record in it, if it has one: it goes along with the page's.
    agreed: Stamp,
    /// How much of the page being filled is used, its header included.
    fill: usize,
    /// The page being filled holds something that no version of it on the way to the medium does.
    is_unwritten: bool,
    /// Something was written since the last sync.
    is_unsynced: bool,
    /// A version was written to a tail slot since the last sync.
    is_tail_used: bool,
    /// Versions that became durable.
    version: u32,
    /// Pages closed since the last sync.
    closed: u32,
    pad_from: u32,
    /// Nothing of the segment's present life is durable but its header.
    is_fresh: bool,
    written_bytes: u64,
}

impl SegmentWriter {
    /// A writer that goes on in `segment` at page `slot` under `life`, with the record `next`.
    ///
    /// Allocates its stage, once: [`turn_to`](Self::turn_to) moves it to the next segment.
    pub fn new(
        io: Io,
        store: StoreId,
        segment: Segment,
        slot: u32,
        life: u64,
        next: u64,
        mark: u64,
    ) -> io::Result<Self> {
        let tag = store.tag();
        let mut writer = Self {
            io,
            window: None,
            life,
            mark,
            seal: Seal::new(tag, life),
            stage: Buffer::new(STAGE_PAGES * PAGE_SIZE)?,
            staged: 0,
            page: PageHeader {
                store: tag,
                ..PageHeader::default()
            },
            agreed: Stamp::default(),
            fill: 0,
            is_unwritten: false,
            is_unsynced: false,
            is_tail_used: false,
            version: 0,
            closed: 0,
            pad_from: PAD_FROM,
            is_fresh: true,
            written_bytes: 0,
            segment,
        };
        let segment = writer.segment.clone();
        writer.turn_to(segment, slot, life, next);
        Ok(writer)
    }

    /// Goes on in another segment, at page `slot` under `life`, with the record `next`.
    pub fn turn_to(&mut self, segment: Segment, slot: u32, life: u64, next: u64) {
        assert!(slot >= HEADER_COPIES && slot <= segment.pages);
        assert!(life >= segment.life, "lives never decrease along a segment");
        self.window = None;
        self.life = life;
        self.seal = Seal::new(self.page.store, life);
        self.staged = 0;
        self.is_unsynced = false;
        self.is_tail_used = false;
        self.version = 0;
        self.closed = 0;
        self.is_fresh = slot == HEADER_COPIES;
        self.page = PageHeader {
            store: self.page.store,
            base: segment.base,
            life,
            slot,
            ..PageHeader::default()
        };
        self.segment = segment;
        self.begin_page(next, 0);
    }

    /// The segment.
    pub fn segment(&self) -> &Segment {
        &self.segment
    }

    /// Nothing that was appended to the segment is durable.
    pub fn is_fresh(&self) -> bool {
        self.is_fresh
    }

    /// The page in which writing goes on: pages from here on were never written in this life.
    pub fn end_slot(&self) -> u32 {
        self.page.slot
    }

    /// There is something that a sync would make durable.
    pub fn is_dirty(&self) -> bool {
        self.is_unsynced || self.is_unwritten || self.staged > 0
    }

    /// The bytes handed to the file since this was last asked.
    pub fn take_written_bytes(&mut self) -> u64 {
        std::mem::take(&mut self.written_bytes)
    }

    /// Whether there is a page to go on in.
    pub fn has_page(&self) -> bool {
        self.page.slot < self.segment.pages
    }

    /// Whether a record with such a body fits into what is left of the segment, if it is appended then.
    #[inline]
    pub fn fits(&self, body_len: usize, stamp: Stamp) -> bool {
        if !self.has_page() {
            return false;
        }
        let room = PAGE_SIZE - self.fill;
        // A stamp that does not go along with the page's begins another page.
        let is_open = room >= RECORD_HEADER_SIZE && self.agrees(stamp);
        let here = if is_open { room } else { 0 };
        let behind = (self.segment.pages - self.page.slot - 1) as usize;
        record_size(body_len) <= here + behind * (PAGE_SIZE - PAGE_HEADER_SIZE)
    }

    /// Appends a record. It is durable after the next [`flush`](Self::flush) and [`sync`](Self::sync).
    ///
    /// Writes whole pages when the stage is full. Allocates nothing.
    #[inline]
    pub fn append(&mut self, record: &Draft<'_>, stamp: Stamp) -> io::Result<()> {
        debug_assert!(self.fits(record.body.len(), stamp), "the log asks first");
        if PAGE_SIZE - self.fill < RECORD_HEADER_SIZE || !self.agrees(stamp) {
            self.close_page(record.offset, 0)?;
        }
        if self.page.count == 0 {
            self.page.stamp = stamp;
        }
        assert_eq!(record.offset, self.page.end(), "the log is in order");
        self.page.count += 1;
        self.agreed = stamp;
        let header = self.record_header(record, stamp);
        let size = record_size(record.body.len());
        if self.fill + size <= PAGE_SIZE {
            let at = self.staged * PAGE_SIZE + self.fill;
            let bytes = &mut self.stage[at..at + size];
            header.encode_to(bytes);
            bytes[RECORD_HEADER_SIZE..].copy_from_slice(record.body);
            // From here, where it has just been copied to, it is read faster than from the ring.
            let sum = self.seal.checksum(record.offset, &[&bytes[4..]]);
            if let Some(place) = bytes.first_chunk_mut() {
                *place = sum.to_le_bytes();
            }
            self.fill += size;
        } else {
            let mut bytes = [0; RECORD_HEADER_SIZE];
            header.encode_to(&mut bytes);
            let sum = self
                .seal
                .checksum(record.offset, &[&bytes[4..], record.body]);
            bytes[..4].copy_from_slice(&sum.to_le_bytes());
            self.append_over_pages(record, &bytes, stamp)?;
        }
        self.is_unwritten = true;
        Ok(())
    }

    /// Offsets up to `first` hold nothing: the next record has that one.
    pub fn skip(&mut self, first: u64) -> io::Result<()> {
        assert!(first >= self.page.end(), "the log is in order");
        if self.page.count == 0 && self.page.carried == 0 {
            self.page.first = first;
            return Ok(());
        }
        self.close_page(first, 0)
    }

    /// Appends a record that goes on in later pages.
    fn append_over_pages(
        &mut self,
        record: &Draft<'_>,
        header: &[u8; RECORD_HEADER_SIZE],
        stamp: Stamp,
    ) -> io::Result<()> {
        let mut done = 0;
        self.copy(record, header, stamp, &mut done)?;
        self.copy(record, record.body, stamp, &mut done)?;
        // The page in which it ended was begun by it.
        self.page.start = offset_in_page(self.fill);
        Ok(())
    }

    /// A record's header but for the checksum.
    #[inline]
    fn record_header(&self, record: &Draft<'_>, stamp: Stamp) -> RecordHeader {
        let delta_ms = stamp.mono_ms - self.page.stamp.mono_ms;
        RecordHeader {
            checksum: 0,
            size: u32::try_from(record_size(record.body.len())).unwrap_or(u32::MAX),
            time_ms: record.time_ms,
            delta_ms: u32::try_from(delta_ms).unwrap_or(u32::MAX),
            key_len: record.key_len,
            extra_len: record.extra_len,
        }
    }

    /// Copies a part of a record behind the `done` bytes before it, over as many pages as it takes.
    fn copy(
        &mut self,
        record: &Draft<'_>,
        mut part: &[u8],
        stamp: Stamp,
        done: &mut u32,
    ) -> io::Result<()> {
        while !part.is_empty() {
            if self.fill == PAGE_SIZE {
                self.close_page(record.offset + 1, *done)?;
                // Until a record starts there, what goes on there says when.
                self.page.stamp = stamp;
            }
            let (now, later) = part.split_at(part.len().min(PAGE_SIZE - self.fill));
            let at = self.staged * PAGE_SIZE + self.fill;
            self.stage[at..at + now.len()].copy_from_slice(now);
            self.fill += now.len();
            *done += u32::try_from(now.len()).unwrap_or(u32::MAX);
            part = later;
        }
        Ok(())
    }

    /// Whether a record of that stamp can count from the page's: same boot, and the time of day goes
    /// along with it.
    #[inline]
    fn agrees(&self, stamp: Stamp) -> bool {
        // Records that were taken from the ring together have the same.
        self.page.count == 0 || stamp == self.agreed || self.is_near(stamp)
    }

    #[inline(never)]
    fn is_near(&self, stamp: Stamp) -> bool {
        let page = self.page.stamp;
        let Some(delta) = stamp.mono_ms.checked_sub(page.mono_ms) else {
            return false;
        };
        let wall_agrees = match (page.wall_ms, stamp.wall_ms) {
            (0, 0) => true,
            (0, _) | (_, 0) => false,
            (then, now) => now.abs_diff(then + delta) <= WALL_DRIFT_MAX_MS,
        };
        stamp.boot == page.boot && u32::try_from(delta).is_ok() && wall_agrees
    }

    /// Closes the page being filled. The next one begins with the record `first`, behind `carried` bytes
    /// of the one before it.
    fn close_page(&mut self, first: u64, carried: u32) -> io::Result<()> {
        self.seal_page();
        self.staged += 1;
        self.closed += 1;
        self.page.slot += 1;
        if self.staged == STAGE_PAGES {
            self.write_stage()?;
        }
        self.begin_page(first, carried);
        Ok(())
    }

    /// Puts the header on the page being filled.
    fn seal_page(&mut self) {
        self.page.mark = match holds(Rule::PageMarkAfterSync) {
            true => self.mark,
            false => self.page.end(),
        };
        self.page.encode(&mut self.stage[self.staged * PAGE_SIZE..]);
    }

    fn begin_page(&mut self, first: u64, carried: u32) {
        let at = self.staged * PAGE_SIZE;
        self.stage[at..at + PAGE_SIZE].fill(0);
        self.page.first = first;
        self.page.carried = carried;
        self.page.count = 0;
        // A page that only goes on with a record has no place where one starts, until that one ends.
        let start = if carried > 0 {
            PAGE_SIZE
        } else {
            PAGE_HEADER_SIZE
        };
        self.page.start = offset_in_page(start);
        self.fill = PAGE_HEADER_SIZE;
        self.is_unwritten = false;
    }

    /// Writes the closed pages to their places.
    fn write_stage(&mut self) -> io::Result<()> {
        if self.staged == 0 {
            return Ok(());
        }
        let count = u32::try_from(self.staged).unwrap_or(u32::MAX);
        self.write(self.staged * PAGE_SIZE, 0, self.page.slot - count)?;
        // The page being filled moves to the front.
        if self.staged < STAGE_PAGES {
            let at = self.staged * PAGE_SIZE;
            self.stage.copy_within(at..at + PAGE_SIZE, 0);
        }
        self.staged = 0;
        Ok(())
    }

    /// Writes `len` bytes of the stage from `at` on to the pages from `slot` on.
    fn write(&mut self, len: usize, at: usize, slot: u32) -> io::Result<()> {
        self.is_unsynced = true;
        self.written_bytes += len as u64;
        if self.io == Io::Write {
            return self
                .segment
                .file
                .write_at(&self.stage[at..at + len], position(slot));
        }
        let mut done = 0;
        while done < len {
            let target = position(slot) + done as u64;
            let start = target - target % WINDOW_SIZE as u64;
            if !self
                .window
                .as_ref()
                .is_some_and(|window| window.holds(target, 1))
            {
                let rest = position(self.segment.pages) - start;
                let size = usize::try_from(rest).map_or(WINDOW_SIZE, |rest| rest.min(WINDOW_SIZE));
                self.window = None;
                self.window = self.segment.file.map(start, size).ok();
            }
            let room = start + WINDOW_SIZE as u64 - target;
            let now = usize::try_from(room).map_or(len - done, |room| room.min(len - done));
            let bytes = &self.stage[at + done..at + done + now];
            match &mut self.window {
                Some(window) => window.write_at(bytes, target),
                // No room in the address space, or the file system is none to map: the other way does.
                None => self.segment.file.write_at(bytes, target)?,
            }
            done += now;
        }
        Ok(())
    }

    /// Hands everything that was appended to the file. `seal`: the page being filled gets no more
    /// records, because the segment is left.
    pub fn flush(&mut self, seal: bool) -> io::Result<()> {
        if self.is_unwritten {
            let pad = seal || self.closed >= self.pad_from;
            if !pad && self.page.tail == 0 && self.page.slot + TAIL_SLOTS < self.segment.pages {
                self.write_stage()?;
                self.page.tail = self.page.slot;
                self.page.slot += TAIL_SLOTS;
            }
            if pad || self.page.tail == 0 {
                self.close_page(self.page.end(), 0)?;
            } else {
                self.write_tail()?;
            }
        }
        self.write_stage()
    }

    /// Writes the page being filled to the next tail slot.
    fn write_tail(&mut self) -> io::Result<()> {
        let home = self.page.slot;
        let slots = match (holds(Rule::TailNotInPlace), holds(Rule::TailSlotsThree)) {
            (true, true) => TAIL_SLOTS,
            (true, false) => 2,
            (false, _) => 1,
        };
        let slot = self.page.tail + self.version % slots;
        (self.page.is_tail, self.page.slot) = (true, slot);
        self.seal_page();
        (self.page.is_tail, self.page.slot) = (false, home);
        self.write(PAGE_SIZE, self.staged * PAGE_SIZE, slot)?;
        self.is_unwritten = false;
        self.is_tail_used = true;
        Ok(())
    }

    /// Makes everything that was handed to the file durable.
    ///
    /// After an error nothing of it may be relied upon, and the segment is not written any more.
    pub fn sync(&mut self) -> io::Result<()> {
        if self.is_unsynced {
            self.sync_file()?;
            self.is_unsynced = false;
            self.is_fresh = false;
        }
        if std::mem::take(&mut self.is_tail_used) {
            self.version += 1;
        }
        self.closed = 0;
        Ok(())
    }

    fn sync_file(&self) -> io::Result<()> {
        if !holds(Rule::AckAfterSync) {
            return Ok(());
        }
        let done = self.segment.file.sync();
        done.or_else(|error| match holds(Rule::FailedSyncFinal) {
            true => Err(error),
            false => self.segment.file.sync(),
        })
    }

    /// Another rule than [`PAD_FROM`], for those who measure it.
    #[doc(hidden)]
    pub fn set_pad_from(&mut self, pad_from: u32) {
        self.pad_from = pad_from;
    }

    /// Pages written from now on say that everything below `mark` was durable.
    pub fn set_mark(&mut self, mark: u64) {
        self.mark = mark;
    }
}

/// A place in a page as its header says it.
fn offset_in_page(at: usize) -> u16 {
    u16::try_from(at).unwrap_or(u16::MAX)
}
