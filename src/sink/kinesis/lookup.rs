//! Names are looked up when something connects.
//!
//! The client itself does so before each request, whether a connection is kept or not: with a short cut in the
//! network's names, requests would fail that have a connection. Here it gets no addresses first, and they are
//! looked up as a part of connecting, in the same time.

use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
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
        let addrs = self
            .resolver
            .resolve(details.uri, details.config, details.timeout)?;
        let details = ConnectionDetails {
            uri: details.uri,
            addrs,
            config: details.config,
            request_level: details.request_level,
            resolver: details.resolver,
            // When it began: a look-up takes of the time for connecting.
            now: details.now,
            timeout: details.timeout,
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
}
