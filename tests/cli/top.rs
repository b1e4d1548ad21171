//! `top`, on a pseudo terminal and into a pipe.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};

use crate::process::{
    NO_SINK, Running, SMALL, STDIN, Setup, command, lines, number, verb, wait_until,
};

/// What a program on a terminal does with it, and what its user types.
struct Screen {
    child: Child,
    ours: File,
    theirs: OwnedFd,
    /// All that was written.
    written: Arc<Mutex<String>>,
    modes: String,
}

impl Screen {
    fn start(command: &Command, size: (u16, u16)) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
        let ours = openpt(flags).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let theirs = ioctl_tiocgptpeer(&ours, flags).unwrap();
        set_size(&ours, size);
        let modes = modes(&theirs);
        let end = || Stdio::from(theirs.try_clone().unwrap());
        // A session of its own, whose terminal this is.
        let mut on_terminal = Command::new("setsid");
        on_terminal.arg("--ctty").arg(command.get_program());
        on_terminal.args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => on_terminal.env(name, value),
                None => on_terminal.env_remove(name),
            };
        }
        on_terminal.stdin(end()).stdout(end()).stderr(end());
        let child = on_terminal.spawn().unwrap();
        let written = Arc::new(Mutex::new(String::new()));
        let (mut reader, kept) = (File::from(ours.try_clone().unwrap()), Arc::clone(&written));
        std::thread::spawn(move || {
            let mut bytes = [0; 65536];
            let mut half = Vec::new();
            while let Ok(len @ 1..) = reader.read(&mut bytes) {
                half.extend_from_slice(&bytes[..len]);
                // A read may end within a letter.
                let whole = match std::str::from_utf8(&half) {
                    Ok(text) => text.len(),
                    Err(error) => error.valid_up_to(),
                };
                let text: Vec<u8> = half.drain(..whole).collect();
                kept.lock()
                    .unwrap()
                    .push_str(&String::from_utf8(text).unwrap());
            }
        });
        Self {
            child,
            ours: File::from(ours),
            theirs,
            written,
            modes,
        }
    }

    fn written(&self) -> String {
        self.written.lock().unwrap().clone()
    }

    /// The lines of the last whole frame, without colours.
    fn frame(&self) -> Vec<String> {
        // A terminal makes two of a line feed.
        let written = self.written().replace("\r\r\n", "\r\n");
        let frames = written.rsplit("\x1b[H");
        let whole = frames
            .filter_map(|frame| frame.split_once("\x1b[K\x1b[J"))
            .next();
        let Some((frame, _)) = whole else {
            return Vec::new();
        };
        frame.split("\x1b[K\r\n").map(without_colours).collect()
    }

    /// Waits for a frame of which this is so.
    fn wait_for(&self, what: &str, is_so: impl Fn(&[String]) -> bool) -> Vec<String> {
        wait_until(what, || is_so(&self.frame()));
        self.frame()
    }

    fn press(&mut self, keys: &str) {
        self.ours.write_all(keys.as_bytes()).unwrap();
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    }

    fn has_modes_of_before(&self) -> bool {
        modes(&self.theirs) == self.modes
    }

    /// Waits for its end, and looks whether the terminal is as it was.
    fn end(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the end of top", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        wait_until("the old screen", || {
            self.written()
                .trim_end()
                .ends_with("\x1b[?7h\x1b[?25h\x1b[?1049l")
        });
        assert!(self.has_modes_of_before());
        status.unwrap()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn modes(fd: &OwnedFd) -> String {
    format!("{:?}", tcgetattr(fd).unwrap())
}

fn set_size(fd: impl std::os::fd::AsFd, (columns, rows): (u16, u16)) {
    let size = Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(fd, size).unwrap();
}

fn without_colours(line: &str) -> String {
    let mut parts = line.split("\x1b[");
    let first = parts.next().unwrap_or_default().to_owned();
    first
        + &parts
            .filter_map(|part| part.split_once('m'))
            .fold(String::new(), |all, (_, text)| all + text)
}

fn top(setup: &Setup, more: &[&str]) -> Command {
    let mut command = command();
    command.arg("top").arg(&setup.config).args(more);
    command.env("TERM", "xterm").env("LC_ALL", "C.UTF-8");
    command.env_remove("NO_COLOR");
    command
}

