//! A file that others write: followed through rotations, cuts and restarts, nothing twice and nothing missing.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::client::{storing_with, wait_for};
use crate::process::{Running, Setup, payloads, wait_until};

/// A log, and who writes numbered lines to it.
struct Writer {
    path: PathBuf,
    file: File,
    next: u64,
}

fn append_to(path: &Path) -> File {
    let mut options = OpenOptions::new();
    options.append(true).create(true).open(path).unwrap()
}

impl Writer {
    fn new(path: PathBuf) -> Self {
        let file = append_to(&path);
        Self {
            path,
            file,
            next: 0,
        }
    }

    fn write(&mut self, count: u64) {
        let lines = self.next..self.next + count;
        let lines: String = lines.map(|n| format!("line {n}\n")).collect();
        self.file.write_all(lines.as_bytes()).unwrap();
        self.next += count;
    }

    fn rotated(&self, n: u32) -> PathBuf {
        PathBuf::from(format!("{}.{n}", self.path.display()))
    }

    /// Other names for older files.
    fn move_older(&self) {
        for n in (1..30).rev() {
            if self.rotated(n).exists() {
                std::fs::rename(self.rotated(n), self.rotated(n + 1)).unwrap();
            }
        }
    }

    /// Moves the file away and, after a last line to it, begins a new one.
    fn rotate(&mut self) {
        self.move_older();
        std::fs::rename(&self.path, self.rotated(1)).unwrap();
        self.write(1);
        self.file = append_to(&self.path);
    }

    /// Copies the file and cuts it.
    fn copy_and_cut(&mut self) {
        self.move_older();
        std::fs::copy(&self.path, self.rotated(1)).unwrap();
        self.file.set_len(0).unwrap();
    }
}

/// A stream that follows a file in its own directory.
fn following(name: &str, more: &str) -> (Setup, Writer) {
    storing_with(name, |dir| {
        let path = dir.join("app.log");
        let input = format!(
            r#"{{"type": "tail", "stream": "telemetry", "path": {path:?}, "rotateWaitMs": 100 {more}}}"#
        );
        (input, Writer::new(path))
    })
}

/// Starts `run`, and waits until it has the file: what a rotation did before that at the first start is not its own.
fn serve(setup: &Setup) -> Running {
    let running = setup.serve(&[]);
    running.wait_for("input tail: reading ");
    running
}

fn stop(running: Running) -> String {
    running.signal(Signal::TERM);
    running.wait().expect(0).err
}

/// Each line is stored once, and in order.
fn check(setup: &Setup, count: u64) {
    let stored = setup.stored();
    let found = payloads(&stored);
    let expected: Vec<_> = (0..count).map(|n| format!("line {n}")).collect();
    let differ = found
        .iter()
        .zip(&expected)
        .find(|(one, other)| one != other);
    assert_eq!((differ, found.len()), (None, expected.len()));
}

