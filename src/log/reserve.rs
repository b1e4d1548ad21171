//! The whole budget taken ahead (`buffer.reserve: all`), so that a disk which others fill later refuses
//! nothing that the budget has room for.
//!
//! ```text
//!  open ─▶ take what a former run had made ─▶ take disk, a file a turn ─▶ write zeros, a step a turn ─▶ done
//!                                                  │ no room
//!                                                  └─▶ say so; again while records come
//! ```
//!
//! The syncer does a step a turn. After each it leaves the device to others for as long as the step took,
//! so a sync waits for one step at most.

use std::time::Duration;

use super::Log;
use super::open::files::Files;
use super::spare::Spare;
use crate::clock::Mono;
use crate::counters::StreamCounter;
use crate::format::PAGE_SIZE;

/// How long a file system that had no room for all of it is left alone.
const SHORT_PAUSE: Duration = Duration::from_mins(1);

impl Log {
    /// When [`reserve`](Self::reserve) has something to do.
    pub fn reserve_due(&self) -> Mono {
        self.reserve_due
    }

    /// A step towards the whole budget, when one is due: blocks for as long as the device takes to write
    /// 256 KiB, at every fourth to sync 1 MiB.
    pub fn reserve(&mut self) {
        let start = self.clock.mono();
        if start < self.reserve_due {
            return;
        }
        self.reserve_due = Mono::NEVER;
        if !self.options.reserves_all {
            return;
        }
        let is_left_alone = self.reserve_short.is_some_and(|until| start < until);
        if self.next_pages().is_some() && !is_left_alone {
            match self.new_spare() {
                Ok(Some(spare)) => {
                    self.spares.push(spare);
                    self.reserve_due = start;
                }
                Ok(None) => self.fall_short("there is no room for it"),
                Err(error) => self.fall_short(&error.to_string()),
            }
            self.report_space();
        }
        if self.reserve_due == Mono::NEVER
            && let Some(at) = self.spares.iter().position(Spare::is_owed)
        {
            let dir = std::sync::Arc::clone(&self.dir);
            let count = self.spares.len();
            match self.step_spare(at, |spare| spare.reserve_step(&*dir)) {
                Ok(()) if self.spares.len() < count => self.fall_short("there is no room for it"),
                Ok(()) => {
                    let now = self.clock.mono();
                    self.reserve_due = now.plus(now.since(start));
                }
                Err(error) => self.fall_short(&error.to_string()),
            }
            self.report_reserve();
        }
        if self.unreserved() == 0 && !self.spares.iter().any(Spare::is_owed) {
            self.reserve_due = Mono::NEVER;
            self.reserve_short = None;
            log::info!("{}: the whole budget is reserved", self.options.name);
        }
    }

    /// Goes on when something was given back, or where the file system had no room before.
    pub(super) fn reserve_again(&mut self) {
        if self.options.reserves_all
            && self.reserve_due == Mono::NEVER
            && self.board.get(StreamCounter::UnreservedBytes) > 0
        {
            self.reserve_due = self.reserve_short.unwrap_or_default();
        }
    }

    fn fall_short(&mut self, why: &str) {
        let (name, bytes) = (&self.options.name, self.unreserved());
        if self.reserve_short.is_none() {
            log::error!("{name}: {bytes} bytes of the budget are not reserved: {why}");
        }
        self.reserve_short = Some(self.clock.mono().plus(SHORT_PAUSE));
    }

    /// The pages that the next new segment should have; `None` when all of the budget is reserved.
    pub(super) fn next_pages(&self) -> Option<u32> {
        let newest = self.shared.with_table(|table| table.newest_pages());
        if !self.options.reserves_all {
            return Some(self.geometry.next_pages(newest));
        }
        let spares = self.spares.iter().map(Spare::pages);
        let largest = spares.chain(newest).max();
        self.geometry.reserve_pages(self.taken_pages(), largest)
    }

    /// The pages of the budget that are taken.
    pub(super) fn taken_pages(&self) -> u64 {
        let pages = self.shared.with_table(|table| table.total_pages()) + self.leftover_pages();
        match self.options.reserves_all {
            true => pages + self.spare_pages(),
            // A freed segment may be better than the one spare, which then goes.
            false => pages,
        }
    }

    pub(super) fn spare_pages(&self) -> u64 {
        self.spares
            .iter()
            .map(|spare| u64::from(spare.pages()))
            .sum()
    }

    /// What of the budget is not taken yet, or taken and not written, in bytes.
    fn unreserved(&self) -> u64 {
        if !self.options.reserves_all {
            return 0;
        }
        let unwritten: u64 = self.spares.iter().map(Spare::unwritten).sum();
        let left = self
            .geometry
            .budget_pages
            .saturating_sub(self.taken_pages());
        let left = self.next_pages().map_or(0, |_| left);
        left * PAGE_SIZE as u64 + unwritten
    }

    pub(super) fn report_reserve(&self) {
        self.board
            .set(StreamCounter::UnreservedBytes, self.unreserved());
    }

    /// A file of that size is kept for a segment.
    pub(super) fn is_wanted(&self, pages: u32) -> bool {
        match self.options.reserves_all {
            true => {
                let is_right = (self.geometry.first_pages..=self.geometry.pages).contains(&pages);
                is_right && self.geometry.has_room(self.taken_pages(), pages)
            }
            false => pages == self.geometry.pages && self.spares.is_empty(),
        }
    }

    /// Takes over what a former run made ahead. False: it is of no use.
    pub(super) fn adopt_spare(&mut self, name: &str, files: &Files) -> bool {
        if !self.options.reserves_all {
            return false;
        }
        let spare = match Spare::found(&*self.dir, name) {
            Ok(Some(spare)) => spare,
            Ok(None) => return false,
            Err(error) => {
                log::warn!("{}: open {name} failed: {error}", self.options.name);
                return false;
            }
        };
        let number = spare.number();
        // After a crash a file may have its former name beside its new one.
        let is_dead = files.dead.iter().any(|dead| dead.segment.number == number);
        let is_known = self.spares.iter().any(|spare| spare.number() == number)
            || self.shared.with_table(|table| table.has_number(number));
        let is_adopted = !is_dead && !is_known && self.is_wanted(spare.pages());
        if is_adopted {
            self.spares.push(spare);
        }
        is_adopted
    }
}
