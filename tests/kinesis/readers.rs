//! Programs of others that take apart what arrived. What is not there is fetched once, by pip and npm, into the
//! directory of the build; where that cannot be had, a test says that it left it out.

use std::process::{Command, Stdio};
use std::sync::OnceLock;

use super::aggregates::{append, check_once_in_order, number, stream};
use super::delivery::Run;
use super::server::Server;
use super::wire::{self, Part, parts};
use crate::common::Scratch;

/// Where Python's packages for the tests are; `None`, with a word, when they cannot be had.
pub fn python() -> Option<String> {
    static FOUND: OnceLock<Option<String>> = OnceLock::new();
    FOUND.get_or_init(find_python).clone()
}

fn find_python() -> Option<String> {
    let dir = format!("{}/python", env!("CARGO_TARGET_TMPDIR"));
    let has = || {
        let mut python = Command::new("python3");
        let imports = "import aws_kinesis_agg.deaggregator, zstandard";
        let python = python.args(["-c", imports]).env("PYTHONPATH", &dir);
        let status = python.stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    if !has() {
        let packages = [
            "aws-kinesis-agg==1.2.3",
            "protobuf",
            "six",
            "zstandard==0.25.0",
        ];
        let _ = Command::new("python3")
            .args(["-m", "pip", "install", "-q", "--target", &dir])
            .args(packages)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
    if has() {
        return Some(dir);
    }
    println!(
        "left out: there is no python3 with aws-kinesis-agg and zstandard, nor pip to get them"
    );
    None
}

/// What a program in Python prints.
pub fn run_python(dir: &str, program: &str, input: &str) -> String {
    piped(
        Command::new("python3")
            .args(["-c", program])
            .env("PYTHONPATH", dir),
        input,
    )
}

pub fn piped(command: &mut Command, input: &str) -> String {
    let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = pipes.stderr(Stdio::piped()).spawn().unwrap();
    let (mut pipe, input) = (child.stdin.take().unwrap(), input.to_owned());
    let writer = std::thread::spawn(move || {
        let _ = std::io::Write::write_all(&mut pipe, input.as_bytes());
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// Where the packages of Node are; `None`, with a word, when they cannot be had.
fn node() -> Option<String> {
    let dir = format!("{}/node", env!("CARGO_TARGET_TMPDIR"));
    let has = || {
        let mut node = Command::new("node");
        let node = node.args(["-e", "require('aws-kinesis-agg')"]);
        let node = node.env("NODE_PATH", format!("{dir}/node_modules"));
        let status = node.stdout(Stdio::null()).stderr(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    };
    if !has() {
        let _ = Command::new("npm")
            .args([
                "install",
                "--silent",
                "--no-audit",
                "--no-fund",
                "--ignore-scripts",
                "--prefix",
                &dir,
            ])
            .arg("aws-kinesis-agg@4.2.8")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
    }
    if has() {
        return Some(dir);
    }
    println!("left out: there is no node with aws-kinesis-agg, nor npm to get it");
    None
}

const PYTHON: &str = r#"
import base64, json, sys
from aws_kinesis_agg.deaggregator import deaggregate_records
for record in json.load(sys.stdin)["Records"]:
    record = {"kinesis": {"kinesisSchemaVersion": "1.0", "sequenceNumber": record["SequenceNumber"],
        "approximateArrivalTimestamp": 0, "partitionKey": record["PartitionKey"], "data": record["Data"]}}
    for part in deaggregate_records([record]):
        part = part["kinesis"]
        print(part["partitionKey"].encode().hex(), base64.b64decode(part["data"]).decode())
"#;

/// Checks the sums of aggregates, too, and prints the hash keys that only they have.
const NODE: &str = r#"
const { deaggregateSync } = require("aws-kinesis-agg");
const hex = (text) => Buffer.from(text).toString("hex");
for (const record of JSON.parse(require("fs").readFileSync(0)).Records)
    deaggregateSync(record, true, (error, parts) => {
        if (error) throw error;
        for (const part of parts)
            console.log(hex(part.PartitionKey), Buffer.from(part.Data, "base64").toString(),
                part.ExplicitPartitionKey ?? "-");
    });
"#;

/// `L-94`: two public libraries, which have no code in common, find in aggregates what the tests' own reader
/// does.
#[test]
fn public_libraries_read_aggregates() {
    let (scratch, server) = (Scratch::new("kinesis-aggregates-readers"), Server::new());
    let run = Run::open(&scratch, &stream(&server, "", "", ""));
    append(&run, 0..700);
    run.stream.append("k\u{fc}".as_bytes(), 0, b"700").unwrap();
    run.drained();
    let state = server.state();
    let parts = parts(&state.taken);
    check_once_in_order(&parts, 701);
    let hex = |key: &str| {
        key.bytes()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let line = |part: &Part| format!("{} {}\n", hex(&part.key), number(part));
    let printed = wire::printed(&state.taken);
    if let Some(dir) = python() {
        let found = run_python(&dir, PYTHON, &printed);
        assert_eq!(found, parts.iter().map(line).collect::<String>());
    }
    if let Some(dir) = node() {
        let mut node = Command::new("node");
        let node = node
            .args(["-e", NODE])
            .env("NODE_PATH", format!("{dir}/node_modules"));
        let found = piped(node, &printed);
        let line = |part: &Part| {
            // What goes alone is no aggregate, and of its hash key a reader is not told.
            let is_alone = state.taken[part.of].data == part.data;
            let hash_key = (!is_alone).then(|| part.hash_key.to_string());
            format!(
                "{} {}\n",
                line(part).trim_end(),
                hash_key.as_deref().unwrap_or("-")
            )
        };
        assert!(found.lines().filter(|line| line.ends_with('-')).count() < 10);
        assert_eq!(found, parts.iter().map(line).collect::<String>());
    }
}
