//! Whether what sinks deliver to can be reached from here. No record is sent, and nothing is made.

#[cfg(feature = "kafka")]
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
#[cfg(feature = "kafka")]
use std::time::Duration;

#[cfg(feature = "kinesis")]
use crate::clock::{Clock, System};
use crate::config::SinkKind;
use crate::storage::check_writable;

/// What was seen there, or why nothing was.
pub type Reached = Result<String, String>;

/// The longest that a connection to a broker takes.
#[cfg(feature = "kafka")]
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Where brokers listen when nothing is said.
#[cfg(feature = "kafka")]
const KAFKA_PORT: u16 = 9092;

/// Looks at what a sink delivers to; one result for each place. None for a sink that has no place.
pub fn sink(kind: &SinkKind) -> Vec<Reached> {
    match kind {
        #[cfg(feature = "file")]
        SinkKind::File(options) => {
            let path = Path::new(options.path.reveal());
            let shown = format!("the directory of {}", options.path);
            vec![directory(path.parent().unwrap_or(path), &shown)]
        }
        #[cfg(feature = "kinesis")]
        SinkKind::Kinesis(options) => {
            let clock: std::sync::Arc<dyn Clock> = std::sync::Arc::new(System::new());
            vec![options.reach(&clock)]
        }
        #[cfg(feature = "kafka")]
        SinkKind::Kafka(options) => {
            let servers = options.bootstrap_servers.reveal();
            let servers = servers.split(',').map(str::trim);
            let servers = servers.filter(|server| !server.is_empty());
            let is_secret = options.bootstrap_servers.is_secret();
            let shown = |server| if is_secret { "***" } else { server };
            servers
                .map(|server| broker(server, shown(server)))
                .collect()
        }
        _ => Vec::new(),
    }
}

/// Whether files can be made in a directory, or the directory itself.
pub fn directory(path: &Path, shown: &str) -> Reached {
    match check_writable(path) {
        Ok(()) => Ok(format!("{shown}: can be written to")),
        Err(error) => Err(format!("{shown}: {error}")),
    }
}

/// Whether somebody listens where a broker is said to be.
#[cfg(feature = "kafka")]
fn broker(server: &str, shown: &str) -> Reached {
    let addresses = host_and_port(server).to_socket_addrs();
    let addresses = addresses.map_err(|error| format!("{shown}: {error}"))?;
    let mut last = "the name has no address".to_owned();
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(_) => return Ok(format!("{shown}: somebody listens")),
            Err(error) => last = error.to_string(),
        }
    }
    Err(format!("{shown}: {last}"))
}

/// The parts of `host`, `host:port` or `protocol://host:port`; a host of IPv6 stands in brackets.
#[cfg(feature = "kafka")]
fn host_and_port(server: &str) -> (&str, u16) {
    let server = server.split_once("://").map_or(server, |(_, rest)| rest);
    let (host, port) = match server.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().unwrap_or(KAFKA_PORT)),
        _ => (server, KAFKA_PORT),
    };
    (host.trim_start_matches('[').trim_end_matches(']'), port)
}

#[cfg(all(test, feature = "kafka"))]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_host_and_perhaps_a_port() {
        for (server, host, port) in [
            ("kafka", "kafka", 9092),
            ("kafka:9093", "kafka", 9093),
            ("SSL://kafka:9093", "kafka", 9093),
            ("[::1]", "::1", 9092),
            ("[::1]:5", "::1", 5),
        ] {
            assert_eq!(host_and_port(server), (host, port), "{server}");
        }
    }

    #[test]
    fn somebody_listens_or_the_reason_is_told() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap().to_string();
        assert_eq!(
            broker(&server, &server),
            Ok(format!("{server}: somebody listens"))
        );
        drop(listener);
        let refused = broker(&server, "***").unwrap_err();
        assert!(refused.starts_with("***: "), "{refused}");
    }
}
