//! Cuts bytes, as they come, into lines or frames of bounded length.

/// How records stand in a stream of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// A record ends with `\n` or `\r\n`.
    Lines,
    /// A record's length stands before it, in four bytes, the highest first.
    Frames,
}

/// What was cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut<'a> {
    /// A record.
    Record(&'a [u8]),
    /// One that is longer than the bound; it was passed over. What it began with.
    TooLong(&'a [u8]),
}

/// What a record that is too long began with, of which so much is kept.
const BEGIN_MAX: usize = 64;
/// The length before a frame.
const HEADER: usize = 4;
/// A frame that would be longer is no frame.
const FRAME_MAX: u32 = 64 << 20;

/// Cuts bytes into records. It holds no more than one record and its length.
#[derive(Debug)]
pub struct Cutter {
    framing: Framing,
    len_max: usize,
    /// The begin of a record whose end has not come yet.
    held: Vec<u8>,
    /// Of a frame: what is still to be passed over. Of a line: it is passed over.
    skipping: Option<u32>,
}

/// The bytes make no sense: nothing more can be cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Senseless;

impl Cutter {
    /// Cuts records of at most `len_max` bytes.
    pub fn new(framing: Framing, len_max: usize) -> Self {
        Self {
            framing,
            len_max,
            held: Vec::new(),
            skipping: None,
        }
    }

    /// Hands what can be cut off to `take`, which says whether to go on. Returns how much of `bytes` was
    /// used: all of it, unless `take` said no.
    pub fn cut(
        &mut self,
        bytes: &[u8],
        mut take: impl FnMut(Cut<'_>) -> bool,
    ) -> Result<usize, Senseless> {
        let mut used = 0;
        while used < bytes.len() {
            let rest = &bytes[used..];
            let (part, goes_on) = match self.framing {
                Framing::Lines => self.line(rest, &mut take),
                Framing::Frames => self.frame(rest, &mut take)?,
            };
            used += part;
            if !goes_on {
                break;
            }
        }
        Ok(used)
    }

    fn line(&mut self, bytes: &[u8], take: &mut impl FnMut(Cut<'_>) -> bool) -> (usize, bool) {
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
            self.hold(bytes);
            return (bytes.len(), true);
        };
        let part = &bytes[..end];
        let goes_on = if self.held.is_empty() && self.skipping.is_none() {
            take(self.judged(without_return(part)))
        } else {
            self.hold(part);
            self.take_held(take)
        };
        (end + 1, goes_on)
    }

    /// Keeps a part of a line, as long as the line is not too long. One more for a carriage return, which is
    /// no part of it.
    fn hold(&mut self, part: &[u8]) {
        if self.skipping.is_none() && self.held.len() + part.len() <= self.len_max + 1 {
            self.keep(part);
            return;
        }
        self.skipping = Some(0);
        let room = BEGIN_MAX.saturating_sub(self.held.len()).min(part.len());
        self.held.extend_from_slice(&part[..room]);
        self.held.truncate(BEGIN_MAX);
        self.held.shrink_to(BEGIN_MAX);
    }

    /// Room is taken as it is needed, twice as much each time, and never more than the longest record needs.
    fn keep(&mut self, part: &[u8]) {
        let len = self.held.len() + part.len();
        if len > self.held.capacity() {
            let room = (2 * len).min(self.len_max + HEADER).max(len);
            self.held.reserve_exact(room - self.held.len());
        }
        self.held.extend_from_slice(part);
    }

    fn take_held(&mut self, take: &mut impl FnMut(Cut<'_>) -> bool) -> bool {
        let goes_on = match self.skipping.take() {
            Some(_) => take(Cut::TooLong(&self.held)),
            None => take(self.judged(without_return(&self.held))),
        };
        self.held.clear();
        goes_on
    }

    fn judged<'a>(&self, record: &'a [u8]) -> Cut<'a> {
        match record.len() <= self.len_max {
            true => Cut::Record(record),
            false => Cut::TooLong(&record[..record.len().min(BEGIN_MAX)]),
        }
    }

    fn frame(
        &mut self,
        bytes: &[u8],
        take: &mut impl FnMut(Cut<'_>) -> bool,
    ) -> Result<(usize, bool), Senseless> {
        if let Some(left) = self.skipping {
            let part = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let left = left.saturating_sub(u32::try_from(part).unwrap_or(u32::MAX));
            self.skipping = (left > 0).then_some(left);
            return Ok((part, true));
        }
        if self.held.len() < HEADER {
            let part = bytes.len().min(HEADER - self.held.len());
            self.keep(&bytes[..part]);
            let Ok(header) = <[u8; HEADER]>::try_from(self.held.as_slice()) else {
                return Ok((part, true));
            };
            let len = u32::from_be_bytes(header);
            if len > FRAME_MAX {
                return Err(Senseless);
            }
            if usize::try_from(len).is_ok_and(|len| len <= self.len_max) {
                if len > 0 {
                    return Ok((part, true));
                }
                self.held.clear();
                return Ok((part, take(Cut::Record(b""))));
            }
            self.held.clear();
            self.skipping = Some(len);
            return Ok((part, take(Cut::TooLong(b""))));
        }
        let header: [u8; HEADER] = self.held[..HEADER].try_into().map_err(|_| Senseless)?;
        let len = u32::from_be_bytes(header) as usize; // at most `len_max`
        let part = bytes.len().min(HEADER + len - self.held.len());
        self.keep(&bytes[..part]);
        if self.held.len() < HEADER + len {
            return Ok((part, true));
        }
        let goes_on = take(Cut::Record(&self.held[HEADER..]));
        self.held.clear();
        Ok((part, goes_on))
    }

    /// The source has ended: a line without its end is one, a frame without its end is none.
    pub fn end(&mut self, mut take: impl FnMut(Cut<'_>) -> bool) {
        let is_line = self.framing == Framing::Lines;
        if is_line && (!self.held.is_empty() || self.skipping.is_some()) {
            self.take_held(&mut take);
        }
        self.clear();
    }

    /// Forgets the begin of a record.
    pub fn clear(&mut self) {
        self.held.clear();
        self.skipping = None;
    }

    /// Nothing is held, and nothing is to be passed over.
    pub fn is_between_records(&self) -> bool {
        self.held.is_empty() && self.skipping.is_none()
    }
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All records of `bytes`, which come in parts of `step` bytes. `None`: one that was too long.
    fn all(framing: Framing, bytes: &[u8], step: usize) -> Vec<Option<Vec<u8>>> {
        let mut cutter = Cutter::new(framing, 5);
        let mut found = Vec::new();
        let mut take = |cut: Cut<'_>| {
            found.push(match cut {
                Cut::Record(record) => Some(record.to_vec()),
                Cut::TooLong(begin) => {
                    assert!(begin.len() <= BEGIN_MAX);
                    None
                }
            });
            true
        };
        for part in bytes.chunks(step) {
            assert_eq!(cutter.cut(part, &mut take), Ok(part.len()));
            assert!(cutter.held.capacity() < 200);
        }
        cutter.end(&mut take);
        found
    }

    #[test]
    fn lines_are_the_same_however_their_bytes_come() {
        let long = "x".repeat(1000);
        let text = format!("a\n\n12345\r\n123456\n1234\r5\n{long}\r\nlast");
        let ok = |text: &str| Some(text.as_bytes().to_vec());
        let expected = [ok("a"), ok(""), ok("12345"), None, None, None, ok("last")];
        for step in 1..text.len() {
            assert_eq!(
                all(Framing::Lines, text.as_bytes(), step),
                expected,
                "{step}"
            );
        }
    }

    #[test]
    fn frames_are_the_same_however_their_bytes_come() {
        let mut bytes = Vec::new();
        let long = "x".repeat(1000);
        for record in ["a", "", "12345", "123456", "\n\r\0", &long, "b"] {
            let len = u32::try_from(record.len()).unwrap();
            bytes.extend_from_slice(&len.to_be_bytes());
            bytes.extend_from_slice(record.as_bytes());
        }
        bytes.extend_from_slice(&[0, 0, 0, 3, b'h']);
        let ok = |text: &str| Some(text.as_bytes().to_vec());
        let expected = [
            ok("a"),
            ok(""),
            ok("12345"),
            None,
            ok("\n\r\0"),
            None,
            ok("b"),
        ];
        for step in 1..bytes.len() {
            assert_eq!(all(Framing::Frames, &bytes, step), expected, "{step}");
        }
        let mut cutter = Cutter::new(Framing::Frames, 5);
        assert_eq!(cutter.cut(b"GET / HTTP", |_| true), Err(Senseless));
    }

    #[test]
    fn whoever_takes_may_stop_between_two_records() {
        let mut cutter = Cutter::new(Framing::Lines, 5);
        assert_eq!(cutter.cut(b"a\nb\n", |_| false), Ok(2));
        assert_eq!(cutter.cut(b"b\n", |cut| cut == Cut::Record(b"b")), Ok(2));
        assert!(cutter.is_between_records());
    }
}
