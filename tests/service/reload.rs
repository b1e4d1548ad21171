//! A configuration that changes while it is served.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::manager::Manager;
use crate::process::{Ended, NO_SINK, Running, SMALL, STDIN, Setup, number, verb, wait_until};

/// Something that goes on and on.
const HOST: &str = r#"{"type": "host", "stream": "telemetry", "ratePerSecond": 1000}"#;

/// Changes the configuration of a setup.
fn change(setup: &Setup, change: impl FnOnce(&mut Value)) {
    let text = std::fs::read_to_string(&setup.config).unwrap();
    let mut config = serde_json::from_str(&text).unwrap();
    change(&mut config);
    std::fs::write(&setup.config, config.to_string()).unwrap();
}

fn reload(setup: &Setup) -> Ended {
    verb("reload", &setup.config, &[])
}

/// Each of the records that a setup stored is delivered, once and in order.
fn expect_all(setup: &Setup, delivered: &[u64]) {
    let stored = setup.stored();
    let stored: Vec<_> = stored
        .iter()
        .map(|record| number(record, "offset"))
        .collect();
    let differ = stored
        .iter()
        .zip(delivered)
        .find(|(one, other)| one != other);
    assert_eq!((differ, delivered.len()), (None, stored.len()));
}

/// The offsets that a file of lines has.
fn offsets(path: &Path) -> Vec<u64> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    let lines = text[..whole].lines();
    let line = |line: &str| number(&serde_json::from_str(line).unwrap(), "offset");
    lines.map(line).collect()
}

/// `forebay reload` under load, twenty times: streams and sinks come, change and go, every record arrives, none
/// twice, and the process stays the same one.
#[test]
fn streams_sinks_and_inputs_change_under_load_and_nothing_is_lost_or_repeated() {
    let setup = Setup::to_file("reload", SMALL, HOST);
    let running = setup.serve(&[]);
    let out = |n: usize| setup.scratch.join(&format!("out-{n}.ndjson"));
    let second = setup.scratch.join("data").join("second");
    for n in 0..20 {
        change(&setup, |config| {
            config["streams"][0]["sink"]["path"] = json!(out(n));
            config["streams"][0]["batch"] = json!({"maxLatencyMs": 1 + n});
            let mut other = config["streams"][0].clone();
            other["name"] = json!("second");
            other["sink"] = json!({"type": "none"});
            let mut input = config["inputs"][0].clone();
            input["stream"] = json!("second");
            for (key, more) in [("streams", other), ("inputs", input)] {
                let all = config[key].as_array_mut().unwrap();
                all.truncate(1);
                all.extend((n % 2 == 0).then_some(more));
            }
        });
        let done = reload(&setup).expect(0);
        assert_eq!(done.out(), format!("process {} serves it\n", running.id()));
        wait_until("delivery to the new file", || !offsets(&out(n)).is_empty());
    }
    assert!(
        verb("inspect", &second, &[])
            .expect(0)
            .out()
            .contains("second")
    );
    running.signal(Signal::TERM);
    let ended = running.wait().expect(0);
    assert_eq!(ended.err.matches("info: reloaded").count(), 20, "{ended:?}");
    let mut all = offsets(&setup.out());
    (0..20).for_each(|n| all.extend(offsets(&out(n))));
    expect_all(&setup, &all);
}

/// What is wrong is said with its reason to who asks and in the log; what was served is served on.
#[test]
fn a_configuration_that_is_wrong_is_refused_whole() {
    let setup = Setup::to_file("reload-refused", SMALL, HOST);
    let sound = std::fs::read_to_string(&setup.config).unwrap();
    let running = setup.serve(&[]);
    let goes_on = || {
        let before = offsets(&setup.out()).len();
        wait_until("delivery", || offsets(&setup.out()).len() > before);
    };
    let refused = |why: &str, wrong: &dyn Fn(&mut Value)| {
        std::fs::write(&setup.config, &sound).unwrap();
        change(&setup, wrong);
        let ended = reload(&setup).expect(2);
        assert!(ended.err.contains(why), "{why}: {ended:?}");
        running.signal(Signal::HUP);
        wait_until("the log", || running.err().contains(why));
        goes_on();
    };
    refused("streams[0].sink.type", &|config| {
        config["streams"][0]["sink"]["type"] = json!("pigeon");
    });
    refused("no stream is named \"nowhere\"", &|config| {
        config["inputs"][0]["stream"] = json!("nowhere");
    });
    // This one is only found when its stream is opened.
    let blocked = setup.scratch.write("blocked", "a file");
    refused("blocked", &|config| {
        let mut other = config["streams"][0].clone();
        other["name"] = json!("other");
        other["buffer"]["path"] = json!(blocked.join("store"));
        config["streams"].as_array_mut().unwrap().push(other);
    });
    std::fs::write(&setup.config, &sound[..sound.len() / 2]).unwrap();
    running.signal(Signal::HUP);
    wait_until("the log", || running.err().contains("forebay.json:"));
    goes_on();

    std::fs::write(&setup.config, &sound).unwrap();
    reload(&setup).expect(0);
    goes_on();
    running.signal(Signal::TERM);
    running.wait().expect(0);
    expect_all(&setup, &offsets(&setup.out()));
}

