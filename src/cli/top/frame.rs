//! The text of a table, for a terminal of some size or for a pipe.
//!
//! Columns that have no place are left out, the less important first; what does not fit below is scrolled to.

use std::time::Duration;

use super::watch::{Row, Tone};
use crate::cli::{bytes, table};

/// Whether there are colours, and letters beyond ASCII.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    pub has_colours: bool,
    pub has_blocks: bool,
}

impl Style {
    /// As the environment asks for.
    pub fn of_environment() -> Self {
        let set = |name: &str| {
            let value = std::env::var_os(name);
            value.filter(|value| !value.is_empty())
        };
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set);
        let locale = locale.unwrap_or_default();
        let locale = locale.to_string_lossy().to_ascii_lowercase();
        Self {
            has_colours: set("NO_COLOR").is_none(),
            has_blocks: locale.contains("utf-8") || locale.contains("utf8"),
        }
    }
}

/// Heights of a line of blocks, from nothing on.
const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const LETTERS: [char; 9] = [' ', '.', '_', '-', '~', '=', '+', '*', '#'];

/// A column, and how a row fills it.
struct Column {
    head: &'static str,
    width: usize,
    /// The least important have the highest.
    rank: u8,
    cell: fn(&Row) -> String,
}

const COLUMNS: [Column; 9] = [
    Column {
        head: "STATE",
        width: 9,
        rank: 0,
        cell: |row| row.state.to_owned(),
    },
    Column {
        head: "IN/S",
        width: 7,
        rank: 3,
        cell: |row| rate(row.taken),
    },
    Column {
        head: "OUT/S",
        width: 7,
        rank: 3,
        cell: |row| rate(row.delivered),
    },
    Column {
        head: "WAITING",
        width: 7,
        rank: 1,
        cell: |row| short(row.backlog),
    },
    Column {
        head: "LAG",
        width: 6,
        rank: 2,
        cell: |row| age(row.lag_ms),
    },
    Column {
        head: "LOST",
        width: 6,
        rank: 4,
        cell: |row| short(row.lost),
    },
    Column {
        head: "FLASH/S",
        width: 9,
        rank: 5,
        cell: |row| amount(row.written.map(whole)),
    },
    Column {
        head: "B/RECORD",
        width: 8,
        rank: 7,
        cell: |row| row.wear.map_or_else(String::new, |wear| short(whole(wear))),
    },
    Column {
        head: "DISK",
        width: 9,
        rank: 6,
        cell: |row| amount(row.disk),
    },
];

/// The narrowest column of names, and the narrowest line of blocks.
const NAME_WIDTH_MIN: usize = 8;
const HISTORY_WIDTH_MIN: usize = 8;
/// Columns of a higher rank have a place only besides a line of blocks.
const HISTORY_RANK: u8 = 4;
/// The rank of the least important.
const RANK_MAX: u8 = 7;

/// What is shown on a terminal.
pub struct Frame {
    title: String,
    interval: Duration,
    style: Style,
    /// The first row that is shown.
    from: usize,
}

impl Frame {
    pub fn new(title: &str, interval: Duration, style: Style) -> Self {
        Self {
            title: printable(title),
            interval,
            style,
            from: 0,
        }
    }

    /// Moves down by so many rows.
    pub fn scroll(&mut self, by: isize) {
        self.from = self.from.saturating_add_signed(by);
    }

    /// A whole screen of so many columns and lines, over the one before.
    pub fn text(&mut self, rows: &[Row], at: &str, (width, height): (usize, usize)) -> String {
        // A cursor in the last column has not moved on, and what is cleared behind it is that column.
        let width = width.saturating_sub(1).max(1);
        let mut lines = vec![self.first(rows, at, width)];
        let shape = Shape::of(rows, width);
        lines.push(self.paint(&cut(&shape.heads(), width), "1"));
        let mut below = Vec::new();
        for row in rows {
            below.push(self.line(row, &shape, width));
            if !row.error.is_empty() {
                let text = cut(&format!("    {}", printable(&row.error)), width);
                below.push(self.paint(&text, "2"));
            }
        }
        let room = height.saturating_sub(lines.len() + 1).max(1);
        self.from = self.from.min(below.len().saturating_sub(room));
        let left = below.len().saturating_sub(self.from + room);
        lines.extend(below.into_iter().skip(self.from).take(room));
        lines.truncate(height.saturating_sub(1).max(1));
        let last = match (self.from, left) {
            (0, 0) => "q ends".to_owned(),
            (above, below) => format!("q ends; arrows: {above} lines above, {below} below"),
        };
        if height > 1 {
            lines.push(self.paint(&cut(&last, width), "2"));
        }
        // Each line over the one that stands there, and nothing behind the last.
        format!("\x1b[H{}\x1b[K\x1b[J", lines.join("\x1b[K\r\n"))
    }

