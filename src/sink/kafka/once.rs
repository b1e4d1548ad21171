//! Batches as transactions, so that readers of what is committed get each record once.
//!
//! ```text
//!  open    take the id over, which commits or takes back what the last life left ──▶ read the place
//!  batch   begin ──▶ records from the place on ──▶ the place behind them ──▶ commit ──▶ accepted
//! ```
//!
//! The place is an offset that Kafka keeps for a group named after the cursor, and it is committed together
//! with the records before it. Whatever became of a transaction whose end was not heard: the place says it.
//! So records before the place are accepted without being sent, and no others. A record that is given up
//! has its dead letter before the place passes it.
//!
//! **Invariants.** Batches come in the order of the log, one at a time, and records of a later one only when
//! those of an earlier one are settled: else the place would pass a gap. The configuration sees to that.
//! **Threads.** One lane delivers. No call of the client waits longer than [`SLICE`]: between two the lane
//! looks whether the link is down, its time is over, or the sink ends.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use super::client::{Client, Committed, Failure, Then, describe};
use super::codes::{self, Verdict};
use super::message::{Origin, message};
use super::producer::{Ending, Heard, Producer};
use super::quiet::Quiet;
use super::{AGAIN_AFTER, BYTES_MAX, CAREFUL_TIME, Options, RECORDS_MAX, settings};
use crate::clock::{Clock, Mono};
use crate::error::{Code, Error, Result};
use crate::sink::{
    Answer, Batch, BlockingSink, Lanes, Limits, Link, Outcome, Outcomes, Sink, SinkWaker, Ticket,
};
use crate::watermark::seam::park;

mod trouble;

use trouble::{Left, PURGED, Trouble, taken_over};

/// The longest that a call of the client waits, in milliseconds.
const SLICE: i32 = 500;
/// Between two calls of which the first said at once that it is too early.
const PAUSE: Duration = Duration::from_millis(50);

/// How much haste there is: none; what does not work is given up; everything is.
const NONE: u8 = 0;
const STOPPING: u8 = 1;
const CLOSING: u8 = 2;

/// Delivers to a topic by transactions.
pub struct ExactlyOnce {
    lanes: Lanes,
    haste: Arc<AtomicU8>,
}

impl ExactlyOnce {
    /// Checks the settings and starts a thread. The client is made when the first batch comes, which says
    /// which store it is of.
    pub fn new(options: Options, cursor: &str, clock: Arc<dyn Clock>) -> Result<Self> {
        let failed = |text: String| Error::text(Code::Sink, "open kafka sink", text);
        let tried = settings(&options, false, Some("forebay")).map_err(failed)?;
        drop(Client::new(tried, options.topic.reveal()).map_err(failed)?);
        let haste = Arc::new(AtomicU8::new(NONE));
        let lane = Transactions {
            quiet: Quiet::new(Arc::clone(&clock)),
            options,
            cursor: cursor.to_owned(),
            clock,
            haste: Arc::clone(&haste),
            run: RandomState::new().build_hasher().finish(),
            session: None,
            ending: None,
            careful_until: None,
            has_committed: false,
            is_taken_over: false,
            next_number: 0,
        };
        let lanes = Lanes::new(vec![lane]);
        let lanes = lanes.map_err(|error| Error::io("start a sink's lane", error))?;
        Ok(Self { lanes, haste })
    }
}

impl Sink for ExactlyOnce {
    fn limits(&self) -> Limits {
        self.lanes.limits()
    }

    fn start(&mut self, waker: SinkWaker) {
        self.lanes.start(waker);
    }

    fn submit(&mut self, ticket: Ticket, batch: &Batch<'_>) {
        self.lanes.submit(ticket, batch);
    }

    fn poll(&mut self, outcomes: &mut Outcomes) {
        self.lanes.poll(outcomes);
    }

    fn abandon(&mut self, ticket: Ticket) {
        self.lanes.abandon(ticket);
    }

