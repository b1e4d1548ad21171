//! Templates and secrets: what a string of the configuration stands for.
//!
//! `{ThingName}`, `{ComponentName}`, `{Hostname}`, `{env:NAME}` and the names in `vars` are replaced, once:
//! what they stand for is not looked into again. A brace itself is written twice. `{"$secret":"name"}`
//! stands for the text of a file; it is a [`Text`] that is never shown, and so is all that it becomes a
//! part of.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Result;
use super::json::Node;
use crate::counters::cut;
use crate::sink::text::Text;
use crate::storage::{Surroundings, read_private};

/// The most variables in `vars`.
pub const VARS_MAX: usize = 256;
/// The longest name of a variable, in bytes.
pub const VAR_NAME_MAX: usize = 64;
/// The longest secret, in bytes.
pub const SECRET_LEN_MAX: u64 = 64 << 10;
/// The longest text that templates make, in bytes.
pub const TEXT_LEN_MAX: usize = 64 << 10;

/// Where the system's service manager puts the secrets of a service.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";
/// Only for its owner.
const MODE_OWN: u32 = 0o600;
/// The service manager lets a service's user in by a list of its own, which shows as the group's.
const MODE_CREDENTIALS: u32 = 0o440;
/// The most of a name that an error repeats, in bytes.
const SHOWN_MAX: usize = 60;

/// Knows what templates and secrets stand for.
pub struct Resolver<'a> {
    around: &'a dyn Surroundings,
    secrets_dir: Option<PathBuf>,
    vars: BTreeMap<String, Variable>,
    /// The host's name stood in for the thing's.
    is_host_thing: Cell<bool>,
}

struct Variable {
    text: Text,
    path: String,
    is_used: Cell<bool>,
}

impl<'a> Resolver<'a> {
    /// Without variables.
    pub fn new(around: &'a dyn Surroundings, secrets_dir: Option<PathBuf>) -> Self {
        Self {
            around,
            secrets_dir,
            vars: BTreeMap::new(),
            is_host_thing: Cell::new(false),
        }
    }

    /// Reads the variables. What they stand for has no templates in it.
    pub fn read_vars(&mut self, node: &Node<'_>) -> Result<()> {
        for (at, (name, node)) in node.object()?.into_fields().enumerate() {
            if at == VARS_MAX {
                return Err(node.error(format_args!("at most {VARS_MAX} variables")));
            }
            let is_allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            if name.is_empty() || name.len() > VAR_NAME_MAX || !name.chars().all(is_allowed) {
                let rule = format!(
                    "the name of a variable must be 1 to {VAR_NAME_MAX} letters, digits, dots, underscores \
                     and hyphens"
                );
                return Err(node.error(rule));
            }
            let text = match node.secret() {
                Some(_) => self.secret(&node)?,
                None => Text::open(node.string()?),
            };
            let variable = Variable {
                text,
                path: node.path().to_owned(),
                is_used: Cell::new(false),
            };
            self.vars.insert(name.into_owned(), variable);
        }
        Ok(())
    }

    /// The variables whose templates stand in a part of the document that is read later are used.
    pub fn note_used(&self, raw: &str) {
        for (name, variable) in &self.vars {
            if raw.contains(&format!("{{{name}}}")) {
                variable.is_used.set(true);
            }
        }
    }

    /// What a string or a reference to a secret stands for.
    pub fn text(&self, node: &Node<'_>) -> Result<Text> {
        match node.secret() {
            Some(_) => self.secret(node),
            None => self.resolve(node, &node.string()?),
        }
    }

    /// A path, which may be secret.
    pub fn path(&self, node: &Node<'_>) -> Result<Text> {
        let text = self.text(node)?;
        if text.reveal().is_empty() || text.reveal().contains('\0') {
            return Err(node.error("must be a path"));
        }
        Ok(text)
    }

    /// One of a few words.
    pub fn word<T: Copy>(&self, node: &Node<'_>, words: &[(&str, T)]) -> Result<T> {
        if node.string().is_err() && node.secret().is_none() {
            return node.word(words);
        }
        node.word_of(self.text(node)?.reveal(), words)
    }

    /// What the environment says, of what may be there. What is no text is not there.
    #[cfg(feature = "kinesis")]
    pub fn of_environment(&self, name: &str) -> Option<String> {
        self.around.variable(name)?.into_string().ok()
    }

