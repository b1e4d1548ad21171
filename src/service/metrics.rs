//! The numbers as text for Prometheus, in its format 0.0.4.
//!
//! A name is made of the one that the number has in `stats`, and its help is what stands there: both are as
//! stable as that. Times are in seconds and totals end in `_total`, as is the custom there.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use super::health::{State, verdict};
use super::view::{Now, Phase, View};
use crate::counters::{SinkState, SinkStats, Stats};
use crate::input::{MEANINGS, Progress};

/// The type that HTTP says it has.
pub const KIND: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Numbers that go up and down. All others are counters.
const GAUGES: [&str; 11] = [
    "backlog",
    "diskBytes",
    "ackedOffset",
    "nextOffset",
    "oldestUnackedAgeMs",
    "queued",
    "durableOffset",
    "headOffset",
    "allocatedBytes",
    "unreservedBytes",
    "oldestUncommittedMs",
];

/// All numbers of all streams.
pub fn text(view: &View) -> String {
    let now = view.now();
    let stats = &now.stats;
    let names = now.streams.iter();
    let names: Vec<String> = names
        .map(|watched| format!("stream={}", label(watched.stream.name())))
        .collect();
    let mut text = String::new();
    process(view, &now, &mut text);
    for (index, (json, help)) in Stats::meanings().enumerate() {
        let values = names.iter().zip(stats).map(|(labels, stats)| {
            let value = stats.numbers().nth(index).map_or(0, |(_, value)| value);
            (labels.clone(), value)
        });
        family("stream", json, help, values, &mut text);
    }
    let budgets = now.streams.iter().map(|watched| watched.budget);
    let budgets = names.iter().cloned().zip(budgets);
    family(
        "stream",
        "budgetBytes",
        " What it may take.",
        budgets,
        &mut text,
    );
    let sinks: Vec<(String, &SinkStats)> = names
        .iter()
        .zip(stats)
        .flat_map(|(stream, stats)| {
            let sinks = stats.sinks.iter();
            sinks.map(move |sink| (format!("{stream},sink={}", label(&sink.name)), sink))
        })
        .collect();
    for (index, (json, help)) in SinkStats::meanings().enumerate() {
        let values = sinks.iter().map(|(labels, sink)| {
            let value = sink.numbers().nth(index).map_or(0, |(_, value)| value);
            (labels.clone(), value)
        });
        family("sink", json, help, values, &mut text);
    }
    let help = " For how long records have waited of which it accepted none.";
    let values = sinks
        .iter()
        .map(|(labels, sink)| (labels.clone(), sink.still_ms));
    family("sink", "stillMs", help, values, &mut text);
    let states = sinks.iter().flat_map(|(labels, sink)| {
        let is = |state: SinkState| u64::from(state == sink.state);
        let states = SinkState::ALL.into_iter();
        states.map(move |state| (format!("{labels},state=\"{}\"", state.name()), is(state)))
    });
    family(
        "sink",
        "state",
        " 1 for what it does, 0 for all else.",
        states,
        &mut text,
    );
    inputs(view, &mut text);
    text
}

/// What the inputs have done since they were started. Two may have one type and one stream, so each has its
/// place in the configuration, too.
fn inputs(view: &View, text: &mut String) {
    let inputs = view.inputs();
    let labels = inputs.iter().enumerate().map(|(place, input)| {
        let (kind, stream) = (label(input.name), label(&input.stream));
        format!("input=\"{place}\",type={kind},stream={stream}")
    });
    let labels: Vec<_> = labels.collect();
    let mut all = |name: &str, help: &str, kind: &str, value: &dyn Fn(&Progress) -> u64| {
        let name = format!("forebay_input_{}", name.replace(' ', "_"));
        begin(&name, help, kind, text);
        for (labels, input) in labels.iter().zip(inputs.iter()) {
            sample(&name, labels, &value(&input.progress), text);
        }
    };
    let load = |number: &AtomicU64| number.load(Ordering::Relaxed);
    let help = "Records that came, whatever became of them.";
    all("received_total", help, "counter", &|input| {
        load(&input.received)
    });
    for (at, (name, help)) in MEANINGS.into_iter().enumerate() {
        let name = format!("{name}_total");
        all(&name, help, "counter", &|input| input.counts()[at].2);
    }
    let help = "Connections that are open.";
    all("connections", help, "gauge", &|input| {
        load(&input.connections)
    });
    let help = "1 when its source has ended, and nothing will come any more.";
    all("ended", help, "gauge", &|input| input.has_ended().into());
}

