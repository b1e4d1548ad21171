//! What a process finds around it: its environment, the host's name, files that are nobody else's, and
//! how much memory and disk is free.

#![allow(clippy::disallowed_methods)] // this is the file system's seam

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::Real;

/// What a configuration may refer to without saying it. Tests bring their own.
pub trait Surroundings {
    /// A variable of the environment. `None`: it is not set, or empty.
    fn variable(&self, name: &str) -> Option<OsString>;
    /// The host's name. `None`: nobody has given it one.
    fn host_name(&self) -> Option<String>;
}

impl Surroundings for Real {
    fn variable(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name).filter(|value| !value.is_empty())
    }

    fn host_name(&self) -> Option<String> {
        let system = rustix::system::uname();
        let name = system.nodename().to_str().ok()?;
        // Linux says so of a host without a name.
        (!name.is_empty() && name != "(none)").then(|| name.to_owned())
    }
}

/// Where things lie that live as long as the boot: root's place, or the user's. `None`: there is none.
pub fn default_run_dir() -> Option<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Some(PathBuf::from("/run/forebay"));
    }
    let user = Real.variable("XDG_RUNTIME_DIR");
    user.map(|path| PathBuf::from(path).join("forebay"))
}

/// Reads a whole regular file of at most `size_max` bytes that has no permission beyond `mode_max`.
pub fn read_private(path: &Path, size_max: u64, mode_max: u32) -> io::Result<Vec<u8>> {
    // A pipe that nobody writes to is not waited for.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = fs::File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mode = metadata.mode() & 0o7777;
    if mode & !mode_max != 0 {
        let text = format!("its mode is {mode:04o}, and must be {mode_max:04o} or stricter");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    let mut bytes = Vec::new();
    file.take(size_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > size_max {
        let text = format!("it has more than {size_max} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    Ok(bytes)
}

/// The file system on which a path lies, or would lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Medium {
    /// Names the device.
    pub device: u64,
    /// The kind of file system if it forgets everything when the power goes.
    pub volatile: Option<&'static str>,
    /// The bytes that may still be taken.
    pub free: u64,
}

impl Medium {
    /// Looks at the nearest part of the path that is there. Makes nothing.
    pub fn of(path: &Path) -> io::Result<Self> {
        for part in path.ancestors() {
            let part = if part.as_os_str().is_empty() {
                Path::new(".")
            } else {
                part
            };
            if !part.is_dir() {
                continue;
            }
            let free = rustix::fs::statvfs(part)?;
            return Ok(Self {
                device: fs::metadata(part)?.dev(),
                volatile: volatile_kind(&rustix::fs::statfs(part)?),
                free: free.f_bavail.saturating_mul(free.f_frsize),
            });
        }
        Err(io::ErrorKind::NotFound.into())
    }
}

/// The kind of a file system that forgets everything when the power goes.
pub(super) fn volatile_kind(stat: &rustix::fs::StatFs) -> Option<&'static str> {
    const TMPFS: u32 = 0x0102_1994;
    const RAMFS: u32 = 0x8584_58f6;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let kind = stat.f_type as u32; // the kernel's magic numbers have 32 bits
    match kind {
        TMPFS => Some("tmpfs"),
        RAMFS => Some("ramfs"),
        _ => None,
    }
}

/// The bytes of memory that the system could give to those who ask.
pub fn memory_available() -> Option<u64> {
    let text = super::read_text(Path::new("/proc/meminfo"), 64 << 10).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// `G-016`: what others may read is no secret.
    #[test]
    fn a_private_file_is_regular_small_and_nobody_elses() {
        let name = format!("forebay-{}-private", std::process::id());
        let dir = std::env::temp_dir().join(name);
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("a");
        fs::write(&path, "12345").unwrap();
        for (mode, is_taken) in [
            (0o600, true),
            (0o400, true),
            (0o640, false),
            (0o604, false),
            (0o700, false),
            (0o4600, false),
        ] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(read_private(&path, 5, 0o600).is_ok(), is_taken, "{mode:o}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let error = read_private(&path, 4, 0o600).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert!(read_private(&dir, 5, 0o7777).is_err());
        // Nobody writes to it, and nobody waits for that.
        let pipe = dir.join("pipe");
        let kind = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, kind, Mode::RUSR, 0).unwrap();
        assert!(read_private(&pipe, 5, 0o600).is_err());
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn the_medium_of_what_is_not_there_is_that_of_its_parent() {
        let there = std::env::temp_dir();
        let (of_parent, of_child) = (
            Medium::of(&there).unwrap(),
            Medium::of(&there.join("is/not/there")).unwrap(),
        );
        assert_eq!(of_parent.device, of_child.device);
        assert_eq!(of_parent.volatile, of_child.volatile);
        assert!(Medium::of(Path::new("is/not/there")).unwrap().free > 0);
        assert_eq!(
            Medium::of(Path::new("/dev/shm")).unwrap().volatile,
            Some("tmpfs")
        );
    }

    #[test]
    fn some_memory_is_available() {
        assert!(memory_available().is_some_and(|bytes| bytes > 1 << 20));
    }
}
