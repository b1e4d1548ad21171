//! From bytes that a source gave to a record in a stream: fields, bounds, counts, and what is said of it.
//!
//! **Threads.** One has it: the input's.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::fields::{Fields, Found, Origin};
use super::lines::{LineRecord, text};
use super::{Field, Progress};
use crate::clock::{Clock, Mono, System, WALL_KNOWN_MS};
use crate::config::json::{Object, quoted};
use crate::config::resolve::Resolver;
use crate::engine::Stream;
use crate::error::{Code, Error, Result};
use crate::record::{Record, Source};

/// While there is no room, a source that can wait is tried again after so long; the pause doubles.
const FULL_PAUSE: Duration = Duration::from_millis(5);
const FULL_PAUSE_MAX: Duration = Duration::from_millis(100);
/// Of each reason one line is said in this time.
const SAY_EVERY: Duration = Duration::from_secs(10);
/// So much of a record is said.
const SHOWN_MAX: usize = 60;
/// A source that failed is tried again after so long; the pause doubles.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(10);

/// What becomes of a record that is not as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Odd {
    Keep,
    Now,
    Drop,
}

/// What an input is told of all its records.
#[derive(Clone, Debug)]
pub struct Options {
    fields: Fields,
    /// Payloads are lines as the `file` sink writes them.
    is_json: bool,
    record_len_max: Option<u32>,
    /// 0: any number.
    records_per_sec_max: u32,
    on_malformed: Odd,
    on_early: Odd,
}

impl Options {
    /// Reads them from an input's object. `has_topic`: see [`Fields::read`].
    pub fn read(object: &mut Object<'_>, resolver: &Resolver<'_>, has_topic: bool) -> Result<Self> {
        let fields = Fields::read(object, resolver, has_topic)?;
        let words = [("raw", false), ("ndjson", true)];
        let format = object.take_set("format");
        let is_json = format.map_or(Ok(false), |node| node.word(&words))?;
        let len = object.take_set("maxRecordBytes");
        let record_len_max = len.map(|node| node.number32(1..=1 << 20)).transpose()?;
        let rate = object.take_set("maxRecordsPerSec");
        let records_per_sec_max = rate.map_or(Ok(0), |node| node.number32(0..=10_000_000))?;
        let words = [("keep", Odd::Keep), ("drop", Odd::Drop)];
        let odd = object.take_set("onMalformed");
        let on_malformed = odd.map_or(Ok(Odd::Keep), |node| node.word(&words))?;
        let words = [("keep", Odd::Keep), ("now", Odd::Now), ("drop", Odd::Drop)];
        let odd = object.take_set("onEarly");
        let on_early = odd.map_or(Ok(Odd::Keep), |node| node.word(&words))?;
        Ok(Self {
            fields,
            is_json,
            record_len_max,
            records_per_sec_max,
            on_malformed,
            on_early,
        })
    }

    /// As they stand in a configuration.
    pub fn to_json(&self) -> Vec<Field> {
        let Self {
            fields,
            is_json,
            record_len_max,
            records_per_sec_max,
            on_malformed,
            on_early,
        } = self;
        let odd = |odd: &Odd| match odd {
            Odd::Keep => quoted("keep"),
            Odd::Now => quoted("now"),
            Odd::Drop => quoted("drop"),
        };
        let len = record_len_max.map_or("null".to_owned(), |len| len.to_string());
        let mut all = fields.to_json();
        all.extend([
            ("format", quoted(if *is_json { "ndjson" } else { "raw" })),
            ("maxRecordBytes", len),
            ("maxRecordsPerSec", records_per_sec_max.to_string()),
            ("onMalformed", odd(on_malformed)),
            ("onEarly", odd(on_early)),
        ]);
        all
    }
}

/// Whether a source can be made to wait while there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// It waits, and nothing is lost.
    Waits,
    /// It goes on sending: what finds no room is counted.
    Counts,
}

/// Why a record was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It is longer than the input or the stream takes.
    TooLong,
    /// It made no sense.
    Malformed,
    /// Its time lies before 2024.
    Early,
    /// There were too many.
    Limited,
    /// There was no room for it, or it broke another bound of records.
    Refused,
    /// Who sent it may not send.
    Denied,
    /// The system dropped it.
    Lost,
}

impl Reason {
    /// In words, for a peer and the log.
    pub fn words(self) -> &'static str {
        match self {
            Self::TooLong => "too long",
            Self::Malformed => "malformed",
            Self::Early => "too early",
            Self::Limited => "over the rate",
            Self::Refused => "refused",
            Self::Denied => "denied",
            Self::Lost => "lost",
        }
    }

    fn counter(self, progress: &Progress) -> &AtomicU64 {
        match self {
            Self::TooLong => &progress.too_long,
            Self::Malformed => &progress.malformed,
            Self::Early => &progress.early,
            Self::Limited => &progress.limited,
            Self::Refused => &progress.refused,
            Self::Denied => &progress.denied,
            Self::Lost => &progress.lost,
        }
    }
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is durable when everything below this offset is.
    Below(u64),
    /// It was passed over, for good.
    Not(Reason),
    /// The stream takes nothing any more, or the input is to stop: it was not taken.
    Ended,
}

