//! How the binary lives as a service, and how it is seen from outside.
//!
//! ```text
//!  run's main thread ─▶ Supervisor::turn ─┬▶ alive? ─▶ service manager (READY, STATUS, WATCHDOG, STOPPING)
//!                                         └▶ view and its history, file of numbers
//!  engine's events ─▶ log, view, command for events
//!  forebay-http ─▶ view ─▶ status page, /health, /ready, /metrics
//! ```
//!
//! **Threads.** The main thread of `run`, which has nothing else to do: a hang there is a watchdog that is
//! not fed. And one that answers, where that is asked for. Where nobody asked for anything there are no
//! turns.

use std::time::Duration;

use crate::clock::{Clock, Mono, System};
use crate::config::{Config, EventHook};
use crate::engine::Engine;
use crate::error::Result;
use crate::input::Running;
use crate::storage::Surroundings;

mod alive;
mod events;
#[cfg(feature = "http")]
pub mod health;
#[cfg(feature = "http")]
mod history;
mod hook;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "http")]
mod metrics;
mod notify;
#[cfg(feature = "http")]
mod outside;
#[cfg(feature = "http")]
mod page;
pub mod presence;
#[cfg(feature = "http")]
pub mod view;

pub use alive::Alive;
use hook::Hook;
use notify::Notifier;
#[cfg(feature = "http")]
use outside::Outside;

/// The service manager is told so often what the streams do, if it feeds no watchdog.
const STATUS_EVERY: Duration = Duration::from_secs(30);
/// A turn is made so often at least, if nothing needs more.
const IDLE: Duration = Duration::from_secs(3600);

/// Watches over an engine and says what it sees.
pub struct Supervisor {
    notifier: Notifier,
    alive: Alive,
    clock: System,
    /// When the service manager is told again.
    due: Mono,
    status: String,
    /// Ends when it is dropped, with what is due.
    hook: Option<Hook>,
    #[cfg(feature = "http")]
    outside: Outside,
}

impl Supervisor {
    /// One that says what `config` and `around` ask for. Whoever asks by HTTP is answered from now on.
    pub fn new(config: &Config, around: &dyn Surroundings) -> Result<Self> {
        let notifier = Notifier::new(around);
        Ok(Self {
            due: if notifier.is_there() {
                Mono(0)
            } else {
                Mono::NEVER
            },
            notifier,
            alive: alive(config),
            clock: System::new(),
            status: String::new(),
            hook: None,
            #[cfg(feature = "http")]
            outside: Outside::start(config)?,
        })
    }

    /// The streams are open and what was stored is recovered: appends are taken from now on.
    pub fn ready(&mut self, config: &Config, engine: &Engine, inputs: &[Running]) -> Result<()> {
        #[cfg(not(feature = "http"))]
        let _ = inputs;
        self.alive = alive(config);
        #[cfg(feature = "http")]
        let view = self.outside.view();
        #[cfg(feature = "http")]
        view.open(config, engine, inputs);
        self.call(config.service().events.as_ref())?;
        let offers = self.hook.as_ref().and_then(Hook::offers);
        engine.forward_events(move |event| {
            let text = events::tell(event);
            if let Some(offers) = &offers {
                offers.offer(event, &text, System::new().stamp().wall_ms);
            }
            #[cfg(feature = "http")]
            view.happened(System::new().wall_ms(), text);
            #[cfg(not(feature = "http"))]
            drop(text);
        })?;
        self.status = status(engine);
        self.notifier
            .send(&format!("READY=1\nSTATUS={}", self.status));
        Ok(())
    }

    /// From now on this command is started for events. No engine that knows of another one is open any more.
    fn call(&mut self, options: Option<&EventHook>) -> Result<()> {
        if self.hook.as_ref().map(Hook::options) != options {
            // What is due ends before the next begins.
            self.hook = None;
            self.hook = options.cloned().map(Hook::start).transpose()?;
        }
        Ok(())
    }

    /// The engine is about to be closed, and another one to be opened as `config` asks for. After an error
    /// nothing has changed.
    pub fn reloading(&mut self, config: &Config) -> Result<()> {
        #[cfg(feature = "http")]
        self.outside.change(config)?;
        #[cfg(feature = "http")]
        self.outside.view().reopens();
        #[cfg(not(feature = "http"))]
        let _ = config;
        let micros = self.clock.mono().0 / 1000;
        self.notifier.send(&format!(
            "RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=reloading"
        ));
        Ok(())
    }

    /// Does what is due, and returns after what time something is due again.
    pub fn turn(&mut self, engine: &Engine) -> Duration {
        let now = self.clock.mono();
        if now >= self.due {
            self.due = now.plus(self.notifier.watchdog().unwrap_or(STATUS_EVERY));
            self.tell(engine, now);
        }
        let next = self.due;
        #[cfg(feature = "http")]
        let next = next.min(self.show(engine, now));
        next.since(now).min(IDLE)
    }

    /// Does what is due for those who look from outside; returns when something is due again.
    #[cfg(feature = "http")]
    fn show(&mut self, engine: &Engine, now: Mono) -> Mono {
        let outside = &mut self.outside;
        if !outside.is_wanted() {
            return Mono::NEVER;
        }
        if outside.wants_look(now) {
            outside.looked(self.alive.look(engine, now), now);
        }
        outside.write(now);
        outside.due()
    }

    /// Says to the service manager what there is to say.
    fn tell(&mut self, engine: &Engine, now: Mono) {
        let mut state = String::new();
        match self.alive.look(engine, now) {
            None => state.push_str("WATCHDOG=1\n"),
            Some(stuck) => {
                log::error!("{stuck}: the watchdog is not fed");
                self.status = stuck;
            }
        }
        let status = status(engine);
        if status != self.status {
            state.push_str(&format!("STATUS={status}\n"));
            self.status = status;
        }
        self.notifier.send(&state);
    }

    /// No more records are taken; it may last so long until the process ends.
    pub fn stopping(&mut self, limit: Duration) {
        let micros = limit.as_micros();
        self.notifier.send(&format!(
            "STOPPING=1\nEXTEND_TIMEOUT_USEC={micros}\nSTATUS=stopping"
        ));
        #[cfg(feature = "http")]
        self.outside.view().stop();
    }

    /// It could not be opened.
    pub fn failed(&self, text: &str) {
        self.notifier
            .send(&format!("STATUS={}\n", text.replace('\n', " ")));
    }
}

/// Watches over the threads of an engine as `config` asks for.
fn alive(config: &Config) -> Alive {
    let intervals = config.streams.iter();
    let intervals = intervals.map(|stream| stream.buffer.fsync_interval);
    Alive::new(
        config.service().stalled,
        intervals.max().unwrap_or_default(),
    )
}

/// What the streams do, in a line.
fn status(engine: &Engine) -> String {
    let names = engine.stream_names();
    let stats: Vec<_> = names.iter().filter_map(|name| engine.stats(name)).collect();
    let sum = |number: fn(&crate::counters::Stats) -> u64| stats.iter().map(number).sum::<u64>();
    let appended = sum(|stats| stats.appended_total);
    let exported = sum(|stats| stats.exported_total);
    let (backlog, dropped) = (sum(|stats| stats.backlog), sum(|stats| stats.dropped_total));
    let sinks = stats.iter().flat_map(|stats| &stats.sinks);
    let failing = sinks.filter(|sink| sink.health != crate::counters::Health::Ok);
    let failing = failing.count();
    format!(
        "{} streams: {appended} appended, {exported} exported, {backlog} to go, {dropped} dropped, \
         {failing} sinks without progress",
        names.len()
    )
}
