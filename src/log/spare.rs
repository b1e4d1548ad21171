//! The segment that the next roll will use: made in small steps, or kept when it was freed.

use std::io;
use std::sync::Arc;

use crate::format::{PAGE_SIZE, PAGES_MIN};
use crate::segment::{self, Segment};
use crate::storage::{Dir, File};

/// How much of a new segment is written at a time, in bytes: a step on a slow card takes no longer than
/// a sync does anyway.
pub const STEP_SIZE: usize = 256 * 1024;

/// How the names of spares begin. What is found under such a name holds nothing.
pub const SPARE_PREFIX: &str = "spare-";
/// The same for those that are ready and kept for ever, because the whole budget is reserved.
pub const RESERVED_PREFIX: &str = "reserve-";
/// So many bytes of what is reserved are written between two syncs: a sync of the log waits for no more.
pub const RESERVE_SYNC_SIZE: u64 = 1 << 20;

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
    /// As a spare that is ready, perhaps not durably.
    Reserved,
    /// As a segment, perhaps not durably.
    Owed,
    /// As a segment.
    Segment,
}

/// The name of a file that holds nothing yet.
pub fn spare_name(number: u32) -> String {
    format!("{SPARE_PREFIX}{number:06}")
}

/// The name of a file that holds nothing yet and is ready.
fn reserved_name(number: u32) -> String {
    format!("{RESERVED_PREFIX}{number:06}")
}

/// The number in such a name, and whether the file is ready.
pub fn read_name(name: &str) -> Option<(u32, bool)> {
    let (digits, is_ready) = match name.strip_prefix(RESERVED_PREFIX) {
        Some(digits) => (digits, true),
        None => (name.strip_prefix(SPARE_PREFIX)?, false),
    };
    let number = digits.parse().ok()?;
    let is_ours = name == spare_name(number) || name == reserved_name(number);
    is_ours.then_some((number, is_ready))
}

impl Spare {
    /// A new file of that size, whose disk is taken here: an error says that there is none, and may leave
    /// a part of the file.
    pub fn create(dir: &dyn Dir, number: u32, pages: u32) -> io::Result<Self> {
        let name = spare_name(number);
        let file = dir.create(&name)?;
        file.preallocate(segment::position(pages))?;
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

    /// The file that a former run had prepared under that name. `None`: it is of no use.
    pub fn found(dir: &dyn Dir, name: &str) -> io::Result<Option<Self>> {
        let Some((number, is_ready)) = read_name(name) else {
            return Ok(None);
        };
        let file = dir.open(name)?;
        let size = file.size()?;
        let pages = u32::try_from(size / PAGE_SIZE as u64).unwrap_or(0);
        if pages < PAGES_MIN || !size.is_multiple_of(PAGE_SIZE as u64) {
            return Ok(None);
        }
        Ok(Some(Self {
            is_ready,
            file,
            number,
            pages,
            // How much of it was written is not known.
            done: 0,
            name: if is_ready {
                Name::Reserved
            } else {
                Name::Spare
            },
            written_bytes: 0,
        }))
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

    /// What is still to be written of it, in bytes.
    pub fn unwritten(&self) -> u64 {
        match self.is_ready {
            true => 0,
            false => segment::position(self.pages).saturating_sub(self.done),
        }
    }

    /// Whether [`reserve_step`](Self::reserve_step) has something to do.
    pub fn is_owed(&self) -> bool {
        !self.is_ready || self.name == Name::Spare
    }

    /// Like [`step`](Self::step), for a file that is not needed soon: nobody else's sync is held up by
    /// much of it. When it is ready its name says so, for the next open. A crash that undoes the name
    /// costs writing it once more.
    pub fn reserve_step(&mut self, dir: &dyn Dir) -> io::Result<()> {
        if !self.is_ready {
            self.step()?;
            if !self.is_ready && self.done.is_multiple_of(RESERVE_SYNC_SIZE) {
                self.file.sync()?;
            }
        }
        if self.is_ready && self.name == Name::Spare {
            dir.rename(&spare_name(self.number), &reserved_name(self.number))?;
            self.name = Name::Reserved;
        }
        Ok(())
    }

    /// Gives it a segment's name, durably. Called when its header is durable, and before its first page
    /// is written: a crash before leaves a spare that nobody misses.
    pub fn become_segment(&mut self, dir: &dyn Dir) -> io::Result<()> {
        if matches!(self.name, Name::Spare | Name::Reserved) {
            dir.rename(&self.file_name(), &segment::file_name(self.number))?;
            self.name = Name::Owed;
        }
        if self.name == Name::Owed {
            dir.sync()?;
            self.name = Name::Segment;
        }
        Ok(())
    }

    /// Its file's name.
    pub fn file_name(&self) -> String {
        match self.name {
            Name::Spare => spare_name(self.number),
            Name::Reserved => reserved_name(self.number),
            Name::Owed | Name::Segment => segment::file_name(self.number),
        }
    }

    /// The bytes handed to the file since this was last asked.
    pub fn take_written_bytes(&mut self) -> u64 {
        std::mem::take(&mut self.written_bytes)
    }
}

const _: () = assert!(STEP_SIZE.is_multiple_of(PAGE_SIZE));
