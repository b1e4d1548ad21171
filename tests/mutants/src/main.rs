//! Writes all mutants of a list into one copy of the source: each stands beside what it replaces, and the
//! environment variable `MUTANT` chooses one when the program runs. `tests/mutants/run` calls it.
//!
//! `forebay-mutants TREE LIST [LEFT-OUT]`: TREE is a copy that may be changed, LIST is what
//! `cargo mutants --list --json` says, and LEFT-OUT holds numbers of mutants (their places in the list) that
//! are not to be written. Prints the numbers of those that were.

use std::collections::{BTreeMap, HashSet};
use std::{env, fs};

use proc_macro2::LineColumn;
use serde_json::Value;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;
type Range = std::ops::Range<usize>;

/// What becomes of a place of the source.
enum Piece {
    Text(String),
    /// The source itself, with the mutants in it.
    Source(Range),
}

/// One place. They are kept from the outside to the inside, and from the left to the right.
struct Edit {
    range: Range,
    pieces: Vec<Piece>,
}

struct Mutant {
    id: usize,
    genre: String,
    replacement: String,
}

struct Writer<'a> {
    text: &'a str,
    /// Where each line begins.
    lines: Vec<usize>,
    /// By the line and column where they begin, both from one on.
    mutants: BTreeMap<(usize, usize), Vec<Mutant>>,
    edits: Vec<Edit>,
    written: Vec<usize>,
}

fn chosen(id: usize) -> String {
    format!("\ncrate::mutant::is({id})")
}

fn has_let(expr: &syn::Expr) -> bool {
    match expr {
        syn::Expr::Let(_) => true,
        syn::Expr::Binary(binary) => has_let(&binary.left) || has_let(&binary.right),
        _ => false,
    }
}

impl Writer<'_> {
    fn offset(&self, place: LineColumn) -> usize {
        let line = &self.text[self.lines[place.line - 1]..];
        let column = line.char_indices().nth(place.column);
        self.lines[place.line - 1] + column.map_or(line.len(), |(offset, _)| offset)
    }

    fn range(&self, node: &impl Spanned) -> Range {
        let span = node.span();
        self.offset(span.start())..self.offset(span.end())
    }

    /// Takes the mutants of a kind that begin there.
    fn take(&mut self, genre: &str, place: LineColumn) -> Vec<Mutant> {
        let key = (place.line, place.column + 1);
        let Some(all) = self.mutants.remove(&key) else {
            return Vec::new();
        };
        let (taken, left): (Vec<_>, _) = all.into_iter().partition(|one| one.genre == genre);
        if !left.is_empty() {
            self.mutants.insert(key, left);
        }
        self.written.extend(taken.iter().map(|one| one.id));
        taken
    }

    fn edit(&mut self, range: Range, pieces: Vec<Piece>) {
        self.edits.push(Edit { range, pieces });
    }

    /// `if` this mutant is chosen `{ its text }`, for all; what they replace comes behind.
    fn chain(mutants: &[Mutant], alternative: impl Fn(&Mutant) -> String) -> String {
        let branch =
            |one: &Mutant| format!("if {} {{ {} }} else ", chosen(one.id), alternative(one));
        mutants.iter().map(branch).collect()
    }

    fn function(&mut self, block: &syn::Block) {
        let Some(first) = block.stmts.first() else {
            return;
        };
        let start = first.span().start();
        let mutants = self.take("FnValue", start);
        let text =
            |one: &Mutant| format!("if {} {{ return {}; }}\n", chosen(one.id), one.replacement);
        let text: String = mutants.iter().map(text).collect();
        if !text.is_empty() {
            let at = self.offset(start);
            self.edit(at..at, vec![Piece::Text(text)]);
        }
    }

    fn lazy(&mut self, expr: &syn::ExprBinary, mutants: &[Mutant]) {
        let (id, same) = match expr.op {
            syn::BinOp::And(_) => (mutants[0].id, "!="),
            _ => (mutants[0].id, "=="),
        };
        let (left, right) = (self.range(&expr.left), self.range(&expr.right));
        let pieces = vec![
            Piece::Text(format!("({{ let left_{id}: bool = ")),
            Piece::Source(left),
            Piece::Text(format!("; if left_{id} {same} {} {{ ", chosen(id))),
            Piece::Source(right),
            Piece::Text(format!(" }} else {{ left_{id} }} }})")),
        ];
        self.edit(self.range(expr), pieces);
    }

    fn binary(&mut self, expr: &syn::ExprBinary, mutants: &[Mutant]) {
        use syn::BinOp;
        let id = mutants[0].id;
        let op = self.text[self.range(&expr.op)].to_owned();
        let (left, right) = (self.range(&expr.left), self.range(&expr.right));
        let text = |text: String| Piece::Text(text);
        let is_assignment = matches!(
            expr.op,
            BinOp::AddAssign(_)
                | BinOp::SubAssign(_)
                | BinOp::MulAssign(_)
                | BinOp::DivAssign(_)
                | BinOp::RemAssign(_)
                | BinOp::BitXorAssign(_)
                | BinOp::BitAndAssign(_)
                | BinOp::BitOrAssign(_)
                | BinOp::ShlAssign(_)
                | BinOp::ShrAssign(_)
        );
        if is_assignment {
            let mut pieces = vec![text("(match ".into()), Piece::Source(right)];
            pieces.push(text(format!(" {{ right_{id} => ")));
            for one in mutants {
                pieces.push(text(format!("if {} {{ ", chosen(one.id))));
                pieces.push(Piece::Source(left.clone()));
                pieces.push(text(format!(" {} right_{id} }} else ", one.replacement)));
            }
            pieces.push(text("\n{ ".into()));
            pieces.push(Piece::Source(left));
            pieces.push(text(format!(" {op} right_{id} }} }})")));
            self.edit(self.range(expr), pieces);
            return;
        }
        // Comparisons take nothing away from where it is.
        let by = match expr.op {
            BinOp::Eq(_)
            | BinOp::Ne(_)
            | BinOp::Lt(_)
            | BinOp::Le(_)
            | BinOp::Gt(_)
            | BinOp::Ge(_) => "&",
            _ => "",
        };
        let chain = Self::chain(mutants, |one| {
            format!("left_{id} {} right_{id}", one.replacement)
        });
        let pieces = vec![
            text(format!("(match ({by}(")),
            Piece::Source(left),
            text(format!("), {by}(")),
            Piece::Source(right),
            text(format!(
                ")) {{ (left_{id}, right_{id}) => {chain}\n{{ left_{id} {op} right_{id} }} }})"
            )),
        ];
        self.edit(self.range(expr), pieces);
    }

    fn render(&self, range: Range, from: usize, into: &mut String) {
        let mut at = range.start;
        for (index, edit) in self.edits.iter().enumerate().skip(from) {
            if edit.range.start < at || edit.range.end > range.end {
                continue;
            }
            into.push_str(&self.text[at..edit.range.start]);
            for piece in &edit.pieces {
                match piece {
                    Piece::Text(text) => into.push_str(text),
                    Piece::Source(inner) => self.render(inner.clone(), index + 1, into),
                }
            }
            at = edit.range.end;
        }
        into.push_str(&self.text[at..range.end]);
    }
}

