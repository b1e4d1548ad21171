//! Addresses in the network: a host and a port.

use super::fields::plain;
use crate::config::json::Node;
use crate::config::resolve::Resolver;
use crate::error::Result;

/// Reads `host:port`; the host of IPv6 stands in brackets.
pub fn address(node: &Node<'_>, resolver: &Resolver<'_>) -> Result<String> {
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
