//! Amazon Kinesis Data Streams: `PutRecords` in JSON or CBOR over HTTPS, one after the other in each lane.
//!
//! ```text
//!  batch ──▶ body ──▶ sign ──▶ http ──▶ answer ──▶ an outcome for each record
//!    ▲                 ▲  ▲              │
//!    │       credentials  time ◀─ Date ──┤
//!    └── halves, when the service does not say which record it refuses
//! ```
//!
//! **Invariants.** A record is accepted only when the service gave it a sequence number, in an answer that is
//! whole and agrees with itself. Whatever else comes back, or nothing: it is sent again. A record is
//! rejected only when it is too long, or when it was refused alone while others were taken: a wrong
//! stream name must not turn a store into dead letters.
//! **Threads.** Each lane has one; they share connections, credentials and the time.
//!
//! Errors that were seen, and what follows: `kinesis/answer.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::text::Text;
use super::{Answer, Batch, BlockingSink, Limits, Link, Outcome};
use crate::clock::{Clock, Mono};
use crate::error::{Code, Error, Result};

mod aggregate;
mod answer;
mod body;
mod cbor;
pub mod credentials;
pub mod envelope;
mod filling;
mod http;
mod lookup;
mod pace;
mod reach;
mod shards;
mod sign;
mod time;
mod tls;

use aggregate::Aggregates;
pub use aggregate::read as read_aggregate;
use answer::{Entries, Entry, Kind};
pub use body::Encoding;
use body::{Body, Bounds};
use credentials::{Credentials, Environment, Provider, Source};
use envelope::Content;
use http::{Client, Method, Reply, Settings};
pub use http::{check_address, check_proxy};
use pace::Pace;
use time::Time;

/// The most records of a request, as the service has it now.
pub const REQUEST_RECORDS_MAX: u32 = 500;
/// The most bytes of a request: keys and data.
pub const REQUEST_BYTES_MAX: u32 = 10 << 20;
/// The longest record that a stream takes where nobody has raised it: key and data.
pub const RECORD_BYTES_MAX: u32 = 1 << 20;
/// The most records that a shard takes in a second, as the service has it now.
pub const SHARD_RECORDS_MAX: u32 = 1000;
/// The most bytes that it takes in a second: keys and data.
pub const SHARD_BYTES_MAX: u32 = 1_000_000;
/// What is known of a stream's shards takes so many bytes.
pub const SHARDS_SIZE: u64 = pace::SIZE;

/// What is read of an answer at most, besides this for each record.
const ANSWER_LEN: usize = 64 << 10;
const ANSWER_ENTRY_LEN: usize = 1 << 10;
/// A batch that was split may take longer than one request.
const ANSWER_TIMEOUT_MIN: Duration = Duration::from_secs(60);
/// How often a request is sent at once again, with another time or other credentials.
const AGAIN_MAX: u32 = 2;
/// What a shard has no room for in this time goes back to the exporter, which waits better.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// What compressing takes, besides its result.
const ZSTD_SIZE: u64 = 1 << 20;
const TARGET: &str = "Kinesis_20131202.PutRecords";

/// What a `kinesis` sink is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The stream at the service.
    pub stream_name: Text,
    /// Its region.
    pub region: Text,
    /// Where requests go; `None`: to the region's endpoint.
    pub endpoint: Option<Text>,
    /// Where credentials come from.
    pub credentials: Source,
    /// What the environment says about them.
    pub environment: Environment,
    /// How requests and answers are written.
    pub encoding: Encoding,
    /// Several records go in one of the service's.
    pub aggregates: bool,
    /// Then into so many groups, by their keys.
    pub aggregation_groups: u32,
    /// Records go in envelopes that say where they come from.
    pub has_envelope: bool,
    /// Many records are compressed in one envelope. Only with aggregation.
    pub compresses: bool,
    /// What an envelope says of the device.
    pub device: Option<Text>,
    /// Only what these certificates have signed is trusted.
    pub ca_file: Option<Text>,
    /// By way of this proxy.
    pub proxy: Option<Text>,
    /// The longest that a request takes.
    pub request_timeout: Duration,
    /// The longest that connecting takes.
    pub connect_timeout: Duration,
    /// The most records of a request.
    pub request_records_max: u32,
    /// The most bytes of a request.
    pub request_bytes_max: u32,
    /// The longest record.
    pub record_bytes_max: u32,
    /// The most records that a shard gets in a second.
    pub shard_records_max: u32,
    /// The most bytes that a shard gets in a second.
    pub shard_bytes_max: u32,
}

