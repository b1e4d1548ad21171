//! How long appends take while the disk is as it is, and what becomes of each record.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use forebay::Code;

use crate::Arguments;
use crate::records::{Taker, config, open};

const LIMIT: Duration = Duration::from_secs(600);
const PERIOD: Duration = Duration::from_millis(2);

pub fn run(arguments: &Arguments) -> Result<(), String> {
    let dir = arguments.text(0, "DIR")?;
    let seconds = arguments.number(1, "SECONDS")?;
    let buffer = r#""fsyncIntervalMs": 100, "segmentBytes": 262144, "maxBufferedRecords": 1024, "onFull": "rejectNew""#;
    let config = config(dir, buffer, r#""maxLatencyMs": 10"#).map_err(|error| error.to_string())?;
    let taker = Taker::default();
    let engine = open(config, taker.clone())?;
    let stream = engine.stream("load").map_err(|error| error.to_string())?;
    let before = stream.stats();
    let (mut times, mut stored, mut refused) = (Vec::new(), 0u64, 0u64);
    let start = Instant::now();
    let mut due = start;
    while start.elapsed() < Duration::from_secs(seconds) {
        due += PERIOD;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let called = Instant::now();
        let done = stream.append(b"pump-7", 1, &[7; 200]);
        times.push(called.elapsed());
        match done {
            Ok(_) => stored += 1,
            Err(error) if error.code() == Code::Full => refused += 1,
            Err(error) => return Err(error.to_string()),
        }
    }
    stream.flush(LIMIT).map_err(|error| error.to_string())?;
    let patience = Instant::now() + LIMIT;
    let expected = before.next_offset + stored;
    while taker.taken.load(Ordering::SeqCst) < stored && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(20));
    }
    let stats = stream.stats();
    engine.close(LIMIT).map_err(|error| error.to_string())?;
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_nanos();
    println!(
        r#"TAIL {{"appends": {}, "stored": {stored}, "refused": {refused}, "counted": {}, "delivered": {}, "next": {}, "expected": {expected}, "median": {}, "p99": {}, "p999": {}, "max": {}}}"#,
        times.len(),
        stats.rejected_total - before.rejected_total,
        taker.taken.load(Ordering::SeqCst),
        stats.next_offset,
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0),
    );
    Ok(())
}
