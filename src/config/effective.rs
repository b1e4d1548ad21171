//! The configuration in force as JSON: defaults filled in, templates resolved, secrets hidden.
//!
//! Each struct is taken apart by name, so that a new field cannot be forgotten here.

use std::fmt::{Display, Write};
use std::time::Duration;

use super::json::quoted;
use super::{
    Batch, Buffer, Config, Delivery, Fsync, Io, Medium, OnFull, SinkConfig, SinkKind, StreamConfig,
    Volatile,
};
use crate::exporter::Ordering;
#[cfg(any(feature = "file", feature = "stdout"))]
use crate::sink::lines::LineFormat;

#[cfg(feature = "kinesis")]
mod kinesis;

/// The fields of an object, in order, their values as JSON.
pub(super) type Fields = Vec<(&'static str, String)>;

impl Config {
    /// The configuration in force: what defaults, templates and secrets made of the document. It is a
    /// document itself and means the same, but that `"***"` stands in place of whatever is secret.
    /// `inputs` are not in it: the library ignores them.
    pub fn to_json(&self) -> String {
        self.to_json_with(&[])
    }

    /// Like [`to_json`](Self::to_json), with items of `inputs`, each as JSON.
    pub fn to_json_with(&self, inputs: &[String]) -> String {
        let mut fields: Fields = vec![("dataDir", template(self.data_dir.display()))];
        if let Some(path) = self.run_dir() {
            fields.push(("runDir", template(path.display())));
        }
        if let Some(path) = &self.secrets_dir {
            fields.push(("secretsDir", quoted(&path.to_string_lossy())));
        }
        if let Some(name) = &self.events_stream {
            fields.push(("eventsStream", quoted(name)));
        }
        let streams: Vec<_> = self.streams.iter().map(stream).collect();
        fields.push(("streams", array(&streams)));
        if !inputs.is_empty() {
            fields.push(("inputs", array(inputs)));
        }
        fields.push(("service", self.service.to_json()));
        object(&fields) + "\n"
    }
}

/// Text in which templates are looked for when it is read again.
pub(super) fn template(text: impl Display) -> String {
    let text = text.to_string();
    quoted(&text.replace('{', "{{").replace('}', "}}"))
}

fn word(word: &str) -> String {
    quoted(word)
}

fn millis(time: Duration) -> String {
    time.as_millis().to_string()
}

fn stream(stream: &StreamConfig) -> String {
    let StreamConfig {
        name,
        sinks,
        buffer: buffer_options,
        batch: batch_options,
        delivery: delivery_options,
        dead_letters_max_bytes,
    } = stream;
    let dead_letters = [("maxBytes", dead_letters_max_bytes.to_string())];
    let sinks: Vec<_> = sinks.iter().map(sink).collect();
    object(&[
        ("name", quoted(name)),
        ("sinks", array(&sinks)),
        ("buffer", buffer(buffer_options)),
        ("batch", batch(batch_options)),
        ("delivery", delivery(delivery_options)),
        ("deadLetters", object(&dead_letters)),
    ])
}

fn sink(sink: &SinkConfig) -> String {
    let SinkConfig {
        name,
        starts_newest,
        rebases,
        kind,
    } = sink;
    let (type_name, more): (_, Fields) = match kind {
        SinkKind::None => ("none", Vec::new()),
        SinkKind::Callback(id) => ("callback", vec![("id", template(id))]),
        #[cfg(feature = "file")]
        SinkKind::File(options) => ("file", file(options)),
        #[cfg(feature = "stdout")]
        SinkKind::Stdout(crate::sink::stdout::Options { format }) => {
            ("stdout", vec![("format", line_format(*format))])
        }
        #[cfg(feature = "kinesis")]
        SinkKind::Kinesis(options) => ("kinesis", kinesis::fields(options)),
        #[cfg(feature = "kafka")]
        SinkKind::Kafka(options) => ("kafka", kafka(options)),
    };
    let start = if *starts_newest { "newest" } else { "oldest" };
    let mut fields = vec![
        ("name", quoted(name)),
        ("type", word(type_name)),
        ("startAt", word(start)),
        ("timestamps", word(if *rebases { "rebase" } else { "asIs" })),
    ];
    fields.extend(more);
    object(&fields)
}

#[cfg(feature = "file")]
fn file(options: &crate::sink::file::Options) -> Fields {
    let crate::sink::file::Options {
        path,
        format,
        file_bytes_max,
        roll_every,
        files_max,
        sync,
    } = options;
    let mut fields = vec![
        ("path", template(path)),
        ("format", line_format(*format)),
        ("maxFileBytes", file_bytes_max.to_string()),
        ("rollEverySecs", roll_every.as_secs().to_string()),
    ];
    if *file_bytes_max > 0 || !roll_every.is_zero() {
        fields.push(("maxFiles", files_max.to_string()));
    }
    fields.push(("fsync", word(if *sync { "perBatch" } else { "never" })));
    fields
}

#[cfg(feature = "kafka")]
fn kafka(options: &crate::sink::kafka::Options) -> Fields {
    let crate::sink::kafka::Options {
        bootstrap_servers,
        topic,
        properties,
        is_exactly_once,
        answer_timeout,
    } = options;
    let properties: Vec<_> = properties
        .iter()
        .map(|(name, value)| (name.as_str(), template(value)))
        .collect();
    vec![
        ("bootstrapServers", template(bootstrap_servers)),
        ("topic", template(topic)),
        ("properties", object(&properties)),
        ("exactlyOnce", is_exactly_once.to_string()),
        ("answerTimeoutMs", millis(*answer_timeout)),
    ]
}

#[cfg(any(feature = "file", feature = "stdout"))]
fn line_format(format: LineFormat) -> String {
    word(match format {
        LineFormat::Ndjson => "ndjson",
        LineFormat::Raw => "raw",
    })
}

fn buffer(buffer: &Buffer) -> String {
    let Buffer {
        medium,
        path,
        segment_bytes,
        max_disk_bytes,
        max_age,
        min_free_bytes,
        max_damaged_bytes,
        reserves_all,
        strict,
        on_full,
        block_timeout,
        fsync,
        fsync_interval,
        sync_timeout,
        checkpoint_interval,
        io,
        max_buffered_records,
        ring_bytes,
        max_record_bytes,
        volatile,
        is_ring_shared,
    } = buffer;
    let ring = if *is_ring_shared { "shared" } else { "private" };
    let place = match medium {
        Medium::Disk => ("path", template(path.display())),
        Medium::Memory => ("type", word("memory")),
    };
    object(&[
        place,
        ("segmentBytes", segment_bytes.to_string()),
        ("maxDiskBytes", max_disk_bytes.to_string()),
        (
            "maxAgeSecs",
            max_age.map_or_else(|| "null".to_owned(), |age| age.as_secs().to_string()),
        ),
        ("minFreeBytes", min_free_bytes.to_string()),
        ("maxDamagedBytes", max_damaged_bytes.to_string()),
        ("reserve", word(if *reserves_all { "all" } else { "none" })),
        ("strict", strict.to_string()),
        (
            "onFull",
            word(match on_full {
                OnFull::DropOldest => "dropOldest",
                OnFull::Block => "block",
                OnFull::RejectNew => "rejectNew",
            }),
        ),
        (
            "blockTimeoutMs",
            block_timeout.map_or_else(|| "null".to_owned(), millis),
        ),
        (
            "fsync",
            word(match fsync {
                Fsync::Always => "always",
                Fsync::PerBatch => "perBatch",
                Fsync::Interval => "interval",
            }),
        ),
        ("fsyncIntervalMs", millis(*fsync_interval)),
        ("syncTimeoutMs", millis(*sync_timeout)),
        ("ring", word(ring)),
        ("checkpointMs", millis(*checkpoint_interval)),
        (
            "io",
            word(match io {
                None => "auto",
                Some(Io::Map) => "mmap",
                Some(Io::Write) => "write",
            }),
        ),
        ("maxBufferedRecords", max_buffered_records.to_string()),
        ("maxBufferedBytes", ring_bytes.to_string()),
        ("maxRecordBytes", max_record_bytes.to_string()),
        (
            "volatile",
            word(match volatile {
                Volatile::Allow => "allow",
                Volatile::Warn => "warn",
                Volatile::Refuse => "refuse",
            }),
        ),
    ])
}

fn batch(batch: &Batch) -> String {
    let Batch {
        max_records,
        max_bytes,
        compresses,
        max_latency,
    } = batch;
    object(&[
        ("maxRecords", max_records.to_string()),
        ("maxBytes", max_bytes.to_string()),
        ("maxLatencyMs", millis(*max_latency)),
        (
            "compression",
            word(if *compresses { "zstd" } else { "none" }),
        ),
    ])
}

fn delivery(delivery: &Delivery) -> String {
    let Delivery {
        ordering,
        max_in_flight,
        max_retries,
        backoff_base,
        backoff_max,
    } = delivery;
    let ordering_word = match ordering {
        Ordering::Stream => "stream",
        Ordering::PerKey => "perKey",
        Ordering::None => "none",
    };
    let retries = max_retries.map_or_else(|| "-1".to_owned(), |count| count.to_string());
    object(&[
        ("ordering", word(ordering_word)),
        ("maxInFlight", max_in_flight.to_string()),
        ("maxRetries", retries),
        ("backoffBaseMs", millis(*backoff_base)),
        ("backoffMaxMs", millis(*backoff_max)),
    ])
}

/// An object, a field a line.
pub(super) fn object(fields: &[(&str, String)]) -> String {
    let fields = fields.iter();
    let lines = fields.map(|(key, value)| format!("{}: {value}", quoted(key)));
    block('{', &lines.collect::<Vec<_>>(), '}')
}

/// An array, an item a line.
fn array(items: &[String]) -> String {
    block('[', items, ']')
}

fn block(open: char, items: &[String], close: char) -> String {
    if items.is_empty() {
        return format!("{open}{close}");
    }
    let mut text = open.to_string();
    for (at, item) in items.iter().enumerate() {
        let comma = if at > 0 { "," } else { "" };
        // A string of JSON has no line of its own in it.
        let _ = write!(text, "{comma}\n  {}", item.replace('\n', "\n  "));
    }
    text.push('\n');
    text.push(close);
    text
}