impl Options {
    /// Where requests go.
    fn address(&self) -> String {
        let region = self.region.reveal();
        match &self.endpoint {
            Some(endpoint) => endpoint.reveal().to_owned(),
            None if region.starts_with("cn-") => {
                format!("https://kinesis.{region}.amazonaws.com.cn/")
            }
            None => format!("https://kinesis.{region}.amazonaws.com/"),
        }
    }

    fn bounds(&self) -> Bounds {
        let size = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        Bounds {
            records_max: size(self.request_records_max),
            bytes_max: size(self.request_bytes_max),
            record_bytes_max: size(self.record_bytes_max),
        }
    }

    fn content(&self) -> Content {
        match (self.compresses, self.has_envelope) {
            (true, _) => Content::Blocks,
            (_, true) => Content::Envelopes,
            _ => Content::Payloads,
        }
    }

    /// What a lane takes for its requests and their answers, for batches of so many bytes and records.
    pub fn memory_of_lane(&self, batch_bytes: u64, batch_records: u64) -> u64 {
        let bounds = self.bounds();
        let records = batch_records.min(bounds.records_max as u64);
        let all = usize::try_from(batch_records).unwrap_or(usize::MAX);
        let context = if self.compresses { ZSTD_SIZE } else { 0 };
        let aggregates = match self.aggregates {
            true => Aggregates::memory_max(bounds, all) as u64,
            false => 0,
        };
        let bounds = Bounds {
            records_max: usize::try_from(records).unwrap_or(usize::MAX),
            bytes_max: usize::try_from(batch_bytes.min(bounds.bytes_max as u64))
                .unwrap_or(usize::MAX),
            ..bounds
        };
        // A buffer that grows may have twice its size.
        let answer = ANSWER_LEN as u64 + records * ANSWER_ENTRY_LEN as u64;
        Body::size_max(self.encoding, bounds) as u64 * 2 + answer + aggregates + context
    }
}

/// The region that the shared files name.
pub fn region_of_files(environment: &Environment) -> Option<String> {
    credentials::region(environment)
}

/// What the lanes of a sink share.
struct Shared {
    options: Options,
    address: String,
    clock: Arc<dyn Clock>,
    time: Arc<Time>,
    client: Client,
    provider: Provider,
    pace: Pace,
    /// Some record was taken since the sink was made: stream and credentials are right.
    has_accepted: AtomicBool,
}

/// One lane of the sink.
pub struct Kinesis {
    shared: Arc<Shared>,
    body: Body,
    aggregates: Option<Aggregates>,
    /// An envelope.
    data: Vec<u8>,
    entries: Entries,
    answer: Vec<u8>,
    /// The records of a batch by their places in it: those of the request, and stretches that are to come.
    sent: Vec<usize>,
    to_come: Vec<(usize, usize)>,
    /// Of the keys of the request's records, where it matters which they are.
    digests: Vec<u128>,
    /// How long the next record has to wait for its shard.
    wait: Duration,
}

/// What one request came to.
enum CameTo {
    /// The entries have been read.
    Entries,
    /// These records are refused, and why.
    Refused(String),
    /// Nothing became of it that is known.
    Failed(Link, Option<Duration>, String),
}

