//! The oracle is tested too: each rule of the design is taken out in turn, and the simulator must see it.
//!
//! docs/durability-rules.md has the table. It is compared with the rules in the code, and each rule is taken
//! out of the life that the table names. `RULES=5000 cargo test --release --features rules --test rules
//! all_rules -- --nocapture` makes the table anew, with so many lives for each; `RULE=Seal` only some rows.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)] // what tests share fails as they do

#[path = "crash/world.rs"]
mod world;

mod sim;

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
const LIVES: u64 = 100;
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

/// What shows in that life without the rule.
fn shows(rule: Rule, seed: u64) -> Option<String> {
    let lived = catch_unwind(AssertUnwindSafe(|| without(rule, || life(rule, seed))));
    lived.err().map(|_| SAID.with(|said| said.borrow().clone()))
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
