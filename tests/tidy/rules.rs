//! The rules: each takes a file and says which lines break it, and how.

use std::collections::BTreeMap;

use crate::source::{Named, Source, is_word, words};

/// The modules in the order of `lib.rs`: each uses only those above it. `ffi` comes with the C API.
pub const MODULES: [&str; 22] = [
    "error",
    "rules",
    "clock",
    "storage",
    "watermark",
    "counters",
    "record",
    "ring",
    "format",
    "segment",
    "log",
    "cursor",
    "syncer",
    "tls",
    "sink",
    "exporter",
    "config",
    "engine",
    "input",
    "service",
    "ffi",
    "cli",
];

/// Where `unsafe` may stand: maps and system calls, memory that threads share, and pointers of C.
pub const UNSAFE_MODULES: [&str; 3] = ["storage", "ring", "ffi"];

/// Files of another module in which it may stand, too: the border to a library of C.
pub const UNSAFE_FILES: [&str; 2] = [
    "src/sink/kafka/client.rs",
    "src/sink/kafka/client/transactions.rs",
];

/// Files whose path begins so, and why they may.
pub type Places = &'static [(&'static str, &'static str)];

/// Something that stands only in some places.
pub struct Ban {
    /// Paths, or the ends of paths.
    pub paths: &'static [&'static str],
    /// Tests may, too.
    pub tests_may: bool,
    pub reason: &'static str,
    pub places: Places,
}

pub const BANS: [Ban; 7] = [
    Ban {
        paths: &["Instant::now", "SystemTime::now", "clock_gettime"],
        tests_may: false,
        reason: "time comes from `clock`, so that tests can bring their own",
        places: &[("src/clock.rs", "the place that asks the time")],
    },
    Ban {
        paths: &[
            "std::fs",
            "std::os::unix::fs",
            "OpenOptions",
            "File::open",
            "File::create",
        ],
        tests_may: true,
        reason: "files belong to `storage`, so that tests can bring a disk that fails",
        places: &[
            ("src/storage/", "the place that touches file systems"),
            ("src/clock.rs", "the boot's id is a file of the kernel"),
        ],
    },
    Ban {
        paths: &[
            "thread::sleep",
            "thread::park",
            "thread::park_timeout",
            "sleep_ms",
        ],
        tests_may: false,
        reason: "waits end early when there is something to do: `watermark`",
        places: &[("src/watermark/seam.rs", "the place that waits")],
    },
    Ban {
        paths: &["process::exit", "process::abort"],
        tests_may: false,
        reason: "the host's process is not ours to end; the binary returns its status",
        places: &[],
    },
    Ban {
        paths: &["todo!", "unimplemented!", "dbg!"],
        tests_may: false,
        reason: "unfinished, or a trace of debugging",
        places: &[],
    },
    Ban {
        paths: &["println!", "print!", "eprintln!", "eprint!"],
        tests_may: false,
        reason: "it panics when nobody reads; the library logs, and the binary writes to a handle",
        places: &[],
    },
    Ban {
        paths: &["std::env::var", "std::env::var_os"],
        tests_may: true,
        reason: "settings come from the configuration",
        places: &[
            (
                "src/storage/surroundings.rs",
                "what the system made for the user, and what a configuration asks for by name",
            ),
            (
                "src/cli/",
                "the binary's own: how much is said on standard error",
            ),
        ],
    },
];

