//! Whether the service can be reached, before anything is sent.

use std::sync::Arc;

use super::http::{Client, Method, proxy_of};
use super::time::Time;
use super::{ANSWER_LEN, Clock, Options, Settings, Text};

impl Options {
    /// Where requests go, to be shown.
    pub fn shown_address(&self) -> String {
        match &self.endpoint {
            Some(endpoint) => endpoint.to_string(),
            None if self.region.is_secret() => self.region.to_string(),
            None => self.address(),
        }
    }

    /// How the sink connects: its certificates, and its proxy.
    pub(super) fn settings<'a>(&'a self, address: &str, connections: usize) -> Settings<'a> {
        let proxy = self.proxy.as_ref().map(Text::reveal);
        Settings {
            ca_file: self.ca_file.as_ref().map(Text::reveal),
            identity: None,
            proxy: proxy.or_else(|| proxy_of(&self.environment, address)),
            connect_timeout: self.connect_timeout,
            connections,
        }
    }

    /// Asks for nothing, on the way that requests go: name, proxy, connection and TLS. Whatever is answered,
    /// it is reached. Says what was seen, or why nothing was; credentials and the stream are not tried.
    pub fn reach(&self, clock: &Arc<dyn Clock>) -> Result<String, String> {
        let address = self.address();
        let shown = self.shown_address();
        let client = Client::new(
            &self.settings(&address, 1),
            Arc::clone(clock),
            Arc::new(Time::default()),
        );
        let mut body = Vec::new();
        let timeout = self.request_timeout;
        let sent = client.and_then(|client| {
            client.send(&Method::Get, &address, &[], timeout, &mut body, ANSWER_LEN)
        });
        match sent {
            Ok(reply) => Ok(format!("{shown}: answers (HTTP {})", reply.status)),
            Err(error) => Err(format!("{shown}: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;
    use crate::clock::System;
    use crate::config::{Config, SinkKind};

    fn reach(address: &str) -> Result<String, String> {
        let text = format!(
            r#"{{"streams": [{{"name": "a", "sink": {{"type": "kinesis", "streamName": "a",
                "region": "eu-west-1", "endpointUrl": "{address}", "connectTimeoutMs": 1000}}}}]}}"#
        );
        let config = Config::from_json(&text).unwrap();
        let clock: Arc<dyn Clock> = Arc::new(System::new());
        match &config.streams()[0].sinks[0].kind {
            SinkKind::Kinesis(options) => options.reach(&clock),
            other => panic!("{other:?}"),
        }
    }

    /// Any answer will do, and what is asked has neither credentials nor a record in it.
    #[test]
    fn whoever_answers_is_reached_and_nobody_else() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                head.push(byte[0]);
            }
            let answer = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno";
            stream.write_all(answer).unwrap();
            String::from_utf8(head).unwrap().to_lowercase()
        });
        let seen = reach(&address);
        assert_eq!(seen, Ok(format!("{address}: answers (HTTP 403)")));
        let asked = server.join().unwrap();
        assert!(asked.starts_with("get / "), "{asked}");
        assert!(!asked.contains("authorization"), "{asked}");
        // The port is free again.
        let refused = reach(&address).unwrap_err();
        assert!(refused.starts_with(&address), "{refused}");
    }
}
