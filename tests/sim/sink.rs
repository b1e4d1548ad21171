//! A sink that does what a script says, and notes what it was given.
//!
//! The [`Script`] is the test's end of it and the far side's memory: it outlives the sink, as a service
//! outlives the process that sends to it. What breaks a promise to sinks is noted, and told by
//! [`Script::check`]: a panic in here would be taken for a retry.

use std::collections::{BTreeMap, VecDeque};
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use forebay::clock::{Clock, Mono, WALL_KNOWN_MS};
use forebay::exporter::Ordering;
use forebay::sink::{
    Answer, Batch, BlockingSink, Limits, Link, Outcome, Outcomes, Sink, SinkWaker, Ticket,
};

use super::clock::SimClock;
use super::session::{key, payload};

/// What is said of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Say {
    Accept,
    Retry(Option<Duration>),
    Reject(&'static str),
    /// Not a word.
    Nothing,
    /// First that it was not taken, and then that it was.
    RetryThenAccept,
}

/// When it is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    AtOnce,
    /// At the poll of that number.
    AtPoll(u32),
    /// At the first poll after that time.
    After(Duration),
    Never,
}

/// Where it panics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Panics {
    Submit,
    /// When it is asked, after it has said something of the first record.
    Poll,
    /// When it is told that it is too late.
    Abandon,
}

/// What is done with a batch.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What is said of its records, over and over.
    pub says: Vec<Say>,
    pub when: When,
    pub link: Option<(Link, &'static str)>,
    pub panics: Option<Panics>,
    /// It also answers for batches and records that are not under way.
    pub strays: bool,
    /// It puts outcomes of its own making in the place of those that it was given.
    pub replaces: bool,
}

impl Plan {
    pub fn says(says: &[Say]) -> Self {
        Self {
            says: says.to_vec(),
            when: When::AtOnce,
            link: None,
            panics: None,
            strays: false,
            replaces: false,
        }
    }

    pub fn accept() -> Self {
        Self::says(&[Say::Accept])
    }

    pub fn retry() -> Self {
        Self::says(&[Say::Retry(None)])
    }

    pub fn hang() -> Self {
        Self::accept().when(When::Never)
    }

    pub fn panic(panics: Panics) -> Self {
        Self {
            panics: Some(panics),
            ..Self::accept()
        }
    }

    pub fn when(self, when: When) -> Self {
        Self { when, ..self }
    }

    pub fn link(self, link: Link, error: &'static str) -> Self {
        Self {
            link: Some((link, error)),
            ..self
        }
    }

    pub fn with_strays(self) -> Self {
        Self {
            strays: true,
            ..self
        }
    }
}

/// A batch as it came.
#[derive(Clone, Debug)]
pub struct Request {
    pub at: Mono,
    pub ticket: Ticket,
    pub offsets: Vec<u64>,
    /// The records' times.
    pub times_ms: Vec<u64>,
    /// Bytes of keys and payloads.
    pub bytes: usize,
}

/// A batch that was not answered for yet.
struct Pending {
    request: Request,
    plan: Plan,
    polls: u32,
    is_abandoned: bool,
}

impl Pending {
    fn is_due(&self, now: Mono) -> bool {
        match self.plan.when {
            When::AtOnce => true,
            When::AtPoll(poll) => self.polls >= poll,
            When::After(wait) => now >= self.request.at.plus(wait),
            When::Never => false,
        }
    }
}

pub struct State {
    pub limits: Limits,
    plans: VecDeque<Plan>,
    otherwise: Plan,
    pending: Vec<Pending>,
    /// What stays in order, and how many batches may be under way.
    ordering: Ordering,
    lanes: usize,
    /// Offsets that this run submitted, and that were not accepted, with their keys.
    open: BTreeMap<u64, Vec<u8>>,
    /// The greatest offset that this run submitted, of each key.
    newest: BTreeMap<Vec<u8>, u64>,
    /// What is said of these keys and offsets is that they were not taken.
    bad_keys: Vec<Vec<u8>>,
    bad_offsets: Vec<u64>,
    /// What nobody will hear of, of batches that were not given up yet.
    silent: Vec<(Ticket, u64)>,
    /// The most batches that were under way at once.
    pub in_flight: usize,
    ticket: Option<Ticket>,
    pub requests: Vec<Request>,
    /// What was accepted, and when; of all runs.
    pub accepted: Vec<(Mono, u64)>,
    /// How many of these belong to former runs.
    first_accepted: usize,
    /// What was accepted when nobody listened any more.
    pub late: Vec<u64>,
    pub abandoned: Vec<Ticket>,
    pub polls: u64,
    pub closes: u64,
    /// What was rejected.
    pub rejected: Vec<u64>,
    /// Records may be given up that were not.
    gives_up: bool,
    faults: Vec<String>,
}

