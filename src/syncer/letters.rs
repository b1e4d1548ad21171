//! Dead letters: records that a sink will never have, in a log of their own beside the stream's.
//!
//! ```text
//!  exporter: post ─▶ LetterBox ─▶ syncer: append ─ sync ─▶ free again ─▶ exporter: the cursor passes
//! ```
//!
//! A letter is a record: key, time, payload and properties of the one that died, and before those
//! properties [`ITEMS`] of its own (`docs/format.md`). The log is made
//! with the first letter. When its budget is used up the oldest letters go, counted.
//!
//! **Invariants.** A box holds what was posted until all of it is durable, so a failure loses no letter;
//! one that was durable before a failure may come twice. **Threads.** Each exporter has a box, and the
//! syncer serves all boxes of a stream; the number of turns says whose it is, so neither waits for the
//! other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{RETRY_MAX, RETRY_MIN};
use crate::clock::{Clock, Mono};
use crate::counters::{Board, CURSOR_NAME_MAX, ERROR_TEXT_MAX, StreamCounter, cut};
use crate::error::Result;
use crate::log::{Log, Opened, Trouble};
use crate::record::Record;
use crate::rules::{Rule, holds};
use crate::segment::Draft;
use crate::storage::{Buffer, is_room_missing};
use crate::watermark::Waker;
use crate::watermark::seam::Mutex;

mod letter;
#[cfg(test)]
mod tests;

use letter::{ALL_MAX, ITEMS_LEN_MAX};
pub use letter::{ITEMS, Letter, letter_len_max};

/// The directory of the dead letters' log, in the store's.
pub const LETTERS_DIR: &str = "dead-letters";
/// The most letters that are posted at once.
pub const LETTERS_MAX: usize = 64;

/// What is in a box.
#[derive(Debug)]
struct Page {
    bytes: Buffer,
    len: usize,
    heads: heapless::Vec<Head, LETTERS_MAX>,
    /// How many of them are durable, from a try that failed then.
    done: usize,
    error: heapless::String<ERROR_TEXT_MAX>,
}

/// Where a letter lies in a box.
#[derive(Clone, Copy, Debug)]
struct Head {
    time_ms: u64,
    extra_len: u16,
    key_len: u16,
    at: usize,
    len: usize,
}

impl Page {
    /// Adds a letter. False: there is no room for it now.
    fn add(&mut self, letter: &Letter<'_>) -> bool {
        let record = &letter.record;
        let properties = record.properties();
        let rest: usize = properties
            .map(|(name, value)| 4 + name.len() + value.len())
            .sum();
        // Records may have been longer once, before the setting was made smaller: those are cut.
        let room = self.bytes.len() - ITEMS_LEN_MAX;
        let kept = room.saturating_sub(rest + record.key.len());
        let payload = &record.payload[..kept.min(record.payload.len())];
        let is_cut = payload.len() < record.payload.len();
        let cut_len = if is_cut {
            record.payload.len() as u64
        } else {
            0
        };
        let numbers = [
            letter.offset,
            letter.attempts.into(),
            letter.time_ms,
            letter.appended_ms,
            cut_len,
        ];
        let [offset, attempts, time, appended, cut_len] = numbers.map(text);
        let values = [
            cut(letter.sink, CURSOR_NAME_MAX),
            cut(letter.reason, ERROR_TEXT_MAX),
            &offset,
            &attempts,
            &time,
            &appended,
            &cut_len,
        ];
        let own = ITEMS.into_iter().zip(values.map(str::as_bytes));
        // Those of a record are fewer than there is room for: it was checked when it was appended.
        let properties = own.chain(record.properties()).take(ALL_MAX);
        let properties: heapless::Vec<(&str, &[u8]), ALL_MAX> = properties.collect();
        let body = Record {
            key: record.key,
            time_ms: record.time_ms,
            payload,
            properties: &properties,
            source: None,
        };
        let len = body.body_len();
        if self.len + len > self.bytes.len() || self.heads.is_full() {
            return false;
        }
        let head = Head {
            time_ms: body.time_ms,
            extra_len: u16::try_from(body.extra_len()).unwrap_or(u16::MAX),
            key_len: u16::try_from(body.key.len()).unwrap_or(u16::MAX),
            at: self.len,
            len,
        };
        let (bytes, mut at) = (&mut self.bytes, self.len);
        body.write_body(|part| {
            bytes[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        });
        self.len = at;
        self.heads.push(head).is_ok()
    }
}

fn text(number: u64) -> heapless::String<20> {
    use std::fmt::Write;
    let mut text = heapless::String::new();
    // Twenty digits hold any number of 64 bits.
    let _ = write!(text, "{number}");
    text
}

/// Where an exporter leaves letters for the syncer.
#[derive(Debug)]
pub struct LetterBox {
    /// Rises with each post and each answer: odd, the box is the syncer's.
    turns: AtomicU64,
    /// Tries that failed since the last post.
    failures: AtomicU64,
    page: Mutex<Page>,
    syncer: Arc<Waker>,
    exporter: Arc<Waker>,
}

impl LetterBox {
    /// A box for records of at most so many bytes. Whoever has something to do is woken.
    pub fn new(
        record_len_max: u32,
        syncer: Arc<Waker>,
        exporter: Arc<Waker>,
    ) -> std::io::Result<Self> {
        let page = Page {
            bytes: Buffer::new(letter_len_max(record_len_max) as usize)?,
            len: 0,
            heads: heapless::Vec::new(),
            done: 0,
            error: heapless::String::new(),
        };
        Ok(Self {
            turns: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            page: Mutex::new(page),
            syncer,
            exporter,
        })
    }

