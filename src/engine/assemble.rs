//! Puts the parts of an engine together, without starting any thread.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::events::{self, EventRecords, Events, SinkWatch, StreamTeller, StreamWatch, Teller};
use super::{Stream, World};
use crate::clock::Clock;
use crate::config::{Config, Medium, OnFull, SinkConfig, SinkKind, StreamConfig, Volatile};
use crate::counters::Board;
use crate::cursor::Cursor;
use crate::error::{Code, Error, Result};
use crate::exporter::{self, Exporter};
use crate::format::StoreId;
use crate::log::{self, Opening, Reader, RunBefore};
use crate::segment::Io;
use crate::sink::Sink;
use crate::storage::{Dir, ram_dir};
use crate::syncer::{self, LetterBox, Syncer};
use crate::watermark::Waker;

mod letters;
mod rings;

/// An engine whose threads have not started. Whoever drives it calls `step` of its parts.
#[derive(Default)]
pub struct Assembly {
    /// The handles.
    pub streams: Vec<Stream>,
    /// One syncer for each device, with what wakes and what stops it.
    pub syncers: Vec<(Syncer, Arc<Waker>, Arc<syncer::Orders>)>,
    /// One exporter for each sink.
    pub exporters: Vec<(Exporter, Arc<Waker>, Arc<exporter::Orders>)>,
    /// Where events come out, and for each stream where they go in.
    pub(super) events: Option<Events>,
    pub(super) tellers: Vec<StreamTeller>,
}

/// The streams of one device, before their syncer is made.
struct Device {
    number: u64,
    waker: Arc<Waker>,
    streams: Vec<syncer::Stream>,
}

/// Opens the stores of all streams and puts rings, syncers and exporters together.
pub fn assemble(config: &Config, world: &World) -> Result<Assembly> {
    let run_dir = config.run_dir();
    let mut assembly = Assembly::default();
    let mut devices: Vec<Device> = Vec::new();
    let records = config.events_stream.as_ref();
    let records = records.map(|name| Arc::new(EventRecords::new(name, &world.clock)));
    let (teller, events) = events::channel(records.clone());
    assembly.events = Some(events);
    // The one that gets events first: others may have some to tell when they are opened.
    let is_first = |stream: &&StreamConfig| config.events_stream.as_ref() == Some(&stream.name);
    let rest = config.streams.iter().filter(|stream| !is_first(stream));
    for stream in config.streams.iter().filter(is_first).chain(rest) {
        let named = |error: Error| {
            Error::text(
                error.code(),
                "",
                format!("stream \"{}\": {error}", stream.name),
            )
        };
        add(
            stream,
            config,
            world,
            run_dir.as_deref(),
            &teller,
            &mut devices,
            &mut assembly,
        )
        .map_err(named)?;
        if let (Some(records), Some(stream)) = (&records, assembly.streams.last()) {
            records.begin(stream);
        }
    }
    for device in devices {
        let orders = Arc::new(syncer::Orders::default());
        let clock = Arc::clone(&world.clock);
        let waker = Arc::clone(&device.waker);
        let syncer = Syncer::new(
            device.streams,
            clock,
            Arc::clone(&waker),
            Arc::clone(&orders),
        );
        assembly.syncers.push((syncer, waker, orders));
    }
    Ok(assembly)
}

