//! One preallocated file of pages: prepare it, append to it, sync it.
//!
//! ```text
//!  | header ×2 | page | page | tail ×3 | page | page | . . . zeros, or pages of a former life |
//!                             ▲ versions of the partly filled page rotate here
//!                                             home ▲ where that page goes once it is full
//! ```
//!
//! The parent decides, the leaf asserts: the log asks [`SegmentWriter::fits`] and rolls. A page goes to
//! its own place once, when it is full or padded. While it is partly filled, each sync that wants it on
//! the medium writes the next of three tail slots, so that the two newest durable versions stay whole
//! whatever happens to the third. A sync that closed [`PAD_FROM`] pages or more pads the last one
//! instead: then that costs less flash than writing it again (`docs/decisions/0002`).
//!
//! **Invariants.**
//! 1. A page at its own place is written once in a life, and never where a page of an earlier life of
//!    this segment verifies: `home` only grows, and starts behind the last of those.
//! 2. Pages written carry the life of the writer and the mark that was announced before.
//! 3. What [`sync`](SegmentWriter::sync) returned from is durable. After any error nothing more is
//!    written to the file: the kernel reports a failed write-back once and forgets it.
//!
//! **Threads.** The syncer's alone. Readers see the file by position, see `read`.

use std::io;
use std::sync::Arc;

use crate::clock::Stamp;
use crate::format::{HEADER_COPIES, PAGE_SIZE, SegmentHeader};
use crate::storage::File;

mod read;
mod writer;

pub use read::{PageReader, READ_AHEAD_PAGES};
pub use writer::{Draft, Io, SegmentWriter};

/// How many pages the writer holds before it writes them at once.
pub const STAGE_PAGES: usize = 64;
/// The tail slots of a life in a segment.
pub const TAIL_SLOTS: u32 = 3;
/// A sync that closed so many pages pads the last one.
pub const PAD_FROM: u32 = 4;
/// The part of the active segment that is mapped at a time, in bytes.
pub const WINDOW_SIZE: usize = 1 << 20;

/// A segment as everybody knows it. Cheap to clone.
#[derive(Clone)]
pub struct Segment {
    /// The file.
    pub file: Arc<dyn File>,
    /// Its number and name.
    pub number: u32,
    /// The first offset that may stand in it.
    pub base: u64,
    /// The life under which it was prepared.
    pub life: u64,
    /// Its length in pages.
    pub pages: u32,
    /// When it was prepared: no record before its base is younger.
    pub prepared: Stamp,
}

impl std::fmt::Debug for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            number,
            base,
            life,
            pages,
            ..
        } = self;
        write!(
            f,
            "segment {number} from {base}, life {life}, {pages} pages"
        )
    }
}

/// The name of the file with that number.
pub fn file_name(number: u32) -> String {
    format!("segment-{number:06}")
}

/// The number in the name of a segment's file.
pub fn file_number(name: &str) -> Option<u32> {
    let digits = name.strip_prefix("segment-")?;
    let number = digits.parse().ok()?;
    (digits.len() >= 6 && number > 0 && file_name(number) == name).then_some(number)
}

/// Where a page lies in its file.
pub fn position(slot: u32) -> u64 {
    u64::from(slot) * PAGE_SIZE as u64
}

/// Writes both copies of a header. Durable only after a sync.
pub fn write_headers(file: &dyn File, header: &SegmentHeader) -> io::Result<()> {
    let mut pages = [0; HEADER_COPIES as usize * PAGE_SIZE];
    for copy in pages.chunks_exact_mut(PAGE_SIZE) {
        header.encode(copy);
    }
    file.write_at(&pages, 0)
}

/// Writes one copy of a header.
pub fn write_header_copy(file: &dyn File, header: &SegmentHeader, copy: u32) -> io::Result<()> {
    let mut page = [0; PAGE_SIZE];
    header.encode(&mut page);
    file.write_at(&page, position(copy))
}

#[cfg(test)]
mod tests;