/// Which files name a dependency. Without places: any.
pub const OWNERS: [(&str, Places); 23] = [
    (
        "aws_credential_types",
        &[("src/sink/kinesis/sign.rs", "the keys of a signature")],
    ),
    (
        "aws_sigv4",
        &[("src/sink/kinesis/sign.rs", "signatures of requests")],
    ),
    (
        "base64",
        &[
            (
                "src/sink/lines.rs",
                "bytes that are not text, as a line has them",
            ),
            ("src/input/lines.rs", "the same lines, read again"),
            (
                "src/service/http/request.rs",
                "passwords, as browsers send them",
            ),
            ("src/sink/kinesis/body.rs", "data in a request's JSON"),
            (
                "src/cli/envelope.rs",
                "data as the service's tools print them",
            ),
        ],
    ),
    (
        "crc32fast",
        &[("src/format.rs", "the checksum of everything on disk")],
    ),
    (
        "crossbeam_channel",
        &[
            ("src/engine", "orders to stop, events"),
            (
                "src/sink/blocking.rs",
                "batches for lanes, and their answers",
            ),
            ("src/sink/kafka/producer.rs", "the end of a client"),
        ],
    ),
    ("heapless", &[]),
    (
        "httparse",
        &[("src/service/http/request.rs", "heads of requests")],
    ),
    ("lexopt", &[("src/cli.rs", "arguments")]),
    (
        "libc",
        &[("src/storage/faults.rs", "signals that a process dies of")],
    ),
    ("log", &[]),
    (
        "loom",
        &[
            (
                "src/watermark/seam.rs",
                "locks and waits as the model checker sees them",
            ),
            (
                "src/ring/cells.rs",
                "the ring's memory as the model checker sees it",
            ),
        ],
    ),
    (
        "md5",
        &[(
            "src/sink/kinesis/",
            "checksums, and what a shard is found by",
        )],
    ),
    ("memmap2", &[("src/storage/", "maps")]),
    ("parking_lot", &[("src/watermark/seam.rs", "locks")]),
    (
        "rdkafka_sys",
        &[
            (UNSAFE_FILES[0], "calls the client"),
            (UNSAFE_FILES[1], "calls the client"),
            ("src/sink/kafka/codes.rs", "names of errors"),
        ],
    ),
    (
        "rustix",
        &[
            ("src/storage/", "system calls on files"),
            ("src/clock.rs", "system calls on clocks"),
            ("src/service/http.rs", "waits for whoever asks"),
            (
                "src/service/hook.rs",
                "ends a process with all that it started",
            ),
            ("src/input/system.rs", "waits for whoever sends; sockets"),
            (
                "src/cli/top/terminal.rs",
                "a terminal's modes and size, and waits for keys",
            ),
        ],
    ),
    ("rustls", &[("src/tls.rs", "TLS")]),
    (
        "serde",
        &[
            ("src/config/json.rs", "reads JSON and keeps the place"),
            (
                "src/sink/kinesis/answer.rs",
                "reads answers without a tree of them",
            ),
            ("src/sink/kinesis/cbor.rs", "the same answers in CBOR"),
        ],
    ),
    (
        "serde_json",
        &[
            ("src/config/json.rs", "reads JSON"),
            ("src/sink/lines.rs", "strings of a JSON line"),
            ("src/sink/kinesis/", "requests and answers"),
            ("src/cli.rs", "strings of JSON output"),
            ("src/cli/envelope.rs", "what the service's tools print"),
        ],
    ),
    (
        "signal_hook",
        &[
            ("src/cli/run.rs", "the binary ends in order"),
            ("src/cli/top/terminal.rs", "a terminal is given back"),
        ],
    ),
    (
        "ureq",
        &[
            ("src/sink/kinesis/http.rs", "HTTP"),
            ("src/sink/kinesis/lookup.rs", "its names"),
            ("src/sink/kinesis/tls.rs", "its connections"),
        ],
    ),
    ("webpki_roots", &[("src/tls.rs", "what browsers trust")]),
    (
        "zstd",
        &[("src/sink/kinesis/envelope.rs", "compressed blocks")],
    ),
];

pub const SRC_LINES_MAX: usize = 500;
pub const TEST_LINES_MAX: usize = 700;
/// rustfmt keeps code within 100, but breaks neither comments nor strings.
pub const WIDTH_MAX: usize = 110;
/// Of lines that begin inside a string: the help texts.
pub const TEXT_WIDTH_MAX: usize = 122;

/// What breaks a rule: which line of the file, and how.
pub type Broken = (usize, String);

