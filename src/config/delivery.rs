//! How batches are made and sent.

use std::time::Duration;

use super::Result;
use super::json::Object;
use super::stream::{finish, number32, only, take, time};
use crate::exporter::{IN_FLIGHT_MAX, Ordering};

/// The bounds of a batch where nothing else is said.
pub const BATCH_RECORDS: u32 = 500;
/// See [`BATCH_RECORDS`].
pub const BATCH_BYTES: u32 = 4 << 20;

/// The largest numbers that are accepted.
const BATCH_RECORDS_MAX: u32 = 100_000;
const BATCH_BYTES_MAX: u32 = 64 << 20;

/// How batches are made.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The most records.
    pub max_records: u32,
    /// The most bytes.
    pub max_bytes: u32,
    /// How long the oldest record waits for more.
    pub max_latency: Duration,
}

/// How batches are sent.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// What stays in order.
    pub ordering: Ordering,
    /// The most batches under way at once.
    pub max_in_flight: u32,
    /// How often a record is sent again before it becomes a dead letter; `None`: for ever.
    pub max_retries: Option<u32>,
    /// The range of the first wait.
    pub backoff_base: Duration,
    /// The largest range.
    pub backoff_max: Duration,
}

impl Batch {
    pub(super) fn read(mut object: Option<Object<'_>>) -> Result<Self> {
        let object = &mut object;
        only(object, "compression", &[("none", 0), ("zstd", 1)], 0)?;
        let this = Self {
            max_records: number32(object, "maxRecords", 1, BATCH_RECORDS_MAX, BATCH_RECORDS)?,
            max_bytes: number32(object, "maxBytes", 1, BATCH_BYTES_MAX, BATCH_BYTES)?,
            max_latency: time(object, "maxLatencyMs", 0, 1000)?,
        };
        finish(object.take())?;
        Ok(this)
    }
}

impl Delivery {
    pub(super) fn read(mut object: Option<Object<'_>>) -> Result<Self> {
        let object = &mut object;
        let words = [
            ("stream", Ordering::Stream),
            ("perKey", Ordering::PerKey),
            ("none", Ordering::None),
        ];
        let ordering = match take(object, "ordering") {
            Some(node) => node.word(&words)?,
            None => Ordering::default(),
        };
        let max_retries = match take(object, "maxRetries") {
            Some(node) if node.integer() != Some(-1) => {
                let retries = node.number32(0..=u32::MAX);
                Some(retries.map_err(|_| node.error("must be -1 or 0..=4294967295"))?)
            }
            _ => None,
        };
        let in_flight = if ordering == Ordering::Stream { 1 } else { 4 };
        let max_in_flight = number32(object, "maxInFlight", 1, IN_FLIGHT_MAX, in_flight)?;
        time(object, "pollIntervalMs", 1, 100)?;
        let backoff_base = time(object, "backoffBaseMs", 1, 50)?;
        let least = u64::try_from(backoff_base.as_millis()).unwrap_or(u64::MAX);
        let backoff_max = time(object, "backoffMaxMs", least, 30_000.max(least))?;
        finish(object.take())?;
        Ok(Self {
            ordering,
            max_in_flight,
            max_retries,
            backoff_base,
            backoff_max,
        })
    }
}
