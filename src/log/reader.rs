//! Reads a log from any offset on, up to the durable mark.
//!
//! ```text
//!  | … | page | page | tail tail tail | page | page |  next life's pages | …
//!          ▲ seek: the last page that begins at or below the offset
//!            ── pages at their own places, in order ──▶
//!                    then the life's tail slots, for what no page has ▶ then the next life
//! ```
//!
//! A record stands in the page at its own place, or in the versions of a partly filled page that the
//! life's tail slots hold, or in both; what verifies in any of them is the record. What verifies in none
//! is a gap: the ledger knows why, or it is damage, and new in the ledger.
//!
//! **Invariants.** Only offsets below the given limit are handed out, so nothing that is not durable is.
//! Before anything is called damage the head is loaded again: a reader that was overtaken by the policy
//! that drops the oldest finds that, and not damage. What had been read before stays good: it verified.
//!
//! **Threads.** One for each cursor. Shares no lock with the syncer but for moments, see [`Shared`].

use std::io;
use std::sync::Arc;

use super::shared::{Located, Shared};
use crate::clock::{Clock, Stamp};
use crate::format::{
    HEADER_COPIES, Loss, PAGE_HEADER_SIZE, PAGE_SIZE, PageHeader, RECORD_HEADER_SIZE, Reason,
    RecordHeader, Seal,
};
use crate::record::RecordView;
use crate::segment::{PageReader, Segment, TAIL_SLOTS};
use crate::storage::Buffer;

/// How often a reader looks again for a record that the syncer may have moved under it.
const OVERTAKEN_MAX: u32 = 8;
/// While seeking, so many pages that do not verify are taken for the end of what is written.
const SEEK_HOLE_MAX: u32 = 8;

/// Where reading ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// At the limit.
    CaughtUp,
    /// The batch is full.
    Full,
    /// Here records are missing.
    Gap(Gap),
}

/// Offsets that hold nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The first.
    pub start: u64,
    /// The one behind the last.
    pub end: u64,
    /// Why.
    pub reason: Reason,
}

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

/// Records that were read, one after the other in one piece of memory.
pub struct BatchBuffer {
    bytes: Buffer,
    len: usize,
    body_len: usize,
    entries: Vec<Entry>,
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
            records_max,
            bytes_max,
        })
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
    pub fn is_full(&self) -> bool {
        self.entries.len() >= self.records_max || self.body_len >= self.bytes_max
    }

    /// Makes it empty.
    pub fn clear(&mut self) {
        self.entries.clear();
        (self.len, self.body_len) = (0, 0);
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

    fn takes(&self, header: &RecordHeader) -> bool {
        let is_first = self.entries.is_empty();
        is_first || !self.is_full() && self.body_len + header.body_len() <= self.bytes_max
    }

    /// Puts bytes behind the last record, as a part of the next one.
    fn stage(&mut self, done: usize, part: &[u8]) {
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

    fn staged(&self, size: usize) -> &[u8] {
        &self.bytes[self.len..self.len + size]
    }

    fn push(&mut self, offset: u64, appended: Stamp, header: &RecordHeader) {
        let at = u32::try_from(self.len).unwrap_or(u32::MAX);
        self.entries.push(Entry {
            offset,
            appended,
            at,
            size: header.size,
        });
        self.len += header.size as usize;
        self.body_len += header.body_len();
    }
}

/// What a scan of a segment shows besides its records.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Evidence {
    /// The greatest durable mark in a page.
    pub mark: u64,
    /// The greatest life of a page.
    pub life: u64,
    /// The first page behind the last that verifies.
    pub end_slot: u32,
    /// The greatest offset at which a page begins: all below it was handed out.
    pub first_max: u64,
    /// Pages that could not be read.
    pub unreadable: u32,
}

/// Where a reader stands in a segment.
struct At {
    segment: Segment,
    next_base: Option<u64>,
    slot: u32,
    life: u64,
    tail: u32,
    seal: Seal,
    /// The life whose tail slots were looked for in the whole segment.
    searched: u64,
}

