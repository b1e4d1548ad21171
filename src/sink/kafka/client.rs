//! librdkafka, as far as it is used: settings, a producer, and the queue of what it has to say.
//!
//! **Invariants.** A pointer in here is never null, and is freed once, when its owner is dropped: settings
//! by the client that was made of them or by themselves; topic and queue before the client. No function
//! of Rust is ever called by C: whatever librdkafka has to say is an event that is asked for, so that no
//! panic can unwind into it.
//! **Threads.** The handles of librdkafka may be used by any thread at any time; its own threads live from
//! [`Client::new`] to the drop of the client, which waits for them.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::{self, NonNull};

use rdkafka_sys as sys;
use sys::rd_kafka_vtype_t as Kind;
use sys::rd_kafka_vu_s__bindgen_ty_1 as Value;

mod transactions;

pub use transactions::{Committed, Failure, Then};

/// Errors as numbers: a broker may send one that the bindings have no name for.
pub type ErrorCode = c_int;

// As the bindings have them, but with numbers in place of a closed list of names.
unsafe extern "C" {
    fn rd_kafka_event_error(event: *mut sys::rd_kafka_event_t) -> ErrorCode;
    fn rd_kafka_err2str(code: ErrorCode) -> *const c_char;
    fn rd_kafka_error_code(error: *const sys::rd_kafka_error_t) -> ErrorCode;
}

/// The longest text of an error that librdkafka gives, in bytes.
const ERROR_LEN: usize = 512;

/// What a producer is told.
pub struct Settings(NonNull<sys::rd_kafka_conf_t>);

// SAFETY: settings are plain data of librdkafka, which no thread of its own sees.
unsafe impl Send for Settings {}

impl Settings {
    /// The client's own defaults.
    pub fn new() -> Self {
        // SAFETY: has no precondition; what it returns is ours to destroy.
        let conf = unsafe { sys::rd_kafka_conf_new() };
        Self(NonNull::new(conf).expect("librdkafka aborts when there is no memory"))
    }

    /// Sets a property. The error says what is wrong, and names the property.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let text = |text: &str| {
            CString::new(text).map_err(|_| format!("\"{}\" has a zero byte", name.escape_debug()))
        };
        let (c_name, c_value) = (text(name)?, text(value)?);
        let mut error = [0u8; ERROR_LEN];
        // SAFETY: the settings are alive, the names end in zero, the buffer is as long as is said.
        let done = unsafe {
            sys::rd_kafka_conf_set(
                self.0.as_ptr(),
                c_name.as_ptr(),
                c_value.as_ptr(),
                error.as_mut_ptr().cast(),
                error.len(),
            )
        };
        match done {
            sys::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK => Ok(()),
            _ => Err(in_buffer(&error)),
        }
    }

    /// The value of a property, if there is such a property and it has one.
    pub fn value(&self, name: &str) -> Option<String> {
        let name = CString::new(name).ok()?;
        let mut value = [0u8; ERROR_LEN];
        let mut len = value.len();
        // SAFETY: the settings are alive, the name ends in zero, the buffer is as long as is said.
        let done = unsafe {
            sys::rd_kafka_conf_get(
                self.0.as_ptr(),
                name.as_ptr(),
                value.as_mut_ptr().cast(),
                &raw mut len,
            )
        };
        (done == sys::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK).then(|| in_buffer(&value))
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        // SAFETY: they are ours: whoever takes them over forgets `self`.
        unsafe { sys::rd_kafka_conf_destroy(self.0.as_ptr()) };
    }
}

/// A record as it is handed over. Its bytes are copied.
pub struct Message<'a> {
    /// Empty: none.
    pub key: &'a [u8],
    pub payload: &'a [u8],
    /// Milliseconds since 1970; 0: now.
    pub time_ms: i64,
    /// Comes back with the report.
    pub number: u32,
}

/// What a producer has to say.
pub enum Event<'a> {
    /// What became of the message with that number; 0 when it was delivered.
    Report(u32, ErrorCode),
    /// Something is wrong with the client or with its way to the brokers.
    Error {
        code: ErrorCode,
        text: &'a str,
        is_fatal: bool,
    },
    /// A line of its log, with the severity of syslog.
    Log { severity: c_int, text: &'a str },
}

/// A producer for one topic.
pub struct Client {
    handle: NonNull<sys::rd_kafka_t>,
    topic: NonNull<sys::rd_kafka_topic_t>,
    queue: NonNull<sys::rd_kafka_queue_t>,
}

// SAFETY: librdkafka documents its handles as safe to use from any thread.
unsafe impl Send for Client {}
// SAFETY: and from several at the same time.
unsafe impl Sync for Client {}

