//! Requests over HTTP, one after the other, each with a deadline.
//!
//! Connections are kept alive. Nothing is sent twice and no redirect is followed: what became of a request
//! that was not answered nobody knows, and whoever sent it decides.
//!
//! **Threads.** A look-up of a name may take one for itself, which ends with the look-up.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use ureq::http::{HeaderMap, HeaderValue, Uri};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, TcpConnector};
use ureq::{Agent, Body, Proxy};

use super::time::{Dated, Time, http_date_ms};
use super::tls::Tls;
use crate::clock::Clock;

/// The longest wait that a service may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);
/// How a client connects.
#[derive(Debug, Default)]
pub struct Settings<'a> {
    /// Only what these certificates have signed is trusted; `None`: what the system and browsers do.
    pub ca_file: Option<&'a str>,
    /// Certificate and key that the client shows.
    pub identity: Option<(&'a str, &'a str)>,
    /// By way of this proxy.
    pub proxy: Option<&'a str>,
    /// Where none is named, the one that the environment names.
    pub proxy_of_environment: bool,
    /// The longest that connecting takes.
    pub connect_timeout: Duration,
    /// Connections that are kept.
    pub connections: usize,
}

/// Sends requests.
#[derive(Clone)]
pub struct Client {
    agent: Agent,
    clock: Arc<dyn Clock>,
}

/// What came back besides the body.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    /// How the service names the error, where it does that in a header.
    pub error_type: String,
    /// How long it asks to wait.
    pub retry_after: Option<Duration>,
    pub dated: Dated,
    /// How long a token is good, in seconds, where it is one.
    pub ttl_secs: Option<u64>,
}

/// What is sent.
#[derive(Debug)]
pub enum Method<'a> {
    Get,
    Put,
    Post(&'a [u8]),
}

impl Client {
    /// A client; else says what is wrong with its settings.
    pub fn new(
        settings: &Settings<'_>,
        clock: Arc<dyn Clock>,
        time: Arc<Time>,
    ) -> Result<Self, String> {
        let tls = Tls::new(
            settings.ca_file,
            settings.identity,
            Arc::clone(&clock),
            time,
        )?;
        let proxy = match settings.proxy {
            Some(proxy) => Some(Proxy::new(proxy).map_err(|_| "proxy: not a proxy".to_owned())?),
            None if settings.proxy_of_environment => Proxy::try_from_env(),
            None => None,
        };
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("forebay/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(settings.connect_timeout))
            .max_idle_connections(settings.connections)
            .max_idle_connections_per_host(settings.connections)
            .proxy(proxy)
            .build();
        let connector = ConnectProxyConnector::default()
            .chain(TcpConnector::default())
            .chain(tls);
        let agent = Agent::with_parts(config, connector, DefaultResolver::default());
        Ok(Self { agent, clock })
    }

    /// Sends one request and reads the answer's body into `body`, no more than `len_max` bytes of it.
    /// Else says what went wrong: then it is not known whether the request was carried out.
    pub fn send(
        &self,
        method: &Method<'_>,
        uri: &str,
        headers: &[(&str, &str)],
        timeout: Duration,
        body: &mut Vec<u8>,
        len_max: usize,
    ) -> Result<Reply, String> {
        body.clear();
        let sent = self.clock.mono();
        let limit = Some(timeout);
        let mut answer = match method {
            Method::Get => {
                let mut request = self.agent.get(uri);
                set(request.headers_mut(), headers)?;
                request.config().timeout_global(limit).build().call()
            }
            Method::Put => {
                let mut request = self.agent.put(uri);
                set(request.headers_mut(), headers)?;
                request.config().timeout_global(limit).build().send_empty()
            }
            Method::Post(bytes) => {
                let mut request = self.agent.post(uri);
                set(request.headers_mut(), headers)?;
                request.config().timeout_global(limit).build().send(*bytes)
            }
        }
        .map_err(|error| said(&error))?;
        let received = self.clock.mono();
        let reply = Reply {
            status: answer.status().as_u16(),
            error_type: text(answer.headers(), "x-amzn-errortype").to_owned(),
            retry_after: text(answer.headers(), "retry-after")
                .parse()
                .ok()
                .map(|seconds| Duration::from_secs(seconds).min(RETRY_AFTER_MAX)),
            dated: Dated {
                sent,
                received,
                date_ms: match answer.headers().contains_key("age") {
                    true => None,
                    false => http_date_ms(text(answer.headers(), "date")),
                },
            },
            ttl_secs: text(answer.headers(), "x-aws-ec2-metadata-token-ttl-seconds")
                .parse()
                .ok(),
        };
        read(answer.body_mut(), body, len_max)?;
        Ok(reply)
    }
}

/// Sets headers whose values nobody may see.
fn set(into: Option<&mut HeaderMap>, headers: &[(&str, &str)]) -> Result<(), String> {
    let into = into.ok_or("not an address")?;
    for (name, value) in headers {
        let mut value =
            HeaderValue::from_str(value).map_err(|_| format!("{name}: not a header"))?;
        value.set_sensitive(true);
        let name: ureq::http::HeaderName = name.parse().map_err(|_| "not a header's name")?;
        into.insert(name, value);
    }
    Ok(())
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default()
}

fn read(from: &mut Body, body: &mut Vec<u8>, len_max: usize) -> Result<(), String> {
    let mut from = from.as_reader().take(len_max as u64 + 1);
    from.read_to_end(body)
        .map_err(|error| format!("the answer ends early: {error}"))?;
    if body.len() > len_max {
        return Err(format!("the answer has more than {len_max} bytes"));
    }
    Ok(())
}

/// What an error says; none of them repeats what was sent.
fn said(error: &ureq::Error) -> String {
    match error {
        ureq::Error::BadUri(_) => "not an address".to_owned(),
        ureq::Error::HostNotFound => "the host's name is not known".to_owned(),
        error => error.to_string(),
    }
}

/// Whether requests can be sent to an address; else what it must be.
pub fn check_address(text: &str) -> Result<(), &'static str> {
    const RULE: &str = "must be an address: http://host or https://host";
    let uri: Uri = text.parse().map_err(|_| RULE)?;
    let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
    let has_host = uri.host().is_some_and(|host| !host.is_empty());
    // What is before an at sign would be sent to nobody, and shown.
    if is_http && has_host && uri.query().is_none() && !text.contains(['@', '#']) {
        Ok(())
    } else {
        Err(RULE)
    }
}

/// Whether a proxy can be asked; else what it must be.
pub fn check_proxy(text: &str) -> Result<(), &'static str> {
    let is_known = text.starts_with("http://") || text.starts_with("https://");
    match Proxy::new(text) {
        Ok(_) if is_known => Ok(()),
        _ => Err("must be an address: http://host:port"),
    }
}
