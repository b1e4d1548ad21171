//! `run`: serves the streams of a configuration.

use std::sync::atomic::Ordering;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::{Argument, Arguments, Done, Failure, config, place, required};
use crate::clock::{Clock, System};
use crate::engine::Engine;
use crate::error::{Code, Error};
use crate::input::{self, InputConfig, Running};

pub const HELP: &str = "\
usage: forebay run CONFIG [--drain SECONDS] [--deadline SECONDS]

Opens the streams of a configuration, starts its inputs, and serves until SIGTERM or SIGINT, or until all inputs
have ended. Then it takes no more records, makes everything durable that it took, writes clean checkpoints and
ends. What is stored and not delivered stays stored, for the next start.

  --drain SECONDS      before that, wait so long for the sinks to have everything (default 30 when the
                       inputs have ended, 0 after a signal)
  --deadline SECONDS   end after so long in any case (default 10)

example: journalctl -f -o cat | forebay run forebay.json
";

/// Something that the main thread waits for.
enum Event {
    Signal,
    InputEnded,
}

pub fn main(mut arguments: Arguments) -> Done {
    let (mut path, mut drain, mut deadline) = (None, None, Duration::from_secs(10));
    while let Some(argument) = arguments.next()? {
        match argument {
            Argument::Option(name) if name == "drain" => {
                drain = Some(Duration::from_secs(arguments.number()?));
            }
            Argument::Option(name) if name == "deadline" => {
                deadline = Duration::from_secs(arguments.number()?);
            }
            argument => place(&mut [&mut path], argument)?,
        }
    }
    let config = config(&required(path, "CONFIG")?)?;
    let inputs = config.inputs(InputConfig::read)?;
    for (stream, _) in &inputs {
        if config.store_path(stream).is_none() {
            let text = format!("inputs: no stream is named \"{stream}\"");
            return Err(Error::text(Code::Config, "", text).into());
        }
    }
    let (events, received) = channel();
    watch_signals(events.clone())?;
    let engine = Engine::open(&config)?;
    let has_inputs = !inputs.is_empty();
    let ended = move || {
        let _ = events.send(Event::InputEnded);
    };
    let running = input::start(&engine, inputs, &ended)?;
    log::info!("serving {} streams", engine.stream_names().len());

    let clock = System::new();
    let is_signal = loop {
        match received.recv_timeout(Duration::from_secs(3600)) {
            Ok(Event::Signal) => break true,
            Ok(Event::InputEnded) => {
                if engine.is_poisoned() {
                    break true;
                }
                if has_inputs && running.iter().all(|input| input.progress.has_ended()) {
                    break false;
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break true,
        }
    };
    running.iter().for_each(|input| input.progress.stop());
    let drain = drain.unwrap_or(if is_signal {
        Duration::ZERO
    } else {
        Duration::from_secs(30)
    });
    let until = clock.mono().plus(drain);
    while clock.mono() < until && !is_delivered(&engine) {
        // A signal ends the wait.
        if let Ok(Event::Signal) = received.recv_timeout(Duration::from_millis(50)) {
            break;
        }
    }
    let done = engine.close(deadline);
    report(&engine, &running);
    match done {
        Ok(()) if engine.is_poisoned() => Err(Failure::Found),
        Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn is_delivered(engine: &Engine) -> bool {
    engine
        .stream_names()
        .iter()
        .all(|name| engine.stats(name).is_none_or(|stats| stats.backlog == 0))
}

/// Sends an event for each signal that asks to end. A second one ends at once.
fn watch_signals(events: Sender<Event>) -> Done {
    let signals = Signals::new([SIGINT, SIGTERM]);
    let mut signals = signals.map_err(|error| Error::io("watch signals", error))?;
    let body = move || {
        for (count, signal) in signals.forever().enumerate() {
            if count > 0 {
                let _ = signal_hook::low_level::emulate_default_handler(signal);
            }
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
fn report(engine: &Engine, running: &[Running]) {
    for input in running {
        let progress = &input.progress;
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        log::info!(
            "input {}: {} records, {} malformed, {} refused",
            input.name,
            count(&progress.records),
            count(&progress.malformed),
            count(&progress.refused)
        );
    }
    for name in engine.stream_names() {
        let Some(stats) = engine.stats(name) else {
            continue;
        };
        log::info!(
            "{name}: {} appended, {} exported, {} still stored, {} dropped",
            stats.appended_total,
            stats.exported_total,
            stats.backlog,
            stats.dropped_total
        );
    }
}
