//! The configuration in force: templates, secrets that no verb shows, and what `check` warns of.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::process::{Ended, Running, Scratch, Setup, command, forebay, verb, wait_until};

/// Nothing that is printed or logged has this in it.
const SECRET: &str = "hunter2";

/// A verb with an environment of its own that says all it can on standard error.
fn talkative(args: &[&str], variables: &[(&str, &str)]) -> Ended {
    let mut command = command();
    command.args(args).env("FOREBAY_LOG", "debug");
    for name in ["AWS_IOT_THING_NAME", "CREDENTIALS_DIRECTORY"] {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied());
    Running::start(&mut command).end()
}

fn streaming(scratch: &Scratch, top: &str, stream: &str) -> String {
    let (data, run) = (scratch.join("data"), scratch.join("run"));
    format!(r#"{{"dataDir": {data:?}, "runDir": {run:?}, {top} "streams": [{stream}]}}"#)
}

fn secret(scratch: &Scratch, name: &str, text: &str, mode: u32) -> PathBuf {
    let path = scratch.write(name, text);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    path
}

/// `G-033`: a document with everything left out, and what it means.
#[test]
fn config_prints_what_is_in_force_and_check_takes_it_again() {
    let setup = Setup::new(
        "config-whole",
        r#"{"type": "file", "path": "{env:OUT}/{{1}}"}"#,
        r#", "maxBufferedBytes": 5000"#,
        r#"{"type": "stdin", "stream": "telemetry", "key": "k\"{"}, {"type": "host", "stream": "telemetry"}"#,
    );
    let path = setup.config.to_str().unwrap();
    let ended = talkative(&["config", path], &[("OUT", "/out/{x}")]).expect(0);
    assert!(ended.err.is_empty(), "{ended:?}");
    let shown: Value = serde_json::from_str(ended.out()).unwrap();
    assert_eq!(
        shown["inputs"],
        serde_json::json!([
            {"type": "stdin", "stream": "telemetry", "key": "k\"{", "format": "lines", "resume": false, "follow": false},
            {"type": "host", "stream": "telemetry", "ratePerSecond": 10},
        ])
    );
    let stream = &shown["streams"][0];
    assert_eq!(stream["sinks"][0]["path"], "/out/{{x}}/{{1}}");
    assert_eq!(stream["sinks"][0]["maxFiles"], 8);
    assert_eq!(stream["buffer"]["path"], setup.store().to_str().unwrap());
    assert_eq!(stream["buffer"]["maxBufferedBytes"], 8192);
    assert_eq!(stream["buffer"]["maxRecordBytes"], 1250);
    assert_eq!(stream["buffer"]["fsyncIntervalMs"], 20);
    assert_eq!(stream["delivery"]["backoffMaxMs"], 100);
    assert!(!setup.store().exists());
    // Without the environment that it came from.
    let again = setup.scratch.write("again.json", &ended.out);
    verb("check", &again, &[]).expect(0);
    assert_eq!(verb("config", &again, &[]).expect(0).out(), ended.out());
    // What is wrong is as wrong here, and a document that is not ours has nothing in force.
    let ended = talkative(&["config", path], &[]).expect(2);
    assert!(
        ended.out.is_empty() && ended.err.contains("{env:OUT}"),
        "{ended:?}"
    );
    let bare = setup.scratch.write("bare.json", r#"{"component": 5}"#);
    let ended = verb("config", &bare, &[]).expect(0);
    let shown: Value = serde_json::from_str(ended.out()).unwrap();
    assert_eq!(shown["dataDir"], "/var/lib/forebay");
    assert_eq!(shown["streams"], serde_json::json!([]));
}

/// `G-015`: the real environment, and a store where the templates say.
#[test]
fn templates_are_resolved_before_anything_is_opened() {
    let scratch = Scratch::new("config-templates");
    let store = scratch.join("{ThingName}-{Hostname}-{Site}");
    let stream = format!(
        r#"{{"name": "telemetry", "sink": {{"type": "none"}},
            "buffer": {{"path": {store:?}, "volatile": "allow", "maxDiskBytes": 16777216}}}}"#
    );
    let top = r#""vars": {"Site": "north"},"#;
    // A template that stands for nothing opens nothing.
    let unknown = streaming(&scratch, top, &stream.replace("Site}", "Sight}"));
    let unknown = scratch.write("unknown.json", unknown);
    for verb_name in ["run", "check", "config", "stats"] {
        let ended = verb(verb_name, &unknown, &[]).expect(2);
        let told = "buffer.path \"";
        assert!(
            ended.err.contains(told) && ended.err.contains("{Sight}: neither in"),
            "{ended:?}"
        );
    }
    assert!(!scratch.join("data").exists() && !scratch.join("run").exists());
    let path = scratch.write("forebay.json", streaming(&scratch, top, &stream));
    let path = path.to_str().unwrap();
    let thing = [("AWS_IOT_THING_NAME", "thing-5")];
    talkative(&["append", path, "telemetry"], &thing).expect(0);
    let system = rustix::system::uname();
    let host = system.nodename().to_str().unwrap();
    let store = scratch.join(&format!("thing-5-{host}-north"));
    assert!(store.join("checkpoint").exists());
    let ended = talkative(&["stats", path, "--json"], &thing).expect(0);
    assert_eq!(ended.json_lines()[0]["stream"], "telemetry");
}

