//! A mapped part of a simulated file.

use forebay::storage::Window;

use super::file::SimFile;

pub(super) struct SimWindow {
    pub(super) file: SimFile,
    pub(super) position: u64,
    pub(super) len: usize,
}

impl Window for SimWindow {
    fn write_at(&mut self, bytes: &[u8], position: u64) {
        assert!(self.holds(position, bytes.len()));
        // A store into memory cannot fail; when the power is off it changes nothing.
        if let Ok(mut world) = self.file.world()
            && (world.tick().is_ok() || !world.is_off)
        {
            world.write(self.file.id, bytes, usize::try_from(position).unwrap());
        }
    }

    fn holds(&self, position: u64, len: usize) -> bool {
        position >= self.position && position + len as u64 <= self.position + self.len as u64
    }
}
