//! What C holds instead of pointers: numbers of slots in a table.
//!
//! ```text
//!  handle   | generation 19 | slot 11 | kind 2 |          state   | generation 32 | phase 2 | users 30 |
//!
//!  vacant ─ insert ─▶ reserved ─▶ live ─ remove ─▶ dying ─ last user leaves ─▶ vacant, next generation
//! ```
//!
//! A handle of another kind, of an earlier generation or of no table at all is told without following it.
//! A generation comes back to its handle after half a million lives of its slot.
//!
//! **Invariants.** A slot's value is written and taken only by who has made it `reserved`, or has been the
//! last to leave it `dying`: at most one thread, while nobody else can get in. It is read only by users
//! who came in while it was `live`, until they leave.
//!
//! **Threads.** All of it is for all threads; nothing waits: who removes does not wait for users, the last of
//! them clears up.

use std::cell::UnsafeCell;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};

const KIND_BITS: u32 = 2;
const SLOT_BITS: u32 = 11;
const GENERATION_BITS: u32 = 32 - KIND_BITS - SLOT_BITS;

const USERS: u64 = (1 << 30) - 1;
const PHASE: u64 = 3 << 30;
const VACANT: u64 = 0;
const RESERVED: u64 = 1 << 30;
const LIVE: u64 = 2 << 30;
const DYING: u64 = 3 << 30;
const GENERATION: u64 = 1 << 32;

/// Up to `N` values. Handles of one `KIND` are none of another. An empty one is all zeros, and takes no
/// room in a binary.
pub struct Table<T, const KIND: usize, const N: usize> {
    slots: [Slot<T>; N],
}

struct Slot<T> {
    state: AtomicU64,
    value: UnsafeCell<Option<T>>,
}

// SAFETY: the value is reached by one thread alone, or by several that only read it: the module's invariant,
// which the state upholds.
unsafe impl<T: Send + Sync> Sync for Slot<T> {}

/// A value that is not gone as long as this is there.
pub struct Lease<'a, T>(&'a Slot<T>);

impl<T, const KIND: usize, const N: usize> Table<T, KIND, N> {
    /// An empty one.
    pub const fn new() -> Self {
        assert!(N <= 1 << SLOT_BITS && KIND > 0 && KIND < 1 << KIND_BITS);
        let slots = [const {
            Slot {
                state: AtomicU64::new(VACANT),
                value: UnsafeCell::new(None),
            }
        }; N];
        Self { slots }
    }

    /// Keeps a value and returns its handle; drops it and returns `None` when there is no room.
    pub fn insert(&self, value: T) -> Option<usize> {
        for (index, slot) in self.slots.iter().enumerate() {
            let state = slot.state.load(Ordering::Relaxed);
            if state & (PHASE | USERS) != VACANT {
                continue;
            }
            // Acquire pairs with the Release that made it vacant: the former value is gone.
            let reserved = slot.state.compare_exchange(
                state,
                state | RESERVED,
                Ordering::Acquire,
                Ordering::Relaxed,
            );
            if reserved.is_err() {
                continue;
            }
            // SAFETY: this thread has made it reserved: nobody else reaches the value.
            unsafe { *slot.value.get() = Some(value) };
            // Release: who finds it live finds the value.
            slot.state.store(state | LIVE, Ordering::Release);
            return Some(Self::handle(index, state));
        }
        None
    }

    #[allow(clippy::cast_possible_truncation)] // cut to less
    fn handle(index: usize, state: u64) -> usize {
        // The first one is 1: no handle is a small number. Cut to the bits of a handle, which fit 32.
        let generation = (state / GENERATION + 1) as usize & ((1 << GENERATION_BITS) - 1);
        (generation << SLOT_BITS | index) << KIND_BITS | KIND
    }

    /// The slot of a handle, if it is one of this table.
    #[inline]
    fn slot(&self, handle: usize) -> Option<(usize, &Slot<T>)> {
        let index = handle >> KIND_BITS & ((1 << SLOT_BITS) - 1);
        let is_ours = handle & ((1 << KIND_BITS) - 1) == KIND;
        self.slots
            .get(index)
            .filter(|_| is_ours)
            .map(|slot| (index, slot))
    }

