//! What sinks say of records, batch by batch.

use std::panic::RefUnwindSafe;
use std::time::Duration;

use heapless::String;

use super::{Link, Outcome, Ticket};
use crate::counters::{ERROR_TEXT_MAX, cut};

/// What a sink has to say of a record, as the exporter keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    Waiting,
    Accepted,
    Retry,
    /// With the number of its reason, see [`Expected::reason`].
    Rejected(u8),
}

/// The most reasons for rejections that are told apart in a batch.
const REASONS_MAX: u8 = 16;
/// What is said of the others.
const OTHER_REASON: &str = "rejected, for one of more reasons than are kept";

/// Collects outcomes. Allocates nothing after it was made, unless more is expected than it was made for.
#[derive(Debug)]
pub struct Outcomes {
    batches: Vec<Expected>,
    link: Option<Link>,
    error: String<ERROR_TEXT_MAX>,
    panics: u64,
    mapped: u64,
}

/// What is known of one batch.
#[derive(Debug)]
pub(crate) struct Expected {
    /// `None`: it is over.
    ticket: Option<Ticket>,
    records: Vec<Settled>,
    waiting: usize,
    accepted: usize,
    retries: usize,
    after: Duration,
    reasons: heapless::Vec<String<ERROR_TEXT_MAX>, { REASONS_MAX as usize }>,
}

impl RefUnwindSafe for Outcomes {}

impl Outcomes {
    /// For one batch at a time, of so many records at most.
    pub fn with_capacity(records_max: usize) -> Self {
        Self::for_batches(1, records_max)
    }

    /// For so many batches at a time.
    pub(crate) fn for_batches(count: usize, records_max: usize) -> Self {
        Self {
            batches: (0..count).map(|_| Expected::new(records_max)).collect(),
            link: None,
            error: String::new(),
            panics: 0,
            mapped: 0,
        }
    }

    /// Expects outcomes for the `count` records of a batch, until all of them are there and taken.
    pub fn expect(&mut self, ticket: Ticket, count: usize) {
        let is_over = |batch: &Expected| batch.ticket.is_none_or(|known| known == ticket);
        let at = self.batches.iter().position(is_over).unwrap_or_else(|| {
            self.batches.push(Expected::new(count));
            self.batches.len() - 1
        });
        self.batches[at].expect(ticket, count);
    }

    /// What became of the record at `index` of the batch with that ticket. Only the first outcome of a
    /// record counts; one for a batch that is not under way is ignored.
    pub fn set(&mut self, ticket: Ticket, index: usize, outcome: Outcome<'_>) {
        if let Outcome::Rejected(reason) = outcome
            && self
                .of(ticket)
                .is_some_and(|batch| batch.is_waiting_for(index))
        {
            self.error = text(reason);
        }
        if let Some(batch) = self.of_mut(ticket) {
            batch.set(index, outcome);
        }
    }

    /// The same outcome for all records of the batch that have none yet.
    pub fn set_all(&mut self, ticket: Ticket, outcome: Outcome<'_>) {
        if let Outcome::Rejected(reason) = outcome
            && self.of(ticket).is_some_and(|batch| batch.waiting > 0)
        {
            self.error = text(reason);
        }
        if let Some(batch) = self.of_mut(ticket) {
            batch.set_all(outcome);
        }
    }

    /// How the link is; and, if it does not work, what the far side said.
    pub fn set_link(&mut self, link: Link, error: &str) {
        self.link = Some(link);
        if link != Link::Ok {
            self.error = text(error);
        }
    }

    /// The sink panicked while it had a batch.
    pub(super) fn set_panicked(&mut self) {
        self.panics += 1;
    }

    /// So many records were sent under another key, because the far side does not take theirs.
    pub fn add_mapped(&mut self, count: u64) {
        self.mapped += count;
    }

    /// Adds what `other` has collected, and forgets it there.
    pub(super) fn append(&mut self, other: &mut Outcomes) {
        for batch in &mut other.batches {
            let Some(ticket) = batch.ticket.take() else {
                continue;
            };
            if let Some(ours) = self.of_mut(ticket) {
                ours.append(batch);
            }
        }
        if !other.error.is_empty() {
            self.error = std::mem::take(&mut other.error);
        }
        if let Some(link) = other.link.take() {
            self.link = Some(link);
        }
        self.panics += std::mem::take(&mut other.panics);
        self.mapped += std::mem::take(&mut other.mapped);
    }

    /// What is known of a batch.
    pub(crate) fn of(&self, ticket: Ticket) -> Option<&Expected> {
        let mut batches = self.batches.iter();
        batches.find(|batch| batch.ticket == Some(ticket))
    }

    fn of_mut(&mut self, ticket: Ticket) -> Option<&mut Expected> {
        let mut batches = self.batches.iter_mut();
        batches.find(|batch| batch.ticket == Some(ticket))
    }

    /// Expects nothing more of a batch.
    pub(crate) fn forget(&mut self, ticket: Ticket) {
        if let Some(batch) = self.of_mut(ticket) {
            batch.ticket = None;
        }
    }

    pub(crate) fn take_link(&mut self) -> Option<Link> {
        self.link.take()
    }

