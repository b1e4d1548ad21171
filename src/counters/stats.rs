//! A snapshot of a board, in the names that users see.

use super::{
    Board, CURSOR_NAME_MAX, CURSORS_MAX, CursorBoard, CursorCounter, ERROR_TEXT_MAX, StreamCounter,
};
use crate::clock::Stamp;
use heapless::{String, Vec};

/// What a sink is doing, or why it is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum SinkState {
    /// Nothing to deliver.
    #[default]
    Idle,
    /// Delivering.
    Ok,
    /// The link or the far side is down.
    Link,
    /// The far side asked to slow down.
    Throttled,
    /// The far side refuses the credentials.
    Auth,
    /// The far side refuses the configuration.
    Config,
    /// Waiting before the next try.
    Backoff,
}

impl SinkState {
    pub(crate) const ALL: [SinkState; 7] = [
        SinkState::Idle,
        SinkState::Ok,
        SinkState::Link,
        SinkState::Throttled,
        SinkState::Auth,
        SinkState::Config,
        SinkState::Backoff,
    ];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            SinkState::Idle => "idle",
            SinkState::Ok => "ok",
            SinkState::Link => "link",
            SinkState::Throttled => "throttled",
            SinkState::Auth => "auth",
            SinkState::Config => "config",
            SinkState::Backoff => "backoff",
        }
    }

    pub(crate) fn number(self) -> u64 {
        self as u64
    }

    pub(crate) fn from_number(number: u64) -> Self {
        let index = usize::try_from(number).unwrap_or(usize::MAX);
        Self::ALL.get(index).copied().unwrap_or_default()
    }
}

/// Whether a stream's records get away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Health {
    /// They do, or there are none.
    #[default]
    Ok,
    /// A sink fails and says so: its state tells how.
    Failing,
    /// Records wait for a sink that is said to work, and for a minute longer than a batch may wait anyway
    /// it has accepted none.
    Stalled,
}

impl Health {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Health::Ok => "ok",
            Health::Failing => "failing",
            Health::Stalled => "stalled",
        }
    }
}

macro_rules! stats {
    (
        $(#[$doc:meta])* $struct:ident { $(#[doc = $line:literal] $name:ident $json:literal,)+ }
        $($rest:tt)*
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Default)]
        #[non_exhaustive]
        pub struct $struct {
            $(#[doc = $line] pub $name: u64,)+
            $($rest)*
        }

        impl $struct {
            /// All numbers with the names that they have in JSON.
            pub fn numbers(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$(($json, self.$name)),+].into_iter()
            }

            /// The same names with what their numbers mean.
            pub fn meanings() -> impl Iterator<Item = (&'static str, &'static str)> {
                [$(($json, $line)),+].into_iter()
            }
        }
    };
}

