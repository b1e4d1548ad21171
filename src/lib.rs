//! An embedded store-and-forward telemetry engine for constrained ARM Linux gateways.

pub mod clock;
pub mod counters;
pub mod error;
pub mod record;
#[allow(unsafe_code)]
pub mod ring;
#[allow(unsafe_code)]
pub mod storage;
pub mod watermark;
