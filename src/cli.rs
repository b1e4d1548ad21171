//! The verbs of the binary, one a file.
//!
//! Results go to standard output, talk to standard error. Exit status: 0 = done, 1 = it found or had a
//! failure, 2 = wrong usage or configuration. A reader that closes the pipe ends a verb without a word.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use lexopt::Parser;
use lexopt::prelude::{Long, Short, Value, ValueExt};

use crate::clock::System;
use crate::config::Config;
use crate::error::{Code, Error};
use crate::input::time;
use crate::log::View;
use crate::storage::{Real, Storage, read_text};

mod append;
mod check;
mod config;
mod cursor;
mod deadletter;
mod demo;
#[cfg(feature = "kinesis")]
mod envelope;
mod init;
mod inspect;
mod ledger;
mod logger;
mod read;
mod reload;
mod repair;
mod run;
mod stats;
mod table;
mod top;
mod verify;

/// The largest configuration that is read, in bytes.
const CONFIG_SIZE_MAX: u64 = 16 << 20;

const HELP: &str = "\
forebay: store-and-forward telemetry for gateways

usage: forebay VERB [ARGUMENT…]

  init                    write a configuration to begin with, by asking or by options
  run CONFIG              serve the streams of a configuration until SIGTERM or SIGINT
  check CONFIG            say whether a configuration is right, and what it would take
  config CONFIG           print the configuration in force: defaults and templates filled in, secrets hidden
  reload CONFIG           let the process that serves a configuration read it again
  stats CONFIG|DIR        the numbers of streams, live or stopped
  top CONFIG|DIR          the same as a table that changes, for people
  append CONFIG STREAM    store records from standard input
  read DIR                print the records of a store
  inspect DIR             say what lies in a store
  verify DIR              read all of a store and say what is damaged
  repair DIR              say what would make a damaged store sound; with --apply, do it
  ledger DIR              say what a store has lost, and why
  cursor DIR list         where the sinks stand; seek, skip, remove: move and forget them
  deadletter DIR list     the records that a sink never took; show, reinject, drop: one, again, no more
  demo                    show all of it on this machine, in less than a minute

  forebay VERB --help     more about a verb, with an example
  forebay --version       the version

The environment variable FOREBAY_LOG sets what is said on standard error: error, warn, info (default), debug.
";

/// Why a verb ended before it was done.
enum Failure {
    /// It was called wrongly.
    Usage(String),
    /// It could not be done.
    Error(Error),
    /// It was done, and found something; what, was printed.
    Found,
    /// Whoever read its output has gone.
    Pipe,
}

type Done = Result<(), Failure>;

/// Why, for people.
fn text(failure: &Failure) -> String {
    match failure {
        Failure::Usage(text) => format!("{text}\ntry: forebay --help"),
        Failure::Error(error) => error.to_string(),
        Failure::Found | Failure::Pipe => String::new(),
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<lexopt::Error> for Failure {
    fn from(error: lexopt::Error) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Pipe,
            _ => Self::Error(Error::io("write output", error)),
        }
    }
}

/// A verb: its name, its help, and what it does.
struct Verb {
    name: &'static str,
    help: &'static str,
    main: fn(Arguments) -> Done,
}

const VERBS: &[Verb] = &[
    Verb {
        name: "init",
        help: init::HELP,
        main: init::main,
    },
    Verb {
        name: "run",
        help: run::HELP,
        main: run::main,
    },
    Verb {
        name: "check",
        help: check::HELP,
        main: check::main,
    },
    Verb {
        name: "config",
        help: config::HELP,
        main: config::main,
    },
    Verb {
        name: "reload",
        help: reload::HELP,
        main: reload::main,
    },
    Verb {
        name: "stats",
        help: stats::HELP,
        main: stats::main,
    },
    Verb {
        name: "top",
        help: top::HELP,
        main: top::main,
    },
    Verb {
        name: "append",
        help: append::HELP,
        main: append::main,
    },
    Verb {
        name: "read",
        help: read::HELP,
        main: read::main,
    },
    Verb {
        name: "inspect",
        help: inspect::HELP,
        main: inspect::main,
    },
    Verb {
        name: "verify",
        help: verify::HELP,
        main: verify::main,
    },
    Verb {
        name: "repair",
        help: repair::HELP,
        main: repair::main,
    },
    Verb {
        name: "ledger",
        help: ledger::HELP,
        main: ledger::main,
    },
    Verb {
        name: "cursor",
        help: cursor::HELP,
        main: cursor::main,
    },
    Verb {
        name: "deadletter",
        help: deadletter::HELP,
        main: deadletter::main,
    },
    Verb {
        name: "demo",
        help: demo::HELP,
        main: demo::main,
    },
];

/// The binary.
pub fn main() -> ExitCode {
    logger::install();
    let done = start(&std::env::args_os().skip(1).collect::<Vec<_>>());
    log::logger().flush();
    let Err(failure) = done else {
        return ExitCode::SUCCESS;
    };
    let code = match &failure {
        Failure::Pipe => return ExitCode::SUCCESS,
        Failure::Found => return ExitCode::from(1),
        Failure::Usage(_) => 2,
        Failure::Error(error) if error.code() == Code::Config => 2,
        Failure::Error(_) => 1,
    };
    say(&format!("forebay: {}\n", text(&failure)));
    ExitCode::from(code)
}

