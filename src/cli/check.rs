//! `check`: says whether a configuration is right.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Argument, Arguments, Done, Failure, bytes, config, place, print, required};
use crate::config::{Config, Medium as Kind, StreamConfig, Volatile};
use crate::input::InputConfig;
use crate::storage::{Medium, Real, Storage, memory_available, memory_limit};
use reach::Reached;

mod explain;
mod reach;

pub const HELP: &str = "\
usage: forebay check CONFIG [--connect]

Reads a configuration and says what is wrong with it: line, column, path, value and rule. Opens nothing. Exit status 0
when it is right, 2 when it is not. Says what it does: for each stream the memory and disk it may take, when a record
is durable, what happens without room, where records come from and where they go; and how it is seen from outside.
Warns of what is right and will not do here: a disk too small, one that a reboot empties, too little memory, keys
without effect.

  --connect   look besides whether stores and sinks can be reached from here, as the user who asks: whether directories
              can be written to, whether services answer, whether brokers listen. No record is sent, nothing is made,
              and no credentials are tried. Exit status 1 when something is not reached

example: forebay check forebay.json --connect
";

pub fn main(mut arguments: Arguments) -> Done {
    let (mut path, mut connects) = (None, false);
    while let Some(argument) = arguments.next()? {
        match argument {
            Argument::Option(name) if name == "connect" => connects = true,
            argument => place(&mut [&mut path], argument)?,
        }
    }
    let config = config(&required(path, "CONFIG")?)?;
    let inputs = config.inputs(InputConfig::read)?;
    let mut text = String::new();
    for warning in config.warnings() {
        text.push_str(&format!("warning: {warning}\n"));
    }
    for (stream, _) in &inputs {
        if !config.has_stream(stream) {
            text.push_str(&format!(
                "warning: inputs: no stream is named \"{stream}\"\n"
            ));
        }
    }
    media(&config, &mut text);
    let sum: u64 = config.memory().iter().map(|stream| stream.memory).sum();
    memory(sum, [memory_available(), memory_limit()], &mut text);
    let is_all_reached = streams(&config, &inputs, connects, &mut text);
    explain::service(&config, &mut text);
    text.push_str(&format!(
        "{} streams, at most {} of memory\n",
        config.stream_names().len(),
        bytes(sum)
    ));
    print(&text)?;
    match is_all_reached {
        true => Ok(()),
        false => Err(Failure::Found),
    }
}

/// Warns where the streams may take more than the system has, or than the process may have.
fn memory(sum: u64, [available, limit]: [Option<u64>; 2], text: &mut String) {
    let mut warn = |least: Option<u64>, whose: &str, what: &str| {
        if let Some(least) = least.filter(|least| sum > *least) {
            let (sum, least) = (bytes(sum), bytes(least));
            text.push_str(&format!(
                "warning: memory: the streams may take {sum}, and {whose} {least}{what}\n"
            ));
        }
    };
    warn(available, "the system has", " to give");
    warn(limit, "the process's control group has", " for all of it");
}

/// Says of each stream what it takes and does; with `connects` also what of it is reached. True if all is.
fn streams(
    config: &Config,
    inputs: &[(String, InputConfig)],
    connects: bool,
    text: &mut String,
) -> bool {
    let mut is_all_reached = true;
    let mut tell = |reached: Vec<Reached>, text: &mut String| {
        for reached in reached {
            is_all_reached &= reached.is_ok();
            text.push_str(&match reached {
                Ok(seen) => format!("    reached: {seen}\n"),
                Err(why) => format!("    not reached: {why}\n"),
            });
        }
    };
    for (needs, stream) in config.memory().iter().zip(&config.streams) {
        let (memory, disk) = (bytes(needs.memory), bytes(needs.disk));
        let store = match &needs.path {
            Some(path) => format!("{disk} of disk in {}", path.display()),
            None => "its buffer included, which ends with the process".to_owned(),
        };
        text.push_str(&format!("{}: {memory} of memory, {store}\n", needs.name));
        if let Some(path) = needs.path.as_ref().filter(|_| connects) {
            tell(vec![reach::directory(path, "the store")], text);
        }
        explain::stream(stream, text);
        for (_, input) in inputs.iter().filter(|(name, _)| *name == needs.name) {
            text.push_str(&explain::input(&needs.name, input));
        }
        for sink in &stream.sinks {
            text.push_str(&explain::sink(sink));
            if connects {
                tell(reach::sink(&sink.kind), text);
            }
        }
    }
    is_all_reached
}

/// Warns of media that forget, and of those that have less room than the budgets on them.
fn media(config: &Config, text: &mut String) {
    // For each device: its room, what its budgets may still take, and the streams' names.
    let mut devices: BTreeMap<u64, (u64, u64, Vec<&str>)> = BTreeMap::new();
    let on_disk = |stream: &&StreamConfig| stream.buffer.medium == Kind::Disk;
    for stream in config.streams.iter().filter(on_disk) {
        let (name, path) = (stream.name.as_str(), &stream.buffer.path);
        let Ok(medium) = Medium::of(path) else {
            continue;
        };
        let place = path.display();
        if let Some(kind) = medium.volatile {
            let what = match stream.buffer.volatile {
                Volatile::Allow => None,
                Volatile::Warn => Some("a reboot empties it"),
                Volatile::Refuse => Some("\"volatile\": \"refuse\" will not open it"),
            };
            if let Some(what) = what {
                text.push_str(&format!(
                    "warning: {name}: {place} lies on {kind}: {what}\n"
                ));
            }
        }
        let device = devices.entry(medium.device);
        let (room, wanted, names) = device.or_insert((medium.free, 0, Vec::new()));
        *room = medium.free.min(*room);
        *wanted += stream.buffer.max_disk_bytes.saturating_sub(taken(path));
        names.push(name);
    }
    for (room, wanted, names) in devices.into_values() {
        if wanted > room {
            let (names, wanted, room) = (names.join(", "), bytes(wanted), bytes(room));
            text.push_str(&format!(
                "warning: {names}: maxDiskBytes leaves {wanted} to be taken, and the file system has \
                 {room} free\n"
            ));
        }
    }
}

/// What a store has taken already.
fn taken(path: &Path) -> u64 {
    let list = Real.open_dir(path, false).and_then(|dir| dir.list());
    let entries = list.unwrap_or_default();
    entries.iter().map(|entry| entry.allocated).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `L-66`: each bound of memory that is too small is a warning of its own.
    #[test]
    fn too_little_memory_is_a_warning_whoever_sets_the_bound() {
        let warnings = |available, limit| {
            let mut text = String::new();
            memory(4096, [available, limit], &mut text);
            text
        };
        assert_eq!(warnings(None, None), "");
        assert_eq!(warnings(Some(4096), Some(4096)), "");
        let text = warnings(Some(4095), Some(8192));
        assert!(
            text.contains("the system has") && text.lines().count() == 1,
            "{text}"
        );
        let text = warnings(Some(8192), Some(1024));
        let text = text.strip_prefix("warning: memory: the streams may take 4.0 KiB, ");
        let expected = "and the process's control group has 1.0 KiB for all of it\n";
        assert_eq!(text, Some(expected));
    }
}
