//! Cursor → sink → acknowledge.
//!
//! ```text
//!  cursor ──▶ window: chunks of records that are not done ──▶ lanes: batches under way ──▶ sink
//!               ▲ read while there is room    │ pick: what `ordering` lets go │                │
//!               │                             └── to be sent again ◀──────────┼── settle ◀─────┘
//!               └── acknowledge what is done ◀── accepted, or its letter is durable ◀┘
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
use std::sync::atomic::{AtomicBool, Ordering as Atomic};
use std::time::Duration;

use crate::clock::{Clock, Mono};
use crate::counters::{CursorCounter, SinkState, millis_on_this_boot};
use crate::cursor::Cursor;
use crate::log::Ended;
use crate::sink::{Batch, Outcomes, Pick, Picked, Sink, SinkWaker, Ticket};
use crate::storage::READ_TRIES;
use crate::syncer::LetterBox;
use crate::watermark::Waker;
use crate::watermark::seam::park;

mod giving_up;
mod jitter;
mod narrow;
mod options;
mod picking;
mod rebasing;
mod settling;
mod window;

use giving_up::GivingUp;
use jitter::Jitter;
pub use narrow::DEATHS_MAX;
use narrow::Narrow;
pub use options::{IN_FLIGHT_MAX, Options, Ordering, buffers};
use picking::Classes;
pub use window::CLASSES;
use window::{State, Window};

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
        self.stop.store(true, Atomic::Release);
    }

    fn is_stopping(&self) -> bool {
        self.stop.load(Atomic::Acquire)
    }
}

/// A batch that is under way, or none.
struct Lane {
    is_busy: bool,
    ticket: Ticket,
    /// After this instant it is given up.
    until: Mono,
    /// The chunk whose records it has, all of them; else these.
    whole: Option<usize>,
    picks: Vec<Pick>,
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
    window: Window,
    lanes: Vec<Lane>,
    classes: Option<Classes>,
    giving_up: GivingUp,
    narrow: Narrow,
    outcomes: Outcomes,
    ticket: Ticket,
    /// Reading failed: it is tried again at this instant.
    read_at: Mono,
    read_failures: u32,
    jitter: Jitter,
    state: SinkState,
    /// The sink said how its link is since the last batch was submitted.
    is_link_told: bool,
    /// The sink knows of the order to stop.
    is_stop_told: bool,
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
        let lanes = options.lanes(limits.in_flight_max, limits.keeps_order);
        let chunks = buffers(lanes, options.ordering);
        let body_len_max = options.body_len_max as usize;
        let merges = options.ordering != Ordering::Stream;
        let window = Window::new(chunks, merges, records_max, bytes_max, body_len_max)?;
        sink.start(SinkWaker::new(Arc::clone(&waker), cursor.faults()));
        cursor.shared().add_reader(Arc::clone(&waker));
        let lane = |_| Lane {
            is_busy: false,
            ticket: Ticket::default(),
            until: Mono::NEVER,
            whole: None,
            picks: Vec::with_capacity(records_max),
        };
        let jitter = Jitter::new(options.seed);
        let classes = (options.ordering == Ordering::PerKey).then(Classes::new);
        let narrow = Narrow::new(&cursor, lanes == 1);
        let this = Self {
            cursor,
            sink,
            options,
            clock,
            orders,
            waker,
            answer_timeout: limits.answer_timeout,
            window,
            lanes: (0..lanes).map(lane).collect(),
            classes,
            giving_up: GivingUp::new(letters, &limits),
            narrow,
            outcomes: Outcomes::for_batches(lanes, records_max),
            ticket: Ticket::default(),
            read_at: Mono(0),
            read_failures: 0,
            jitter,
            state: SinkState::Idle,
            is_link_told: false,
            is_stop_told: false,
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
        self.collect();
        self.post();
        if self.orders.is_stopping() {
            if !std::mem::replace(&mut self.is_stop_told, true) {
                self.tell_stop();
            }
            return self.stopping();
        }
        let filled = self.fill();
        if filled == Next::Now {
            return Next::Now;
        }
        // What becomes due while it is looked for is waited for, and found by the next turn.
        let now = self.clock.mono();
        let is_sent = self.submit_ready();
        if is_sent || self.is_posting_due() {
            return Next::Now;
        }
        self.wait(filled, now)
    }

    /// Lets the sink know that it ends, and hears what it says to that.
    fn tell_stop(&mut self) {
        let sink = &mut self.sink;
        if catch_unwind(AssertUnwindSafe(|| sink.stop())).is_err() {
            self.count_panics(1);
        }
        self.collect();
    }

    /// What is left to do after the order to stop.
    fn stopping(&self) -> Next {
        if self.giving_up.is_posted() {
            return Next::Woken;
        }
        let until = self.lanes.iter().filter(|lane| lane.is_busy);
        match until.map(|lane| lane.until).min() {
            Some(until) => Next::At(until),
            None => Next::Stopped,
        }
    }

    /// Until when nothing happens, as far as it is known. What was due at `now` waits for an answer.
    fn wait(&self, filled: Next, now: Mono) -> Next {
        let busy = self.lanes.iter().filter(|lane| lane.is_busy);
        let answers = busy.map(|lane| lane.until);
        let chunks = self.window.order().iter();
        let retries = chunks
            .map(|at| &self.window.chunks[*at])
            .filter(|chunk| chunk.has_failed && chunk.waiting() > 0 && chunk.retry_at > now)
            .map(|chunk| chunk.retry_at);
        let until = answers.chain(retries).min();
        match (until, filled) {
            (Some(until), Next::At(at)) => Next::At(until.min(at)),
            (Some(until), _) => Next::At(until),
            (None, filled) => filled,
        }
    }

