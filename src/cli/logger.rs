//! What the engine says, on standard error: a line each, for people, for programs, or for the journal.
//!
//! Of one kind of message so many are said in a minute; those beyond are counted, and the next that is said
//! tells how many they were. A kind is a text but for its numbers, so each stream has its own.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::OnceLock;
use std::time::Duration;

use log::{Level, LevelFilter, Record};

use super::{json_string, say, time};
use crate::clock::{Clock, Mono, System};
use crate::config::{Log, LogFormat};
use crate::storage::is_journal;
use crate::watermark::seam::Mutex;

/// So many kinds are told apart; the one that was begun first makes room.
const KINDS_MAX: usize = 128;
/// For so long messages of one kind are counted together.
const WINDOW: Duration = Duration::from_mins(1);

struct Logger {
    clock: System,
    is_journal: bool,
    state: Mutex<State>,
}

/// What changes.
struct State {
    options: Log,
    kinds: Vec<Kind>,
}

/// Messages that differ in numbers only.
struct Kind {
    hash: u64,
    since: Mono,
    said: u32,
    hidden: u64,
}

impl log::Log for Logger {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let text = record.args().to_string();
        let mut state = self.state.lock();
        let Some(hidden) = state.admit(record.level(), &text, self.clock.mono()) else {
            return;
        };
        let format = state.options.format;
        drop(state);
        say(&self.line(format, record.level(), &text, hidden));
    }

    fn flush(&self) {
        let hidden: u64 = {
            let mut state = self.state.lock();
            let kinds = state.kinds.drain(..);
            kinds.map(|kind| kind.hidden).sum()
        };
        if hidden > 0 {
            let text =
                format!("{hidden} messages were not said: their kind had been, often enough");
            let format = self.state.lock().options.format;
            say(&self.line(format, Level::Info, &text, 0));
        }
    }
}

impl State {
    /// Whether a message is to be said; if so, how many of its kind were not since the last.
    fn admit(&mut self, level: Level, text: &str, now: Mono) -> Option<u64> {
        if level >= Level::Debug {
            return Some(0);
        }
        let hash = kind_of(text);
        let at = self.kinds.iter().position(|kind| kind.hash == hash);
        let at = at.unwrap_or_else(|| self.begin(hash, now));
        let kind = &mut self.kinds[at];
        if now.since(kind.since) >= WINDOW {
            kind.since = now;
            kind.said = 0;
        }
        if kind.said >= self.options.per_minute {
            kind.hidden += 1;
            return None;
        }
        kind.said += 1;
        Some(std::mem::take(&mut kind.hidden))
    }

    /// Makes room for a kind. Returns its place.
    fn begin(&mut self, hash: u64, now: Mono) -> usize {
        let kind = Kind {
            hash,
            since: now,
            said: 0,
            hidden: 0,
        };
        if self.kinds.len() < KINDS_MAX {
            self.kinds.push(kind);
            return self.kinds.len() - 1;
        }
        let kinds = self.kinds.iter().enumerate();
        let oldest = kinds.min_by_key(|(_, kind)| kind.since);
        let at = oldest.map_or(0, |(at, _)| at);
        self.kinds[at] = kind;
        at
    }
}

/// What texts have in common that differ in numbers only. A stream's name, before the first colon, counts
/// whole.
fn kind_of(text: &str) -> u64 {
    let (name, rest) = text.split_once(": ").unwrap_or(("", text));
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    let words = rest.bytes().filter(|byte| !byte.is_ascii_digit());
    words.for_each(|byte| byte.hash(&mut hasher));
    hasher.finish()
}

impl Logger {
    fn line(&self, format: LogFormat, level: Level, text: &str, hidden: u64) -> String {
        let more = match hidden {
            0 => String::new(),
            hidden => format!(" ({hidden} more like it were not said)"),
        };
        let (word, priority) = match level {
            Level::Error => ("error", 3),
            Level::Warn => ("warn", 4),
            Level::Info => ("info", 6),
            Level::Debug | Level::Trace => ("debug", 7),
        };
        let time = time::format_ms(self.clock.wall_ms());
        let line = match format {
            LogFormat::Json => {
                let text = json_string(&format!("{text}{more}"));
                format!("{{\"time\":\"{time}\",\"level\":\"{word}\",\"text\":{text}}}")
            }
            // A line of the journal is a line: what stands on the next would be another message.
            LogFormat::Text if self.is_journal => format!("{text}{more}").replace('\n', " "),
            LogFormat::Text => format!("{time} {word}: {text}{more}"),
        };
        match self.is_journal {
            true => format!("<{priority}>{line}\n"),
            false => line + "\n",
        }
    }
}

static LOGGER: OnceLock<Logger> = OnceLock::new();

/// Installs it, with the level that the environment asks for.
pub fn install() {
    let level = match std::env::var("FOREBAY_LOG").as_deref() {
        Ok("error") => LevelFilter::Error,
        Ok("warn") => LevelFilter::Warn,
        Ok("debug") => LevelFilter::Debug,
        _ => LevelFilter::Info,
    };
    let logger = LOGGER.get_or_init(|| Logger {
        clock: System::new(),
        is_journal: is_journal(),
        state: Mutex::new(State {
            options: Log::default(),
            kinds: Vec::new(),
        }),
    });
    if log::set_logger(logger).is_ok() {
        log::set_max_level(level);
    }
}

/// From now on it says things as the configuration asks for.
pub fn configure(options: Log) {
    if let Some(logger) = LOGGER.get() {
        logger.state.lock().options = options;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(per_minute: u32) -> State {
        let options = Log {
            per_minute,
            ..Log::default()
        };
        State {
            options,
            kinds: Vec::new(),
        }
    }

    #[test]
    fn of_one_kind_so_many_are_said_in_a_minute_and_the_rest_is_counted() {
        let mut state = state(2);
        let mut say =
            |text: &str, second: u64| state.admit(Level::Warn, text, Mono(second * 1_000_000_000));
        assert_eq!(say("a: 1 record dropped", 0), Some(0));
        assert_eq!(say("a: 22 record dropped", 1), Some(0));
        assert_eq!(say("a: 3 record dropped", 2), None);
        assert_eq!(say("a: 4 record dropped", 59), None);
        // Another stream, and another text, are other kinds.
        assert_eq!(say("b-1: 5 record dropped", 59), Some(0));
        assert_eq!(say("a: poisoned", 59), Some(0));
        assert_eq!(say("a: 6 record dropped", 60), Some(2));
        assert_eq!(say("a: 7 record dropped", 61), Some(0));
        assert_eq!(say("a: 8 record dropped", 62), None);
    }

    #[test]
    fn kinds_have_a_bound_and_what_debugging_asks_for_has_none() {
        let mut state = state(1);
        for n in 0..10 * KINDS_MAX as u64 {
            let text = format!("stream-{n}: opened");
            assert_eq!(state.admit(Level::Info, &text, Mono(n)), Some(0));
        }
        assert_eq!(state.kinds.len(), KINDS_MAX);
        for _ in 0..5 {
            assert_eq!(state.admit(Level::Debug, "x", Mono(0)), Some(0));
        }
    }
}
