//! What an exporter is told.

use std::time::Duration;

/// The most batches under way at once.
pub const IN_FLIGHT_MAX: u32 = 8;

/// What stays in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Ordering {
    /// The stream: no later request before the records that failed are through.
    #[default]
    Stream,
    /// The records of each key: only those of the same key wait for one that failed.
    PerKey,
    /// Nothing.
    None,
}

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
    /// What stays in order.
    pub ordering: Ordering,
    /// The most batches under way at once, as far as the sink takes them and the order allows it.
    pub in_flight_max: u32,
    /// The range from which the first wait is drawn; it doubles.
    pub backoff_base: Duration,
    /// The largest range.
    pub backoff_max: Duration,
    /// How often a record is sent again before it becomes a dead letter; `None`: for ever.
    pub retries_max: Option<u32>,
    /// Records from before the time of day was known get the time of their append, once it can be told.
    pub rebases: bool,
    /// Where the jitter starts.
    pub seed: u64,
}

impl Options {
    /// How many batches are under way at once, to a sink that takes so many and keeps their order or not.
    pub fn lanes(&self, in_flight_max: u32, keeps_order: bool) -> usize {
        let lanes = match self.ordering {
            Ordering::Stream if !keeps_order => 1,
            _ => self
                .in_flight_max
                .min(in_flight_max)
                .clamp(1, IN_FLIGHT_MAX),
        };
        lanes as usize
    }
}

/// How many buffers of records so many lanes take: one each; where what fails holds up nothing else, one
/// more for that; and where each lane needs keys of its own, as many again to find them in.
pub fn buffers(lanes: usize, ordering: Ordering) -> usize {
    match ordering {
        Ordering::Stream => lanes,
        Ordering::PerKey => 2 * lanes,
        Ordering::None => lanes + 1,
    }
}
