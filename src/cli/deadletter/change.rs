//! Sends dead letters back to their stream, or drops them.
//!
//! What was done with stands in the checkpoint of the letters' log, as a cursor: it becomes durable behind
//! what was done, so a crash between the two repeats it and loses nothing.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{HANDLED, all_letters, handled, is_done, letters_view, row};
use crate::cli::{Done, Failure, config, print, say};
use crate::clock::{Clock, System};
use crate::config::Config;
use crate::counters::Place;
use crate::engine::{Engine, Stream};
use crate::error::{Code, Error};
use crate::format::CursorEntry;
use crate::log::{Editor, note_done};
use crate::record::Record;
use crate::storage::Real;
use crate::syncer::{LETTERS_DIR, Letter};

/// How long everything may take to become durable, and how long a full stream is waited for.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What is to be done with which letters.
pub struct Change {
    /// The store.
    pub path: PathBuf,
    /// Their offsets.
    pub offsets: Range<u64>,
    /// The configuration of the stream that they go back to; `None`: they are dropped.
    pub config: Option<PathBuf>,
    /// Nothing is done.
    pub is_dry: bool,
}

/// Which letters there are of those asked for.
#[derive(Default)]
struct Chosen {
    /// The letters, in order.
    offsets: Vec<u64>,
    /// The same as ranges, with what lies between them and holds nothing.
    ranges: Vec<(u64, u64)>,
    /// Of these less than the whole record was kept.
    cut: Vec<u64>,
}

impl Chosen {
    /// Letters that nothing was done with come one behind the other, and none of them was left out since the
    /// one before.
    fn add(&mut self, offset: u64, is_behind_one: bool) {
        self.offsets.push(offset);
        match self.ranges.last_mut().filter(|_| is_behind_one) {
            Some(range) => range.1 = offset + 1,
            None => self.ranges.push((offset, offset + 1)),
        }
    }
}

/// Does it, and says what was done.
pub fn change(change: &Change) -> Done {
    match &change.config {
        Some(path) if !change.is_dry => reinject(change, path),
        config => drop_letters(change, config.is_some()),
    }
}

fn drop_letters(change: &Change, is_reinject: bool) -> Done {
    let chosen = choose(change, is_reinject)?;
    if change.is_dry {
        let what = if is_reinject { "reinjected" } else { "dropped" };
        return print(&format!(
            "{} letters would be {what}\n",
            chosen.offsets.len()
        ));
    }
    // No engine has the stream, and none gets it meanwhile.
    let _store = edit(&change.path)?;
    note(&change.path, &chosen.ranges)?;
    print(&format!("{} letters dropped\n", chosen.offsets.len()))
}

/// What is chosen of the letters, with a line for each if nothing is to be done.
fn choose(change: &Change, is_reinject: bool) -> Result<Chosen, Failure> {
    let mut chosen = Chosen::default();
    let Some(view) = letters_view(&change.path)? else {
        return Ok(chosen);
    };
    let place = handled(&view);
    let (mut is_behind_one, mut text) = (false, String::new());
    all_letters(&view, change.offsets.clone(), |record| {
        if is_done(&place, record.offset) {
            return Ok(());
        }
        let letter = Letter::read(record);
        let is_whole = letter.is_some_and(|letter| letter.cut == 0);
        if is_reinject && !is_whole {
            chosen.cut.push(record.offset);
            is_behind_one = false;
            return Ok(());
        }
        chosen.add(record.offset, is_behind_one);
        is_behind_one = true;
        if change.is_dry {
            text.push_str(&letter.map_or_else(String::new, |letter| row(&letter)));
        }
        Ok(())
    })?;
    for offset in &chosen.cut {
        say(&format!(
            "letter {offset} has not all of its record, and stays\n"
        ));
    }
    print(&text)?;
    let mut place = place;
    if !chosen
        .ranges
        .iter()
        .all(|(from, to)| note_done(&mut place, *from, *to))
    {
        let text = "too many ranges of letters would be done with, and others between them not: begin with \
                    the oldest";
        return Err(Error::text(Code::InvalidArg, "deadletter", text.to_owned()).into());
    }
    Ok(chosen)
}

