//! Where a reader stands: in which segment, at which page.

use std::io;

use super::{At, Reader};
use crate::format::{HEADER_COPIES, PageHeader, Seal};
use crate::log::shared::Located;

/// While seeking, so many pages that do not verify are taken for the end of what is written.
const SEEK_HOLE_MAX: u32 = 8;

impl Reader {
    /// Makes sure that the reader stands in the segment of the record that is wanted.
    pub(super) fn locate(&mut self) -> io::Result<bool> {
        let is_here = |at: &At| {
            let ends_behind = match at.next_base {
                Some(base) => self.want < base,
                // It was the last one, and is if it is the active one still.
                None => self.shared.end_slot(at.segment.life).is_some(),
            };
            at.segment.base <= self.want && ends_behind
        };
        if self.at.as_ref().is_some_and(is_here) {
            return Ok(true);
        }
        let Some(located) = self.shared.find(self.want) else {
            return Ok(false);
        };
        if let Some(at) = self.at.as_mut().filter(|at| at.is_in(&located.segment)) {
            at.next_base = located.next_base;
            return Ok(true);
        }
        let starts_here = located.segment.base == self.want;
        self.enter(located);
        if !starts_here {
            self.seek()?;
        }
        Ok(true)
    }

    pub(super) fn enter(&mut self, located: Located) {
        let Located { segment, next_base } = located;
        self.pages.forget();
        self.at = Some(At {
            segment,
            next_base,
            slot: HEADER_COPIES,
            life: 0,
            tail: 0,
            seal: Seal::new(self.shared.store.tag(), 0),
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
        let (mut low, mut high) = (HEADER_COPIES, self.end_slot(Some(at)));
        let mut found = None;
        while low < high {
            let middle = low.midpoint(high);
            // The next page at its own place; a few may be tail slots, or damaged.
            let mut probe = None;
            for slot in middle..high.min(middle + SEEK_HOLE_MAX) {
                let page = self.pages.page(&segment, slot, slot + 1)?;
                if let Some((header, _)) = page.filter(|(header, _)| !header.is_tail) {
                    probe = Some((slot, *header));
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
    /// the time of day was unknown, reading starts too early rather than too late. Where it went back,
    /// records from before that may be passed over.
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
                Some((header, _)) if is_before(header) => offset = offset.max(header.first),
                _ => break,
            }
        }
        Ok(offset)
    }
}
