//! The C API: what `forebay.h` declares, function by function, over the Rust API.
//!
//! ```text
//!  C ── handle, pointers, lengths ──▶ guarded( handles → lease, pointers → slices ) ──▶ Engine, Stream
//!    ◀── a code; the text stays with the thread ──┘
//! ```
//!
//! Names are the header's, so that it can be read beside this.
//!
//! **Invariants.** A function returns a code of the table on any input: no panic leaves it, and a handle that
//! is not one, or no more, is refused without being followed (`handles`). Outputs are written on success
//! only. What is borrowed is borrowed for the call. Everything that C must promise is a promise about
//! pointers, made in `pointers`: one that is not null points to as much as its length or its type says.
//!
//! **Threads.** Every function may be called from any thread. What a function keeps for its thread is the
//! last error's text, and whether it runs inside a callback.
//!
//! It does not compile into other builds: it is the feature `ffi`.

#![allow(non_camel_case_types)] // the header's names
#![allow(clippy::missing_safety_doc)] // said once, above: pointers point to what their lengths say
#![allow(clippy::doc_markdown)] // what is said here of C is the header's text

use std::ffi::{c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::time::Duration;

use crate::config::Config;
use crate::engine::Engine;
use crate::error::{Code, Error, Result};
use handles::Table;

mod callbacks;
mod handles;
mod message;
mod pointers;
mod sink;
mod stats;
mod stream;

pub use callbacks::{
    forebay_event, forebay_event_callback, forebay_event_kind, forebay_log_callback,
    forebay_log_level, forebay_set_event_callback, forebay_set_log_callback, forebay_sink_state,
};
pub use sink::{
    forebay_answer, forebay_answer_link, forebay_answer_rest, forebay_answer_set, forebay_batch,
    forebay_link, forebay_outcome, forebay_record_view, forebay_set_sink_callback,
    forebay_sink_callback, forebay_sink_options,
};
pub use stats::{forebay_health, forebay_sink_stats, forebay_stats};
pub use stream::{
    forebay_property, forebay_record, forebay_stream, forebay_stream_append,
    forebay_stream_append_batch, forebay_stream_append_durable, forebay_stream_append_record,
    forebay_stream_flush, forebay_stream_free, forebay_stream_get,
    forebay_stream_last_export_error, forebay_stream_sink_stats, forebay_stream_source_position,
    forebay_stream_stats,
};

/// The most engines that are open at once.
const ENGINES_MAX: usize = 64;

static ENGINES: Table<Box<Engine>, 1, ENGINES_MAX> = Table::new();

/// What every function returns. The numbers are never reused.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum forebay_result {
    /// Done.
    FOREBAY_OK = 0,
    /// The configuration is invalid. Correct what the text names and open again.
    FOREBAY_ERR_CONFIG = 1,
    /// The durable store failed. For a call that waits: the record may still become durable.
    FOREBAY_ERR_IO = 2,
    /// Damage where strict checking was asked for, or a store of a newer format (untouched).
    FOREBAY_ERR_CORRUPT = 3,
    /// No room. Try later, or drop the record.
    FOREBAY_ERR_FULL = 4,
    /// There is no stream of that name.
    FOREBAY_ERR_UNKNOWN_STREAM = 5,
    /// A sink could not be built, or failed for good.
    FOREBAY_ERR_SINK = 6,
    /// A panic was caught; the engine is poisoned and promises nothing until it is opened again.
    FOREBAY_ERR_PANIC = 7,
    /// An argument is null, no handle, or out of its bounds. The text names it and the bound.
    FOREBAY_ERR_INVALID_ARG = 8,
    /// A bounded wait ran out. A record that was waited for may still become durable.
    FOREBAY_ERR_TIMEOUT = 9,
    /// The engine was closed, or belongs to the process that this one was forked from.
    FOREBAY_ERR_CLOSED = 10,
}