impl Client {
    /// Starts a producer. It connects by itself, now and whenever it has to.
    pub fn new(mut settings: Settings, topic: &str) -> Result<Self, String> {
        let topic = CString::new(topic).map_err(|_| "the topic has a zero byte".to_owned())?;
        settings.set("log.queue", "true")?;
        let events = sys::RD_KAFKA_EVENT_DR | sys::RD_KAFKA_EVENT_ERROR | sys::RD_KAFKA_EVENT_LOG;
        let conf = settings.0.as_ptr();
        // SAFETY: the settings are alive.
        unsafe { sys::rd_kafka_conf_set_events(conf, events) };
        let mut error = [0u8; ERROR_LEN];
        // SAFETY: the settings are alive; the buffer is as long as is said.
        let handle = unsafe {
            sys::rd_kafka_new(
                sys::rd_kafka_type_t::RD_KAFKA_PRODUCER,
                conf,
                error.as_mut_ptr().cast(),
                error.len(),
            )
        };
        let handle = NonNull::new(handle).ok_or_else(|| in_buffer(&error))?;
        // The client has them now; it had not if it could not be made.
        std::mem::forget(settings);
        // SAFETY: the client is alive; what this returns is ours to destroy.
        let queue = unsafe { sys::rd_kafka_queue_get_main(handle.as_ptr()) };
        let queue = NonNull::new(queue).expect("every client has a main queue");
        // SAFETY: both are alive; without a queue, lines of the log go to the main one.
        unsafe { sys::rd_kafka_set_log_queue(handle.as_ptr(), ptr::null_mut()) };
        // SAFETY: the client is alive, the name ends in zero; without settings those of the client count.
        let made =
            unsafe { sys::rd_kafka_topic_new(handle.as_ptr(), topic.as_ptr(), ptr::null_mut()) };
        let Some(topic) = NonNull::new(made) else {
            // SAFETY: it is ours, and nobody uses it any more.
            unsafe { sys::rd_kafka_queue_destroy(queue.as_ptr()) };
            // SAFETY: so is the client, and all that belonged to it is gone.
            unsafe { sys::rd_kafka_destroy(handle.as_ptr()) };
            return Err(format!("topic {topic:?}: not a name that Kafka takes"));
        };
        Ok(Self {
            handle,
            topic,
            queue,
        })
    }

    /// Hands a message over, with a copy of its bytes. The error is that of the client: nothing was taken.
    pub fn produce(&self, message: &Message<'_>, headers: Headers) -> Result<(), ErrorCode> {
        let bytes = |ptr: *const u8, size| Value {
            mem: sys::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 {
                ptr: ptr.cast_mut().cast(),
                size,
            },
        };
        let key = match message.key {
            [] => ptr::null(),
            key => key.as_ptr(),
        };
        let values = [
            (
                Kind::RD_KAFKA_VTYPE_RKT,
                Value {
                    rkt: self.topic.as_ptr(),
                },
            ),
            (
                Kind::RD_KAFKA_VTYPE_VALUE,
                bytes(message.payload.as_ptr(), message.payload.len()),
            ),
            (Kind::RD_KAFKA_VTYPE_KEY, bytes(key, message.key.len())),
            (
                Kind::RD_KAFKA_VTYPE_TIMESTAMP,
                Value {
                    i64_: message.time_ms,
                },
            ),
            (
                Kind::RD_KAFKA_VTYPE_OPAQUE,
                Value {
                    ptr: ptr::without_provenance_mut(message.number as usize),
                },
            ),
            (
                Kind::RD_KAFKA_VTYPE_MSGFLAGS,
                Value {
                    i: sys::RD_KAFKA_MSG_F_COPY,
                },
            ),
            (
                Kind::RD_KAFKA_VTYPE_HEADERS,
                Value {
                    headers: headers.0.as_ptr(),
                },
            ),
        ];
        let values = values.map(|(vtype, u)| sys::rd_kafka_vu_t { vtype, u });
        // SAFETY: client, topic and headers are alive, and so are the bytes until this returns, which
        // copies them; the tag of each value tells which field of the union was written.
        let error =
            unsafe { sys::rd_kafka_produceva(self.handle.as_ptr(), values.as_ptr(), values.len()) };
        let Some(error) = NonNull::new(error) else {
            // The message has them now.
            std::mem::forget(headers);
            return Ok(());
        };
        // SAFETY: the error is alive.
        let code = unsafe { rd_kafka_error_code(error.as_ptr()) };
        // SAFETY: it is ours to destroy.
        unsafe { sys::rd_kafka_error_destroy(error.as_ptr()) };
        Err(code)
    }

