//! A manual page, in the language of man(7).

use std::fmt::Write;

use crate::help::{Block, Help, Verb};

const EXIT_STATUS: &str = "0: it is done. 1: it found something, or it failed. 2: it was called wrongly, or its configuration is not right.";
const FILES: [(&str, &str); 3] = [
    (
        "/etc/forebay/forebay.json",
        "the configuration of the service",
    ),
    ("/var/lib/forebay", "where its streams are stored"),
    ("/run/forebay", "the numbers of a running engine, in memory"),
];

pub fn manual(help: &Help) -> String {
    let mut page = String::from(
        ".\\\" Made of the help of the binary: MANUAL=write cargo test --test manual\n",
    );
    let _ = writeln!(page, ".TH FOREBAY 1 \"\" \"forebay {}\" \"\"", help.version);
    let _ = writeln!(page, ".SH NAME\nforebay \\- {}", text(&help.summary));
    page.push_str(".SH SYNOPSIS\n.nf\n");
    for usage in help.verbs.iter().flat_map(|verb| &verb.usages) {
        let _ = writeln!(page, "{}", text(usage));
    }
    page.push_str(".fi\n.SH VERBS\n");
    for verb in &help.verbs {
        one(&mut page, verb);
    }
    let _ = writeln!(page, ".SH EXIT STATUS\n{}", text(EXIT_STATUS));
    let _ = writeln!(page, ".SH ENVIRONMENT\n{}", text(&help.environment));
    page.push_str(".SH FILES\nWhat the packages bring:\n");
    for (path, what) in FILES {
        term(&mut page, path, what);
    }
    page
}

fn one(page: &mut String, verb: &Verb) {
    let _ = writeln!(page, ".SS {}\n.B {}", verb.name, text(&verb.summary));
    page.push_str(".PP\n.nf\n");
    for usage in &verb.usages {
        let _ = writeln!(page, "{}", text(usage));
    }
    page.push_str(".fi\n");
    for block in &verb.blocks {
        match block {
            Block::Text(paragraph) => {
                let _ = writeln!(page, ".PP\n{}", text(paragraph));
            }
            Block::Terms(terms) => {
                for (name, meaning) in terms {
                    term(page, name, meaning);
                }
            }
        }
    }
    let _ = writeln!(
        page,
        ".PP\nExample:\n.PP\n.nf\n{}\n.fi",
        text(&verb.example)
    );
}

fn term(page: &mut String, name: &str, meaning: &str) {
    let _ = writeln!(page, ".TP\n.B {}\n{}", text(name), text(meaning));
}

/// Text that has no meaning for the formatter.
fn text(text: &str) -> String {
    let text = text
        .replace('\\', "\\e")
        .replace('-', "\\-")
        .replace('\'', "\\(aq")
        .replace('`', "\\(ga");
    if text.starts_with('.') {
        format!("\\&{text}")
    } else {
        text
    }
}
