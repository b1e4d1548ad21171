//! Streams: appending, waiting, looking.

use std::ffi::{c_char, c_void};
use std::ptr;
use std::time::Duration;

use super::handles::{Lease, Table};
use super::pointers::{self, Sized32};
use super::stats::{forebay_sink_stats, forebay_stats};
use super::{ENGINES, forebay_engine, forebay_result, guarded, invalid};
use crate::engine::Stream;
use crate::error::{Code, Error, Result};
use crate::record::{PROPERTIES_MAX, Record, Source};

/// The most handles of streams at once.
const STREAMS_MAX: usize = 2048;

static STREAMS: Table<Stream, 2, STREAMS_MAX> = Table::new();

/// A handle of a stream. Not a pointer to anything: a number that is checked by each call.
pub struct forebay_stream(());

/// A name and a value that go along with a record.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct forebay_property {
    /// UTF-8, 1 to 255 bytes. No NUL is needed.
    pub name: *const c_char,
    /// The bytes of `name`.
    pub name_len: usize,
    /// Any bytes.
    pub value: *const c_void,
    /// The bytes of `value`.
    pub value_len: usize,
}

/// A record as it is appended. Set it to zeros, then `size`, then what is needed.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct forebay_record {
    /// `sizeof(forebay_record)`.
    pub size: u32,
    /// The bytes of `source`: UTF-8, at most 128; 0: no source.
    pub source_len: u32,
    /// When it happened, in milliseconds since 1970.
    pub time_ms: u64,
    /// Records of one key keep their order downstream. Any bytes, at most 65535; null for none.
    pub key: *const c_void,
    /// The bytes of `key`.
    pub key_len: usize,
    /// Any bytes; null for none.
    pub payload: *const c_void,
    /// The bytes of `payload`.
    pub payload_len: usize,
    /// Names and values; null for none.
    pub properties: *const forebay_property,
    /// How many properties; at most 64.
    pub properties_len: usize,
    /// Which source of the producer's own the record is from. No NUL is needed.
    pub source: *const c_char,
    /// Where the producer stands in it with this record: at most 64 bytes that only he understands.
    pub position: *const c_void,
    /// The bytes of `position`.
    pub position_len: usize,
}

impl Sized32 for forebay_record {
    const WRONG_SIZE: &'static str =
        "append: a record is null or not aligned, or its size is not sizeof(forebay_record)";
}

type Properties<'a> = [(&'a str, &'a [u8]); PROPERTIES_MAX];

impl forebay_record {
    /// Hands its properties to `put`, one by one.
    ///
    /// # Safety
    /// Its pointers point to what their lengths say while `'a` lasts.
    unsafe fn put_properties<'a>(&self, mut put: impl FnMut((&'a str, &'a [u8]))) -> Result<()> {
        if self.properties_len > PROPERTIES_MAX {
            return invalid("append: more than 64 properties");
        }
        let what = "append: properties is null or not aligned";
        // SAFETY: the caller's promise is passed on.
        let items = unsafe { pointers::items(self.properties, self.properties_len, what) }?;
        for item in items {
            let what = "append: a property's name is null or not UTF-8";
            // SAFETY: the caller's promise is passed on.
            let name = unsafe { pointers::str(item.name, item.name_len, what) }?;
            let what = "append: a property's value is null or too long";
            // SAFETY: the caller's promise is passed on.
            let value = unsafe { pointers::bytes(item.value, item.value_len, what) }?;
            put((name, value));
        }
        Ok(())
    }

    /// The record, with these properties.
    ///
    /// # Safety
    /// As with `put_properties`.
    unsafe fn record<'a>(&self, properties: &'a [(&'a str, &'a [u8])]) -> Result<Record<'a>> {
        let (key, payload) = ((self.key, self.key_len), (self.payload, self.payload_len));
        // SAFETY: the caller's promise is passed on.
        let (key, payload) = unsafe { key_and_payload(key, payload) }?;
        let mut source = None;
        if self.source_len > 0 {
            let len = self.source_len as usize; // no target has less than 32 bits
            let what = "append: the source is null or not UTF-8";
            // SAFETY: the caller's promise is passed on.
            let name = unsafe { pointers::str(self.source, len, what) }?;
            let what = "append: the position is null or too long";
            // SAFETY: the caller's promise is passed on.
            let position = unsafe { pointers::bytes(self.position, self.position_len, what) }?;
            source = Some(Source { name, position });
        }
        Ok(Record {
            key,
            time_ms: self.time_ms,
            payload,
            properties,
            source,
        })
    }
}