stats! {
    /// The numbers of a stream. Totals count since the store was opened; offsets outlive that.
    ///
    /// Taking them locks nothing and never holds up a producer.
    Stats {
        /// Records accepted by append.
        appended_total "appendedTotal",
        /// Records accepted by the sinks.
        exported_total "exportedTotal",
        /// Records that a sink never got: all reasons together.
        dropped_total "droppedTotal",
        /// Records sent again.
        retries_total "retriesTotal",
        /// Records given up.
        failed_total "failedTotal",
        /// Records that the slowest sink still has before it.
        backlog "backlog",
        /// Bytes of pages in use.
        disk_bytes "diskBytes",
        /// The next offset that the slowest sink has to acknowledge.
        acked_offset "ackedOffset",
        /// The next offset to hand out.
        next_offset "nextOffset",
        /// How long the oldest record that is not acknowledged has been stored, in milliseconds.
        oldest_unacked_age_ms "oldestUnackedAgeMs",
        /// Records in the ring.
        queued "queued",
        /// The first offset that is not durable.
        durable_offset "durableOffset",
        /// The first offset that is still kept.
        head_offset "headOffset",
        /// Records that were damaged.
        corrupt_total "corruptTotal",
        /// Syncs of the log.
        syncs_total "syncsTotal",
        /// Syncs of the checkpoint.
        checkpoints_total "checkpointsTotal",
        /// Bytes handed to the device: pages, headers, checkpoints, and what prepares new segments.
        written_bytes "writtenBytes",
        /// Bytes of that which only prepare new segments, once for each.
        prepared_bytes "preparedBytes",
        /// Bytes of disk that the store takes.
        allocated_bytes "allocatedBytes",
        /// Bytes of the budget that are to be reserved (`buffer.reserve: all`) and are not yet.
        unreserved_bytes "unreservedBytes",
        /// How long a record has been claimed and not committed, in milliseconds.
        oldest_uncommitted_ms "oldestUncommittedMs",
        /// Records that the quota dropped.
        dropped_quota "droppedQuota",
        /// Records that were too old.
        dropped_age "droppedAge",
        /// Records that were damaged before they were delivered.
        dropped_damage "droppedDamage",
        /// Offsets whose records never became durable.
        dropped_never_durable "droppedNeverDurable",
        /// Records refused at append; they never had an offset.
        rejected_total "rejectedTotal",
        /// Syncs that failed, with the segments that were given up for it.
        poisoned_total "poisonedTotal",
        /// How often the syncer's thread woke up.
        wakeups_total "wakeupsTotal",
        /// Events for which the channel or the stream that gets them had no room.
        events_lost_total "eventsLostTotal",
        /// Records that became dead letters.
        dead_letters_total "deadLettersTotal",
        /// Dead letters that had to go because their log was full.
        dead_letters_dropped_total "deadLettersDroppedTotal",
        /// Records that the open found in the ring of a process that died, and that are not lost.
        ring_recovered_total "ringRecoveredTotal",
        /// Offsets that such a process had claimed and never committed: no append returned them.
        ring_void_total "ringVoidTotal",
        /// Rings that the open refused: of another boot, version or store, or not the last run's.
        ring_refused_total "ringRefusedTotal",
    }
    /// The worst of its sinks' health.
    pub health: Health,
    /// One for each cursor.
    pub sinks: Vec<SinkStats, CURSORS_MAX>,
}

stats! {
    /// The numbers of one sink.
    SinkStats {
        /// Records that it accepted.
        exported_total "exportedTotal",
        /// Records that it never got.
        dropped_total "droppedTotal",
        /// Records sent again.
        retries_total "retriesTotal",
        /// Records given up.
        failed_total "failedTotal",
        /// Records before it.
        backlog "backlog",
        /// The next offset that it has to acknowledge.
        acked_offset "ackedOffset",
        /// How long the oldest record before it has been stored, in milliseconds.
        oldest_unacked_age_ms "oldestUnackedAgeMs",
        /// Records that the quota dropped.
        dropped_quota "droppedQuota",
        /// Records that were too old.
        dropped_age "droppedAge",
        /// Records that were damaged.
        dropped_damage "droppedDamage",
        /// Offsets whose records never became durable.
        dropped_never_durable "droppedNeverDurable",
        /// Panics inside the sink.
        panics_total "panicsTotal",
        /// Records that were sent under another key, because the far side does not take theirs.
        keys_mapped "keysMapped",
        /// Records given up because the process died of them, again and again.
        crash_loops_total "crashLoopsTotal",
        /// Records that got the time of their append: theirs was from before the time of day was known.
        times_corrected "timesCorrected",
        /// Records that were sent with such a time, because nobody knew a better one.
        times_unknown "timesUnknown",
    }
    /// Its name.
    pub name: String<CURSOR_NAME_MAX>,
    /// What it is doing.
    pub state: SinkState,
    /// Whether its records get away.
    pub health: Health,
    /// For how long records have waited of which it accepted none, in milliseconds; 0 when none wait.
    pub still_ms: u64,
    /// Its last error; empty when there was none.
    pub last_export_error: String<ERROR_TEXT_MAX>,
}

