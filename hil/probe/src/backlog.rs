//! A backlog is made in one place, and delivered in another.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use forebay::Code;

use crate::Arguments;
use crate::records::{Dead, Taker, config, open, peak_kib};

const LIMIT: Duration = Duration::from_secs(600);
/// For a board with 64 MiB: `docs/boards.md`.
const SMALL: &str = r#""segmentBytes": 4194304, "maxDiskBytes": 8589934592, "maxBufferedBytes": 1048576, "maxBufferedRecords": 4096"#;

pub fn fill(arguments: &Arguments) -> Result<(), String> {
    let dir = arguments.text(0, "DIR")?;
    let records = arguments.number(1, "RECORDS")?;
    let len = usize::try_from(arguments.number(2, "BYTES")?).map_err(|error| error.to_string())?;
    let config = config(dir, SMALL, "").map_err(|error| error.to_string())?;
    let engine = open(config, Dead)?;
    let stream = engine.stream("load").map_err(|error| error.to_string())?;
    let payload = vec![9; len];
    for n in 0..records {
        while let Err(error) = stream.append(b"pump-7", n, &payload) {
            if error.code() != Code::Full {
                return Err(error.to_string());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    stream.flush(LIMIT).map_err(|error| error.to_string())?;
    engine.close(LIMIT).map_err(|error| error.to_string())
}

pub fn drain(arguments: &Arguments) -> Result<(), String> {
    let dir = arguments.text(0, "DIR")?;
    let taker = Taker::default();
    let config = config(dir, SMALL, r#""maxRecords": 500, "maxBytes": 524288"#);
    let engine = open(config.map_err(|error| error.to_string())?, taker.clone())?;
    let stream = engine.stream("load").map_err(|error| error.to_string())?;
    let end = stream.stats().next_offset;
    let start = Instant::now();
    while taker.taken.load(Ordering::SeqCst) < end && start.elapsed() < 5 * LIMIT {
        std::thread::sleep(Duration::from_millis(20));
    }
    let delivered = taker.taken.load(Ordering::SeqCst);
    engine.close(LIMIT).map_err(|error| error.to_string())?;
    println!(
        r#"DRAIN {{"delivered": {delivered}, "peakKib": {}}}"#,
        peak_kib()?
    );
    Ok(())
}