/// Notes that these letters are done with, durably.
fn note(path: &Path, ranges: &[(u64, u64)]) -> Done {
    if ranges.is_empty() {
        return Ok(());
    }
    let mut editor = edit(&path.join(LETTERS_DIR))?;
    let head = editor.head();
    let cursors = editor.cursors();
    if !cursors.iter().any(|entry| entry.name == HANDLED) {
        let name = heapless::String::try_from(HANDLED).unwrap_or_default();
        let place = Place {
            position: head,
            ..Place::default()
        };
        let _ = cursors.push(CursorEntry { name, place });
    }
    let entry = cursors.iter_mut().find(|entry| entry.name == HANDLED);
    let mut position = head;
    if let Some(entry) = entry {
        // What the quota dropped meanwhile is behind it.
        note_done(&mut entry.place, 0, head);
        for (from, to) in ranges {
            if !note_done(&mut entry.place, *from, *to) {
                let text = "letters that were reinjected stay: too many ranges of them".to_owned();
                return Err(Error::text(Code::InvalidArg, "deadletter", text).into());
            }
        }
        position = entry.place.position;
    }
    // Their space is given back by the next open.
    editor.raise_head(position);
    Ok(editor.write()?)
}

fn edit(path: &Path) -> Result<Editor, Failure> {
    let clock: Arc<dyn Clock> = Arc::new(System::new());
    Ok(Editor::open(path, Arc::new(Real), clock)?)
}

/// The part of the configuration that has the stream of this store.
fn stream_of(store: &Path, path: &Path) -> Result<(Config, String), Failure> {
    let config = config(path)?;
    let absolute = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let is_its = |name: &&str| {
        let path = config.store_path(name);
        path.is_some_and(|path| absolute(path) == absolute(store))
    };
    let name = config.stream_names().into_iter().find(is_its);
    let Some(name) = name.map(str::to_owned) else {
        let (path, store) = (path.display(), store.display());
        let text = format!("{path} has no stream whose store is {store}");
        return Err(Failure::Usage(text));
    };
    let mut config = config.only(&name)?;
    for stream in &mut config.streams {
        // Nobody makes room meanwhile.
        stream.buffer.block_timeout = Some(TIMEOUT);
    }
    Ok((config, name))
}

fn reinject(change: &Change, config: &Path) -> Done {
    let (config, name) = stream_of(&change.path, config)?;
    let engine = Engine::open_to_store(&config)?;
    let stream = engine.stream(&name)?;
    // The engine has the letters too: nothing changes them until it is closed.
    let chosen = choose(change, true)?;
    let (done, offsets, failed) = append(change, &stream, &chosen.offsets)?;
    stream.flush(TIMEOUT)?;
    engine.close(TIMEOUT)?;
    note(&change.path, &done.ranges)?;
    let left = chosen.offsets.len() - done.offsets.len() + chosen.cut.len();
    let mut text = format!("{} letters reinjected", done.offsets.len());
    if let Some(offsets) = offsets {
        text.push_str(&format!(
            ", as records {} to {}",
            offsets.start,
            offsets.end - 1
        ));
    }
    if left > 0 {
        text.push_str(&format!(", {left} left"));
    }
    print(&format!("{text}\n"))?;
    match failed {
        Some(error) => Err(error.into()),
        None if left > 0 => Err(Failure::Found),
        None => Ok(()),
    }
}

type Appended = (Chosen, Option<Range<u64>>, Option<Error>);

/// Appends the records of these letters, until one is refused for want of room. Those that are done, the
/// offsets that their records have now, and why it ended early.
fn append(change: &Change, stream: &Stream, chosen: &[u64]) -> Result<Appended, Failure> {
    let (mut done, mut offsets, mut failed) = (Chosen::default(), None::<Range<u64>>, None);
    let Some(view) = letters_view(&change.path)? else {
        return Ok((done, offsets, failed));
    };
    let mut is_behind_one = false;
    all_letters(&view, change.offsets.clone(), |record| {
        let is_chosen = chosen.binary_search(&record.offset).is_ok();
        let letter = Letter::read(record).filter(|_| is_chosen && failed.is_none());
        let Some(letter) = letter else {
            is_behind_one = false;
            return Ok(());
        };
        let properties: Vec<(&str, &[u8])> = letter.properties().collect();
        let again = Record {
            key: record.key,
            time_ms: record.time_ms,
            payload: record.payload,
            properties: &properties,
            source: None,
        };
        match stream.append_record(&again) {
            Ok(offset) => {
                done.add(record.offset, is_behind_one);
                is_behind_one = true;
                let start = offsets.as_ref().map_or(offset, |offsets| offsets.start);
                offsets = Some(start..offset + 1);
            }
            Err(error) if error.code() == Code::InvalidArg => {
                say(&format!("letter {} stays: {error}\n", record.offset));
                is_behind_one = false;
            }
            Err(error) => failed = Some(error),
        }
        Ok(())
    })?;
    Ok((done, offsets, failed))
}
