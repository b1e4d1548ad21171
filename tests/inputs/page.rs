//! The page about inputs is right.

use crate::process::{Scratch, verb};

const PAGE: &str = include_str!("../../docs/inputs.md");

/// Each example is a configuration that `check` takes, and each kind has one.
#[test]
fn the_examples_of_the_page_are_taken_by_check() {
    let examples: Vec<_> = PAGE.split("```json\n").skip(1).collect();
    let scratch = Scratch::new("page");
    for example in &examples {
        let example = example.split("```").next().unwrap();
        let path = scratch.write("forebay.json", example);
        let ended = verb("check", &path, &[]).expect(0);
        assert!(!ended.err.contains("error"), "{example}\n{ended:?}");
    }
    for kind in [
        "stdin",
        "host",
        "unixStream",
        "unixDatagram",
        "udp",
        "tcp",
        "tail",
    ] {
        let name = format!(r#""type": "{kind}""#);
        assert!(
            examples.iter().any(|example| example.contains(&name)),
            "{kind}"
        );
    }
}
