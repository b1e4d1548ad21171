//! An envelope around records, which says where they come from: with it a reader leaves out what arrived
//! twice, and has all of a record that the service has no place for.
//!
//! ```text
//!  "FBY1" | compression u8 | CRC-32 of the block u32 | block, as it is (0) or as one zstd frame (1)
//!  block:   store's id [16] | epoch u64 | device u16 + bytes | stream u16 + bytes | records to its end
//!  record:  offset u64 | timeMs u64 | properties u16 | key u16 | payload u32 | properties | key | payload
//!  property: 1 | name u8 | value u16 | name | value
//! ```
//!
//! All numbers are little-endian. Store, epoch and offset name a record for ever.

use crate::clock::Stamp;
use crate::format::checksum;
use crate::record::RecordView;

const MAGIC: &[u8; 4] = b"FBY1";
/// Magic, compression and checksum.
const HEAD_LEN: usize = 9;
/// The lengths in front of a record.
const RECORD_HEAD_LEN: usize = 24;
const PROPERTY: u8 = 1;
const STORED: u8 = 0;
const ZSTD: u8 = 1;
/// What a block may become when it is read, in bytes: a record of the service holds no more before it is
/// compressed.
#[cfg(feature = "zstd")]
const BLOCK_LEN_MAX: usize = 16 << 20;

/// How hard it is tried to compress: more than this costs time and, on telemetry, hardly saves bytes.
#[cfg(feature = "zstd")]
const LEVEL: i32 = 1;

/// What the data of a record of the service are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// A record's payload.
    Payloads,
    /// An envelope with one record.
    Envelopes,
    /// An envelope with a compressed block of many.
    Blocks,
}

/// Why an envelope is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is none: something else is sent there, too.
    Other,
    /// It was one, and is damaged.
    Damaged,
    /// This build cannot read it.
    Compressed,
}

/// Where records come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin<'a> {
    /// The store's id.
    pub store: [u8; 16],
    /// Of the store: another one means that offsets started anew.
    pub epoch: u64,
    /// As the configuration calls it.
    pub device: &'a str,
    /// The stream's name.
    pub stream: &'a str,
}

/// What an envelope of such records has besides the records.
pub fn head_len(origin: &Origin<'_>) -> usize {
    HEAD_LEN + 16 + 8 + 2 + origin.device.len() + 2 + origin.stream.len()
}

/// What a record takes in it.
pub fn record_len(record: &RecordView<'_>) -> usize {
    RECORD_HEAD_LEN + properties_len(record) + record.key.len() + record.payload.len()
}

fn properties_len(record: &RecordView<'_>) -> usize {
    let properties = record.properties();
    properties
        .map(|(name, value)| 4 + name.len() + value.len())
        .sum()
}

/// An envelope with one record, as it is.
pub fn write_one(bytes: &mut Vec<u8>, origin: &Origin<'_>, record: &RecordView<'_>) {
    let at = bytes.len();
    write_head(bytes, origin);
    write_record(bytes, record);
    finish(bytes, at);
}

/// An envelope with all these records, compressed if that makes it shorter. Allocates while it does so.
pub fn write_block<'a>(
    bytes: &mut Vec<u8>,
    origin: &Origin<'_>,
    records: impl Iterator<Item = RecordView<'a>>,
) {
    let at = bytes.len();
    write_head(bytes, origin);
    records.for_each(|record| write_record(bytes, &record));
    finish(bytes, at);
    #[cfg(feature = "zstd")]
    {
        let block = &bytes[at + HEAD_LEN..];
        if let Ok(frame) = zstd::bulk::compress(block, LEVEL)
            && frame.len() < block.len()
        {
            bytes.truncate(at + HEAD_LEN);
            bytes[at + MAGIC.len()] = ZSTD;
            bytes.extend_from_slice(&frame);
        }
    }
}