/// Neither in what a process printed nor in what it said.
fn has_no_secret(ended: &Ended) {
    let out = String::from_utf8_lossy(&ended.out);
    assert!(
        !out.contains(SECRET) && !ended.err.contains(SECRET),
        "{ended:?}"
    );
}

/// `G-016`: what each verb prints and logs where all goes well, and where the secret is in the way.
#[test]
fn nothing_that_is_printed_or_logged_has_a_secret_in_it() {
    let scratch = Scratch::new("config-secrets");
    let out = scratch.join(SECRET);
    let file = format!("{}/lines", out.display());
    secret(&scratch, "file", &format!("{file}\n"), 0o600);
    secret(&scratch, "token", SECRET, 0o400);
    secret(&scratch, "open", SECRET, 0o644);
    secret(&scratch, "noise", &format!("{SECRET}\0{SECRET}"), 0o600);
    let top = format!(
        r#""secretsDir": {:?}, "vars": {{"Token": {{"$secret": "token"}}}},"#,
        scratch.path()
    );
    let stream = |path: &str| {
        format!(
            r#"{{"name": "telemetry", "buffer": {{"volatile": "allow", "maxDiskBytes": 16777216, "fsyncIntervalMs": 20}},
                "batch": {{"maxLatencyMs": 20}}, "sinks": [
                {{"name": "lines", "type": "file", "path": {path}}},
                {{"name": "nobody", "type": "callback", "id": "a {{Token}}"}}]}}"#
        )
    };
    let right = streaming(&scratch, &top, &stream(r#"{"$secret": "file"}"#));
    let input = r#""inputs": [{"type": "stdin", "stream": "telemetry"}], "streams""#;
    let path = scratch.write("forebay.json", right.replacen("\"streams\"", input, 1));
    let path = path.to_str().unwrap();
    let serve = || {
        let mut command = command();
        command.args(["run", path]).env("FOREBAY_LOG", "debug");
        let mut running = Running::start(&mut command);
        running.write(b"one\ntwo\n");
        running.wait_for("serving");
        running
    };
    let running = serve();
    has_no_secret(&talkative(&["stats", path], &[]).expect(0));
    has_no_secret(&running.end().expect(0));
    let lines = std::fs::read_to_string(&file).unwrap();
    assert_eq!(lines.lines().count(), 2, "it was used");
    for args in [
        &["check", path][..],
        &["config", path],
        &["stats", path],
        &["stats", path, "--json"],
        &["append", path, "telemetry"],
    ] {
        let ended = talkative(args, &[]).expect(0);
        has_no_secret(&ended);
        if args[0] == "config" {
            assert_eq!(ended.out().matches("\"***\"").count(), 2, "{ended:?}");
        }
    }
    // A link that is down says why.
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&file).unwrap();
    let mut command = command();
    command
        .args(["run", path, "--drain", "1"])
        .env("FOREBAY_LOG", "debug");
    let mut running = Running::start(&mut command);
    running.write(b"three\n");
    running.wait_for("serving");
    wait_until("an error of the link", || {
        let ended = talkative(&["stats", path, "--json"], &[]).expect(0);
        has_no_secret(&ended);
        let sink = &ended.json_lines()[0]["sinks"][0];
        sink["state"] == "link" && sink["lastExportError"] != ""
    });
    has_no_secret(&talkative(&["stats", path], &[]).expect(0));
    has_no_secret(&running.end());
    // A directory that cannot be made, a path that is none, and secrets that are refused.
    std::fs::remove_dir_all(&out).unwrap();
    std::fs::write(&out, "").unwrap();
    let ended = talkative(&["run", path], &[]).expect(1);
    assert!(ended.err.contains("the directory of ***"), "{ended:?}");
    has_no_secret(&ended);
    for wrong in [
        r#"{"$secret": "open"}"#,
        r#"{"$secret": "noise"}"#,
        r#"{"$secret": "token", "x": "y"}"#,
        r#""{Token}/..""#,
        r#""{Token}{""#,
        r#""x", "format": "{Token}""#,
        r#""x", "startAt": {"$secret": "token"}"#,
        r#""x", "maxFiles": {"$secret": "token"}"#,
        r#""shown""#,
    ] {
        let mut wrong = stream(wrong);
        if wrong.contains("shown") {
            wrong = wrong.replacen(r#"{"volatile""#, r#"{"path": "/{Token}", "volatile""#, 1);
        }
        let path = scratch.write("wrong.json", streaming(&scratch, &top, &wrong));
        let path = path.to_str().unwrap();
        for args in [
            &["check", path][..],
            &["config", path],
            &["run", path],
            &["stats", path],
            &["append", path, "telemetry"],
        ] {
            let ended = talkative(args, &[]).expect(2);
            assert!(ended.err.contains("streams[0]"), "{ended:?}");
            has_no_secret(&ended);
        }
    }
}

/// What `check` says of a right document, but for the numbers of each stream.
fn warnings(path: &Path) -> Vec<String> {
    let ended = verb("check", path, &[]).expect(0);
    let lines = ended.out().lines();
    let warnings = lines.filter_map(|line| line.strip_prefix("warning: "));
    warnings.map(str::to_owned).collect()
}

#[test]
fn check_warns_of_what_this_machine_does_not_have() {
    let scratch = Scratch::new("check-machine");
    let one = |name: &str, more: &str, buffer: &str| {
        format!(
            r#"{{"name": "{name}", {more} "buffer": {{"maxDiskBytes": 16777216, "volatile": "allow" {buffer}}}}}"#
        )
    };
    let none = r#""sink": {"type": "none"},"#;
    let check =
        |streams: &str| warnings(&scratch.write("c.json", streaming(&scratch, "", streams)));
    assert!(check(&one("a", none, "")).is_empty());

    // More than any file system here has, in two shares.
    let half = r#", "maxDiskBytes": 35184372088832"#;
    let big =
        |name| one(name, none, half).replace("\"maxDiskBytes\": 16777216,", "\"io\": \"auto\",");
    let told = check(&format!("{},{}", big("a"), big("b")));
    assert_eq!(told.len(), 1, "{told:?}");
    let expected = "a, b: maxDiskBytes leaves 64.0 TiB to be taken, and the file system has ";
    assert!(told[0].starts_with(expected), "{told:?}");

    let sinks: Vec<_> = (0..16)
        .map(|n| format!(r#"{{"type": "callback", "name": "s{n}"}}"#))
        .collect();
    let sinks = format!(
        r#""sinks": [{}], "batch": {{"maxBytes": 67108864, "maxRecords": 100000}},"#,
        sinks.join(",")
    );
    let streams: Vec<_> = (0..1000)
        .map(|n| one(&format!("s{n}"), &sinks, ""))
        .collect();
    let told = check(&streams.join(","));
    let is_told = |line: &String| {
        line.starts_with("memory: the streams may take ") && line.contains(", and the system has ")
    };
    assert_eq!(
        told.iter().filter(|line| is_told(line)).count(),
        1,
        "{told:?}"
    );

    // A file system in memory, whatever the one that this is built on is.
    let volatile = r#", "path": "/dev/shm/forebay/not/there""#;
    assert!(check(&one("a", none, volatile)).is_empty());
    for (word, why) in [
        ("warn", "a reboot empties it"),
        ("refuse", "\"volatile\": \"refuse\" will not open it"),
    ] {
        let stream = one("a", none, volatile).replace("allow", word);
        let expected = format!("a: /dev/shm/forebay/not/there lies on tmpfs: {why}");
        assert_eq!(check(&stream), [expected]);
    }
    assert!(!Path::new("/dev/shm/forebay/not").exists());
}

#[test]
fn check_warns_of_keys_without_effect() {
    let scratch = Scratch::new("check-useless");
    let check = |top: &str, more: &str| {
        let stream = format!(
            r#"{{"name": "a", "buffer": {{"volatile": "allow", "maxDiskBytes": 16777216}}, {more}}}"#
        );
        warnings(&scratch.write("c.json", streaming(&scratch, top, &stream)))
    };
    for (top, more, expected) in [
        (
            r#""vars": {"Site": "north", "Thing": "x"},"#,
            r#""sink": {"type": "callback", "id": "{Site}"}"#,
            vec!["vars.Thing: no template uses it"],
        ),
        (
            "",
            r#""sink": {"type": "callback"}, "delivery": {"pollIntervalMs": 5, "backoffMaxMs": 50}"#,
            vec!["streams[0].delivery.pollIntervalMs: has no effect: nothing is polled"],
        ),
        (
            "",
            r#""sink": {"type": "none"}, "delivery": {"pollIntervalMs": 5}, "batch": {"maxRecords": 1}"#,
            vec![
                "streams[0].batch: has no effect: with no sink but \"none\" nothing is delivered",
                "streams[0].delivery: has no effect: with no sink but \"none\" nothing is delivered",
            ],
        ),
        (
            "",
            r#""sink": {"type": "file", "path": "/x/y", "maxFileBytes": 0, "maxFiles": 3}"#,
            vec![
                "streams[0].sink.maxFiles: has no effect: with neither maxFileBytes nor rollEverySecs no file ever rolls",
            ],
        ),
        (
            "",
            r#""sink": {"type": "file", "path": "/x/y", "maxFileBytes": 0, "maxFiles": 3, "rollEverySecs": 5}"#,
            vec![],
        ),
    ] {
        assert_eq!(check(top, more), expected);
    }
    // A sink that need not be there and is not is as good as none.
    if !cfg!(feature = "kafka") {
        let told = check(
            "",
            r#""sink": {"type": "kafka", "required": false}, "batch": {}"#,
        );
        assert_eq!(told.len(), 2, "{told:?}");
    }
    forebay(&["check", scratch.join("c.json").to_str().unwrap()]).expect(0);
}

/// The example for a sink is one that `check` takes without a warning.
#[test]
#[cfg(feature = "kafka")]
fn the_example_for_kafka_is_right() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/examples/kafka.json");
    let ended = forebay(&["check", example]).expect(0);
    assert!(!ended.err.contains("warning"), "{}", ended.err);
}