/// Reads one log for one cursor.
pub struct Reader {
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    pages: PageReader,
    at: Option<At>,
    want: u64,
    limit: u64,
    /// An offset, and how often it was looked for in vain.
    retried: (u64, u32),
    evidence: Option<Evidence>,
}

/// What the tail slots of a life have.
enum Tail {
    /// Something that is wanted; it is in the batch.
    Taken,
    /// What is wanted, for which the batch has no room.
    Full,
    /// Not the record that is wanted, but what begins here behind it.
    Later(u64),
    /// Nothing.
    Nothing,
}

/// What became of a record in a page.
enum Found {
    /// All records of the page that were wanted are in the batch.
    All,
    /// The batch takes no more.
    Full,
    /// The limit is reached.
    Limit,
    /// The record that is wanted does not verify here; neither does what comes before this offset.
    Bad { until: u64 },
}

impl Reader {
    /// A reader of a log. Allocates its buffer.
    pub fn new(shared: Arc<Shared>, clock: Arc<dyn Clock>) -> io::Result<Self> {
        let pages = PageReader::new(shared.store.tag(), false)?;
        Ok(Self {
            shared,
            clock,
            pages,
            at: None,
            want: 0,
            limit: 0,
            retried: (0, 0),
            evidence: None,
        })
    }

    /// A reader that goes through one segment once, around the page cache, and collects evidence.
    pub(super) fn scan(
        shared: Arc<Shared>,
        clock: Arc<dyn Clock>,
        segment: Segment,
    ) -> io::Result<Self> {
        let mut reader = Self::new(shared, clock)?;
        reader.pages = PageReader::new(reader.shared.store.tag(), true)?;
        reader.evidence = Some(Evidence {
            end_slot: HEADER_COPIES,
            ..Evidence::default()
        });
        reader.enter(Located {
            segment,
            next_base: None,
        });
        Ok(reader)
    }

    /// What a scan has shown.
    pub(super) fn evidence(&self) -> Evidence {
        self.evidence.unwrap_or_default()
    }

    /// Adds the records from `from` on to `batch`, in order, as long as they are below the durable mark
    /// and fit. Returns why it ended, and where the next call goes on.
    ///
    /// Blocks for reads only. An error is the medium's; the records read before it are in the batch.
    pub fn read(&mut self, from: u64, batch: &mut BatchBuffer) -> io::Result<(Ended, u64)> {
        self.limit = self.shared.durable.get();
        self.read_below(from, batch)
    }

    /// Like [`read`](Self::read) for a scan: without a limit.
    pub(super) fn read_all(
        &mut self,
        from: u64,
        batch: &mut BatchBuffer,
    ) -> io::Result<(Ended, u64)> {
        self.limit = u64::MAX;
        self.read_below(from, batch)
    }

    fn read_below(&mut self, from: u64, batch: &mut BatchBuffer) -> io::Result<(Ended, u64)> {
        if from < self.want {
            // Backwards: what was passed over is wanted again.
            self.at = self.at.take().filter(|_| self.evidence.is_some());
        }
        self.want = from;
        loop {
            if self.want >= self.limit {
                return Ok((Ended::CaughtUp, self.want));
            }
            if batch.is_full() {
                return Ok((Ended::Full, self.want));
            }
            if let Some(ended) = self.step(batch)? {
                let next = match ended {
                    Ended::Gap(gap) => gap.end,
                    _ => self.want,
                };
                return Ok((ended, next));
            }
        }
    }

    /// Goes on by a page. `Some`: reading ends here.
    fn step(&mut self, batch: &mut BatchBuffer) -> io::Result<Option<Ended>> {
        if self.evidence.is_none() {
            if self.want < self.shared.head() {
                return Ok(Some(self.gap(self.shared.head())));
            }
            if !self.locate()? {
                let end = self.shared.first_base().filter(|base| *base > self.want);
                return Ok(Some(self.gap(end.unwrap_or(self.limit))));
            }
        }
        let Some(at) = &self.at else {
            return Ok(Some(Ended::CaughtUp));
        };
        let (slot, end) = (at.slot, self.end_slot(at));
        if slot >= end {
            return self.at_end(end, batch);
        }
        let header = match self.pages.page(&at.segment, slot, end) {
            Ok(page) => page.map(|(header, _)| header),
            Err(error) if self.evidence.is_none() => return Err(error),
            Err(_) => {
                self.observe(|evidence| evidence.unreadable += 1);
                None
            }
        };
        let Some(header) = header else {
            self.skip_page();
            return Ok(None);
        };
        self.observe(|evidence| {
            evidence.mark = evidence.mark.max(header.mark);
            evidence.life = evidence.life.max(header.life);
            evidence.first_max = evidence.first_max.max(header.first);
            evidence.end_slot = slot + 1;
        });
        self.visit(&header, batch)
    }

