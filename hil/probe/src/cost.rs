//! What things cost in instructions, on a board where each takes a nanosecond of its time.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use forebay::{Engine, Stream};
use rustix::time::{ClockId, clock_gettime};

use crate::Arguments;
use crate::records::{Dead, Taker, config, open, peak_kib};

const LIMIT: Duration = Duration::from_secs(120);
const KEY: [u8; 16] = [7; 16];
const PAYLOAD: [u8; 100] = [9; 100];
/// Appends in a row, which the ring holds.
const BURST: u64 = 2_000;
const BURSTS: u64 = 24;
/// The first ones go once around the ring, whose pages are not there yet.
const WARM: u64 = 8;

fn cpu(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    (time.tv_sec as u64) * 1_000_000_000 + time.tv_nsec as u64
}

fn say(name: &str, value: f64, unit: &str) {
    println!(r#"COST {{"name": "{name}", "value": {value:.1}, "unit": "{unit}"}}"#);
}

fn burst(stream: &Stream) -> Result<(), String> {
    for n in 0..BURST {
        stream
            .append(&KEY, n, &PAYLOAD)
            .map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn flush(stream: &Stream) -> Result<(), String> {
    stream.flush(LIMIT).map_err(|error| error.to_string())
}

/// From the call to publication in the ring; the syncer sleeps meanwhile.
fn ring(stream: &Stream) -> Result<f64, String> {
    let clock = ClockId::ThreadCPUTime;
    let empty = {
        let start = cpu(clock);
        cpu(clock) - start
    };
    let mut least = u64::MAX;
    for round in 0..BURSTS {
        let start = cpu(clock);
        burst(stream)?;
        let took = cpu(clock) - start - empty;
        if round >= WARM {
            least = least.min(took);
        }
        flush(stream)?;
    }
    Ok(least as f64 / BURST as f64)
}

/// Everything that the process does from the call until the record lies in its segment.
fn path(stream: &Stream) -> Result<f64, String> {
    let clock = ClockId::ProcessCPUTime;
    let mut start = 0;
    for round in 0..WARM + BURSTS {
        if round == WARM {
            start = cpu(clock);
        }
        burst(stream)?;
        flush(stream)?;
    }
    Ok((cpu(clock) - start) as f64 / (BURST * BURSTS) as f64)
}

/// One record a sync.
fn synced(stream: &Stream) -> Result<f64, String> {
    let clock = ClockId::ProcessCPUTime;
    let (rounds, mut start) = (50, 0);
    for round in 0..rounds + WARM {
        if round == WARM {
            start = cpu(clock);
        }
        let done = stream.append_durable(&KEY, round, &PAYLOAD, LIMIT);
        done.map_err(|error| error.to_string())?;
    }
    Ok((cpu(clock) - start) as f64 / rounds as f64)
}

/// What is stored, read and handed to a sink that takes it.
fn export(dir: &str) -> Result<f64, String> {
    let taker = Taker::default();
    let clock = ClockId::ProcessCPUTime;
    let engine = open(settings(dir)?, taker.clone())?;
    let stream = engine.stream("load").map_err(|error| error.to_string())?;
    let end = stream.stats().next_offset;
    let (first, start) = (taker.taken.load(Ordering::SeqCst), cpu(clock));
    let patience = Instant::now() + LIMIT;
    while taker.taken.load(Ordering::SeqCst) < end {
        if Instant::now() > patience {
            return Err(String::from("the sink did not get everything"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let cost = (cpu(clock) - start) as f64 / (end - first) as f64;
    close(&engine)?;
    Ok(cost)
}

fn settings(dir: &str) -> Result<forebay::Config, String> {
    // As docs/boards.md advises for 64 MiB.
    let buffer = r#""fsyncIntervalMs": 3600000, "maxBufferedBytes": 1048576, "maxBufferedRecords": 4096, "maxDiskBytes": 33554432, "segmentBytes": 4194304"#;
    config(dir, buffer, r#""maxRecords": 500"#).map_err(|error| error.to_string())
}

fn close(engine: &Engine) -> Result<(), String> {
    engine.close(LIMIT).map_err(|error| error.to_string())
}

pub fn run(arguments: &Arguments) -> Result<(), String> {
    let memory = arguments.text(0, "DIR in memory")?;
    let disk = arguments.text(1, "DIR on the disk")?;
    let engine = open(settings(memory)?, Dead)?;
    let stream = engine.stream("load").map_err(|error| error.to_string())?;
    say("append, ring only", ring(&stream)?, "instructions");
    say(
        "append to segment, in memory",
        path(&stream)?,
        "instructions",
    );
    close(&engine)?;
    say(
        "exported record, in memory",
        export(memory)?,
        "instructions",
    );

    let engine = open(settings(disk)?, Dead)?;
    let stream = engine.stream("load").map_err(|error| error.to_string())?;
    say(
        "append to segment, on the disk",
        path(&stream)?,
        "disk instructions",
    );
    say(
        "record with a sync of its own",
        synced(&stream)?,
        "disk instructions",
    );
    close(&engine)?;
    say("peak resident memory", peak_kib()? as f64, "KiB");
    Ok(())
}
