//! What became of the records that are with the sink.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::Exporter;
use super::window::State;
use crate::counters::{CursorCounter, SinkState};
use crate::rules::{Rule, holds};
use crate::sink::{Expected, Link, Outcome, Pick, Settled, Ticket};

/// Chunks by number, as bits; there are fewer than this has.
type Chunks = u32;

impl Exporter {
    /// Asks the sink what became of the batches that are under way, and goes on with what it says.
    pub(super) fn collect(&mut self) {
        if !self.lanes.iter().any(|lane| lane.is_busy) {
            return;
        }
        if !self.is_all_settled() && !self.ask() {
            self.count_panics(1);
            for lane in 0..self.lanes.len() {
                if self.lanes[lane].is_busy {
                    self.give_up(self.lanes[lane].ticket);
                }
            }
        }
        let panics = self.outcomes.take_panics();
        self.count_panics(panics);
        let mapped = self.outcomes.take_mapped();
        if mapped > 0 {
            self.cursor.add(CursorCounter::KeysMapped, mapped);
        }
        if let Some(link) = self.outcomes.take_link() {
            self.is_link_told = true;
            self.set_link(link);
        }
        let now = self.clock.mono();
        let mut is_any = false;
        for lane in 0..self.lanes.len() {
            let super::Lane {
                is_busy,
                ticket,
                until,
                ..
            } = self.lanes[lane];
            if !is_busy {
                continue;
            }
            if !self.is_settled(ticket) {
                if now < until {
                    continue;
                }
                // No answer is not an answer: it is sent again.
                self.give_up(ticket);
                self.cursor.set_error("no answer in time");
                self.set_state(SinkState::Link);
            }
            is_any |= self.settle(lane);
        }
        if is_any {
            self.acknowledge();
        }
    }

    fn is_settled(&self, ticket: Ticket) -> bool {
        let batch = self.outcomes.of(ticket);
        batch.is_none_or(Expected::is_settled)
    }

    fn is_all_settled(&self) -> bool {
        let mut busy = self.lanes.iter().filter(|lane| lane.is_busy);
        busy.all(|lane| self.is_settled(lane.ticket))
    }

    /// Lets the sink say what became of records. False when it panicked.
    pub(super) fn ask(&mut self) -> bool {
        let Self { sink, outcomes, .. } = self;
        let mut is_done = catch_unwind(AssertUnwindSafe(|| sink.poll(outcomes))).is_ok();
        for lane in self.lanes.iter().filter(|lane| lane.is_busy) {
            let count = match lane.whole {
                Some(at) => self.window.chunks[at].slots.len(),
                None => lane.picks.len(),
            };
            let known = self.outcomes.of(lane.ticket);
            if known.is_none_or(|batch| batch.records().len() != count) {
                // Others were put in their place: they say nothing of this batch.
                self.outcomes.forget(lane.ticket);
                self.outcomes.expect(lane.ticket, count);
                is_done = false;
            }
        }
        is_done
    }

    /// Notes what became of a lane's batch. Whether something is done that was not.
    fn settle(&mut self, at: usize) -> bool {
        let lane = &mut self.lanes[at];
        lane.is_busy = false;
        let (ticket, whole) = (lane.ticket, lane.whole);
        let is_accepted = self.outcomes.of(ticket).is_some_and(Expected::is_accepted);
        let (accepted, failed, is_given_up) = match whole.filter(|_| is_accepted) {
            Some(chunk) => {
                self.window.chunks[chunk].set_all(State::Done);
                (self.window.chunks[chunk].slots.len(), 0, false)
            }
            None => self.sort_out(at),
        };
        self.cursor.add(CursorCounter::Exported, accepted as u64);
        if failed != 0 || is_given_up {
            if works(self.state) {
                self.set_state(SinkState::Backoff);
            }
        } else if !self.is_link_told {
            // Whatever was wrong before: it works.
            self.set_state(SinkState::Ok);
        }
        if failed != 0 {
            self.back_off(failed, ticket);
        }
        self.outcomes.forget(ticket);
        accepted > 0
    }

