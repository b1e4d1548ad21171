//! Start and end under a service manager, on good days and bad ones.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::manager::Manager;
use crate::process::{NO_SINK, Running, SMALL, STDIN, Setup, lines, number, payloads, wait_until};

/// Long enough that no machine is too slow, and short enough to wait for.
const WATCHDOG: Duration = Duration::from_millis(200);

/// A sink whose link is down for ever: its file is a directory.
fn link_down(setup: &Setup) {
    std::fs::create_dir_all(setup.out()).unwrap();
}

/// Readiness comes when what was stored is recovered, and the end is told before it comes; by a socket in the
/// file system, and by one without a file.
#[test]
fn a_service_manager_hears_of_readiness_of_the_state_and_of_the_end() {
    let setup = Setup::lines_to_file("notify");
    setup.append(&lines(0..100));
    for manager in [
        Manager::at(&setup.scratch.join("notify.socket")),
        Manager::of_no_file("notify"),
    ] {
        let running = Running::start(manager.watches(&mut setup.run(&[]), WATCHDOG));
        manager.wait_for("READY=1");
        assert_eq!(manager.lines()[0], "READY=1");
        let found = number(&setup.stats(), "nextOffset");
        assert!(found >= 100, "ready before it had recovered");
        manager.wait_for("STATUS=1 streams: ");
        running.signal(Signal::TERM);
        manager.wait_for("STOPPING=1");
        manager.wait_for("EXTEND_TIMEOUT_USEC=");
        running.wait().expect(0);
    }
    assert_eq!(setup.delivered().len(), 100);
}

/// `L-81`: the watchdog is fed while there is work, while there is none, and while the link is down.
#[test]
fn the_watchdog_is_fed_while_every_thread_makes_progress_or_has_nothing_to_do() {
    let setup = Setup::lines_to_file("watchdog");
    link_down(&setup);
    let manager = Manager::of_no_file("watchdog");
    let mut running = Running::start(manager.watches(&mut setup.run(&[]), WATCHDOG));
    let fed_again = |what: &str| {
        let before = manager.count("WATCHDOG=1");
        wait_until(what, || manager.count("WATCHDOG=1") >= before + 5);
    };
    fed_again("at rest");
    running.write(&lines(0..200));
    wait_until("tries", || number(&setup.stats(), "retriesTotal") > 0);
    fed_again("with the link down");
    manager.wait_for("STATUS=1 streams: 200 appended, 0 exported, 200 to go, 0 dropped, 1 sinks");
    std::fs::remove_dir(setup.out()).unwrap();
    wait_until("delivery", || number(&setup.stats(), "backlog") == 0);
    fed_again("after delivery");
    running.end().expect(0);
}

/// Without a manager there is nobody to wake up for.
#[test]
fn nobody_is_told_where_nobody_listens() {
    let setup = Setup::new("no-manager", NO_SINK, SMALL, STDIN);
    let nowhere = setup.scratch.join("nobody");
    let mut command = setup.run(&[]);
    command.env("NOTIFY_SOCKET", nowhere);
    let mut running = Running::start(command.env("WATCHDOG_USEC", "100000"));
    running.wait_for("serving");
    running.write(&lines(0..10));
    running.end().expect(0);
    assert_eq!(setup.stored().len(), 10);
}

