//! A dead letter as it stands in its log: a record, and before its properties those of the letter.

use crate::counters::{CURSOR_NAME_MAX, ERROR_TEXT_MAX};
use crate::record::{EXTRA_LEN_MAX, KEY_LEN_MAX, PROPERTIES_MAX, RecordView};

/// The names of a letter's own properties, in order: who gave the record up and why; its
/// offset; how often it was sent; when it was given up and when it had been appended, in milliseconds
/// since 1970, 0 if unknown; how long its payload was, if the letter has less of it, else 0.
pub const ITEMS: [&str; 7] = [
    "forebay.dead.sink",
    "forebay.dead.reason",
    "forebay.dead.offset",
    "forebay.dead.attempts",
    "forebay.dead.time",
    "forebay.dead.appended",
    "forebay.dead.cut",
];
/// The most bytes of a letter's own properties, and of the longest of their names.
pub(super) const ITEMS_LEN_MAX: usize = 512;
const ITEM_NAME_MAX: usize = 21;
/// The most properties of a letter, the record's included; one more when that was put back once.
pub(super) const ALL_MAX: usize = ITEMS.len() + PROPERTIES_MAX + 1;
/// A letter has room for at least so much of a record: any key with any properties.
pub(super) const RECORD_LEN_MIN: usize = 128 * 1024;

const _: () = assert!(KEY_LEN_MAX + EXTRA_LEN_MAX < RECORD_LEN_MIN);
const _: () = assert!(
    ITEMS.len() * (4 + ITEM_NAME_MAX) + CURSOR_NAME_MAX + ERROR_TEXT_MAX + 5 * 20 <= ITEMS_LEN_MAX
);

/// The longest letter of a stream with records of at most so many bytes.
pub fn letter_len_max(record_len_max: u32) -> u32 {
    #[allow(clippy::cast_possible_truncation)] // small constants
    let (least, items) = (RECORD_LEN_MIN as u32, ITEMS_LEN_MAX as u32);
    record_len_max.max(least) + items
}

/// A record that was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Letter<'a> {
    /// The record. Read from a letter, its offset is the letter's.
    pub record: RecordView<'a>,
    /// The sink that never had it.
    pub sink: &'a str,
    /// Why.
    pub reason: &'a str,
    /// The record's offset in its stream.
    pub offset: u64,
    /// How often it was sent.
    pub attempts: u32,
    /// When it was given up, in milliseconds since 1970; 0 if that is unknown.
    pub time_ms: u64,
    /// When it was appended, in milliseconds since 1970; 0 if that is unknown.
    pub appended_ms: u64,
    /// How long its payload was, if this is less of it; else 0.
    pub cut: u64,
}

impl<'a> Letter<'a> {
    /// What stands in a record of the dead letters' log. `None`: that is no letter.
    pub fn read(record: RecordView<'a>) -> Option<Self> {
        let mut own = record.properties();
        let mut texts = [""; ITEMS.len()];
        for (text, item) in texts.iter_mut().zip(ITEMS) {
            let (name, value) = own.next()?;
            if name != item {
                return None;
            }
            *text = std::str::from_utf8(value).ok()?;
        }
        let [sink, reason, offset, attempts, time, appended, cut] = texts;
        Some(Self {
            record,
            sink,
            reason,
            offset: offset.parse().ok()?,
            attempts: attempts.parse().ok()?,
            time_ms: time.parse().ok()?,
            appended_ms: appended.parse().ok()?,
            cut: cut.parse().ok()?,
        })
    }

    /// The properties of the record of which this letter was read.
    pub fn properties(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        self.record.properties().skip(ITEMS.len())
    }
}
