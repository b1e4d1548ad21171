//! A handle to a stream.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::config::Fsync;
use crate::counters::{Board, Stats};
use crate::error::{Code, Error, Result};
use crate::log::Shared;
use crate::record::Record;
use crate::ring::{Refusal, Ring};
use crate::watermark::Waited;

/// A stream: append to it from any thread, watch it. Cheap to clone.
///
/// It outlives its engine: then every append is refused with [`Code::Closed`].
#[derive(Clone)]
pub struct Stream(Arc<Core>);

struct Core {
    name: String,
    ring: Arc<Ring>,
    shared: Arc<Shared>,
    board: Arc<Board>,
    clock: Arc<dyn Clock>,
    fsync: Fsync,
    sync_timeout: Duration,
}

impl Stream {
    pub(super) fn new(
        name: &str,
        ring: Arc<Ring>,
        shared: Arc<Shared>,
        board: Arc<Board>,
        clock: Arc<dyn Clock>,
        fsync: Fsync,
        sync_timeout: Duration,
    ) -> Self {
        let name = name.to_owned();
        Self(Arc::new(Core {
            name,
            ring,
            shared,
            board,
            clock,
            fsync,
            sync_timeout,
        }))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Appends a record and returns its offset.
    ///
    /// With `fsync` `perBatch` and `interval` it is durable at most `fsyncIntervalMs` later; then this
    /// never blocks and never allocates, and calls the kernel only to wake a sleeping syncer, at most
    /// once per sleep. With `always` it is durable on return, and this waits for that, at most
    /// `syncTimeoutMs`.
    ///
    /// Errors: [`Code::Full`] (no room: nothing was taken), [`Code::InvalidArg`] (a bound is broken),
    /// [`Code::Closed`], [`Code::Panic`]; and with `always` [`Code::Timeout`] and [`Code::Io`], after
    /// which the record may still become durable.
    #[inline]
    pub fn append(&self, key: &[u8], time_ms: u64, payload: &[u8]) -> Result<u64> {
        self.append_record(&Record::new(key, time_ms, payload))
    }

    /// Like [`append`](Self::append), with properties and the place in the producer's own source.
    #[inline]
    pub fn append_record(&self, record: &Record<'_>) -> Result<u64> {
        let offset = self.put(record)?;
        if self.0.fsync == Fsync::Always {
            self.wait(offset + 1, self.0.sync_timeout)?;
        }
        Ok(offset)
    }

    /// Appends a record and returns when it is durable: synced to the medium.
    ///
    /// Blocks for one sync, which it shares with all who wait at the same time; at most `timeout`. After
    /// [`Code::Timeout`] and [`Code::Io`] the record may still become durable.
    pub fn append_durable(
        &self,
        key: &[u8],
        time_ms: u64,
        payload: &[u8],
        timeout: Duration,
    ) -> Result<u64> {
        let offset = self.put(&Record::new(key, time_ms, payload))?;
        self.wait(offset + 1, timeout)?;
        Ok(offset)
    }

    /// Returns when everything that was appended before is durable. Does not wait for delivery.
    ///
    /// Blocks for a sync, at most `timeout`.
    pub fn flush(&self, timeout: Duration) -> Result<()> {
        self.wait(self.0.ring.next_offset(), timeout)
    }

    #[inline]
    fn put(&self, record: &Record<'_>) -> Result<u64> {
        if let Err(error) = record.check() {
            self.0.board.count_rejected();
            return Err(error);
        }
        match self.0.ring.append(record) {
            Ok(offset) => Ok(offset),
            Err(refusal) => Err(self.refused(refusal)),
        }
    }

    #[cold]
    fn refused(&self, refusal: Refusal) -> Error {
        self.0.board.count_rejected();
        match refusal {
            Refusal::Full => Error::refused(Code::Full, "append: there is no room"),
            Refusal::TooLong => {
                let max = self.0.ring.options().body_len_max;
                let text = format!("the record is longer than maxRecordBytes, {max}");
                Error::text(Code::InvalidArg, "append", text)
            }
            Refusal::Closed => Error::refused(Code::Closed, "append: the engine was closed"),
            Refusal::Poisoned => Error::refused(Code::Panic, "append: the engine is poisoned"),
        }
    }

    /// Waits until everything below `offset` is durable.
    fn wait(&self, offset: u64, timeout: Duration) -> Result<()> {
        let core = &*self.0;
        if core.shared.durable.get() >= offset {
            return Ok(());
        }
        core.ring.demand(offset);
        let deadline = core.clock.mono().plus(timeout);
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
            Waited::Closed => Err(Error::refused(Code::Closed, "the engine was closed")),
        }
    }

    /// The stream's numbers. Takes no lock and never holds up a producer.
    pub fn stats(&self) -> Stats {
        let core = &*self.0;
        core.board
            .snapshot(Some(core.ring.next_offset()), core.clock.stamp())
    }

    /// The longest record that it takes: key, payload and properties, in bytes.
    pub fn record_len_max(&self) -> usize {
        self.0.ring.options().body_len_max as usize
    }

    /// The newest durable position in a source, as [`append_record`](Self::append_record) was given it:
    /// where a producer goes on after a restart, with nothing twice and nothing missing.
    pub fn source_position(&self, source: &str) -> Option<Vec<u8>> {
        let sources = self.0.shared.sources();
        let entry = sources.iter().find(|entry| entry.name == source);
        entry.map(|entry| entry.position.to_vec())
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