fn write_head(bytes: &mut Vec<u8>, origin: &Origin<'_>) {
    bytes.extend_from_slice(MAGIC);
    bytes.push(STORED);
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&origin.store);
    bytes.extend_from_slice(&origin.epoch.to_le_bytes());
    for text in [origin.device, origin.stream] {
        // Both were checked when the configuration was read.
        let len = u16::try_from(text.len()).unwrap_or(u16::MAX);
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(text.as_bytes());
    }
}

/// Puts the checksum where it belongs.
fn finish(bytes: &mut [u8], at: usize) {
    let sum = checksum(&bytes[at + HEAD_LEN..]).to_le_bytes();
    bytes[at + HEAD_LEN - 4..at + HEAD_LEN].copy_from_slice(&sum);
}

fn write_record(bytes: &mut Vec<u8>, record: &RecordView<'_>) {
    // A record that is stored keeps these bounds.
    let short = |len: usize| u16::try_from(len).unwrap_or(u16::MAX).to_le_bytes();
    bytes.extend_from_slice(&record.offset.to_le_bytes());
    bytes.extend_from_slice(&record.time_ms.to_le_bytes());
    bytes.extend_from_slice(&short(properties_len(record)));
    bytes.extend_from_slice(&short(record.key.len()));
    let len = u32::try_from(record.payload.len()).unwrap_or(u32::MAX);
    bytes.extend_from_slice(&len.to_le_bytes());
    for (name, value) in record.properties() {
        bytes.push(PROPERTY);
        bytes.push(u8::try_from(name.len()).unwrap_or(u8::MAX));
        bytes.extend_from_slice(&short(value.len()));
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(value);
    }
    bytes.extend_from_slice(record.key);
    bytes.extend_from_slice(record.payload);
}

/// Reads an envelope: where its records come from, and each of them.
pub fn read(bytes: &[u8], mut each: impl FnMut(&Origin<'_>, &RecordView<'_>)) -> Result<(), Fault> {
    let (head, block) = bytes.split_first_chunk::<HEAD_LEN>().ok_or(Fault::Other)?;
    let [a, b, c, d, compression, sum @ ..] = *head;
    if [a, b, c, d] != *MAGIC {
        return Err(Fault::Other);
    }
    let plain;
    let block = match compression {
        STORED => block,
        ZSTD => {
            plain = decompress(block)?;
            &plain[..]
        }
        _ => return Err(Fault::Compressed),
    };
    if checksum(block) != u32::from_le_bytes(sum) {
        return Err(Fault::Damaged);
    }
    let mut rest = block;
    let origin = read_origin(&mut rest).ok_or(Fault::Damaged)?;
    while !rest.is_empty() {
        let record = read_record(&mut rest).ok_or(Fault::Damaged)?;
        each(&origin, &record);
    }
    Ok(())
}

#[cfg(feature = "zstd")]
fn decompress(frame: &[u8]) -> Result<Vec<u8>, Fault> {
    zstd::bulk::decompress(frame, BLOCK_LEN_MAX).map_err(|_| Fault::Damaged)
}

#[cfg(not(feature = "zstd"))]
fn decompress(_: &[u8]) -> Result<Vec<u8>, Fault> {
    Err(Fault::Compressed)
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (taken, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(taken)
}

fn read_origin<'a>(rest: &mut &'a [u8]) -> Option<Origin<'a>> {
    let (store, epoch) = (*take(rest)?, u64::from_le_bytes(*take(rest)?));
    let mut text = || {
        let len = u16::from_le_bytes(*take(rest)?);
        let (text, behind) = rest.split_at_checked(len.into())?;
        *rest = behind;
        std::str::from_utf8(text).ok()
    };
    let (device, stream) = (text()?, text()?);
    Some(Origin {
        store,
        epoch,
        device,
        stream,
    })
}