/// The test's end. Cheap to clone.
#[derive(Clone)]
pub struct Script(Arc<Mutex<State>>);

impl Default for Script {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State {
            limits: Limits::default(),
            plans: VecDeque::new(),
            otherwise: Plan::accept(),
            pending: Vec::new(),
            ordering: Ordering::Stream,
            lanes: 1,
            open: BTreeMap::new(),
            newest: BTreeMap::new(),
            bad_keys: Vec::new(),
            bad_offsets: Vec::new(),
            silent: Vec::new(),
            in_flight: 0,
            ticket: None,
            requests: Vec::new(),
            accepted: Vec::new(),
            first_accepted: 0,
            late: Vec::new(),
            abandoned: Vec::new(),
            polls: 0,
            closes: 0,
            rejected: Vec::new(),
            gives_up: false,
            faults: Vec::new(),
        })))
    }
}

impl Script {
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// What is done with batches from now on, when no other plan is there.
    pub fn set(&self, plan: Plan) {
        self.state().otherwise = plan;
    }

    /// What is done with the next batch but those that have a plan already.
    pub fn then(&self, plan: Plan) {
        self.state().plans.push_back(plan);
    }

    /// Fails that many batches.
    pub fn fail_first(&self, count: usize) {
        (0..count).for_each(|_| self.then(Plan::retry()));
    }

    pub fn set_limits(&self, f: impl FnOnce(&mut Limits)) {
        f(&mut self.state().limits);
    }

    /// A sink for a run of the engine that starts now.
    pub fn sink(&self, clock: &Arc<SimClock>) -> Fake {
        let mut state = self.state();
        state.pending.clear();
        state.open.clear();
        state.newest.clear();
        state.silent.clear();
        state.ticket = None;
        state.first_accepted = state.accepted.len();
        drop(state);
        Fake {
            script: self.clone(),
            clock: clock.clone(),
        }
    }

    /// From now on records of these keys are not taken.
    pub fn fail_keys(&self, keys: Vec<Vec<u8>>) {
        self.state().bad_keys = keys;
    }

    /// From now on these records are not taken.
    pub fn fail_offsets(&self, offsets: Vec<u64>) {
        self.state().bad_offsets = offsets;
    }

    /// What it may rely on.
    pub fn set_order(&self, ordering: Ordering, lanes: usize) {
        let mut state = self.state();
        (state.ordering, state.lanes) = (ordering, lanes);
    }

    /// Records may be given up that this sink did not reject.
    pub fn set_gives_up(&self, gives_up: bool) {
        self.state().gives_up = gives_up;
    }

    /// The offsets of all batches.
    pub fn requests(&self) -> Vec<Vec<u64>> {
        let state = self.state();
        let requests = state.requests.iter();
        requests.map(|request| request.offsets.clone()).collect()
    }

    /// When the batches came.
    pub fn times(&self) -> Vec<Mono> {
        let state = self.state();
        state.requests.iter().map(|request| request.at).collect()
    }

    /// The offsets that were accepted, in the order in which they were.
    pub fn accepted(&self) -> Vec<u64> {
        let state = self.state();
        state.accepted.iter().map(|(_, offset)| *offset).collect()
    }

    /// When an answer is due that nobody would poll for.
    pub fn next(&self, now: Mono) -> Mono {
        let state = self.state();
        let waited_for = state.pending.iter().filter(|pending| !pending.is_abandoned);
        let dues = waited_for.map(|pending| match pending.plan.when {
            When::AtOnce | When::AtPoll(_) => now.plus(Duration::from_millis(1)),
            When::After(wait) => pending.request.at.plus(wait).max(now),
            When::Never => Mono::NEVER,
        });
        dues.min().unwrap_or(Mono::NEVER)
    }

    /// Panics when a promise to sinks was broken.
    pub fn check(&self) {
        let state = self.state();
        assert!(state.faults.is_empty(), "{:?}", state.faults);
    }
}

impl State {
    fn fault(&mut self, text: impl Into<String>) {
        self.faults.push(text.into());
    }

    fn plan(&mut self) -> Plan {
        let next = self.plans.pop_front();
        next.unwrap_or_else(|| self.otherwise.clone())
    }