    fn stop(&mut self) {
        self.haste.fetch_max(STOPPING, Ordering::Relaxed);
        self.lanes.stop();
    }

    fn close(&mut self, timeout: Duration) {
        self.haste.fetch_max(CLOSING, Ordering::Relaxed);
        self.lanes.close(timeout);
    }
}

/// The lane.
struct Transactions {
    options: Options,
    cursor: String,
    clock: Arc<dyn Clock>,
    quiet: Quiet,
    haste: Arc<AtomicU8>,
    /// Tells this instance from others that have the same id.
    run: u64,
    session: Option<Session>,
    ending: Option<Ending>,
    /// Until then clients that are made send each record in a request of its own.
    careful_until: Option<Mono>,
    /// The place was committed by this instance.
    has_committed: bool,
    /// Another instance has committed since.
    is_taken_over: bool,
    next_number: u32,
}

/// A client that has the id, or is about to take it over.
struct Session {
    producer: Producer,
    heard: Heard,
    /// The id of its transactions, and the name of the group.
    id: String,
    /// Which store, and which epoch of it, the place is of.
    source: String,
    /// What comes next; `None`: it is not known yet.
    place: Option<u64>,
    is_careful: bool,
}

impl BlockingSink for Transactions {
    fn limits(&self) -> Limits {
        Limits {
            records_max: RECORDS_MAX,
            bytes_max: BYTES_MAX,
            letters_first: true,
            answer_timeout: self.options.answer_timeout,
            ..Limits::default()
        }
    }

    fn deliver(&mut self, batch: &Batch<'_>, timeout: Duration, answer: &mut Answer<'_>) {
        let until = self.clock.mono().plus(timeout);
        match self.transact(batch, until, answer) {
            Ok(()) => {
                answer.set_link(Link::Ok, "");
                answer.accept_rest();
            }
            Err(trouble) => {
                if trouble.is_over {
                    self.retire(&trouble.text);
                }
                if let Some(link) = trouble.link {
                    answer.set_link(link, &trouble.text);
                }
                answer.retry_rest(trouble.after);
            }
        }
    }

    fn close(&mut self, timeout: Duration) {
        if let Some(session) = self.session.take() {
            self.ending = Some(session.producer.retire());
        }
        if let Some(ending) = self.ending.take()
            && !ending.wait(timeout)
        {
            let text = "the client did not end in time";
            self.quiet.say(log::Level::Warn, text);
        }
    }
}

