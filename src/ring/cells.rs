//! The bytes under the ring: atomic words and plain bytes in one piece of memory.
//!
//! ```text
//!  0     128          4096     4352       8192
//!  │     │ claim │    │ head │ released │ │ slots, 8 bytes each … │ records, `size` bytes …
//!   a page of this process   from here on perhaps shared
//! ```
//!
//! The first page is always this process's own: a child that it forks finds zeros there, which close the
//! ring to it. Behind it lies what a later process of the same boot needs to find the records; the head
//! says whose they are ([`super::remains`]). Producers and consumer use different cache lines.
//! Under loom the same places are loom's atomics and cells, so that it sees every access.

#![allow(unsafe_code)]

#[cfg(not(loom))]
pub(super) use real::Cells;
#[cfg(loom)]
pub(super) use simulated::Cells;

/// The page that is never shared, in bytes.
pub(super) const FRONT_LEN: usize = 4096;
/// What lies in front of the slots, in bytes.
pub(super) const HEADER_LEN: usize = FRONT_LEN + 4096;
/// Where the words are that the consumer gives bytes back with.
pub(super) const RELEASED_POSITION_AT: usize = FRONT_LEN + 256;
/// See [`RELEASED_POSITION_AT`].
pub(super) const RELEASED_OFFSET_AT: usize = RELEASED_POSITION_AT + 8;

#[cfg(not(loom))]
mod real {
    use super::{HEADER_LEN, RELEASED_OFFSET_AT, RELEASED_POSITION_AT};
    use crate::storage::Memory;
    use std::ptr;
    use std::slice;
    use std::sync::atomic::{AtomicU32, AtomicU64};

    const CLAIM_AT: usize = 128;

    /// Invariant: `memory` is page-aligned, used by nobody else, and holds header, `slot_mask + 1` slots
    /// and `mask + 1` bytes, both powers of two.
    #[derive(Debug)]
    pub(crate) struct Cells {
        memory: Memory,
        slot_mask: u32,
        mask: u32,
        bytes_at: usize,
    }

    impl Cells {
        pub(crate) fn new(memory: Memory, size: u32, slots: u32) -> Self {
            assert!(size.is_power_of_two() && slots.is_power_of_two());
            let bytes_at = HEADER_LEN + slots as usize * 8;
            assert!(memory.len() >= bytes_at + size as usize);
            Self {
                memory,
                slot_mask: slots - 1,
                mask: size - 1,
                bytes_at,
            }
        }

        #[inline]
        fn header(&self, at: usize) -> *mut u8 {
            debug_assert!(at < HEADER_LEN);
            // SAFETY: `at` lies in the header, which is part of the memory (invariant).
            unsafe { self.memory.as_ptr().add(at) }
        }

        /// Where `len` bytes from `position` on lie; they do not wrap.
        #[inline]
        fn bytes(&self, position: u32, len: usize) -> *mut u8 {
            let at = (position & self.mask) as usize;
            debug_assert!(at + len <= self.mask as usize + 1, "a record never wraps");
            // SAFETY: `at` is at most `mask`, so the result lies in the memory (invariant).
            unsafe { self.memory.as_ptr().add(self.bytes_at + at) }
        }

        pub(crate) fn wipe_on_fork(&self) -> std::io::Result<()> {
            self.memory.wipe_on_fork(super::FRONT_LEN)
        }

        #[inline]
        pub(crate) fn claim(&self) -> &AtomicU64 {
            // SAFETY: a multiple of 8 in memory that is page-aligned, zeroed and lives as long as
            // `self`; this word is only ever used as an atomic.
            unsafe { AtomicU64::from_ptr(self.header(CLAIM_AT).cast()) }
        }

        #[inline]
        pub(crate) fn released_position(&self) -> &AtomicU32 {
            // SAFETY: as for `claim`.
            unsafe { AtomicU32::from_ptr(self.header(RELEASED_POSITION_AT).cast()) }
        }

        #[inline]
        pub(crate) fn released_offset(&self) -> &AtomicU64 {
            // SAFETY: as for `claim`.
            unsafe { AtomicU64::from_ptr(self.header(RELEASED_OFFSET_AT).cast()) }
        }

