//! A sink for Kafka.

use std::time::Duration;

use super::super::json::{Node, Object};
use super::super::resolve::Resolver;
use super::super::{NAME_LEN_MAX, Result, check_name};
use crate::sink::kafka::{Options, check_property, warning};
use crate::sink::text::Text;

/// The most properties of a client.
pub(in crate::config) const PROPERTIES_MAX: usize = 256;

/// Reads what such a sink has besides.
pub(super) fn read(
    object: &mut Object<'_>,
    resolver: &Resolver<'_>,
    warnings: &mut Vec<String>,
) -> Result<Options> {
    let node = object.required("bootstrapServers")?;
    let bootstrap_servers = resolver.text(&node)?;
    if bootstrap_servers.reveal().trim().is_empty() {
        return Err(node.error("must be hosts with ports, separated by commas"));
    }
    check(&node, "bootstrap.servers", &bootstrap_servers)?;
    let node = object.required("topic")?;
    let topic = resolver.text(&node)?;
    check_name(&node, topic.reveal(), NAME_LEN_MAX)?;
    let properties = match object.take_set("properties") {
        Some(node) => properties(&node, resolver, warnings)?,
        None => Vec::new(),
    };
    if let Some(node) = object.take_set("exactlyOnce")
        && node.boolean()?
    {
        return Err(node.error("not available in this version"));
    }
    let answer_timeout = object
        .take_set("answerTimeoutMs")
        .map_or(Ok(300_000), |node| node.number(1000..=86_400_000))?;
    Ok(Options {
        bootstrap_servers,
        topic,
        properties,
        answer_timeout: Duration::from_millis(answer_timeout),
    })
}

fn properties(
    node: &Node<'_>,
    resolver: &Resolver<'_>,
    warnings: &mut Vec<String>,
) -> Result<Vec<(String, Text)>> {
    let mut properties = Vec::new();
    for (name, node) in node.object()?.into_fields() {
        if properties.len() == PROPERTIES_MAX {
            return Err(node.error(format_args!("at most {PROPERTIES_MAX} properties")));
        }
        // Numbers and truth values are taken as they stand there.
        let is_plain = !node.raw().starts_with(['"', '{', '[']) && !node.is_null();
        let value = match is_plain {
            true => Text::open(node.raw()),
            false => resolver.text(&node)?,
        };
        check(&node, &name, &value)?;
        if let Some(text) = warning(&name, value.reveal()) {
            warnings.push(format!("{}: {text}", node.path()));
        }
        properties.push((name.into_owned(), value));
    }
    Ok(properties)
}

fn check(node: &Node<'_>, name: &str, value: &Text) -> Result<()> {
    check_property(name, value).map_err(|rule| node.error(rule))
}
