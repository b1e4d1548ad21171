//! A connection to a broker: asks for topics, takes what comes, and acknowledges what is durable.
//!
//! **Invariants.** A message is acknowledged only when its record is durable, or was passed over for good,
//! and in the order in which they came. No more wait for that than there are numbers of messages.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::time::Duration;

use super::packet::{Connect, Inbox, Message, Packet, Senseless};
use super::packet::{acknowledge, ask, disconnect, subscribe};
use super::wire::Wire;
use crate::clock::{Clock, Mono};
use crate::input::Progress;
use crate::input::feed::{Feed, Reason, Taken};
use crate::input::fields::Origin;
use crate::input::system::Source;
use crate::watermark::seam::park;

/// So much is read at once.
const READ_SIZE: usize = 64 << 10;
/// An answer of the broker is waited for so long.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// How often is looked whether what waits to be acknowledged is durable.
const DURABLE_PAUSE: Duration = Duration::from_millis(1);
/// How long messages are still acknowledged after the order to stop, and the broker's good-bye is waited for.
const END_MAX: Duration = Duration::from_millis(500);
/// The most messages that wait to be acknowledged.
const PENDING_MAX: usize = 65_535;
/// What a broker says of a topic that it refuses.
const REFUSED: u8 = 0x80;

/// What a session is for.
pub struct Wanted<'a> {
    /// The broker, for people.
    pub broker: &'a str,
    /// Who connects.
    pub connect: Connect<'a>,
    /// What is asked for.
    pub topics: &'a [String],
    /// 0: at most once. 1: at least once.
    pub quality: u8,
    /// This process has asked for them. Who asks again is sent again what brokers retain.
    pub is_subscribed: Cell<bool>,
}

/// How far a session is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connecting,
    Subscribing,
    Serving,
}

/// A session with a broker at the other end of `wire`.
pub struct Session<'a, 'f> {
    wire: Box<dyn Wire>,
    wanted: &'a Wanted<'a>,
    feed: &'a mut Feed<'f>,
    phase: Phase,
    inbox: Inbox,
    out: Vec<u8>,
    /// Numbers of messages, and below which offset everything must be durable.
    pending: VecDeque<(u64, u16)>,
    /// When something was sent, and when something came.
    sent: Mono,
    heard: Mono,
    /// Since when an answer is waited for.
    asked: Option<Mono>,
}

impl<'a, 'f> Session<'a, 'f> {
    /// A session that has not begun.
    pub fn new(wire: Box<dyn Wire>, wanted: &'a Wanted<'a>, feed: &'a mut Feed<'f>) -> Self {
        let now = feed.clock.mono();
        let mut out = Vec::new();
        wanted.connect.write(&mut out);
        Self {
            wire,
            wanted,
            phase: Phase::Connecting,
            inbox: Inbox::new(feed.len_max()),
            feed,
            out,
            pending: VecDeque::new(),
            sent: now,
            heard: now,
            asked: Some(now),
        }
    }

    /// Serves it until the input is to stop. An error is one of the connection or of the broker.
    pub fn serve(mut self) -> io::Result<()> {
        let mut buf = vec![0; READ_SIZE];
        let (mut end, mut is_ending) = (Mono::NEVER, false);
        loop {
            let now = self.feed.clock.mono();
            is_ending |= self.feed.is_stopping();
            if is_ending {
                end = end.min(now.plus(END_MAX));
                if now >= end || self.pending.is_empty() {
                    self.end(&mut buf);
                    return Ok(());
                }
            }
            // What was taken is still acknowledged.
            is_ending |= self.wait(is_ending)? && !self.read(&mut buf)?;
            self.acknowledge_durable();
            self.keep_alive()?;
            self.write()?;
        }
    }

    /// Waits until there is something to do. Says whether something can be read.
    fn wait(&mut self, is_ending: bool) -> io::Result<bool> {
        // The order to stop does not end waits any more when it has come.
        if is_ending {
            park(Some(DURABLE_PAUSE));
            return Ok(false);
        }
        let now = self.feed.clock.mono();
        let limit = match self.pending.is_empty() {
            false => DURABLE_PAUSE,
            true => self.due().since(now).max(Duration::from_millis(1)),
        };
        let has_some = !self.out.is_empty() && !self.wire.is_opening();
        let mut sources = [Source::read(&self.wire)];
        sources[0].for_reading = self.pending.len() < PENDING_MAX;
        sources[0].for_writing = has_some || self.wire.has_unsent();
        self.feed.progress.wake.wait(&mut sources, Some(limit))?;
        Ok(sources[0].is_readable)
    }

    /// When something is to be asked, or an answer is overdue.
    fn due(&self) -> Mono {
        match self.asked {
            Some(asked) => asked.plus(ANSWER_MAX),
            None => self.sent.plus(self.quiet_max()),
        }
    }

    /// For so long nothing need be sent.
    fn quiet_max(&self) -> Duration {
        Duration::from_secs(self.wanted.connect.keep_alive_secs.into()) * 3 / 4
    }