/// The two that every record has, as pointers and lengths.
///
/// # Safety
/// As with [`pointers::bytes`], for both.
#[inline]
unsafe fn key_and_payload<'a>(
    (key, key_len): (*const c_void, usize),
    (payload, payload_len): (*const c_void, usize),
) -> Result<(&'a [u8], &'a [u8])> {
    let what = "append: the key is null or too long";
    // SAFETY: the caller's promise is passed on.
    let key = unsafe { pointers::bytes(key, key_len, what) }?;
    let what = "append: the payload is null or too long";
    // SAFETY: the caller's promise is passed on.
    let payload = unsafe { pointers::bytes(payload, payload_len, what) }?;
    Ok((key, payload))
}

/// The stream of a handle.
#[inline]
fn lease(stream: *const forebay_stream) -> Result<Lease<'static, Stream>> {
    match STREAMS.lease(stream.addr()) {
        Some(stream) => Ok(stream),
        None => invalid("no stream's handle, or one that was freed"),
    }
}

/// Gives a handle of the stream of that name.
///
/// `name` is UTF-8, up to its first NUL. `*stream` is to be given to `forebay_stream_free`; it may outlive
/// the engine, and may be used by any number of threads at once. Each call gives another handle; at most
/// 2048 are there at once (FOREBAY_ERR_FULL). Does not block. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn forebay_stream_get(
    engine: *const forebay_engine,
    name: *const c_char,
    stream: *mut *mut forebay_stream,
) -> forebay_result {
    guarded(|| {
        pointers::check_output(stream, "stream: stream is null or not aligned")?;
        // SAFETY: C promises a text that ends with a NUL, or null.
        let name = unsafe { pointers::text(name, "stream: the name is null or not UTF-8") }?;
        let Some(engine) = ENGINES.lease(engine.addr()) else {
            return invalid("stream: no open engine's handle");
        };
        let Some(handle) = STREAMS.insert(engine.stream(name)?) else {
            let text = "stream: there are 2048 handles; free those that are not needed";
            return Err(Error::refused(Code::Full, text));
        };
        // SAFETY: C promises room for a handle; null and unaligned ones were refused.
        unsafe { pointers::put(stream, ptr::without_provenance_mut(handle)) };
        Ok(())
    })
}

/// Ends a handle. Calls of other threads that use it go on to their end; later ones are refused.
///
/// Null is FOREBAY_OK. Does not wait for anything. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn forebay_stream_free(stream: *mut forebay_stream) -> forebay_result {
    guarded(|| match stream.is_null() || STREAMS.remove(stream.addr()) {
        true => Ok(()),
        false => invalid("free: no stream's handle, or one that was freed"),
    })
}

/// Appends a record and returns at once, with its number in `*offset` (null: not wanted).
///
/// `key` and `payload` are any bytes, null for none; they are copied. With `fsync` `perBatch` and `interval`
/// the record is durable at most `fsyncIntervalMs` later; then this never allocates, takes no lock, never
/// blocks (but for room under `onFull` `block`) and calls the kernel only to wake a sleeping
/// thread of the engine, at most once per sleep. With `always` it waits until the record is durable, at most
/// `syncTimeoutMs`.
///
/// FOREBAY_ERR_FULL: no room, nothing was taken. FOREBAY_ERR_TIMEOUT: no room in time, or, with `always`,
/// not durable in time; the text tells which. FOREBAY_ERR_INVALID_ARG, FOREBAY_ERR_CLOSED,
/// FOREBAY_ERR_PANIC; FOREBAY_ERR_IO with `always`. Any thread, any number at once; from a sink's callback
/// only where it does not wait for room.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn forebay_stream_append(
    stream: *const forebay_stream,
    key: *const c_void,
    key_len: usize,
    time_ms: u64,
    payload: *const c_void,
    payload_len: usize,
    offset: *mut u64,
) -> forebay_result {
    guarded(|| {
        pointers::check_wanted(offset, "append: offset is not aligned")?;
        // SAFETY: C promises `key_len` and `payload_len` bytes.
        let (key, payload) = unsafe { key_and_payload((key, key_len), (payload, payload_len)) }?;
        let appended = lease(stream)?.append(key, time_ms, payload)?;
        // SAFETY: C promises room for a number, or null; an unaligned one was refused.
        unsafe { pointers::put(offset, appended) };
        Ok(())
    })
}

