//! Lines or frames over TCP. A connection pushes back: while there is no room, it is not read.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use super::address::Address;
use super::connections::{self, Listener, serve};
use super::feed::{Feed, Patience};
use super::told::Told;
use super::{Field, Input, Progress};
use crate::config::json::Object;
use crate::config::resolve::Resolver;
use crate::engine::Stream;
use crate::error::Result;

/// What the input is told.
type Options = Told<Address, connections::Options>;

/// Reads what the input is told.
pub(super) fn read(object: &mut Object<'_>, resolver: &Resolver<'_>) -> Result<Arc<dyn Input>> {
    Options::read(object, resolver)
}

struct Streams(TcpListener);

impl AsFd for Streams {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Listener for Streams {
    type Stream = TcpStream;

    fn place(&self) -> Option<String> {
        self.0.local_addr().ok().map(|address| address.to_string())
    }

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
        self.to_json()
    }

    fn run(&self, stream: &Stream, progress: &Progress) {
        let mut feed = Feed::new("tcp", &self.feed, stream, progress, Patience::Waits);
        let address = &self.place.0;
        serve(address, &self.how, &mut feed, || {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok(Streams(listener))
        });
    }
}