/// `L-9`: after a signal sinks deliver as long as half of `shutdownMs`, and what is left is said.
#[test]
fn a_signal_ends_the_process_within_its_time_and_says_what_is_left() {
    let setup = Setup::new("shutdown", r#"{"type": "stdout"}"#, SMALL, STDIN);
    let text = std::fs::read_to_string(&setup.config).unwrap();
    let text = text.replacen('{', r#"{"service": {"shutdownMs": 2000},"#, 1);
    std::fs::write(&setup.config, text).unwrap();
    // A reader that does not read: its sink is stuck, and said to work.
    let (mut running, pipe) = Running::start_with_pipe(&mut setup.run(&[]));
    running.wait_for("serving");
    running.write(&lines(0..5000));
    wait_until("the lines", || {
        number(&setup.stats(), "durableOffset") == 5000
    });
    let began = Instant::now();
    running.signal(Signal::TERM);
    let ended = running.wait().expect(1);
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(900), "{took:?} {ended:?}");
    assert!(took < Duration::from_millis(3500), "{took:?} {ended:?}");
    assert!(ended.err.contains("5000 still stored"), "{ended:?}");
    drop(pipe);
    let stored = setup.stored();
    assert_eq!(payloads(&stored).len(), 5000);
}

/// Mounts a small file system, unmounted when dropped. `None`: only root may, and standard error says so.
struct Mount(PathBuf);

impl Mount {
    fn new(path: PathBuf, options: &str) -> Option<Self> {
        std::fs::create_dir_all(&path).unwrap();
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "forebay-test"])
            .arg(&path)
            .status();
        if done.is_ok_and(|status| status.success()) {
            return Some(Self(path));
        }
        eprintln!("NOT RUN: nothing can be mounted here");
        None
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// `L-16`: with the disk full, a run takes records at once or says within a second that it does not, and why.
#[test]
fn on_a_full_disk_a_run_says_so_within_a_second() {
    let setup = Setup::new("full", NO_SINK, SMALL, STDIN);
    let Some(mount) = Mount::new(setup.scratch.join("data"), "size=4m") else {
        return;
    };
    let room = vec![7; 8 << 20];
    let _ = std::fs::write(mount.0.join("others"), &room);
    let manager = Manager::of_no_file("full");
    let began = Instant::now();
    let running = Running::start(manager.watches(&mut setup.run(&[]), WATCHDOG));
    let mut state = String::new();
    wait_until("a state", || {
        state = running.err();
        state.contains("serving") || state.contains("forebay: ")
    });
    assert!(began.elapsed() < Duration::from_secs(1), "{state}");
    if state.contains("forebay: ") {
        assert!(state.contains("No space left"), "{state}");
        manager.wait_for("STATUS=");
        assert_eq!(running.wait().status.code(), Some(1));
    } else {
        manager.wait_for("READY=1");
    }
}

/// `L-16`: the same with a disk that cannot be written to.
#[test]
fn on_a_disk_that_is_read_only_a_run_says_so_within_a_second() {
    let setup = Setup::new("read-only", NO_SINK, SMALL, STDIN);
    let Some(_mount) = Mount::new(setup.scratch.join("data"), "size=4m,ro") else {
        return;
    };
    let manager = Manager::of_no_file("read-only");
    let began = Instant::now();
    let running = Running::start(manager.watches(&mut setup.run(&[]), WATCHDOG));
    let ended = running.wait();
    assert!(began.elapsed() < Duration::from_secs(1), "{ended:?}");
    assert!(ended.expect(1).err.contains("Read-only file system"));
    manager.wait_for("STATUS=");
    assert!(
        manager
            .lines()
            .iter()
            .any(|line| line.contains("Read-only"))
    );
    assert_eq!(manager.count("READY=1"), 0);
}

/// `L-16`: without any network, not even its own, a run takes records and stores them within a second.
#[test]
fn without_a_network_a_run_stores_within_a_second() {
    let setup = Setup::lines_to_file("no-network");
    link_down(&setup);
    let alone = Command::new("unshare").args(["-rn", "true"]).status();
    if !alone.is_ok_and(|status| status.success()) {
        eprintln!("NOT RUN: no network of its own can be had here");
        return;
    }
    let mut command = Command::new("unshare");
    command.args(["-rn", env!("CARGO_BIN_EXE_forebay"), "run"]);
    command.arg(&setup.config);
    let manager = Manager::at(&setup.scratch.join("notify.socket"));
    let began = Instant::now();
    let mut running = Running::start(manager.watches(&mut command, WATCHDOG));
    running.write(&lines(0..10));
    manager.wait_for("READY=1");
    wait_until("the lines", || setup.stored().len() == 10);
    // Half of it is for the looks of another process.
    assert!(began.elapsed() < Duration::from_secs(2));
    assert!(manager.when("READY=1") - began < Duration::from_secs(1));
    running.end().expect(0);
}
