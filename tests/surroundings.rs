//! What the machine around the engine may be like: somebody else's, read-only, full, or other than the
//! configuration says. Each ends as `docs/limits.md` says: with an error that names the place and the
//! rule, or by going on in a stated way.
//!
//! Root lends its processes to nobody, and mounts small file systems. Where it may not do that, a test says
//! on standard error what it leaves out.

#![cfg(feature = "cli")]

mod common;

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use common::{LIMIT, Scratch, wait_until};
use forebay::clock::System;
use forebay::format::Reason;
use forebay::log::{BatchBuffer, Ended, View};
use forebay::storage::Real;
use forebay::{Code, Config, Engine, Stream};

/// The user and the group that own nothing.
const NOBODY: u32 = 65534;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Loud, but no failure: what cannot be tried here.
fn left_out(what: &str) {
    let _ = writeln!(std::io::stderr(), "LEFT OUT: {what}");
}

/// A place for a test, and a binary in it that anybody may start.
struct Place {
    scratch: Scratch,
}

impl Place {
    fn new(name: &str) -> Self {
        let scratch = Scratch::new(&format!("surroundings-{name}"));
        fs::set_permissions(&scratch.0, Permissions::from_mode(0o755)).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_forebay"), scratch.join("forebay")).unwrap();
        Self { scratch }
    }

    /// A directory, given to nobody if we are root.
    fn dir(&self, name: &str) -> PathBuf {
        let path = self.scratch.join(name);
        fs::create_dir_all(&path).unwrap();
        if is_root() {
            chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        path
    }

    /// A directory that nobody may read and not write, whoever we are.
    fn locked(&self, name: &str) -> PathBuf {
        let path = self.scratch.join(name);
        fs::create_dir_all(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o555)).unwrap();
        path
    }

    /// Appends two lines to a stream of that configuration, as somebody who is not root. `None`: we are
    /// root and cannot be anybody else.
    fn append(&self, data: &Path, run: Option<&Path>, xdg: Option<&Path>) -> Option<Output> {
        let run = run.map_or(String::new(), |run| format!(r#""runDir": {run:?},"#));
        let text = format!(
            r#"{{"dataDir": {data:?}, {run} "streams": [{{"name": "telemetry",
                "sink": {{"type": "none"}},
                "buffer": {{"volatile": "allow", "segmentBytes": 65536, "maxDiskBytes": 8388608}}}}]}}"#
        );
        let config = self.scratch.join("forebay.json");
        fs::write(&config, text).unwrap();
        let mut command = Command::new(self.scratch.join("forebay"));
        command.arg("append").arg(&config).arg("telemetry");
        command.env_remove("XDG_RUNTIME_DIR");
        if let Some(xdg) = xdg {
            command.env("XDG_RUNTIME_DIR", xdg);
        }
        self.start_unprivileged(command)
    }

    fn start_unprivileged(&self, mut command: Command) -> Option<Output> {
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        let command = command.current_dir(&self.scratch.0).stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        // What another test starts while the copy is made holds it open for a moment.
        let busy = |error: &std::io::Error| error.kind() == ErrorKind::ExecutableFileBusy;
        let mut started = command.spawn();
        while started.as_ref().is_err_and(busy) {
            std::thread::sleep(Duration::from_millis(5));
            started = command.spawn();
        }
        let mut child = match started {
            Ok(child) => child,
            Err(error) if is_root() => {
                left_out(&format!("what others than root meet: {error}"));
                return None;
            }
            Err(error) => panic!("{error}"),
        };
        // One that refuses at once does not read it.
        let _ = child.stdin.take().unwrap().write_all(b"one\ntwo\n");
        Some(child.wait_with_output().unwrap())
    }
}

/// It ended with an error that says all of this, and did not panic.
fn refused(ended: Output, parts: &[&str]) {
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    println!("{}", said.trim_end());
    assert!(
        ended
            .status
            .code()
            .is_some_and(|code| code == 1 || code == 2)
    );
    assert!(!said.contains("panicked"), "{said}");
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in: {said}");
    }
}

fn done(ended: &Output) {
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{said}");
    assert!(said.contains("2 records stored"), "{said}");
}

