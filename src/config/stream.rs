//! A stream's part of the configuration.

use std::path::{Path, PathBuf};
use std::time::Duration;

use heapless::String as Name;

use super::json::{Node, Object};
use super::resolve::Resolver;
use super::{
    BUDGET_MIN, Batch, Delivery, Io, NAME_LEN_MAX, Result, SEGMENT_SIZE_MIN, SinkConfig, SinkKind,
    millis, name, path, ring, sinks,
};
use crate::exporter::Ordering;
use crate::syncer::letter_len_max;

/// The size of a segment where nothing else is said, in bytes: less where addresses are short.
pub const SEGMENT_BYTES: u64 = if cfg!(target_pointer_width = "64") {
    64 << 20
} else {
    16 << 20
};
/// The budget of a store where nothing else is said, in bytes.
pub const DISK_BYTES: u64 = 1 << 30;
/// The budget of a buffer in memory where nothing else is said, in bytes.
pub const MEMORY_BYTES: u64 = 16 << 20;
/// The budget of dead letters where nothing else is said, in bytes.
pub const DEAD_LETTERS_BYTES: u64 = 16 << 20;
/// What is kept of damaged files where nothing else is said, in bytes.
pub const DAMAGED_BYTES: u64 = 64 << 20;
/// The bounds of a ring where nothing else is said.
pub const RING_RECORDS: u32 = 10_000;
/// See [`RING_RECORDS`].
pub const RING_BYTES: u32 = 4 << 20;

/// The largest numbers that are accepted. Beyond them something is meant that this is not made for.
const SEGMENT_BYTES_MAX: u64 = 1 << 30;
const DISK_BYTES_MAX: u64 = 1 << 46;
const MEMORY_BYTES_MAX: u64 = 1 << if usize::BITS == 64 { 36 } else { 30 };
const AGE_SECS_MAX: u64 = 100 * 366 * 86_400;
const RING_RECORDS_MAX: u32 = 1 << 25;

/// A stream.
#[derive(Clone, Debug)]
pub struct StreamConfig {
    /// Its name.
    pub name: Name<NAME_LEN_MAX>,
    /// Where it goes: each with a cursor of its own, but for `none`.
    pub sinks: Vec<SinkConfig>,
    /// How it is stored.
    pub buffer: Buffer,
    /// How batches are made.
    pub batch: Batch,
    /// How batches are sent.
    pub delivery: Delivery,
    /// The budget of the dead letters, in bytes.
    pub dead_letters_max_bytes: u64,
}

/// Where a log lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Medium {
    /// In a directory.
    #[default]
    Disk,
    /// In the process's memory, with which it ends.
    Memory,
}

/// When an append is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Fsync {
    /// When it returns.
    Always,
    /// Single appends an interval later at most; batches when they return.
    #[default]
    PerBatch,
    /// An interval later at most.
    Interval,
}

/// What happens when there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnFull {
    /// The oldest segment goes.
    #[default]
    DropOldest,
    /// Who appends waits.
    Block,
    /// The new record is refused.
    RejectNew,
}

/// What to do when the store lies where a reboot empties it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Volatile {
    /// Nothing.
    Allow,
    /// Say so.
    #[default]
    Warn,
    /// Do not open.
    Refuse,
}

/// How a stream is stored.
#[derive(Clone, Debug)]
pub struct Buffer {
    /// Where the log lies.
    pub medium: Medium,
    /// The store's directory; of a buffer in memory only what tells it from others ([`Self::place_name`]).
    pub path: PathBuf,
    /// The size of a segment, in bytes.
    pub segment_bytes: u64,
    /// The whole budget, in bytes.
    pub max_disk_bytes: u64,
    /// Whole segments that are older go.
    pub max_age: Option<Duration>,
    /// What happens when there is no room.
    pub on_full: OnFull,
    /// How long an append waits for room under [`OnFull::Block`]; `None`: as long as it takes.
    pub block_timeout: Option<Duration>,
    /// When an append is durable.
    pub fsync: Fsync,
    /// The interval of the timer.
    pub fsync_interval: Duration,
    /// How long a call waits for durability.
    pub sync_timeout: Duration,
    /// How often cursors that moved become durable.
    pub checkpoint_interval: Duration,
    /// How the active segment is written; `None`: as measurements say.
    pub io: Option<Io>,
    /// The most records in the ring, a power of two.
    pub max_buffered_records: u32,
    /// The bytes of the ring, a power of two.
    pub ring_bytes: u32,
    /// The longest record.
    pub max_record_bytes: u32,
    /// So many bytes of the file system are left to others.
    pub min_free_bytes: u64,
    /// So many bytes of files with damage are kept.
    pub max_damaged_bytes: u64,
    /// The whole budget is taken at open.
    pub reserves_all: bool,
    /// What to do when the store lies on a volatile file system.
    pub volatile: Volatile,
    /// Do not open a store in which damage is found.
    pub strict: bool,
    /// The ring lies in shared memory, which outlives the process.
    pub is_ring_shared: bool,
}