    fn keep_alive(&mut self) -> io::Result<()> {
        let now = self.feed.clock.mono();
        if let Some(asked) = self.asked {
            // Whatever comes says that the broker is there, but for the answers of the beginning.
            if self.phase == Phase::Serving && self.heard > asked {
                self.asked = None;
            } else if now.since(asked) >= ANSWER_MAX {
                let text = format!("the broker has not answered for {ANSWER_MAX:?}");
                return Err(io::Error::new(ErrorKind::TimedOut, text));
            }
        } else if now.since(self.sent) >= self.quiet_max() {
            ask(&mut self.out);
            self.asked = Some(now);
        }
        Ok(())
    }

    /// Reads what has come. False: nothing more is taken.
    fn read(&mut self, buf: &mut [u8]) -> io::Result<bool> {
        let len = match self.wire.read(buf) {
            Ok(0) => {
                let text = "the broker closed the connection";
                return Err(io::Error::new(ErrorKind::UnexpectedEof, text));
            }
            Ok(len) => len,
            Err(error) if is_passing(&error) => return Ok(true),
            Err(error) => return Err(error),
        };
        self.heard = self.feed.clock.mono();
        self.inbox.add(&buf[..len]);
        let (feed, pending) = (&mut *self.feed, &mut self.pending);
        loop {
            let packet = self.inbox.packet().map_err(|Senseless(what)| {
                io::Error::new(ErrorKind::InvalidData, format!("the broker sent {what}"))
            })?;
            match packet {
                None => return Ok(true),
                Some(Packet::Connected { code: 0, is_known }) => {
                    if is_known && self.wanted.is_subscribed.get() {
                        self.phase = Phase::Serving;
                        self.asked = None;
                        feed.works(&self.wanted.broker);
                    } else {
                        self.phase = Phase::Subscribing;
                        self.asked = Some(self.heard);
                        subscribe(self.wanted.topics, self.wanted.quality, &mut self.out);
                    }
                }
                Some(Packet::Connected { code, .. }) => return Err(refused(code)),
                Some(Packet::Subscribed(codes)) => {
                    check(self.wanted.topics, codes)?;
                    self.wanted.is_subscribed.set(true);
                    self.phase = Phase::Serving;
                    self.asked = None;
                    feed.works(&self.wanted.broker);
                }
                Some(Packet::Message(message)) => {
                    let taken = take(feed, &message, self.wanted.broker);
                    if taken == Taken::Ended {
                        return Ok(false);
                    }
                    let below = match taken {
                        Taken::Below(offset) => offset,
                        _ => 0,
                    };
                    pending.extend(message.number.map(|number| (below, number)));
                }
                Some(Packet::Alive) => {}
            }
        }
    }

    fn acknowledge_durable(&mut self) {
        // What was passed over waits for nothing but its turn.
        let newest = self.pending.iter().rev().find(|(below, _)| *below > 0);
        let durable = newest.map_or(0, |(below, _)| self.feed.make_durable(*below));
        while let Some((below, number)) = self.pending.front()
            && *below <= durable
        {
            acknowledge(*number, &mut self.out);
            self.pending.pop_front();
        }
    }

    fn write(&mut self) -> io::Result<()> {
        while !self.out.is_empty() {
            match self.wire.write(&self.out) {
                Ok(0) => break,
                Ok(len) => {
                    self.out.drain(..len);
                    self.sent = self.feed.clock.mono();
                }
                Err(error) if is_passing(&error) => break,
                Err(error) => return Err(error),
            }
        }
        self.wire.flush().or_else(|error| match is_passing(&error) {
            true => Ok(()),
            false => Err(error),
        })
    }

    /// Says good-bye, and reads until the broker has closed: what is not read would undo what was sent last.
    fn end(&mut self, buf: &mut [u8]) {
        disconnect(&mut self.out);
        let end = self.feed.clock.mono().plus(END_MAX);
        let mut is_open = self.write().is_ok();
        while is_open && self.feed.clock.mono() < end {
            is_open = match self.wire.read(buf) {
                Ok(len) => len > 0,
                Err(error) => is_passing(&error) && self.write().is_ok(),
            };
            park(Some(DURABLE_PAUSE));
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

fn take(feed: &mut Feed<'_>, message: &Message<'_>, broker: &str) -> Taken {
    if message.is_repeated {
        Progress::count(&feed.progress.repeated);
    }
    if message.is_too_long {
        return feed.pass_by(Reason::TooLong, message.payload);
    }
    let origin = Origin {
        topic: &message.topic,
        sender: broker,
    };
    feed.take(message.payload, origin, None)
}

/// Why a broker takes no connection.
fn refused(code: u8) -> io::Error {
    let why = match code {
        1 => "it does not know MQTT 3.1.1",
        2 => "it does not like the clientId",
        3 => "it is not there at the moment",
        4 => "user name or password are wrong",
        5 => "this client may not connect",
        _ => "for a reason of its own",
    };
    io::Error::other(format!(
        "the broker refused the connection: {why} (code {code})"
    ))
}

/// The broker takes all topics.
fn check(topics: &[String], codes: &[u8]) -> io::Result<()> {
    let refused = codes.iter().position(|code| *code == REFUSED);
    if let Some(topic) = refused.and_then(|at| topics.get(at)) {
        let text = format!("the broker refused the subscription to {topic:?}");
        return Err(io::Error::other(text));
    }
    match codes.len() == topics.len() {
        true => Ok(()),
        false => Err(io::Error::other(
            "the broker sent an answer to something else",
        )),
    }
}
