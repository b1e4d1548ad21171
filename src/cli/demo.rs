//! `demo`: all of it on this machine, in less than a minute, with no account anywhere.
//!
//! ```text
//!  this process                          its child
//!  ──────────────                        ──────────────────────────────────────────────
//!  watches the child's board     ◀────   host telemetry ─▶ engine ─▶ link ─▶ file
//!  kills it in the middle ─────────────▶ ✗   a new one goes on where it was
//!  reads the file, and compares it with what was promised
//! ```

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::table::columns;
use super::{Argument, Arguments, Done, Failure, bytes, json_string, print, stats};
use crate::clock::{Clock, Mono, System};
use crate::counters::{Board, Stats, StreamCounter};
use crate::error::{Code, Error};
use crate::storage::{Real, Storage};
use crate::watermark::seam::park;

mod arrived;
mod child;

pub const HELP: &str = "\
usage: forebay demo [--seconds N] [--dir DIR] [--keep]

Runs an engine in a process of its own: this machine's telemetry, 1,000 records a second, into a store on disk and
from there through a link into a file. The link is cut twice, and while it is, the process is killed (SIGKILL). At the
end the file is compared with what had been durable at that moment. Exit status 0 when nothing that was promised is
missing.

  --seconds N    how long it runs, 12 to 600 (default 36)
  --dir DIR      where its files go (default: a new directory among the temporary files)
  --keep         leave its files there

example: forebay demo
";

/// The stream of the demo.
const STREAM: &str = "host";
/// Records a second.
const RATE: u32 = 1000;
/// How often the child is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// How long the rest may take to arrive after the last record.
const DRAIN: Duration = Duration::from_secs(15);
/// When the link is cut and healed, and when the process is killed, in percent of the whole.
const CUTS: [(u32, u32); 2] = [(22, 50), (66, 78)];
const KILL: u32 = 38;

pub fn main(mut arguments: Arguments) -> Done {
    let (mut seconds, mut dir, mut keeps, mut child_since) = (36, None, false, None);
    while let Some(argument) = arguments.next()? {
        match argument {
            Argument::Option(name) if name == "seconds" => {
                seconds = u32::try_from(arguments.number()?).unwrap_or(u32::MAX);
            }
            Argument::Option(name) if name == "dir" => {
                dir = Some(PathBuf::from(arguments.value()?));
            }
            Argument::Option(name) if name == "keep" => keeps = true,
            // The child's own: when the demo began, on the boot clock.
            Argument::Option(name) if name == "child" => child_since = Some(arguments.number()?),
            argument => return Err(Arguments::unknown(&argument)),
        }
    }
    if !(12..=600).contains(&seconds) {
        return Err(Failure::Usage(format!(
            "--seconds {seconds}: must be 12..=600"
        )));
    }
    if let (Some(since), Some(dir)) = (child_since, &dir) {
        return child::main(dir, Mono(since), seconds);
    }
    let is_own = dir.is_none();
    let dir = dir.unwrap_or_else(|| {
        std::env::temp_dir().join(format!("forebay-demo-{}", std::process::id()))
    });
    let demo = Demo::new(dir.clone(), seconds)?;
    let done = demo.run();
    if keeps {
        let store = dir.join("data").join(STREAM);
        print(&format!(
            "kept in {}; try: forebay inspect {}\n",
            dir.display(),
            store.display()
        ))?;
    } else if is_own {
        crate::storage::remove_tree(&dir);
    }
    done
}

/// A moment of the schedule.
fn at_percent(seconds: u32, percent: u32) -> Duration {
    Duration::from_millis(u64::from(seconds) * 10 * u64::from(percent))
}

fn is_cut(seconds: u32, since: Duration) -> bool {
    CUTS.iter()
        .any(|(from, to)| (at_percent(seconds, *from)..at_percent(seconds, *to)).contains(&since))
}

struct Demo {
    dir: PathBuf,
    store: PathBuf,
    seconds: u32,
    clock: System,
    start: Mono,
    screen: Screen,
}

/// What was known of the child when it was killed.
struct Death {
    /// Records that append had accepted.
    appended: u64,
    /// Everything below was durable.
    durable: u64,
    /// The board's totals, which end with it.
    stats: Stats,
}

impl Demo {
    fn new(dir: PathBuf, seconds: u32) -> Result<Self, Failure> {
        let failed = |error| {
            let text = format!("{}: {error}", dir.display());
            Failure::Error(Error::text(Code::Io, "make directory", text))
        };
        Real.open_dir(&dir, true).map_err(failed)?;
        let clock = System::new();
        let start = clock.mono();
        let store = dir.join("data").join(STREAM);
        Ok(Self {
            dir,
            store,
            seconds,
            clock,
            start,
            screen: Screen::new(),
        })
    }

