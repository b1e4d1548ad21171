//! What programs write: those that go on, those that are started at intervals, and those that misbehave.

use std::time::Duration;

use crate::client::{stop_input, storing_with, wait_for};
use crate::process::{Running, Setup, number, payloads, wait_until};

/// A stream that takes what a script of the shell writes.
fn running(name: &str, script: &str, more: &str) -> Setup {
    let command = serde_json::to_string(&["/bin/sh", "-c", script]).unwrap();
    let input =
        format!(r#"{{"type": "exec", "stream": "telemetry", "command": {command} {more}}}"#);
    storing_with(name, |_| (input, ())).0
}

/// Ends it. What it says that the input has done.
fn stop(running: Running) -> String {
    stop_input(running, "exec")
}

/// Whether a process with this in its command is there.
fn is_there(mark: &str) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let mut commands =
        processes.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    commands.any(|command| String::from_utf8_lossy(&command).contains(mark))
}

#[test]
fn a_program_that_goes_on_is_read_while_it_runs_and_ended_with_all_that_it_started() {
    let mark = format!("{}.25", 100_000 + std::process::id());
    let script = format!("echo one; printf 'two\\r\\nthr'; sleep 0.1; echo ee; sleep {mark}");
    let setup = running("exec-goes-on", &script, r#", "key": "k""#);
    let process = setup.serve(&[]);
    wait_for(&setup, 3);
    wait_until("the program", || is_there(&mark));
    assert_eq!(stop(process), "3 records, 0 malformed, 0 refused");
    assert!(!is_there(&mark), "the program is still there");
    let stored = setup.stored();
    assert_eq!(payloads(&stored), ["one", "two", "three"]);
    assert!(stored.iter().all(|record| record["key"] == "k"));
}

#[test]
fn a_program_that_ends_is_started_again_with_a_pause_that_grows() {
    let setup = running("exec-ends", "printf last; exit 3", "");
    let process = setup.serve(&[]);
    for pause in ["100ms", "200ms", "400ms"] {
        let text = format!("/bin/sh has ended: exit status: 3; tried again in {pause}");
        process.wait_for(&text);
    }
    wait_for(&setup, 4);
    stop(process);
    assert!(
        payloads(&setup.stored())
            .iter()
            .all(|payload| *payload == "last")
    );

    let setup = running("exec-none", "", "");
    let text = std::fs::read_to_string(&setup.config).unwrap();
    std::fs::write(&setup.config, text.replace("/bin/sh", "/bin/none")).unwrap();
    let process = setup.serve(&[]);
    process.wait_for("input exec: /bin/none: No such file or directory");
    stop(process);
}

#[test]
fn a_program_is_started_at_its_interval_and_one_that_lasts_too_long_is_ended() {
    let script = "echo run; case $(date +%N) in *) ;; esac";
    let setup = running("exec-interval", script, r#", "intervalMs": 200"#);
    let process = setup.serve(&[]);
    wait_for(&setup, 6);
    let done = stop(process);
    assert!(done.ends_with("records, 0 malformed, 0 refused"), "{done}");
    let stored = setup.stored();
    let times: Vec<_> = stored
        .iter()
        .map(|record| number(record, "timeMs"))
        .collect();
    // Five intervals, give or take what a busy machine takes.
    assert!((900..3000).contains(&(times[5] - times[0])), "{times:?}");

    let script = "trap 'echo told; exit' TERM; echo begun; while :; do sleep 0.01; done";
    let more = r#", "intervalMs": 100, "timeoutMs": 300"#;
    let setup = running("exec-late", script, more);
    let process = setup.serve(&[]);
    process.wait_for("/bin/sh lasted too long, and was ended");
    wait_for(&setup, 3);
    stop(process);
    assert_eq!(payloads(&setup.stored())[..3], ["begun", "told", "begun"]);
    // One that does not want to end, and one that fails.
    for (script, said) in [
        ("trap '' TERM; while :; do sleep 1; done", "too long"),
        ("exit 1", "status: 1"),
    ] {
        let setup = running("exec-stubborn", script, more);
        let process = setup.serve(&[]);
        process.wait_for(said);
        assert!(!stop(process).contains(" 0 restarts"));
    }
}

#[test]
fn frames_that_are_none_end_the_program_and_long_ones_are_passed_over() {
    let script = "printf '\\0\\0\\0\\003abc'; head -c 5000 /dev/zero; printf '\\0\\0\\0\\001d'; printf 'GET /'; sleep 9";
    let more = r#", "framing": "frames", "maxRecordBytes": 100"#;
    let setup = running("exec-frames", script, more);
    let process = setup.serve(&[]);
    process.wait_for("/bin/sh writes no frames, and was ended");
    stop(process);
    let stored = setup.stored();
    let found = payloads(&stored);
    assert_eq!((found[0], found[1]), ("abc", ""));
    assert!(found.contains(&"d"), "{found:?}");
}

/// `L-14`: a program waits while the stream has no room, and nothing of what it wrote is lost.
#[test]
fn a_program_waits_while_there_is_no_room() {
    let count: u64 = 16_000;
    let script = format!(
        "seq -f '%.0f {}' 0 {}; sleep 1000",
        "x".repeat(1000),
        count - 1
    );
    let command = serde_json::to_string(&["/bin/sh", "-c", &script]).unwrap();
    let input = format!(r#"{{"type": "exec", "stream": "telemetry", "command": {command}}}"#);
    let buffer = r#", "onFull": "rejectNew", "segmentBytes": 1048576, "maxDiskBytes": 8388608"#;
    let setup = Setup::to_file("exec-full", buffer, &input);
    // Nothing can be delivered.
    std::fs::create_dir_all(setup.out()).unwrap();
    let process = setup.serve(&[]);
    let appended = || number(&setup.stats(), "appendedTotal");
    let mut last = 0;
    wait_until("a stream without room", || {
        std::thread::sleep(Duration::from_millis(500));
        let now = appended();
        std::mem::replace(&mut last, now) == now && now > 0
    });
    assert!(last < count - 1000, "{last} had room");
    std::fs::remove_dir(setup.out()).unwrap();
    wait_until("all of it", || appended() == count);
    wait_until("delivery", || setup.delivered().len() as u64 == count);
    let done = stop(process);
    assert_eq!(done, format!("{count} records, 0 malformed, 0 refused"));
    for (n, record) in setup.delivered().iter().enumerate() {
        let payload = record["payload"].as_str().unwrap();
        assert!(payload.starts_with(&format!("{n} x")), "{n}");
    }
}