impl Board {
    /// A snapshot. `next_offset` is the exact one where the caller shares the ring's process.
    pub fn snapshot(&self, next_offset: Option<u64>, now: Stamp) -> Stats {
        use StreamCounter as S;
        let next_offset = next_offset.unwrap_or_else(|| self.get(S::NextOffset));
        let durable_offset = self.get(S::DurableOffset);
        let head_offset = self.get(S::HeadOffset);
        let since = self.get(S::UncommittedSinceMs);
        let mut stats = Stats {
            appended_total: next_offset
                .saturating_sub(self.get(S::OpenedOffset))
                .saturating_sub(self.get(S::RingRecovered) + self.get(S::RingVoid)),
            disk_bytes: self.get(S::DiskBytes),
            next_offset,
            queued: next_offset.saturating_sub(durable_offset),
            durable_offset,
            head_offset,
            corrupt_total: self.get(S::Corrupt),
            syncs_total: self.get(S::Syncs),
            checkpoints_total: self.get(S::Checkpoints),
            written_bytes: self.get(S::WrittenBytes),
            prepared_bytes: self.get(S::PreparedBytes),
            allocated_bytes: self.get(S::AllocatedBytes),
            unreserved_bytes: self.get(S::UnreservedBytes),
            oldest_uncommitted_ms: match since {
                0 => 0,
                since => now.mono_ms.saturating_sub(since),
            },
            rejected_total: self.rejected(),
            poisoned_total: self.get(S::Poisoned),
            wakeups_total: self.get(S::Wakeups),
            events_lost_total: self.events_lost(),
            dead_letters_total: self.get(S::DeadLetters),
            dead_letters_dropped_total: self.get(S::DeadLettersDropped),
            ring_recovered_total: self.get(S::RingRecovered),
            ring_void_total: self.get(S::RingVoid),
            ring_refused_total: self.get(S::RingRefused),
            dropped_quota: self.get(S::DroppedUnread),
            dropped_age: self.get(S::ExpiredUnread),
            ..Stats::default()
        };
        for index in 0..CURSORS_MAX {
            let cursor = self.cursor(index);
            let name = cursor.name();
            if name.is_empty() {
                break;
            }
            use CursorCounter as C;
            let acked_offset = cursor.place().map_or(head_offset, |place| place.position);
            let reach = acked_offset.max(head_offset);
            let state = SinkState::from_number(cursor.get(C::State));
            let sink = SinkStats {
                health: health(cursor, state, now),
                still_ms: still_ms(cursor, now),
                exported_total: cursor.get(C::Exported),
                retries_total: cursor.get(C::Retries),
                failed_total: cursor.get(C::Failed),
                backlog: next_offset
                    .saturating_sub(reach)
                    .saturating_sub(cursor.get(C::GapsAhead)),
                acked_offset,
                oldest_unacked_age_ms: match cursor.get(C::OldestSince) {
                    0 => 0,
                    since => now.mono_ms.saturating_sub(since - 1),
                },
                dropped_quota: cursor.get(C::DroppedQuota),
                dropped_age: cursor.get(C::DroppedAge),
                dropped_damage: cursor.get(C::DroppedDamage),
                dropped_never_durable: cursor.get(C::DroppedNeverDurable),
                panics_total: cursor.get(C::Panics),
                keys_mapped: cursor.get(C::KeysMapped),
                crash_loops_total: cursor.get(C::CrashLoops),
                times_corrected: cursor.get(C::TimesCorrected),
                times_unknown: cursor.get(C::TimesUnknown),
                dropped_total: 0,
                name,
                state,
                last_export_error: cursor.error(),
            };
            stats.add_sink(sink);
        }
        if stats.sinks.is_empty() {
            stats.acked_offset = head_offset;
            stats.backlog = next_offset.saturating_sub(head_offset);
        }
        // What a sink passed over may be what the open had found.
        let skipped = stats.sinks.iter().map(|sink| sink.dropped_damage).max();
        stats.corrupt_total = stats.corrupt_total.max(skipped.unwrap_or(0));
        stats.dropped_total = stats.dropped_quota + stats.dropped_age + stats.dropped_damage;
        stats
    }
}

/// The health of a sink, by its progress.
fn health(cursor: CursorBoard<'_>, state: SinkState, now: Stamp) -> Health {
    use CursorCounter as C;
    if !matches!(state, SinkState::Idle | SinkState::Ok) {
        return Health::Failing;
    }
    let after = cursor.get(C::StalledAfterMs);
    match after > 0 && still_ms(cursor, now) > after {
        true => Health::Stalled,
        false => Health::Ok,
    }
}

/// For how long records have waited of which none was accepted.
fn still_ms(cursor: CursorBoard<'_>, now: Stamp) -> u64 {
    use CursorCounter as C;
    // A record that came later than the last progress waits only since then.
    match cursor.get(C::OldestSince) {
        0 => 0,
        since => now
            .mono_ms
            .saturating_sub(cursor.get(C::ProgressMs).max(since - 1)),
    }
}

