//! `cursor`: where the sinks of a store stand, and how to move them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::table::columns;
use super::{Argument, Arguments, Done, Failure, json_string, print, read, view};
use crate::clock::{Clock, System};
use crate::counters::{CURSORS_MAX, Place};
use crate::error::{Code, Error};
use crate::log::{BatchBuffer, Editor, note_done};
use crate::storage::Real;

pub const HELP: &str = "\
usage: forebay cursor DIR list [--json]
       forebay cursor DIR seek NAME OFFSET|oldest|newest|TIME [--dry-run]
       forebay cursor DIR skip NAME [COUNT] [--dry-run]
       forebay cursor DIR remove NAME [--dry-run]

Shows and moves the cursors of the store in a directory: each is the place where one sink goes on. All but list take
the store, and are refused while an engine has it; they print what they did.

  list             a line for each: its name, its place, how many offsets are before it, and while an engine runs
                   whether one of its sinks has it; one that none has is an orphan, and holds no space
  seek             the sink goes on there: what is below counts as done, what is above is delivered, also again
  skip             passes over so many offsets (1) that it would deliver next; other than what a full budget drops,
                   they are not counted as lost
  remove           forgets it; a sink of that name begins anew, where its startAt says
  --dry-run        only says what it would do
  --json           one JSON object a cursor

A time is 2026-11-22, 2026-11-22T12:33:00Z, or -15m: that long ago (s, m, h, d).

example: forebay cursor /var/lib/forebay/telemetry seek kinesis -2h
";

/// Records are looked at in batches of so many bytes.
const BATCH_BYTES: usize = 1 << 20;

pub fn main(mut arguments: Arguments) -> Done {
    let (mut plain, mut is_json, mut is_dry) = (Vec::new(), false, false);
    while let Some(argument) = arguments.next()? {
        match argument {
            Argument::Option(name) if name == "json" => is_json = true,
            Argument::Option(name) if name == "dry-run" => is_dry = true,
            // A time may begin with a hyphen.
            Argument::Option(name) if plain.len() == 3 && name.len() == 1 => {
                plain.push(format!("-{name}{}", arguments.value().unwrap_or_default()).into());
            }
            Argument::Plain(value) if plain.len() < 4 => plain.push(value),
            argument => return Err(Arguments::unknown(&argument)),
        }
    }
    let usage = |text: &str| Failure::Usage(text.to_owned());
    let mut plain = plain.into_iter();
    let path = PathBuf::from(plain.next().ok_or_else(|| usage("DIR is missing"))?);
    let words: Vec<String> = plain
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if is_json && words.first() != Some(&"list") {
        return Err(usage("--json is for list only"));
    }
    match words[..] {
        ["list"] if is_dry => Err(usage("--dry-run is not for list")),
        ["list"] => list(&path, is_json),
        ["seek" | "skip" | "remove"] => Err(usage("NAME is missing")),
        ["seek", _] => Err(usage("OFFSET is missing")),
        ["seek", name, to] => seek(&path, name, to, is_dry),
        ["skip", name] => skip(&path, name, "1", is_dry),
        ["skip", name, count] => skip(&path, name, count, is_dry),
        ["remove", name] => remove(&path, name, is_dry),
        [] => Err(usage("list, seek, skip or remove is missing")),
        ["list" | "remove", .., last] => Err(Failure::Usage(format!(
            "\"{last}\" is one argument too many"
        ))),
        [word, ..] => {
            let text = format!("{word}: must be list, seek, skip or remove");
            Err(Failure::Usage(text))
        }
    }
}

fn list(path: &Path, is_json: bool) -> Done {
    let view = view(path)?;
    let summary = view.summary();
    let mut rows: Vec<(String, Place, &str)> = Vec::new();
    let mut next = summary.report.next;
    if let Some(board) = view.board() {
        next = view.shared().durable.get();
        let cursors = (0..CURSORS_MAX).map(|index| board.cursor(index));
        for cursor in cursors.take_while(|cursor| !cursor.name().is_empty()) {
            let place = cursor.place().unwrap_or_default();
            rows.push((cursor.name().as_str().to_owned(), place, "sink"));
        }
    }
    let state = if summary.is_live { "orphan" } else { "stopped" };
    for entry in &summary.checkpoint.cursors {
        if rows.iter().all(|(name, ..)| *name != *entry.name) {
            rows.push((entry.name.as_str().to_owned(), entry.place.clone(), state));
        }
    }
    let head = view.shared().head();
    let before = |place: &Place| {
        let done: u64 = place.intervals.iter().map(|(from, to)| to - from).sum();
        next.saturating_sub(place.position.max(head))
            .saturating_sub(done)
    };
    if is_json {
        let lines = rows.iter().map(|(name, place, state)| {
            let (name, position, before) = (json_string(name), place.position, before(place));
            format!(
                "{{\"name\":{name},\"position\":{position},\"before\":{before},\"state\":\"{state}\"}}\n"
            )
        });
        return print(&lines.collect::<String>());
    }
    let rows = rows.iter().map(|(name, place, state)| {
        let (position, before) = (place.position.to_string(), before(place).to_string());
        vec![name.clone(), position, before, (*state).to_owned()]
    });
    print(&columns(&rows.collect::<Vec<_>>()))
}

