//! What tests do to the disk from outside: calls that fail, damage, copies.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use super::{Failure, SECTOR, SimDisk, World};

/// Every call to the disk is counted, those that only read, too; and any of them can fail.
#[derive(Clone, Copy, Debug, Default)]
pub struct Calls {
    count: u64,
    /// The call of that number fails, and all after it if it is for ever.
    failure: Option<(u64, Failure, bool)>,
    is_paused: bool,
}

impl Calls {
    pub fn may_fail(&self) -> bool {
        self.failure.is_some()
    }

    /// Counts a call. The error that it ends with, if it does.
    fn call(&mut self) -> io::Result<()> {
        if self.is_paused {
            return Ok(());
        }
        self.count += 1;
        match self.failure {
            Some((at, failure, for_ever)) if self.count == at || (for_ever && self.count > at) => {
                Err(io::Error::from_raw_os_error(match failure {
                    Failure::Io => 5,
                    Failure::NoSpace => 28,
                }))
            }
            _ => Ok(()),
        }
    }
}

impl SimDisk {
    /// The call that comes after `after` more fails, whatever it is.
    pub fn fail_call_after(&self, after: u64, failure: Failure, for_ever: bool) {
        let mut world = self.world();
        world.calls.failure = Some((world.calls.count + after + 1, failure, for_ever));
    }

    /// No call fails any more.
    pub fn heal_calls(&self) {
        self.world().calls.failure = None;
    }

    /// Meanwhile no call fails, and none is counted.
    pub fn pause_calls(&self, is_paused: bool) {
        self.world().calls.is_paused = is_paused;
    }

    pub fn calls(&self) -> u64 {
        self.world().calls.count
    }

    /// A disk with the same on it, which goes its own way from here on.
    pub fn fork(&self) -> Self {
        Self(Arc::new(Mutex::new(self.world().clone())))
    }

    /// The disk, for a process of that session.
    pub(super) fn world_of(&self, session: u64) -> io::Result<MutexGuard<'_, World>> {
        let mut world = self.world_without_failures(session)?;
        world.calls.call()?;
        Ok(world)
    }

    /// The same for a sync of a file: when it fails, a part of what was to be written is lost, and is clean
    /// from then on.
    pub(super) fn world_that_syncs(
        &self,
        session: u64,
        id: usize,
    ) -> io::Result<MutexGuard<'_, World>> {
        let mut world = self.world_without_failures(session)?;
        if let Err(error) = world.calls.call() {
            let mut content = std::mem::take(&mut world.contents[id]);
            content.durable.resize(content.live.len(), 0);
            for sector in 0..content.dirty.len() {
                if std::mem::take(&mut content.dirty[sector]) && world.random.chance(2) {
                    content.persist(sector);
                }
            }
            world.contents[id] = content;
            return Err(error);
        }
        Ok(world)
    }

    pub(super) fn world_without_failures(&self, session: u64) -> io::Result<MutexGuard<'_, World>> {
        let world = self.world();
        match world.session == session && !world.is_off {
            true => Ok(world),
            false => Err(io::Error::other("the power is off")),
        }
    }

    /// Changes durable bytes of a file: damage.
    pub fn damage(&self, name: &str, f: impl FnOnce(&mut Vec<u8>)) {
        let mut world = self.world();
        let id = world.live_names[name];
        let content = &mut world.contents[id];
        f(&mut content.durable);
        content.live.clone_from(&content.durable);
        content.dirty = vec![false; content.live.len().div_ceil(SECTOR)];
    }

    pub fn bytes(&self, name: &str) -> Vec<u8> {
        let world = self.world();
        world.contents[world.live_names[name]].live.clone()
    }

    pub fn remove(&self, name: &str) {
        let mut world = self.world();
        world.live_names.remove(name);
        world.durable_names.remove(name);
    }
}
