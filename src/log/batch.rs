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
mod tests {
    use super::*;

    const FIRST: u64 = 70;

    fn seal() -> Seal {
        Seal::new(1, 2)
    }

    /// A page with records of these lengths from 100 on, as far as they reach.
    fn page(lens: &[usize]) -> Vec<u8> {
        let mut page = vec![0; 100];
        for (offset, len) in (FIRST..).zip(lens) {
            let payload = vec![b'x'; *len];
            let mut header = RecordHeader {
                checksum: 0,
                size: u32::try_from(RECORD_HEADER_SIZE + len).unwrap(),
                time_ms: offset,
                delta_ms: 3,
                key_len: 0,
                extra_len: 0,
            };
            let mut bytes = [0; RECORD_HEADER_SIZE];
            header.encode_to(&mut bytes);
            header.checksum = seal().checksum(offset, &[&bytes[4..], &payload]);
            header.encode_to(&mut bytes);
            page.extend(bytes);
            page.extend(payload);
        }
        page.resize(PAGE_SIZE, 0);
        page
    }

    fn run(page: &[u8], count: u64) -> Run<'_> {
        let stamp = Stamp {
            boot: 9,
            mono_ms: 1000,
            wall_ms: 0,
        };
        Run {
            page,
            place: 100,
            next: FIRST,
            end: FIRST + count,
            stamp,
            seal: seal(),
        }
    }

    fn offsets(batch: &BatchBuffer) -> Vec<u64> {
        batch.entries().iter().map(|entry| entry.offset).collect()
    }

    #[test]
    fn a_run_is_taken_as_it_stands_in_the_page() {
        let page = page(&[10, 0, 300, 5]);
        let mut batch = BatchBuffer::new(10, 10_000, 10_000).unwrap();
        for round in 1..=2 {
            let mut run = run(&page, 4);
            assert!(matches!(batch.take(&mut run), Stop::End));
            assert_eq!(run.next, FIRST + 4);
            assert_eq!(batch.body_len(), round * 315);
        }
        for (index, entry) in batch.entries().iter().enumerate() {
            let view = batch.view(entry);
            assert_eq!(view.payload.len(), [10, 0, 300, 5][index % 4]);
            assert_eq!((view.offset, view.time_ms), (entry.offset, entry.offset));
            assert_eq!((view.appended.mono_ms, view.appended.wall_ms), (1003, 0));
        }
    }

    #[test]
    fn a_batch_that_counts_checks_as_much_and_keeps_nothing() {
        let mut page = page(&[10, 0, 300, 5]);
        let mut batch = BatchBuffer::that_counts(3).unwrap();
        assert!(matches!(batch.take(&mut run(&page, 4)), Stop::Full));
        assert_eq!(
            (batch.count(), batch.entries().len(), batch.body_len()),
            (3, 0, 0)
        );
        batch.clear();
        page[100 + 34 + 24 + 24] ^= 1;
        let mut run = run(&page, 4);
        assert!(matches!(batch.take(&mut run), Stop::Bad));
        assert_eq!((batch.count(), run.next), (2, FIRST + 2));
    }

    #[test]
    fn a_run_stops_at_the_record_that_does_not_verify() {
        let mut page = page(&[10, 20, 30]);
        page[100 + 34 + 44 + 24] ^= 1;
        let mut batch = BatchBuffer::new(10, 10_000, 10_000).unwrap();
        let mut run = run(&page, 3);
        assert!(matches!(batch.take(&mut run), Stop::Bad));
        assert_eq!((run.next, run.place), (FIRST + 2, 178));
        assert_eq!(offsets(&batch), [FIRST, FIRST + 1]);
    }

    #[test]
    fn a_run_stops_when_the_batch_is_full() {
        let page = page(&[10, 20, 30]);
        for (records_max, bytes_max, takes) in [(2, 1000, 2), (10, 59, 2), (10, 60, 3), (10, 1, 1)]
        {
            let mut batch = BatchBuffer::new(records_max, bytes_max, 100).unwrap();
            let mut run = run(&page, 3);
            assert_eq!(matches!(batch.take(&mut run), Stop::Full), takes < 3);
            assert_eq!(offsets(&batch), Vec::from_iter(FIRST..FIRST + takes));
            assert_eq!(run.next, FIRST + takes);
        }
    }

    #[test]
    fn a_run_stops_at_the_record_that_goes_on_in_the_next_page() {
        let page = page(&[3000, 950, 10]);
        let mut batch = BatchBuffer::new(10, 10_000, 10_000).unwrap();
        let mut run = run(&page[..PAGE_SIZE], 2);
        assert!(matches!(batch.take(&mut run), Stop::Crosses(header) if header.size == 974));
        assert_eq!((run.next, run.place), (FIRST + 1, 3124));
    }

    #[test]
    fn a_length_that_leads_nowhere_ends_a_run() {
        let mut page = page(&[10]);
        for place in [0, PAGE_SIZE - 5, PAGE_SIZE, PAGE_SIZE + 1, usize::MAX] {
            let mut batch = BatchBuffer::new(10, 10_000, 10_000).unwrap();
            let mut run = run(&page, 5);
            run.place = place;
            assert!(matches!(batch.take(&mut run), Stop::NoRecord), "{place}");
            assert!(batch.entries().is_empty());
        }
        page[104..108].fill(0xff);
        let mut batch = BatchBuffer::new(10, 10_000, 10_000).unwrap();
        let mut run = run(&page, 1);
        assert!(run.header().is_some_and(|(_, end)| end > PAGE_SIZE));
        assert!(matches!(batch.take(&mut run), Stop::Crosses(_)));
    }
}