/// What `lib.rs` says: the modules in order, and in which module each name of the crate's root is.
pub fn root_modules(lib: &Source) -> (Vec<String>, BTreeMap<String, String>) {
    let mut modules = Vec::new();
    for line in &lib.lines {
        let mut words = words(&line.code).skip_while(|word| *word == "pub");
        if words.next() == Some("mod") {
            modules.extend(words.next().map(str::to_owned));
        }
    }
    let exports = lib.paths(false).into_iter().filter_map(|named| {
        let (module, name) = named.path.split_once("::")?;
        let name = name.rsplit("::").next()?;
        modules
            .contains(&module.to_owned())
            .then(|| (name.to_owned(), module.to_owned()))
    });
    let exports = exports.collect();
    (modules, exports)
}

/// A module uses only modules above it.
pub fn module_order(source: &Source, lib: &Source) -> Vec<Broken> {
    let (modules, exports) = root_modules(lib);
    let Some(own) = source.module() else {
        return Vec::new();
    };
    let Some(own_at) = modules.iter().position(|module| module == own) else {
        return vec![(0, format!("lib.rs does not list the module `{own}`"))];
    };
    let up = "super::".repeat(source.depth());
    let mut broken = Vec::new();
    for Named { line, path } in source.paths(false) {
        let Some(inside) = path
            .strip_prefix("crate::")
            .or_else(|| path.strip_prefix(&up))
        else {
            continue;
        };
        let name = inside.split("::").next().unwrap_or_default();
        let module = exports.get(name).map_or(name, String::as_str);
        match modules.iter().position(|other| other == module) {
            Some(at) if at > own_at => {
                broken.push((
                    line,
                    format!("`{own}` must not use `{module}`, which is below it in lib.rs"),
                ));
            }
            None if name == "*" => {
                broken.push((line, "names what is used of the crate's root".to_owned()));
            }
            _ => {}
        }
    }
    broken
}

/// `unsafe` stands in a few modules, and each block says why it is sound.
pub fn unsafe_code(source: &Source) -> Vec<Broken> {
    let module = source.module();
    let is_allowed = module.is_some_and(|module| UNSAFE_MODULES.contains(&module))
        || UNSAFE_FILES.contains(&source.path.as_str());
    let is_lib = source.path == "src/lib.rs";
    let code = source.code(true);
    let mut broken = Vec::new();
    for (at, _) in code.match_indices("unsafe") {
        let line = code[..at].matches('\n').count();
        let behind = &code[at + "unsafe".len()..];
        if code[..at].ends_with(is_word) {
            continue;
        }
        if behind.starts_with("_code") {
            let item = words(behind).find(|word| !["_code", "pub"].contains(word)) == Some("mod");
            let module = words(behind).skip_while(|word| *word != "mod").nth(1);
            let names_allowed = module.is_some_and(|module| UNSAFE_MODULES.contains(&module));
            if !(is_allowed || is_lib && item && names_allowed) {
                broken.push((
                    line,
                    format!("unsafe code is for {}", UNSAFE_MODULES.join(", ")),
                ));
            }
        } else if !behind.starts_with(is_word) {
            let opens = behind.trim_start();
            if !is_allowed {
                broken.push((
                    line,
                    format!("unsafe code is for {}", UNSAFE_MODULES.join(", ")),
                ));
            } else if (opens.starts_with('{') || opens.starts_with("impl"))
                && !says_why(source, line)
            {
                broken.push((line, "no `// SAFETY:` directly before".to_owned()));
            }
        }
    }
    broken
}

/// Whether a comment before the statement that stands at `line` says why it is sound.
pub fn says_why(source: &Source, line: usize) -> bool {
    for above in source.lines[..line].iter().rev() {
        let code = above.code.trim();
        if code.is_empty() {
            if above.comment.contains("SAFETY:") {
                return true;
            }
            if above.comment.is_empty() {
                return false;
            }
        } else if code.ends_with([';', '{', '}', ',']) {
            return false;
        }
    }
    false
}

pub fn is_in(source: &Source, places: Places) -> bool {
    places
        .iter()
        .any(|(place, _)| source.path.starts_with(place))
}

