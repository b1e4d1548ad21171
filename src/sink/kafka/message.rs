//! What a record becomes.

use std::fmt::Write;

use super::client::{Headers, Message};
use crate::record::RecordView;
use crate::sink::Batch;

/// Where the records of a batch come from, as their headers say it.
pub struct Origin<'a> {
    stream: &'a str,
    epoch: String,
    offset: String,
}

impl<'a> Origin<'a> {
    pub fn of(batch: &Batch<'a>) -> Self {
        Self {
            stream: batch.stream(),
            epoch: batch.epoch().to_string(),
            offset: String::new(),
        }
    }

    /// The headers of one of the records.
    pub fn headers(&mut self, record: &RecordView<'_>) -> Headers {
        self.offset.clear();
        // Text takes whatever is written to it.
        let _ = write!(self.offset, "{}", record.offset);
        let mut headers = Headers::with_capacity(8);
        headers.add("forebay.stream", self.stream.as_bytes());
        headers.add("forebay.epoch", self.epoch.as_bytes());
        headers.add("forebay.offset", self.offset.as_bytes());
        for (name, value) in record.properties() {
            headers.add(name, value);
        }
        headers
    }
}

/// The message that a record becomes, but for its headers.
pub fn message<'a>(record: &RecordView<'a>, number: u32) -> Message<'a> {
    Message {
        key: record.key,
        payload: record.payload,
        time_ms: i64::try_from(record.time_ms).unwrap_or(i64::MAX),
        number,
    }
}
