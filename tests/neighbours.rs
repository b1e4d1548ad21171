//! What a second sink costs the producer, and what a sink that is no good costs its neighbour: nothing.

#[path = "sim/clock.rs"]
#[allow(dead_code)]
mod clock;
mod common;

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clock::SimClock;
use common::{LIMIT, Scratch, wait_until};
use forebay::engine::{World, assemble};
use forebay::sink::{Answer, Batch, Blocking, BlockingSink};
use forebay::{Config, Engine, Stream};

/// Set for the child: where its files lie, and how many sinks it has.
const DIR: &str = "FOREBAY_NEIGHBOURS_DIR";
const SINKS: &str = "FOREBAY_NEIGHBOURS_SINKS";
/// The most that sinks which are no good may delay another, as its time beside them over its time alone.
/// The bench `streams` has the figure itself; this leaves room for a machine that has other work to do.
const DELAY_MAX: f64 = 1.15;
const PAIRS: usize = 5;
const PAIRS_MAX: usize = 40;
const RECORDS: u64 = 10_000;

/// A sink that takes what it gets at a pace; or is no good.
#[derive(Clone)]
enum Neighbour {
    Paced(Arc<AtomicU64>),
    /// It takes nothing.
    Dead,
    /// It does not answer.
    Silent,
    /// It takes a record now and then.
    Slow,
}

impl BlockingSink for Neighbour {
    fn deliver(&mut self, batch: &Batch<'_>, _timeout: Duration, answer: &mut Answer<'_>) {
        match self {
            Self::Paced(taken) => {
                thread::park_timeout(Duration::from_millis(5));
                answer.accept_rest();
                taken.fetch_add(batch.len() as u64, Ordering::SeqCst);
            }
            Self::Dead => answer.retry_rest(None),
            Self::Silent => thread::park_timeout(Duration::from_millis(400)),
            Self::Slow => {
                thread::park_timeout(Duration::from_millis(100));
                answer.set(0, forebay::sink::Outcome::Accepted);
                answer.retry_rest(None);
            }
        }
    }
}

/// A stream with callback sinks of these names.
fn stream(sinks: &[&str]) -> String {
    let sinks = sinks
        .iter()
        .map(|name| format!(r#"{{"name": "{name}", "type": "callback", "id": "{name}"}}"#));
    format!(
        r#"{{"name": "telemetry", "sinks": [{}], "batch": {{"maxRecords": 100, "maxLatencyMs": 5}},
            "buffer": {{"volatile": "allow", "fsyncIntervalMs": 20, "maxDiskBytes": 67108864}}}}"#,
        sinks.collect::<Vec<_>>().join(", ")
    )
}

/// What is counted. Nothing of it is inlined into what is not.
#[inline(never)]
fn ten_thousand_appends(stream: &Stream) {
    for n in 0..10_000 {
        let _ = std::hint::black_box(stream.append(b"pump-7", n, &[7; 100]));
    }
}

/// The process that valgrind watches. As a test of its own it does nothing.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else {
        return;
    };
    let scratch = std::mem::ManuallyDrop::new(Scratch(PathBuf::from(dir)));
    let count: usize = std::env::var(SINKS).unwrap().parse().unwrap();
    let names = &["a", "b"][..count];
    let config = names
        .iter()
        .fold(scratch.config(&stream(names)), |config, name| {
            config.with_sink(name, Blocking::new(Neighbour::Dead))
        });
    // Without threads: what they do while a producer appends would not be the same twice.
    // And with a clock that stands: valgrind hides the system's fast one.
    let world = World {
        clock: Arc::new(SimClock::new()),
        ..World::real()
    };
    let assembly = assemble(&config, &world).unwrap();
    assert_eq!(assembly.exporters.len(), count);
    let stream = &assembly.streams[0];
    ten_thousand_appends(stream);
    assert_eq!(stream.stats().next_offset, 10_000, "all were taken");
}

