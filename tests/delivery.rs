//! From the log to the sinks: at least once, in order, and what is not delivered is counted.
//!
//! Syncer, log and exporters are those of the engine; disk, clock and sinks are simulated, so all of it
//! runs in one thread, and hours take milliseconds.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)] // what tests share fails as they do

mod sim;

mod delivery {
    mod ages;
    mod bench;
    mod drops;
    mod lanes;
    mod letters;
    mod lives;
    mod pace;
    mod repeats;
    mod reserve;
    mod retry;
    mod times;

    use bench::Bench;
}
