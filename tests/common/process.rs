//! The real binary as its users start it: verbs that end, and processes that run until they are told.

#![allow(dead_code)] // each test uses a part of it

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// How often [`wait_until`] looks, and how many times: 30 s.
const LOOK: Duration = Duration::from_millis(5);
const LOOKS: u32 = 6000;

/// A directory of its own for a test, on the file system that is built on; gone when the test ends.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        let name = format!("{name}-{}", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file and returns its path.
    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What a failed test leaves behind is there to be looked at.
        if !std::thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

/// What a process that has ended left behind.
pub struct Ended {
    pub status: ExitStatus,
    pub out: Vec<u8>,
    pub err: String,
}

impl std::fmt::Debug for Ended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let out = String::from_utf8_lossy(&self.out);
        let shown: String = out.chars().take(4000).collect();
        write!(f, "{}\nout: {shown}\nerr: {}", self.status, self.err)
    }
}

impl Ended {
    /// Its exit status was this one, and it did not panic.
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{self:?}");
        assert!(!self.err.contains("panicked"), "{self:?}");
        self
    }

    pub fn out(&self) -> &str {
        std::str::from_utf8(&self.out).unwrap()
    }

    /// Its output, an object a line.
    pub fn json_lines(&self) -> Vec<Value> {
        let lines = self.out().lines();
        lines
            .map(|line| serde_json::from_str(line).expect(line))
            .collect()
    }
}

/// The binary with a quiet environment.
pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    command.env_remove("FOREBAY_LOG");
    command
}

/// Runs a verb to its end, with this on its standard input.
pub fn forebay_with_input<S: AsRef<std::ffi::OsStr>>(args: &[S], input: &[u8]) -> Ended {
    let mut running = Running::start(command().args(args));
    running.write(input);
    running.end()
}

/// Runs a verb to its end.
pub fn forebay<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> Ended {
    forebay_with_input(args, b"")
}

/// Runs a verb with a path behind it.
pub fn verb(verb: &str, path: &Path, more: &[&str]) -> Ended {
    let args = [verb.as_ref(), path.as_os_str()];
    let more = more.iter().map(std::ffi::OsStr::new);
    forebay(&args.into_iter().chain(more).collect::<Vec<_>>())
}

/// A process that runs. Killed when dropped.
pub struct Running {
    child: Child,
    pub input: Option<ChildStdin>,
    err: Arc<Mutex<String>>,
    out: Option<JoinHandle<Vec<u8>>>,
    listener: Option<JoinHandle<()>>,
}

impl Running {
    /// Starts it with pipes; its output is read and kept.
    pub fn start(command: &mut Command) -> Self {
        let (mut running, mut pipe) = Self::start_with_pipe(command);
        let read = move || {
            let mut bytes = Vec::new();
            let _ = pipe.read_to_end(&mut bytes);
            bytes
        };
        running.out = Some(std::thread::spawn(read));
        running
    }

