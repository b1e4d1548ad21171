//! What the host wants to hear: log lines and events, as calls of its functions.
//!
//! **Threads.** Lines are told by the thread that has something to say, events by a thread of the engine that
//! is there if somebody wants them. No lock is held while a callback runs, so one that was just taken away
//! may still run in another thread.

use std::cell::Cell;
use std::ffi::{CString, c_char, c_void};
use std::ptr;
use std::sync::LazyLock;
use std::sync::OnceLock;

use log::{LevelFilter, Log, Metadata};

use super::{Context, forebay_result, guarded, invalid, size_of_u32};
use crate::counters::SinkState;
use crate::engine::{Engine, Event, EventKind};
use crate::error::Result;
use crate::watermark::seam::Mutex;

thread_local! {
    static IS_INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread runs a callback.
pub fn is_inside() -> bool {
    IS_INSIDE.get()
}

/// Runs a callback.
pub fn inside(call: impl FnOnce()) {
    let outer = IS_INSIDE.replace(true);
    call();
    IS_INSIDE.set(outer);
}

/// How much is said.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum forebay_log_level {
    /// Nothing.
    FOREBAY_LOG_OFF = 0,
    /// What does not work.
    FOREBAY_LOG_ERROR = 1,
    /// What may not work.
    FOREBAY_LOG_WARN = 2,
    /// Changes of state: opened, recovered, link down.
    FOREBAY_LOG_INFO = 3,
    /// More of it.
    FOREBAY_LOG_DEBUG = 4,
    /// All of it.
    FOREBAY_LOG_TRACE = 5,
}

/// Is told a line: its `forebay_log_level`, which part says it, and the text. Both end with a NUL and are
/// good as long as the callback runs.
///
/// It runs in any thread that calls the library and in those of engines, in several at once. It returns:
/// neither an exception nor `longjmp` leaves it. It may call everything but `forebay_close`.
pub type forebay_log_callback = Option<
    unsafe extern "C" fn(
        context: *mut c_void,
        level: i32,
        target: *const c_char,
        text: *const c_char,
    ),
>;

#[derive(Clone, Copy)]
struct Teller<F> {
    call: F,
    context: Context,
}

type TellLine = unsafe extern "C" fn(*mut c_void, i32, *const c_char, *const c_char);
type TellEvent = unsafe extern "C" fn(*mut c_void, *const forebay_event);

static LINES: LazyLock<Mutex<Option<Teller<TellLine>>>> = LazyLock::new(Mutex::default);
static EVENTS: LazyLock<Mutex<Option<Teller<TellEvent>>>> = LazyLock::new(Mutex::default);

/// Hands lines to C.
struct Logger;

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &log::Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let Some(teller) = *LINES.lock() else {
            return;
        };
        let target = terminated(record.target());
        let text = terminated(&record.args().to_string());
        let level = record.level() as i32;
        // SAFETY: who set it promised that it may be called so, in any thread; the texts live as long.
        inside(|| unsafe {
            (teller.call)(teller.context.0, level, target.as_ptr(), text.as_ptr());
        });
    }

    fn flush(&self) {}
}

/// A text with a NUL behind it and none inside.
fn terminated(text: &str) -> CString {
    CString::new(text.replace('\0', " ")).unwrap_or_default()
}

/// Sets who is told log lines up to `level`, a `forebay_log_level`; null: nobody. At any time.
///
/// `context` goes to the callback as it is. Both must stay good while any engine is open: a call in another
/// thread may still be running when this returns. Does not block. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn forebay_set_log_callback(
    level: i32,
    callback: forebay_log_callback,
    context: *mut c_void,
) -> forebay_result {
    guarded(|| {
        static IS_OURS: OnceLock<bool> = OnceLock::new();
        let mut levels = LevelFilter::iter();
        let known = usize::try_from(level)
            .ok()
            .and_then(|level| levels.nth(level));
        let Some(level) = known else {
            return invalid("log: no forebay_log_level");
        };
        if !IS_OURS.get_or_init(|| log::set_logger(&Logger).is_ok()) {
            return invalid("log: the process has a logger that is not this library's");
        }
        *LINES.lock() = callback.map(|call| Teller {
            call,
            context: Context(context),
        });
        log::set_max_level(match callback {
            Some(_) => level,
            None => LevelFilter::Off,
        });
        Ok(())
    })
}

/// What happened.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum forebay_event_kind {
    /// Records that nobody had acknowledged were dropped to make room.
    FOREBAY_EVENT_DROPPING_BEGAN = 1,
    /// The backlog is below half of the budget again, after records were dropped.
    FOREBAY_EVENT_DROPPING_ENDED = 2,
    /// The backlog has come to `value` percent of the budget: 50, 80 or 95.
    FOREBAY_EVENT_BACKLOG_OVER = 3,
    /// The backlog is well below `value` percent again.
    FOREBAY_EVENT_BACKLOG_UNDER = 4,
    /// The sink of that name stopped working, works again, or fails in another way: `value` is its
    /// `forebay_sink_state`.
    FOREBAY_EVENT_SINK = 5,
    /// `value` damaged records were found at open, or passed over by a sink.
    FOREBAY_EVENT_DAMAGE = 6,
    /// The time of day was set: `value` milliseconds later than the passing of time explains, or earlier.
    FOREBAY_EVENT_CLOCK_STEPPED = 7,
    /// A thread panicked: the stream takes nothing until the engine is opened again.
    FOREBAY_EVENT_POISONED = 8,
    /// Records became dead letters because the process died of each of them; `value` is how many.
    FOREBAY_EVENT_CRASH_LOOP = 9,
}

