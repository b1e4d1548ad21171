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
//! [`BlockingSink`], and [`Blocking`] makes a [`Sink`] of it.
//!
//! **What a sink promises.** Accepted means that the far side has the record for good: the engine
//! forgets it. There is no way to answer for a batch without answering for its records; what is not
//! answered for is sent again. Outcomes may come in any order and in any number of polls.
//!
//! **What the engine promises.** A batch holds at least one record and keeps the sink's [`Limits`].
//! Records come in order, none that is not durable, and again until they are accepted. A panic inside a
//! sink is a retry, counted.
//!
//! **Threads.** One exporter's thread calls all methods of a sink.

use std::panic::RefUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use heapless::String;

use crate::counters::{ERROR_TEXT_MAX, cut};
use crate::format::StoreId;
use crate::log::BatchBuffer;
use crate::record::RecordView;
use crate::watermark::Waker;

mod blocking;
#[cfg(feature = "file")]
pub mod file;
#[cfg(any(feature = "file", feature = "stdout"))]
pub mod lines;
#[cfg(feature = "stdout")]
pub mod stdout;
pub mod text;

pub use blocking::{Answer, Blocking, BlockingSink};

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
    /// Records of batches that are under way at once stay in the order of submission.
    pub keeps_order: bool,
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

    /// Called once, at the end. Blocks no longer than `timeout`.
    fn close(&mut self, timeout: Duration) {
        let _ = timeout;
    }
}

/// Gets an exporter to poll its sink. Cheap to clone; usable from any thread.
#[derive(Clone, Debug)]
pub struct SinkWaker(Arc<Waker>);

impl SinkWaker {
    pub(crate) fn new(waker: Arc<Waker>) -> Self {
        Self(waker)
    }

    /// Wakes the exporter. Never blocks.
    pub fn wake(&self) {
        self.0.wake();
    }
}

/// Records of one stream, in order. Borrowed for the call.
#[derive(Clone, Copy)]
pub struct Batch<'a> {
    stream: &'a str,
    store: StoreId,
    epoch: u64,
    buffer: &'a BatchBuffer,
    /// Which records of the buffer it has.
    picks: &'a [u32],
}

impl<'a> Batch<'a> {
    pub(crate) fn new(
        stream: &'a str,
        store: StoreId,
        epoch: u64,
        buffer: &'a BatchBuffer,
        picks: &'a [u32],
    ) -> Self {
        Self {
            stream,
            store,
            epoch,
            buffer,
            picks,
        }
    }

    /// The stream's name.
    pub fn stream(&self) -> &'a str {
        self.stream
    }

    /// The id of the store: with the epoch and the offset it names a record for ever.
    pub fn store(&self) -> StoreId {
        self.store
    }

    /// The epoch of the store: another one means that offsets started anew.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// How many records it has; at least one.
    pub fn len(&self) -> usize {
        self.picks.len()
    }

    /// Never true.
    pub fn is_empty(&self) -> bool {
        self.picks.is_empty()
    }

    /// The record at `index`, which is what outcomes name. Panics when there is none.
    pub fn get(&self, index: usize) -> RecordView<'a> {
        let entry = &self.buffer.entries()[self.picks[index] as usize];
        self.buffer.view(entry)
    }

    /// The records.
    pub fn iter(&self) -> impl Iterator<Item = RecordView<'a>> + use<'a> {
        let this = *self;
        (0..self.len()).map(move |index| this.get(index))
    }
}

/// What a sink has to say of a record, as the exporter keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    Waiting,
    Accepted,
    Retry,
    /// With the number of its reason, see [`Outcomes::reason`].
    Rejected(u8),
}

/// The most reasons for rejections that are told apart in a batch.
const REASONS_MAX: u8 = 16;
/// What is said of the others.
const OTHER_REASON: &str = "rejected, for one of more reasons than are kept";

/// Collects outcomes. Allocates nothing after it was made.
#[derive(Debug)]
pub struct Outcomes {
    ticket: Ticket,
    records: Vec<Settled>,
    waiting: usize,
    after: Duration,
    link: Option<Link>,
    error: String<ERROR_TEXT_MAX>,
    reasons: heapless::Vec<String<ERROR_TEXT_MAX>, { REASONS_MAX as usize }>,
}

impl RefUnwindSafe for Outcomes {}

impl Outcomes {
    /// For batches of so many records at most.
    pub fn with_capacity(records_max: usize) -> Self {
        Self {
            ticket: Ticket::default(),
            records: Vec::with_capacity(records_max),
            waiting: 0,
            after: Duration::ZERO,
            link: None,
            error: String::new(),
            reasons: heapless::Vec::new(),
        }
    }

    /// Expects outcomes for the `count` records of a batch.
    pub fn expect(&mut self, ticket: Ticket, count: usize) {
        self.ticket = ticket;
        self.records.clear();
        self.records.resize(count, Settled::Waiting);
        self.waiting = count;
        self.after = Duration::ZERO;
        self.link = None;
        self.reasons.clear();
    }

