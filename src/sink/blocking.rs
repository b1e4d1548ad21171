//! Sinks that simply block.

use std::time::Duration;

use super::{Batch, Limits, Link, Outcome, Outcomes, Sink, Ticket};

/// A sink that delivers one batch at a time and blocks meanwhile.
pub trait BlockingSink: Send {
    /// What it can take; `in_flight_max` and `keeps_order` do not matter.
    fn limits(&self) -> Limits {
        Limits::default()
    }

    /// Delivers a batch within `timeout` and answers for its records. What is not answered for when it
    /// returns, or panics, is sent again.
    fn deliver(&mut self, batch: &Batch<'_>, timeout: Duration, answer: &mut Answer<'_>);

    /// Called once, at the end. Blocks no longer than `timeout`.
    fn close(&mut self, timeout: Duration) {
        let _ = timeout;
    }
}

/// The answer to one delivery.
#[derive(Debug)]
pub struct Answer<'a> {
    outcomes: &'a mut Outcomes,
    ticket: Ticket,
}

impl Answer<'_> {
    /// What became of the record at `index` of the batch. The first outcome of a record counts.
    pub fn set(&mut self, index: usize, outcome: Outcome<'_>) {
        self.outcomes.set(self.ticket, index, outcome);
    }

    /// All records were accepted that have no other outcome.
    pub fn accept_rest(&mut self) {
        self.outcomes.set_all(self.ticket, Outcome::Accepted);
    }

    /// The records that have no other outcome were not taken this time.
    pub fn retry_rest(&mut self, after: Option<Duration>) {
        self.outcomes.set_all(self.ticket, Outcome::Retry(after));
    }

    /// The records that have no other outcome can never be accepted.
    pub fn reject_rest(&mut self, reason: &str) {
        self.outcomes
            .set_all(self.ticket, Outcome::Rejected(reason));
    }

    /// How the link is; and, if it does not work, what the far side said.
    pub fn set_link(&mut self, link: Link, error: &str) {
        self.outcomes.set_link(link, error);
    }
}

/// Makes a [`Sink`] of a sink that blocks: submitting delivers.
pub struct Blocking<S> {
    sink: S,
    outcomes: Outcomes,
}

impl<S: BlockingSink> Blocking<S> {
    /// Around `sink`.
    pub fn new(sink: S) -> Self {
        Self {
            sink,
            outcomes: Outcomes::with_capacity(0),
        }
    }
}

impl<S: BlockingSink> Sink for Blocking<S> {
    fn limits(&self) -> Limits {
        Limits {
            in_flight_max: 1,
            keeps_order: true,
            ..self.sink.limits()
        }
    }

    fn submit(&mut self, ticket: Ticket, batch: &Batch<'_>) {
        let timeout = self.sink.limits().answer_timeout;
        self.outcomes.expect(ticket, batch.len());
        let mut answer = Answer {
            outcomes: &mut self.outcomes,
            ticket,
        };
        self.sink.deliver(batch, timeout, &mut answer);
        answer.retry_rest(None);
    }

    fn poll(&mut self, outcomes: &mut Outcomes) {
        outcomes.append(&mut self.outcomes);
    }

    fn close(&mut self, timeout: Duration) {
        self.sink.close(timeout);
    }
}