    /// Looks at the page at the reader's place.
    fn visit(&mut self, header: &PageHeader, batch: &mut BatchBuffer) -> io::Result<Option<Ended>> {
        let Some(at) = &mut self.at else {
            return Ok(None);
        };
        if header.life < at.life {
            self.skip_page();
            return Ok(None);
        }
        if header.life > at.life {
            // A life ends here. What only its tail slots have comes before.
            if at.life > 0 && self.want < header.first {
                match self.take_from_tail(batch)? {
                    Tail::Taken => return Ok(None),
                    Tail::Full => return Ok(Some(Ended::Full)),
                    Tail::Later(later) if later < header.first => {
                        return self.missing(later, batch);
                    }
                    Tail::Later(_) | Tail::Nothing => {}
                }
            }
            let Some(at) = &mut self.at else {
                return Ok(None);
            };
            at.life = header.life;
            at.tail = 0;
            at.seal = Seal::new(self.shared.store.tag(), header.life);
        }
        let Some(at) = &mut self.at else {
            return Ok(None);
        };
        if header.tail > 0 {
            at.tail = header.tail;
        }
        if header.is_tail || header.end() <= self.want {
            self.skip_page();
            return Ok(None);
        }
        let slot = at.slot;
        if header.first > self.want {
            return self.missing(header.first, batch);
        }
        match self.take(slot, batch)? {
            Found::All => Ok(None),
            Found::Full => Ok(Some(Ended::Full)),
            Found::Limit => Ok(Some(Ended::CaughtUp)),
            Found::Bad { until } => self.missing(until, batch),
        }
    }

    /// There is no page more in this segment.
    fn at_end(&mut self, end: u32, batch: &mut BatchBuffer) -> io::Result<Option<Ended>> {
        let later = match self.take_from_tail(batch)? {
            Tail::Taken => return Ok(None),
            Tail::Full => return Ok(Some(Ended::Full)),
            Tail::Later(later) => Some(later),
            Tail::Nothing => None,
        };
        let Some(at) = &mut self.at else {
            return Ok(None);
        };
        if self.evidence.is_some() {
            let ended = later.map_or(Ended::CaughtUp, |later| self.gap(later));
            return Ok(Some(ended));
        }
        // The segment may have been left, or written to, since its end was looked at.
        match self.shared.find(self.want) {
            Some(found)
                if found.segment.number == at.segment.number
                    && found.segment.life == at.segment.life =>
            {
                at.next_base = found.next_base;
            }
            _ => {
                self.at = None;
                return Ok(None);
            }
        }
        let until = at.next_base.unwrap_or(self.limit);
        if self.at.as_ref().is_some_and(|at| self.end_slot(at) != end) {
            return Ok(None);
        }
        self.missing(until, batch)
    }

    /// The records from the one that is wanted up to `until` are not where they should be.
    fn missing(&mut self, until: u64, batch: &mut BatchBuffer) -> io::Result<Option<Ended>> {
        let next_base = self.at.as_ref().and_then(|at| at.next_base);
        let mut until = until.min(self.limit).min(next_base.unwrap_or(u64::MAX));
        let is_scan = self.evidence.is_some();
        if is_scan || self.shared.ledger().covering(self.want).is_none() {
            let mut tail = self.take_from_tail(batch)?;
            if !is_scan && matches!(tail, Tail::Nothing) && self.find_tail()? {
                tail = self.take_from_tail(batch)?;
            }
            match tail {
                Tail::Taken => return Ok(None),
                Tail::Full => return Ok(Some(Ended::Full)),
                Tail::Later(later) => until = until.min(later),
                Tail::Nothing => {}
            }
            if !is_scan && self.was_overtaken() {
                return Ok(None);
            }
        }
        Ok(Some(self.gap(until)))
    }

