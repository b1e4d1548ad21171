//! Lines or frames that a program writes to its standard output: one that goes on and is started again when
//! it ends, or one that is started at intervals.
//!
//! A program pushes back: while there is no room, its pipe is not read, and it waits when that is full.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::cutter::{Cutter, Framing};
use super::feed::{Feed, Patience};
use super::reader::{Why, read_until};
use super::system::{end_group, kill_group, set_nonblocking};
use super::told::{Part, Told};
use super::{Field, Input, Progress};
use crate::clock::{Clock, Mono};
use crate::config::json::{Object, quoted};
use crate::config::resolve::Resolver;
use crate::engine::Stream;
use crate::error::Result;
use crate::watermark::seam::park;

/// The most words of a command.
const WORDS_MAX: usize = 64;
/// A program that ran for so long may be started again at once.
const LONG: Duration = Duration::from_secs(10);
/// So long a program that was told to end may still write and last, before it is killed.
const END: Duration = Duration::from_millis(500);
/// How often is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(10);

/// Which program, and when.
#[derive(Clone, Debug)]
pub struct Program {
    command: Vec<String>,
    /// `None`: it goes on, and is started again when it ends.
    interval: Option<Duration>,
    /// It is killed after so long.
    timeout: Option<Duration>,
}

impl Part for Program {
    fn read(object: &mut Object<'_>, _: &Resolver<'_>) -> Result<Self> {
        let words = object.required("command")?;
        let mut command = Vec::new();
        for word in words.array_of(WORDS_MAX, "words")? {
            let text = word.string()?;
            if text.contains('\0') {
                return Err(word.error("must be text without a zero byte"));
            }
            if command.is_empty() && !text.starts_with('/') {
                let rule = "must be an absolute path: there is no shell to look for it";
                return Err(word.error(rule));
            }
            command.push(text);
        }
        if command.is_empty() {
            return Err(words.error("must name a program"));
        }
        let mut time = |key| {
            let ms = object.take_set(key);
            let ms = ms.map_or(Ok(0), |node| node.number(0..=86_400_000))?;
            Ok((ms > 0).then(|| Duration::from_millis(ms)))
        };
        Ok(Self {
            command,
            interval: time("intervalMs")?,
            timeout: time("timeoutMs")?,
        })
    }

    fn to_json(&self) -> Vec<Field> {
        let Self {
            command,
            interval,
            timeout,
        } = self;
        let words: Vec<_> = command.iter().map(|word| quoted(word)).collect();
        let ms = |time: &Option<Duration>| time.map_or(0, |time| time.as_millis()).to_string();
        vec![
            ("command", format!("[{}]", words.join(", "))),
            ("intervalMs", ms(interval)),
            ("timeoutMs", ms(timeout)),
        ]
    }
}

/// What the input is told.
type Options = Told<Program, Framing>;

/// Reads what the input is told.
pub(super) fn read(object: &mut Object<'_>, resolver: &Resolver<'_>) -> Result<Arc<dyn Input>> {
    Options::read(object, resolver)
}

impl Input for Options {
    fn fields(&self) -> Vec<Field> {
        self.to_json()
    }

    fn run(&self, stream: &Stream, progress: &Progress) {
        let mut feed = Feed::new("exec", &self.feed, stream, progress, Patience::Waits);
        let name = &self.place.command[0];
        feed.begins(&format_args!("starting {name}"));
        while !feed.is_stopping() {
            let began = feed.clock.mono();
            let ended = self.run_once(&mut feed, began);
            if feed.is_stopping() {
                return;
            }
            let error = match ended {
                Ok(Ended::Stopped) => return,
                Ok(Ended::By(status)) if status.success() && self.place.interval.is_some() => None,
                Ok(Ended::By(status)) => Some(format!("{name} has ended: {status}")),
                Ok(Ended::Late) => Some(format!("{name} lasted too long, and was ended")),
                Ok(Ended::Senseless) => Some(format!("{name} writes no frames, and was ended")),
                Err(error) => Some(format!("{name}: {error}")),
            };
            if let Some(interval) = self.place.interval {
                if let Some(error) = error {
                    feed.fails(&error);
                }
                let due = began.plus(interval);
                feed.progress.wake.pause(due.since(feed.clock.mono()));
                continue;
            }
            if feed.clock.mono().since(began) >= LONG {
                feed.forgive();
            }
            if !feed.wait_to_retry(&error.unwrap_or_default()) {
                return;
            }
        }
    }
}

/// How a program ended.
enum Ended {
    By(ExitStatus),
    /// It was ended after its time.
    Late,
    /// It was ended because of what it wrote.
    Senseless,
    /// The input is to stop.
    Stopped,
}

impl Options {
    /// Starts the program, takes what it writes, and sees to its end.
    fn run_once(&self, feed: &mut Feed<'_>, began: Mono) -> io::Result<Ended> {
        let command = &self.place.command;
        let mut starting = Command::new(&command[0]);
        starting
            .args(&command[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0);
        for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] {
            starting.env_remove(name);
        }
        let mut running = Running(starting.spawn()?);
        let Some(mut out) = running.0.stdout.take() else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        set_nonblocking(&out)?;
        let due = self
            .place
            .timeout
            .map_or(Mono::NEVER, |timeout| began.plus(timeout));
        let mut cutter = Cutter::new(self.how, feed.len_max());
        let mut why = read_until(&mut out, &command[0], &mut cutter, feed, due, false)?;
        // It may have closed its output and go on.
        while why == Why::End {
            if let Some(status) = running.0.try_wait()? {
                return Ok(Ended::By(status));
            }
            if feed.is_stopping() {
                why = Why::Stop;
            } else if feed.clock.mono() >= due {
                why = Why::Late;
            } else {
                feed.progress.wake.pause(LOOK);
            }
        }
        self.end(&mut running, &mut out, &mut cutter, feed)?;
        Ok(match why {
            Why::Late => Ended::Late,
            Why::Senseless => Ended::Senseless,
            Why::Stop | Why::End => Ended::Stopped,
        })
    }

    /// Tells a program to end, and takes what it still writes.
    fn end(
        &self,
        running: &mut Running,
        out: &mut ChildStdout,
        cutter: &mut Cutter,
        feed: &mut Feed<'_>,
    ) -> io::Result<()> {
        end_group(running.0.id());
        let due = feed.clock.mono().plus(END);
        read_until(out, &self.place.command[0], cutter, feed, due, true)?;
        while feed.clock.mono() < due && running.0.try_wait()?.is_none() {
            park(Some(LOOK));
        }
        Ok(())
    }
}

/// A program that runs. Nothing is left of it when this is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        if !matches!(self.0.try_wait(), Ok(Some(_))) {
            kill_group(self.0.id());
            let _ = self.0.wait();
        }
    }
}
