//! `init`: writes a configuration to begin with.

use std::io::{self, BufRead, IsTerminal};
use std::path::Path;

use super::{Argument, Arguments, Done, Failure, json_string, place, print, say};
use crate::config::Config;
use crate::error::{Code, Error};
use crate::input::InputConfig;
use crate::storage::write_new;

pub const HELP: &str = "\
usage: forebay init [FILE] [--ask] [--stream NAME] [--input WHAT] [--sink WHAT] [OPTION…]

Writes a configuration to begin with, of one stream, with a word on each part of it: to FILE, which must not be there
yet, or to standard output. What is not said is as below. Without any option, on a terminal, it asks. What it writes
is one that check takes; else it says what is wrong, and writes nothing.

  --ask              ask for all of it, on standard error; answers are lines of standard input
  --stream NAME      the stream's name (default telemetry)
  --data-dir DIR     where its store lies, in a directory of its own (default /var/lib/forebay)
  --disk MIB         the most that the store takes on disk (default 256)
  --input WHAT       where records come from, may be repeated: host (the default: this machine's own numbers), stdin,
                     unixStream=PATH, unixDatagram=PATH, udp=ADDRESS:PORT, tcp=ADDRESS:PORT, tail=PATH, serial=PATH,
                     exec=PROGRAM (without arguments; add them there) or mqtt=HOST:PORT/TOPIC
  --sink WHAT        where they go: file=PATH (the default, beside the store), stdout, none, kinesis=REGION/STREAM or
                     kafka=HOST:PORT/TOPIC, perhaps with several hosts, separated by commas
  --http ADDRESS     show status, health and numbers there, as 127.0.0.1:9464 or unix:PATH (default: nowhere)

example: forebay init /etc/forebay.json --input unixStream=/run/forebay/in.sock --sink kinesis=eu-west-1/telemetry
";

/// What is to stand in the configuration.
struct Plan {
    stream: String,
    data_dir: String,
    disk_mib: u64,
    inputs: Vec<String>,
    /// None: a file beside the store.
    sink: Option<String>,
    http: Option<String>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            stream: "telemetry".to_owned(),
            data_dir: "/var/lib/forebay".to_owned(),
            disk_mib: 256,
            inputs: Vec::new(),
            sink: None,
            http: None,
        }
    }
}

/// An object of a configuration: its fields, whose values are text. In `topics` and `command` it stands
/// for an array with nothing else in it.
type Object = Vec<(&'static str, String)>;

/// What may be written for an input, and the field that holds what stands behind the equals sign.
const INPUTS: [(&str, Option<&str>); 10] = [
    ("host", None),
    ("stdin", None),
    ("unixStream", Some("path")),
    ("unixDatagram", Some("path")),
    ("udp", Some("address")),
    ("tcp", Some("address")),
    ("tail", Some("path")),
    ("serial", Some("path")),
    ("exec", Some("command")),
    ("mqtt", Some("address")),
];

pub fn main(mut arguments: Arguments) -> Done {
    let (mut path, mut plan) = (None, Plan::default());
    let (mut asks, mut is_told) = (false, false);
    while let Some(argument) = arguments.next()? {
        let Argument::Option(name) = argument else {
            place(&mut [&mut path], argument)?;
            continue;
        };
        is_told = true;
        match name.as_str() {
            "ask" => asks = true,
            "stream" => plan.stream = arguments.value()?,
            "data-dir" => plan.data_dir = arguments.value()?,
            "disk" => plan.disk_mib = arguments.number()?,
            "input" => plan.inputs.push(arguments.value()?),
            "sink" => plan.sink = Some(arguments.value()?),
            "http" => plan.http = Some(arguments.value()?),
            _ => return Err(Arguments::unknown(&Argument::Option(name))),
        }
    }
    if asks || (!is_told && io::stdin().is_terminal()) {
        ask(&mut plan, &mut io::stdin().lock())?;
    }
    let text = document(&plan).map_err(Failure::Usage)?;
    check(&text)?;
    match path {
        None => print(&text),
        Some(path) => write(&path, &text),
    }
}

fn write(path: &Path, text: &str) -> Done {
    let shown = path.display();
    write_new(path, text).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            let text = format!("{shown} is there already, and stays as it is");
            Error::text(Code::Config, "", text)
        }
        _ => Error::text(Code::Io, "", format!("write {shown}: {error}")),
    })?;
    say(&format!(
        "{shown} is written; try: forebay check {shown} --connect\n"
    ));
    Ok(())
}

/// What `check` would say of it.
fn check(text: &str) -> Done {
    let read = || {
        let config = Config::from_json(text)?;
        config.inputs(InputConfig::read)?;
        Ok(())
    };
    read().map_err(|error: Error| {
        let text = format!("what was asked for makes no configuration: {error}");
        Error::text(Code::Config, "", text).into()
    })
}

