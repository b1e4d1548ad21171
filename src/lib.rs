//! An embedded store-and-forward telemetry engine for constrained ARM Linux gateways.

pub mod error;

#[doc(hidden)]
pub mod rules;

pub mod clock;

#[allow(unsafe_code)]
pub mod storage;

pub mod watermark;

pub mod counters;

pub mod record;

#[allow(unsafe_code)]
pub mod ring;

pub mod format;

pub mod segment;

pub mod log;

pub mod cursor;

pub mod syncer;

#[cfg(feature = "tls")]
pub mod tls;

pub mod sink;

pub mod exporter;

pub mod config;

pub mod engine;

pub use config::Config;
pub use engine::{Engine, Stream};
pub use error::{Code, Error, Result};
pub use record::{Record, RecordView, Source};
pub use storage::note_fault;

#[cfg(feature = "cli")]
pub mod input;

#[cfg(feature = "cli")]
pub mod service;

#[cfg(feature = "ffi")]
#[allow(unsafe_code)]
pub mod ffi;

#[cfg(feature = "cli")]
pub mod cli;
