//! The segment that the next roll will use: made in small steps, or kept when it was freed.

use std::io;
use std::sync::Arc;

use crate::format::PAGE_SIZE;
use crate::segment::{self, Segment};
use crate::storage::{Dir, File};

/// How much of a new segment is written at a time, in bytes: a step on a slow card takes no longer than
/// a sync does anyway.
pub const STEP_SIZE: usize = 256 * 1024;

/// How the names of spares begin. What is found under such a name holds nothing.
pub const SPARE_PREFIX: &str = "spare-";

static ZEROS: [u8; STEP_SIZE] = [0; STEP_SIZE];

/// A file for a segment.
///
/// It is allocated and written with zeros once before it is used, so that a sync of the log never has
/// to change how the file system finds the file's blocks (docs/decisions/0001). In memory there are no
/// blocks to be found: there it is ready at once, and its pages take RAM only when they are used.
pub struct Spare {
    file: Arc<dyn File>,
    number: u32,
    pages: u32,
    /// How much is written.
    done: u64,
    is_ready: bool,
    name: Name,
    written_bytes: u64,
}

/// What a spare's file is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    /// As a spare.
    Spare,
    /// As a segment, perhaps not durably.
    Owed,
    /// As a segment.
    Segment,
}

/// The name of a file that holds nothing yet.
fn spare_name(number: u32) -> String {
    format!("{SPARE_PREFIX}{number:06}")
}

impl Spare {
    /// A new file of that size, whose disk is taken here: an error says that there is none.
    pub fn create(dir: &dyn Dir, number: u32, pages: u32) -> io::Result<Self> {
        let name = spare_name(number);
        let file = dir.create(&name)?;
        if let Err(error) = file.preallocate(segment::position(pages)) {
            drop(file);
            dir.remove(&name)?;
            return Err(error);
        }
        Ok(Self {
            is_ready: file.is_ready_when_preallocated(),
            file,
            number,
            pages,
            done: 0,
            name: Name::Spare,
            written_bytes: 0,
        })
    }

    /// The file of a segment that was freed. It holds records of a former life, and is ready.
    pub fn of_segment(segment: Segment) -> Self {
        let Segment {
            file,
            number,
            pages,
            ..
        } = segment;
        Self {
            file,
            number,
            pages,
            done: 0,
            is_ready: true,
            name: Name::Segment,
            written_bytes: 0,
        }
    }

    /// Whether a header may be put on it.
    pub fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// Its number.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Its length in pages.
    pub fn pages(&self) -> u32 {
        self.pages
    }

    /// The file.
    pub fn file(&self) -> &Arc<dyn File> {
        &self.file
    }

    /// Writes the next zeros. The last step makes them durable.
    pub fn step(&mut self) -> io::Result<()> {
        let size = segment::position(self.pages);
        if self.done < size {
            let len =
                usize::try_from(size - self.done).map_or(STEP_SIZE, |left| left.min(STEP_SIZE));
            self.file.write_at(&ZEROS[..len], self.done)?;
            self.done += len as u64;
            self.written_bytes += len as u64;
            // Starts to write them back, so that the last step does not have to wait for all of them.
            self.file.drop_cache();
            return Ok(());
        }
        self.file.sync()?;
        self.is_ready = true;
        Ok(())
    }

    /// Gives it a segment's name, durably. Called when its header is durable, and before its first page
    /// is written: a crash before leaves a spare that nobody misses.
    pub fn become_segment(&mut self, dir: &dyn Dir) -> io::Result<()> {
        if self.name == Name::Spare {
            dir.rename(&spare_name(self.number), &segment::file_name(self.number))?;
            self.name = Name::Owed;
        }
        if self.name == Name::Owed {
            dir.sync()?;
            self.name = Name::Segment;
        }
        Ok(())
    }

    /// Removes a file that did not become a segment.
    pub fn remove(self, dir: &dyn Dir) -> io::Result<()> {
        dir.remove(&spare_name(self.number))?;
        dir.sync()
    }

    /// The bytes handed to the file since this was last asked.
    pub fn take_written_bytes(&mut self) -> u64 {
        std::mem::take(&mut self.written_bytes)
    }
}

const _: () = assert!(STEP_SIZE.is_multiple_of(PAGE_SIZE));
