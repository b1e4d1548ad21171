//! The command for events: what it gets, how often, and that nobody waits for it.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::process::{Running, SMALL, STDIN, Setup, lines, number, verb, wait_until};

/// A setup of so many streams, whose sinks' link is down as long as their file is a directory, and which calls
/// this shell script for events. `$OUT` is a file for it.
fn setup(name: &str, streams: usize, script: &str, more: &str) -> Setup {
    let setup = Setup::new(name, r#"{"type": "none"}"#, SMALL, STDIN);
    let dir = setup.scratch.path();
    let stream = |n: usize| {
        let out = dir.join(format!("out-{n}"));
        std::fs::create_dir_all(&out).unwrap();
        format!(
            r#"{{"name": "s{n}", "sink": {{"type": "file", "path": {out:?}}},
                "buffer": {{"volatile": "allow", "fsyncIntervalMs": 20 {SMALL}}},
                "batch": {{"maxLatencyMs": 20}}, "delivery": {{"backoffMaxMs": 100}}}}"#
        )
    };
    let streams: Vec<String> = (0..streams).map(stream).collect();
    let inputs: Vec<String> = (0..streams.len())
        .map(|n| format!(r#"{{"type": "host", "stream": "s{n}"}}"#))
        .collect();
    let script = format!("OUT={:?}\n{script}", dir.join("calls"));
    let script = setup.scratch.write("script", script);
    let text = format!(
        r#"{{"dataDir": {:?}, "runDir": {:?}, "streams": [{}], "inputs": [{}],
            "service": {{"events": {{"command": ["/bin/sh", {script:?}, "$HOME; #"] {more}}}}}}}"#,
        dir.join("data"),
        dir.join("run"),
        streams.join(","),
        inputs.join(","),
    );
    std::fs::write(&setup.config, text).unwrap();
    setup
}

/// What the script has written, an object a line.
fn calls(setup: &Setup) -> Vec<Value> {
    let text = std::fs::read_to_string(setup.scratch.join("calls")).unwrap_or_default();
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    let lines = text[..whole].lines();
    lines
        .map(|line| serde_json::from_str(line).expect(line))
        .collect()
}

/// Processes whose parent this is, with their states.
fn children(parent: u32) -> Vec<(u32, char)> {
    let all = std::fs::read_dir("/proc").unwrap();
    let stat = |entry: std::fs::DirEntry| {
        let id: u32 = entry.file_name().to_str()?.parse().ok()?;
        let text = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        let mut words = text.rsplit_once(") ")?.1.split(' ');
        let (state, of) = (words.next()?.chars().next()?, words.next()?);
        (of == parent.to_string()).then_some((id, state))
    };
    all.filter_map(|entry| stat(entry.unwrap())).collect()
}

fn stop(running: Running) -> crate::process::Ended {
    running.signal(Signal::TERM);
    running.wait().expect(0)
}

/// A line of JSON and variables, arguments that no shell has read, and nobody left behind.
#[test]
fn a_command_gets_the_event_as_json_and_in_its_environment() {
    let script = r#"
        [ -z "$NOTIFY_SOCKET$WATCHDOG_USEC" ] || exit 9
        echo "to nowhere"
        read -r line
        printf '[%s,"%s","%s","%s","%s","%s"]\n' "$line" "$FOREBAY_EVENT" "$FOREBAY_STREAM" \
            "$FOREBAY_TEXT" "$FOREBAY_MISSED" "$1" >>"$OUT"
    "#;
    let setup = setup("hook-gets", 1, script, "");
    let mut command = setup.run(&[]);
    command.env("NOTIFY_SOCKET", "/nowhere/at/all");
    let running = Running::start(command.env("WATCHDOG_USEC", "100000000"));
    wait_until("a call", || calls(&setup).len() == 1);
    std::fs::remove_dir(setup.scratch.join("out-0")).unwrap();
    wait_until("another", || calls(&setup).len() == 2);
    wait_until("its end", || children(running.id()).is_empty());
    for (call, (state, text)) in calls(&setup).iter().zip([
        ("link", "s0: sink file does not work: link"),
        ("ok", "s0: sink file works again"),
    ]) {
        let object = &call[0];
        assert_eq!(object["event"], "sink", "{call}");
        assert_eq!(
            (&object["stream"], &object["sink"]),
            (&"s0".into(), &"file".into())
        );
        assert_eq!(
            (&object["state"], &object["text"]),
            (&state.into(), &text.into())
        );
        assert_eq!(number(object, "missed"), 0);
        assert!(number(object, "timeMs") > 1_700_000_000_000);
        let words = [&call[1], &call[2], &call[3], &call[4], &call[5]];
        assert_eq!(words, ["sink", "s0", text, "0", "$HOME; #"]);
    }
    let ended = stop(running);
    assert!(
        ended.out.is_empty() && !ended.err.contains("event command"),
        "{ended:?}"
    );
}

