//! What the binary says on standard error.

use std::os::unix::fs::MetadataExt;
use std::process::Stdio;

use crate::process::{NO_SINK, SMALL, STDIN, Setup, lines};

fn setup(name: &str, service: &str) -> Setup {
    let setup = Setup::new(name, NO_SINK, SMALL, STDIN);
    let text = std::fs::read_to_string(&setup.config).unwrap();
    let text = text.replacen('{', &format!("{{\"service\": {service},"), 1);
    std::fs::write(&setup.config, text).unwrap();
    setup
}

#[test]
fn a_log_in_json_is_an_object_a_line() {
    let setup = setup("log-json", r#"{"log": {"format": "json"}}"#);
    let mut running = setup.serve(&[]);
    running.write(&lines(0..10));
    let ended = running.end().expect(0);
    let mut texts = Vec::new();
    for line in ended.err.lines() {
        let object: serde_json::Value = serde_json::from_str(line).expect(line);
        assert!(["info", "warn"].contains(&object["level"].as_str().unwrap()));
        assert!(object["time"].as_str().unwrap().ends_with('Z'), "{line}");
        texts.push(object["text"].as_str().unwrap().to_owned());
    }
    assert!(texts.iter().any(|text| text == "serving 1 streams"));
    assert!(
        texts
            .iter()
            .any(|text| text.starts_with("telemetry: 10 appended"))
    );
}

/// In the journal each line has its priority, and the journal its own time. A variable that is left over from
/// somebody else's standard error means nothing.
#[test]
fn in_the_journal_each_line_has_its_priority() {
    let setup = setup("journal", r#"{"log": {"format": "text"}}"#);
    let path = setup.scratch.join("journal");
    for is_journal in [true, false] {
        let file = std::fs::File::create(&path).unwrap();
        let metadata = file.metadata().unwrap();
        let inode = metadata.ino() + u64::from(!is_journal);
        let mut command = setup.run(&[]);
        command.env("JOURNAL_STREAM", format!("{}:{inode}", metadata.dev()));
        command.stdin(Stdio::null()).stderr(file);
        assert!(command.status().unwrap().success());
        let said = std::fs::read_to_string(&path).unwrap();
        assert!(said.lines().count() >= 2, "{said}");
        for line in said.lines() {
            assert_eq!(
                line.starts_with("<6>") || line.starts_with("<4>"),
                is_journal,
                "{line}"
            );
        }
        assert_eq!(
            said.contains("<6>serving 1 streams\n"),
            is_journal,
            "{said}"
        );
    }
}

/// What one place says again and again is said so often, and counted.
#[test]
fn messages_of_one_kind_are_limited_and_the_rest_is_counted() {
    let setup = setup("log-limit", r#"{"log": {"perMinute": 1}}"#);
    let text = std::fs::read_to_string(&setup.config).unwrap();
    // Each says the same of itself when it ends.
    let input = r#""inputs": [{"type": "host", "stream": "telemetry", "ratePerSecond": 1},"#;
    let text = text.replacen("\"inputs\": [", &format!("{input}{}", &input[11..]), 1);
    std::fs::write(&setup.config, text).unwrap();
    let running = setup.serve(&[]);
    running.signal(rustix::process::Signal::TERM);
    let ended = running.wait().expect(0);
    assert_eq!(ended.err.matches("input host: ").count(), 1, "{ended:?}");
    let hidden = "1 messages were not said: their kind had been, often enough";
    assert!(ended.err.contains(hidden), "{ended:?}");
}
