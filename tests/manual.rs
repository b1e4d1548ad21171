//! The manual page and the completions of shells say what the help of the binary says.
//!
//! They are made of the help: what users are told has one source, `src/cli`. `MANUAL=write cargo test --test manual`
//! writes the files below cross/packages anew; without it they are compared.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // a test is not behind the seams

use std::path::Path;
use std::process::Command;

#[path = "manual/help.rs"]
mod help;
#[path = "manual/page.rs"]
mod page;
#[path = "common/process.rs"]
mod process;
#[path = "manual/shells.rs"]
mod shells;

use help::{Help, Verb};
use process::{Scratch, forebay};

const BASH: &str = "completions/forebay.bash";

/// What the binary says of itself.
fn help() -> Help {
    let all = forebay(&["--help"]).expect(0);
    let version = forebay(&["--version"]).expect(0);
    Help::read(all.out(), version.out().trim(), |verb| {
        forebay(&[verb, "--help"]).expect(0).out().to_owned()
    })
}

fn is_made_of_the_help(name: &str, made: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = root.join("cross/packages").join(name);
    if std::env::var("MANUAL").is_ok_and(|word| word == "write") {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, made).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap();
    let differs = made.lines().zip(kept.lines()).find(|(a, b)| a != b);
    assert_eq!(differs, None, "{name}: MANUAL=write makes it anew");
    assert_eq!(made, kept, "{name}: MANUAL=write makes it anew");
}

#[test]
fn the_manual_page_is_made_of_the_help() {
    is_made_of_the_help("forebay.1", &page::manual(&help()));
}

#[test]
fn completions_are_made_of_the_help() {
    let help = help();
    is_made_of_the_help(BASH, &shells::bash(&help));
    is_made_of_the_help("completions/_forebay", &shells::zsh(&help));
    is_made_of_the_help("completions/forebay.fish", &shells::fish(&help));
}

/// Nothing of the help is lost on the way: every word of it stands in the page.
#[test]
fn the_manual_page_has_every_word_of_the_help() {
    let plain = page::manual(&help())
        .replace("\\-", "-")
        .replace("\\(aq", "'")
        .replace("\\(ga", "`")
        .replace("\\e", "\\");
    let words: std::collections::BTreeSet<&str> = plain.split(is_between_words).collect();
    for verb in &help().verbs {
        let said = forebay(&[&verb.name, "--help"]).expect(0);
        for word in said.out().split(is_between_words) {
            let is_heading = word == "usage:" || word == "example:";
            assert!(is_heading || words.contains(word), "{}: {word}", verb.name);
        }
    }
}

fn is_between_words(letter: char) -> bool {
    letter.is_whitespace() || letter == '"' || letter == '\\'
}

/// What the help names, its verb takes: it goes on to the next argument, which there is none of.
#[test]
fn every_option_of_the_help_is_taken() {
    for verb in &help().verbs {
        for option in &verb.options {
            let mut call: Vec<&str> = vec![&verb.name];
            if verb.has_words() {
                call.extend(["DIR", &verb.words[0]]);
            }
            call.push(&option.name);
            if option.takes_value() {
                call.push(option.choices.first().map_or("12", String::as_str));
            }
            call.push("--nothing-like-it");
            let ended = forebay(&call).expect(2);
            assert!(
                ended.err.contains("\"--nothing-like-it\""),
                "{call:?}: {ended:?}"
            );
        }
    }
}

/// What bash would offer for the last of these words.
fn offered(words: &[&str], dir: &Path) -> Vec<String> {
    let script = format!(
        "source '{}/cross/packages/{BASH}'; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); \
         _forebay; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        env!("CARGO_MANIFEST_DIR")
    );
    let mut command = Command::new("bash");
    command
        .args(["--norc", "-euc", &script, "bash"])
        .args(words);
    let output = command.current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{words:?}: {output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(str::to_owned)
        .filter(|line| !line.is_empty())
        .collect()
}

#[test]
fn bash_offers_verbs_options_values_and_files() {
    let scratch = Scratch::new("completions");
    scratch.write("forebay.json", "{}");
    std::fs::create_dir(scratch.join("store")).unwrap();
    let offers = |words: &[&str], wanted: &[&str]| {
        assert_eq!(offered(words, scratch.path()), wanted, "{words:?}");
    };
    offers(&["forebay", "re"], &["reload", "read", "repair"]);
    offers(&["forebay", "--v"], &["--version"]);
    offers(
        &["forebay", "read", "--f"],
        &["--from", "--follow", "--format"],
    );
    offers(
        &["forebay", "read", "--format", ""],
        &["log", "ndjson", "raw"],
    );
    offers(&["forebay", "append", "--format", "n"], &["ndjson"]);
    offers(&["forebay", "run", "--drain", ""], &[]);
    offers(&["forebay", "read", ""], &["store"]);
    offers(&["forebay", "run", "for"], &["forebay.json"]);
    offers(&["forebay", "cursor", "store", "s"], &["seek", "skip"]);
    offers(
        &[
            "forebay",
            "deadletter",
            "store",
            "reinject",
            "--config",
            "f",
        ],
        &["forebay.json"],
    );
    offers(&["forebay", "nothing", ""], &[]);
}

/// Verbs, options and words that a shell has to know.
#[test]
fn every_shell_knows_every_verb_and_option() {
    let help = help();
    for text in [shells::bash(&help), shells::zsh(&help), shells::fish(&help)] {
        for verb in &help.verbs {
            let knows = |word: &str| {
                text.split(|letter: char| !(letter.is_alphanumeric() || letter == '-'))
                    .any(|found| found == word || found == word.trim_start_matches('-'))
            };
            assert!(knows(&verb.name), "{}", verb.name);
            let names = verb.options.iter().map(|option| &option.name);
            for word in names.chain(&verb.words) {
                assert!(knows(word), "{} {word}", verb.name);
            }
        }
    }
}

#[test]
fn the_help_is_understood() {
    let help = help();
    let verb = |name: &str| -> &Verb { help.verbs.iter().find(|verb| verb.name == name).unwrap() };
    let names = |name: &str| -> Vec<&str> {
        verb(name)
            .options
            .iter()
            .map(|option| option.name.as_str())
            .collect()
    };
    assert_eq!(names("run"), ["--drain", "--deadline"]);
    assert_eq!(names("check"), ["--connect"]);
    let read = [
        "--from",
        "--to",
        "--follow",
        "--salvage",
        "--kinesis-envelope",
        "--format",
    ];
    assert_eq!(names("read"), read);
    assert_eq!(
        verb("deadletter").words,
        ["list", "show", "reinject", "drop"]
    );
    assert_eq!(verb("cursor").words, ["list", "seek", "skip", "remove"]);
    assert_eq!(verb("read").words, [""; 0]);
}
