//! The bytes under the ring: atomic words and plain bytes in one piece of memory.
//!
//! ```text
//!  0        128      256            4096
//!  │ header │ claim  │ released     │ records, `size` bytes …
//! ```
//!
//! The header is for a later process of the same boot that finds the memory; producers and consumer use
//! different cache lines. Under loom the same places are loom's atomics and cells, so that it sees every
//! access.

#![allow(unsafe_code)]

#[cfg(not(loom))]
pub(super) use real::Cells;
#[cfg(loom)]
pub(super) use simulated::Cells;

/// What lies in front of the records, in bytes.
pub(super) const HEADER_LEN: usize = 4096;

#[cfg(not(loom))]
mod real {
    use super::HEADER_LEN;
    use crate::storage::Memory;
    use std::ptr;
    use std::slice;
    use std::sync::atomic::{AtomicU32, AtomicU64};

    const CLAIM_AT: usize = 128;
    const RELEASED_POSITION_AT: usize = 256;
    const RELEASED_OFFSET_AT: usize = 264;

    /// Invariant: `memory` is `HEADER_LEN + mask + 1` bytes, page-aligned, and used by nobody else.
    #[derive(Debug)]
    pub(crate) struct Cells {
        memory: Memory,
        mask: u32,
    }

    impl Cells {
        pub(crate) fn new(memory: Memory, size: u32) -> Self {
            assert!(size.is_power_of_two());
            assert!(memory.len() >= HEADER_LEN + size as usize);
            Self {
                memory,
                mask: size - 1,
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
            unsafe { self.memory.as_ptr().add(HEADER_LEN + at) }
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

        /// The state of the record that starts at `position`, a multiple of 8.
        #[inline]
        pub(crate) fn state(&self, position: u32) -> &AtomicU32 {
            debug_assert!(position.is_multiple_of(8));
            // SAFETY: aligned, in the memory and alive as for `claim`. Plain accesses to these bytes
            // (`zero`, or `write` for a longer record of another lap) and atomic ones are ordered by
            // the release and the acquire of `released_position`.
            unsafe { AtomicU32::from_ptr(self.bytes(position, 4).cast()) }
        }

        /// Copies `bytes` to `position`.
        ///
        /// # Safety
        /// The caller has claimed these bytes and not committed them, and they do not wrap.
        #[inline]
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

        /// Zeroes `len` bytes from `position` on.
        ///
        /// # Safety
        /// They belong to records that the consumer has done with and not released, and do not wrap.
        pub(crate) unsafe fn zero(&self, position: u32, len: usize) {
            let target = self.bytes(position, len);
            // SAFETY: in the memory (`bytes`), and the consumer's until it releases them.
            unsafe { ptr::write_bytes(target, 0, len) };
        }
    }
}

#[cfg(loom)]
mod simulated {
    use crate::storage::Memory;
    use loom::cell::UnsafeCell;
    use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering};

    /// Each unit of 8 bytes is a state and a cell that loom watches.
    #[derive(Debug)]
    pub(crate) struct Cells {
        claim: AtomicU64,
        released_position: AtomicU32,
        released_offset: AtomicU64,
        states: Vec<AtomicU32>,
        units: Vec<UnsafeCell<[u8; 8]>>,
        mask: u32,
    }

    impl Cells {
        pub(crate) fn new(_memory: Memory, size: u32) -> Self {
            let units = size as usize / 8;
            Self {
                claim: AtomicU64::new(0),
                released_position: AtomicU32::new(0),
                released_offset: AtomicU64::new(0),
                states: (0..units).map(|_| AtomicU32::new(0)).collect(),
                units: (0..units).map(|_| UnsafeCell::new([0; 8])).collect(),
                mask: size - 1,
            }
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

        pub(crate) fn state(&self, position: u32) -> &AtomicU32 {
            &self.states[(position & self.mask) as usize / 8]
        }

        pub(crate) unsafe fn write(&self, position: u32, bytes: &[u8]) {
            for (index, byte) in bytes.iter().enumerate() {
                let at = (position & self.mask) as usize + index;
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
            let byte = |at: usize| self.units[at / 8].with(|unit| unsafe { (*unit)[at % 8] });
            f(&(from..from + len).map(byte).collect::<Vec<_>>())
        }

        pub(crate) unsafe fn zero(&self, position: u32, len: usize) {
            let from = (position & self.mask) as usize / 8;
            for at in from..from + len / 8 {
                self.states[at].store(0, Ordering::Relaxed);
                self.units[at].with_mut(|unit| unsafe { *unit = [0; 8] });
            }
        }
    }
}