    /// Comes in to a live value, and leaves it in `phase`.
    #[inline]
    fn enter(&self, handle: usize, phase: u64) -> Option<Lease<'_, T>> {
        let (index, slot) = self.slot(handle)?;
        let mut state = slot.state.load(Ordering::Relaxed);
        loop {
            let is_live = state & PHASE == LIVE && state & USERS < USERS;
            if !is_live || Self::handle(index, state) != handle {
                return None;
            }
            let next = (state & !PHASE | phase) + 1;
            // Acquire pairs with the Release that made it live: the value is there.
            let entered =
                slot.state
                    .compare_exchange_weak(state, next, Ordering::Acquire, Ordering::Relaxed);
            match entered {
                Ok(_) => return Some(Lease(slot)),
                Err(now) => state = now,
            }
        }
    }

    /// The value of a handle. `None`: it is no handle of a value that is there.
    #[inline]
    pub fn lease(&self, handle: usize) -> Option<Lease<'_, T>> {
        self.enter(handle, LIVE)
    }

    /// Ends a handle. The value is dropped here, or when its last user is done. False: as with
    /// [`lease`](Self::lease).
    pub fn remove(&self, handle: usize) -> bool {
        self.enter(handle, DYING).is_some()
    }
}

impl<T> Deref for Lease<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: this user came in while it was live and has not left: the value is only read.
        let value = unsafe { &*self.0.value.get() };
        value.as_ref().expect("a live slot has a value")
    }
}

impl<T> Drop for Lease<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // Release: what this user read is read. Acquire, for the last one: so is what the others read.
        let state = self.0.state.fetch_sub(1, Ordering::AcqRel);
        if state & (PHASE | USERS) == DYING + 1 {
            self.0.clear(state);
        }
    }
}

impl<T> Slot<T> {
    #[cold]
    fn clear(&self, state: u64) {
        // SAFETY: this was the last to leave it dying: nobody else reaches the value.
        let value = unsafe { (*self.value.get()).take() };
        // Release pairs with the Acquire that reserves it.
        let next = (state & !(PHASE | USERS)).wrapping_add(GENERATION);
        self.state.store(next, Ordering::Release);
        drop(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn a_handle_that_is_none_is_refused() {
        static TABLE: Table<u32, 2, 4> = Table::new();
        let handle = TABLE.insert(7).unwrap();
        assert_eq!(*TABLE.lease(handle).unwrap(), 7);
        for wrong in [
            0,
            1,
            2,
            handle + 1,
            handle + 4,
            handle | 1 << 20,
            usize::MAX,
        ] {
            assert!(wrong == handle || TABLE.lease(wrong).is_none(), "{wrong:x}");
        }
        assert!(TABLE.remove(handle));
        assert!(!TABLE.remove(handle) && TABLE.lease(handle).is_none());
        let again = TABLE.insert(8).unwrap();
        assert_ne!(again, handle, "the slot's next handle is another");
        assert!(TABLE.lease(handle).is_none());
        let more: Vec<_> = (0..4).map(|n| TABLE.insert(n)).collect();
        assert_eq!(more.iter().flatten().count(), 3);
    }

    /// Whoever uses a value while it is removed keeps it until he is done.
    #[test]
    fn the_last_user_drops_the_value() {
        let table: Table<Arc<()>, 1, 1> = Table::new();
        let value = Arc::new(());
        let handle = table.insert(Arc::clone(&value)).unwrap();
        let user = table.lease(handle).unwrap();
        assert!(table.remove(handle));
        assert!(table.lease(handle).is_none() && table.insert(Arc::new(())).is_none());
        assert_eq!(Arc::strong_count(&value), 2);
        drop(user);
        assert_eq!(Arc::strong_count(&value), 1);
        assert!(table.insert(Arc::new(())).is_some());
    }

    /// Threads that come in, remove and insert at the same time: every value is dropped once, and nobody sees
    /// one of another handle.
    #[test]
    fn values_are_dropped_once_whoever_is_last() {
        static DROPPED: AtomicUsize = AtomicUsize::new(0);
        struct Counted(u64, u64);
        impl Drop for Counted {
            fn drop(&mut self) {
                self.1 = 0;
                DROPPED.fetch_add(1, Ordering::Relaxed);
            }
        }
        let rounds = if cfg!(miri) { 20 } else { 2000 };
        let table: Table<Counted, 1, 2> = Table::new();
        let newest = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..rounds * 4 {
                        if let Some(value) = table.lease(newest.load(Ordering::Relaxed)) {
                            let Counted(first, second) = &*value;
                            assert_eq!(first, second);
                        }
                    }
                });
            }
            for number in 1..=rounds {
                loop {
                    if let Some(handle) = table.insert(Counted(number, number)) {
                        newest.store(handle, Ordering::Relaxed);
                        assert!(table.remove(handle));
                        break;
                    }
                    // Refused, and dropped.
                    DROPPED.fetch_sub(1, Ordering::Relaxed);
                    std::thread::yield_now();
                }
            }
        });
        assert_eq!(DROPPED.load(Ordering::Relaxed) as u64, rounds);
    }
}
