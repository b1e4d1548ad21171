//! The public API: open, append, watch, close. Wires threads, decides nothing.
//!
//! ```text
//!  Engine::open ─▶ per device: a syncer     Stream (cheap to clone, any thread)
//!                  per sink:   an exporter     append ─▶ ring        wait ◀─ watermark
//!  Engine::close ─▶ rings closed ─▶ exporters stop ─▶ syncers drain, sync, write clean checkpoints
//! ```
//!
//! ```no_run
//! use forebay::{Config, Engine};
//! let text = r#"{"dataDir": "/var/lib/gateway", "streams": [
//!     {"name": "telemetry", "sink": {"type": "file", "path": "/var/log/out.ndjson"}}]}"#;
//! let engine = Engine::open(&Config::from_json(text)?)?;
//! let stream = engine.stream("telemetry")?;
//! let offset = stream.append(b"pump-7", 1_700_000_000_000, b"{\"bar\":4.2}")?;
//! # let _ = offset;
//! # Ok::<(), forebay::Error>(())
//! ```

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::clock::{Clock, Mono, System};
use crate::config::Config;
use crate::counters::Stats;
use crate::error::{Code, Error, Result};
use crate::exporter::{self, Exporter};
use crate::storage::{Real, Storage};
use crate::syncer::{self, Syncer};
use crate::watermark::Waker;
use crate::watermark::seam::Mutex;
use events::StreamTeller;

mod assemble;
mod events;
mod stream;

pub use assemble::{Assembly, assemble};
pub use events::{BACKLOG_LEVELS, EVENT_RECORDS_MAX, EVENTS_MAX, Event, EventKind, Events};
pub use stream::Stream;

/// How long a drop of the engine waits for its threads.
const DROP_TIMEOUT: Duration = Duration::from_secs(10);
/// The share of a close's time that is kept for the syncers, which write what must not be lost.
const SYNCER_SHARE: u32 = 2;

/// The world an engine lives in. Tests bring their own.
#[derive(Clone)]
pub struct World {
    /// Files and shared memory.
    pub storage: Arc<dyn Storage>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

impl World {
    /// The real one.
    pub fn real() -> Self {
        Self {
            storage: Arc::new(Real),
            clock: Arc::new(System::new()),
        }
    }
}

/// An engine with its streams and threads. Dropping it closes it.
///
/// It belongs to the process that opened it. In one that is forked from that, appends, flushes and closes
/// are refused with [`Code::Closed`], and dropping it does nothing: threads are not forked.
pub struct Engine {
    /// The process that has its threads.
    pid: u32,
    streams: Vec<Stream>,
    clock: Arc<dyn Clock>,
    threads: Mutex<Threads>,
    is_poisoned: Arc<AtomicBool>,
    events: Events,
    tellers: Vec<StreamTeller>,
}

/// The threads, and how to end them.
#[derive(Default)]
struct Threads {
    syncers: Vec<Running<syncer::Orders>>,
    exporters: Vec<Running<exporter::Orders>>,
    /// Each tells the host of events, until what is its order is dropped.
    tellers: Vec<(Option<Sender<()>>, Running<()>)>,
}

impl Threads {
    /// Ends the exporters that end until `deadline`.
    fn stop_exporters(&mut self, clock: &dyn Clock, deadline: Mono) {
        for exporter in &self.exporters {
            exporter.orders.stop();
            exporter.waker.wake();
        }
        self.exporters
            .retain_mut(|exporter| !exporter.join(clock, deadline));
    }
}

struct Running<O> {
    orders: Arc<O>,
    waker: Arc<Waker>,
    /// Closes when the thread has ended.
    done: Receiver<()>,
    handle: Option<JoinHandle<()>>,
}

impl<O> Running<O> {
    /// Waits for the thread's end until `deadline`. False when it did not come.
    fn join(&mut self, clock: &dyn Clock, deadline: Mono) -> bool {
        let left = deadline.since(clock.mono());
        // Nothing is ever sent: the channel closes when the thread drops its end.
        if self.done.recv_timeout(left) == Err(crossbeam_channel::RecvTimeoutError::Timeout) {
            return false;
        }
        if let Some(handle) = self.handle.take() {
            // Its panic was caught and told inside.
            let _ = handle.join();
        }
        true
    }
}

impl Engine {
    /// Opens all streams of a configuration: recovers their stores and starts the threads.
    ///
    /// Blocks for recovery (see `docs/limits.md`). All memory that streams use is taken here. Fails
    /// without having started anything if one stream cannot be opened; never because of what stands in
    /// a store, except when that is of a newer format. The sinks that were given to `config` are taken
    /// out of it.
    pub fn open(config: &Config) -> Result<Self> {
        Self::open_in(config, &World::real())
    }

