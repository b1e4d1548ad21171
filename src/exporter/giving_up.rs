//! What a sink will never have: set aside, written to the dead letters, and only then passed.

use std::sync::Arc;

use super::{Exporter, Next, Phase};
use crate::clock::Mono;
use crate::counters::{CursorCounter, SinkState};
use crate::sink::Settled;
use crate::syncer::{LETTERS_MAX, Letter, LetterBox};

/// Records of the batch that are given up.
pub(super) struct GivingUp {
    letters: Arc<LetterBox>,
    /// Rising; the first `posted` of them are with the syncer.
    dead: Vec<Dead>,
    posted: usize,
    /// Failures to write them that were told.
    failures: u64,
    has_failed: bool,
    /// The longest record that the sink takes.
    body_len_max: u32,
}

#[derive(Clone, Copy, Debug)]
struct Dead {
    pick: u32,
    why: Why,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    /// The sink said so; the number of its reason.
    Rejected(u8),
    /// It was sent again as often as it may be.
    RunOut,
    /// The sink takes none of that length.
    TooLong,
}

impl GivingUp {
    pub(super) fn new(letters: Arc<LetterBox>, records_max: usize, body_len_max: u32) -> Self {
        Self {
            letters,
            dead: Vec::with_capacity(records_max),
            posted: 0,
            failures: 0,
            has_failed: false,
            body_len_max,
        }
    }

    pub(super) fn is_any(&self) -> bool {
        !self.dead.is_empty()
    }

    pub(super) fn has_rejected(&self) -> bool {
        let is_rejected = |dead: &Dead| matches!(dead.why, Why::Rejected(_));
        self.dead.iter().any(is_rejected)
    }

    pub(super) fn has_run_out(&self) -> bool {
        self.dead.iter().any(|dead| dead.why == Why::RunOut)
    }
}

impl Exporter {
    /// All records of the batch are to be accepted, but for those that the sink cannot take.
    pub(super) fn pick_all(&mut self) {
        self.picks.clear();
        self.submissions = 0;
        for (pick, entry) in (0u32..).zip(self.batch.entries()) {
            if entry.body_len() <= self.giving_up.body_len_max as usize {
                self.picks.push(pick);
                continue;
            }
            let why = Why::TooLong;
            self.giving_up.dead.push(Dead { pick, why });
        }
    }

    /// Keeps of the picks what is to be sent again, and sets aside what is given up. Returns how many
    /// were accepted.
    pub(super) fn sort_out(&mut self) -> usize {
        let is_last = self
            .options
            .retries_max
            .is_some_and(|max| self.submissions > max);
        let (mut accepted, mut records) = (0, self.outcomes.records().iter());
        let dead = &mut self.giving_up.dead;
        self.picks.retain(|pick| {
            let why = match records.next() {
                Some(Settled::Accepted) => {
                    accepted += 1;
                    return false;
                }
                Some(Settled::Rejected(reason)) => Why::Rejected(*reason),
                _ if is_last => Why::RunOut,
                _ => return true,
            };
            dead.push(Dead { pick: *pick, why });
            false
        });
        accepted
    }

    /// Publishes what of the batch is done, as far as it is.
    pub(super) fn acknowledge_done(&mut self) {
        let (to, entries) = (self.batch_end(), self.batch.entries());
        let (picks, dead) = (&self.picks, &self.giving_up.dead);
        let is_open = |pick: &u32| {
            let is_dead = dead.binary_search_by_key(pick, |dead| dead.pick).is_ok();
            is_dead || picks.binary_search(pick).is_ok()
        };
        let open = (0u32..).zip(entries).filter(|(pick, _)| is_open(pick));
        self.cursor
            .acknowledge_but(open.map(|(_, entry)| entry.offset), to);
    }

    /// Posts what is given up, and passes it when it is durable; then the rest goes on at `until`.
    pub(super) fn post(&mut self, until: Mono) -> Next {
        self.phase = Phase::Letters { until };
        if !self.giving_up.letters.is_free() {
            let failures = self.giving_up.letters.failures();
            if failures > self.giving_up.failures {
                self.giving_up.failures = failures;
                self.giving_up.has_failed = true;
                let error = self.giving_up.letters.error();
                self.cursor.set_error(&format!("dead letters: {error}"));
                self.set_state(SinkState::Backoff);
            }
            let is_hopeless = failures > 0 && self.orders.is_stopping();
            return if is_hopeless {
                Next::Stopped
            } else {
                Next::Woken
            };
        }
        let durable = std::mem::take(&mut self.giving_up.posted);
        if durable > 0 {
            self.cursor.add(CursorCounter::Failed, durable as u64);
            self.giving_up.dead.drain(..durable);
            self.acknowledge_done();
        }
        if !self.giving_up.is_any() {
            if std::mem::take(&mut self.giving_up.has_failed) {
                self.set_state(SinkState::Ok);
            }
            return self.go_on(until);
        }
        if self.orders.is_stopping() {
            return Next::Stopped;
        }
        self.post_letters();
        Next::Woken
    }

    fn post_letters(&mut self) {
        let (name, now) = (self.cursor.name(), self.clock.stamp());
        let (entries, batch, outcomes) = (self.batch.entries(), &self.batch, &self.outcomes);
        let (attempts, len_max) = (self.submissions, self.giving_up.body_len_max);
        let reason = |dead: &Dead| match dead.why {
            Why::Rejected(number) => outcomes.reason(number).to_owned(),
            Why::RunOut if outcomes.error().is_empty() => format!("sent {attempts} times in vain"),
            Why::RunOut => format!("sent {attempts} times in vain: {}", outcomes.error()),
            Why::TooLong => format!("longer than the {len_max} bytes that the sink takes"),
        };
        // Only what is given up costs this.
        let dead = self.giving_up.dead.iter().take(LETTERS_MAX);
        let reasons: Vec<String> = dead.map(reason).collect();
        let letters = self
            .giving_up
            .dead
            .iter()
            .zip(&reasons)
            .map(|(dead, reason)| {
                let record = batch.view(&entries[dead.pick as usize]);
                Letter {
                    record,
                    sink: &name,
                    reason,
                    offset: record.offset,
                    attempts,
                    time_ms: now.wall_ms,
                    appended_ms: record.appended.wall_ms,
                    cut: 0,
                }
            });
        self.giving_up.posted = self.giving_up.letters.post(letters);
        self.giving_up.failures = 0;
    }
}
