//! Where what was read of a file is found again, and what was written after it: under its own name, under
//! those that a rotation gives, or in a copy.

use std::io;
use std::path::{Path, PathBuf};

use crate::format::checksum;
use crate::storage::{FileId, Followed, Shown, names_in, shown_at};

/// So many bytes before a position are remembered by their checksum.
pub const SEEN_MAX: usize = 64;
const SIZE: usize = 28;

/// How far a file was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Which file.
    pub file: FileId,
    /// Behind the last record.
    pub at: u64,
    /// Of the [`SEEN_MAX`] bytes before, or as many as there are.
    pub checksum: u32,
}

impl Position {
    /// As a record carries it.
    pub fn to_bytes(self) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        let values = [self.file.device, self.file.number, self.at];
        for (bytes, value) in bytes.chunks_exact_mut(8).zip(values) {
            bytes.copy_from_slice(&value.to_le_bytes());
        }
        bytes[24..].copy_from_slice(&self.checksum.to_le_bytes());
        bytes
    }

    /// What a record carried.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; SIZE] = bytes.try_into().ok()?;
        let value = |at: usize| Some(u64::from_le_bytes(bytes[at..at + 8].try_into().ok()?));
        Some(Self {
            file: FileId {
                device: value(0)?,
                number: value(8)?,
            },
            at: value(16)?,
            checksum: u32::from_le_bytes(bytes[24..].try_into().ok()?),
        })
    }

    /// Whether a file has what was read up to here.
    pub fn is_in(&self, file: &Followed) -> bool {
        let mut buf = [0; SEEN_MAX];
        let len = usize::try_from(self.at).unwrap_or(SEEN_MAX).min(SEEN_MAX);
        let read = file.read_at(&mut buf[..len], self.at - len as u64);
        read.is_ok_and(|read| read == len) && checksum(&buf[..len]) == self.checksum
    }
}

/// What stands in the file itself, or in what a rotation made of it.
pub struct Rotated<'a> {
    /// The name under which it is written.
    pub path: &'a Path,
}

/// A file with its path, and what the system said of it.
type Found = (PathBuf, Shown);

impl Rotated<'_> {
    /// The files that a rotation has made, those first that were written first.
    fn all(&self) -> io::Result<Vec<Found>> {
        let dir = self.path.parent().unwrap_or(Path::new("/"));
        let own = self.path.file_name().unwrap_or_default().to_string_lossy();
        let mut found = Vec::new();
        for name in names_in(dir)? {
            let path = dir.join(&name);
            if is_rotated(&own, &name)
                && let Ok(Some(shown)) = shown_at(&path)
            {
                found.push((path, shown));
            }
        }
        // Of those that were written at the same time the highest number is the oldest.
        found.sort_by(|(path, shown), (other_path, other)| {
            let paths = (other_path.as_os_str().len(), other_path);
            let order = shown.written.cmp(&other.written);
            order.then_with(|| paths.cmp(&(path.as_os_str().len(), path)))
        });
        Ok(found)
    }

    /// The file that was read up to `position`, wherever it is: itself, or a copy.
    pub fn find(&self, position: &Position) -> io::Result<Option<Followed>> {
        let mut copy = None;
        let itself = shown_at(self.path)?.map(|shown| (self.path.to_owned(), shown));
        for (path, shown) in itself.into_iter().chain(self.all()?) {
            let file = match Followed::open(&path) {
                Ok(file) => file,
                Err(error) if path == self.path && error.kind() != io::ErrorKind::NotFound => {
                    return Err(error);
                }
                Err(_) => continue,
            };
            if position.is_in(&file) {
                if shown.id == position.file {
                    return Ok(Some(file));
                }
                copy = copy.or(Some(file));
            }
        }
        Ok(copy)
    }

    /// A copy that has what was read up to `position`, and was made before the file itself was cut.
    pub fn find_copy(&self, position: &Position) -> io::Result<Option<Followed>> {
        let files = self.all()?.into_iter();
        let mut files = files.filter_map(|(path, _)| Followed::open(&path).ok());
        Ok(files.find(|file| file.id() != position.file && position.is_in(file)))
    }

    /// What is read after a file: what a rotation has made since, or else the file that has the name now.
    /// With it, whether it is that one.
    pub fn after(&self, read: &Followed) -> io::Result<Option<(Followed, bool)>> {
        let last = read.shown()?;
        let own = shown_at(self.path)?.map(|shown| shown.id);
        let all = self.all()?;
        let at = all.iter().position(|(_, shown)| shown.id == last.id);
        let is_later = |(at_other, (_, shown)): &(usize, &Found)| match at {
            Some(at) => *at_other > at,
            None => shown.written >= last.written,
        };
        let later = all.iter().enumerate().filter(is_later);
        let mut later = later.filter(|(_, (_, shown))| Some(shown.id) != own);
        let next = later.find_map(|(_, (path, _))| Followed::open(path).ok());
        if let Some(next) = next {
            return Ok(Some((next, false)));
        }
        match own {
            Some(_) => Ok(Some((Followed::open(self.path)?, true))),
            None => Ok(None),
        }
    }
}

/// Whether a rotation of `own` makes such a name: `app.log.1`, `app.log-20261123`, `app-20261123.log`.
fn is_rotated(own: &str, name: &str) -> bool {
    let is_mark = |mark: &str| {
        let is_of_date = |c: char| c.is_ascii_digit() || "-_.:TZ".contains(c);
        mark.starts_with(['.', '-', '_'])
            && mark.ends_with(|c: char| c.is_ascii_digit() || c == 'Z')
            && mark.chars().all(is_of_date)
    };
    let inside = own.rsplit_once('.').is_some_and(|(stem, extension)| {
        let rest = name.strip_prefix(stem);
        let rest = rest.and_then(|rest| rest.strip_suffix(extension)?.strip_suffix('.'));
        rest.is_some_and(is_mark)
    });
    inside || name.strip_prefix(own).is_some_and(is_mark)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_rotated_files_are_known() {
        for name in [
            "app.log.1",
            "app.log.12",
            "app.log-20261123",
            "app.log-20261123-1795350780",
            "app.log.2026-11-23T10:00:00Z",
            "app-20261123.log",
            "app.1.log",
        ] {
            assert!(is_rotated("app.log", name), "{name}");
        }
        for name in [
            "app.log",
            "app.log.1.gz",
            "app.log.bak",
            "app.log1",
            "app.log.",
            "app.log~",
            "other.log.1",
            "app.log.swp",
            "app2.log",
        ] {
            assert!(!is_rotated("app.log", name), "{name}");
        }
        assert!(is_rotated("messages", "messages.1"));
    }

    #[test]
    fn a_position_is_what_a_record_carries() {
        let position = Position {
            file: FileId {
                device: 1,
                number: u64::MAX,
            },
            at: 1 << 40,
            checksum: 7,
        };
        assert_eq!(Position::from_bytes(&position.to_bytes()), Some(position));
        for len in [0, 24, 27, 29] {
            assert_eq!(Position::from_bytes(&vec![0; len]), None);
        }
    }
}