fn add(
    stream: &StreamConfig,
    config: &Config,
    world: &World,
    run_dir: Option<&Path>,
    teller: &Teller,
    devices: &mut Vec<Device>,
    assembly: &mut Assembly,
) -> Result<()> {
    let place = match stream.buffer.medium {
        Medium::Disk => on_disk(stream, run_dir, world)?,
        Medium::Memory => in_memory(stream, run_dir, world)?,
    };
    let number = place.dir.device();
    let mut sinks = Vec::new();
    for sink in &stream.sinks {
        if let Some(built) = build_sink(stream, sink, config, world)? {
            sinks.push((sink, built));
        }
    }
    let cursors: Vec<_> = sinks
        .iter()
        .map(|(sink, _)| (sink.name.clone(), sink.starts_newest))
        .collect();
    let board = |store: StoreId| open_board(&(place.board)(store), world);
    let left = |before: &RunBefore| {
        let path = place.ring.as_ref().map(|path| path(before.store));
        rings::left_by(before, path.as_deref(), world)
    };
    let mut opened = log::open(Opening {
        dir: Arc::clone(&place.dir),
        lock_dir: place.lock_dir,
        clock: Arc::clone(&world.clock),
        options: log_options(stream),
        cursors: &cursors,
        board: &board,
        ring: &left,
        pid: std::process::id(),
    })
    .map_err(|error| in_place(stream, error))?;
    ::log::info!("{}: opened: {:?}", stream.name, opened.report);

    let device = device_of(devices, number);
    let shared = Arc::clone(opened.log.shared());
    let path = place.ring.as_ref().map(|path| path(shared.store));
    let rings = rings::open(stream, &mut opened, path.as_deref(), world, &device.waker)?;
    assembly.streams.push(Stream::new(
        &stream.name,
        rings.ring,
        rings.sources,
        Arc::clone(&shared),
        Arc::clone(&opened.board),
        Arc::clone(&world.clock),
        &stream.buffer,
    ));
    let teller = teller.of(&stream.name, &opened.board);
    teller.tell_damage(&shared);
    let mut letters = match sinks.is_empty() {
        true => None,
        false => Some(
            letters::prepare(stream, run_dir, world, &place.dir, &opened.board)
                .map_err(|error| in_place(stream, error))?,
        ),
    };
    for (index, (configured, sink)) in sinks.into_iter().enumerate() {
        let reader = Reader::new(Arc::clone(&shared), Arc::clone(&world.clock));
        let reader = reader.map_err(|error| Error::io("allocate a reader", error))?;
        let (board, syncer) = (Arc::clone(&opened.board), Arc::clone(&device.waker));
        let waker = Arc::new(Waker::new());
        let letter_box = letters::new_box(stream, Arc::clone(&syncer), Arc::clone(&waker))?;
        if let Some(letters) = &mut letters {
            letters.add_box(Arc::clone(&letter_box));
        }
        let cursor = Cursor::new(reader, Arc::clone(&shared), board, index, syncer);
        let (linger, now) = (stream.batch.max_latency, world.clock.mono());
        let (told, name) = (teller.clone(), &configured.name);
        let mut watch = SinkWatch::new(told, name, index, &shared, linger, now);
        let clock = Arc::clone(&world.clock);
        let rebases = configured.rebases;
        let (exporter, waker, orders) = new_exporter(
            stream,
            cursor,
            sink,
            &world.clock,
            waker,
            letter_box,
            rebases,
        )?;
        let exporter = exporter.watched(Box::new(move || watch.look(&*clock)));
        assembly.exporters.push((exporter, waker, orders));
    }
    let options = syncer::Options {
        sync_interval: stream.buffer.fsync_interval,
        checkpoint_interval: stream.buffer.checkpoint_interval,
    };
    let budget = stream.buffer.max_disk_bytes.saturating_sub(log::OVERHEAD);
    let mut watch = StreamWatch::new(teller.clone(), budget);
    let clock = Arc::clone(&world.clock);
    assembly.tellers.push(teller);
    let mut served = syncer::Stream::new(rings.consumer, opened.log, opened.board, options);
    if let Some(letters) = letters {
        served = served.with_letters(letters);
    }
    device
        .streams
        .push(served.watched(Box::new(move || watch.look(&*clock))));
    Ok(())
}

/// Says of a failed operation in which store it was.
fn in_place(stream: &StreamConfig, error: Error) -> Error {
    match stream.buffer.medium {
        Medium::Disk if error.io_error().is_some() => {
            let text = format!("{}: {error}", stream.buffer.path.display());
            Error::text(error.code(), "", text)
        }
        _ => error,
    }
}