impl From<Code> for forebay_result {
    fn from(code: Code) -> Self {
        match code {
            Code::Config => Self::FOREBAY_ERR_CONFIG,
            Code::Io => Self::FOREBAY_ERR_IO,
            Code::Corrupt => Self::FOREBAY_ERR_CORRUPT,
            Code::Full => Self::FOREBAY_ERR_FULL,
            Code::UnknownStream => Self::FOREBAY_ERR_UNKNOWN_STREAM,
            Code::Sink => Self::FOREBAY_ERR_SINK,
            Code::Panic => Self::FOREBAY_ERR_PANIC,
            Code::InvalidArg => Self::FOREBAY_ERR_INVALID_ARG,
            Code::Timeout => Self::FOREBAY_ERR_TIMEOUT,
            Code::Closed => Self::FOREBAY_ERR_CLOSED,
        }
    }
}

/// What the library was built with: bits of `forebay_features`.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum forebay_feature {
    /// Sinks of type `file`.
    FOREBAY_FEATURE_FILE = 1,
    /// Sinks of type `stdout`.
    FOREBAY_FEATURE_STDOUT = 2,
    /// Sinks of type `kinesis`.
    FOREBAY_FEATURE_KINESIS = 4,
}

/// An engine. Not a pointer to anything: a number that is checked by each call.
pub struct forebay_engine(());

/// Runs a function's body: its error, or its panic, becomes a code, and a text for this thread.
#[inline]
fn guarded(body: impl FnOnce() -> Result<()>) -> forebay_result {
    let done = catch_unwind(AssertUnwindSafe(|| match body() {
        Ok(()) => forebay_result::FOREBAY_OK,
        Err(error) => message::keep(&error),
    }));
    done.unwrap_or_else(|_| message::panicked())
}

/// A refusal of an argument.
fn invalid<T>(what: &'static str) -> Result<T> {
    Err(Error::refused(Code::InvalidArg, what))
}

/// Opens an engine: recovers the stores of its streams and starts its threads.
///
/// `config` is the text of the configuration, JSON, UTF-8, up to its first NUL. It is read, and not
/// kept. Callbacks have to be set before.
///
/// Blocks for the recovery of the stores. On success `*engine` is to be given to `forebay_close`. Fails
/// with FOREBAY_ERR_CONFIG, whose text names line, column, key, value and rule; FOREBAY_ERR_IO,
/// FOREBAY_ERR_CORRUPT, FOREBAY_ERR_SINK; FOREBAY_ERR_FULL with 64 engines open. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn forebay_open(
    config: *const c_char,
    engine: *mut *mut forebay_engine,
) -> forebay_result {
    guarded(|| {
        pointers::check_output(engine, "open: engine is null or not aligned")?;
        // SAFETY: C promises a text that ends with a NUL, or null.
        let text = unsafe { pointers::text(config, "open: config is null or not UTF-8") }.map_err(
            |error| match config.is_null() {
                true => error,
                false => Error::refused(Code::Config, "the configuration is not UTF-8"),
            },
        )?;
        let config = sink::with_callbacks(Config::from_json(text)?);
        let opened = Engine::open(&config)?;
        callbacks::forward_events(&opened)?;
        let Some(handle) = ENGINES.insert(Box::new(opened)) else {
            return Err(Error::refused(Code::Full, "open: 64 engines are open"));
        };
        // SAFETY: C promises room for a handle; null and unaligned ones were refused.
        unsafe { pointers::put(engine, ptr::without_provenance_mut(handle)) };
        Ok(())
    })
}

/// Takes no more records, makes durable what was taken, waits for batches under way, and ends the threads.
///
/// Blocks for at most `timeout_ms`. After FOREBAY_OK the handle is gone, and no callback of this engine
/// runs any more. FOREBAY_ERR_FULL is the same, but a stream without room could not store its last records.
/// After FOREBAY_ERR_TIMEOUT, when a sink or the medium did not answer in time, the
/// engine takes nothing more and the handle is still good: close it again, or leave it. What is stored and
/// not delivered stays stored. Handles of its streams outlive it: they refuse, and are still to be freed.
///
/// In a process that was forked from the one that opened the engine: FOREBAY_ERR_CLOSED, the handle is gone
/// there, and the engine goes on in the parent. Null is FOREBAY_OK. From a callback it is refused with
/// FOREBAY_ERR_INVALID_ARG. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn forebay_close(engine: *mut forebay_engine, timeout_ms: u32) -> forebay_result {
    guarded(|| {
        if engine.is_null() {
            return Ok(());
        }
        if callbacks::is_inside() {
            return invalid("close: not from a callback");
        }
        let Some(open) = ENGINES.lease(engine.addr()) else {
            return invalid("close: no open engine's handle");
        };
        let closed = open.close(Duration::from_millis(timeout_ms.into()));
        if !matches!(&closed, Err(error) if error.code() == Code::Timeout) {
            // False when another thread has closed it at the same time.
            ENGINES.remove(engine.addr());
        }
        closed
    })
}

