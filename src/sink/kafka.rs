//! Records to a topic of Kafka, by librdkafka.
//!
//! ```text
//!  submit ──▶ produce, record by record ──▶ librdkafka ══▶ brokers
//!                                               │
//!  poll ◀── outcomes ◀── reports by number ◀── its thread here
//! ```
//!
//! The client keeps what it was given and sends it in order, through losses of brokers and links, for as
//! long as it lives: it never gives a record up by itself (`message.timeout.ms=0`). The log in front of
//! it is the only queue, so it never has more than the batches that are under way. When it has not answered
//! for a batch in time, or says that it can do no more, it is ended, and all that it had is sent again by a
//! new one; what the brokers had taken and not confirmed is then there twice, in the order of the log.
//!
//! A record that brokers refuse may stand in one request with others, and all of them are refused. Then a
//! client takes over that sends each record in a request of its own, so that the refused one is found.
//!
//! **Invariants.** A record is accepted only after the report that all brokers which must have it have it.
//! Reports of an ended client are never looked at.

use std::sync::Arc;
use std::time::Duration;

use super::text::Text;
use super::{Batch, Limits, Link, Outcome, Outcomes, Sink, SinkWaker, Ticket};
use crate::clock::{Clock, Mono};
use crate::error::{Code, Error, Result};

mod client;
mod codes;
mod message;
mod once;
mod producer;
mod quiet;

pub use once::ExactlyOnce;

use client::{ErrorCode, Settings, describe};
use codes::Verdict;
use message::{Origin, message};
use producer::{Ending, Heard, Producer};
use quiet::Quiet;

/// What a `kafka` sink is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Hosts and ports, separated by commas: where to ask for the brokers.
    pub bootstrap_servers: Text,
    /// The topic.
    pub topic: Text,
    /// Properties of the client. They win over ours.
    pub properties: Vec<(String, Text)>,
    /// Batches go as transactions, with the cursor's place among them: see [`ExactlyOnce`].
    pub is_exactly_once: bool,
    /// After so long without an answer for a batch, the client is ended, and another made.
    pub answer_timeout: Duration,
}

/// The most batches that are under way at once.
const IN_FLIGHT_MAX: u32 = 8;
/// The most records in a batch.
const RECORDS_MAX: u32 = 10_000;
/// The most bytes in a batch.
const BYTES_MAX: u32 = 4 << 20;

/// What we set before the user's properties. Of the client's queue, more than all batches need.
const DEFAULTS: [(&str, &str); 7] = [
    ("client.id", "forebay"),
    ("acks", "all"),
    ("enable.idempotence", "true"),
    ("message.timeout.ms", "0"),
    ("queue.buffering.max.messages", "100000"),
    ("queue.buffering.max.kbytes", "65536"),
    ("log.connection.close", "false"),
];

/// Properties that would break a promise of the sink, and why.
const REFUSED: [(&str, &str); 3] = [
    ("transactional.id", "\"exactlyOnce\": true sets it"),
    (
        "delivery.report.only.error",
        "without reports nothing would ever be accepted",
    ),
    (
        "enabled_events",
        "the sink itself says what it has to hear of",
    ),
];

/// For so long records go one by one after some were refused.
const CAREFUL_TIME: Duration = Duration::from_secs(600);
/// When the old client is still there, the next one is made after so long.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Checks a property: the error names it.
pub fn check_property(name: &str, value: &Text) -> Result<(), String> {
    let refused = REFUSED.iter().find(|(refused, _)| *refused == name);
    if let Some((_, why)) = refused {
        return Err(format!("the property \"{name}\": {why}"));
    }
    Settings::new().set(name, value.reveal()).map_err(|error| {
        // The client's words repeat the value.
        if value.is_secret() {
            format!("the property \"{name}\" does not take this value")
        } else {
            error
        }
    })
}

/// What to mind about a property that may be set.
pub fn warning(name: &str, value: &str) -> Option<&'static str> {
    match (name, value) {
        ("message.timeout.ms" | "delivery.timeout.ms", value) if value != "0" => Some(
            "the client gives records up after this time, and later ones may arrive before they are \
             sent again",
        ),
        ("acks" | "request.required.acks", "0" | "1") => {
            Some("records are accepted that a failing broker may lose")
        }
        ("enable.idempotence", "false") => {
            Some("after a lost connection records may arrive twice, and out of order")
        }
        _ => None,
    }
}

