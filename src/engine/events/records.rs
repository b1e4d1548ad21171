//! Events as records of a stream that the configuration names (`eventsStream`).
//!
//! Whoever tells an event appends it, and never waits: what the stream has no room for, or comes too fast, is
//! counted with the stream that it is about (`eventsLostTotal`). Events about the stream itself are not
//! appended, or each would bring the next. Nothing is allocated.

use std::fmt::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use heapless::String;

use super::{Event, EventKind};
use crate::clock::{Clock, Mono};
use crate::engine::Stream;
use crate::record::Record;

/// The most events that become records within a second.
pub const EVENT_RECORDS_MAX: u32 = 100;
/// The longest such record, in bytes: with the longest names.
const LEN_MAX: usize = 640;

/// Appends events to a stream.
pub struct EventRecords {
    name: std::string::String,
    clock: Arc<dyn Clock>,
    stream: OnceLock<Stream>,
    pace: Pace,
}

impl EventRecords {
    pub fn new(name: &str, clock: &Arc<dyn Clock>) -> Self {
        Self {
            name: name.to_owned(),
            clock: Arc::clone(clock),
            stream: OnceLock::new(),
            pace: Pace::default(),
        }
    }

    /// The stream is open.
    pub fn begin(&self, stream: &Stream) {
        if stream.name() == self.name {
            let _ = self.stream.set(stream.clone());
        }
    }

    /// Appends it. False: it is lost.
    pub fn append(&self, event: &Event) -> bool {
        if *event.stream == *self.name {
            return true;
        }
        let (now, mut text) = (self.clock.stamp(), String::<LEN_MAX>::new());
        let Some(stream) = self.stream.get() else {
            return false;
        };
        self.pace.allows(self.clock.mono())
            && write(&mut text, event, now.wall_ms).is_ok()
            && stream.offer(&Record::new(
                event.stream.as_bytes(),
                now.wall_ms,
                text.as_bytes(),
            ))
    }
}

/// An object of a line. Names need no escapes: the configuration takes letters, digits and `._-` only.
pub(super) fn write(text: &mut impl Write, event: &Event, time_ms: u64) -> fmt::Result {
    let Event { stream, kind } = event;
    let name = kind.name();
    write!(
        text,
        r#"{{"event":"{name}","stream":"{stream}","timeMs":{time_ms}"#
    )?;
    match kind {
        EventKind::BacklogOver(percent) | EventKind::BacklogUnder(percent) => {
            write!(text, r#","percent":{percent}"#)?;
        }
        EventKind::Sink { name, state } => {
            write!(text, r#","sink":"{name}","state":"{}""#, state.name())?;
        }
        EventKind::Damage {
            store,
            start,
            end,
            records,
        } => write!(
            text,
            r#","id":"{store}-{start}","start":{start},"end":{end},"records":{records}"#
        )?,
        EventKind::CrashLoop { name, records } => {
            write!(text, r#","sink":"{name}","records":{records}"#)?;
        }
        EventKind::ClockStepped { by_ms } => write!(text, r#","byMs":{by_ms}"#)?,
        EventKind::DroppingBegan | EventKind::DroppingEnded | EventKind::Poisoned => {}
    }
    text.write_char('}')
}

/// Lets [`EVENT_RECORDS_MAX`] through in each second.
#[derive(Default)]
struct Pace(AtomicU64);

impl Pace {
    fn allows(&self, now: Mono) -> bool {
        let second = now.as_millis() / 1000;
        let next = |word: u64| match word >> 32 == second {
            false => Some(second << 32 | 1),
            true if word & 0xffff_ffff < EVENT_RECORDS_MAX.into() => Some(word + 1),
            true => None,
        };
        let (relaxed, set) = (Ordering::Relaxed, Ordering::Relaxed);
        self.0.fetch_update(set, relaxed, next).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::SinkState;
    use crate::format::StoreId;

    #[test]
    fn so_many_events_of_a_second_become_records() {
        let pace = Pace::default();
        let allowed = |ms: u64| {
            let tries = 0..2 * EVENT_RECORDS_MAX;
            tries.filter(|_| pace.allows(Mono(ms * 1_000_000))).count()
        };
        let all = EVENT_RECORDS_MAX as usize;
        assert_eq!(
            [0, 999, 1000, 1500, 2_000_000].map(allowed),
            [all, 0, all, 0, all]
        );
    }

    #[test]
    fn the_longest_event_fits_a_record() {
        let name: Arc<str> = "n".repeat(64).into();
        let all = u64::MAX;
        let kinds = [
            EventKind::Damage {
                store: StoreId([255; 16]),
                start: all,
                end: all,
                records: all,
            },
            EventKind::Sink {
                name: Arc::clone(&name),
                state: SinkState::Throttled,
            },
            EventKind::CrashLoop { name, records: all },
        ];
        for kind in kinds {
            let stream = "s".repeat(249).into();
            let mut text = String::<LEN_MAX>::new();
            assert!(write(&mut text, &Event { stream, kind }, all).is_ok());
        }
    }
}
