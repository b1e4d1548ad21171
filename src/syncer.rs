//! The only thread that writes logs: rings → log → sync → watermark → checkpoints.
//!
//! ```text
//!        oldest unsynced record + interval ─┐
//!                     half of a ring ───────┤ due: drain ─ append ─ sync ─ announce ─ release the ring
//!           somebody waits, or it closes ───┘
//!        cursors or mark moved + checkpointMs ─▶ checkpoint
//!               oldest segment + maxAgeSecs ─▶ drop it
//! ```
//!
//! One syncer serves all streams of a device. Never a sync after each drain: at a paced thousand records
//! a second that is hundreds of syncs a second and tens of bytes to the device per payload byte.
//!
//! **Invariants.** Bytes of the ring are released only when their records are durable. After a failure
//! everything that was not durable is taken from the ring again; what had become durable meanwhile is
//! stepped over.
//!
//! **Threads.** [`Syncer::step`] makes one bounded turn and never sleeps; [`Syncer::run`] is the loop
//! around it. It sleeps without a limit when nothing is unsynced and nothing grows too old.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::clock::{Clock, Mono};
use crate::counters::{Board, StreamCounter};
use crate::log::{Log, Trouble};
use crate::ring::{Asleep, Consumer};
use crate::rules::{Rule, holds};
use crate::segment::Draft;
use crate::watermark::Waker;
use crate::watermark::seam::park;

mod letters;

pub use letters::{
    DeadLetters, ITEMS, LETTERS_DIR, LETTERS_MAX, Letter, LetterBox, OpenLetters, letter_len_max,
};

/// A claimed record that is not committed is looked at again after this time.
const UNCOMMITTED_PAUSE: Duration = Duration::from_millis(1);
/// The pause after a failure, which doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(100);
/// See [`RETRY_MIN`].
const RETRY_MAX: Duration = Duration::from_secs(10);
/// While a quota is full of records that are wanted, the log is tried again so often.
const FULL_PAUSE: Duration = Duration::from_millis(250);

/// When a stream is synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// A record is synced at most so long after it was appended.
    pub sync_interval: Duration,
    /// Cursors that moved are written down at most so much later.
    pub checkpoint_interval: Duration,
}

/// What a turn leaves to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Something at this instant.
    At(Mono),
    /// Nothing until somebody wakes the thread.
    Woken,
}

/// Orders to the syncer.
#[derive(Debug, Default)]
pub struct Orders {
    close: AtomicBool,
}

impl Orders {
    /// Drain what the rings hold, write clean checkpoints, and end. The rings must be closed. Wake the
    /// syncer afterwards.
    pub fn close(&self) {
        self.close.store(true, Ordering::Release);
    }

    fn is_closing(&self) -> bool {
        self.close.load(Ordering::Acquire)
    }
}

/// Called at the end of each turn that was made for a stream.
pub type Watch = Box<dyn FnMut() + Send>;

/// One stream, as the syncer has it.
pub struct Stream {
    ring: Consumer,
    log: Log,
    board: Arc<Board>,
    options: Options,
    due: Mono,
    checkpoint_due: Mono,
    retry_at: Mono,
    retry_pause: Duration,
    is_full: bool,
    is_closed: bool,
    watch: Option<Watch>,
    letters: Option<DeadLetters>,
}

impl Stream {
    /// A stream whose ring starts at the log's next offset.
    pub fn new(ring: Consumer, log: Log, board: Arc<Board>, options: Options) -> Self {
        assert!(
            ring.offset() >= log.next(),
            "the ring goes on where the log ends, or behind what was never committed"
        );
        Self {
            ring,
            log,
            board,
            options,
            due: Mono::NEVER,
            checkpoint_due: Mono::NEVER,
            retry_at: Mono::default(),
            retry_pause: RETRY_MIN,
            is_full: false,
            is_closed: false,
            watch: None,
            letters: None,
        }
    }

    /// The same with somebody who looks at each turn's end. It must be quick and not block.
    #[must_use]
    pub fn watched(mut self, watch: Watch) -> Self {
        self.watch = Some(watch);
        self
    }

    /// The same with dead letters.
    #[must_use]
    pub fn with_letters(mut self, letters: DeadLetters) -> Self {
        self.letters = Some(letters);
        self
    }

    /// Its dead letters.
    pub fn letters(&self) -> Option<&DeadLetters> {
        self.letters.as_ref()
    }