fn has(frame: &[String], words: &[&str]) -> bool {
    let of = |line: &String| {
        let found: Vec<&str> = line.split_whitespace().collect();
        found.starts_with(words)
    };
    frame.iter().any(of)
}

/// A stream with one sink whose link is down: its file is a directory.
fn broken(name: &str) -> (Setup, Running) {
    let setup = Setup::lines_to_file(name);
    std::fs::create_dir_all(setup.out()).unwrap();
    let mut running = setup.serve(&[]);
    running.write(&lines(0..100));
    wait_until("tries", || number(&setup.stats(), "retriesTotal") > 0);
    (setup, running)
}

/// States, what waits, the last error, rates and their history; another size; and the way out.
#[test]
fn streams_and_sinks_are_seen_as_they_change() {
    let (setup, mut running) = broken("top-live");
    let mut screen = Screen::start(&top(&setup, &["--interval", "1"]), (100, 20));
    let frame = screen.wait_for("a stream that fails", |frame| {
        has(frame, &["telemetry", "failing"]) && has(frame, &["file", "link"])
    });
    assert!(frame[0].contains(" 1 of 1 streams not well "), "{frame:?}");
    assert!(frame.iter().any(|line| line.contains("Is a directory")));
    std::fs::remove_dir(setup.out()).unwrap();
    let frame = screen.wait_for("a stream that is well", |frame| {
        has(frame, &["telemetry", "live"]) && has(frame, &["file", "idle"])
    });
    assert!(frame[0].contains(" all well "), "{frame:?}");
    running.write(&lines(100..400));
    screen.wait_for("a rate and its history", |frame| {
        let line = frame.iter().find(|line| line.starts_with("telemetry"));
        line.is_some_and(|line| line.ends_with('█'))
    });

    let stopped = running.end().expect(0);
    assert!(stopped.err.contains("400 exported"), "{stopped:?}");
    screen.wait_for("its end", |frame| has(frame, &["telemetry", "stopped"]));
    for size in [(40, 6), (20, 4), (9, 2), (1, 1), (120, 20)] {
        set_size(&screen.ours, size);
        let (columns, rows) = (usize::from(size.0), usize::from(size.1));
        let frame = screen.wait_for("a frame of that size", |frame| {
            let fits = |line: &String| line.chars().count() < columns.max(2);
            frame.len() <= rows && frame.iter().all(fits) && (columns < 100 || frame.len() > 3)
        });
        assert!(!frame.is_empty());
    }
    assert!(!screen.has_modes_of_before());
    screen.press("q");
    assert!(screen.end().success());
    assert!(!screen.written().contains("panicked"));
}

/// However it ends, the terminal is given back; a signal is no failure of it.
#[test]
fn the_terminal_is_given_back_however_it_ends() {
    let setup = Setup::new("top-ends", NO_SINK, SMALL, STDIN);
    type End = fn(&mut Screen);
    let ends: [(&str, End); 6] = [
        ("Ctrl-C", |screen| screen.press("\x03")),
        ("SIGINT", |screen| screen.signal(Signal::INT)),
        ("SIGTERM", |screen| screen.signal(Signal::TERM)),
        ("SIGQUIT", |screen| screen.signal(Signal::QUIT)),
        ("SIGHUP", |screen| screen.signal(Signal::HUP)),
        ("count", |_| {}),
    ];
    for (name, end) in ends {
        let more: &[&str] = match name {
            "count" => &["--interval", "1", "--count", "2"],
            _ => &["--interval", "3600"],
        };
        let mut screen = Screen::start(&top(&setup, more), (80, 24));
        screen.wait_for("a frame", |frame| has(frame, &["telemetry", "absent"]));
        assert!(screen.written().starts_with("\x1b[?1049h"), "{name}");
        end(&mut screen);
        assert!(screen.end().success(), "{name}");
    }
}