impl Transactions {
    /// Delivers what lies at the place or behind it, and moves the place. What was refused is answered for;
    /// when this succeeds, the rest is accepted.
    fn transact(
        &mut self,
        batch: &Batch<'_>,
        until: Mono,
        answer: &mut Answer<'_>,
    ) -> Result<(), Trouble> {
        if self.is_taken_over {
            return Err(taken_over());
        }
        self.open(batch)?;
        let place = self.take_over(until)?;
        let Some(session) = &mut self.session else {
            return Err(Trouble::own(None, "there is no client".to_owned()));
        };
        session.producer.forget_trouble();
        session.producer.take(&mut session.heard);
        session.heard.reports.clear();
        let end = batch.offsets().end;
        if end <= place {
            return Ok(());
        }
        let first = self.next_number;
        let count = u32::try_from(batch.len()).unwrap_or(u32::MAX);
        self.next_number = first.wrapping_add(count);
        let client = session.producer.client();
        client
            .begin_transaction()
            .map_err(|failure| Trouble::of(&failure, "begin a transaction"))?;
        let (mut refused, mut origin) = (Vec::new(), Origin::of(batch));
        for (index, record) in batch.iter().enumerate() {
            if record.offset < place {
                continue;
            }
            let number = first.wrapping_add(u32::try_from(index).unwrap_or(u32::MAX));
            let headers = origin.headers(&record);
            if let Err(code) = client.produce(&message(&record, number), headers) {
                match codes::verdict(code) {
                    Verdict::Refused => refused.push((index, code)),
                    Verdict::Broken => return Err(Trouble::own(None, describe(code))),
                    Verdict::Again(link) => {
                        return Err(Trouble::own(Some(link), describe(code)));
                    }
                }
            }
        }
        let committed = Committed {
            offset: i64::try_from(end).unwrap_or(i64::MAX),
            text: format!("{} {:016x}", session.source, self.run),
        };
        // What is refused has to be settled before the place passes it.
        if refused.is_empty() {
            let id = session.id.clone();
            let done = self
                .step(until, |client| client.send_offset(&id, &committed, SLICE))
                .and_then(|()| self.step(until, |client| client.commit_transaction(SLICE)));
            match done {
                Ok(()) => {
                    self.has_committed = true;
                    if let Some(session) = &mut self.session {
                        session.place = Some(end);
                    }
                    return Ok(());
                }
                Err(Left::Failed(failure)) if failure.then == Then::Abort => {
                    let trouble = Trouble::of(&failure, "the transaction");
                    return Err(self.take_back(trouble, first, until, answer));
                }
                Err(left) => return Err(left.trouble("the transaction")),
            }
        }
        for (index, code) in &refused {
            answer.set(*index, Outcome::Rejected(&describe(*code)));
        }
        match self.step(until, |client| client.abort_transaction(SLICE)) {
            Ok(()) => Err(Trouble {
                link: None,
                text: String::new(),
                is_over: false,
                after: Some(Duration::ZERO),
            }),
            Err(left) => Err(left.trouble("take the transaction back")),
        }
    }

    /// Takes a transaction back, and answers for records that the brokers have refused.
    fn take_back(
        &mut self,
        mut trouble: Trouble,
        first: u32,
        until: Mono,
        answer: &mut Answer<'_>,
    ) -> Trouble {
        let aborted = self.step(until, |client| client.abort_transaction(SLICE));
        trouble.is_over = aborted.is_err();
        let Some(session) = &mut self.session else {
            return trouble;
        };
        let mut heard = Heard::default();
        session.producer.take(&mut heard);
        session.heard.reports.append(&mut heard.reports);
        for (number, code) in &session.heard.reports {
            match codes::verdict(*code) {
                _ if *code == 0 || PURGED.contains(code) => {}
                Verdict::Refused if session.is_careful => {
                    let index = number.wrapping_sub(first) as usize;
                    answer.set(index, Outcome::Rejected(&describe(*code)));
                    (trouble.link, trouble.after) = (None, Some(Duration::ZERO));
                }
                Verdict::Refused => {
                    self.careful_until = Some(self.clock.mono().plus(CAREFUL_TIME));
                    trouble = Trouble::own(
                        None,
                        format!(
                            "{}: records go one by one for ten minutes, so that the refused ones are found",
                            describe(*code)
                        ),
                    );
                    break;
                }
                Verdict::Broken => trouble.is_over = true,
                Verdict::Again(link) => {
                    (trouble.link, trouble.text) = (Some(link), describe(*code));
                }
            }
        }
        session.heard.reports.clear();
        trouble
    }