    /// Whether more became durable since this read began. Versions in the tail slots may then have
    /// changed under the reader, so it looks again, though not for ever.
    fn was_overtaken(&mut self) -> bool {
        let now = self.shared.durable.get();
        if self.retried.0 != self.want {
            self.retried = (self.want, 0);
        }
        self.retried.1 += 1;
        let is_overtaken = now > self.limit && self.retried.1 <= OVERTAKEN_MAX;
        self.limit = now;
        self.pages.forget();
        is_overtaken
    }

    /// A gap from what is wanted up to `end` at most, and why.
    fn gap(&self, end: u64) -> Ended {
        let start = self.want;
        let gap = |end, reason| Ended::Gap(Gap { start, end, reason });
        if self.evidence.is_some() {
            return gap(end, Reason::Undecided);
        }
        let head = self.shared.head();
        let mut ledger = self.shared.ledger();
        if let Some(loss) = ledger.covering(start) {
            // Ranges that were merged to save room also cover what was not lost.
            return gap(loss.end.min(end), loss.reason);
        }
        if start < head {
            return gap(head, Reason::Quota);
        }
        let known = ledger
            .ranges()
            .iter()
            .map(|loss| loss.start)
            .find(|known| *known > start);
        let end = known.map_or(end, |known| known.min(end));
        let wall_s = super::stamp_seconds(self.clock.stamp());
        ledger.add(Loss {
            start,
            end,
            count: end - start,
            wall_s,
            reason: Reason::Damage,
        });
        log::error!(
            "{}: records {start} to {} are damaged",
            self.shared.store,
            end - 1
        );
        gap(end, Reason::Damage)
    }

    fn observe(&mut self, f: impl FnOnce(&mut Evidence)) {
        if let Some(evidence) = &mut self.evidence {
            f(evidence);
        }
    }

    fn skip_page(&mut self) {
        if let Some(at) = &mut self.at {
            at.slot += 1;
        }
    }

    /// Pages of the segment from here on are not written.
    fn end_slot(&self, at: &At) -> u32 {
        match at.next_base {
            None if self.evidence.is_none() => self
                .shared
                .end_slot(at.segment.number)
                .unwrap_or(at.segment.pages),
            _ => at.segment.pages,
        }
    }

    /// Makes sure that the reader stands in the segment of the record that is wanted.
    fn locate(&mut self) -> io::Result<bool> {
        let is_here = |at: &At| {
            at.segment.base <= self.want && at.next_base.is_none_or(|base| self.want < base)
        };
        if self.at.as_ref().is_some_and(is_here) {
            return Ok(true);
        }
        let Some(located) = self.shared.find(self.want) else {
            return Ok(false);
        };
        let starts_here = located.segment.base == self.want;
        self.enter(located);
        if !starts_here {
            self.seek()?;
        }
        Ok(true)
    }

    fn enter(&mut self, located: Located) {
        let Located { segment, next_base } = located;
        self.pages.forget();
        self.at = Some(At {
            segment,
            next_base,
            slot: HEADER_COPIES,
            life: 0,
            tail: 0,
            seal: Seal::new(self.shared.store.tag(), 0),
            searched: 0,
        });
    }

    /// Goes to the last page that begins at or below the record that is wanted, by halving.
    fn seek(&mut self) -> io::Result<()> {
        let want = self.want;
        self.halve(|header| header.first <= want)
    }

