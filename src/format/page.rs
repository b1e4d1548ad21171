//! A page's header: where it belongs, when it was written, and how to get into it.

use super::{
    FORMAT, Fields, PAGE_SIZE, PAGES_MAX, Writer, is_life, is_offset, narrow, seal, verifies,
};
use crate::clock::Stamp;
use crate::rules::{Rule, holds};

/// The bytes of a page's header.
pub const PAGE_HEADER_SIZE: usize = 88;
/// The bytes of a page behind its header.
pub const PAGE_BODY_SIZE: usize = PAGE_SIZE - PAGE_HEADER_SIZE;

const MAGIC: u16 = 0x46b1;
const FLAG_TAIL: u8 = 1;

/// The header of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct PageHeader {
    /// A version of a partly filled page, in one of a life's three tail slots.
    pub is_tail: bool,
    /// The first half of the store's id.
    pub store: u64,
    /// The base offset of the segment.
    pub base: u64,
    /// The life in which it was written.
    pub life: u64,
    /// The offset of the first record that starts here, or would.
    pub first: u64,
    /// The first offset that was not durable, announced before this page was written.
    pub mark: u64,
    /// When the first record that starts here was appended; records count from it. Where none starts,
    /// when the one was that goes on here.
    pub stamp: Stamp,
    /// Which page of the file this is.
    pub slot: u32,
    /// How many bytes of the record `first - 1` lie in earlier pages; 0 when none goes on here.
    pub carried: u32,
    /// The first of this life's tail slots in this segment; 0 when it has none yet.
    pub tail: u32,
    /// Where in the page the first record starts.
    pub start: u16,
    /// How many records start here.
    pub count: u16,
}

impl PageHeader {
    /// Writes it to the front of a page; the rest stays.
    pub fn encode(&self, page: &mut [u8]) {
        let bytes = &mut page[..PAGE_HEADER_SIZE];
        let mut writer = Writer::new(bytes);
        let flags = if self.is_tail { FLAG_TAIL } else { 0 };
        writer.u32(0).u16(MAGIC).u8(narrow(FORMAT.into())).u8(flags);
        writer
            .u64(self.store)
            .u64(self.base)
            .u64(self.life)
            .u64(self.first)
            .u64(self.mark);
        writer
            .u64(self.stamp.boot)
            .u64(self.stamp.mono_ms)
            .u64(self.stamp.wall_ms);
        writer
            .u32(self.slot)
            .u32(self.carried)
            .u32(self.tail)
            .u16(self.start)
            .u16(self.count);
        seal(bytes);
    }

    /// Reads what [`encode`](Self::encode) wrote. `None` when it does not verify.
    pub fn decode(page: &[u8]) -> Option<Self> {
        let bytes = page.get(..PAGE_HEADER_SIZE)?;
        let mut fields = Fields(&bytes[4..]);
        if fields.u16() != MAGIC || u16::from(fields.u8()) > FORMAT {
            return None;
        }
        if holds(Rule::PageChecksum) && !verifies(bytes) {
            return None;
        }
        let is_tail = fields.u8() & FLAG_TAIL != 0;
        let (store, base, life) = (fields.u64(), fields.u64(), fields.u64());
        let (first, mark) = (fields.u64(), fields.u64());
        let stamp = Stamp {
            boot: fields.u64(),
            mono_ms: fields.u64(),
            wall_ms: fields.u64(),
        };
        let (slot, carried, tail) = (fields.u32(), fields.u32(), fields.u32());
        let (start, count) = (fields.u16(), fields.u16());
        let starts_inside = (PAGE_HEADER_SIZE..=PAGE_SIZE).contains(&start.into());
        let header = Self {
            is_tail,
            store,
            base,
            life,
            first,
            mark,
            stamp,
            slot,
            carried,
            tail,
            start,
            count,
        };
        let is_within = is_offset(base) && is_offset(first) && is_offset(mark) && is_life(life);
        (starts_inside && is_within && tail < PAGES_MAX).then_some(header)
    }

    /// The offset behind the last record that starts here.
    pub fn end(&self) -> u64 {
        self.first.saturating_add(self.count.into())
    }
}
