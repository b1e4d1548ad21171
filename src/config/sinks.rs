//! The sinks of a stream.

use heapless::String as Name;

use super::json::{Node, Object};
use super::{CURSOR_NAME_MAX, CURSORS_MAX, Result, name, text};
#[cfg(any(feature = "file", feature = "stdout"))]
use crate::sink::lines::LineFormat;

/// A sink.
#[derive(Clone, Debug)]
pub struct SinkConfig {
    /// The name of its cursor.
    pub name: Name<CURSOR_NAME_MAX>,
    /// A new cursor begins at the newest record instead of the oldest.
    pub starts_newest: bool,
    /// What it is.
    pub kind: SinkKind,
}

/// What a sink is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SinkKind {
    /// Nothing is delivered; retention alone frees space.
    None,
    /// Registered by the host under this id.
    Callback(String),
    /// Lines in files.
    #[cfg(feature = "file")]
    File(crate::sink::file::Options),
    /// Lines on standard output.
    #[cfg(feature = "stdout")]
    Stdout(crate::sink::stdout::Options),
}

/// All types of the contract, and whether this build has them.
const TYPES: [(&str, bool); 6] = [
    ("none", true),
    ("callback", true),
    ("file", cfg!(feature = "file")),
    ("stdout", cfg!(feature = "stdout")),
    ("kinesis", false),
    ("kafka", false),
];

/// Reads `sink` or `sinks`.
pub(super) fn read_all(
    stream: &mut Object<'_>,
    warnings: &mut Vec<String>,
) -> Result<Vec<SinkConfig>> {
    let nodes = match (stream.take_set("sink"), stream.take_set("sinks")) {
        (Some(_), Some(node)) => return Err(node.error("\"sink\" stands there already")),
        (Some(node), None) => vec![node],
        (None, Some(node)) => node.array()?,
        (None, None) => return Err(stream.node().error("\"sink\" is missing")),
    };
    if nodes.is_empty() {
        return Err(stream.node().error("at least one sink"));
    }
    if let Some(node) = nodes.get(CURSORS_MAX) {
        return Err(node.error(format_args!("at most {CURSORS_MAX} sinks")));
    }
    let mut sinks: Vec<SinkConfig> = Vec::new();
    for node in &nodes {
        let sink = read(node, nodes.len() > 1, warnings)?;
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
        node.word(&[("oldest", false), ("newest", true)])
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
            kind: SinkKind::None,
        });
    }
    let kind = match type_name {
        #[cfg(feature = "file")]
        "file" => SinkKind::File(file(&mut object)?),
        #[cfg(feature = "stdout")]
        "stdout" => SinkKind::Stdout(crate::sink::stdout::Options {
            format: line_format(&mut object)?,
        }),
        "callback" => {
            let id = object.take_set("id").map(|node| text(&node)).transpose()?;
            SinkKind::Callback(id.unwrap_or_else(|| sink_name.as_str().to_owned()))
        }
        _ => SinkKind::None,
    };
    object.finish()?;
    Ok(SinkConfig {
        name: sink_name,
        starts_newest,
        kind,
    })
}

#[cfg(any(feature = "file", feature = "stdout"))]
fn line_format(object: &mut Object<'_>) -> Result<LineFormat> {
    let words = [("ndjson", LineFormat::Ndjson), ("raw", LineFormat::Raw)];
    object
        .take_set("format")
        .map_or(Ok(LineFormat::default()), |node| node.word(&words))
}

#[cfg(feature = "file")]
fn file(object: &mut Object<'_>) -> Result<crate::sink::file::Options> {
    use std::time::Duration;
    let number = |object: &mut Object<'_>, key, max, default| {
        object
            .take_set(key)
            .map_or(Ok(default), |node| node.number(0..=max))
    };
    let path = object.required("path")?;
    let file_path = super::path(&path)?;
    if file_path.file_name().is_none() {
        return Err(path.error("must be the path of a file"));
    }
    // A file in the present directory has no parent that could be opened.
    let file_path = match file_path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => std::path::Path::new(".").join(file_path),
        _ => file_path,
    };
    let files_max = number(object, "maxFiles", 1_000_000, 8)?;
    Ok(crate::sink::file::Options {
        path: file_path,
        format: line_format(object)?,
        file_bytes_max: number(object, "maxFileBytes", 1 << 40, 128 << 20)?,
        roll_every: Duration::from_secs(number(object, "rollEverySecs", 366 * 86_400, 0)?),
        files_max: u32::try_from(files_max).unwrap_or(u32::MAX),
        sync: object.take_set("fsync").map_or(Ok(true), |node| {
            node.word(&[("perBatch", true), ("never", false)])
        })?,
    })
}