/// Whether there are no transactions with a property.
pub fn rules_transactions_out(name: &str, value: &str) -> bool {
    match name {
        "acks" | "request.required.acks" => !["all", "-1"].contains(&value),
        "enable.idempotence" => value != "true",
        // A transaction has an end of its own, which no message may outlive.
        "message.timeout.ms" | "delivery.timeout.ms" => true,
        _ => false,
    }
}

/// Delivers to a topic.
pub struct Kafka {
    options: Options,
    clock: Arc<dyn Clock>,
    quiet: Quiet,
    waker: Option<SinkWaker>,
    limits: Limits,
    producer: Option<Producer>,
    /// The client sends each record in a request of its own.
    is_careful: bool,
    ending: Option<Ending>,
    /// Until then clients that are made are careful.
    careful_until: Option<Mono>,
    under_way: Vec<UnderWay>,
    next_number: u32,
    heard: Heard,
    /// Records that the client did not take when they were handed over.
    not_taken: Vec<producer::Report>,
    /// Why all that is under way has to be sent again.
    give_up: Option<String>,
    /// Nothing can be delivered, as far as it is known.
    is_down: bool,
    /// It is to end: what is under way is not waited for while nothing can be delivered.
    is_stopping: bool,
}

/// A batch that is with the client.
struct UnderWay {
    ticket: Ticket,
    first: u32,
    count: u32,
    waiting: u32,
}

impl Kafka {
    /// Checks the settings and starts the client, which connects by itself: brokers need not be there.
    pub fn new(options: Options, clock: Arc<dyn Clock>) -> Result<Self> {
        let failed = |text: String| Error::text(Code::Sink, "open kafka sink", text);
        let quiet = Quiet::new(Arc::clone(&clock));
        let settings = settings(&options, false, None).map_err(failed)?;
        let value = |name| settings.value(name).unwrap_or_default();
        let one_request = value("max.in.flight.requests.per.connection") == "1";
        let limits = Limits {
            records_max: RECORDS_MAX,
            bytes_max: BYTES_MAX,
            in_flight_max: IN_FLIGHT_MAX,
            keeps_order: value("enable.idempotence") == "true" || one_request,
            answer_timeout: options.answer_timeout,
            ..Limits::default()
        };
        let producer = Producer::new(settings, options.topic.reveal(), quiet.clone());
        Ok(Self {
            options,
            clock,
            quiet,
            waker: None,
            limits,
            producer: Some(producer.map_err(failed)?),
            is_careful: false,
            ending: None,
            careful_until: None,
            under_way: Vec::with_capacity(IN_FLIGHT_MAX as usize),
            next_number: 0,
            heard: Heard::default(),
            not_taken: Vec::new(),
            give_up: None,
            is_down: false,
            is_stopping: false,
        })
    }

    /// The client; a new one when there is none, and the last one has ended.
    fn producer(&mut self) -> Option<&Producer> {
        if self.producer.is_none() {
            if let Some(ending) = &self.ending
                && !ending.wait(Duration::ZERO)
            {
                return None;
            }
            self.ending = None;
            self.is_careful = self.careful_until.is_some();
            let made = settings(&self.options, self.is_careful, None);
            let made = made.and_then(|settings| {
                Producer::new(settings, self.options.topic.reveal(), self.quiet.clone())
            });
            match made {
                Ok(producer) => {
                    if let Some(waker) = &self.waker {
                        producer.set_waker(waker.clone());
                    }
                    self.producer = Some(producer);
                }
                Err(error) => self.quiet.say(log::Level::Error, &error),
            }
        }
        self.producer.as_ref()
    }

    /// Ends the client. Another is made when it is needed.
    fn retire(&mut self) {
        if let Some(producer) = self.producer.take() {
            self.ending = Some(producer.retire());
        }
        self.under_way.clear();
        self.heard = Heard::default();
    }

