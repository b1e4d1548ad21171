//! `read --kinesis-envelope`: what lies in a stream of the service, each record once.

use std::collections::BTreeMap;
use std::io::{self, Read};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{Done, Failure, say};
use crate::error::{Code, Error};
use crate::record::RecordView;
use crate::sink::kinesis::envelope::{self, Fault, Origin};
use crate::sink::kinesis::read_aggregate;

/// Reads from standard input what `aws kinesis get-records` prints, or the records of it, and hands over
/// each of ours that was not there before.
pub fn read(mut print: impl FnMut(&Origin<'_>, &RecordView<'_>) -> Done) -> Done {
    let mut input = Vec::new();
    io::stdin().lock().read_to_end(&mut input)?;
    let mut seen = Seen::default();
    let (mut others, mut damaged, mut repeats) = (0_u64, 0_u64, 0_u64);
    for value in serde_json::Deserializer::from_slice(&input).into_iter::<Value>() {
        let value = value.map_err(|error| wrong(&format!("not JSON: {error}")))?;
        let one = [value.clone()];
        let records = value.get("Records").and_then(Value::as_array);
        for record in records.map_or(&one[..], Vec::as_slice) {
            // As it comes by itself, or to a function.
            let data = record
                .get("Data")
                .or_else(|| record.get("kinesis")?.get("data"))
                .and_then(Value::as_str)
                .ok_or_else(|| wrong("a record without Data"))?;
            let data = STANDARD
                .decode(data)
                .map_err(|_| wrong("Data that are no base64"))?;
            let parts = read_aggregate(&data);
            let parts = match &parts {
                Some(parts) => parts.iter().map(|(_, data)| *data).collect(),
                None => vec![&data[..]],
            };
            for part in parts {
                let mut done = Ok(());
                let read = envelope::read(part, |origin, record| {
                    match seen.is_new(origin, record.offset) {
                        true if done.is_ok() => done = print(origin, record),
                        true => {}
                        false => repeats += 1,
                    }
                });
                done?;
                match read {
                    Ok(()) => {}
                    Err(Fault::Other) => others += 1,
                    Err(Fault::Damaged) => damaged += 1,
                    Err(Fault::Compressed) => {
                        return Err(wrong(
                            "compressed, and this build lacks the feature \"zstd\"",
                        ));
                    }
                }
            }
        }
    }
    for (count, what) in [
        (repeats, "were there already"),
        (others, "are no envelopes"),
        (damaged, "are damaged envelopes"),
    ] {
        if count > 0 {
            say(&format!("{count} records {what}\n"));
        }
    }
    match others + damaged {
        0 => Ok(()),
        _ => Err(Failure::Found),
    }
}

fn wrong(text: &str) -> Failure {
    Failure::Error(Error::text(Code::InvalidArg, "read records", text))
}

/// A store's id, its epoch, its device and its stream.
type Name = ([u8; 16], u64, String, String);

/// The offsets that were there, by where they come from: starts and ends of what is connected.
#[derive(Debug, Default)]
struct Seen(BTreeMap<Name, BTreeMap<u64, u64>>);

impl Seen {
    fn is_new(&mut self, origin: &Origin<'_>, offset: u64) -> bool {
        let (device, stream) = (origin.device.to_owned(), origin.stream.to_owned());
        let name = (origin.store, origin.epoch, device, stream);
        let ranges = self.0.entry(name).or_default();
        let before = ranges.range(..=offset).next_back();
        let (mut start, mut end) = (offset, offset + 1);
        if let Some((known, known_end)) = before {
            if *known_end > offset {
                return false;
            }
            if *known_end == offset {
                start = *known;
            }
        }
        if let Some(behind) = ranges.remove(&end) {
            end = behind;
        }
        ranges.insert(start, end);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_offset_is_new_once_in_any_order() {
        let origin = |epoch| Origin {
            store: [7; 16],
            epoch,
            device: "d",
            stream: "s",
        };
        let mut seen = Seen::default();
        for epoch in [1, 2] {
            for offset in [5, 3, 4, 9, 0, 8, 1] {
                assert!(seen.is_new(&origin(epoch), offset));
            }
            for offset in [0, 1, 3, 4, 5, 8, 9] {
                assert!(!seen.is_new(&origin(epoch), offset));
            }
        }
        let ranges: Vec<_> = seen.0.values().map(|ranges| ranges.len()).collect();
        assert_eq!(ranges, [3, 3]);
    }
}
