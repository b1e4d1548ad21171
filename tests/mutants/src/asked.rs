//! Which mutant was chosen. With `MUTANTS_REACHED`, the number of each one that a run comes to is added to
//! that file.

use std::io::Write;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

static CHOSEN: LazyLock<Option<u32>> =
    LazyLock::new(|| std::env::var("MUTANT").ok().and_then(|id| id.parse().ok()));
static REACHED: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("MUTANTS_REACHED").ok());
static SEEN: [AtomicBool; 16384] = [const { AtomicBool::new(false) }; 16384];

/// True if it is this one.
pub fn is(id: u32) -> bool {
    if let Some(path) = &*REACHED
        && !SEEN[id as usize].swap(true, Ordering::Relaxed)
    {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
        let _ = file.and_then(|mut file| file.write_all(format!("{id}\n").as_bytes()));
    }
    *CHOSEN == Some(id)
}
