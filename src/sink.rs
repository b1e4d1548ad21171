//! Where records go: the trait, what a sink is given, and what it answers.
//!
//! ```text
//!  exporter ── submit(ticket, batch) ──▶ sink          an outcome for each record:
//!     ▲                                    │             accepted │ retry │ rejected
//!     └──── poll ◀── outcomes, link ───────┘
//! ```
//!
//! There are two traits. [`Sink`] takes batches and reports outcomes later, so that a client which
//! pipelines by itself can have several under way. A sink that simply blocks implements
//! [`BlockingSink`]; [`Blocking`] makes a [`Sink`] of one, and [`Lanes`] of several, each with its own
//! thread, which deliver at the same time.
//!
//! **What a sink promises.** Accepted means that the far side has the record for good: the engine
//! forgets it. There is no way to answer for a batch without answering for its records; what is not
//! answered for is sent again. Outcomes may come in any order and in any number of polls.
//!
//! **What the engine promises.** A batch holds at least one record and keeps the sink's [`Limits`].
//! Records come in order, none that is not durable, and again until they are accepted. A panic inside a
//! sink is a retry, counted.
//!
//! **Threads.** One exporter's thread calls all methods of a [`Sink`].

use std::sync::Arc;
use std::time::Duration;

use crate::counters::Faults;
use crate::watermark::Waker;

mod batch;
mod blocking;
#[cfg(feature = "file")]
pub mod file;
#[cfg(feature = "kafka")]
pub mod kafka;
#[cfg(feature = "kinesis")]
pub mod kinesis;
#[cfg(any(feature = "file", feature = "stdout"))]
pub mod lines;
mod outcomes;
#[cfg(feature = "stdout")]
pub mod stdout;
pub mod text;

pub use batch::Batch;
pub(crate) use batch::{Pick, Picked};
pub use blocking::{Answer, Blocking, BlockingSink, Lanes};
pub use outcomes::Outcomes;
pub(crate) use outcomes::{Expected, Settled};

/// What a sink can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The most records in a batch.
    pub records_max: u32,
    /// The most bytes of keys, payloads and properties in a batch.
    pub bytes_max: u32,
    /// The longest record: key, payload and properties.
    pub record_bytes_max: u32,
    /// The most batches under way at once.
    pub in_flight_max: u32,
    /// Batches that are under way at once stay in the order of submission, and when records of one are
    /// not accepted, neither are those of the later ones.
    pub keeps_order: bool,
    /// It remembers how far it has come: nothing is submitted behind a record that was given up before
    /// that one's dead letter is durable, because after a crash the record would count as delivered.
    pub letters_first: bool,
    /// After this time a batch that was not answered for is given up and sent again.
    pub answer_timeout: Duration,
}

impl Default for Limits {
    /// No limits but the stream's own; one batch at a time; a minute to answer.
    fn default() -> Self {
        Self {
            records_max: u32::MAX,
            bytes_max: u32::MAX,
            record_bytes_max: u32::MAX,
            in_flight_max: 1,
            keeps_order: true,
            letters_first: false,
            answer_timeout: Duration::from_secs(60),
        }
    }
}

/// Names a batch that was submitted. Never used twice by an exporter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ticket(u64);

impl Ticket {
    pub(crate) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// The far side has it for good.
    Accepted,
    /// It was not taken this time; perhaps the far side asked to wait before the next.
    Retry(Option<Duration>),
    /// It can never be accepted, and why.
    Rejected(&'a str),
}

/// How the way to the far side is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Link {
    /// It works.
    #[default]
    Ok,
    /// The far side is not reached, or does not answer.
    Down,
    /// The far side asks to slow down.
    Throttled,
    /// The far side refuses the credentials.
    Auth,
    /// The far side refuses what the configuration asks for.
    Config,
}

/// Takes batches and reports outcomes later. See the module for who promises what.
pub trait Sink: Send {
    /// What it can take. Asked once, before the first batch.
    fn limits(&self) -> Limits;

    /// Called once, before the first batch: `waker` gets the exporter to poll.
    fn start(&mut self, waker: SinkWaker) {
        let _ = waker;
    }

    /// Takes a batch. What is needed of it later has to be copied.
    ///
    /// A sink that reports `in_flight_max` batches never gets one more before one is answered for.
    fn submit(&mut self, ticket: Ticket, batch: &Batch<'_>);

    /// Reports what has become of records since the last time. Never blocks.
    fn poll(&mut self, outcomes: &mut Outcomes);

    /// The exporter gives up waiting for the rest of a batch: what is reported of it later is ignored.
    fn abandon(&mut self, ticket: Ticket) {
        let _ = ticket;
    }

    /// Nothing more will be submitted, and the end waits for what is under way: what cannot be answered
    /// for soon is better given up.
    fn stop(&mut self) {}

    /// Called once, at the end. Blocks no longer than `timeout`.
    fn close(&mut self, timeout: Duration) {
        let _ = timeout;
    }
}

/// Gets an exporter to poll its sink. Cheap to clone; usable from any thread.
#[derive(Clone, Debug)]
pub struct SinkWaker {
    waker: Arc<Waker>,
    faults: Faults,
}

impl SinkWaker {
    pub(crate) fn new(waker: Arc<Waker>, faults: Faults) -> Self {
        Self { waker, faults }
    }

    /// Wakes the exporter. Never blocks.
    pub fn wake(&self) {
        self.waker.wake();
    }

    /// Runs `deliver`, which has that batch: a death in it is noted.
    fn watch<R>(&self, batch: &Batch<'_>, deliver: impl FnOnce() -> R) -> R {
        self.faults.watch(&batch.offsets(), deliver)
    }
}