/// Asks for all of it. What makes no sense is asked for again.
fn ask(plan: &mut Plan, answers: &mut dyn BufRead) -> Done {
    let mut question = |text: &str, default: &str, check: &dyn Fn(&str) -> Result<(), String>| {
        loop {
            say(&format!("{text} [{default}]: "));
            let mut line = String::new();
            if answers.read_line(&mut line)? == 0 {
                let text = "standard input ended before all was answered; nothing is written";
                return Err(Failure::Usage(text.to_owned()));
            }
            let answer = match line.trim() {
                "" => default,
                answer => answer,
            };
            match check(answer) {
                Ok(()) => return Ok(answer.to_owned()),
                Err(why) => say(&format!("  {why}\n")),
            }
        }
    };
    let anything = |_: &str| Ok(());
    plan.stream = question("The stream's name", &plan.stream, &anything)?;
    let text = "Where its store lies, in a directory of its own";
    plan.data_dir = question(text, &plan.data_dir, &anything)?;
    let is_number = |answer: &str| {
        let number = answer.parse::<u64>();
        number
            .map(drop)
            .map_err(|_| format!("{answer}: must be a number"))
    };
    let text = "The most that it takes on disk, in MiB";
    let disk = question(text, &plan.disk_mib.to_string(), &is_number)?;
    plan.disk_mib = disk.parse().unwrap_or(plan.disk_mib);
    let text = "Where records come from: host, stdin, unixStream=PATH, unixDatagram=PATH, udp=ADDRESS:PORT, \
                tcp=ADDRESS:PORT, tail=PATH, serial=PATH, exec=PROGRAM or \
                mqtt=HOST:PORT/TOPIC; several with blanks between";
    let are_inputs = |answer: &str| {
        answer
            .split_whitespace()
            .try_for_each(|word| input(word).map(drop))
    };
    let default = match plan.inputs.as_slice() {
        [] => "host".to_owned(),
        inputs => inputs.join(" "),
    };
    let inputs = question(text, &default, &are_inputs)?;
    plan.inputs = inputs.split_whitespace().map(str::to_owned).collect();
    let text =
        "Where they go: file=PATH, stdout, none, kinesis=REGION/STREAM or kafka=HOST:PORT/TOPIC";
    let default = plan.sink.clone().unwrap_or_else(|| beside(plan));
    plan.sink = Some(question(text, &default, &|answer| sink(answer).map(drop))?);
    let text = "Where status, health and numbers are shown by HTTP, as 127.0.0.1:9464, or nowhere";
    let default = plan.http.clone().unwrap_or_else(|| "nowhere".to_owned());
    let http = question(text, &default, &anything)?;
    plan.http = Some(http).filter(|http| http != "nowhere");
    Ok(())
}

/// The sink when none is said.
fn beside(plan: &Plan) -> String {
    format!("file={}/{}.ndjson", plan.data_dir, plan.stream)
}

/// A word for an input, as an object.
fn input(word: &str) -> Result<Object, String> {
    let (kind, place) = parts(word);
    let known = INPUTS.iter().find(|known| known.0 == kind);
    let Some((kind, field)) = known else {
        let known: Vec<_> = INPUTS.iter().map(|known| known.0).collect();
        return Err(format!("{word}: must be one of {}", known.join(", ")));
    };
    let mut object = vec![("type", (*kind).to_owned())];
    match (field, place) {
        (None, None) => {}
        (Some(_), Some(place)) if *kind == "mqtt" => {
            // Parts of a topic have slashes between them, an address has none.
            let (address, topic) = place
                .split_once('/')
                .filter(|(_, topic)| !topic.is_empty())
                .ok_or_else(|| format!("{word}: must be mqtt=HOST:PORT/TOPIC"))?;
            object.push(("address", address.to_owned()));
            object.push(("clientId", "forebay-{Hostname}".to_owned()));
            object.push(("topics", topic.to_owned()));
        }
        (Some(field), Some(place)) => object.push((field, place.to_owned())),
        (None, Some(_)) => return Err(format!("{word}: nothing may stand behind {kind}")),
        (Some(field), None) => return Err(format!("{word}: must be {kind}= and its {field}")),
    }
    Ok(object)
}

