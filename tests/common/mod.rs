//! What tests on a real file system share.

#![allow(dead_code)] // each test uses what it needs

pub mod collect;
pub mod gate;

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use forebay::Config;

/// How long anything may take here that ends by itself, on a busy machine, too.
pub const LIMIT: Duration = Duration::from_secs(60);

/// A directory of its own for a test, gone when it ends.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("forebay-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The text of a configuration whose data lie here.
    pub fn document(&self, streams: &str) -> String {
        let (data, run) = (self.join("data"), self.join("run"));
        format!(
            r#"{{"dataDir": "{}", "runDir": "{}", "streams": [{streams}]}}"#,
            data.display(),
            run.display()
        )
    }

    pub fn config(&self, streams: &str) -> Config {
        Config::from_json(&self.document(streams)).unwrap()
    }

    /// All files below a directory, with their bytes. One that goes meanwhile is left out.
    pub fn files(&self, name: &str) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files = Vec::new();
        let mut dirs = vec![self.join(name)];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    dirs.push(path);
                    continue;
                }
                match std::fs::read(&path) {
                    Ok(bytes) => files.push((path, bytes)),
                    Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{path:?}"),
                }
            }
        }
        files.sort();
        files
    }
}

/// The lines of a file.
pub fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Waits until `f` says yes. Panics when that takes longer than [`LIMIT`].
pub fn wait_until(what: &str, mut f: impl FnMut() -> bool) {
    let start = Instant::now();
    while start.elapsed() < LIMIT {
        if f() {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    panic!("{what}: not within {LIMIT:?}");
}
