//! `stats`: the numbers of streams, live or stopped.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::table::columns;
use super::{Arguments, Done, Failure, config, json_string, print};
use crate::clock::{Clock, System};
use crate::counters::{Board, CursorCounter, Health, Stats, StreamCounter};
use crate::error::Error;
use crate::log::{View, board_in};
use crate::storage::{Memory, Real, Storage};

pub const HELP: &str = "\
usage: forebay stats CONFIG|DIR [--json]

Prints the numbers of the streams of a configuration, or of the store in a directory. If an engine has a store open, its
numbers are read from shared memory: it is not asked, and does not notice. Totals count since it opened. Of a store that
nobody has open only what lies on disk is known; a stream in memory is empty then, and is shown by its CONFIG only.

  --json    one JSON object a line, for programs

example: forebay stats /var/lib/forebay/telemetry
";

pub fn main(mut arguments: Arguments) -> Done {
    let (path, is_json) = arguments.path_and_json("CONFIG or DIR")?;
    let stores = stores(&path)?;
    let mut text = String::new();
    let mut failed = None;
    for (name, store) in stores {
        let shown = match &store {
            Store::Disk(path) => snapshot(path),
            Store::Memory(path) => snapshot_of_memory(path),
        };
        match shown {
            Ok((stats, is_live)) if is_json => text.push_str(&json(&name, is_live, &stats)),
            Ok((stats, is_live)) => text.push_str(&table(&name, is_live, &stats)),
            Err(error) => failed = Some(error),
        }
    }
    print(&text)?;
    failed.map_or(Ok(()), |error| Err(error.into()))
}

/// Where the numbers of a stream are.
pub enum Store {
    /// In its store, or where that says.
    Disk(PathBuf),
    /// With the lock of a stream in memory.
    Memory(PathBuf),
}

/// The stores that an argument means, by name.
pub fn stores(path: &Path) -> Result<Vec<(String, Store)>, Failure> {
    if Real.open_dir(path, false).is_ok() {
        let name = path
            .canonicalize()
            .ok()
            .and_then(|path| path.file_name().map(ToOwned::to_owned));
        let name = name.unwrap_or_else(|| path.as_os_str().to_owned());
        let store = Store::Disk(path.to_owned());
        return Ok(vec![(name.to_string_lossy().into_owned(), store)]);
    }
    let config = config(path)?;
    let stores = config.stream_names().into_iter().map(|name| {
        let on_disk = config.store_path(name);
        let store = match on_disk {
            Some(path) => Store::Disk(path.to_owned()),
            None => Store::Memory(config.memory_place(name).unwrap_or_default()),
        };
        (name.to_owned(), store)
    });
    Ok(stores.collect())
}

/// The numbers of a stream in memory; all are 0 when nobody has it.
fn snapshot_of_memory(path: &Path) -> Result<(Stats, bool), Error> {
    let clock = System::new();
    if let Some(board) = board_in(path, &Real) {
        return Ok((board.snapshot(None, clock.stamp()), true));
    }
    let memory = Memory::private(Board::LEN).map_err(|error| Error::io("allocate", error))?;
    Ok((Board::new(memory).snapshot(None, clock.stamp()), false))
}

/// The numbers of a store, and whether an engine has it.
pub fn snapshot(path: &Path) -> Result<(Stats, bool), Error> {
    let clock: Arc<dyn Clock> = Arc::new(System::new());
    let view = View::open(path, Arc::new(Real), Arc::clone(&clock))?;
    if let Some(board) = view.board() {
        return Ok((board.snapshot(None, clock.stamp()), true));
    }
    stopped(&view, path, &*clock).map(|stats| (stats, false))
}

/// What a store on disk shows, put on a board of our own.
fn stopped(view: &View, path: &Path, clock: &dyn Clock) -> Result<Stats, Error> {
    let summary = view.summary();
    let memory = Memory::private(Board::LEN).map_err(|error| Error::io("allocate", error))?;
    let board = Board::new(memory);
    let next = summary.report.end;
    board.set(StreamCounter::NextOffset, next);
    board.set(StreamCounter::OpenedOffset, next);
    board.set(StreamCounter::DurableOffset, next);
    board.set(StreamCounter::HeadOffset, summary.checkpoint.head);
    let pages: u64 = summary
        .segments
        .iter()
        .map(|segment| u64::from(segment.pages))
        .sum();
    board.set(
        StreamCounter::DiskBytes,
        pages * crate::format::PAGE_SIZE as u64,
    );
    let dir = Real
        .open_dir(path, false)
        .map_err(|error| Error::io("open store", error))?;
    let list = dir.list().map_err(|error| Error::io("list store", error))?;
    let allocated: u64 = list.iter().map(|entry| entry.allocated).sum();
    board.set(StreamCounter::AllocatedBytes, allocated);
    let ledger = view.shared().ledger();
    for (index, cursor) in summary.checkpoint.cursors.iter().enumerate() {
        let on_board = board.cursor(index);
        on_board.set_name(&cursor.name);
        on_board.set_place(&cursor.place);
        let from = cursor.place.position.max(summary.checkpoint.head);
        on_board.set(
            CursorCounter::GapsAhead,
            ledger.covered(from, next.max(from)),
        );
    }
    drop(ledger);
    let mut stats = board.snapshot(None, clock.stamp());
    stats.queued = 0;
    Ok(stats)
}

fn table(name: &str, is_live: bool, stats: &Stats) -> String {
    let state = if is_live { "live" } else { "stopped" };
    let mut text = format!("{name} ({state})\n");
    if is_live && stats.health != Health::Ok {
        text = format!("{name} ({state}, {})\n", stats.health.name());
    }
    let row = |(name, value): (&str, u64)| vec![format!("  {name}"), value.to_string()];
    text.push_str(&columns(&stats.numbers().map(row).collect::<Vec<_>>()));
    for sink in &stats.sinks {
        text.push_str(&format!("  sink {}: {}", sink.name, sink.state.name()));
        if !sink.last_export_error.is_empty() {
            text.push_str(&format!(" (last error: {})", sink.last_export_error));
        }
        text.push('\n');
        let row = |(name, value): (&str, u64)| vec![format!("    {name}"), value.to_string()];
        text.push_str(&columns(&sink.numbers().map(row).collect::<Vec<_>>()));
    }
    text
}

fn json(name: &str, is_live: bool, stats: &Stats) -> String {
    let numbers = |numbers: &mut dyn Iterator<Item = (&'static str, u64)>| {
        numbers
            .map(|(name, value)| format!(",\"{name}\":{value}"))
            .collect::<String>()
    };
    let sinks: Vec<String> = stats
        .sinks
        .iter()
        .map(|sink| {
            format!(
                "{{\"name\":{},\"state\":{},\"health\":{},\"lastExportError\":{}{}}}",
                json_string(&sink.name),
                json_string(sink.state.name()),
                json_string(sink.health.name()),
                json_string(&sink.last_export_error),
                numbers(&mut sink.numbers())
            )
        })
        .collect();
    format!(
        "{{\"stream\":{},\"live\":{is_live},\"health\":{}{},\"lastExportError\":{},\"sinks\":[{}]}}\n",
        json_string(name),
        json_string(stats.health.name()),
        numbers(&mut stats.numbers()),
        json_string(stats.last_export_error()),
        sinks.join(",")
    )
}
