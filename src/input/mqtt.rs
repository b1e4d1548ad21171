//! Messages of an MQTT 3.1.1 broker, at most or at least once.
//!
//! The broker keeps the session while nobody is there. It sends again what was not acknowledged, and that is
//! whatever was not durable: after a crash or a lost connection nothing is missing, and as many are there
//! twice as had not been acknowledged.

use std::cell::Cell;
use std::io;
use std::net::TcpStream;
use std::sync::Arc;

use super::address::Address;
use super::feed::{Feed, Patience};
use super::fields::{brace, plain};
use super::told::{Part, Told};
use super::{Field, Input, Progress};
use crate::config::json::{Node, Object};
use crate::config::resolve::Resolver;
use crate::engine::Stream;
use crate::error::Result;
use crate::sink::text::Text;

pub mod packet;
mod security;
mod session;
mod wire;

use packet::Connect;
use security::Security;
use session::{Session, Wanted};
use wire::Wire;

/// The most topics.
const TOPICS_MAX: usize = 64;
/// The longest topic, name or password, in bytes.
const LEN_MAX: usize = 1024;

/// What is asked of a broker.
#[derive(Clone, Debug)]
pub struct Subscription {
    client: String,
    topics: Vec<String>,
    quality: u8,
    user: Option<Text>,
    password: Option<Text>,
    keep_alive_secs: u16,
    security: Option<Security>,
}

impl Part for Subscription {
    const HAS_TOPIC: bool = true;

    fn read(object: &mut Object<'_>, resolver: &Resolver<'_>) -> Result<Self> {
        let node = object.required("clientId")?;
        let client = bounded(&node, plain(&node, resolver)?)?;
        let node = object.required("topics")?;
        let topics = node.array_of(TOPICS_MAX, "topics")?;
        if topics.is_empty() {
            return Err(node.error("must have a topic"));
        }
        let topics = topics.iter().map(|node| topic(node, resolver));
        let topics = topics.collect::<Result<_>>()?;
        let quality = object.take_set("qos");
        let quality = quality.map_or(Ok(1), |node| node.number32(0..=1))?;
        let text = |node: Node<'_>| {
            let text = resolver.text(&node)?;
            bounded(&node, text.reveal().to_owned())?;
            Ok(text)
        };
        let user = object.take_set("username").map(text).transpose()?;
        let password = object.take_set("password").map(text).transpose()?;
        if password.is_some() && user.is_none() {
            return Err(object.node().error("a password needs a username"));
        }
        let security = object.take_set("tls");
        let security = security.map(|node| Security::read(&node, resolver));
        let security = security.transpose()?;
        let secs = object.take_set("keepAliveSecs");
        let secs = secs.map_or(Ok(60), |node| node.number32(5..=3600))?;
        Ok(Self {
            client,
            topics,
            quality: u8::try_from(quality).unwrap_or(1),
            user,
            password,
            keep_alive_secs: u16::try_from(secs).unwrap_or(u16::MAX),
            security,
        })
    }

    fn to_json(&self) -> Vec<Field> {
        let Self {
            client,
            topics,
            quality,
            user,
            password,
            keep_alive_secs,
            security,
        } = self;
        let topics: Vec<_> = topics.iter().map(|topic| brace(topic)).collect();
        // A secret one is shown as such.
        let text = |text: &Option<Text>| {
            let shown = text.as_ref().map(|text| brace(&text.to_string()));
            shown.unwrap_or_else(|| "null".to_owned())
        };
        vec![
            ("clientId", brace(client)),
            ("topics", format!("[{}]", topics.join(", "))),
            ("qos", quality.to_string()),
            ("username", text(user)),
            ("password", text(password)),
            ("keepAliveSecs", keep_alive_secs.to_string()),
            (
                "tls",
                security
                    .as_ref()
                    .map_or("null".to_owned(), Security::to_json),
            ),
        ]
    }
}

fn bounded(node: &Node<'_>, text: String) -> Result<String> {
    match (1..=LEN_MAX).contains(&text.len()) && !text.contains('\0') {
        true => Ok(text),
        false => Err(node.error(format_args!(
            "must have 1 to {LEN_MAX} bytes, and no zero among them"
        ))),
    }
}

/// A topic, in which `+` stands for one part and `#` at the end for any number.
fn topic(node: &Node<'_>, resolver: &Resolver<'_>) -> Result<String> {
    let text = bounded(node, plain(node, resolver)?)?;
    let mut parts = text.split('/').rev();
    let is_last_right = parts
        .next()
        .is_some_and(|part| part.len() == 1 || !part.contains(['#', '+']));
    let is_right = |part: &str| !part.contains('#') && (part == "+" || !part.contains('+'));
    match is_last_right && parts.all(is_right) {
        true => Ok(text),
        false => {
            let rule =
                "must be a topic whose parts may be +, and the last one #, as in \"site/+/pump/#\"";
            Err(node.error(rule))
        }
    }
}

/// What the input is told.
type Options = Told<Address, Subscription>;

/// Reads what the input is told.
pub(super) fn read(object: &mut Object<'_>, resolver: &Resolver<'_>) -> Result<Arc<dyn Input>> {
    Options::read(object, resolver)
}

impl Input for Options {
    fn fields(&self) -> Vec<Field> {
        self.to_json()
    }

    fn run(&self, stream: &Stream, progress: &Progress) {
        let mut feed = Feed::new("mqtt", &self.feed, stream, progress, Patience::Waits);
        let (broker, how) = (&self.place.0, &self.how);
        let wanted = Wanted {
            broker,
            connect: Connect {
                client: &how.client,
                user: how.user.as_ref().map(Text::reveal),
                password: how.password.as_ref().map(Text::reveal),
                keep_alive_secs: how.keep_alive_secs,
            },
            topics: &how.topics,
            quality: how.quality,
            is_subscribed: Cell::new(false),
        };
        while !feed.is_stopping() {
            let served = match wire::connect(broker, progress) {
                Ok(None) => return,
                Ok(Some(wire)) => how.secure(wire, broker).and_then(|wire| {
                    progress.set_connections(1);
                    Session::new(wire, &wanted, &mut feed).serve()
                }),
                Err(error) => Err(error),
            };
            progress.set_connections(0);
            match served {
                Ok(()) => return,
                Err(error) => {
                    if !feed.wait_to_retry(&format!("{broker}: {error}")) {
                        return;
                    }
                }
            }
        }
    }
}

impl Subscription {
    /// Puts TLS on a connection, if that is wanted.
    fn secure(&self, wire: TcpStream, broker: &str) -> io::Result<Box<dyn Wire>> {
        match &self.security {
            None => Ok(Box::new(wire)),
            Some(security) => security.secure(wire, broker),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::json::{self, quoted};
    use crate::storage::Real;

    #[test]
    fn topics_may_have_wildcards_where_they_mean_something() {
        let is_right = |text: &str| {
            let text = quoted(text);
            topic(&json::parse(&text).unwrap(), &Resolver::new(&Real, None)).is_ok()
        };
        for text in [
            "a", "a/b", "#", "+", "a/#", "+/b/+", "/a", "a//b", "$SYS/#", "a/", "\u{e9}",
        ] {
            assert!(is_right(text), "{text}");
        }
        let long = "a".repeat(1025);
        for text in [
            "", "a#", "a/b#", "#/a", "a+", "+a/b", "a/#/b", "++", "\0", &long,
        ] {
            assert!(!is_right(text), "{text}");
        }
    }
}
