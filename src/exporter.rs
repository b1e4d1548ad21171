//! Cursor → sink → acknowledge.
//!
//! ```text
//!          ┌────────────── nothing to read: park ──────────────┐
//!          ▼                                                   │
//!      gathering ── full, lingered, or a gap ──▶ in flight ── all accepted ──▶ acknowledge
//!                                                ▲     │
//!                                     back-off ──┘◀────┤ some to be sent again: only those
//!                                     letters ◀────────┘ some never: their letters first
//! ```
//!
//! A batch goes when it is full, or when its oldest record has waited for `linger`. What a sink did not
//! accept is sent again, and nothing else; what it did accept is published at once, so it does not come
//! again after a stop or a crash either. The back-off is drawn from zero to a range that doubles ("full
//! jitter", Brooker, AWS Architecture Blog 2015), and starts anew when a record was accepted.
//!
//! **Invariants.** The cursor passes a record only after a positive answer for it, or when its dead letter
//! is durable. No default gives up a record that the sink may still take.
//! **Threads.** [`Exporter::step`] makes one bounded turn and never sleeps; a sink that blocks, blocks it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::clock::{Clock, Mono};
use crate::counters::{CursorCounter, SinkState, millis_on_this_boot};
use crate::cursor::Cursor;
use crate::log::{BatchBuffer, Ended, Gap};
use crate::sink::{Batch, Link, Outcome, Outcomes, Sink, SinkWaker, Ticket};
use crate::syncer::LetterBox;
use crate::watermark::Waker;
use crate::watermark::seam::park;

mod giving_up;
mod jitter;
mod options;

use jitter::Jitter;
pub use options::Options;

use giving_up::GivingUp;

/// After so many failures to read the same place, it is taken for damage.
const READ_TRIES: u32 = 3;

/// What a turn leaves to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// More to do at once.
    Now,
    /// Something at this instant, or earlier when somebody wakes the thread.
    At(Mono),
    /// Nothing until somebody wakes the thread.
    Woken,
    /// Nothing more: it was ordered to stop.
    Stopped,
}

/// Orders to an exporter.
#[derive(Debug, Default)]
pub struct Orders {
    stop: AtomicBool,
}

impl Orders {
    /// Send nothing more, wait for what is in flight, and end. Wake the exporter afterwards.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

/// What the batch is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It may grow.
    Gathering,
    /// It was submitted; after this instant it is given up.
    InFlight { until: Mono },
    /// Part of it is submitted again at this instant.
    Backoff { until: Mono },
    /// Some are given up, and their letters become durable; then the rest goes on at this instant.
    Letters { until: Mono },
}

/// Delivers a stream to one sink.
pub struct Exporter {
    cursor: Cursor,
    sink: Box<dyn Sink>,
    options: Options,
    clock: Arc<dyn Clock>,
    orders: Arc<Orders>,
    waker: Arc<Waker>,
    answer_timeout: Duration,
    phase: Phase,
    batch: BatchBuffer,
    /// The offset at which the batch begins, gaps before its first record included.
    from: u64,
    /// The records of the batch that are still to be accepted.
    picks: Vec<u32>,
    /// How often they were submitted.
    submissions: u32,
    giving_up: GivingUp,
    outcomes: Outcomes,
    ticket: Ticket,
    /// A gap that comes behind the batch.
    gap: Option<Gap>,
    /// Tries in a row without an accepted record.
    attempts: u32,
    read_failures: u32,
    jitter: Jitter,
    state: SinkState,
    /// The sink said how its link is since the batch was submitted.
    is_link_told: bool,
    /// Called at the end of each turn.
    watch: Option<Box<dyn FnMut() + Send>>,
}

impl Exporter {
    /// An exporter from a cursor to a sink, woken by `waker`. Takes all its memory here.
    pub fn new(
        cursor: Cursor,
        mut sink: Box<dyn Sink>,
        options: Options,
        clock: Arc<dyn Clock>,
        waker: Arc<Waker>,
        orders: Arc<Orders>,
        letters: Arc<LetterBox>,
    ) -> std::io::Result<Self> {
        let limits = sink.limits();
        let records_max = options.records_max.min(limits.records_max).max(1) as usize;
        let bytes_max = options.bytes_max.min(limits.bytes_max).max(1) as usize;
        let batch = BatchBuffer::new(records_max, bytes_max, options.body_len_max as usize)?;
        sink.start(SinkWaker::new(Arc::clone(&waker)));
        cursor.shared().add_reader(Arc::clone(&waker));
        let from = cursor.position();
        let jitter = Jitter::new(options.seed);
        let this = Self {
            cursor,
            sink,
            options,
            clock,
            orders,
            waker,
            answer_timeout: limits.answer_timeout,
            phase: Phase::Gathering,
            batch,
            from,
            picks: Vec::with_capacity(records_max),
            submissions: 0,
            giving_up: GivingUp::new(letters, records_max, limits.record_bytes_max),
            outcomes: Outcomes::with_capacity(records_max),
            ticket: Ticket::default(),
            gap: None,
            attempts: 0,
            read_failures: 0,
            jitter,
            state: SinkState::Idle,
            is_link_told: false,
            watch: None,
        };
        this.cursor
            .set(CursorCounter::State, SinkState::Idle.number());
        Ok(this)
    }

