//! `deadletter`: what a sink never took, beside a running engine and behind it.

use crate::process::{
    Ended, NO_SINK, SMALL, STDIN, Setup, forebay, lines, number, verb, wait_until,
};

/// A stream whose sink takes nothing, because a directory stands where its file should be.
fn refused(name: &str) -> Setup {
    refused_of(name, STDIN)
}

fn refused_of(name: &str, input: &str) -> Setup {
    let mut setup = Setup::to_file(name, SMALL, input);
    std::fs::create_dir(setup.out()).unwrap();
    let text = std::fs::read_to_string(&setup.config).unwrap();
    let text = text.replacen("\"backoffMaxMs\"", "\"maxRetries\": 1, \"backoffMaxMs\"", 1);
    setup.config = setup.scratch.write("forebay.json", text);
    setup
}

/// `G-095`: with letter, reason, offset and attempts; nothing is taken or changed by looking.
#[test]
fn dead_letters_are_shown_live_and_stopped() {
    let setup = refused("letters");
    let mut running = setup.serve(&[]);
    running.write(&lines(0..5));
    wait_until("the records are given up", || {
        number(&setup.stats(), "failedTotal") == 5
    });
    let stats = setup.stats();
    assert_eq!(
        (
            number(&stats, "backlog"),
            number(&stats, "deadLettersTotal")
        ),
        (0, 5)
    );
    let live = verb("deadletter", &setup.store(), &["list"]).expect(0);
    running.end().expect(0);
    let stopped = verb("deadletter", &setup.store(), &["list"]).expect(0);
    assert_eq!((&live.out, &live.err), (&stopped.out, &stopped.err));
    let rows: Vec<&str> = live.out().lines().collect();
    assert_eq!(rows.len(), 5, "{live:?}");
    for (n, row) in rows.iter().enumerate() {
        let cells: Vec<&str> = row.splitn(7, ' ').collect();
        let n = n.to_string();
        assert_eq!(
            (cells[0], cells[2], cells[3], cells[4]),
            (&*n, "file", &*n, "2")
        );
        assert!(cells[6].starts_with("sent 2 times in vain"), "{row}");
    }
    let one = verb("deadletter", &setup.store(), &["show", "3"]).expect(0);
    let shown = one.out();
    assert!(shown.contains("payload   line 3\n"), "{shown}");
    assert!(shown.contains("sink      file\n"), "{shown}");
    let json = verb("deadletter", &setup.store(), &["show", "3", "--json"]).expect(0);
    let letter = json.json_lines().remove(0);
    assert_eq!(letter["payload"], "line 3");
    assert_eq!(letter["properties"]["forebay.dead.offset"], "3");
    // It is a store like any other.
    let letters = setup.store().join("dead-letters");
    verb("verify", &letters, &[]).expect(0);
    // What was given up is not delivered later, and what comes is.
    std::fs::remove_dir(setup.out()).unwrap();
    let mut running = setup.serve(&[]);
    running.write(&lines(5..7));
    wait_until("delivery", || setup.delivered().len() == 2);
    running.end().expect(0);
    let list = verb("deadletter", &setup.store(), &["list"]).expect(0);
    assert_eq!(list.out, live.out);
}

/// Lines on standard input become so many letters.
fn with_letters(setup: &Setup, input: &[u8], count: u64) {
    let mut running = setup.serve(&[]);
    running.write(input);
    wait_until("the records are given up", || {
        number(&setup.stats(), "failedTotal") == count
    });
    running.end().expect(0);
}

/// The own offsets of the letters that are listed.
fn listed(setup: &Setup) -> Vec<u64> {
    let list = verb("deadletter", &setup.store(), &["list"]).expect(0);
    let rows = list.out().lines();
    rows.map(|row| row.split(' ').next().unwrap().parse().unwrap())
        .collect()
}

fn reinject(setup: &Setup, more: &[&str], code: i32) -> Ended {
    let config = ["reinject", "--config", setup.config.to_str().unwrap()];
    verb("deadletter", &setup.store(), &[&config, more].concat()).expect(code)
}

