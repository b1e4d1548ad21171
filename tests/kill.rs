//! A real process on a real file system is killed (SIGKILL) again and again while it writes as fast as it
//! can, and everything that it had promised is there at the end.
//!
//! ```text
//!  this test                                 its child: this same program, one engine
//!  ──────────────────────────────            ──────────────────────────────────────────────
//!  notes what was said        ◀── lines ───  three threads: "will" ─ append ─ "got" ─ flush ─ "kept"
//!  kills it, `forebay verify` ──── ✗ ──────▶ store ─▶ file sink
//!  starts the next one on the same store
//!  at the end: the sink's file and the store against what was said
//! ```
//!
//! What it shows: the death of a process loses nothing that was durable, repeats no more than the batch
//! that was in flight, hands out no offset twice, and brings up nothing that was never appended. What it
//! cannot show is a power cut: everything that the process had handed to the system survives here, synced
//! or not. That is for `tests/crash.rs`.
//!
//! `KILLS` sets how often (default 50), `SEED` the moments.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // a test is not behind the seams
#![allow(clippy::unnecessary_debug_formatting)] // a path in quotes is a path in JSON

#[path = "kill/child.rs"]
mod child;
#[path = "common/process.rs"]
mod process;
#[path = "sim/random.rs"]
mod random;

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::Command;

use forebay::format::LEDGER_MAX;
use rustix::process::Signal;
use serde_json::Value;

use child::{BATCH_RECORDS, Said, Who};
use process::{Running, Scratch, number, verb, wait_until};
use random::{Random, seed};

/// One of so many kills does not wait for the engine to be open.
const EARLY_ONE_IN: u64 = 5;

/// The names of the tests, for their children.
const DELIVERED: &str = "no_number_of_kills_loses_what_was_promised";
const AT_THE_EDGE: &str = "no_number_of_kills_at_the_edge_of_the_quota_damages_what_is_left";
const AT_ONCE: &str = "no_number_of_kills_of_several_processes_loses_what_was_promised";
/// A kill of so many is one at the edge of the quota.
const EDGE_ONE_IN: u64 = 3;

/// What all children have said.
#[derive(Default)]
struct Promises {
    /// For each thread of each run, the first number that was not even begun.
    begun: HashMap<(u64, u64), u64>,
    /// Which record has which offset, as append said.
    got: BTreeMap<u64, Who>,
    /// Offsets whose records were durable when it was said.
    kept: BTreeMap<u64, Who>,
    /// Of each run where it began, and below which offset everything was durable when it last said so.
    durable: Vec<std::ops::Range<u64>>,
}

impl Promises {
    fn note(&mut self, said: Said) {
        match said {
            Said::Open { next, durable } => {
                // Nothing of former runs is handed out again: not even what was never durable.
                let used = self
                    .got
                    .last_key_value()
                    .map_or(0, |(offset, _)| offset + 1);
                let promised = self.durable.last().map_or(0, |range| range.end);
                assert!(next >= used.max(promised), "{next} was handed out before");
                assert_eq!(durable, next);
                self.durable.push(next..durable);
            }
            Said::Will { run, thread, below } => {
                self.begun.insert((run, thread), below);
            }
            Said::Got { offset, who } => {
                let before = self.got.insert(offset, who);
                assert_eq!(before, None, "{offset} was handed out twice");
            }
            Said::Kept { offsets } => {
                for offset in offsets {
                    self.kept.insert(offset, self.got[&offset]);
                }
            }
            Said::Durable(durable) => {
                let last = self.durable.last_mut().expect("it said where it opened");
                assert!(durable >= last.end, "{durable} after {last:?}");
                last.end = durable;
            }
        }
    }

    /// A record that came out was begun by somebody, and is as it was made.
    fn check_record(&self, record: &Value) -> (u64, Who) {
        let offset = number(record, "offset");
        let payload = record["payload"]
            .as_str()
            .unwrap_or_else(|| panic!("{record}"));
        let who = Who::of_payload(payload).unwrap_or_else(|| panic!("{record}"));
        assert_eq!(payload, who.payload(), "at {offset}");
        assert_eq!(record["key"], who.key(), "at {offset}");
        let begun = self.begun.get(&(who.run, who.thread)).copied().unwrap_or(0);
        assert!(who.n < begun, "{who:?} at {offset} was never appended");
        if let Some(got) = self.got.get(&offset) {
            assert_eq!(*got, who, "at {offset}");
        }
        (offset, who)
    }
}

