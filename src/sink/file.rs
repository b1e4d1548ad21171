//! Lines in files that roll.
//!
//! ```text
//!  out.ndjson                         being written
//!  out.ndjson.00000000000000481250    full; the number is the offset of its first record
//! ```
//!
//! **Invariants.** A line is whole or not there: what a crash or a full disk left of one is cut off
//! before the next is written, and its record was not accepted. With `fsync: perBatch` a record is
//! accepted only when its line is durable.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::lines::{LineFormat, write_lines};
use super::text::Text;
use super::{Answer, Batch, BlockingSink, Link};
use crate::clock::{Clock, Mono};
use crate::error::{Code, Error, Result};
use crate::storage::{Dir, File as StorageFile, Storage};

/// What a `file` sink is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The file that is written.
    pub path: Text,
    /// What a line holds.
    pub format: LineFormat,
    /// A file of this size rolls before the next batch, in bytes; 0: never.
    pub file_bytes_max: u64,
    /// A file that was begun so long ago rolls before the next batch; zero: never.
    pub roll_every: Duration,
    /// The most files that are kept, the one being written included; the oldest go. 0: all.
    pub files_max: u32,
    /// Sync after each batch, before its records are accepted.
    pub sync: bool,
}

/// Writes lines to a file.
pub struct File {
    options: Options,
    dir: Arc<dyn Dir>,
    name: String,
    clock: Arc<dyn Clock>,
    open: Option<Open>,
    lines: Vec<u8>,
}

/// The file being written.
struct Open {
    file: Arc<dyn StorageFile>,
    size: u64,
    since: Mono,
    /// The offset of the first record that this run wrote to it.
    first: Option<u64>,
}

impl File {
    /// Opens the directory, making it if it is missing. The file itself is opened by the first batch.
    pub fn new(options: Options, storage: &dyn Storage, clock: Arc<dyn Clock>) -> Result<Self> {
        let shown = &options.path;
        let path = Path::new(shown.reveal());
        let name = path.file_name().and_then(|name| name.to_str());
        let (Some(name), Some(parent)) = (name, path.parent()) else {
            let text = format!("{shown}: not the path of a file");
            return Err(Error::text(Code::Sink, "open file sink", text));
        };
        let dir = storage.open_dir(parent, true).map_err(|error| {
            let text = format!("the directory of {shown}: {error}");
            Error::text(Code::Sink, "open file sink", text)
        })?;
        let name = name.to_owned();
        Ok(Self {
            options,
            dir,
            name,
            clock,
            open: None,
            lines: Vec::new(),
        })
    }

    /// Opens the file, or makes it, and cuts off what is left of a line that was not finished.
    fn open(&mut self) -> io::Result<&mut Open> {
        if self.open.is_none() {
            let file = match self.dir.open(&self.name) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let file = self.dir.create(&self.name)?;
                    self.dir.sync()?;
                    file
                }
                opened => opened?,
            };
            let size = end_of_lines(&*file)?;
            file.set_size(size)?;
            self.open = Some(Open {
                file,
                size,
                since: self.clock.mono(),
                first: None,
            });
        }
        self.open
            .as_mut()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn write(&mut self, batch: &Batch<'_>) -> io::Result<()> {
        self.roll_if_due()?;
        let (sync, format) = (self.options.sync, self.options.format);
        let mut lines = std::mem::take(&mut self.lines);
        let written = self.open().and_then(|open| {
            let mut end = open.size;
            write_lines(&mut lines, format, batch, |part| {
                open.file.write_at(part, end)?;
                end += part.len() as u64;
                Ok(())
            })?;
            if sync {
                open.file.sync()?;
            }
            open.size = end;
            open.first.get_or_insert(batch.get(0).offset);
            Ok(())
        });
        self.lines = lines;
        if written.is_err() {
            // What was written of it is cut off when the file is opened again; after a failed sync what
            // the file holds is not known either.
            if let Some(open) = self.open.take() {
                let _ = open.file.set_size(open.size);
            }
        }
        written
    }

    fn roll_if_due(&mut self) -> io::Result<()> {
        let (bytes_max, every) = (self.options.file_bytes_max, self.options.roll_every);
        let now = self.clock.mono();
        let is_due = |open: &Open| {
            let is_full = bytes_max > 0 && open.size >= bytes_max;
            let is_old = every > Duration::ZERO && now.since(open.since) >= every;
            open.size > 0 && (is_full || is_old)
        };
        self.open()?;
        let Some(open) = self.open.take_if(|open| is_due(open)) else {
            return Ok(());
        };
        // A run that wrote nothing to it does not know its first offset; the time is as good.
        let first = open.first.unwrap_or_else(|| self.clock.wall_ms());
        drop(open);
        let mut to = format!("{}.{first:020}", self.name);
        let taken: Vec<String> = self
            .dir
            .list()?
            .into_iter()
            .map(|entry| entry.name)
            .collect();
        let mut again = 0;
        while taken.contains(&to) {
            again += 1;
            to = format!("{}.{first:020}-{again}", self.name);
        }
        self.dir.rename(&self.name, &to)?;
        self.remove_oldest()?;
        self.dir.sync()
    }

    /// Removes rolled files until the next one fits in.
    fn remove_oldest(&mut self) -> io::Result<()> {
        let Some(keep) = usize::try_from(self.options.files_max)
            .ok()
            .filter(|max| *max > 0)
        else {
            return Ok(());
        };
        let list = self.dir.list()?;
        let is_rolled = |name: &str| {
            let rest = name
                .strip_prefix(&self.name)
                .and_then(|rest| rest.strip_prefix('.'));
            rest.is_some_and(|rest| rest.len() >= 20 && rest.as_bytes()[0].is_ascii_digit())
        };
        let mut rolled: Vec<&str> = list
            .iter()
            .map(|entry| entry.name.as_str())
            .filter(|name| is_rolled(name))
            .collect();
        rolled.sort_unstable();
        let excess = (rolled.len() + 1).saturating_sub(keep);
        rolled[..excess]
            .iter()
            .try_for_each(|name| self.dir.remove(name))
    }
}

/// The position behind the last line feed.
fn end_of_lines(file: &dyn StorageFile) -> io::Result<u64> {
    let mut end = file.size()?;
    let mut bytes = [0; 4096];
    while end > 0 {
        let start = end.saturating_sub(bytes.len() as u64);
        let len = usize::try_from(end - start).map_or(bytes.len(), |len| len);
        crate::storage::read_exact_at(file, &mut bytes[..len], start)?;
        if let Some(at) = bytes[..len].iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

impl BlockingSink for File {
    fn deliver(&mut self, batch: &Batch<'_>, _timeout: Duration, answer: &mut Answer<'_>) {
        match self.write(batch) {
            Ok(()) => {
                answer.set_link(Link::Ok, "");
                answer.accept_rest();
            }
            Err(error) => {
                answer.set_link(Link::Down, &error.to_string());
                answer.retry_rest(None);
            }
        }
    }

    fn close(&mut self, _timeout: Duration) {
        if let Some(open) = &self.open
            && let Err(error) = open.file.sync()
        {
            log::warn!("{}: sync failed: {error}", self.options.path);
        }
    }
}
