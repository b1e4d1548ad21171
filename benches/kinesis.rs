//! How fast a backlog goes to Kinesis: records a second, and seconds of CPU for a million records, from a
//! store to a server in a process of its own; beside it, to the same server in the same run, the AWS SDK for
//! Rust, boto3's `put_records`, and the floor: the same request, signed once, written to a socket again and
//! again.
//!
//! The store's reading is in ours, and in none of the others. In turn, `ROUNDS` (3) times; then the medians.
//! `kinesis [RECORDS]`; with `ONLY` just the rows that have this in their name. The SDK is a program of its own
//! (`benches/aws-sdk`), which `PEERS=1` builds first. What is not there says `LEFT OUT`.

#![allow(clippy::disallowed_methods, clippy::print_stdout, missing_docs)]
#![allow(clippy::cast_precision_loss)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use forebay::{Config, Engine};

const LEN: usize = 200;
const BATCH: usize = 500;
const SERVER: &str = "FOREBAY_BENCH_SERVER";

const NUMBER: &str = "49590338271490256608559692538361571095921575989136588898";
const SHARD: &str = "shardId-000000000000";

fn json(count: usize) -> Vec<u8> {
    let entry = format!(r#"{{"SequenceNumber":"{NUMBER}","ShardId":"{SHARD}"}}"#);
    let entries = vec![entry; count].join(",");
    format!(r#"{{"FailedRecordCount":0,"Records":[{entries}]}}"#).into_bytes()
}

fn cbor(count: usize) -> Vec<u8> {
    let text = |text: &str| {
        let len = u8::try_from(text.len()).unwrap();
        let mut bytes = if len < 24 {
            vec![0x60 | len]
        } else {
            vec![0x78, len]
        };
        bytes.extend(text.bytes());
        bytes
    };
    let names = ["SequenceNumber", NUMBER, "ShardId", SHARD]
        .map(text)
        .concat();
    let count_be = u32::try_from(count).unwrap().to_be_bytes();
    let mut bytes = [
        &[0xa2],
        &text("FailedRecordCount")[..],
        &[0],
        &text("Records"),
        &[0x9a],
        &count_be,
    ]
    .concat();
    (0..count).for_each(|_| bytes.extend([&[0xa2], &names[..]].concat()));
    bytes
}

/// Requests, entries in them, and their bytes with their heads.
static TAKEN: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];

/// What was taken since somebody asked last.
fn taken() -> String {
    TAKEN
        .each_ref()
        .map(|number| number.swap(0, Relaxed).to_string())
        .join(" ")
}

/// Answers each request for as many records as it names, without a look at its signature, and `GET` with what
/// was taken.
fn serve() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{}", listener.local_addr().unwrap().port());
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || {
            stream.set_nodelay(true).unwrap();
            let mut reader = BufReader::with_capacity(1 << 20, stream);
            let mut body = Vec::new();
            loop {
                let (mut len, mut is_cbor, mut is_get, mut head_len) = (0, false, false, 0);
                loop {
                    let mut line = String::new();
                    match reader.read_line(&mut line).unwrap_or(0) {
                        0 => return,
                        len => head_len += len,
                    }
                    is_get |= line.starts_with("GET ");
                    let line = line.trim_end().to_ascii_lowercase();
                    if let Some(text) = line.strip_prefix("content-length:") {
                        len = text.trim().parse().unwrap();
                    }
                    is_cbor |=
                        line.starts_with("content-type:") && line.ends_with("x-amz-cbor-1.1");
                    if line.is_empty() {
                        break;
                    }
                }
                if is_get {
                    reader.get_mut().write_all(taken().as_bytes()).unwrap();
                    return;
                }
                body.resize(len, 0);
                reader.read_exact(&mut body).unwrap();
                let names = body.split(|byte| *byte == b'P');
                let count = names
                    .filter(|part| part.starts_with(b"artitionKey"))
                    .count();
                let added = [1, count, head_len + len];
                for (number, added) in TAKEN.iter().zip(added) {
                    number.fetch_add(added as u64, Relaxed);
                }
                let answer = if is_cbor { cbor(count) } else { json(count) };
                let kind = if is_cbor { "cbor" } else { "json" };
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-{kind}-1.1\r\nContent-Length: {}\r\n\r\n",
                    answer.len()
                );
                let answer = [head.as_bytes(), &answer].concat();
                reader.get_mut().write_all(&answer).unwrap();
            }
        });
    }
}

struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn new() -> Self {
        let own = std::env::current_exe().unwrap();
        let mut command = Command::new(own);
        command.env(SERVER, "1").stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        let port = line.trim().parse().unwrap();
        Self { child, port }
    }

    /// What it took since the last call: requests, entries, bytes.
    fn taken(&self) -> [f64; 3] {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let numbers: Vec<f64> = text.split(' ').map(|text| text.parse().unwrap()).collect();
        numbers.try_into().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Seconds of CPU of this process, to the hundredth.
fn cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = text.rsplit_once(") ").unwrap();
    let ticks: Vec<u64> = fields
        .split(' ')
        .skip(11)
        .take(2)
        .map(|field| field.parse().unwrap())
        .collect();
    (ticks[0] + ticks[1]) as f64 / 100.0
}

fn payload() -> Vec<u8> {
    (0..LEN)
        .map(|at| b"{\"temperature\":21.5,"[at % 20])
        .collect()
}

/// How records go: settings of the sink, those of the batch, lanes.
type Way = (&'static str, &'static str, &'static str, u32);

const PLAIN: &str = r#""maxRecords": 500"#;
const MANY: &str = r#""maxRecords": 50000, "maxBytes": 8388608"#;
const KPL: &str = r#", "aggregation": "kpl""#;
const KPL_CBOR: &str = r#", "aggregation": "kpl", "encoding": "cbor""#;
const ZSTD: &str = r#""maxRecords": 50000, "maxBytes": 8388608, "compression": "zstd""#;
const WAYS: [Way; 7] = [
    ("JSON, one lane", "", PLAIN, 1),
    ("JSON, four lanes", "", PLAIN, 4),
    ("CBOR, one lane", r#", "encoding": "cbor""#, PLAIN, 1),
    ("KPL in JSON", KPL, MANY, 1),
    ("KPL in CBOR", KPL_CBOR, MANY, 1),
    ("KPL with zstd in JSON", KPL, ZSTD, 1),
    ("KPL with zstd in CBOR", KPL_CBOR, ZSTD, 1),
];

/// Seconds by the clock and of the CPU.
fn ours(path: &Path, port: u16, records: usize, way: &Way) -> [f64; 2] {
    let (_, sink, batch, lanes) = *way;
    let (data, run) = (path.join("data"), path.join("run"));
    let ordering = if lanes == 1 { "stream" } else { "none" };
    let text = format!(
        r#"{{"dataDir": {data:?}, "runDir": {run:?}, "streams": [{{"name": "bench",
            "delivery": {{"ordering": "{ordering}", "maxInFlight": {lanes}}},
            "batch": {{{batch}, "maxLatencyMs": 0}}, "buffer": {{"maxDiskBytes": 4294967296}},
            "sink": {{"type": "kinesis", "streamName": "bench", "region": "eu-west-1",
                "endpointUrl": "http://127.0.0.1:{port}/"{sink},
                "maxShardRecordsPerSec": 1000000, "maxShardBytesPerSec": 1073741824,
                "credentials": {{"type": "static", "accessKeyId": "AKID", "secretAccessKey": "secret"}}}}}}]}}"#
    );
    let config = Config::from_json(&text).unwrap();
    let engine = Engine::open_to_store(&config).unwrap();
    let stream = engine.stream("bench").unwrap();
    let payload = payload();
    for n in 0..records as u64 {
        while stream.append(b"pump-7", n, &payload).is_err() {
            std::thread::yield_now();
        }
    }
    stream.flush(Duration::from_secs(120)).unwrap();
    engine.close(Duration::from_secs(60)).unwrap();
    let (began, before) = (Instant::now(), cpu());
    let engine = Engine::open(&config).unwrap();
    let stream = engine.stream("bench").unwrap();
    while stream.stats().backlog > 0 {
        std::thread::sleep(Duration::from_millis(1));
    }
    let took = [began.elapsed().as_secs_f64(), cpu() - before];
    engine.close(Duration::from_secs(60)).unwrap();
    let _ = std::fs::remove_dir_all(path);
    took
}