    /// Goes back to full requests when that was put off for long enough.
    fn relax(&mut self) {
        let now = self.clock.mono();
        if self.under_way.is_empty() && self.careful_until.is_some_and(|until| now >= until) {
            self.careful_until = None;
            self.retire();
        }
    }

    /// Notes the report of a record.
    fn settle(&mut self, (number, code): producer::Report, outcomes: &mut Outcomes) {
        let is_of =
            |batch: &UnderWay| number.wrapping_sub(batch.first) < batch.count && batch.waiting > 0;
        let Some(at) = self.under_way.iter().position(is_of) else {
            return;
        };
        let batch = &mut self.under_way[at];
        let index = number.wrapping_sub(batch.first) as usize;
        batch.waiting -= 1;
        let ticket = batch.ticket;
        if batch.waiting == 0 {
            self.under_way.remove(at);
        }
        if code == 0 {
            outcomes.set(ticket, index, Outcome::Accepted);
            return;
        }
        match codes::verdict(code) {
            Verdict::Refused if self.is_careful => {
                outcomes.set(ticket, index, Outcome::Rejected(&describe(code)));
                return;
            }
            Verdict::Refused => {
                let until = self.clock.mono().plus(CAREFUL_TIME);
                self.careful_until = Some(until);
                let text = format!(
                    "{}: records go one by one for ten minutes, so that the refused ones are found; if \
                     it says that again and again, set \"batch.size\" below the topic's \
                     \"max.message.bytes\"",
                    describe(code)
                );
                self.give_up = Some(text);
            }
            Verdict::Broken => self.give_up = Some(describe(code)),
            Verdict::Again(link) => {
                let text = describe(code);
                outcomes.set_link(link, &text);
                self.give_up = Some(text);
            }
        }
        outcomes.set(ticket, index, Outcome::Retry(None));
    }

    /// All that is under way is to be sent again, by a new client.
    fn start_anew(&mut self, why: &str, outcomes: &mut Outcomes) {
        let text = format!("the client is ended, and another one made: {why}");
        self.quiet.say(log::Level::Warn, &text);
        for batch in &self.under_way {
            outcomes.set_all(batch.ticket, Outcome::Retry(None));
        }
        self.retire();
    }
}

impl Sink for Kafka {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn start(&mut self, waker: SinkWaker) {
        if let Some(producer) = &self.producer {
            producer.set_waker(waker.clone());
        }
        self.waker = Some(waker);
    }

    fn submit(&mut self, ticket: Ticket, batch: &Batch<'_>) {
        self.relax();
        if let Some(producer) = self.producer.as_ref().filter(|_| self.under_way.is_empty()) {
            // Brokers close connections that are not used.
            producer.forget_trouble();
        }
        let first = self.next_number;
        let count = u32::try_from(batch.len()).unwrap_or(u32::MAX);
        self.next_number = first.wrapping_add(count);
        self.under_way.push(UnderWay {
            ticket,
            first,
            count,
            waiting: count,
        });
        // Behind a record that was not taken none may be, until the exporter knows of it.
        let mut refusal = match self.not_taken.last() {
            Some((_, code)) if codes::verdict(*code) != Verdict::Refused => Some(*code),
            _ => None,
        };
        if self.give_up.is_some() || self.producer().is_none() {
            refusal = Some(NO_CLIENT);
        }
        let mut origin = Origin::of(batch);
        for (index, record) in (0..count).zip(batch.iter()) {
            let number = first.wrapping_add(index);
            let taken = match (refusal, &self.producer) {
                (Some(code), _) => Err(code),
                (None, Some(producer)) => {
                    producer.produce(&message(&record, number), origin.headers(&record))
                }
                (None, None) => Err(NO_CLIENT),
            };
            if let Err(code) = taken {
                self.not_taken.push((number, code));
                if codes::verdict(code) != Verdict::Refused {
                    refusal = Some(code);
                }
            }
        }
    }