impl Kinesis {
    /// So many lanes of a sink. Connects to nothing yet.
    pub fn lanes(options: Options, clock: &Arc<dyn Clock>, count: usize) -> Result<Vec<Self>> {
        let address = options.address();
        let settings = options.settings(&address, count);
        let time = Arc::new(Time::default());
        let client = Client::new(&settings, Arc::clone(clock), Arc::clone(&time))
            .map_err(|text| Error::text(Code::Sink, "open kinesis sink", text))?;
        let provider = Provider::new(
            options.credentials.clone(),
            options.environment.clone(),
            Arc::clone(clock),
            Arc::clone(&time),
            options.request_timeout,
            options.connect_timeout,
            options.proxy.clone(),
        );
        let shared = Arc::new(Shared {
            address,
            clock: Arc::clone(clock),
            time,
            client,
            provider,
            pace: Pace::new(options.shard_records_max, options.shard_bytes_max),
            has_accepted: AtomicBool::new(false),
            options,
        });
        let lane = |_| Self {
            body: Body::new(
                shared.options.stream_name.reveal(),
                shared.options.encoding,
                shared.options.bounds(),
            ),
            aggregates: shared.options.aggregates.then(|| {
                let options = &shared.options;
                let groups = options.aggregation_groups;
                Aggregates::new(options.bounds(), groups, options.content())
            }),
            data: Vec::new(),
            shared: Arc::clone(&shared),
            entries: Entries::default(),
            answer: Vec::new(),
            sent: Vec::new(),
            to_come: Vec::new(),
            digests: Vec::new(),
            wait: Duration::ZERO,
        };
        Ok((0..count).map(lane).collect())
    }
}

impl BlockingSink for Kinesis {
    fn limits(&self) -> Limits {
        let options = &self.shared.options;
        Limits {
            records_max: match options.aggregates {
                true => u32::MAX,
                false => options.request_records_max,
            },
            bytes_max: options.request_bytes_max,
            answer_timeout: ANSWER_TIMEOUT_MIN.max(options.request_timeout.saturating_mul(2)),
            ..Limits::default()
        }
    }

    fn deliver(&mut self, batch: &Batch<'_>, timeout: Duration, answer: &mut Answer<'_>) {
        let until = self.shared.clock.mono().plus(timeout);
        let half = self.shared.clock.mono().plus(timeout / 2);
        self.to_come.clear();
        self.to_come.push((0, batch.len()));
        let mut refused: Vec<(usize, String)> = Vec::new();
        while let Some((from, to)) = self.to_come.pop() {
            let next = self.fill(batch, from, to, answer);
            if next < to {
                self.to_come.push((next, to));
            }
            if self.sent.is_empty() {
                if self.wait > PAUSE_MAX || self.shared.clock.mono() > half {
                    answer.set_link(Link::Throttled, "a shard has had its share");
                    self.reject(&refused, answer);
                    answer.retry_rest(Some(self.wait));
                    return;
                }
                self.shared.pace.pause(self.wait);
                continue;
            }
            match self.request(until) {
                CameTo::Entries => {
                    if !self.settle(batch, answer) {
                        // What follows does not overtake what failed.
                        answer.retry_rest(None);
                        return;
                    }
                }
                CameTo::Refused(text) => match self.sent.len() {
                    1 => refused.push((self.sent[0], text)),
                    _ => self.halve(),
                },
                CameTo::Failed(link, after, text) => {
                    if link == Link::Throttled {
                        self.throttle_all(batch);
                    }
                    answer.set_link(link, &text);
                    self.reject(&refused, answer);
                    answer.retry_rest(after);
                    return;
                }
            }
        }
        self.reject(&refused, answer);
        if let Some((_, text)) = refused.first()
            && !self.shared.has_accepted.load(Ordering::Relaxed)
        {
            answer.set_link(Link::Config, text);
        }
        answer.retry_rest(None);
    }
}

