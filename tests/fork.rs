//! What a process that is forked from an engine's host may do with the engine: nothing.

mod common;

use std::ffi::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use common::{LIMIT, Scratch};
use forebay::{Code, Engine, Record};

#[allow(unsafe_code)]
mod system {
    use super::c_int;

    unsafe extern "C" {
        pub fn fork() -> c_int;
        pub fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
        pub fn _exit(status: c_int) -> !;
    }
}

/// Forks, runs `child` there, and returns what it returned.
#[allow(unsafe_code)]
fn in_child(child: impl FnOnce() -> u8) -> u8 {
    // SAFETY: the child makes no use of what other threads may have held: it ends by `_exit`.
    let pid = unsafe { system::fork() };
    assert!(pid >= 0, "fork failed");
    if pid == 0 {
        let done = catch_unwind(AssertUnwindSafe(child)).unwrap_or(99);
        // SAFETY: ends this process.
        unsafe { system::_exit(done.into()) };
    }
    let mut status = 0;
    // SAFETY: `status` lives as long as the call.
    assert_eq!(unsafe { system::waitpid(pid, &raw mut status, 0) }, pid);
    assert_eq!(status & 0x7f, 0, "the child was killed: {status}");
    u8::try_from(status >> 8 & 0xff).unwrap()
}

/// After a fork the child's calls are refused with ERR_CLOSED at once, its drop and close leave the store
/// alone, and the parent goes on as if nothing had been.
#[test]
fn a_forked_child_gets_err_closed_and_leaves_the_store_alone() {
    fork_with("private");
}

/// The ring's memory is the child's too then, but not the page with the claim.
#[test]
fn a_forked_child_gets_err_closed_from_a_shared_ring() {
    fork_with("shared");
}

fn fork_with(ring: &str) {
    let scratch = Scratch::new(&format!("fork-{ring}"));
    let stream = format!(
        r#"{{"name": "telemetry", "sink": {{"type": "none"}},
        "buffer": {{"ring": "{ring}", "fsyncIntervalMs": 3600000}}}}"#
    );
    let engine = Engine::open(&scratch.config(&stream)).unwrap();
    let stream = engine.stream("telemetry").unwrap();
    for n in 0..10 {
        assert_eq!(stream.append(b"", n, b"parent").unwrap(), n);
    }
    let child = in_child(|| {
        let start = Instant::now();
        let record = Record::new(b"", 0, b"child");
        let calls = [
            stream.append(b"", 0, b"child").map(|_| ()),
            stream.append_record(&record).map(|_| ()),
            stream.append_batch(&[record; 2]).map(|_| ()),
            stream.append_batch(&[]).map(|_| ()),
            stream.append_durable(b"", 0, b"child", LIMIT).map(|_| ()),
            stream.flush(LIMIT),
            engine.close(LIMIT),
        ];
        for (at, done) in (1u8..).zip(calls) {
            if done.map_err(|error| error.code()) != Err(Code::Closed) {
                return at;
            }
        }
        let _ = stream.stats();
        // SAFETY: the parent's value is another, in its own memory; this one is used no more.
        #[allow(unsafe_code)]
        drop(unsafe { std::ptr::read(&raw const engine) });
        u8::from(start.elapsed() > Duration::from_secs(5)) * 98
    });
    assert_eq!(child, 0, "of the child's calls, or 99 for a panic");

    assert_eq!(stream.stats().rejected_total, 0, "the child's are not ours");
    assert_eq!(stream.append(b"", 10, b"parent").unwrap(), 10);
    stream.flush(LIMIT).unwrap();
    engine.close(LIMIT).unwrap();
    drop(engine);
    let engine =
        Engine::open(&scratch.config(r#"{"name": "telemetry", "sink": {"type": "none"}}"#));
    let stats = engine.unwrap().stats("telemetry").unwrap();
    assert_eq!((stats.next_offset, stats.durable_offset), (11, 11));
}