fn read_record<'a>(rest: &mut &'a [u8]) -> Option<RecordView<'a>> {
    let (offset, time_ms) = (
        u64::from_le_bytes(*take(rest)?),
        u64::from_le_bytes(*take(rest)?),
    );
    let properties = usize::from(u16::from_le_bytes(*take(rest)?));
    let key = usize::from(u16::from_le_bytes(*take(rest)?));
    let payload = usize::try_from(u32::from_le_bytes(*take(rest)?)).ok()?;
    let len = payload.checked_add(properties + key)?;
    let (body, behind) = rest.split_at_checked(len)?;
    *rest = behind;
    RecordView::of_body(offset, time_ms, Stamp::default(), body, properties, key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Record;

    const ORIGIN: Origin<'static> = Origin {
        store: *b"0123456789abcdef",
        epoch: 7,
        device: "pump-house",
        stream: "telemetry",
    };

    fn body(record: &Record<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        record.write_body(|part| bytes.extend_from_slice(part));
        bytes
    }

    fn read_all(bytes: &[u8]) -> Result<Vec<String>, Fault> {
        let mut found = Vec::new();
        read(bytes, |origin, record| {
            assert_eq!(*origin, ORIGIN);
            found.push(format!(
                "{} {:?}",
                record_text(record),
                record.properties().collect::<Vec<_>>()
            ));
        })?;
        Ok(found)
    }

    fn record_text(record: &RecordView<'_>) -> String {
        let (key, payload) = (record.key.escape_ascii(), record.payload.escape_ascii());
        format!("{} {} {key} {payload}", record.offset, record.time_ms)
    }

    /// `G-103`: device, stream, epoch and offset go along, with what the service has no place for.
    #[test]
    fn an_envelope_gives_back_what_was_put_in() {
        let properties: &[(&str, &[u8])] = &[("unit", b"bar"), ("raw", b"\x00\xff")];
        let record = Record {
            key: b"\xff",
            time_ms: 5,
            payload: b"7.5",
            properties,
            // Nobody's business but the producer's.
            source: Some(crate::record::Source {
                name: "x",
                position: b"y",
            }),
        };
        let bytes = body(&record);
        let (extra, key) = (record.extra_len(), record.key.len());
        let view = RecordView::of_body(9, 5, Stamp::default(), &bytes, extra, key).unwrap();
        let mut envelope = Vec::new();
        write_one(&mut envelope, &ORIGIN, &view);
        assert_eq!(envelope.len(), head_len(&ORIGIN) + record_len(&view));
        let expected = r#"9 5 \xff 7.5 [("unit", [98, 97, 114]), ("raw", [0, 255])]"#;
        assert_eq!(read_all(&envelope), Ok(vec![expected.to_owned()]));
        let mut block = Vec::new();
        write_block(&mut block, &ORIGIN, std::iter::repeat_n(view, 100));
        assert!(block.len() <= head_len(&ORIGIN) + record_len(&view) * 100);
        assert_eq!(read_all(&block), Ok(vec![expected.to_owned(); 100]));
        #[cfg(feature = "zstd")]
        assert!(block.len() < 300, "{}", block.len());
    }

    #[test]
    fn what_is_damaged_is_told_from_what_is_none() {
        let bytes = body(&Record::new(b"k", 5, b"payload"));
        let view = RecordView::of_body(9, 5, Stamp::default(), &bytes, 0, 1).unwrap();
        let mut one = Vec::new();
        write_one(&mut one, &ORIGIN, &view);
        let mut block = Vec::new();
        write_block(&mut block, &ORIGIN, std::iter::repeat_n(view, 20));
        for good in [one, block] {
            for at in 0..good.len() {
                let mut bad = good.clone();
                bad[at] ^= 1;
                match read_all(&bad) {
                    // A frame has bits that nobody reads.
                    Ok(found) => {
                        assert!(good[MAGIC.len()] == ZSTD && at >= HEAD_LEN, "{at}");
                        assert_eq!(Ok(found), read_all(&good), "{at}");
                    }
                    Err(fault) => assert_eq!(fault == Fault::Other, at < MAGIC.len(), "{at}"),
                }
                let fault = read_all(&good[..at]).unwrap_err();
                assert_eq!(fault == Fault::Other, at < HEAD_LEN, "{at}");
            }
        }
    }
}
