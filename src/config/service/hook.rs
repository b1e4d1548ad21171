//! The command that is started when something happens to a stream.

use std::time::Duration;

use super::super::effective::object;
use super::super::json::{Node, quoted};
use super::super::{Result, millis};

/// The most words of a command.
const WORDS_MAX: usize = 64;
/// The most calls a minute.
const CALLS_MAX: u32 = 600;

/// A command for events. No shell reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventHook {
    /// The program, an absolute path, and its arguments.
    pub command: Vec<String>,
    /// So many calls a minute.
    pub per_minute: u32,
    /// A call that lasts longer is killed.
    pub timeout: Duration,
}

impl EventHook {
    pub(super) fn read(node: &Node<'_>) -> Result<Self> {
        let mut object = node.object()?;
        let words = object.required("command")?;
        let mut command = Vec::new();
        for word in words.array_of(WORDS_MAX, "words")? {
            let text = word.string()?;
            if text.contains('\0') {
                return Err(word.error("must be text without a zero byte"));
            }
            if command.is_empty() && !text.starts_with('/') {
                return Err(
                    word.error("must be an absolute path: there is no shell to look for it")
                );
            }
            command.push(text);
        }
        if command.is_empty() {
            return Err(words.error("must name a program"));
        }
        let per_minute = object.take_set("perMinute");
        let timeout = object.take_set("timeoutMs");
        let this = Self {
            command,
            per_minute: per_minute.map_or(Ok(6), |node| node.number32(1..=CALLS_MAX))?,
            timeout: timeout.map_or(Ok(Duration::from_secs(10)), |node| millis(&node, 100))?,
        };
        object.finish()?;
        Ok(this)
    }

    pub(super) fn to_json(&self) -> String {
        let words: Vec<String> = self.command.iter().map(|word| quoted(word)).collect();
        object(&[
            ("command", format!("[{}]", words.join(","))),
            ("perMinute", self.per_minute.to_string()),
            ("timeoutMs", self.timeout.as_millis().to_string()),
        ])
    }
}
