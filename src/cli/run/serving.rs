//! What `run` serves, and how something else takes its place.
//!
//! A reload is a stop and a start within the process: nothing is delivered twice, and what comes meanwhile
//! waits where its source can wait. Whatever can be found wrong is found before anything is stopped.

use std::path::Path;
use std::sync::mpsc::Sender;
use std::time::Duration;

use super::super::{Failure, config, logger, text};
use super::{Event, LOOK, report};
use crate::clock::{Clock, System};
use crate::config::Config;
use crate::engine::Engine;
use crate::error::{Code, Error};
use crate::input::{self, InputConfig, Running};
use crate::service::Supervisor;
use crate::watermark::seam::park;

/// How long inputs may still answer for what they have taken.
const INPUT_END: Duration = Duration::from_secs(1);

/// A configuration, and what is served of it.
pub struct Serving {
    /// What was asked for.
    pub config: Config,
    /// The streams.
    pub engine: Engine,
    /// The inputs that were started.
    pub inputs: Vec<Running>,
}

impl Serving {
    /// Opens the streams and starts the inputs.
    pub fn start(config: Config, events: &Sender<Event>) -> Result<Self, Failure> {
        let inputs = inputs(&config)?;
        let engine = Engine::open(&config)?;
        let events = events.clone();
        let ended = move || {
            let _ = events.send(Event::InputEnded);
        };
        let inputs = input::start(&engine, inputs, &ended)?;
        log::info!("serving {} streams", engine.stream_names().len());
        Ok(Self {
            config,
            engine,
            inputs,
        })
    }

    /// Tells the inputs to stop, and waits a moment for those that end soon.
    pub fn stop_inputs(&self, clock: &System) {
        self.inputs.iter().for_each(|input| input.progress.stop());
        let soon = clock.mono().plus(INPUT_END);
        let is_ending = |input: &Running| input.ends_soon && !input.progress.has_ended();
        while self.inputs.iter().any(is_ending) && clock.mono() < soon {
            park(Some(LOOK));
        }
    }

    /// Serves what stands in the file now. Returns why not, if not: then all is as it was. An error: neither
    /// the one nor the other can be served.
    pub fn reload(
        self,
        path: &Path,
        supervisor: &mut Supervisor,
        events: &Sender<Event>,
    ) -> Result<(Serving, String), Failure> {
        let clock = System::new();
        let config = match self.wanted(path, supervisor) {
            Ok(config) => config,
            Err(failure) => return Ok((self, text(&failure))),
        };
        let shutdown = self.config.service().shutdown;
        // Sinks may take their time; meanwhile records are taken.
        if !self.engine.stop_delivery(shutdown) {
            log::warn!("reload: a sink does not answer");
        }
        self.stop_inputs(&clock);
        let closed = self.engine.close(shutdown);
        report(&self.config, &self.engine, &self.inputs);
        let Serving {
            config: before,
            engine,
            ..
        } = self;
        match closed {
            Ok(()) => {}
            // Nobody was told that it is stored.
            Err(error) if error.code() == Code::Full => log::error!("reload: {error}"),
            Err(error) => {
                // A drop would wait for its threads once more.
                std::mem::forget(engine);
                return Err(error.into());
            }
        }
        drop(engine);
        let (serving, refused) = match Serving::start(config, events) {
            Ok(serving) => (serving, String::new()),
            Err(failure) => {
                let why = text(&failure);
                log::error!("reload: {why}: what was served before is opened again");
                // It was answered by HTTP as this one asks for a moment ago.
                if let Err(error) = supervisor.reloading(&before) {
                    log::error!("reload: {error}");
                }
                (Serving::start(before, events)?, why)
            }
        };
        logger::configure(serving.config.service().log);
        supervisor.ready(&serving.config, &serving.engine, &serving.inputs)?;
        Ok((serving, refused))
    }

    /// The configuration that stands in the file now, if it can be served in the place of this one.
    fn wanted(&self, path: &Path, supervisor: &mut Supervisor) -> Result<Config, Failure> {
        let config = config(path)?;
        inputs(&config)?;
        let refused = |text: String| Err(Error::text(Code::Config, "", text).into());
        if config.run_dir() != self.config.run_dir() {
            return refused("\"runDir\" cannot be changed while it is in use".to_owned());
        }
        let is_waiting = |input: &&Running| !input.ends_soon && !input.progress.has_ended();
        if let Some(input) = self.inputs.iter().find(is_waiting) {
            let name = input.name;
            return refused(format!(
                "the input {name} cannot be told to stop: it waits for its source"
            ));
        }
        supervisor.reloading(&config)?;
        Ok(config)
    }
}

/// The inputs of a configuration, each for a stream that there is.
pub fn inputs(config: &Config) -> Result<Vec<(String, InputConfig)>, Error> {
    let inputs = config.inputs(InputConfig::read)?;
    match inputs.iter().find(|(stream, _)| !config.has_stream(stream)) {
        None => Ok(inputs),
        Some((stream, _)) => {
            let text = format!("inputs: no stream is named \"{stream}\"");
            Err(Error::text(Code::Config, "", text))
        }
    }
}
