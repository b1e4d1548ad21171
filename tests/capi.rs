//! The C API, from C: the header, what the library exports, what it needs, and programs that use it, plain and
//! under tools that see what they do to memory.
//!
//! The programs are `tests/capi/*.c`. Each is C99 and C++17 without a warning, gets a directory, and ends with 0
//! if all it checked is so. `cross/capi TARGET` runs them on another machine.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

mod common;

use common::Scratch;

const PROGRAMS: [&str; 8] = [
    "batch", "codes", "kill", "misuse", "sink", "smoke", "threads", "told",
];
const WARNINGS: [&str; 4] = ["-Wall", "-Wextra", "-Werror", "-pedantic"];
/// What a program links beside the library. `docs/c.md` and the pkg-config file have the same list.
const NATIVE: [&str; 4] = ["-lpthread", "-ldl", "-lm", "-lc"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs a command to its end, which must be a good one, and returns what it printed.
fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    let errors: String = errors.chars().take(4000).collect();
    assert!(output.status.success(), "{command:?}\n{errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The library as a host gets it: built once.
fn library() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("library");
        let script = root().join("cross/library");
        run(Command::new(script).args([
            OsStr::new("host"),
            dir.as_os_str(),
            OsStr::new("--profile"),
            OsStr::new("dev"),
            OsStr::new("--features"),
            OsStr::new("file"),
        ]));
        dir
    })
}

/// Compiles a program with `compiler` and links it with the library.
fn compile(compiler: &[&str], source: &Path, program: &Path) {
    let library = library();
    run(Command::new(compiler[0])
        .args(&compiler[1..])
        .args(WARNINGS)
        .args(["-g", "-D_POSIX_C_SOURCE=200809L", "-I"])
        .arg(library.join("include"))
        .arg("-o")
        .arg(program)
        .arg(source)
        .args(["-x", "none"])
        .arg(library.join("lib/libforebay.a"))
        .args(NATIVE));
}

fn source(name: &str) -> PathBuf {
    root().join(format!("tests/capi/{name}.c"))
}

/// Compiles all programs and runs each by `runner` in a directory of its own.
fn run_all(name: &str, compiler: &[&str], runner: &[&str], skip: &[&str]) {
    let scratch = Scratch::new(&format!("capi-{name}"));
    for program in PROGRAMS.iter().filter(|program| !skip.contains(program)) {
        let path = scratch.join(program);
        compile(compiler, &source(program), &path);
        let dir = scratch.join(&format!("{program}.dir"));
        std::fs::create_dir(&dir).unwrap();
        let mut words = runner.iter().map(OsStr::new).chain([path.as_os_str()]);
        let mut command = Command::new(words.next().unwrap());
        run(command.args(words).arg(dir));
    }
}

/// Names of the library that others can see.
fn exported(archive: &Path) -> BTreeSet<String> {
    let names = run(Command::new("nm")
        .args(["-g", "--defined-only"])
        .arg(archive));
    let names = names.lines().filter_map(|line| line.split(' ').nth(2));
    names.map(str::to_owned).collect()
}

/// Names of functions that a text declares.
fn declared(header: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, _) in header.match_indices("forebay_result forebay_") {
        let name = &header[at + "forebay_result ".len()..];
        names.insert(name.split('(').next().unwrap().to_owned());
    }
    names
}

/// The list of native libraries is one: of the page, of the pkg-config file, and of what was linked here.
#[test]
fn the_native_libraries_are_as_written() {
    let list = NATIVE.join(" ");
    for page in ["docs/c.md", "docs/c/forebay.pc.in"] {
        let text = std::fs::read_to_string(root().join(page)).unwrap();
        assert!(text.contains(&list), "{page}: {list}");
    }
}

