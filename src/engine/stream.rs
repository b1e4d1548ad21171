//! A handle to a stream.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, Mono};
use crate::config::{Buffer, Fsync, OnFull};
use crate::counters::{Board, Stats};
use crate::error::{Code, Error, Result};
use crate::format::SourceEntry;
use crate::log::Shared;
use crate::record::Record;
use crate::ring::{self, Refusal, Ring};
use crate::watermark::Waited;

/// A stream: append to it from any thread, watch it. Cheap to clone.
///
/// It outlives its engine: then every append is refused with [`Code::Closed`]. So it is in a process that
/// was forked from the one that opened the engine.
#[derive(Clone)]
pub struct Stream(Arc<Core>);

struct Core {
    name: String,
    ring: Arc<Ring>,
    /// What the ring had of a run before, whose process died: not durable when this was opened.
    sources: Vec<SourceEntry>,
    shared: Arc<Shared>,
    board: Arc<Board>,
    clock: Arc<dyn Clock>,
    fsync: Fsync,
    sync_timeout: Duration,
    /// How long an append waits for room; `None`: it does not.
    room_timeout: Option<Duration>,
}

impl Stream {
    pub(super) fn new(
        name: &str,
        ring: Arc<Ring>,
        sources: Vec<SourceEntry>,
        shared: Arc<Shared>,
        board: Arc<Board>,
        clock: Arc<dyn Clock>,
        buffer: &Buffer,
    ) -> Self {
        let name = name.to_owned();
        let is_blocking = buffer.on_full == OnFull::Block;
        Self(Arc::new(Core {
            name,
            ring,
            sources,
            shared,
            board,
            clock,
            fsync: buffer.fsync,
            sync_timeout: buffer.sync_timeout,
            room_timeout: is_blocking.then(|| buffer.block_timeout.unwrap_or(Duration::MAX)),
        }))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Appends a record and returns its offset.
    ///
    /// With `fsync` `perBatch` and `interval` it is durable at most `fsyncIntervalMs` later; then this
    /// never blocks, but for room under `onFull` `block`, and never allocates, and calls the kernel only
    /// to wake a sleeping syncer, at most once per sleep. With `always` it is durable on return, and this
    /// waits for that, at most `syncTimeoutMs`.
    ///
    /// Errors: [`Code::Full`] (no room: nothing was taken), [`Code::InvalidArg`] (a bound is broken),
    /// [`Code::Closed`], [`Code::Panic`]; under `block` [`Code::Timeout`] instead of [`Code::Full`],
    /// after `blockTimeoutMs`; and with `always` [`Code::Timeout`] and [`Code::Io`], after which the
    /// record may still become durable. The text tells the two timeouts apart.
    #[inline]
    pub fn append(&self, key: &[u8], time_ms: u64, payload: &[u8]) -> Result<u64> {
        self.append_record(&Record::new(key, time_ms, payload))
    }

    /// Like [`append`](Self::append), with properties and the place in the producer's own source.
    #[inline]
    pub fn append_record(&self, record: &Record<'_>) -> Result<u64> {
        let offset = self.put(record, Duration::MAX)?;
        if self.0.fsync == Fsync::Always {
            self.wait(offset + 1, self.0.sync_timeout)?;
        }
        Ok(offset)
    }

    /// Appends all records, one behind the other, and returns their offsets; or none of them.
    ///
    /// With `fsync` `perBatch` and `always` they are durable on return: this waits for a sync, which it
    /// shares with all who wait at the same time, at most `syncTimeoutMs`. With `interval` they become
    /// so by the timer. Allocates nothing. Under `block` it waits for room for all of them.
    ///
    /// The records of a batch take at most a quarter of the ring, each with 16 bytes more and rounded
    /// up to 8, and are at most `maxBufferedRecords`; else [`Code::InvalidArg`]. Other errors are those
    /// of [`append`](Self::append). None was taken, unless the text says that they may still become
    /// durable: then the wait for the sync failed, and when the power goes before it is made up for, the
    /// first of them may remain. A batch that found no room has asked for the sync that makes some.
    pub fn append_batch(&self, records: &[Record<'_>]) -> Result<Range<u64>> {
        for (index, record) in records.iter().enumerate() {
            if let Err(error) = record.check() {
                self.count_rejected(records.len());
                let text = format!("record {index} of the batch: {error}");
                return Err(Error::text(error.code(), "", text));
            }
        }
        let offsets = match self.0.ring.append_batch(records) {
            Ok(offsets) => offsets,
            Err(refusal) => self.refused(refusal, records, Duration::MAX, |ring| {
                ring.append_batch(records)
            })?,
        };
        if self.0.fsync != Fsync::Interval {
            self.wait(offsets.end, self.0.sync_timeout)?;
        }
        Ok(offsets)
    }

    /// Appends a record and returns when it is durable: synced to the medium.
    ///
    /// Blocks for one sync, which it shares with all who wait at the same time, and under `block` for
    /// room; at most `timeout`. After [`Code::Io`], and after [`Code::Timeout`] if its text says so, the
    /// record may still become durable.
    pub fn append_durable(
        &self,
        key: &[u8],
        time_ms: u64,
        payload: &[u8],
        timeout: Duration,
    ) -> Result<u64> {
        let deadline = self.0.clock.mono().plus(timeout);
        let offset = self.put(&Record::new(key, time_ms, payload), timeout)?;
        self.wait_until(offset + 1, deadline)?;
        Ok(offset)
    }

    /// Returns when everything that was appended before is durable. Does not wait for delivery.
    ///
    /// Blocks for a sync, at most `timeout`. After [`Code::Timeout`] and [`Code::Io`] it may still become
    /// durable.
    pub fn flush(&self, timeout: Duration) -> Result<()> {
        if self.0.ring.is_inherited() {
            return Err(Error::refused(
                Code::Closed,
                "flush: the engine is the parent's",
            ));
        }
        self.wait(self.0.ring.next_offset(), timeout)
    }

    /// Waits for room, if at all, for at most `room_timeout`.
    #[inline]
    fn put(&self, record: &Record<'_>, room_timeout: Duration) -> Result<u64> {
        if let Err(error) = record.check() {
            self.count_rejected(1);
            return Err(error);
        }
        match self.0.ring.append(record) {
            Ok(offset) => Ok(offset),
            Err(refusal) => {
                let records = std::slice::from_ref(record);
                // The way of batches, so that the fast way has one caller and stays inlined.
                let put = |ring: &Ring| Ok(ring.append_batch(records)?.start);
                self.refused(refusal, records, room_timeout, put)
            }
        }
    }

    /// Appends it if there is room, and waits for nothing. False: it was not taken, and is not counted.
    pub(super) fn offer(&self, record: &Record<'_>) -> bool {
        record.check().is_ok() && self.0.ring.append(record).is_ok()
    }

    fn count_rejected(&self, count: usize) {
        // The board is shared with the parent, whose records these are not.
        if !self.0.ring.is_inherited() {
            self.0.board.count_rejected(count);
        }
    }

    /// What becomes of records that the ring refused: an error; or, where appends wait for room, what
    /// became of another try.
    #[cold]
    fn refused<T>(
        &self,
        refusal: Refusal,
        records: &[Record<'_>],
        room_timeout: Duration,
        put: impl Fn(&Ring) -> Result<T, Refusal>,
    ) -> Result<T> {
        let refusal = match (refusal, self.0.room_timeout) {
            (Refusal::Full, Some(limit)) => {
                match self.wait_for_room(limit.min(room_timeout), put) {
                    Ok(done) => return Ok(done),
                    Err(refusal) => refusal,
                }
            }
            _ => refusal,
        };
        self.count_rejected(records.len());
        if refusal == Refusal::Full && records.len() > 1 {
            // It may be too large for a ring that is not half full and would be synced by the timer.
            self.0.ring.demand(self.0.ring.next_offset());
        }
        let options = self.0.ring.options();
        Err(match refusal {
            Refusal::Full if self.0.room_timeout.is_some() => Error::refused(
                Code::Timeout,
                "append: there was no room in time; nothing was taken",
            ),
            Refusal::Full => Error::refused(Code::Full, "append: there is no room"),
            Refusal::TooLong => {
                let max = options.body_len_max as usize;
                let index = records.iter().position(|record| record.body_len() > max);
                let which = match (index, records.len()) {
                    (Some(index), 2..) => format!("record {index} of the batch"),
                    _ => "the record".to_owned(),
                };
                let text = format!("{which} is longer than maxRecordBytes, {max}");
                Error::text(Code::InvalidArg, "append", text)
            }
            Refusal::BatchTooLarge => {
                let text = format!(
                    "a batch has at most maxBufferedRecords, {}, records, and takes at most {} bytes, a \
                     quarter of maxBufferedBytes, each record with {} more and rounded up to 8",
                    options.records_max,
                    options.size / 4,
                    ring::HEADER_LEN,
                );
                Error::text(Code::InvalidArg, "append", text)
            }
            Refusal::Closed => Error::refused(Code::Closed, "append: the engine was closed"),
            Refusal::Poisoned => Error::refused(Code::Panic, "append: the engine is poisoned"),
        })
    }

    /// Tries again each time when the ring has got room. [`Refusal::Full`]: not within `limit`.
    fn wait_for_room<T>(
        &self,
        limit: Duration,
        put: impl Fn(&Ring) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let core = &*self.0;
        let deadline = core.clock.mono().plus(limit);
        loop {
            // Read before the try: what is released behind the try ends the wait.
            let released = core.ring.released().get();
            match put(&core.ring) {
                Err(Refusal::Full) => {}
                done => return done,
            }
            // A ring that is not half full would be synced by the timer only.
            core.ring.demand(core.ring.next_offset());
            match core
                .ring
                .released()
                .wait(released + 1, &*core.clock, deadline)
            {
                Waited::Reached => {}
                Waited::TimedOut => return Err(Refusal::Full),
                // The ring says why.
                Waited::Closed | Waited::Failed => return put(&core.ring),
            }
        }
    }

    /// Waits until everything below `offset` is durable.
    fn wait(&self, offset: u64, timeout: Duration) -> Result<()> {
        if self.0.shared.durable.get() >= offset {
            return Ok(());
        }
        self.wait_until(offset, self.0.clock.mono().plus(timeout))
    }

    fn wait_until(&self, offset: u64, deadline: Mono) -> Result<()> {
        let core = &*self.0;
        core.ring.demand(offset);
        match core.shared.durable.wait(offset, &*core.clock, deadline) {
            Waited::Reached => Ok(()),
            Waited::TimedOut => Err(Error::refused(
                Code::Timeout,
                "not durable in time; it may still become so",
            )),
            Waited::Failed => Err(Error::refused(
                Code::Io,
                "the store failed; it may still become durable",
            )),
            Waited::Closed if core.ring.is_poisoned() => Err(Error::refused(
                Code::Panic,
                "the engine is poisoned; it may still become durable",
            )),
            Waited::Closed => Err(Error::refused(
                Code::Closed,
                "the engine was closed; it may still become durable",
            )),
        }
    }

    /// The stream's numbers. Takes no lock and never holds up a producer.
    pub fn stats(&self) -> Stats {
        let core = &*self.0;
        let next = (!core.ring.is_inherited()).then(|| core.ring.next_offset());
        core.board.snapshot(next, core.clock.stamp())
    }

    /// The longest record that it takes: key, payload and properties, in bytes.
    pub fn record_len_max(&self) -> usize {
        self.0.ring.options().body_len_max as usize
    }

    /// The newest durable position in a source, as [`append_record`](Self::append_record) was given it:
    /// where a producer goes on after a restart, with nothing twice and nothing missing. What a shared ring
    /// had kept through a crash of the process counts, too.
    pub fn source_position(&self, source: &str) -> Option<Vec<u8>> {
        let durable = self.0.shared.sources();
        let known = durable.iter().chain(&self.0.sources);
        let known = known.filter(|entry| entry.name == source);
        let newest = known.max_by_key(|entry| entry.offset);
        newest.map(|entry| entry.position.to_vec())
    }

    /// Takes no more records.
    pub(super) fn close(&self) {
        self.0.ring.close();
    }

    /// Nobody makes anything durable any more.
    pub(super) fn end(&self) {
        self.0.shared.durable.close();
    }

    pub(super) fn poison(&self) {
        self.0.ring.poison();
        self.0.shared.durable.close();
    }

    /// The ring, for those who count what producers do.
    #[doc(hidden)]
    pub fn ring(&self) -> &Ring {
        &self.0.ring
    }

    /// What readers of the log share.
    #[doc(hidden)]
    pub fn shared(&self) -> &Arc<Shared> {
        &self.0.shared
    }
}
