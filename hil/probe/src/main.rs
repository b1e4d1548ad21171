//! What the scenarios run on a board beside the `forebay` binary: loads whose results are known.
//!
//! `probe load DIR RAW AT RECORDS [unsynced|reject] [dead]` stores numbered records and notes in a raw block what was promised;
//! `probe check DIR PROMISED TAKEN` holds a store against such a note; `probe cost DIR` counts instructions where
//! one takes a nanosecond of the board's time; `probe tail DIR SECONDS` shows how long appends take;
//! `probe fill DIR RECORDS BYTES` makes a backlog, `probe drain DIR` delivers it; `probe clock SECONDS` sets the
//! board's time, which a 32-bit `date` cannot beyond 2038.

#![allow(clippy::disallowed_methods)]

mod backlog;
mod check;
mod cost;
mod load;
mod records;
mod tail;

use std::process::ExitCode;

/// The arguments after the verb, by position.
pub struct Arguments(Vec<String>);

impl Arguments {
    pub fn text(&self, at: usize, name: &str) -> Result<&str, String> {
        let value = self.0.get(at).map(String::as_str);
        value.ok_or_else(|| format!("{name} is missing"))
    }

    pub fn number(&self, at: usize, name: &str) -> Result<u64, String> {
        let text = self.text(at, name)?;
        text.parse()
            .map_err(|_| format!("{name} must be a number, not {text}"))
    }

    pub fn has(&self, word: &str) -> bool {
        self.0.iter().any(|argument| argument == word)
    }
}

/// Seconds since 1970.
fn set_clock(arguments: &Arguments) -> Result<(), String> {
    let seconds = arguments.number(0, "SECONDS")?;
    let time = rustix::time::Timespec {
        tv_sec: i64::try_from(seconds).map_err(|error| error.to_string())?,
        tv_nsec: 0,
    };
    rustix::time::clock_settime(rustix::time::ClockId::Realtime, time)
        .map_err(|error| error.to_string())?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    println!(
        "{} seconds",
        now.map_err(|error| error.to_string())?.as_secs()
    );
    Ok(())
}

fn main() -> ExitCode {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let verb = if arguments.is_empty() {
        String::new()
    } else {
        arguments.remove(0)
    };
    let arguments = Arguments(arguments);
    let done = match verb.as_str() {
        "load" => load::run(&arguments),
        "check" => check::run(&arguments),
        "cost" => cost::run(&arguments),
        "tail" => tail::run(&arguments),
        "fill" => backlog::fill(&arguments),
        "drain" => backlog::drain(&arguments),
        "clock" => set_clock(&arguments),
        _ => Err(String::from(
            "usage: probe load|check|cost|tail|fill|drain|clock …",
        )),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("probe {verb}: {error}");
            ExitCode::FAILURE
        }
    }
}
