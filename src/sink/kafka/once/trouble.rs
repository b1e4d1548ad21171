//! Why a batch was not delivered, and what becomes of the client then.

use std::time::Duration;

use crate::sink::Link;
use crate::sink::kafka::client::{ErrorCode, Failure};
use crate::sink::kafka::codes;

/// Why a batch was not delivered.
pub struct Trouble {
    pub link: Option<Link>,
    pub text: String,
    /// The client is of no more use.
    pub is_over: bool,
    pub after: Option<Duration>,
}

impl Trouble {
    pub fn of(failure: &Failure, what: &str) -> Self {
        Self {
            link: Some(codes::link(failure.code)),
            text: format!("{what}: {}", failure.text),
            is_over: true,
            after: None,
        }
    }

    pub fn own(link: Option<Link>, text: String) -> Self {
        Self {
            link,
            text,
            is_over: true,
            after: None,
        }
    }
}

/// Why a step was not made.
pub enum Left {
    Failed(Failure),
    Down(Link, String),
    Over(String),
}

impl Left {
    /// Of a step before anything was produced: a client that reaches nobody goes on trying.
    pub fn unbegun(self, what: &str) -> Trouble {
        let is_over = !matches!(self, Self::Down(..));
        Trouble {
            is_over,
            ..self.trouble(what)
        }
    }

    pub fn trouble(self, what: &str) -> Trouble {
        match self {
            Self::Failed(failure) => Trouble::of(&failure, what),
            Self::Down(link, text) => Trouble::own(Some(link), format!("{what}: {text}")),
            Self::Over(text) => Trouble::own(None, text),
        }
    }
}

/// How long nothing is tried when another instance has taken the id.
const TAKEN_OVER_AGAIN: Duration = Duration::from_secs(60);
/// What the client says of messages that it took back: purged from the queue, or in flight.
pub const PURGED: [ErrorCode; 2] = [-152, -151];

pub fn taken_over() -> Trouble {
    let text = "another instance with this store's id delivers: this one is fenced off, and sends nothing \
                until it is started anew";
    Trouble {
        after: Some(TAKEN_OVER_AGAIN),
        ..Trouble::own(Some(Link::Config), text.to_owned())
    }
}
