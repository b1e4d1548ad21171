//! The rules, tried on source that breaks them and on source that only looks so.

use crate::rules::{Broken, banned, header, module_order, owners, size, traces, unsafe_code};
use crate::source::Source;

/// The numbers of the lines in which a rule finds something.
fn lines(rule: impl Fn(&Source) -> Vec<Broken>, path: &str, text: &str) -> Vec<usize> {
    let broken = rule(&Source::parse(path, text));
    let mut lines: Vec<_> = broken.iter().map(|(line, _)| line + 1).collect();
    lines.dedup();
    lines
}

const LIB: &str = "pub mod error;\npub mod storage;\npub mod log;\npub mod engine;\n\
                   pub use engine::{Engine, Stream};\npub use error::Error;\n";

fn order(path: &str, text: &str) -> Vec<usize> {
    lines(
        |source| module_order(source, &Source::parse("src/lib.rs", LIB)),
        path,
        text,
    )
}

#[test]
fn a_use_of_a_module_below_is_found_in_every_form() {
    for bad in [
        "use crate::engine;",
        "use crate::engine::Engine;",
        "use crate::{error, engine};",
        "use crate::{error::{Code, Error}, engine::Engine};",
        "fn f() -> crate::engine::Engine {}",
        "fn f() -> crate::Engine {}",
        "use crate::{Error, Stream as S};",
        "pub(in crate::engine) fn f() {}",
        "use super::engine::Engine;",
        "use crate::*;",
    ] {
        assert_eq!(order("src/log.rs", bad), [1], "{bad}");
        assert_eq!(
            order("src/engine.rs", bad).len(),
            usize::from(bad.contains('*')),
            "{bad}"
        );
    }
    assert_eq!(
        order("src/log/open.rs", "use super::super::engine::X;"),
        [1]
    );
    assert_eq!(
        order(
            "src/log/open.rs",
            "use crate::{\n    error,\n    engine,\n};"
        ),
        [3]
    );
    assert_eq!(order("src/news.rs", ""), [1], "a module that is not listed");
}

#[test]
fn comments_strings_and_tests_may_name_what_they_like() {
    for good in [
        "// crate::engine",
        "/* crate::engine /* nested */ crate::engine */",
        "const A: &str = \"crate::engine\";",
        "const A: &str = r#\"\" crate::engine\"#;",
        "const A: char = '\"'; // crate::engine \"",
        "#[cfg(test)]\nmod tests {\n    use crate::engine;\n}",
        "#[cfg(test)]\nuse crate::engine;",
        "#[cfg(all(test, unix))]\nfn f() {\n    { crate::engine::f(); }\n}",
        "use super::engine::X;", // a child of `log`
        "use crate::{Error, storage};",
    ] {
        assert_eq!(order("src/log/open.rs", good), [], "{good}");
    }
    assert_eq!(order("src/log/tests.rs", "use crate::engine;"), []);
    let after = "#[cfg(test)]\nmod tests {\n    fn f() {}\n}\nuse crate::engine;";
    assert_eq!(order("src/log.rs", after), [5], "behind the tests");
    assert_eq!(
        order("src/log.rs", "#[cfg(not(test))]\nuse crate::engine;"),
        [2]
    );
    assert_eq!(
        order(
            "src/log.rs",
            "fn f<'a>(x: &'a str) { crate::engine::f('\\''); }"
        ),
        [1]
    );
}

#[test]
fn unsafe_code_is_found_elsewhere_and_without_a_reason() {
    let block = "fn f() {\n    unsafe { g() }\n}";
    assert_eq!(lines(unsafe_code, "src/log.rs", block), [2]);
    assert_eq!(lines(unsafe_code, "src/ring/cells.rs", block), [2]);
    let reason = "fn f() {\n    // SAFETY: so\n    // it is\n    unsafe { g() }\n}";
    assert_eq!(lines(unsafe_code, "src/log.rs", reason), [4]);
    assert_eq!(lines(unsafe_code, "src/ring.rs", reason), []);
    let long = "// SAFETY: so\nlet x =\n    unsafe { g() };\nlet y = unsafe { g() };";
    assert_eq!(lines(unsafe_code, "src/storage/real.rs", long), [4]);
    assert_eq!(
        lines(unsafe_code, "src/ring.rs", "unsafe impl Sync for A {}"),
        [1]
    );
    assert_eq!(
        lines(unsafe_code, "src/log.rs", "#![allow(unsafe_code)]"),
        [1]
    );
    assert_eq!(
        lines(
            unsafe_code,
            "src/log.rs",
            "// unsafe { }\nlet unsafe_x = 1;"
        ),
        []
    );
    let lib = "#[allow(unsafe_code)]\npub mod ring;\n#[allow(unsafe_code)]\npub mod log;";
    assert_eq!(lines(unsafe_code, "src/lib.rs", lib), [3]);
    assert_eq!(
        lines(
            unsafe_code,
            "src/lib.rs",
            "#![allow(unsafe_code)]\npub mod ring;"
        ),
        []
    );
}

