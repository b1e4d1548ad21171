//! The client's own log, and what its sink says of it: one line a minute at most.

use std::sync::Arc;
use std::time::Duration;

use super::client::describe;
use crate::clock::{Clock, Mono};
use crate::watermark::seam::Mutex;

/// At most one line in this time.
const EVERY: Duration = Duration::from_secs(60);

/// Lets a line through now and then. Cheap to clone; all clones count together.
#[derive(Clone)]
pub struct Quiet {
    clock: Arc<dyn Clock>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    next: Mono,
    held_back: u64,
}

impl Quiet {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            state: Arc::default(),
        }
    }

    /// A line of the client, with the severity of syslog.
    pub fn client(&self, severity: i32, text: &str) {
        let level = match severity {
            ..=3 => log::Level::Error,
            4 => log::Level::Warn,
            5 | 6 => log::Level::Info,
            _ => log::Level::Debug,
        };
        self.say(level, text);
    }

    /// An error that no record goes with.
    pub fn error(&self, code: i32, text: &str) {
        self.say(log::Level::Warn, &format!("{}: {text}", describe(code)));
    }

    pub fn say(&self, level: log::Level, text: &str) {
        if let Some(held_back) = self.lets_through() {
            match held_back {
                0 => log::log!(level, "kafka: {text}"),
                more => log::log!(level, "kafka: {text} (and {more} lines before it)"),
            }
        }
    }

    /// How many lines were held back before this one, if this one is let through.
    fn lets_through(&self) -> Option<u64> {
        let now = self.clock.mono();
        let mut state = self.state.lock();
        if now < state.next {
            state.held_back += 1;
            return None;
        }
        state.next = now.plus(EVERY);
        Some(std::mem::take(&mut state.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[derive(Default)]
    struct Hand(AtomicU64);

    impl Clock for Hand {
        fn mono(&self) -> Mono {
            Mono(self.0.load(Ordering::Relaxed) * 1_000_000_000)
        }
        fn wall_ms(&self) -> u64 {
            0
        }
        fn boot(&self) -> u64 {
            1
        }
    }

    #[test]
    fn a_line_a_minute_is_let_through_and_the_others_are_counted() {
        let hand = Arc::new(Hand::default());
        let quiet = Quiet::new(Arc::clone(&hand) as Arc<dyn Clock>);
        let mut let_through = Vec::new();
        for second in 0..=180 {
            hand.0.store(second, Ordering::Relaxed);
            let_through.extend(quiet.clone().lets_through().map(|held| (second, held)));
        }
        assert_eq!(let_through, [(0, 0), (60, 59), (120, 59), (180, 59)]);
    }
}
