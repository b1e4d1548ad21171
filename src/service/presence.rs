//! A file that says which process serves a configuration, and how its last reload ended.
//!
//! It lies in the configuration's `runDir`, so it is gone with the boot; one that a killed process left is
//! told by the instant at which that process was started.

use std::path::{Path, PathBuf};

use crate::storage::{Real, Storage, read_text, replace_text, started};

/// How the file's name begins; the process's number follows.
const PREFIX: &str = "serves-";
/// A file that is longer is none of these.
const SIZE_MAX: u64 = 65_536;

/// The file of this process, for as long as it is there.
pub struct Presence {
    dir: PathBuf,
    /// The configuration's file.
    config: PathBuf,
    reloads: u64,
}

/// What a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The process that serves.
    pub pid: u32,
    /// The file of the configuration that it serves.
    pub config: PathBuf,
    /// How many times it was asked to read that again.
    pub reloads: u64,
    /// How the last time ended: nothing if it did what it was asked for.
    pub refused: String,
}

impl Presence {
    /// Says that this process serves what stands in the file `config`. What processes that are not there any
    /// more left behind is removed.
    pub fn new(dir: &Path, config: &Path) -> Self {
        if let Ok(open) = Real.open_dir(dir, false) {
            for pid in pids(dir).filter(|pid| look(dir, *pid).is_none()) {
                let _ = open.remove(&format!("{PREFIX}{pid}"));
            }
        }
        let this = Self {
            dir: dir.to_owned(),
            config: absolute(config),
            reloads: 0,
        };
        this.write("");
        this
    }

    /// Says how a reload ended: nothing if all went well.
    pub fn reloaded(&mut self, refused: &str) {
        self.reloads += 1;
        self.write(refused);
    }

    fn write(&self, refused: &str) {
        let pid = std::process::id();
        let (config, reloads) = (self.config.display(), self.reloads);
        let started = started(pid).unwrap_or(0);
        let refused = refused.replace('\n', " ");
        let text = format!("{started} {reloads}\n{refused}\n{config}\n");
        let path = self.dir.join(format!("{PREFIX}{pid}"));
        if let Err(error) = replace_text(&path, &text) {
            log::warn!("{}: {error}", path.display());
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let name = format!("{PREFIX}{}", std::process::id());
        let dir = Real.open_dir(&self.dir, false);
        let _ = dir.and_then(|dir| dir.remove(&name));
    }
}

/// The processes that serve what stands in the file `config`, as the directory tells.
pub fn find(dir: &Path, config: &Path) -> Vec<Seen> {
    let wanted = absolute(config);
    let seen = pids(dir).filter_map(|pid| look(dir, pid));
    seen.filter(|seen| seen.config == wanted).collect()
}

/// The processes of which there is a file.
fn pids(dir: &Path) -> impl Iterator<Item = u32> {
    let list = Real.open_dir(dir, false).and_then(|dir| dir.list());
    let names = list.unwrap_or_default().into_iter();
    names.filter_map(|entry| entry.name.strip_prefix(PREFIX)?.parse().ok())
}

/// What a process says of itself; nothing if it is not there any more.
pub fn look(dir: &Path, pid: u32) -> Option<Seen> {
    let text = read_text(&dir.join(format!("{PREFIX}{pid}")), SIZE_MAX).ok()?;
    let (first, rest) = text.split_once('\n')?;
    let (refused, config) = rest.split_once('\n')?;
    let (begun, reloads) = first.split_once(' ')?;
    let is_there = started(pid) == begun.parse().ok() && started(pid).is_some();
    is_there.then_some(())?;
    Some(Seen {
        pid,
        config: PathBuf::from(config.strip_suffix('\n')?),
        reloads: reloads.parse().ok()?,
        refused: refused.to_owned(),
    })
}

/// A path that does not depend on where a process stands.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
