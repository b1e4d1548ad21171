//! Streams of several shards, each of which takes so much in a second.

use std::time::{Duration, Instant};

use md5::{Digest, Md5};

use super::delivery::Run;
use super::server::{Act, Server};
use crate::common::Scratch;

/// A shard as the service has it: two buckets that hold what it takes in a second.
#[derive(Clone, Debug)]
pub struct Shard {
    pub number: u64,
    /// The lowest digest that goes there. It ends where the next one begins.
    pub low: u128,
    pub records_per_sec: f64,
    pub bytes_per_sec: f64,
    records: f64,
    bytes: f64,
    filled: Instant,
    /// Records that were taken, and records that were not.
    pub taken: usize,
    pub throttled: usize,
}

impl Shard {
    pub fn new(number: u64, low: u128, records_per_sec: f64) -> Self {
        Self {
            number,
            low,
            records_per_sec,
            bytes_per_sec: 1_048_576.0,
            records: records_per_sec,
            bytes: 1_048_576.0,
            filled: Instant::now(),
            taken: 0,
            throttled: 0,
        }
    }

    /// The number of the shard that takes a record; or what the service says when it does not.
    pub fn place(
        shards: &mut [Self],
        key: &str,
        hash_key: Option<u128>,
        len: usize,
    ) -> Result<u64, String> {
        let of_key = || u128::from_be_bytes(Md5::digest(key.as_bytes()).into());
        let digest = hash_key.unwrap_or_else(of_key);
        let mut below = shards.iter_mut().filter(|shard| shard.low <= digest);
        let Some(shard) = below.next_back() else {
            return Ok(0);
        };
        let (now, len) = (Instant::now(), len as f64);
        let passed = now.duration_since(shard.filled).as_secs_f64();
        shard.filled = now;
        let fill = |has: f64, per_sec: f64| (has + passed * per_sec).min(per_sec);
        shard.records = fill(shard.records, shard.records_per_sec);
        shard.bytes = fill(shard.bytes, shard.bytes_per_sec);
        if shard.records < 0.999 || shard.bytes < len {
            shard.throttled += 1;
            let number = shard.number;
            return Err(format!(
                "Rate exceeded for shard shardId-{number:012} in stream telemetry under account 1."
            ));
        }
        (shard.records, shard.bytes) = (shard.records - 1.0, shard.bytes - len);
        shard.taken += 1;
        Ok(shard.number)
    }
}

const HALF: u128 = 1 << 127;
const DELIVERY: &str = r#","delivery":{"backoffBaseMs":1,"backoffMaxMs":20}"#;

fn open(scratch: &Scratch, server: &Server, sink: &str, delivery: &str) -> Run {
    Run::open(scratch, &server.stream(sink, delivery))
}

/// Records of so many keys, which spread over the shards.
fn append(run: &Run, range: std::ops::Range<u64>, keys: u64) {
    for n in range {
        let (key, payload) = (format!("pump-{}", n % keys), n.to_string());
        run.stream
            .append(key.as_bytes(), 0, payload.as_bytes())
            .unwrap();
    }
}

fn arrived_once(server: &Server, count: u64) {
    let mut payloads = server.payloads();
    payloads.sort_by_key(|text| text.parse::<u64>().unwrap());
    let expected: Vec<_> = (0..count).map(|n| n.to_string()).collect();
    assert!(payloads == expected, "{} of {count}", payloads.len());
}

fn counts(server: &Server) -> (usize, usize) {
    let state = server.state();
    let shards = state.shards.iter();
    shards.fold((0, 0), |(taken, throttled), shard| {
        (taken + shard.taken, throttled + shard.throttled)
    })
}