    /// Whether it is well, at a glance.
    fn first(&self, rows: &[Row], at: &str, width: usize) -> String {
        let streams = rows.iter().filter(|row| !row.is_sink);
        let bad = streams.clone().filter(|row| row.tone == Tone::Bad).count();
        let streams = streams.count();
        let sinks = rows.len() - streams;
        let (verdict, colour) = match bad {
            0 => ("all well".to_owned(), "7;32"),
            bad => (format!("{bad} of {streams} streams not well"), "7;31"),
        };
        let verdict = cut(&format!(" {verdict} "), width);
        let rest = format!(
            " {streams} streams, {sinks} sinks  {}  each {} s  {}",
            at.get(11..19).unwrap_or(at),
            self.interval.as_secs(),
            self.title
        );
        let rest = cut(&rest, width - verdict.chars().count());
        self.paint(&verdict, colour) + &rest
    }

    fn line(&self, row: &Row, shape: &Shape, width: usize) -> String {
        let mut text = cut_or_fill(&name(row), shape.name_width.min(width));
        for column in &shape.columns {
            let cell = (column.cell)(row);
            if column.rank == 0 {
                let colour = match row.tone {
                    Tone::Good => "32",
                    Tone::Odd => "33",
                    Tone::Bad => "31",
                    Tone::Plain => "0",
                };
                let cell = cut_or_fill(&cell, column.width);
                text.push(' ');
                text.push_str(&self.paint(&cell, colour));
            } else {
                text.push_str(&format!(" {cell:>width$}", width = column.width));
            }
        }
        if shape.history_width > 0 {
            text.push_str("  ");
            text.push_str(&self.history(&row.history, shape.history_width));
        }
        text.trim_end().to_owned()
    }

    /// The newest of some rates as a line, as high as the highest of them.
    fn history(&self, rates: &[f64], width: usize) -> String {
        let rates = &rates[rates.len().saturating_sub(width)..];
        let highest = rates.iter().copied().fold(0.0, f64::max);
        let steps = match self.style.has_blocks {
            true => BLOCKS,
            false => LETTERS,
        };
        let top = (steps.len() - 1) as f64;
        let step = |rate: f64| {
            let height = if rate > 0.0 {
                whole((rate / highest * top).max(1.0))
            } else {
                0
            };
            let at = usize::try_from(height).unwrap_or(0);
            steps[at.min(steps.len() - 1)]
        };
        let line: String = rates.iter().map(|rate| step(*rate)).collect();
        format!("{line:>width$}")
    }

