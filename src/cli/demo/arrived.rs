//! What has arrived in the file, held against what was promised.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use crate::config::json;
use crate::input::lines::{Line, read_line};

/// The longest line that is looked at, in bytes.
const LINE_LEN_MAX: usize = 1 << 20;

/// The records in a file.
#[derive(Debug, Default)]
pub struct Arrived {
    /// How many lines there are.
    pub lines: u64,
    /// Lines whose record stood there before.
    pub repeated: u64,
    /// Lines whose record comes before one that had already arrived, and had not.
    pub disorder: u64,
    /// Lines that are no record.
    pub broken: u64,
    offsets: BTreeSet<u64>,
}

/// What comes out of the comparison.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Records that had been durable and are not there.
    pub missing: u64,
    /// Records that nobody can have been promised.
    pub unpromised: u64,
    /// Records that were not durable yet when the process was killed, and were found.
    pub salvaged: u64,
}

/// Reads a file of lines.
pub fn read(path: &Path) -> io::Result<Arrived> {
    let mut source = io::BufReader::new(crate::storage::open_to_read(path)?);
    let mut arrived = Arrived::default();
    let mut line = Vec::new();
    loop {
        match read_line(&mut source, &mut line, LINE_LEN_MAX)? {
            Line::End => return Ok(arrived),
            Line::TooLong { .. } => arrived.broken += 1,
            Line::Whole | Line::Unfinished => {
                match std::str::from_utf8(&line).ok().and_then(offset_of) {
                    Some(offset) => arrived.add(offset),
                    None => arrived.broken += 1,
                }
            }
        }
        arrived.lines += 1;
    }
}

fn offset_of(line: &str) -> Option<u64> {
    let mut object = json::parse(line).ok()?.object().ok()?;
    object.take("payload")?.string().ok()?;
    object.take("offset")?.number(0..=u64::MAX).ok()
}

impl Arrived {
    fn add(&mut self, offset: u64) {
        let is_new = self.offsets.insert(offset);
        if !is_new {
            self.repeated += 1;
        } else if self.offsets.last() != Some(&offset) {
            self.disorder += 1;
        }
    }

    /// Everything below `durable` was promised by the process that was killed; the one after it began at
    /// `opened`, and promised everything from there up to `end`.
    pub fn compare(&self, durable: u64, opened: u64, end: u64) -> Verdict {
        let there = |from: u64, to: u64| self.offsets.range(from..to.max(from)).count() as u64;
        Verdict {
            missing: durable - there(0, durable) + (end - opened) - there(opened, end),
            unpromised: self.offsets.range(end..).count() as u64,
            salvaged: there(durable, opened),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrived(offsets: &[u64]) -> Arrived {
        let mut arrived = Arrived::default();
        offsets.iter().for_each(|offset| arrived.add(*offset));
        arrived
    }

    #[test]
    fn repeats_are_no_disorder_and_gaps_are_seen() {
        let all = arrived(&[0, 1, 2, 1, 2, 3, 100, 101]);
        assert_eq!((all.repeated, all.disorder), (2, 0));
        let verdict = Verdict {
            missing: 0,
            unpromised: 0,
            salvaged: 1,
        };
        assert_eq!(all.compare(3, 100, 102), verdict);
        let bad = arrived(&[0, 2, 1, 100, 103]);
        assert_eq!(bad.disorder, 1);
        assert_eq!(
            bad.compare(4, 100, 102),
            Verdict {
                missing: 2,
                unpromised: 1,
                salvaged: 0
            }
        );
    }
}
