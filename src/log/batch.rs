//! Records that were read, in one piece of memory.

use std::io;

use crate::clock::Stamp;
use crate::format::{PAGE_SIZE, RECORD_HEADER_SIZE, RecordHeader, Seal};
use crate::record::RecordView;
use crate::storage::Buffer;

/// A record in a batch.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its offset.
    pub offset: u64,
    /// When it was appended.
    pub appended: Stamp,
    at: u32,
    size: u32,
}

impl Entry {
    /// The bytes of key, payload, properties and source.
    pub fn body_len(&self) -> usize {
        (self.size as usize).saturating_sub(RECORD_HEADER_SIZE)
    }
}

/// Records that stand one after the other in a page.
pub(super) struct Run<'a> {
    /// The page.
    pub page: &'a [u8],
    /// Where in the page the next record begins.
    pub place: usize,
    /// Its offset.
    pub next: u64,
    /// The offset at which the run ends.
    pub end: u64,
    /// From which the records' own times count.
    pub stamp: Stamp,
    /// What the records verify with.
    pub seal: Seal,
}

/// Why a run goes no further.
pub(super) enum Stop {
    /// Its end.
    End,
    /// The next record does not fit the batch.
    Full,
    /// The next record goes on in the next page.
    Crosses(RecordHeader),
    /// There is no record header.
    NoRecord,
    /// The next record does not verify.
    Bad,
}

impl Run<'_> {
    /// When a record of this page was appended.
    #[inline]
    pub(super) fn appended(&self, record: &RecordHeader) -> Stamp {
        let delta_ms = u64::from(record.delta_ms);
        let Stamp {
            boot,
            mono_ms,
            wall_ms,
        } = self.stamp;
        Stamp {
            boot,
            mono_ms: mono_ms.saturating_add(delta_ms),
            wall_ms: match wall_ms {
                0 => 0,
                wall_ms => wall_ms.saturating_add(delta_ms),
            },
        }
    }

    /// The header of the next record, and where that one ends.
    #[inline]
    pub(super) fn header(&self) -> Option<(RecordHeader, usize)> {
        let record = RecordHeader::decode(self.page.get(self.place..)?)?;
        Some((record, self.place.saturating_add(record.size as usize)))
    }
}

/// Records that were read, one after the other in one piece of memory.
pub struct BatchBuffer {
    bytes: Buffer,
    len: usize,
    body_len: usize,
    entries: Vec<Entry>,
    /// As many as `entries`, where they are kept.
    count: usize,
    keeps: bool,
    records_max: usize,
    bytes_max: usize,
}

impl BatchBuffer {
    /// Room for so many records with so many bytes of bodies, and for at least one record with a body
    /// of `body_len_max`. Allocates here only, but for records that are longer than that.
    pub fn new(records_max: usize, bytes_max: usize, body_len_max: usize) -> io::Result<Self> {
        let framing = records_max.min(bytes_max) * RECORD_HEADER_SIZE;
        let size = bytes_max.max(body_len_max) + framing + RECORD_HEADER_SIZE;
        Ok(Self {
            bytes: Buffer::new(size.next_multiple_of(PAGE_SIZE))?,
            len: 0,
            body_len: 0,
            entries: Vec::with_capacity(records_max),
            count: 0,
            keeps: true,
            records_max,
            bytes_max,
        })
    }

    /// A batch of so many records that are checked and counted like others, and not kept.
    pub fn that_counts(records_max: usize) -> io::Result<Self> {
        Ok(Self {
            keeps: false,
            records_max,
            bytes_max: usize::MAX,
            ..Self::new(0, 0, 0)?
        })
    }

    /// How many records there are, or were counted.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The records.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The bytes of all bodies.
    pub fn body_len(&self) -> usize {
        self.body_len
    }

