//! Rust source, line by line, with what is code told from what is not. Just enough of the language for
//! rules about words and paths.

use std::fs;
use std::path::Path;

/// A line of a file.
#[derive(Debug, Default)]
pub struct Line {
    /// As it stands there.
    pub raw: String,
    /// Without comments; what strings say is blank.
    pub code: String,
    /// What its comments say.
    pub comment: String,
    /// It begins inside a string.
    pub is_in_string: bool,
    /// It is compiled for tests only.
    pub is_test: bool,
}

/// A file.
#[derive(Debug)]
pub struct Source {
    /// Its path below the root of the project.
    pub path: String,
    pub lines: Vec<Line>,
}

/// A path as the code writes it, with braces taken apart: `std::io::Read`.
#[derive(Debug, PartialEq, Eq)]
pub struct Named {
    /// The index of its line.
    pub line: usize,
    pub path: String,
}

/// All files below `dir` whose name ends in one of `endings`, sorted; paths are below `root`.
pub fn files(root: &Path, dir: &str, endings: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(root.join(dir)) else {
        return found;
    };
    for entry in entries {
        let entry = entry.expect("the project can be read");
        let name = format!("{dir}/{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            found.extend(files(root, &name, endings));
        } else if endings.iter().any(|ending| name.ends_with(ending)) {
            found.push(name);
        }
    }
    found.sort();
    found
}

impl Source {
    pub fn read(root: &Path, path: &str) -> Self {
        let text = fs::read_to_string(root.join(path)).expect("the project can be read");
        Self::parse(path, &text)
    }

    pub fn parse(path: &str, text: &str) -> Self {
        let mut lines = Lexer::new(text).lines();
        let is_test =
            path.starts_with("src/") && (path.ends_with("/tests.rs") || path.contains("/tests/"));
        for line in &mut lines {
            line.is_test = is_test;
        }
        let mut source = Self {
            path: path.to_owned(),
            lines,
        };
        source.mark_tests();
        source
    }

    /// The module below the crate's root to which the file belongs; `None` for the roots.
    pub fn module(&self) -> Option<&str> {
        let path = self.path.strip_prefix("src/")?.strip_suffix(".rs")?;
        let module = path.split('/').next()?;
        (module != "lib" && module != "main").then_some(module)
    }

    /// How many steps up from the file's module the crate's root is.
    pub fn depth(&self) -> usize {
        self.path.matches('/').count()
    }

    /// All code as one text, with as many lines as the file; `with_tests`: what is for tests, too.
    pub fn code(&self, with_tests: bool) -> String {
        let mut text = String::new();
        for line in &self.lines {
            if with_tests || !line.is_test {
                text.push_str(&line.code);
            }
            text.push('\n');
        }
        text
    }

    /// Every path in the code, macros with their `!`.
    pub fn paths(&self, with_tests: bool) -> Vec<Named> {
        let text = self.code(with_tests);
        let mut found = Vec::new();
        let mut rest = text.as_str();
        while let Some(start) = rest.find(is_word) {
            let line = text[..text.len() - rest.len() + start]
                .matches('\n')
                .count();
            rest = tree(&rest[start..], line, "", &mut found);
        }
        found
    }

    /// Marks what stands behind `#[cfg(test)]`.
    fn mark_tests(&mut self) {
        let text = self.code(true);
        for (start, _) in text.match_indices("#[cfg(") {
            let condition = text[start..].split(']').next().unwrap_or_default();
            if !words(condition).any(|word| word == "test") || condition.contains("not(test") {
                continue;
            }
            let mut depth = 0usize;
            let item = text[start..].find(|c| {
                depth += usize::from(c == '{');
                let is_end = depth == usize::from(c == '}') && (c == ';' || c == '}');
                depth -= usize::from(c == '}');
                is_end
            });
            let end = item.map_or(text.len(), |len| start + len);
            let (first, last) = (line_of(&text, start), line_of(&text, end));
            for line in self.lines.iter_mut().take(last + 1).skip(first) {
                line.is_test = true;
            }
        }
    }
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count()
}

pub fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The words of a text.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c| !is_word(c)).filter(|word| !word.is_empty())
}

