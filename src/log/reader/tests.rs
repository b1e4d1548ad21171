//! A reader beside a writer.

use super::*;
use crate::log::tests::{append, log_in};
use crate::storage::ram_dir;

/// Where something is missing a reader looks again when more became durable meanwhile, and not for ever.
#[test]
fn a_reader_that_was_overtaken_looks_again_though_not_for_ever() {
    let mut log = log_in(&ram_dir(8 << 20)).log;
    let mut reader = Reader::new(Arc::clone(log.shared()), Arc::clone(&log.clock)).unwrap();
    let mut commit = || {
        append(&mut log, 1);
        log.commit().unwrap();
    };
    reader.want = 7;
    assert!(!reader.was_overtaken(), "nothing became durable");
    for _ in 1..OVERTAKEN_MAX {
        commit();
        assert!(reader.was_overtaken());
    }
    commit();
    assert!(!reader.was_overtaken(), "enough");
    reader.want = 8;
    assert!(!reader.was_overtaken(), "it was seen already");
    commit();
    assert!(reader.was_overtaken(), "another record");
    assert!(!reader.was_overtaken());
}