    /// What became of the record at `index` of the batch with that ticket. Only the first outcome of a
    /// record counts; one for a batch that is not under way is ignored.
    pub fn set(&mut self, ticket: Ticket, index: usize, outcome: Outcome<'_>) {
        if ticket != self.ticket {
            return;
        }
        if self.records.get(index) != Some(&Settled::Waiting) {
            return;
        }
        self.waiting -= 1;
        self.records[index] = match outcome {
            Outcome::Accepted => Settled::Accepted,
            Outcome::Retry(after) => {
                self.after = self.after.max(after.unwrap_or_default());
                Settled::Retry
            }
            Outcome::Rejected(reason) => {
                self.error = text(reason);
                Settled::Rejected(self.number_of(reason))
            }
        };
    }

    fn number_of(&mut self, reason: &str) -> u8 {
        let reason = cut(reason, ERROR_TEXT_MAX);
        let known = (0..REASONS_MAX).zip(&self.reasons);
        if let Some((number, _)) = known.into_iter().find(|(_, known)| *known == reason) {
            return number;
        }
        let number = u8::try_from(self.reasons.len()).unwrap_or(REASONS_MAX);
        // When there is no room, its number has none.
        let _ = self.reasons.push(text(reason));
        number
    }

    /// The reason with that number.
    pub(crate) fn reason(&self, number: u8) -> &str {
        self.reasons
            .get(usize::from(number))
            .map_or(OTHER_REASON, String::as_str)
    }

    /// The same outcome for all records of the batch that have none yet.
    pub fn set_all(&mut self, ticket: Ticket, outcome: Outcome<'_>) {
        for index in 0..self.records.len() {
            self.set(ticket, index, outcome);
        }
    }

    /// How the link is; and, if it does not work, what the far side said.
    pub fn set_link(&mut self, link: Link, error: &str) {
        self.link = Some(link);
        if link != Link::Ok {
            self.error = text(error);
        }
    }

    /// Adds what `other` has collected for the same ticket.
    fn append(&mut self, other: &mut Outcomes) {
        if other.ticket != self.ticket {
            return;
        }
        for (index, record) in other.records.iter().enumerate() {
            let outcome = match record {
                Settled::Waiting => continue,
                Settled::Accepted => Outcome::Accepted,
                Settled::Retry => Outcome::Retry(Some(other.after)),
                Settled::Rejected(number) => Outcome::Rejected(other.reason(*number)),
            };
            self.set(other.ticket, index, outcome);
        }
        if let Some(link) = other.link.take() {
            self.set_link(link, &other.error);
        }
    }

    pub(crate) fn ticket(&self) -> Ticket {
        self.ticket
    }

    pub(crate) fn records(&self) -> &[Settled] {
        &self.records
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.waiting == 0
    }

    pub(crate) fn after(&self) -> Duration {
        self.after
    }

    pub(crate) fn take_link(&mut self) -> Option<Link> {
        self.link.take()
    }

    pub(crate) fn error(&self) -> &str {
        &self.error
    }
}

fn text(text: &str) -> String<ERROR_TEXT_MAX> {
    String::try_from(cut(text, ERROR_TEXT_MAX)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each rejected record keeps its own reason, as far as there is room, also by way of the adapter.
    #[test]
    fn each_rejection_has_its_reason() {
        let ticket = Ticket::default().next();
        let (mut inner, mut outer) = (Outcomes::with_capacity(20), Outcomes::with_capacity(20));
        inner.expect(ticket, 20);
        outer.expect(ticket, 20);
        for index in 0..20 {
            let reason = format!("reason {}", index % 18);
            inner.set(ticket, index, Outcome::Rejected(&reason));
        }
        outer.append(&mut inner);
        let reason = |index: usize| match outer.records()[index] {
            Settled::Rejected(number) => outer.reason(number),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            (reason(0), reason(7), reason(18)),
            ("reason 0", "reason 7", "reason 0")
        );
        assert_eq!((reason(15), reason(17)), ("reason 15", OTHER_REASON));
    }

    /// `L-S1`: silence about a record is not success.
    #[test]
    fn what_is_not_answered_for_is_not_accepted() {
        let mut outcomes = Outcomes::with_capacity(3);
        let ticket = Ticket::default().next();
        outcomes.expect(ticket, 3);
        outcomes.set(ticket, 1, Outcome::Accepted);
        outcomes.set(ticket, 1, Outcome::Rejected("late")); // the first counts
        outcomes.set(ticket, 7, Outcome::Accepted);
        outcomes.set(ticket.next(), 0, Outcome::Accepted); // not under way
        assert_eq!(
            outcomes.records(),
            [Settled::Waiting, Settled::Accepted, Settled::Waiting]
        );
        assert!(!outcomes.is_settled());
        outcomes.set_all(ticket, Outcome::Retry(Some(Duration::from_secs(2))));
        assert!(outcomes.is_settled());
        assert_eq!(outcomes.after(), Duration::from_secs(2));
    }
}
