//! Text of a configuration that may be a secret.

use std::fmt;

/// What stands in the place of a secret.
const HIDDEN: &str = "***";

/// Text of a configuration. A secret one is used and never shown: whoever prints it gets `***`.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Text {
    value: String,
    is_secret: bool,
}

impl Text {
    /// Text that anybody may see.
    pub fn open(value: impl Into<String>) -> Self {
        Self {
            value: value.into(),
            is_secret: false,
        }
    }

    /// Text that nobody may see.
    pub fn secret(value: impl Into<String>) -> Self {
        Self {
            value: value.into(),
            is_secret: true,
        }
    }

    /// The text itself, to be used and not to be shown.
    pub fn reveal(&self) -> &str {
        &self.value
    }

    /// Whether it must not be shown.
    pub fn is_secret(&self) -> bool {
        self.is_secret
    }

    /// Adds other text. What has a secret in it is one.
    pub fn push(&mut self, other: &Self) {
        self.value.push_str(&other.value);
        self.is_secret |= other.is_secret;
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_secret { HIDDEN } else { &self.value })
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(if self.is_secret { HIDDEN } else { &self.value }, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `G-016`: neither of the two ways to print a thing shows a secret.
    #[test]
    fn a_secret_is_printed_as_stars() {
        let (mut open, secret) = (Text::open("pump"), Text::secret("hunter2"));
        assert_eq!(format!("{open} {open:?}"), "pump \"pump\"");
        assert_eq!(format!("{secret} {secret:?}"), "*** \"***\"");
        open.push(&Text::open("-7"));
        assert_eq!((open.reveal(), open.is_secret()), ("pump-7", false));
        open.push(&secret);
        assert_eq!(open.reveal(), "pump-7hunter2");
        assert_eq!(format!("{open:#?}"), "\"***\"");
    }
}