    fn poll(&mut self, outcomes: &mut Outcomes) {
        let mut heard = std::mem::take(&mut self.heard);
        if let Some(producer) = &self.producer {
            producer.take(&mut heard);
        }
        for report in heard.reports.drain(..) {
            self.settle(report, outcomes);
        }
        self.heard = heard;
        self.settle_not_taken(outcomes);
        if std::mem::take(&mut self.heard.works) && self.give_up.is_none() {
            self.is_down = false;
            outcomes.set_link(Link::Ok, "");
        }
        // What somebody has to act on is told when something is to be delivered.
        let is_idle = self.under_way.is_empty();
        let trouble = &mut self.heard.trouble;
        if let Some((link, text)) = trouble.take_if(|(link, _)| !is_idle || *link == Link::Down)
            && !is_idle
        {
            self.is_down = true;
            outcomes.set_link(link, &text);
        }
        if self.is_stopping && self.is_down {
            self.give_up
                .get_or_insert_with(|| "it is to end".to_owned());
        }
        if let Some(why) = self.heard.broken.take() {
            self.give_up = Some(why);
        }
        if let Some(why) = self.give_up.take() {
            self.start_anew(&why, outcomes);
        }
    }

    fn abandon(&mut self, ticket: Ticket) {
        // The rest of what is under way is told at the next poll.
        if self.under_way.iter().any(|batch| batch.ticket == ticket) {
            self.under_way.retain(|batch| batch.ticket != ticket);
            let text = format!("no answer within {:?}", self.options.answer_timeout);
            self.give_up = Some(text);
        }
    }

    fn stop(&mut self) {
        self.is_stopping = true;
    }

    fn close(&mut self, timeout: Duration) {
        self.retire();
        if let Some(ending) = self.ending.take()
            && !ending.wait(timeout)
        {
            self.quiet
                .say(log::Level::Warn, "the client did not end in time");
        }
    }
}

impl Kafka {
    /// Answers for what the client did not take. None of it is with the brokers.
    fn settle_not_taken(&mut self, outcomes: &mut Outcomes) {
        for (number, code) in std::mem::take(&mut self.not_taken) {
            let is_of = |batch: &UnderWay| number.wrapping_sub(batch.first) < batch.count;
            let Some(at) = self.under_way.iter().position(is_of) else {
                continue;
            };
            let batch = &mut self.under_way[at];
            let (ticket, index) = (batch.ticket, number.wrapping_sub(batch.first) as usize);
            batch.waiting -= 1;
            if batch.waiting == 0 {
                self.under_way.remove(at);
            }
            match codes::verdict(code) {
                Verdict::Refused => {
                    outcomes.set(ticket, index, Outcome::Rejected(&describe(code)));
                }
                Verdict::Broken => {
                    self.give_up = Some(describe(code));
                    outcomes.set(ticket, index, Outcome::Retry(None));
                }
                Verdict::Again(link) => {
                    if code != NO_CLIENT {
                        outcomes.set_link(link, &describe(code));
                    }
                    outcomes.set(ticket, index, Outcome::Retry(Some(AGAIN_AFTER)));
                }
            }
        }
    }
}

/// The old client has not ended yet: as if the client were being destroyed.
const NO_CLIENT: ErrorCode = -197;

/// The settings of a client; with an id for its transactions, if it is to make some.
fn settings(options: &Options, is_careful: bool, id: Option<&str>) -> Result<Settings, String> {
    let mut settings = Settings::new();
    for (name, value) in DEFAULTS {
        // A transaction has an end of its own, and what it had is sent again after it.
        if id.is_none() || name != "message.timeout.ms" {
            settings.set(name, value)?;
        }
    }
    if let Some(id) = id {
        settings.set("transactional.id", id)?;
    }
    settings.set("bootstrap.servers", options.bootstrap_servers.reveal())?;
    for (name, value) in &options.properties {
        check_property(name, value)?;
        settings.set(name, value.reveal())?;
    }
    if is_careful {
        settings.set("batch.num.messages", "1")?;
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `G-016`: what librdkafka says of a value repeats it, which is not for secrets.
    #[test]
    fn an_error_about_a_secret_does_not_show_it() {
        let open = check_property("acks", &Text::open("hunter2-all")).unwrap_err();
        let secret = check_property("acks", &Text::secret("hunter2-all")).unwrap_err();
        assert!(open.contains("acks"), "{open}");
        assert!(
            secret.contains("acks") && !secret.contains("hunter2"),
            "{secret}"
        );
    }
}
