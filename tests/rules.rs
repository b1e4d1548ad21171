//! The oracle is tested too: each rule of the design is taken out in turn, and the simulator must see it.
//!
//! docs/durability-rules.md has the table. It is compared with the rules in the code, and each rule is taken
//! out of the life that the table names. `RULES=5000 cargo test --release --features rules --test rules
//! all_rules -- --nocapture` makes the table anew, with so many lives for each; `RULE=Seal` only some rows.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)] // what tests share fails as they do

#[path = "crash/world.rs"]
mod world;

mod sim;

#[path = "crash/directed.rs"]
mod directed;

#[allow(dead_code)] // of what the tests of delivery share only the lives are used
mod delivery {
    #[path = "bench.rs"]
    mod bench;
    #[path = "lives.rs"]
    pub mod lives;

    use bench::Bench;
}

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use forebay::rules::{Rule, without};

/// Where a rule is not seen where the table says, so many lives are tried.
const LIVES: u64 = 1000;
/// The table is made with so many if nothing else is asked for.
const LIVES_OF_TABLE: u64 = 500;
const THREADS: usize = 2;

thread_local! {
    /// What the last panic in this thread said.
    static SAID: RefCell<String> = const { RefCell::new(String::new()) };
}

/// A life of the kind that shows what a rule is for: of readers and cursors with sinks, the others of a store
/// alone, with and without damage.
fn life(rule: Rule, seed: u64) {
    let is_read = rule == Rule::SlowestCursorKeeps || rule as usize >= Rule::HeadReadAgain as usize;
    match seed % 4 {
        0 => world::random_life(seed / 4, sim::storage::Control::None),
        1..3 if is_read => drop(delivery::lives::life(seed)),
        _ => world::rough_life(seed),
    }
}

/// What shows in that life without the rule, and not with it.
fn shows(rule: Rule, seed: u64) -> Option<String> {
    let lived = catch_unwind(AssertUnwindSafe(|| without(rule, || life(rule, seed))));
    let said = || SAID.with(|said| said.borrow().clone());
    let what = lived.err().map(|_| said())?;
    let lived = catch_unwind(AssertUnwindSafe(|| life(rule, seed)));
    assert!(lived.is_ok(), "life {seed} with all rules: {}", said());
    Some(what)
}

/// Does something for each rule that is asked for, in a few threads that do not print panics.
fn for_each<R: Send>(f: impl Fn(Rule) -> R + Sync) -> Vec<(Rule, R)> {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|info| {
        let text = info.payload_as_str().unwrap_or_default().to_owned();
        SAID.with(|said| *said.borrow_mut() = text);
    }));
    let only = std::env::var("RULE").unwrap_or_default();
    let rules = Rule::ALL.iter().copied();
    let left =
        Mutex::new(rules.filter(|rule| {
            only.is_empty() || only.split(',').any(|name| name == format!("{rule:?}"))
        }));
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let rule = left.lock().unwrap().next();
                    let Some(rule) = rule else { return };
                    let result = f(rule);
                    done.lock().unwrap().push((rule, result));
                }
            });
        }
    });
    std::panic::set_hook(hook);
    let mut done = done.into_inner().unwrap();
    done.sort_by_key(|(rule, _)| *rule as usize);
    done
}

/// Makes the rows of the table.
#[test]
fn all_rules() {
    let Ok(lives) = std::env::var("RULES") else {
        return;
    };
    let lives = lives.parse().unwrap_or(LIVES_OF_TABLE);
    let found = for_each(|rule| {
        let start = std::time::Instant::now();
        let first = (0..lives).find_map(|seed| Some((seed + 1, shows(rule, seed)?)));
        let (seeds, what) = first.unwrap_or_default();
        let what = what.lines().next().unwrap_or_default().to_owned();
        println!(
            "| `{rule:?}` | {} | {what} | {seeds} | {:?}",
            rule.text(),
            start.elapsed()
        );
        seeds > 0
    });
    let count = found.iter().filter(|(_, is_found)| *is_found).count();
    println!("{count} of {} found within {lives} lives", found.len());
}

/// The rows of a table of the document, below a heading.
fn rows(heading: &str) -> Vec<Vec<String>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/durability-rules.md");
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().skip_while(|line| *line != heading).skip(1);
    let lines = lines.take_while(|line| !line.starts_with("## "));
    let rows = lines.filter(|line| line.starts_with("| `"));
    let cells = |line: &str| {
        let cells = line.trim_matches('|').split(" | ");
        cells.map(|cell| cell.trim().to_owned()).collect()
    };
    rows.map(cells).collect()
}

fn is_row_of(row: &[String], rule: Rule) -> bool {
    row[0] == format!("`{rule:?}`")
}

/// `L-120`: the document has all rules, each as the code says it, and at least thirty are seen.
#[test]
fn the_document_has_each_rule_once() {
    let (seen, unseen) = (rows("## Seen"), rows("## Not seen"));
    for rule in Rule::ALL {
        let mut rows = seen
            .iter()
            .chain(&unseen)
            .filter(|row| is_row_of(row, *rule));
        let row = rows.next().unwrap_or_else(|| panic!("{rule:?} has no row"));
        assert_eq!(row[1], rule.text(), "{rule:?}");
        assert!(
            row[2].len() > 10,
            "{rule:?}: what breaks, or why it is not seen"
        );
        assert!(rows.next().is_none(), "{rule:?} has two rows");
    }
    assert_eq!(seen.len() + unseen.len(), Rule::ALL.len());
    assert!(seen.len() >= 30, "{} are seen", seen.len());
}

/// `L-120`: the checks would see it if the engine did not do what it must. Each rule is taken out of the life
/// that the document names; where that does not show it any more, of the first ones.
#[test]
fn each_rule_that_is_taken_out_is_missed() {
    let seen = rows("## Seen");
    let missed = for_each(|rule| {
        let row = seen.iter().find(|row| is_row_of(row, rule))?;
        let lives: u64 = row[3].parse().unwrap();
        let named = shows(rule, lives - 1).map(|_| lives);
        let found = named.or_else(|| (0..LIVES).find(|seed| shows(rule, *seed).is_some()));
        Some(found.is_some())
    });
    let unmissed = missed
        .iter()
        .filter(|(_, is_missed)| *is_missed == Some(false));
    let unmissed: Vec<Rule> = unmissed.map(|(rule, _)| *rule).collect();
    assert!(
        unmissed.is_empty(),
        "nobody notices that they are gone: {unmissed:?}"
    );
}