/// Starts a child and kills it at some moment. Notes what it said until then.
fn live_and_die(
    (test, policy): (&str, usize),
    scratch: &Scratch,
    run: u64,
    random: &mut Random,
    promises: &mut Promises,
) {
    let mut command = child::command_with(policy, test, scratch.path(), run, child::THREADS);
    let (running, pipe) = Running::start_with_pipe(&mut command);
    let mut lines = BufReader::new(pipe);
    if random.chance(EARLY_ONE_IN) {
        pause(random.below(20));
    } else {
        let mut line = String::new();
        while !line.starts_with("open") {
            line.clear();
            let len = lines.read_line(&mut line).unwrap();
            assert!(len > 0, "the child ended: {}", running.err());
            Said::parse(&line)
                .into_iter()
                .for_each(|said| promises.note(said));
        }
        // The pipe is not read meanwhile: it must not hold what the child says in so short a time.
        let reader = std::thread::spawn(move || {
            let mut rest = Vec::new();
            lines.read_to_end(&mut rest).unwrap();
            rest
        });
        pause(20 + random.below(131));
        running.signal(Signal::KILL);
        let ended = running.wait();
        assert!(ended.status.code().is_none(), "it ended before: {ended:?}");
        note_all(&reader.join().unwrap(), promises);
        return;
    }
    running.signal(Signal::KILL);
    running.wait();
    let mut rest = Vec::new();
    lines.read_to_end(&mut rest).unwrap();
    note_all(&rest, promises);
}

fn note_all(said: &[u8], promises: &mut Promises) {
    // The last line may have been cut off with its process.
    let end = said
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    for line in std::str::from_utf8(&said[..end]).unwrap().lines() {
        Said::parse(line)
            .into_iter()
            .for_each(|said| promises.note(said));
    }
}

fn pause(ms: u64) {
    let start = std::time::Instant::now();
    let limit = std::time::Duration::from_millis(ms);
    while let Some(left) = limit
        .checked_sub(start.elapsed())
        .filter(|left| !left.is_zero())
    {
        std::thread::park_timeout(left);
    }
}

/// Between two lives nothing of the store is damaged. What the process was just writing when it was killed
/// may be there in part; of that nobody can tell whether it had been durable (but this test can).
fn check_store(store: &Path, promises: &Promises) {
    if promises.durable.is_empty() {
        return;
    }
    let verified = verb("verify", store, &[]);
    assert!(
        verified.status.code().is_some_and(|code| code <= 1),
        "{verified:?}"
    );
    let mut lines = verified.out().lines().rev();
    assert!(
        lines
            .next()
            .is_some_and(|last| last.contains(" records from ")),
        "{verified:?}"
    );
    for line in lines {
        let missing = line
            .strip_prefix("missing ")
            .and_then(|line| line.split_once(": "));
        let (range, reason) = missing.unwrap_or_else(|| panic!("{verified:?}"));
        assert!(
            ["neverDurable", "undecided"].contains(&reason),
            "{verified:?}"
        );
        let (from, to) = range.split_once(" to ").unwrap();
        let missing = from.parse::<u64>().unwrap()..=to.parse().unwrap();
        let kept = promises.kept.range(missing).next();
        assert_eq!(kept, None, "promised, and missing: {line}");
    }
}

/// Lets a last child deliver the rest, and end cleanly.
fn drain((test, policy): (&str, usize), scratch: &Scratch, run: u64, promises: &mut Promises) {
    let mut command: Command = child::command_with(policy, test, scratch.path(), run, 0);
    let mut running = Running::start(&mut command);
    let store = child::store(scratch.path());
    wait_until("delivery of everything", || {
        assert!(!running.has_ended(), "{}", running.err());
        let ended = verb("stats", &store, &["--json"]);
        let stats: Option<Value> = serde_json::from_slice(&ended.out).ok();
        // While it opens it does not say yet what it has found.
        stats.is_some_and(|stats| {
            let is_settled = stats["nextOffset"] == stats["durableOffset"];
            stats["live"] == true && is_settled && stats["backlog"] == 0
        })
    });
    let ended = running.end();
    assert!(ended.status.success(), "{ended:?}");
    note_all(&ended.out, promises);
}