    /// Reads on as far as there is room. `Now`: there is more to do before anything is sent.
    fn fill(&mut self) -> Next {
        let now = self.clock.mono();
        if now < self.read_at {
            return Next::At(self.read_at);
        }
        let Some(at) = self.window.gathering() else {
            return Next::Woken;
        };
        let ended = match self.cursor.read(&mut self.window.buffers[at]) {
            Ok(ended) => ended,
            Err(error) => return self.read_failed(&error),
        };
        self.read_failures = 0;
        let oldest = self.window.oldest();
        let stamp = self.clock.stamp();
        let since = oldest.map(|appended| millis_on_this_boot(appended, stamp));
        self.cursor.set(
            CursorCounter::OldestSince,
            since.map_or(0, |since| since + 1),
        );
        let buffer = &self.window.buffers[at];
        let Some(first) = buffer.entries().first() else {
            if let Ended::Gap(gap) = ended {
                self.window.close(at, Some(gap), false);
                self.acknowledge();
                return Next::Now;
            }
            if since.is_none() {
                self.set_state(SinkState::Idle);
            }
            return Next::Woken;
        };
        let gap = match ended {
            Ended::Gap(gap) => Some(gap),
            _ => None,
        };
        let since = millis_on_this_boot(first.appended, stamp);
        // What another boot appended has waited; how long may not be known.
        let is_here = first.appended.boot == stamp.boot && since <= now.as_millis();
        let due = match is_here {
            true => Mono(since * 1_000_000).plus(self.options.linger),
            false => now,
        };
        let is_full = ended != Ended::CaughtUp || buffer.is_full();
        if !is_full && now < due {
            return Next::At(due);
        }
        self.window.close(at, gap, self.classes.is_some());
        self.set_aside_too_long(at);
        self.set_aside_fatal(at);
        match ended {
            Ended::CaughtUp => Next::Woken,
            // With one lane there is no room for more before this is done.
            _ if self.lanes.len() == 1 => Next::Woken,
            _ => Next::Now,
        }
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
        self.read_at = self.clock.mono().plus(self.backoff(self.read_failures));
        Next::At(self.read_at)
    }

    /// Gives batches to the lanes that are free. Whether there was one.
    fn submit_ready(&mut self) -> bool {
        let mut is_sent = false;
        for lane in 0..self.lanes.len() {
            let now = self.clock.mono();
            if self.lanes[lane].is_busy {
                continue;
            }
            if !self.pick(lane, now) {
                break;
            }
            self.submit(lane);
            is_sent = true;
        }
        is_sent
    }

    /// Hands the records that a lane has picked to the sink.
    fn submit(&mut self, lane: usize) {
        self.ticket = self.ticket.next();
        self.is_link_told = false;
        let again = self.send_away(lane);
        self.cursor.add(CursorCounter::Retries, again);
        if self.options.rebases {
            self.rebase(lane);
        }
        let Self {
            cursor,
            sink,
            options,
            window,
            lanes,
            outcomes,
            ticket,
            narrow,
            ..
        } = self;
        let lane = &mut lanes[lane];
        (lane.is_busy, lane.ticket) = (true, *ticket);
        let (buffers, picked) = match lane.whole {
            Some(at) => (&window.buffers[at..=at], Picked::All),
            None => (&window.buffers[..], Picked::These(&lane.picks)),
        };
        let (store, epoch) = (cursor.shared().store, cursor.shared().epoch);
        let batch = Batch::new(&options.stream, store, epoch, buffers, picked);
        outcomes.expect(*ticket, batch.len());
        let submitted = catch_unwind(AssertUnwindSafe(|| {
            narrow.watch(&batch, || sink.submit(*ticket, &batch));
        }));
        lane.until = self.clock.mono().plus(self.answer_timeout);
        if submitted.is_err() {
            let ticket = lane.ticket;
            // What it answered for before it panicked was accepted.
            self.ask();
            self.count_panics(1);
            self.give_up(ticket);
        }
    }

    /// Notes that the records which a lane has picked are with the sink; how many were there before.
    fn send_away(&mut self, lane: usize) -> u64 {
        let (lane, window) = (&self.lanes[lane], &mut self.window);
        let mut again = 0;
        if let Some(at) = lane.whole {
            let chunk = &mut window.chunks[at];
            for slot in &mut chunk.slots {
                again += u64::from(slot.submissions > 0);
                slot.submissions = slot.submissions.saturating_add(1);
            }
            chunk.set_all(State::Away);
        }
        for pick in &lane.picks {
            let chunk = &mut window.chunks[pick.buffer as usize];
            let slot = &mut chunk.slots[pick.entry as usize];
            again += u64::from(slot.submissions > 0);
            slot.submissions = slot.submissions.saturating_add(1);
            if let Some(classes) = &mut self.classes {
                classes.set_away(slot.class, true);
            }
            chunk.set(pick.entry as usize, State::Away);
        }
        again
    }

    /// The cursor.
    pub fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// Delivers until it is ordered to stop; then closes the sink within `timeout`.
    pub fn run(&mut self, timeout: Duration) {
        self.waker.register();
        loop {
            self.waker.heart.turn();
            let next = self.step();
            self.waker.heart.rest();
            match next {
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