    /// With the colours of some number in an escape.
    fn paint(&self, text: &str, colour: &str) -> String {
        match self.style.has_colours {
            true => format!("\x1b[{colour}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }
}

/// Which columns have a place, and how wide.
struct Shape {
    columns: Vec<&'static Column>,
    name_width: usize,
    history_width: usize,
}

impl Shape {
    fn of(rows: &[Row], width: usize) -> Self {
        let names = rows.iter().map(|row| row.name.chars().count() + 2);
        let names = names.max().unwrap_or(0).max(NAME_WIDTH_MIN);
        // A name beyond a third of the line is cut.
        let name_width = names.min((width / 3).max(NAME_WIDTH_MIN));
        let mut left = width.saturating_sub(name_width);
        let mut has_place = [false; COLUMNS.len()];
        let mut history_width = 0;
        'ranks: for rank in 0..=RANK_MAX {
            if rank > HISTORY_RANK && history_width == 0 {
                if left < HISTORY_WIDTH_MIN + 2 {
                    break;
                }
                history_width = HISTORY_WIDTH_MIN;
                left -= HISTORY_WIDTH_MIN + 2;
            }
            for (column, has_place) in COLUMNS.iter().zip(&mut has_place) {
                if column.rank == rank {
                    if left <= column.width {
                        break 'ranks;
                    }
                    left -= column.width + 1;
                    *has_place = true;
                }
            }
        }
        if history_width > 0 {
            history_width = (history_width + left).min(super::watch::LOOKS_MAX);
        }
        let columns = COLUMNS.iter().zip(has_place);
        Self {
            columns: columns
                .filter_map(|(column, has_place)| has_place.then_some(column))
                .collect(),
            name_width,
            history_width,
        }
    }

    fn heads(&self) -> String {
        let mut text = cut_or_fill("STREAM", self.name_width);
        for column in &self.columns {
            let (head, width) = (column.head, column.width);
            text.push_str(&match column.rank {
                0 => format!(" {head:<width$}"),
                _ => format!(" {head:>width$}"),
            });
        }
        if self.history_width > 0 {
            let width = self.history_width;
            text.push_str(&format!("  {:>width$}", "HISTORY"));
        }
        text
    }
}

/// A sink stands a little to the right.
fn name(row: &Row) -> String {
    match row.is_sink {
        true => format!("  {}", row.name),
        false => row.name.clone(),
    }
}

/// The rows as lines for programs and files: every column, one blank between them at least.
pub fn plain(rows: &[Row]) -> String {
    let heads = COLUMNS.iter().map(|column| column.head.to_owned());
    let mut lines = vec![
        ["STREAM".to_owned(), "SINK".to_owned()]
            .into_iter()
            .chain(heads)
            .chain(["ERROR".to_owned()])
            .collect(),
    ];
    let mut stream = "";
    for row in rows {
        let sink = match row.is_sink {
            true => row.name.as_str(),
            false => {
                stream = &row.name;
                "-"
            }
        };
        let cells = COLUMNS.iter().map(|column| (column.cell)(row));
        let cells = cells.map(|cell| match cell.is_empty() {
            true => "-".to_owned(),
            false => cell.replace(' ', ""),
        });
        lines.push(
            [stream.to_owned(), sink.to_owned()]
                .into_iter()
                .chain(cells)
                .chain([printable(&row.error)])
                .collect::<Vec<String>>(),
        );
    }
    table::columns(&lines)
}

/// A rate, in at most six letters.
fn rate(rate: Option<f64>) -> String {
    match rate {
        None => String::new(),
        Some(rate) if rate > 0.0 && rate < 9.95 => format!("{rate:.1}"),
        Some(rate) => short(whole(rate)),
    }
}

fn amount(count: Option<u64>) -> String {
    count.map_or_else(String::new, bytes)
}

/// A number, in at most six letters.
fn short(count: u64) -> String {
    const UNITS: [char; 6] = ['k', 'M', 'G', 'T', 'P', 'E'];
    if count < 100_000 {
        return count.to_string();
    }
    let (mut count, mut unit) = (count / 1000, 0);
    while count >= 10_000 {
        count /= 1000;
        unit += 1;
    }
    format!("{count}{}", UNITS[unit])
}

/// A time, in at most five letters.
fn age(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0 if ms == 0 => "0".to_owned(),
        0 => format!("{ms}ms"),
        1..=99 => format!("{seconds}.{}s", ms % 1000 / 100),
        100..=5999 => format!("{}m", seconds / 60),
        6000..=359_999 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// To the nearest whole number.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a cast of a float ends at the bounds
fn whole(number: f64) -> u64 {
    number.round() as u64
}

/// What a far side says cannot move the cursor.
fn printable(text: &str) -> String {
    let letter = |letter: char| if letter.is_control() { '?' } else { letter };
    text.chars().map(letter).collect()
}

fn cut(text: &str, width: usize) -> String {
    text.chars().take(width).collect()
}

fn cut_or_fill(text: &str, width: usize) -> String {
    format!("{:<width$}", cut(text, width))
}

#[cfg(test)]
mod tests;
