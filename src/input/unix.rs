//! Sockets in the file system: streams of lines or frames, and datagrams.
//!
//! The system tells who is at the other end, so a list can say who may send. A stream pushes back: while
//! there is no room, it is not read. What is too much of datagrams is counted; the system makes their
//! senders wait, or tells them, when the socket's own queue is full.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;

use super::connections::{self, Listener, serve};
use super::datagrams::{self, Datagrams, Received};
use super::feed::{Feed, Patience};
use super::fields::brace;
use super::system::{Peer, datagrams_at, listen_at, peer_of, receive, set_receive_buffer};
use super::told::{Part, Told};
use super::{Field, Input, Progress};
use crate::config::json::{Node, Object, quoted};
use crate::config::path;
use crate::config::resolve::Resolver;
use crate::engine::Stream;
use crate::error::Result;

/// The most users or groups of a list.
const LIST_MAX: usize = 64;

/// Where a socket lies, and who may send to it.
#[derive(Clone, Debug)]
struct Place {
    path: PathBuf,
    mode: u32,
    /// Both lists empty: whoever may open it.
    users: Vec<u32>,
    groups: Vec<u32>,
}

impl Part for Place {
    fn read(object: &mut Object<'_>, resolver: &Resolver<'_>) -> Result<Self> {
        let path = path(&object.required("path")?, resolver)?;
        let mode = object.take_set("mode").map_or(Ok(0o600), |node| {
            let text = node.string().unwrap_or_default();
            let mode = u32::from_str_radix(&text, 8).ok();
            let mode = mode.filter(|mode| (3..=4).contains(&text.len()) && *mode <= 0o777);
            mode.ok_or_else(|| node.error("must be a mode in octal, as in \"0660\""))
        })?;
        let users = list(object.take_set("allowUids"))?;
        let groups = list(object.take_set("allowGids"))?;
        Ok(Self {
            path,
            mode,
            users,
            groups,
        })
    }

    fn to_json(&self) -> Vec<Field> {
        let Self {
            path,
            mode,
            users,
            groups,
        } = self;
        vec![
            ("path", brace(&path.to_string_lossy())),
            ("mode", quoted(&format!("{mode:04o}"))),
            ("allowUids", format!("{users:?}")),
            ("allowGids", format!("{groups:?}")),
        ]
    }
}

impl Place {
    /// Who it is, if it may send.
    fn admit(&self, peer: Option<Peer>) -> Option<String> {
        let is_open = self.users.is_empty() && self.groups.is_empty();
        let is_listed =
            |peer: &Peer| self.users.contains(&peer.uid) || self.groups.contains(&peer.gid);
        match peer {
            Some(peer) if is_open || is_listed(&peer) => Some(peer.uid.to_string()),
            None if is_open => Some(String::new()),
            _ => None,
        }
    }
}

/// Numbers of users or groups.
fn list(node: Option<Node<'_>>) -> Result<Vec<u32>> {
    let Some(node) = node else {
        return Ok(Vec::new());
    };
    let numbers = node.array_of(LIST_MAX, "numbers")?;
    numbers
        .iter()
        .map(|number| number.number32(0..=u32::MAX))
        .collect()
}

/// What an input of streams is told.
type StreamOptions = Told<Place, connections::Options>;

/// Reads what an input of streams is told.
pub(super) fn read_stream(
    object: &mut Object<'_>,
    resolver: &Resolver<'_>,
) -> Result<Arc<dyn Input>> {
    StreamOptions::read(object, resolver)
}

struct Streams<'a> {
    listener: UnixListener,
    place: &'a Place,
}

impl AsFd for Streams<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Listener for Streams<'_> {
    type Stream = UnixStream;

    fn accept(&self) -> io::Result<(UnixStream, Option<String>)> {
        let (stream, _) = self.listener.accept()?;
        stream.set_nonblocking(true)?;
        let sender = self.place.admit(peer_of(&stream).ok());
        Ok((stream, sender))
    }
}

impl Input for StreamOptions {
    fn fields(&self) -> Vec<Field> {
        self.to_json()
    }

    fn run(&self, stream: &Stream, progress: &Progress) {
        let place = &self.place;
        let mut feed = Feed::new("unixStream", &self.feed, stream, progress, Patience::Waits);
        serve(&place.path.display(), &self.how, &mut feed, || {
            let listener = listen_at(&place.path, place.mode)?;
            Ok(Streams { listener, place })
        });
    }
}

/// What an input of datagrams is told.
type DatagramOptions = Told<Place, datagrams::Options>;

/// Reads what an input of datagrams is told.
pub(super) fn read_datagram(
    object: &mut Object<'_>,
    resolver: &Resolver<'_>,
) -> Result<Arc<dyn Input>> {
    DatagramOptions::read(object, resolver)
}

struct Socket<'a> {
    socket: UnixDatagram,
    place: &'a Place,
}

impl AsFd for Socket<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Datagrams for Socket<'_> {
    fn place(&self) -> String {
        self.place.path.display().to_string()
    }

    fn receive(&self, buf: &mut [u8], sender: &mut String) -> io::Result<Received> {
        let (len, is_cut, peer) = receive(&self.socket, buf)?;
        let admitted = self.place.admit(peer);
        let is_denied = admitted.is_none();
        *sender = admitted.unwrap_or_default();
        Ok(Received {
            len,
            is_cut,
            is_denied,
        })
    }
}

impl Input for DatagramOptions {
    fn fields(&self) -> Vec<Field> {
        self.to_json()
    }

    fn run(&self, stream: &Stream, progress: &Progress) {
        let place = &self.place;
        let patience = Patience::Counts;
        let mut feed = Feed::new("unixDatagram", &self.feed, stream, progress, patience);
        datagrams::serve(&mut feed, || {
            let socket = datagrams_at(&place.path, place.mode).map_err(|error| {
                io::Error::new(error.kind(), format!("{}: {error}", place.path.display()))
            })?;
            if let Some(size) = self.how.buffer_size() {
                set_receive_buffer(&socket, size)?;
            }
            Ok(Socket { socket, place })
        });
    }
}
