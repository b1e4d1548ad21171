//! A simulated file.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use forebay::storage::{File, Window};

use super::window::SimWindow;
use super::{Control, SECTOR, SimDisk, World};

#[derive(Clone)]
pub(super) struct SimFile {
    pub(super) disk: SimDisk,
    pub(super) session: u64,
    pub(super) id: usize,
    pub(super) has_lock: Arc<AtomicBool>,
}

impl Drop for SimFile {
    /// The last user of a file gives its lock back.
    fn drop(&mut self) {
        if Arc::strong_count(&self.has_lock) == 1
            && self.has_lock.load(Ordering::Relaxed)
            && let Ok(mut world) = self.disk.0.lock()
            && world.session == self.session
        {
            world.contents[self.id].locked = false;
        }
    }
}

impl SimFile {
    pub(super) fn world(&self) -> io::Result<MutexGuard<'_, World>> {
        self.disk.world_of(self.session)
    }
}

fn narrow(n: u64) -> usize {
    usize::try_from(n).unwrap()
}

impl File for SimFile {
    fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        let mut world = self.world()?;
        let live = &world.contents[self.id].live;
        let from = narrow(position).min(live.len());
        let len = buf.len().min(live.len() - from);
        if world.read_fails(self.id, from, len) {
            return Err(io::Error::from_raw_os_error(5));
        }
        let live = &world.contents[self.id].live;
        buf[..len].copy_from_slice(&live[from..from + len]);
        Ok(len)
    }

    fn read_medium_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        self.read_at(buf, position)
    }

    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        let mut world = self.world()?;
        world.tick()?;
        world.make_room(self.id, position + bytes.len() as u64)?;
        world.write(self.id, bytes, narrow(position));
        Ok(())
    }

    fn preallocate(&self, size: u64) -> io::Result<()> {
        let mut world = self.world()?;
        world.tick()?;
        world.make_room(self.id, size)?;
        world.contents[self.id].extend(narrow(size));
        Ok(())
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        let mut world = self.world()?;
        world.tick()?;
        let content = &mut world.contents[self.id];
        content.live.resize(narrow(size), 0);
        content
            .dirty
            .resize(content.live.len().div_ceil(SECTOR), true);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = self.disk.world_that_syncs(self.session, self.id)?;
        world.tick()?;
        world.syncs += 1;
        if world.control == Control::NoSync {
            return Ok(());
        }
        let slow = world.slow_syncs.clone();
        if let Some((one_in, clock)) = slow
            && world.random.chance(one_in)
        {
            clock.advance(Duration::from_millis(world.random.below(40_000)));
        }
        let failures = world.sync_failures;
        let fails = failures > 0 && world.random.chance(failures);
        let lost = if world.may_lose(self.id) {
            world.lost_writes
        } else {
            0
        };
        let mut losses = Vec::new();
        let mut content = std::mem::take(&mut world.contents[self.id]);
        content.durable.resize(content.live.len(), 0);
        for sector in 0..content.dirty.len() {
            // A failed sync is told once; the sectors it lost are clean from then on.
            if !std::mem::take(&mut content.dirty[sector]) {
                continue;
            }
            if fails && world.random.chance(2) {
                content.is_stale = true;
            } else if lost > 0 && world.random.chance(lost) {
                losses.push(sector);
            } else {
                content.persist(sector);
            }
        }
        world.contents[self.id] = content;
        world.lose(self.id, &losses);
        match fails && world.control != Control::FailureHidden {
            true => Err(io::Error::from_raw_os_error(5)),
            false => Ok(()),
        }
    }

    fn drop_cache(&self) {
        if let Ok(mut world) = self.disk.world_without_failures(self.session) {
            let content = &mut world.contents[self.id];
            for sector in 0..content.dirty.len() {
                let range = content.range(sector);
                if !content.dirty[sector] && content.durable.len() >= range.end {
                    content.live[range.clone()].copy_from_slice(&content.durable[range]);
                }
            }
        }
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.world()?.contents[self.id].live.len() as u64)
    }

    fn allocated(&self) -> io::Result<u64> {
        Ok(self.world()?.contents[self.id].allocated)
    }

    fn try_lock(&self) -> io::Result<bool> {
        let mut world = self.world()?;
        let locked = &mut world.contents[self.id].locked;
        let is_taken = !std::mem::replace(locked, true);
        self.has_lock.fetch_or(is_taken, Ordering::Relaxed);
        Ok(is_taken)
    }

    fn is_locked(&self) -> io::Result<bool> {
        Ok(self.world()?.contents[self.id].locked)
    }

    fn map(&self, position: u64, len: usize) -> io::Result<Box<dyn Window>> {
        drop(self.world()?);
        Ok(Box::new(SimWindow {
            file: self.clone(),
            position,
            len,
        }))
    }
}
