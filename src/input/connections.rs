//! Connections that send lines or frames, all of them served by one thread, and what they are told back.
//!
//! A client may ask that each of its records is answered: `ok` when it is durable, `no` and a reason when it
//! was passed over. Answers come in the order of the records. What was not answered when a connection ends
//! may be stored or not: a client that sends it again has it at least once.
//!
//! **Invariants.** `ok` is sent only when everything below the record's offset is durable. A connection holds
//! no more than one record that is not whole, [`UNANSWERED_MAX`] records to be answered and
//! [`UNSENT_MAX`] bytes of answers: a client that does not read its answers is not read from.

use std::collections::VecDeque;
use std::fmt::Display;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use super::Field;
use super::cutter::{Cut, Cutter, Framing};
use super::feed::{Feed, Reason, Taken};
use super::fields::Origin;
use super::system::Source;
use super::told::Part;
use crate::clock::{Clock, Mono};
use crate::config::json::{Object, quoted};
use crate::config::resolve::Resolver;
use crate::error::Result;
use crate::watermark::seam::park;

/// Of one connection so much is read before the others have their turn.
const READ_SIZE: usize = 64 << 10;
/// The most records of a connection that are not answered yet.
pub const UNANSWERED_MAX: usize = 8192;
/// The most bytes of answers that a connection has not taken yet.
pub const UNSENT_MAX: usize = 64 << 10;
/// How often is looked whether what waits for its answer is durable.
const DURABLE_PAUSE: Duration = Duration::from_millis(1);
/// When there is no place for a new connection, one that has been silent for so long gives way.
const SILENT_MIN: Duration = Duration::from_secs(1);
/// When nobody can be accepted, it is tried again after so long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long answers are still given after the order to stop.
const END_MAX: Duration = Duration::from_millis(500);
/// The line or frame with which a client asks for answers.
pub const ASKED: &[u8] = b"#acknowledge";

/// Whether records are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Acknowledge {
    Never,
    Asked,
    Always,
}

/// What an input with connections is told.
#[derive(Clone, Debug)]
pub struct Options {
    framing: Framing,
    acknowledge: Acknowledge,
    connections_max: u32,
    /// A connection that is silent for so long is closed.
    idle_timeout: Option<Duration>,
}

impl Part for Options {
    fn read(object: &mut Object<'_>, _: &Resolver<'_>) -> Result<Self> {
        let words = [("lines", Framing::Lines), ("frames", Framing::Frames)];
        let framing = object.take_set("framing");
        let framing = framing.map_or(Ok(Framing::Lines), |node| node.word(&words))?;
        let words = [
            ("never", Acknowledge::Never),
            ("asked", Acknowledge::Asked),
            ("always", Acknowledge::Always),
        ];
        let acknowledge = object.take_set("acknowledge");
        let acknowledge = acknowledge.map_or(Ok(Acknowledge::Never), |node| node.word(&words))?;
        let count = object.take_set("maxConnections");
        let connections_max = count.map_or(Ok(64), |node| node.number32(1..=1024))?;
        let idle = object.take_set("idleTimeoutMs");
        let idle = idle.map_or(Ok(0), |node| node.number(0..=86_400_000))?;
        Ok(Self {
            framing,
            acknowledge,
            connections_max,
            idle_timeout: (idle > 0).then(|| Duration::from_millis(idle)),
        })
    }

    fn to_json(&self) -> Vec<Field> {
        let Self {
            framing,
            acknowledge,
            connections_max,
            idle_timeout,
        } = self;
        let framing = match framing {
            Framing::Lines => "lines",
            Framing::Frames => "frames",
        };
        let acknowledge = match acknowledge {
            Acknowledge::Never => "never",
            Acknowledge::Asked => "asked",
            Acknowledge::Always => "always",
        };
        let idle = idle_timeout.map_or(0, |idle| idle.as_millis());
        vec![
            ("framing", quoted(framing)),
            ("acknowledge", quoted(acknowledge)),
            ("maxConnections", connections_max.to_string()),
            ("idleTimeoutMs", idle.to_string()),
        ]
    }
}

/// Where connections come from. No call blocks.
pub trait Listener: AsFd {
    /// A connection.
    type Stream: Read + Write + AsFd;

    /// Where it listens, if that is not what it was told.
    fn place(&self) -> Option<String> {
        None
    }

    /// The next connection, and who is at its other end; `None`: one who may not send.
    fn accept(&self) -> io::Result<(Self::Stream, Option<String>)>;
}