    /// The log.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Everything that the ring had is durable, and the checkpoint says so; or the log had no room for it.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    fn turn(&mut self, now: Mono, clock: &dyn Clock, is_closing: bool) {
        self.watch_uncommitted(now);
        if let Some(letters) = self.letters.as_mut().filter(|_| !self.is_closed) {
            letters.turn(now, clock);
        }
        if now < self.retry_at || self.is_closed {
            return;
        }
        let is_queued = self.ring.queued() > 0;
        if is_queued && self.due == Mono::NEVER {
            self.due = now.plus(self.options.sync_interval);
        }
        let is_due = now >= self.due
            || self.ring.half_full()
            || self.ring.is_wanted(self.log.durable())
            || is_closing
            || self.log.is_dirty();
        let done = if is_queued && is_due {
            self.drain_and_commit(now, clock)
        } else {
            Ok(())
        };
        let done = done.and_then(|()| self.log.expire());
        let done = done.and_then(|()| self.checkpoint_if_due(now, is_closing));
        if done.is_ok() && !is_closing {
            self.log.reserve();
        }
        self.settle(&done, now);
        if is_closing && self.is_full {
            // Nobody delivers any more, so nothing will make room. What is left stays in the ring.
            let _ = self.log.checkpoint();
            self.letters.iter_mut().for_each(DeadLetters::close);
            self.is_closed = true;
        }
    }

    fn drain_and_commit(&mut self, now: Mono, clock: &dyn Clock) -> Result<(), Trouble> {
        let drained = drain(&mut self.ring, &mut self.log, clock);
        let is_left = match drained {
            Err(Trouble::Failed(..)) => return drained.map(|_| ()),
            Err(Trouble::Full) => false,
            Ok(is_left) => is_left,
        };
        if !holds(Rule::RingReleasedAfterSync) {
            self.ring.release();
        }
        // Also what came before the quota was full.
        if is_left {
            self.log.commit_and_leave()?;
        } else {
            self.log.commit()?;
        }
        self.ring.release();
        self.due = match self.ring.queued() {
            0 => Mono::NEVER,
            _ if is_left => now,
            // They came since, so the oldest is not older than this turn.
            _ => now.plus(self.options.sync_interval),
        };
        if self.ring.is_held_up() {
            self.due = self.due.min(now.plus(UNCOMMITTED_PAUSE));
        }
        self.log.prepare()?;
        drained.map(|_| ())
    }

    fn checkpoint_if_due(&mut self, now: Mono, is_closing: bool) -> Result<(), Trouble> {
        let is_empty = self.ring.queued() == 0 || !holds(Rule::CleanNeedsEmptyRing);
        if is_closing && is_empty && !self.log.is_dirty() {
            self.log.close()?;
            self.letters.iter_mut().for_each(DeadLetters::close);
            self.is_closed = true;
            return Ok(());
        }
        let is_moved = self.log.shared().cursor_moved.is_up() || self.log.is_mark_moved();
        if is_moved && self.checkpoint_due == Mono::NEVER {
            self.checkpoint_due = now.plus(self.options.checkpoint_interval);
        }
        if now >= self.checkpoint_due {
            self.checkpoint_due = Mono::NEVER;
            self.log.shared().cursor_moved.take();
            self.log.checkpoint()?;
        }
        Ok(())
    }

    /// What a turn's end means for the next one.
    fn settle(&mut self, done: &Result<(), Trouble>, now: Mono) {
        self.is_full = matches!(done, Err(Trouble::Full));
        match done {
            Ok(()) => self.retry_pause = RETRY_MIN,
            Err(Trouble::Full) => self.retry_at = now.plus(FULL_PAUSE),
            Err(Trouble::Failed(..)) => {
                if self.log.next() < self.ring.offset() && holds(Rule::RingRewound) {
                    self.ring.rewind();
                }
                self.retry_at = now.plus(self.retry_pause);
                self.retry_pause = (self.retry_pause * 2).min(RETRY_MAX);
                if self.ring.queued() > 0 {
                    // Somebody may wait for what failed: the timer's interval is no measure for that.
                    self.due = self.due.min(self.retry_at);
                }
            }
        }
        self.board
            .set(StreamCounter::NextOffset, self.ring.ring().next_offset());
        self.board.set(StreamCounter::Queued, self.ring.queued());
    }

    /// Notes since when a claimed record has not been committed.
    fn watch_uncommitted(&mut self, now: Mono) {
        let counter = StreamCounter::UncommittedSinceMs;
        match (self.ring.is_held_up(), self.board.get(counter)) {
            (true, 0) => self.board.set(counter, now.as_millis().max(1)),
            (false, since) if since > 0 => self.board.set(counter, 0),
            _ => {}
        }
    }

    /// When the next turn has something to do.
    fn next(&self, now: Mono, is_closing: bool) -> Mono {
        let wanted = match self {
            _ if self.is_closed => return Mono::NEVER,
            _ if is_closing => now.plus(UNCOMMITTED_PAUSE),
            _ if self.is_full => self.retry_at,
            _ => {
                let log = self.log.expiry_due().min(self.log.reserve_due());
                self.due.min(self.checkpoint_due).min(log)
            }
        };
        let letters = self.letters.as_ref();
        let letters = letters.map_or(Mono::NEVER, DeadLetters::next);
        wanted.max(self.retry_at).min(letters)
    }

    /// Gets ready to sleep. False: there is something to do now.
    fn fall_asleep(&self, now: Mono) -> bool {
        if self.is_closed || now < self.retry_at {
            return true;
        }
        let how = if self.due == Mono::NEVER {
            Asleep::Idle
        } else {
            Asleep::UntilDue
        };
        self.ring.fall_asleep(how, self.log.durable())
    }
}

