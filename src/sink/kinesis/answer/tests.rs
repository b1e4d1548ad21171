//! What counts as an answer, and what does not.

use super::kinds::SIGNATURE;
use super::*;
use crate::sink::Link;

fn read(body: &str, count: usize) -> Result<Vec<Entry>, String> {
    let mut entries = Entries::default();
    entries.read(Encoding::Json, body.as_bytes(), count)?;
    Ok(entries.list)
}

const GOOD: &str = r#"{"SequenceNumber":"495","ShardId":"shardId-000000000000"}"#;
const SLOW: &str =
    r#"{"ErrorCode":"ProvisionedThroughputExceededException","ErrorMessage":"Rate \"x\" of 7"}"#;
const INNER: &str = r#"{"ErrorCode":"InternalFailure","ErrorMessage":"Internal"}"#;

/// `G-040`: each record has its own entry, in the order of the request.
#[test]
fn entries_are_read_in_the_order_of_the_records() {
    let body = format!(
        r#" {{"FailedRecordCount":2,"EncryptionType":"NONE","Records":[{GOOD},{SLOW},{INNER},{GOOD}]}} "#
    );
    let mut entries = Entries::default();
    entries.read(Encoding::Json, body.as_bytes(), 4).unwrap();
    let expected = [
        Entry::Accepted,
        Entry::Failed(Kind::Throttled),
        Entry::Failed(Kind::Unknown),
        Entry::Accepted,
    ];
    assert_eq!(entries.list(), expected);
    let error = "ProvisionedThroughputExceededException: Rate \"x\" of 7";
    assert_eq!(entries.error(), error);
    // Members that some services write although they are null.
    let nulls = r#"{"SequenceNumber":"1","ShardId":"s","ErrorCode":null,"ErrorMessage":null}"#;
    let body = format!(r#"{{"Records":[{nulls}],"FailedRecordCount":0}}"#);
    assert_eq!(read(&body, 1), Ok(vec![Entry::Accepted]));
}

/// Where records went, and what has no room, is named by the answer; what is not a number is nobody's.
#[test]
fn entries_name_their_shards() {
    let throttled = concat!(
        r#"{"ErrorCode":"ProvisionedThroughputExceededException","ErrorMessage":"#,
        r#""Rate exceeded for shard shardId-000000000012 in stream s under account 1."}"#
    );
    let odd = r#"{"SequenceNumber":"1","ShardId":"shardId-"}"#;
    let body = format!(
        r#"{{"FailedRecordCount":3,"Records":[{GOOD},{throttled},{SLOW},{throttled},{odd}]}}"#
    );
    let mut entries = Entries::default();
    entries.read(Encoding::Json, body.as_bytes(), 5).unwrap();
    assert_eq!(entries.shards(), [Some(0), Some(12), None, Some(12), None]);
}

/// `G-041`, `L-92`: what does not agree with itself or with the request says nothing.
#[test]
fn an_answer_that_does_not_agree_says_nothing() {
    let good = format!(r#"{{"FailedRecordCount":0,"Records":[{GOOD},{GOOD}]}}"#);
    assert!(read(&good, 2).is_ok());
    for count in [0, 1, 3, 500] {
        read(&good, count).unwrap_err();
    }
    // Cut anywhere, and with something behind it.
    for end in 0..good.len() {
        read(&good[..end], 2).unwrap_err();
    }
    read(&format!("{good}x"), 2).unwrap_err();
    for body in [
        "",
        "null",
        "[]",
        "<html>Sign in</html>",
        r#"{"Records":[]}"#,
        r#"{"FailedRecordCount":0}"#,
        &good.replace(":0", ":1"),
        &good.replace(":0", ":-1"),
        &good.replace(":0", ":\"0\""),
        &good.replace(":0", ":null"),
        &good.replacen("495", "", 1),
        &good.replacen("\"495\"", "null", 1),
        &good.replacen("\"495\"", "495", 1),
        &good.replacen("SequenceNumber", "Other", 1),
        &good.replacen(GOOD, SLOW, 1),
        &good.replacen(GOOD, "null", 1),
        &good.replacen("\"ShardId\"", "\"ErrorCode\"", 1),
        &format!(r#"{{"FailedRecordCount":0,"Records":[{GOOD}],"Records":[{GOOD}]}}"#),
        &format!(r#"{{"FailedRecordCount":0,"FailedRecordCount":0,"Records":[{GOOD},{GOOD}]}}"#),
    ] {
        assert!(read(body, 2).is_err(), "{body}");
    }
}

/// `L-115`: credentials, configuration, link and throttling are told apart; and what no service has named
/// is never taken for an answer about the records.
#[test]
fn each_error_has_its_state() {
    let link = |status, name| kind(status, name).link();
    assert_eq!(
        link(400, "ProvisionedThroughputExceededException"),
        Link::Throttled
    );
    assert_eq!(link(429, ""), Link::Throttled);
    assert_eq!(link(403, "AccessDeniedException"), Link::Auth);
    assert_eq!(link(400, "ExpiredTokenException"), Link::Auth);
    assert_eq!(link(400, "ResourceNotFoundException"), Link::Config);
    assert_eq!(link(400, "SomethingNewException"), Link::Config);
    assert_eq!(link(503, "ServiceUnavailable"), Link::Down);
    assert_eq!(link(500, "InternalFailureException"), Link::Down);
    for status in [302, 400, 403, 404, 500, 502, 511] {
        assert_eq!(kind(status, ""), Kind::Unknown);
    }
    assert_eq!(kind(413, ""), Kind::Records);
    for name in SIGNATURE {
        assert_eq!(kind(400, name), Kind::Signature);
        assert_eq!(kind(403, name), Kind::Signature);
    }
}

#[test]
fn an_error_has_a_name_and_one_line_of_text() {
    let body =
        br#"{"__type":"com.amazonaws.kinesis#ExpiredTokenException","message":"too\nsecret"}"#;
    assert_eq!(
        error_of(Encoding::Json, body, "").0,
        "ExpiredTokenException"
    );
    assert_eq!(error_of(Encoding::Json, body, "").1, "too");
    let header = "ValidationException:http://internal.amazon.com/coral/";
    assert_eq!(
        error_of(Encoding::Json, b"", header).0,
        "ValidationException"
    );
    let body = br#"{"Code":"<b>","Message":"x"}"#;
    assert_eq!(
        error_of(Encoding::Json, body, ""),
        (String::new(), "x".to_owned())
    );
    assert_eq!(error_of(Encoding::Json, b"<html>", "").0, "");
}

fn cbor(body: &[u8]) -> Result<Vec<Entry>, String> {
    let mut entries = Entries::default();
    entries.read(Encoding::Cbor, body, 2)?;
    Ok(entries.list)
}

/// `L-92`: in CBOR as in JSON, with lengths or with ends.
#[test]
fn an_answer_of_cbor_is_read_as_strictly() {
    let good = [
        &b"\xbf\x71FailedRecordCount\x01\x67Records\x9f"[..],
        b"\xbf\x6eSequenceNumber\x63495\x67ShardId\x69shardId-0\xff",
        b"\xa2\x69ErrorCode\x6fInternalFailure\x6cErrorMessage\x7f\x62no\x61w\xff\xff\xff",
    ]
    .concat();
    let expected = [Entry::Accepted, Entry::Failed(Kind::Unknown)];
    assert_eq!(cbor(&good).unwrap(), expected);
    for end in 0..good.len() {
        cbor(&good[..end]).unwrap_err();
    }
    cbor(&[&good[..], b"\xf6"].concat()).unwrap_err();
    let mut two_failed = good.clone();
    let at = good.iter().position(|byte| *byte == 1).unwrap();
    two_failed[at] = 2;
    cbor(&two_failed).unwrap_err();
    cbor(br#"{"FailedRecordCount":0,"Records":[]}"#).unwrap_err();
    cbor(b"<html>Sign in</html>").unwrap_err();
}

#[test]
fn an_error_may_come_in_cbor_or_from_a_gateway_in_json() {
    let body = b"\xa2\x66__type\x78\x19x#AccessDeniedException:y\x67message\x62no";
    let named = ("AccessDeniedException".to_owned(), "no".to_owned());
    assert_eq!(error_of(Encoding::Cbor, body, ""), named);
    let body = br#"{"__type":"AccessDeniedException","message":"no"}"#;
    assert_eq!(error_of(Encoding::Cbor, body, ""), named);
    let nothing = (String::new(), String::new());
    assert_eq!(error_of(Encoding::Cbor, b"<html>", ""), nothing);
}
