//! How fast a backlog goes to Kinesis: records a second, and seconds of CPU for a million records, from a
//! store by a server in a process of its own; beside it, to the same server in the same run, boto3's
//! `put_records`, and the floor: the same request, signed once, written to a socket again and again.
//!
//! The store's reading is in ours, and in neither of the others. Counts first. `kinesis [RECORDS]`. What is
//! not installed says `LEFT OUT`.

#![allow(clippy::disallowed_methods, clippy::print_stdout, missing_docs)]
#![allow(clippy::cast_precision_loss)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use forebay::{Config, Engine};

const LEN: usize = 200;
const BATCH: usize = 500;
const SERVER: &str = "FOREBAY_BENCH_SERVER";

/// Answers each request for as many records as it names, without a look at its signature.
fn serve() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{}", listener.local_addr().unwrap().port());
    let entry = concat!(
        r#"{"SequenceNumber":"49590338271490256608559692538361571095921575989136588898","#,
        r#""ShardId":"shardId-000000000000"}"#
    );
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || {
            stream.set_nodelay(true).unwrap();
            let mut reader = BufReader::with_capacity(1 << 20, stream);
            let mut body = Vec::new();
            loop {
                let mut len = 0;
                loop {
                    let mut line = String::new();
                    if reader.read_line(&mut line).unwrap_or(0) == 0 {
                        return;
                    }
                    let line = line.trim_end().to_ascii_lowercase();
                    if let Some(text) = line.strip_prefix("content-length:") {
                        len = text.trim().parse().unwrap();
                    }
                    if line.is_empty() {
                        break;
                    }
                }
                body.resize(len, 0);
                reader.read_exact(&mut body).unwrap();
                let names = body.split(|byte| *byte == b'P');
                let count = names
                    .filter(|part| part.starts_with(b"artitionKey"))
                    .count();
                let answer = format!(
                    r#"{{"FailedRecordCount":0,"Records":[{}]}}"#,
                    vec![entry; count].join(",")
                );
                let answer = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: {}\r\n\r\n{answer}",
                    answer.len()
                );
                reader.get_mut().write_all(answer.as_bytes()).unwrap();
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

/// Seconds by the clock and of the CPU.
fn ours(path: &Path, port: u16, records: usize, lanes: u32) -> [f64; 2] {
    let (data, run) = (path.join("data"), path.join("run"));
    let ordering = if lanes == 1 { "stream" } else { "none" };
    let text = format!(
        r#"{{"dataDir": {data:?}, "runDir": {run:?}, "streams": [{{"name": "bench",
            "delivery": {{"ordering": "{ordering}", "maxInFlight": {lanes}}},
            "batch": {{"maxRecords": {BATCH}, "maxLatencyMs": 0}}, "buffer": {{"maxDiskBytes": 4294967296}},
            "sink": {{"type": "kinesis", "streamName": "bench", "region": "eu-west-1",
                "endpointUrl": "http://127.0.0.1:{port}/",
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

fn boto3(port: u16, records: usize) -> Option<[f64; 2]> {
    let numbers = [usize::from(port), records, BATCH, LEN].map(|number| number.to_string());
    let output = Command::new("python3")
        .args(["-c", BOTO3])
        .args(numbers)
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut fields = text.split_whitespace().map(str::parse);
    Some([fields.next()?.ok()?, fields.next()?.ok()?])
}

fn main() {
    if std::env::var_os(SERVER).is_some() {
        return serve();
    }
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let records = args.next().map_or(500_000, |arg| arg.parse().unwrap());
    let server = Server::new();
    let path = std::env::temp_dir().join(format!("forebay-kinesis-{}", std::process::id()));
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!(
        "{records} records of {LEN} B and a key of 6, {BATCH} a request; load {}",
        load.trim()
    );
    let show = |name: &str, records: usize, [wall, cpu]: [f64; 2]| {
        let millions = records as f64 / 1e6;
        println!(
            "{name}: {:.0} records/s, {:.2} CPU s for a million records",
            records as f64 / wall,
            cpu / millions
        );
        cpu / millions
    };
    for _ in 0..3 {
        show("floor", records, floor(server.port, records));
        let one = show("one lane", records, ours(&path, server.port, records, 1));
        show("four lanes", records, ours(&path, server.port, records, 4));
        match boto3(server.port, records / 10) {
            Some(took) => {
                let theirs = show("boto3", records / 10, took);
                println!(
                    "    boto3 takes {:.1} times the CPU of one lane",
                    theirs / one
                );
            }
            None => println!("boto3: LEFT OUT, it is not installed"),
        }
    }
    println!("aws-sdk-kinesis: LEFT OUT, it brings an async runtime");
}