/// Without root shared counters lie below `$XDG_RUNTIME_DIR`, and where there is none, that is what the
/// error says; with `runDir` set neither matters.
#[test]
fn without_root_the_run_directory_is_the_users() {
    let place = Place::new("user");
    let (data, run, xdg) = (place.dir("data"), place.dir("run"), place.dir("xdg"));
    let Some(ended) = place.append(&data, None, Some(&xdg)) else {
        return;
    };
    done(&ended);
    let boards = fs::read_dir(xdg.join("forebay")).unwrap();
    assert_eq!(boards.count(), 1, "the board lies there");
    let ended = place.append(&data, None, None).unwrap();
    refused(ended, &["runDir", "neither root nor XDG_RUNTIME_DIR"]);
    done(&place.append(&data, Some(&run), None).unwrap());
    // Nobody else's, whatever the umask is.
    let store = fs::metadata(data.join("telemetry")).unwrap();
    assert_eq!(store.permissions().mode() & 0o777, 0o700);
}

/// A run directory that is not there is made; where it cannot be, the error names it.
#[test]
fn a_run_directory_is_made_or_named() {
    let place = Place::new("run");
    let (data, run) = (place.dir("data"), place.dir("run"));
    let Some(ended) = place.append(&data, Some(&run.join("a/b")), None) else {
        return;
    };
    done(&ended);
    let locked = place.locked("locked");
    let file = place.scratch.join("file");
    fs::write(&file, "").unwrap();
    for (run, why) in [
        (locked.join("run"), "Permission denied"),
        (locked.clone(), "Permission denied"),
        (file, "not a directory"),
        (PathBuf::from("/proc/forebay"), "No such file"),
    ] {
        let ended = place.append(&data, Some(&run), None).unwrap();
        refused(
            ended,
            &[
                "telemetry",
                "open shared counters",
                run.to_str().unwrap(),
                why,
            ],
        );
    }
    done(&place.append(&data, Some(&run), None).unwrap());
}