    fn resolve(&self, node: &Node<'_>, text: &str) -> Result<Text> {
        let mut done = Text::default();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, behind) = rest.split_at(at);
            let (brace, behind) = behind.split_at(1);
            done.push(&Text::open(before));
            if let Some(behind) = behind.strip_prefix(brace) {
                done.push(&Text::open(brace));
                rest = behind;
                continue;
            }
            let end = if brace == "{" { behind.find('}') } else { None };
            let Some(end) = end else {
                let rule = format!(
                    "\"{brace}\" has no counterpart: a template is {{Name}}, and a brace itself is \
                     written twice"
                );
                return Err(node.error(rule));
            };
            done.push(&self.value(node, &behind[..end])?);
            if done.reveal().len() > TEXT_LEN_MAX {
                break;
            }
            rest = &behind[end + 1..];
        }
        if done.reveal().len() > TEXT_LEN_MAX {
            return Err(node.error(format_args!(
                "its templates make more than {TEXT_LEN_MAX} bytes"
            )));
        }
        done.push(&Text::open(rest));
        Ok(done)
    }

    /// What a template stands for.
    fn value(&self, node: &Node<'_>, name: &str) -> Result<Text> {
        if let Some(variable) = self.vars.get(name) {
            variable.is_used.set(true);
            return Ok(variable.text.clone());
        }
        let shown = cut(name, SHOWN_MAX);
        if let Some(variable) = name.strip_prefix("env:") {
            return self.variable(node, variable)?.ok_or_else(|| {
                node.error(format_args!(
                    "{{{shown}}}: not in the environment, or empty there"
                ))
            });
        }
        match name {
            "ThingName" => {
                if let Some(name) = self.variable(node, "AWS_IOT_THING_NAME")? {
                    return Ok(name);
                }
                self.is_host_thing.set(true);
                self.host_name(node)
            }
            "Hostname" => self.host_name(node),
            "ComponentName" => {
                Err(node.error("{ComponentName}: nothing knows it but \"vars\", where it is missing"))
            }
            _ => Err(node.error(format_args!(
                "{{{shown}}}: neither in \"vars\" nor ThingName, ComponentName, Hostname or env:NAME"
            ))),
        }
    }

    fn variable(&self, node: &Node<'_>, name: &str) -> Result<Option<Text>> {
        let Some(value) = self.around.variable(name) else {
            return Ok(None);
        };
        let shown = cut(name, SHOWN_MAX);
        let text = value.into_string().map_err(|_| {
            node.error(format_args!("{shown}: in the environment, but not as text"))
        })?;
        Ok(Some(Text::open(text)))
    }

    fn host_name(&self, node: &Node<'_>) -> Result<Text> {
        let name = self.around.host_name();
        let name = name.ok_or_else(|| node.error("{Hostname}: the host has no name"))?;
        Ok(Text::open(name))
    }

    /// Reads the file that a reference names. No error shows what is in it.
    fn secret(&self, node: &Node<'_>) -> Result<Text> {
        let Some((object, name)) = node.secret() else {
            return Err(node.error("must be a string"));
        };
        object.finish()?;
        let text = name.string()?;
        if text.is_empty()
            || text.len() > 255
            || text.contains(['/', '\0'])
            || [".", ".."].contains(&&*text)
        {
            return Err(name.error("must be the name of a file"));
        }
        let credentials = self.around.variable(CREDENTIALS);
        let own = self.secrets_dir.as_deref().map(|dir| (dir, MODE_OWN));
        let credentials = credentials.as_ref().map(Path::new);
        let credentials = credentials.map(|dir| (dir, MODE_OWN | MODE_CREDENTIALS));
        let mut missing = Vec::new();
        for (dir, mode) in own.into_iter().chain(credentials) {
            let path = dir.join(&text);
            let shown = path.display();
            match read_private(&path, SECRET_LEN_MAX, mode) {
                Ok(bytes) => {
                    let mut secret = String::from_utf8(bytes)
                        .map_err(|_| name.error(format_args!("{shown}: not text")))?;
                    if secret.ends_with('\n') {
                        secret.pop();
                        if secret.ends_with('\r') {
                            secret.pop();
                        }
                    }
                    if secret.is_empty() {
                        return Err(name.error(format_args!("{shown}: empty")));
                    }
                    return Ok(Text::secret(secret));
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    missing.push(shown.to_string());
                }
                Err(error) => return Err(name.error(format_args!("{shown}: {error}"))),
            }
        }
        if missing.is_empty() {
            let rule = "neither \"secretsDir\" nor $CREDENTIALS_DIRECTORY says where secrets are";
            return Err(name.error(rule));
        }
        Err(name.error(format_args!("there is no {}", missing.join(", nor "))))
    }

    /// What is worth a look when everything has been read.
    pub fn warnings(&self) -> Vec<String> {
        let unused = self
            .vars
            .values()
            .filter(|variable| !variable.is_used.get());
        let mut warnings: Vec<_> = unused
            .map(|variable| format!("{}: no template uses it", variable.path))
            .collect();
        if self.is_host_thing.get() {
            let text = "{ThingName}: neither in \"vars\" nor in $AWS_IOT_THING_NAME: the host's name \
                        stands for it";
            warnings.push(text.to_owned());
        }
        warnings
    }
}