    /// Goes to the last page of the segment for which `is_before` holds, which holds for all before it.
    fn halve(&mut self, is_before: impl Fn(&PageHeader) -> bool) -> io::Result<()> {
        let Some(at) = &self.at else { return Ok(()) };
        let segment = at.segment.clone();
        let (mut low, mut high) = (HEADER_COPIES, self.end_slot(at));
        let mut found = None;
        while low < high {
            let middle = low.midpoint(high);
            // The next page at its own place; a few may be tail slots, or damaged.
            let mut probe = None;
            for slot in middle..high.min(middle + SEEK_HOLE_MAX) {
                let page = self.pages.page(&segment, slot, slot + 1)?;
                if let Some((header, _)) = page.filter(|(header, _)| !header.is_tail) {
                    probe = Some((slot, header));
                    break;
                }
            }
            match probe {
                Some((slot, header)) if is_before(&header) => {
                    found = Some((slot, header));
                    low = slot + 1;
                }
                _ => high = middle,
            }
        }
        if let (Some((slot, header)), Some(at)) = (found, &mut self.at) {
            at.slot = slot;
            at.life = header.life;
            at.tail = header.tail;
            at.seal = Seal::new(self.shared.store.tag(), header.life);
        }
        Ok(())
    }

    /// The offset from which on records were appended at or after `wall_ms`, or a little before: where
    /// the time of day was unknown or went back, reading starts too early rather than too late.
    pub fn seek_time(&mut self, wall_ms: u64) -> io::Result<u64> {
        let is_before =
            |header: &PageHeader| header.stamp.wall_ms > 0 && header.stamp.wall_ms < wall_ms;
        let mut offset = self.shared.head();
        for segment in self.shared.segments() {
            let next_base = None;
            self.enter(Located { segment, next_base });
            self.halve(is_before)?;
            let Some(at) = self.at.take() else { break };
            let end = at.segment.pages;
            let page = self.pages.page(&at.segment, at.slot, end)?;
            match page {
                Some((header, _)) if is_before(&header) => offset = offset.max(header.first),
                _ => break,
            }
        }
        Ok(offset)
    }

    /// Takes the wanted records of the page at `slot` into the batch.
    fn take(&mut self, slot: u32, batch: &mut BatchBuffer) -> io::Result<Found> {
        let found = self.take_once(slot, batch)?;
        if !matches!(found, Found::Bad { .. }) {
            return Ok(found);
        }
        // It may have been read while it was being written.
        self.pages.forget();
        self.take_once(slot, batch)
    }

    fn take_once(&mut self, slot: u32, batch: &mut BatchBuffer) -> io::Result<Found> {
        let Some(at) = &self.at else {
            return Ok(Found::All);
        };
        let end = self.end_slot(at).max(slot + 1);
        let Some((header, bytes)) = self.pages.page(&at.segment, slot, end)? else {
            return Ok(Found::Bad {
                until: self.want + 1,
            });
        };
        let mut place = usize::from(header.start);
        for offset in header.first..header.end() {
            if offset >= self.limit {
                return Ok(Found::Limit);
            }
            // A segment whose sync failed has records that stand in the next one, too.
            if at.next_base.is_some_and(|base| offset >= base) {
                return Ok(Found::All);
            }
            let Some(record) = RecordHeader::decode(&bytes[place.min(PAGE_SIZE)..]) else {
                // Without its length nothing behind it can be found.
                return Ok(Found::Bad {
                    until: header.end(),
                });
            };
            let record_end = place + record.size as usize;
            if offset == self.want {
                if !batch.takes(&record) {
                    return Ok(Found::Full);
                }
                let stamp = Stamp {
                    mono_ms: header.stamp.mono_ms + u64::from(record.delta_ms),
                    wall_ms: match header.stamp.wall_ms {
                        0 => 0,
                        wall_ms => wall_ms + u64::from(record.delta_ms),
                    },
                    boot: header.stamp.boot,
                };
                if record_end > PAGE_SIZE {
                    batch.stage(0, &bytes[place..]);
                    let have = PAGE_SIZE - place;
                    return match self.take_rest(slot, &record, have, batch)? {
                        true => {
                            batch.push(offset, stamp, &record);
                            self.want += 1;
                            Ok(Found::All)
                        }
                        false => Ok(Found::Bad {
                            until: header.end(),
                        }),
                    };
                }
                if !at.seal.verifies(offset, &bytes[place..record_end]) {
                    return Ok(Found::Bad { until: offset + 1 });
                }
                batch.stage(0, &bytes[place..record_end]);
                batch.push(offset, stamp, &record);
                self.want += 1;
            }
            place = record_end;
        }
        Ok(Found::All)
    }

