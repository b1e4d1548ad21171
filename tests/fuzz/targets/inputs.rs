//! What comes in as lines: cut at their ends, within their bound, and read as records.

#![no_main]

use std::io::BufReader;

use forebay::input::lines::{Line, LineRecord, read_line, text};
use libfuzzer_sys::fuzz_target;

const LEN_MAX: usize = 200;

fuzz_target!(|data: &[u8]| {
    let mut source = BufReader::with_capacity(1 + data.len() % 64, data);
    let mut line = Vec::new();
    for _ in 0..=data.len() + 1 {
        let read = read_line(&mut source, &mut line, LEN_MAX).unwrap();
        assert!(read == Line::End || line.len() <= LEN_MAX + 2 || matches!(read, Line::TooLong { .. }));
        if read == Line::End {
            return;
        }
        if let Some(text) = text(&line)
            && let Some(record) = LineRecord::parse(&text)
        {
            let _ = record.borrowed_properties();
        }
    }
    panic!("lines do not end");
});
