//! `config`: prints the configuration in force.

use super::{Arguments, Done, config, print};
use crate::input::InputConfig;

pub const HELP: &str = "\
usage: forebay config CONFIG

Prints the configuration that is in force: what defaults, templates and the environment make of the document, as
JSON. It is a document itself and means the same. Whatever comes from a secret is shown as \"***\". Opens nothing.

example: forebay config forebay.json
";

pub fn main(mut arguments: Arguments) -> Done {
    let config = config(&arguments.path("CONFIG")?)?;
    let inputs = config.inputs(InputConfig::read)?;
    let inputs: Vec<_> = inputs
        .iter()
        .map(|(stream, input)| input.to_json(stream))
        .collect();
    print(&config.to_json_with(&inputs))
}
