//! A serial line, which here is a pseudo terminal.

use std::fs::File;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{ControlModes, InputModes, LocalModes, tcgetattr};

use crate::client::{stop_input, storing_with, wait_for};
use crate::process::{Running, Setup, payloads, wait_until};

/// The other end of a line that has this name from now on.
fn plug(path: &Path) -> File {
    let device = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&device).unwrap();
    unlockpt(&device).unwrap();
    let name = ptsname(&device, Vec::new()).unwrap();
    let _ = std::fs::remove_file(path);
    let name = std::ffi::OsStr::from_bytes(name.to_bytes());
    std::os::unix::fs::symlink(name, path).unwrap();
    File::from(device)
}

/// A stream that takes what comes over a line in its own directory.
fn listening(name: &str, more: &str) -> (Setup, std::path::PathBuf) {
    storing_with(name, |dir| {
        let path = dir.join("line");
        let input =
            format!(r#"{{"type": "serial", "stream": "telemetry", "path": {path:?} {more}}}"#);
        (input, path)
    })
}

fn serve(setup: &Setup) -> Running {
    let running = setup.serve(&[]);
    running.wait_for("input serial: listening at ");
    running
}

/// Ends it. What it says that the input has done.
fn stop(running: Running) -> String {
    stop_input(running, "serial")
}

#[test]
fn bytes_come_as_they_are_over_a_line_that_is_set_as_told() {
    let more = r#", "baud": 9600, "dataBits": 7, "parity": "odd", "stopBits": 2, "flowControl": "hardware",
        "propertiesFrom": {"line": "sender"}"#;
    let (setup, path) = listening("serial-set", more);
    let mut line = plug(&path);
    let running = serve(&setup);
    let modes = tcgetattr(&line).unwrap();
    let control = modes.control_modes;
    assert_eq!((modes.input_speed(), modes.output_speed()), (9600, 9600));
    // A pseudo terminal has eight bits and no parity, whatever it is told.
    let set =
        ControlModes::PARODD | ControlModes::CSTOPB | ControlModes::CRTSCTS | ControlModes::CLOCAL;
    assert!(control.contains(set), "{control:?}");
    let cooked = LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
    assert!(
        !modes.local_modes.intersects(cooked),
        "{:?}",
        modes.local_modes
    );
    assert!(
        !modes
            .input_modes
            .intersects(InputModes::ICRNL | InputModes::IXON)
    );
    // What a terminal would take for its own: an end of file, an interrupt, an erased letter.
    let parts: [&[u8]; 5] = [
        b"one\r\n\x04\x03",
        b"t",
        b"wo\x7f\n",
        b"\x11\x13\n",
        b"half",
    ];
    for part in parts {
        line.write_all(part).unwrap();
    }
    wait_for(&setup, 3);
    assert_eq!(stop(running), "3 records, 0 malformed, 0 refused");
    let stored = setup.stored();
    assert_eq!(payloads(&stored), ["one", "\x04\x03two\x7f", "\x11\x13"]);
    assert_eq!(stored[0]["properties"]["line"], path.to_str().unwrap());
}

#[test]
fn a_line_that_goes_is_opened_again_when_it_is_back() {
    let (setup, path) = listening("serial-gone", r#", "framing": "frames""#);
    let mut line = plug(&path);
    let running = serve(&setup);
    for n in 0..3_u8 {
        line.write_all(&[0, 0, 0, 1, b'0' + n]).unwrap();
        wait_for(&setup, u64::from(n) + 1);
        drop(line);
        running.wait_for(&format!("{}: ", path.display()));
        line = plug(&path);
        wait_until("the line", || {
            running.err().matches("listening at").count() == usize::from(n) + 2
        });
    }
    // No frames: it begins anew.
    line.write_all(b"GET / HTTP/1.1").unwrap();
    running.wait_for("what comes is no frames");
    wait_until("the line", || {
        running.err().matches("listening at").count() == 5
    });
    line.write_all(&[0, 0, 0, 1, b'3']).unwrap();
    wait_for(&setup, 4);
    let done = stop(running);
    assert!(
        done.starts_with("4 records, 1 malformed, 0 refused, "),
        "{done}"
    );
    assert_eq!(payloads(&setup.stored()), ["0", "1", "2", "3"]);
}

#[test]
fn what_is_no_line_is_named() {
    let (setup, path) = listening("serial-none", "");
    std::fs::write(&path, "").unwrap();
    let running = setup.serve(&[]);
    running.wait_for("it is no serial line");
    std::fs::remove_file(&path).unwrap();
    running.wait_for("No such file or directory");
    let mut line = plug(&path);
    running.wait_for("listening at");
    line.write_all(b"1\n").unwrap();
    wait_for(&setup, 1);
    stop(running);
}
