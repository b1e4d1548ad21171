//! Lines of a file that others write, and of what a rotation makes of it.
//!
//! ```text
//!  app.log.2 ─▶ app.log.1 ─▶ app.log ─▶ | lines | ─▶ feed, each with its position
//! ```
//!
//! Each record carries which file it is from, how far that was read, and a checksum of what stood before.
//! After a crash reading goes on behind the last durable record: in that file, whatever it is called then,
//! or in a copy of it; then in those that were made since; then in the file itself.
//!
//! **Invariants.** What is read stands behind what was read: where the bytes before a position are not those
//! that were there, the file was cut, and its copy is read to the end before the file from its start.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::cutter::{Cut, Cutter, Framing};
use super::feed::{Feed, Patience, Reason, Taken};
use super::fields::{Origin, brace};
use super::system::{Source as Waited, Watch};
use super::told::{Part, Told};
use super::{Field, Input, Progress};
use crate::clock::{Clock, Mono};
use crate::config::json::{Object, quoted};
use crate::config::path;
use crate::config::resolve::Resolver;
use crate::engine::Stream;
use crate::error::Result;
use crate::format::checksum;
use crate::record::{SOURCE_NAME_MAX, Source};
use crate::storage::{Followed, shown_at};

mod rotated;

use rotated::{Position, Rotated, SEEN_MAX};

/// So much is read at once.
const READ_SIZE: usize = 64 << 10;
/// Where the system tells of changes, it is looked at so often besides; it does not tell of those that
/// another machine made.
const LOOK: Duration = Duration::from_secs(1);
/// Where it does not tell.
const LOOK_ALONE: Duration = Duration::from_millis(200);
/// What is written in this time is read at once, instead of each line by itself.
const GATHER: Duration = Duration::from_millis(5);
/// What was taken before is waited for so long, so that it is not read again.
const FLUSH: Duration = Duration::from_secs(5);
/// What the name of a source begins with.
const SCHEME: &str = "tail:";

/// Which file, and how it is followed.
#[derive(Clone, Debug)]
pub struct Place {
    path: PathBuf,
    /// Where nothing is known of it, only what comes from now on is read.
    is_from_end: bool,
    /// A file that was moved away is done when nobody has written to it for so long.
    rotate_wait: Duration,
}

impl Part for Place {
    fn read(object: &mut Object<'_>, resolver: &Resolver<'_>) -> Result<Self> {
        let node = object.required("path")?;
        let path = path(&node, resolver)?;
        let len_max = SOURCE_NAME_MAX - SCHEME.len();
        if path.to_str().is_none_or(|path| path.len() > len_max) {
            return Err(node.error(format_args!("must have at most {len_max} bytes")));
        }
        let start = object.take_set("startAt");
        let words = [("oldest", false), ("newest", true)];
        let is_from_end = start.map_or(Ok(false), |node| node.word(&words))?;
        let wait = object.take_set("rotateWaitMs");
        let wait = wait.map_or(Ok(5000), |node| node.number(0..=3_600_000))?;
        Ok(Self {
            path,
            is_from_end,
            rotate_wait: Duration::from_millis(wait),
        })
    }

    fn to_json(&self) -> Vec<Field> {
        let Self {
            path,
            is_from_end,
            rotate_wait,
        } = self;
        let start = if *is_from_end { "newest" } else { "oldest" };
        vec![
            ("path", brace(&path.to_string_lossy())),
            ("startAt", quoted(start)),
            ("rotateWaitMs", rotate_wait.as_millis().to_string()),
        ]
    }
}

/// What the input is told.
type Options = Told<Place, ()>;

/// Reads what the input is told.
pub(super) fn read(object: &mut Object<'_>, resolver: &Resolver<'_>) -> Result<Arc<dyn Input>> {
    Options::read(object, resolver)
}

impl Input for Options {
    fn fields(&self) -> Vec<Field> {
        self.to_json()
    }

    fn run(&self, stream: &Stream, progress: &Progress) {
        let feed = Feed::new("tail", &self.feed, stream, progress, Patience::Waits);
        let name = format!("{SCHEME}{}", self.place.path.display());
        // The error says that it takes longer: then something is read twice.
        let _ = stream.flush(FLUSH);
        let known = stream.source_position(&name);
        let mut tail = Tail {
            place: &self.place,
            known: known.and_then(|bytes| Position::from_bytes(&bytes)),
            name,
            is_begun: false,
            buf: vec![0; SEEN_MAX + READ_SIZE],
            feed,
        };
        loop {
            match tail.follow() {
                Ok(()) => return,
                Err(error) => {
                    let error = format!("{}: {error}", self.place.path.display());
                    if !tail.feed.wait_to_retry(&error) {
                        return;
                    }
                }
            }
        }
    }
}

