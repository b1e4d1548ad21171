//! What the binary listens to: one producer a thread, each for one stream.
//!
//! An input never ends the process: a record that is malformed or too long is counted and passed over.
//! **Threads.** One for each input; it ends when its source does, or when it is told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::config::json::{Node, quoted};
use crate::engine::{Engine, Stream};
use crate::error::{Code, Error, Result};
use crate::record::Record;
use crate::watermark::seam::park;

pub mod host;
pub mod lines;
pub mod stdin;

/// While there is no room, an input that can make its source wait tries again so often.
const FULL_PAUSE: Duration = Duration::from_millis(5);

/// An input of the configuration.
#[derive(Clone, Debug)]
pub enum InputConfig {
    /// Lines on standard input.
    Stdin(stdin::Options),
    /// This machine's own telemetry.
    Host(host::Options),
}

impl InputConfig {
    /// Reads an item of `inputs`.
    pub fn read(node: &Node<'_>) -> Result<(String, Self)> {
        let mut object = node.object()?;
        let kind = object
            .required("type")?
            .word(&[("stdin", false), ("host", true)])?;
        let stream = object.required("stream")?;
        let name = stream.string()?;
        let input = match kind {
            false => Self::Stdin(stdin::Options::read(&mut object)?),
            true => Self::Host(host::Options::read(&mut object)?),
        };
        object.finish()?;
        Ok((name, input))
    }

    /// The item as it would stand in `inputs` with nothing left out.
    pub fn to_json(&self, stream: &str) -> String {
        let (kind, more) = match self {
            Self::Stdin(stdin::Options {
                key,
                is_json,
                resumes,
                follows,
            }) => {
                let key = quoted(key);
                let format = if *is_json { "ndjson" } else { "lines" };
                let more = format!(
                    "\"key\": {key}, \"format\": \"{format}\", \"resume\": {resumes}, \"follow\": {follows}"
                );
                ("stdin", more)
            }
            Self::Host(host::Options { rate }) => ("host", format!("\"ratePerSecond\": {rate}")),
        };
        let stream = quoted(stream);
        format!("{{\"type\": \"{kind}\", \"stream\": {stream}, {more}}}")
    }
}

/// What an input has done, and the order to stop. Shared with whoever watches it.
#[derive(Debug, Default)]
pub struct Progress {
    stop: AtomicBool,
    ended: AtomicBool,
    /// Records appended.
    pub records: AtomicU64,
    /// Records passed over because they made no sense.
    pub malformed: AtomicU64,
    /// Records passed over because a bound was broken or there was no room.
    pub refused: AtomicU64,
}

impl Progress {
    /// Tells the input to end after the record at hand.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether it was told to stop.
    pub fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Whether its source has ended, or it has stopped.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// An input that runs.
pub struct Running {
    /// What it has done.
    pub progress: Arc<Progress>,
    /// What it is, for people.
    pub name: &'static str,
}

/// Starts the inputs of a configuration. `ended` is called whenever one ends, from its thread.
pub fn start(
    engine: &Engine,
    inputs: Vec<(String, InputConfig)>,
    ended: &(impl Fn() + Clone + Send + 'static),
) -> Result<Vec<Running>> {
    let mut running = Vec::new();
    for (stream, input) in inputs {
        let stream = engine.stream(&stream)?;
        let progress = Arc::new(Progress::default());
        let name = match &input {
            InputConfig::Stdin(_) => "stdin",
            InputConfig::Host(_) => "host",
        };
        let (ended, shared) = (ended.clone(), Arc::clone(&progress));
        let body = move || {
            match input {
                InputConfig::Stdin(options) => stdin::run(&options, &stream, &shared),
                InputConfig::Host(options) => host::run(&options, &stream, &shared),
            }
            shared.ended.store(true, Ordering::Release);
            ended();
        };
        let thread = std::thread::Builder::new()
            .name(format!("forebay-{name}"))
            .spawn(body);
        thread.map_err(|error| Error::io("start input", error))?;
        running.push(Running { progress, name });
    }
    Ok(running)
}

/// Appends a record; while there is no room, the source waits. Counts what is refused for good. False
/// when the stream takes nothing any more.
pub fn append_patiently(stream: &Stream, record: &Record<'_>, progress: &Progress) -> bool {
    loop {
        match stream.append_record(record) {
            Ok(_) => {
                Progress::count(&progress.records);
                return true;
            }
            Err(error) => match error.code() {
                Code::Full if !progress.is_stopping() => park(Some(FULL_PAUSE)),
                Code::Closed | Code::Panic => return false,
                _ => {
                    log::debug!("{}: {error}", stream.name());
                    Progress::count(&progress.refused);
                    return true;
                }
            },
        }
    }
}
