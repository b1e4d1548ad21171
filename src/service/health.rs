//! Whether an engine is well, by its progress: for `/health`, `/ready`, and the page.
//!
//! | | |
//! |---|---|
//! | ok | records get away, or there are none |
//! | degraded | a link is down, and there is room to wait for it; or the sink has just begun to refuse them |
//! | unhealthy | none was accepted for too long, and the link is up; or there is no room; or a thread hangs |

use std::time::Duration;

use super::view::{Now, Phase, View};
use crate::counters::{SinkState, SinkStats, Stats};

/// From this share of the budget on there is no room left, in percent.
const FULL_PERCENT: u64 = 95;

/// How well it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// All is as it should be.
    Ok,
    /// It works, and something around it does not.
    Degraded,
    /// Somebody should look.
    Unhealthy,
}

impl State {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Degraded => "degraded",
            State::Unhealthy => "unhealthy",
        }
    }
}

/// How well it is, and why not better: the worst first.
#[derive(Debug, PartialEq, Eq)]
pub struct Verdict {
    /// How well it is.
    pub state: State,
    /// What speaks against it, worst first.
    pub reasons: Vec<(State, String)>,
}

/// How well an engine is now.
pub fn verdict(view: &View, now: &Now) -> Verdict {
    let mut reasons = Vec::new();
    if let Some(stuck) = view.stuck() {
        reasons.push((State::Unhealthy, stuck));
    }
    for (watched, stats) in now.each() {
        let name = watched.stream.name();
        let fill = fill_percent(stats, watched.budget);
        for sink in &stats.sinks {
            if let Some((state, text)) = of_sink(sink, fill, now.limit) {
                reasons.push((state, format!("{name}: sink {}: {text}", sink.name)));
            }
        }
    }
    reasons.sort_by_key(|(state, _)| std::cmp::Reverse(*state));
    let state = reasons.first().map_or(State::Ok, |(state, _)| *state);
    Verdict { state, reasons }
}

/// The share of its budget that a stream's records take, those that are not delivered, in percent.
pub fn fill_percent(stats: &Stats, budget: u64) -> u64 {
    let stored = stats.next_offset.saturating_sub(stats.head_offset).max(1);
    let bytes = u128::from(stats.disk_bytes) * u128::from(stats.backlog.min(stored));
    let percent = bytes * 100 / u128::from(stored) / u128::from(budget.max(1));
    u64::try_from(percent).unwrap_or(u64::MAX)
}

/// What is wrong with a sink.
fn of_sink(sink: &SinkStats, fill: u64, limit: Duration) -> Option<(State, String)> {
    if sink.backlog == 0 {
        return None;
    }
    let (backlog, state) = (sink.backlog, sink.state.name());
    let for_too_long = Duration::from_millis(sink.still_ms) > limit;
    let still = sink.still_ms / 1000;
    match sink.state {
        _ if fill >= FULL_PERCENT => Some((
            State::Unhealthy,
            format!("the backlog of {backlog} records takes {fill} % of the budget"),
        )),
        SinkState::Link => Some((
            State::Degraded,
            format!("the link is down; {backlog} records wait, and there is room"),
        )),
        _ if for_too_long => Some((
            State::Unhealthy,
            format!("{state}; {backlog} records wait, and none was accepted for {still} s"),
        )),
        SinkState::Idle | SinkState::Ok => None,
        SinkState::Throttled | SinkState::Auth | SinkState::Config | SinkState::Backoff => {
            Some((State::Degraded, format!("{state}; {backlog} records wait")))
        }
    }
}

/// Whether records are taken: [`None`], or why not.
pub fn unready(view: &View) -> Option<String> {
    match view.phase() {
        Phase::Opening => Some("what is stored is being recovered".to_owned()),
        Phase::Stopping => Some("it is stopping".to_owned()),
        Phase::Serving => view.stuck(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sink(state: SinkState, still_s: u64) -> SinkStats {
        SinkStats {
            backlog: 7,
            state,
            still_ms: still_s * 1000,
            ..SinkStats::default()
        }
    }

    fn state(sink: &SinkStats, fill: u64) -> Option<State> {
        of_sink(sink, fill, Duration::from_secs(60)).map(|(state, _)| state)
    }

    /// `L-23`: by progress, and not by what somebody believes.
    #[test]
    fn records_that_wait_while_the_link_is_up_are_unhealthy_after_a_time() {
        for works in [SinkState::Ok, SinkState::Idle] {
            assert_eq!(state(&sink(works, 60), 0), None);
            assert_eq!(state(&sink(works, 61), 0), Some(State::Unhealthy));
        }
        for fails in [
            SinkState::Auth,
            SinkState::Config,
            SinkState::Throttled,
            SinkState::Backoff,
        ] {
            assert_eq!(state(&sink(fails, 1), 0), Some(State::Degraded));
            assert_eq!(state(&sink(fails, 61), 0), Some(State::Unhealthy));
        }
        let mut idle = sink(SinkState::Ok, 9999);
        idle.backlog = 0;
        assert_eq!(state(&idle, 99), None);
    }

    #[test]
    fn a_link_that_is_down_is_degraded_as_long_as_there_is_room() {
        assert_eq!(
            state(&sink(SinkState::Link, 9999), 94),
            Some(State::Degraded)
        );
        assert_eq!(state(&sink(SinkState::Link, 1), 95), Some(State::Unhealthy));
        assert_eq!(state(&sink(SinkState::Ok, 1), 95), Some(State::Unhealthy));
    }

    #[test]
    fn the_share_of_the_budget_is_that_of_what_is_not_delivered() {
        let mut stats = Stats::default();
        assert_eq!(fill_percent(&stats, 100), 0);
        stats.disk_bytes = 80;
        stats.next_offset = 1000;
        stats.backlog = 500;
        assert_eq!(fill_percent(&stats, 100), 40);
        stats.head_offset = 500;
        assert_eq!(fill_percent(&stats, 100), 80);
        stats.disk_bytes = u64::MAX;
        assert!(fill_percent(&stats, 1) > 100);
    }
}