/// A word for a sink, as an object.
fn sink(word: &str) -> Result<Object, String> {
    let two = |place: Option<&str>, rule: &str| {
        let two = place.and_then(|place| place.rsplit_once('/'));
        let two = two.filter(|(one, other)| !one.is_empty() && !other.is_empty());
        let two = two.map(|(one, other)| (one.to_owned(), other.to_owned()));
        two.ok_or_else(|| format!("{word}: must be {rule}"))
    };
    let kind = |kind: &str| ("type", kind.to_owned());
    match parts(word) {
        ("none", None) => Ok(vec![kind("none")]),
        ("stdout", None) => Ok(vec![kind("stdout")]),
        ("file", Some(path)) => Ok(vec![kind("file"), ("path", path.to_owned())]),
        ("kinesis", place) => {
            let (region, stream) = two(place, "kinesis=REGION/STREAM")?;
            Ok(vec![
                kind("kinesis"),
                ("streamName", stream),
                ("region", region),
            ])
        }
        ("kafka", place) => {
            let (servers, topic) = two(place, "kafka=HOST:PORT/TOPIC")?;
            Ok(vec![
                kind("kafka"),
                ("bootstrapServers", servers),
                ("topic", topic),
            ])
        }
        _ => Err(format!(
            "{word}: must be file=PATH, stdout, none, kinesis=REGION/STREAM or kafka=HOST:PORT/TOPIC"
        )),
    }
}

/// What stands in front of the equals sign and behind it.
fn parts(word: &str) -> (&str, Option<&str>) {
    match word.split_once('=') {
        Some((kind, place)) => (kind, Some(place).filter(|place| !place.is_empty())),
        None => (word, None),
    }
}

/// The fields of an object as JSON, on one line.
fn shown(object: &Object) -> String {
    let fields = object.iter();
    let fields: Vec<_> = fields
        .map(|(key, value)| {
            let value = json_string(value);
            match *key {
                "topics" | "command" => format!("\"{key}\": [{value}]"),
                _ => format!("\"{key}\": {value}"),
            }
        })
        .collect();
    format!("{{ {} }}", fields.join(", "))
}

/// The configuration. JSON has no comments: they stand beside what is read.
fn document(plan: &Plan) -> Result<String, String> {
    let sink = sink(plan.sink.as_ref().unwrap_or(&beside(plan)))?;
    let bytes = plan.disk_mib.checked_mul(1 << 20);
    let bytes = bytes.ok_or_else(|| format!("--disk {}: is too much", plan.disk_mib))?;
    let words: Vec<&str> = match plan.inputs.as_slice() {
        [] => vec!["host"],
        inputs => inputs.iter().map(String::as_str).collect(),
    };
    let mut inputs = Vec::new();
    for word in words {
        let mut object = input(word)?;
        object.insert(1, ("stream", plan.stream.clone()));
        inputs.push(format!("      {}", shown(&object)));
    }
    let http = plan.http.as_ref().map(|address| {
        let listen = vec![("listen", address.clone())];
        format!(",\n    \"service\": {{ \"http\": {} }}", shown(&listen))
    });
    let about: Vec<_> = about(&sink, http.is_some())
        .map(|line| format!("    {}", json_string(line)))
        .collect();
    Ok(format!(
        r#"{{
  "about": [
{about}
  ],
  "streaming": {{
    "dataDir": {data_dir},
    "streams": [
      {{
        "name": {name},
        "sink": {sink},
        "buffer": {{ "maxDiskBytes": {bytes}, "onFull": "dropOldest", "fsyncIntervalMs": 1000 }}
      }}
    ],
    "inputs": [
{inputs}
    ]{http}
  }}
}}
"#,
        about = about.join(",\n"),
        data_dir = json_string(&plan.data_dir),
        name = json_string(&plan.stream),
        sink = shown(&sink),
        inputs = inputs.join(",\n"),
        http = http.unwrap_or_default(),
    ))
}

/// A word on each part that is there.
fn about(sink: &Object, has_http: bool) -> impl Iterator<Item = &'static str> {
    let first = [
        "Only what stands under \"streaming\" is read; remarks like these may stand beside it.",
        "forebay check says what this does, forebay config shows all keys, forebay run serves it.",
        "dataDir: each stream has its store in a directory of its own below it.",
        "maxDiskBytes: the most that the store takes on disk, all included.",
        "onFull: without room dropOldest lets the oldest records go, block makes who appends wait, \
         and rejectNew refuses new ones.",
        "fsyncIntervalMs: a record is durable after so long at most; less writes more to the flash.",
    ];
    let sink = match sink.first().map_or("", |(_, kind)| kind.as_str()) {
        "file" => "sink: lines of JSON in a file, which rolls at 128 MiB; 8 files are kept.",
        "stdout" => "sink: lines of JSON on standard output.",
        "kinesis" => {
            "sink: credentials come from the environment, the shared files or the machine's role; see \
             \"credentials\" for others."
        }
        "kafka" => "sink: TLS, passwords and all else of the client stand under \"properties\".",
        _ => "sink: records go nowhere, and stay until there is no room.",
    };
    let inputs = "inputs: where records come from; \"stream\" names the stream that gets them.";
    let http =
        "service.http: status page, /health, /ready, /metrics; beyond loopback with a \"token\".";
    let more = [Some(sink), Some(inputs), has_http.then_some(http)];
    first.into_iter().chain(more.into_iter().flatten())
}
