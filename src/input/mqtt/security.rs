//! What is told of TLS on the connection to a broker.

use std::io;
use std::net::TcpStream;

use super::wire::Wire;
use crate::config::json::Node;
use crate::config::resolve::Resolver;
use crate::error::Result;

#[cfg(feature = "input-mqtt-tls")]
mod told {
    use super::{Node, Resolver, Result, TcpStream, Wire, io};
    use crate::input::fields::{brace, plain};
    use crate::input::mqtt::wire::Secured;

    /// Whom to trust, and what to show.
    #[derive(Clone, Debug)]
    pub struct Security {
        ca_file: Option<String>,
        /// A certificate and its key.
        identity: Option<(String, String)>,
    }

    impl Security {
        /// Reads it from the value of `tls`.
        pub fn read(node: &Node<'_>, resolver: &Resolver<'_>) -> Result<Self> {
            let mut object = node.object()?;
            let path = |node: Node<'_>| {
                let text = plain(&node, resolver)?;
                match text.is_empty() || text.contains('\0') {
                    true => Err(node.error("must be a path")),
                    false => Ok(text),
                }
            };
            let ca_file = object.take_set("caFile").map(path).transpose()?;
            let certificate = object.take_set("certificateFile").map(path).transpose()?;
            let key = object.take_set("keyFile").map(path).transpose()?;
            if certificate.is_some() != key.is_some() {
                return Err(node.error("certificateFile and keyFile need each other"));
            }
            object.finish()?;
            let identity = certificate.zip(key);
            Ok(Self { ca_file, identity })
        }

        /// As it stands in a configuration.
        pub fn to_json(&self) -> String {
            let text = |text: Option<&String>| {
                let shown = text.map(|text| brace(text));
                shown.unwrap_or_else(|| "null".to_owned())
            };
            let identity = self.identity.as_ref();
            format!(
                "{{\"caFile\": {}, \"certificateFile\": {}, \"keyFile\": {}}}",
                text(self.ca_file.as_ref()),
                text(identity.map(|(certificate, _)| certificate)),
                text(identity.map(|(_, key)| key)),
            )
        }

        /// Puts TLS on a connection to a broker.
        pub fn secure(&self, wire: TcpStream, broker: &str) -> io::Result<Box<dyn Wire>> {
            let host = broker.rsplit_once(':').map_or(broker, |(host, _)| host);
            let identity = self.identity.as_ref();
            let identity = identity.map(|(certificate, key)| (&**certificate, &**key));
            let secured = Secured::new(wire, host, self.ca_file.as_deref(), identity)?;
            Ok(Box::new(secured))
        }
    }
}

#[cfg(not(feature = "input-mqtt-tls"))]
mod told {
    use super::{Node, Resolver, Result, TcpStream, Wire, io};

    /// There is none in this build.
    #[derive(Clone, Debug)]
    pub enum Security {}

    impl Security {
        /// Refuses it.
        pub fn read(node: &Node<'_>, _: &Resolver<'_>) -> Result<Self> {
            node.object()?;
            let rule = "this build does not have the feature \"input-mqtt-tls\"";
            Err(node.error(rule))
        }

        /// See the other one.
        pub fn to_json(&self) -> String {
            match *self {}
        }

        /// See the other one.
        pub fn secure(&self, _: TcpStream, _: &str) -> io::Result<Box<dyn Wire>> {
            match *self {}
        }
    }
}

pub use told::Security;
