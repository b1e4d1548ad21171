//! The sinks of a stream.

use heapless::String as Name;

use super::json::{Node, Object};
use super::resolve::Resolver;
use super::{CURSOR_NAME_MAX, CURSORS_MAX, Result, name};
#[cfg(any(feature = "file", feature = "stdout"))]
use crate::sink::lines::LineFormat;
use crate::sink::text::Text;

#[cfg(feature = "kafka")]
pub(super) mod kafka;
#[cfg(feature = "kinesis")]
mod kinesis;

/// A sink.
#[derive(Clone, Debug)]
pub struct SinkConfig {
    /// The name of its cursor.
    pub name: Name<CURSOR_NAME_MAX>,
    /// A new cursor begins at the newest record instead of the oldest.
    pub starts_newest: bool,
    /// Times from before the time of day was known are put right.
    pub rebases: bool,
    /// What it is.
    pub kind: SinkKind,
}

impl SinkConfig {
    /// Each batch is a transaction.
    pub(super) fn is_exactly_once(&self) -> bool {
        match &self.kind {
            #[cfg(feature = "kafka")]
            SinkKind::Kafka(options) => options.is_exactly_once,
            _ => false,
        }
    }

    /// Compresses what goes there, if that is possible; else says why not.
    #[cfg_attr(not(feature = "kinesis"), allow(clippy::unused_self))]
    pub(super) fn compress(&mut self) -> std::result::Result<(), &'static str> {
        #[cfg(feature = "kinesis")]
        if let SinkKind::Kinesis(options) = &mut self.kind
            && options.aggregates
        {
            options.compresses = true;
            return match cfg!(feature = "zstd") {
                true => Ok(()),
                false => Err("this build does not have the feature \"zstd\""),
            };
        }
        Err("has a place only where all sinks are of type kinesis with \"aggregation\": \"kpl\"")
    }
}

/// What a sink is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SinkKind {
    /// Nothing is delivered; retention alone frees space.
    None,
    /// Registered by the host under this id.
    Callback(Text),
    /// Lines in files.
    #[cfg(feature = "file")]
    File(crate::sink::file::Options),
    /// Lines on standard output.
    #[cfg(feature = "stdout")]
    Stdout(crate::sink::stdout::Options),
    /// Amazon Kinesis Data Streams.
    #[cfg(feature = "kinesis")]
    Kinesis(Box<crate::sink::kinesis::Options>),
    /// A topic of Kafka.
    #[cfg(feature = "kafka")]
    Kafka(crate::sink::kafka::Options),
}

/// All types of the contract, and whether this build has them.
const TYPES: [(&str, bool); 6] = [
    ("none", true),
    ("callback", true),
    ("file", cfg!(feature = "file")),
    ("stdout", cfg!(feature = "stdout")),
    ("kinesis", cfg!(feature = "kinesis")),
    ("kafka", cfg!(feature = "kafka")),
];

/// Reads `sink` or `sinks`.
pub(super) fn read_all(
    stream: &mut Object<'_>,
    resolver: &Resolver<'_>,
    warnings: &mut Vec<String>,
) -> Result<Vec<SinkConfig>> {
    let nodes = match (stream.take_set("sink"), stream.take_set("sinks")) {
        (Some(_), Some(node)) => return Err(node.error("\"sink\" stands there already")),
        (Some(node), None) => vec![node],
        (None, Some(node)) => node.array_of(CURSORS_MAX, "sinks")?,
        (None, None) => return Err(stream.node().error("\"sink\" is missing")),
    };
    if nodes.is_empty() {
        return Err(stream.node().error("at least one sink"));
    }
    let mut sinks: Vec<SinkConfig> = Vec::new();
    for node in &nodes {
        let sink = read(node, nodes.len() > 1, resolver, warnings)?;
        if sinks.iter().any(|other| other.name == sink.name) {
            return Err(node.error(format_args!("another sink is named \"{}\"", sink.name)));
        }
        sinks.push(sink);
    }
    Ok(sinks)
}

