//! The binary as a service: what its manager hears of it, what it says, and how it is seen from outside.

#![cfg(feature = "cli")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // a test is not behind the seams
#![allow(clippy::unnecessary_debug_formatting)] // a path in quotes is a path in JSON

#[path = "service/alive.rs"]
mod alive;
#[path = "common/gate.rs"]
#[allow(dead_code)] // others hold up more
mod gate;
#[path = "service/hook.rs"]
mod hook;
#[cfg(feature = "http")]
#[path = "service/hostile.rs"]
mod hostile;
#[cfg(all(feature = "http", feature = "inputs"))]
#[path = "service/inputs.rs"]
mod inputs;
#[path = "service/life.rs"]
mod life;
#[path = "service/manager.rs"]
mod manager;
#[cfg(feature = "http")]
#[path = "service/outside.rs"]
mod outside;
#[cfg(feature = "http")]
#[path = "service/page.rs"]
mod page;
#[path = "common/process.rs"]
mod process;
#[cfg(feature = "http")]
#[path = "service/prometheus.rs"]
mod prometheus;
#[path = "service/reload.rs"]
mod reload;
#[path = "service/said.rs"]
mod said;