    /// Starts it with pipes, and leaves its output to the caller.
    pub fn start_with_pipe(command: &mut Command) -> (Self, ChildStdout) {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let err = Arc::new(Mutex::new(String::new()));
        let (said, kept) = (child.stderr.take().unwrap(), Arc::clone(&err));
        let listen = move || {
            let mut said = BufReader::new(said);
            let mut line = Vec::new();
            while said.read_until(b'\n', &mut line).unwrap_or(0) > 0 {
                kept.lock()
                    .unwrap()
                    .push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        };
        let pipe = child.stdout.take().unwrap();
        let running = Self {
            input: child.stdin.take(),
            child,
            err,
            out: None,
            listener: Some(std::thread::spawn(listen)),
        };
        (running, pipe)
    }

    /// Writes to its standard input; a process that does not read it is none of our business.
    pub fn write(&mut self, bytes: &[u8]) {
        if let Some(input) = &mut self.input {
            let _ = input.write_all(bytes).and_then(|()| input.flush());
        }
    }

    /// What it has said on standard error so far.
    pub fn err(&self) -> String {
        self.err.lock().unwrap().clone()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has said this on standard error.
    pub fn wait_for(&self, text: &str) {
        wait_until(text, || self.err().contains(text));
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    /// How many sockets it has open, and its resident memory in KiB.
    pub fn costs(&self) -> (usize, u64) {
        let id = self.id();
        let open = std::fs::read_dir(format!("/proc/{id}/fd")).unwrap();
        let is_socket = |path: PathBuf| {
            let name = std::fs::read_link(path).unwrap_or_default();
            name.to_string_lossy().starts_with("socket:")
        };
        let open = open.filter(|entry| is_socket(entry.as_ref().unwrap().path()));
        let open = open.count();
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let mut lines = status.lines();
        let line = lines.find(|line| line.starts_with("VmRSS")).unwrap();
        let kib = line.split_whitespace().nth(1).unwrap();
        (open, kib.parse().unwrap())
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Closes its standard input and waits for its end.
    pub fn end(mut self) -> Ended {
        drop(self.input.take());
        self.wait()
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Ended {
        let mut status = None;
        wait_until("the end of the process", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        self.listener.take().unwrap().join().unwrap();
        let out = self
            .out
            .take()
            .map_or_else(Vec::new, |out| out.join().unwrap());
        let err = self.err();
        Ended {
            status: status.unwrap(),
            out,
            err,
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for what another process or thread does.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..LOOKS {
        if is_so() {
            return;
        }
        std::thread::park_timeout(LOOK);
    }
    panic!("{what}: not within 30 s");
}

/// A configuration of one stream `telemetry` that syncs and delivers quickly.
pub struct Setup {
    pub scratch: Scratch,
    pub config: PathBuf,
}

impl Setup {
    /// With these JSON texts as sink, as fields of `buffer`, and as `inputs`.
    pub fn new(name: &str, sink: &str, buffer: &str, inputs: &str) -> Self {
        let scratch = Scratch::new(name);
        let (data, run) = (scratch.join("data"), scratch.join("run"));
        let text = format!(
            r#"{{"dataDir": {data:?}, "runDir": {run:?}, "inputs": [{inputs}],
                "streams": [{{"name": "telemetry", "sink": {sink},
                    "buffer": {{"volatile": "allow", "fsyncIntervalMs": 20 {buffer}}},
                    "batch": {{"maxLatencyMs": 20}}, "delivery": {{"backoffMaxMs": 100}}}}]}}"#
        );
        let config = scratch.write("forebay.json", text);
        Self { scratch, config }
    }

    /// Lines on standard input to a file of lines.
    pub fn lines_to_file(name: &str) -> Self {
        Self::to_file(name, SMALL, STDIN)
    }

    pub fn to_file(name: &str, buffer: &str, inputs: &str) -> Self {
        let mut this = Self::new(name, NO_SINK, buffer, inputs);
        let sink = format!(r#"{{"type": "file", "path": {:?}}}"#, this.out());
        let text = std::fs::read_to_string(&this.config).unwrap();
        this.config = this
            .scratch
            .write("forebay.json", text.replacen(NO_SINK, &sink, 1));
        this
    }

    pub fn store(&self) -> PathBuf {
        self.scratch.join("data").join("telemetry")
    }

    pub fn out(&self) -> PathBuf {
        self.scratch.join("out.ndjson")
    }

    /// What the file sink has written, an object a line.
    pub fn delivered(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.out()).unwrap_or_default();
        // The last line may be half written.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        let lines = text[..whole].lines();
        lines
            .map(|line| serde_json::from_str(line).expect(line))
            .collect()
    }

    pub fn run(&self, more: &[&str]) -> Command {
        let mut command = command();
        command.arg("run").arg(&self.config).args(more);
        command
    }

    /// Starts `run` and waits until it serves.
    pub fn serve(&self, more: &[&str]) -> Running {
        let running = Running::start(&mut self.run(more));
        running.wait_for("serving");
        running
    }

    /// Stores these lines with `append`.
    pub fn append(&self, input: &[u8]) {
        let config = self.config.to_str().unwrap();
        forebay_with_input(&["append", config, "telemetry"], input).expect(0);
    }

    /// The stream's numbers, as `stats --json` prints them.
    pub fn stats(&self) -> Value {
        let ended = verb("stats", &self.store(), &["--json"]).expect(0);
        ended.json_lines().remove(0)
    }

    /// What lies in the store, as `read --format ndjson` prints it.
    pub fn stored(&self) -> Vec<Value> {
        let ended = verb("read", &self.store(), &["--format", "ndjson"]).expect(0);
        ended.json_lines()
    }
}

/// Inputs and sinks as JSON.
pub const STDIN: &str = r#"{"type": "stdin", "stream": "telemetry"}"#;
pub const NO_SINK: &str = r#"{"type": "none"}"#;
/// Fields of `buffer`: a store that is made and looked through in a moment.
pub const SMALL: &str = r#", "segmentBytes": 1048576, "maxDiskBytes": 16777216"#;

/// A field that is a number.
pub fn number(object: &Value, name: &str) -> u64 {
    object[name]
        .as_u64()
        .unwrap_or_else(|| panic!("{name} in {object}"))
}

/// The payloads of records, as text.
pub fn payloads(records: &[Value]) -> Vec<&str> {
    let payloads = records.iter().map(|record| record["payload"].as_str());
    payloads.map(Option::unwrap).collect()
}

/// Lines from one number to before another.
pub fn lines(numbers: std::ops::Range<u64>) -> Vec<u8> {
    let line = |n: u64| format!("line {n}\n").into_bytes();
    numbers.flat_map(line).collect()
}
