//! The numbers of streams and sinks, as C sees them.

use std::ffi::c_char;

use super::callbacks::forebay_sink_state;
use super::pointers::Sized32;
use super::size_of_u32;
use crate::counters::{CURSOR_NAME_MAX, ERROR_TEXT_MAX, Health, SinkStats, Stats};

/// Whether a stream's records get away.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum forebay_health {
    /// They do, or there are none.
    FOREBAY_HEALTH_OK = 0,
    /// A sink fails and says so: its state tells how.
    FOREBAY_HEALTH_FAILING = 1,
    /// Records wait for a sink that is said to work and has accepted none for a minute.
    FOREBAY_HEALTH_STALLED = 2,
}

/// The numbers of a stream. Totals count since the store was opened; offsets outlive that.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct forebay_stats {
    /// `sizeof(forebay_stats)`: to be set before the call.
    pub size: u32,
    /// A `forebay_health`: the worst of its sinks'.
    pub health: i32,
    /// How many sinks it has: `forebay_stream_sink_stats` tells their numbers.
    pub sinks_len: u64,
    /// Records accepted by append.
    pub appended_total: u64,
    /// Records accepted by the sinks.
    pub exported_total: u64,
    /// Records that a sink never got: all reasons together.
    pub dropped_total: u64,
    /// Records sent again.
    pub retries_total: u64,
    /// Records given up.
    pub failed_total: u64,
    /// Records that the slowest sink still has before it.
    pub backlog: u64,
    /// Bytes of pages in use.
    pub disk_bytes: u64,
    /// The next offset that the slowest sink has to acknowledge.
    pub acked_offset: u64,
    /// The next offset to hand out.
    pub next_offset: u64,
    /// How long the oldest record that is not acknowledged has been stored, in milliseconds.
    pub oldest_unacked_age_ms: u64,
    /// Records in the ring.
    pub queued: u64,
    /// The first offset that is not durable.
    pub durable_offset: u64,
    /// The first offset that is still kept.
    pub head_offset: u64,
    /// Records that were damaged.
    pub corrupt_total: u64,
    /// Syncs of the log.
    pub syncs_total: u64,
    /// Syncs of the checkpoint.
    pub checkpoints_total: u64,
    /// Bytes handed to the device: pages, headers, checkpoints, and what prepares new segments.
    pub written_bytes: u64,
    /// Bytes of that which only prepare new segments, once for each.
    pub prepared_bytes: u64,
    /// Bytes of disk that the store takes.
    pub allocated_bytes: u64,
    /// Bytes of the budget that are to be reserved (`buffer.reserve: all`) and are not yet.
    pub unreserved_bytes: u64,
    /// How long a record has been claimed and not committed, in milliseconds.
    pub oldest_uncommitted_ms: u64,
    /// Records that the quota dropped.
    pub dropped_quota: u64,
    /// Records that were too old.
    pub dropped_age: u64,
    /// Records that were damaged before they were delivered.
    pub dropped_damage: u64,
    /// Offsets whose records never became durable.
    pub dropped_never_durable: u64,
    /// Records refused at append; they never had an offset.
    pub rejected_total: u64,
    /// Syncs that failed, with the segments that were given up for it.
    pub poisoned_total: u64,
    /// How often the syncer's thread woke up.
    pub wakeups_total: u64,
    /// Events for which the channel had no room.
    pub events_lost_total: u64,
    /// Records that became dead letters.
    pub dead_letters_total: u64,
    /// Dead letters that had to go because their log was full.
    pub dead_letters_dropped_total: u64,
    /// Records that the open found in the ring of a process that died, and that are not lost.
    pub ring_recovered_total: u64,
    /// Offsets that such a process had claimed and never committed: no append returned them.
    pub ring_void_total: u64,
    /// Rings that the open refused: of another boot, version or store, or not the last run's.
    pub ring_refused_total: u64,
}

/// The numbers of one sink.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct forebay_sink_stats {
    /// `sizeof(forebay_sink_stats)`: to be set before the call.
    pub size: u32,
    /// A `forebay_health`.
    pub health: i32,
    /// A `forebay_sink_state`: what it is doing.
    pub state: i32,
    /// 0.
    pub reserved: u32,
    /// Records that it accepted.
    pub exported_total: u64,
    /// Records that it never got.
    pub dropped_total: u64,
    /// Records sent again.
    pub retries_total: u64,
    /// Records given up.
    pub failed_total: u64,
    /// Records before it.
    pub backlog: u64,
    /// The next offset that it has to acknowledge.
    pub acked_offset: u64,
    /// How long the oldest record before it has been stored, in milliseconds.
    pub oldest_unacked_age_ms: u64,
    /// Records that the quota dropped.
    pub dropped_quota: u64,
    /// Records that were too old.
    pub dropped_age: u64,
    /// Records that were damaged.
    pub dropped_damage: u64,
    /// Offsets whose records never became durable.
    pub dropped_never_durable: u64,
    /// Panics inside the sink.
    pub panics_total: u64,
    /// Records that were sent under another key, because the far side does not take theirs.
    pub keys_mapped: u64,
    /// Records given up because the process died of each of them.
    pub crash_loops_total: u64,
    /// Records sent with the time of their append, because theirs lay before the clock was set.
    pub times_corrected: u64,
    /// Records from before the clock was set whose time could not be found out.
    pub times_unknown: u64,
    /// Its name, with a NUL.
    pub name: [c_char; 65],
    /// Its last error, with a NUL; empty when there was none.
    pub last_export_error: [c_char; 161],
}

