//! JSON text → options that cannot be wrong.
//!
//! Everything is checked here, once, and nothing downstream checks again. An error names line, column,
//! path, value and rule; then nothing is opened. What the contract names and this version does not do
//! yet is refused in so many words: a setting that is silently ignored is a broken promise.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use heapless::String as Name;

use crate::counters::{CURSOR_NAME_MAX, CURSORS_MAX};
use crate::error::{Code, Error, Result};
use crate::format::NAME_LEN_MAX;
use crate::log::{BUDGET_MIN, SEGMENT_SIZE_MIN};
use crate::ring;
use crate::segment::Io;
use crate::sink::Sink;
use crate::storage::{Real, Surroundings, default_run_dir};
use crate::watermark::seam::Mutex;

mod delivery;
mod effective;
pub mod json;
mod needs;
pub mod resolve;
mod service;
mod sinks;
mod stream;

pub use delivery::{Batch, Delivery};
use json::{Node, Object};
use resolve::Resolver;
pub use service::{EventHook, Http, Listen, Log, LogFormat, Metrics, Service};
pub use sinks::{SinkConfig, SinkKind};
pub use stream::{Buffer, Fsync, Medium, OnFull, StreamConfig, Volatile};

/// The most streams of an engine.
pub const STREAMS_MAX: usize = 1024;
/// Where stores lie where nothing else is said.
const DATA_DIR: &str = "/var/lib/forebay";
/// The longest wait that can be configured, in milliseconds: a day.
const MILLIS_MAX: u64 = 86_400_000;

/// Where the sinks of an id come from, one for each that asks.
type Custom = Box<dyn FnMut() -> Option<Box<dyn Sink>> + Send>;

/// A checked configuration.
pub struct Config {
    /// The streams.
    pub(crate) streams: Vec<StreamConfig>,
    /// Base of the stores' default paths.
    data_dir: PathBuf,
    /// Where shared counters lie; `None`: where the system has a place for that.
    pub(crate) run_dir: Option<PathBuf>,
    /// The stream that gets events as records.
    pub(crate) events_stream: Option<Name<NAME_LEN_MAX>>,
    /// Where secrets lie.
    secrets_dir: Option<PathBuf>,
    /// The document, if it has `inputs`, which only the binary understands.
    inputs: Option<String>,
    /// What only the binary does.
    service: Service,
    /// Sinks of the host, until the engine takes them.
    custom: Mutex<BTreeMap<String, Custom>>,
    warnings: Vec<String>,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("streams", &self.streams)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// For tests that play the engine's threads themselves.
    #[doc(hidden)]
    pub fn streams(&self) -> &[StreamConfig] {
        &self.streams
    }

    /// Reads and checks a document: `{"streams":[…]}`, or a component's whole configuration with that
    /// object under `streaming`.
    pub fn from_json(text: &str) -> Result<Self> {
        Self::from_json_in(text, &Real)
    }

    /// Like [`from_json`](Self::from_json), with surroundings of its own for templates and secrets.
    pub fn from_json_in(text: &str, around: &dyn Surroundings) -> Result<Self> {
        let document = json::parse(text)?;
        let mut root = document.object()?;
        let streaming = root.take_set("streaming");
        let is_ours = streaming.is_some() || root.take("streams").is_some();
        let mut config = Self {
            streams: Vec::new(),
            data_dir: PathBuf::from(DATA_DIR),
            run_dir: None,
            events_stream: None,
            secrets_dir: None,
            inputs: None,
            service: Service::default(),
            custom: Mutex::default(),
            warnings: Vec::new(),
        };
        if !is_ours {
            let text = "neither \"streams\" nor \"streaming\" stands in the document: no streams";
            config.warnings.push(text.to_owned());
            return Ok(config);
        }
        let ours = if let Some(node) = streaming {
            node.object()?
        } else {
            // What is left of it is null, which is as good as not there.
            let mut root = document.object()?;
            root.take("streaming");
            root
        };
        config.read(ours, text, around)?;
        Ok(config)
    }

