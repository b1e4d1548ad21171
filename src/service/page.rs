//! The status page: one document without anything from elsewhere.
//!
//! Everything is drawn here, plots included, so it shows the same without JavaScript; with it, a script
//! fetches the inner part again each two seconds.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use super::health::{State, fill_percent, verdict};
use super::history::{Rates, SAMPLE_EVERY, Sample};
use super::view::{Now, Phase, View, Watched};
use crate::counters::{Health, SinkStats, Stats};
use crate::format::Loss;
use crate::input::Running;

/// The type that HTTP says it has.
pub const KIND: &str = "text/html; charset=utf-8";
/// So many losses of a stream are shown: the newest.
const LOSSES_MAX: usize = 8;
/// So many points has a plot at most.
const POINTS_MAX: usize = 240;

/// The whole document.
pub fn document(view: &View) -> String {
    let style = include_str!("page/page.css");
    let script = include_str!("page/page.js");
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>forebay</title><link rel=\"icon\" href=\"data:,\">\
         <noscript><meta http-equiv=\"refresh\" content=\"10\"></noscript>\
         <style>{style}</style></head><body><main>{}</main>\
         <p id=\"note\" class=\"bad\" role=\"status\"></p><script>{script}</script></body></html>\n",
        inner(view)
    )
}

/// What changes of it.
pub fn inner(view: &View) -> String {
    let now = view.now();
    let mut text = String::new();
    head(view, &now, &mut text);
    for (index, (watched, stats)) in now.each().enumerate() {
        let (samples, rates) = view.history(index);
        stream(watched, stats, &samples, rates, &mut text);
    }
    inputs(&view.inputs(), &mut text);
    let events = view.events();
    if !events.is_empty() {
        text.push_str("<section><h2>What happened</h2><table>");
        for (when, event) in events.iter().rev() {
            let _ = write!(
                text,
                "<tr><td class=\"soft\">{}</td><td>{}</td></tr>",
                time(*when),
                escaped(event)
            );
        }
        text.push_str("</table></section>");
    }
    text
}

fn head(view: &View, now: &Now, text: &mut String) {
    let verdict = verdict(view, now);
    let state = verdict.state.name();
    let phase = match view.phase() {
        Phase::Opening => "recovering what is stored",
        Phase::Serving => "serving",
        Phase::Stopping => "stopping",
    };
    let _ = write!(
        text,
        "<header><h1>forebay</h1><span class=\"badge {state}\">{state}</span>\
         <span class=\"soft\">{phase} · {} streams · version {}</span></header>",
        now.stats.len(),
        env!("CARGO_PKG_VERSION")
    );
    if !verdict.reasons.is_empty() {
        text.push_str("<ul>");
        for (state, reason) in &verdict.reasons {
            let _ = write!(
                text,
                "<li class=\"{}\">{}</li>",
                state.name(),
                escaped(reason)
            );
        }
        text.push_str("</ul>");
    }
}

/// What came in, and what became of it.
fn inputs(inputs: &[Running], text: &mut String) {
    if inputs.is_empty() {
        return;
    }
    text.push_str(
        "<section><h2>Inputs</h2><table><tr><th>input</th><th>stream</th><th>received</th>\
         <th>taken</th><th>else</th><th>connections</th></tr>",
    );
    for input in inputs {
        let progress = &input.progress;
        let load = |number: &AtomicU64| whole(number.load(Ordering::Relaxed));
        let others = progress.counts().into_iter().skip(1);
        let others = others.filter(|(_, _, count)| *count > 0);
        let mut others: Vec<_> = others
            .map(|(name, _, count)| format!("{} {name}", whole(count)))
            .collect();
        if progress.has_ended() {
            others.push("ended".to_owned());
        }
        let _ = write!(
            text,
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            input.name,
            escaped(&input.stream),
            load(&progress.received),
            load(&progress.records),
            others.join(", "),
            load(&progress.connections)
        );
    }
    text.push_str("</table></section>");
}

fn stream(watched: &Watched, stats: &Stats, samples: &[Sample], rates: Rates, text: &mut String) {
    let name = escaped(watched.stream.name());
    let state = match stats.health {
        Health::Ok => State::Ok,
        Health::Failing => State::Degraded,
        Health::Stalled => State::Unhealthy,
    };
    let health = stats.health.name();
    let _ = write!(
        text,
        "<section><div class=\"name\"><h2>{name}</h2><span class=\"badge {}\">{health}</span></div>\
         <div class=\"path\">",
        state.name()
    );
    arrow(rates.taken, "in", text);
    store(watched, stats, rates, text);
    arrow(rates.delivered, "out", text);
    text.push_str("<div class=\"sinks\">");
    if stats.sinks.is_empty() {
        text.push_str("<div class=\"box soft\">no sink</div>");
    }
    stats.sinks.iter().for_each(|one| sink(one, text));
    text.push_str("</div></div>");
    if !samples.is_empty() {
        text.push_str("<div class=\"plots\">");
        plot("records a second in", samples, |sample| sample.taken, text);
        plot(
            "records a second out",
            samples,
            |sample| sample.delivered,
            text,
        );
        plot("records to go", samples, |sample| sample.backlog, text);
        text.push_str("</div>");
    }
    losses(watched, stats, text);
    text.push_str("</section>");
}

