//! Files that nobody needs and that could not be removed: they count against the budget until they are gone.

use std::io;

use super::Log;
use super::spare::Spare;
use crate::format::PAGE_SIZE;
use crate::rules::{Rule, holds};

/// A file that is to go.
#[derive(Debug)]
pub(super) struct Leftover {
    name: String,
    /// The number that is not used for another file meanwhile.
    number: u32,
    pages: u32,
}

impl Log {
    /// Removes a file, durably. Where that fails it is tried again before more of the disk is taken.
    pub(super) fn remove_file(&mut self, name: String, number: u32, pages: u32) {
        // A name may be used again only when its removal is durable.
        self.shared.with_table(|table| table.block(number));
        let leftover = Leftover {
            name,
            number,
            pages,
        };
        if let Err(error) = self.remove(&leftover) {
            let (stream, name) = (&self.options.name, &leftover.name);
            log::warn!("{stream}: remove {name} failed: {error}");
            self.leftovers.push(leftover);
        }
    }

    /// The same for a file that did not become a segment.
    pub(super) fn remove_spare(&mut self, spare: Spare) {
        let (name, number, pages) = (spare.file_name(), spare.number(), spare.pages());
        drop(spare);
        self.remove_file(name, number, pages);
    }

    /// The same for a file that a former run left, of a length that is not known.
    pub(super) fn remove_found(&mut self, name: &str, number: u32) {
        let size = self.dir.open(name).and_then(|file| file.size());
        let pages = size.ok().and_then(|size| {
            let pages = size.div_ceil(PAGE_SIZE as u64);
            u32::try_from(pages).ok()
        });
        let pages = pages.unwrap_or(self.geometry.pages);
        self.remove_file(name.to_owned(), number, pages);
    }

    /// Tries those again that could not be removed.
    pub(super) fn remove_leftovers(&mut self) {
        let mut at = 0;
        while let Some(leftover) = self.leftovers.get(at) {
            match self.remove(leftover) {
                Ok(()) => drop(self.leftovers.swap_remove(at)),
                Err(_) => at += 1,
            }
        }
    }

    /// What they take.
    pub(super) fn leftover_pages(&self) -> u64 {
        let pages = self.leftovers.iter();
        pages.map(|leftover| u64::from(leftover.pages)).sum()
    }

    fn remove(&self, leftover: &Leftover) -> io::Result<()> {
        match self.dir.remove(&leftover.name) {
            // A try before took the name away, and was not durable.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed?,
        }
        if holds(Rule::RemovalSynced) {
            self.dir.sync()?;
        }
        self.shared
            .with_table(|table| table.unblock(leftover.number));
        Ok(())
    }
}
