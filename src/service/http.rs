//! A small HTTP server: GET, one request a connection, a handful of connections, one thread.
//!
//! ```text
//!  accept ─▶ Reading ─ head complete ─▶ Writing ─ all sent ─▶ Draining ─ their end ─▶ gone
//!            at most HEAD_SIZE bytes                          each of them for DEADLINE at most
//! ```
//!
//! **Invariants.** At most [`CONNECTIONS_MAX`] connections; when one more comes, the oldest goes. At most
//! [`ANSWERS_MAX`] answers lie in memory. So slow, half-open and mad clients cost a bounded amount, and
//! hold up nobody: who asks at once is answered at once.
//!
//! **Threads.** One, which waits in `poll` without a time limit while nobody is connected. It ends when the
//! [`Stop`] is dropped.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::clock::{Clock, Mono, System};
use crate::config::Listen;
use crate::error::{Error, Result};
use crate::sink::text::Text;
use crate::storage::{forget_socket, listen_at};

pub mod request;

use request::{HEAD_SIZE, Parsed, parse};

/// The most connections at a time.
pub const CONNECTIONS_MAX: usize = 32;
/// The most answers that are not sent yet.
pub const ANSWERS_MAX: usize = 4;
/// How long a connection lasts at most.
pub const DEADLINE: Duration = Duration::from_secs(5);
/// When the system has no more file descriptors, it is asked again after so long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);
/// So many connections are accepted in a turn.
const ACCEPTS_MAX: usize = 64;

/// What a page may do: show itself, and ask this server again.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                      connect-src 'self'; img-src data:; form-action 'none'; base-uri 'none'";

/// What is answered.
pub struct Answer {
    /// 200 and the like.
    pub status: u16,
    /// The content's type.
    pub kind: &'static str,
    /// The content.
    pub body: String,
}

impl Answer {
    /// A line of text.
    pub fn line(status: u16, text: &str) -> Self {
        Self {
            status,
            kind: "text/plain; charset=utf-8",
            body: format!("{text}\n"),
        }
    }

    fn into_bytes(self, has_body: bool) -> Vec<u8> {
        let reason = match self.status {
            200 => "OK",
            400 => "Bad Request",
            401 => "Unauthorized",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            431 => "Request Header Fields Too Large",
            _ => "Service Unavailable",
        };
        let mut text = format!(
            "HTTP/1.1 {} {reason}\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\
             Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\n\
             Content-Security-Policy: {POLICY}\r\n",
            self.status,
            self.kind,
            self.body.len()
        );
        match self.status {
            401 => {
                text.push_str("WWW-Authenticate: Basic realm=\"forebay\", charset=\"UTF-8\"\r\n");
            }
            405 => text.push_str("Allow: GET, HEAD\r\n"),
            _ => {}
        }
        text.push_str("\r\n");
        if has_body {
            text.push_str(&self.body);
        }
        text.into_bytes()
    }
}

/// Answers a path.
pub type Handler = Box<dyn Fn(&str) -> Answer + Send>;

/// The order to stop: whoever drops it waits for the thread's end.
pub struct Stop {
    wake: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
    /// Where it listens.
    pub address: String,
}