/// What has been said of a reason.
#[derive(Clone, Copy, Default)]
struct Said {
    last: Option<Mono>,
    /// Since then so many came.
    count: u64,
}

/// Takes what an input found.
pub struct Feed<'a> {
    /// What the input is, for people.
    pub name: &'static str,
    stream: &'a Stream,
    /// What is counted, and the order to stop.
    pub progress: &'a Progress,
    options: &'a Options,
    /// Asked for times.
    pub clock: System,
    patience: Patience,
    record_len_max: usize,
    found: Found,
    said: [Said; 7],
    /// Records that may be taken at once, and when that was so.
    allowance: (f64, Mono),
    /// How long a source that failed is left alone.
    retry: Duration,
    /// Durability was asked for up to here.
    asked: u64,
}

impl<'a> Feed<'a> {
    /// A feed into a stream.
    pub fn new(
        name: &'static str,
        options: &'a Options,
        stream: &'a Stream,
        progress: &'a Progress,
        patience: Patience,
    ) -> Self {
        let clock = System::new();
        let own = options.record_len_max.map(|len| len as usize);
        let of_stream = stream.record_len_max();
        Self {
            name,
            stream,
            progress,
            options,
            allowance: (f64::from(options.records_per_sec_max), clock.mono()),
            clock,
            patience,
            record_len_max: own.map_or(of_stream, |own| own.min(of_stream)),
            found: Found::default(),
            said: [Said::default(); 7],
            retry: RETRY_PAUSE,
            asked: 0,
        }
    }

    /// The longest payload that is worth having whole. In JSON six characters may stand for one byte.
    pub fn len_max(&self) -> usize {
        match self.options.is_json {
            true => self.record_len_max * 6 + 4096,
            false => self.record_len_max,
        }
    }