#[test]
fn banned_calls_are_found_however_they_are_imported() {
    for bad in [
        "let t = std::time::Instant::now();",
        "let t = Instant::now();",
        "use std::fs;",
        "use std::{fs, io};",
        "use std::fs::{self, File};",
        "std::fs::read(p)?;",
        "let f = OpenOptions::new();",
        "let f = File::open(p);",
        "std::thread::sleep(d);",
        "use std::thread::sleep;",
        "std::process::exit(1)",
        "use std::process::{self, abort};",
        concat!("to", "do!()"),
        "dbg!(x)",
        "println!(\"\")",
        "eprint!(\"\")",
        "let x = y.unwrap();",
        "let level = std::env::var(\"LEVEL\");",
    ] {
        assert_eq!(lines(banned, "src/log.rs", bad), [1], "{bad}");
    }
    for good in [
        "// Instant::now()",
        "use rustix::fs::open;",
        "x.unwrap_or(1)",
        "if print != 1 {}",
        "process::id()",
        "#[cfg(test)]\nmod tests {\n    fn f() { std::fs::read(p).unwrap() }\n}",
    ] {
        assert_eq!(lines(banned, "src/log.rs", good), [], "{good}");
    }
    assert_eq!(
        lines(banned, "src/log/tests.rs", "thread::sleep(d)"),
        [1],
        "in tests, too"
    );
    assert_eq!(
        lines(
            banned,
            "src/storage/real.rs",
            "use std::fs;\nInstant::now()"
        ),
        [2]
    );
}

#[test]
fn a_dependency_is_found_outside_its_place() {
    let text = "use memmap2::Mmap;\nuse heapless::Vec;\nfn f() { log::warn!(\"\") }";
    assert_eq!(lines(owners, "src/log.rs", text), [1]);
    assert_eq!(lines(owners, "src/storage/real.rs", text), []);
    assert_eq!(
        lines(owners, "src/config.rs", "let x = serde_json::from_str(t);"),
        [1]
    );
    assert_eq!(lines(owners, "src/cli/run.rs", "use lexopt;"), [1]);
}

#[test]
fn long_files_and_lines_are_found() {
    let long = "//\n".repeat(501);
    assert_eq!(lines(size, "src/log.rs", &long), [501]);
    assert_eq!(lines(size, "tests/log.rs", &long), []);
    assert_eq!(lines(size, "tests/log.rs", &"//\n".repeat(701)), [701]);
    let wide = format!("//{0}\n//{0}ä", "ä".repeat(108));
    assert_eq!(lines(size, "src/log.rs", &wide), [2]);
    let help = format!("const A: &str = \"\n{0}\n{0}y\";", "x".repeat(122));
    assert_eq!(lines(size, "src/cli.rs", &help), [3]);
}

#[test]
fn traces_are_found() {
    let dir = concat!("/wo", "rk");
    let mark = concat!("TO", "DO");
    let text = format!("// see {dir}/x\n// {mark}: later\n// net{dir}s {dir}shop {mark}S");
    assert_eq!(lines(traces, "src/log.rs", &text), [1, 2]);
    let text = format!(
        "path = \"{}\"\n\"{}someone\"",
        concat!("/ro", "ot"),
        concat!("/ho", "me/")
    );
    assert_eq!(lines(traces, "docs/x.md", &text), [1, 2]);
}

#[test]
fn a_file_without_a_header_is_found() {
    assert_eq!(lines(header, "src/log.rs", "use std::io;"), [1]);
    assert_eq!(lines(header, "src/log.rs", ""), [1]);
    assert_eq!(lines(header, "src/log.rs", "//!\nuse std::io;"), [1]);
    assert_eq!(lines(header, "src/log.rs", "//! Segments in order."), []);
}