    /// Collects what a record that begins in page `slot` has in later pages. Whether it verifies.
    fn take_rest(
        &mut self,
        slot: u32,
        record: &RecordHeader,
        have: usize,
        batch: &mut BatchBuffer,
    ) -> io::Result<bool> {
        let Some(at) = &self.at else { return Ok(false) };
        let segment = at.segment.clone();
        let (life, mut tail, end) = (at.life, at.tail, self.end_slot(at));
        let size = record.size as usize;
        let mut done = have;
        let mut next = slot + 1;
        while done < size {
            let goes_on = |header: &PageHeader| {
                header.life == life
                    && header.first == self.want + 1
                    && header.carried as usize == done
            };
            let mut part = None;
            while next < end && part.is_none() {
                match self.pages.page(&segment, next, end)? {
                    // An unwritten tail slot, or damage.
                    None => next += 1,
                    Some((header, _)) if header.is_tail => {
                        tail = if header.life == life {
                            header.tail
                        } else {
                            tail
                        };
                        next += 1;
                    }
                    Some((header, _)) if goes_on(&header) => part = Some(next),
                    Some(_) => break,
                }
            }
            // The last part may be in the tail slots only.
            let tails = if part.is_none() && tail > 0 {
                tail..tail + TAIL_SLOTS
            } else {
                0..0
            };
            for slot in tails {
                self.pages.forget();
                let page = self.pages.page(&segment, slot, slot + 1)?;
                if page.is_some_and(|(header, _)| header.is_tail && goes_on(&header)) {
                    part = Some(slot);
                    break;
                }
            }
            let Some(slot) = part else { return Ok(false) };
            let Some((_, bytes)) = self.pages.page(&segment, slot, end.max(slot + 1))? else {
                return Ok(false);
            };
            let len = (size - done).min(PAGE_SIZE - PAGE_HEADER_SIZE);
            batch.stage(done, &bytes[PAGE_HEADER_SIZE..PAGE_HEADER_SIZE + len]);
            done += len;
            next = slot + 1;
        }
        let Some(at) = &self.at else { return Ok(false) };
        Ok(at.seal.verifies(self.want, batch.staged(size)))
    }

    /// Takes what the tail slots of the present life have of what is wanted.
    fn take_from_tail(&mut self, batch: &mut BatchBuffer) -> io::Result<Tail> {
        let before = self.want;
        let Some(at) = &self.at else {
            return Ok(Tail::Nothing);
        };
        let (segment, tail, life) = (at.segment.clone(), at.tail, at.life);
        if tail < HEADER_COPIES {
            return Ok(Tail::Nothing);
        }
        let mut later = u64::MAX;
        for slot in tail..tail + TAIL_SLOTS {
            // Versions change: never from the buffer.
            self.pages.forget();
            let Ok(Some((header, _))) = self.pages.page(&segment, slot, slot + 1) else {
                continue;
            };
            if !header.is_tail || header.life != life || header.end() <= self.want {
                continue;
            }
            if header.first > self.want {
                later = later.min(header.first);
                continue;
            }
            match self.take(slot, batch)? {
                Found::Bad { until } => later = later.min(until),
                Found::Full if self.want == before => return Ok(Tail::Full),
                Found::All | Found::Full | Found::Limit => {}
            }
        }
        self.pages.forget();
        Ok(match later {
            _ if self.want > before => Tail::Taken,
            u64::MAX => Tail::Nothing,
            later => Tail::Later(later),
        })
    }

    /// Looks through the whole segment for the tail slots of the present life, once. Whether there are
    /// any that were not known.
    fn find_tail(&mut self) -> io::Result<bool> {
        let Some(at) = &self.at else { return Ok(false) };
        let (segment, life) = (at.segment.clone(), at.life);
        if at.tail > 0 || at.searched == life {
            return Ok(false);
        }
        let mut tail = 0;
        for slot in HEADER_COPIES..segment.pages {
            let page = self.pages.page(&segment, slot, segment.pages);
            if let Ok(Some((header, _))) = page
                && header.life == life
                && header.tail > 0
            {
                tail = header.tail;
                break;
            }
        }
        if let Some(at) = &mut self.at {
            (at.searched, at.tail) = (life, tail);
        }
        Ok(tail > 0)
    }
}