    fn read(
        &mut self,
        mut object: Object<'_>,
        text: &str,
        around: &dyn Surroundings,
    ) -> Result<()> {
        if let Some(node) = object.take_set("secretsDir") {
            let text = node.string()?;
            if text.is_empty() || text.contains(['{', '}', '\0']) {
                return Err(node.error("must be a path without templates"));
            }
            self.secrets_dir = Some(PathBuf::from(text));
        }
        let mut resolver = Resolver::new(around, self.secrets_dir.clone());
        if let Some(node) = object.take_set("vars") {
            resolver.read_vars(&node)?;
        }
        if let Some(node) = object.take_set("dataDir") {
            self.data_dir = path(&node, &resolver)?;
        }
        if let Some(node) = object.take_set("runDir") {
            self.run_dir = Some(path(&node, &resolver)?);
        }
        if let Some(inputs) = object.take_set("inputs") {
            inputs.array()?;
            resolver.note_used(inputs.raw());
            self.inputs = Some(text.to_owned());
        }
        if let Some(node) = object.take_set("service") {
            self.service = Service::read(&node, &resolver)?;
        }
        let streams = match object.take_set("streams") {
            Some(node) => node.array_of(STREAMS_MAX, "streams")?,
            None => Vec::new(),
        };
        for node in &streams {
            let stream = StreamConfig::read(node, &self.data_dir, &resolver, &mut self.warnings)?;
            if self.streams.iter().any(|other| other.name == stream.name) {
                return Err(node.error(format_args!("another stream is named \"{}\"", stream.name)));
            }
            let has_path = |other: &StreamConfig| {
                let both = [&other.buffer, &stream.buffer];
                both.iter().all(|buffer| buffer.medium == Medium::Disk)
                    && other.buffer.path == stream.buffer.path
            };
            if self.streams.iter().any(has_path) {
                return Err(node.error("another stream has the same buffer.path"));
            }
            self.streams.push(stream);
        }
        if let Some(node) = object.take_set("eventsStream") {
            let name = name(&node)?;
            if !self.has_stream(&name) {
                return Err(node.error("must be the name of one of the streams"));
            }
            self.events_stream = Some(name);
        }
        if self.streams.is_empty() {
            self.warnings.push("no streams are configured".to_owned());
        }
        self.warnings.extend(resolver.warnings());
        object.finish()
    }

    /// Gives the `callback` sink of that id somewhere to deliver to.
    #[must_use]
    pub fn with_sink(self, id: &str, sink: impl Sink + 'static) -> Self {
        let mut sink: Option<Box<dyn Sink>> = Some(Box::new(sink));
        let custom = move || sink.take();
        self.custom.lock().insert(id.to_owned(), Box::new(custom));
        self
    }