impl Stats {
    /// The last error of the sink that is farthest behind, of those that had one; else empty.
    pub fn last_export_error(&self) -> &str {
        let failed = self
            .sinks
            .iter()
            .filter(|sink| !sink.last_export_error.is_empty());
        let slowest = failed.min_by_key(|sink| sink.acked_offset);
        slowest.map_or("", |sink| sink.last_export_error.as_str())
    }

    fn add_sink(&mut self, mut sink: SinkStats) {
        sink.dropped_total = sink.dropped_quota + sink.dropped_age + sink.dropped_damage;
        self.acked_offset = match self.sinks.is_empty() {
            true => sink.acked_offset,
            false => self.acked_offset.min(sink.acked_offset),
        };
        self.backlog = self.backlog.max(sink.backlog);
        self.health = self.health.max(sink.health);
        self.oldest_unacked_age_ms = self.oldest_unacked_age_ms.max(sink.oldest_unacked_age_ms);
        self.exported_total += sink.exported_total;
        self.retries_total += sink.retries_total;
        self.failed_total += sink.failed_total;
        self.dropped_quota += sink.dropped_quota;
        self.dropped_age += sink.dropped_age;
        self.dropped_damage += sink.dropped_damage;
        self.dropped_never_durable += sink.dropped_never_durable;
        let full = self.sinks.push(sink).is_err();
        assert!(!full, "a board has room for as many sinks as a stream has");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::{CursorBoard, Place};
    use crate::storage::Memory;

    fn place(cursor: CursorBoard<'_>, name: &str, position: u64) {
        cursor.set_name(name);
        cursor.set_place(&Place {
            position,
            ..Place::default()
        });
    }

    /// `G-112`, `G-114`: the stream shows its slowest sink; gaps are not a backlog.
    #[test]
    fn the_stream_shows_its_slowest_sink() {
        let board = Board::new(Memory::private(Board::LEN).unwrap());
        board.set(StreamCounter::HeadOffset, 10);
        place(board.cursor(0), "fast", 90);
        place(board.cursor(1), "slow", 4);
        board.cursor(1).set(CursorCounter::GapsAhead, 30);
        board.cursor(0).add(CursorCounter::Exported, 80);
        board.cursor(1).add(CursorCounter::DroppedQuota, 4);
        let stats = board.snapshot(Some(100), Stamp::default());
        assert_eq!((stats.acked_offset, stats.backlog), (4, 60));
        assert_eq!((stats.exported_total, stats.dropped_total), (80, 4));
        assert_eq!(stats.sinks[0].backlog, 10);
    }

    /// Progress tells: a sink that is said to work, has records before it and accepts none is stalled.
    #[test]
    fn a_sink_without_progress_is_stalled() {
        let board = Board::new(Memory::private(Board::LEN).unwrap());
        place(board.cursor(0), "file", 4);
        let cursor = board.cursor(0);
        let health = |mono_ms| {
            let now = Stamp {
                mono_ms,
                ..Stamp::default()
            };
            let stats = board.snapshot(Some(10), now);
            assert_eq!(stats.health, stats.sinks[0].health);
            stats.health
        };
        cursor.set(CursorCounter::StalledAfterMs, 60_000);
        cursor.set(CursorCounter::ProgressMs, 1000);
        assert_eq!(health(1_000_000), Health::Ok, "nothing waits");
        cursor.set(CursorCounter::OldestSince, 500_000 + 1);
        assert_eq!(health(560_000), Health::Ok);
        assert_eq!(health(560_001), Health::Stalled);
        cursor.set(CursorCounter::ProgressMs, 530_000);
        assert_eq!(health(590_000), Health::Ok);
        assert_eq!(health(590_001), Health::Stalled);
        cursor.set(CursorCounter::State, SinkState::Link.number());
        assert_eq!(health(590_001), Health::Failing);
    }

    /// `G-132`: one table gives both spellings, so they cannot drift apart.
    #[test]
    fn names_in_json_are_the_fields_in_camel_case() {
        let debug = format!("{:?}", Stats::default());
        for (json, _) in Stats::default()
            .numbers()
            .chain(SinkStats::default().numbers())
        {
            let snake: std::string::String = json
                .chars()
                .flat_map(|c| match c.is_ascii_uppercase() {
                    true => vec!['_', c.to_ascii_lowercase()],
                    false => vec![c],
                })
                .collect();
            let sink = format!("{:?}", SinkStats::default());
            assert!(debug.contains(&format!("{snake}:")) || sink.contains(&format!("{snake}:")));
        }
    }
}
