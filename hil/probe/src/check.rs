//! Holds a store that a cut has left against what had been promised.

use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use forebay::sink::{Answer, Batch, BlockingSink};

use crate::Arguments;
use crate::records::{config, number, open};

/// Gives the offset and the number of each record on.
struct Passing(Sender<(u64, Option<u64>)>);

impl BlockingSink for Passing {
    fn deliver(&mut self, batch: &Batch<'_>, _timeout: Duration, answer: &mut Answer<'_>) {
        for record in batch.iter() {
            let _ = self.0.send((record.offset, number(&record)));
        }
        answer.accept_rest();
    }
}

/// What `FROM-TO,FROM-TO` says.
fn ranges(text: &str) -> Result<Vec<(u64, u64)>, String> {
    let range = |part: &str| {
        let (from, to) = part.split_once('-')?;
        Some((from.parse().ok()?, to.parse().ok()?))
    };
    let parts = text.split(',').filter(|part| !part.is_empty());
    let ranges = parts.map(|part| range(part).ok_or_else(|| format!("UNUSED: {part}: no FROM-TO")));
    ranges.collect()
}

pub fn run(arguments: &Arguments) -> Result<(), String> {
    let dir = arguments.text(0, "DIR")?;
    let promised = arguments.number(1, "PROMISED")?;
    let taken = arguments.number(2, "TAKEN")?;
    let unused = match arguments.text(3, "UNUSED") {
        Ok(text) => ranges(text)?,
        Err(_) => Vec::new(),
    };
    let buffer = r#""segmentBytes": 262144, "maxDiskBytes": 33554432, "maxRecordBytes": 65536"#;
    let config = config(dir, buffer, r#""maxLatencyMs": 5"#).map_err(|error| error.to_string())?;
    let (sender, records) = channel();
    let engine = open(config, Passing(sender))?;
    let stream = engine.stream("load").map_err(|error| error.to_string())?;
    let end = stream.stats().next_offset;
    if end < promised {
        return Err(format!(
            "LOST: {promised} records were promised, the store ends at {end}"
        ));
    }
    // The next offset that must come; what had not been promised may be missing.
    let mut expected = None;
    let patience = Instant::now() + Duration::from_secs(120);
    loop {
        let Ok((offset, number)) = records.recv_timeout(Duration::from_millis(50)) else {
            if stream.stats().sinks[0].acked_offset >= end {
                break;
            }
            if Instant::now() > patience {
                return Err(format!("STUCK: {:?}", stream.stats().sinks[0]));
            }
            continue;
        };
        let due = expected.unwrap_or(taken);
        // Between two lives there may be numbers that nobody was given.
        let is_unused = |(from, to): &(u64, u64)| *from <= due && offset <= *to;
        if offset > due && due < promised && !unused.iter().any(is_unused) {
            return Err(format!(
                "LOST: {offset} came instead of {due}, {promised} promised, {taken} taken"
            ));
        }
        if expected.is_some() && offset < due {
            return Err(format!("WRONG: {offset} came after {due}"));
        }
        if number != Some(offset) {
            return Err(format!(
                "WRONG: the record at {offset} is not the one that was stored there"
            ));
        }
        expected = Some(offset + 1);
    }
    if expected.unwrap_or(taken) < promised {
        return Err(format!(
            "LOST: the records end at {expected:?}, {promised} promised, {taken} taken"
        ));
    }
    // It goes on as if nothing had happened.
    let offset = stream.append_durable(b"after", 0, b"the cut", Duration::from_secs(60));
    let offset = offset.map_err(|error| error.to_string())?;
    if offset < end || offset < promised {
        return Err(format!("WRONG: offset {offset} was used before"));
    }
    engine
        .close(Duration::from_secs(60))
        .map_err(|error| error.to_string())?;
    println!(
        "first {} end {end}",
        expected.map_or("none", |_| "delivered")
    );
    Ok(())
}
