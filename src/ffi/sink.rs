//! Sinks that are functions of the host: registered by id, called with batches, answering record by record.
//!
//! ```text
//!  forebay_set_sink_callback(id) ─▶ table ─ forebay_open ─▶ a sink for each that has this id
//!  exporter ─ deliver ─▶ callback(context, batch, answer)
//!                           forebay_answer_set, _rest, _link ─▶ the answer of this thread's delivery
//! ```
//!
//! **Invariants.** An answer is known as long as its callback runs, in its thread: the handle of one that is
//! over, or another thread's, is refused. What is not answered for is sent again.
//!
//! **Threads.** The exporter's calls the callback, one batch at a time for each sink.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::{CString, c_char, c_void};
use std::ptr;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::callbacks::inside;
use super::pointers::{self, Sized32};
use super::stream::forebay_property;
use super::{Context, forebay_result, guarded, invalid, size_of_u32};
use crate::config::Config;
use crate::error::Result;
use crate::sink::{Answer, Batch, Blocking, BlockingSink, Limits, Link, Outcome};
use crate::watermark::seam::Mutex;

/// What became of a record. Nothing said is the same as FOREBAY_RETRY, at once.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum forebay_outcome {
    /// The far side has it for good: the engine forgets it.
    FOREBAY_ACCEPTED = 1,
    /// It was not taken this time: it is sent again.
    FOREBAY_RETRY = 2,
    /// It can never be accepted: it becomes a dead letter.
    FOREBAY_REJECTED = 3,
}

/// How the way to the far side is.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum forebay_link {
    /// It works.
    FOREBAY_LINK_OK = 0,
    /// The far side is not reached, or does not answer.
    FOREBAY_LINK_DOWN = 1,
    /// The far side asks to slow down.
    FOREBAY_LINK_THROTTLED = 2,
    /// The far side refuses the credentials.
    FOREBAY_LINK_AUTH = 3,
    /// The far side refuses what the configuration asks for.
    FOREBAY_LINK_CONFIG = 4,
}

/// The answer to a delivery. Not a pointer to anything: good in the callback it was given to, in its thread.
pub struct forebay_answer(());

/// A record as it comes out of the store. Good as long as the callback runs.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct forebay_record_view {
    /// Its number in the stream; rising, never used twice, with gaps.
    pub offset: u64,
    /// When it happened, in milliseconds since 1970, as the producer saw it.
    pub time_ms: u64,
    /// When the engine took it, in milliseconds since 1970; 0: the time of day was not known.
    pub appended_ms: u64,
    /// The key.
    pub key: *const c_void,
    /// The bytes of `key`.
    pub key_len: usize,
    /// The payload.
    pub payload: *const c_void,
    /// The bytes of `payload`.
    pub payload_len: usize,
    /// Names and values, in the producer's order. Names have no NUL.
    pub properties: *const forebay_property,
    /// How many properties.
    pub properties_len: usize,
    /// Which source it is from; no NUL.
    pub source: *const c_char,
    /// The bytes of `source`; 0: none.
    pub source_len: usize,
    /// Where the producer stood in it.
    pub position: *const c_void,
    /// The bytes of `position`.
    pub position_len: usize,
}

/// Records of one stream, in order. Good as long as the callback runs.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct forebay_batch {
    /// `sizeof(forebay_batch)` of the library.
    pub size: u32,
    /// How long the callback may take.
    pub timeout_ms: u32,
    /// The stream's name, with a NUL.
    pub stream: *const c_char,
    /// Names the store: with `epoch` and its offset a record is named for ever.
    pub store: [u8; 16],
    /// Another one than before: offsets started anew.
    pub epoch: u64,
    /// The records.
    pub records: *const forebay_record_view,
    /// How many; at least 1.
    pub records_len: usize,
    /// The bytes of one of them: `sizeof(forebay_record_view)` of the library.
    pub record_size: u32,
}

/// What a sink can take. 0: no limit but the stream's own; of time, a minute.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct forebay_sink_options {
    /// `sizeof(forebay_sink_options)`.
    pub size: u32,
    /// The most records in a batch.
    pub records_max: u32,
    /// The most bytes of keys, payloads and properties in a batch.
    pub bytes_max: u32,
    /// The longest record: key, payload and properties.
    pub record_bytes_max: u32,
    /// How long a batch may take.
    pub timeout_ms: u32,
}

impl Sized32 for forebay_sink_options {
    const WRONG_SIZE: &'static str =
        "sink: options are not aligned, or their size is not sizeof(forebay_sink_options)";
}

/// Delivers a batch and answers for its records by `forebay_answer_set` and `forebay_answer_rest`.
///
/// It runs in a thread of the engine, one batch at a time for each sink, and may block for
/// `batch->timeout_ms`. It returns: neither an exception nor `longjmp` leaves it. It may call everything
/// but `forebay_close`.
pub type forebay_sink_callback = Option<
    unsafe extern "C" fn(
        context: *mut c_void,
        batch: *const forebay_batch,
        answer: *mut forebay_answer,
    ),