fn floor(port: u16, records: usize) -> [f64; 2] {
    let data = "eyJ0".repeat(LEN.div_ceil(3));
    let record = format!(r#"{{"Data":"{data}","PartitionKey":"pump-7"}}"#);
    let body = format!(
        r#"{{"StreamName":"bench","Records":[{}]}}"#,
        vec![record; BATCH].join(",")
    );
    let head = format!(
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let request = head + &body;
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut bytes = vec![0; 1 << 20];
    let (began, before) = (Instant::now(), cpu());
    for _ in 0..records / BATCH {
        stream.write_all(request.as_bytes()).unwrap();
        let mut len = 0;
        while !bytes[..len].ends_with(b"]}") {
            len += stream.read(&mut bytes[len..]).unwrap();
        }
    }
    [began.elapsed().as_secs_f64(), cpu() - before]
}

const BOTO3: &str = r#"
import resource, sys, time
import boto3
from botocore.config import Config
port, records, batch, size = (int(text) for text in sys.argv[1:])
client = boto3.client("kinesis", region_name="eu-west-1", endpoint_url=f"http://127.0.0.1:{port}/",
    aws_access_key_id="AKID", aws_secret_access_key="secret", config=Config(retries={"max_attempts": 1}))
data = (b'{"temperature":21.5,' * size)[:size]
request = [{"Data": data, "PartitionKey": "pump-7"} for _ in range(batch)]
def cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime
client.put_records(StreamName="bench", Records=request)
began, before = time.monotonic(), cpu()
for _ in range(records // batch):
    client.put_records(StreamName="bench", Records=request)
print(time.monotonic() - began, cpu() - before)
"#;

/// The two numbers that a program of somebody else's prints.
fn peer(command: &mut Command, numbers: &[usize]) -> Option<[f64; 2]> {
    let numbers = numbers.iter().map(ToString::to_string);
    let output = command.args(numbers).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut fields = text.split_whitespace().map(str::parse);
    Some([fields.next()?.ok()?, fields.next()?.ok()?])
}

/// The program with the AWS SDK, which `PEERS` builds.
fn sdk() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let target = own.ancestors().nth(3).unwrap().join("aws-sdk");
    if std::env::var_os("PEERS").is_some() {
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "-q", "--release", "--locked", "--target-dir"]);
        build.arg(&target).arg("--manifest-path");
        build.arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/benches/aws-sdk/Cargo.toml"
        ));
        assert!(build.status().unwrap().success(), "the SDK cannot be built");
    }
    target.join("release/aws-sdk-peer")
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    if std::env::var_os(SERVER).is_some() {
        return serve();
    }
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let records = args.next().map_or(500_000, |arg| arg.parse().unwrap());
    let rounds = std::env::var("ROUNDS").map_or(3, |text| text.parse().unwrap());
    let only = std::env::var("ONLY").unwrap_or_default();
    let sdk = sdk();
    let server = Server::new();
    let path = std::env::temp_dir().join(format!("forebay-kinesis-{}", std::process::id()));
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!(
        "{records} records of {LEN} B and a key of 6, {BATCH} a request; load {}",
        load.trim()
    );
    let mut rows: Vec<(&str, Vec<[f64; 5]>)> = Vec::new();
    for round in 0..rounds {
        let mut note = |name: &'static str, records: usize, run: &dyn Fn() -> Option<[f64; 2]>| {
            if !name.contains(&only) {
                return;
            }
            let _ = server.taken();
            let Some([wall, cpu]) = run() else {
                println!("{name}: LEFT OUT, it is not there");
                return;
            };
            let (speed, cost) = (records as f64 / wall, cpu / (records as f64 / 1e6));
            println!("{round} {name}: {speed:.0} records/s, {cost:.2} CPU s for a million records");
            let [requests, entries, bytes] = server.taken().map(|count| count / records as f64);
            let figures = [speed, cost, requests * 1e6, entries * 1e6, bytes];
            match rows.iter_mut().find(|row| row.0 == name) {
                Some(row) => row.1.push(figures),
                None => rows.push((name, vec![figures])),
            }
        };
        note("floor", records, &|| Some(floor(server.port, records)));
        for way in &WAYS {
            if cfg!(feature = "zstd") || way.2 != ZSTD {
                note(way.0, records, &|| {
                    Some(ours(&path, server.port, records, way))
                });
            }
        }
        let port = usize::from(server.port);
        for (name, lanes) in [("AWS SDK, one lane", 1), ("AWS SDK, four lanes", 4)] {
            let numbers = [port, records, BATCH, LEN, lanes];
            note(name, records, &|| peer(&mut Command::new(&sdk), &numbers));
        }
        let numbers = [port, records / 10, BATCH, LEN];
        note("boto3", records / 10, &|| {
            peer(Command::new("python3").args(["-c", BOTO3]), &numbers)
        });
    }
    let of = |row: &(&str, Vec<[f64; 5]>), at: usize| {
        median(row.1.iter().map(|took| took[at]).collect())
    };
    let theirs = rows
        .iter()
        .filter(|row| row.0.starts_with("AWS SDK") || row.0 == "boto3");
    let best = theirs.map(|row| of(row, 1)).min_by(f64::total_cmp);
    println!(
        "\n| medians of {rounds} | records/s | CPU s a million | times the best AWS client, by CPU \
        | requests a million | entries a million | bytes sent a record |"
    );
    println!("|---|---|---|---|---|---|---|");
    for row in &rows {
        let [speed, cost, requests, entries, bytes] = [0, 1, 2, 3, 4].map(|at| of(row, at));
        let times = best.map_or(String::new(), |best| format!("{:.2}", best / cost));
        println!(
            "| {} | {speed:.0} | {cost:.2} | {times} | {requests:.0} | {entries:.0} | {bytes:.1} |",
            row.0
        );
    }
}
