//! What a sink is given.

use std::io;
use std::ops::Range;

use crate::format::StoreId;
use crate::log::BatchBuffer;
use crate::record::RecordView;

/// A record in one of several buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pick {
    pub buffer: u32,
    pub entry: u32,
}

/// Which records a batch has.
#[derive(Clone, Copy)]
pub(crate) enum Picked<'a> {
    /// All of the first buffer.
    All,
    /// These.
    These(&'a [Pick]),
}

/// Records of one stream, in order. Borrowed for the call.
#[derive(Clone, Copy)]
pub struct Batch<'a> {
    stream: &'a str,
    store: StoreId,
    epoch: u64,
    buffers: &'a [BatchBuffer],
    picked: Picked<'a>,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(
        stream: &'a str,
        store: StoreId,
        epoch: u64,
        buffers: &'a [BatchBuffer],
        picked: Picked<'a>,
    ) -> Self {
        Self {
            stream,
            store,
            epoch,
            buffers,
            picked,
        }
    }

    /// The stream's name.
    pub fn stream(&self) -> &'a str {
        self.stream
    }

    /// The id of the store: with the epoch and the offset it names a record for ever.
    pub fn store(&self) -> StoreId {
        self.store
    }

    /// The epoch of the store: another one means that offsets started anew.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// How many records it has; at least one.
    pub fn len(&self) -> usize {
        match self.picked {
            Picked::All => self.buffers[0].entries().len(),
            Picked::These(picks) => picks.len(),
        }
    }

    /// Never true.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The record at `index`, which is what outcomes name. Panics when there is none.
    pub fn get(&self, index: usize) -> RecordView<'a> {
        let (buffer, entry) = self.place(index);
        let buffer = &self.buffers[buffer];
        buffer.view(&buffer.entries()[entry])
    }

    fn place(&self, index: usize) -> (usize, usize) {
        match self.picked {
            Picked::All => (0, index),
            Picked::These(picks) => (picks[index].buffer as usize, picks[index].entry as usize),
        }
    }

    /// The records.
    pub fn iter(&self) -> impl Iterator<Item = RecordView<'a>> + use<'a> {
        let this = *self;
        (0..self.len()).map(move |index| this.get(index))
    }

    /// From the least offset to behind the greatest.
    pub(crate) fn offsets(&self) -> Range<u64> {
        let offset = |index| {
            let (buffer, entry) = self.place(index);
            self.buffers[buffer].entries()[entry].offset
        };
        let (first, last) = match self.picked {
            // In order.
            Picked::All => (offset(0), offset(self.len() - 1)),
            Picked::These(_) => {
                let offsets = (0..self.len()).map(offset);
                offsets.fold((u64::MAX, 0), |(first, last), offset| {
                    (first.min(offset), last.max(offset))
                })
            }
        };
        first..last + 1
    }

    /// Copies the records, in place of what `buffer` has.
    pub(super) fn copy_to(&self, buffer: &mut BatchBuffer) -> io::Result<()> {
        buffer.clear();
        for index in 0..self.len() {
            let (from, entry) = self.place(index);
            buffer.copy(&self.buffers[from], entry)?;
        }
        Ok(())
    }
}