    /// Notes the outcomes of a lane's records one by one. Returns how many were accepted, the chunks of
    /// which some are to be sent again, and whether some were sent as often as they may be.
    fn sort_out(&mut self, at: usize) -> (usize, Chunks, bool) {
        let Self {
            lanes,
            window,
            outcomes,
            giving_up,
            classes,
            options,
            ..
        } = self;
        let lane = &lanes[at];
        let Some(batch) = outcomes.of(lane.ticket) else {
            return (0, 0, false);
        };
        let (mut accepted, mut done_in, mut failed, mut has_run_out) = (0, 0, 0, false);
        let mut reasons = Reasons::default();
        for (index, record) in batch.records().iter().enumerate() {
            let Pick { buffer, entry } = match lane.whole {
                Some(at) => Pick {
                    buffer: u32::try_from(at).unwrap_or(u32::MAX),
                    entry: u32::try_from(index).unwrap_or(u32::MAX),
                },
                None => lane.picks[index],
            };
            let chunk = &mut window.chunks[buffer as usize];
            let slot = chunk.slots[entry as usize];
            if let Some(classes) = classes {
                classes.set_away(slot.class, false);
            }
            let is_last = options
                .retries_max
                .is_some_and(|max| slot.submissions > max);
            let reason = match record {
                Settled::Accepted => {
                    accepted += 1;
                    done_in |= 1 << buffer;
                    chunk.set(entry as usize, State::Done);
                    continue;
                }
                Settled::Rejected(number) => reasons.of(*number, || batch.reason(*number).into()),
                _ if is_last => {
                    has_run_out = true;
                    let error = outcomes.error();
                    reasons.of(u8::MAX, || run_out(slot.submissions, error))
                }
                _ => {
                    failed |= 1 << buffer;
                    chunk.set(entry as usize, State::Waiting);
                    continue;
                }
            };
            chunk.set(
                entry as usize,
                match holds(Rule::CursorAfterLetter) {
                    true => State::Dead,
                    false => State::Done,
                },
            );
            giving_up.add(Pick { buffer, entry }, reason);
        }
        if reasons.has_rejected() {
            self.cursor.set_error(outcomes.error());
        }
        for (at, chunk) in window.chunks.iter_mut().enumerate() {
            if done_in & 1 << at != 0 {
                chunk.failures = 0;
            }
        }
        (accepted, failed, has_run_out)
    }

    /// The records that failed in these chunks wait.
    fn back_off(&mut self, failed: Chunks, ticket: Ticket) {
        let is_hit = |at: &usize| failed & 1 << at != 0;
        let hit = (0..self.window.chunks.len()).filter(is_hit);
        let failures = hit.clone().map(|at| self.window.chunks[at].failures);
        let failures = failures.max().unwrap_or(0);
        let after = self.outcomes.of(ticket).map(Expected::after);
        let wait = self.backoff(failures).max(after.unwrap_or_default());
        let until = self.clock.mono().plus(wait);
        for at in hit {
            let chunk = &mut self.window.chunks[at];
            chunk.failures = chunk.failures.saturating_add(1);
            chunk.has_failed = true;
            chunk.retry_at = chunk.retry_at.max(until);
        }
    }

    /// Publishes what is done, and makes room where all is.
    pub(super) fn acknowledge(&mut self) {
        loop {
            let end = self.window.end();
            self.cursor.acknowledge_but(self.window.open(), end);
            match self.window.free_done() {
                // What is done behind it may be more than the cursor could remember.
                Some(gap) => self.cursor.skip(gap),
                None => return,
            }
        }
    }

    /// Panics inside the sink are retries.
    pub(super) fn count_panics(&mut self, count: u64) {
        if count == 0 {
            return;
        }
        log::error!("{}: the sink panicked", self.options.stream);
        self.cursor.add(CursorCounter::Panics, count);
        self.cursor.set_error("the sink panicked");
        self.set_state(SinkState::Backoff);
    }

    /// Waits no longer for the rest of what was submitted: it is sent again.
    pub(super) fn give_up(&mut self, ticket: Ticket) {
        let sink = &mut self.sink;
        if catch_unwind(AssertUnwindSafe(|| sink.abandon(ticket))).is_err() {
            self.count_panics(1);
        }
        let outcome = match holds(Rule::SilenceIsNoAnswer) {
            true => Outcome::Retry(None),
            false => Outcome::Accepted,
        };
        self.outcomes.set_all(ticket, outcome);
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
    pub(super) fn set_state(&mut self, state: SinkState) {
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
    pub(super) fn backoff(&mut self, attempts: u32) -> Duration {
        let base = self.options.backoff_base;
        let range = base
            .saturating_mul(1 << attempts.min(20))
            .min(self.options.backoff_max);
        let nanos = u64::try_from(range.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.jitter.below(nanos.saturating_add(1)))
    }
}

/// The reasons of one batch, made when they are first needed, and shared.
#[derive(Default)]
struct Reasons(Vec<(u8, Arc<str>)>);

impl Reasons {
    fn of(&mut self, number: u8, text: impl FnOnce() -> Arc<str>) -> Arc<str> {
        if let Some((_, text)) = self.0.iter().find(|(known, _)| *known == number) {
            return Arc::clone(text);
        }
        let text = text();
        self.0.push((number, Arc::clone(&text)));
        text
    }

    fn has_rejected(&self) -> bool {
        self.0.iter().any(|(number, _)| *number != u8::MAX)
    }
}

fn run_out(submissions: u32, error: &str) -> Arc<str> {
    match error {
        "" => format!("sent {submissions} times in vain").into(),
        error => format!("sent {submissions} times in vain: {error}").into(),
    }
}

fn works(state: SinkState) -> bool {
    matches!(state, SinkState::Ok | SinkState::Idle)
}