/// Takes a path, or a tree of paths, from the front of `text`, behind `prefix`. Returns the rest.
fn tree<'a>(text: &'a str, line: usize, prefix: &str, found: &mut Vec<Named>) -> &'a str {
    let end = text.find(|c| !is_word(c)).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let mut path = format!("{prefix}{word}");
    let Some(behind) = rest.trim_start().strip_prefix("::") else {
        let is_macro = rest.starts_with('!') && !rest.starts_with("!=");
        path.push_str(if is_macro { "!" } else { "" });
        found.push(Named { line, path });
        return rest;
    };
    let behind = behind.trim_start();
    path.push_str("::");
    if let Some(mut rest) = behind.strip_prefix('{') {
        loop {
            let item = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
            let line = line + text[..text.len() - item.len()].matches('\n').count();
            rest = match item.chars().next() {
                None => return item,
                Some('}') => return &item[1..],
                Some('*') => {
                    found.push(Named {
                        line,
                        path: format!("{path}*"),
                    });
                    &item[1..]
                }
                Some(c) if is_word(c) => tree(item, line, &path, found),
                Some(c) => &item[c.len_utf8()..],
            };
            // `name as other`
            if let Some(alias) = rest.trim_start().strip_prefix("as ") {
                rest = alias.trim_start().trim_start_matches(is_word);
            }
        }
    }
    if behind.starts_with(is_word) {
        let line = line + text[..text.len() - behind.len()].matches('\n').count();
        return tree(behind, line, &path, found);
    }
    if behind.starts_with('*') {
        path.push('*');
    } else {
        path.truncate(path.len() - 2); // generics: `Vec::<u8>`
    }
    found.push(Named { line, path });
    behind
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Code,
    LineComment,
    /// How deep they nest.
    BlockComment(usize),
    Text,
    /// How many `#` end it.
    RawText(usize),
}

struct Lexer<'a> {
    rest: &'a str,
    state: State,
}

impl<'a> Lexer<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            rest: text,
            state: State::Code,
        }
    }

    fn lines(mut self) -> Vec<Line> {
        let mut lines: Vec<Line> = Vec::new();
        for raw in self.rest.lines() {
            self.rest = raw;
            let mut line = Line {
                raw: raw.to_owned(),
                is_in_string: matches!(self.state, State::Text | State::RawText(_)),
                ..Line::default()
            };
            while let Some(c) = self.rest.chars().next() {
                self.step(c, &mut line);
            }
            if self.state == State::LineComment {
                self.state = State::Code;
            }
            lines.push(line);
        }
        lines
    }

    fn skip(&mut self, len: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(len);
        self.rest = rest;
        taken
    }

    fn step(&mut self, c: char, line: &mut Line) {
        match self.state {
            State::Code => self.code(c, line),
            State::LineComment => line.comment.push_str(self.skip(self.rest.len())),
            State::BlockComment(depth) => {
                let opens = self.rest.starts_with("/*");
                let closes = self.rest.starts_with("*/");
                self.state = match depth + usize::from(opens) - usize::from(closes) {
                    0 => State::Code,
                    depth => State::BlockComment(depth),
                };
                let len = if opens || closes { 2 } else { c.len_utf8() };
                line.comment.push_str(self.skip(len));
            }
            State::Text => {
                let escaped = self.rest[c.len_utf8()..].chars().next();
                let len = match c {
                    '\\' => 1 + escaped.map_or(0, char::len_utf8),
                    _ => c.len_utf8(),
                };
                self.skip(len);
                line.code.push(if c == '"' { '"' } else { ' ' });
                if c == '"' {
                    self.state = State::Code;
                }
            }
            State::RawText(hashes) => {
                let end = format!("\"{}", "#".repeat(hashes));
                if self.rest.starts_with(&end) {
                    self.skip(end.len());
                    line.code.push('"');
                    self.state = State::Code;
                } else {
                    self.skip(c.len_utf8());
                    line.code.push(' ');
                }
            }
        }
    }

    fn code(&mut self, c: char, line: &mut Line) {
        if self.rest.starts_with("//") {
            self.state = State::LineComment;
            return;
        }
        if self.rest.starts_with("/*") {
            self.state = State::BlockComment(1);
            line.comment.push_str(self.skip(2));
            return;
        }
        let is_inside_word = line.code.ends_with(is_word);
        if matches!(c, 'r' | 'b' | 'c') && !is_inside_word {
            let prefix = self.rest.trim_start_matches(['b', 'c', 'r']);
            let text = prefix.trim_start_matches('#');
            let is_raw = self.rest[..self.rest.len() - prefix.len()].ends_with('r');
            if is_raw && text.starts_with('"') {
                self.state = State::RawText(prefix.len() - text.len());
                self.skip(self.rest.len() - text.len() + 1);
                line.code.push('"');
                return;
            }
        }
        if c == '"' {
            self.state = State::Text;
        }
        if c == '\''
            && let Some(len) = character(self.rest)
        {
            self.skip(len);
            line.code.push_str("' '");
            return;
        }
        line.code.push_str(self.skip(c.len_utf8()));
    }
}

/// The length of the character literal in front of `text`; `None` when it is a lifetime.
fn character(text: &str) -> Option<usize> {
    let mut chars = text.char_indices().skip(1);
    let (_, first) = chars.next()?;
    if first == '\\' {
        chars.next()?;
        return chars.find(|(_, c)| *c == '\'').map(|(at, _)| at + 1);
    }
    chars
        .next()
        .filter(|(_, c)| *c == '\'')
        .map(|(at, _)| at + 1)
}
