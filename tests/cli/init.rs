//! `init`: a configuration to begin with.

use serde_json::{Value, json};

use crate::process::{Scratch, forebay, forebay_with_input, verb};

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).expect(text)
}

#[test]
fn what_is_not_said_has_a_default_and_check_takes_all_of_it_without_a_warning() {
    let ended = forebay(&["init"]).expect(0);
    assert!(ended.err.is_empty(), "{ended:?}");
    let document = parsed(ended.out());
    let stream = &document["streaming"]["streams"][0];
    assert_eq!(stream["name"], "telemetry");
    assert_eq!(stream["buffer"]["maxDiskBytes"], 256 << 20);
    let sink = json!({"type": "file", "path": "/var/lib/forebay/telemetry.ndjson"});
    assert_eq!(stream["sink"], sink);
    let input = json!([{"type": "host", "stream": "telemetry"}]);
    assert_eq!(document["streaming"]["inputs"], input);
    assert!(document["streaming"]["service"].is_null());
    assert!(document["about"].as_array().unwrap().len() > 5);
}

/// What it writes runs, and delivers.
#[test]
fn what_it_writes_can_be_checked_and_run() {
    let scratch = Scratch::new("init-run");
    let (config, data) = (scratch.join("forebay.json"), scratch.join("da\"ta"));
    let config_text = config.to_str().unwrap();
    let data_text = data.to_str().unwrap();
    let options = ["--data-dir", data_text, "--input", "stdin", "--disk", "16"];
    let args = ["init", config_text].into_iter().chain(options);
    let ended = forebay(&args.clone().collect::<Vec<_>>()).expect(0);
    assert!(ended.out.is_empty(), "{ended:?}");
    assert!(ended.err.contains("forebay check "), "{ended:?}");
    let ended = verb("check", &config, &["--connect"]).expect(0);
    assert!(
        !ended.out().contains("warning: telemetry: maxDisk"),
        "{ended:?}"
    );
    assert!(ended.out().contains("  from stdin\n"), "{ended:?}");
    forebay_with_input(&["run", config_text], b"one\ntwo\n").expect(0);
    let out = std::fs::read_to_string(data.join("telemetry.ndjson")).unwrap();
    assert_eq!(out.lines().count(), 2, "{out}");
    // A file that is there stays.
    let before = std::fs::read(&config).unwrap();
    let ended = forebay(&args.collect::<Vec<_>>()).expect(2);
    assert!(ended.err.contains("is there already"), "{ended:?}");
    assert_eq!(std::fs::read(&config).unwrap(), before);
}

#[test]
fn questions_have_defaults_and_what_makes_no_sense_is_asked_again() {
    let scratch = Scratch::new("init-ask");
    let config = scratch.join("forebay.json");
    let args = ["init", "--ask", config.to_str().unwrap()];
    let answers = "pumps\n\nmany\n64\nsocket\nhost stdin\nfile\nnone\n\n";
    let ended = forebay_with_input(&args, answers.as_bytes()).expect(0);
    for told in [
        "The stream's name [telemetry]: ",
        "many: must be a number",
        "socket: must be one of host, ",
        "file: must be file=PATH",
        "[nowhere]: ",
    ] {
        assert!(ended.err.contains(told), "{told}: {ended:?}");
    }
    let document = parsed(&std::fs::read_to_string(&config).unwrap());
    let streaming = &document["streaming"];
    assert_eq!(streaming["streams"][0]["name"], "pumps");
    assert_eq!(streaming["streams"][0]["buffer"]["maxDiskBytes"], 64 << 20);
    assert_eq!(streaming["streams"][0]["sink"], json!({"type": "none"}));
    assert_eq!(
        streaming["inputs"][1],
        json!({"type": "stdin", "stream": "pumps"})
    );
    // Who goes away before the last answer gets nothing.
    let other = scratch.join("other.json");
    let args = ["init", "--ask", other.to_str().unwrap()];
    let ended = forebay_with_input(&args, b"pumps\n").expect(2);
    assert!(ended.err.contains("nothing is written"), "{ended:?}");
    assert!(!other.exists());
}