>;

/// A callback with what was said beside it.
#[derive(Clone, Copy)]
struct Registered {
    call: unsafe extern "C" fn(*mut c_void, *const forebay_batch, *mut forebay_answer),
    context: Context,
    limits: Limits,
}

static REGISTERED: LazyLock<Mutex<BTreeMap<String, Registered>>> = LazyLock::new(Mutex::default);

/// Names answers: each delivery has another.
static ANSWERS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// The handle of the answer that this thread is giving, and where it is.
    static CURRENT: Cell<(usize, *mut Answer<'static>, usize)> =
        const { Cell::new((0, ptr::null_mut(), 0)) };
}

/// Makes a function the sink of type `callback` and this `id`, for engines that are opened later.
///
/// `context` goes to the callback as it is. Both must stay good until all engines that were opened meanwhile
/// are closed. Any number of streams may have a sink of the same id: the batch names its stream. Null for
/// `callback` takes the id away again. `options` may be null, and are copied. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn forebay_set_sink_callback(
    id: *const c_char,
    callback: forebay_sink_callback,
    context: *mut c_void,
    options: *const forebay_sink_options,
) -> forebay_result {
    guarded(|| {
        // SAFETY: C promises a text that ends with a NUL, or null.
        let id = unsafe { pointers::text(id, "sink: the id is null or not UTF-8") }?;
        let mut limits = Limits::default();
        if !options.is_null() {
            // SAFETY: C promises options.
            let options = unsafe { pointers::structure(options) }?;
            let or = |value, none| if value == 0 { none } else { value };
            limits.records_max = or(options.records_max, limits.records_max);
            limits.bytes_max = or(options.bytes_max, limits.bytes_max);
            limits.record_bytes_max = or(options.record_bytes_max, limits.record_bytes_max);
            if options.timeout_ms > 0 {
                limits.answer_timeout = Duration::from_millis(options.timeout_ms.into());
            }
        }
        let mut registered = REGISTERED.lock();
        match callback {
            Some(call) => {
                let context = Context(context);
                let sink = Registered {
                    call,
                    context,
                    limits,
                };
                registered.insert(id.to_owned(), sink);
            }
            None => {
                registered.remove(id);
            }
        }
        Ok(())
    })
}

/// The configuration with all that is registered.
pub fn with_callbacks(mut config: Config) -> Config {
    for (id, registered) in &*REGISTERED.lock() {
        let registered = *registered;
        config = config.with_sinks(id, move || Blocking::new(Callback::new(registered)));
    }
    config
}

/// What became of the record at `index` of the batch. The first outcome of a record counts.
///
/// `outcome` is a `forebay_outcome`; `retry_after_ms` is what the far side asks to wait before a retry, or 0;
/// `reason` says why a record is rejected (null: not said), is copied, and cut to 160 bytes. Another thread's
/// answer, or one that is over, is FOREBAY_ERR_INVALID_ARG. Only in the callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn forebay_answer_set(
    answer: *mut forebay_answer,
    index: usize,
    outcome: i32,
    retry_after_ms: u32,
    reason: *const c_char,
) -> forebay_result {
    guarded(|| {
        // SAFETY: C promises a text that ends with a NUL, or null.
        let reason = unsafe { pointers::text_or_empty(reason, "answer: reason is not UTF-8") }?;
        let outcome = outcome_of(outcome, retry_after_ms, reason)?;
        with_answer(answer, |answer, len| {
            if index >= len {
                return invalid("answer: the batch has no record at that index");
            }
            answer.set(index, outcome);
            Ok(())
        })
    })
}

/// The same outcome for all records of the batch that have none yet: all accepted, the rest of them,
/// all to be sent again, or all rejected for good.
///
/// Arguments as with `forebay_answer_set`. Only in the callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn forebay_answer_rest(
    answer: *mut forebay_answer,
    outcome: i32,
    retry_after_ms: u32,
    reason: *const c_char,
) -> forebay_result {
    guarded(|| {
        // SAFETY: C promises a text that ends with a NUL, or null.
        let reason = unsafe { pointers::text_or_empty(reason, "answer: reason is not UTF-8") }?;
        let outcome = outcome_of(outcome, retry_after_ms, reason)?;
        with_answer(answer, |answer, _| {
            match outcome {
                Outcome::Accepted => answer.accept_rest(),
                Outcome::Retry(after) => answer.retry_rest(after),
                Outcome::Rejected(reason) => answer.reject_rest(reason),
            }
            Ok(())
        })
    })
}

/// By the numbers of `forebay_link`.
const LINKS: [Link; 5] = [
    Link::Ok,
    Link::Down,
    Link::Throttled,
    Link::Auth,
    Link::Config,
];

