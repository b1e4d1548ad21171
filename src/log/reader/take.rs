//! Takes records out of pages: whole ones, ones that go on in later pages, and what only the tail slots
//! have.

use std::io;

use super::Reader;
use crate::format::{
    HEADER_COPIES, PAGE_BODY_SIZE, PAGE_HEADER_SIZE, PAGE_SIZE, PageHeader, RecordHeader,
};
use crate::log::batch::{BatchBuffer, Run, Stop};
use crate::rules::{Rule, holds};
use crate::segment::TAIL_SLOTS;

/// What the tail slots of a life have.
pub(super) enum Tail {
    /// Something that is wanted; it is in the batch.
    Taken,
    /// What is wanted, for which the batch has no room.
    Full,
    /// Not the record that is wanted, but what begins here behind it.
    Later(u64),
    /// Nothing.
    Nothing,
}

/// Whether a page begins with what comes behind `done` bytes of the record at `offset`.
fn goes_on(header: &PageHeader, life: u64, offset: u64, done: usize) -> bool {
    header.life == life && header.first == offset + 1 && header.carried as usize == done
}

/// What became of a record in a page.
pub(super) enum Found {
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
    /// Takes the wanted records of the page at `slot` into the batch.
    pub(super) fn take(&mut self, slot: u32, batch: &mut BatchBuffer) -> io::Result<Found> {
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
        let end = self.end_slot(Some(at)).max(slot + 1);
        let forgives = self.forgives();
        let page = match self.pages.page(&at.segment, slot, end) {
            Err(error) if !forgives => return Err(error),
            page => page.ok().flatten(),
        };
        let Some((header, bytes)) = page else {
            return Ok(Found::Bad {
                until: self.want + 1,
            });
        };
        // Read again it may be another one.
        if !(header.first..header.end()).contains(&self.want) {
            return Ok(Found::All);
        }
        // A segment whose sync failed has records that stand in the next one, too.
        let next_base = at.next_base.filter(|_| holds(Rule::SegmentEndsAtNext));
        let next_base = next_base.unwrap_or(u64::MAX);
        let mut run = Run {
            page: bytes,
            place: header.start.into(),
            next: self.want,
            end: header.end().min(self.limit).min(next_base),
            stamp: header.stamp,
            seal: at.seal,
        };
        // Without its length nothing behind a record can be found.
        let bad = Found::Bad {
            until: header.end(),
        };
        for _ in header.first..self.want {
            let Some((_, end)) = run.header() else {
                return Ok(bad);
            };
            run.place = end;
        }
        let stop = batch.take(&mut run);
        self.want = run.next;
        Ok(match stop {
            Stop::End if self.want < header.end() && self.want >= self.limit => Found::Limit,
            Stop::End => Found::All,
            Stop::Full => Found::Full,
            Stop::NoRecord => bad,
            Stop::Bad => Found::Bad {
                until: self.want + 1,
            },
            Stop::Crosses(record) => {
                let (place, stamp) = (run.place, run.appended(&record));
                batch.stage(0, &bytes[place..]);
                let Some(last) = self.take_rest(slot, &record, PAGE_SIZE - place, batch)? else {
                    return Ok(bad);
                };
                batch.push(self.want, stamp, &record);
                self.want += 1;
                // Nothing more begins before the page in which it ends: going back would read all of it
                // again.
                if let Some(at) = self.at.as_mut().filter(|at| at.slot == slot) {
                    at.slot = last;
                }
                Found::All
            }
        })
    }

    /// Collects what a record that begins in page `slot` has in later pages. `None` when it does not
    /// verify; else the page with which reading goes on.
    fn take_rest(
        &mut self,
        slot: u32,
        record: &RecordHeader,
        have: usize,
        batch: &mut BatchBuffer,
    ) -> io::Result<Option<u32>> {
        let size = record.size as usize;
        let mut done = have;
        let mut next = slot + 1;
        loop {
            let home = self.find_rest(next, done)?;
            if let Some(home) = home.filter(|_| size - done > PAGE_BODY_SIZE) {
                self.stage_rest(home, done, size, batch)?;
                done += PAGE_BODY_SIZE;
                next = home + 1;
                continue;
            }
            // The last part: in the page at its own place, or in a version of it in the tail slots.
            let tail = self.at.as_ref().map_or(0, |at| at.tail);
            let tails = if tail > 0 {
                tail..tail + TAIL_SLOTS
            } else {
                0..0
            };
            for slot in home.into_iter().chain(tails) {
                if self.stage_rest(slot, done, size, batch)? {
                    return Ok(Some(home.unwrap_or(next)));
                }
                // Versions change: never from the buffer.
                self.pages.forget();
            }
            return Ok(None);
        }
    }

    /// The page at its own place, from `next` on, that goes on with the wanted record behind `done` bytes.
    fn find_rest(&mut self, next: u32, done: usize) -> io::Result<Option<u32>> {
        let Some(at) = &self.at else {
            return Ok(None);
        };
        let (life, end) = (at.life, self.end_slot(Some(at)));
        let mut empty = 0;
        for slot in next..end {
            match self.look(slot, end)? {
                // Where nothing is written up to the segment's end, that is not read for one record.
                None if empty == TAIL_SLOTS => break,
                // An unwritten tail slot, or damage.
                None => empty += 1,
                Some(header) if header.is_tail => {
                    if let Some(at) = self.at.as_mut().filter(|_| header.life == life) {
                        at.tail = header.tail;
                    }
                }
                Some(header) if goes_on(&header, life, self.want, done) => {
                    return Ok(Some(slot));
                }
                Some(_) => break,
            }
        }
        Ok(None)
    }

    /// Copies what page `slot` has of the wanted record behind `done` bytes. Whether all of it verifies.
    fn stage_rest(
        &mut self,
        slot: u32,
        done: usize,
        size: usize,
        batch: &mut BatchBuffer,
    ) -> io::Result<bool> {
        let Some(at) = &self.at else { return Ok(false) };
        let end = self.end_slot(Some(at)).max(slot + 1);
        let forgives = self.forgives();
        let page = match self.pages.page(&at.segment, slot, end) {
            Err(error) if !forgives => return Err(error),
            page => page.ok().flatten(),
        };
        let Some((header, bytes)) = page else {
            return Ok(false);
        };
        if !goes_on(header, at.life, self.want, done) {
            return Ok(false);
        }
        let len = (size - done).min(PAGE_BODY_SIZE);
        batch.stage(done, &bytes[PAGE_HEADER_SIZE..PAGE_HEADER_SIZE + len]);
        Ok(done + len == size && at.seal.verifies(self.want, batch.staged(size)))
    }

    /// Takes what the tail slots of the present life have of what is wanted.
    pub(super) fn take_from_tail(&mut self, batch: &mut BatchBuffer) -> io::Result<Tail> {
        let before = self.want;
        let Some(at) = &self.at else {
            return Ok(Tail::Nothing);
        };
        let (segment, tail, life) = (at.segment.clone(), at.tail, at.life);
        if tail < HEADER_COPIES {
            return Ok(Tail::Nothing);
        }
        let mut later = u64::MAX;
        let forgives = self.forgives();
        for slot in tail..tail + TAIL_SLOTS {
            // Versions change: never from the buffer.
            self.pages.forget();
            let page = match self.pages.page(&segment, slot, slot + 1) {
                Err(error) if !forgives => return Err(error),
                page => page.ok().flatten(),
            };
            let Some((header, _)) = page else {
                continue;
            };
            let header = *header;
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
}
