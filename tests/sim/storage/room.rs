//! A disk that can be full.

use std::io;

use forebay::format::PAGE_SIZE;

use super::World;

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
