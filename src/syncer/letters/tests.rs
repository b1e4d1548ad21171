//! Letters, boxes and what stands in them.

use super::letter::RECORD_LEN_MIN;
use super::*;
use crate::clock::Stamp;
use crate::record::{EXTRA_LEN_MAX, KEY_LEN_MAX, PROPERTIES_MAX, RecordView};

fn put<'a>(page: &'a Page, at: usize) -> RecordView<'a> {
    let head = page.heads[at];
    let body = &page.bytes[head.at..head.at + head.len];
    let (extra, key) = (head.extra_len.into(), head.key_len.into());
    RecordView::of_body(at as u64, head.time_ms, Stamp::default(), body, extra, key).unwrap()
}

fn page(letters: &LetterBox) -> crate::watermark::seam::MutexGuard<'_, Page> {
    letters.page.lock()
}

fn new(record_len_max: u32) -> LetterBox {
    let waker = || Arc::new(Waker::new());
    LetterBox::new(record_len_max, waker(), waker()).unwrap()
}

fn letter(record: RecordView<'_>) -> Letter<'_> {
    Letter {
        record,
        sink: "kinesis",
        reason: "field x is missing",
        offset: record.offset,
        attempts: 3,
        time_ms: u64::MAX,
        appended_ms: 5,
        cut: 0,
    }
}

/// `G-052`: whatever a record is, its letter has all of it, with the most of everything.
#[test]
fn the_longest_record_fits_a_letter() {
    let len_max = 200_000;
    let (key, value) = (vec![7; KEY_LEN_MAX], vec![8; 100]);
    let mut properties: Vec<(&str, &[u8])> = vec![("name", &value); PROPERTIES_MAX - 1];
    let rest = vec![9; EXTRA_LEN_MAX - 4 - 4 - 63 * 108];
    properties.push(("rest", &rest));
    let mut record = Record {
        key: &key,
        time_ms: 77,
        payload: &[],
        properties: &properties,
        source: None,
    };
    assert!(record.check().is_ok());
    let payload = vec![6; len_max as usize - record.body_len()];
    record.payload = &payload;
    assert_eq!(
        (record.extra_len(), record.body_len()),
        (EXTRA_LEN_MAX, 200_000)
    );
    let mut body = Vec::new();
    record.write_body(|part| body.extend_from_slice(part));
    let extra_len = record.extra_len();
    let view = RecordView::of_body(u64::MAX, 77, Stamp::default(), &body, extra_len, key.len());
    let long = "ä".repeat(200);
    let letter = Letter {
        sink: &long,
        reason: &long,
        attempts: u32::MAX,
        appended_ms: u64::MAX,
        ..letter(view.unwrap())
    };
    let letters = new(len_max);
    assert_eq!(
        letters.post([letter, letter].into_iter()),
        1,
        "one after the other"
    );
    assert!(!letters.is_free());
    let page = page(&letters);
    let read = Letter::read(put(&page, 0)).unwrap();
    assert_eq!(
        (read.offset, read.attempts, read.cut),
        (u64::MAX, u32::MAX, 0)
    );
    assert_eq!((read.sink, read.reason), (&long[..64], &long[..160]));
    assert_eq!(read.record.payload, &payload);
    assert_eq!((read.record.key, read.record.time_ms), (&key[..], 77));
    assert_eq!(read.properties().collect::<Vec<_>>(), properties);
}

/// A record from when records could be longer loses the end of its payload, and says so.
#[test]
fn a_record_that_is_too_long_for_a_letter_is_cut() {
    let body = vec![1; 1_000_000];
    let view = RecordView::of_body(4, 0, Stamp::default(), &body, 0, 70).unwrap();
    let letters = new(1000);
    assert_eq!(letters.post([letter(view)].into_iter()), 1);
    let page = page(&letters);
    let read = Letter::read(put(&page, 0)).unwrap();
    assert_eq!((read.cut, read.record.key.len()), (1_000_000 - 70, 70));
    assert!(read.record.payload.len() > RECORD_LEN_MIN - 100);
    assert!(Letter::read(view).is_none());
}
