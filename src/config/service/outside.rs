//! What others see without being the process: who may ask by HTTP, and the file of numbers.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::super::json::Node;
use super::super::resolve::Resolver;
use super::super::{Result, millis, path};
use crate::sink::text::Text;

/// Where to listen when nothing is said.
const PORT: u16 = 9464;
/// A shorter token is too easily guessed.
const TOKEN_LEN_MIN: usize = 16;

/// What is answered by HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// Where to listen.
    pub listen: Listen,
    /// What who asks has to bring.
    pub token: Option<Text>,
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// At an address.
    Tcp(SocketAddr),
    /// At a socket in the file system.
    Unix(PathBuf),
}

/// A file that has the numbers as text for Prometheus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Where it lies.
    pub path: PathBuf,
    /// How often it is written.
    pub interval: Duration,
}

impl Http {
    pub(super) fn read(node: &Node<'_>, resolver: &Resolver<'_>) -> Result<Self> {
        let mut object = node.object()?;
        let listen = match object.take_set("listen") {
            Some(node) => Listen::read(&node, resolver)?,
            None => Listen::Tcp(SocketAddr::from(([127, 0, 0, 1], PORT))),
        };
        let token = object.take_set("token");
        let token = token
            .map(|node| {
                let text = resolver.text(&node)?;
                match text.reveal().len() >= TOKEN_LEN_MIN {
                    true => Ok(text),
                    false => Err(node.error("must have at least 16 bytes")),
                }
            })
            .transpose()?;
        object.finish()?;
        match &listen {
            Listen::Tcp(address) if !address.ip().is_loopback() && token.is_none() => {
                Err(node.error("\"token\" is missing: others can reach the address"))
            }
            _ => Ok(Self { listen, token }),
        }
    }
}

impl Listen {
    pub(super) fn read(node: &Node<'_>, resolver: &Resolver<'_>) -> Result<Self> {
        let text = path(node, resolver)?.to_string_lossy().into_owned();
        match text.strip_prefix("unix:") {
            Some(path) if !path.is_empty() => Ok(Self::Unix(PathBuf::from(path))),
            _ => text
                .parse()
                .map(Self::Tcp)
                .map_err(|_| node.error("must be an address with a port, or unix: and a path")),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Metrics {
    pub(super) fn read(node: &Node<'_>, resolver: &Resolver<'_>) -> Result<Self> {
        let mut object = node.object()?;
        let this = Self {
            path: path(&object.required("path")?, resolver)?,
            interval: match object.take_set("intervalMs") {
                Some(node) => millis(&node, 100)?,
                None => Duration::from_secs(15),
            },
        };
        object.finish()?;
        Ok(this)
    }
}