/// Appends all committed records of the ring to the log, up to the end of the active segment: what it
/// takes is made durable and leaves the ring before another is begun, which takes syncs of its own. True
/// when that is why it ended.
fn drain(ring: &mut Consumer, log: &mut Log, clock: &dyn Clock) -> Result<bool, Trouble> {
    let stamp = clock.stamp();
    let mut done = Ok(());
    // What is claimed from now on is for the next turn, so that producers fill one part of the ring
    // while the other is synced.
    let end = ring.ring().next_offset();
    let mut is_left = false;
    while done.is_ok() && !is_left && ring.offset() < end {
        let taken = ring.take(|record| {
            // After a failure the ring gives again what has become durable before it.
            if record.offset < log.next() {
                return true;
            }
            let draft = Draft {
                offset: record.offset,
                time_ms: record.time_ms,
                extra_len: record.extra_len,
                key_len: record.key_len,
                body: record.body,
            };
            // A former process died before it had committed what lies between.
            if record.offset > log.next() {
                done = log.skip(record.offset);
            }
            if done.is_ok() && log.is_dirty() && holds(Rule::SyncBeforeRoll) {
                let here = log.append_here(&draft, stamp);
                is_left = matches!(here, Ok(false));
                done = here.map(|_| ());
            } else if done.is_ok() {
                done = log.append(&draft, stamp);
            }
            done.is_ok() && !is_left
        });
        if taken.is_none() {
            break;
        }
    }
    done.map(|()| is_left)
}

/// Makes everything durable that a ring holds which nobody appends to. False: it could not be done now, and
/// the rest is still in the ring.
pub fn drain_all(ring: &mut Consumer, log: &mut Log, clock: &dyn Clock) -> bool {
    while ring.queued() > 0 {
        let drained = drain(ring, log, clock);
        let committed = match &drained {
            Ok(true) => log.commit_and_leave(),
            Err(Trouble::Failed(..)) => Ok(()),
            _ => log.commit(),
        };
        if !matches!(drained, Err(Trouble::Failed(..))) && committed.is_ok() {
            ring.release();
        }
        if drained.is_err() || committed.is_err() {
            ring.rewind();
            // A segment that was full may have become durable before the next one failed.
            let durable = log.next();
            while ring.take(|record| record.offset < durable) == Some(true) {}
            ring.release();
            return false;
        }
    }
    true
}

/// Serves the streams of a device.
pub struct Syncer {
    streams: Vec<Stream>,
    clock: Arc<dyn Clock>,
    waker: Arc<Waker>,
    orders: Arc<Orders>,
}

impl Syncer {
    /// A syncer; its rings wake it by `waker`.
    pub fn new(
        streams: Vec<Stream>,
        clock: Arc<dyn Clock>,
        waker: Arc<Waker>,
        orders: Arc<Orders>,
    ) -> Self {
        Self {
            streams,
            clock,
            waker,
            orders,
        }
    }

    /// The streams.
    pub fn streams(&self) -> &[Stream] {
        &self.streams
    }

    /// Makes one turn: each stream that is due is drained and synced once. Blocks for the medium only.
    pub fn step(&mut self) -> Next {
        let is_closing = self.orders.is_closing();
        for stream in &mut self.streams {
            let now = self.clock.mono();
            stream.turn(now, &*self.clock, is_closing);
            if let Some(watch) = &mut stream.watch {
                watch();
            }
        }
        let now = self.clock.mono();
        let next = self
            .streams
            .iter()
            .map(|stream| stream.next(now, is_closing))
            .min();
        let next = next.unwrap_or(Mono::NEVER);
        if next == Mono::NEVER {
            Next::Woken
        } else {
            Next::At(next)
        }
    }

    /// Every stream is closed.
    pub fn is_closed(&self) -> bool {
        self.orders.is_closing() && self.streams.iter().all(Stream::is_closed)
    }

    /// Serves until it is ordered to close and has done so.
    pub fn run(&mut self) {
        self.waker.register();
        loop {
            self.waker.heart.turn();
            let next = self.step();
            if self.is_closed() {
                return;
            }
            let now = self.clock.mono();
            let mut limit = match next {
                Next::At(at) if at <= now => continue,
                Next::At(at) => Some(at.since(now)),
                Next::Woken => None,
            };
            let mut can_sleep = true;
            if self.streams.iter().any(|stream| stream.ring.is_held_up()) {
                // Whoever commits it does not wake anybody: it looks again soon.
                limit = Some(limit.unwrap_or(UNCOMMITTED_PAUSE).min(UNCOMMITTED_PAUSE));
            } else {
                for stream in &self.streams {
                    can_sleep &= stream.fall_asleep(now);
                }
            }
            if can_sleep {
                self.waker.heart.rest();
                park(limit);
                let boards = self.streams.iter().map(|stream| &stream.board);
                boards.for_each(|board| board.add(StreamCounter::Wakeups, 1));
            }
            self.streams.iter().for_each(|stream| stream.ring.wake_up());
        }
    }
}
