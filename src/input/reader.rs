//! Lines or frames from a file that does not block: a pipe, a device.

use std::io::{self, ErrorKind, Read};
use std::os::fd::AsFd;
use std::time::Duration;

use super::Field;
use super::cutter::{Cut, Cutter, Framing};
use super::feed::{Feed, Reason, Taken};
use super::fields::Origin;
use super::system::Source;
use super::told::Part;
use crate::clock::{Clock, Mono};
use crate::config::json::{Object, quoted};
use crate::config::resolve::Resolver;
use crate::error::Result;
use crate::watermark::seam::park;

/// So much is read at once.
const READ_SIZE: usize = 64 << 10;
/// How often is looked for what comes last.
const LAST_PAUSE: Duration = Duration::from_millis(1);

impl Part for Framing {
    fn read(object: &mut Object<'_>, _: &Resolver<'_>) -> Result<Self> {
        let words = [("lines", Self::Lines), ("frames", Self::Frames)];
        let node = object.take_set("framing");
        node.map_or(Ok(Self::Lines), |node| node.word(&words))
    }

    fn to_json(&self) -> Vec<Field> {
        let word = match self {
            Self::Lines => "lines",
            Self::Frames => "frames",
        };
        vec![("framing", quoted(word))]
    }
}

/// Why nothing more is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// There is no more.
    End,
    /// What comes is no frames.
    Senseless,
    /// It is late.
    Late,
    /// The input is to stop, or the stream takes nothing any more.
    Stop,
}

/// Takes records from `file` until it ends, `due` has come or the input is to stop. With `is_last` that order
/// is not looked at.
pub fn read_until<F: Read + AsFd>(
    file: &mut F,
    sender: &str,
    cutter: &mut Cutter,
    feed: &mut Feed<'_>,
    due: Mono,
    is_last: bool,
) -> io::Result<Why> {
    let mut buf = vec![0; READ_SIZE];
    loop {
        let now = feed.clock.mono();
        if feed.is_stopping() && !is_last {
            return Ok(Why::Stop);
        }
        if now >= due {
            return Ok(Why::Late);
        }
        let len = match file.read(&mut buf) {
            Ok(0) => {
                let taken = pass_on(cutter, sender, feed, None);
                return Ok(taken.unwrap_or(Why::End));
            }
            Ok(len) => len,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let limit = (due < Mono::NEVER).then(|| due.since(now));
                let mut sources = [Source::read(file)];
                // The order to stop has come already, and ends each wait.
                match is_last {
                    true => park(Some(LAST_PAUSE)),
                    false => feed.progress.wake.wait(&mut sources, limit)?,
                }
                continue;
            }
            Err(error) => return Err(error),
        };
        if let Some(why) = pass_on(cutter, sender, feed, Some(&buf[..len])) {
            return Ok(why);
        }
    }
}

/// Hands on what came; `None`: that was all. Says why nothing more is to be read, if that is so.
fn pass_on(
    cutter: &mut Cutter,
    sender: &str,
    feed: &mut Feed<'_>,
    bytes: Option<&[u8]>,
) -> Option<Why> {
    let mut why = None;
    let origin = Origin { topic: "", sender };
    let mut take = |cut: Cut<'_>| {
        let taken = match cut {
            Cut::Record(record) => feed.take(record, origin, None),
            Cut::TooLong(begin) => feed.pass_by(Reason::TooLong, begin),
        };
        if taken == Taken::Ended {
            why = Some(Why::Stop);
        }
        taken != Taken::Ended
    };
    match bytes {
        Some(bytes) => {
            if cutter.cut(bytes, &mut take).is_err() {
                feed.pass_over(Reason::Malformed, bytes);
                return Some(Why::Senseless);
            }
        }
        None => cutter.end(&mut take),
    }
    why
}