    /// Notes a batch, and whether it may come now.
    fn take(&mut self, ticket: Ticket, batch: &Batch<'_>, now: Mono) -> Request {
        let mut request = Request {
            at: now,
            ticket,
            offsets: Vec::new(),
            times_ms: Vec::new(),
            bytes: 0,
        };
        for record in batch.iter() {
            // Ids are the times, but where these are put right.
            let id = match record.time_ms {
                WALL_KNOWN_MS.. => record.offset + 1,
                id => id,
            };
            if record.payload != payload(id) || record.key != key(id) {
                self.fault(format!("the record at {} changed", record.offset));
            }
            request.offsets.push(record.offset);
            request.times_ms.push(record.time_ms);
            request.bytes += record.key.len() + record.payload.len();
        }
        let (offsets, limits) = (&request.offsets, self.limits);
        if !offsets.is_sorted_by(|a, b| a < b) || offsets.is_empty() {
            self.fault(format!("{offsets:?} is no rising batch"));
        }
        if offsets.len() > limits.records_max as usize
            || request.bytes > limits.bytes_max as usize && offsets.len() > 1
        {
            self.fault("a batch is larger than the sink's limits");
        }
        if self.ticket >= Some(ticket) {
            self.fault("a ticket is used twice");
        }
        let keys: Vec<_> = batch.iter().map(|record| record.key.to_vec()).collect();
        if let Err(text) = self.may_come(&request.offsets, &keys) {
            let state = (self.ordering, self.lanes, self.gives_up, self.pending.len());
            let newest = self.newest.values().max();
            self.fault(format!(
                "{text}: {offsets:?}, {:?}, {newest:?}, {state:?}",
                self.open
            ));
        }
        // Sinks that block are given none.
        self.ticket = Some(ticket).filter(|ticket| *ticket != Ticket::default());
        for (offset, key) in request.offsets.iter().zip(keys) {
            let newest = self.newest.entry(key.clone()).or_default();
            *newest = (*newest).max(*offset);
            self.open.insert(*offset, key);
        }
        self.requests.push(request.clone());
        request
    }

    /// Whether the records may come now: none that is under way or was accepted, and what the order asks.
    fn may_come(&mut self, offsets: &[u64], keys: &[Vec<u8>]) -> Result<(), &'static str> {
        let under_way = || self.pending.iter().filter(|pending| !pending.is_abandoned);
        let count = under_way().count() + 1;
        if count > self.lanes {
            return Err("more batches than lanes");
        }
        let is_away = |offset: &u64| {
            under_way().any(|other| other.request.offsets.contains(offset))
                || self.silent.iter().any(|(_, other)| other == offset)
        };
        if offsets.iter().any(is_away) {
            return Err("a record that is under way");
        }
        self.in_flight = self.in_flight.max(count);
        let is_new =
            |offset: &u64, key: &Vec<u8>| self.newest.get(key).is_none_or(|newest| newest < offset);
        let newest = self.newest.values().max();
        let all_new = newest < offsets.first();
        let is_open = |offset: &u64| self.open.contains_key(offset);
        let failed: Vec<u64> = self
            .open
            .keys()
            .copied()
            .filter(|offset| !is_away(offset))
            .collect();
        let is_next = match (self.gives_up, self.lanes) {
            (true, _) => offsets.iter().all(|offset| failed.contains(offset)),
            (false, 1) => offsets == failed,
            // Each batch that failed by itself.
            (false, _) => failed.starts_with(offsets),
        };
        match self.ordering {
            // What failed and nothing else, alone; or what comes behind everything, and nothing has failed.
            Ordering::Stream if count == 1 && is_next => {}
            Ordering::Stream if all_new && (failed.is_empty() || self.gives_up) => {}
            Ordering::Stream => return Err("out of the stream's order"),
            // Nothing of the same key is left behind.
            Ordering::PerKey => {
                for (offset, key) in offsets.iter().zip(keys) {
                    if !is_open(offset) && !is_new(offset, key) {
                        return Err("a record comes after a later one of its key");
                    }
                    let mut before = self.open.range(..offset).filter(|(_, other)| *other == key);
                    if before.any(|(before, _)| !offsets.contains(before)) && !self.gives_up {
                        return Err("an earlier record of the same key is left behind");
                    }
                }
            }
            Ordering::None => {
                let was_accepted = |offset: &&u64| {
                    let since = self.first_accepted;
                    self.accepted[since..]
                        .iter()
                        .any(|(_, other)| other == *offset)
                };
                if offsets.iter().any(|offset| was_accepted(&offset)) {
                    return Err("a record that was accepted");
                }
            }
        }
        Ok(())
    }

    fn note(&mut self, offset: u64, say: Say, now: Mono) {
        if matches!(say, Say::Reject(_)) {
            self.open.remove(&offset);
            self.rejected.push(offset);
        }
        if say == Say::Accept {
            self.open.remove(&offset);
            self.accepted.push((now, offset));
        }
    }
}

