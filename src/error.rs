//! What can go wrong, with numbers that are the same in Rust, in C and in every binding.
//!
//! Four kinds of trouble get four treatments. A *refusal* (no room, closed) is a [`Code`] in an
//! [`Error`] without allocation. An *operating error* carries the system's error. *Damage* is never an
//! error: it is a value in the recovery report and in the ledger. A *broken invariant* panics.

use std::fmt;
use std::io;

/// The numbers of the errors. They are never reused; 0 means success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
#[non_exhaustive]
pub enum Code {
    /// The configuration is invalid. Correct what the text names and open again.
    Config = 1,
    /// The durable store failed. For a waiter: the record may still become durable.
    Io = 2,
    /// Damage where strict checking was asked for, or a store of a newer format (untouched).
    Corrupt = 3,
    /// No room. Try later, or drop the record.
    Full = 4,
    /// There is no stream of that name.
    UnknownStream = 5,
    /// A sink could not be built, or failed for good.
    Sink = 6,
    /// A panic was caught; the engine is poisoned and promises nothing until it is opened again.
    Panic = 7,
    /// An argument is out of its bounds. The text names it and the bound.
    InvalidArg = 8,
    /// A bounded wait ran out. A record that was waited for may still become durable.
    Timeout = 9,
    /// The engine was closed.
    Closed = 10,
}

impl Code {
    /// The number shared with C and the bindings.
    pub fn number(self) -> i32 {
        self as i32
    }

    /// The name as the documents write it.
    pub fn name(self) -> &'static str {
        match self {
            Code::Config => "ERR_CONFIG",
            Code::Io => "ERR_IO",
            Code::Corrupt => "ERR_CORRUPT",
            Code::Full => "ERR_FULL",
            Code::UnknownStream => "ERR_UNKNOWN_STREAM",
            Code::Sink => "ERR_SINK",
            Code::Panic => "ERR_PANIC",
            Code::InvalidArg => "ERR_INVALID_ARG",
            Code::Timeout => "ERR_TIMEOUT",
            Code::Closed => "ERR_CLOSED",
        }
    }
}

/// An error: its number, what was being done, and what the system or the rule says.
///
/// Making one for a refusal does not allocate.
#[derive(Debug)]
pub struct Error {
    code: Code,
    op: &'static str,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Nothing,
    Io(io::Error),
    Text(Box<str>),
}

/// The result of everything that can fail here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A refusal: `op` says in a few fixed words what was refused. Allocates nothing.
    pub fn refused(code: Code, op: &'static str) -> Self {
        Self {
            code,
            op,
            source: Source::Nothing,
        }
    }

    /// A failed system operation.
    pub fn io(op: &'static str, source: io::Error) -> Self {
        Self {
            code: Code::Io,
            op,
            source: Source::Io(source),
        }
    }

    /// An error whose text names a thing and a rule.
    pub fn text(code: Code, op: &'static str, text: impl Into<Box<str>>) -> Self {
        Self {
            code,
            op,
            source: Source::Text(text.into()),
        }
    }

    /// The number shared with C and the bindings.
    pub fn code(&self) -> Code {
        self.code
    }

    /// The system's error, where there is one.
    pub fn io_error(&self) -> Option<&io::Error> {
        match &self.source {
            Source::Io(error) => Some(error),
            Source::Nothing | Source::Text(_) => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::Nothing => write!(f, "{}", self.op),
            Source::Io(error) => write!(f, "{}: {error}", self.op),
            Source::Text(text) if self.op.is_empty() => write!(f, "{text}"),
            Source::Text(text) => write!(f, "{}: {text}", self.op),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.io_error().map(|error| error as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `G-120` to `G-128`: the numbers are those that the nearest relative's users already know.
    #[test]
    fn numbers_never_change() {
        let table = [
            (Code::Config, 1, "ERR_CONFIG"),
            (Code::Io, 2, "ERR_IO"),
            (Code::Corrupt, 3, "ERR_CORRUPT"),
            (Code::Full, 4, "ERR_FULL"),
            (Code::UnknownStream, 5, "ERR_UNKNOWN_STREAM"),
            (Code::Sink, 6, "ERR_SINK"),
            (Code::Panic, 7, "ERR_PANIC"),
            (Code::InvalidArg, 8, "ERR_INVALID_ARG"),
            (Code::Timeout, 9, "ERR_TIMEOUT"),
            (Code::Closed, 10, "ERR_CLOSED"),
        ];
        for (code, number, name) in table {
            assert_eq!((code.number(), code.name()), (number, name));
        }
    }
}
