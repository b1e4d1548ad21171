//! Files that are kept aside because something in them is damaged: for `read --salvage`, and for people.
//!
//! ```text
//!  segment with damage ─ acknowledged or dropped ─▶ damaged-000003-17 ─ quota ─▶ the oldest goes
//! ```
//!
//! They count against the store's budget, and take a quarter of it at most, whatever their quota says.

use super::open::files::{ASIDE_PREFIX, aside_name};
use super::{Geometry, Log};
use crate::format::{PAGE_SIZE, Reason};
use crate::segment::{self, Segment};

/// A file that is kept aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aside {
    /// Its name.
    pub name: String,
    /// What it takes of the disk.
    pub pages: u64,
}

impl Aside {
    pub(super) fn new(name: &str, bytes: u64) -> Self {
        Self {
            name: name.to_owned(),
            pages: bytes.div_ceil(PAGE_SIZE as u64),
        }
    }

    /// What its name says of its age: the greater, the newer. Whoever else named it was there first.
    fn life(&self) -> u64 {
        let life = self.name.strip_prefix(ASIDE_PREFIX);
        let life = life.and_then(|rest| rest.split_once('-'));
        life.and_then(|(_, life)| life.parse().ok()).unwrap_or(0)
    }
}

impl Log {
    /// The most pages of such files.
    fn aside_pages_max(&self) -> u64 {
        let quota = self.options.aside_bytes_max / PAGE_SIZE as u64;
        quota.min(Geometry::of(&self.options).budget_pages / 4)
    }

    /// What they take.
    fn aside_pages(&self) -> u64 {
        self.aside.iter().map(|aside| aside.pages).sum()
    }

    /// Takes on what former runs have set aside, as far as the quota goes. Their pages are
    /// out of the budget.
    pub(super) fn adopt_aside(&mut self, found: &[Aside]) {
        for aside in found {
            self.take_out(aside.clone());
        }
        self.drop_aside(0);
    }

    /// Counts one against the budget.
    pub(super) fn take_out(&mut self, aside: Aside) {
        self.aside.push(aside);
        self.settle_budget();
    }

    fn settle_budget(&mut self) {
        let whole = Geometry::of(&self.options).budget_pages;
        self.geometry.budget_pages = whole.saturating_sub(self.aside_pages());
    }

    /// Removes the oldest until there is room for so many pages more.
    pub(super) fn drop_aside(&mut self, pages: u64) {
        let max = self.aside_pages_max();
        while self.aside_pages() + pages > max {
            let oldest = (0..self.aside.len()).min_by_key(|at| self.aside[*at].life());
            let Some(at) = oldest else { return };
            let Aside { name, pages } = self.aside.swap_remove(at);
            log::warn!("{}: {name} goes: no more is kept", self.options.name);
            self.settle_budget();
            let pages = u32::try_from(pages).unwrap_or(u32::MAX);
            self.remove_file(name, u32::MAX, pages);
        }
    }

    /// Keeps a segment aside that nobody needs any more, if something of its records up to `end` is
    /// damaged and the quota has room for it. False: it is as any other.
    pub(super) fn set_aside(&mut self, segment: &Segment, end: u64) -> bool {
        let pages = u64::from(segment.pages);
        if !self.has_damage(segment.base, end) || pages > self.aside_pages_max() {
            return false;
        }
        self.drop_aside(pages);
        let (from, to) = (
            segment::file_name(segment.number),
            aside_name(segment.number, segment.life),
        );
        let renamed = self.dir.rename(&from, &to).and_then(|()| self.dir.sync());
        let name = &self.options.name;
        if let Err(error) = renamed {
            log::warn!("{name}: rename {from} failed: {error}");
            // Which name it has is not known: neither is used again.
            self.shared.with_table(|table| table.block(segment.number));
        } else {
            log::warn!("{name}: {from} has damage; it is kept as {to}");
        }
        self.take_out(Aside { name: to, pages });
        true
    }

    fn has_damage(&self, from: u64, to: u64) -> bool {
        let ledger = self.shared.ledger();
        let mut ranges = ledger.ranges().iter();
        ranges.any(|loss| loss.reason == Reason::Damage && loss.start < to && loss.end > from)
    }
}