/// Whether a path is the banned one, lies below it, or ends in it.
pub fn is_path(path: &str, banned: &str) -> bool {
    let path = format!("::{path}::");
    if banned.starts_with("std::") {
        path.starts_with(&format!("::{banned}::"))
    } else {
        path.contains(&format!("::{banned}::"))
    }
}

/// What has a place of its own stands nowhere else.
pub fn banned(source: &Source) -> Vec<Broken> {
    let mut broken = Vec::new();
    for ban in BANS.iter().filter(|ban| !is_in(source, ban.places)) {
        for Named { line, path } in source.paths(!ban.tests_may) {
            if ban.paths.iter().any(|banned| is_path(&path, banned)) {
                broken.push((line, format!("`{path}`: {}", ban.reason)));
            }
        }
    }
    for (at, line) in source
        .lines
        .iter()
        .enumerate()
        .filter(|(_, line)| !line.is_test)
    {
        if line.code.contains(".unwrap()") || line.code.contains(".unwrap_err()") {
            broken.push((
                at,
                "`unwrap()`: say why it cannot fail, or let it".to_owned(),
            ));
        }
    }
    broken
}

/// Each dependency is named where it belongs.
pub fn owners(source: &Source) -> Vec<Broken> {
    let mut broken = Vec::new();
    for Named { line, path } in source.paths(false) {
        // A word alone may be anything: `cfg(loom)`.
        let code = source.lines[line].code.trim_start();
        if !path.contains("::") && !code.starts_with("use ") {
            continue;
        }
        let name = path.split("::").next().unwrap_or_default();
        let owned = OWNERS.iter().find(|(dependency, _)| *dependency == name);
        if let Some((name, places)) = owned
            && !places.is_empty()
            && !is_in(source, places)
        {
            let places: Vec<_> = places.iter().map(|(place, _)| *place).collect();
            broken.push((line, format!("`{name}` is for {}", places.join(", "))));
        }
    }
    broken
}

/// Files and lines are short enough to be read.
pub fn size(source: &Source) -> Vec<Broken> {
    let is_src = source.path.starts_with("src/");
    let count_max = if is_src {
        SRC_LINES_MAX
    } else {
        TEST_LINES_MAX
    };
    let mut broken = Vec::new();
    if source.lines.len() > count_max {
        broken.push((
            count_max,
            format!("more than {count_max} lines: look for the second idea"),
        ));
    }
    for (at, line) in source.lines.iter().enumerate() {
        let width_max = if line.is_in_string {
            TEXT_WIDTH_MAX
        } else {
            WIDTH_MAX
        };
        if is_src && line.raw.chars().count() > width_max {
            broken.push((at, format!("more than {width_max} characters")));
        }
    }
    broken
}

/// Nothing of the machine on which it was written, and nothing left for later.
pub fn traces(source: &Source) -> Vec<Broken> {
    let dirs = [
        concat!("/wo", "rk"),
        concat!("/ro", "ot"),
        concat!("/ho", "me/"),
        concat!("/Us", "ers/"),
    ];
    let marks = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
    ];
    let mut broken = Vec::new();
    for (at, line) in source.lines.iter().enumerate() {
        for dir in dirs {
            let is_dir = |start: usize| {
                let (before, behind) = (&line.raw[..start], &line.raw[start + dir.len()..]);
                let is_start = !before.ends_with(|c| is_word(c) || "/.}-".contains(c));
                is_start && (dir.ends_with('/') || !behind.starts_with(is_word))
            };
            if line.raw.match_indices(dir).any(|(start, _)| is_dir(start)) {
                broken.push((at, format!("`{dir}`: a path of one machine")));
            }
        }
        for mark in words(&line.raw).filter(|word| marks.contains(word)) {
            broken.push((at, format!("`{mark}`: do it, or write an issue")));
        }
    }
    broken
}

/// A file begins by saying what it is.
pub fn header(source: &Source) -> Vec<Broken> {
    let says = source.lines.first().is_some_and(|line| {
        line.raw
            .strip_prefix("//!")
            .is_some_and(|text| text.trim().len() > 10)
    });
    if says {
        Vec::new()
    } else {
        vec![(0, "no `//!` that says what is in the file".to_owned())]
    }
}
