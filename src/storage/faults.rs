//! Notes in shared memory that this process died inside a stretch of code: by a fault or an abort of its own.
//!
//! ```text
//!  at_risk(words, from, to) ── body ── … SIGSEGV ─▶ handler ─▶ note_fault ─▶ words: MARK, from, to
//! ```
//!
//! What is noted belongs to the thread that dies; who is killed from outside notes nothing.
//!
//! **Invariants.** A thread's pointer is null, or points to a [`Risk`] on its own stack whose words are
//! borrowed for as long: [`at_risk`] puts it back before it returns or unwinds.

use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering, compiler_fence};

/// The first word when the other two are whole.
pub const MARK: u64 = 1;
/// The first word while the other two are written.
const WRITING: u64 = 2;

/// What a thread notes when it dies.
struct Risk<'a> {
    words: &'a [AtomicU64; 3],
    from: u64,
    to: u64,
}

thread_local! {
    // Without a destructor and never lazy: a handler may look at it.
    static AT_RISK: AtomicPtr<Risk<'static>> = const { AtomicPtr::new(ptr::null_mut()) };
}

/// Runs `body`; when the process dies in it, `words` become [`MARK`], `from` and `to`.
pub fn at_risk<R>(words: &[AtomicU64; 3], from: u64, to: u64, body: impl FnOnce() -> R) -> R {
    struct Former(*mut Risk<'static>);
    impl Drop for Former {
        fn drop(&mut self) {
            compiler_fence(Ordering::SeqCst);
            AT_RISK.with(|risk| risk.store(self.0, Ordering::Relaxed));
        }
    }
    let mut risk = Risk { words, from, to };
    let here = ptr::from_mut(&mut risk).cast::<Risk<'static>>();
    let _former = Former(AT_RISK.with(|risk| risk.swap(here, Ordering::Relaxed)));
    // A handler on this thread sees what stands before.
    compiler_fence(Ordering::SeqCst);
    body()
}

/// Notes that the calling thread is about to die, if it is inside a sink's `deliver`: for the host's own
/// handlers of SIGSEGV, SIGBUS, SIGILL, SIGFPE and SIGABRT.
///
/// Safe to call in a handler: it reads a thread-local pointer and stores three words. Call it only for a
/// signal that the thread raised itself (`si_code` above 0, or `SI_TKILL` from the own process), not for
/// one that somebody sent. What follows from it: `docs/durability.md`, "Crash loops".
pub fn note_fault() {
    let Ok(risk) = AT_RISK.try_with(|risk| risk.load(Ordering::Relaxed)) else {
        return;
    };
    // SAFETY: not null, it points to the `Risk` of an `at_risk` that this very thread is inside of.
    let Some(risk) = (unsafe { risk.as_ref() }) else {
        return;
    };
    let [mark, from, to] = risk.words;
    // The first death counts; another thread may die at the same time.
    let claimed = mark.compare_exchange(0, WRITING, Ordering::Relaxed, Ordering::Relaxed);
    if claimed.is_ok() {
        from.store(risk.from, Ordering::Relaxed);
        to.store(risk.to, Ordering::Relaxed);
        // Release: who sees the mark sees both.
        mark.store(MARK, Ordering::Release);
    }
}

#[cfg(feature = "cli")]
pub use signals::watch_faults;

#[cfg(feature = "cli")]
mod signals {
    use std::io;
    use std::mem::MaybeUninit;
    use std::ptr;
    use std::sync::OnceLock;

    use libc::{SA_ONSTACK, SA_SIGINFO, SI_TKILL, SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV};
    use libc::{c_int, c_void, sigaction, siginfo_t};

    const FATAL: [c_int; 5] = [SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT];

    /// What had these signals before.
    static BEFORE: OnceLock<[sigaction; FATAL.len()]> = OnceLock::new();

    /// Calls [`note_fault`](super::note_fault) when this process dies by a fault or an abort of its own, and
    /// then whatever had the signal before. For a program that owns its process; done once.
    pub fn watch_faults() -> io::Result<()> {
        let mut before = [const { MaybeUninit::<sigaction>::zeroed() }; FATAL.len()];
        for (signal, before) in FATAL.into_iter().zip(&mut before) {
            // SAFETY: a null action only asks, and `before` has room for the answer.
            check(unsafe { sigaction(signal, ptr::null(), before.as_mut_ptr()) })?;
        }
        // SAFETY: zeros are a valid `sigaction`, and so is what the calls have written.
        let before = before.map(|before| unsafe { before.assume_init() });
        let mut action = before[0];
        if BEFORE.set(before).is_err() {
            return Ok(());
        }
        action.sa_sigaction = on_fault as *const () as usize;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK;
        // SAFETY: `action` is whole.
        unsafe { libc::sigemptyset(&raw mut action.sa_mask) };
        for signal in FATAL {
            // SAFETY: `on_fault` has the signature that SA_SIGINFO asks for, and calls only what may be
            // called in a handler.
            check(unsafe { sigaction(signal, &raw const action, ptr::null_mut()) })?;
        }
        Ok(())
    }

    fn check(status: c_int) -> io::Result<()> {
        match status {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    extern "C" fn on_fault(signal: c_int, info: *mut siginfo_t, _: *mut c_void) {
        // SAFETY: the kernel gives a handler of this kind its information.
        let Some(info) = (unsafe { info.as_ref() }) else {
            return;
        };
        // SAFETY: a signal that a thread sent names its process.
        let sender = || unsafe { info.si_pid() };
        // SAFETY: asks for a number.
        let own = || unsafe { libc::getpid() };
        if info.si_code > 0 || info.si_code == SI_TKILL && sender() == own() {
            super::note_fault();
        }
        let at = FATAL.iter().position(|fatal| *fatal == signal);
        if let (Some(at), Some(before)) = (at, BEFORE.get()) {
            // SAFETY: it was in force before.
            unsafe { sigaction(signal, &raw const before[at], ptr::null_mut()) };
        }
        if info.si_code <= 0 {
            // A fault comes again by itself when this returns; what was sent is sent again.
            // SAFETY: may be called in a handler.
            unsafe { libc::raise(signal) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[AtomicU64; 3]) -> [u64; 3] {
        [0, 1, 2].map(|at| words[at].load(Ordering::Relaxed))
    }

    /// `L-83`: who dies elsewhere, or before, or behind, notes nothing; and the innermost counts.
    #[test]
    fn only_the_thread_that_is_inside_notes_it() {
        let (outer, inner) = (
            [const { AtomicU64::new(0) }; 3],
            [const { AtomicU64::new(0) }; 3],
        );
        note_fault();
        at_risk(&outer, 3, 9, || {
            at_risk(&inner, 5, 6, || {
                std::thread::scope(|scope| scope.spawn(note_fault).join())
            })
            .expect("it ends");
            let unwound = std::panic::catch_unwind(|| at_risk(&inner, 7, 8, || panic!("inside")));
            assert!(unwound.is_err());
            assert_eq!(read(&outer), [0; 3]);
            note_fault();
        });
        note_fault();
        assert_eq!((read(&outer), read(&inner)), ([MARK, 3, 9], [0; 3]));
    }

    #[test]
    fn the_first_death_counts() {
        let words = [const { AtomicU64::new(0) }; 3];
        at_risk(&words, 1, 2, note_fault);
        at_risk(&words, 8, 9, note_fault);
        assert_eq!(read(&words), [MARK, 1, 2]);
    }
}