/// What is true of the process as a whole.
fn process(view: &View, now: &Now, text: &mut String) {
    let version = format!("version={}", label(env!("CARGO_PKG_VERSION")));
    plain(
        "forebay_build_info",
        "Always 1, with the version.",
        &version,
        1,
        text,
    );
    let is_ready = u64::from(view.phase() == Phase::Serving);
    plain(
        "forebay_ready",
        "1 while records are taken.",
        "",
        is_ready,
        text,
    );
    let state = verdict(view, now).state;
    let states = [State::Ok, State::Degraded, State::Unhealthy];
    let states = states.map(|one| {
        let labels = format!("state=\"{}\"", one.name());
        (labels, u64::from(one == state))
    });
    begin(
        "forebay_health",
        "1 for how well it is, 0 for all else.",
        "gauge",
        text,
    );
    for (labels, value) in states {
        sample("forebay_health", &labels, &value, text);
    }
}

fn plain(name: &str, help: &str, labels: &str, value: u64, text: &mut String) {
    begin(name, help, "gauge", text);
    sample(name, labels, &value, text);
}

/// All values of one number.
fn family(
    of: &str,
    json: &str,
    help: &str,
    values: impl Iterator<Item = (String, u64)>,
    text: &mut String,
) {
    let (name, is_counter) = name_of(of, json);
    let is_time = json.ends_with("Ms");
    begin(
        &name,
        help,
        if is_counter { "counter" } else { "gauge" },
        text,
    );
    for (labels, value) in values {
        if is_time {
            let seconds = format!("{}.{:03}", value / 1000, value % 1000);
            sample(&name, &labels, &seconds, text);
        } else {
            sample(&name, &labels, &value, text);
        }
    }
}

/// The name of a number here, and whether it only grows.
fn name_of(of: &str, json: &str) -> (String, bool) {
    let extra = ["budgetBytes", "stillMs", "state"];
    let is_counter = !GAUGES.contains(&json) && !extra.contains(&json);
    let mut name = format!("forebay_{of}_");
    for letter in json.strip_suffix("Ms").unwrap_or(json).chars() {
        if letter.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    if json.ends_with("Ms") {
        name.push_str("_seconds");
    } else if is_counter && !name.ends_with("_total") {
        name.push_str("_total");
    }
    (name, is_counter)
}

fn begin(name: &str, help: &str, kind: &str, text: &mut String) {
    let help = help
        .trim()
        .replace('\\', "\\\\")
        .replace(", in milliseconds", "");
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn sample(name: &str, labels: &str, value: &dyn std::fmt::Display, text: &mut String) {
    let _ = match labels {
        "" => writeln!(text, "{name} {value}"),
        labels => writeln!(text, "{name}{{{labels}}} {value}"),
    };
}

/// The value of a label, in quotes.
fn label(value: &str) -> String {
    let value = value.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{}\"", value.replace('\n', "\\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_customs_of_the_place() {
        assert_eq!(
            name_of("stream", "appendedTotal"),
            ("forebay_stream_appended_total".to_owned(), true)
        );
        assert_eq!(
            name_of("sink", "keysMapped").0,
            "forebay_sink_keys_mapped_total"
        );
        assert_eq!(
            name_of("stream", "diskBytes").0,
            "forebay_stream_disk_bytes"
        );
        assert_eq!(
            name_of("stream", "oldestUnackedAgeMs"),
            (
                "forebay_stream_oldest_unacked_age_seconds".to_owned(),
                false
            )
        );
    }

    #[test]
    fn each_gauge_is_a_number_that_there_is() {
        for gauge in GAUGES {
            assert!(Stats::meanings().any(|(json, _)| json == gauge), "{gauge}");
        }
    }
}
