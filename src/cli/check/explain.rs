//! What a configuration does, in words.

use super::{bytes, taken};
use crate::config::{
    Config, Fsync, Medium, OnFull, Service, SinkConfig, SinkKind, StreamConfig, json,
};
use crate::input::InputConfig;

/// What becomes of the records of a stream, but for its sinks.
pub fn stream(stream: &StreamConfig, text: &mut String) {
    let buffer = &stream.buffer;
    if buffer.medium == Medium::Disk {
        let store = match taken(&buffer.path) {
            0 => "is made by the first run".to_owned(),
            size => format!("is there, and takes {}", bytes(size)),
        };
        text.push_str(&format!("  its store {store}\n"));
        let millis = buffer.fsync_interval.as_millis();
        let durable = match buffer.fsync {
            Fsync::Always => "when its append returns".to_owned(),
            Fsync::PerBatch | Fsync::Interval => format!("at most {millis} ms after its append"),
        };
        text.push_str(&format!("  a record is durable {durable}\n"));
    }
    let full = match (buffer.on_full, buffer.block_timeout) {
        (OnFull::DropOldest, _) => "the oldest records go, delivered or not".to_owned(),
        (OnFull::Block, None) => "who appends waits".to_owned(),
        (OnFull::Block, Some(most)) => {
            format!("who appends waits, at most {} ms", most.as_millis())
        }
        (OnFull::RejectNew, _) => "new records are refused".to_owned(),
    };
    text.push_str(&format!("  without room {full}\n"));
}

/// Where the records of a stream come from.
pub fn input(stream: &str, input: &InputConfig) -> String {
    // As `config` shows it, so that each input says what it is in one place only.
    let shown = input.to_json(stream);
    let field = |name: &str| {
        let document = json::parse(&shown).ok()?;
        let node = document.object().ok()?.take_set(name)?;
        node.string().ok()
    };
    let kind = field("type").unwrap_or_default();
    match field("path").or_else(|| field("address")) {
        Some(place) => format!("  from {kind} {place}\n"),
        None => format!("  from {kind}\n"),
    }
}

/// Where the records go.
pub fn sink(sink: &SinkConfig) -> String {
    let place = match &sink.kind {
        SinkKind::None => "nowhere: they stay until there is no room".to_owned(),
        SinkKind::Callback(id) => {
            format!("the sink \"{id}\" of a host, which this binary does not have: they stay")
        }
        #[cfg(feature = "file")]
        SinkKind::File(options) => format!("the file {}", options.path),
        #[cfg(feature = "stdout")]
        SinkKind::Stdout(_) => "standard output".to_owned(),
        #[cfg(feature = "kinesis")]
        SinkKind::Kinesis(options) => format!(
            "the stream {} of Kinesis, at {}",
            options.stream_name,
            options.shown_address()
        ),
        #[cfg(feature = "kafka")]
        SinkKind::Kafka(options) => format!(
            "the topic {} of Kafka, at {}",
            options.topic, options.bootstrap_servers
        ),
    };
    format!("  {}: to {place}\n", sink.name)
}

/// How it is seen from outside.
pub fn service(config: &Config, text: &mut String) {
    let Service {
        events,
        http,
        metrics,
        ..
    } = config.service();
    if let Some(http) = http {
        let token = match http.token {
            Some(_) => ", for who brings the token",
            None => "",
        };
        text.push_str(&format!(
            "status, health and numbers by HTTP at {}{token}\n",
            http.listen
        ));
    }
    if let Some(metrics) = metrics {
        let (path, millis) = (metrics.path.display(), metrics.interval.as_millis());
        text.push_str(&format!("numbers in {path}, each {millis} ms\n"));
    }
    if let Some(hook) = events {
        text.push_str(&format!(
            "events start {}, at most {} times a minute\n",
            hook.command.join(" "),
            hook.per_minute
        ));
    }
}