/// What cannot be taken over is refused: where things of the boot lie, and an input that waits for a pipe.
#[test]
fn what_a_process_cannot_change_is_refused() {
    let setup = Setup::lines_to_file("reload-stdin");
    let mut running = setup.serve(&[]);
    let ended = reload(&setup).expect(2);
    assert!(
        ended.err.contains("the input stdin cannot be told to stop"),
        "{ended:?}"
    );
    running.write(b"a line\n");
    wait_until("the line", || setup.delivered().len() == 1);
    running.end().expect(0);

    let setup = Setup::to_file("reload-run-dir", SMALL, HOST);
    let running = setup.serve(&[]);
    let elsewhere = setup.scratch.join("elsewhere");
    change(&setup, |config| config["runDir"] = json!(elsewhere));
    running.signal(Signal::HUP);
    running.wait_for("\"runDir\" cannot be changed while it is in use");
    // Nobody is known there.
    let ended = reload(&setup).expect(1);
    assert!(
        ended.err.contains("no process that serves it is known in"),
        "{ended:?}"
    );
}

/// Nobody is told to reload who is not there, nor who was killed.
#[test]
fn a_process_that_is_not_there_is_not_asked() {
    let setup = Setup::new("reload-nobody", NO_SINK, SMALL, STDIN);
    let nobody = |setup: &Setup| {
        let ended = reload(setup).expect(1);
        assert!(
            ended.err.contains("no process that serves it is known"),
            "{ended:?}"
        );
    };
    nobody(&setup);
    let running = setup.serve(&[]);
    let mark = setup
        .scratch
        .join("run")
        .join(format!("serves-{}", running.id()));
    assert!(mark.exists());
    drop(running);
    assert!(mark.exists(), "it was killed");
    nobody(&setup);
    let left = mark;
    let running = setup.serve(&[]);
    assert!(!left.exists(), "what a killed one left is removed");
    let mark = setup
        .scratch
        .join("run")
        .join(format!("serves-{}", running.id()));
    running.end().expect(0);
    assert!(!mark.exists(), "it ended");
}

/// The manager hears that it reloads and that it is ready again; the watchdog goes on.
#[test]
fn a_service_manager_hears_of_a_reload() {
    let setup = Setup::to_file("reload-manager", SMALL, HOST);
    let manager = Manager::of_no_file("reload");
    let limit = Duration::from_millis(400);
    let running = Running::start(manager.watches(&mut setup.run(&[]), limit));
    manager.wait_for("READY=1");
    reload(&setup).expect(0);
    let lines = manager.lines();
    let at = lines.iter().position(|line| line == "RELOADING=1").unwrap();
    assert!(lines[at + 1].starts_with("MONOTONIC_USEC="), "{lines:?}");
    assert!(
        lines[at..].iter().any(|line| line == "READY=1"),
        "{lines:?}"
    );
    let before = manager.count("WATCHDOG=1");
    wait_until("the watchdog", || manager.count("WATCHDOG=1") > before + 2);
    running.signal(Signal::TERM);
    running.wait().expect(0);
}

/// Who asks by HTTP is answered at the new address, with what was known before; where that is taken, at the old one.
#[cfg(feature = "http")]
#[test]
fn the_status_page_moves_with_the_configuration() {
    use crate::outside::{address, ask, with_service};

    let setup = Setup::to_file("reload-http", SMALL, HOST);
    with_service(&setup, r#"{"http": {"listen": "127.0.0.1:0"}}"#);
    let running = setup.serve(&[]);
    let first = address(&running);
    // An address at which no other test asks for a port while it is free.
    let taken = std::net::TcpListener::bind("127.0.0.2:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    change(&setup, |config| {
        config["service"]["http"]["listen"] = json!(listen)
    });
    let ended = reload(&setup).expect(2);
    assert!(ended.err.contains("listen for HTTP"), "{ended:?}");
    let again = address(&running);
    assert_eq!(ask(&again, "/ready").status, 200);

    drop(taken);
    reload(&setup).expect(0);
    assert_eq!(ask(&listen, "/ready").status, 200);
    assert!(std::net::TcpStream::connect(&first).is_err());
    change(&setup, |config| {
        config["service"].as_object_mut().unwrap().remove("http");
    });
    reload(&setup).expect(0);
    assert!(std::net::TcpStream::connect(&listen).is_err());
}