fn kills() -> u64 {
    let kills = std::env::var("KILLS").ok();
    kills.and_then(|kills| kills.parse().ok()).unwrap_or(50)
}

/// `G-020`, `G-086`, `G-098`, `G-102`, `L-2`, `L-3`, `L-4`, `L-101`.
#[test]
fn no_number_of_kills_loses_what_was_promised() {
    if child::is_asked_for() {
        return child::main(child::DELIVERED);
    }
    let kills = kills();
    let seed = seed(std::process::id().into());
    let mut random = Random::new(seed);
    let scratch = Scratch::new("kill");
    let store = child::store(scratch.path());
    let mut promises = Promises::default();
    for run in 0..kills {
        live_and_die((DELIVERED, 0), &scratch, run, &mut random, &mut promises);
        check_store(&store, &promises);
    }
    drain((DELIVERED, 0), &scratch, kills, &mut promises);
    check_store(&store, &promises);
    let summary = compare(&scratch, kills, &promises);
    println!("SEED={seed}, {kills} kills: {summary}");
}

/// `G-020`, `G-086`, `L-101`: several processes at once, each with a store and a policy of its own, are killed
/// again and again; of what each had promised nothing is missing.
#[test]
fn no_number_of_kills_of_several_processes_loses_what_was_promised() {
    if child::is_asked_for() {
        return child::main(child::SHARED_OUT);
    }
    let kills = (kills() / EDGE_ONE_IN).max(4);
    let seed = seed(std::process::id().into());
    std::thread::scope(|scope| {
        for (policy, text) in child::POLICIES.iter().enumerate() {
            scope.spawn(move || {
                let mut random = Random::new(seed * 7 + policy as u64);
                let scratch = Scratch::new(&format!("kill-policy-{policy}"));
                let store = child::store(scratch.path());
                let mut promises = Promises::default();
                let who = (AT_ONCE, policy);
                for run in 0..kills {
                    live_and_die(who, &scratch, run, &mut random, &mut promises);
                    check_store(&store, &promises);
                }
                drain(who, &scratch, kills, &mut promises);
                check_store(&store, &promises);
                let summary = compare(&scratch, kills, &promises);
                println!("SEED={seed}, {kills} kills, {text}: {summary}");
            });
        }
    });
}

