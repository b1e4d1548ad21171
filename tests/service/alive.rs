//! Whether threads are alive, told from outside of them.

use std::path::Path;
use std::time::Duration;

use forebay::Config;
use forebay::clock::{Clock, System};
use forebay::engine::Engine;
use forebay::service::Alive;

use crate::gate::{Gate, Syncs};
use crate::process::{Scratch, wait_until};

fn config(scratch: &Path) -> Config {
    let text = format!(
        r#"{{"dataDir": {:?}, "runDir": {:?}, "streams": [{{"name": "s", "sink": {{"type": "none"}},
            "buffer": {{"volatile": "allow", "fsyncIntervalMs": 10, "segmentBytes": 1048576,
                "maxDiskBytes": 16777216}}}}]}}"#,
        scratch.join("data"),
        scratch.join("run")
    );
    Config::from_json(&text).unwrap()
}

/// `L-81`: a thread that hangs in a system call is seen, whatever the others do; and no more when it goes on.
#[test]
fn a_thread_that_hangs_is_told_from_one_that_has_nothing_to_do() {
    let scratch = Scratch::new("alive");
    let gate = Gate::default();
    let engine = Engine::open_in(&config(scratch.path()), &gate.world()).unwrap();
    let stream = engine.stream("s").unwrap();
    let clock = System::new();
    let mut alive = Alive::new(Duration::from_millis(200), Duration::from_millis(10));
    // At rest, for longer than a turn may take.
    for _ in 0..10 {
        assert_eq!(alive.look(&engine, clock.mono()), None);
        std::thread::sleep(Duration::from_millis(50));
    }
    gate.set(Syncs::Stalled);
    stream.append(b"k", 1, b"x").unwrap();
    let mut said = String::new();
    wait_until("the thread to be missed", || {
        said = alive.look(&engine, clock.mono()).unwrap_or_default();
        !said.is_empty()
    });
    assert!(
        said.starts_with("thread forebay-sync has been at one turn for ")
            || said.starts_with("s: 1 records wait, nothing is synced for "),
        "{said}"
    );
    gate.set(Syncs::Done);
    stream.flush(Duration::from_secs(10)).unwrap();
    wait_until("the thread to be back", || {
        alive.look(&engine, clock.mono()).is_none()
    });
    // A sync that fails is a thread that tries.
    gate.set(Syncs::Failed);
    stream.append(b"k", 1, b"x").unwrap();
    for _ in 0..10 {
        assert_eq!(alive.look(&engine, clock.mono()), None);
        std::thread::sleep(Duration::from_millis(50));
    }
    gate.set(Syncs::Done);
    engine.close(Duration::from_secs(10)).unwrap();
}