/// `G-095`: their records come again, as they were, behind what is there; then the letters are gone.
#[test]
fn reinjected_letters_are_delivered_as_they_were_and_listed_no_more() {
    let input = r#"{"type": "stdin", "stream": "telemetry", "format": "ndjson"}"#;
    let setup = refused_of("reinject", input);
    let line = |n: u64| {
        format!(
            "{{\"payload\": \"line {n}\", \"key\": \"k{n}\", \"timeMs\": {n}, \
             \"properties\": {{\"unit\": \"u{n}\"}}}}\n"
        )
    };
    with_letters(&setup, (0..5).map(line).collect::<String>().as_bytes(), 5);
    let dry = reinject(&setup, &["--from", "1", "--to", "3", "--dry-run"], 0);
    assert_eq!(dry.out().lines().count(), 3, "{dry:?}");
    assert!(
        dry.out().ends_with("2 letters would be reinjected\n"),
        "{dry:?}"
    );
    assert_eq!(listed(&setup), [0, 1, 2, 3, 4]);
    let ended = reinject(&setup, &["3"], 0);
    assert_eq!(ended.out(), "1 letters reinjected, as records 5 to 5\n");
    assert_eq!(listed(&setup), [0, 1, 2, 4]);
    verb("deadletter", &setup.store(), &["show", "3"]).expect(1);
    let ended = reinject(&setup, &["--all"], 0);
    assert_eq!(ended.out(), "4 letters reinjected, as records 6 to 9\n");
    assert!(listed(&setup).is_empty());
    assert_eq!(
        reinject(&setup, &["--all"], 0).out(),
        "0 letters reinjected\n"
    );
    std::fs::remove_dir(setup.out()).unwrap();
    let running = setup.serve(&[]);
    wait_until("delivery", || setup.delivered().len() == 5);
    running.end().expect(0);
    for (record, n) in setup.delivered().iter().zip([3, 0, 1, 2, 4]) {
        assert_eq!(record["payload"], format!("line {n}"), "{record}");
        assert_eq!(record["key"], format!("k{n}"), "{record}");
        assert_eq!(number(record, "timeMs"), n);
        let properties = serde_json::json!({"unit": format!("u{n}")});
        assert_eq!(record["properties"], properties);
    }
    assert!(listed(&setup).is_empty(), "the engine keeps what was done");
    verb("verify", &setup.store().join("dead-letters"), &[]).expect(0);
}

/// Whatever is dropped is not listed, not sent again, and not missed; the others stay.
#[test]
fn dropped_letters_are_gone_and_the_others_stay() {
    let setup = refused("drop");
    with_letters(&setup, &lines(0..20), 20);
    let drop = |args: &[&str], code| {
        let args = [&["drop"], args].concat();
        verb("deadletter", &setup.store(), &args).expect(code)
    };
    let dry = drop(&["5", "--dry-run"], 0);
    assert!(
        dry.out().ends_with("1 letters would be dropped\n"),
        "{dry:?}"
    );
    assert_eq!(listed(&setup).len(), 20);
    assert_eq!(drop(&["--from", "18"], 0).out(), "2 letters dropped\n");
    assert_eq!(drop(&["--to", "2"], 0).out(), "2 letters dropped\n");
    for odd in ["3", "5", "7", "9", "11", "13", "15"] {
        drop(&[odd], 0);
    }
    // More holes than are remembered would be one too many: nothing is done, and that is said.
    let ended = drop(&["17"], 0);
    assert_eq!(
        ended.out(),
        "1 letters dropped\n",
        "it joins those behind it"
    );
    assert_eq!(listed(&setup), [2, 4, 6, 8, 10, 12, 14, 16]);
    let ended = reinject(&setup, &["--from", "6", "--to", "9"], 0);
    assert_eq!(ended.out(), "2 letters reinjected, as records 20 to 21\n");
    assert_eq!(listed(&setup), [2, 4, 10, 12, 14, 16]);
    assert_eq!(drop(&["--all"], 0).out(), "6 letters dropped\n");
    assert!(listed(&setup).is_empty());
    // New ones are listed again.
    with_letters(&setup, &lines(0..3), 5);
    assert_eq!(listed(&setup), [20, 21, 22, 23, 24]);
}

#[test]
fn more_holes_between_letters_than_are_remembered_are_refused() {
    let setup = refused("drop-holes");
    with_letters(&setup, &lines(0..20), 20);
    for n in 0..8 {
        let offset = (2 * n + 1).to_string();
        verb("deadletter", &setup.store(), &["drop", &offset]).expect(0);
    }
    let before = listed(&setup);
    let ended = verb("deadletter", &setup.store(), &["drop", "17"]).expect(1);
    assert!(ended.err.contains("begin with the oldest"), "{ended:?}");
    let ended = reinject(&setup, &["17"], 1);
    assert!(ended.err.contains("begin with the oldest"), "{ended:?}");
    assert_eq!(listed(&setup), before);
    assert_eq!(
        number(&setup.stats(), "nextOffset"),
        20,
        "nothing was appended"
    );
    verb("deadletter", &setup.store(), &["drop", "0"]).expect(0);
    verb("deadletter", &setup.store(), &["drop", "17"]).expect(0);
}

