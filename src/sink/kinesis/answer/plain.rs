//! The answer of nearly every day: JSON without a space, in which all records were taken.
//!
//! ```text
//!  {"EncryptionType":"KMS","FailedRecordCount":0,"Records":[{"SequenceNumber":"1","ShardId":"shardId-2"},…]}
//! ```
//!
//! To read it as any JSON took a fifth of the time that a record costs. Whatever looks different in any byte
//! is left to who reads that: what is taken here means the same there.

/// Reads the whole answer and the shard of each entry. False: it looks different, and `shards` is empty.
pub fn read(body: &[u8], shards: &mut Vec<Option<u64>>) -> bool {
    let is_plain = entries(body, shards).is_some();
    if !is_plain {
        shards.clear();
    }
    is_plain
}

fn entries(body: &[u8], shards: &mut Vec<Option<u64>>) -> Option<()> {
    let mut rest = body.strip_prefix(b"{")?;
    for kind in [
        &br#""EncryptionType":"KMS","#[..],
        br#""EncryptionType":"NONE","#,
    ] {
        rest = rest.strip_prefix(kind).unwrap_or(rest);
    }
    rest = rest.strip_prefix(br#""FailedRecordCount":0,"Records":["#)?;
    loop {
        rest = rest.strip_prefix(br#"{"SequenceNumber":""#)?;
        (_, rest) = digits(rest)?;
        rest = rest.strip_prefix(br#"","ShardId":"shardId-"#)?;
        let (number, behind) = digits(rest)?;
        shards.push(number);
        rest = behind.strip_prefix(br#""}"#)?;
        match rest {
            [b',', behind @ ..] => rest = behind,
            b"]}" => return Some(()),
            _ => return None,
        }
    }
}

/// One digit or more, the number that they make if it is small enough, and what follows them.
fn digits(bytes: &[u8]) -> Option<(Option<u64>, &[u8])> {
    let len = bytes
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let (digits, behind) = bytes.split_at(len);
    if digits.is_empty() {
        return None;
    }
    // A sequence number is longer than any number here, and nobody wants it.
    let number = (len < 20).then(|| {
        digits
            .iter()
            .fold(0, |n, byte| n * 10 + u64::from(byte - b'0'))
    });
    Some((number, behind))
}

#[cfg(test)]
mod tests {
    use super::super::{Encoding, Entries, Entry, Whole};
    use super::*;
    use serde::de::DeserializeSeed;

    const ENTRY: &str =
        r#"{"SequenceNumber":"4959033827149025660855969253","ShardId":"shardId-000000000007"}"#;

    fn body_of(entries: &str) -> String {
        format!(r#"{{"FailedRecordCount":0,"Records":[{entries}]}}"#)
    }

    /// As any JSON is read.
    fn as_json(body: &[u8]) -> Option<(Vec<Entry>, Vec<Option<u64>>)> {
        let mut entries = Entries::default();
        let mut json = serde_json::Deserializer::from_slice(body);
        let (has_records, failed) = Whole(&mut entries).deserialize(&mut json).ok()?;
        json.end().ok()?;
        (has_records && failed == Some(0)).then_some((entries.list, entries.shards))
    }

    fn check(body: &[u8]) -> bool {
        let mut shards = Vec::new();
        let is_plain = read(body, &mut shards);
        match is_plain {
            true => {
                let (list, others) = as_json(body).expect("it is JSON");
                assert_eq!(shards, others);
                assert!(list.iter().all(|entry| *entry == Entry::Accepted));
                assert_eq!(list.len(), shards.len());
            }
            false => assert_eq!(shards, []),
        }
        is_plain
    }

    /// `G-041`: what is read in haste is what is read with care, whatever byte is another,
    /// missing or one too many.
    #[test]
    fn what_is_plain_means_the_same_as_json() {
        for head in [
            "",
            r#""EncryptionType":"KMS","#,
            r#""EncryptionType":"NONE","#,
        ] {
            let body = format!(r#"{{{head}"FailedRecordCount":0,"Records":[{ENTRY},{ENTRY}]}}"#);
            assert!(check(body.as_bytes()), "{body}");
            for at in 0..body.len() {
                assert!(!check(&body.as_bytes()[..at]), "cut at {at}");
                for byte in *b"\0 \"{}[],:\\019-aK\xff" {
                    let mut other = body.clone().into_bytes();
                    other[at] = byte;
                    check(&other);
                    let mut more = body.clone().into_bytes();
                    more.insert(at, byte);
                    check(&more);
                }
                let mut less = body.clone().into_bytes();
                less.remove(at);
                check(&less);
            }
            assert!(!check(format!("{body} ").as_bytes()));
        }
        for other in [
            r#"{"FailedRecordCount":1,"Records":[]}"#,
            r#"{"FailedRecordCount":0,"Records":[]}"#,
            r#"{"FailedRecordCount":00,"Records":[{"SequenceNumber":"1","ShardId":"shardId-1"}]}"#,
            r#"{"FailedRecordCount":0,"Records":[{"SequenceNumber":"","ShardId":"shardId-1"}]}"#,
            r#"{"FailedRecordCount":0,"Records":[{"ErrorCode":"SlowDown","ShardId":"shardId-1"}]}"#,
        ] {
            assert!(!check(other.as_bytes()), "{other}");
        }
        let long = body_of(r#"{"SequenceNumber":"1","ShardId":"shardId-99999999999999999999"}"#);
        assert!(check(long.as_bytes()));
    }

    /// The number of entries is looked at as in any answer.
    #[test]
    fn a_plain_answer_for_other_records_says_nothing() {
        let body = body_of(&format!("{ENTRY},{ENTRY}"));
        let mut entries = Entries::default();
        assert!(entries.read(Encoding::Json, body.as_bytes(), 2).is_ok());
        assert_eq!(entries.list(), [Entry::Accepted; 2]);
        assert_eq!(entries.shards(), [Some(7); 2]);
        let error = entries
            .read(Encoding::Json, body.as_bytes(), 3)
            .unwrap_err();
        assert!(error.contains("2 entries for 3"), "{error}");
    }
}