impl Drop for Stop {
    fn drop(&mut self) {
        // Its other end becomes readable.
        self.wake.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Starts a server.
pub fn start(listen: &Listen, token: Option<Text>, handler: Handler) -> Result<Stop> {
    let failed = |error| Error::io("listen for HTTP", error);
    let (listener, address) = match listen {
        Listen::Tcp(address) => {
            let listener = TcpListener::bind(address).map_err(failed)?;
            let address = listener.local_addr().map_err(failed)?;
            listener.set_nonblocking(true).map_err(failed)?;
            (Listener::Tcp(listener), format!("http://{address}/"))
        }
        Listen::Unix(path) => {
            let listener = listen_at(path).map_err(failed)?;
            listener.set_nonblocking(true).map_err(failed)?;
            let address = format!("unix:{}", path.display());
            (Listener::Unix(listener, path.clone()), address)
        }
    };
    let (wake, stopped) = UnixStream::pair().map_err(failed)?;
    let mut server = Server {
        listener,
        stopped,
        token,
        handler,
        clock: System::new(),
        connections: Vec::new(),
        accepts_again: Mono(0),
    };
    let thread = std::thread::Builder::new()
        .name("forebay-http".to_owned())
        .spawn(move || server.run())
        .map_err(failed)?;
    Ok(Stop {
        wake: Some(wake),
        thread: Some(thread),
        address,
    })
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Listener {
    fn accept(&self) -> io::Result<Stream> {
        let stream = match self {
            Self::Tcp(listener) => Stream::Tcp(listener.accept()?.0),
            Self::Unix(listener, _) => Stream::Unix(listener.accept()?.0),
        };
        match &stream {
            Stream::Tcp(stream) => stream.set_nonblocking(true)?,
            Stream::Unix(stream) => stream.set_nonblocking(true)?,
        }
        Ok(stream)
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener, _) => listener.as_fd(),
        }
    }
}

impl Stream {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(bytes),
            Self::Unix(stream) => stream.read(bytes),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn end(&self) {
        let how = std::net::Shutdown::Write;
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(how),
            Self::Unix(stream) => stream.shutdown(how),
        };
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

struct Connection {
    stream: Stream,
    deadline: Mono,
    state: State,
}

enum State {
    /// The head of a request comes in.
    Reading(Vec<u8>),
    /// An answer goes out, from there on.
    Writing(Vec<u8>, usize),
    /// All is sent. What the client still sends is read, or it would not see the answer.
    Draining,
}

struct Server {
    listener: Listener,
    stopped: UnixStream,
    token: Option<Text>,
    handler: Handler,
    clock: System,
    connections: Vec<Connection>,
    /// Nothing is accepted before.
    accepts_again: Mono,
}

impl Server {
    fn run(&mut self) {
        while self.turn() {}
        if let Listener::Unix(_, path) = &self.listener {
            forget_socket(path);
        }
    }

    /// Waits until something can be done, and does it. False when it is to stop.
    fn turn(&mut self) -> bool {
        let now = self.clock.mono();
        self.connections
            .retain(|connection| connection.deadline > now);
        let is_accepting = self.accepts_again <= now;
        let deadlines = self
            .connections
            .iter()
            .map(|connection| connection.deadline);
        let next = deadlines
            .chain((!is_accepting).then_some(self.accepts_again))
            .min();
        let limit = next.map(|at| at.since(now) + Duration::from_millis(1));
        let ready = self.wait(limit, is_accepting);
        let Some((can_accept, ready)) = ready else {
            return false;
        };
        for index in (0..self.connections.len()).rev() {
            if ready[index] && !self.advance(index) {
                self.connections.swap_remove(index);
            }
        }
        if can_accept {
            self.accept();
        }
        true
    }

    /// Which of them can go on. [`None`]: it is to stop.
    fn wait(&self, limit: Option<Duration>, is_accepting: bool) -> Option<(bool, Vec<bool>)> {
        let mut polled = vec![PollFd::new(&self.stopped, PollFlags::IN)];
        let connections = self.connections.iter().map(|connection| {
            let flags = match connection.state {
                State::Writing(..) => PollFlags::OUT,
                _ => PollFlags::IN,
            };
            PollFd::from_borrowed_fd(connection.stream.as_fd(), flags)
        });
        polled.extend(connections);
        if is_accepting {
            let fd = self.listener.as_fd();
            polled.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
        }
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        if poll(&mut polled, limit.as_ref()).is_err() {
            // A signal: nobody is ready.
            return Some((false, vec![false; self.connections.len()]));
        }
        let mut ready = polled.iter().map(|fd| !fd.revents().is_empty());
        if ready.next() == Some(true) {
            return None;
        }
        let of_connections = ready.by_ref().take(self.connections.len()).collect();
        Some((ready.next().unwrap_or(false), of_connections))
    }