    /// Opens all streams to store records only: nothing is delivered until they are opened again.
    pub fn open_to_store(config: &Config) -> Result<Self> {
        let world = World::real();
        let mut assembly = assemble(config, &world)?;
        assembly.exporters.clear();
        Self::start(assembly, &world)
    }

    /// Like [`open`](Self::open), in another world.
    pub fn open_in(config: &Config, world: &World) -> Result<Self> {
        for warning in config.warnings() {
            log::warn!("{warning}");
        }
        Self::start(assemble(config, world)?, world)
    }

    fn start(assembly: Assembly, world: &World) -> Result<Self> {
        let is_poisoned = Arc::new(AtomicBool::new(false));
        let events = assembly.events.unwrap_or_else(|| events::channel(None).1);
        let engine = Self {
            events,
            tellers: assembly.tellers,
            pid: std::process::id(),
            streams: assembly.streams,
            clock: Arc::clone(&world.clock),
            threads: Mutex::default(),
            is_poisoned,
        };
        for (syncer, waker, orders) in assembly.syncers {
            let running =
                engine.spawn("forebay-sync", orders, waker, move || run_syncer(syncer))?;
            engine.threads.lock().syncers.push(running);
        }
        for (exporter, waker, orders) in assembly.exporters {
            let running = engine.spawn("forebay-export", orders, waker, move || {
                run_exporter(exporter);
            })?;
            engine.threads.lock().exporters.push(running);
        }
        Ok(engine)
    }

    fn spawn<O: Send + Sync + 'static>(
        &self,
        name: &str,
        orders: Arc<O>,
        waker: Arc<Waker>,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<Running<O>> {
        let (alive, done): (Sender<()>, _) = bounded(0);
        let (streams, is_poisoned) = (self.streams.clone(), Arc::clone(&self.is_poisoned));
        let tellers = self.tellers.clone();
        let thread = name.to_owned();
        let body = move || {
            let _alive = alive;
            if catch_unwind(AssertUnwindSafe(run)).is_err() {
                log::error!(
                    "thread {thread} panicked: the engine is poisoned until it is opened again"
                );
                is_poisoned.store(true, Ordering::Release);
                streams.iter().for_each(Stream::poison);
                let tellers = tellers.iter();
                tellers.for_each(|teller| teller.tell(EventKind::Poisoned));
            }
        };
        let handle = thread::Builder::new().name(name.to_owned()).spawn(body);
        let handle = handle.map_err(|error| Error::io("start thread", error))?;
        Ok(Running {
            orders,
            waker,
            done,
            handle: Some(handle),
        })
    }

    /// The stream of that name. Cheap; the handle may go to any thread and outlive the engine.
    pub fn stream(&self, name: &str) -> Result<Stream> {
        let found = self.streams.iter().find(|stream| stream.name() == name);
        found.cloned().ok_or_else(|| {
            Error::text(
                Code::UnknownStream,
                "stream",
                format!("no stream is named \"{name}\""),
            )
        })
    }

    /// The names of all streams, sorted.
    pub fn stream_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.streams.iter().map(Stream::name).collect();
        names.sort_unstable();
        names
    }

    /// A snapshot of a stream's numbers; `None` when there is no such stream.
    pub fn stats(&self, name: &str) -> Option<Stats> {
        self.stream(name).ok().map(|stream| stream.stats())
    }

    /// What happened, as it is told: records that are dropped, a backlog that grows, sinks that fail,
    /// damage, a clock that was set, a panic. See [`EventKind`].
    ///
    /// At most [`EVENTS_MAX`] wait; what comes when there is no room is counted (`eventsLostTotal`). Blocks
    /// nobody. Each event is received once, whoever asks.
    pub fn events(&self) -> Events {
        self.events.clone()
    }

    /// Calls `to` with each event, in a thread of its own, until the engine is closed.
    ///
    /// What [`events`](Self::events) receives is not told here. `to` may block: then events wait, and are
    /// lost when there are more than [`EVENTS_MAX`]. It must not close the engine.
    pub fn forward_events(&self, to: impl FnMut(&Event) + Send + 'static) -> Result<()> {
        let (stop, stopped) = bounded(0);
        let events = self.events.clone();
        let forward = move || events.forward(&stopped, to);
        let running = self.spawn("forebay-event", Arc::default(), Arc::default(), forward)?;
        self.threads.lock().tellers.push((Some(stop), running));
        Ok(())
    }