/// The ring and the log.
fn store(watched: &Watched, stats: &Stats, rates: Rates, text: &mut String) {
    let ring = percent(stats.queued, watched.ring_records);
    let _ = write!(text, "<div class=\"box\"><strong>ring</strong>");
    bar(ring, text);
    rows(
        &[
            ("waiting for a sync", whole(stats.queued)),
            ("room for", whole(watched.ring_records)),
            ("refused", whole(stats.rejected_total)),
        ],
        text,
    );
    text.push_str("</div>");
    text.push_str("<div class=\"arrow\"><b>→</b></div>");
    let medium = if watched.is_memory { "memory" } else { "disk" };
    let _ = write!(text, "<div class=\"box\"><strong>{medium}</strong>");
    bar(fill_percent(stats, watched.budget), text);
    let written = scaled(rates.written, 1024.0, &BYTES);
    rows(
        &[
            ("to go", whole(stats.backlog)),
            ("oldest", age(stats.oldest_unacked_age_ms)),
            (
                "takes",
                format!(
                    "{} of {}",
                    bytes(stats.allocated_bytes),
                    bytes(watched.budget)
                ),
            ),
            (
                "writes",
                format!("{written}/s, {} in all", bytes(stats.written_bytes)),
            ),
            ("next offset", whole(stats.next_offset)),
        ],
        text,
    );
    text.push_str("</div>");
}

fn sink(sink: &SinkStats, text: &mut String) {
    let class = match sink.health {
        Health::Ok => "ok",
        Health::Failing => "degraded",
        Health::Stalled => "unhealthy",
    };
    let (name, state) = (escaped(&sink.name), sink.state.name());
    let _ = write!(
        text,
        "<div class=\"box\"><div class=\"name\"><strong>{name}</strong>\
         <span class=\"badge {class}\">{state}</span></div>"
    );
    rows(
        &[
            ("delivered", whole(sink.exported_total)),
            ("to go", whole(sink.backlog)),
            ("oldest", age(sink.oldest_unacked_age_ms)),
            ("sent again", whole(sink.retries_total)),
            ("given up", whole(sink.failed_total)),
            ("never got", whole(sink.dropped_total)),
        ],
        text,
    );
    if !sink.last_export_error.is_empty() {
        let error = escaped(&sink.last_export_error);
        let class = if sink.health == Health::Ok {
            "soft"
        } else {
            "bad"
        };
        let _ = write!(text, "<p class=\"error {class}\">last error: {error}</p>");
    }
    text.push_str("</div>");
}

fn losses(watched: &Watched, stats: &Stats, text: &mut String) {
    let ledger: Vec<Loss> = watched.stream.shared().ledger().ranges().to_vec();
    if ledger.is_empty() {
        return;
    }
    let _ = write!(
        text,
        "<h3>Lost: {} dropped, {} damaged</h3>\
         <table><tr><th>offsets</th><th>records</th><th>why</th><th>found</th></tr>",
        whole(stats.dropped_total),
        whole(stats.corrupt_total)
    );
    for loss in ledger.iter().rev().take(LOSSES_MAX) {
        let _ = write!(
            text,
            "<tr><td>{} to {}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            loss.start,
            loss.end.saturating_sub(1),
            whole(loss.count),
            loss.reason.name(),
            time(u64::from(loss.wall_s) * 1000)
        );
    }
    text.push_str("</table>");
    if ledger.len() > LOSSES_MAX {
        let more = ledger.len() - LOSSES_MAX;
        let _ = write!(text, "<p class=\"soft\">and {more} ranges before these</p>");
    }
}

fn arrow(rate: f64, way: &str, text: &mut String) {
    let rate = scaled(rate, 1000.0, &COUNTS);
    let _ = write!(text, "<div class=\"arrow\"><b>→</b>{rate}/s {way}</div>");
}

fn bar(percent: u64, text: &mut String) {
    let shown = percent.min(100);
    let class = if percent >= 80 { " class=\"full\"" } else { "" };
    let _ = write!(
        text,
        "<div class=\"bar\" role=\"img\" aria-label=\"{shown} percent full\">\
         <i{class} style=\"width:{shown}%\"></i></div>\
         <div class=\"soft\">{shown} % full</div>"
    );
}