    pub(crate) fn take_panics(&mut self) -> u64 {
        std::mem::take(&mut self.panics)
    }

    pub(crate) fn take_mapped(&mut self) -> u64 {
        std::mem::take(&mut self.mapped)
    }

    pub(crate) fn error(&self) -> &str {
        &self.error
    }
}

impl Expected {
    fn new(records_max: usize) -> Self {
        Self {
            ticket: None,
            records: Vec::with_capacity(records_max),
            waiting: 0,
            accepted: 0,
            retries: 0,
            after: Duration::ZERO,
            reasons: heapless::Vec::new(),
        }
    }

    fn expect(&mut self, ticket: Ticket, count: usize) {
        self.ticket = Some(ticket);
        self.records.clear();
        self.records.resize(count, Settled::Waiting);
        self.waiting = count;
        (self.accepted, self.retries) = (0, 0);
        self.after = Duration::ZERO;
        self.reasons.clear();
    }

    fn is_waiting_for(&self, index: usize) -> bool {
        self.records.get(index) == Some(&Settled::Waiting)
    }

    fn set(&mut self, index: usize, outcome: Outcome<'_>) {
        if !self.is_waiting_for(index) {
            return;
        }
        self.waiting -= 1;
        self.records[index] = match outcome {
            Outcome::Accepted => {
                self.accepted += 1;
                Settled::Accepted
            }
            Outcome::Retry(after) => {
                self.retries += 1;
                self.after = self.after.max(after.unwrap_or_default());
                Settled::Retry
            }
            Outcome::Rejected(reason) => Settled::Rejected(self.number_of(reason)),
        };
    }

    fn set_all(&mut self, outcome: Outcome<'_>) {
        if outcome == Outcome::Accepted && self.waiting == self.records.len() {
            self.records.fill(Settled::Accepted);
            (self.accepted, self.waiting) = (self.waiting, 0);
            return;
        }
        for index in 0..self.records.len() {
            self.set(index, outcome);
        }
    }

    fn append(&mut self, other: &Expected) {
        if other.is_accepted() && other.accepted == self.records.len() {
            return self.set_all(Outcome::Accepted);
        }
        for (index, record) in other.records.iter().enumerate() {
            let outcome = match record {
                Settled::Waiting => continue,
                Settled::Accepted => Outcome::Accepted,
                Settled::Retry => Outcome::Retry(Some(other.after)),
                Settled::Rejected(number) => Outcome::Rejected(other.reason(*number)),
            };
            self.set(index, outcome);
        }
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
    pub fn reason(&self, number: u8) -> &str {
        self.reasons
            .get(usize::from(number))
            .map_or(OTHER_REASON, String::as_str)
    }

    pub fn records(&self) -> &[Settled] {
        &self.records
    }

    /// There is an outcome for each record.
    pub fn is_settled(&self) -> bool {
        self.waiting == 0
    }

    /// Every record was accepted.
    pub fn is_accepted(&self) -> bool {
        self.accepted == self.records.len()
    }

    /// Some record was not taken.
    pub fn has_retries(&self) -> bool {
        self.retries > 0
    }

    /// How long the far side asks to wait.
    pub fn after(&self) -> Duration {
        self.after
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
        let batch = outer.of(ticket).unwrap();
        let reason = |index: usize| match batch.records()[index] {
            Settled::Rejected(number) => batch.reason(number),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            (reason(0), reason(7), reason(18)),
            ("reason 0", "reason 7", "reason 0")
        );
        assert_eq!((reason(15), reason(17)), ("reason 15", OTHER_REASON));
        assert_eq!(outer.error(), "reason 1");
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
        let batch = outcomes.of(ticket).unwrap();
        assert_eq!(
            batch.records(),
            [Settled::Waiting, Settled::Accepted, Settled::Waiting]
        );
        assert!(!batch.is_settled());
        assert_eq!(outcomes.error(), "");
        outcomes.set_all(ticket, Outcome::Retry(Some(Duration::from_secs(2))));
        let batch = outcomes.of(ticket).unwrap();
        assert!(batch.is_settled() && !batch.is_accepted());
        assert_eq!(batch.after(), Duration::from_secs(2));
    }

    /// Several batches at a time, answered for in any order; one that is over is ignored.
    #[test]
    fn outcomes_find_their_batch() {
        let (mut ours, mut theirs) = (Outcomes::for_batches(2, 4), Outcomes::with_capacity(0));
        let first = Ticket::default().next();
        let (second, third) = (first.next(), first.next().next());
        ours.expect(first, 2);
        ours.expect(second, 3);
        theirs.expect(second, 3);
        theirs.set_all(second, Outcome::Accepted);
        ours.append(&mut theirs);
        assert!(ours.of(second).unwrap().is_accepted());
        assert!(!ours.of(first).unwrap().is_settled());
        ours.forget(second);
        ours.expect(third, 1);
        assert_eq!(ours.batches.len(), 2, "the place is used again");
        ours.set_all(second, Outcome::Retry(None));
        assert!(!ours.of(third).unwrap().is_settled());
        ours.set_all(first, Outcome::Accepted);
        ours.set(third, 0, Outcome::Accepted);
        assert!(ours.of(first).unwrap().is_accepted() && ours.of(third).unwrap().is_accepted());
    }
}