/// The example, as a host's project would build it.
#[test]
fn make_and_cmake_build_the_example() {
    let scratch = Scratch::new("capi-projects");
    let docs = root().join("docs");
    let dir = scratch.join("docs");
    run(Command::new("cp").arg("-r").arg(&docs).arg(&dir));
    let prefix = library().to_str().unwrap();
    run(Command::new("make")
        .arg("-C")
        .arg(dir.join("c"))
        .arg(format!("PREFIX={prefix}"))
        .arg("CFLAGS=-Wall -Wextra -Werror -pedantic"));
    run(Command::new("cmake")
        .arg("-S")
        .arg(dir.join("c"))
        .arg("-B")
        .arg(scratch.join("build"))
        .arg(format!("-DCMAKE_PREFIX_PATH={prefix}")));
    run(Command::new("cmake")
        .arg("--build")
        .arg(scratch.join("build")));
    for program in [dir.join("c/firmware"), scratch.join("build/firmware")] {
        let said = run(Command::new(program).arg(&scratch.0).arg("0"));
        assert!(said.starts_with("0 appends, 0 refused"), "{said}");
    }
}

/// No program is forgotten.
#[test]
fn the_programs_are_those_of_the_directory() {
    let entries = std::fs::read_dir(root().join("tests/capi")).unwrap();
    let files = entries.map(|entry| entry.unwrap().path());
    let programs = files.filter(|path| path.extension() == Some(OsStr::new("c")));
    let names: BTreeSet<String> = programs
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    let known = PROGRAMS.map(str::to_owned).into_iter();
    assert_eq!(names, known.chain(["hot".to_owned()]).collect());
}

#[test]
fn the_header_is_what_the_source_says() {
    let scratch = Scratch::new("capi-header");
    let made = scratch.join("forebay.h");
    run(Command::new(root().join("cross/header")).arg(&made));
    let (made, kept) = (
        std::fs::read_to_string(made).unwrap(),
        std::fs::read_to_string(root().join("include/forebay.h")).unwrap(),
    );
    assert!(made == kept, "cross/header writes include/forebay.h anew");
}

/// `G-032`: the functions of the contract, and what came beside them.
#[test]
fn only_names_of_the_header_leave_the_library() {
    let names = exported(&library().join("lib/libforebay.a"));
    let header = std::fs::read_to_string(root().join("include/forebay.h")).unwrap();
    assert_eq!(names, declared(&header));
    for name in [
        "open",
        "close",
        "stream_get",
        "stream_free",
        "stream_append",
        "stream_append_batch",
        "stream_append_durable",
        "stream_flush",
        "stream_stats",
        "set_log_callback",
        "set_event_callback",
        "set_sink_callback",
        "last_error",
        "version",
        "features",
    ] {
        assert!(names.contains(&format!("forebay_{name}")), "{name}");
    }
}

/// `G-135`: whatever a function does, it does where a panic is caught: behind its declaration stands the guard.
#[test]
fn every_function_catches_panics() {
    let mut seen = BTreeSet::new();
    let entries = std::fs::read_dir(root().join("src/ffi")).unwrap();
    let files = entries.map(|entry| entry.unwrap().path());
    for file in files.chain([root().join("src/ffi.rs")]) {
        let text = std::fs::read_to_string(&file).unwrap();
        for part in text.split("#[unsafe(no_mangle)]").skip(1) {
            let name = part.split("fn ").nth(1).unwrap().split('(').next().unwrap();
            let body = part.split("-> forebay_result {").nth(1).unwrap();
            let body = body.split("\n}\n").next().unwrap().trim();
            let (before, guarded) = body.split_once("guarded(").expect(name);
            assert!(before.is_empty(), "{name}: {before}");
            assert!(guarded.ends_with(')'), "{name}: {guarded}");
            seen.insert(name.to_owned());
        }
    }
    let header = std::fs::read_to_string(root().join("include/forebay.h")).unwrap();
    assert_eq!(seen, declared(&header));
}

/// Another library in Rust, with the same compiler, allocator and panics, in the same program, whole.
#[test]
fn it_stands_beside_a_second_rust_library() {
    let scratch = Scratch::new("capi-beside");
    let other = scratch.join("libother.a");
    std::fs::write(scratch.join("other.rs"), OTHER).unwrap();
    run(Command::new("rustc")
        .args(["--edition", "2024", "--crate-type", "staticlib", "-o"])
        .arg(&other)
        .arg(scratch.join("other.rs")));
    std::fs::write(scratch.join("main.c"), BESIDE).unwrap();
    run(Command::new("cc")
        .args(WARNINGS)
        .arg("-I")
        .arg(library().join("include"))
        .arg("-o")
        .arg(scratch.join("main"))
        .arg(scratch.join("main.c"))
        .arg("-Wl,--whole-archive")
        .arg(library().join("lib/libforebay.a"))
        .arg(&other)
        .arg("-Wl,--no-whole-archive")
        .args(NATIVE));
    run(Command::new(scratch.join("main")).arg(&scratch.0));
}

