//! Random faults: whatever happens to requests and answers, each record ends once.
//!
//! `SEED=n` plays one schedule, `SCHEDULES=n` so many.

use std::collections::BTreeMap;
use std::time::Duration;

use super::delivery::Run;
use super::server::{Act, Server};
use crate::common::Scratch;

/// Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) % end
    }
}

/// Of requests. Far longer than this machine takes for an answer, however busy it is: what comes later
/// counts as lost.
const TIMEOUT: Duration = Duration::from_secs(5);

fn fault(random: &mut Random, count: usize) -> Act {
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
        13 if random.below(8) == 0 => Act::TakeAndWait(TIMEOUT * 2),
        14 => Act::Refuse(403, "ExpiredTokenException"),
        _ => Act::Take,
    }
}

fn play(seed: u64) {
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
        let is_bad = |record: &serde_json::Value| record["PartitionKey"] == "bad";
        let is_bad = records.iter().any(is_bad);
        if left > 0 {
            left -= 1;
            let act = fault(&mut faults, records.len());
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
    let sink = format!(
        r#","maxRequestRecords":{records},"requestTimeoutMs":{}"#,
        TIMEOUT.as_millis()
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
    run.drained();
    let stats = run.stream.stats();
    let state = server.state();
    assert_eq!(state.refused, [""; 0], "seed {seed}");
    // How often each was taken, and how often with an answer that arrived.
    let mut seen: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for taken in &state.taken {
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

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// `L-85`, `L-87`, `L-S1`: each record is taken once with an answer that arrived, or is a dead letter;
/// what arrives more often is what an answer was lost for.
#[test]
fn each_record_ends_once_whatever_happens() {
    if let Some(seed) = number("SEED") {
        return play(seed);
    }
    for seed in 0..number("SCHEDULES").unwrap_or(24) {
        play(seed);
    }
}