impl StreamConfig {
    pub(super) fn read(
        node: &Node<'_>,
        data_dir: &Path,
        resolver: &Resolver<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Self> {
        let mut object = node.object()?;
        let name: Name<NAME_LEN_MAX> = name(&object.required("name")?)?;
        let mut sinks = sinks::read_all(&mut object, resolver, warnings)?;
        let buffer = section(&mut object, "buffer")?;
        let buffer = Buffer::read(buffer, data_dir.join(name.as_str()), resolver)?;
        let (batch, delivery) = (
            section(&mut object, "batch")?,
            section(&mut object, "delivery")?,
        );
        for section in [&batch, &delivery].into_iter().flatten() {
            if sinks.iter().all(|sink| matches!(sink.kind, SinkKind::None)) {
                warnings.push(format!(
                    "{}: has no effect: with no sink but \"none\" nothing is delivered",
                    section.node().path()
                ));
            } else if let Some(node) = section.get("pollIntervalMs") {
                warnings.push(format!("{}: has no effect: nothing is polled", node.path()));
            }
        }
        let batch = Batch::read(batch, &mut sinks)?;
        let delivery = Delivery::read(delivery)?;
        if delivery.ordering != Ordering::Stream && sinks.iter().any(SinkConfig::is_exactly_once) {
            let delivery = section(&mut node.object()?, "delivery")?;
            let ordering = delivery.and_then(|mut delivery| delivery.take_set("ordering"));
            let rule = "must be \"stream\" where a sink has \"exactlyOnce\": true";
            return Err(ordering.as_ref().unwrap_or(node).error(rule));
        }
        let dead_letters = section(&mut object, "deadLetters")?;
        let dead_letters_max_bytes = read_dead_letters(dead_letters, buffer.max_record_bytes)?;
        let is_only_stored = sinks.iter().all(|sink| matches!(sink.kind, SinkKind::None));
        if buffer.on_full == OnFull::Block && is_only_stored {
            let buffer = section(&mut node.object()?, "buffer")?;
            let on_full = buffer.and_then(|mut buffer| buffer.take_set("onFull"));
            return Err(on_full
                .as_ref()
                .unwrap_or(node)
                .error("needs a sink that is not \"none\": else nothing ever makes room"));
        }
        if buffer.on_full == OnFull::RejectNew && is_only_stored {
            let text = "with no sink but \"none\" nothing is ever acknowledged: when the budget is used \
                        up, onFull \"rejectNew\" refuses everything";
            warnings.push(format!("{}: {text}", node.path()));
        }
        object.finish()?;
        Ok(Self {
            name,
            sinks,
            buffer,
            batch,
            delivery,
            dead_letters_max_bytes,
        })
    }

    /// Something is delivered, so something may be given up.
    pub fn has_letters(&self) -> bool {
        let is_none = |sink: &SinkConfig| matches!(sink.kind, SinkKind::None);
        !self.sinks.iter().all(is_none)
    }
}

/// The budget of the dead letters: room for some of the longest.
fn read_dead_letters(mut object: Option<Object<'_>>, max_record_bytes: u32) -> Result<u64> {
    let min = BUDGET_MIN.max(8 * u64::from(letter_len_max(max_record_bytes)));
    let default = DEAD_LETTERS_BYTES.max(min);
    let bytes = number(&mut object, "maxBytes", min, DISK_BYTES_MAX, default)?;
    finish(object)?;
    Ok(bytes)
}

/// An object that need not be there.
fn section<'a>(object: &mut Object<'a>, key: &str) -> Result<Option<Object<'a>>> {
    object.take_set(key).map(|node| node.object()).transpose()
}

