//! A simulated directory.

use std::io;
use std::sync::{Arc, MutexGuard};

use forebay::format::PAGE_SIZE;
use forebay::storage::{Dir, Entry, File};

use super::file::SimFile;
use super::{Content, Control, LETTERS, SimDisk, World};

pub(super) struct SimDir {
    pub(super) disk: SimDisk,
    pub(super) session: u64,
    pub(super) prefix: &'static str,
}

impl SimDir {
    fn world(&self) -> io::Result<MutexGuard<'_, World>> {
        self.disk.world_of(self.session)
    }

    fn file(&self, id: usize) -> Arc<dyn File> {
        Arc::new(SimFile {
            disk: self.disk.clone(),
            session: self.session,
            id,
            has_lock: Arc::default(),
        })
    }

    fn name(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn id_of(&self, world: &World, name: &str) -> io::Result<usize> {
        world
            .live_names
            .get(&self.name(name))
            .copied()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Dir for SimDir {
    fn list(&self) -> io::Result<Vec<Entry>> {
        let mut world = self.world()?;
        if world.read_failures > 0 && {
            let one_in = world.read_failures;
            world.random.chance(10 * one_in)
        } {
            return Err(io::Error::from_raw_os_error(5));
        }
        let entry = |(name, id): (&String, &usize)| {
            let content = &world.contents[*id];
            let size = content.live.len() as u64;
            Entry {
                name: name[self.prefix.len()..].to_owned(),
                size,
                allocated: content.allocated,
            }
        };
        let is_here = |(name, _): &(&String, &usize)| {
            let rest = name.strip_prefix(self.prefix);
            rest.is_some_and(|rest| !rest.contains('/'))
        };
        Ok(world.live_names.iter().filter(is_here).map(entry).collect())
    }

    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let mut world = self.world()?;
        world.tick()?;
        if world.live_names.contains_key(&self.name(name)) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        world.contents.push(Content::default());
        let id = world.contents.len() - 1;
        world.live_names.insert(self.name(name), id);
        Ok(self.file(id))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let world = self.world()?;
        Ok(self.file(self.id_of(&world, name)?))
    }

    fn open_to_read(&self, name: &str) -> io::Result<Arc<dyn File>> {
        self.open(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut world = self.world()?;
        world.tick()?;
        let id = self.id_of(&world, from)?;
        world.live_names.remove(&self.name(from));
        world.live_names.insert(self.name(to), id);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut world = self.world()?;
        world.tick()?;
        self.id_of(&world, name)?;
        world.live_names.remove(&self.name(name));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = self.world()?;
        world.tick()?;
        if world.control != Control::NoDirSync {
            // Each directory on its own.
            let is_here = |name: &String| name.starts_with(LETTERS) != self.prefix.is_empty();
            let world = &mut *world;
            world.durable_names.retain(|name, _| !is_here(name));
            let live = world.live_names.iter().filter(|(name, _)| is_here(name));
            let live = live.map(|(name, id)| (name.clone(), *id));
            world.durable_names.extend(live);
        }
        Ok(())
    }

    fn device(&self) -> u64 {
        1
    }

    fn volatile(&self) -> Option<&'static str> {
        None
    }

    fn allocated(&self) -> io::Result<u64> {
        Ok(PAGE_SIZE as u64)
    }

    fn free(&self) -> io::Result<u64> {
        let world = self.world()?;
        Ok(world.size.saturating_sub(world.allocated()))
    }
}
