//! Files that others write and that are read as they grow, whatever they are called meanwhile.

#![allow(clippy::disallowed_methods)] // this is the file system's seam

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

use super::FileId;

/// An open file that somebody else writes.
#[derive(Debug)]
pub struct Followed {
    file: fs::File,
    id: FileId,
}

/// What the system says of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Which it is.
    pub id: FileId,
    /// Its length.
    pub size: u64,
    /// When it was written last, in nanoseconds.
    pub written: i128,
}

impl Followed {
    /// Opens a file to read it. What is no regular file is an error, and nobody is waited for.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
        let file = fs::OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            let text = "it is no regular file";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let id = shown(&metadata).id;
        Ok(Self { file, id })
    }

    /// Which file it is.
    pub fn id(&self) -> FileId {
        self.id
    }

    /// What the system says of it now.
    pub fn shown(&self) -> io::Result<Shown> {
        Ok(shown(&self.file.metadata()?))
    }

    /// Reads until `buf` is full or the file ends; returns how much.
    pub fn read_at(&self, buf: &mut [u8], position: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match self.file.read_at(&mut buf[done..], position + done as u64) {
                Ok(0) => break,
                Ok(len) => done += len,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }
}

impl AsFd for Followed {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// What the system says of the file that has this path; `None`: there is none.
pub fn shown_at(path: &Path) -> io::Result<Option<Shown>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(shown(&metadata))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn shown(metadata: &fs::Metadata) -> Shown {
    Shown {
        id: FileId {
            device: metadata.dev(),
            number: metadata.ino(),
        },
        size: metadata.len(),
        written: i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec()),
    }
}
