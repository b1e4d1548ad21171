//! What a process finds around it: its environment, the host's name, files that are nobody else's, and
//! how much memory and disk is free.

#![allow(clippy::disallowed_methods)] // this is the file system's seam

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
#[cfg(feature = "cli")]
use rustix::process::{Pid, Signal, kill_process};

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

/// The instant at which a process was started, in the kernel's ticks since the boot. [`None`]: there is none
/// of that number.
#[cfg(feature = "cli")]
pub fn started(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program may hold anything.
    let (_, rest) = text.rsplit_once(") ")?;
    // The 22nd field, as `proc(5)` counts them; this begins at the third.
    rest.split(' ').nth(19)?.parse().ok()
}

/// Sends SIGHUP to a process.
#[cfg(feature = "cli")]
pub fn hang_up(pid: u32) -> io::Result<()> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or(io::ErrorKind::NotFound)?;
    Ok(kill_process(pid, Signal::HUP)?)
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

/// Whether the process may make files in a directory; where it is missing, whether it may be made. Makes
/// nothing.
#[cfg(feature = "cli")]
pub fn check_writable(path: &Path) -> io::Result<()> {
    use rustix::fs::{Access, access};
    for part in path.ancestors() {
        let part = if part.as_os_str().is_empty() {
            Path::new(".")
        } else {
            part
        };
        match access(part, Access::WRITE_OK | Access::EXEC_OK) {
            Err(rustix::io::Errno::NOENT) => {}
            Ok(()) if !part.is_dir() => return Err(io::ErrorKind::NotADirectory.into()),
            done => return Ok(done?),
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

/// The kind of a file system that forgets everything when the power goes.
pub(super) fn volatile_kind(stat: &rustix::fs::StatFs) -> Option<&'static str> {
    const TMPFS: u32 = 0x0102_1994;
    const RAMFS: u32 = 0x8584_58f6;
    match kind(stat) {
        TMPFS => Some("tmpfs"),
        RAMFS => Some("ramfs"),
        _ => None,
    }
}

/// Whether a file system writes blocks anew at another place, for which it may have no room.
pub(super) fn is_copied_on_write(stat: &rustix::fs::StatFs) -> bool {
    const BTRFS: u32 = 0x9123_683e;
    const BCACHEFS: u32 = 0xca45_1a4e;
    const F2FS: u32 = 0xf2f5_2010;
    const ZFS: u32 = 0x2fc1_2fc1;
    [BTRFS, BCACHEFS, F2FS, ZFS].contains(&kind(stat))
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn kind(stat: &rustix::fs::StatFs) -> u32 {
    stat.f_type as u32 // the kernel's magic numbers have 32 bits
}

/// Whether standard error is a stream of the journal, as its service manager says which file that is.
pub fn is_journal() -> bool {
    let Some(journal) = Real.variable("JOURNAL_STREAM") else {
        return false;
    };
    let said = rustix::fs::fstat(io::stderr());
    said.is_ok_and(|stat| *journal == *format!("{}:{}", stat.st_dev, stat.st_ino))
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

/// The bytes of memory that the control groups of this process let it have, all its other memory included.
/// `None`: as much as there is.
pub fn memory_limit() -> Option<u64> {
    let groups = super::read_text(Path::new("/proc/self/cgroup"), 64 << 10).ok()?;
    limit_below(Path::new("/sys/fs/cgroup"), &groups)
}

/// The least of the limits of some groups and those around them.
fn limit_below(root: &Path, groups: &str) -> Option<u64> {
    let limits = groups.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        // One tree for all in version 2, and one for each controller in version 1.
        let (tree, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => return None,
        };
        // In a container the path may be one of outside; then the tree's root is the group.
        let path = Path::new(path.trim_start_matches('/'));
        let limit = |group: &Path| {
            let text = super::read_text(&tree.join(group).join(file), 64).ok()?;
            text.trim().parse::<u64>().ok() // or "max"
        };
        path.ancestors().filter_map(limit).min()
    });
    // Version 1 says the largest number there is, in whole pages, where there is no limit.
    limits.min().filter(|limit| *limit < u64::MAX >> 2)
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

    /// `L-66`: the least limit of all groups around the process counts, in either version of control groups.
    #[test]
    fn the_least_limit_of_the_control_groups_counts() {
        let name = format!("forebay-{}-groups", std::process::id());
        let root = std::env::temp_dir().join(name);
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let two = "0::/a/b\n";
        assert_eq!(limit_below(&root, two), None);
        write("a/b/memory.max", "max\n");
        assert_eq!(limit_below(&root, two), None);
        write("a/memory.max", "5000\n");
        assert_eq!(limit_below(&root, two), Some(5000));
        write("a/b/memory.max", "7000\n");
        assert_eq!(limit_below(&root, two), Some(5000));
        write("memory.max", "4000\n");
        assert_eq!(limit_below(&root, "0::/from/outside\n"), Some(4000));
        let one = "9:name=systemd:/\n4:cpu,memory:/c\n";
        write("memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(limit_below(&root, one), None);
        write("memory/c/memory.limit_in_bytes", "6000\n");
        assert_eq!(limit_below(&root, one), Some(6000));
        assert_eq!(limit_below(&root, &format!("{one}{two}")), Some(4000));
        for noise in ["", "0", "0:", "::", "0::\n", "x:memory"] {
            let _ = limit_below(&root, noise);
        }
        fs::remove_dir_all(&root).unwrap();
    }
}
