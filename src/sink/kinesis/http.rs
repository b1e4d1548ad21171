//! Requests over HTTP, one after the other, each with a deadline.
//!
//! Connections are kept alive. Nothing is sent twice and no redirect is followed: what became of a request
//! that was not answered nobody knows, and whoever sent it decides.
//!
//! **Threads.** A look-up of a name takes one for itself, which ends with the look-up. Who connects looks
//! names up; on a connection that is kept nobody does.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use ureq::http::{HeaderMap, HeaderValue, Uri};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{ConnectProxyConnector, Connector, TcpConnector};
use ureq::{Agent, Body, Proxy, ProxyProtocol};

use super::credentials::Environment;
use super::lookup::{Later, Lookup};
use super::time::{Dated, Time, http_date_ms};
use crate::clock::Clock;
use crate::tls::Tls;

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
        let now_ms = {
            let clock = Arc::clone(&clock);
            Box::new(move || time.now_ms(&*clock))
        };
        let tls = Tls::new(settings.ca_file, settings.identity, now_ms)?;
        let proxy = match settings.proxy {
            Some(proxy) => Some(to_proxy(proxy).ok_or("not a proxy of http or https")?),
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
        let lookup = Lookup {
            resolver: DefaultResolver::default(),
            connector: TcpConnector::default(),
        };
        let connector = ConnectProxyConnector::default().chain(lookup).chain(tls);
        let agent = match settings.proxy {
            // Its name is looked up when something connects by way of it, and no other.
            Some(_) => Agent::with_parts(config, connector, DefaultResolver::default()),
            None => Agent::with_parts(config, connector, Later),
        };
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
    match text.contains("://") && to_proxy(text).is_some() {
        true => Ok(()),
        false => Err("must be an address: http://host:port"),
    }
}

fn to_proxy(text: &str) -> Option<Proxy> {
    let proxy = Proxy::new(text).ok()?;
    let is_known = matches!(proxy.protocol(), ProxyProtocol::Http | ProxyProtocol::Https);
    is_known.then_some(proxy)
}

/// The proxy that the environment names for an address. Nobody asks one for what is not https but by
/// saying so.
pub fn proxy_of<'a>(environment: &'a Environment, address: &str) -> Option<&'a str> {
    let uri: Uri = address.parse().ok()?;
    let host = uri.host().filter(|_| uri.scheme_str() == Some("https"))?;
    let first = |names: &[&str]| {
        let mut set = names.iter().filter_map(|name| environment.get(name));
        set.find(|text| !text.is_empty())
    };
    let without = first(&NO_PROXY).unwrap_or_default();
    first(&PROXY).filter(|_| !is_listed(without, host, uri.port_u16().unwrap_or(443)))
}

/// Variables that name a proxy, the first that is set.
const PROXY: [&str; 4] = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
/// And those that name hosts which are asked without it.
const NO_PROXY: [&str; 2] = ["no_proxy", "NO_PROXY"];

/// Whether a host, or a domain that it is in, is in a list; perhaps with its port.
fn is_listed(list: &str, host: &str, port: u16) -> bool {
    let mut entries = list.split([',', ' ']);
    let host = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .as_bytes();
    entries.any(|entry| {
        let name = match entry.rsplit_once(':') {
            Some((name, text)) if text.parse() == Ok(port) => name,
            _ => entry,
        };
        let name = name.trim_start_matches('*').trim_start_matches('.');
        let name = name
            .trim_start_matches('[')
            .trim_end_matches(']')
            .as_bytes();
        let Some(start) = host.len().checked_sub(name.len()) else {
            return false;
        };
        let is_whole = start == 0 || host[start - 1] == b'.';
        entry == "*" || !name.is_empty() && is_whole && host[start..].eq_ignore_ascii_case(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::text::Text;

    /// As other tools read these variables: https only, small letters first, hosts and domains left out.
    #[test]
    fn the_environment_names_a_proxy_and_whom_it_is_not_for() {
        let of = |variables: &[(&'static str, &str)], address| {
            let set = variables
                .iter()
                .map(|(name, text)| (*name, Text::open(*text)));
            let environment = Environment(set.collect());
            proxy_of(&environment, address).map(str::to_owned)
        };
        const HOST: &str = "https://kinesis.eu-west-1.amazonaws.com/";
        let (one, two) = (
            ("https_proxy", "http://one:1"),
            ("HTTPS_PROXY", "http://two:2"),
        );
        assert_eq!(of(&[], HOST), None);
        assert_eq!(of(&[two, one], HOST).unwrap(), "http://one:1");
        assert_eq!(
            of(&[("https_proxy", ""), two], HOST).unwrap(),
            "http://two:2"
        );
        assert_eq!(of(&[("ALL_PROXY", "three:3")], HOST).unwrap(), "three:3");
        assert_eq!(of(&[one], "http://kinesis.local/"), None);
        for (list, is_left_out) in [
            ("*", true),
            ("kinesis.eu-west-1.amazonaws.com", true),
            ("KINESIS.eu-west-1.amazonaws.com:443", true),
            ("kinesis.eu-west-1.amazonaws.com:8443", false),
            ("localhost, amazonaws.com", true),
            (".amazonaws.com", true),
            ("*.amazonaws.com", true),
            ("zonaws.com", false),
            ("amazonaws.com.cn", false),
            ("", false),
            (",.,", false),
        ] {
            let found = of(&[one, ("no_proxy", list)], HOST);
            assert_eq!(found.is_none(), is_left_out, "{list}");
        }
        assert_eq!(
            of(&[one, ("NO_PROXY", "127.0.0.1,::1")], "https://[::1]:9/"),
            None
        );
        for (text, is_one) in [
            ("http://proxy:3128", true),
            ("https://me:secret@proxy", true),
            ("proxy:3128", true),
            ("socks5://proxy", false),
            ("", false),
        ] {
            assert_eq!(to_proxy(text).is_some(), is_one, "{text}");
        }
    }
}
