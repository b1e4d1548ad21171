//! A sink of the host's that remembers what it was given.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use forebay::sink::{Answer, Batch, BlockingSink};

/// A stream named `telemetry` for sinks of the test's own, with more fields.
pub fn callback_stream(more: &str) -> String {
    format!(
        r#"{{"name": "telemetry", "sink": {{"type": "callback", "id": "test"}},
            "batch": {{"maxLatencyMs": 5}} {more}}}"#
    )
}

/// A record as a sink got it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Got {
    pub offset: u64,
    pub key: Vec<u8>,
    pub time_ms: u64,
    pub payload: Vec<u8>,
    pub properties: Vec<(String, Vec<u8>)>,
    pub source: Option<(String, Vec<u8>)>,
}

type Deliver = dyn FnMut(&Batch<'_>, &mut Answer<'_>) + Send;

/// A sink that does what it is told and remembers what it was given. Its clones share what they have.
#[derive(Clone, Default)]
pub struct Collect {
    got: Arc<Mutex<Vec<Got>>>,
    deliver: Option<Arc<Mutex<Box<Deliver>>>>,
}

impl Collect {
    /// Answers by `deliver`, and then accepts what has no answer.
    pub fn with(deliver: impl FnMut(&Batch<'_>, &mut Answer<'_>) + Send + 'static) -> Self {
        Self {
            deliver: Some(Arc::new(Mutex::new(Box::new(deliver)))),
            ..Self::default()
        }
    }

    /// Everything that it got, in order.
    pub fn got(&self) -> Vec<Got> {
        self.got.lock().unwrap().clone()
    }

    pub fn offsets(&self) -> Vec<u64> {
        let got = self.got.lock().unwrap();
        got.iter().map(|record| record.offset).collect()
    }
}

impl BlockingSink for Collect {
    fn deliver(&mut self, batch: &Batch<'_>, _timeout: Duration, answer: &mut Answer<'_>) {
        if let Some(deliver) = &self.deliver {
            // It may have panicked the last time.
            let mut deliver = deliver.lock().unwrap_or_else(PoisonError::into_inner);
            deliver(batch, answer);
        }
        let own = |(name, value): (&str, &[u8])| (name.to_owned(), value.to_vec());
        self.got.lock().unwrap().extend(batch.iter().map(|record| {
            Got {
                offset: record.offset,
                key: record.key.to_vec(),
                time_ms: record.time_ms,
                payload: record.payload.to_vec(),
                properties: record.properties().map(own).collect(),
                source: record
                    .source()
                    .map(|source| own((source.name, source.position))),
            }
        }));
        answer.accept_rest();
    }
}
