//! Numbered records, stores for them, and the sinks that take them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use forebay::sink::{Answer, Batch, Blocking, BlockingSink};
use forebay::{Config, Engine, Error, RecordView};

pub const KEY: &[u8] = b"pump-7";

/// The payload of the n-th record: 8 to 600 bytes that only it has.
pub fn payload(n: u64, out: &mut Vec<u8>) {
    let len = 8 + (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 48) as usize % 593;
    out.clear();
    out.extend_from_slice(&n.to_le_bytes());
    out.resize(len, n as u8);
}

/// The number of a record, if it is just as [`payload`] made it.
pub fn number(record: &RecordView<'_>) -> Option<u64> {
    let n = u64::from_le_bytes(record.payload.get(..8)?.try_into().ok()?);
    let mut expected = Vec::new();
    payload(n, &mut expected);
    (record.payload == expected && record.key == KEY).then_some(n)
}

/// A store in `dir` with one stream and a sink of the program's own.
pub fn config(dir: &str, buffer: &str, batch: &str) -> Result<Config, Error> {
    Config::from_json(&format!(
        r#"{{"dataDir": "{dir}", "runDir": "{dir}/run", "streams": [{{"name": "load",
            "sink": {{"type": "callback", "id": "probe"}}, "buffer": {{"volatile": "allow", {buffer}}},
            "batch": {{{batch}}}}}]}}"#
    ))
}

pub fn open(config: Config, sink: impl BlockingSink + 'static) -> Result<Engine, String> {
    let config = config.with_sink("probe", Blocking::new(sink));
    Engine::open(&config).map_err(|error| error.to_string())
}

/// Takes everything, and counts it.
#[derive(Clone, Default)]
pub struct Taker {
    pub taken: Arc<AtomicU64>,
}

impl BlockingSink for Taker {
    fn deliver(&mut self, batch: &Batch<'_>, _timeout: Duration, answer: &mut Answer<'_>) {
        answer.accept_rest();
        self.taken.fetch_add(batch.len() as u64, Ordering::SeqCst);
    }
}

/// Takes nothing.
pub struct Dead;

impl BlockingSink for Dead {
    fn deliver(&mut self, _batch: &Batch<'_>, _timeout: Duration, answer: &mut Answer<'_>) {
        answer.retry_rest(Some(Duration::from_secs(1)));
    }
}

/// The most memory that was resident so far.
pub fn peak_kib() -> Result<u64, String> {
    let status = std::fs::read_to_string("/proc/self/status").map_err(|error| error.to_string())?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let value = line.and_then(|line| line.split_whitespace().nth(1));
    let value = value.and_then(|value| value.parse().ok());
    value.ok_or_else(|| String::from("/proc/self/status has no VmHWM"))
}