#[test]
fn a_file_is_followed_line_by_line() {
    let (setup, mut writer) = following("tail-lines", r#", "maxRecordBytes": 300"#);
    writer.write(10);
    let running = serve(&setup);
    for part in [
        "line 10\r\nline",
        " ",
        "11\n",
        &"x".repeat(5000),
        "\nline 12",
    ] {
        writer.file.write_all(part.as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(30));
    }
    wait_for(&setup, 12);
    let err = stop(running);
    let done = "input tail: 12 records, 0 malformed, 0 refused, 1 too long";
    assert!(err.contains(done), "{err}");
    check(&setup, 12);
    // What had no end when it stopped is read when it has one.
    let running = serve(&setup);
    writer.file.write_all(b"\n").unwrap();
    wait_for(&setup, 13);
    stop(running);
    check(&setup, 13);
}

#[test]
fn a_file_that_is_not_there_is_waited_for_and_what_it_had_may_be_left_out() {
    let (setup, mut writer) = following("tail-newest", r#", "startAt": "newest""#);
    let path = writer.path.clone();
    writer.file.write_all(b"old\n").unwrap();
    let running = serve(&setup);
    running.wait_for("from byte 4 on");
    writer.write(3);
    wait_for(&setup, 3);
    std::fs::remove_file(&path).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    writer.write(2);
    // A new file is read from its start.
    writer.file = append_to(&path);
    writer.write(5);
    wait_for(&setup, 10);
    stop(running);
    check(&setup, 10);
}

#[test]
fn a_file_is_followed_through_rotations_and_cuts() {
    for (name, is_cut) in [("tail-moved", false), ("tail-cut", true)] {
        let (setup, mut writer) = following(name, "");
        let running = serve(&setup);
        let rotate = |writer: &mut Writer| match is_cut {
            true => writer.copy_and_cut(),
            false => writer.rotate(),
        };
        for round in 0..4 {
            writer.write(1000);
            // In time, or with something that was not read yet.
            if round % 2 == 0 {
                wait_for(&setup, writer.next);
            }
            rotate(&mut writer);
            writer.write(1 + 900 * (round / 2));
            wait_for(&setup, writer.next);
        }
        stop(running);
        check(&setup, writer.next);
        // And while nobody reads: twice, the second file longer than the first.
        for count in [10, 5000, 20] {
            writer.write(count);
            rotate(&mut writer);
        }
        writer.write(7);
        let running = serve(&setup);
        wait_until("the last line", || {
            payloads(&setup.stored()).last() == Some(&&*format!("line {}", writer.next - 1))
        });
        stop(running);
        check(&setup, writer.next);
    }
}

/// `L-9`, `L-101`: killed under load again and again, while the file is rotated.
#[test]
fn kills_and_rotations_make_nothing_twice_and_nothing_missing() {
    for (name, is_cut) in [("tail-killed", false), ("tail-killed-cut", true)] {
        let (setup, mut writer) = following(name, "");
        for kill in 0..10 {
            let running = serve(&setup);
            for step in 0..10 {
                writer.write(300);
                std::thread::sleep(Duration::from_millis(5 + kill));
                if (step + kill) % 5 == 4 {
                    match is_cut {
                        true => writer.copy_and_cut(),
                        false => writer.rotate(),
                    }
                }
            }
            running.signal(Signal::KILL);
            drop(running);
        }
        let running = serve(&setup);
        wait_until("the last line", || {
            payloads(&setup.stored()).last() == Some(&&*format!("line {}", writer.next - 1))
        });
        stop(running);
        check(&setup, writer.next);
    }
}

/// What distributions rotate with.
#[test]
fn a_file_is_followed_through_what_logrotate_does() {
    for how in [
        "create",
        "copytruncate",
        "create\n dateext\n dateformat -%Y%m%d-%s",
    ] {
        let (setup, mut writer) = following("tail-logrotate", "");
        let (log, state) = (writer.path.clone(), setup.scratch.join("state"));
        let text = format!("{log:?} {{\n {how}\n rotate 3\n size 1\n missingok\n}}\n");
        let config = setup.scratch.write("logrotate.conf", text);
        let running = serve(&setup);
        for _ in 0..3 {
            writer.write(500);
            let mut command = Command::new("/usr/sbin/logrotate");
            let done = command
                .arg("-s")
                .arg(&state)
                .arg("-f")
                .arg(&config)
                .status();
            assert!(done.unwrap().success());
            if how != "copytruncate" {
                writer.write(5);
                writer.file = append_to(&log);
            }
            writer.write(100);
            wait_for(&setup, writer.next);
            // Names of dates differ by the second.
            std::thread::sleep(Duration::from_millis(1100));
        }
        stop(running);
        check(&setup, writer.next);
    }
}

/// A reload begins the input anew, where it stood.
#[test]
fn a_reload_makes_nothing_twice_and_nothing_missing() {
    let (setup, mut writer) = following("tail-reload", "");
    let running = serve(&setup);
    for n in 0..5 {
        writer.write(2000);
        let text = std::fs::read_to_string(&setup.config).unwrap();
        let at = text.find("\"maxLatencyMs\": ").unwrap();
        let (before, rest) = text.split_at(at);
        let rest = rest.split_once('}').unwrap().1;
        let text = format!("{before}\"maxLatencyMs\": {}}}{rest}", 30 + n);
        std::fs::write(&setup.config, text).unwrap();
        crate::process::verb("reload", &setup.config, &[]).expect(0);
        writer.write(10);
    }
    wait_until("the last line", || {
        payloads(&setup.stored()).last() == Some(&&*format!("line {}", writer.next - 1))
    });
    stop(running);
    check(&setup, writer.next);
}