    /// The same with somebody who looks at each turn's end. It must be quick and not block.
    #[must_use]
    pub fn watched(mut self, watch: Box<dyn FnMut() + Send>) -> Self {
        self.watch = Some(watch);
        self
    }

    /// Makes one turn.
    pub fn step(&mut self) -> Next {
        let next = self.turn();
        if let Some(watch) = &mut self.watch {
            watch();
        }
        next
    }

    fn turn(&mut self) -> Next {
        match self.phase {
            Phase::Gathering => self.gather(),
            Phase::InFlight { until } => self.poll(until),
            Phase::Backoff { until } => {
                if self.orders.is_stopping() {
                    return Next::Stopped;
                }
                if self.clock.mono() < until {
                    return Next::At(until);
                }
                if self.submissions > 0 {
                    self.cursor
                        .add(CursorCounter::Retries, self.picks.len() as u64);
                }
                self.submit();
                Next::Now
            }
            Phase::Letters { until } => self.post(until),
        }
    }

    /// Reads on, and submits when it is time.
    fn gather(&mut self) -> Next {
        if self.orders.is_stopping() {
            return Next::Stopped;
        }
        let ended = match self.cursor.read(&mut self.batch) {
            Ok(ended) => ended,
            Err(error) => return self.read_failed(&error),
        };
        self.read_failures = 0;
        if let Ended::Gap(gap) = ended {
            if self.batch.entries().is_empty() {
                self.cursor.skip(gap);
                self.from = self.cursor.position();
                return Next::Now;
            }
            self.gap = Some(gap);
        }
        let Some(first) = self.batch.entries().first() else {
            self.cursor.set(CursorCounter::OldestSince, 0);
            self.set_state(SinkState::Idle);
            return Next::Woken;
        };
        let now = self.clock.stamp();
        let since = millis_on_this_boot(first.appended, now);
        self.cursor.set(CursorCounter::OldestSince, since + 1);
        let due = Mono(since * 1_000_000).plus(self.options.linger);
        let is_full = ended != Ended::CaughtUp || self.batch.is_full();
        if !is_full && self.clock.mono() < due {
            return Next::At(due);
        }
        self.pick_all();
        if self.giving_up.is_any() {
            return self.post(self.clock.mono());
        }
        self.submit();
        Next::Now
    }

    /// The medium did not give what was asked for.
    fn read_failed(&mut self, error: &std::io::Error) -> Next {
        self.read_failures += 1;
        self.cursor.set_error(&format!("read log: {error}"));
        if self.read_failures >= READ_TRIES {
            log::error!(
                "{}: read failed {READ_TRIES} times: {error}",
                self.options.stream
            );
            self.cursor.give_up_unreadable();
            self.read_failures = 0;
            return Next::Now;
        }
        Next::At(self.clock.mono().plus(self.backoff(self.read_failures)))
    }

    /// Hands the picked records to the sink.
    fn submit(&mut self) {
        self.ticket = self.ticket.next();
        self.submissions = self.submissions.saturating_add(1);
        self.is_link_told = false;
        let Self {
            cursor,
            sink,
            options,
            batch,
            picks,
            outcomes,
            ticket,
            ..
        } = self;
        let (store, epoch) = (cursor.shared().store, cursor.shared().epoch);
        let batch = Batch::new(&options.stream, store, epoch, batch, picks);
        outcomes.expect(*ticket, batch.len());
        let submitted = catch_unwind(AssertUnwindSafe(|| sink.submit(*ticket, &batch)));
        self.phase = Phase::InFlight {
            until: self.clock.mono().plus(self.answer_timeout),
        };
        if submitted.is_err() {
            // What it answered for before it panicked was accepted.
            self.ask();
            self.panicked();
        }
    }

    /// Lets the sink say what became of records. False when it panicked.
    fn ask(&mut self) -> bool {
        let Self { sink, outcomes, .. } = self;
        let is_done = catch_unwind(AssertUnwindSafe(|| sink.poll(outcomes))).is_ok();
        let is_ours =
            outcomes.ticket() == self.ticket && outcomes.records().len() == self.picks.len();
        if !is_ours {
            // Others were put in their place: they say nothing of this batch.
            outcomes.expect(self.ticket, self.picks.len());
        }
        is_done && is_ours
    }

    /// Asks the sink what became of the batch.
    fn poll(&mut self, until: Mono) -> Next {
        if !self.outcomes.is_settled() && !self.ask() {
            self.panicked();
        }
        if let Some(link) = self.outcomes.take_link() {
            self.is_link_told = true;
            self.set_link(link);
        }
        if !self.outcomes.is_settled() {
            if self.clock.mono() < until {
                return Next::At(until);
            }
            // No answer is not an answer: it is sent again.
            self.give_up();
            self.cursor.set_error("no answer in time");
            self.set_state(SinkState::Link);
        }
        self.settle()
    }