/// What a sink is doing.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum forebay_sink_state {
    /// Nothing to deliver.
    FOREBAY_SINK_IDLE = 0,
    /// Delivering.
    FOREBAY_SINK_OK = 1,
    /// The link or the far side is down.
    FOREBAY_SINK_LINK = 2,
    /// The far side asked to slow down.
    FOREBAY_SINK_THROTTLED = 3,
    /// The far side refuses the credentials.
    FOREBAY_SINK_AUTH = 4,
    /// The far side refuses the configuration.
    FOREBAY_SINK_CONFIG = 5,
    /// Waiting before the next try.
    FOREBAY_SINK_BACKOFF = 6,
}

impl From<SinkState> for forebay_sink_state {
    fn from(state: SinkState) -> Self {
        match state {
            SinkState::Idle => Self::FOREBAY_SINK_IDLE,
            SinkState::Ok => Self::FOREBAY_SINK_OK,
            SinkState::Link => Self::FOREBAY_SINK_LINK,
            SinkState::Throttled => Self::FOREBAY_SINK_THROTTLED,
            SinkState::Auth => Self::FOREBAY_SINK_AUTH,
            SinkState::Config => Self::FOREBAY_SINK_CONFIG,
            SinkState::Backoff => Self::FOREBAY_SINK_BACKOFF,
        }
    }
}

/// Something that happened to a stream. Good as long as the callback runs.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct forebay_event {
    /// `sizeof(forebay_event)` of the library.
    pub size: u32,
    /// A `forebay_event_kind`.
    pub kind: i32,
    /// What `kind` says of it; else 0.
    pub value: i64,
    /// The stream's name, with a NUL.
    pub stream: *const c_char,
    /// The sink's name, with a NUL, where `kind` is FOREBAY_EVENT_SINK or
    /// FOREBAY_EVENT_CRASH_LOOP; else null.
    pub sink: *const c_char,
}

/// Is told of an event.
///
/// It runs in a thread of the engine, one event at a time. It may block: what comes when 256 events wait is
/// lost, and counted in `events_lost_total`. It returns: neither an exception nor `longjmp` leaves it. It may
/// call everything but `forebay_close`.
pub type forebay_event_callback =
    Option<unsafe extern "C" fn(context: *mut c_void, event: *const forebay_event)>;

/// Sets who is told the events of engines that are opened later; null: nobody.
///
/// `context` goes to the callback as it is. Both must stay good until all engines that were opened meanwhile
/// are closed. Each engine has a thread more then. Does not block. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn forebay_set_event_callback(
    callback: forebay_event_callback,
    context: *mut c_void,
) -> forebay_result {
    guarded(|| {
        *EVENTS.lock() = callback.map(|call| Teller {
            call,
            context: Context(context),
        });
        Ok(())
    })
}

/// Tells the engine's events, if somebody wants them.
pub fn forward_events(engine: &Engine) -> Result<()> {
    let teller = *EVENTS.lock();
    match teller {
        Some(teller) => engine.forward_events(move |event| tell(teller, event)),
        None => Ok(()),
    }
}

fn tell(teller: Teller<TellEvent>, event: &Event) {
    use forebay_event_kind as E;
    let mut sink = None;
    let (kind, value) = match &event.kind {
        EventKind::DroppingBegan => (E::FOREBAY_EVENT_DROPPING_BEGAN, 0),
        EventKind::DroppingEnded => (E::FOREBAY_EVENT_DROPPING_ENDED, 0),
        EventKind::BacklogOver(percent) => (E::FOREBAY_EVENT_BACKLOG_OVER, i64::from(*percent)),
        EventKind::BacklogUnder(percent) => (E::FOREBAY_EVENT_BACKLOG_UNDER, i64::from(*percent)),
        EventKind::Sink { name, state } => {
            sink = Some(terminated(name));
            let state = forebay_sink_state::from(*state) as i32;
            (E::FOREBAY_EVENT_SINK, i64::from(state))
        }
        EventKind::Damage { records, .. } => {
            let records = i64::try_from(*records).unwrap_or(i64::MAX);
            (E::FOREBAY_EVENT_DAMAGE, records)
        }
        EventKind::CrashLoop { name, records } => {
            sink = Some(terminated(name));
            let records = i64::try_from(*records).unwrap_or(i64::MAX);
            (E::FOREBAY_EVENT_CRASH_LOOP, records)
        }
        EventKind::ClockStepped { by_ms } => (E::FOREBAY_EVENT_CLOCK_STEPPED, *by_ms),
        EventKind::Poisoned => (E::FOREBAY_EVENT_POISONED, 0),
    };
    let stream = terminated(&event.stream);
    let given = forebay_event {
        size: size_of_u32::<forebay_event>(),
        kind: kind as i32,
        value,
        stream: stream.as_ptr(),
        sink: sink.as_ref().map_or(ptr::null(), |sink| sink.as_ptr()),
    };
    // SAFETY: who set it promised that it may be called so, in a thread of the engine, until that is closed;
    // the event lives until it returns.
    inside(|| unsafe { (teller.call)(teller.context.0, &raw const given) });
}