        /// The slot of the record with that number.
        #[inline]
        pub(crate) fn slot(&self, number: u32) -> &AtomicU64 {
            let at = HEADER_LEN + (number & self.slot_mask) as usize * 8;
            // SAFETY: the slot lies in the memory (invariant).
            let slot = unsafe { self.memory.as_ptr().add(at) };
            // SAFETY: as for `claim`.
            unsafe { AtomicU64::from_ptr(slot.cast()) }
        }

        /// Copies `bytes` to `position`.
        ///
        /// # Safety
        /// The caller has claimed these bytes and not committed them, and they do not wrap.
        #[inline(always)]
        pub(crate) unsafe fn write(&self, position: u32, bytes: &[u8]) {
            let target = self.bytes(position, bytes.len());
            // SAFETY: the target lies in the memory (`bytes`); the caller owns it, so nobody else reads
            // or writes it, and `bytes` is not part of it.
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len()) };
        }

        /// Lends `len` bytes from `position` on.
        ///
        /// # Safety
        /// They belong to a committed record that was not released, and do not wrap.
        #[inline]
        pub(crate) unsafe fn read<R>(
            &self,
            position: u32,
            len: usize,
            f: impl FnOnce(&[u8]) -> R,
        ) -> R {
            let source = self.bytes(position, len);
            // SAFETY: in the memory (`bytes`); committed bytes are written by nobody until the consumer
            // releases them, and it is the consumer that waits here for `f`.
            f(unsafe { slice::from_raw_parts(source, len) })
        }
    }
}

#[cfg(loom)]
mod simulated {
    use crate::storage::Memory;
    use loom::cell::UnsafeCell;
    use loom::sync::atomic::{AtomicU32, AtomicU64};

    /// Each unit of 8 bytes is a cell that loom watches.
    #[derive(Debug)]
    pub(crate) struct Cells {
        claim: AtomicU64,
        released_position: AtomicU32,
        released_offset: AtomicU64,
        slots: Vec<AtomicU64>,
        units: Vec<UnsafeCell<[u8; 8]>>,
        mask: u32,
    }

    // SAFETY: whoever shares it wrongly is what loom is here to find.
    unsafe impl Sync for Cells {}

    impl Cells {
        pub(crate) fn new(_memory: Memory, size: u32, slots: u32) -> Self {
            Self {
                claim: AtomicU64::new(0),
                released_position: AtomicU32::new(0),
                released_offset: AtomicU64::new(0),
                slots: (0..slots).map(|_| AtomicU64::new(0)).collect(),
                units: (0..size / 8).map(|_| UnsafeCell::new([0; 8])).collect(),
                mask: size - 1,
            }
        }

        #[allow(clippy::unused_self, clippy::unnecessary_wraps)]
        pub(crate) fn wipe_on_fork(&self) -> std::io::Result<()> {
            Ok(())
        }

        pub(crate) fn claim(&self) -> &AtomicU64 {
            &self.claim
        }

        pub(crate) fn released_position(&self) -> &AtomicU32 {
            &self.released_position
        }

        pub(crate) fn released_offset(&self) -> &AtomicU64 {
            &self.released_offset
        }

        pub(crate) fn slot(&self, number: u32) -> &AtomicU64 {
            &self.slots[number as usize % self.slots.len()]
        }

        pub(crate) unsafe fn write(&self, position: u32, bytes: &[u8]) {
            for (index, byte) in bytes.iter().enumerate() {
                let at = (position & self.mask) as usize + index;
                // SAFETY: the caller owns these bytes; loom sees it if somebody else has them, too.
                self.units[at / 8].with_mut(|unit| unsafe { (*unit)[at % 8] = *byte });
            }
        }

        pub(crate) unsafe fn read<R>(
            &self,
            position: u32,
            len: usize,
            f: impl FnOnce(&[u8]) -> R,
        ) -> R {
            let from = (position & self.mask) as usize;
            // SAFETY: nobody writes committed bytes; loom sees it if somebody does.
            let byte = |at: usize| self.units[at / 8].with(|unit| unsafe { (*unit)[at % 8] });
            f(&(from..from + len).map(byte).collect::<Vec<_>>())
        }
    }
}