/// The instructions of [`ten_thousand_appends`] in a process with so many sinks. `None`: there is no valgrind.
fn instructions(sinks: usize) -> Option<u64> {
    let scratch = Scratch::new(&format!("instructions-{sinks}"));
    let ended = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no"])
        .arg("--toggle-collect=*ten_thousand_appends*")
        .arg("--callgrind-out-file=/dev/null")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--test-threads", "1"])
        .env(DIR, &scratch.0)
        .env(SINKS, sinks.to_string())
        .output();
    // Nor is one of another machine any good.
    let is_of_here = |ended: &std::process::Output| {
        String::from_utf8_lossy(&ended.stdout).contains("running 1 test")
    };
    let ended = ended.ok().filter(is_of_here)?;
    let said = String::from_utf8_lossy(&ended.stderr);
    let out = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success(), "{out}\n{said}");
    let line = said.lines().find(|line| line.contains("Collected : "));
    let count = line.unwrap_or_else(|| panic!("{said}"));
    Some(count.rsplit(' ').next().unwrap().parse().unwrap())
}

/// `G-004`: with a second sink an append takes not one instruction more.
#[test]
fn a_second_sink_costs_the_producer_no_instruction() {
    let [Some(one), Some(two)] = [1, 2].map(instructions) else {
        eprintln!("LEFT OUT: instructions of an append: there is no valgrind for this machine");
        return;
    };
    println!("10000 appends: {one} instructions with one sink, {two} with two");
    assert!(one > 10_000 * 20, "{one}: they were not counted");
    assert_eq!(one, two);
}

/// How long the good sink takes for everything that is stored, beside these.
fn time_to_drain(name: &str, bad: &[Neighbour]) -> Duration {
    let scratch = Scratch::new(&format!("neighbours-{name}"));
    let names = &["good", "b", "c", "d"][..=bad.len()];
    let text = stream(names);
    let engine = Engine::open_to_store(&scratch.config(&text)).unwrap();
    let stored = engine.stream("telemetry").unwrap();
    for n in 0..RECORDS {
        while stored.append(b"pump-7", n, &[7; 200]).is_err() {
            thread::yield_now();
        }
    }
    stored.flush(LIMIT).unwrap();
    engine.close(LIMIT).unwrap();
    let taken = Arc::new(AtomicU64::new(0));
    let sinks = [Neighbour::Paced(Arc::clone(&taken))];
    let sinks = sinks.iter().chain(bad).zip(names);
    let config = sinks.fold(scratch.config(&text), |config: Config, (sink, name)| {
        config.with_sink(name, Blocking::new(sink.clone()))
    });
    let start = Instant::now();
    let engine = Engine::open(&config).unwrap();
    wait_until("delivery", || taken.load(Ordering::SeqCst) == RECORDS);
    let time = start.elapsed();
    let stats = engine.stats("telemetry").unwrap();
    let backlogs = stats.sinks.iter().filter(|sink| sink.backlog > RECORDS / 2);
    assert_eq!(backlogs.count(), bad.len(), "the others are no good");
    engine.close(LIMIT).unwrap();
    time
}

/// `G-004`, `L-71`: a sink gets what is stored as fast beside a dead, a silent and a slow one as alone. In
/// pairs, each of which sees the machine as it is at the moment; the middle one counts, of more pairs on a
/// machine that is busy otherwise.
#[test]
fn sinks_that_are_no_good_do_not_delay_another() {
    let bad = [Neighbour::Dead, Neighbour::Silent, Neighbour::Slow];
    let mut delays: Vec<f64> = Vec::new();
    let middle = loop {
        for _ in 0..PAIRS {
            let alone = time_to_drain("alone", &[]);
            delays.push(time_to_drain("beside", &bad).as_secs_f64() / alone.as_secs_f64());
        }
        delays.sort_by(f64::total_cmp);
        let middle = delays[delays.len() / 2];
        if middle <= DELAY_MAX || delays.len() >= PAIRS_MAX {
            break middle;
        }
    };
    println!("time beside bad sinks over time alone: {delays:.3?}");
    assert!(middle <= DELAY_MAX, "{delays:?}");
}