/// What is worked out by the compiler cannot ask which mutant was chosen: constants and the like are not
/// visited.
impl<'ast> Visit<'ast> for Writer<'_> {
    fn visit_item_const(&mut self, _: &'ast syn::ItemConst) {}
    fn visit_item_static(&mut self, _: &'ast syn::ItemStatic) {}
    fn visit_impl_item_const(&mut self, _: &'ast syn::ImplItemConst) {}
    fn visit_type(&mut self, _: &'ast syn::Type) {}
    fn visit_pat(&mut self, _: &'ast syn::Pat) {}
    fn visit_expr_repeat(&mut self, node: &'ast syn::ExprRepeat) {
        self.visit_expr(&node.expr);
    }

    fn visit_item_fn(&mut self, node: &'ast syn::ItemFn) {
        if node.sig.constness.is_none() {
            self.function(&node.block);
            visit::visit_item_fn(self, node);
        }
    }

    fn visit_impl_item_fn(&mut self, node: &'ast syn::ImplItemFn) {
        if node.sig.constness.is_none() {
            self.function(&node.block);
            visit::visit_impl_item_fn(self, node);
        }
    }

    fn visit_expr_binary(&mut self, node: &'ast syn::ExprBinary) {
        let is_lazy = matches!(node.op, syn::BinOp::And(_) | syn::BinOp::Or(_));
        // Where a pattern is part of the condition, the other operator is no Rust.
        if !(is_lazy && (has_let(&node.left) || has_let(&node.right))) {
            let mutants = self.take("BinaryOperator", node.op.span().start());
            match (mutants.is_empty(), is_lazy) {
                (true, _) => {}
                (false, true) => self.lazy(node, &mutants),
                (false, false) => self.binary(node, &mutants),
            }
        }
        visit::visit_expr_binary(self, node);
    }

    fn visit_expr_unary(&mut self, node: &'ast syn::ExprUnary) {
        let mutants = self.take("UnaryOperator", node.op.span().start());
        if let [one] = &mutants[..] {
            let op = &self.text[self.range(&node.op)];
            let id = one.id;
            let pieces = vec![
                Piece::Text("(match ".into()),
                Piece::Source(self.range(&node.expr)),
                Piece::Text(format!(
                    " {{ value_{id} => if {} {{ value_{id} }} else {{ {op}value_{id} }} }})",
                    chosen(id)
                )),
            ];
            self.edit(self.range(node), pieces);
        }
        visit::visit_expr_unary(self, node);
    }

    fn visit_arm(&mut self, node: &'ast syn::Arm) {
        if let Some((_, guard)) = &node.guard {
            let mutants = self.take("MatchArmGuard", guard.span().start());
            if !mutants.is_empty() {
                let chain = Self::chain(&mutants, |one| one.replacement.clone());
                let range = self.range(guard);
                let pieces = vec![
                    Piece::Text(format!("({chain}\n{{ ")),
                    Piece::Source(range.clone()),
                    Piece::Text(" })".into()),
                ];
                self.edit(range, pieces);
            }
        } else if let [one] = &self.take("MatchArm", node.span().start())[..] {
            let at = self.range(&node.pat).end;
            let text = format!(" if !{}", chosen(one.id));
            self.edit(at..at, vec![Piece::Text(text)]);
        }
        visit::visit_arm(self, node);
    }

    fn visit_expr_struct(&mut self, node: &'ast syn::ExprStruct) {
        if let Some(rest) = &node.rest {
            let name = self.text[self.range(&node.path)].to_owned();
            let rest = self.text[self.range(rest)].to_owned();
            for field in node
                .fields
                .iter()
                .filter(|field| field.colon_token.is_some())
            {
                let mutants = self.take("StructField", field.span().start());
                let syn::Member::Named(member) = &field.member else {
                    continue;
                };
                if let [one] = &mutants[..] {
                    let range = self.range(&field.expr);
                    let chain = Self::chain(&mutants, |_| {
                        format!(
                            "let rest_{}: {name} = {rest}; rest_{}.{member}",
                            one.id, one.id
                        )
                    });
                    let pieces = vec![
                        Piece::Text(format!("{chain}\n{{ ")),
                        Piece::Source(range.clone()),
                        Piece::Text(" }".into()),
                    ];
                    self.edit(range, pieces);
                }
            }
        }
        visit::visit_expr_struct(self, node);
    }
}

/// What the mutated crate asks.
const ASKED: &str = include_str!("asked.rs");

fn main() -> Outcome<()> {
    let mut arguments = env::args().skip(1);
    let tree = arguments.next().ok_or("which tree?")?;
    let list = arguments.next().ok_or("which list?")?;
    let left_out: HashSet<usize> = match arguments.next() {
        Some(path) => {
            let text = fs::read_to_string(path)?;
            text.split_whitespace()
                .map(str::parse)
                .collect::<Result<_, _>>()?
        }
        None => HashSet::new(),
    };
    let list: Vec<Value> = serde_json::from_str(&fs::read_to_string(list)?)?;
    let mut files: BTreeMap<String, BTreeMap<(usize, usize), Vec<Mutant>>> = BTreeMap::new();
    for (id, one) in list
        .iter()
        .enumerate()
        .filter(|(id, _)| !left_out.contains(id))
    {
        let word = |key: &str| one[key].as_str().unwrap_or_default().to_owned();
        let number = |key: &str| one["span"]["start"][key].as_u64().unwrap_or(0) as usize;
        let mutant = Mutant {
            id,
            genre: word("genre"),
            replacement: word("replacement"),
        };
        let places = files.entry(word("file")).or_default();
        places
            .entry((number("line"), number("column")))
            .or_default()
            .push(mutant);
    }
    for (file, mutants) in files {
        let path = format!("{tree}/{file}");
        let text = fs::read_to_string(&path)?;
        let parsed = syn::parse_file(&text)?;
        let starts = text.match_indices('\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(starts).collect();
        let mut writer = Writer {
            text: &text,
            lines,
            mutants,
            edits: Vec::new(),
            written: Vec::new(),
        };
        writer.visit_file(&parsed);
        let mut changed = String::new();
        writer.render(0..text.len(), 0, &mut changed);
        fs::write(&path, changed)?;
        writer.written.iter().for_each(|id| println!("{id}"));
    }
    let root = format!("{tree}/src/lib.rs");
    let text = fs::read_to_string(&root)?;
    fs::write(&root, format!("{text}\n#[doc(hidden)]\npub mod mutant;\n"))?;
    fs::write(format!("{tree}/src/mutant.rs"), ASKED)?;
    Ok(())
}