/// While one hangs, records are stored and events are told; then it is killed, with what it started.
#[test]
fn a_command_that_hangs_holds_up_nobody_and_is_killed() {
    let script = r#"
        printf '%s\n' "$$" >>"$OUT"
        sleep 1000 &
        sleep 1000
    "#;
    let setup = setup("hook-hangs", 3, script, r#", "timeoutMs": 5000"#);
    let running = Running::start(&mut setup.run(&[]));
    wait_until("a call", || calls(&setup).len() == 1);
    let group = calls(&setup)[0].as_u64().unwrap().to_string();
    let of_group = || {
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        let stats = all.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
        let groups = stats.filter_map(|text| {
            let mut words = text.rsplit_once(") ")?.1.split(' ');
            words.nth(2).map(str::to_owned)
        });
        groups.filter(|other| *other == group).count()
    };
    wait_until("three processes", || of_group() == 3);
    let stats = || -> u64 {
        let ended = verb("stats", &setup.config, &["--json"]).expect(0);
        ended
            .json_lines()
            .iter()
            .map(|stats| number(stats, "durableOffset"))
            .sum()
    };
    let before = stats();
    wait_until("records that are durable", || stats() > before);
    assert_eq!(of_group(), 3, "it had ended before");
    running.wait_for("event command /bin/sh: sink: killed after 5");
    wait_until("their end", || of_group() == 0);
    assert!(
        children(running.id())
            .iter()
            .all(|(_, state)| *state != 'Z')
    );
    // The next hangs, too. The end waits for two seconds, and says how many had no call.
    wait_until("another call", || calls(&setup).len() == 2);
    let began = Instant::now();
    let ended = stop(running);
    assert!(began.elapsed() < Duration::from_secs(8), "{ended:?}");
    assert!(!ended.err.contains("panicked"));
}

/// Thirty events at once: two calls in a minute, and the last line says how many had none.
#[test]
fn no_more_calls_are_made_than_allowed() {
    let script = r#"read -r line; printf '%s\n' "$line" >>"$OUT""#;
    let setup = setup("hook-rate", 30, script, r#", "perMinute": 2"#);
    let running = Running::start(setup.run(&[]).env("FOREBAY_LOG", "debug"));
    for n in 0..30 {
        running.wait_for(&format!("event: s{n}: sink file"));
    }
    wait_until("two calls", || calls(&setup).len() == 2);
    let ended = stop(running);
    assert_eq!(calls(&setup).len(), 2);
    assert!(ended.err.contains("28 events had no call"), "{ended:?}");
}

/// What had no place in the queue is told to the next call; nothing is forgotten.
#[test]
fn what_had_no_call_is_told_to_the_next() {
    let script = r#"read -r line; printf '%s\n' "$line" >>"$OUT"; sleep 0.3"#;
    let setup = setup("hook-missed", 30, script, r#", "perMinute": 600"#);
    let running = Running::start(&mut setup.run(&[]));
    let told = || -> u64 {
        let calls = calls(&setup);
        let missed: u64 = calls.iter().map(|call| number(call, "missed")).sum();
        missed + calls.len() as u64
    };
    wait_until("all thirty", || told() >= 30);
    assert!(calls(&setup).len() < 30, "the queue was never full");
    stop(running);
}

/// A program that is not there, or fails, is a line of the log.
#[test]
fn a_command_that_fails_is_said() {
    let setup = setup("hook-fails", 1, "exit 3", "");
    let running = Running::start(&mut setup.run(&[]));
    running.wait_for("event command /bin/sh: sink: exit status: 3");
    stop(running);
    let text = std::fs::read_to_string(&setup.config).unwrap();
    std::fs::write(&setup.config, text.replace("/bin/sh", "/is/not/there")).unwrap();
    let mut running = Running::start(&mut setup.run(&[]));
    running.wait_for("event command /is/not/there: No such file or directory");
    running.write(&lines(0..1));
    stop(running);
}

/// After a reload another command gets the events, and after one more nobody does. What is under way ends.
#[test]
fn a_reload_changes_the_command() {
    let script = r#"read -r line; printf '["%s",%s]\n' "$1" "$line" >>"$OUT""#;
    let setup = setup("hook-reload", 1, script, "");
    let reload = |change: &dyn Fn(&mut Value)| {
        let text = std::fs::read_to_string(&setup.config).unwrap();
        let mut config = serde_json::from_str(&text).unwrap();
        change(&mut config);
        std::fs::write(&setup.config, config.to_string()).unwrap();
        verb("reload", &setup.config, &[]).expect(0);
    };
    let link = setup.scratch.join("out-0");
    let by = |nth: usize| calls(&setup)[nth][0].clone();

    let running = Running::start(setup.run(&[]).env("FOREBAY_LOG", "debug"));
    wait_until("a call", || calls(&setup).len() == 1);
    assert_eq!(by(0), "$HOME; #");
    reload(&|config| config["service"]["events"]["command"][2] = "other".into());
    wait_until("a call of the other", || calls(&setup).len() == 2);
    assert_eq!(by(1), "other");
    std::fs::remove_dir(&link).unwrap();
    wait_until("its second", || calls(&setup).len() == 3);
    assert_eq!(by(2), "other");
    std::fs::remove_file(&link).unwrap();
    std::fs::create_dir(&link).unwrap();
    reload(&|config| drop(config["service"].as_object_mut().unwrap().remove("events")));
    let told = "event: s0: sink file does not";
    let down = || running.err().matches(told).count();
    wait_until("an event that nobody gets", || down() == 3);
    stop(running);
    assert_eq!(calls(&setup).len(), 3);
}