/// What a record is told when its turn comes.
enum Answer {
    /// `ok`, when everything below is durable.
    Below(u64),
    /// `no`.
    Not(Reason),
}

#[allow(clippy::struct_excessive_bools)] // each is a question of its own
struct Connection<S> {
    stream: S,
    sender: String,
    cutter: Cutter,
    is_answered: bool,
    is_first: bool,
    answers: VecDeque<Answer>,
    unsent: Vec<u8>,
    /// When it was read last.
    heard: Mono,
    /// There is something to read.
    is_readable: bool,
    /// It sends no more, and may wait for answers.
    is_done: bool,
    is_over: bool,
}

/// Serves connections until the input is to stop, from what `open` opened at `place`. A listener that fails
/// is opened again.
pub fn serve<L: Listener>(
    place: &dyn Display,
    options: &Options,
    feed: &mut Feed<'_>,
    open: impl Fn() -> io::Result<L>,
) {
    loop {
        let served = open().and_then(|listener| {
            feed.works(&listener.place().unwrap_or_else(|| place.to_string()));
            serve_all(&listener, options, feed)
        });
        feed.progress.set_connections(0);
        match served {
            Ok(()) => return,
            Err(error) => {
                if !feed.wait_to_retry(&format!("{place}: {error}")) {
                    return;
                }
            }
        }
    }
}

/// Serves connections until the input is to stop. An error is one of the listener.
fn serve_all(listener: &impl Listener, options: &Options, feed: &mut Feed<'_>) -> io::Result<()> {
    let mut connections = Vec::new();
    let mut buf = vec![0; READ_SIZE];
    let mut end = Mono::NEVER;
    loop {
        let now = feed.clock.mono();
        if feed.is_stopping() {
            end = end.min(now.plus(END_MAX));
            let is_waiting = |connection: &Connection<_>| connection.newest().is_some();
            if now >= end || !connections.iter().any(is_waiting) {
                return Ok(());
            }
        }
        wait(listener, options, feed, &mut connections)?;
        feed.progress.set_connections(connections.len());
        let is_stopping = feed.is_stopping();
        for connection in &mut connections {
            if connection.is_readable && !is_stopping {
                connection.heard = feed.clock.mono();
                connection.read(&mut buf, options, feed);
            }
        }
        let newest = connections.iter().filter_map(Connection::newest).max();
        let durable = newest.map_or(0, |newest| feed.make_durable(newest));
        for connection in &mut connections {
            connection.answer(durable);
        }
        let now = feed.clock.mono();
        connections.retain(|connection| {
            let is_silent = |limit| now.since(connection.heard) > limit;
            !connection.has_ended() && !options.idle_timeout.is_some_and(is_silent)
        });
        feed.progress.set_connections(connections.len());
    }
}

/// Waits until there is something to do, notes which connections can be read, and accepts who comes.
fn wait<L: Listener>(
    listener: &L,
    options: &Options,
    feed: &mut Feed<'_>,
    connections: &mut Vec<Connection<L::Stream>>,
) -> io::Result<()> {
    let is_stopping = feed.is_stopping();
    let mut sources = vec![Source::read(listener)];
    sources[0].for_reading = !is_stopping;
    for connection in connections.iter() {
        let mut source = Source::read(&connection.stream);
        source.for_reading = !is_stopping && connection.has_room();
        source.for_writing = !connection.unsent.is_empty();
        sources.push(source);
    }
    let waits = connections.iter().any(|other| other.newest().is_some());
    let oldest = connections.iter().map(|connection| connection.heard).min();
    let idle = options.idle_timeout.zip(oldest);
    let idle = idle.map(|(limit, heard)| {
        let left = heard.plus(limit).since(feed.clock.mono());
        left + Duration::from_millis(1)
    });
    // The order to stop does not end waits any more when it has come.
    match is_stopping {
        true => park(Some(DURABLE_PAUSE)),
        false => {
            let limit = if waits { Some(DURABLE_PAUSE) } else { idle };
            feed.progress.wake.wait(&mut sources, limit)?;
        }
    }
    let is_new = sources[0].is_readable;
    let readable: Vec<_> = sources[1..]
        .iter()
        .map(|source| source.is_readable)
        .collect();
    for (connection, is_readable) in connections.iter_mut().zip(readable) {
        connection.is_readable = is_readable;
    }
    match is_new {
        true => accept(listener, options, feed, connections),
        false => Ok(()),
    }
}

