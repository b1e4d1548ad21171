//! Connections to a broker, plain or with TLS. None of their calls blocks.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::AsFd;
use std::sync::mpsc::{TryRecvError, channel};
use std::time::Duration;

use crate::clock::{Clock, System};
use crate::input::Progress;
use crate::input::system::{Source, begin_to_connect};

/// An address is waited for so long.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How often is looked whether a name has been found; the pause doubles.
const LOOKUP_PAUSE: Duration = Duration::from_millis(1);
const LOOKUP_PAUSE_MAX: Duration = Duration::from_millis(100);

/// A connection.
pub trait Wire: Read + Write + AsFd {
    /// It is still being opened, and takes nothing yet.
    fn is_opening(&self) -> bool {
        false
    }

    /// What it took has not been sent yet, or it has something of its own to send.
    fn has_unsent(&self) -> bool {
        false
    }
}

impl Wire for TcpStream {}

/// A connection to the first of a name's addresses that takes one; `None` when the input is to stop.
pub fn connect(broker: &str, progress: &Progress) -> io::Result<Option<TcpStream>> {
    let Some(addresses) = addresses(broker, progress)? else {
        return Ok(None);
    };
    let mut last = io::Error::new(ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match connect_to(address, progress) {
            Err(error) => last = error,
            done => return done,
        }
    }
    Err(last)
}

/// The addresses of a name. Looking it up cannot be broken off, so a thread of its own does, which an order
/// to stop leaves behind.
fn addresses(broker: &str, progress: &Progress) -> io::Result<Option<Vec<SocketAddr>>> {
    if let Ok(address) = broker.parse() {
        return Ok(Some(vec![address]));
    }
    let (sender, found) = channel();
    let name = broker.to_owned();
    let lookup = move || {
        let addresses = name.to_socket_addrs();
        // Nobody waits any more when the input has been stopped.
        let _ = sender.send(addresses.map(Iterator::collect));
    };
    let thread = std::thread::Builder::new().name("forebay-lookup".to_owned());
    thread.spawn(lookup)?;
    let mut pause = LOOKUP_PAUSE;
    while !progress.is_stopping() {
        match found.try_recv() {
            Ok(addresses) => return addresses.map(Some),
            Err(TryRecvError::Disconnected) => {
                return Err(io::Error::other("the look-up of the name ended"));
            }
            Err(TryRecvError::Empty) => progress.wake.pause(pause),
        }
        pause = (pause * 2).min(LOOKUP_PAUSE_MAX);
    }
    Ok(None)
}

fn connect_to(address: SocketAddr, progress: &Progress) -> io::Result<Option<TcpStream>> {
    let wire = TcpStream::from(begin_to_connect(address)?);
    let clock = System::new();
    let end = clock.mono().plus(CONNECT_MAX);
    while !progress.is_stopping() {
        let now = clock.mono();
        if now >= end {
            let text = format!("no answer for {CONNECT_MAX:?}");
            return Err(io::Error::new(ErrorKind::TimedOut, text));
        }
        let mut sources = [Source::read(&wire)];
        sources[0].for_reading = false;
        sources[0].for_writing = true;
        progress.wake.wait(&mut sources, Some(end.since(now)))?;
        if sources[0].is_writable || sources[0].is_readable {
            if let Some(error) = wire.take_error()? {
                return Err(error);
            }
            // Acknowledgements are short and waited for.
            wire.set_nodelay(true)?;
            return Ok(Some(wire));
        }
    }
    Ok(None)
}

#[cfg(feature = "input-mqtt-tls")]
pub use secured::Secured;

/// TLS on a connection.
#[cfg(feature = "input-mqtt-tls")]
mod secured {
    use std::os::fd::BorrowedFd;

    use super::{AsFd, Read, TcpStream, Wire, Write, io};
    use crate::clock::{Clock, System};
    use crate::tls::{ClientConnection, StreamOwned, Tls};

    /// A connection with TLS on it.
    pub struct Secured(StreamOwned<ClientConnection, TcpStream>);

    impl Secured {
        /// Puts TLS on a connection to this host. The files are read each time: they may be renewed.
        pub fn new(
            wire: TcpStream,
            host: &str,
            ca_file: Option<&str>,
            identity: Option<(&str, &str)>,
        ) -> io::Result<Self> {
            let clock = System::new();
            let tls = Tls::new(ca_file, identity, Box::new(move || clock.wall_ms()));
            let tls = tls.map_err(io::Error::other)?;
            Ok(Self(StreamOwned::new(tls.begin(host)?, wire)))
        }
    }

    impl Read for Secured {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            self.0.read(buf)
        }
    }

    impl Write for Secured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            self.0.flush()
        }
    }

    impl AsFd for Secured {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.sock.as_fd()
        }
    }

    impl Wire for Secured {
        fn is_opening(&self) -> bool {
            self.0.conn.is_handshaking()
        }

        fn has_unsent(&self) -> bool {
            self.0.conn.wants_write()
        }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)] // a test is not behind the seams
mod tests {
    use std::net::TcpListener;
    use std::sync::Arc;

    use super::*;
    use crate::watermark::seam::park;

    /// An address that takes no more connections, and does not say so.
    fn silent() -> (TcpListener, Vec<TcpStream>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let address = listener.local_addr().unwrap();
        let mut taken = Vec::new();
        while let Ok(wire) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            taken.push(wire);
            assert!(taken.len() < 100, "it takes all");
        }
        (listener, taken)
    }

    #[test]
    fn an_order_to_stop_ends_the_wait_for_an_address_that_is_silent() {
        let (listener, _taken) = silent();
        let broker = listener.local_addr().unwrap().to_string();
        let progress = Arc::new(Progress::default());
        let clock = System::new();
        let began = clock.mono();
        let shared = Arc::clone(&progress);
        let connecting = std::thread::spawn(move || connect(&broker, &shared).map(|_| ()));
        park(Some(Duration::from_millis(100)));
        assert!(!connecting.is_finished(), "it was not silent");
        progress.stop();
        connecting.join().unwrap().unwrap();
        let lasted = clock.mono().since(began);
        assert!(lasted < CONNECT_MAX / 2, "{lasted:?}");
    }

    #[test]
    fn each_address_of_a_name_is_tried_and_the_last_error_is_told() {
        let progress = Progress::default();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let name = format!("localhost:{}", listener.local_addr().unwrap().port());
        assert!(connect(&name, &progress).unwrap().is_some());
        drop(listener);
        let error = connect(&name, &progress).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        progress.stop();
        assert!(connect(&name, &progress).unwrap().is_none());
    }
}