const _: () = assert!(CURSOR_NAME_MAX == 64 && ERROR_TEXT_MAX == 160);

impl Sized32 for forebay_stats {
    const WRONG_SIZE: &'static str =
        "stats: stats is null or not aligned, or its size is not sizeof(forebay_stats)";
}

impl Sized32 for forebay_sink_stats {
    const WRONG_SIZE: &'static str =
        "stats: stats is null or not aligned, or its size is not sizeof(forebay_sink_stats)";
}

fn number_of(health: Health) -> i32 {
    let health = match health {
        Health::Ok => forebay_health::FOREBAY_HEALTH_OK,
        Health::Failing => forebay_health::FOREBAY_HEALTH_FAILING,
        Health::Stalled => forebay_health::FOREBAY_HEALTH_STALLED,
    };
    health as i32
}

/// A text with a NUL; the texts of sinks have bounds, for which there is room.
fn chars<const LEN: usize>(text: &str) -> [c_char; LEN] {
    let mut chars = [0; LEN];
    for (to, byte) in chars[..LEN - 1].iter_mut().zip(text.bytes()) {
        *to = c_char::from_le_bytes([byte]);
    }
    chars
}

impl forebay_stats {
    pub(super) fn of(stats: &Stats) -> Self {
        Self {
            size: size_of_u32::<Self>(),
            health: number_of(stats.health),
            sinks_len: stats.sinks.len() as u64,
            appended_total: stats.appended_total,
            exported_total: stats.exported_total,
            dropped_total: stats.dropped_total,
            retries_total: stats.retries_total,
            failed_total: stats.failed_total,
            backlog: stats.backlog,
            disk_bytes: stats.disk_bytes,
            acked_offset: stats.acked_offset,
            next_offset: stats.next_offset,
            oldest_unacked_age_ms: stats.oldest_unacked_age_ms,
            queued: stats.queued,
            durable_offset: stats.durable_offset,
            head_offset: stats.head_offset,
            corrupt_total: stats.corrupt_total,
            syncs_total: stats.syncs_total,
            checkpoints_total: stats.checkpoints_total,
            written_bytes: stats.written_bytes,
            prepared_bytes: stats.prepared_bytes,
            allocated_bytes: stats.allocated_bytes,
            unreserved_bytes: stats.unreserved_bytes,
            oldest_uncommitted_ms: stats.oldest_uncommitted_ms,
            dropped_quota: stats.dropped_quota,
            dropped_age: stats.dropped_age,
            dropped_damage: stats.dropped_damage,
            dropped_never_durable: stats.dropped_never_durable,
            rejected_total: stats.rejected_total,
            poisoned_total: stats.poisoned_total,
            wakeups_total: stats.wakeups_total,
            events_lost_total: stats.events_lost_total,
            dead_letters_total: stats.dead_letters_total,
            dead_letters_dropped_total: stats.dead_letters_dropped_total,
            ring_recovered_total: stats.ring_recovered_total,
            ring_void_total: stats.ring_void_total,
            ring_refused_total: stats.ring_refused_total,
        }
    }
}

impl forebay_sink_stats {
    pub(super) fn of(sink: &SinkStats) -> Self {
        Self {
            size: size_of_u32::<Self>(),
            health: number_of(sink.health),
            state: forebay_sink_state::from(sink.state) as i32,
            reserved: 0,
            exported_total: sink.exported_total,
            dropped_total: sink.dropped_total,
            retries_total: sink.retries_total,
            failed_total: sink.failed_total,
            backlog: sink.backlog,
            acked_offset: sink.acked_offset,
            oldest_unacked_age_ms: sink.oldest_unacked_age_ms,
            dropped_quota: sink.dropped_quota,
            dropped_age: sink.dropped_age,
            dropped_damage: sink.dropped_damage,
            dropped_never_durable: sink.dropped_never_durable,
            panics_total: sink.panics_total,
            keys_mapped: sink.keys_mapped,
            crash_loops_total: sink.crash_loops_total,
            times_corrected: sink.times_corrected,
            times_unknown: sink.times_unknown,
            name: chars(&sink.name),
            last_export_error: chars(&sink.last_export_error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `G-132`: what Rust counts, C counts, under the same names: none is missing.
    #[test]
    fn the_names_in_c_are_those_of_rust() {
        let snake = |name: &str| {
            let parts = name.chars().map(|c| match c.is_ascii_uppercase() {
                true => format!("_{}", c.to_ascii_lowercase()),
                false => c.to_string(),
            });
            format!(" {}: ", parts.collect::<String>())
        };
        let stats = Stats::default();
        let shown = format!("{:?}", forebay_stats::of(&stats));
        for (name, _) in stats.numbers() {
            assert!(shown.contains(&snake(name)), "{name}");
        }
        let sink = SinkStats::default();
        let shown = format!("{:?}", forebay_sink_stats::of(&sink));
        for (name, _) in sink.numbers() {
            assert!(shown.contains(&snake(name)), "{name}");
        }
    }
}