/// Each word, as far as the build has what it names: either it is taken, or the feature is named.
#[test]
fn each_input_and_each_sink_is_taken_or_its_feature_is_named() {
    let scratch = Scratch::new("init-words");
    let tried = |option: &str, word: &str, feature: Option<&str>| {
        let config = scratch.join("forebay.json");
        let _ = std::fs::remove_file(&config);
        let ended = forebay(&["init", config.to_str().unwrap(), option, word]);
        match feature {
            None => {
                ended.expect(0);
                verb("check", &config, &[]).expect(0);
            }
            Some(feature) => {
                let told = format!("this build does not have the feature \"{feature}\"");
                let ended = ended.expect(2);
                assert!(ended.err.contains(&told), "{ended:?}");
                assert!(!config.exists());
            }
        }
    };
    let lacks = |feature: &'static str, has: bool| (!has).then_some(feature);
    tried("--input", "host", None);
    tried(
        "--input",
        "unixStream=/run/in.sock",
        lacks("input-unix", cfg!(feature = "input-unix")),
    );
    tried(
        "--input",
        "unixDatagram=/run/in.sock",
        lacks("input-unix", cfg!(feature = "input-unix")),
    );
    tried(
        "--input",
        "udp=127.0.0.1:5171",
        lacks("input-udp", cfg!(feature = "input-udp")),
    );
    tried(
        "--input",
        "tcp=[::1]:5170",
        lacks("input-tcp", cfg!(feature = "input-tcp")),
    );
    tried(
        "--input",
        "tail=/var/log/pump.log",
        lacks("input-tail", cfg!(feature = "input-tail")),
    );
    tried(
        "--input",
        "serial=/dev/ttyUSB0",
        lacks("input-serial", cfg!(feature = "input-serial")),
    );
    tried(
        "--input",
        "exec=/usr/bin/vmstat",
        lacks("input-exec", cfg!(feature = "input-exec")),
    );
    tried(
        "--input",
        "mqtt=127.0.0.1:1883/site/+/pump/#",
        lacks("input-mqtt", cfg!(feature = "input-mqtt")),
    );
    tried("--sink", "stdout", None);
    tried("--sink", "file=/var/spool/out.ndjson", None);
    tried(
        "--sink",
        "kinesis=eu-west-1/telemetry",
        lacks("kinesis", cfg!(feature = "kinesis")),
    );
    tried(
        "--sink",
        "kafka=a:9092,b:9092/telemetry",
        lacks("kafka", cfg!(feature = "kafka")),
    );
    tried(
        "--http",
        "127.0.0.1:9464",
        lacks("http", cfg!(feature = "http")),
    );
}

#[test]
fn what_makes_no_configuration_is_told_and_writes_nothing() {
    let scratch = Scratch::new("init-wrong");
    let config = scratch.join("forebay.json");
    for (options, told) in [
        (["--stream", "a b"], "a b"),
        (["--disk", "1"], "maxDiskBytes 1048576: must be"),
        (["--disk", "18446744073709551615"], "is too much"),
        (["--disk", "x"], "must be a number"),
        (["--input", "host=1"], "nothing may stand behind host"),
        (["--input", "tail"], "must be tail= and its path"),
        (["--input", "mqtt=a:1"], "must be mqtt=HOST:PORT/TOPIC"),
        (
            ["--sink", "kinesis=telemetry"],
            "must be kinesis=REGION/STREAM",
        ),
        (["--sink", "none=1"], "must be file=PATH"),
        (["--site", "x"], "there is no option \"--site\""),
    ] {
        let args = ["init", config.to_str().unwrap(), options[0], options[1]];
        let ended = forebay(&args).expect(2);
        assert!(ended.err.contains(told), "{told}: {ended:?}");
        assert!(!config.exists(), "{told}");
    }
    let nowhere = scratch.join("missing/forebay.json");
    let ended = forebay(&["init", nowhere.to_str().unwrap()]).expect(1);
    assert!(ended.err.contains("write "), "{ended:?}");
}
