//! The primitives under the ring and the watermark: the real ones, or loom's under `--cfg loom`.

#[cfg(not(loom))]
mod imp {
    pub use parking_lot::MutexGuard;
    pub use std::sync::atomic::{AtomicU32, AtomicU64, fence};
    pub use std::thread::Thread;

    use std::sync::OnceLock;
    use std::time::Duration;

    /// A mutex that does not know poison: a panic while it is held poisons the engine anyway.
    #[derive(Debug, Default)]
    pub struct Mutex<T>(parking_lot::Mutex<T>);

    impl<T> Mutex<T> {
        /// A mutex around `value`.
        pub fn new(value: T) -> Self {
            Self(parking_lot::Mutex::new(value))
        }

        /// Locks it, waiting for whoever holds it.
        pub fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock()
        }
    }

    /// A condition variable.
    #[derive(Debug, Default)]
    pub struct Condvar(parking_lot::Condvar);

    impl Condvar {
        /// A condition variable that nobody waits on.
        pub fn new() -> Self {
            Self::default()
        }

        /// Wakes all who wait.
        pub fn notify_all(&self) {
            self.0.notify_all();
        }

        /// Waits for a notification, at most so long. May return early.
        pub fn wait_for<'a, T>(
            &self,
            mut guard: MutexGuard<'a, T>,
            limit: Duration,
        ) -> MutexGuard<'a, T> {
            self.0.wait_for(&mut guard, limit);
            guard
        }
    }

    /// The calling thread.
    pub fn current_thread() -> Thread {
        std::thread::current()
    }

    /// Sleeps until woken, at most `limit` if there is one. May return early.
    pub fn park(limit: Option<Duration>) {
        match limit {
            Some(limit) => std::thread::park_timeout(limit),
            None => std::thread::park(),
        }
    }

    /// A thread that becomes known later.
    #[derive(Debug, Default)]
    pub struct OnceThread(OnceLock<Thread>);

    impl OnceThread {
        /// Makes it known; only the first call counts.
        pub fn set(&self, thread: Thread) {
            let _ = self.0.set(thread);
        }

        /// Calls `f` with the thread if it is known.
        pub fn with(&self, f: impl FnOnce(&Thread)) {
            if let Some(thread) = self.0.get() {
                f(thread);
            }
        }
    }
}

#[cfg(loom)]
mod imp {
    pub use loom::sync::MutexGuard;
    pub use loom::sync::atomic::{AtomicU32, AtomicU64, fence};
    pub use loom::thread::Thread;

    use std::time::Duration;

    /// loom's mutex with parking_lot's manner.
    #[derive(Debug, Default)]
    pub struct Mutex<T>(loom::sync::Mutex<T>);

    impl<T> Mutex<T> {
        /// A mutex around `value`.
        pub fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        /// Locks it.
        pub fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().expect("loom's mutex is not poisoned")
        }
    }

    /// loom's condition variable with parking_lot's manner.
    #[derive(Debug, Default)]
    pub struct Condvar(loom::sync::Condvar);

    impl Condvar {
        /// A condition variable that nobody waits on.
        pub fn new() -> Self {
            Self::default()
        }

        /// Wakes all who wait.
        pub fn notify_all(&self) {
            self.0.notify_all();
        }

        /// Waits for a notification. loom has no time: the limit never comes.
        pub fn wait_for<'a, T>(
            &self,
            guard: MutexGuard<'a, T>,
            _limit: Duration,
        ) -> MutexGuard<'a, T> {
            self.0.wait(guard).expect("loom's mutex is not poisoned")
        }
    }

    /// The calling thread.
    pub fn current_thread() -> Thread {
        loom::thread::current()
    }

    /// Sleeps until woken. loom has no time: a limit never comes.
    pub fn park(_limit: Option<Duration>) {
        loom::thread::park();
    }

    /// A thread that becomes known later.
    #[derive(Debug, Default)]
    pub struct OnceThread(std::sync::Mutex<Option<Thread>>);

    impl OnceThread {
        /// Makes it known.
        pub fn set(&self, thread: Thread) {
            *self.0.lock().expect("not poisoned") = Some(thread);
        }

        /// Calls `f` with the thread if it is known.
        pub fn with(&self, f: impl FnOnce(&Thread)) {
            let thread = self.0.lock().expect("not poisoned").clone();
            if let Some(thread) = thread {
                f(&thread);
            }
        }
    }
}

pub use imp::*;
pub use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