/// Dead letters are part of what is verified.
#[test]
fn verify_reads_dead_letters_too() {
    let setup = refused("verify-letters");
    with_letters(&setup, &lines(0..5), 5);
    let sound = verb("verify", &setup.store(), &[]).expect(0);
    let told = "5 records from 0 to 5, 0 damaged\ndead-letters: 5 records from 0 to 5, 0 damaged\n";
    assert_eq!(sound.out(), told);
    let path = setup.store().join("dead-letters").join("segment-000001");
    let mut bytes = std::fs::read(&path).unwrap();
    for at in 0..bytes.len() - 6 {
        if &bytes[at..at + 6] == b"line 3" {
            bytes[at] ^= 1;
        }
    }
    std::fs::write(&path, bytes).unwrap();
    let found = verb("verify", &setup.store(), &[]).expect(1);
    let told = "dead-letters: missing 3 to 3: damage, segment-000001 at byte ";
    assert!(found.out().contains(told), "{found:?}");
}

/// What cannot be appended stays a letter; what has the store keeps it.
#[test]
fn a_letter_that_cannot_go_back_stays() {
    let setup = refused("reinject-stays");
    let long = format!("{}\nshort\n", "x".repeat(3000));
    let mut running = setup.serve(&[]);
    running.write(long.as_bytes());
    wait_until("the records are given up", || {
        number(&setup.stats(), "failedTotal") == 2
    });
    for args in [&["drop", "--all"][..], &["reinject", "--all", "--config"]] {
        let config = setup.config.to_str().unwrap();
        let config = if args.len() > 2 { &[config][..] } else { &[] };
        let ended = verb("deadletter", &setup.store(), &[args, config].concat()).expect(1);
        let told = format!("locked: process {} has it open", running.id());
        assert!(ended.err.contains(&told), "{ended:?}");
    }
    running.end().expect(0);
    let text = std::fs::read_to_string(&setup.config).unwrap();
    let small = text.replacen(
        "\"buffer\": {",
        "\"buffer\": {\"maxRecordBytes\": 1000, ",
        1,
    );
    std::fs::write(&setup.config, small).unwrap();
    let ended = reinject(&setup, &["--all"], 1);
    assert!(ended.err.contains("letter 0 stays: "), "{ended:?}");
    assert_eq!(
        ended.out(),
        "1 letters reinjected, as records 2 to 2, 1 left\n"
    );
    assert_eq!(listed(&setup), [0]);
    // Only the configuration of this store will do.
    let other = Setup::lines_to_file("reinject-other");
    let config = other.config.to_str().unwrap();
    let args = ["reinject", "0", "--config", config];
    let ended = verb("deadletter", &setup.store(), &args).expect(2);
    assert!(ended.err.contains("no stream whose store is"), "{ended:?}");
}

#[test]
fn a_store_without_dead_letters_has_none() {
    let setup = Setup::new("no-letters", NO_SINK, SMALL, "");
    setup.append(&lines(0..3));
    let list = verb("deadletter", &setup.store(), &["list"]).expect(0);
    assert!(list.out.is_empty() && list.err.is_empty());
    let show = verb("deadletter", &setup.store(), &["show", "0"]).expect(1);
    assert!(show.err.contains("no letter at offset 0"), "{show:?}");
    assert!(!setup.store().join("dead-letters").exists());
    verb("deadletter", &setup.scratch.join("nowhere"), &["list"]).expect(1);
}

#[test]
fn what_deadletter_does_not_do_it_says() {
    for (args, text) in [
        (&[][..], "DIR is missing"),
        (&["x"], "list, show, reinject or drop is missing"),
        (&["x", "lst"], "must be list, show, reinject or drop"),
        (&["x", "show"], "OFFSET is missing"),
        (&["x", "show", "one"], "must be a number"),
        (&["x", "list", "1"], "takes no offset"),
        (&["x", "list", "--all"], "--all is not for list"),
        (&["x", "drop", "--json"], "--json is not for drop"),
        (&["x", "reinject", "--all"], "--config is missing"),
        (&["x", "reinject", "--config", "c"], "which letters?"),
        (&["x", "drop"], "which letters?"),
        (&["x", "drop", "1", "--all"], "which letters?"),
        (&["x", "drop", "--all", "--to", "5"], "which letters?"),
    ] {
        let ended = forebay(&[&["deadletter"], args].concat()).expect(2);
        assert!(ended.err.contains(text), "{args:?}: {ended:?}");
    }
}
