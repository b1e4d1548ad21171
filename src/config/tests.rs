//! What the configuration takes, what it says to what it does not take, and what its page says.

use super::*;

mod documents;
mod fields;
mod garbage;
#[cfg(feature = "kafka")]
mod kafka;
mod page;
mod strings;

/// The object in which a field stands, as the tables name it.
const PLACES: [(&str, &str); 34] = [
    ("document", ""),
    ("stream", "streams[0]"),
    ("buffer", "streams[0].buffer"),
    ("batch", "streams[0].batch"),
    ("delivery", "streams[0].delivery"),
    ("deadLetters", "streams[0].deadLetters"),
    ("sink", "streams[0].sink"),
    ("file", "streams[0].sink"),
    ("stdout", "streams[0].sink"),
    ("callback", "streams[0].sink"),
    ("kinesis", "streams[0].sink"),
    ("credentials", "streams[0].sink.credentials"),
    ("static", "streams[0].sink.credentials"),
    ("profile", "streams[0].sink.credentials"),
    ("iot", "streams[0].sink.credentials"),
    ("kafka", "streams[0].sink"),
    ("service", "service"),
    ("log", "service.log"),
    ("events", "service.events"),
    ("http", "service.http"),
    ("metrics", "service.metrics"),
    ("input", "inputs[0]"),
    ("stdin", "inputs[0]"),
    ("host", "inputs[0]"),
    ("records", "inputs[0]"),
    ("unixStream", "inputs[0]"),
    ("unixDatagram", "inputs[0]"),
    ("udp", "inputs[0]"),
    ("tcp", "inputs[0]"),
    ("tail", "inputs[0]"),
    ("mqtt", "inputs[0]"),
    ("tls", "inputs[0].tls"),
    ("exec", "inputs[0]"),
    ("serial", "inputs[0]"),
];

/// Each kind of input with what it cannot do without.
const INPUTS: &[(&str, &[(&str, &str)])] = &[
    ("stdin", &[]),
    ("host", &[]),
    ("unixStream", &[("path", "\"/run/x\"")]),
    ("unixDatagram", &[("path", "\"/run/x\"")]),
    ("udp", &[("address", "\"localhost:1\"")]),
    ("tcp", &[("address", "\"localhost:1\"")]),
    ("tail", &[("path", "\"/var/log/x\"")]),
    (
        "mqtt",
        &[
            ("address", "\"localhost:1\""),
            ("clientId", "\"x\""),
            ("topics", "[\"x\"]"),
        ],
    ),
    ("exec", &[("command", "[\"/bin/true\"]")]),
    ("serial", &[("path", "\"/dev/ttyS0\"")]),
];

/// Whether this build knows the fields of a place.
fn is_compiled_in(place: &str) -> bool {
    match place {
        "file" => cfg!(feature = "file"),
        "stdout" => cfg!(feature = "stdout"),
        "zstd" => cfg!(feature = "zstd"),
        "kinesis" | "credentials" | "static" | "profile" | "iot" => cfg!(feature = "kinesis"),
        "kafka" => cfg!(feature = "kafka"),
        "http" | "metrics" => cfg!(feature = "http") || !cfg!(feature = "cli"),
        "input" | "stdin" | "host" => cfg!(feature = "cli"),
        "records" | "udp" => cfg!(feature = "input-udp"),
        "unixStream" | "unixDatagram" => cfg!(feature = "input-unix"),
        "tcp" => cfg!(feature = "input-tcp"),
        "tail" => cfg!(feature = "input-tail"),
        "mqtt" => cfg!(feature = "input-mqtt"),
        "tls" => cfg!(feature = "input-mqtt-tls"),
        "exec" => cfg!(feature = "input-exec"),
        "serial" => cfg!(feature = "input-serial"),
        _ => true,
    }
}

/// A field's whole path in [`document`].
fn path_of(place: &str, key: &str) -> String {
    let (_, path) = PLACES.iter().find(|(name, _)| *name == place).unwrap();
    let dot = if path.is_empty() { "" } else { "." };
    format!("{path}{dot}{key}")
}