/// A data directory that is a file, lies below one, or is somebody else's is an error that names the
/// store's path; nothing is made elsewhere instead.
#[test]
fn a_data_directory_that_cannot_be_is_named() {
    let place = Place::new("data");
    let run = place.dir("run");
    let (locked, data) = (place.locked("locked"), place.dir("data"));
    let file = place.scratch.join("file");
    fs::write(&file, "kept").unwrap();
    fs::write(data.join("telemetry"), "kept").unwrap();
    for (data, why) in [
        (file.clone(), "ot a directory"),
        (file.join("below"), "ot a directory"),
        (data.clone(), "not a directory"),
        (locked.join("data"), "Permission denied"),
        (locked.clone(), "Permission denied"),
    ] {
        let Some(ended) = place.append(&data, Some(&run), None) else {
            return;
        };
        let store = data.join("telemetry");
        refused(
            ended,
            &["\"telemetry\"", "open store", store.to_str().unwrap(), why],
        );
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
    assert_eq!(fs::read_to_string(data.join("telemetry")).unwrap(), "kept");
    assert_eq!(fs::read_dir(&run).unwrap().count(), 0);
}

/// A store with `2` records in a directory, and nothing of it may be written any more.
fn check_read_only(place: &Place, data: &Path, why: &str) {
    let run = place.dir("run");
    let store = data.join("telemetry");
    let ended = place.append(data, Some(&run), None).unwrap();
    refused(ended, &["\"telemetry\"", store.to_str().unwrap(), why]);
    for (verb, expected) in [
        ("read", "two"),
        ("verify", "2 records"),
        ("inspect", "segment"),
    ] {
        let mut command = Command::new(place.scratch.join("forebay"));
        command.arg(verb).arg(&store);
        let ended = place.start_unprivileged(command).unwrap();
        let said = String::from_utf8_lossy(&ended.stdout).into_owned();
        let told = format!("{verb}: {said} {}", String::from_utf8_lossy(&ended.stderr));
        assert!(ended.status.success() && said.contains(expected), "{told}");
    }
}

/// What may only be read cannot be opened for appending, and the error names the store; but it can be
/// read, verified and inspected.
#[test]
fn a_store_that_may_only_be_read_can_be_read() {
    let place = Place::new("read-only");
    let (data, run) = (place.dir("data"), place.dir("run"));
    let Some(ended) = place.append(&data, Some(&run), None) else {
        return;
    };
    done(&ended);
    let store = data.join("telemetry");
    let set_modes = |dir: u32, file: u32| {
        for entry in fs::read_dir(&store).unwrap() {
            fs::set_permissions(entry.unwrap().path(), Permissions::from_mode(file)).unwrap();
        }
        fs::set_permissions(&store, Permissions::from_mode(dir)).unwrap();
    };
    set_modes(0o555, 0o444);
    check_read_only(&place, &data, "Permission denied");
    set_modes(0o700, 0o600);
    done(&place.append(&data, Some(&run), None).unwrap());
}

/// A file system of its own, as long as this lives.
struct Mounted(PathBuf);

impl Mounted {
    /// `None`: it cannot be mounted here, and standard error says so.
    fn new(path: &Path, options: &[&str], what: &str) -> Option<Self> {
        fs::create_dir_all(path).unwrap();
        if !is_root() {
            left_out(&format!("{what}: only root mounts"));
            return None;
        }
        let ended = Command::new("mount").args(options).arg(path).output();
        let why = match ended {
            Ok(ended) if ended.status.success() => return Some(Self(path.to_owned())),
            Ok(ended) => String::from_utf8_lossy(&ended.stderr).trim().to_owned(),
            Err(error) => error.to_string(),
        };
        left_out(&format!("{what}: {why}"));
        None
    }

    /// A file system of so many MiB in a file, with no part kept for root.
    fn image(place: &Place, kind: &str, mib: u64, options: &[&str]) -> Option<Self> {
        let (program, what) = (format!("mkfs.{kind}"), format!("a small {kind}"));
        let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
        if !known.split_whitespace().any(|known| known == kind) {
            left_out(&format!("{what}: this kernel does not have it"));
            return None;
        }
        let image = place.scratch.join(&format!("{kind}.image"));
        fs::File::create(&image)
            .unwrap()
            .set_len(mib << 20)
            .unwrap();
        let made = Command::new(&program).args(options).arg(&image).output();
        if !made.is_ok_and(|made| made.status.success()) {
            left_out(&format!("{what}: there is no {program} that makes it"));
            return None;
        }
        let options = ["-t", kind, "-o", "loop", image.to_str().unwrap()];
        Self::new(&place.scratch.join(kind), &options, &what)
    }

    fn ext4(place: &Place) -> Option<Self> {
        Self::image(place, "ext4", 24, &["-q", "-m", "0", "-b", "4096"])
    }

    /// All of them that this kernel has, as small as they can be.
    fn all(place: &Place) -> Vec<Self> {
        let btrfs = ["-q", "--mixed", "-m", "single", "-d", "single"];
        let all = [
            Self::ext4(place),
            Self::image(place, "xfs", 300, &["-q"]),
            Self::image(place, "btrfs", 48, &btrfs),
            Self::image(place, "f2fs", 64, &["-q"]),
            Self::tmpfs(place, "tmpfs"),
        ];
        all.into_iter().flatten().collect()
    }

    fn tmpfs(place: &Place, name: &str) -> Option<Self> {
        let options = ["-t", "tmpfs", "-o", "size=24m", "forebay-test"];
        Self::new(&place.scratch.join(name), &options, "a small tmpfs")
    }

    /// Fills it to the last block.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = fs::File::create(&path).unwrap();
        for size in [1 << 20, 64 << 10, 4096] {
            let block = vec![7u8; size];
            while file
                .write_all(&block)
                .and_then(|()| file.sync_data())
                .is_ok()
            {}
        }
        path
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

/// The same for a medium that is mounted read-only.
#[test]
fn a_read_only_medium_can_be_read() {
    let place = Place::new("read-only-medium");
    let Some(medium) = Mounted::tmpfs(&place, "medium") else {
        return;
    };
    let (data, run) = (medium.0.join("data"), place.dir("run"));
    fs::create_dir(&data).unwrap();
    chown(&data, Some(NOBODY), Some(NOBODY)).unwrap();
    let Some(ended) = place.append(&data, Some(&run), None) else {
        return;
    };
    done(&ended);
    let options = ["-o", "remount,ro"];
    let Some(_read_only) = Mounted::new(&medium.0, &options, "a read-only medium") else {
        return;
    };
    check_read_only(&place, &data, "Read-only file system");
    // A store that is to be made there, too.
    let ended = place
        .append(&medium.0.join("new"), Some(&run), None)
        .unwrap();
    refused(
        ended,
        &["open store", "new/telemetry", "Read-only file system"],
    );
}

fn config(medium: &Mounted, place: &Place, name: &str) -> Config {
    config_with(medium, place, name, "")
}

fn config_with(medium: &Mounted, place: &Place, name: &str, buffer: &str) -> Config {
    let (data, run) = (medium.0.join(name), place.scratch.join("run"));
    let text = format!(
        r#"{{"dataDir": {data:?}, "runDir": {run:?}, "streams": [{{"name": "telemetry",
            "sink": {{"type": "none"}},
            "buffer": {{"volatile": "allow", "maxDiskBytes": 16777216, "segmentBytes": 1048576,
                "maxBufferedBytes": 262144, "fsyncIntervalMs": 20 {buffer}}}}}]}}"#
    );
    Config::from_json(&text).unwrap()
}