/// The device of that number.
fn device_of(devices: &mut Vec<Device>, number: u64) -> &mut Device {
    let known = devices.iter().position(|device| device.number == number);
    let at = known.unwrap_or_else(|| {
        devices.push(Device {
            number,
            waker: Arc::new(Waker::new()),
            streams: Vec::new(),
        });
        devices.len() - 1
    });
    &mut devices[at]
}

/// Where the parts of a store lie.
struct Place {
    dir: Arc<dyn Dir>,
    lock_dir: Arc<dyn Dir>,
    /// The path of the board.
    board: Box<dyn Fn(StoreId) -> PathBuf>,
    /// The path of the ring, where it may be shared.
    ring: Option<Box<dyn Fn(StoreId) -> PathBuf>>,
}

/// A store in a directory, whose board is named by its id.
fn on_disk(stream: &StreamConfig, run_dir: Option<&Path>, world: &World) -> Result<Place> {
    let dir = open_dir(stream, world)?;
    let run_dir = is_there(run_dir)?.to_owned();
    let ring_dir = run_dir.clone();
    Ok(Place {
        lock_dir: Arc::clone(&dir),
        dir,
        ring: Some(Box::new(move |store| {
            ring_dir.join(format!("{store}.ring"))
        })),
        board: Box::new(move |store| run_dir.join(format!("{store}.board"))),
    })
}

/// A store in memory. What others see of it lies in a directory that is named by the stream: its id is
/// another one each time.
fn in_memory(stream: &StreamConfig, run_dir: Option<&Path>, world: &World) -> Result<Place> {
    let path = is_there(run_dir)?.join(stream.buffer.place_name());
    let lock_dir = world.storage.open_dir(&path, true);
    let lock_dir = lock_dir.map_err(|error| {
        let text = format!("{}: {error}", path.display());
        Error::text(Code::Io, "open run directory", text)
    })?;
    Ok(Place {
        dir: ram_dir(stream.buffer.max_disk_bytes),
        lock_dir,
        board: Box::new(move |_| path.join("board")),
        ring: None,
    })
}

fn is_there(run_dir: Option<&Path>) -> Result<&Path> {
    run_dir.ok_or_else(|| {
        let text = "no runDir is set, and there is neither root nor XDG_RUNTIME_DIR";
        Error::text(Code::Io, "open shared counters", text.to_owned())
    })
}

/// Opens the store's directory, if it lies where it may.
fn open_dir(stream: &StreamConfig, world: &World) -> Result<Arc<dyn Dir>> {
    let path = &stream.buffer.path;
    let dir = world.storage.open_dir(path, true).map_err(|error| {
        Error::text(
            Code::Io,
            "open store",
            format!("{}: {error}", path.display()),
        )
    })?;
    if let Some(kind) = dir.volatile() {
        let text = format!("{} lies on {kind}: a reboot empties it", path.display());
        match stream.buffer.volatile {
            Volatile::Allow => {}
            Volatile::Warn => ::log::warn!("{}: {text}", stream.name),
            Volatile::Refuse => return Err(Error::text(Code::Config, "buffer.volatile", text)),
        }
    }
    Ok(dir)
}

/// A board in shared memory, and its path.
fn open_board(path: &Path, world: &World) -> std::io::Result<(Board, String)> {
    let memory = world.storage.shared(path, Board::LEN).map_err(|error| {
        std::io::Error::new(error.kind(), format!("{}: {error}", path.display()))
    })?;
    Ok((Board::new(memory), path.display().to_string()))
}

fn log_options(stream: &StreamConfig) -> log::Options {
    let buffer = &stream.buffer;
    log::Options {
        name: stream.name.clone(),
        segment_bytes: buffer.segment_bytes,
        disk_bytes_max: buffer.max_disk_bytes,
        drop_oldest: buffer.on_full == OnFull::DropOldest,
        age_max: buffer.max_age,
        is_strict: buffer.strict,
        free_bytes_min: buffer.min_free_bytes,
        aside_bytes_max: buffer.max_damaged_bytes,
        reserves_all: buffer.reserves_all,
        io: buffer.io.unwrap_or(Io::Write),
        ring_records: buffer.max_buffered_records,
        body_len_max: buffer.max_record_bytes,
    }
}

