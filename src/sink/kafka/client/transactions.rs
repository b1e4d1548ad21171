//! Transactions of a producer, and the offset that a group has committed in one.
//!
//! **Threads.** One thread makes the steps of a transaction; the one that hears the reports goes on.
#![allow(unsafe_code)]

use std::ffi::{CString, c_char, c_int};
use std::ptr::{self, NonNull};

use rdkafka_sys as sys;
use sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPOFFSETS as LIST_OFFSETS;

use super::{Client, ERROR_LEN, ErrorCode, Said, describe, shown};
use super::{rd_kafka_error_code, rd_kafka_event_error};

/// Why a step was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub code: ErrorCode,
    pub text: String,
    pub then: Then,
}

/// What can be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The same call goes on with it.
    GoOn,
    /// The transaction has to be aborted; the next one may work.
    Abort,
    /// The client is of no more use.
    Anew,
}

/// What a group has committed for a partition: an offset, and a text beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    pub offset: i64,
    pub text: String,
}

/// The partition that offsets are committed for.
const PARTITION: i32 = 0;

impl Client {
    /// Takes the transactional id over: whoever had it before can do no more, and what it left open is
    /// committed or aborted when this returns.
    pub fn init_transactions(&self, millis: c_int) -> Result<(), Failure> {
        // SAFETY: the client is alive.
        checked(unsafe { sys::rd_kafka_init_transactions(self.handle.as_ptr(), millis) })
    }

    /// What is produced from now on belongs to a transaction.
    pub fn begin_transaction(&self) -> Result<(), Failure> {
        // SAFETY: the client is alive.
        checked(unsafe { sys::rd_kafka_begin_transaction(self.handle.as_ptr()) })
    }

    /// Commits what was produced, and the offset that goes with it.
    pub fn commit_transaction(&self, millis: c_int) -> Result<(), Failure> {
        // SAFETY: the client is alive.
        checked(unsafe { sys::rd_kafka_commit_transaction(self.handle.as_ptr(), millis) })
    }

    /// Takes back what was produced. Messages that are with the client are reported as failed.
    pub fn abort_transaction(&self, millis: c_int) -> Result<(), Failure> {
        // SAFETY: the client is alive.
        checked(unsafe { sys::rd_kafka_abort_transaction(self.handle.as_ptr(), millis) })
    }

    /// Makes an offset of a group a part of the transaction.
    pub fn send_offset(
        &self,
        group: &str,
        committed: &Committed,
        millis: c_int,
    ) -> Result<(), Failure> {
        let group = in_c(group)?;
        let offsets = self.partition();
        let raw = offsets.0.as_ptr();
        // SAFETY: the list is alive, and has the one element that it was made with.
        let element = unsafe { (*raw).elems };
        let text = committed.text.as_bytes();
        // SAFETY: takes no client; what it returns is freed by the list, which frees as it allocates.
        let copy = unsafe { sys::rd_kafka_mem_malloc(ptr::null_mut(), text.len().max(1)) };
        // SAFETY: `copy` has as many bytes as are copied: librdkafka aborts when there is no memory.
        unsafe { ptr::copy_nonoverlapping(text.as_ptr(), copy.cast(), text.len()) };
        // SAFETY: the element is alive, and nobody else's.
        let element = unsafe { &mut *element };
        element.offset = committed.offset;
        (element.metadata, element.metadata_size) = (copy, text.len());
        // SAFETY: the name ends in zero; what this returns is ours to destroy.
        let made = unsafe { sys::rd_kafka_consumer_group_metadata_new(group.as_ptr()) };
        let metadata = NonNull::new(made).expect("librdkafka aborts when there is no memory");
        let (handle, metadata) = (self.handle.as_ptr(), metadata.as_ptr());
        // SAFETY: client, list and metadata are alive; all are copied.
        let error =
            unsafe { sys::rd_kafka_send_offsets_to_transaction(handle, raw, metadata, millis) };
        // SAFETY: it is ours, and not used any more.
        unsafe { sys::rd_kafka_consumer_group_metadata_destroy(metadata) };
        checked(error)
    }