    fn accept(&mut self) {
        for _ in 0..ACCEPTS_MAX {
            let stream = match self.listener.accept() {
                Ok(stream) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => {
                    log::warn!("HTTP: no connection is taken: {error}");
                    self.accepts_again = self.clock.mono().plus(ACCEPT_PAUSE);
                    return;
                }
            };
            if self.connections.len() == CONNECTIONS_MAX
                && let Some(oldest) = self.oldest(|_| true)
            {
                self.connections.swap_remove(oldest);
            }
            self.connections.push(Connection {
                stream,
                deadline: self.clock.mono().plus(DEADLINE),
                state: State::Reading(Vec::new()),
            });
            // Who asks at once is answered at once, however many come behind.
            let last = self.connections.len() - 1;
            if !self.advance(last) {
                self.connections.swap_remove(last);
            }
        }
    }

    /// The place of the oldest of some connections.
    fn oldest(&self, of: impl Fn(&State) -> bool) -> Option<usize> {
        let connections = self.connections.iter().enumerate();
        let some = connections.filter(|(_, connection)| of(&connection.state));
        let oldest = some.min_by_key(|(_, connection)| connection.deadline);
        oldest.map(|(index, _)| index)
    }

    /// Goes on with a connection as far as it can. False when it is done with.
    fn advance(&mut self, index: usize) -> bool {
        loop {
            let connection = &mut self.connections[index];
            let mut bytes = [0; HEAD_SIZE];
            let done = match &mut connection.state {
                State::Reading(head) => {
                    let room = HEAD_SIZE - head.len();
                    let read = connection.stream.read(&mut bytes[..room]);
                    if let Ok(count) = read {
                        head.extend_from_slice(&bytes[..count]);
                    }
                    read
                }
                State::Writing(answer, at) => {
                    let written = connection.stream.write(&answer[*at..]);
                    if let Ok(count) = written {
                        *at += count;
                    }
                    written
                }
                State::Draining => connection.stream.read(&mut bytes),
            };
            match done {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
            match &mut connection.state {
                State::Reading(head) => {
                    let head = std::mem::take(head);
                    if let Some(answer) = self.answer(&head) {
                        return self.send(index, answer);
                    }
                    self.connections[index].state = State::Reading(head);
                }
                State::Writing(answer, at) if *at == answer.len() => {
                    connection.stream.end();
                    connection.state = State::Draining;
                }
                State::Writing(..) => {}
                // One read a turn: who sends without end waits for the others.
                State::Draining => return true,
            }
        }
    }

    /// Begins to send an answer. When there are too many, the oldest is given up.
    fn send(&mut self, index: usize, answer: Vec<u8>) -> bool {
        let is_writing = |state: &State| matches!(state, State::Writing(..));
        let states = self.connections.iter().map(|connection| &connection.state);
        if states.filter(|state| is_writing(state)).count() >= ANSWERS_MAX
            && let Some(oldest) = self.oldest(is_writing)
        {
            self.connections[oldest].state = State::Draining;
            self.connections[oldest].deadline = Mono(0);
        }
        self.connections[index].state = State::Writing(answer, 0);
        self.advance(index)
    }

    /// What is answered to the beginning of a request. [`None`]: more of it is needed.
    fn answer(&self, head: &[u8]) -> Option<Vec<u8>> {
        let request = match parse(head) {
            Parsed::Partial => return None,
            Parsed::Bad(status, text) => {
                return Some(Answer::line(status, text).into_bytes(true));
            }
            Parsed::Request(request) => request,
        };
        let answer = match (
            request.is_allowed(self.token.as_ref().map(Text::reveal)),
            &self.token,
        ) {
            (true, _) => (self.handler)(request.path),
            (false, Some(_)) => Answer::line(401, "the token is missing or wrong"),
            (false, None) => Answer::line(403, "ask by address, or as localhost"),
        };
        Some(answer.into_bytes(request.has_body))
    }
}
