//! What threads tell each other: a number that only grows and can be waited for, a flag, and wake-ups.
//!
//! ```text
//!  syncer ── advance ──▶ Watermark ──▶ callers of flush and append_durable wait in it
//!     └───── wake ─────▶ Waker ──────▶ an exporter parked on it looks again
//!                        Flag ◀─────── an exporter raises it, and wakes the syncer if it was down
//! ```
//!
//! **Threads.** One thread advances a watermark, any number read it without a lock and wait for it. Any
//! number raise a flag, one takes it down.
//! A [`Waker`] belongs to one thread that parks; anybody may wake it. A wake that comes while the
//! thread is busy is kept, so looking for work and then parking loses nothing.
//!
//! This file is the only user of `parking_lot`; under loom its types come from loom (see `seam`).

use std::time::Duration;

pub mod heartbeat;
pub mod order;
pub mod seam;

use crate::clock::{Clock, Mono};
use heartbeat::Heartbeat;
use order::Spot;
use seam::{
    Acquire, AtomicU32, AtomicU64, Condvar, Mutex, Relaxed, Release, SeqCst, Thread, fence,
};

/// A u64 that only grows.
///
/// Invariant: whoever reads a value also sees everything its writer did before it advanced to it.
#[derive(Debug)]
pub struct Watermark {
    value: AtomicU64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    failures: u64,
    closed: bool,
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// The value was reached.
    Reached,
    /// It was not reached in time; it may still be.
    TimedOut,
    /// Two tries failed since the wait began. It may still be reached.
    Failed,
    /// Nobody will advance it any more.
    Closed,
}

/// So many failed tries end a wait: the first failure may have hit a segment that was bad already, and
/// the second is then the one that this caller's record had.
const FAILURES_MAX: u64 = 2;

impl Watermark {
    /// A watermark that stands at `value`.
    pub fn new(value: u64) -> Self {
        Self {
            value: AtomicU64::new(value),
            state: Mutex::new(State::default()),
            changed: Condvar::new(),
        }
    }

    /// Where it stands. Never blocks.
    pub fn get(&self) -> u64 {
        // Acquire: pairs with the store in `advance`, and publishes what its caller did before it.
        self.value.load(order::at(Spot::WatermarkLoad, Acquire))
    }

    /// Moves it up to `value` and wakes those who wait for that.
    pub fn advance(&self, value: u64) {
        let state = self.state.lock();
        assert!(value >= self.value.load(Relaxed), "a watermark only grows");
        let release = order::at(Spot::WatermarkStore, Release);
        self.value.store(value, release);
        drop(state);
        self.changed.notify_all();
    }

    /// Says that a try to advance it failed; waits end after two of them.
    pub fn fail(&self) {
        self.state.lock().failures += 1;
        self.changed.notify_all();
    }

    /// Says that it will not advance any more. Idempotent.
    pub fn close(&self) {
        self.state.lock().closed = true;
        self.changed.notify_all();
    }

    /// Waits until it stands at `value` or above, at most until `deadline`.
    pub fn wait(&self, value: u64, clock: &dyn Clock, deadline: Mono) -> Waited {
        if self.get() >= value {
            return Waited::Reached;
        }
        let mut state = self.state.lock();
        let failures = state.failures;
        loop {
            if self.get() >= value {
                return Waited::Reached;
            }
            if state.closed {
                return Waited::Closed;
            }
            if state.failures >= failures + FAILURES_MAX {
                return Waited::Failed;
            }
            let left = deadline.since(clock.mono());
            if left == Duration::ZERO {
                return Waited::TimedOut;
            }
            state = self.changed.wait_for(state, left);
        }
    }
}

/// Something has changed that one thread is to look at, some time.
///
/// Invariant: who takes it down sees all that was changed before it was raised; what is changed later
/// raises it again.
#[derive(Debug, Default)]
pub struct Flag(AtomicU32);

impl Flag {
    /// Says that something changed. True when the flag was down: then nobody is to look at it yet, and the
    /// thread has to be woken.
    pub fn raise(&self) -> bool {
        // Release: publishes what changed to the swap in `take`.
        self.0.swap(1, order::at(Spot::FlagRaised, Release)) == 0
    }

    /// Whether it is up.
    pub fn is_up(&self) -> bool {
        // Relaxed: only tells whether to take it down.
        self.0.load(Relaxed) != 0
    }

    /// Takes it down, before what changed is looked at.
    pub fn take(&self) {
        // Acquire: pairs with `raise`. A swap and no store: it reads what the last `raise` wrote, which was
        // perhaps told that the flag was up already and wakes nobody.
        self.0.swap(0, order::at(Spot::FlagTaken, Acquire));
    }
}

/// Wakes one thread that parks.
#[derive(Debug, Default)]
pub struct Waker {
    thread: seam::OnceThread,
    /// What the thread shows of itself.
    pub heart: Heartbeat,
}

impl Waker {
    /// A waker whose thread is not known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The calling thread is the one to wake from now on. Called once, before it first looks for work.
    pub fn register(&self) {
        self.thread.set(seam::current_thread());
        // Pairs with the one in `wake`: either that finds the thread, or the thread finds the work.
        fence(SeqCst);
    }

    /// Wakes the thread, or lets its next [`park`](seam::park) return at once. One system call if it
    /// sleeps, none otherwise. Never blocks, never allocates.
    pub fn wake(&self) {
        fence(SeqCst);
        self.thread.with(Thread::unpark);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::clock::System;
    use std::sync::Arc;

    #[test]
    fn waiting_ends_when_the_value_is_reached() {
        let watermark = Arc::new(Watermark::new(3));
        let clock = System::new();
        let other = Arc::clone(&watermark);
        let thread = std::thread::spawn(move || {
            other.advance(5);
            other.advance(9);
        });
        assert_eq!(watermark.wait(9, &clock, Mono::NEVER), Waited::Reached);
        assert!(watermark.get() >= 9);
        thread.join().unwrap();
    }

    #[test]
    fn waiting_ends_by_time_by_failure_and_by_closing() {
        let clock = System::new();
        let watermark = Watermark::new(0);
        assert_eq!(watermark.wait(1, &clock, clock.mono()), Waited::TimedOut);
        watermark.fail(); // before the wait: not this caller's
        let soon = clock.mono().plus(Duration::from_millis(5));
        assert_eq!(watermark.wait(1, &clock, soon), Waited::TimedOut);
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| watermark.wait(1, &System::new(), Mono::NEVER));
            while !waiter.is_finished() {
                watermark.fail();
            }
            assert_eq!(waiter.join().unwrap(), Waited::Failed);
        });
        watermark.close();
        assert_eq!(watermark.wait(1, &clock, Mono::NEVER), Waited::Closed);
        assert_eq!(watermark.wait(0, &clock, Mono::NEVER), Waited::Reached);
    }

    #[test]
    #[should_panic(expected = "only grows")]
    fn going_back_is_a_broken_invariant() {
        Watermark::new(5).advance(4);
    }
}
