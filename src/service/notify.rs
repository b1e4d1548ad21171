//! What a service manager is told: datagrams to the socket that it names, as `sd_notify(3)` has them.
//!
//! Nobody waits for it: what the socket has no room for is not told.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::storage::Surroundings;

/// Tells a service manager, if there is one.
pub struct Notifier {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// One for the manager that the environment names.
    pub fn new(around: &dyn Surroundings) -> Self {
        let socket = around.variable("NOTIFY_SOCKET").and_then(|name| {
            let address = match name.as_bytes() {
                [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
                _ => SocketAddr::from_pathname(&name),
            };
            let socket = UnixDatagram::unbound().and_then(|socket| {
                socket.set_nonblocking(true)?;
                Ok((socket, address?))
            });
            socket
                .inspect_err(|error| log::warn!("the service manager's socket: {error}"))
                .ok()
        });
        let number = |name| around.variable(name)?.to_str()?.parse::<u64>().ok();
        let is_ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let limit = number("WATCHDOG_USEC").filter(|limit| *limit > 0 && is_ours);
        // Twice within the limit, as the manual asks.
        let watchdog = limit.map(|limit| Duration::from_micros(limit / 2));
        Self { socket, watchdog }
    }

    /// Whether there is anybody to tell.
    pub fn is_there(&self) -> bool {
        self.socket.is_some()
    }

    /// How often the watchdog is to be fed.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Tells assignments, one a line.
    pub fn send(&self, state: &str) {
        if state.is_empty() {
            return;
        }
        if let Some((socket, address)) = &self.socket
            && let Err(error) = socket.send_to_addr(state.as_bytes(), address)
        {
            log::debug!("the service manager was not told: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    struct Environment(&'static [(&'static str, &'static str)]);

    impl Surroundings for Environment {
        fn variable(&self, name: &str) -> Option<OsString> {
            let found = self.0.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        }

        fn host_name(&self) -> Option<String> {
            None
        }
    }

    #[test]
    fn without_a_socket_nobody_is_told() {
        let nobody = Notifier::new(&Environment(&[]));
        assert!(!nobody.is_there() && nobody.watchdog().is_none());
        nobody.send("READY=1");
        // A name that is none harms nobody.
        let long = Notifier::new(&Environment(&[("NOTIFY_SOCKET", "@\0")]));
        long.send("READY=1");
    }

    #[test]
    fn the_watchdog_is_fed_twice_within_its_limit_by_the_process_that_is_meant() {
        let fed = Notifier::new(&Environment(&[("WATCHDOG_USEC", "3000000")]));
        assert_eq!(fed.watchdog(), Some(Duration::from_millis(1500)));
        for around in [
            &[("WATCHDOG_USEC", "3000000"), ("WATCHDOG_PID", "1")][..],
            &[("WATCHDOG_USEC", "0")],
            &[("WATCHDOG_USEC", "soon")],
        ] {
            let around = Box::leak(Box::new(around.to_vec()));
            assert_eq!(Notifier::new(&Environment(around)).watchdog(), None);
        }
    }
}