    fn since(&self) -> Duration {
        self.clock.mono().since(self.start)
    }

    fn run(mut self) -> Done {
        print(&format!(
            "host telemetry, {RATE} records/s for {} s; store and file in {}\n",
            self.seconds,
            self.dir.display()
        ))?;
        let mut child = self.spawn()?;
        let death = self.watch_until(at_percent(self.seconds, KILL), &mut child)?;
        let death = death.map_or_else(|| self.kill(&mut child), |_| Err(Failure::Found))?;
        self.screen.say(&format!(
            "SIGKILL: {} appended, {} durable, {} not yet",
            death.appended,
            death.durable,
            death.appended.saturating_sub(death.durable)
        ))?;
        let mut child = self.spawn()?;
        if self
            .watch_until(at_percent(self.seconds, 100), &mut child)?
            .is_some()
        {
            return Err(Failure::Found);
        }
        let last = self.finish(&mut child)?;
        self.check(&death, &last)
    }

    fn spawn(&self) -> Result<Child, Failure> {
        let binary = std::env::current_exe()?;
        let child = Command::new(binary)
            .args([
                "demo",
                "--child",
                &self.start.0.to_string(),
                "--seconds",
                &self.seconds.to_string(),
            ])
            .arg("--dir")
            .arg(&self.dir)
            .env("FOREBAY_LOG", "error")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn();
        child.map_err(|error| Error::io("start child", error).into())
    }

    /// Shows the child's numbers until it is time. Its exit status, if it ended before.
    fn watch_until(&mut self, until: Duration, child: &mut Child) -> Result<Option<i32>, Failure> {
        while self.since() < until {
            if let Some(status) = child.try_wait()? {
                self.screen.say(&format!("the child ended: {status}"))?;
                return Ok(Some(status.code().unwrap_or(-1)));
            }
            self.show(
                stats::snapshot(&self.store)
                    .ok()
                    .filter(|(_, is_live)| *is_live),
            )?;
            park(Some(LOOK));
        }
        Ok(None)
    }

    fn show(&mut self, snapshot: Option<(Stats, bool)>) -> Done {
        let Some((stats, _)) = snapshot else {
            return Ok(());
        };
        let since = self.since();
        let link = if is_cut(self.seconds, since) {
            "cut"
        } else {
            "up"
        };
        let state = stats.sinks.first().map_or("none", |sink| sink.state.name());
        self.screen.show(
            since,
            &[
                ("time", format!("{:.1} s", since.as_secs_f64())),
                ("link", link.to_owned()),
                ("sink", state.to_owned()),
                ("next", stats.next_offset.to_string()),
                ("durable", stats.durable_offset.to_string()),
                ("delivered below", stats.acked_offset.to_string()),
                ("backlog", stats.backlog.to_string()),
                ("dropped", stats.dropped_total.to_string()),
                ("syncs", stats.syncs_total.to_string()),
                ("written", bytes(stats.written_bytes)),
            ],
        )
    }

    fn kill(&self, child: &mut Child) -> Result<Death, Failure> {
        child.kill()?;
        child.wait()?;
        // Its board outlives it, and nobody writes to it now.
        let board = self.board()?;
        let now = self.clock.stamp();
        Ok(Death {
            appended: child::Shared::open(&self.dir)?.appended(),
            durable: board.get(StreamCounter::DurableOffset),
            stats: board.snapshot(None, now),
        })
    }

    fn board(&self) -> Result<Board, Failure> {
        let run = child::run_dir(&self.dir);
        let list = Real.open_dir(&run, false)?.list()?;
        let name = list.iter().map(|entry| &entry.name).find(|name| {
            Path::new(name)
                .extension()
                .is_some_and(|kind| kind == "board")
        });
        let name = name.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
        Ok(Board::new(Real.shared_by_other(&run.join(name))?))
    }

    /// Lets the child stop its input, and waits until the rest has arrived and it has ended.
    fn finish(&mut self, child: &mut Child) -> Result<Stats, Failure> {
        drop(child.stdin.take());
        let until = self.clock.mono().plus(DRAIN * 2);
        while child.try_wait()?.is_none() {
            if let Ok((stats, true)) = stats::snapshot(&self.store) {
                self.show(Some((stats, true)))?;
            }
            if self.clock.mono() > until {
                child.kill()?;
            }
            park(Some(LOOK / 4));
        }
        self.screen.lines = 0;
        // Its board outlives it.
        Ok(self.board()?.snapshot(None, self.clock.stamp()))
    }