/// `L-97`: a backlog goes as fast as the shard takes it, in full requests, and the service has never to say no;
/// without the pace it says so for a good part of the records.
#[test]
fn a_shard_is_never_given_more_than_it_takes() {
    const COUNT: u64 = 150;
    for (sink, is_paced) in [(r#","maxShardRecordsPerSec":50"#, true), ("", false)] {
        let (scratch, server) = (Scratch::new("kinesis-shard"), Server::new());
        server.state().shards = vec![Shard::new(0, 0, 50.0)];
        let run = open(&scratch, &server, sink, DELIVERY);
        let began = Instant::now();
        append(&run, 0..COUNT, 5);
        run.drained();
        let (took, (taken, throttled)) = (began.elapsed(), counts(&server));
        assert_eq!(taken as u64, COUNT);
        arrived_once(&server, COUNT);
        let retries = run.stream.stats().retries_total;
        println!("paced {is_paced}: {took:?}, {throttled} throttled, {retries} retries");
        if is_paced {
            assert_eq!((throttled, retries), (0, 0));
            let requests = server.state().requests.len();
            assert!(requests <= 20, "{requests} requests");
        } else {
            assert!(throttled > 10, "{throttled}");
        }
    }
}

/// Two shards take twice as much as one, and a stream that is cut anew costs no more than a few records
/// that come again.
#[test]
fn shards_are_told_apart_and_learned_anew() {
    let (scratch, server) = (Scratch::new("kinesis-reshard"), Server::new());
    server.state().shards = vec![Shard::new(0, 0, 100.0), Shard::new(1, HALF, 100.0)];
    let run = open(
        &scratch,
        &server,
        r#","maxShardRecordsPerSec":100"#,
        DELIVERY,
    );
    let began = Instant::now();
    append(&run, 0..800, 200);
    run.drained();
    let took = began.elapsed();
    // One shard alone would need seven seconds and a half.
    assert!(took < Duration::from_millis(6_500), "{took:?}");
    // A key between what is known of two shards may be taken for the other one's.
    assert!(counts(&server).1 <= 20);
    // Shard 1 becomes two, of which one has hardly any room for a while.
    let quarter = HALF + HALF / 2;
    server.state().shards = vec![
        Shard::new(0, 0, 100.0),
        Shard::new(2, HALF, 100.0),
        Shard::new(3, quarter, 30.0),
    ];
    append(&run, 800..1_200, 200);
    run.drained();
    arrived_once(&server, 1_200);
    let state = server.state();
    let throttled: Vec<_> = state.shards.iter().map(|shard| shard.throttled).collect();
    println!("{took:?} for two, throttled then {throttled:?}");
    assert!(throttled[0] <= 20 && throttled[1] <= 20);
    assert!(state.shards.iter().all(|shard| shard.taken > 50));
}

/// Others send to the same shard: it takes less than it should, and gets less than that soon.
#[test]
fn a_shard_that_takes_less_gets_less() {
    const COUNT: u64 = 1_000;
    let (scratch, server) = (Scratch::new("kinesis-busy-shard"), Server::new());
    server.state().shards = vec![Shard::new(0, 0, 250.0)];
    let run = open(&scratch, &server, "", DELIVERY);
    append(&run, 0..COUNT, 5);
    run.drained();
    arrived_once(&server, COUNT);
    let paced = counts(&server).1;
    println!("{paced} throttled for {COUNT} records");
    // At the full speed of a shard, three of four would be throttled: twice as many as there are.
    assert!(paced < 1_000, "{paced}");
}

/// A request that the service refuses as a whole for its rate slows its shards down, too.
#[test]
fn a_request_that_is_throttled_slows_its_shards() {
    let (scratch, server) = (Scratch::new("kinesis-throttled"), Server::new());
    let mut is_first = true;
    server.script(move |_| match std::mem::take(&mut is_first) {
        true => Act::Refuse(400, "ProvisionedThroughputExceededException"),
        false => Act::Take,
    });
    let run = open(&scratch, &server, "", DELIVERY);
    let began = Instant::now();
    append(&run, 0..10, 5);
    run.drained();
    // The back-off alone would end within 20 ms.
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(450), "{took:?}");
    arrived_once(&server, 10);
}
