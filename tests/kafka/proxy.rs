//! A link between client and broker that can be cut, and that can fall silent, also at a certain request.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Passes on what it gets, as long as it does.
pub struct Proxy {
    pub port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    target: AtomicU16,
    /// Nobody listens.
    is_closed: AtomicBool,
    /// What is sent on new connections is lost, in this way.
    way: AtomicU8,
    connections: Mutex<Vec<(TcpStream, Arc<AtomicU8>)>>,
    trip: Mutex<Option<Trip>>,
}

/// How a connection is. What was lost comes no more: from all but the first there is no way back.
const UP: u8 = 0;
/// What the client sends arrives, and no answer does.
const DEAF: u8 = 1;
/// Nothing passes.
const DEAD: u8 = 2;
/// Somebody else answers, and ends the connection.
const STRANGE: u8 = 3;

const PAGE: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 20\r\n\r\n<html>Sign in</html>";

/// What happens when the broker has got a request of some kind: no answer comes, or the connections are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trip {
    Deafen(u16),
    Cut(u16),
}

impl Proxy {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State::default());
        let theirs = Arc::clone(&state);
        thread::spawn(move || theirs.listen(listener, port));
        Self { port, state }
    }

    pub fn set_target(&self, port: u16) {
        self.state.target.store(port, Ordering::Relaxed);
    }

    /// Cuts all connections.
    pub fn cut(&self) {
        self.state.cut();
    }

    /// Cuts all connections, and refuses new ones.
    pub fn set_closed(&self, is_closed: bool) {
        self.state.is_closed.store(is_closed, Ordering::Relaxed);
        if is_closed {
            self.state.cut();
        }
    }

    /// From now on nothing passes, and nothing says so. Connections stay as they are afterwards.
    pub fn set_silent(&self, is_silent: bool) {
        self.state.set_way(if is_silent { DEAD } else { UP });
    }

    /// From now on no answer passes.
    pub fn deafen(&self) {
        self.state.set_way(DEAF);
    }

    /// From now on somebody else answers.
    pub fn estrange(&self) {
        self.state.set_way(STRANGE);
    }

    /// The connections that are there are forgotten without a word. New ones are not.
    pub fn forget(&self) {
        self.state.set_way(DEAD);
        self.state.set_way(UP);
    }

    /// New connections are as they should be.
    pub fn heal(&self) {
        *self.state.trip.lock().unwrap() = None;
        self.set_closed(false);
        self.state.set_way(UP);
    }

    /// Waits for a request.
    pub fn arm(&self, trip: Trip) {
        *self.state.trip.lock().unwrap() = Some(trip);
    }

    /// The request came since it was waited for, and happened what was to.
    pub fn has_tripped(&self) -> bool {
        self.state.trip.lock().unwrap().is_none()
    }
}

impl State {
    fn listen(self: &Arc<Self>, listener: TcpListener, port: u16) {
        let mut listener = Some(listener);
        loop {
            let is_closed = self.is_closed.load(Ordering::Relaxed);
            if is_closed {
                listener = None;
            } else if listener.is_none() {
                listener = TcpListener::bind(("127.0.0.1", port)).ok();
            }
            if let Some(listener) = &listener {
                listener.set_nonblocking(true).unwrap();
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nonblocking(false).unwrap();
                    self.connect(stream);
                }
            }
            thread::park_timeout(Duration::from_millis(10));
        }
    }

    fn connect(self: &Arc<Self>, stream: TcpStream) {
        let target = self.target.load(Ordering::Relaxed);
        let Ok(to) = TcpStream::connect(("127.0.0.1", target)) else {
            return;
        };
        let mut connections = self.connections.lock().unwrap();
        let way = Arc::new(AtomicU8::new(self.way.load(Ordering::Relaxed)));
        for is_back in [false, true] {
            let (near, far) = (stream.try_clone().unwrap(), to.try_clone().unwrap());
            let (way, state) = (Arc::clone(&way), Arc::clone(self));
            thread::spawn(move || match is_back {
                false => pass(near, far, &way, Some(&state)),
                true => pass(far, near, &way, None),
            });
        }
        connections.push((stream, way));
    }

    fn cut(&self) {
        for (stream, _) in self.connections.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn set_way(&self, new: u8) {
        let connections = self.connections.lock().unwrap();
        self.way.store(new, Ordering::Relaxed);
        for (_, way) in &*connections {
            way.fetch_max(new, Ordering::Relaxed);
        }
    }

    /// Requests of these kinds are with the broker.
    fn seen(&self, kinds: &[u16]) {
        let mut trip = self.trip.lock().unwrap();
        match *trip {
            Some(Trip::Deafen(kind)) if kinds.contains(&kind) => self.set_way(DEAD),
            Some(Trip::Cut(kind)) if kinds.contains(&kind) => self.cut(),
            _ => return,
        }
        *trip = None;
    }
}

/// Passes on one direction; that of the requests with the state that looks at them.
fn pass(mut from: TcpStream, mut to: TcpStream, way: &AtomicU8, state: Option<&State>) {
    let mut bytes = vec![0; 65_536];
    let mut requests = Requests::default();
    while let Ok(len @ 1..) = from.read(&mut bytes) {
        match way.load(Ordering::Relaxed) {
            UP => {}
            DEAF if state.is_some() => {}
            STRANGE => {
                // To the client, from either side.
                let client = if state.is_some() { &mut from } else { &mut to };
                let _ = client.write_all(PAGE);
                break;
            }
            _ => continue,
        }
        if to.write_all(&bytes[..len]).is_err() {
            break;
        }
        if let Some(state) = state {
            state.seen(&requests.kinds(&bytes[..len]));
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

/// Tells requests apart: each is its length, and the number of its kind, in big endian, and the rest.
#[derive(Default)]
struct Requests {
    head: Vec<u8>,
    rest: usize,
}

impl Requests {
    /// The kinds of those that end in these bytes.
    fn kinds(&mut self, mut bytes: &[u8]) -> Vec<u16> {
        let mut kinds = Vec::new();
        while let [first, others @ ..] = bytes {
            if self.head.len() < 6 {
                self.head.push(*first);
                bytes = others;
                if let [a, b, c, d, _, _] = self.head[..] {
                    self.rest = u32::from_be_bytes([a, b, c, d]) as usize - 2;
                }
                continue;
            }
            let taken = self.rest.min(bytes.len());
            (self.rest, bytes) = (self.rest - taken, &bytes[taken..]);
            if self.rest == 0 {
                kinds.push(u16::from_be_bytes([self.head[4], self.head[5]]));
                self.head.clear();
            }
        }
        kinds
    }
}
