//! `repair`: makes a damaged store sound again, with the least loss.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Argument, Arguments, Done, Failure, place, print, required};
use crate::clock::{Clock, System};
use crate::error::Error;
use crate::log::{LOCK_NAME, Plan, Repair};
use crate::storage::{Real, Storage};
use crate::syncer::LETTERS_DIR;

pub const HELP: &str = "\
usage: forebay repair DIR [--apply]

Reads all of the store in a directory and of its dead letters, and says what would make it sound: what would be written
again, which offsets are saved and which are lost. Nothing is touched without --apply.

  --apply    does it, as long as no engine has the store. What is changed is copied to DIR/backup-N before, the first
             number that is free; nothing removes that directory but you

Opening a store heals it as well as it can, and needs no repair before. This makes the ledger exact at once, by reading
everything; makes a store open with \"strict\": true again; and where the checkpoint is gone, takes the cursors from
what the last run left in memory, if that was in this boot, and the sources from the records. Records are never written,
moved or removed. Exit status 0 when nothing is to be done, or it was; 1 when something is.

example: forebay repair /var/lib/forebay/telemetry --apply
";

pub fn main(mut arguments: Arguments) -> Done {
    let (mut path, mut applies) = (None, false);
    while let Some(argument) = arguments.next()? {
        match argument {
            Argument::Option(name) if name == "apply" => applies = true,
            argument => place(&mut [&mut path], argument)?,
        }
    }
    let path: PathBuf = required(path, "DIR")?;
    let is_owed = repair(&path, "", applies)?;
    let letters = path.join(LETTERS_DIR);
    let is_letters_owed = match Real.open_dir(&letters, false).and_then(|dir| dir.list()) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(Error::io("read dead letters", error).into()),
        // A crash may have left it as it was made.
        Ok(list) if list.iter().all(|entry| entry.name == LOCK_NAME) => false,
        Ok(_) => repair(&letters, "dead-letters: ", applies)?,
    };
    match (is_owed || is_letters_owed) && !applies {
        true => Err(Failure::Found),
        false => Ok(()),
    }
}

/// Repairs one store. Whether there was something to be done.
fn repair(path: &Path, what: &str, applies: bool) -> Result<bool, Failure> {
    let clock: Arc<dyn Clock> = Arc::new(System::new());
    let repair = Repair::open(path, Arc::new(Real), &clock, applies)?;
    let is_owed = !repair.plan().steps.is_empty();
    print(&said(repair.plan(), what))?;
    match (is_owed, applies) {
        (false, _) => print(&format!("{what}nothing is to be repaired\n"))?,
        (true, false) => print(&format!("{what}nothing was touched: --apply does it\n"))?,
        (true, true) => {
            let backup = repair.apply()?;
            let backup = backup.display();
            print(&format!(
                "{what}done; what was changed lies in {backup} as it was\n"
            ))?;
        }
    }
    Ok(is_owed)
}

fn said(plan: &Plan, what: &str) -> String {
    let mut text = String::new();
    for step in plan.steps.iter().chain(&plan.notes) {
        text.push_str(&format!("{what}{step}\n"));
    }
    for range in &plan.saved {
        let (start, last, count) = (range.start, range.end - 1, range.end - range.start);
        text.push_str(&format!("{what}saved {start} to {last}: {count} records\n"));
    }
    for loss in &plan.lost {
        let (start, last, count) = (loss.start, loss.end - 1, loss.count);
        let reason = loss.reason.name();
        text.push_str(&format!(
            "{what}lost {start} to {last}: {reason}, {count} records\n"
        ));
    }
    text.push_str(&format!("{what}{} records saved\n", plan.count()));
    text
}
