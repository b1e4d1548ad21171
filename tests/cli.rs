//! The binary as its users see it: every verb is run as a real process.
//!
//! A verb ends with 0 when it is done, with 1 when it found or had a failure, with 2 when it was called
//! wrongly; results go to standard output, talk to standard error, and nothing makes it panic.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // a test is not behind the seams
#![allow(clippy::unnecessary_debug_formatting)] // a path in quotes is a path in JSON

#[path = "cli/config.rs"]
mod config;
#[path = "cli/cursors.rs"]
mod cursors;
#[path = "cli/demo.rs"]
mod demo;
#[path = "cli/garbage.rs"]
mod garbage;
#[path = "cli/init.rs"]
mod init;
#[path = "cli/inputs.rs"]
mod inputs;
#[path = "cli/letters.rs"]
mod letters;
#[path = "cli/look.rs"]
mod look;
#[path = "common/process.rs"]
mod process;
#[path = "cli/read.rs"]
mod read;
#[path = "cli/repair.rs"]
mod repair;
#[path = "cli/serve.rs"]
mod serve;
#[path = "cli/top.rs"]
mod top;
#[path = "cli/usage.rs"]
mod usage;
