//! `check`: says whether a configuration is right.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Arguments, Done, bytes, config, print};
use crate::config::{Config, Medium as Kind, StreamConfig, Volatile};
use crate::input::InputConfig;
use crate::storage::{Medium, Real, Storage, memory_available, memory_limit};

pub const HELP: &str = "\
usage: forebay check CONFIG

Reads a configuration and says what is wrong with it: line, column, path, value and rule. Opens nothing. Exit status 0
when it is right, 2 when it is not. Prints the memory that the streams would take, and warns of what is right and
will not do here: a disk too small, one that a reboot empties, too little memory, keys without effect.

example: forebay check forebay.json
";

pub fn main(mut arguments: Arguments) -> Done {
    let config = config(&arguments.path("CONFIG")?)?;
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
    streams(&config, &mut text);
    text.push_str(&format!(
        "{} streams, at most {} of memory\n",
        config.stream_names().len(),
        bytes(sum)
    ));
    print(&text)
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

fn streams(config: &Config, text: &mut String) {
    for stream in config.memory() {
        let (memory, disk) = (bytes(stream.memory), bytes(stream.disk));
        let store = match &stream.path {
            Some(path) => format!("{disk} of disk in {}", path.display()),
            None => "its buffer included, which ends with the process".to_owned(),
        };
        text.push_str(&format!("{}: {memory} of memory, {store}\n", stream.name));
    }
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
