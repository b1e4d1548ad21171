//! `cursor` and `ledger`.

use rustix::process::Signal;

use crate::process::{NO_SINK, STDIN, Setup, forebay, lines, number, payloads, verb, wait_until};

/// A store with ten records, all delivered.
fn delivered(name: &str) -> Setup {
    let setup = Setup::lines_to_file(name);
    let mut running = setup.serve(&[]);
    running.write(&lines(0..10));
    wait_until("delivery", || setup.delivered().len() == 10);
    running.end().expect(0);
    setup
}

/// Runs the engine until so many records were delivered in all; the payloads of the last of them.
fn deliver(setup: &Setup, all: usize, last: usize) -> Vec<String> {
    let running = setup.serve(&[]);
    wait_until("delivery", || setup.delivered().len() >= all);
    running.end().expect(0);
    let records = setup.delivered();
    assert_eq!(records.len(), all);
    let payloads = payloads(&records[all - last..]);
    payloads.into_iter().map(str::to_owned).collect()
}

fn place(setup: &Setup) -> u64 {
    let list = verb("cursor", &setup.store(), &["list", "--json"]).expect(0);
    number(&list.json_lines()[0], "position")
}

/// What is below counts as done, what is above is delivered, also again, and nothing else moves.
#[test]
fn a_cursor_is_moved_and_its_sink_goes_on_there() {
    let setup = delivered("cursor-seek");
    let list = verb("cursor", &setup.store(), &["list"]).expect(0);
    assert_eq!(list.out(), "file  10  0  stopped\n");
    let ended = verb(
        "cursor",
        &setup.store(),
        &["seek", "file", "7", "--dry-run"],
    )
    .expect(0);
    assert_eq!(ended.out(), "would be: cursor file: from 10 to 7\n");
    assert_eq!(place(&setup), 10);
    let ended = verb("cursor", &setup.store(), &["seek", "file", "7"]).expect(0);
    assert_eq!(ended.out(), "cursor file: from 10 to 7\n");
    assert_eq!(deliver(&setup, 13, 3), ["line 7", "line 8", "line 9"]);
    // A time long ago is the oldest record, and one that is to come the newest.
    for (to, told) in [
        ("-1h", "from 10 to 0"),
        ("2999-01-01", "from 0 to 10"),
        ("oldest", "from 10 to 0"),
        ("newest", "from 0 to 10"),
        ("99", "from 10 to 10"),
    ] {
        let ended = verb("cursor", &setup.store(), &["seek", "file", to]).expect(0);
        assert_eq!(ended.out(), format!("cursor file: {told}\n"));
    }
    setup.append(&lines(10..15));
    let ended = verb("cursor", &setup.store(), &["skip", "file"]).expect(0);
    assert_eq!(ended.out(), "cursor file: from 10 to 11, 1 passed over\n");
    verb("cursor", &setup.store(), &["skip", "file", "2"]).expect(0);
    assert_eq!(deliver(&setup, 15, 2), ["line 13", "line 14"]);
    let ended = verb("cursor", &setup.store(), &["skip", "file", "9"]).expect(0);
    assert_eq!(ended.out(), "cursor file: from 15 to 15, 0 passed over\n");
    // One that is forgotten begins anew.
    let ended = verb("cursor", &setup.store(), &["remove", "file"]).expect(0);
    assert_eq!(ended.out(), "cursor file: removed, was at 15\n");
    assert!(
        verb("cursor", &setup.store(), &["list"])
            .expect(0)
            .out
            .is_empty()
    );
    assert_eq!(deliver(&setup, 30, 15)[0], "line 0");
    verb("verify", &setup.store(), &[]).expect(0);
}

/// After a crash of the process in this boot the counters in memory know more than the checkpoint: what is
/// moved is moved from there, and stays moved.
#[test]
fn a_cursor_is_moved_back_after_a_crash_of_the_process() {
    let setup = Setup::lines_to_file("cursor-crash");
    let mut running = setup.serve(&[]);
    running.write(&lines(0..10));
    wait_until("delivery", || number(&setup.stats(), "exportedTotal") == 10);
    running.signal(Signal::KILL);
    running.wait();
    let ended = verb("cursor", &setup.store(), &["seek", "file", "8"]).expect(0);
    assert_eq!(ended.out(), "cursor file: from 10 to 8\n");
    assert_eq!(deliver(&setup, 12, 2), ["line 8", "line 9"]);
}