fn rows(rows: &[(&str, String)], text: &mut String) {
    text.push_str("<dl>");
    for (name, value) in rows {
        let _ = write!(text, "<dt>{name}</dt><dd>{value}</dd>");
    }
    text.push_str("</dl>");
}

/// A line over the last hours. Several samples that share a point are shown by the highest.
fn plot(what: &str, samples: &[Sample], value: impl Fn(&Sample) -> u32, text: &mut String) {
    let each = samples.len().div_ceil(POINTS_MAX);
    let points = samples.chunks(each);
    let points: Vec<u32> = points
        .map(|some| some.iter().map(&value).max().unwrap_or(0))
        .collect();
    let most = points.iter().copied().max().unwrap_or(0);
    let (width, scale) = (points.len().max(2) - 1, f64::from(most.max(1)));
    let mut line = String::new();
    for (x, point) in points.iter().enumerate() {
        let _ = write!(line, "{x},{:.1} ", 58.0 - f64::from(*point) * 56.0 / scale);
    }
    let last = points.len() - 1;
    let minutes = SAMPLE_EVERY.as_secs() * samples.len() as u64 / 60;
    let span = match minutes {
        0..=1 => "last minute".to_owned(),
        2..=119 => format!("last {minutes} minutes"),
        _ => format!("last {} hours", (minutes + 30) / 60),
    };
    let most = scaled(f64::from(most), 1000.0, &COUNTS);
    let _ = write!(
        text,
        "<figure><svg viewBox=\"0 0 {width} 60\" preserveAspectRatio=\"none\" role=\"img\" \
         aria-label=\"{what}, at most {most}\">\
         <polygon points=\"0,60 {line}{last},60\"/><polyline points=\"{line}\"/></svg>\
         <figcaption>{what}: at most {most}, {span}</figcaption></figure>"
    );
}

const COUNTS: [&str; 5] = ["", " k", " M", " G", " T"];
const BYTES: [&str; 5] = [" B", " KiB", " MiB", " GiB", " TiB"];

/// Three digits or so, and a unit.
fn scaled(mut value: f64, step: f64, units: &[&str; 5]) -> String {
    let mut unit = 0;
    while value >= step && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    let digits = usize::from(value < 99.95 && value.fract() > 0.0);
    format!("{value:.digits$}{}", units[unit])
}

#[allow(clippy::cast_precision_loss)] // shown with three digits
fn bytes(count: u64) -> String {
    scaled(count as f64, 1024.0, &BYTES)
}

/// A number with its thousands apart.
fn whole(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

fn percent(part: u64, all: u64) -> u64 {
    part.saturating_mul(100) / all.max(1)
}

fn age(ms: u64) -> String {
    match ms / 1000 {
        0 if ms == 0 => "–".to_owned(),
        0 => format!("{ms} ms"),
        s @ 1..=119 => format!("{s} s"),
        s @ 120..=7199 => format!("{} min", s / 60),
        s @ 7200..=172_799 => format!("{} h", s / 3600),
        s => format!("{} d", s / 86_400),
    }
}

/// A time of day, in UTC.
fn time(wall_ms: u64) -> String {
    if wall_ms == 0 {
        return "no clock".to_owned();
    }
    let time = crate::input::time::format_ms(wall_ms);
    format!("{} {} UTC", &time[..10], &time[11..19])
}

/// Text that may stand anywhere in the document.
fn escaped(text: &str) -> String {
    let mut safe = String::new();
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_is_text_and_no_markup() {
        let safe = escaped("<script>alert('x') & \"y\"</script>");
        assert_eq!(
            safe,
            "&lt;script&gt;alert(&#39;x&#39;) &amp; &quot;y&quot;&lt;/script&gt;"
        );
    }

    #[test]
    fn numbers_are_readable() {
        assert_eq!(whole(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(whole(999), "999");
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(512 << 20), "512 MiB");
        assert_eq!(
            [0, 5, 4000, 400_000, 40_000_000].map(age),
            ["–", "5 ms", "4 s", "6 min", "11 h"]
        );
    }

    #[test]
    fn a_plot_has_a_bounded_number_of_points_and_shows_the_highest() {
        let mut samples = vec![Sample::default(); 960];
        samples[501].backlog = 1_000_000;
        let mut text = String::new();
        plot("to go", &samples, |sample| sample.backlog, &mut text);
        let line = text.split("<polyline points=\"").nth(1).unwrap();
        let points = line.split('"').next().unwrap().split_whitespace();
        let points: Vec<_> = points.collect();
        assert_eq!(points.len(), POINTS_MAX);
        assert!(points.contains(&"125,2.0"), "{points:?}");
        assert!(text.contains("at most 1 M, last 4 hours"), "{text}");
    }
}
