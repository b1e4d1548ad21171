//! Help, wrong usage, and `check`.

use crate::process::{Ended, NO_SINK, STDIN, Scratch, Setup, forebay, forebay_with_input, verb};

/// The verbs that the help lists, in its order.
fn verbs() -> Vec<String> {
    let help = forebay(&["--help"]).expect(0);
    let listed = help.out().lines().filter_map(|line| {
        let rest = line
            .strip_prefix("  ")
            .filter(|rest| !rest.starts_with(' '))?;
        let word = rest.split(' ').next()?;
        (word != "forebay").then(|| word.to_owned())
    });
    listed.collect()
}

/// Wrong usage: told on standard error, and nothing is a result.
fn refused(args: &[&str], text: &str) {
    let ended = forebay(args).expect(2);
    assert!(ended.out.is_empty(), "{args:?}: {ended:?}");
    assert!(ended.err.starts_with("forebay: "), "{args:?}: {ended:?}");
    assert!(ended.err.contains(text), "{args:?}: {ended:?}");
}

#[test]
fn every_verb_of_the_help_has_help_of_its_own_with_an_example() {
    let verbs = verbs();
    let known = [
        "init",
        "run",
        "check",
        "config",
        "reload",
        "stats",
        "top",
        "append",
        "read",
        "inspect",
        "verify",
        "repair",
        "ledger",
        "cursor",
        "deadletter",
        "demo",
    ];
    assert_eq!(verbs, known);
    for verb in &verbs {
        for asked in ["--help", "-h"] {
            let help = forebay(&[verb, asked]).expect(0);
            assert!(help.err.is_empty(), "{help:?}");
            let usage = format!("usage: forebay {verb} ");
            assert!(help.out().starts_with(&usage), "{help:?}");
            let example = help
                .out()
                .lines()
                .find(|line| line.starts_with("example: "));
            let called = format!("forebay {verb}");
            assert!(
                example.is_some_and(|line| line.contains(&called)),
                "{help:?}"
            );
            let is_narrow = |line: &str| line.chars().count() <= 120;
            assert!(help.out().lines().all(is_narrow), "{help:?}");
        }
    }
}

#[test]
fn help_wins_over_everything_else_in_a_call() {
    let help = forebay(&["read", "--nonsense", "--help"]).expect(0);
    assert!(help.out().starts_with("usage: forebay read"));
}

#[test]
fn the_version_is_that_of_the_crate() {
    for asked in ["--version", "-V"] {
        let version = forebay(&[asked]).expect(0);
        assert_eq!(version.out(), concat!(env!("CARGO_PKG_VERSION"), "\n"));
    }
}

#[test]
fn wrong_usage_ends_with_2_and_says_what_is_wrong() {
    refused(&[], "no verb is given");
    refused(&["frobnicate"], "there is no verb \"frobnicate\"");
    refused(&["--frobnicate"], "there is no verb \"--frobnicate\"");
    for verb in verbs() {
        refused(&[&verb, "--frobnicate"], "--frobnicate");
        if !["init", "demo"].contains(&verb.as_str()) {
            refused(&[&verb], " is missing");
        }
        let many = [&verb, "one", "two", "three", "four", "five"];
        refused(&many, "one argument too many");
    }
    refused(&["append", "forebay.json"], "STREAM is missing");
    refused(&["read", "somewhere", "--from"], "--from");
    refused(
        &["read", "somewhere", "--from", "yesterday"],
        "yesterday: neither",
    );
    refused(
        &["read", "somewhere", "--format", "xml"],
        "--format xml: must be",
    );
    refused(
        &["append", "c", "s", "--format", "raw"],
        "--format raw: must be",
    );
    refused(
        &["run", "c", "--drain", "long"],
        "--drain long: must be a number",
    );
    refused(
        &["run", "c", "--deadline", "-1"],
        "--deadline -1: must be a number",
    );
    refused(&["demo", "--seconds", "1"], "--seconds 1: must be 12..=600");
}

/// Arguments are bytes; not all of them are text.
#[cfg(unix)]
#[test]
fn arguments_that_are_no_text_are_refused_or_taken_as_paths() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let bytes = OsStr::from_bytes(b"\xff\xfe");
    forebay(&[bytes]).expect(2);
    forebay(&[OsStr::new("check"), bytes]).expect(2);
    forebay(&[OsStr::new("read"), bytes]).expect(1);
    forebay(&[
        OsStr::new("read"),
        OsStr::new("."),
        OsStr::new("--from"),
        bytes,
    ])
    .expect(2);
}

#[test]
fn a_missing_configuration_is_named() {
    let scratch = Scratch::new("missing");
    let path = scratch.join("nowhere.json");
    let shown = path.display().to_string();
    for verb_name in ["run", "check", "config", "stats"] {
        let ended = verb(verb_name, &path, &[]).expect(2);
        assert!(
            ended.out.is_empty() && ended.err.contains(&shown),
            "{ended:?}"
        );
    }
    let ended = verb("append", &path, &["telemetry"]).expect(2);
    assert!(ended.err.contains(&shown), "{ended:?}");
    for verb_name in ["read", "inspect", "verify"] {
        let ended = verb(verb_name, &path, &[]).expect(1);
        assert!(
            ended.out.is_empty() && ended.err.contains(&shown),
            "{ended:?}"
        );
    }
}

