//! `deadletter`: what a sink never took, beside a running engine and behind it.

use crate::process::{NO_SINK, SMALL, STDIN, Setup, forebay, lines, number, verb, wait_until};

/// A stream whose sink takes nothing, because a directory stands where its file should be.
fn refused(name: &str) -> Setup {
    let mut setup = Setup::to_file(name, SMALL, STDIN);
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
        (&["x"], "list or show is missing"),
        (&["x", "lst"], "must be list or show"),
        (&["x", "show"], "OFFSET is missing"),
        (&["x", "show", "one"], "must be a number"),
        (&["x", "list", "1"], "takes no offset"),
        (&["x", "reinject", "--all"], "no option \"--all\""),
        (&["x", "reinject"], "not available in this version"),
        (&["x", "drop"], "not available in this version"),
    ] {
        let ended = forebay(&[&["deadletter"], args].concat()).expect(2);
        assert!(ended.err.contains(text), "{args:?}: {ended:?}");
    }
}