    /// Whether this process was forked from the one that opened the engine.
    fn is_inherited(&self) -> bool {
        std::process::id() != self.pid
    }

    /// What each of its threads shows of itself: its name and where its
    /// [heartbeat](crate::watermark::heartbeat::Heartbeat) stands. Always in the same order; none any more
    /// when it is closed. Waits for nobody but a close that is under way.
    pub fn heartbeats(&self) -> Vec<(&'static str, u64)> {
        let threads = self.threads.lock();
        let syncers = threads.syncers.iter().map(|thread| &thread.waker);
        let exporters = threads.exporters.iter().map(|thread| &thread.waker);
        let syncers = syncers.map(|waker| ("forebay-sync", waker.heart.beat()));
        let exporters = exporters.map(|waker| ("forebay-export", waker.heart.beat()));
        syncers.chain(exporters).collect()
    }

    /// A thread of the engine panicked: nothing is promised until it is opened again.
    pub fn is_poisoned(&self) -> bool {
        self.is_poisoned.load(Ordering::Acquire)
    }

    /// Ends delivery: waits for batches that are in flight, and sends no more. Records are taken and stored
    /// as before. So the [`close`](Self::close) that is to follow does not wait for sinks.
    ///
    /// Blocks for at most `timeout`. False: a sink did not answer by then; it may be called again.
    #[cfg(feature = "cli")]
    pub(crate) fn stop_delivery(&self, timeout: Duration) -> bool {
        let mut threads = self.threads.lock();
        let deadline = self.clock.mono().plus(timeout);
        threads.stop_exporters(&*self.clock, deadline);
        threads.exporters.is_empty()
    }

    /// Takes no more records, makes everything durable that was taken, waits for batches that are in
    /// flight, writes clean checkpoints, and ends the threads. Idempotent.
    ///
    /// Blocks for at most `timeout`. [`Code::Timeout`]: a thread did not end in time, because a sink or
    /// the medium did not answer; what is not durable by then may still become so. [`Code::Full`]: all
    /// threads have ended, and records are left that a stream without room, whose `onFull` is not
    /// `dropOldest`, could not store; a shared ring keeps them for the next open. What is stored and not
    /// delivered stays stored.
    pub fn close(&self, timeout: Duration) -> Result<()> {
        if self.is_inherited() {
            // Locks may be held for ever by threads that are not here.
            return Err(Error::refused(
                Code::Closed,
                "close: the engine is the parent's",
            ));
        }
        let mut threads = self.threads.lock();
        let start = self.clock.mono();
        self.streams.iter().for_each(Stream::close);
        let deadline = start.plus(timeout.saturating_sub(timeout / SYNCER_SHARE));
        threads.stop_exporters(&*self.clock, deadline);
        for syncer in &threads.syncers {
            syncer.orders.close();
            syncer.waker.wake();
        }
        let deadline = start.plus(timeout);
        threads
            .syncers
            .retain_mut(|syncer| !syncer.join(&*self.clock, deadline));
        threads.tellers.retain_mut(|(stop, teller)| {
            stop.take();
            !teller.join(&*self.clock, deadline)
        });
        let is_done = threads.exporters.is_empty()
            && threads.syncers.is_empty()
            && threads.tellers.is_empty();
        self.streams.iter().for_each(Stream::end);
        match is_done {
            true => self.left_over(),
            false => Err(Error::refused(
                Code::Timeout,
                "close: a thread did not end in time",
            )),
        }
    }

    /// The threads have ended: whether a ring still has records.
    fn left_over(&self) -> Result<()> {
        let left = |stream: &&Stream| stream.stats().queued > 0 && !self.is_poisoned();
        match self.streams.iter().find(left) {
            None => Ok(()),
            Some(stream) => {
                let (count, name) = (stream.stats().queued, stream.name());
                let text = format!(
                    "close: the buffer of stream \"{name}\" has no room for the last {count} records"
                );
                Err(Error::text(Code::Full, "", text))
            }
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.is_inherited() {
            // What is shared with the threads of the parent is left as it is.
            std::mem::forget(std::mem::take(&mut self.threads));
            std::mem::forget(std::mem::take(&mut self.streams));
            return;
        }
        if let Err(error) = self.close(DROP_TIMEOUT) {
            log::warn!("{error}");
        }
    }
}

fn run_syncer(mut syncer: Syncer) {
    syncer.run();
}

fn run_exporter(mut exporter: Exporter) {
    exporter.run(DROP_TIMEOUT);
}