/// Like `forebay_stream_append`, with properties and the place in the producer's own source.
///
/// What the record points to is copied. Allocates nothing. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn forebay_stream_append_record(
    stream: *const forebay_stream,
    record: *const forebay_record,
    offset: *mut u64,
) -> forebay_result {
    guarded(|| {
        pointers::check_wanted(offset, "append: offset is not aligned")?;
        // SAFETY: C promises a record, or null.
        let given = unsafe { pointers::structure(record) }?;
        let mut properties: Properties<'_> = [("", &[]); PROPERTIES_MAX];
        let mut len = 0;
        // SAFETY: C promises that the record's pointers point to what their lengths say.
        unsafe {
            given.put_properties(|property| {
                properties[len] = property;
                len += 1;
            })
        }?;
        // SAFETY: as above.
        let record = unsafe { given.record(&properties[..len]) }?;
        let appended = lease(stream)?.append_record(&record)?;
        // SAFETY: C promises room for a number, or null; an unaligned one was refused.
        unsafe { pointers::put(offset, appended) };
        Ok(())
    })
}

/// Appends `count` records one behind the other, or none of them; the first one's number is `*first_offset`
/// (null: not wanted), the others follow without a gap.
///
/// Under `fsync` `perBatch` and `always` all are durable on return, by one sync that calls share: it blocks
/// for that, at most `syncTimeoutMs`. At most `maxBufferedRecords`, in a quarter of `maxBufferedBytes`. What
/// the records point to is copied. Allocates a table of the records. No records: FOREBAY_OK at once, and
/// `*first_offset` is where one would be. Errors as with `forebay_stream_append`; the text names the
/// first record that is wrong. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn forebay_stream_append_batch(
    stream: *const forebay_stream,
    records: *const forebay_record,
    count: usize,
    first_offset: *mut u64,
) -> forebay_result {
    guarded(|| {
        pointers::check_wanted(first_offset, "append: first_offset is not aligned")?;
        let what = "append: records is null, not aligned or too long";
        // SAFETY: C promises `count` records.
        let given = unsafe { pointers::items(records, count, what) }?;
        let stream = lease(stream)?;
        let max = stream.ring().options().records_max as usize;
        if count > max {
            let text = format!("append: a batch has at most maxBufferedRecords, {max}, records");
            return Err(Error::text(Code::InvalidArg, "", text));
        }
        let mut all = Vec::new();
        let mut starts = Vec::new();
        for (index, record) in given.iter().enumerate() {
            starts.push(all.len());
            let wrong = |error: Error| {
                let text = format!("record {index} of the batch: {error}");
                Error::text(error.code(), "", text)
            };
            // SAFETY: an item of a slice is there.
            unsafe { pointers::check_size(record) }.map_err(wrong)?;
            // SAFETY: C promises that the record's pointers point to what their lengths say.
            unsafe { record.put_properties(|property| all.push(property)) }.map_err(wrong)?;
        }
        let mut batch = Vec::with_capacity(count);
        for (index, record) in given.iter().enumerate() {
            let properties = &all[starts[index]..][..record.properties_len];
            // SAFETY: as above.
            batch.push(unsafe { record.record(properties) }.map_err(|error| {
                let text = format!("record {index} of the batch: {error}");
                Error::text(error.code(), "", text)
            })?);
        }
        let offsets = stream.append_batch(&batch)?;
        // SAFETY: C promises room for a number, or null; an unaligned one was refused.
        unsafe { pointers::put(first_offset, offsets.start) };
        Ok(())
    })
}

/// Like `forebay_stream_append`, and returns when the record is durable: synced to the medium.
///
/// Blocks for one sync, which it shares with all who wait at the same time, and under `onFull` `block` for
/// room; at most `timeout_ms`. After FOREBAY_ERR_IO, and after FOREBAY_ERR_TIMEOUT if the text says so, the
/// record may still become durable. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn forebay_stream_append_durable(
    stream: *const forebay_stream,
    key: *const c_void,
    key_len: usize,
    time_ms: u64,
    payload: *const c_void,
    payload_len: usize,
    timeout_ms: u32,
    offset: *mut u64,
) -> forebay_result {
    guarded(|| {
        pointers::check_wanted(offset, "append: offset is not aligned")?;
        // SAFETY: C promises `key_len` and `payload_len` bytes.
        let (key, payload) = unsafe { key_and_payload((key, key_len), (payload, payload_len)) }?;
        let timeout = Duration::from_millis(timeout_ms.into());
        let appended = lease(stream)?.append_durable(key, time_ms, payload, timeout)?;
        // SAFETY: C promises room for a number, or null; an unaligned one was refused.
        unsafe { pointers::put(offset, appended) };
        Ok(())
    })
}

