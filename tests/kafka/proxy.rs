//! A link between client and broker that can be cut, and that can fall silent, also at a certain request.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// Passes on what it gets, as long as it does.
#[derive(Clone)]
pub struct Proxy {
    pub port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    target: AtomicU16,
    /// What is sent on the connections that are there is lost, and so it is on new ones.
    is_silent: AtomicBool,
    connections: Mutex<Vec<(TcpStream, Arc<AtomicBool>)>>,
    trip: Mutex<Option<Trip>>,
}

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
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let target = theirs.target.load(Ordering::Relaxed);
                let Ok(to) = TcpStream::connect(("127.0.0.1", target)) else {
                    continue;
                };
                let is_dead = Arc::new(AtomicBool::new(theirs.is_silent.load(Ordering::Relaxed)));
                let pairs = [(&stream, &to, Some(&theirs)), (&to, &stream, None)];
                for (from, to, state) in pairs {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let (is_dead, state) = (Arc::clone(&is_dead), state.map(Arc::clone));
                    thread::spawn(move || pass(from, to, &is_dead, state.as_deref()));
                }
                theirs.connections.lock().unwrap().push((stream, is_dead));
            }
        });
        Self { port, state }
    }

    pub fn set_target(&self, port: u16) {
        self.state.target.store(port, Ordering::Relaxed);
    }

    /// Cuts all connections.
    pub fn cut(&self) {
        self.state.cut();
    }

    /// From now on nothing passes, and nothing says so. Connections stay as they are afterwards.
    pub fn set_silent(&self, is_silent: bool) {
        self.state.set_silent(is_silent);
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
    fn cut(&self) {
        for (stream, _) in self.connections.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn set_silent(&self, is_silent: bool) {
        self.is_silent.store(is_silent, Ordering::Relaxed);
        if is_silent {
            for (_, is_dead) in &*self.connections.lock().unwrap() {
                is_dead.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Requests of these kinds are with the broker.
    fn seen(&self, kinds: &[u16]) {
        let mut trip = self.trip.lock().unwrap();
        match *trip {
            Some(Trip::Deafen(kind)) if kinds.contains(&kind) => self.set_silent(true),
            Some(Trip::Cut(kind)) if kinds.contains(&kind) => self.cut(),
            _ => return,
        }
        *trip = None;
    }
}

/// Passes on one direction; that of the requests with the state that looks at them.
fn pass(mut from: TcpStream, mut to: TcpStream, is_dead: &AtomicBool, state: Option<&State>) {
    let mut bytes = vec![0; 65_536];
    let mut requests = Requests::default();
    while let Ok(len @ 1..) = from.read(&mut bytes) {
        if is_dead.load(Ordering::Relaxed) {
            continue;
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
