//! `demo`, run once as whoever tries it would.

use crate::process::{Scratch, forebay};

/// `G-102`, `L-4`, `L-101`: what the demo shows whoever tries it, on this machine.
#[test]
fn the_demo_ends_with_everything_that_was_promised() {
    let scratch = Scratch::new("demo");
    let dir = scratch.join("demo");
    let ended = forebay(&[
        "demo",
        "--seconds",
        "12",
        "--keep",
        "--dir",
        dir.to_str().unwrap(),
    ]);
    let ended = ended.expect(0);
    let value = |name: &str| {
        let line = ended.out().lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{name} in {ended:?}"))
            .trim()
            .to_owned()
    };
    assert!(value("SIGKILL:").contains(" durable, "));
    assert_eq!(value("in order"), "yes");
    assert_eq!(value("promised and missing"), "0");
    assert_eq!(value("never durable and delivered"), "0");
    assert_eq!(value("lines that make no sense"), "0");
    let appended = value("appended");
    let appended: u64 = appended.split(' ').next().unwrap().parse().unwrap();
    assert!(appended > 1000, "{appended}");
    let verdict = "everything that was promised has arrived, in order";
    assert!(ended.out().lines().any(|line| line == verdict), "{ended:?}");
    // What it leaves is a store like any other.
    let store = dir.join("data").join("host");
    assert!(value("kept in").contains(store.to_str().unwrap()));
    forebay(&["verify", store.to_str().unwrap()]).expect(0);
}
