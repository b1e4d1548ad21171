//! What the engine says, on standard error: time, level, text, a line each.

use std::sync::OnceLock;

use log::{Level, LevelFilter, Log, Metadata, Record};

use super::{say, time};
use crate::clock::{Clock, System};

struct Logger {
    clock: System,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let level = match record.level() {
                Level::Error => "error",
                Level::Warn => "warn",
                Level::Info => "info",
                Level::Debug | Level::Trace => "debug",
            };
            say(&format!(
                "{} {level}: {}\n",
                time::format_ms(self.clock.wall_ms()),
                record.args()
            ));
        }
    }

    fn flush(&self) {}
}

/// Installs it, with the level that the environment asks for.
pub fn install() {
    let level = match std::env::var("FOREBAY_LOG").as_deref() {
        Ok("error") => LevelFilter::Error,
        Ok("warn") => LevelFilter::Warn,
        Ok("debug") => LevelFilter::Debug,
        _ => LevelFilter::Info,
    };
    static LOGGER: OnceLock<Logger> = OnceLock::new();
    let logger = LOGGER.get_or_init(|| Logger {
        clock: System::new(),
    });
    if log::set_logger(logger).is_ok() {
        log::set_max_level(level);
    }
}
