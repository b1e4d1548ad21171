//! How much memory a stream takes.

use super::{Medium, Needs, SinkConfig, SinkKind, StreamConfig};
use crate::counters::Board;
use crate::exporter;
use crate::format::{PAGE_SIZE, RECORD_HEADER_SIZE, SLOT_SIZE};
use crate::ring::Ring;
use crate::segment::{Io, READ_AHEAD_PAGES, STAGE_PAGES, WINDOW_SIZE};
use crate::syncer::letter_len_max;

/// What the tables of a log take besides: segments, cursors, ledger, sources.
const LOG_TABLES: u64 = 192 * 1024;
/// What a letter box takes besides its bytes, and an exporter's table of keys.
const LETTER_TABLES: u64 = 12 * 1024;
/// What a client for Kafka takes for itself: threads, connections, tables.
#[cfg(feature = "kafka")]
const CLIENT: u64 = 2 << 20;

impl Needs {
    /// What a stream takes: the ring, the stage, the window if there is one, the checkpoint, the board, its
    /// whole budget if the log lies in memory; and for each cursor a batch, what is read ahead, a letter box,
    /// and the lines that its sink makes.
    pub(super) fn of(stream: &StreamConfig) -> Self {
        let buffer = &stream.buffer;
        let stage = (STAGE_PAGES * PAGE_SIZE) as u64;
        let fixed = Ring::memory_len(buffer.ring_bytes, buffer.max_buffered_records) as u64
            + stage
            + if buffer.io == Some(Io::Map) {
                WINDOW_SIZE as u64
            } else {
                0
            }
            + SLOT_SIZE as u64
            + Board::LEN as u64
            + LOG_TABLES;
        let budget = buffer.max_disk_bytes
            + match stream.has_letters() {
                true => stream.dead_letters_max_bytes,
                false => 0,
            };
        let (path, log, disk) = match buffer.medium {
            Medium::Disk => (Some(buffer.path.clone()), 0, budget),
            Medium::Memory => (None, budget, 0),
        };
        let records = u64::from(stream.batch.max_records);
        let bytes = u64::from(stream.batch.max_bytes);
        let framing = (records.min(bytes) + 1) * RECORD_HEADER_SIZE as u64;
        // The records' bytes, and tables with one entry for each.
        let batch = bytes.max(buffer.max_record_bytes.into()) + framing + records * 64;
        let lines: u64 = stream
            .sinks
            .iter()
            .map(|sink| lines_of(stream, &sink.kind, buffer.max_record_bytes))
            .sum();
        let read_ahead = u64::from(READ_AHEAD_PAGES) * PAGE_SIZE as u64;
        let ordering = stream.delivery.ordering;
        // What a sink's exporter has of them; and where there are lanes, a copy for each.
        let batches = |sink: &SinkConfig| match sink.kind {
            SinkKind::None => 0,
            #[cfg(feature = "kinesis")]
            SinkKind::Kinesis(_) => match stream.kinesis_lanes() {
                1 => exporter::buffers(1, ordering),
                lanes => exporter::buffers(lanes, ordering) + lanes,
            },
            SinkKind::Callback(_) => match stream.delivery.max_in_flight as usize {
                1 => exporter::buffers(1, ordering),
                lanes => exporter::buffers(lanes, ordering) + lanes,
            },
            // What the client has of them: their bytes, and about as much again for each record.
            #[cfg(feature = "kafka")]
            SinkKind::Kafka(ref options) => {
                let lanes = stream.delivery.max_in_flight as usize;
                // The thread that makes transactions has a copy.
                let copies = usize::from(options.is_exactly_once);
                exporter::buffers(lanes, ordering) + 2 * lanes + copies
            }
            #[cfg(any(feature = "file", feature = "stdout"))]
            _ => exporter::buffers(1, ordering),
        };
        let batches = stream.sinks.iter().map(batches);
        let sinks = batches.clone().filter(|batches| *batches > 0).count() as u64;
        let batches = batches.sum::<usize>() as u64;
        // Each sink's box, and a log as the stream has one.
        let letter_box = u64::from(letter_len_max(buffer.max_record_bytes)) + LETTER_TABLES;
        let letters = match stream.has_letters() {
            true => stage + (SLOT_SIZE + Board::LEN) as u64 + LOG_TABLES,
            false => 0,
        };
        Self {
            name: stream.name.as_str().to_owned(),
            path,
            memory: fixed
                + log
                + letters
                + lines
                + batches * batch
                + sinks * (read_ahead + letter_box),
            disk,
        }
    }
}

/// What a sink makes of the records that it gets.
#[cfg_attr(
    not(all(feature = "kinesis", any(feature = "file", feature = "stdout"))),
    allow(unused_variables)
)]
fn lines_of(stream: &StreamConfig, kind: &SinkKind, max_record_bytes: u32) -> u64 {
    #[cfg(any(feature = "file", feature = "stdout"))]
    let lines = crate::sink::lines::lines_size_max(max_record_bytes as usize) as u64;
    match kind {
        SinkKind::None | SinkKind::Callback(_) => 0,
        #[cfg(feature = "file")]
        SinkKind::File(_) => lines,
        #[cfg(feature = "stdout")]
        SinkKind::Stdout(_) => lines,
        #[cfg(feature = "kinesis")]
        SinkKind::Kinesis(options) => {
            let (bytes, records) = (stream.batch.max_bytes, stream.batch.max_records);
            let bytes = bytes.max(max_record_bytes);
            let lane = options.memory_of_lane(bytes.into(), records.into());
            lane * stream.kinesis_lanes() as u64 + crate::sink::kinesis::SHARDS_SIZE
        }
        #[cfg(feature = "kafka")]
        SinkKind::Kafka(_) => CLIENT,
    }
}
