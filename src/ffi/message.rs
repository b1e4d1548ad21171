//! The text of each thread's last error: a place of a fixed size, so that a refusal allocates nothing.

use std::cell::RefCell;
use std::fmt::{self, Write};

use heapless::String;

use super::forebay_result;
use crate::counters::cut;
use crate::error::{Error, Result};

/// The longest text, in bytes.
const LEN_MAX: usize = 511;

thread_local! {
    static LAST: RefCell<String<LEN_MAX>> = const { RefCell::new(String::new()) };
}

/// Writes as much as there is room for.
struct Cut<'a>(&'a mut String<LEN_MAX>);

impl Write for Cut<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.0.capacity() - self.0.len();
        self.0.push_str(cut(text, room)).map_err(|_| fmt::Error)
    }
}

/// Keeps the text of an error for this thread, and returns its code.
#[cold]
pub fn keep(error: &Error) -> forebay_result {
    set(format_args!("{error}"));
    error.code().into()
}

/// A function panicked.
#[cold]
pub fn panicked() -> forebay_result {
    set(format_args!("a panic was caught: open the engine again"));
    forebay_result::FOREBAY_ERR_PANIC
}

fn set(text: fmt::Arguments<'_>) {
    // A thread that ends has no place any more, and nobody who would ask.
    let _ = LAST.try_with(|last| {
        if let Ok(mut last) = last.try_borrow_mut() {
            last.clear();
            // Its errors are ours: there is none.
            let _ = Cut(&mut last).write_fmt(text);
        }
    });
}

/// Calls `f` with this thread's text.
pub fn with(f: impl FnOnce(&str) -> Result<()>) -> Result<()> {
    LAST.with(|last| f(&last.borrow()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let long = "ä".repeat(400);
        keep(&Error::text(Code::Config, "", long));
        with(|text| {
            assert_eq!(text.len(), 510);
            Ok(())
        })
        .unwrap();
    }
}
