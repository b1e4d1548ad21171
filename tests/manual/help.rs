//! The help of the binary, taken apart.

/// All that it says.
pub struct Help {
    pub version: String,
    /// The first line: `forebay: …`, without the name.
    pub summary: String,
    pub verbs: Vec<Verb>,
    /// What stands behind the list of verbs, as it is.
    pub environment: String,
}

/// A verb.
pub struct Verb {
    pub name: String,
    pub summary: String,
    pub usages: Vec<String>,
    pub blocks: Vec<Block>,
    pub example: String,
    pub options: Vec<Choice>,
    /// What stands behind DIR, where the verb has several things to do.
    pub words: Vec<String>,
}

/// A part between empty lines.
pub enum Block {
    Text(String),
    /// Terms, and what they mean.
    Terms(Vec<(String, String)>),
}

/// An option.
pub struct Choice {
    pub name: String,
    /// As the help names it: `SECONDS`. Empty where it takes none.
    pub value: String,
    /// All that it may be, where the help says so.
    pub choices: Vec<String>,
    pub text: String,
}

impl Choice {
    pub fn takes_value(&self) -> bool {
        !self.value.is_empty()
    }
}

impl Verb {
    fn read(name: &str, summary: &str, text: &str) -> Self {
        let mut verb = Self {
            name: name.to_owned(),
            summary: summary.to_owned(),
            usages: Vec::new(),
            blocks: Vec::new(),
            example: String::new(),
            options: Vec::new(),
            words: Vec::new(),
        };
        for part in text.split("\n\n") {
            if let Some(usage) = part.strip_prefix("usage: ") {
                verb.usages = usage.lines().map(|line| line.trim().to_owned()).collect();
            } else if let Some(example) = part.strip_prefix("example: ") {
                example.trim_end().clone_into(&mut verb.example);
            } else if part.starts_with("  ") {
                verb.blocks.push(Block::Terms(terms(part)));
            } else {
                verb.blocks.push(Block::Text(joined(part)));
            }
        }
        for block in &verb.blocks {
            let Block::Terms(terms) = block else {
                continue;
            };
            for (term, text) in terms.iter().filter(|(term, _)| term.starts_with("--")) {
                option(&mut verb.options, term, text);
            }
        }
        for usage in &verb.usages {
            let word = usage.split(' ').nth(3).unwrap_or_default();
            if usage.contains(" DIR ") && word.starts_with(char::is_lowercase) {
                verb.words.push(word.to_owned());
            }
        }
        verb
    }

    pub fn has_words(&self) -> bool {
        !self.words.is_empty()
    }

    /// Its first argument, as the usage names it: `CONFIG`, `DIR`, `CONFIG|DIR` or nothing.
    pub fn operand(&self) -> &str {
        let operand = self.usages[0].split(' ').nth(2).unwrap_or_default();
        if operand.starts_with('[') {
            ""
        } else {
            operand
        }
    }
}

impl Help {
    /// Reads the help of all, and that of each verb.
    pub fn read(text: &str, version: &str, of_verb: impl Fn(&str) -> String) -> Self {
        let mut parts = text.trim_end().split("\n\n");
        let summary = parts.next().unwrap().strip_prefix("forebay: ").unwrap();
        assert!(parts.next().unwrap().starts_with("usage: "));
        let listed = terms(parts.next().unwrap()).into_iter();
        let verbs = listed.map(|(term, text)| {
            let name = term.split(' ').next().unwrap();
            Verb::read(name, &text, &of_verb(name))
        });
        let verbs = verbs.collect();
        let environment = joined(parts.nth(1).unwrap());
        assert_eq!(parts.next(), None, "a part of the help that nobody reads");
        Self {
            version: version.to_owned(),
            summary: summary.to_owned(),
            verbs,
            environment,
        }
    }
}

/// Several lines of one paragraph.
fn joined(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `  TERM   text`, where text goes on in lines that are further in.
fn terms(part: &str) -> Vec<(String, String)> {
    let mut terms: Vec<(String, String)> = Vec::new();
    for line in part.lines() {
        let inner = line
            .strip_prefix("  ")
            .expect("a term, or more of its text");
        if inner.starts_with(' ') {
            let (_, text) = terms.last_mut().expect("a term before its text");
            *text = joined(&format!("{text} {inner}"));
        } else {
            let (term, text) = inner.split_once("  ").unwrap_or((inner, ""));
            terms.push((term.to_owned(), joined(text)));
        }
    }
    terms
}

/// Adds an option, or one more of the values of an option.
fn option(options: &mut Vec<Choice>, term: &str, text: &str) {
    let (name, value) = term.split_once(' ').unwrap_or((term, ""));
    let is_literal = value.starts_with(char::is_lowercase);
    let choices = is_literal.then(|| value.to_owned());
    match options.iter_mut().find(|option| option.name == name) {
        Some(option) => option.choices.extend(choices),
        None => options.push(Choice {
            name: name.to_owned(),
            value: value.to_owned(),
            choices: choices.into_iter().collect(),
            text: text.to_owned(),
        }),
    }
}
