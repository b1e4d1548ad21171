//! Lines on standard output.

use std::io::{self, Write};
use std::time::Duration;

use super::lines::{LineFormat, write_lines};
use super::{Answer, Batch, BlockingSink, Link};

/// What a `stdout` sink is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Options {
    /// What a line holds.
    pub format: LineFormat,
}

/// Writes lines to standard output. A record is accepted when the system has taken its line; whether
/// whoever reads the pipe has, nobody knows.
#[derive(Debug)]
pub struct Stdout {
    options: Options,
    lines: Vec<u8>,
}

impl Stdout {
    /// A sink that writes to standard output.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            lines: Vec::new(),
        }
    }
}

impl BlockingSink for Stdout {
    fn deliver(&mut self, batch: &Batch<'_>, _timeout: Duration, answer: &mut Answer<'_>) {
        let (mut out, format) = (io::stdout().lock(), self.options.format);
        let written = write_lines(&mut self.lines, format, batch, |part| out.write_all(part));
        match written.and_then(|()| out.flush()) {
            Ok(()) => {
                answer.set_link(Link::Ok, "");
                answer.accept_rest();
            }
            Err(error) => {
                answer.set_link(Link::Down, &error.to_string());
                answer.retry_rest(None);
            }
        }
    }
}
