//! A link between client and broker that can be cut, and that can fall silent.

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
                for (from, to) in [(&stream, &to), (&to, &stream)] {
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    let is_dead = Arc::clone(&is_dead);
                    thread::spawn(move || pass(from, to, &is_dead));
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
        for (stream, _) in self.state.connections.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// From now on nothing passes, and nothing says so. Connections stay as they are afterwards.
    pub fn set_silent(&self, is_silent: bool) {
        self.state.is_silent.store(is_silent, Ordering::Relaxed);
        if is_silent {
            for (_, is_dead) in &*self.state.connections.lock().unwrap() {
                is_dead.store(true, Ordering::Relaxed);
            }
        }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, is_dead: &AtomicBool) {
    let mut bytes = vec![0; 65_536];
    while let Ok(len @ 1..) = from.read(&mut bytes) {
        if !is_dead.load(Ordering::Relaxed) && to.write_all(&bytes[..len]).is_err() {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}
