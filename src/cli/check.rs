//! `check`: says whether a configuration is right.

use super::{Arguments, Done, bytes, config, place, print, required};
use crate::config::Config;
use crate::input::InputConfig;

pub const HELP: &str = "\
usage: forebay check CONFIG

Reads a configuration and says what is wrong with it: line, column, path, value and rule. Opens nothing. Exit status 0
when it is right, 2 when it is not. Prints the memory that the streams would take.

example: forebay check forebay.json
";

pub fn main(mut arguments: Arguments) -> Done {
    let mut path = None;
    while let Some(argument) = arguments.next()? {
        place(&mut [&mut path], argument)?;
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
    let sum: u64 = streams(&config, &mut text);
    text.push_str(&format!(
        "{} streams, at most {} of memory\n",
        config.stream_names().len(),
        bytes(sum)
    ));
    print(&text)
}

fn streams(config: &Config, text: &mut String) -> u64 {
    let mut sum = 0;
    for stream in config.memory() {
        let (memory, disk) = (bytes(stream.memory), bytes(stream.disk));
        let store = match &stream.path {
            Some(path) => format!("{disk} of disk in {}", path.display()),
            None => "its buffer included, which ends with the process".to_owned(),
        };
        text.push_str(&format!("{}: {memory} of memory, {store}\n", stream.name));
        sum += stream.memory;
    }
    sum
}