fn start(args: &[OsString]) -> Done {
    let Some(first) = args.first() else {
        return Err(Failure::Usage("no verb is given".to_owned()));
    };
    match first.to_str() {
        Some("--help" | "-h" | "help") => return print(HELP),
        Some("--version" | "-V") => return print(concat!(env!("CARGO_PKG_VERSION"), "\n")),
        _ => {}
    }
    let verb = VERBS.iter().find(|verb| *first == *verb.name);
    let Some(verb) = verb else {
        let text = format!("there is no verb \"{}\"", first.to_string_lossy());
        return Err(Failure::Usage(text));
    };
    let rest = &args[1..];
    if rest.iter().any(|arg| arg == "--help" || arg == "-h") {
        return print(verb.help);
    }
    (verb.main)(Arguments {
        parser: Parser::from_args(rest.iter().cloned()),
        pending: None,
    })
}

/// The arguments of a verb.
struct Arguments {
    parser: Parser,
    pending: Option<String>,
}

/// An argument.
enum Argument {
    /// `--name`; its value, if it takes one, is asked for next.
    Option(String),
    /// Anything else.
    Plain(OsString),
}

impl Arguments {
    fn next(&mut self) -> Result<Option<Argument>, Failure> {
        let argument = match self.parser.next()? {
            None => return Ok(None),
            Some(Long(name)) => Argument::Option(name.to_owned()),
            Some(Short(name)) => Argument::Option(name.to_string()),
            Some(Value(value)) => Argument::Plain(value),
        };
        if let Argument::Option(name) = &argument {
            self.pending = Some(name.clone());
        }
        Ok(Some(argument))
    }

    /// The value of the option that was just returned.
    fn value(&mut self) -> Result<String, Failure> {
        let value = self.parser.value()?;
        Ok(value.string()?)
    }

    fn number(&mut self) -> Result<u64, Failure> {
        let text = self.value()?;
        let name = self.pending.clone().unwrap_or_default();
        text.parse()
            .map_err(|_| Failure::Usage(format!("--{name} {text}: must be a number")))
    }

    /// The one argument of a verb that takes no options.
    fn path(&mut self, what: &str) -> Result<PathBuf, Failure> {
        let mut path = None;
        while let Some(argument) = self.next()? {
            place(&mut [&mut path], argument)?;
        }
        required(path, what)
    }

    /// The one argument of a verb whose only option is `--json`, and whether that is there.
    fn path_and_json(&mut self, what: &str) -> Result<(PathBuf, bool), Failure> {
        let (mut path, mut is_json) = (None, false);
        while let Some(argument) = self.next()? {
            match argument {
                Argument::Option(name) if name == "json" => is_json = true,
                argument => place(&mut [&mut path], argument)?,
            }
        }
        Ok((required(path, what)?, is_json))
    }

    /// An option that the verb does not know.
    fn unknown(argument: &Argument) -> Failure {
        Failure::Usage(match argument {
            Argument::Option(name) => format!("there is no option \"--{name}\" here"),
            Argument::Plain(value) => {
                format!("\"{}\" is one argument too many", value.to_string_lossy())
            }
        })
    }
}

/// Puts a plain argument into the first of these places that is free.
fn place(places: &mut [&mut Option<PathBuf>], argument: Argument) -> Done {
    match (argument, places.iter_mut().find(|place| place.is_none())) {
        (Argument::Plain(value), Some(place)) => {
            **place = Some(PathBuf::from(value));
            Ok(())
        }
        (argument, _) => Err(Arguments::unknown(&argument)),
    }
}

fn required(place: Option<PathBuf>, what: &str) -> Result<PathBuf, Failure> {
    place.ok_or_else(|| Failure::Usage(format!("{what} is missing")))
}

/// Reads and checks a configuration.
fn config(path: &Path) -> Result<Config, Failure> {
    let text = read_text(path, CONFIG_SIZE_MAX).map_err(|error| {
        let text = format!("{}: {error}", path.display());
        Error::text(Code::Config, "read configuration", text)
    })?;
    Config::from_json(&text).map_err(|error| {
        Error::text(error.code(), "", format!("{}:{error}", path.display())).into()
    })
}

/// Looks at the store in a directory. A configuration in its place is told from it, with what it says of
/// its stores.
fn view(path: &Path) -> Result<View, Failure> {
    if Real.open_dir(path, false).is_err()
        && let Ok(config) = config(path)
    {
        let mut text = "is a configuration; the directory of a store is needed:".to_owned();
        for name in config.stream_names() {
            text.push_str(&match config.store_path(name) {
                Some(store) => format!("\n  {name}: {}", store.display()),
                None => format!("\n  {name}: in memory, which only its engine can read"),
            });
        }
        return Err(Failure::Usage(format!("{} {text}", path.display())));
    }
    Ok(View::open(path, Arc::new(Real), Arc::new(System::new()))?)
}

/// Text as JSON.
fn json_string(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

/// Writes to standard output.
fn print(text: &str) -> Done {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Writes to standard error. Nobody can be told if that fails.
fn say(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// A number of bytes, for people.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    #[allow(clippy::cast_precision_loss)] // shown with one decimal
    let mut value = count as f64;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{count} B"),
        _ => format!("{value:.1} {}", UNITS[unit]),
    }
}