/// A number with a default.
fn number(
    object: &mut Option<Object<'_>>,
    key: &str,
    min: u64,
    max: u64,
    default: u64,
) -> Result<u64> {
    take(object, key).map_or(Ok(default), |node| node.number(min..=max))
}

pub(super) fn number32(
    object: &mut Option<Object<'_>>,
    key: &str,
    min: u32,
    max: u32,
    default: u32,
) -> Result<u32> {
    take(object, key).map_or(Ok(default), |node| node.number32(min..=max))
}

/// A time in milliseconds with a default.
pub(super) fn time(
    object: &mut Option<Object<'_>>,
    key: &str,
    min: u64,
    default: u64,
) -> Result<Duration> {
    take(object, key).map_or(Ok(Duration::from_millis(default)), |node| {
        millis(&node, min)
    })
}

pub(super) fn take<'a>(object: &mut Option<Object<'a>>, key: &str) -> Option<Node<'a>> {
    object.as_mut().and_then(|object| object.take_set(key))
}

/// One of some words, of which one is for buffers on disk; and which are left to those in memory.
fn word_for<T: Copy + Default + PartialEq>(
    object: &mut Option<Object<'_>>,
    key: &str,
    words: &[(&str, T)],
    medium: Medium,
    (on_disk, others): (T, &str),
) -> Result<T> {
    let Some(node) = take(object, key) else {
        return Ok(T::default());
    };
    let word = node.word(words)?;
    if medium == Medium::Memory && word == on_disk {
        return Err(node.error(format!("must be {others} where buffer.type is \"memory\"")));
    }
    Ok(word)
}

pub(super) fn finish(object: Option<Object<'_>>) -> Result<()> {
    object.map_or(Ok(()), Object::finish)
}

impl Buffer {
    /// What the directory of a buffer in memory is called, below the run directory: it has the lock and
    /// the counters, so that one engine at a time has the stream and others can look at its numbers. Made
    /// from `dataDir` and the stream's name.
    pub fn place_name(&self) -> String {
        let path = std::path::absolute(&self.path).unwrap_or_else(|_| self.path.clone());
        // FNV-1a: the same in every build.
        let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        let bytes = path.as_os_str().as_encoded_bytes();
        format!(
            "memory-{:016x}",
            bytes.iter().fold(0xcbf2_9ce4_8422_2325, mix)
        )
    }

