//! A service manager: a socket that hears what a process says of itself.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::process::wait_until;

pub struct Manager {
    name: String,
    heard: Arc<Mutex<Vec<(Instant, String)>>>,
}

impl Manager {
    /// One whose socket is a file.
    pub fn at(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        Self::new(socket, path.to_str().unwrap().to_owned())
    }

    /// One whose socket has a name and no file.
    pub fn of_no_file(name: &str) -> Self {
        let name = format!("forebay-test-{name}-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        Self::new(socket, format!("@{name}"))
    }

    fn new(socket: UnixDatagram, name: String) -> Self {
        let heard: Arc<Mutex<Vec<_>>> = Arc::default();
        let kept = Arc::clone(&heard);
        // Ends with the process of the test.
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(len) = socket.recv(&mut bytes) {
                let text = String::from_utf8(bytes[..len].to_vec()).unwrap();
                kept.lock().unwrap().push((Instant::now(), text));
            }
        });
        Self { name, heard }
    }

    /// Starts a process under it.
    pub fn watches<'a>(&self, command: &'a mut Command, limit: Duration) -> &'a mut Command {
        let limit = limit.as_micros().to_string();
        command
            .env("NOTIFY_SOCKET", &self.name)
            .env("WATCHDOG_USEC", limit)
    }

    /// All that it heard, a line each.
    pub fn lines(&self) -> Vec<String> {
        let heard = self.heard.lock().unwrap();
        let lines = heard.iter().flat_map(|(_, text)| text.lines());
        lines.map(str::to_owned).collect()
    }

    pub fn count(&self, line: &str) -> usize {
        self.lines().iter().filter(|heard| *heard == line).count()
    }

    pub fn wait_for(&self, start: &str) {
        wait_until(start, || {
            self.lines().iter().any(|line| line.starts_with(start))
        });
    }

    /// When it heard what begins so.
    pub fn when(&self, start: &str) -> Instant {
        let heard = self.heard.lock().unwrap();
        let found = heard.iter().find(|(_, text)| text.starts_with(start));
        found.unwrap_or_else(|| panic!("{start}")).0
    }
}
