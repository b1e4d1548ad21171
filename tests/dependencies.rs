//! What the crate is built of, as cargo resolves it for this machine.
//!
//! `G-001`, `G-035`: the engine runs in its host's process, in threads that block; an async runtime would
//! bring a second scheduler, and megabytes. `L-68`, `L-69`, `L-70`: agents of 37 to 149 MB are what small
//! gateways suffer from; each direct dependency stands below with the reason for which it is there.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// The direct dependencies.
const DIRECT: [(&str, &str); 22] = [
    (
        "aws-credential-types",
        "the keys of a signature, as aws-sigv4 takes them",
    ),
    ("aws-sigv4", "signatures, by those who define them"),
    ("base64", "bytes that are not text, in lines of JSON"),
    (
        "crc32fast",
        "checksums at the speed of the memory, on every target",
    ),
    (
        "crossbeam-channel",
        "bounded channels for orders and events",
    ),
    (
        "heapless",
        "names and sets of a fixed size, without allocation",
    ),
    (
        "httparse",
        "heads of requests, read as bytes of which nothing is known",
    ),
    ("lexopt", "arguments, in a few kilobytes"),
    (
        "libc",
        "handlers of the binary for signals that it dies of, which others refuse to take",
    ),
    ("log", "where the host wants to hear of it"),
    ("md-5", "the checksum that aggregates of records have"),
    ("memmap2", "maps, for rings, shared counters and segments"),
    ("parking_lot", "locks that do not poison and are small"),
    (
        "rdkafka-sys",
        "the client for Kafka; the crate above it would bring a part of a runtime",
    ),
    ("rustix", "system calls without a C library in between"),
    ("rustls", "TLS without a C library in between"),
    (
        "serde",
        "the visitor that keeps a value's place in the configuration",
    ),
    (
        "serde_json",
        "reads JSON without recursion, and writes its strings",
    ),
    ("signal-hook", "the binary ends in order on SIGTERM"),
    ("ureq", "HTTP that blocks"),
    ("webpki-roots", "what browsers trust"),
    ("zstd", "compression, by those who define it"),
];

/// What only the features bring.
const OPTIONAL: [&str; 12] = [
    "aws-credential-types",
    "aws-sigv4",
    "base64",
    "httparse",
    "lexopt",
    "md-5",
    "rdkafka-sys",
    "rustls",
    "signal-hook",
    "ureq",
    "webpki-roots",
    "zstd",
];

/// Runtimes, their parts, and the clients that stand on them.
const ASYNC: [&str; 22] = [
    "actix-rt",
    "async-executor",
    "async-global-executor",
    "async-io",
    "async-std",
    "compio",
    "embassy-executor",
    "futures-executor",
    "futures-util",
    "glommio",
    "h2",
    "hyper",
    "hyper-util",
    "io-uring",
    "mio",
    "monoio",
    "polling",
    "reqwest",
    "smol",
    "tokio",
    "tokio-util",
    "tower",
];

/// What `aws-sigv4` brings of them: traits and channels, and nothing that runs.
const OF_SIGNATURES: [&str; 2] = ["futures-util", "tokio"];

/// The names of the packages that a build needs, without their versions.
fn packages(arguments: &[&str]) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .args([
            "tree",
            "--offline",
            "-e",
            "normal",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])
        .args(arguments)
        .output()
        .expect("cargo can be run");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let text = String::from_utf8(output.stdout).expect("names are text");
    let names = text.lines().filter_map(|line| line.split(' ').next());
    let names: BTreeSet<_> = names
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect();
    assert!(names.contains("forebay"), "{text}");
    names
}

fn find<'a>(packages: &'a BTreeSet<String>, unwanted: &[&str]) -> Vec<&'a str> {
    let names = packages.iter().map(String::as_str);
    names.filter(|name| unwanted.contains(name)).collect()
}

/// `G-001`: an embedded library, no daemon. `G-035`: clients that block.
#[test]
fn no_async_runtime_is_in_the_tree() {
    let default = packages(&[]);
    assert_eq!(find(&default, &ASYNC), [""; 0]);
    let all = packages(&["--all-features"]);
    assert_eq!(find(&all, &ASYNC), OF_SIGNATURES);
}

/// Of tokio there is its `sync` part, which is channels and locks: no runtime, no timers, no network. Its
/// default is nothing.
#[test]
fn of_tokio_there_are_channels_only() {
    let output = Command::new(env!("CARGO"))
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")))
        .args([
            "tree",
            "--offline",
            "-e",
            "normal,features",
            "--all-features",
        ])
        .args(["-i", "tokio", "--depth", "1", "--prefix", "none"])
        .output()
        .expect("cargo can be run");
    let text = String::from_utf8(output.stdout).expect("names are text");
    let features = text
        .lines()
        .filter_map(|line| line.strip_prefix("tokio feature "));
    let features: BTreeSet<_> = features.collect();
    assert!(output.status.success(), "{text}");
    assert_eq!(
        features,
        BTreeSet::from(["\"default\"", "\"sync\""]),
        "{text}"
    );
}

#[test]
fn a_runtime_would_be_found() {
    let packages = ["forebay", "mio", "tokio"].map(str::to_owned).into();
    assert_eq!(find(&packages, &ASYNC), ["mio", "tokio"]);
}

#[test]
fn the_direct_dependencies_are_those_that_have_a_reason() {
    let mut packages = packages(&["--all-features", "--depth", "1"]);
    packages.remove("forebay");
    let known = DIRECT.map(|(name, _)| name.to_owned());
    assert_eq!(packages, BTreeSet::from(known));
}

/// `G-054`, `L-69`: what a build leaves out, it does not carry.
#[test]
fn a_build_without_features_needs_nothing_optional() {
    let bare = packages(&["--no-default-features"]);
    assert_eq!(find(&bare, &OPTIONAL), [""; 0]);
    for (feature, needs) in [
        ("file", "base64"),
        ("stdout", "base64"),
        ("cli", "lexopt"),
        ("http", "httparse"),
        ("kinesis", "ureq"),
        ("kafka", "rdkafka-sys"),
    ] {
        let packages = packages(&["--no-default-features", "--features", feature]);
        let has_verbs = ["cli", "http"].contains(&feature);
        assert_eq!(packages.contains("lexopt"), has_verbs, "{feature}");
        let has_client = packages.contains("rdkafka-sys");
        assert_eq!(has_client, feature == "kafka", "{feature}");
        assert!(packages.contains(needs), "{feature}");
    }
}

/// `L-117`: only the client for Kafka brings a C library that does TLS, and only when its TLS is asked for.
#[test]
fn without_kafka_no_c_library_does_tls() {
    const TLS_IN_C: [&str; 5] = [
        "aws-lc-sys",
        "boring-sys",
        "mbedtls-sys",
        "native-tls",
        "openssl-sys",
    ];
    let without = "cli,ffi,file,http,input-mqtt-tls,inputs,kinesis,stdout,tls,zstd";
    let without = packages(&["--no-default-features", "--features", without]);
    assert!(without.contains("rustls"));
    assert_eq!(find(&without, &TLS_IN_C), [""; 0]);
    let kafka = |features| packages(&["--no-default-features", "--features", features]);
    assert_eq!(find(&kafka("kafka"), &TLS_IN_C), [""; 0]);
    assert_eq!(find(&kafka("kafka-tls"), &TLS_IN_C), ["openssl-sys"]);
}