    /// Waits for something to be said, at most so many milliseconds (-1: without end), and calls `take`
    /// with it. Returns early after [`interrupt`](Self::interrupt).
    pub fn poll(&self, millis: c_int, mut take: impl FnMut(Event<'_>)) {
        // SAFETY: the queue is alive.
        let event = unsafe { sys::rd_kafka_queue_poll(self.queue.as_ptr(), millis) };
        let Some(event) = NonNull::new(event).map(Said) else {
            return;
        };
        let raw = event.0.as_ptr();
        // SAFETY: the event is alive.
        match unsafe { sys::rd_kafka_event_type(raw) } {
            sys::RD_KAFKA_EVENT_DR => {
                loop {
                    // SAFETY: the event is alive; its messages live as long as it does.
                    let message = unsafe { sys::rd_kafka_event_message_next(raw) };
                    if message.is_null() {
                        break;
                    }
                    // Not by a reference: the error may be a number that its type has no name for.
                    // SAFETY: the message is alive.
                    let code = unsafe { &raw const (*message).err }.cast::<ErrorCode>();
                    // SAFETY: it points to an int of C.
                    let code = unsafe { code.read() };
                    // SAFETY: the message is alive.
                    let number = unsafe { (*message)._private };
                    // It was made of this type.
                    let number = u32::try_from(number.addr()).unwrap_or(u32::MAX);
                    take(Event::Report(number, code));
                }
            }
            sys::RD_KAFKA_EVENT_ERROR => {
                // SAFETY: the event is alive.
                let text = unsafe { sys::rd_kafka_event_error_string(raw) };
                // SAFETY: the text lives as long as the event does.
                let text = unsafe { shown(text) };
                // SAFETY: the event is alive.
                let code = unsafe { rd_kafka_event_error(raw) };
                // SAFETY: the event is alive.
                let is_fatal = unsafe { sys::rd_kafka_event_error_is_fatal(raw) } != 0;
                take(Event::Error {
                    code,
                    text: &text,
                    is_fatal,
                });
            }
            sys::RD_KAFKA_EVENT_LOG => {
                let (mut facility, mut line, mut severity) = (ptr::null(), ptr::null(), 0);
                let out = (&raw mut facility, &raw mut line, &raw mut severity);
                // SAFETY: the event is alive, and the places are there to be written to.
                if unsafe { sys::rd_kafka_event_log(raw, out.0, out.1, out.2) } == 0 {
                    // SAFETY: the text lives as long as the event does.
                    let text = unsafe { shown(line) };
                    take(Event::Log {
                        severity,
                        text: &text,
                    });
                }
            }
            _ => {}
        }
    }

    /// Lets [`poll`](Self::poll) return.
    pub fn interrupt(&self) {
        // SAFETY: the queue is alive.
        unsafe { sys::rd_kafka_queue_yield(self.queue.as_ptr()) };
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // SAFETY: it is ours, and nobody uses it any more.
        unsafe { sys::rd_kafka_topic_destroy(self.topic.as_ptr()) };
        // SAFETY: the same.
        unsafe { sys::rd_kafka_queue_destroy(self.queue.as_ptr()) };
        // SAFETY: the same, and all that belonged to it is gone.
        unsafe { sys::rd_kafka_destroy(self.handle.as_ptr()) };
    }
}

/// An event that was taken from the queue.
struct Said(NonNull<sys::rd_kafka_event_t>);

impl Drop for Said {
    fn drop(&mut self) {
        // SAFETY: it is ours, and nothing that lived in it is used any more.
        unsafe { sys::rd_kafka_event_destroy(self.0.as_ptr()) };
    }
}

/// The headers of a message.
pub struct Headers(NonNull<sys::rd_kafka_headers_t>);

impl Headers {
    /// None, with room for so many.
    pub fn with_capacity(count: usize) -> Self {
        // SAFETY: has no precondition; what it returns is ours to destroy.
        let headers = unsafe { sys::rd_kafka_headers_new(count) };
        Self(NonNull::new(headers).expect("librdkafka aborts when there is no memory"))
    }

    /// Adds one; both are copied.
    pub fn add(&mut self, name: &str, value: &[u8]) {
        let len = |bytes: &[u8]| isize::try_from(bytes.len()).unwrap_or(isize::MAX);
        // SAFETY: the headers are alive, and the bytes are as many as is said. Nothing can go wrong with
        // headers that no message has yet.
        unsafe {
            sys::rd_kafka_header_add(
                self.0.as_ptr(),
                name.as_ptr().cast(),
                len(name.as_bytes()),
                value.as_ptr().cast::<c_void>(),
                len(value),
            )
        };
    }
}

impl Drop for Headers {
    fn drop(&mut self) {
        // SAFETY: they are ours: when a message takes them over, `self` is forgotten.
        unsafe { sys::rd_kafka_headers_destroy(self.0.as_ptr()) };
    }
}

/// What an error means, in a few words of librdkafka.
pub fn describe(code: ErrorCode) -> String {
    // SAFETY: any number is allowed.
    let text = unsafe { rd_kafka_err2str(code) };
    // SAFETY: the text lives until this thread asks for another.
    unsafe { shown(text) }
}

/// Text that a buffer holds up to its first zero.
fn in_buffer(buffer: &[u8]) -> String {
    let text = buffer.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).trim_end().to_owned()
}

/// Text of librdkafka.
///
/// # Safety
///
/// It is null, or ends in zero and lives until this returns.
unsafe fn shown(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the caller says so.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_string_lossy().into_owned()
}