fn edit(path: &Path) -> Result<Editor, Failure> {
    let clock: Arc<dyn Clock> = Arc::new(System::new());
    Ok(Editor::open(path, Arc::new(Real), clock)?)
}

/// The place of a cursor, to be changed.
fn place_of<'a>(editor: &'a mut Editor, name: &str) -> Result<&'a mut Place, Failure> {
    let mut cursors = editor.cursors().iter_mut();
    let entry = cursors.find(|entry| entry.name == name);
    entry
        .map(|entry| &mut entry.place)
        .ok_or_else(|| none_named(name))
}

fn none_named(name: &str) -> Failure {
    let text = format!("there is no cursor \"{name}\"");
    Failure::Error(Error::text(Code::InvalidArg, "cursor", text))
}

/// Makes it durable, and then says it.
fn finish(editor: Editor, is_dry: bool, text: &str) -> Done {
    if is_dry {
        return print(&format!("would be: {text}"));
    }
    editor.write()?;
    print(text)
}

fn seek(path: &Path, name: &str, to: &str, is_dry: bool) -> Done {
    let wanted = match to {
        "oldest" => read::Place::Offset(0),
        "newest" => read::Place::Offset(u64::MAX),
        to => read::read_place(to, System::new().wall_ms())?,
    };
    let mut editor = edit(path)?;
    let offset = match wanted {
        read::Place::Offset(offset) => offset,
        read::Place::Time(wall_ms) => first_since(&editor, wall_ms)?,
    };
    let offset = offset.clamp(editor.head(), editor.next().max(editor.head()));
    let place = place_of(&mut editor, name)?;
    let from = place.position;
    *place = Place {
        position: offset,
        ..Place::default()
    };
    let text = format!("cursor {name}: from {from} to {offset}\n");
    finish(editor, is_dry, &text)
}

/// The first record that was stored at or after a time.
fn first_since(editor: &Editor, wall_ms: u64) -> Result<u64, Failure> {
    let failed = |error| Failure::Error(Error::io("read store", error));
    let mut reader = editor.reader()?;
    let mut batch = BatchBuffer::new(10_000, BATCH_BYTES, BATCH_BYTES).map_err(failed)?;
    let mut next = reader.seek_time(wall_ms).map_err(failed)?;
    loop {
        batch.clear();
        let (ended, after) = reader.read(next, u64::MAX, &mut batch).map_err(failed)?;
        let mut entries = batch.entries().iter();
        let first = entries.find(|entry| batch.view(entry).appended.wall_ms >= wall_ms);
        if let Some(entry) = first {
            return Ok(entry.offset);
        }
        if ended == crate::log::Ended::CaughtUp {
            return Ok(editor.next());
        }
        next = after;
    }
}

fn skip(path: &Path, name: &str, count: &str, is_dry: bool) -> Done {
    let text = || Failure::Usage(format!("{count}: must be a number"));
    let count: u64 = count.parse().map_err(|_| text())?;
    let mut editor = edit(path)?;
    let (head, next) = (editor.head(), editor.next());
    let place = place_of(&mut editor, name)?;
    let from = place.position.max(head);
    let to = from.saturating_add(count).min(next.max(from));
    let is_noted = note_done(place, 0, to);
    assert!(is_noted, "it makes no more intervals");
    let text = format!(
        "cursor {name}: from {from} to {}, {} passed over\n",
        place.position,
        to - from
    );
    finish(editor, is_dry, &text)
}

fn remove(path: &Path, name: &str, is_dry: bool) -> Done {
    let mut editor = edit(path)?;
    let at = place_of(&mut editor, name)?.position;
    editor.cursors().retain(|entry| entry.name != name);
    finish(
        editor,
        is_dry,
        &format!("cursor {name}: removed, was at {at}\n"),
    )
}