    /// Counts what was accepted, and goes on with the rest or with the next batch.
    fn settle(&mut self) -> Next {
        let accepted = self.sort_out();
        self.cursor.add(CursorCounter::Exported, accepted as u64);
        if self.giving_up.has_rejected() {
            self.cursor.set_error(self.outcomes.error());
        }
        if !self.picks.is_empty() || self.giving_up.has_run_out() {
            if works(self.state) {
                self.set_state(SinkState::Backoff);
            }
        } else if !self.is_link_told {
            // Whatever was wrong before: it works.
            self.set_state(SinkState::Ok);
        }
        if accepted > 0 {
            self.attempts = 0;
            self.acknowledge_done();
        }
        let mut until = self.clock.mono();
        if !self.picks.is_empty() {
            let wait = self.backoff(self.attempts).max(self.outcomes.after());
            self.attempts = self.attempts.saturating_add(1);
            until = until.plus(wait);
        }
        if self.giving_up.is_any() {
            return self.post(until);
        }
        self.go_on(until)
    }

    /// Sends again what is left of the batch, at that instant, or ends it.
    fn go_on(&mut self, until: Mono) -> Next {
        if !self.picks.is_empty() {
            self.phase = Phase::Backoff { until };
            return Next::At(until);
        }
        self.cursor.acknowledge(self.from, self.batch_end());
        if let Some(gap) = self.gap.take() {
            self.cursor.skip(gap);
        }
        self.from = self.cursor.next();
        self.batch.clear();
        self.phase = Phase::Gathering;
        Next::Now
    }

    /// Where the batch ends, and what comes behind it begins.
    fn batch_end(&self) -> u64 {
        self.gap.map_or(self.cursor.next(), |gap| gap.start)
    }

    /// A panic inside the sink is a retry.
    fn panicked(&mut self) {
        self.count_panic();
        self.give_up();
        self.set_state(SinkState::Backoff);
    }

    fn count_panic(&self) {
        log::error!("{}: the sink panicked", self.options.stream);
        self.cursor.add(CursorCounter::Panics, 1);
        self.cursor.set_error("the sink panicked");
    }

    /// Waits no longer for the rest of what was submitted: it is sent again.
    fn give_up(&mut self) {
        let Self { sink, ticket, .. } = self;
        if catch_unwind(AssertUnwindSafe(|| sink.abandon(*ticket))).is_err() {
            self.count_panic();
        }
        let ticket = self.outcomes.ticket();
        self.outcomes.set_all(ticket, Outcome::Retry(None));
    }

    fn set_link(&mut self, link: Link) {
        let state = match link {
            Link::Ok => SinkState::Ok,
            Link::Down => SinkState::Link,
            Link::Throttled => SinkState::Throttled,
            Link::Auth => SinkState::Auth,
            Link::Config => SinkState::Config,
        };
        if link != Link::Ok {
            self.cursor.set_error(self.outcomes.error());
        }
        self.set_state(state);
    }

    /// Publishes what the sink does; says so in the log when the link changed.
    fn set_state(&mut self, state: SinkState) {
        let (before, stream) = (self.state, &self.options.stream);
        if before == state {
            return;
        }
        if !works(state) && works(before) {
            log::warn!(
                "{stream}: the sink is not served: {}: {}",
                state.name(),
                self.outcomes.error()
            );
        }
        if state == SinkState::Ok && !works(before) {
            log::info!("{stream}: the sink is served again");
        }
        self.state = state;
        self.cursor.set(CursorCounter::State, state.number());
    }

    /// The wait before the next try, after so many without success.
    fn backoff(&mut self, attempts: u32) -> Duration {
        let base = self.options.backoff_base;
        let range = base
            .saturating_mul(1 << attempts.min(20))
            .min(self.options.backoff_max);
        let nanos = u64::try_from(range.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.jitter.below(nanos.saturating_add(1)))
    }

    /// The cursor.
    pub fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// Delivers until it is ordered to stop; then closes the sink within `timeout`.
    pub fn run(&mut self, timeout: Duration) {
        self.waker.register();
        loop {
            match self.step() {
                Next::Now => {}
                Next::At(at) => {
                    // While something is in flight the wait also ends for an order to stop.
                    let now = self.clock.mono();
                    if at > now {
                        park(Some(at.since(now)));
                    }
                }
                Next::Woken => park(None),
                Next::Stopped => break,
            }
        }
        self.close(timeout);
    }

    /// Closes the sink.
    pub fn close(&mut self, timeout: Duration) {
        let sink = &mut self.sink;
        if catch_unwind(AssertUnwindSafe(|| sink.close(timeout))).is_err() {
            log::error!(
                "{}: the sink panicked when it was closed",
                self.options.stream
            );
        }
    }
}

fn works(state: SinkState) -> bool {
    matches!(state, SinkState::Ok | SinkState::Idle)
}
