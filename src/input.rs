//! What the binary listens to: one producer a thread, each for one stream.
//!
//! ```text
//!  source ──▶ its own file: cuts and unpacks ──▶ feed: key, time, properties, bounds ──▶ append
//! ```
//!
//! An input never ends the process: a record that is malformed or too long is counted and passed over, and
//! a source that fails is tried again.
//! **Threads.** One for each input; it ends when its source does, or when it is told to stop. One that
//! panics says so and begins again.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::config::json::{Node, Object, quoted};
use crate::config::resolve::Resolver;
use crate::engine::{Engine, Stream};
use crate::error::{Code, Error, Result};
use crate::record::Record;
use crate::watermark::seam::park;

#[cfg(any(feature = "input-udp", feature = "input-tcp", feature = "input-mqtt"))]
mod address;
#[cfg(any(feature = "input-unix", feature = "input-tcp"))]
pub mod connections;
#[cfg(feature = "input-feed")]
pub mod cutter;
#[cfg(any(feature = "input-unix", feature = "input-udp"))]
pub mod datagrams;
#[cfg(feature = "input-exec")]
pub mod exec;
#[cfg(feature = "input-feed")]
pub mod feed;
#[cfg(feature = "input-feed")]
pub mod fields;
pub mod host;
pub mod lines;
#[cfg(feature = "input-mqtt")]
pub mod mqtt;
mod progress;
#[cfg(any(feature = "input-exec", feature = "input-serial"))]
mod reader;
#[cfg(feature = "input-serial")]
pub mod serial;
pub mod stdin;
#[cfg(feature = "input-feed")]
mod system;
#[cfg(feature = "input-tail")]
pub mod tail;
#[cfg(feature = "input-tcp")]
pub mod tcp;
pub mod time;
#[cfg(feature = "input-feed")]
mod told;
#[cfg(feature = "input-udp")]
pub mod udp;
#[cfg(feature = "input-unix")]
pub mod unix;

pub use progress::{MEANINGS, Progress};

/// While there is no room, an input that can make its source wait tries again so often.
const FULL_PAUSE: Duration = Duration::from_millis(5);
/// An input that panicked begins again after so long.
const PANIC_PAUSE: Duration = Duration::from_secs(1);

/// A field and its value as JSON.
pub type Field = (&'static str, String);

/// What an input of one kind is told, and how it runs.
pub trait Input: Debug + Send + Sync {
    /// Its fields with nothing left out.
    fn fields(&self) -> Vec<Field>;

    /// The order to stop ends it soon, whatever it waits for.
    fn ends_soon(&self) -> bool {
        true
    }

    /// Appends records until its source ends or it is told to stop.
    fn run(&self, stream: &Stream, progress: &Progress);
}

/// Reads what an input of one kind is told.
type Read = fn(&mut Object<'_>, &Resolver<'_>) -> Result<Arc<dyn Input>>;

/// A kind of input: its word, and how it is read, or the feature that it needs.
type Kind = (&'static str, std::result::Result<Read, &'static str>);

/// All kinds.
const KINDS: &[Kind] = &[
    ("stdin", Ok(stdin::read)),
    ("host", Ok(host::read)),
    #[cfg(feature = "input-unix")]
    ("unixStream", Ok(unix::read_stream)),
    #[cfg(not(feature = "input-unix"))]
    ("unixStream", Err("input-unix")),
    #[cfg(feature = "input-unix")]
    ("unixDatagram", Ok(unix::read_datagram)),
    #[cfg(not(feature = "input-unix"))]
    ("unixDatagram", Err("input-unix")),
    #[cfg(feature = "input-udp")]
    ("udp", Ok(udp::read)),
    #[cfg(not(feature = "input-udp"))]
    ("udp", Err("input-udp")),
    #[cfg(feature = "input-tcp")]
    ("tcp", Ok(tcp::read)),
    #[cfg(not(feature = "input-tcp"))]
    ("tcp", Err("input-tcp")),
    #[cfg(feature = "input-tail")]
    ("tail", Ok(tail::read)),
    #[cfg(not(feature = "input-tail"))]
    ("tail", Err("input-tail")),
    #[cfg(feature = "input-mqtt")]
    ("mqtt", Ok(mqtt::read)),
    #[cfg(not(feature = "input-mqtt"))]
    ("mqtt", Err("input-mqtt")),
    #[cfg(feature = "input-exec")]
    ("exec", Ok(exec::read)),
    #[cfg(not(feature = "input-exec"))]
    ("exec", Err("input-exec")),
    #[cfg(feature = "input-serial")]
    ("serial", Ok(serial::read)),
    #[cfg(not(feature = "input-serial"))]
    ("serial", Err("input-serial")),
];

/// An input of the configuration.
#[derive(Clone, Debug)]
pub struct InputConfig {
    kind: &'static str,
    input: Arc<dyn Input>,
}

impl InputConfig {
    /// Reads an item of `inputs`.
    pub fn read(node: &Node<'_>, resolver: &Resolver<'_>) -> Result<(String, Self)> {
        let mut object = node.object()?;
        let kinds: Vec<_> = KINDS.iter().map(|kind| (kind.0, *kind)).collect();
        let node = object.required("type")?;
        let (kind, read) = node.word(&kinds)?;
        let stream = object.required("stream")?;
        let name = stream.string()?;
        let read = read.map_err(|feature| {
            node.error(format_args!(
                "this build does not have the feature \"{feature}\""
            ))
        })?;
        let input = read(&mut object, resolver)?;
        object.finish()?;
        Ok((name, Self { kind, input }))
    }

    /// The item as it would stand in `inputs` with nothing left out.
    pub fn to_json(&self, stream: &str) -> String {
        let first = [("type", quoted(self.kind)), ("stream", quoted(stream))];
        let fields = first.into_iter().chain(self.input.fields());
        let fields: Vec<_> = fields
            .map(|(key, value)| format!("\"{key}\": {value}"))
            .collect();
        format!("{{{}}}", fields.join(", "))
    }
}

/// An input that runs.
#[derive(Clone)]
pub struct Running {
    /// The name of its stream.
    pub stream: String,
    /// What it has done.
    pub progress: Arc<Progress>,
    /// What it is, for people.
    pub name: &'static str,
    /// The order to stop ends it soon, whatever it waits for.
    pub ends_soon: bool,
}

/// Starts the inputs of a configuration. `ended` is called whenever one ends, from its thread.
pub fn start(
    engine: &Engine,
    inputs: Vec<(String, InputConfig)>,
    ended: &(impl Fn() + Clone + Send + 'static),
) -> Result<Vec<Running>> {
    let mut running = Vec::new();
    for (name, InputConfig { kind, input }) in inputs {
        let stream = engine.stream(&name)?;
        let progress = Arc::new(Progress::default());
        let (ended, shared) = (ended.clone(), Arc::clone(&progress));
        let ends_soon = input.ends_soon();
        let body = move || {
            while catch_unwind(AssertUnwindSafe(|| input.run(&stream, &shared))).is_err() {
                log::error!("input {kind}: it panicked, and begins again");
                Progress::count(&shared.restarts);
                park(Some(PANIC_PAUSE));
            }
            shared.end();
            ended();
        };
        let thread = std::thread::Builder::new()
            .name(format!("forebay-{kind}"))
            .spawn(body);
        let thread = thread.map_err(|error| Error::io("start input", error))?;
        let _ = progress.thread.set(thread.thread().clone());
        running.push(Running {
            stream: name,
            progress,
            name: kind,
            ends_soon,
        });
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
