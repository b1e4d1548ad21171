//! A sink that does what a script says, and notes what it was given.
//!
//! The [`Script`] is the test's end of it and the far side's memory: it outlives the sink, as a service
//! outlives the process that sends to it. What breaks a promise to sinks is noted, and told by
//! [`Script::check`]: a panic in here would be taken for a retry.

use std::collections::{BTreeSet, VecDeque};
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use forebay::clock::{Clock, Mono};
use forebay::sink::{
    Answer, Batch, BlockingSink, Limits, Link, Outcome, Outcomes, Sink, SinkWaker, Ticket,
};

use super::clock::SimClock;
use super::session::payload;

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
    /// Offsets that this run submitted, and that were not accepted.
    open: BTreeSet<u64>,
    /// The greatest offset that this run submitted.
    newest: Option<u64>,
    ticket: Option<Ticket>,
    pub requests: Vec<Request>,
    /// What was accepted, and when; of all runs.
    pub accepted: Vec<(Mono, u64)>,
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
            open: BTreeSet::new(),
            newest: None,
            ticket: None,
            requests: Vec::new(),
            accepted: Vec::new(),
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
        state.newest = None;
        state.ticket = None;
        drop(state);
        Fake {
            script: self.clone(),
            clock: clock.clone(),
        }
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

    /// Notes a batch, and whether it may come now: everything that is open and nothing else, or, when
    /// nothing is, what comes behind all that came before.
    fn take(&mut self, ticket: Ticket, batch: &Batch<'_>, now: Mono) -> Request {
        let mut request = Request {
            at: now,
            ticket,
            offsets: Vec::new(),
            bytes: 0,
        };
        for record in batch.iter() {
            if record.payload != payload(record.time_ms) || record.key != b"key" {
                self.fault(format!("the record at {} changed", record.offset));
            }
            request.offsets.push(record.offset);
            request.bytes += record.key.len() + record.payload.len();
        }
        let (offsets, limits) = (&request.offsets, self.limits);
        let rises = offsets.is_sorted_by(|a, b| a < b);
        let is_same = self.open.iter().eq(offsets);
        let is_new =
            (self.open.is_empty() || self.gives_up) && self.newest < offsets.first().copied();
        if !rises || offsets.is_empty() || !(is_same || is_new) {
            let open = &self.open;
            let text = format!("{offsets:?} comes while {open:?} is open");
            self.fault(text);
        }
        if offsets.len() > limits.records_max as usize
            || request.bytes > limits.bytes_max as usize && offsets.len() > 1
        {
            self.fault("a batch is larger than the sink's limits");
        }
        if self.ticket >= Some(ticket) {
            self.fault("a ticket is used twice");
        }
        if self.pending.iter().any(|pending| !pending.is_abandoned) {
            self.fault("a second batch comes while one is under way");
        }
        // Sinks that block are given none.
        if is_new {
            self.open.clear();
        }
        self.ticket = Some(ticket).filter(|ticket| *ticket != Ticket::default());
        self.newest = self.newest.max(request.offsets.last().copied());
        self.open.extend(&request.offsets);
        self.requests.push(request.clone());
        request
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
        let say = plan.says[index % plan.says.len()];
        let Some(outcome) = outcome(say) else {
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
