//! Frames of every size, and the numbers in them.

use super::*;

const PLAIN: Style = Style {
    has_colours: false,
    has_blocks: false,
};

fn rows(count: usize) -> Vec<Row> {
    let row = |n: usize| Row {
        is_sink: n % 2 == 1,
        name: format!("stream-{n}"),
        state: "failing",
        tone: Tone::Bad,
        taken: Some(1234.5),
        delivered: Some(0.5),
        backlog: 12_345_678,
        lag_ms: 61_500,
        lost: 7,
        written: Some(1e6),
        wear: Some(210.0),
        disk: Some(1 << 30),
        history: (0..200).map(f64::from).collect(),
        error: format!("\x1b[2J cannot {n}\n"),
    };
    (0..count).map(row).collect()
}

fn lines(frame: &mut Frame, rows: &[Row], size: (usize, usize)) -> Vec<String> {
    let text = frame.text(rows, "2026-11-23T18:05:15.000Z", size);
    let text = text.strip_prefix("\x1b[H").unwrap();
    let text = text.strip_suffix("\x1b[K\x1b[J").unwrap();
    text.split("\x1b[K\r\n").map(str::to_owned).collect()
}

#[test]
fn a_frame_fits_whatever_the_size_is() {
    let rows = rows(30);
    for width in 1..200 {
        for height in 1..40 {
            let mut frame = Frame::new("c.json", Duration::from_secs(2), PLAIN);
            frame.scroll(isize::try_from(width).unwrap() - 5);
            let lines = lines(&mut frame, &rows, (width, height));
            assert!(lines.len() <= height, "{width} x {height}: {lines:?}");
            let widest = lines.iter().map(|line| line.chars().count()).max();
            assert!(widest < Some(width.max(2)), "{width} x {height}: {lines:?}");
            assert!(lines.iter().all(|line| !line.contains(char::is_control)));
        }
    }
}

#[test]
fn the_more_room_the_more_columns() {
    let rows = rows(2);
    let heads = |width| {
        let mut frame = Frame::new("c.json", Duration::from_secs(2), PLAIN);
        lines(&mut frame, &rows, (width, 10)).swap_remove(1)
    };
    let words = |text: &str| text.split_whitespace().count();
    let counts: Vec<usize> = (20..130).map(|width| words(&heads(width))).collect();
    assert!(counts.is_sorted(), "{counts:?}");
    assert_eq!(words(&heads(20)), 2);
    assert!(heads(80).contains("HISTORY") && heads(80).contains("WAITING"));
    assert_eq!(words(&heads(120)), COLUMNS.len() + 2);
}

#[test]
fn every_line_can_be_scrolled_to() {
    let rows = rows(30);
    let mut frame = Frame::new("c.json", Duration::from_secs(2), PLAIN);
    let has = |frame: &mut Frame, text: &str| {
        let lines = lines(frame, &rows, (100, 12));
        lines.iter().any(|line| line.contains(text))
    };
    assert!(has(&mut frame, "stream-0") && !has(&mut frame, "stream-29"));
    frame.scroll(1000);
    assert!(has(&mut frame, "cannot 29"));
    frame.scroll(-1);
    assert!(!has(&mut frame, "cannot 29") && has(&mut frame, "stream-29"));
    frame.scroll(-1000);
    assert!(has(&mut frame, "stream-0"));
}

#[test]
fn a_line_of_history_is_as_high_as_its_highest() {
    let style = Style {
        has_blocks: true,
        ..PLAIN
    };
    let frame = Frame::new("", Duration::from_secs(2), style);
    assert_eq!(frame.history(&[0.0, 0.1, 50.0, 100.0], 6), "   ▁▄█");
    assert_eq!(frame.history(&[9.0, 1.0, 1.0], 2), "██");
    assert_eq!(frame.history(&[], 2), "  ");
}

#[test]
fn numbers_and_times_are_short() {
    for (number, text) in [
        (0, "0"),
        (99_999, "99999"),
        (100_000, "100k"),
        (9_999_999, "9999k"),
        (10_000_000, "10M"),
        (u64::MAX, "18E"),
    ] {
        assert_eq!(short(number), text);
    }
    for (ms, text) in [
        (0, "0"),
        (999, "999ms"),
        (1500, "1.5s"),
        (99_999, "99.9s"),
        (100_000, "1m"),
        (6_000_000, "1h"),
        (360_000_000, "4d"),
    ] {
        assert_eq!(age(ms), text);
    }
    for (value, text) in [(0.0, "0"), (0.04, "0.0"), (9.94, "9.9"), (9.95, "10")] {
        assert_eq!(rate(Some(value)), text);
    }
}

#[test]
fn lines_for_programs_have_as_many_words_each() {
    let mut rows = rows(3);
    rows.iter_mut().for_each(|row| row.error.clear());
    rows[1].taken = None;
    let text = plain(&rows);
    let counts: Vec<_> = text
        .lines()
        .map(|line| line.split_whitespace().count())
        .collect();
    assert_eq!(counts, [12, 11, 11, 11], "{text}");
    let words: Vec<_> = text.lines().nth(2).unwrap().split_whitespace().collect();
    assert_eq!(&words[..5], ["stream-0", "stream-1", "failing", "-", "0.5"]);
}