/// While an engine has the store it is only looked at; a cursor that none of its sinks has is an orphan.
#[test]
fn cursors_of_a_running_engine_are_listed_and_left_alone() {
    let setup = delivered("cursor-live");
    let text = std::fs::read_to_string(&setup.config).unwrap();
    let renamed = text.replacen(r#""type": "file""#, r#""type": "file", "name": "other""#, 1);
    std::fs::write(&setup.config, renamed).unwrap();
    let running = setup.serve(&[]);
    wait_until("delivery", || setup.delivered().len() == 20);
    let list = || {
        let ended = verb("cursor", &setup.store(), &["list", "--json"]).expect(0);
        let rows = ended.json_lines();
        let row = |row: &serde_json::Value| {
            let text = |name| row[name].as_str().unwrap().to_owned();
            (text("name"), number(row, "position"), text("state"))
        };
        rows.iter().map(row).collect::<Vec<_>>()
    };
    let row = |name: &str, state: &str| (name.to_owned(), 10, state.to_owned());
    wait_until("acknowledged", || list()[0].1 == 10);
    assert_eq!(list(), [row("other", "sink"), row("file", "orphan")]);
    for change in [
        &["seek", "file", "1"][..],
        &["skip", "other"],
        &["remove", "file"],
    ] {
        let ended = verb("cursor", &setup.store(), change).expect(1);
        let told = format!("locked: process {} has it open", running.id());
        assert!(
            ended.out.is_empty() && ended.err.contains(&told),
            "{ended:?}"
        );
    }
    running.end().expect(0);
    verb("cursor", &setup.store(), &["remove", "file"]).expect(0);
    assert_eq!(list(), [row("other", "stopped")]);
}

#[test]
fn what_cursor_is_not_told_it_asks_for() {
    for (args, text) in [
        (&["x"][..], "list, seek, skip or remove is missing"),
        (&["x", "move"], "must be list, seek, skip or remove"),
        (&["x", "seek"], "NAME is missing"),
        (&["x", "seek", "file"], "OFFSET is missing"),
        (
            &["x", "seek", "file", "soon"],
            "neither an offset nor a time",
        ),
        (&["x", "skip", "file", "all"], "must be a number"),
        (&["x", "remove", "file", "1"], "one argument too many"),
        (&["x", "list", "--dry-run"], "--dry-run is not for list"),
        (
            &["x", "remove", "file", "--json"],
            "--json is for list only",
        ),
    ] {
        let ended = forebay(&[&["cursor"], args].concat()).expect(2);
        assert!(ended.err.contains(text), "{args:?}: {ended:?}");
    }
    let setup = delivered("cursor-none");
    let ended = verb("cursor", &setup.store(), &["seek", "elsewhere", "0"]).expect(1);
    assert!(ended.err.contains("no cursor \"elsewhere\""), "{ended:?}");
    // Where no store is, none is made.
    let nowhere = setup.scratch.join("empty");
    std::fs::create_dir(&nowhere).unwrap();
    let ended = verb("cursor", &nowhere, &["seek", "file", "0"]).expect(1);
    assert!(ended.err.contains("there is no store"), "{ended:?}");
    assert_eq!(std::fs::read_dir(&nowhere).unwrap().count(), 0);
}

/// `L-34`: exact ranges with their reason; the sum is what is missing.
#[test]
fn the_ledger_says_what_the_quota_dropped() {
    let buffer = r#", "segmentBytes": 65536, "maxDiskBytes": 1048576, "maxBufferedBytes": 65536"#;
    let setup = Setup::new("ledger", NO_SINK, buffer, STDIN);
    setup.append(&lines(0..10));
    assert!(verb("ledger", &setup.store(), &[]).expect(0).out.is_empty());
    setup.append(&lines(10..100_000));
    let ended = verb("ledger", &setup.store(), &["--json"]).expect(0);
    let losses = ended.json_lines();
    let first = setup.stored()[0]["offset"].as_u64().unwrap();
    assert!(first > 0, "the quota dropped something");
    assert_eq!(losses.len(), 1, "{ended:?}");
    let loss = &losses[0];
    let numbers = ["start", "end", "records"].map(|name| number(loss, name));
    assert_eq!(
        (numbers, &loss["reason"]),
        ([0, first, first], &"quota".into())
    );
    assert!(number(loss, "foundMs") > 1_700_000_000_000);
    let text = verb("ledger", &setup.store(), &[]).expect(0);
    let told = format!("0 to {}  {first} records  quota  ", first - 1);
    assert!(text.out().starts_with(&told), "{text:?}");
}
