//! Inputs from sockets, as those see them who send: what is taken, what is answered, what is counted.

#![cfg(feature = "inputs")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // a test is not behind the seams
#![allow(clippy::unnecessary_debug_formatting)] // a path in quotes is a path in JSON

#[path = "inputs/acknowledged.rs"]
mod acknowledged;
#[path = "inputs/broker.rs"]
mod broker;
#[path = "inputs/client.rs"]
mod client;
#[path = "inputs/datagrams.rs"]
mod datagrams;
#[path = "inputs/exec.rs"]
mod exec;
#[path = "inputs/hostile.rs"]
mod hostile;
#[path = "inputs/killed.rs"]
mod killed;
#[path = "inputs/mqtt.rs"]
mod mqtt;
#[path = "inputs/page.rs"]
mod page;
#[path = "common/process.rs"]
mod process;
#[cfg(feature = "input-mqtt-tls")]
#[path = "inputs/secure.rs"]
mod secure;
#[path = "inputs/serial.rs"]
mod serial;
#[path = "inputs/streams.rs"]
mod streams;
#[path = "inputs/tail.rs"]
mod tail;
#[path = "inputs/tap.rs"]
mod tap;