const OTHER: &str = r#"
#[unsafe(no_mangle)]
pub extern "C" fn other_caught() -> i32 {
    let caught = std::panic::catch_unwind(|| vec![1; 3].iter().sum::<i32>() / std::hint::black_box(0));
    i32::from(caught.is_err())
}
"#;

const BESIDE: &str = r#"
#include <forebay.h>
#include <stddef.h>
int other_caught(void);
int main(void) {
    forebay_engine *engine = NULL;
    if (other_caught() != 1 || forebay_open("{}", &engine) != FOREBAY_OK) {
        return 1;
    }
    return forebay_close(engine, 20000) == FOREBAY_OK && other_caught() == 1 ? 0 : 1;
}
"#;

/// `G-007`, `G-026`, `G-050`, `G-117`, `G-130`, `G-136` to `G-145`: the programs as C99.
#[test]
fn programs_run_as_c99() {
    run_all("c99", &["cc", "-std=c99"], &[], &[]);
}

#[test]
fn programs_run_as_cpp17() {
    run_all("cpp17", &["c++", "-std=c++17", "-x", "c++"], &[], &[]);
}

/// `G-133`: also what was borrowed for a call, and is gone behind it.
#[test]
fn programs_run_under_the_address_sanitizer() {
    let compiler = [
        "cc",
        "-std=c99",
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover",
    ];
    run_all("asan", &compiler, &[], &[]);
}

/// Memory that nobody knows any more is an error, too.
#[test]
fn programs_run_under_valgrind() {
    let valgrind = [
        "valgrind",
        "-q",
        "--error-exitcode=9",
        "--leak-check=full",
        "--errors-for-leak-kinds=definite",
        "--fair-sched=yes",
    ];
    run_all("valgrind", &["cc", "-std=c99"], &valgrind, &[]);
}

/// `G-067`, `L-S3`: what an append costs beyond its instructions: nothing but to wake a syncer that sleeps. The
/// program's own allocator counts, too.
#[test]
fn append_makes_no_call_but_to_wake_a_sleeping_syncer() {
    let scratch = Scratch::new("capi-hot");
    let program = scratch.join("hot");
    compile(&["cc", "-std=c99", "-O2"], &source("hot"), &program);
    let trace = scratch.join("trace");
    run(Command::new("strace")
        .args(["-ff", "-qq", "-o"])
        .arg(&trace)
        .arg(program)
        .arg(&scratch.0));
    let entries = std::fs::read_dir(&scratch.0).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let traces = paths.filter(|path| path.to_str().unwrap().contains("/trace."));
    let texts = traces.map(|path| std::fs::read_to_string(path).unwrap());
    let main = texts
        .into_iter()
        .find(|text| text.contains("/forebay-mark-end"));
    let main = main.expect("the marks are in a trace");
    let calls = main
        .lines()
        .skip_while(|line| !line.contains("/forebay-mark-begin"))
        .skip(1)
        .take_while(|line| !line.contains("/forebay-mark-end"));
    let calls: Vec<&str> = calls.collect();
    println!("200000 appends: {} wake-ups", calls.len());
    for call in &calls {
        assert!(call.contains("FUTEX_WAKE"), "append made the call {call}");
    }
    assert!(calls.len() < 2000, "{}", calls.len());
}

/// The example of `docs/examples/`: a second of it, in time that others share.
#[test]
fn the_firmware_loses_nothing() {
    let scratch = Scratch::new("capi-firmware");
    let program = scratch.join("firmware");
    let source = root().join("docs/examples/firmware.c");
    compile(&["cc", "-std=c99", "-O2"], &source, &program);
    let said = run(Command::new(program).arg(&scratch.0).arg("1"));
    println!("{said}");
    assert!(said.starts_with("1000 appends, 0 refused"), "{said}");
}