/// How the link is: a `forebay_link`; and, if it does not work, what the far side said (null: nothing).
///
/// `error` is copied, and cut to 160 bytes. Only in the callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn forebay_answer_link(
    answer: *mut forebay_answer,
    link: i32,
    error: *const c_char,
) -> forebay_result {
    guarded(|| {
        // SAFETY: C promises a text that ends with a NUL, or null.
        let error = unsafe { pointers::text_or_empty(error, "answer: error is not UTF-8") }?;
        let known = usize::try_from(link).ok().and_then(|link| LINKS.get(link));
        let Some(link) = known else {
            return invalid("answer: no forebay_link");
        };
        with_answer(answer, |answer, _| {
            answer.set_link(*link, error);
            Ok(())
        })
    })
}

fn outcome_of(outcome: i32, retry_after_ms: u32, reason: &str) -> Result<Outcome<'_>> {
    let after = Duration::from_millis(retry_after_ms.into());
    match outcome {
        1 => Ok(Outcome::Accepted),
        2 => Ok(Outcome::Retry((!after.is_zero()).then_some(after))),
        3 => Ok(Outcome::Rejected(reason)),
        _ => invalid("answer: no forebay_outcome"),
    }
}

/// Calls `f` with the answer that this thread is giving, if that is its handle, and the batch's length.
fn with_answer(
    handle: *mut forebay_answer,
    f: impl FnOnce(&mut Answer<'_>, usize) -> Result<()>,
) -> Result<()> {
    let (known, answer, len) = CURRENT.get();
    if known == 0 || known != handle.addr() {
        return invalid("answer: it is over, or another thread's");
    }
    // SAFETY: `deliver` of this thread has put it there and waits for the callback, which waits for this; it
    // takes it away before it goes on. `f` calls nothing that comes here again.
    f(unsafe { &mut *answer }, len)
}

/// A callback as a sink.
struct Callback {
    registered: Registered,
    stream: CString,
    views: Views,
}

/// Room for what the callback sees.
#[derive(Default)]
struct Views {
    records: Vec<forebay_record_view>,
    properties: Vec<forebay_property>,
}

// SAFETY: its pointers are written and used by one delivery, in one thread, and are gone before it ends.
unsafe impl Send for Views {}

impl Callback {
    fn new(registered: Registered) -> Self {
        Self {
            registered,
            stream: CString::default(),
            views: Views::default(),
        }
    }
}

impl BlockingSink for Callback {
    fn limits(&self) -> Limits {
        self.registered.limits
    }

    fn deliver(&mut self, batch: &Batch<'_>, timeout: Duration, answer: &mut Answer<'_>) {
        if self.stream.as_bytes() != batch.stream().as_bytes() {
            self.stream = CString::new(batch.stream()).unwrap_or_default();
        }
        self.views.fill(batch);
        let given = forebay_batch {
            size: size_of_u32::<forebay_batch>(),
            timeout_ms: u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX),
            stream: self.stream.as_ptr(),
            store: batch.store().0,
            epoch: batch.epoch(),
            records: self.views.records.as_ptr(),
            records_len: self.views.records.len(),
            record_size: size_of_u32::<forebay_record_view>(),
        };
        // Odd, so that it is never 0 and never an object's address.
        let handle = ANSWERS.fetch_add(1, Ordering::Relaxed) << 1 | 1;
        let erased = ptr::from_mut(answer).cast::<Answer<'static>>();
        let outer = CURRENT.replace((handle, erased, batch.len()));
        inside(|| {
            let answer = ptr::without_provenance_mut(handle);
            // SAFETY: who registered it promised that it may be called so, in this thread, until the engine
            // is closed; batch and records live until it returns.
            unsafe { (self.registered.call)(self.registered.context.0, &raw const given, answer) };
        });
        CURRENT.set(outer);
        self.views.clear();
    }
}

impl Views {
    fn fill(&mut self, batch: &Batch<'_>) {
        self.clear();
        for record in batch.iter() {
            let before = self.properties.len();
            let properties = record.properties();
            self.properties
                .extend(properties.map(|(name, value)| forebay_property {
                    name: name.as_ptr().cast(),
                    name_len: name.len(),
                    value: value.as_ptr().cast(),
                    value_len: value.len(),
                }));
            let source = record.source();
            let (source, position) = source.map_or(("", &[][..]), |at| (at.name, at.position));
            self.records.push(forebay_record_view {
                offset: record.offset,
                time_ms: record.time_ms,
                appended_ms: record.appended.wall_ms,
                key: record.key.as_ptr().cast(),
                key_len: record.key.len(),
                payload: record.payload.as_ptr().cast(),
                payload_len: record.payload.len(),
                properties: ptr::null(),
                properties_len: self.properties.len() - before,
                source: source.as_ptr().cast(),
                source_len: source.len(),
                position: position.as_ptr().cast(),
                position_len: position.len(),
            });
        }
        // Now they stay where they are.
        let mut rest = &self.properties[..];
        for record in &mut self.records {
            let (own, behind) = rest.split_at(record.properties_len);
            record.properties = own.as_ptr();
            rest = behind;
        }
    }

    fn clear(&mut self) {
        self.records.clear();
        self.properties.clear();
    }
}