/// `L-46`, `L-49`: a file system that is full to its last block. A new store cannot be made on it, and
/// the error names it; one that is there opens, and one that is open goes on: what it has it keeps or drops
/// its oldest of, and when there is room again, it is used.
#[test]
fn a_medium_that_is_full_to_the_last_block_is_survived() {
    let place = Place::new("full");
    let media = [Mounted::ext4(&place), Mounted::tmpfs(&place, "tmpfs")];
    for medium in media.into_iter().flatten() {
        let append = |stream: &Stream, count: u64| {
            let (mut taken, payload) = (0, [7u8; 1000]);
            for n in 0..count {
                taken += u64::from(stream.append(b"pump-7", n, &payload).is_ok());
                std::thread::park_timeout(Duration::from_micros(50));
            }
            taken
        };
        // Full while it is open: the oldest go.
        let engine = Engine::open(&config(&medium, &place, "old")).unwrap();
        let stream = engine.stream("telemetry").unwrap();
        let first = append(&stream, 3000);
        stream.flush(LIMIT).unwrap();
        let before = stream.stats();
        let filler = medium.fill();
        let taken = append(&stream, 10_000);
        stream.flush(LIMIT).unwrap();
        let full = stream.stats();
        println!("{}: {taken} of 10000 taken while full", medium.0.display());
        assert_eq!(full.durable_offset, first + taken);
        assert!(taken > 5000 && full.dropped_total > 0, "{full:?}");
        assert!(
            full.allocated_bytes <= before.allocated_bytes + (1 << 20),
            "{full:?}"
        );
        engine.close(LIMIT).unwrap();

        // Full at open: what is there opens, and what is not is not made.
        let engine = Engine::open(&config(&medium, &place, "old")).unwrap();
        let stream = engine.stream("telemetry").unwrap();
        assert_eq!(stream.stats().next_offset, full.durable_offset);
        let error = Engine::open(&config(&medium, &place, "new")).err().unwrap();
        let text = error.to_string();
        println!("{text}");
        assert_eq!(error.code(), Code::Io, "{text}");
        for part in ["\"telemetry\"", "new/telemetry", "No space left on device"] {
            assert!(text.contains(part), "{part:?} is not in: {text}");
        }

        // Room again, for both.
        fs::remove_file(&filler).unwrap();
        wait_until("room is used again", || {
            append(&stream, 1000);
            stream.stats().allocated_bytes > full.allocated_bytes + (2 << 20)
        });
        stream.flush(LIMIT).unwrap();
        engine.close(LIMIT).unwrap();
        let engine = Engine::open(&config(&medium, &place, "new")).unwrap();
        let stream = engine.stream("telemetry").unwrap();
        stream.append_durable(b"", 0, b"x", LIMIT).unwrap();
        engine.close(LIMIT).unwrap();
    }
}

