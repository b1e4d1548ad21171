//! A sink for Kafka.

use std::time::Duration;

use super::super::json::{Node, Object};
use super::super::resolve::Resolver;
use super::super::{NAME_LEN_MAX, Result, check_name};
use crate::sink::kafka::{Options, check_property, rules_transactions_out, warning};
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
    let is_exactly_once = match object.take_set("exactlyOnce") {
        Some(node) => node.boolean()? && transactions_are_possible(&node, &properties)?,
        None => false,
    };
    let answer_timeout = object
        .take_set("answerTimeoutMs")
        .map_or(Ok(300_000), |node| node.number(1000..=86_400_000))?;
    Ok(Options {
        bootstrap_servers,
        topic,
        properties,
        is_exactly_once,
        answer_timeout: Duration::from_millis(answer_timeout),
    })
}

/// True; the error names the property that rules transactions out.
fn transactions_are_possible(node: &Node<'_>, properties: &[(String, Text)]) -> Result<bool> {
    let ruled_out = |(name, value): &&(String, Text)| rules_transactions_out(name, value.reveal());
    match properties.iter().find(ruled_out) {
        Some((name, value)) => {
            let rule = format_args!("not with the property \"{name}\": {value}");
            Err(node.error(rule))
        }
        None => Ok(true),
    }
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
