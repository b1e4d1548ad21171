//! Stores numbered records and says in a raw block, outside of any file system, what was promised of them.
//!
//! The block lies on the disk that has the store: in each beginning of what that disk was told, the last note says
//! what had been promised by then.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use forebay::sink::{Answer, Batch, BlockingSink};
use rustix::fs::OFlags;

use crate::Arguments;
use crate::records::{KEY, config, open, payload};

const BLOCK: usize = 4096;
const LIMIT: Duration = Duration::from_secs(120);

#[repr(align(4096))]
struct Aligned([u8; BLOCK]);

/// Numbers in a raw block, written past every cache of the kernel.
struct Note {
    file: File,
    at: u64,
    /// The first that this life was given; before it some may be nobody's.
    first: u64,
    promised: u64,
    taken: u64,
}

impl Note {
    fn write(&self) -> std::io::Result<()> {
        let mut block = Aligned([0; BLOCK]);
        let text = format!(
            "FOREBAY {} {}\nFIRST {}\n",
            self.promised, self.taken, self.first
        );
        block.0[..text.len()].copy_from_slice(text.as_bytes());
        // An error that comes once may hit the note; it is meant for the store.
        let again = |_| self.file.write_all_at(&block.0, self.at);
        self.file.write_all_at(&block.0, self.at).or_else(again)
    }
}

/// Notes what it takes before it says so; or takes nothing.
struct Noting {
    note: Arc<Mutex<Note>>,
    is_dead: bool,
}

impl BlockingSink for Noting {
    fn deliver(&mut self, batch: &Batch<'_>, _timeout: Duration, answer: &mut Answer<'_>) {
        if self.is_dead {
            answer.retry_rest(Some(Duration::from_secs(1)));
            return;
        }
        let mut note = self
            .note
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        // A third is left for the next time: the cursor moves within segments, too.
        let taken = (batch.len() * 2).div_ceil(3);
        let last = batch.iter().nth(taken - 1).map(|record| record.offset + 1);
        note.taken = note.taken.max(last.unwrap_or(0));
        if note.write().is_ok() {
            for index in 0..taken {
                answer.set(index, forebay::sink::Outcome::Accepted);
            }
        }
        answer.retry_rest(None);
    }
}

pub fn run(arguments: &Arguments) -> Result<(), String> {
    let dir = arguments.text(0, "DIR")?;
    let raw = arguments.text(1, "RAW")?;
    let at = arguments.number(2, "AT")?;
    let records = arguments.number(3, "RECORDS")?;
    // Then nothing waits for a sync: what is noted as promised is not.
    let unsynced = arguments.has("unsynced");
    // Then a full disk refuses instead of dropping what is oldest.
    let on_full = if arguments.has("reject") {
        "rejectNew"
    } else {
        "dropOldest"
    };
    let direct = i32::try_from(OFlags::DIRECT.bits()).map_err(|error| error.to_string())?;
    let file = OpenOptions::new()
        .write(true)
        .custom_flags(direct)
        .open(raw);
    let file = file.map_err(|error| format!("{raw}: {error}"))?;
    let note = Arc::new(Mutex::new(Note {
        file,
        at,
        first: 0,
        promised: 0,
        taken: 0,
    }));
    let timer = if unsynced { 86_400_000 } else { 20 };
    let buffer = format!(
        r#""segmentBytes": 262144, "maxDiskBytes": 33554432, "maxRecordBytes": 65536, "checkpointMs": 50, "fsyncIntervalMs": {timer}, "onFull": "{on_full}""#
    );
    // Then the sink keeps up with the load, for as long as that goes on.
    let batch_len = if arguments.has("quick") { 500 } else { 20 };
    let batch = format!(r#""maxRecords": {batch_len}, "maxLatencyMs": 5"#);
    let config = config(dir, &buffer, &batch).map_err(|error| error.to_string())?;
    let sink = Noting {
        note: Arc::clone(&note),
        is_dead: arguments.has("dead"),
    };
    let engine = open(config, sink)?;
    let stream = engine.stream("load").map_err(|error| error.to_string())?;
    let first = stream.stats().next_offset;
    note.lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .first = first;
    let mut bytes = Vec::new();
    for n in first..first + records {
        payload(n, &mut bytes);
        // Once in a while a record that the caller waits for, now and then a flush for all before it.
        let promised = if unsynced {
            stream.append(KEY, n, &bytes).map(|_| n % 5 == 0)
        } else if n % 3 == 0 {
            stream.append_durable(KEY, n, &bytes, LIMIT).map(|_| true)
        } else {
            stream.append(KEY, n, &bytes).and_then(|_| {
                if n % 7 == 0 {
                    stream.flush(LIMIT).map(|()| true)
                } else {
                    Ok(false)
                }
            })
        };
        if promised.map_err(|error| format!("record {n}: {error}"))? {
            let mut note = note
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            note.promised = n + 1;
            note.write().map_err(|error| format!("{raw}: {error}"))?;
        }
    }
    if unsynced {
        // The end of the power, not of the program.
        std::process::exit(0);
    }
    engine.close(LIMIT).map_err(|error| error.to_string())
}
