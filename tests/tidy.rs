//! The rules of the source tree that no compiler knows: which module may use which, what may stand only
//! in one place, and how long a file may be. Every rule is tried on bad source, too.
//!
//! A rule with an exception says why beside it. An exception that nothing uses any more is an error.

#![allow(clippy::disallowed_methods)] // the seams are for the engine; this reads its source

use std::fmt::Write;
use std::path::Path;

#[path = "tidy/bad_source.rs"]
mod bad_source;
#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/source.rs"]
mod source;

use rules::{BANS, Broken, MODULES, OWNERS};
use rules::{
    banned, header, is_path, module_order, owners, root_modules, size, traces, unsafe_code,
};
use source::{Source, files};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(dirs: &[&str]) -> Vec<Source> {
    let paths = dirs.iter().flat_map(|dir| files(root(), dir, &[".rs"]));
    let sources: Vec<_> = paths.map(|path| Source::read(root(), &path)).collect();
    assert!(sources.len() >= dirs.len(), "nothing was found");
    sources
}

/// Applies a rule to all files of some directories.
fn check(dirs: &[&str], rule: impl Fn(&Source) -> Vec<Broken>) {
    let mut text = String::new();
    for source in sources(dirs) {
        for (line, what) in rule(&source) {
            let _ = write!(text, "\n{}:{}: {what}", source.path, line + 1);
        }
    }
    assert!(text.is_empty(), "{text}");
}

#[test]
fn lib_rs_lists_the_modules_in_the_order_of_the_data() {
    let (modules, _) = root_modules(&Source::read(root(), "src/lib.rs"));
    let mut listed = modules.iter().map(String::as_str);
    for module in MODULES {
        assert_eq!(listed.next(), Some(module), "src/lib.rs");
    }
    assert_eq!(listed.next(), None, "src/lib.rs");
}

#[test]
fn a_module_uses_only_modules_above_it() {
    let lib = Source::read(root(), "src/lib.rs");
    check(&["src"], |source| module_order(source, &lib));
}

#[test]
fn unsafe_code_stands_in_its_modules_and_says_why_it_is_sound() {
    check(&["src"], unsafe_code);
}

#[test]
fn what_has_a_place_of_its_own_stands_nowhere_else() {
    check(&["src"], banned);
}

#[test]
fn a_dependency_is_named_by_its_owner_only() {
    check(&["src"], owners);
}

#[test]
fn every_dependency_has_an_owner_and_every_exception_is_used() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let mut is_list = false;
    let mut unknown = OWNERS.map(|(name, _)| name).to_vec();
    for line in manifest.lines() {
        if line.starts_with('[') {
            is_list = line.ends_with("dependencies]") && !line.contains("dev-");
        } else if let Some((name, _)) = line.split_once(" = ").filter(|_| is_list) {
            let name = name.replace('-', "_");
            assert!(
                unknown.contains(&name.as_str()),
                "Cargo.toml: who owns `{name}`?"
            );
            unknown.retain(|other| *other != name);
        }
    }
    assert!(unknown.is_empty(), "no dependencies: {unknown:?}");

    let sources = sources(&["src"]);
    let is_used = |place: &str, is_it: &dyn Fn(&str) -> bool| {
        let mut files = sources
            .iter()
            .filter(|source| source.path.starts_with(place));
        files.any(|source| source.paths(true).iter().any(|named| is_it(&named.path)))
    };
    for (name, places) in OWNERS {
        let is_it = |path: &str| path == name || path.starts_with(&format!("{name}::"));
        for (place, _) in places {
            assert!(is_used(place, &is_it), "`{name}` is not used in {place}");
        }
    }
    for ban in BANS {
        let is_it = |path: &str| ban.paths.iter().any(|banned| is_path(path, banned));
        for (place, _) in ban.places {
            assert!(
                is_used(place, &is_it),
                "{:?} are not used in {place}",
                ban.paths
            );
        }
    }
}

#[test]
fn files_and_lines_are_short() {
    check(&["src", "tests", "benches"], size);
}

#[test]
fn nothing_is_left_of_the_machine_or_for_later() {
    check(&["src", "tests", "benches"], traces);
    let mut text = String::new();
    let pages = files(root(), "docs", &[".md", ".json", ".toml", ".service"]);
    assert!(!pages.is_empty());
    for page in pages.iter().map(String::as_str).chain(["Cargo.toml"]) {
        for (line, what) in traces(&Source::read(root(), page)) {
            let _ = write!(text, "\n{page}:{}: {what}", line + 1);
        }
    }
    assert!(text.is_empty(), "{text}");
}

#[test]
fn every_file_begins_with_what_it_is() {
    check(&["src", "tests", "benches"], header);
}
