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

use super::batch::BatchBuffer;
use super::shared::{Located, Shared};
use crate::clock::Clock;
use crate::format::{HEADER_COPIES, Loss, PageHeader, Reason, Seal};
use crate::rules::{Rule, holds};
use crate::segment::{PageReader, Segment};

mod place;
mod take;
#[cfg(test)]
mod tests;

use take::{Found, Tail};

/// How often a reader looks again for a record that the syncer may have moved under it.
const OVERTAKEN_MAX: u32 = 8;

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
}

impl At {
    /// Whether this is the same writing of the same file.
    fn is_in(&self, segment: &Segment) -> bool {
        self.segment.number == segment.number && self.segment.life == segment.life
    }
}

/// Reads one log for one cursor.
pub struct Reader {
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    pages: PageReader,
    at: Option<At>,
    want: u64,
    limit: u64,
    /// What was durable when this read began, or later.
    progress: u64,
    gives_up_unreadable: bool,
    /// An offset, and how often it was looked for in vain.
    retried: (u64, u32),
    evidence: Option<Evidence>,
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
            progress: 0,
            gives_up_unreadable: false,
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

    /// Adds the records from `from` on to `batch`, in order, as long as they are below `limit` and the
    /// durable mark, and fit. Returns why it ended, and where the next call goes on.
    ///
    /// Blocks for reads only. An error is the medium's; the records read before it are in the batch.
    pub fn read(
        &mut self,
        from: u64,
        limit: u64,
        batch: &mut BatchBuffer,
    ) -> io::Result<(Ended, u64)> {
        self.progress = self.shared.progress();
        self.limit = match holds(Rule::ReadBelowDurable) {
            true => self.shared.durable.get().min(limit),
            false => limit,
        };
        self.read_below(from, batch)
    }

    /// The offset behind the last record that was read.
    pub fn position(&self) -> u64 {
        self.want
    }

    /// Takes pages that cannot be read for damage, until the next record is read.
    pub fn give_up_unreadable(&mut self) {
        self.gives_up_unreadable = true;
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
            if self.want > from {
                self.gives_up_unreadable = false;
            }
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
            if self.want < self.shared.head() && holds(Rule::HeadReadAgain) {
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
        let (slot, end) = (at.slot, self.end_slot(Some(at)));
        if slot >= end {
            return self.at_end(end, batch);
        }
        let Some(header) = self.look(slot, end)? else {
            self.skip_page();
            return Ok(None);
        };
        self.visit(&header, batch)
    }

    /// The header of a page, if it belongs there. What cannot be read is an error, or no page, as it was
    /// asked for. A scan notes what it shows.
    fn look(&mut self, slot: u32, end: u32) -> io::Result<Option<PageHeader>> {
        let Some(at) = &self.at else { return Ok(None) };
        let forgives = self.forgives();
        let header = match self.pages.page(&at.segment, slot, end) {
            Ok(page) => page.map(|(header, _)| *header),
            Err(error) if !forgives => return Err(error),
            Err(_) => {
                self.observe(|evidence| evidence.unreadable += 1);
                None
            }
        };
        if let Some(header) = &header {
            self.observe(|evidence| {
                evidence.mark = evidence.mark.max(header.mark);
                evidence.life = evidence.life.max(header.life);
                evidence.first_max = evidence.first_max.max(header.first);
                evidence.end_slot = evidence.end_slot.max(slot + 1);
            });
        }
        Ok(header)
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
            Some(found) if at.is_in(&found.segment) => at.next_base = found.next_base,
            _ => {
                self.at = None;
                return Ok(None);
            }
        }
        let until = at.next_base.unwrap_or(self.limit);
        if self
            .at
            .as_ref()
            .is_some_and(|at| self.end_slot(Some(at)) != end)
        {
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
            match self.take_from_tail(batch)? {
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
        let now = self.shared.progress();
        if self.retried.0 != self.want {
            self.retried = (self.want, 0);
        }
        self.retried.1 += 1;
        let is_overtaken = now > self.progress && self.retried.1 <= OVERTAKEN_MAX;
        self.progress = now;
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
        let loss = ledger.covering(start);
        if let Some(loss) = loss.filter(|_| holds(Rule::HeadReadAgain)) {
            // Ranges that were merged to save room also cover what was not lost.
            return gap(loss.end.min(end), loss.reason);
        }
        let known = ledger
            .ranges()
            .iter()
            .map(|loss| loss.start)
            .find(|known| *known > start)
            .unwrap_or(u64::MAX);
        if start < head && holds(Rule::HeadReadAgain) {
            // What else is missing below the head has its own reason, and is counted by that.
            return gap(head.min(known), Reason::Quota);
        }
        let end = known.min(end);
        let wall_s = self.clock.stamp().wall_s();
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

    /// What cannot be read counts as not there.
    fn forgives(&self) -> bool {
        self.evidence.is_some() || self.gives_up_unreadable
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
    fn end_slot(&self, at: Option<&At>) -> u32 {
        let Some(at) = at else { return HEADER_COPIES };
        match at.next_base {
            None if self.evidence.is_none() => self
                .shared
                .end_slot(at.segment.life)
                .unwrap_or(at.segment.pages),
            _ => at.segment.pages,
        }
    }
}
