//! Random faults: whatever happens to requests and answers, each record ends once.
//!
//! `SEED=n` plays one schedule, `SCHEDULES=n` so many, from `FROM` on, `WORLDS` at once, none begun after `SECONDS`.

use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::delivery::Run;
use super::server::{Act, Server};
use super::wire;
use crate::common::{LIMIT, Scratch};

/// Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % end
    }
}

/// Of requests, in schedules without late answers: nothing is late, however busy the machine is.
const TIMEOUT: Duration = Duration::from_secs(3600);
/// The same in those that have some. What a busy machine is late with is lost like those, and the server sees it.
const SHORT_TIMEOUT: Duration = Duration::from_secs(1);

fn fault(random: &mut Random, count: usize, is_late: bool) -> Act {
    let some = |random: &mut Random, code| {
        let every = 1 + usize::try_from(random.below(4)).unwrap();
        (0..count).step_by(every).map(|at| (at, code)).collect()
    };
    match random.below(16) {
        0 => Act::Partly(some(random, "ProvisionedThroughputExceededException")),
        1 => Act::Partly(some(random, "InternalFailure")),
        2 => Act::Refuse(500, "InternalFailure"),
        3 => Act::Refuse(503, "ServiceUnavailable"),
        4 => Act::Refuse(400, "ProvisionedThroughputExceededException"),
        5 => Act::Say(200, "<html><title>Sign in</title></html>".to_owned()),
        6 => Act::Say(502, "bad gateway".to_owned()),
        7 => Act::Say(200, r#"{"FailedRecordCount":0,"Records":[]}"#.to_owned()),
        8 => Act::Cut,
        9 => Act::TakeAndCut,
        10 => Act::TakeAndTruncate(usize::try_from(random.below(100)).unwrap()),
        11 => Act::TakeAndHalve,
        12 => Act::TakeAndMiscount,
        13 if is_late => Act::TakeAndWait(SHORT_TIMEOUT + Duration::from_millis(200)),
        14 => Act::Refuse(403, "ExpiredTokenException"),
        _ => Act::Take,
    }
}

fn play(seed: u64) {
    println!("seed {seed}");
    let is_late = seed % 16 == 7;
    let timeout = if is_late { SHORT_TIMEOUT } else { TIMEOUT };
    let (scratch, server) = (
        Scratch::new(&format!("kinesis-faults-{seed}")),
        Server::new(),
    );
    let mut random = Random(seed);
    let ordering = ["stream", "perKey", "none"][usize::try_from(random.below(3)).unwrap()];
    let records = 1 + random.below(12);
    let mut faults = Random(seed ^ 0x5eed);
    let mut left = 12;
    server.script(move |body| {
        let records = body["Records"].as_array().unwrap();
        let is_bad = |record: &serde_json::Value| wire::keys(record).contains(&"bad".to_owned());
        let is_bad = records.iter().any(is_bad);
        if left > 0 {
            left -= 1;
            let act = fault(&mut faults, records.len(), is_late);
            let takes_none = matches!(act, Act::Refuse(..) | Act::Say(..) | Act::Cut);
            if takes_none || !is_bad {
                return act;
            }
        }
        match is_bad {
            true => Act::Refuse(400, "InvalidArgumentException"),
            false => Act::Take,
        }
    });
    let encoding = ["json", "cbor"][usize::try_from(random.below(2)).unwrap()];
    let aggregation = ["none", "none", "kpl"][usize::try_from(random.below(3)).unwrap()];
    let sink = format!(
        r#","maxRequestRecords":{records},"encoding":"{encoding}","aggregation":"{aggregation}",
        "aggregationGroups":2,"requestTimeoutMs":{},"maxShardRecordsPerSec":1000000"#,
        timeout.as_millis()
    );
    let delivery =
        format!(r#","delivery":{{"backoffBaseMs":1,"backoffMaxMs":3,"ordering":"{ordering}"}}"#);
    let run = Run::open(&scratch, &server.stream(&sink, &delivery));
    let count = 20 + random.below(60);
    let mut bad = Vec::new();
    for n in 0..count {
        let is_bad = n > 0 && random.below(25) == 0;
        let key = match is_bad {
            true => "bad".to_owned(),
            false => format!("pump-{}", random.below(5)),
        };
        bad.extend(is_bad.then(|| n.to_string()));
        run.stream
            .append(key.as_bytes(), 0, n.to_string().as_bytes())
            .unwrap();
    }
    run.stream.flush(LIMIT).unwrap();
    wait_long("delivery", || run.stream.stats().backlog == 0);
    let stats = run.stream.stats();
    // Then the server knows of each answer whether it was read.
    drop(run);
    wait_long("end", || server.state().open == 0);
    let state = server.state();
    assert_eq!(state.refused, [""; 0], "seed {seed}");
    // How often each was taken, and how often with an answer that arrived.
    let mut seen: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for taken in wire::parts(&state.taken) {
        let times = seen
            .entry(String::from_utf8(taken.data.clone()).unwrap())
            .or_default();
        times.0 += 1;
        times.1 += u64::from(!taken.is_lost);
    }
    for n in (0..count).map(|n| n.to_string()) {
        let (times, answered) = seen.get(&n).copied().unwrap_or_default();
        let is_bad = bad.contains(&n);
        assert_eq!(
            answered,
            u64::from(!is_bad),
            "seed {seed}: {n} ends once: taken {times} times"
        );
    }
    assert_eq!(stats.failed_total, bad.len() as u64, "seed {seed}");
    assert_eq!(
        stats.exported_total,
        count - bad.len() as u64,
        "seed {seed}"
    );
    assert_eq!(stats.backlog, 0);
}

pub fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn wait_long(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < LIMIT * 10, "{what}: not yet");
        thread::sleep(Duration::from_millis(2));
    }
}

/// `L-85`, `L-87`, `L-S1`: each record is taken once with an answer that arrived, or is a dead letter;
/// what arrives more often is what an answer was lost for.
#[test]
fn each_record_ends_once_whatever_happens() {
    if let Some(seed) = number("SEED") {
        return play(seed);
    }
    let from = number("FROM").unwrap_or(0);
    let end = from + number("SCHEDULES").unwrap_or(24);
    let time = number("SECONDS").map_or(Duration::MAX, Duration::from_secs);
    let (start, next) = (Instant::now(), AtomicU64::new(from));
    let failed = Mutex::new(Vec::new());
    // Schedules wait more than they work.
    thread::scope(|scope| {
        for _ in 0..number("WORLDS").unwrap_or(4) {
            scope.spawn(|| {
                while start.elapsed() < time {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        break;
                    }
                    if catch_unwind(|| play(seed)).is_err() {
                        failed.lock().unwrap().push(seed);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    let last = next.into_inner().min(end) - 1;
    println!("played {from} to {last} in {:?}", start.elapsed());
    assert!(failed.is_empty(), "seeds that fail: {failed:?}");
}