    /// The stream.
    pub fn stream(&self) -> &'a Stream {
        self.stream
    }

    /// The input is to end.
    pub fn is_stopping(&self) -> bool {
        self.progress.is_stopping()
    }

    /// Takes a record, with its place in the source if the source has places.
    pub fn take(
        &mut self,
        payload: &[u8],
        origin: Origin<'_>,
        source: Option<Source<'_>>,
    ) -> Taken {
        self.progress.receive();
        if !self.is_within_rate() {
            return match self.is_stopping() {
                true => Taken::Ended,
                false => self.pass_over(Reason::Limited, payload),
            };
        }
        let options = self.options;
        let now = self.clock.wall_ms();
        if options.is_json {
            return self.take_json(payload, now, source);
        }
        if options.fields.is_plain() {
            let key = options.fields.key().as_bytes();
            return self.append(&Record {
                source,
                ..Record::new(key, now, payload)
            });
        }
        let mut found = std::mem::take(&mut self.found);
        options.fields.find(payload, origin, &mut found);
        let taken = self.take_found(payload, &found, now, source);
        self.found = found;
        taken
    }

    fn take_found(
        &mut self,
        payload: &[u8],
        found: &Found,
        now: u64,
        source: Option<Source<'_>>,
    ) -> Taken {
        if found.is_malformed {
            self.note(Reason::Malformed, payload);
            if self.options.on_malformed == Odd::Drop {
                return Taken::Not(Reason::Malformed);
            }
        }
        let properties = found.properties.iter();
        let properties: Vec<(&str, &[u8])> = properties
            .map(|(name, value)| (name.as_str(), value.as_slice()))
            .collect();
        let Some(time_ms) = self.time(found.time_ms, now, payload) else {
            return Taken::Not(Reason::Early);
        };
        self.append(&Record {
            properties: &properties,
            source,
            ..Record::new(&found.key, time_ms, payload)
        })
    }

    fn take_json(&mut self, line: &[u8], now: u64, source: Option<Source<'_>>) -> Taken {
        let Some(parsed) = text(line).and_then(|line| LineRecord::parse(&line)) else {
            return self.pass_over(Reason::Malformed, line);
        };
        let Some(time_ms) = self.time(parsed.time_ms, now, line) else {
            return Taken::Not(Reason::Early);
        };
        let key = match parsed.key.is_empty() {
            true => self.options.fields.key().as_bytes(),
            false => &parsed.key,
        };
        self.append(&Record {
            properties: &parsed.borrowed_properties(),
            source,
            ..Record::new(key, time_ms, &parsed.payload)
        })
    }

    /// A record's time: its own, or now. `None`: it is too early, and not taken.
    fn time(&mut self, own: Option<u64>, now: u64, payload: &[u8]) -> Option<u64> {
        let Some(own) = own else {
            return Some(now);
        };
        if own >= WALL_KNOWN_MS {
            return Some(own);
        }
        self.note(Reason::Early, payload);
        match self.options.on_early {
            Odd::Keep => Some(own),
            Odd::Now => Some(now),
            Odd::Drop => None,
        }
    }

    fn append(&mut self, record: &Record<'_>) -> Taken {
        if record.body_len() > self.record_len_max {
            return self.pass_over(Reason::TooLong, record.payload);
        }
        let mut pause = FULL_PAUSE;
        loop {
            let error = match self.stream.append_record(record) {
                Ok(offset) => {
                    Progress::count(&self.progress.records);
                    return Taken::Below(offset + 1);
                }
                Err(error) => error,
            };
            match error.code() {
                Code::Closed | Code::Panic => return Taken::Ended,
                // It has an offset, and may still become durable.
                Code::Timeout | Code::Io if !is_refusal(&error) => {
                    Progress::count(&self.progress.records);
                    return Taken::Below(self.stream.ring().next_offset());
                }
                Code::Full | Code::Timeout if self.patience == Patience::Waits => {
                    if self.is_stopping() {
                        return Taken::Ended;
                    }
                    self.progress.wake.pause(pause);
                    pause = (pause * 2).min(FULL_PAUSE_MAX);
                }
                _ => return self.pass_over(Reason::Refused, record.payload),
            }
        }
    }

    /// Counts a record that is not taken, and says so now and then.
    pub fn pass_over(&mut self, reason: Reason, payload: &[u8]) -> Taken {
        self.note(reason, payload);
        Taken::Not(reason)
    }

    /// The same for a record of which nothing was looked at.
    pub fn pass_by(&mut self, reason: Reason, payload: &[u8]) -> Taken {
        self.progress.receive();
        self.pass_over(reason, payload)
    }

    fn note(&mut self, reason: Reason, payload: &[u8]) {
        self.note_many(reason, 1, payload);
    }

    /// Counts records, and says so now and then, with a part of one.
    pub fn note_many(&mut self, reason: Reason, count: u64, payload: &[u8]) {
        reason
            .counter(self.progress)
            .fetch_add(count, Ordering::Relaxed);
        let now = self.clock.mono();
        let said = &mut self.said[reason as usize];
        said.count += count;
        if said.last.is_some_and(|last| now.since(last) < SAY_EVERY) {
            return;
        }
        let (name, words, count) = (self.name, reason.words(), said.count);
        *said = Said {
            last: Some(now),
            count: 0,
        };
        let shown = &payload[..payload.len().min(SHOWN_MAX)];
        let shown = String::from_utf8_lossy(shown);
        log::warn!("input {name}: {count} {words}; the last one: {shown:?}");
    }

    /// Whether the rate has room for one more. A source that can wait is made to.
    fn is_within_rate(&mut self) -> bool {
        let rate = f64::from(self.options.records_per_sec_max);
        if rate == 0.0 {
            return true;
        }
        loop {
            let now = self.clock.mono();
            let (left, since) = self.allowance;
            let left = (left + now.since(since).as_secs_f64() * rate).min(rate.max(1.0));
            self.allowance = (left, now);
            if left >= 1.0 {
                self.allowance.0 -= 1.0;
                return true;
            }
            if self.patience == Patience::Counts || self.is_stopping() {
                return false;
            }
            let wait = Duration::from_secs_f64((1.0 - left) / rate);
            self.progress.wake.pause(wait.max(Duration::from_millis(1)));
        }
    }

    /// A source failed, and is tried again at its time.
    #[cfg(feature = "input-exec")]
    pub fn fails(&mut self, error: &dyn std::fmt::Display) {
        Progress::count(&self.progress.restarts);
        log::warn!("input {}: {error}", self.name);
    }

    /// A source failed: says so, and leaves it alone for a while, longer each time. False: the input is to
    /// end.
    pub fn wait_to_retry(&mut self, error: &dyn std::fmt::Display) -> bool {
        if self.is_stopping() {
            return false;
        }
        let (name, wait) = (self.name, self.retry);
        Progress::count(&self.progress.restarts);
        log::warn!("input {name}: {error}; tried again in {wait:?}");
        self.progress.wake.pause(wait);
        self.retry = (wait * 2).min(RETRY_PAUSE_MAX);
        !self.is_stopping()
    }

    /// The source works, and this is where: the next failure is the first.
    pub fn works(&mut self, place: &dyn std::fmt::Display) {
        self.begins(&format_args!("listening at {place}"));
    }

    /// The next failure is the first.
    pub fn forgive(&mut self) {
        self.retry = RETRY_PAUSE;
    }

    /// The source works, in other words.
    pub fn begins(&mut self, text: &dyn std::fmt::Display) {
        self.forgive();
        log::info!("input {}: {text}", self.name);
    }

    /// Asks for everything below `offset` to become durable, without waiting, and says below which offset
    /// everything is.
    pub fn make_durable(&mut self, offset: u64) -> u64 {
        let durable = self.stream.shared().durable.get();
        if durable < offset && self.asked <= durable {
            self.asked = self.stream.ring().next_offset();
            // The error says that it takes longer than nothing.
            let _ = self.stream.flush(Duration::ZERO);
        }
        durable
    }
}

/// Nothing was taken, says the text of a timeout.
fn is_refusal(error: &Error) -> bool {
    error.to_string().contains("nothing was taken")
}

#[cfg(test)]
mod tests;
