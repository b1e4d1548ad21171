//! What an exporter is told.

use std::time::Duration;

/// How batches are made and sent.
#[derive(Clone, Debug)]
pub struct Options {
    /// The stream's name.
    pub stream: String,
    /// The most records in a batch.
    pub records_max: u32,
    /// The most bytes in a batch.
    pub bytes_max: u32,
    /// The longest record.
    pub body_len_max: u32,
    /// How long a batch that is not full waits for more.
    pub linger: Duration,
    /// The range from which the first wait is drawn; it doubles.
    pub backoff_base: Duration,
    /// The largest range.
    pub backoff_max: Duration,
    /// How often a record is sent again before it becomes a dead letter; `None`: for ever.
    pub retries_max: Option<u32>,
    /// Where the jitter starts.
    pub seed: u64,
}