/// `L-66`: the sum of memory stands there before anything runs.
#[test]
fn check_of_a_right_configuration_tells_what_it_takes_and_opens_nothing() {
    let setup = Setup::lines_to_file("check-right");
    let ended = verb("check", &setup.config, &[]).expect(0);
    assert!(ended.err.is_empty(), "{ended:?}");
    let store = setup.store().display().to_string();
    assert!(ended.out().contains(&store), "{ended:?}");
    let last = ended.out().lines().last().unwrap();
    assert!(last.starts_with("1 streams, at most "), "{last}");
    for told in [
        "  its store is made by the first run\n",
        "  a record is durable at most 20 ms after its append\n",
        "  without room the oldest records go",
        "  from stdin\n",
        &format!("  file: to the file {}\n", setup.out().display()),
    ] {
        assert!(ended.out().contains(told), "{told}: {ended:?}");
    }
    assert!(!ended.out().contains("reached"), "{ended:?}");
    assert!(!setup.scratch.join("data").exists());
    assert!(!setup.scratch.join("run").exists());
    forebay_with_input(&["run", setup.config.to_str().unwrap()], b"a\n").expect(0);
    let ended = verb("check", &setup.config, &[]).expect(0);
    assert!(
        ended.out().contains("its store is there, and takes "),
        "{ended:?}"
    );
}

/// What is not reached is told, and a failure; nothing is made on the way.
#[test]
fn check_looks_at_what_is_to_be_reached_when_it_is_asked_to() {
    let setup = Setup::lines_to_file("check-connect");
    let ended = verb("check", &setup.config, &["--connect"]).expect(0);
    let (store, out) = ("    reached: the store: can be", setup.out());
    let sink = format!("    reached: the directory of {}: can be", out.display());
    assert!(ended.out().contains(store), "{ended:?}");
    assert!(ended.out().contains(&sink), "{ended:?}");
    assert!(!setup.scratch.join("data").exists());
    // A file stands where directories would have to be.
    let scratch = Scratch::new("check-connect-not");
    let file = scratch.write("file", "");
    let (store, out) = (file.join("data"), file.join("out/lines"));
    let text = format!(
        r#"{{"dataDir": {store:?}, "streams": [
            {{"name": "a", "sink": {{"type": "file", "path": {out:?}}}}},
            {{"name": "b", "sink": {{"type": "none"}}, "buffer": {{"type": "memory"}}}}]}}"#
    );
    let path = scratch.write("forebay.json", text);
    let ended = verb("check", &path, &["--connect"]).expect(1);
    assert!(ended.err.is_empty(), "{ended:?}");
    let failed = ended.out().matches("    not reached: the ").count();
    assert_eq!(failed, 2, "{ended:?}");
    assert!(ended.out().contains("  none: to nowhere"), "{ended:?}");
    let last = ended.out().lines().last().unwrap();
    assert!(last.starts_with("2 streams, at most "), "{last}");
    verb("check", &path, &[]).expect(0);
}

#[test]
fn check_warns_of_what_is_right_and_does_nothing() {
    let scratch = Scratch::new("check-warns");
    let path = scratch.write("empty.json", "{}");
    let ended = verb("check", &path, &[]).expect(0);
    assert!(
        ended.out().contains("warning: neither \"streams\""),
        "{ended:?}"
    );
    let input = r#"{"type": "stdin", "stream": "elsewhere"}"#;
    let setup = Setup::new("check-stray", NO_SINK, "", input);
    let ended = verb("check", &setup.config, &[]).expect(0);
    let warning = "warning: inputs: no stream is named \"elsewhere\"";
    assert!(ended.out().contains(warning), "{ended:?}");
    // And it is no longer just a warning when it is to run.
    let ended = verb("run", &setup.config, &[]).expect(2);
    assert!(ended.err.contains("elsewhere"), "{ended:?}");
    assert!(!setup.store().exists());
}

/// Where, path, value and rule, in one line.
fn wrong(scratch: &Scratch, name: &str, text: &str, told: &str) {
    let path = scratch.write(name, text);
    let told = format!("forebay: {}:{told}\n", path.display());
    let is_told = |ended: Ended| assert_eq!((ended.out.len(), &*ended.err), (0, &*told));
    is_told(verb("check", &path, &[]).expect(2));
    is_told(verb("config", &path, &[]).expect(2));
    is_told(verb("run", &path, &[]).expect(2));
    is_told(verb("append", &path, &["a"]).expect(2));
}

#[test]
fn an_error_in_a_configuration_names_line_column_path_value_and_rule() {
    let scratch = Scratch::new("check-wrong");
    let bad = "{\"streams\": [{\"name\": \"a\", \"sink\": {\"type\": \"none\"},\n  \
               \"buffer\": {\"segmentBytes\": 5}}]}";
    let told = "2:30 streams[0].buffer.segmentBytes 5: must be 65536..=1073741824";
    wrong(&scratch, "range.json", bad, told);
    let bad = "{\"streams\": [{\"name\": \"a\", \"sink\": {\"type\": \"nose\"}}]}";
    let path = scratch.write("word.json", bad);
    let ended = verb("check", &path, &[]).expect(2);
    assert!(
        ended.err.contains("streams[0].sink.type \"nose\": must be"),
        "{ended:?}"
    );
    let bad = "{\"streams\": [{\"name\": \"a\", \"sink\": {\"type\": \"none\"}, \"sort\": 1}]}";
    let path = scratch.write("key.json", bad);
    let ended = verb("check", &path, &[]).expect(2);
    assert!(ended.err.contains("sort"), "{ended:?}");
    // Inputs are the binary's own, and checked as well.
    let setup = Setup::new("check-input", NO_SINK, "", r#"{"type": "stdin"}"#);
    let ended = verb("check", &setup.config, &[]).expect(2);
    assert!(ended.err.contains("inputs[0]"), "{ended:?}");
    assert!(ended.err.contains("\"stream\" is missing"), "{ended:?}");
    let setup = Setup::new("check-inputs", NO_SINK, "", STDIN);
    verb("check", &setup.config, &["two"]).expect(2);
}
