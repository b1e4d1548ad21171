//! What requests and records hold, read by other implementations than the sink's.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ciborium::Value as Cbor;
use md5::{Digest, Md5};
use serde_json::Value;

use super::server::Taken;

/// CBOR as the JSON that says the same; bytes are base64.
pub fn from_cbor(bytes: &[u8]) -> Option<Value> {
    let mut rest = bytes;
    let value: Cbor = ciborium::from_reader(&mut rest).ok()?;
    rest.is_empty().then(|| json_of(&value))?
}

fn json_of(value: &Cbor) -> Option<Value> {
    Some(match value {
        Cbor::Text(text) => Value::from(text.as_str()),
        Cbor::Bytes(bytes) => Value::from(STANDARD.encode(bytes)),
        Cbor::Array(list) => list.iter().map(json_of).collect::<Option<_>>()?,
        Cbor::Map(fields) => {
            let field =
                |(name, value): &(Cbor, Cbor)| Some((name.as_text()?.to_owned(), json_of(value)?));
            Value::Object(fields.iter().map(field).collect::<Option<_>>()?)
        }
        _ => return None,
    })
}

/// An answer in CBOR.
pub fn to_cbor(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).unwrap();
    bytes
}

/// A record as somebody who reads the stream has it, out of its aggregate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub key: String,
    pub data: Vec<u8>,
    /// The one that it was given, or that of its key.
    pub hash_key: u128,
    pub is_lost: bool,
    /// The record of the service that it lies in.
    pub of: usize,
}

pub fn hash(key: &str) -> u128 {
    u128::from_be_bytes(Md5::digest(key.as_bytes()).into())
}

/// All records, out of their aggregates.
pub fn parts(taken: &[Taken]) -> Vec<Part> {
    let mut parts = Vec::new();
    for (of, taken) in taken.iter().enumerate() {
        let found = deaggregate(&taken.data)
            .unwrap_or_else(|| vec![(taken.key.clone(), taken.hash_key, taken.data.clone())]);
        for (key, hash_key, data) in found {
            parts.push(Part {
                hash_key: hash_key.unwrap_or_else(|| hash(&key)),
                key,
                data,
                is_lost: taken.is_lost,
                of,
            });
        }
    }
    parts
}

/// The keys of a record of a request, out of its aggregate.
pub fn keys(record: &Value) -> Vec<String> {
    let data = STANDARD.decode(record["Data"].as_str().unwrap()).unwrap();
    match deaggregate(&data) {
        Some(found) => found.into_iter().map(|(key, ..)| key).collect(),
        None => vec![record["PartitionKey"].as_str().unwrap().to_owned()],
    }
}

type Found = (String, Option<u128>, Vec<u8>);

/// What the Kinesis Client Library does, from the description of the format.
fn deaggregate(bytes: &[u8]) -> Option<Vec<Found>> {
    let body = bytes.strip_prefix(b"\xf3\x89\x9a\xc2")?;
    let (message, sum) = body.split_at(body.len().checked_sub(16)?);
    assert_eq!(
        Md5::digest(message)[..],
        sum[..],
        "nothing else begins so here"
    );
    let (mut keys, mut hash_keys, mut records) = (Vec::new(), Vec::new(), Vec::new());
    for (number, value) in fields(message) {
        let bytes = value.unwrap_err();
        match number {
            1 => keys.push(String::from_utf8(bytes.to_vec()).unwrap()),
            2 => hash_keys.push(std::str::from_utf8(bytes).unwrap().parse().unwrap()),
            3 => records.push(bytes),
            other => panic!("field {other}"),
        }
    }
    let record = |bytes: &[u8]| {
        let (mut key, mut hash_key, mut data) = (None, None, None);
        for (number, value) in fields(bytes) {
            match (number, value) {
                (1, Ok(place)) => key = Some(keys[place].clone()),
                (2, Ok(place)) => hash_key = Some(hash_keys[place]),
                (3, Err(bytes)) => data = Some(bytes.to_vec()),
                other => panic!("{other:?}"),
            }
        }
        (key.unwrap(), hash_key, data.unwrap())
    };
    Some(records.into_iter().map(record).collect())
}

/// The fields of a message: their numbers, and a number or bytes.
fn fields(mut rest: &[u8]) -> Vec<(usize, Result<usize, &[u8]>)> {
    let mut found = Vec::new();
    while !rest.is_empty() {
        let tag = varint(&mut rest);
        let number = varint(&mut rest);
        match tag & 7 {
            0 => found.push((tag >> 3, Ok(number))),
            2 => {
                let (bytes, behind) = rest.split_at(number);
                found.push((tag >> 3, Err(bytes)));
                rest = behind;
            }
            other => panic!("a field of kind {other}"),
        }
    }
    found
}

fn varint(rest: &mut &[u8]) -> usize {
    let len = rest.iter().position(|byte| *byte < 128).unwrap() + 1;
    let (bytes, behind) = rest.split_at(len);
    *rest = behind;
    bytes
        .iter()
        .rev()
        .fold(0, |number, byte| number * 128 + usize::from(byte & 127))
}

/// What `aws kinesis get-records` prints of these.
pub fn printed(taken: &[Taken]) -> String {
    let one = |(at, taken): (usize, &Taken)| {
        serde_json::json!({
            "SequenceNumber": format!("{at:056}"),
            "ApproximateArrivalTimestamp": 1.5,
            "Data": STANDARD.encode(&taken.data),
            "PartitionKey": taken.key,
        })
    };
    let records: Vec<_> = taken.iter().enumerate().map(one).collect();
    serde_json::json!({"Records": records, "NextShardIterator": "x"}).to_string()
}