    fn read(
        mut object: Option<Object<'_>>,
        default_path: PathBuf,
        resolver: &Resolver<'_>,
    ) -> Result<Self> {
        let object = &mut object;
        let media = [("disk", Medium::Disk), ("memory", Medium::Memory)];
        let medium =
            take(object, "type").map_or(Ok(Medium::default()), |node| node.word(&media))?;
        let words = [("none", false), ("all", true)];
        let reserves_all = word_for(object, "reserve", &words, medium, (true, "\"none\""))?;
        let max_age = take(object, "maxAgeSecs")
            .map(|node| node.number(1..=AGE_SECS_MAX))
            .transpose()?;
        let min_free_bytes = number(object, "minFreeBytes", 0, DISK_BYTES_MAX, 0)?;
        let max_damaged_bytes =
            number(object, "maxDamagedBytes", 0, DISK_BYTES_MAX, DAMAGED_BYTES)?;
        let strict = take(object, "strict").map_or(Ok(false), |node| node.boolean())?;
        let path = Self::read_path(object, medium, default_path, resolver)?;
        let (min, max) = (SEGMENT_SIZE_MIN, SEGMENT_BYTES_MAX);
        let segment_bytes = number(object, "segmentBytes", min, max, SEGMENT_BYTES)?;
        let records = number32(
            object,
            "maxBufferedRecords",
            2,
            RING_RECORDS_MAX,
            RING_RECORDS,
        )?;
        let (min, max) = (ring::SIZE_MIN, ring::SIZE_MAX);
        let bytes = number32(object, "maxBufferedBytes", min, max, RING_BYTES)?;
        let quarter = bytes / 4;
        let max_record_bytes = number32(object, "maxRecordBytes", 1, quarter, quarter)?;
        let budget_min = BUDGET_MIN.max(8 * u64::from(max_record_bytes));
        let (default, max) = match medium {
            Medium::Disk => (DISK_BYTES, DISK_BYTES_MAX),
            Medium::Memory => (MEMORY_BYTES, MEMORY_BYTES_MAX),
        };
        let (default, max) = (default.max(budget_min), max.max(budget_min));
        let max_disk_bytes = number(object, "maxDiskBytes", budget_min, max, default)?;
        let on_full = take(object, "onFull").map_or(Ok(OnFull::default()), |node| {
            node.word(&[
                ("dropOldest", OnFull::DropOldest),
                ("block", OnFull::Block),
                ("rejectNew", OnFull::RejectNew),
            ])
        })?;
        let block_timeout = match take(object, "blockTimeoutMs") {
            Some(node) if on_full != OnFull::Block => {
                return Err(node.error("is for onFull \"block\" only"));
            }
            Some(node) => Some(millis(&node, 1)?),
            None => None,
        };
        let fsync = take(object, "fsync").map_or(Ok(Fsync::default()), |node| {
            node.word(&[
                ("always", Fsync::Always),
                ("perBatch", Fsync::PerBatch),
                ("interval", Fsync::Interval),
            ])
        })?;
        let this = Self {
            medium,
            path,
            segment_bytes,
            max_disk_bytes,
            max_age: max_age.map(Duration::from_secs),
            on_full,
            block_timeout,
            fsync,
            fsync_interval: time(object, "fsyncIntervalMs", 1, 1000)?,
            sync_timeout: time(object, "syncTimeoutMs", 1, 30_000)?,
            checkpoint_interval: time(object, "checkpointMs", 10, 5000)?,
            io: Self::read_io(object, medium)?,
            max_buffered_records: records.next_power_of_two(),
            ring_bytes: bytes.next_power_of_two(),
            max_record_bytes,
            min_free_bytes,
            max_damaged_bytes,
            reserves_all,
            volatile: Self::read_volatile(object, medium)?,
            strict,
            is_ring_shared: Self::read_ring(object, medium)?,
        };
        finish(object.take())?;
        Ok(this)
    }

    fn read_path(
        object: &mut Option<Object<'_>>,
        medium: Medium,
        default: PathBuf,
        resolver: &Resolver<'_>,
    ) -> Result<PathBuf> {
        match (take(object, "path"), medium) {
            (None, _) => Ok(default),
            (Some(node), Medium::Disk) => path(&node, resolver),
            (Some(node), Medium::Memory) => {
                Err(node.error("must be absent where buffer.type is \"memory\""))
            }
        }
    }

    fn read_ring(object: &mut Option<Object<'_>>, medium: Medium) -> Result<bool> {
        let words = [("private", false), ("shared", true)];
        match take(object, "ring").map(|node| (node.word(&words), node)) {
            Some((Ok(true), node)) if medium == Medium::Memory => {
                Err(node.error("must be \"private\" where buffer.type is \"memory\""))
            }
            word => word.map_or(Ok(false), |(word, _)| word),
        }
    }

    fn read_io(object: &mut Option<Object<'_>>, medium: Medium) -> Result<Option<Io>> {
        let words = [
            ("auto", None),
            ("mmap", Some(Io::Map)),
            ("write", Some(Io::Write)),
        ];
        let on_disk = (Some(Io::Map), "\"auto\" or \"write\"");
        word_for(object, "io", &words, medium, on_disk)
    }

    fn read_volatile(object: &mut Option<Object<'_>>, medium: Medium) -> Result<Volatile> {
        let words = [
            ("allow", Volatile::Allow),
            ("warn", Volatile::Warn),
            ("refuse", Volatile::Refuse),
        ];
        let on_disk = (Volatile::Refuse, "\"allow\" or \"warn\"");
        word_for(object, "volatile", &words, medium, on_disk)
    }
}
