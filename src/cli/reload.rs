//! `reload`: lets a process that serves read its configuration again.

use std::path::Path;
use std::time::Duration;

use super::{Argument, Arguments, Done, Failure, config, place, print, required};
use crate::clock::{Clock, System};
use crate::error::{Code, Error};
use crate::service::presence::{Seen, find, look};
use crate::storage::{default_run_dir, hang_up};
use crate::watermark::seam::park;

pub const HELP: &str = "\
usage: forebay reload CONFIG [--timeout SECONDS]

Lets the process that runs `forebay run CONFIG` read the file again, and waits until it serves what stands there
now. Streams, sinks, inputs and all of `service` may be added, removed and changed; `runDir` may not. What is
wrong is said, and then nothing has changed. What is stored stays stored; nothing is delivered twice. Exit status
0 when it is done, 2 when it was refused, 1 when there is no such process or no answer.

  --timeout SECONDS    wait so long for the answer (default 60)

example: forebay reload /etc/forebay/forebay.json
";

/// How long an answer is waited for.
const TIMEOUT: Duration = Duration::from_secs(60);
/// It is looked for so often.
const LOOK: Duration = Duration::from_millis(20);

pub fn main(mut arguments: Arguments) -> Done {
    let (mut path, mut timeout) = (None, TIMEOUT);
    while let Some(argument) = arguments.next()? {
        match argument {
            Argument::Option(name) if name == "timeout" => {
                timeout = Duration::from_secs(arguments.number()?);
            }
            argument => place(&mut [&mut path], argument)?,
        }
    }
    let path = required(path, "CONFIG")?;
    // One that is wrong is refused by the process that is to serve it, whose environment counts.
    let (run_dir, wrong) = match config(&path) {
        Ok(config) => (config.run_dir(), None),
        Err(failure) => (default_run_dir(), Some(failure)),
    };
    let run_dir = run_dir.ok_or_else(|| failed("no runDir is set", &path))?;
    let found = find(&run_dir, &path);
    let before = match &found[..] {
        [one] => one,
        [] => {
            if let Some(failure) = wrong {
                return Err(failure);
            }
            let text = format!(
                "no process that serves it is known in {}",
                run_dir.display()
            );
            return Err(failed(&text, &path));
        }
        _ => return Err(failed("more than one process serves it", &path)),
    };
    hang_up(before.pid).map_err(|error| {
        let text = format!("process {}: {error}", before.pid);
        failed(&text, &path)
    })?;
    let after = wait(&run_dir, before, timeout).map_err(|text| failed(text, &path))?;
    match after.refused.as_str() {
        "" => print(&format!("process {} serves it\n", before.pid)),
        why => Err(Error::text(Code::Config, "reload: nothing has changed", why.to_owned()).into()),
    }
}

/// Waits for an answer.
fn wait(run_dir: &Path, before: &Seen, timeout: Duration) -> Result<Seen, &'static str> {
    let clock = System::new();
    let until = clock.mono().plus(timeout);
    while clock.mono() < until {
        match look(run_dir, before.pid) {
            None => return Err("its process has ended"),
            Some(after) if after.reloads > before.reloads => return Ok(after),
            Some(_) => park(Some(LOOK)),
        }
    }
    Err("no answer came in time")
}

fn failed(text: &str, path: &Path) -> Failure {
    Error::text(Code::Io, "reload", format!("{}: {text}", path.display())).into()
}