impl Kinesis {
    /// Sends the request that was made, at once again where only the time or the credentials were wrong.
    fn request(&mut self, until: Mono) -> CameTo {
        let shared = Arc::clone(&self.shared);
        let count = self.body.records();
        let encoding = shared.options.encoding;
        let body = self.body.finish();
        let mut again = 0;
        loop {
            let credentials = match shared.provider.get() {
                Ok(credentials) => credentials,
                Err(failure) => return CameTo::Failed(failure.link, None, failure.text),
            };
            let signed_ms = shared.time.now_ms(&*shared.clock);
            let sent = shared.send(
                body,
                &credentials,
                signed_ms,
                until,
                &mut self.answer,
                count,
            );
            let reply = match sent {
                Ok(reply) => reply,
                Err(text) => return CameTo::Failed(Link::Down, None, text),
            };
            if reply.status == 200 {
                return match self.entries.read(encoding, &self.answer, count) {
                    Ok(()) => {
                        shared.time.follow(&reply.dated);
                        CameTo::Entries
                    }
                    Err(text) => CameTo::Failed(Link::Down, None, text),
                };
            }
            let (name, said) = answer::error_of(encoding, &self.answer, &reply.error_type);
            let kind = answer::kind(reply.status, &name);
            let is_other = match kind {
                Kind::Signature | Kind::Auth => shared.time.correct(signed_ms, &reply.dated),
                Kind::Expired => shared.provider.refused(&credentials),
                _ => false,
            };
            if is_other && again < AGAIN_MAX {
                again += 1;
                continue;
            }
            let text = match (name.as_str(), credentials.is_shown_in(&said)) {
                ("", _) => format!("the answer's status is {}", reply.status),
                (name, true) => name.to_owned(),
                (name, false) => format!("{name}: {said}"),
            };
            return match kind {
                Kind::Records => CameTo::Refused(text),
                kind => CameTo::Failed(kind.link(), reply.retry_after, text),
            };
        }
    }

    /// Notes what became of the records that were sent. Whether all of them were taken, or rejected.
    fn settle(&self, batch: &Batch<'_>, answer: &mut Answer<'_>) -> bool {
        self.learn(batch);
        let mut worst = None;
        let mut has_accepted = false;
        for (at, index) in self.sent.iter().enumerate() {
            let entry = match &self.aggregates {
                Some(aggregates) => aggregates.entry_of(at),
                None => at,
            };
            match &self.entries.list()[entry] {
                Entry::Accepted => {
                    has_accepted = true;
                    answer.set(*index, Outcome::Accepted);
                }
                Entry::Failed(Kind::Records) => {
                    answer.set(*index, Outcome::Rejected(self.entries.error()));
                }
                Entry::Failed(kind) => {
                    answer.set(*index, Outcome::Retry(None));
                    if worst != Some(Kind::Throttled) {
                        worst = Some(*kind);
                    }
                }
            }
        }
        if has_accepted {
            self.shared.has_accepted.store(true, Ordering::Relaxed);
        }
        match worst {
            None => answer.set_link(Link::Ok, ""),
            Some(kind) => answer.set_link(kind.link(), self.entries.error()),
        }
        worst.is_none()
    }

    /// The records of the request are to be sent in two.
    fn halve(&mut self) {
        let middle = self.sent.len() / 2;
        let end = self.sent.last().map_or(0, |last| last + 1);
        self.to_come.push((self.sent[middle], end));
        self.to_come.push((self.sent[0], self.sent[middle]));
    }

    /// Rejects what was refused alone, if anything was ever taken: else the fault is not the records'.
    fn reject(&self, refused: &[(usize, String)], answer: &mut Answer<'_>) {
        if self.shared.has_accepted.load(Ordering::Relaxed) {
            for (index, text) in refused {
                answer.set(*index, Outcome::Rejected(text));
            }
        }
    }
}

impl Shared {
    fn send(
        &self,
        body: &[u8],
        credentials: &Credentials,
        time_ms: u64,
        until: Mono,
        answer: &mut Vec<u8>,
        count: usize,
    ) -> Result<Reply, String> {
        let content_type = self.options.encoding.content_type();
        let headers = [("content-type", content_type), ("x-amz-target", TARGET)];
        let request = sign::Request {
            region: self.options.region.reveal(),
            service: "kinesis",
            uri: &self.address,
            headers: &headers,
            body,
            time_ms,
        };
        let signed = sign::signed(&request, credentials)?;
        let signed = signed.iter().map(|(name, value)| (*name, value.as_str()));
        let headers: Vec<_> = headers.into_iter().chain(signed).collect();
        let left = until.since(self.clock.mono());
        if left.is_zero() {
            return Err("there is no time left for another request".to_owned());
        }
        self.client.send(
            &Method::Post(body),
            &self.address,
            &headers,
            self.options.request_timeout.min(left),
            answer,
            ANSWER_LEN + count * ANSWER_ENTRY_LEN,
        )
    }
}
