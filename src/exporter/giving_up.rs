//! What a sink will never have: set aside, written to the dead letters, and only then passed.

use std::sync::Arc;

use super::window::State;
use super::{Exporter, Pick};
use crate::counters::{CursorCounter, SinkState};
use crate::sink::Limits;
use crate::syncer::{LETTERS_MAX, Letter, LetterBox};

/// Records that are given up and whose letters are not durable.
pub(super) struct GivingUp {
    letters: Arc<LetterBox>,
    /// The first `posted` of them are with the syncer.
    dead: Vec<Dead>,
    posted: usize,
    /// Failures to write them that were told.
    failures: u64,
    has_failed: bool,
    /// The longest record that the sink takes.
    body_len_max: u32,
    /// Nothing later is sent before the letters are durable.
    is_first: bool,
}

struct Dead {
    pick: Pick,
    reason: Arc<str>,
}

impl GivingUp {
    pub(super) fn new(letters: Arc<LetterBox>, limits: &Limits) -> Self {
        Self {
            letters,
            dead: Vec::new(),
            posted: 0,
            failures: 0,
            has_failed: false,
            body_len_max: limits.record_bytes_max,
            is_first: limits.letters_first,
        }
    }

    pub(super) fn add(&mut self, pick: Pick, reason: Arc<str>) {
        self.dead.push(Dead { pick, reason });
    }

    /// Something is given up whose letter is not durable.
    pub(super) fn is_any(&self) -> bool {
        !self.dead.is_empty()
    }

    /// What is given up has to be durable before anything is sent.
    pub(super) fn holds_up(&self) -> bool {
        self.is_first && self.is_any()
    }

    /// Letters are with the syncer, which may still make them durable.
    pub(super) fn is_posted(&self) -> bool {
        self.posted > 0 && (self.letters.is_free() || self.letters.failures() == 0)
    }
}

impl Exporter {
    /// Sets aside what the sink cannot take, of a chunk that was just closed.
    pub(super) fn set_aside_too_long(&mut self, at: usize) {
        let len_max = self.giving_up.body_len_max as usize;
        if self.giving_up.body_len_max == u32::MAX {
            return;
        }
        let entries = self.window.buffers[at].entries();
        let mut reason = None;
        for (entry, _) in entries
            .iter()
            .enumerate()
            .filter(|(_, entry)| entry.body_len() > len_max)
        {
            let reason = reason.get_or_insert_with(|| -> Arc<str> {
                format!("longer than the {len_max} bytes that the sink takes").into()
            });
            self.window.chunks[at].set(entry, State::Dead);
            let [buffer, entry] = [at, entry].map(|n| u32::try_from(n).unwrap_or(u32::MAX));
            self.giving_up
                .add(Pick { buffer, entry }, Arc::clone(reason));
        }
    }

    /// Posts what is given up, and passes it when it is durable.
    pub(super) fn post(&mut self) {
        let GivingUp {
            letters, failures, ..
        } = &mut self.giving_up;
        if !letters.is_free() {
            let failed = letters.failures();
            if failed > *failures {
                *failures = failed;
                let error = letters.error();
                self.giving_up.has_failed = true;
                self.cursor.set_error(&format!("dead letters: {error}"));
                self.set_state(SinkState::Backoff);
            }
            return;
        }
        let durable = std::mem::take(&mut self.giving_up.posted);
        if durable > 0 {
            self.cursor.add(CursorCounter::Failed, durable as u64);
            for Dead { pick, .. } in self.giving_up.dead.drain(..durable) {
                let (buffer, entry) = (pick.buffer as usize, pick.entry as usize);
                let offset = self.window.buffers[buffer].entries()[entry].offset;
                if self.narrow.is_fatal(offset) {
                    self.cursor.add(CursorCounter::CrashLoops, 1);
                }
                self.narrow.clear(&self.cursor, offset);
                self.window.chunks[buffer].set(entry, State::Done);
            }
            self.acknowledge();
        }
        if self.giving_up.dead.is_empty() {
            if std::mem::take(&mut self.giving_up.has_failed) {
                self.set_state(SinkState::Ok);
            }
        } else if !self.orders.is_stopping() {
            self.post_letters();
        }
    }

    /// Something is given up that could be posted now.
    pub(super) fn is_posting_due(&self) -> bool {
        !self.giving_up.dead.is_empty() && self.giving_up.letters.is_free()
    }

    fn post_letters(&mut self) {
        let (name, now) = (self.cursor.name(), self.clock.stamp());
        let window = &self.window;
        // Only what is given up costs this.
        let dead = self.giving_up.dead.iter().take(LETTERS_MAX);
        let letters = dead.map(|Dead { pick, reason }| {
            let (buffer, entry) = (pick.buffer as usize, pick.entry as usize);
            let record = window.buffers[buffer].view(&window.buffers[buffer].entries()[entry]);
            Letter {
                record,
                sink: &name,
                reason,
                offset: record.offset,
                attempts: window.chunks[buffer].slots[entry].submissions,
                time_ms: now.wall_ms,
                appended_ms: record.appended.wall_ms,
                cut: 0,
            }
        });
        self.giving_up.posted = self.giving_up.letters.post(letters);
        self.giving_up.failures = 0;
    }
}