    /// Asks for the offset that a group has committed; `None`: none. One that an open transaction may yet
    /// change is an error.
    pub fn committed(&self, group: &str, millis: c_int) -> Result<Option<Committed>, Failure> {
        let name = in_c(group)?;
        let partition = self.partition();
        // SAFETY: name and list are alive, and copied; what this returns is ours to destroy.
        let made = unsafe {
            sys::rd_kafka_ListConsumerGroupOffsets_new(name.as_ptr(), partition.0.as_ptr())
        };
        let asked = Asked(NonNull::new(made).expect("it takes every group and list"));
        let options = AdminOptions::new(self, millis)?;
        // SAFETY: the client is alive; what this returns is ours to destroy.
        let queue = unsafe { sys::rd_kafka_queue_new(self.handle.as_ptr()) };
        let queue = Queue(NonNull::new(queue).expect("librdkafka aborts when there is no memory"));
        let (handle, mut list) = (self.handle.as_ptr(), asked.0.as_ptr());
        let (options, raw) = (options.0.as_ptr(), queue.0.as_ptr());
        // SAFETY: all of them are alive, the array has one element, and all is copied.
        unsafe { sys::rd_kafka_ListConsumerGroupOffsets(handle, &raw mut list, 1, options, raw) };
        // The request has a time limit of its own; the answer to it always comes.
        // SAFETY: the queue is alive.
        let event = unsafe { sys::rd_kafka_queue_poll(raw, 2 * millis) };
        let Some(event) = NonNull::new(event).map(Said) else {
            return Err(Failure::silent());
        };
        let raw = event.0.as_ptr();
        // SAFETY: the event is alive.
        let code = unsafe { rd_kafka_event_error(raw) };
        if code != 0 {
            // SAFETY: the event is alive.
            let text = unsafe { sys::rd_kafka_event_error_string(raw) };
            // SAFETY: the text lives as long as the event does.
            return Err(Failure::of(code, unsafe { shown(text) }));
        }
        // SAFETY: the event is alive; the result lives as long as it does.
        let result = unsafe { sys::rd_kafka_event_ListConsumerGroupOffsets_result(raw) };
        if result.is_null() {
            return Err(Failure::silent());
        }
        let mut count = 0;
        // SAFETY: the result is alive, and the count a place to be written to.
        let groups =
            unsafe { sys::rd_kafka_ListConsumerGroupOffsets_result_groups(result, &raw mut count) };
        if count == 0 {
            return Ok(None);
        }
        // SAFETY: there is at least one.
        let found = unsafe { *groups };
        // SAFETY: the group is alive.
        let error = unsafe { sys::rd_kafka_group_result_error(found) };
        if !error.is_null() {
            // SAFETY: the error is alive, and stays the group's.
            let code = unsafe { rd_kafka_error_code(error) };
            return match code {
                NO_GROUP => Ok(None),
                code => Err(Failure::of(code, describe(code))),
            };
        }
        // SAFETY: the group is alive, and its list lives as long.
        let list = unsafe { sys::rd_kafka_group_result_partitions(found) };
        if list.is_null() {
            return Ok(None);
        }
        // SAFETY: the list is alive.
        let elements = unsafe { (*list).elems };
        // SAFETY: the list is alive.
        if unsafe { (*list).cnt } == 0 {
            return Ok(None);
        }
        // Not by a reference: the error may be a number that its type has no name for.
        // SAFETY: there is at least one.
        let code = unsafe { &raw const (*elements).err }.cast::<ErrorCode>();
        // SAFETY: it points to an int of C.
        let code = unsafe { code.read() };
        if code != 0 {
            return Err(Failure::of(code, describe(code)));
        }
        // SAFETY: there is at least one.
        let offset = unsafe { (*elements).offset };
        // SAFETY: the same.
        let text = unsafe { (*elements).metadata };
        // SAFETY: the same.
        let len = unsafe { (*elements).metadata_size };
        if offset < 0 {
            return Ok(None);
        }
        let text: &[u8] = match text.is_null() {
            true => &[],
            // SAFETY: the text has as many bytes, and lives as long as the event.
            false => unsafe { std::slice::from_raw_parts(text.cast::<u8>(), len) },
        };
        let text = String::from_utf8_lossy(text).into_owned();
        Ok(Some(Committed { offset, text }))
    }

    /// The topic's partition that offsets are committed for.
    fn partition(&self) -> Partitions {
        // SAFETY: has no precondition; what it returns is ours to destroy.
        let list = unsafe { sys::rd_kafka_topic_partition_list_new(1) };
        let list = NonNull::new(list).expect("librdkafka aborts when there is no memory");
        // SAFETY: the topic is alive; its name lives as long.
        let name = unsafe { sys::rd_kafka_topic_name(self.topic.as_ptr()) };
        // SAFETY: list and name are alive, and the name is copied.
        unsafe { sys::rd_kafka_topic_partition_list_add(list.as_ptr(), name, PARTITION) };
        Partitions(list)
    }
}

/// The name of a group, as C has it.
fn in_c(name: &str) -> Result<CString, Failure> {
    CString::new(name).map_err(|_| Failure::of(INVALID_ARGUMENT, "a zero byte".to_owned()))
}

