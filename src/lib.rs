//! An embedded store-and-forward telemetry engine for constrained ARM Linux gateways.

pub mod clock;
pub mod counters;
pub mod cursor;
pub mod error;
pub mod format;
pub mod log;
pub mod record;
#[allow(unsafe_code)]
pub mod ring;
pub mod segment;
#[allow(unsafe_code)]
pub mod storage;
pub mod syncer;
pub mod watermark;
