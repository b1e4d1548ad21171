//! The other world: storage that loses power, a clock that is moved by hand, and the oracle.

#![allow(dead_code)] // each test uses what it needs

pub mod books;
pub mod clock;
pub mod delivery;
pub mod letters;
pub mod oracle;
pub mod plans;
pub mod random;
pub mod session;
pub mod shm;
pub mod sink;
pub mod storage;
