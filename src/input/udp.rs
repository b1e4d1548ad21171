//! Datagrams over UDP.

use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;

use super::address::Address;
use super::datagrams::{self, Datagrams, Received};
use super::feed::{Feed, Patience};
use super::system::{set_receive_buffer, socket_number};
use super::told::Told;
use super::{Field, Input, Progress};
use crate::config::json::Object;
use crate::config::resolve::Resolver;
use crate::engine::Stream;
use crate::error::Result;
use crate::storage::read_text;

/// The most that is read of the system's table of sockets.
const TABLE_SIZE_MAX: u64 = 4 << 20;

/// What the input is told.
type Options = Told<Address, datagrams::Options>;

/// Reads what the input is told.
pub(super) fn read(object: &mut Object<'_>, resolver: &Resolver<'_>) -> Result<Arc<dyn Input>> {
    Options::read(object, resolver)
}

struct Socket(UdpSocket);

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Datagrams for Socket {
    fn place(&self) -> String {
        let address = self.0.local_addr();
        address.map_or_else(|_| String::new(), |address| address.to_string())
    }

    fn receive(&self, buf: &mut [u8], sender: &mut String) -> io::Result<Received> {
        let (len, from) = self.0.recv_from(buf)?;
        sender.clear();
        let _ = std::fmt::Write::write_fmt(sender, format_args!("{}", from.ip()));
        Ok(Received {
            len,
            is_cut: false,
            is_denied: false,
        })
    }

    fn dropped(&self) -> u64 {
        let tables = ["/proc/net/udp", "/proc/net/udp6"];
        let found = socket_number(&self.0).and_then(|number| {
            let mut tables = tables.into_iter();
            tables.find_map(|table| {
                let text = read_text(Path::new(table), TABLE_SIZE_MAX).ok()?;
                dropped_in(&text, number)
            })
        });
        found.unwrap_or(0)
    }
}

/// What the system's table says that a socket has lost.
fn dropped_in(table: &str, number: u64) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let mut words = line.split_whitespace();
        let is_it = words.nth(9)?.parse() == Ok(number);
        words.nth(2).filter(|_| is_it)?.parse().ok()
    })
}

impl Input for Options {
    fn fields(&self) -> Vec<Field> {
        self.to_json()
    }

    fn run(&self, stream: &Stream, progress: &Progress) {
        let mut feed = Feed::new("udp", &self.feed, stream, progress, Patience::Counts);
        let address = &self.place.0;
        datagrams::serve(&mut feed, || {
            let socket = UdpSocket::bind(address)
                .map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))?;
            socket.set_nonblocking(true)?;
            if let Some(size) = self.how.buffer_size() {
                set_receive_buffer(&socket, size)?;
            }
            Ok(Socket(socket))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_dropped_stands_in_its_table() {
        let table = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt \
             uid  timeout inode ref pointer drops\n  \
             12: 0100007F:13C4 00000000:0000 07 00000000:00000000 00:00000000 00000000 \
             0        0 4711 2 0000000000000000 17\n";
        assert_eq!(dropped_in(table, 4711), Some(17));
        assert_eq!(dropped_in(table, 471), None);
        let socket = Socket(UdpSocket::bind("127.0.0.1:0").unwrap());
        assert_eq!(socket.dropped(), 0);
    }

    /// The system drops what finds no room, and says how much that was.
    #[test]
    fn a_socket_that_is_not_read_loses_datagrams_and_says_so() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        set_receive_buffer(&socket, 4096).unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..1000 {
            sender
                .send_to(&[0; 100], socket.local_addr().unwrap())
                .unwrap();
        }
        assert!(Socket(socket).dropped() > 500);
    }
}
