//! Completions for bash, zsh and fish.

use std::fmt::Write;

use crate::help::{Choice, Help, Verb};

const MADE: &str = "# Made of the help of the binary: MANUAL=write cargo test --test manual\n";

/// What an option does is told in so many characters, if its text can be cut.
const WIDTH_MAX: usize = 60;

pub fn bash(help: &Help) -> String {
    let names = joined(help.verbs.iter().map(|verb| verb.name.as_str()));
    let mut script = format!(
        "{MADE}_forebay() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD - 1]}} verb=${{COMP_WORDS[1]}}
    local options= words= operand=
    COMPREPLY=()
    if [ \"$COMP_CWORD\" = 1 ]; then
        mapfile -t COMPREPLY < <(compgen -W \"{names} --help --version\" -- \"$word\")
        return
    fi
    case \"$verb $previous\" in
"
    );
    for verb in &help.verbs {
        for option in verb.options.iter().filter(|option| option.takes_value()) {
            let words = match what(option) {
                What::One => format!(
                    "-W \"{}\"",
                    joined(option.choices.iter().map(String::as_str))
                ),
                What::File => "-f".to_owned(),
                What::Folder => "-d".to_owned(),
                What::Other => String::new(),
            };
            let _ = write!(script, "        \"{} {}\")", verb.name, option.name);
            if !words.is_empty() {
                let _ = write!(
                    script,
                    " mapfile -t COMPREPLY < <(compgen {words} -- \"$word\");"
                );
            }
            script.push_str(" return ;;\n");
        }
    }
    script.push_str("    esac\n    case $verb in\n");
    for verb in &help.verbs {
        let names = verb.options.iter().map(|option| option.name.as_str());
        let options = joined(names.chain(["--help"]));
        let words = joined(verb.words.iter().map(String::as_str));
        let operand = operand(verb);
        let _ = write!(
            script,
            "        {}) options=\"{options} --help\"",
            verb.name
        );
        if !words.is_empty() {
            let _ = write!(script, " words=\"{words}\"");
        }
        if !operand.is_empty() {
            let _ = write!(script, " operand=-{operand}");
        }
        script.push_str(" ;;\n");
    }
    script.push_str(
        "    esac
    if [ \"${word:0:1}\" = - ]; then
        mapfile -t COMPREPLY < <(compgen -W \"$options\" -- \"$word\")
    elif [ \"$COMP_CWORD\" = 2 ] && [ -n \"$operand\" ]; then
        mapfile -t COMPREPLY < <(compgen \"$operand\" -- \"$word\")
    elif [ \"$COMP_CWORD\" = 3 ] && [ -n \"$words\" ]; then
        mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$word\")
    fi
}
complete -o filenames -F _forebay forebay
",
    );
    script
}

pub fn zsh(help: &Help) -> String {
    let mut script = format!("#compdef forebay\n{MADE}\n_forebay() {{\n    local -a verbs=(\n");
    for verb in &help.verbs {
        let _ = writeln!(script, "        '{}:{}'", verb.name, in_zsh(&verb.summary));
    }
    script.push_str(
        "    )
    if (( CURRENT == 2 )); then
        _describe verb verbs
        _arguments '--help[the verbs]' '--version[the version]'
        return
    fi
    local verb=$words[2]
    (( CURRENT-- ))
    shift words
    case $verb in
",
    );
    for verb in &help.verbs {
        let _ = write!(script, "        {}) _arguments", verb.name);
        for option in &verb.options {
            let text = in_zsh(&told(option));
            let _ = write!(script, " \\\n            '{}[{text}]", option.name);
            if option.takes_value() {
                let action = match what(option) {
                    What::One => format!("({})", joined(option.choices.iter().map(String::as_str))),
                    What::File => "_files".to_owned(),
                    What::Folder => "_files -/".to_owned(),
                    What::Other => " ".to_owned(),
                };
                let value = if matches!(what(option), What::One) {
                    "value"
                } else {
                    &option.value
                };
                let _ = write!(script, ":{}:{action}", value);
            }
            script.push('\'');
        }
        script.push_str(" \\\n            '--help[more, with an example]'");
        let action = match operand(verb) {
            "" => "",
            "d" => "_files -/",
            _ => "_files",
        };
        if !action.is_empty() {
            let _ = write!(script, " \\\n            '1:{}:{action}'", verb.operand());
        }
        if verb.has_words() {
            let words = joined(verb.words.iter().map(String::as_str));
            let _ = write!(script, " \\\n            '2:what to do:({words})'");
        }
        script.push_str(" ;;\n");
    }
    script.push_str("    esac\n}\n\n_forebay \"$@\"\n");
    script
}

pub fn fish(help: &Help) -> String {
    let mut script = format!("{MADE}complete -c forebay -f\n");
    let none = "__fish_use_subcommand";
    for (option, text) in [("help", "the verbs"), ("version", "the version")] {
        let _ = writeln!(
            script,
            "complete -c forebay -n {none} -l {option} -d '{text}'"
        );
    }
    for verb in &help.verbs {
        let text = in_fish(&verb.summary);
        let _ = writeln!(
            script,
            "complete -c forebay -n {none} -a {} -d '{text}'",
            verb.name
        );
    }
    for verb in &help.verbs {
        let seen = format!(
            "complete -c forebay -n '__fish_seen_subcommand_from {}'",
            verb.name
        );
        for option in &verb.options {
            let _ = write!(script, "{seen} -l {}", option.name.trim_start_matches('-'));
            match what(option) {
                _ if !option.takes_value() => {}
                What::One => {
                    let words = joined(option.choices.iter().map(String::as_str));
                    let _ = write!(script, " -x -a '{words}'");
                }
                What::File => script.push_str(" -r -F"),
                What::Folder => script.push_str(" -x -a '(__fish_complete_directories)'"),
                What::Other => script.push_str(" -x"),
            }
            let _ = writeln!(script, " -d '{}'", in_fish(&told(option)));
        }
        match operand(verb) {
            "" => {}
            "d" => {
                let _ = writeln!(script, "{seen} -a '(__fish_complete_directories)'");
            }
            _ => {
                let _ = writeln!(script, "{seen} -F");
            }
        }
        if verb.has_words() {
            let words = joined(verb.words.iter().map(String::as_str));
            let _ = writeln!(script, "{seen} -a '{words}'");
        }
    }
    script
}

/// What the value of an option is.
enum What {
    /// One of its choices.
    One,
    File,
    Folder,
    Other,
}

fn what(option: &Choice) -> What {
    match option.value.as_str() {
        _ if !option.choices.is_empty() => What::One,
        "CONFIG" => What::File,
        "DIR" => What::Folder,
        _ => What::Other,
    }
}

/// `f` for files, `d` for directories, nothing where nothing can be offered.
fn operand(verb: &Verb) -> &str {
    match verb.operand() {
        "" => "",
        "DIR" => "d",
        _ => "f",
    }
}

fn joined<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.collect::<Vec<_>>().join(" ")
}

/// As much of its text as fits beside an option.
fn told(option: &Choice) -> String {
    if !option.choices.is_empty() {
        return option.choices.join(" or ");
    }
    let mut text = option.text.as_str();
    for end in [". ", "; ", " (", ": ", ", "] {
        if text.chars().count() > WIDTH_MAX {
            text = text.split(end).next().unwrap_or_default();
        }
    }
    text.to_owned()
}

fn in_zsh(text: &str) -> String {
    let mut quoted = text.replace('\\', "\\\\").replace('\'', "'\\''");
    for letter in [':', '[', ']'] {
        quoted = quoted.replace(letter, &format!("\\{letter}"));
    }
    quoted
}

fn in_fish(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\'', "\\'")
}