/// Copies the text of this thread's last error into `buffer`, cut to `capacity` bytes with its NUL.
///
/// `*len` is its whole length without the NUL, so that null with 0 asks for it. The text is that of the
/// last function that failed in this thread; success does not change it. At most 511 bytes are kept. `len`
/// may be null. Neither blocks nor allocates. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn forebay_last_error(
    buffer: *mut c_char,
    capacity: usize,
    len: *mut usize,
) -> forebay_result {
    guarded(|| {
        // SAFETY: C promises room for `capacity` bytes and a length, or null.
        message::with(|text| unsafe { pointers::put_text(text, buffer, capacity, len) })
    })
}

/// Copies the library's version, such as `0.1.0`, into `buffer`, as `forebay_last_error` does.
///
/// Neither blocks nor allocates. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn forebay_version(
    buffer: *mut c_char,
    capacity: usize,
    len: *mut usize,
) -> forebay_result {
    guarded(|| {
        // SAFETY: C promises room for `capacity` bytes and a length, or null.
        unsafe { pointers::put_text(env!("CARGO_PKG_VERSION"), buffer, capacity, len) }
    })
}

/// What the library was built with: `*features` becomes the sum of bits of `forebay_feature`.
///
/// Neither blocks nor allocates. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn forebay_features(features: *mut u32) -> forebay_result {
    guarded(|| {
        use forebay_feature as F;
        pointers::check_output(features, "features: features is null or not aligned")?;
        let known = [
            (cfg!(feature = "file"), F::FOREBAY_FEATURE_FILE),
            (cfg!(feature = "stdout"), F::FOREBAY_FEATURE_STDOUT),
            (cfg!(feature = "kinesis"), F::FOREBAY_FEATURE_KINESIS),
        ];
        let here = known.into_iter().filter(|(is_here, _)| *is_here);
        let bits = here.map(|(_, feature)| feature as u32).sum();
        // SAFETY: C promises room for a number; null and unaligned ones were refused.
        unsafe { pointers::put(features, bits) };
        Ok(())
    })
}

/// A pointer of the host's that goes to its callbacks as it is.
#[derive(Clone, Copy)]
struct Context(*mut c_void);

// SAFETY: it is never followed here. That its callbacks may use it in the engine's threads is promised by
// who sets them.
unsafe impl Send for Context {}

/// The size of a struct, which is small.
#[allow(clippy::cast_possible_truncation)] // asserted
const fn size_of_u32<T>() -> u32 {
    assert!(size_of::<T>() < 1 << 16);
    size_of::<T>() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `G-120` to `G-128`: one table of numbers, in Rust and in C.
    #[test]
    fn the_numbers_of_c_are_those_of_rust() {
        let codes = [
            Code::Config,
            Code::Io,
            Code::Corrupt,
            Code::Full,
            Code::UnknownStream,
            Code::Sink,
            Code::Panic,
            Code::InvalidArg,
            Code::Timeout,
            Code::Closed,
        ];
        for code in codes {
            let result = forebay_result::from(code);
            assert_eq!(result as i32, code.number());
            assert_eq!(format!("{result:?}"), format!("FOREBAY_{}", code.name()));
        }
    }

    /// `G-127`: a panic is caught where C called, and says so.
    #[test]
    fn a_panic_is_a_code_and_a_text() {
        let result = guarded(|| panic!("not into C"));
        assert_eq!(result, forebay_result::FOREBAY_ERR_PANIC);
        message::with(|text| {
            assert!(text.contains("panic"), "{text}");
            Ok(())
        })
        .unwrap();
    }
}
