//! The engine as its users see it, on a real file system.

use std::path::{Path, PathBuf};
use std::time::Duration;

use forebay::{Code, Config, Engine};

const LIMIT: Duration = Duration::from_secs(20);

/// A directory of its own for a test, gone when it ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("forebay-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn config(scratch: &Scratch, stream: &str) -> Config {
    let (data, run) = (scratch.join("data"), scratch.join("run"));
    let text = format!(r#"{{"dataDir": {data:?}, "runDir": {run:?}, "streams": [{stream}]}}"#);
    Config::from_json(&text).unwrap()
}

fn file_stream(scratch: &Scratch, more: &str) -> String {
    let path = scratch.join("out.ndjson");
    format!(
        r#"{{"name": "telemetry", "sink": {{"type": "file", "path": {path:?}}},
            "batch": {{"maxLatencyMs": 20}} {more}}}"#
    )
}

fn lines(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn wait_until(what: &str, mut f: impl FnMut() -> bool) {
    for _ in 0..2000 {
        if f() {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    panic!("{what}: not within 20 s");
}

/// `G-020`, `G-030`, `G-098`: what is appended arrives, in order, once; and a clean stop repeats nothing.
#[test]
fn what_is_appended_arrives_and_a_clean_stop_repeats_nothing() {
    let scratch = Scratch::new("arrives");
    for run in 0..3u64 {
        let engine = Engine::open(&config(&scratch, &file_stream(&scratch, ""))).unwrap();
        let stream = engine.stream("telemetry").unwrap();
        for n in 0..100 {
            let offset = stream
                .append(b"pump-7", n, format!("{run}-{n}").as_bytes())
                .unwrap();
            assert_eq!(offset, run * 100 + n);
        }
        stream.flush(LIMIT).unwrap();
        wait_until("delivery", || stream.stats().backlog == 0);
        engine.close(LIMIT).unwrap();
        let error = stream.append(b"", 0, b"").unwrap_err();
        assert_eq!(error.code(), Code::Closed);
    }
    let lines = lines(&scratch.join("out.ndjson"));
    assert_eq!(lines.len(), 300);
    for (at, line) in lines.iter().enumerate() {
        assert!(line.contains(&format!("\"offset\":{at},")), "{line}");
        assert!(
            line.ends_with(&format!("\"payload\":\"{}-{}\"}}", at / 100, at % 100)),
            "{line}"
        );
    }
}
