//! What the binary leaves in the file system for others: a socket, and a file that is always whole.

#![allow(clippy::disallowed_methods)] // this is the file system's seam

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
#[cfg(feature = "http")]
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
#[cfg(feature = "http")]
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Listens on a Unix socket that only its owner may connect to. A socket that nobody listens on any more is
/// replaced; one that somebody listens on, and anything else of that name, is an error.
#[cfg(feature = "http")]
pub fn listen_at(path: &Path) -> io::Result<UnixListener> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        Ok(_) if UnixStream::connect(path).is_ok() => return Err(io::ErrorKind::AddrInUse.into()),
        _ => {}
    }
    // Nobody can connect before its mode is right, because nobody knows it before.
    let aside = aside(path);
    let _ = fs::remove_file(&aside);
    let listener = UnixListener::bind(&aside)?;
    fs::set_permissions(&aside, fs::Permissions::from_mode(0o600))?;
    fs::rename(&aside, path)?;
    Ok(listener)
}

/// Removes a socket.
#[cfg(feature = "http")]
pub fn forget_socket(path: &Path) {
    let _ = fs::remove_file(path);
}

/// Puts text into a file that anybody may read. Who reads it finds the old text or the new, each whole, as
/// long as the power stays.
pub fn replace_text(path: &Path, text: &str) -> io::Result<()> {
    let aside = aside(path);
    let mut options = fs::OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o644);
    let done = options
        .open(&aside)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .and_then(|()| fs::rename(&aside, path));
    done.inspect_err(|_| {
        let _ = fs::remove_file(&aside);
    })
}

/// Puts text into a file that was not there. Another one of the name stays as it is, and is an error.
pub fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(path)?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all());
    written.inspect_err(|_| {
        let _ = fs::remove_file(path);
    })
}

/// A name beside it.
fn aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    PathBuf::from(name)
}
