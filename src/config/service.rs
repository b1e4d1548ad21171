//! How the binary lives as a service, and how it shows itself. The library reads it and does nothing with it.

use std::time::Duration;

use super::effective::{Fields, object, template};
use super::json::{Node, Object, quoted};
use super::resolve::Resolver;
use super::{Config, Result, millis};

mod hook;
mod outside;

pub use hook::EventHook;
pub use outside::{Http, Listen, Metrics};

/// The longest time without progress that can be allowed, in seconds.
const STALLED_SECS_MAX: u64 = 86_400;
/// The most messages a minute of one kind.
const MESSAGES_MAX: u32 = 1_000_000;

/// What stands under `service`.
#[derive(Clone, Debug)]
pub struct Service {
    /// From a signal to the end of the process.
    pub shutdown: Duration,
    /// So long records may wait, and a thread may be at one piece of work.
    pub stalled: Duration,
    /// What is said on standard error.
    pub log: Log,
    /// The command that is started for events, if one is.
    pub events: Option<EventHook>,
    /// Who may ask by HTTP, if anybody may.
    pub http: Option<Http>,
    /// The file that has the numbers, if there is one.
    pub metrics: Option<Metrics>,
}

/// What is said on standard error.
#[derive(Clone, Copy, Debug)]
pub struct Log {
    /// How a line looks.
    pub format: LogFormat,
    /// So many lines a minute of one kind.
    pub per_minute: u32,
}

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// An object.
    Json,
}

impl Default for Service {
    fn default() -> Self {
        Self {
            shutdown: Duration::from_secs(10),
            stalled: Duration::from_secs(60),
            log: Log::default(),
            events: None,
            http: None,
            metrics: None,
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            per_minute: 30,
        }
    }
}

impl Config {
    /// How the binary lives as a service.
    pub fn service(&self) -> &Service {
        &self.service
    }
}

impl Service {
    pub(super) fn read(node: &Node<'_>, resolver: &Resolver<'_>) -> Result<Self> {
        let mut object = node.object()?;
        let mut this = Self::default();
        if let Some(node) = object.take_set("shutdownMs") {
            this.shutdown = millis(&node, 100)?;
        }
        if let Some(node) = object.take_set("stalledSecs") {
            this.stalled = Duration::from_secs(node.number(1..=STALLED_SECS_MAX)?);
        }
        if let Some(node) = object.take_set("log") {
            this.log = Log::read(node.object()?)?;
        }
        if let Some(node) = object.take_set("events") {
            this.events = Some(EventHook::read(&node)?);
        }
        // The library does nothing with it, so it lacks nothing.
        let lacks = cfg!(feature = "cli") && !cfg!(feature = "http");
        for key in ["http", "metrics"] {
            if let Some(node) = object.get(key).filter(|_| lacks) {
                node.object()?;
                return Err(node.error("this build does not have the feature \"http\""));
            }
        }
        if let Some(node) = object.take_set("http") {
            this.http = Some(Http::read(&node, resolver)?);
        }
        if let Some(node) = object.take_set("metrics") {
            this.metrics = Some(Metrics::read(&node, resolver)?);
        }
        object.finish()?;
        Ok(this)
    }

    /// It as it would stand in the document with nothing left out.
    pub(super) fn to_json(&self) -> String {
        let Self {
            shutdown,
            stalled,
            log: Log { format, per_minute },
            events,
            http,
            metrics,
        } = self;
        let format = match format {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        };
        let log = [
            ("format", quoted(format)),
            ("perMinute", per_minute.to_string()),
        ];
        let mut fields: Fields = vec![
            ("shutdownMs", shutdown.as_millis().to_string()),
            ("stalledSecs", stalled.as_secs().to_string()),
            ("log", object(&log)),
        ];
        if let Some(events) = events {
            fields.push(("events", events.to_json()));
        }
        if let Some(Http { listen, token }) = http {
            let mut http: Fields = vec![("listen", template(listen))];
            http.extend(token.as_ref().map(|token| ("token", template(token))));
            fields.push(("http", object(&http)));
        }
        if let Some(Metrics { path, interval }) = metrics {
            let metrics = [
                ("path", template(path.display())),
                ("intervalMs", interval.as_millis().to_string()),
            ];
            fields.push(("metrics", object(&metrics)));
        }
        object(&fields)
    }
}

impl Log {
    fn read(mut object: Object<'_>) -> Result<Self> {
        let mut this = Self::default();
        if let Some(node) = object.take_set("format") {
            this.format = node.word(&[("text", LogFormat::Text), ("json", LogFormat::Json)])?;
        }
        if let Some(node) = object.take_set("perMinute") {
            this.per_minute = node.number32(1..=MESSAGES_MAX)?;
        }
        object.finish()?;
        Ok(this)
    }
}