/// `RD_KAFKA_RESP_ERR__INVALID_ARG`, and that a call took too long.
const INVALID_ARGUMENT: ErrorCode = -186;
const TIMED_OUT: ErrorCode = -185;

/// What a question is asked again after. Of the client: no connection, no name, no broker, no coordinator
/// yet, no answer in time. Of the brokers: a time limit, a lost connection, a coordinator that is loading, is
/// none, or is another one, transactions that are being ended, offsets that one may yet change.
const EARLY: [ErrorCode; 12] = [-195, -193, -187, -180, TIMED_OUT, 7, 13, 14, 15, 16, 51, 88];
/// `RD_KAFKA_RESP_ERR_GROUP_ID_NOT_FOUND`.
const NO_GROUP: ErrorCode = 69;

impl Failure {
    fn of(code: ErrorCode, text: String) -> Self {
        let then = match EARLY.contains(&code) {
            true => Then::GoOn,
            false => Then::Anew,
        };
        Self { code, text, then }
    }

    fn silent() -> Self {
        Self::of(TIMED_OUT, describe(TIMED_OUT))
    }
}

/// What a step returned.
fn checked(error: *mut sys::rd_kafka_error_t) -> Result<(), Failure> {
    let Some(error) = NonNull::new(error) else {
        return Ok(());
    };
    let error = error.as_ptr();
    // SAFETY: the error is alive.
    let code = unsafe { rd_kafka_error_code(error) };
    // SAFETY: the error is alive.
    let text = unsafe { sys::rd_kafka_error_string(error) };
    // SAFETY: the text lives as long as the error.
    let text = unsafe { shown(text) };
    // SAFETY: the error is alive.
    let is_fatal = unsafe { sys::rd_kafka_error_is_fatal(error) } != 0;
    // SAFETY: the error is alive.
    let is_to_abort = unsafe { sys::rd_kafka_error_txn_requires_abort(error) } != 0;
    // SAFETY: the error is alive.
    let goes_on = unsafe { sys::rd_kafka_error_is_retriable(error) } != 0;
    // SAFETY: it is ours, and not used any more.
    unsafe { sys::rd_kafka_error_destroy(error) };
    let then = match (is_fatal, is_to_abort, goes_on) {
        (false, true, _) => Then::Abort,
        (false, false, true) => Then::GoOn,
        _ => Then::Anew,
    };
    Err(Failure { code, text, then })
}

/// A list of partitions.
struct Partitions(NonNull<sys::rd_kafka_topic_partition_list_t>);

impl Drop for Partitions {
    fn drop(&mut self) {
        // SAFETY: it is ours, and what it has was allocated by librdkafka.
        unsafe { sys::rd_kafka_topic_partition_list_destroy(self.0.as_ptr()) };
    }
}

/// A question for the offsets of a group.
struct Asked(NonNull<sys::rd_kafka_ListConsumerGroupOffsets_t>);

impl Drop for Asked {
    fn drop(&mut self) {
        // SAFETY: it is ours.
        unsafe { sys::rd_kafka_ListConsumerGroupOffsets_destroy(self.0.as_ptr()) };
    }
}

/// Where the answer to a question comes.
struct Queue(NonNull<sys::rd_kafka_queue_t>);

impl Drop for Queue {
    fn drop(&mut self) {
        // SAFETY: it is ours; an answer that comes later finds that.
        unsafe { sys::rd_kafka_queue_destroy(self.0.as_ptr()) };
    }
}

/// How a question is asked.
struct AdminOptions(NonNull<sys::rd_kafka_AdminOptions_t>);

impl AdminOptions {
    fn new(client: &Client, millis: c_int) -> Result<Self, Failure> {
        // SAFETY: the client is alive; what this returns is ours to destroy.
        let options =
            unsafe { sys::rd_kafka_AdminOptions_new(client.handle.as_ptr(), LIST_OFFSETS) };
        let options = NonNull::new(options)
            .map(Self)
            .ok_or_else(Failure::silent)?;
        let raw = options.0.as_ptr();
        let mut error = [0 as c_char; ERROR_LEN];
        // SAFETY: the options are alive, the buffer is as long as is said. A time out of range is left as it
        // was, and every wait here has a limit of its own.
        unsafe {
            sys::rd_kafka_AdminOptions_set_request_timeout(
                raw,
                millis,
                error.as_mut_ptr(),
                error.len(),
            )
        };
        // SAFETY: the options are alive.
        checked(unsafe { sys::rd_kafka_AdminOptions_set_require_stable_offsets(raw, 1) })?;
        Ok(options)
    }
}

impl Drop for AdminOptions {
    fn drop(&mut self) {
        // SAFETY: they are ours.
        unsafe { sys::rd_kafka_AdminOptions_destroy(self.0.as_ptr()) };
    }
}