    /// Makes a client when there is none, or when the last one was of another store or is not to go on.
    fn open(&mut self, batch: &Batch<'_>) -> Result<(), Trouble> {
        let source = format!("{} {}", batch.store(), batch.epoch());
        let now = self.clock.mono();
        if self.careful_until.is_some_and(|until| now >= until) {
            self.careful_until = None;
            self.retire("records go together again");
        }
        if let Some(session) = &self.session
            && session.source != source
        {
            self.has_committed = false;
            self.retire("the store is another one");
        }
        if self.session.is_some() {
            return Ok(());
        }
        if let Some(ending) = &self.ending
            && !ending.wait(Duration::from_secs(1))
        {
            let text = "the last client has not ended yet".to_owned();
            let after = Some(AGAIN_AFTER);
            return Err(Trouble {
                after,
                ..Trouble::own(None, text)
            });
        }
        self.ending = None;
        let id = format!(
            "forebay-{}-{}-{}",
            batch.store(),
            batch.stream(),
            self.cursor
        );
        let is_careful = self.careful_until.is_some();
        let made = settings(&self.options, is_careful, Some(&id));
        let made = made.and_then(|settings| {
            Producer::new(settings, self.options.topic.reveal(), self.quiet.clone())
        });
        self.session = Some(Session {
            producer: made.map_err(|text| Trouble::own(Some(Link::Config), text))?,
            heard: Heard::default(),
            id,
            source,
            place: None,
            is_careful,
        });
        Ok(())
    }

    /// Takes the id over and reads the place, unless that was done.
    fn take_over(&mut self, until: Mono) -> Result<u64, Trouble> {
        let Some(session) = &self.session else {
            return Err(Trouble::own(None, "there is no client".to_owned()));
        };
        if let Some(place) = session.place {
            return Ok(place);
        }
        let (id, source) = (session.id.clone(), session.source.clone());
        self.step(until, |client| client.init_transactions(SLICE))
            .map_err(|left| left.unbegun("take the transactional id over"))?;
        let mut found = None;
        self.step(until, |client| {
            found = client.committed(&id, SLICE)?;
            Ok(())
        })
        .map_err(|left| left.unbegun("ask for the place"))?;
        let mut place = 0;
        if let Some(Committed { offset, text }) = found
            && let Some((of, run)) = text.rsplit_once(' ')
            && of == source
        {
            let is_ours = run == format!("{:016x}", self.run);
            if self.has_committed && !is_ours {
                self.is_taken_over = true;
                let trouble = taken_over();
                self.quiet.say(log::Level::Error, &trouble.text);
                return Err(trouble);
            }
            place = u64::try_from(offset).unwrap_or_default();
            let text = format!("\"{id}\" goes on from offset {place}");
            self.quiet.say(log::Level::Info, &text);
        }
        if let Some(session) = &mut self.session {
            session.place = Some(place);
        }
        Ok(place)
    }

    /// Makes a step, again and again while it says that it goes on.
    fn step(
        &mut self,
        until: Mono,
        mut step: impl FnMut(&Client) -> Result<(), Failure>,
    ) -> Result<(), Left> {
        loop {
            let Some(session) = &mut self.session else {
                return Err(Left::Over("there is no client".to_owned()));
            };
            let before = self.clock.mono();
            let failure = match step(session.producer.client()) {
                Ok(()) => return Ok(()),
                Err(failure) if failure.then == Then::GoOn => failure,
                Err(failure) => return Err(Left::Failed(failure)),
            };
            // Reports are kept: they tell which records were refused.
            let mut heard = Heard::default();
            session.producer.take(&mut heard);
            session.heard.reports.append(&mut heard.reports);
            if let Some(why) = heard.broken {
                return Err(Left::Over(why));
            }
            if let Some((link, text)) = heard.trouble {
                return Err(Left::Down(link, text));
            }
            let now = self.clock.mono();
            let is_given_up = match self.haste.load(Ordering::Relaxed) {
                NONE => now >= until,
                STOPPING => now >= until || session.place.is_none(),
                _ => true,
            };
            if is_given_up {
                return Err(Left::Failed(failure));
            }
            if now < before.plus(PAUSE) {
                park(Some(PAUSE));
            }
        }
    }

    /// Ends the client. Another is made for the next batch.
    fn retire(&mut self, why: &str) {
        if let Some(session) = self.session.take() {
            let text = format!("the client is ended, and another one made: {why}");
            self.quiet.say(log::Level::Warn, &text);
            self.ending = Some(session.producer.retire());
        }
    }
}
