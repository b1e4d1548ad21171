//! What others see without being this process: answers by HTTP, and a file of numbers.
//!
//! | path | what |
//! |---|---|
//! | `/` | the status page, for people |
//! | `/health` | 200 when it is well or degraded, 503 when it is not, with the reasons |
//! | `/ready` | 200 while records are taken, else 503 |
//! | `/metrics` | all numbers, as Prometheus reads them |

use std::sync::Arc;
use std::time::Duration;

use super::health::{self, State, verdict};
use super::http::{self, Answer, Stop};
use super::view::View;
use super::{metrics, page};
use crate::clock::Mono;
use crate::config::json::quoted;
use crate::config::{Config, Http, Metrics};
use crate::error::Result;
use crate::storage::replace_text;

/// Whether threads are stuck is looked at so often.
const LOOK_EVERY: Duration = Duration::from_secs(15);

/// See the module's description.
pub struct Outside {
    view: Arc<View>,
    /// Answers until it is dropped.
    server: Option<(Http, Stop)>,
    file: Option<(Metrics, Mono)>,
    /// The last look.
    looked: Option<Mono>,
}

impl Outside {
    /// Begins to answer, before the engine is open, where that is asked for.
    pub fn start(config: &Config) -> Result<Self> {
        let mut this = Self {
            view: Arc::default(),
            server: None,
            file: None,
            looked: None,
        };
        this.change(config)?;
        Ok(this)
    }

    /// Answers as `config` asks for, from now on. After an error it goes on as before.
    pub fn change(&mut self, config: &Config) -> Result<()> {
        let service = config.service();
        if service.http.as_ref() != self.server.as_ref().map(|(options, _)| options) {
            let before = self.server.take().map(|(options, _)| options);
            self.server = match serve(service.http.as_ref(), &self.view) {
                Ok(server) => server,
                Err(error) => {
                    let again = serve(before.as_ref(), &self.view);
                    self.server = again
                        .inspect_err(|error| log::error!("{error}"))
                        .unwrap_or(None);
                    return Err(error);
                }
            };
        }
        if service.metrics.as_ref() != self.file.as_ref().map(|(options, _)| options) {
            self.file = service.metrics.clone().map(|file| (file, Mono(0)));
        }
        Ok(())
    }

    /// Whether anybody is to be answered.
    pub fn is_wanted(&self) -> bool {
        self.server.is_some() || self.file.is_some()
    }

    /// What is shown.
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.view)
    }

    /// When something is due again.
    pub fn due(&self) -> Mono {
        let file = self.file.as_ref().map_or(Mono::NEVER, |(_, due)| *due);
        let look = self.looked.map_or(Mono(0), |at| at.plus(LOOK_EVERY));
        file.min(look)
    }

    /// Whether it wants to know what is stuck.
    pub fn wants_look(&self, now: Mono) -> bool {
        self.looked.is_none_or(|at| now >= at.plus(LOOK_EVERY))
    }

    /// Remembers what is stuck.
    pub fn looked(&mut self, stuck: Option<String>, now: Mono) {
        self.looked = Some(now);
        self.view.set_stuck(stuck);
        self.view.look(now);
    }

    /// Writes the file if it is due.
    pub fn write(&mut self, now: Mono) {
        let Some((file, due)) = self.file.as_mut().filter(|(_, due)| now >= *due) else {
            return;
        };
        *due = now.plus(file.interval);
        if let Err(error) = replace_text(&file.path, &metrics::text(&self.view)) {
            log::warn!("{}: {error}", file.path.display());
        }
    }
}

/// Answers from now on, if that is asked for.
fn serve(options: Option<&Http>, view: &Arc<View>) -> Result<Option<(Http, Stop)>> {
    let Some(options) = options else {
        return Ok(None);
    };
    let view = Arc::clone(view);
    let handler = Box::new(move |path: &str| answer(&view, path));
    let server = http::start(&options.listen, options.token.clone(), handler)?;
    log::info!("status at {}", server.address);
    Ok(Some((options.clone(), server)))
}

/// What is answered to a path.
fn answer(view: &View, path: &str) -> Answer {
    let answer = |status, kind, body| Answer { status, kind, body };
    let json = |status, body| answer(status, "application/json", body);
    match path {
        "/" => answer(200, page::KIND, page::document(view)),
        "/main" => answer(200, page::KIND, page::inner(view)),
        "/health" => {
            let verdict = verdict(view, &view.now());
            let reasons = verdict.reasons.iter().map(|(_, text)| quoted(text));
            let body = format!(
                "{{\"health\":{},\"reasons\":[{}]}}\n",
                quoted(verdict.state.name()),
                reasons.collect::<Vec<_>>().join(",")
            );
            let is_well = verdict.state != State::Unhealthy;
            json(if is_well { 200 } else { 503 }, body)
        }
        "/ready" => match health::unready(view) {
            None => json(200, "{\"ready\":true}\n".to_owned()),
            Some(why) => {
                let why = quoted(&why);
                json(503, format!("{{\"ready\":false,\"reasons\":[{why}]}}\n"))
            }
        },
        "/metrics" => answer(200, metrics::KIND, metrics::text(view)),
        _ => Answer::line(404, "there is /, /health, /ready and /metrics"),
    }
}