    /// How often it was posted to and answered for.
    pub fn turns(&self) -> u64 {
        // Acquire: pairs with the stores in `post` and `answer`; what the other did comes before.
        self.turns.load(Ordering::Acquire)
    }

    /// Nothing is in it that is not durable.
    pub fn is_free(&self) -> bool {
        self.turns().is_multiple_of(2)
    }

    /// How often it was tried in vain to make durable what is in it.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Acquire)
    }

    /// Why the last try was in vain.
    pub fn error(&self) -> heapless::String<ERROR_TEXT_MAX> {
        self.page.lock().error.clone()
    }

    /// Posts the first of these letters that there is room for, at least one. Returns how many.
    pub fn post<'a>(&self, letters: impl Iterator<Item = Letter<'a>>) -> usize {
        assert!(self.is_free(), "one post after the other");
        let mut page = self.page.lock();
        page.heads.clear();
        (page.len, page.done) = (0, 0);
        for letter in letters {
            if !page.add(&letter) {
                break;
            }
        }
        let count = page.heads.len();
        drop(page);
        if count > 0 {
            self.failures.store(0, Ordering::Relaxed);
            self.turns.fetch_add(1, Ordering::Release);
            self.syncer.wake();
        }
        count
    }

    /// All of it is durable.
    fn answer(&self) {
        self.turns.fetch_add(1, Ordering::Release);
        self.exporter.wake();
    }

    /// It could not be made durable this time.
    fn fail(&self, error: &str) {
        let error = cut(error, ERROR_TEXT_MAX);
        self.page.lock().error = heapless::String::try_from(error).unwrap_or_default();
        self.failures.fetch_add(1, Ordering::Release);
        self.exporter.wake();
    }
}

/// Opens the dead letters' log, or makes it.
pub type OpenLetters = Box<dyn Fn() -> Result<Opened> + Send>;

/// The dead letters of a stream, as the syncer has them.
pub struct DeadLetters {
    open: OpenLetters,
    opened: Option<Opened>,
    boxes: Vec<Arc<LetterBox>>,
    /// The box whose letters could not be made durable at the last try.
    held: Option<usize>,
    /// The stream's board.
    board: Arc<Board>,
    checkpoint_interval: Duration,
    checkpoint_due: Mono,
    retry_at: Mono,
    retry_pause: Duration,
}

impl DeadLetters {
    /// Dead letters of a stream with that board. A log that is there already is opened, unless that would
    /// take room which the file system has not: then it is opened with the next letter, as one that is not
    /// there is made.
    ///
    /// Errors: those of the log's open.
    pub fn new(
        open: OpenLetters,
        is_there: bool,
        board: Arc<Board>,
        checkpoint_interval: Duration,
    ) -> Result<Self> {
        let opened = match is_there.then(&open).transpose() {
            Err(error) if error.io_error().is_some_and(is_room_missing) => {
                ::log::warn!("dead letters are not opened: {error}; they are with the next one");
                None
            }
            opened => opened?,
        };
        Ok(Self {
            open,
            opened,
            boxes: Vec::new(),
            held: None,
            board,
            checkpoint_interval,
            checkpoint_due: Mono::NEVER,
            retry_at: Mono::default(),
            retry_pause: RETRY_MIN,
        })
    }

