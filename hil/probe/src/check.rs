//! Holds a store that a cut has left against what had been promised.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

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

fn next(records: &Receiver<(u64, Option<u64>)>) -> Result<(u64, Option<u64>), String> {
    records
        .recv_timeout(Duration::from_secs(60))
        .map_err(|_| String::from("nothing comes"))
}

pub fn run(arguments: &Arguments) -> Result<(), String> {
    let dir = arguments.text(0, "DIR")?;
    let promised = arguments.number(1, "PROMISED")?;
    let taken = arguments.number(2, "TAKEN")?;
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
    let mut expected = None;
    while expected.unwrap_or(taken) < end {
        let (offset, number) = next(&records)?;
        if expected.is_none() && offset > taken {
            return Err(format!(
                "LOST: the sink begins at {offset}, and had taken only {taken}"
            ));
        }
        // What had not been promised may be missing.
        if expected.is_some_and(|expected| expected != offset && expected < promised) {
            return Err(format!("LOST: {offset} came instead of {expected:?}"));
        }
        if number != Some(offset) {
            return Err(format!(
                "WRONG: the record at {offset} is not the one that was stored there"
            ));
        }
        expected = Some(offset + 1);
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
