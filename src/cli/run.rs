//! `run`: serves the streams of a configuration.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::{Argument, Arguments, Done, Failure, config, logger, place, required, text};
use crate::clock::{Clock, Mono, System};
use crate::config::Config;
use crate::counters::{SinkState, SinkStats};
use crate::engine::Engine;
use crate::error::Error;
use crate::input::Running;
use crate::service::Supervisor;
use crate::service::presence::Presence;
use crate::storage::{Real, watch_faults};

pub const HELP: &str = "\
usage: forebay run CONFIG [--drain SECONDS] [--deadline SECONDS]

Opens the streams of a configuration, starts its inputs, and serves until SIGTERM or SIGINT, or until all inputs
have ended. Then it takes no more records, makes everything durable that it took, lets the sinks deliver, writes
clean checkpoints and ends. What is stored and not delivered stays stored, for the next start. A second signal
ends it at once.

  --drain SECONDS      how long the sinks may deliver what is there (default 30 when the inputs have ended;
                       after a signal half of service.shutdownMs, and no longer than a link is up)
  --deadline SECONDS   then end after so long in any case (default: what is left of service.shutdownMs)

SIGHUP, and forebay reload, make it read CONFIG again: what is wrong with it is said, and nothing changes; else it
serves the streams, sinks and inputs of the new one from then on, without an end of the process.

A service manager that names a socket in NOTIFY_SOCKET is told when what was stored is recovered, what the streams do,
and that it ends; a watchdog that it sets is fed while every thread makes progress or has nothing to do.

example: journalctl -f -o cat | forebay run forebay.json
";

/// How long sinks may deliver after the inputs have ended.
const INPUT_DRAIN: Duration = Duration::from_secs(30);
/// How often the sinks are looked at meanwhile.
const LOOK: Duration = Duration::from_millis(50);

mod serving;

use serving::Serving;

/// Something that the main thread waits for.
enum Event {
    Signal,
    Reload,
    InputEnded,
}