struct Tail<'a> {
    place: &'a Place,
    name: String,
    /// How far records were taken.
    known: Option<Position>,
    /// It has been looked for a file.
    is_begun: bool,
    buf: Vec<u8>,
    feed: Feed<'a>,
}

/// A file at hand.
struct Reading {
    file: Followed,
    /// What is read next.
    at: u64,
    /// The bytes before.
    seen: VecDeque<u8>,
    cutter: Cutter,
    /// Somebody may still write to it when it has another name.
    is_written: bool,
    /// Since when it has another name, and nothing has come.
    quiet: Option<Mono>,
}

/// What became of a read.
#[derive(PartialEq, Eq)]
enum Read {
    Some,
    /// There is no more.
    None,
    /// What was read before is not there any more.
    Cut,
    /// The input is to end.
    Ended,
}

impl Tail<'_> {
    /// Reads until the input is to end. An error is one of the file.
    fn follow(&mut self) -> io::Result<()> {
        let mut watch = Watch::new();
        let mut reading = self.begin()?;
        loop {
            let open = reading.as_ref().map(|one| (one.file.id(), &one.file));
            watch.look_at(&self.place.path, open);
            let mut is_any = false;
            while let Some(one) = &mut reading {
                if self.feed.is_stopping() {
                    return Ok(());
                }
                match self.read(one)? {
                    Read::Some => is_any = true,
                    Read::None => break,
                    Read::Cut => {
                        reading = self.after_cut(one)?;
                        is_any = true;
                        break;
                    }
                    Read::Ended => return Ok(()),
                }
            }
            if self.feed.is_stopping() {
                return Ok(());
            }
            if is_any {
                self.feed.progress.wake.pause(GATHER);
                continue;
            }
            let limit = match &mut reading {
                None => {
                    reading = self.open(0)?;
                    reading.is_none().then_some(LOOK)
                }
                Some(one) => match self.time_to_go_on(one)? {
                    Some(left) => Some(left),
                    None => match self.next(one)? {
                        Some(next) => {
                            reading = Some(next);
                            None
                        }
                        None => Some(LOOK),
                    },
                },
            };
            if let Some(limit) = limit {
                let limit = if watch.is_there() {
                    limit
                } else {
                    limit.min(LOOK_ALONE)
                };
                let mut sources: Vec<_> = watch.file().map(Waited::read).into_iter().collect();
                self.feed.progress.wake.wait(&mut sources, Some(limit))?;
                drop(sources);
                watch.forget();
            }
        }
    }

    /// Finds out where to go on.
    fn begin(&mut self) -> io::Result<Option<Reading>> {
        let path = self.place.path.display();
        let Some(known) = self.known else {
            let is_from_end = self.place.is_from_end && !self.is_begun;
            let shown = shown_at(&self.place.path)?;
            let at = shown.filter(|_| is_from_end).map_or(0, |shown| shown.size);
            let opened = self.open(at)?;
            self.is_begun = true;
            let text = format!("reading {path} from byte {at} on");
            self.feed.begins(&text);
            return Ok(opened);
        };
        self.is_begun = true;
        let rotated = self.rotated();
        if let Some(file) = rotated.find(&known)? {
            let text = format!("reading {path} from byte {} on, where it stood", known.at);
            self.feed.begins(&text);
            let mut reading = self.reading(file, known.at)?;
            reading.is_written = reading.file.id() == known.file;
            return Ok(Some(reading));
        }
        log::warn!(
            "input tail: {path}: what was read up to byte {} is gone, and what was written behind it; \
             it is read from its start",
            known.at
        );
        self.open(0)
    }

    fn rotated(&self) -> Rotated<'_> {
        Rotated {
            path: &self.place.path,
        }
    }

    /// The file that has the name now, if there is one.
    fn open(&self, at: u64) -> io::Result<Option<Reading>> {
        match Followed::open(&self.place.path) {
            Ok(file) => self.reading(file, at).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn reading(&self, file: Followed, at: u64) -> io::Result<Reading> {
        let mut seen = [0; SEEN_MAX];
        let len = usize::try_from(at).unwrap_or(SEEN_MAX).min(SEEN_MAX);
        let read = file.read_at(&mut seen[..len], at - len as u64)?;
        // It may have been cut since somebody looked.
        let (at, len) = if read == len { (at, len) } else { (0, 0) };
        Ok(Reading {
            file,
            at,
            seen: seen[..len].iter().copied().collect(),
            cutter: Cutter::new(Framing::Lines, self.feed.len_max()),
            is_written: true,
            quiet: None,
        })
    }

    /// Reads what has come, and takes the lines in it.
    fn read(&mut self, one: &mut Reading) -> io::Result<Read> {
        let before = one.seen.len();
        let start = one.at - before as u64;
        let len = one.file.read_at(&mut self.buf, start)?;
        let is_same = len >= before && one.seen.iter().eq(&self.buf[..before]);
        if !is_same {
            return Ok(Read::Cut);
        }
        if len == before {
            return Ok(Read::None);
        }
        let mut used = before;
        while used < len {
            let bytes = &self.buf[..len];
            let (name, file) = (&self.name, one.file.id());
            let (feed, known) = (&mut self.feed, &mut self.known);
            let mut taken = None;
            let behind = |part: usize| {
                let seen = &bytes[part.saturating_sub(SEEN_MAX)..part];
                Position {
                    file,
                    at: start + part as u64,
                    checksum: checksum(seen),
                }
            };
            // A line ends where its end is: the first that is not used yet.
            let rest = &bytes[used..];
            let end = rest.iter().position(|byte| *byte == b'\n');
            let end = used + end.map_or(rest.len(), |end| end + 1);
            let cut = one.cutter.cut(&bytes[used..end], |cut| {
                taken = Some(take(feed, name, cut, behind(end)));
                true
            });
            debug_assert_eq!(cut, Ok(end - used));
            match taken {
                Some(Taken::Ended) => return Ok(Read::Ended),
                Some(Taken::Below(_)) => *known = Some(behind(end)),
                _ => {}
            }
            used = end;
        }
        one.at = start + len as u64;
        one.seen.clear();
        one.seen
            .extend(&self.buf[len.saturating_sub(SEEN_MAX)..len]);
        one.quiet = None;
        Ok(Read::Some)
    }

    /// The file was cut: what a copy still has is read, and then the file from its start.
    fn after_cut(&mut self, one: &Reading) -> io::Result<Option<Reading>> {
        let path = self.place.path.display();
        let known = self.known.filter(|known| known.file == one.file.id());
        let copy = match &known {
            Some(known) => self.rotated().find_copy(known)?,
            None => None,
        };
        if let (Some(known), Some(file)) = (known, copy) {
            log::info!(
                "input tail: {path} was cut; its copy is read from byte {} on",
                known.at
            );
            let mut reading = self.reading(file, known.at)?;
            reading.is_written = false;
            return Ok(Some(reading));
        }
        log::info!(
            "input tail: {path} was cut, and has no copy that goes on; it is read from its start"
        );
        self.open(0)
    }

    /// Nothing has come: how long until it is time to go on with another file. `None`: it is time.
    fn time_to_go_on(&mut self, one: &mut Reading) -> io::Result<Option<Duration>> {
        let own = shown_at(&self.place.path)?.map(|shown| shown.id);
        if own.is_none() || own == Some(one.file.id()) {
            one.quiet = None;
            return Ok(Some(LOOK));
        }
        let now = self.feed.clock.mono();
        let since = *one.quiet.get_or_insert(now);
        let wait = match one.is_written {
            true => self.place.rotate_wait,
            false => Duration::ZERO,
        };
        let left = since.plus(wait).since(now);
        Ok((!left.is_zero()).then(|| left.min(LOOK)))
    }

    /// The file that follows. The last line of the one before need not have an end.
    fn next(&mut self, one: &mut Reading) -> io::Result<Option<Reading>> {
        let Some((file, is_own)) = self.rotated().after(&one.file)? else {
            return Ok(None);
        };
        let (name, feed) = (&self.name, &mut self.feed);
        let position = Position {
            file: one.file.id(),
            at: one.at,
            checksum: checksum(one.seen.make_contiguous()),
        };
        let mut taken = None;
        one.cutter.end(|cut| {
            taken = Some(take(feed, name, cut, position));
            true
        });
        if let Some(Taken::Below(_)) = taken {
            self.known = Some(position);
        }
        let mut reading = self.reading(file, 0)?;
        reading.is_written = is_own;
        Ok(Some(reading))
    }
}

/// Takes a line, or passes it over.
fn take(feed: &mut Feed<'_>, name: &str, cut: Cut<'_>, position: Position) -> Taken {
    match cut {
        Cut::Record(record) => {
            let position = position.to_bytes();
            let source = Source {
                name,
                position: &position,
            };
            feed.take(record, Origin::default(), Some(source))
        }
        Cut::TooLong(begin) => feed.pass_by(Reason::TooLong, begin),
    }
}
