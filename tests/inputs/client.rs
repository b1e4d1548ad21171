//! Who sends to an input, and the process that has it.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::process::{NO_SINK, Running, Setup, number, wait_until};

/// No test waits longer for a socket.
const PATIENCE: Duration = Duration::from_secs(30);

/// The kinds of inputs that have connections.
pub const STREAMS: [&str; 2] = ["unixStream", "tcp"];

/// The configuration of an input, its socket in the test's own directory or on a free port.
pub fn input(kind: &str, dir: &Path, more: &str) -> String {
    let place = match kind {
        "tcp" | "udp" => r#""address": "127.0.0.1:0""#.to_owned(),
        _ => format!(r#""path": {:?}"#, dir.join("input.sock")),
    };
    format!(r#"{{"type": "{kind}", "stream": "telemetry", {place} {more}}}"#)
}

/// Gives a setup its inputs, which lie in its own directory.
pub fn with_input(setup: &Setup, kind: &str, more: &str) {
    let text = std::fs::read_to_string(&setup.config).unwrap();
    let input = input(kind, setup.scratch.path(), more);
    let text = text.replacen(r#""inputs": []"#, &format!(r#""inputs": [{input}]"#), 1);
    std::fs::write(&setup.config, text).unwrap();
}

/// Fields of `buffer`: small segments, and room for whatever a fast machine sends in a test.
const ROOM: &str = r#", "segmentBytes": 1048576, "maxDiskBytes": 1073741824"#;

/// One that stores what one input takes.
pub fn storing(name: &str, kind: &str, more: &str) -> Setup {
    let setup = Setup::new(&format!("{name}-{kind}"), NO_SINK, ROOM, "");
    with_input(&setup, kind, more);
    setup
}

/// One that stores what an input takes which lies in its own directory, and what else was made there.
pub fn storing_with<T>(name: &str, make: impl FnOnce(&Path) -> (String, T)) -> (Setup, T) {
    let setup = Setup::new(name, NO_SINK, ROOM, "");
    let (input, made) = make(setup.scratch.path());
    let text = std::fs::read_to_string(&setup.config).unwrap();
    let text = text.replacen(r#""inputs": []"#, &format!(r#""inputs": [{input}]"#), 1);
    std::fs::write(&setup.config, text).unwrap();
    (setup, made)
}

/// Waits until so many records are durable.
pub fn wait_for(setup: &Setup, count: u64) {
    wait_until("the records", || {
        number(&setup.stats(), "durableOffset") >= count
    });
}

/// Ends a process. What it says last that its input of that kind has done.
pub fn stop_input(running: Running, kind: &str) -> String {
    running.signal(Signal::TERM);
    let err = running.wait().expect(0).err;
    let said = err.rsplit_once(&format!("input {kind}: ")).unwrap().1;
    said.lines().next().unwrap().to_owned()
}

/// A process that listens, and where.
pub struct Listening {
    pub running: Running,
    kind: String,
    pub place: String,
}

impl Listening {
    pub fn start(setup: &Setup, kind: &str) -> Self {
        let running = setup.serve(&[]);
        let begin = format!("input {kind}: listening at ");
        running.wait_for(&begin);
        let err = running.err();
        let rest = err.split_once(&begin).unwrap().1;
        Self {
            place: rest.lines().next().unwrap().to_owned(),
            kind: kind.to_owned(),
            running,
        }
    }

    pub fn connect(&self) -> Client {
        Client::to(&self.kind, &self.place)
    }

    /// Ends it with a signal. What it says that the input has done.
    pub fn stop(self) -> String {
        self.stop_and_tell().0
    }

    /// The same, and all that it has said.
    pub fn stop_and_tell(self) -> (String, String) {
        self.running.signal(Signal::TERM);
        let ended = self.running.wait().expect(0);
        let begin = format!("input {}: ", self.kind);
        let last = ended.err.lines().rfind(|line| line.contains(&begin));
        let said = last.unwrap_or_else(|| panic!("{ended:?}"));
        let done = said.split_once(&begin).unwrap().1.to_owned();
        (done, ended.err)
    }

    /// Waits until so many records were taken.
    pub fn wait_for_records(&self, setup: &Setup, count: u64) {
        wait_until("the records", || {
            number(&setup.stats(), "appendedTotal") >= count
        });
    }
}

/// A socket of either kind.
pub trait Socket: Read + Write + Send {
    /// Says that nothing more is sent.
    fn end(&self);
    /// The same socket once more.
    fn again(&self) -> Box<dyn Socket>;
    /// What is not written in this time is an error.
    fn set_write_timeout(&self, limit: Duration);
}

impl Socket for UnixStream {
    fn end(&self) {
        let _ = self.shutdown(Shutdown::Write);
    }

    fn again(&self) -> Box<dyn Socket> {
        Box::new(self.try_clone().unwrap())
    }

    fn set_write_timeout(&self, limit: Duration) {
        UnixStream::set_write_timeout(self, Some(limit)).unwrap();
    }
}

impl Socket for TcpStream {
    fn end(&self) {
        let _ = self.shutdown(Shutdown::Write);
    }

    fn again(&self) -> Box<dyn Socket> {
        Box::new(self.try_clone().unwrap())
    }

    fn set_write_timeout(&self, limit: Duration) {
        TcpStream::set_write_timeout(self, Some(limit)).unwrap();
    }
}

/// One who is connected.
pub struct Client {
    pub socket: Box<dyn Socket>,
    answers: BufReader<Box<dyn Socket>>,
}

impl Client {
    pub fn to(kind: &str, place: &str) -> Self {
        let socket: Box<dyn Socket> = if kind == "tcp" {
            let socket = TcpStream::connect(place).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            Box::new(socket)
        } else {
            let socket = UnixStream::connect(place).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            Box::new(socket)
        };
        Self {
            answers: BufReader::new(socket.again()),
            socket,
        }
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.socket.write_all(bytes.as_ref()).unwrap();
    }

    /// The next answer; `None` when the other end has closed.
    pub fn answer(&mut self) -> Option<String> {
        let mut line = String::new();
        match self.answers.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => line.strip_suffix('\n').map(str::to_owned),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => None,
            Err(error) => panic!("no answer: {error}"),
        }
    }

    /// The next answers are these.
    pub fn expect(&mut self, answers: &[&str]) {
        for expected in answers {
            assert_eq!(self.answer().as_deref(), Some(*expected));
        }
    }

    /// Ends sending; the answers until the other end closes.
    pub fn end(mut self) -> Vec<String> {
        self.socket.end();
        std::iter::from_fn(|| self.answer()).collect()
    }
}

/// A record with its length before it.
pub fn frame(record: impl AsRef<[u8]>) -> Vec<u8> {
    let record = record.as_ref();
    let len = u32::try_from(record.len()).unwrap();
    [&len.to_be_bytes(), record].concat()
}

/// Properties of a record, as text.
pub fn property<'a>(record: &'a Value, name: &str) -> Option<&'a str> {
    record["properties"][name].as_str()
}
