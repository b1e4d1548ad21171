//! The ring of a stream: in memory of this process alone, or in shared memory that outlives it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::World;
use crate::config::StreamConfig;
use crate::error::{Error, Result};
use crate::format::{RingHead, SourceEntry};
use crate::log::{self, Opened, RunBefore};
use crate::ring::{self, Consumer, Left, Remains, Ring, remains};
use crate::storage::Memory;
use crate::syncer::drain_all;
use crate::watermark::Waker;

/// A stream's ring, and the positions in sources that its records have which are not durable yet.
pub(super) struct Rings {
    pub ring: Arc<Ring>,
    pub consumer: Consumer,
    pub sources: Vec<SourceEntry>,
}

/// What the run before left in its ring. An error is the system's: nothing was found out, nothing is lost.
pub(super) fn left_by(before: &RunBefore, path: Option<&Path>, world: &World) -> io::Result<Left> {
    let Some(path) = path else {
        return Ok(Left::Nothing);
    };
    let memory = match world.storage.shared_behind(path, ring::FRONT_SIZE, None) {
        Ok(memory) => memory,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Left::Nothing),
        Err(error) => {
            let text = format!("{}: {error}", path.display());
            return Err(io::Error::new(error.kind(), text));
        }
    };
    Ok(match check(memory, before, world) {
        Ok(Some(remains)) => Left::Ring(remains),
        Ok(None) => Left::Nothing,
        Err(reason) => {
            ::log::warn!("{} is refused: {reason}", path.display());
            Left::Refused
        }
    })
}

/// The ring in this memory, if it is the last run's. `None`: it was never used. Else why not.
fn check(
    memory: Memory,
    before: &RunBefore,
    world: &World,
) -> std::result::Result<Option<Remains>, &'static str> {
    if memory.len() < Ring::memory_len(ring::SIZE_MIN, 1) {
        return Err("it is too short");
    }
    let bytes = remains::head(&memory);
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let head =
        RingHead::decode(&bytes).map_err(|_| "its head is of another version, or damaged")?;
    if head.store != before.store || head.epoch != before.epoch {
        return Err("it is another store's");
    }
    // 0: the kernel does not say which it is.
    if head.boot != world.clock.boot() || head.boot == 0 {
        return Err("it is of another boot");
    }
    let options = ring::Options {
        size: head.size,
        records_max: head.records_max,
        body_len_max: head.body_len_max,
        first_offset: 0,
    };
    let remains = Remains::find(memory, options).ok_or("its bounds make no sense")?;
    if !remains.is_of_run(before.opened) || remains.options().first_offset > before.durable_max {
        return Err("it is not the last run's");
    }
    Ok(Some(remains))
}

/// The ring that a stream goes on with: the one of the run before, or a new one where that is not there, or
/// has other bounds than are configured and could be emptied.
pub(super) fn open(
    stream: &StreamConfig,
    opened: &mut Opened,
    path: Option<&Path>,
    world: &World,
    waker: &Arc<Waker>,
) -> Result<Rings> {
    let buffer = &stream.buffer;
    let mut options = ring::Options {
        size: buffer.ring_bytes,
        records_max: buffer.max_buffered_records,
        body_len_max: buffer.max_record_bytes,
        first_offset: opened.log.next(),
    };
    if let Some(remains) = opened.ring.take() {
        let found = *remains.options();
        let is_same = buffer.is_ring_shared
            && (found.size, found.records_max, found.body_len_max)
                == (options.size, options.records_max, options.body_len_max);
        let sources = sources_in(&remains, options.first_offset);
        let (ring, mut consumer) = remains.adopt(options.first_offset, Arc::clone(waker));
        close_in_children(&ring, true)?;
        if is_same || !drain_all(&mut consumer, &mut opened.log, &*world.clock) {
            if !is_same {
                ::log::warn!(
                    "{}: the ring of the run before cannot be emptied now: its settings stay as they were",
                    stream.name
                );
            }
            return Ok(Rings {
                ring,
                consumer,
                sources,
            });
        }
        options.first_offset = opened.log.next();
    }
    let memory = memory(stream, opened, &options, path, world);
    let memory = memory.map_err(|error| Error::io("allocate the ring", error))?;
    let (ring, consumer) = Ring::new(memory, options, Arc::clone(waker));
    close_in_children(&ring, buffer.is_ring_shared)?;
    Ok(Rings {
        ring,
        consumer,
        sources: Vec::new(),
    })
}

/// A forked child would write into the parent's ring where that is shared, and else to a copy that nobody
/// empties.
fn close_in_children(ring: &Ring, is_shared: bool) -> Result<()> {
    match ring.wipe_on_fork() {
        Err(error) if is_shared => Err(Error::io("close the ring to forked processes", error)),
        Err(error) => {
            ::log::debug!("a forked child would append to a ring that nobody empties: {error}");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// Memory for a new ring.
fn memory(
    stream: &StreamConfig,
    opened: &Opened,
    options: &ring::Options,
    path: Option<&Path>,
    world: &World,
) -> io::Result<Memory> {
    let len = Ring::memory_len(options.size, options.records_max);
    let Some(path) = path.filter(|_| stream.buffer.is_ring_shared) else {
        if let Some(path) = path {
            // Nobody may find it when records were appended that are not in it.
            remove(path, world)?;
        }
        return Memory::private(len);
    };
    let memory = world
        .storage
        .shared_behind(path, ring::FRONT_SIZE, Some(len - ring::FRONT_SIZE))
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    let parent = path
        .parent()
        .map(|parent| world.storage.open_dir(parent, false));
    if let Some(parent) = parent
        .transpose()?
        .filter(|parent| parent.volatile().is_none())
    {
        drop(parent);
        ::log::warn!(
            "{}: {} does not lie in memory: the ring wears out a disk",
            stream.name,
            path.display()
        );
    }
    let shared = opened.log.shared();
    let head = RingHead {
        store: shared.store,
        epoch: shared.epoch,
        boot: world.clock.boot(),
        size: options.size,
        records_max: options.records_max,
        body_len_max: options.body_len_max,
    };
    let first = options.first_offset;
    remains::sign(&memory, &head.encode(), opened.report.next, first);
    Ok(memory)
}

fn remove(path: &Path, world: &World) -> io::Result<()> {
    let (Some(parent), Some(name)) = (
        path.parent(),
        path.file_name().and_then(|name| name.to_str()),
    ) else {
        return Ok(());
    };
    match world.storage.open_dir(parent, false)?.remove(name) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The newest position of each source in the ring.
fn sources_in(remains: &Remains, start: u64) -> Vec<SourceEntry> {
    let mut entries = heapless::Vec::new();
    remains.sources(start, |offset, source| {
        log::put_source(&mut entries, offset, source);
    });
    entries.into_iter().collect()
}