pub fn main(mut arguments: Arguments) -> Done {
    let (mut path, mut drain, mut deadline) = (None, None, None);
    while let Some(argument) = arguments.next()? {
        match argument {
            Argument::Option(name) if name == "drain" => {
                drain = Some(Duration::from_secs(arguments.number()?));
            }
            Argument::Option(name) if name == "deadline" => {
                deadline = Some(Duration::from_secs(arguments.number()?));
            }
            argument => place(&mut [&mut path], argument)?,
        }
    }
    let path = required(path, "CONFIG")?;
    let config = config(&path)?;
    logger::configure(config.service().log);
    let mut supervisor = Supervisor::new(&config, &Real)?;
    serving::inputs(&config)?;
    let (events, received) = channel();
    watch_signals(events.clone())?;
    watch_faults().map_err(|error| Error::io("watch signals", error))?;
    let started = Serving::start(config, &events);
    let mut serving = started.inspect_err(|failure| supervisor.failed(&text(failure)))?;
    supervisor.ready(&serving.config, &serving.engine, &serving.inputs)?;
    let run_dir = serving.config.run_dir();
    let mut presence = run_dir.map(|dir| Presence::new(&dir, &path));

    let clock = System::new();
    let is_signal = loop {
        match received.recv_timeout(supervisor.turn(&serving.engine)) {
            Ok(Event::Signal) => {
                log::info!("stopping: a signal came");
                break true;
            }
            Ok(Event::Reload) => {
                let refused;
                (serving, refused) = serving.reload(&path, &mut supervisor, &events)?;
                match refused.as_str() {
                    "" => log::info!("reloaded"),
                    why => log::error!("reload: nothing has changed: {why}"),
                }
                if let Some(presence) = &mut presence {
                    presence.reloaded(&refused);
                }
            }
            Ok(Event::InputEnded) => {
                if serving.engine.is_poisoned() {
                    break true;
                }
                let mut inputs = serving.inputs.iter();
                if !serving.inputs.is_empty() && inputs.all(|input| input.progress.has_ended()) {
                    break false;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break true,
        }
    };
    drop(presence);
    serving.stop_inputs(&clock);
    let Serving {
        config,
        engine,
        inputs,
    } = serving;
    let shutdown = config.service().shutdown;
    let is_worth_waiting = match (drain, is_signal) {
        (None, true) => is_delivering,
        _ => has_backlog,
    };
    let drain = drain.unwrap_or(if is_signal { shutdown / 2 } else { INPUT_DRAIN });
    let began = clock.mono();
    let until = began.plus(drain);
    supervisor.stopping(drain + deadline.unwrap_or(shutdown));
    store(&engine, &clock, until);
    while clock.mono() < until && !engine.is_poisoned() {
        if !sinks(&engine).iter().any(is_worth_waiting) {
            break;
        }
        // A signal ends the wait.
        if let Ok(Event::Signal) = received.recv_timeout(LOOK) {
            break;
        }
        supervisor.turn(&engine);
    }
    let spent = clock.mono().since(if is_signal { began } else { until });
    let deadline = deadline.unwrap_or(shutdown.saturating_sub(spent));
    supervisor.turn(&engine);
    let done = engine.close(deadline);
    report(&config, &engine, &inputs);
    match done {
        Ok(()) if engine.is_poisoned() => Err(Failure::Found),
        Ok(()) => Ok(()),
        Err(error) => {
            // A drop would wait for its threads once more.
            std::mem::forget(engine);
            Err(error.into())
        }
    }
}

/// Makes durable what is there, before anybody waits for sinks. What it does not reach, the close does. A
/// stream without room waits for a sink that makes some, as long as there is one.
fn store(engine: &Engine, clock: &System, until: Mono) {
    for name in engine.stream_names() {
        let Ok(stream) = engine.stream(name) else {
            continue;
        };
        while let Err(error) = stream.flush(until.since(clock.mono()).min(LOOK)) {
            log::debug!("{name}: {error}");
            if clock.mono() >= until || !stream.stats().sinks.iter().any(is_delivering) {
                break;
            }
        }
    }
}

/// All sinks of all streams.
fn sinks(engine: &Engine) -> Vec<SinkStats> {
    let names = engine.stream_names();
    let stats = names.iter().filter_map(|name| engine.stats(name));
    stats.flat_map(|stats| stats.sinks).collect()
}

fn has_backlog(sink: &SinkStats) -> bool {
    sink.backlog > 0
}

/// It has something to deliver, and nothing is known that keeps it from that.
fn is_delivering(sink: &SinkStats) -> bool {
    has_backlog(sink) && matches!(sink.state, SinkState::Ok | SinkState::Idle)
}

/// Sends an event for each signal that asks to end, or to read the configuration again. A second one that
/// asks to end does so at once.
fn watch_signals(events: Sender<Event>) -> Done {
    let signals = Signals::new([SIGHUP, SIGINT, SIGTERM]);
    let mut signals = signals.map_err(|error| Error::io("watch signals", error))?;
    let body = move || {
        let mut is_ending = false;
        for signal in signals.forever() {
            if signal == SIGHUP {
                let _ = events.send(Event::Reload);
                continue;
            }
            if is_ending {
                let _ = signal_hook::low_level::emulate_default_handler(signal);
            }
            is_ending = true;
            let _ = events.send(Event::Signal);
        }
    };
    let thread = std::thread::Builder::new()
        .name("forebay-signals".to_owned())
        .spawn(body);
    thread.map_err(|error| Error::io("start thread", error))?;
    Ok(())
}

/// Says what was done.
fn report(config: &Config, engine: &Engine, running: &[Running]) {
    for input in running {
        log::info!("input {}: {}", input.name, input.progress.summary());
    }
    for name in engine.stream_names() {
        let Some(stats) = engine.stats(name) else {
            continue;
        };
        let (appended, exported) = (stats.appended_total, stats.exported_total);
        let (backlog, dropped) = (stats.backlog, stats.dropped_total);
        log::info!(
            "{name}: {appended} appended, {exported} exported, {backlog} still stored, {dropped} dropped"
        );
        if backlog > 0 && config.store_path(name).is_none() {
            log::warn!("{name}: lies in memory, so the {backlog} that were not exported end here");
        }
    }
}
