//! A disk that can be full.

use std::io;

use forebay::format::PAGE_SIZE;

use super::{SimDisk, World};

impl SimDisk {
    /// There is no file of that name with room for so many bytes.
    pub fn lacks(&self, name: &str, len: u64) -> bool {
        let world = self.world();
        let id = world.live_names.get(name);
        id.is_none_or(|id| world.contents[*id].allocated < len)
    }
}

impl World {
    /// An error when the disk has no room for a file of that length.
    pub fn make_room(&self, id: usize, len: u64) -> io::Result<()> {
        let len = len.next_multiple_of(PAGE_SIZE as u64);
        let more = len.saturating_sub(self.contents[id].allocated);
        if more > 0 && self.allocated() + more > self.size {
            return Err(io::Error::from_raw_os_error(28));
        }
        Ok(())
    }
}
