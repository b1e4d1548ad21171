//! A command that is started when something happens to a stream.
//!
//! ```text
//!  engine's events ── offer ─▶ | at most QUEUE_MAX | ─▶ forebay-hook ── one call at a time ─▶ program
//!                       └ no room: counted                └ too many in a minute: counted
//! ```
//!
//! **Threads.** Whoever offers waits for nobody. One thread starts the program and sees to its end: a call
//! has a time limit, then its whole process group is killed; and nothing is left of it in the table of
//! processes.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use crate::clock::{Clock, Mono, System};
use crate::config::EventHook;
use crate::config::json::quoted;
use crate::engine::Event;
use crate::error::{Error, Result};
use crate::watermark::seam::park;

/// So many events wait for their calls.
const QUEUE_MAX: usize = 16;
/// So long calls that are due may last when the process ends.
const END: Duration = Duration::from_secs(2);
/// So long a process that was killed is waited for.
const KILLED: Duration = Duration::from_secs(1);
/// The shortest and the longest time between two looks at a process.
const LOOK_MIN: Duration = Duration::from_millis(1);
const LOOK_MAX: Duration = Duration::from_millis(50);
/// Calls are counted for so long.
const WINDOW: Duration = Duration::from_mins(1);

/// See the module's description.
pub struct Hook {
    options: EventHook,
    offers: Option<Offers>,
    thread: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
}

/// Where events are offered. Cheap to clone.
#[derive(Clone)]
pub struct Offers {
    sender: SyncSender<Call>,
    shared: Arc<Shared>,
}

/// What both sides know.
#[derive(Default)]
struct Shared {
    /// Events without a call since the last.
    missed: AtomicU64,
    /// From this instant on nothing is waited for, in nanoseconds since the boot; 0: not yet known.
    end: AtomicU64,
}

/// What the program gets.
struct Call {
    event: &'static str,
    stream: Arc<str>,
    text: String,
    /// The event's object, without the brace at its end.
    json: String,
}

impl Hook {
    /// Starts the thread.
    pub fn start(options: EventHook) -> Result<Self> {
        let (sender, receiver) = sync_channel(QUEUE_MAX);
        let shared = Arc::<Shared>::default();
        let caller = Caller {
            options: options.clone(),
            shared: Arc::clone(&shared),
            clock: System::new(),
            pace: Pace::default(),
            left: Vec::new(),
        };
        let thread = std::thread::Builder::new()
            .name("forebay-hook".to_owned())
            .spawn(move || caller.run(&receiver))
            .map_err(|error| Error::io("start thread", error))?;
        let offers = Offers {
            sender,
            shared: Arc::clone(&shared),
        };
        Ok(Self {
            options,
            offers: Some(offers),
            thread: Some(thread),
            shared,
        })
    }

    /// What was asked for.
    pub fn options(&self) -> &EventHook {
        &self.options
    }

    /// Where events are offered.
    pub fn offers(&self) -> Option<Offers> {
        self.offers.clone()
    }
}

impl Drop for Hook {
    /// Waits for the calls that are due, but not for long.
    fn drop(&mut self) {
        let end = System::new().mono().plus(END);
        self.shared.end.store(end.0, Ordering::Relaxed);
        drop(self.offers.take());
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // An engine that did not close goes on offering events, and the thread waits for them.
            let clock = System::new();
            let late = end.plus(KILLED * 2);
            while !thread.is_finished() && clock.mono() < late {
                park(Some(LOOK_MIN));
            }
        }
    }
}

