//! Which records go next, by what `delivery.ordering` promises.

use super::window::{CLASSES, State};
use super::{Exporter, Ordering};
use crate::clock::Mono;
use crate::rules::{Rule, holds};
use crate::sink::{Expected, Pick};

/// What keeps the keys' order.
pub(super) struct Classes {
    /// How many records of each class may go now.
    ready: Box<[u32; CLASSES]>,
    /// Some of these are with the sink.
    away: Box<[bool; CLASSES]>,
    marks: Box<[bool; CLASSES]>,
}

impl Classes {
    pub fn new() -> Self {
        Self {
            ready: Box::new([0; CLASSES]),
            away: Box::new([false; CLASSES]),
            marks: Box::new([false; CLASSES]),
        }
    }

    pub fn set_away(&mut self, class: u16, is_away: bool) {
        self.away[usize::from(class)] = is_away && holds(Rule::OrderOfKey);
    }
}

fn pick(buffer: usize, entry: usize) -> Pick {
    let [buffer, entry] = [buffer, entry].map(|n| u32::try_from(n).unwrap_or(u32::MAX));
    Pick { buffer, entry }
}

impl Exporter {
    /// Picks what a lane that is free submits next. False when there is nothing.
    pub(super) fn pick(&mut self, lane: usize, now: Mono) -> bool {
        self.lanes[lane].picks.clear();
        self.lanes[lane].whole = None;
        match self.options.ordering {
            Ordering::Stream => self.pick_next_chunk(lane, now),
            Ordering::PerKey => self.pick_by_key(lane, now),
            Ordering::None => self.pick_any(lane, now),
        }
    }

    /// The first chunk of which something waits. What failed goes alone, and nothing later before it.
    fn pick_next_chunk(&mut self, lane: usize, now: Mono) -> bool {
        let (order, chunks) = (self.window.order(), &self.window.chunks);
        let waits = |at: &&usize| chunks[**at].waiting() > 0 && chunks[**at].is_closed;
        let Some(at) = order.iter().find(waits).copied() else {
            return false;
        };
        let chunk = &chunks[at];
        let mut busy = self.lanes.iter().filter(|lane| lane.is_busy);
        let may_go = match chunk.has_failed {
            true => now >= chunk.retry_at && busy.next().is_none(),
            // Also of a batch that is not answered for in full it may be known that some failed.
            false => !busy.any(|lane| {
                let batch = self.outcomes.of(lane.ticket);
                batch.is_some_and(Expected::has_retries)
            }),
        };
        if !may_go && holds(Rule::OrderOfStream) {
            return false;
        }
        let lane = &mut self.lanes[lane];
        if chunk.waiting() == chunk.slots.len() {
            lane.whole = Some(at);
            return true;
        }
        let waiting = chunk
            .slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| slot.state == State::Waiting);
        lane.picks.extend(waiting.map(|(entry, _)| pick(at, entry)));
        true
    }

    /// Whatever may go, oldest first.
    fn pick_any(&mut self, lane: usize, now: Mono) -> bool {
        let (window, lane) = (&self.window, &mut self.lanes[lane]);
        let mut bytes = 0;
        for at in window.order() {
            let chunk = &window.chunks[*at];
            if !chunk.is_closed {
                break;
            }
            let is_whole = chunk.waiting() == chunk.slots.len() && !chunk.slots.is_empty();
            if lane.picks.is_empty() && !chunk.has_failed && is_whole {
                lane.whole = Some(*at);
                return true;
            }
            for (entry, slot) in chunk.slots.iter().enumerate() {
                if !chunk.is_ready(*slot, now) {
                    continue;
                }
                let pick = pick(*at, entry);
                let body_len = window.body_len(pick);
                if !window.fits(lane.picks.len(), bytes, body_len) {
                    return true;
                }
                bytes += body_len;
                lane.picks.push(pick);
            }
        }
        !lane.picks.is_empty()
    }

    /// The records of some keys, of which none is with the sink and none waits for another try: of few
    /// keys rather all that there is than of all keys something, so that other lanes have keys of their own.
    fn pick_by_key(&mut self, lane: usize, now: Mono) -> bool {
        let Some(classes) = &mut self.classes else {
            return false;
        };
        let (window, lane) = (&self.window, &mut self.lanes[lane]);
        let closed = || {
            let order = window.order().iter().copied();
            order.filter(|at| window.chunks[*at].is_closed)
        };
        classes.ready.fill(0);
        // Marked: something of the class waits for another try.
        classes.marks.fill(false);
        for chunk in closed().map(|at| &window.chunks[at]) {
            for slot in &chunk.slots {
                let class = usize::from(slot.class);
                if slot.state != State::Waiting || classes.away[class] || classes.marks[class] {
                    continue;
                }
                match chunk.is_ready(*slot, now) {
                    true => classes.ready[class] += 1,
                    false => classes.marks[class] = true,
                }
            }
        }
        // Marked: the class is picked.
        classes.marks.fill(false);
        let (mut chosen, mut bytes) = (0, 0);
        for at in closed() {
            for (entry, slot) in window.chunks[at].slots.iter().enumerate() {
                let class = usize::from(slot.class);
                if slot.state != State::Waiting || classes.ready[class] == 0 {
                    continue;
                }
                if !classes.marks[class] {
                    if !window.fits(chosen, 0, 0) {
                        continue;
                    }
                    classes.marks[class] = true;
                    chosen += classes.ready[class] as usize;
                }
                let pick = pick(at, entry);
                let body_len = window.body_len(pick);
                if !window.fits(lane.picks.len(), bytes, body_len) {
                    return true;
                }
                classes.ready[class] -= 1;
                bytes += body_len;
                lane.picks.push(pick);
            }
        }
        !lane.picks.is_empty()
    }
}