/// Ctrl-Z gives the terminal back for as long as it is stopped.
#[test]
fn it_can_be_stopped_and_continued() {
    let setup = Setup::new("top-stops", NO_SINK, SMALL, STDIN);
    // Only what a shell has started can be stopped from a terminal.
    let top = top(&setup, &["--interval", "3600"]);
    let mut shell = Command::new("bash");
    shell.args(["--norc", "-c", "set -m; \"$@\"; read -r; fg >&2", "bash"]);
    shell.arg(top.get_program()).args(top.get_args());
    shell.env("TERM", "xterm");
    let mut screen = Screen::start(&shell, (80, 24));
    screen.wait_for("a frame", |frame| has(frame, &["telemetry", "absent"]));
    screen.press("\x1a");
    wait_until("the terminal's old modes", || screen.has_modes_of_before());
    wait_until("the old screen", || {
        screen.written().contains("\x1b[?1049l")
    });
    let frames = screen.written().matches("\x1b[H").count();
    screen.press("\n");
    wait_until("a frame again", || {
        screen.written().matches("\x1b[H").count() > frames
    });
    assert!(!screen.has_modes_of_before());
    screen.press("q");
    assert!(screen.end().success());
}

#[test]
fn colours_are_left_out_where_nobody_wants_them() {
    let setup = Setup::new("top-colours", NO_SINK, SMALL, STDIN);
    for (value, has_colours) in [("", true), ("1", false)] {
        let mut command = top(&setup, &["--interval", "3600"]);
        command.env("NO_COLOR", value);
        let mut screen = Screen::start(&command, (80, 24));
        screen.wait_for("a frame", |frame| has(frame, &["telemetry", "absent"]));
        assert_eq!(screen.written().contains("\x1b[31m"), has_colours);
        screen.press("q");
        assert!(screen.end().success());
    }
}

/// Rates are those of the interval, and there is nothing that only a terminal understands.
#[test]
fn into_a_pipe_it_is_lines_of_text() {
    let setup = Setup::lines_to_file("top-plain");
    let mut running = setup.serve(&[]);
    running.write(&lines(0..50));
    wait_until("delivery", || number(&setup.stats(), "exportedTotal") == 50);
    let ended = verb("top", &setup.config, &["--interval", "1", "--count", "2"]).expect(0);
    let tables: Vec<Vec<&str>> = ended
        .out()
        .trim_end()
        .split("\n\n")
        .map(|table| table.lines().collect())
        .collect();
    assert_eq!(tables.len(), 2, "{ended:?}");
    for table in &tables {
        assert!(table[0].ends_with('Z') && table[1].starts_with("STREAM "));
        let words =
            |line: &str| -> Vec<String> { line.split_whitespace().map(str::to_owned).collect() };
        let stream = words(table[2]);
        assert_eq!(stream[..7], ["telemetry", "-", "live", "0", "0", "0", "0"]);
        let sink = words(table[3]);
        assert_eq!(sink[..7], ["telemetry", "file", "idle", "-", "0", "0", "0"]);
    }
    assert!(!ended.out().contains('\x1b') && ended.err.is_empty());
    running.end().expect(0);

    // A terminal that can do nothing gets the same; and who closes a pipe ends it without a word.
    let mut dumb = top(&setup, &["--interval", "1", "--count", "1"]);
    let screen = Screen::start(dumb.env("TERM", "dumb"), (80, 24));
    wait_until("a table", || {
        screen.written().contains("telemetry  -     stopped")
    });
    assert!(!screen.written().contains('\x1b'));
    let mut piped = top(&setup, &["--interval", "1"]);
    let mut child = piped
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut said = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert!(child.wait().unwrap().success() && said.is_empty(), "{said}");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let setup = Setup::new("top-refuses", NO_SINK, SMALL, STDIN);
    for (more, text) in [
        (&["--interval", "0"][..], "--interval 0: must be 1..=3600"),
        (&["--interval", "3601"], "--interval 3601: must be 1..=3600"),
        (&["--count", "0"], "--count 0: must be at least 1"),
        (&["--interval", "x"], "--interval x: must be a number"),
        (&["more"], "\"more\" is one argument too many"),
    ] {
        let ended = verb("top", &setup.config, more).expect(2);
        assert!(ended.err.contains(text), "{ended:?}");
    }
    let ended = crate::process::forebay(&["top"]).expect(2);
    assert!(ended.err.contains("CONFIG or DIR is missing"));
}
