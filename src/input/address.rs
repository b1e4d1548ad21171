//! Addresses in the network: a host and a port.

use super::Field;
use super::fields::{brace, plain};
use super::told::Part;
use crate::config::json::{Node, Object};
use crate::config::resolve::Resolver;
use crate::error::Result;

/// Where an input listens.
#[derive(Clone, Debug)]
pub struct Address(pub String);

impl Part for Address {
    fn read(object: &mut Object<'_>, resolver: &Resolver<'_>) -> Result<Self> {
        address(&object.required("address")?, resolver).map(Self)
    }

    fn to_json(&self) -> Vec<Field> {
        vec![("address", brace(&self.0))]
    }
}

/// Reads `host:port`; the host of IPv6 stands in brackets.
fn address(node: &Node<'_>, resolver: &Resolver<'_>) -> Result<String> {
    let text = plain(node, resolver)?;
    let is_right = text.rsplit_once(':').is_some_and(|(host, port)| {
        let is_host = |c: char| c.is_ascii_alphanumeric() || "._-%".contains(c);
        let inner = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let is_host = match inner {
            Some(inner) => inner.chars().all(|c| is_host(c) || c == ':'),
            None => host.chars().all(is_host),
        };
        !host.is_empty() && is_host && port.parse::<u16>().is_ok()
    });
    match is_right {
        true => Ok(text),
        false => Err(node.error("must be host:port, as in \"127.0.0.1:5170\"")),
    }
}