    /// No record more fits, whatever its length.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.count >= self.records_max || self.body_len >= self.bytes_max
    }

    /// Makes it empty.
    pub fn clear(&mut self) {
        self.entries.clear();
        (self.len, self.body_len, self.count) = (0, 0, 0);
    }

    /// A record.
    pub fn view(&self, entry: &Entry) -> RecordView<'_> {
        let bytes = &self.bytes[entry.at as usize..][..entry.size as usize];
        let (header, body) = bytes.split_at(RECORD_HEADER_SIZE);
        let header = RecordHeader::decode(header);
        let view = header.and_then(|header| {
            let (extra_len, key_len) = (header.extra_len.into(), header.key_len.into());
            let Entry {
                offset, appended, ..
            } = *entry;
            RecordView::of_body(offset, header.time_ms, appended, body, extra_len, key_len)
        });
        match view {
            Some(view) => view,
            None => unreachable!("what is in a batch has verified"),
        }
    }

    /// The time that a record's producer gave it.
    pub(crate) fn time_ms(&self, index: usize) -> u64 {
        self.view(&self.entries[index]).time_ms
    }

    /// Gives a record another time, which is that of its append.
    pub(crate) fn set_time(&mut self, index: usize, time_ms: u64) {
        let entry = &mut self.entries[index];
        entry.appended.wall_ms = time_ms;
        let bytes = &mut self.bytes[entry.at as usize..][..RECORD_HEADER_SIZE];
        if let Some(mut header) = RecordHeader::decode(bytes) {
            header.time_ms = time_ms;
            header.encode_to(bytes);
        }
    }

    /// Adds a record of another buffer. Allocates when there is no room, which is the only error.
    pub(crate) fn copy(&mut self, from: &Self, index: usize) -> io::Result<()> {
        let entry = from.entries[index];
        let size = entry.size as usize;
        let end = self.len + size;
        if end > self.bytes.len() {
            let size = end.max(self.bytes.len() * 2).next_multiple_of(PAGE_SIZE);
            let mut bytes = Buffer::new(size)?;
            bytes[..self.len].copy_from_slice(&self.bytes[..self.len]);
            self.bytes = bytes;
        }
        self.bytes[self.len..end].copy_from_slice(&from.bytes[entry.at as usize..][..size]);
        self.add(entry);
        Ok(())
    }

    /// Keeps only the records whose index `is_kept` is true for.
    pub(crate) fn keep(&mut self, mut is_kept: impl FnMut(usize) -> bool) {
        let mut entries = std::mem::take(&mut self.entries);
        (self.len, self.body_len) = (0, 0);
        let mut index = 0;
        entries.retain_mut(|entry| {
            let keeps = is_kept(index);
            index += 1;
            if keeps {
                let (at, size) = (entry.at as usize, entry.size as usize);
                self.bytes.copy_within(at..at + size, self.len);
                entry.at = u32::try_from(self.len).unwrap_or(u32::MAX);
                self.len += size;
                self.body_len += entry.body_len();
            }
            keeps
        });
        self.count = entries.len();
        self.entries = entries;
    }

    fn add(&mut self, entry: Entry) {
        let at = u32::try_from(self.len).unwrap_or(u32::MAX);
        self.entries.push(Entry { at, ..entry });
        self.count += 1;
        self.len += entry.size as usize;
        self.body_len += entry.body_len();
    }

    #[inline]
    pub(super) fn takes(&self, header: &RecordHeader) -> bool {
        let is_first = self.count == 0;
        is_first || !self.is_full() && self.body_len + header.body_len() <= self.bytes_max
    }

    /// Takes a page's records in order as long as they verify and fit: one look at each, and one copy of
    /// all of them.
    pub(super) fn take(&mut self, run: &mut Run<'_>) -> Stop {
        let (page, start) = (run.page, run.place);
        let stop = loop {
            if run.next >= run.end {
                break Stop::End;
            }
            let Some((record, end)) = run.header() else {
                break Stop::NoRecord;
            };
            if !self.takes(&record) {
                break Stop::Full;
            }
            let Some(bytes) = page.get(run.place..end) else {
                break Stop::Crosses(record);
            };
            if !run.seal.verifies(run.next, bytes) {
                break Stop::Bad;
            }
            self.enter(run.next, run.appended(&record), run.place - start, &record);
            run.place = end;
            run.next += 1;
        };
        if self.keeps {
            let part = page.get(start..run.place).unwrap_or_default();
            self.stage(0, part);
            self.len += part.len();
        }
        stop
    }

    /// Puts bytes behind the last record, as a part of the next one.
    pub(super) fn stage(&mut self, done: usize, part: &[u8]) {
        let at = self.len + done;
        if at + part.len() > self.bytes.len() {
            self.grow(at + part.len());
        }
        self.bytes[at..at + part.len()].copy_from_slice(part);
    }

    /// For records that are longer than any that is appended now: the setting was made smaller.
    #[cold]
    fn grow(&mut self, size: usize) {
        let size = size.max(self.bytes.len() * 2).next_multiple_of(PAGE_SIZE);
        // Only records that lie on the medium in full come here, so this is bounded by a segment.
        if let Ok(mut bytes) = Buffer::new(size) {
            bytes[..self.bytes.len()].copy_from_slice(&self.bytes);
            self.bytes = bytes;
        }
    }

    pub(super) fn staged(&self, size: usize) -> &[u8] {
        &self.bytes[self.len..self.len + size]
    }

    /// The bytes that were put there are the next record.
    pub(super) fn push(&mut self, offset: u64, appended: Stamp, header: &RecordHeader) {
        self.enter(offset, appended, 0, header);
        if self.keeps {
            self.len += header.size as usize;
        }
    }

    #[inline]
    fn enter(&mut self, offset: u64, appended: Stamp, behind: usize, header: &RecordHeader) {
        self.count += 1;
        if !self.keeps {
            return;
        }
        self.body_len += header.body_len();
        let at = u32::try_from(self.len + behind).unwrap_or(u32::MAX);
        self.entries.push(Entry {
            offset,
            appended,
            at,
            size: header.size,
        });
    }
}

#[cfg(test)]
mod tests;
