//! Datagrams: each is a record. Nobody can be made to wait, so what is too much is counted.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::time::Duration;

use super::Field;
use super::feed::{Feed, Reason, Taken};
use super::fields::Origin;
use super::system::Source;
use super::told::Part;
use crate::clock::Clock;
use crate::config::json::Object;
use crate::config::resolve::Resolver;
use crate::error::Result;

/// So many datagrams are received before anything else is looked at.
const TURN: u32 = 256;
/// How often the system is asked what it dropped, while something comes.
const LOOK: Duration = Duration::from_secs(5);

/// What an input of datagrams is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// 0: as the system has it.
    receive_buffer: u32,
}

impl Part for Options {
    fn read(object: &mut Object<'_>, _: &Resolver<'_>) -> Result<Self> {
        let size = object.take_set("receiveBufferBytes");
        let receive_buffer = size.map_or(Ok(0), |node| node.number32(0..=1 << 28))?;
        Ok(Self { receive_buffer })
    }

    fn to_json(&self) -> Vec<Field> {
        let Self { receive_buffer } = self;
        vec![("receiveBufferBytes", receive_buffer.to_string())]
    }
}

impl Options {
    /// What the system is asked for, if anything.
    pub fn buffer_size(&self) -> Option<usize> {
        let size = usize::try_from(self.receive_buffer).ok()?;
        (size > 0).then_some(size)
    }
}

/// A datagram that was received.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// Its length in the buffer.
    pub len: usize,
    /// It was longer.
    pub is_cut: bool,
    /// Who sent it may not send.
    pub is_denied: bool,
}

/// Where datagrams come from.
pub trait Datagrams: AsFd {
    /// Where it receives them.
    fn place(&self) -> String;

    /// Receives one without waiting for it, and says who sent it.
    fn receive(&self, buf: &mut [u8], sender: &mut String) -> io::Result<Received>;

    /// How many the system has dropped since the socket was opened, where it tells.
    fn dropped(&self) -> u64 {
        0
    }
}

/// Receives datagrams until the input is to stop. A socket that fails is opened again.
pub fn serve<D: Datagrams>(feed: &mut Feed<'_>, open: impl Fn() -> io::Result<D>) {
    loop {
        let received = open().and_then(|socket| {
            feed.works(&socket.place());
            receive_all(&socket, feed)
        });
        match received {
            Ok(()) => return,
            Err(error) => {
                if !feed.wait_to_retry(&error) {
                    return;
                }
            }
        }
    }
}

fn receive_all(socket: &impl Datagrams, feed: &mut Feed<'_>) -> io::Result<()> {
    // One more than a record may have shows that it has more.
    let mut buf = vec![0; feed.len_max() + 1];
    let mut sender = String::new();
    let (mut dropped, mut looked, mut is_new) = (0, feed.clock.mono(), false);
    loop {
        let now = feed.clock.mono();
        let is_ending = feed.is_stopping();
        if is_new && (is_ending || now.since(looked) >= LOOK) {
            let lost = socket.dropped();
            if lost > dropped {
                feed.note_many(Reason::Lost, lost - dropped, b"dropped by the system");
            }
            (dropped, looked, is_new) = (lost, now, false);
        }
        if is_ending {
            return Ok(());
        }
        let limit = is_new.then_some(LOOK);
        let mut source = [Source::read(socket)];
        feed.progress.wake.wait(&mut source, limit)?;
        for _ in 0..TURN {
            let received = match socket.receive(&mut buf, &mut sender) {
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // What somebody else's answer was, or a signal.
                Err(error) if is_passing(&error) => continue,
                Err(error) => return Err(error),
            };
            is_new = true;
            let Received {
                len,
                is_cut,
                is_denied,
            } = received;
            let payload = &buf[..len];
            let taken = if is_denied {
                feed.pass_by(Reason::Denied, payload)
            } else if is_cut || len == buf.len() {
                feed.pass_by(Reason::TooLong, payload)
            } else {
                let origin = Origin {
                    topic: "",
                    sender: &sender,
                };
                feed.take(payload, origin, None)
            };
            if taken == Taken::Ended {
                return Ok(());
            }
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Interrupted | ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset
    )
}