type NewExporter = (Exporter, Arc<Waker>, Arc<exporter::Orders>);

fn new_exporter(
    stream: &StreamConfig,
    cursor: Cursor,
    sink: Box<dyn Sink>,
    clock: &Arc<dyn Clock>,
    waker: Arc<Waker>,
    letters: Arc<LetterBox>,
    rebases: bool,
) -> Result<NewExporter> {
    let options = exporter::Options {
        stream: stream.name.as_str().to_owned(),
        records_max: stream.batch.max_records,
        bytes_max: stream.batch.max_bytes,
        body_len_max: stream.buffer.max_record_bytes,
        linger: stream.batch.max_latency,
        ordering: stream.delivery.ordering,
        in_flight_max: stream.delivery.max_in_flight,
        retries_max: stream.delivery.max_retries,
        rebases,
        backoff_base: stream.delivery.backoff_base,
        backoff_max: stream.delivery.backoff_max,
        seed: clock.mono().0 ^ cursor.shared().store.tag(),
    };
    let orders = Arc::new(exporter::Orders::default());
    let clock = Arc::clone(clock);
    let exporter = Exporter::new(
        cursor,
        sink,
        options,
        clock,
        Arc::clone(&waker),
        Arc::clone(&orders),
        letters,
    );
    let exporter = exporter.map_err(|error| Error::io("allocate a batch", error))?;
    Ok((exporter, waker, orders))
}

/// Builds a sink; `None` when nothing is delivered.
#[cfg_attr(
    not(all(feature = "file", feature = "kinesis")),
    allow(unused_variables, clippy::unnecessary_wraps)
)]
fn build_sink(
    stream: &StreamConfig,
    sink: &SinkConfig,
    config: &Config,
    world: &World,
) -> Result<Option<Box<dyn Sink>>> {
    match &sink.kind {
        SinkKind::None => Ok(None),
        SinkKind::Callback(id) => {
            let custom = config.take_custom(id.reveal());
            if custom.is_none() {
                ::log::warn!("no sink is registered as \"{id}\": nothing is delivered");
            }
            Ok(custom)
        }
        #[cfg(feature = "file")]
        SinkKind::File(options) => {
            use crate::sink::{Blocking, file::File};
            let clock = Arc::clone(&world.clock);
            let file = File::new(options.clone(), &*world.storage, clock)?;
            Ok(Some(Box::new(Blocking::new(file))))
        }
        #[cfg(feature = "stdout")]
        SinkKind::Stdout(options) => {
            use crate::sink::{Blocking, stdout::Stdout};
            Ok(Some(Box::new(Blocking::new(Stdout::new(*options)))))
        }
        #[cfg(feature = "kinesis")]
        SinkKind::Kinesis(options) => {
            use crate::sink::{Blocking, Lanes, kinesis::Kinesis};
            let count = stream.kinesis_lanes();
            let mut lanes = Kinesis::lanes((**options).clone(), &world.clock, count)?;
            match (lanes.len(), lanes.pop()) {
                (1, Some(lane)) => Ok(Some(Box::new(Blocking::new(lane)))),
                (_, lane) => {
                    lanes.extend(lane);
                    let lanes = Lanes::new(lanes);
                    let lanes = lanes.map_err(|error| Error::io("start a sink's lanes", error))?;
                    Ok(Some(Box::new(lanes)))
                }
            }
        }
        #[cfg(feature = "kafka")]
        SinkKind::Kafka(options) => {
            use crate::sink::kafka::{ExactlyOnce, Kafka};
            let (options, clock) = (options.clone(), Arc::clone(&world.clock));
            Ok(Some(match options.is_exactly_once {
                true => Box::new(ExactlyOnce::new(options, sink.name.as_str(), clock)?),
                false => Box::new(Kafka::new(options, clock)?),
            }))
        }
    }
}