/// Holds the sink's file and the store against what was said.
fn compare(scratch: &Scratch, kills: u64, promises: &Promises) -> String {
    let text = std::fs::read(child::out(scratch.path())).unwrap();
    assert_eq!(text.last(), Some(&b'\n'), "the last line is not whole");
    let mut there: BTreeMap<u64, Who> = BTreeMap::new();
    let mut last_of: HashMap<(u64, u64), u64> = HashMap::new();
    let (mut repeats, mut returns, mut in_a_row, mut last) = (0u64, 0u64, 0u64, 0);
    for line in BufReader::new(&text[..]).lines() {
        let line = line.unwrap();
        let record: Value = serde_json::from_str(&line).expect(&line);
        let (offset, who) = promises.check_record(&record);
        let newest = there.last_key_value().map(|(offset, _)| *offset);
        let is_return = offset <= std::mem::replace(&mut last, offset);
        if newest.is_some_and(|newest| offset <= newest) {
            // Only what was there comes again, it is the same, and it is what was in flight.
            assert_eq!(there.get(&offset), Some(&who), "{offset} comes late");
            if is_return {
                (returns, in_a_row) = (returns + 1, 0);
            }
            (repeats, in_a_row) = (repeats + 1, in_a_row + 1);
            assert!(
                in_a_row <= BATCH_RECORDS,
                "more than a batch again, at {offset}"
            );
            continue;
        }
        there.insert(offset, who);
        // What a thread appended one after the other is in this order.
        let last = last_of.insert((who.run, who.thread), who.n);
        assert!(
            last.is_none_or(|last| last < who.n),
            "{who:?} after {last:?}"
        );
    }
    assert!(returns <= kills, "{returns}");
    for (offset, who) in &promises.kept {
        assert_eq!(
            there.get(offset),
            Some(who),
            "promised at {offset}, not delivered"
        );
    }
    for range in &promises.durable {
        let count = there.range(range.clone()).count() as u64;
        assert_eq!(
            count,
            range.end - range.start,
            "of what was durable in {range:?}"
        );
    }
    // What the store still has is what was delivered; and what it says is lost was never promised.
    let stored = verb(
        "read",
        &child::store(scratch.path()),
        &["--format", "ndjson"],
    )
    .expect(0);
    let mut count = 0;
    for record in stored.json_lines() {
        let (offset, who) = promises.check_record(&record);
        assert_eq!(
            there.get(&offset),
            Some(&who),
            "stored at {offset}, not delivered"
        );
        count += 1;
    }
    let inspected = verb("inspect", &child::store(scratch.path()), &["--json"]).expect(0);
    let ledger = inspected.json_lines().remove(0)["ledger"].clone();
    let ledger = ledger.as_array().unwrap();
    // Ranges of a full ledger are merged, and then also cover what lies between and is there.
    let is_exact = ledger.len() < LEDGER_MAX;
    for loss in ledger {
        let is_known = loss["reason"] == "neverDurable" || loss["reason"] == "undecided";
        assert!(is_known, "{loss}");
        let range = number(loss, "start")..number(loss, "end");
        if is_exact {
            assert_eq!(promises.kept.range(range.clone()).next(), None, "{loss}");
            assert_eq!(there.range(range).next(), None, "{loss}");
        }
    }
    assert!(promises.kept.len() as u64 > 20 * kills && promises.durable.len() as u64 > kills / 2);
    format!(
        "{} delivered, {} of them promised, {repeats} repeated after {returns} kills; {count} still stored",
        there.len(),
        promises.kept.len()
    )
}

/// The blocks of all files of the store, in bytes.
fn allocated(store: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let blocks = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.blocks() * 512);
    let entries = std::fs::read_dir(store).unwrap();
    blocks(store)
        + entries
            .map(|entry| blocks(&entry.unwrap().path()))
            .sum::<u64>()
}

/// `L-22`, `L-56`, `G-086`: at full load and with the budget used up, so that the oldest segments are recycled
/// all the time, kills damage nothing: each time the store keeps its budget and verifies, what is in it is
/// as it was appended, and everything promised from its oldest record on is there.
#[test]
fn no_number_of_kills_at_the_edge_of_the_quota_damages_what_is_left() {
    if child::is_asked_for() {
        return child::main(child::AT_THE_EDGE);
    }
    let kills = kills() / EDGE_ONE_IN;
    let seed = seed(std::process::id().into());
    let mut random = Random::new(seed);
    let scratch = Scratch::new("kill-edge");
    let store = child::store(scratch.path());
    let mut promises = Promises::default();
    let (mut newest_head, mut read) = (0, 0);
    for run in 0..kills {
        live_and_die((AT_THE_EDGE, 0), &scratch, run, &mut random, &mut promises);
        if promises.durable.is_empty() {
            continue;
        }
        check_store(&store, &promises);
        let (taken, budget) = (allocated(&store), child::AT_THE_EDGE.1);
        assert!(taken <= budget, "{taken} bytes after kill {run}");
        let stored = verb("read", &store, &["--format", "ndjson"]).expect(0);
        let mut there = BTreeMap::new();
        for record in stored.json_lines() {
            let (offset, who) = promises.check_record(&record);
            let before = there.insert(offset, who);
            assert_eq!(before, None, "{offset} is there twice");
        }
        let Some((head, _)) = there.first_key_value() else {
            continue;
        };
        assert!(*head >= newest_head, "{head} was dropped before");
        newest_head = *head;
        for (offset, who) in promises.kept.range(head..) {
            assert_eq!(
                there.get(offset),
                Some(who),
                "promised at {offset}, after {run}"
            );
        }
        read += there.len();
    }
    println!("SEED={seed}, {kills} kills: {newest_head} dropped, {read} looked at");
    assert!(newest_head > 1000 && read > 1000, "the budget was used up");
}