/// Accepts all who have come.
fn accept<L: Listener>(
    listener: &L,
    options: &Options,
    feed: &mut Feed<'_>,
    connections: &mut Vec<Connection<L::Stream>>,
) -> io::Result<()> {
    loop {
        let (stream, sender) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            // Who came has gone already.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
            Err(error) => {
                // Out of files, as a rule: those who are here have some to give back.
                feed.pass_over(Reason::Denied, error.to_string().as_bytes());
                feed.progress.wake.pause(ACCEPT_PAUSE);
                return Ok(());
            }
        };
        let Some(sender) = sender else {
            feed.pass_over(Reason::Denied, b"a connection of who may not send");
            continue;
        };
        let now = feed.clock.mono();
        if connections.len() >= options.connections_max as usize {
            feed.pass_over(Reason::Denied, b"a connection beyond maxConnections");
            let others = connections.iter().enumerate();
            let silent = others.filter(|(_, other)| other.is_silent(now));
            let silent = silent.min_by_key(|(_, other)| other.heard);
            match silent.map(|(at, _)| at) {
                Some(at) => drop(connections.swap_remove(at)),
                None => continue,
            }
        }
        connections.push(Connection {
            stream,
            sender,
            cutter: Cutter::new(options.framing, feed.len_max()),
            is_answered: options.acknowledge == Acknowledge::Always,
            is_first: true,
            answers: VecDeque::new(),
            unsent: Vec::new(),
            heard: now,
            is_readable: false,
            is_done: false,
            is_over: false,
        });
    }
}

impl<S: Read + Write> Connection<S> {
    /// Everything below must be durable for all answers that wait.
    fn newest(&self) -> Option<u64> {
        let below = self.answers.iter().rev().find_map(|answer| match answer {
            Answer::Below(offset) => Some(*offset),
            Answer::Not(_) => None,
        });
        below.filter(|_| !self.is_over)
    }

    fn has_room(&self) -> bool {
        !self.is_done && self.answers.len() < UNANSWERED_MAX && self.unsent.len() < UNSENT_MAX
    }

    /// It has sent nothing for a while, and waits for no answer.
    fn is_silent(&self, now: Mono) -> bool {
        !self.is_readable && self.answers.is_empty() && now.since(self.heard) >= SILENT_MIN
    }

    fn has_ended(&self) -> bool {
        self.is_over || self.is_done && self.answers.is_empty() && self.unsent.is_empty()
    }

    fn read(&mut self, buf: &mut [u8], options: &Options, feed: &mut Feed<'_>) {
        // A byte is a record at least.
        let room = UNANSWERED_MAX.saturating_sub(self.answers.len());
        let len = match self.is_answered {
            true => buf.len().min(room.max(1)),
            false => buf.len(),
        };
        let len = match self.stream.read(&mut buf[..len]) {
            Ok(len) => len,
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                return;
            }
            Err(_) => {
                self.is_over = true;
                return;
            }
        };
        let Self {
            sender,
            cutter,
            is_answered,
            is_first,
            answers,
            is_over,
            ..
        } = self;
        let origin = Origin { topic: "", sender };
        let mut take = |cut: Cut<'_>| {
            let taken = match cut {
                Cut::Record(ASKED) if *is_first && options.acknowledge == Acknowledge::Asked => {
                    *is_answered = true;
                    Taken::Below(0)
                }
                Cut::Record(record) => feed.take(record, origin, None),
                Cut::TooLong(begin) => feed.pass_by(Reason::TooLong, begin),
            };
            *is_first = false;
            match taken {
                Taken::Below(offset) if *is_answered => answers.push_back(Answer::Below(offset)),
                Taken::Not(reason) if *is_answered => answers.push_back(Answer::Not(reason)),
                Taken::Ended => *is_over = true,
                _ => {}
            }
            taken != Taken::Ended
        };
        if len == 0 {
            cutter.end(&mut take);
            self.is_done = true;
        } else if cutter.cut(&buf[..len], &mut take).is_err() {
            feed.pass_over(Reason::Malformed, &buf[..len]);
            self.is_over = true;
        }
    }

    /// Sends the answers of which it is time.
    fn answer(&mut self, durable: u64) {
        while self.unsent.len() < UNSENT_MAX {
            match self.answers.front() {
                Some(Answer::Below(offset)) if *offset <= durable => {
                    self.unsent.extend_from_slice(b"ok\n");
                }
                Some(Answer::Not(reason)) => {
                    let text = format!("no {}\n", reason.words());
                    self.unsent.extend_from_slice(text.as_bytes());
                }
                _ => break,
            }
            self.answers.pop_front();
        }
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(len) if len > 0 => drop(self.unsent.drain(..len)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                _ => {
                    self.is_over = true;
                    break;
                }
            }
        }
    }
}