    fn check(&self, death: &Death, last: &Stats) -> Done {
        let shared = child::Shared::open(&self.dir)?;
        let opened = last.next_offset - last.appended_total;
        let arrived = arrived::read(&child::out_path(&self.dir))?;
        let verdict = arrived.compare(death.durable, opened, last.durable_offset);
        let payload = shared.payload_bytes();
        let prepared = death.stats.prepared_bytes + last.prepared_bytes;
        let written = death.stats.written_bytes + last.written_bytes - prepared;
        let seconds = f64::from(self.seconds);
        #[allow(clippy::cast_precision_loss)] // shown with one decimal
        let (per_second, per_byte) = (
            shared.appended() as f64 / seconds,
            written as f64 / payload.max(1) as f64,
        );
        let [p99, p999, max] = shared.latencies();
        let row = |name: &str, text: String| vec![name.to_owned(), text];
        let undurable = death.appended.saturating_sub(death.durable);
        let rows = [
            row(
                "appended",
                format!("{} records, {per_second:.0} a second", shared.appended()),
            ),
            row(
                "at the kill",
                format!(
                    "{} durable; {undurable} not yet, of which {} were found and delivered",
                    death.durable, verdict.salvaged
                ),
            ),
            row(
                "delivered",
                format!(
                    "{} lines, {} of them repeated",
                    arrived.lines, arrived.repeated
                ),
            ),
            row(
                "in order",
                if arrived.disorder == 0 {
                    "yes".to_owned()
                } else {
                    "NO".to_owned()
                },
            ),
            row("promised and missing", verdict.missing.to_string()),
            row(
                "never durable and delivered",
                verdict.unpromised.to_string(),
            ),
            row("lines that make no sense", arrived.broken.to_string()),
            row(
                "device",
                format!(
                    "{} written for {} of payload ({per_byte:.2} a byte), \
                     {} once to prepare segments, {} syncs",
                    bytes(written),
                    bytes(payload),
                    bytes(prepared),
                    death.stats.syncs_total + last.syncs_total
                ),
            ),
            row(
                "append",
                format!("p99 below {p99}, p99.9 below {p999}, longest below {max}"),
            ),
        ];
        print(&columns(&rows))?;
        let is_right = verdict.missing == 0
            && verdict.unpromised == 0
            && arrived.disorder == 0
            && arrived.broken == 0
            && arrived.lines > 0;
        let text = match is_right {
            true => "everything that was promised has arrived, in order",
            false => "NOT everything is as it was promised",
        };
        print(&format!("{text}\n"))?;
        if is_right {
            Ok(())
        } else {
            Err(Failure::Found)
        }
    }
}

/// Shows rows in place on a terminal, and now and then as a line elsewhere.
struct Screen {
    is_terminal: bool,
    lines: usize,
    shown: Option<Duration>,
}

impl Screen {
    fn new() -> Self {
        Self {
            is_terminal: io::stdout().is_terminal(),
            lines: 0,
            shown: None,
        }
    }

    fn show(&mut self, now: Duration, rows: &[(&str, String)]) -> Done {
        if self.is_terminal {
            let cells = rows
                .iter()
                .map(|(name, value)| vec![(*name).to_owned(), value.clone()]);
            let text = columns(&cells.collect::<Vec<_>>());
            let up = if self.lines > 0 {
                format!("\x1b[{}A", self.lines)
            } else {
                String::new()
            };
            self.lines = rows.len();
            let text: String = text
                .lines()
                .map(|line| format!("\x1b[2K{line}\n"))
                .collect();
            return print(&format!("{up}{text}"));
        }
        if self
            .shown
            .is_some_and(|shown| now < shown + Duration::from_secs(2))
        {
            return Ok(());
        }
        self.shown = Some(now);
        let cells: Vec<String> = rows
            .iter()
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        print(&format!("{}\n", cells.join(", ")))
    }

    /// A line that stays.
    fn say(&mut self, text: &str) -> Done {
        self.lines = 0;
        print(&format!("{text}\n"))
    }
}

/// The demo's clock, for its parts.
fn clock() -> Arc<dyn Clock> {
    Arc::new(System::new())
}

/// A path as JSON.
fn json_path(path: &Path) -> String {
    // A brace itself is written twice.
    let path = path.to_string_lossy().replace('{', "{{");
    json_string(&path.replace('}', "}}"))
}