fn outcome(say: Say) -> Option<Outcome<'static>> {
    match say {
        Say::Accept => Some(Outcome::Accepted),
        Say::Retry(after) => Some(Outcome::Retry(after)),
        Say::RetryThenAccept => Some(Outcome::Retry(None)),
        Say::Reject(reason) => Some(Outcome::Rejected(reason)),
        Say::Nothing => None,
    }
}

/// A panic without a message on the test's output.
fn panic_quietly() -> ! {
    resume_unwind(Box::new("as scripted"))
}

/// The engine's end.
pub struct Fake {
    script: Script,
    clock: Arc<SimClock>,
}

impl Sink for Fake {
    fn limits(&self) -> Limits {
        self.script.state().limits
    }

    fn start(&mut self, _waker: SinkWaker) {}

    fn submit(&mut self, ticket: Ticket, batch: &Batch<'_>) {
        let mut state = self.script.state();
        let plan = state.plan();
        let request = state.take(ticket, batch, self.clock.mono());
        if plan.panics == Some(Panics::Submit) {
            drop(state);
            panic_quietly();
        }
        state.pending.push(Pending {
            request,
            plan,
            polls: 0,
            is_abandoned: false,
        });
    }

    fn poll(&mut self, outcomes: &mut Outcomes) {
        let now = self.clock.mono();
        let mut state = self.script.state();
        state.polls += 1;
        let mut at = 0;
        while at < state.pending.len() {
            state.pending[at].polls += 1;
            if !state.pending[at].is_due(now) {
                at += 1;
                continue;
            }
            let pending = state.pending.remove(at);
            if report(&mut state, &pending, outcomes, now) {
                drop(state);
                panic_quietly();
            }
        }
    }

    fn abandon(&mut self, ticket: Ticket) {
        let mut state = self.script.state();
        state.abandoned.push(ticket);
        state.silent.retain(|(other, _)| *other != ticket);
        let mut panics = false;
        for pending in &mut state.pending {
            pending.is_abandoned |= pending.request.ticket == ticket;
            panics |= pending.is_abandoned && pending.plan.panics == Some(Panics::Abandon);
        }
        drop(state);
        if panics {
            panic_quietly();
        }
    }

    fn close(&mut self, _timeout: Duration) {
        self.script.state().closes += 1;
    }
}

/// Answers for a batch. True when it is to panic now.
fn report(state: &mut State, pending: &Pending, outcomes: &mut Outcomes, now: Mono) -> bool {
    let Pending { request, plan, .. } = pending;
    if let Some((link, error)) = plan.link {
        outcomes.set_link(link, error);
    }
    if plan.replaces {
        *outcomes = Outcomes::with_capacity(1);
        outcomes.expect(request.ticket, 1);
        outcomes.set(request.ticket, 0, Outcome::Accepted);
        return false;
    }
    if plan.strays {
        outcomes.set(request.ticket, request.offsets.len(), Outcome::Accepted);
        outcomes.set(request.ticket, usize::MAX, Outcome::Accepted);
        outcomes.set_all(Ticket::default(), Outcome::Accepted);
    }
    for (index, offset) in request.offsets.iter().enumerate() {
        let mut say = plan.says[index % plan.says.len()];
        let key = state.open.get(offset);
        if key.is_some_and(|key| state.bad_keys.contains(key)) || state.bad_offsets.contains(offset)
        {
            say = Say::Retry(None);
        }
        let Some(outcome) = outcome(say) else {
            if !pending.is_abandoned {
                state.silent.push((request.ticket, *offset));
            }
            continue;
        };
        outcomes.set(request.ticket, index, outcome);
        if say == Say::RetryThenAccept {
            outcomes.set(request.ticket, index, Outcome::Accepted);
        }
        match pending.is_abandoned {
            true => state.late.push(*offset),
            false => state.note(*offset, say, now),
        }
        if plan.panics == Some(Panics::Poll) {
            return true;
        }
    }
    false
}

/// The same script as a sink that blocks. Time does not matter to it.
impl BlockingSink for Fake {
    fn limits(&self) -> Limits {
        self.script.state().limits
    }

    fn deliver(&mut self, batch: &Batch<'_>, _timeout: Duration, answer: &mut Answer<'_>) {
        let now = self.clock.mono();
        let mut state = self.script.state();
        let plan = state.plan();
        let request = state.take(Ticket::default(), batch, now);
        if let Some((link, error)) = plan.link {
            answer.set_link(link, error);
        }
        for (index, offset) in request.offsets.iter().enumerate() {
            let say = plan.says[index % plan.says.len()];
            if let Some(outcome) = outcome(say) {
                answer.set(index, outcome);
                state.note(*offset, say, now);
            }
            if plan.panics.is_some() {
                drop(state);
                panic_quietly();
            }
        }
    }

    fn close(&mut self, _timeout: Duration) {
        self.script.state().closes += 1;
    }
}