/// Returns when everything that was appended before is durable. Does not wait for delivery.
///
/// Blocks for a sync, at most `timeout_ms`. After FOREBAY_ERR_TIMEOUT and FOREBAY_ERR_IO it may still become
/// durable. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn forebay_stream_flush(
    stream: *const forebay_stream,
    timeout_ms: u32,
) -> forebay_result {
    guarded(|| lease(stream)?.flush(Duration::from_millis(timeout_ms.into())))
}

/// A snapshot of the stream's numbers. `stats->size` has to be set: `sizeof(forebay_stats)`.
///
/// Neither blocks nor allocates, and never holds up a producer. Needs 8 KiB of stack. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn forebay_stream_stats(
    stream: *const forebay_stream,
    stats: *mut forebay_stats,
) -> forebay_result {
    guarded(|| {
        // SAFETY: C promises a struct whose size is set, or null.
        unsafe { pointers::check_size(stats) }?;
        let now = forebay_stats::of(&lease(stream)?.stats());
        // SAFETY: C promises room for the struct; null and unaligned ones were refused.
        unsafe { pointers::put(stats, now) };
        Ok(())
    })
}

/// A snapshot of the numbers of the sink at `index`, of `sinks_len`. `stats->size` has to be set:
/// `sizeof(forebay_sink_stats)`.
///
/// No sink there: FOREBAY_ERR_INVALID_ARG. Neither blocks nor allocates. Needs 8 KiB of stack. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn forebay_stream_sink_stats(
    stream: *const forebay_stream,
    index: usize,
    stats: *mut forebay_sink_stats,
) -> forebay_result {
    guarded(|| {
        // SAFETY: C promises a struct whose size is set, or null.
        unsafe { pointers::check_size(stats) }?;
        let all = lease(stream)?.stats();
        let Some(sink) = all.sinks.get(index) else {
            return invalid("stats: there is no sink at that index");
        };
        // SAFETY: C promises room for the struct; null and unaligned ones were refused.
        unsafe { pointers::put(stats, forebay_sink_stats::of(sink)) };
        Ok(())
    })
}

/// Copies what the sink said last that is farthest behind, of those that failed; empty when none did.
///
/// The text is cut to `capacity` bytes with its NUL; `*len` (null: not wanted) is its whole length, at most
/// 160. Neither blocks nor allocates. Needs 8 KiB of stack. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn forebay_stream_last_export_error(
    stream: *const forebay_stream,
    buffer: *mut c_char,
    capacity: usize,
    len: *mut usize,
) -> forebay_result {
    guarded(|| {
        let stats = lease(stream)?.stats();
        // SAFETY: C promises room for `capacity` bytes and a length, or null.
        unsafe { pointers::put_text(stats.last_export_error(), buffer, capacity, len) }
    })
}

/// Copies the newest durable position in a source, as `forebay_stream_append_record` was given it: where a
/// producer goes on after a restart, with nothing twice and nothing missing.
///
/// `*len` is its length, 0 when none is known. Room for 64 bytes is always enough; a longer one than
/// `capacity` is FOREBAY_ERR_INVALID_ARG. `source` ends with a NUL. Does not wait for the medium. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn forebay_stream_source_position(
    stream: *const forebay_stream,
    source: *const c_char,
    buffer: *mut c_void,
    capacity: usize,
    len: *mut usize,
) -> forebay_result {
    guarded(|| {
        pointers::check_output(len, "source position: len is null or not aligned")?;
        // SAFETY: C promises a text that ends with a NUL, or null.
        let source = unsafe { pointers::text(source, "source position: no name in UTF-8") }?;
        let found = lease(stream)?.source_position(source).unwrap_or_default();
        if found.len() > capacity || buffer.is_null() && capacity > 0 {
            return invalid("source position: there is no room for it");
        }
        if !found.is_empty() {
            // SAFETY: C promises room for `capacity` bytes, which are enough.
            unsafe { ptr::copy_nonoverlapping(found.as_ptr(), buffer.cast(), found.len()) };
        }
        // SAFETY: C promises room for a length; null and unaligned ones were refused.
        unsafe { pointers::put(len, found.len()) };
        Ok(())
    })
}
