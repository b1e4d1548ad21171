//! Lines or frames over TCP. A connection pushes back: while there is no room, it is not read.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use super::address::address;
use super::connections::{self, Listener, serve};
use super::feed::{self, Feed, Patience};
use super::fields::brace;
use super::{Field, Input, Progress};
use crate::config::json::Object;
use crate::config::resolve::Resolver;
use crate::engine::Stream;
use crate::error::Result;

/// What the input is told.
#[derive(Clone, Debug)]
struct Options {
    address: String,
    connections: connections::Options,
    feed: feed::Options,
}

/// Reads what the input is told.
pub(super) fn read(object: &mut Object<'_>, resolver: &Resolver<'_>) -> Result<Arc<dyn Input>> {
    Ok(Arc::new(Options {
        address: address(&object.required("address")?, resolver)?,
        connections: connections::Options::read(object)?,
        feed: feed::Options::read(object, resolver, false)?,
    }))
}

struct Streams(TcpListener);

impl AsFd for Streams {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Listener for Streams {
    type Stream = TcpStream;

    fn accept(&self) -> io::Result<(TcpStream, Option<String>)> {
        let (stream, peer) = self.0.accept()?;
        stream.set_nonblocking(true)?;
        // Answers are short and waited for.
        stream.set_nodelay(true)?;
        Ok((stream, Some(peer.ip().to_string())))
    }
}

impl Input for Options {
    fn fields(&self) -> Vec<Field> {
        let Self {
            address,
            connections,
            feed,
        } = self;
        let address = vec![("address", brace(address))];
        [address, connections.to_json(), feed.to_json()].concat()
    }

    fn run(&self, stream: &Stream, progress: &Progress) {
        let mut feed = Feed::new("tcp", &self.feed, stream, progress, Patience::Waits);
        loop {
            let listened = TcpListener::bind(&self.address).and_then(|listener| {
                listener.set_nonblocking(true)?;
                Ok(listener)
            });
            let served = listened.and_then(|listener| {
                feed.works(&listener.local_addr()?);
                serve(&Streams(listener), &self.connections, &mut feed)
            });
            match served {
                Ok(()) => return,
                Err(error) => {
                    if !feed.wait_to_retry(&format!("{}: {error}", self.address)) {
                        return;
                    }
                }
            }
        }
    }
}