/// A small document that is right, with `field` (`"key":value`, if any) on a line of its own at the
/// place. What the place cannot do without is there, but for `key`.
fn document(place: &str, key: &str, field: &str) -> String {
    let object = |own: bool, others: &[(&str, &str)]| {
        let others = others.iter().filter(|(name, _)| !own || *name != key);
        let mut fields: Vec<_> = others
            .map(|(name, value)| format!("\"{name}\":{value}"))
            .collect();
        if own && !field.is_empty() {
            fields.push(format!("\n{field}"));
        }
        format!("{{{}}}", fields.join(","))
    };
    let is = |name| place == name;
    let kind = |kind, other: &str| {
        if is(kind) {
            format!("\"{kind}\"")
        } else {
            other.to_owned()
        }
    };
    let credentials = match place {
        "static" => object(
            true,
            &[
                ("type", "\"static\""),
                ("accessKeyId", "\"AKID\""),
                ("secretAccessKey", "\"x\""),
            ],
        ),
        "profile" => object(true, &[("type", "\"profile\"")]),
        "iot" => object(
            true,
            &[
                ("type", "\"iot\""),
                ("endpoint", "\"c.example\""),
                ("roleAlias", "\"a\""),
                ("certificateFile", "\"c.pem\""),
                ("keyFile", "\"k.pem\""),
            ],
        ),
        _ => object(is("credentials"), &[("type", "\"default\"")]),
    };
    let kinesis = [
        ("type", "\"kinesis\""),
        ("streamName", "\"t\""),
        ("region", "\"eu-west-1\""),
        ("credentials", credentials.as_str()),
    ];
    let sink = match place {
        "kinesis" => object(true, &kinesis[..3]),
        "credentials" | "static" | "profile" | "iot" => object(false, &kinesis),
        "file" => object(true, &[("type", "\"file\""), ("path", "\"out/lines\"")]),
        "kafka" => object(
            true,
            &[
                ("type", "\"kafka\""),
                ("bootstrapServers", "\"broker:9092\""),
                ("topic", "\"t\""),
            ],
        ),
        "stdout" | "callback" => object(true, &[("type", &kind(place, ""))]),
        // One that may be waited for.
        "buffer" => object(false, &[("type", "\"callback\"")]),
        _ => object(is("sink"), &[("type", "\"none\"")]),
    };
    let mut stream = vec![("name", "\"s\"".to_owned())];
    if !(is("stream") && key == "sinks") {
        stream.push(("sink", sink));
    }
    for section in ["buffer", "batch", "delivery", "deadLetters"] {
        if is(section) {
            let needed = [("onFull", "\"block\"")];
            let needed = if (place, key) == ("buffer", "blockTimeoutMs") {
                &needed[..]
            } else {
                &[]
            };
            stream.push((section, object(true, needed)));
        }
    }
    let stream: Vec<_> = stream
        .iter()
        .map(|(key, value)| (*key, value.as_str()))
        .collect();
    let streams = format!("[{}]", object(is("stream"), &stream));
    // What all records have is tried with datagrams.
    let input = match place {
        "records" => Some("udp"),
        "input" => Some("stdin"),
        "tls" => Some("mqtt"),
        place => INPUTS
            .iter()
            .map(|(name, _)| *name)
            .find(|name| *name == place),
    };
    let needs = INPUTS.iter().find(|(name, _)| Some(*name) == input);
    let kind = format!("{:?}", input.unwrap_or_default());
    let mut fields = vec![("type", kind.as_str()), ("stream", "\"s\"")];
    fields.extend(needs.iter().flat_map(|(_, needs)| needs.iter()));
    let security = object(is("tls"), &[]);
    if is("tls") {
        fields.push(("tls", &security));
    }
    let is_own = input.is_some() && !is("tls");
    let inputs = format!("[{}]", object(is_own, &fields));
    let mut top = vec![("streams", &*streams)];
    if input.is_some() {
        top.push(("inputs", &*inputs));
    }
    let needed: &[_] = match place {
        "metrics" => &[("path", "\"m.prom\"")],
        "events" => &[("command", "[\"/bin/true\"]")],
        _ => &[],
    };
    let part = object(true, needed);
    let service = match place {
        "log" | "events" | "http" | "metrics" => object(false, &[(place, &part)]),
        _ => object(is("service"), &[]),
    };
    if is("service") || service != "{}" {
        top.push(("service", &*service));
    }
    object(is("document"), &top)
}

/// Reads a document, its inputs included where this build has them.
fn read(text: &str) -> Result<Config> {
    let config = Config::from_json(text)?;
    #[cfg(feature = "cli")]
    config.inputs(crate::input::InputConfig::read)?;
    Ok(config)
}

/// The text of the error that a document brings.
fn error(text: &str) -> String {
    match read(text) {
        Ok(_) => panic!("was taken: {text}"),
        Err(error) => {
            assert_eq!(error.code(), Code::Config, "{text}");
            error.to_string()
        }
    }
}

/// Everything that a document says, for comparing.
fn meaning(text: &str) -> String {
    let config = read(text).unwrap_or_else(|error| panic!("{text}\n{error}"));
    #[cfg(feature = "cli")]
    let inputs = config.inputs(crate::input::InputConfig::read).unwrap();
    #[cfg(not(feature = "cli"))]
    let inputs = ();
    let Config {
        streams,
        run_dir,
        events_stream,
        secrets_dir,
        service,
        ..
    } = &config;
    format!("{streams:#?} {run_dir:?} {events_stream:?} {secrets_dir:?} {inputs:?} {service:?}")
}