fn read(
    node: &Node<'_>,
    is_one_of_several: bool,
    resolver: &Resolver<'_>,
    warnings: &mut Vec<String>,
) -> Result<SinkConfig> {
    let mut object = node.object()?;
    let kind = object.required("type")?;
    let words: Vec<(&str, (&str, bool))> = TYPES.iter().map(|known| (known.0, *known)).collect();
    let (type_name, is_compiled_in) = kind.word(&words)?;
    let sink_name = match object.take_set("name") {
        Some(node) => name(&node)?,
        None if is_one_of_several => return Err(node.error("\"name\" is missing")),
        None => Name::try_from(type_name).unwrap_or_default(),
    };
    let starts_newest = object.take_set("startAt").map_or(Ok(false), |node| {
        resolver.word(&node, &[("oldest", false), ("newest", true)])
    })?;
    let rebases = object.take_set("timestamps").map_or(Ok(false), |node| {
        resolver.word(&node, &[("asIs", false), ("rebase", true)])
    })?;
    let is_required = object
        .take_set("required")
        .map_or(Ok(true), |node| node.boolean())?;
    if !is_compiled_in {
        if is_required {
            let rule = format!("this build does not have the feature \"{type_name}\"");
            return Err(kind.error(rule));
        }
        warnings.push(format!(
            "{}: this build does not have the feature \"{type_name}\": nothing is delivered",
            node.path()
        ));
        // Its other fields are known to the build that has it.
        return Ok(SinkConfig {
            name: sink_name,
            starts_newest,
            rebases,
            kind: SinkKind::None,
        });
    }
    let kind = match type_name {
        #[cfg(feature = "file")]
        "file" => SinkKind::File(file(&mut object, resolver, warnings)?),
        #[cfg(feature = "stdout")]
        "stdout" => SinkKind::Stdout(crate::sink::stdout::Options {
            format: line_format(&mut object, resolver)?,
        }),
        #[cfg(feature = "kinesis")]
        "kinesis" => SinkKind::Kinesis(Box::new(kinesis::read(&mut object, resolver)?)),
        #[cfg(feature = "kafka")]
        "kafka" => SinkKind::Kafka(kafka::read(&mut object, resolver, warnings)?),
        "callback" => {
            let id = object.take_set("id").map(|node| resolver.text(&node));
            SinkKind::Callback(id.unwrap_or_else(|| Ok(Text::open(sink_name.as_str())))?)
        }
        _ => SinkKind::None,
    };
    object.finish()?;
    Ok(SinkConfig {
        name: sink_name,
        starts_newest,
        rebases,
        kind,
    })
}

#[cfg(any(feature = "file", feature = "stdout"))]
fn line_format(object: &mut Object<'_>, resolver: &Resolver<'_>) -> Result<LineFormat> {
    let words = [("ndjson", LineFormat::Ndjson), ("raw", LineFormat::Raw)];
    object
        .take_set("format")
        .map_or(Ok(LineFormat::default()), |node| {
            resolver.word(&node, &words)
        })
}

#[cfg(feature = "file")]
fn file(
    object: &mut Object<'_>,
    resolver: &Resolver<'_>,
    warnings: &mut Vec<String>,
) -> Result<crate::sink::file::Options> {
    use std::path::Path;
    use std::time::Duration;
    let number = |object: &mut Object<'_>, key, max, default| {
        object
            .take_set(key)
            .map_or(Ok(default), |node| node.number(0..=max))
    };
    let node = object.required("path")?;
    let mut path = resolver.path(&node)?;
    let parent = match Path::new(path.reveal()).file_name() {
        Some(_) => Path::new(path.reveal()).parent(),
        None => return Err(node.error("must be the path of a file")),
    };
    // A file in the present directory has no parent that could be opened.
    if parent.is_some_and(|parent| parent.as_os_str().is_empty()) {
        let mut there = Text::open("./");
        there.push(&path);
        path = there;
    }
    let files = object.take_set("maxFiles");
    let files_max = files
        .as_ref()
        .map_or(Ok(8), |node| node.number(0..=1_000_000))?;
    let options = crate::sink::file::Options {
        path,
        format: line_format(object, resolver)?,
        file_bytes_max: number(object, "maxFileBytes", 1 << 40, 128 << 20)?,
        roll_every: Duration::from_secs(number(object, "rollEverySecs", 366 * 86_400, 0)?),
        files_max: u32::try_from(files_max).unwrap_or(u32::MAX),
        sync: object.take_set("fsync").map_or(Ok(true), |node| {
            resolver.word(&node, &[("perBatch", true), ("never", false)])
        })?,
    };
    if let Some(node) = files
        && options.file_bytes_max == 0
        && options.roll_every.is_zero()
    {
        let text = "has no effect: with neither maxFileBytes nor rollEverySecs no file ever rolls";
        warnings.push(format!("{}: {text}", node.path()));
    }
    Ok(options)
}