    /// Adds an exporter's box. Called before the threads start.
    pub fn add_box(&mut self, letters: Arc<LetterBox>) {
        self.boxes.push(letters);
    }

    /// The log, if there is one.
    pub fn log(&self) -> Option<&Log> {
        self.opened.as_ref().map(|opened| &opened.log)
    }

    /// Makes durable what was posted, and the log's mark when it is time.
    pub(super) fn turn(&mut self, now: Mono, clock: &dyn Clock) {
        if now < self.retry_at {
            return;
        }
        // What could not be made durable stands in the log already: nothing comes before it is.
        let first = self.held.take().unwrap_or(0);
        for at in (first..self.boxes.len()).chain(0..first) {
            if self.boxes[at].is_free() {
                continue;
            }
            if let Err(error) = self.write(at, clock) {
                ::log::error!("dead letters are not written: {error}; they are held");
                self.boxes[at].fail(&error);
                self.held = Some(at);
                self.put_off(now);
                return;
            }
            self.retry_pause = RETRY_MIN;
            self.boxes[at].answer();
            if self.prepare().is_err() {
                self.put_off(now);
            }
        }
        let Some(opened) = &mut self.opened else {
            return;
        };
        if opened.log.is_mark_moved() && self.checkpoint_due == Mono::NEVER {
            self.checkpoint_due = now.plus(self.checkpoint_interval);
        }
        if now >= self.checkpoint_due {
            self.checkpoint_due = Mono::NEVER;
            if opened.log.checkpoint().is_err() {
                self.put_off(now);
            }
        }
    }

    /// Gets the next segment ready, bit by bit.
    fn prepare(&mut self) -> Result<(), Trouble> {
        self.opened
            .as_mut()
            .map_or(Ok(()), |opened| opened.log.prepare())
    }

    fn put_off(&mut self, now: Mono) {
        self.retry_at = now.plus(self.retry_pause);
        self.retry_pause = (self.retry_pause * 2).min(RETRY_MAX);
    }

    /// Makes durable what is in a box.
    fn write(&mut self, at: usize, clock: &dyn Clock) -> Result<(), String> {
        let opened = match &mut self.opened {
            Some(opened) => opened,
            None => {
                let opened = (self.open)().map_err(|error| error.to_string())?;
                self.opened.insert(opened)
            }
        };
        let mut page = self.boxes[at].page.lock();
        let start = opened.log.durable();
        let done = append_all(&page, &mut opened.log, clock);
        let count = opened.log.durable() - start;
        page.done += usize::try_from(count).unwrap_or(usize::MAX);
        self.board.add(StreamCounter::DeadLetters, count);
        let dropped = opened.board.get(StreamCounter::DroppedUnread);
        self.board.set(StreamCounter::DeadLettersDropped, dropped);
        done.map_err(|trouble| match trouble {
            Trouble::Full => "there is no room for them".to_owned(),
            Trouble::Failed(op, error) => format!("{op}: {error}"),
        })
    }

    /// When the next turn has something to do.
    pub(super) fn next(&self) -> Mono {
        let is_free = self.boxes.iter().all(|letters| letters.is_free());
        let wanted = if is_free {
            self.checkpoint_due
        } else {
            Mono::default()
        };
        wanted.max(self.retry_at)
    }

    /// Says in the log's checkpoint that it ended well. What cannot be written now is found by the next open.
    pub(super) fn close(&mut self) {
        if let Some(opened) = &mut self.opened
            && let Err(Trouble::Failed(op, error)) = opened.log.close()
        {
            ::log::warn!("close dead letters: {op}: {error}");
        }
    }
}

/// Appends what is in a box, and makes it durable.
fn append_all(page: &Page, log: &mut Log, clock: &dyn Clock) -> Result<(), Trouble> {
    let stamp = clock.stamp();
    // A try before may have appended some, and failed before they were durable.
    let pending = usize::try_from(log.next() - log.durable()).unwrap_or(usize::MAX);
    for head in page.heads.iter().skip(page.done.saturating_add(pending)) {
        let draft = Draft {
            offset: log.next(),
            time_ms: head.time_ms,
            extra_len: head.extra_len,
            key_len: head.key_len,
            body: &page.bytes[head.at..head.at + head.len],
        };
        log.append(&draft, stamp)?;
    }
    match holds(Rule::LetterSynced) {
        true => log.commit(),
        false => Ok(()),
    }
}