impl Offers {
    /// Asks for a call. Never blocks.
    pub fn offer(&self, event: &Event, text: &str, wall_ms: u64) {
        let mut json = event.to_json(wall_ms);
        json.pop();
        let call = Call {
            event: event.kind.name(),
            stream: Arc::clone(&event.stream),
            text: text.to_owned(),
            json,
        };
        if self.sender.try_send(call).is_err() {
            self.shared.missed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The thread.
struct Caller {
    options: EventHook,
    shared: Arc<Shared>,
    clock: System,
    pace: Pace,
    /// Killed, and not yet gone.
    left: Vec<Child>,
}

impl Caller {
    fn run(mut self, calls: &Receiver<Call>) {
        while let Ok(call) = calls.recv() {
            self.left.retain_mut(|child| !has_ended(child));
            let now = self.clock.mono();
            let is_late = now >= self.end();
            if is_late || !self.pace.allows(now, self.options.per_minute) {
                self.shared.missed.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let done = self.call(&call);
            self.report(&call, done, now);
        }
        let missed = self.shared.missed.load(Ordering::Relaxed);
        if missed > 0 {
            log::info!("{missed} events had no call of the command for events");
        }
    }

    fn report(&self, call: &Call, done: io::Result<Option<ExitStatus>>, began: Mono) {
        let (program, event) = (&self.options.command[0], call.event);
        match done {
            Ok(Some(status)) if status.success() => {
                log::debug!("event command {program}: {event}: done");
            }
            Ok(Some(status)) => log::warn!("event command {program}: {event}: {status}"),
            Ok(None) => {
                let lasted = self.clock.mono().since(began).as_millis();
                log::warn!("event command {program}: {event}: killed after {lasted} ms");
            }
            Err(error) => log::warn!("event command {program}: {error}"),
        }
    }

    /// The instant at which the process ends.
    fn end(&self) -> Mono {
        match self.shared.end.load(Ordering::Relaxed) {
            0 => Mono::NEVER,
            end => Mono(end),
        }
    }

    /// Starts the program and sees to its end. `None`: it lasted too long.
    fn call(&mut self, call: &Call) -> io::Result<Option<ExitStatus>> {
        let missed = self.shared.missed.swap(0, Ordering::Relaxed);
        let mut command = Command::new(&self.options.command[0]);
        command
            .args(&self.options.command[1..])
            .env("FOREBAY_EVENT", call.event)
            .env("FOREBAY_STREAM", &*call.stream)
            .env("FOREBAY_TEXT", &call.text)
            .env("FOREBAY_MISSED", missed.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0);
        for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"] {
            command.env_remove(name);
        }
        let child = command.spawn();
        let mut child = child.inspect_err(|_| {
            // It was not told.
            self.shared.missed.fetch_add(missed + 1, Ordering::Relaxed);
        })?;
        if let Some(mut input) = child.stdin.take() {
            let text = quoted(&call.text);
            let line = format!("{},\"text\":{text},\"missed\":{missed}}}\n", call.json);
            // It fits into the pipe, so nobody is waited for; and who does not read it need not.
            let _ = input.write_all(line.as_bytes());
        }
        let due = self.clock.mono().plus(self.options.timeout);
        if let Some(status) = self.wait(&mut child, |this| due.min(this.end())) {
            return Ok(Some(status));
        }
        if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let due = self.clock.mono().plus(KILLED);
        if self.wait(&mut child, |_| due).is_none() {
            // It hangs in the kernel, and is looked at again before the next call.
            self.left.push(child);
        }
        Ok(None)
    }

    /// Waits for the end of a process until some instant, which may come nearer.
    fn wait(&self, child: &mut Child, until: impl Fn(&Self) -> Mono) -> Option<ExitStatus> {
        let mut look = LOOK_MIN;
        loop {
            if let Ok(Some(status)) = child.try_wait() {
                return Some(status);
            }
            let left = until(self).since(self.clock.mono());
            if left.is_zero() {
                return None;
            }
            park(Some(left.min(look)));
            look = (look * 2).min(LOOK_MAX);
        }
    }
}

fn has_ended(child: &mut Child) -> bool {
    child.try_wait().is_ok_and(|status| status.is_some())
}

/// Lets so many calls through in a minute.
#[derive(Default)]
struct Pace {
    since: Option<Mono>,
    calls: u32,
}

impl Pace {
    fn allows(&mut self, now: Mono, per_minute: u32) -> bool {
        if self.since.is_none_or(|since| now.since(since) >= WINDOW) {
            self.since = Some(now);
            self.calls = 0;
        }
        let is_allowed = self.calls < per_minute;
        self.calls += u32::from(is_allowed);
        is_allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_calls_are_let_through_in_a_minute() {
        let mut pace = Pace::default();
        let mut allows = |second: u64| pace.allows(Mono(second * 1_000_000_000), 2);
        assert_eq!([0, 1, 2, 59].map(&mut allows), [true, true, false, false]);
        assert_eq!([60, 61, 119].map(&mut allows), [true, true, false]);
        assert_eq!([500, 500, 500].map(&mut allows), [true, true, false]);
    }
}
