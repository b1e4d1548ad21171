//! What is said when something happens to a stream.

use crate::counters::SinkState;
use crate::engine::{Event, EventKind};

/// Logs an event. Returns it in words.
pub fn tell(event: &Event) -> String {
    let text = format!("{}: {}", event.stream, text(&event.kind));
    match &event.kind {
        // Who found these out has said so already.
        EventKind::Sink { .. } | EventKind::Damage { .. } | EventKind::Poisoned => {
            log::debug!("event: {text}");
        }
        EventKind::DroppingEnded | EventKind::BacklogUnder(_) => log::info!("{text}"),
        _ => log::warn!("{text}"),
    }
    text
}

/// What happened, in words.
fn text(kind: &EventKind) -> String {
    match kind {
        EventKind::DroppingBegan => "records are dropped to make room".to_owned(),
        EventKind::DroppingEnded => "no more records are dropped".to_owned(),
        EventKind::BacklogOver(percent) => format!("the backlog takes {percent} % of the budget"),
        EventKind::BacklogUnder(percent) => {
            format!("the backlog takes less than {percent} % of the budget again")
        }
        EventKind::Sink { name, state } => match state {
            SinkState::Idle | SinkState::Ok => format!("sink {name} works again"),
            state => format!("sink {name} does not work: {}", state.name()),
        },
        EventKind::Damage {
            start,
            end,
            records,
            ..
        } => {
            let last = end.saturating_sub(1);
            format!("{records} records between offsets {start} and {last} are damaged")
        }
        EventKind::CrashLoop { name, records } => {
            format!("{records} records are given up: the process died of them in sink {name}")
        }
        EventKind::ClockStepped { by_ms } => format!("the time of day was set by {by_ms} ms"),
        EventKind::Poisoned => "a thread panicked: no more records are taken".to_owned(),
    }
}