    /// Gives each `callback` sink of that id one of its own.
    #[must_use]
    pub fn with_sinks<S: Sink + 'static>(
        self,
        id: &str,
        make: impl Fn() -> S + Send + 'static,
    ) -> Self {
        let custom = move || Some(Box::new(make()) as Box<dyn Sink>);
        self.custom.lock().insert(id.to_owned(), Box::new(custom));
        self
    }

    /// Puts shared counters and whatever else lives as long as the boot into a directory of its own.
    #[must_use]
    pub fn with_run_dir(mut self, path: &Path) -> Self {
        self.run_dir = Some(path.to_owned());
        self
    }

    /// The names of the streams, sorted.
    pub fn stream_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self
            .streams
            .iter()
            .map(|stream| stream.name.as_str())
            .collect();
        names.sort_unstable();
        names
    }

    fn stream(&self, name: &str) -> Option<&StreamConfig> {
        self.streams.iter().find(|stream| stream.name == name)
    }

    /// Where things lie that live as long as the boot; `None` when nothing says where.
    pub fn run_dir(&self) -> Option<PathBuf> {
        self.run_dir.clone().or_else(default_run_dir)
    }

    /// Whether there is a stream of that name.
    pub fn has_stream(&self, name: &str) -> bool {
        self.stream(name).is_some()
    }

    /// The directory of a stream's store; `None` when there is no such stream, or it lies in memory.
    pub fn store_path(&self, name: &str) -> Option<&Path> {
        let stream = self.stream(name);
        let on_disk = stream.filter(|stream| stream.buffer.medium == Medium::Disk);
        on_disk.map(|stream| stream.buffer.path.as_path())
    }

    /// Where a stream in memory has its lock and its counters, as long as an engine has it. `None` when
    /// there is no such stream, it lies on disk, or there is no run directory.
    pub fn memory_place(&self, name: &str) -> Option<PathBuf> {
        let stream = self.stream(name);
        let in_memory = stream.filter(|stream| stream.buffer.medium == Medium::Memory)?;
        let run_dir = self.run_dir.clone().or_else(default_run_dir)?;
        Some(run_dir.join(in_memory.buffer.place_name()))
    }

    /// Only the stream of that name.
    pub fn only(mut self, name: &str) -> Result<Self> {
        self.streams.retain(|stream| stream.name == name);
        if self.streams.is_empty() {
            let text = format!("no stream is named \"{name}\"");
            return Err(Error::text(Code::UnknownStream, "", text));
        }
        self.events_stream = self.events_stream.filter(|events| events == name);
        Ok(self)
    }

    /// What is not wrong, but worth a look.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What each stream takes, at most.
    pub fn memory(&self) -> Vec<Needs> {
        self.streams.iter().map(Needs::of).collect()
    }

    /// Calls `read` with each item of `inputs`.
    pub fn inputs<T>(
        &self,
        read: impl Fn(&Node<'_>, &Resolver<'_>) -> Result<T>,
    ) -> Result<Vec<T>> {
        let Some(text) = &self.inputs else {
            return Ok(Vec::new());
        };
        let document = json::parse(text)?;
        let streaming = document.object()?.take_set("streaming").unwrap_or(document);
        let mut streaming = streaming.object()?;
        let mut resolver = Resolver::new(&Real, self.secrets_dir.clone());
        if let Some(vars) = streaming.take_set("vars") {
            resolver.read_vars(&vars)?;
        }
        let nodes = streaming
            .take_set("inputs")
            .map(|node| node.array())
            .transpose()?
            .unwrap_or_default();
        nodes.iter().map(|node| read(node, &resolver)).collect()
    }

    /// The host's sink of that id. An engine takes it when it opens.
    pub(crate) fn take_custom(&self, id: &str) -> Option<Box<dyn Sink>> {
        self.custom.lock().get_mut(id)?()
    }
}

/// What a stream takes, at most. The formula is that of `docs/limits.md`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs {
    /// The stream's name.
    pub name: String,
    /// Where its store lies; `None`: in memory.
    pub path: Option<PathBuf>,
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes of disk.
    pub disk: u64,
}

/// A path of ours, which is shown wherever something happens in it.
pub(crate) fn path(node: &Node<'_>, resolver: &Resolver<'_>) -> Result<PathBuf> {
    let text = resolver.path(node)?;
    if text.is_secret() {
        return Err(node.error("must be a path without secrets: it is shown"));
    }
    Ok(PathBuf::from(text.reveal()))
}

/// A time in milliseconds.
pub(crate) fn millis(node: &Node<'_>, min: u64) -> Result<Duration> {
    node.number(min..=MILLIS_MAX).map(Duration::from_millis)
}

/// A name that may stand in file names, topics and metrics.
fn check_name(node: &Node<'_>, name: &str, len_max: usize) -> Result<()> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let is_dots = name == "." || name == "..";
    if name.is_empty() || name.len() > len_max || !name.chars().all(is_allowed) || is_dots {
        let rule = format!("must be 1 to {len_max} letters, digits, dots, underscores and hyphens");
        return Err(node.error(rule));
    }
    Ok(())
}

fn name<const LEN: usize>(node: &Node<'_>) -> Result<Name<LEN>> {
    let text = node.string()?;
    check_name(node, &text, LEN)?;
    Name::try_from(text.as_str()).map_err(|_| node.error("is too long"))
}

const _: () = assert!(CURSORS_MAX >= 1 && CURSOR_NAME_MAX >= 8 && NAME_LEN_MAX >= 249);
const _: () = assert!(BUDGET_MIN >= 4 * SEGMENT_SIZE_MIN);

#[cfg(test)]
mod tests;
