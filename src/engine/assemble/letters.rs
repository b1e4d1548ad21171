//! The dead letters of a stream: their log lies in the store's directory, and is made with the first one.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{World, open_board};
use crate::config::{Medium, StreamConfig};
use crate::counters::Board;
use crate::error::{Error, Result};
use crate::format::StoreId;
use crate::log::{self, Opened, Opening};
use crate::ring::Left;
use crate::segment::Io;
use crate::storage::{Dir, ram_dir};
use crate::syncer::{DeadLetters, LETTERS_DIR, LETTERS_MAX, LetterBox, letter_len_max};
use crate::watermark::Waker;

/// The size of a segment of the dead letters' log, in bytes: what a full one drops at once.
const SEGMENT_BYTES: u64 = 1 << 20;

/// The dead letters of a stream. Opens their log if there is one.
pub(super) fn prepare(
    stream: &StreamConfig,
    run_dir: Option<&Path>,
    world: &World,
    store: &Arc<dyn Dir>,
    board_of_stream: &Arc<Board>,
) -> Result<DeadLetters> {
    let interval = stream.buffer.checkpoint_interval;
    let (world, run_dir) = (world.clone(), super::is_there(run_dir)?.to_owned());
    let (store, options) = (Arc::clone(store), options(stream));
    if stream.buffer.medium == Medium::Memory {
        // They end with the process, as what they came from does.
        let board = run_dir.join(stream.buffer.place_name());
        let board = board.join(format!("{LETTERS_DIR}.board"));
        let budget = options.disk_bytes_max;
        let open = move || open(ram_dir(budget), &|_| board.clone(), &world, &options);
        return DeadLetters::new(Box::new(open), false, Arc::clone(board_of_stream), interval);
    }
    let path = stream.buffer.path.join(LETTERS_DIR);
    let is_there = match world.storage.open_dir(&path, false) {
        Ok(_) => true,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(Error::io("open dead letters", error)),
    };
    let open = move || {
        let dir = world.storage.open_dir(&path, true);
        let dir = dir.map_err(|error| Error::io("make dead letters", error))?;
        // Or the whole directory would be gone after a power cut.
        store
            .sync()
            .map_err(|error| Error::io("sync directory", error))?;
        let board = |store: StoreId| run_dir.join(format!("{store}.board"));
        open(dir, &board, &world, &options)
    };
    DeadLetters::new(
        Box::new(open),
        is_there,
        Arc::clone(board_of_stream),
        interval,
    )
}

/// A box for an exporter.
pub(super) fn new_box(
    stream: &StreamConfig,
    syncer: Arc<Waker>,
    exporter: Arc<Waker>,
) -> Result<Arc<LetterBox>> {
    let letters = LetterBox::new(stream.buffer.max_record_bytes, syncer, exporter);
    let letters = letters.map_err(|error| Error::io("allocate a letter box", error))?;
    Ok(Arc::new(letters))
}

fn options(stream: &StreamConfig) -> log::Options {
    log::Options {
        name: stream.name.clone(),
        segment_bytes: SEGMENT_BYTES,
        disk_bytes_max: stream.dead_letters_max_bytes,
        drop_oldest: true,
        io: Io::Write,
        ring_records: u32::try_from(LETTERS_MAX).unwrap_or(u32::MAX),
        body_len_max: letter_len_max(stream.buffer.max_record_bytes),
        age_max: None,
        is_strict: false,
        free_bytes_min: 0,
        aside_bytes_max: stream.buffer.max_damaged_bytes,
        reserves_all: false,
    }
}

fn open(
    dir: Arc<dyn Dir>,
    board_path: &dyn Fn(StoreId) -> PathBuf,
    world: &World,
    options: &log::Options,
) -> Result<Opened> {
    let board = |store: StoreId| open_board(&board_path(store), world);
    log::open(Opening {
        lock_dir: Arc::clone(&dir),
        dir,
        clock: Arc::clone(&world.clock),
        options: options.clone(),
        cursors: &[],
        board: &board,
        ring: &|_| Ok(Left::Nothing),
        pid: std::process::id(),
    })
}
