//! What the AWS SDK for Rust needs for the requests of `benches/kinesis.rs`, which runs this program and gives it
//! a server: `aws-sdk-peer PORT RECORDS BATCH LEN LANES` prints seconds by the clock and seconds of CPU.
//!
//! The requests of a lane go one after the other. The first is not measured, the records are made once and
//! cloned for each request, and the runtime is the one with a single thread: the least that this client can do
//! with.

#![allow(clippy::disallowed_methods, clippy::print_stdout)]

use std::time::Instant;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::retry::RetryConfig;
use aws_sdk_kinesis::config::{BehaviorVersion, Config, Credentials, Region};
use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;

/// Seconds of CPU of this process, to the hundredth.
fn cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = text.rsplit_once(") ").unwrap();
    let fields = fields.split(' ').skip(11).take(2);
    fields
        .map(|field| field.parse::<f64>().unwrap())
        .sum::<f64>()
        / 100.0
}

async fn put(client: &Client, records: &[PutRecordsRequestEntry]) {
    let request = client
        .put_records()
        .stream_name("bench")
        .set_records(Some(records.to_vec()));
    let answer = request.send().await.unwrap();
    assert_eq!(answer.failed_record_count(), Some(0));
    assert_eq!(answer.records().len(), records.len());
}

fn main() {
    let numbers: Vec<usize> = std::env::args()
        .skip(1)
        .map(|arg| arg.parse().unwrap())
        .collect();
    let [port, records, batch, len, lanes] = numbers[..] else {
        panic!("aws-sdk-peer PORT RECORDS BATCH LEN LANES");
    };
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .endpoint_url(format!("http://127.0.0.1:{port}/"))
        .credentials_provider(Credentials::new("AKID", "secret", None, None, "bench"))
        .retry_config(RetryConfig::disabled())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    let client = Client::from_conf(config);
    let data: Vec<u8> = (0..len)
        .map(|at| b"{\"temperature\":21.5,"[at % 20])
        .collect();
    let entry = PutRecordsRequestEntry::builder()
        .data(Blob::new(data))
        .partition_key("pump-7")
        .build()
        .unwrap();
    let entries = vec![entry; batch];
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        put(&client, &entries).await;
        let (began, before) = (Instant::now(), cpu());
        let lanes = (0..lanes).map(|_| {
            let (client, entries) = (client.clone(), entries.clone());
            tokio::spawn(async move {
                for _ in 0..records / batch / lanes {
                    put(&client, &entries).await;
                }
            })
        });
        for lane in lanes.collect::<Vec<_>>() {
            lane.await.unwrap();
        }
        println!("{} {}", began.elapsed().as_secs_f64(), cpu() - before);
    });
}