/// Appends so many records of 1000 bytes that begin with their number; those that were taken, by offset.
fn append_numbered(stream: &Stream, numbers: std::ops::Range<u64>, kept: &mut BTreeMap<u64, u64>) {
    let mut payload = [7u8; 1000];
    for n in numbers {
        payload[..8].copy_from_slice(&n.to_le_bytes());
        if let Ok(offset) = stream.append(b"pump-7", n, &payload) {
            kept.insert(offset, n);
        }
        std::thread::park_timeout(Duration::from_micros(20));
    }
}

/// What of these is stored, and where the store begins.
fn stored(store: &Path) -> (BTreeMap<u64, u64>, u64) {
    let view = View::open(store, Arc::new(Real), Arc::new(System::new())).unwrap();
    let head = view.shared().head();
    let mut reader = view.reader().unwrap();
    let mut batch = BatchBuffer::new(1000, 1 << 20, 1 << 16).unwrap();
    let (mut there, mut next) = (BTreeMap::new(), head);
    loop {
        batch.clear();
        let (ended, after) = reader.read(next, u64::MAX, &mut batch).unwrap();
        for entry in batch.entries() {
            let view = batch.view(entry);
            let n = u64::from_le_bytes(view.payload[..8].try_into().unwrap());
            assert!(view.payload[8..].iter().all(|byte| *byte == 7) && view.time_ms == n);
            there.insert(entry.offset, n);
        }
        next = after;
        match ended {
            Ended::CaughtUp => return (there, head),
            Ended::Gap(gap) => assert_eq!(gap.reason, Reason::NeverDurable, "{gap:?}"),
            Ended::Full => {}
        }
    }
}

/// `L-43`, `L-45`, `L-46`, `L-49`: each file system that this kernel has is filled to its last block again and again while
/// records come in, and freed again. Of what a flush said is durable nothing is missing from the head on,
/// whether the engine ended cleanly or is thrown away; and the store keeps its
/// budget. Written through a map too, which never raises a signal:
/// on Btrfs, which copies what is written again, the process once died of SIGBUS.
#[test]
fn each_file_system_may_fill_up_under_load_and_be_freed() {
    let place = Place::new("fill");
    for medium in Mounted::all(&place) {
        let name = medium.0.file_name().unwrap().to_string_lossy().into_owned();
        let store = medium.0.join("data/telemetry");
        let mut promised = BTreeMap::new();
        let (mut from, mut refused) = (0, 0);
        for round in 0..4 {
            let io = [r#", "io": "write""#, r#", "io": "mmap""#][round % 2];
            let engine = Engine::open(&config_with(&medium, &place, "data", io)).unwrap();
            let stream = engine.stream("telemetry").unwrap();
            let mut kept = BTreeMap::new();
            for phase in 0..3 {
                // Full in the middle: while records come in, and while they go on coming.
                let filler = std::thread::scope(|scope| {
                    let filler = scope.spawn(|| (phase == 1).then(|| medium.fill()));
                    append_numbered(&stream, from..from + 3000, &mut kept);
                    filler.join().unwrap()
                });
                from += 3000;
                append_numbered(&stream, from..from + 3000, &mut kept);
                from += 3000;
                if stream.flush(LIMIT / 10).is_err() {
                    // A copy-on-write file system may be too full even to replace a block.
                    refused += 1;
                } else {
                    promised.append(&mut kept);
                }
                if let Some(filler) = filler {
                    fs::remove_file(&filler).unwrap();
                    wait_until("it goes on", || stream.flush(LIMIT).is_ok());
                    promised.append(&mut kept);
                }
            }
            if round == 1 {
                engine.close(LIMIT).unwrap();
            }
            let blocks = stream.stats().allocated_bytes;
            assert!(blocks <= 16 << 20, "{name}: {blocks}");
            drop(engine);
            let (there, head) = stored(&store);
            let missing = promised
                .range(head..)
                .find(|(offset, n)| there.get(offset) != Some(n));
            assert_eq!(missing, None, "{name}");
            assert!(there.len() > 1000, "{name}: {}", there.len());
        }
        println!(
            "{name}: {} of {from} taken and durable, {refused} flushes told that the disk was full",
            promised.len()
        );
        assert!(promised.len() > 10_000, "{name}: {}", promised.len());
    }
}
