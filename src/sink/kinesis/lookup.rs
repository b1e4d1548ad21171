//! Names are looked up when something connects.
//!
//! The client itself does so before each request, whether a connection is kept or not: while a network's
//! names are gone, requests would fail that have a connection. Here it gets no addresses first, and they are
//! looked up as a part of connecting, out of its time.

use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::time::{Duration, Instant};
use ureq::unversioned::transport::{ConnectionDetails, Connector, NextTimeout, Transport};

/// Looks nothing up.
#[derive(Debug)]
pub struct Later;

impl Resolver for Later {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        Ok(self.empty())
    }
}

/// Connects to what it looks up, where nobody did.
#[derive(Debug)]
pub struct Lookup<R, C> {
    /// Knows names.
    pub resolver: R,
    /// Connects to addresses.
    pub connector: C,
}

/// What is left of a time after a part of it.
fn rest(mut timeout: NextTimeout, began: Instant, now: Instant) -> NextTimeout {
    if let (Duration::Exact(after), Instant::Exact(began), Instant::Exact(now)) =
        (timeout.after, began, now)
    {
        timeout.after = Duration::Exact(after.saturating_sub(now.saturating_duration_since(began)));
    }
    timeout
}

impl<In: Transport, R: Resolver, C: Connector<In>> Connector<In> for Lookup<R, C> {
    type Out = C::Out;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        if chained.is_some() || !details.addrs.is_empty() {
            return self.connector.connect(details, chained);
        }
        let began = (details.current_time)();
        let addrs = self
            .resolver
            .resolve(details.uri, details.config, details.timeout)?;
        let details = ConnectionDetails {
            uri: details.uri,
            addrs,
            config: details.config,
            request_level: details.request_level,
            resolver: details.resolver,
            now: (details.current_time)(),
            timeout: rest(details.timeout, began, (details.current_time)()),
            current_time: details.current_time.clone(),
            run_connector: details.run_connector.clone(),
            register_shutdown: details.register_shutdown.clone(),
        };
        self.connector.connect(&details, chained)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use ureq::Agent;
    use ureq::unversioned::resolver::DefaultResolver;
    use ureq::unversioned::transport::TcpConnector;

    use super::*;

    /// Counts, and knows no name any more from the second on.
    #[derive(Debug)]
    struct Counted(Arc<AtomicUsize>);

    impl Resolver for Counted {
        fn resolve(
            &self,
            uri: &Uri,
            config: &Config,
            timeout: NextTimeout,
        ) -> Result<ResolvedSocketAddrs, Error> {
            match self.0.fetch_add(1, Ordering::Relaxed) {
                0 => DefaultResolver::default().resolve(uri, config, timeout),
                _ => Err(Error::HostNotFound),
            }
        }
    }

    /// A connection that is kept needs no names, and a new one needs them anew.
    #[test]
    fn names_are_looked_up_for_a_connection_and_not_for_a_request() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let uri = format!("http://{}/", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            for _ in 0..3 {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    head.push(byte[0]);
                }
                let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
                stream.write_all(answer).unwrap();
            }
        });
        let count = Arc::new(AtomicUsize::new(0));
        let connector = Lookup {
            resolver: Counted(Arc::clone(&count)),
            connector: TcpConnector::default(),
        };
        let agent = Agent::with_parts(Config::default(), ().chain(connector), Later);
        let ask = || agent.get(&uri).call()?.into_body().read_to_string();
        for _ in 0..3 {
            assert_eq!(ask().unwrap(), "ok");
        }
        assert_eq!(count.load(Ordering::Relaxed), 1);
        server.join().unwrap();
        assert!(matches!(ask(), Err(Error::HostNotFound)));
        assert_eq!(count.load(Ordering::Relaxed), 2);
    }

    /// Takes its time.
    #[derive(Debug)]
    struct Slow;

    impl Resolver for Slow {
        fn resolve(
            &self,
            _: &Uri,
            _: &Config,
            _: NextTimeout,
        ) -> Result<ResolvedSocketAddrs, Error> {
            let (_nobody, answers) = std::sync::mpsc::channel::<()>();
            let _ = answers.recv_timeout(std::time::Duration::from_millis(30));
            Ok(self.empty())
        }
    }

    /// Keeps the time that it was given, and does not connect.
    #[derive(Debug)]
    struct Given(Arc<AtomicUsize>);

    impl Connector for Given {
        type Out = <TcpConnector as Connector>::Out;

        fn connect(
            &self,
            details: &ConnectionDetails<'_>,
            _: Option<()>,
        ) -> Result<Option<Self::Out>, Error> {
            let ms = details.timeout.after.as_millis();
            self.0
                .store(usize::try_from(ms).unwrap(), Ordering::Relaxed);
            Err(Error::ConnectionFailed)
        }
    }

    /// A look-up takes of the time for connecting.
    #[test]
    fn a_slow_look_up_leaves_less_time_to_connect() {
        let given = Arc::new(AtomicUsize::new(0));
        let connector = Lookup {
            resolver: Slow,
            connector: Given(Arc::clone(&given)),
        };
        let limit = std::time::Duration::from_secs(60);
        let config = Agent::config_builder().timeout_connect(Some(limit)).build();
        let agent = Agent::with_parts(config, ().chain(connector), Later);
        assert!(agent.get("http://pump.invalid/").call().is_err());
        let given = given.load(Ordering::Relaxed);
        assert!((1..=60_000 - 30).contains(&given), "{given}");
    }
}
