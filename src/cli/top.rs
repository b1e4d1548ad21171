//! `top`: streams and sinks as they are now, again and again.
//!
//! ```text
//!  boards in shared memory ──▶ watch: numbers, rates, history ──▶ frame: text ──▶ terminal, or a pipe
//! ```

use std::io::{self, IsTerminal};
use std::time::Duration;

use super::{Argument, Arguments, Done, Failure, place, print, required, stats, time};
use crate::clock::{Clock, System};

mod frame;
mod terminal;
mod watch;

use frame::{Frame, Style};
use terminal::{Key, Terminal, Wait};
use watch::Watch;

pub const HELP: &str = "\
usage: forebay top CONFIG|DIR [--interval SECONDS] [--count COUNT]

Shows the streams of a configuration, or the store in a directory, and their sinks on the whole terminal, and again
after each interval: states, records a second in and out, how many wait and for how long, what was lost, and what goes
to the flash. Rates are those of the last interval; lines of blocks show how they were before, the newest at the right.
Numbers are read from shared memory: engines are not asked, and do not notice. Where standard output is no terminal,
each table is some lines of text behind the time of day.

  --interval SECONDS  the time between two looks (default 2)
  --count COUNT       so many tables, then it ends (default: no end)

Keys: q or Ctrl-C ends it, arrows or j and k move, the space bar looks at once. With the environment variable NO_COLOR
it has no colours.

example: forebay top /etc/forebay/forebay.json
";

/// The longest time between two looks, in seconds.
const INTERVAL_MAX: u64 = 3600;

pub fn main(mut arguments: Arguments) -> Done {
    let (mut path, mut interval, mut count) = (None, 2, u64::MAX);
    while let Some(argument) = arguments.next()? {
        match argument {
            Argument::Option(name) if name == "interval" => {
                interval = at_least_one(&mut arguments, INTERVAL_MAX)?;
            }
            Argument::Option(name) if name == "count" => {
                count = at_least_one(&mut arguments, u64::MAX)?;
            }
            argument => place(&mut [&mut path], argument)?,
        }
    }
    let path = required(path, "CONFIG or DIR")?;
    let watch = Watch::new(stats::stores(&path)?);
    let interval = Duration::from_secs(interval);
    let title = path.display().to_string();
    let is_dumb = std::env::var("TERM").is_ok_and(|name| name == "dumb");
    if io::stdout().is_terminal() && !is_dumb {
        live(watch, &title, interval, count)
    } else {
        plain(watch, interval, count)
    }
}

fn at_least_one(arguments: &mut Arguments, max: u64) -> Result<u64, Failure> {
    let number = arguments.number()?;
    if (1..=max).contains(&number) {
        return Ok(number);
    }
    let name = arguments.pending.as_deref().unwrap_or_default();
    let bound = match max {
        u64::MAX => "at least 1".to_owned(),
        max => format!("1..={max}"),
    };
    let text = format!("--{name} {number}: must be {bound}");
    Err(Failure::Usage(text))
}

/// Tables below each other. The first comes after an interval, when there are rates.
fn plain(mut watch: Watch, interval: Duration, count: u64) -> Done {
    let clock = System::new();
    watch.look(&clock);
    let mut due = clock.mono();
    for _ in 0..count {
        due = due.plus(interval);
        crate::watermark::seam::park(Some(due.since(clock.mono())));
        watch.look(&clock);
        let rows = frame::plain(&watch.rows());
        print(&format!("{}\n{rows}\n", time::format_ms(clock.wall_ms())))?;
    }
    Ok(())
}

/// One table that changes.
fn live(mut watch: Watch, title: &str, interval: Duration, count: u64) -> Done {
    let clock = System::new();
    let mut terminal = Terminal::enter().map_err(Failure::from)?;
    let mut frame = Frame::new(title, interval, Style::of_environment());
    let mut due = clock.mono();
    let mut shown = 0;
    loop {
        if clock.mono() >= due {
            if shown == count {
                return Ok(());
            }
            watch.look(&clock);
            shown += 1;
            // What was missed while it was stopped is not made up for.
            due = clock.mono().plus(interval);
        }
        let at = time::format_ms(clock.wall_ms());
        terminal.show(&frame.text(&watch.rows(), &at, terminal.size()))?;
        match terminal.wait(due.since(clock.mono()))? {
            Wait::End | Wait::Key(Key::Quit) => return Ok(()),
            Wait::Key(Key::Now) => due = clock.mono(),
            Wait::Key(Key::Up) => frame.scroll(-1),
            Wait::Key(Key::Down) => frame.scroll(1),
            Wait::Key(Key::PageUp) => frame.scroll(-10),
            Wait::Key(Key::PageDown) => frame.scroll(10),
            Wait::Key(Key::Suspend) => terminal.suspend()?,
            Wait::Nothing => {}
        }
    }
}
