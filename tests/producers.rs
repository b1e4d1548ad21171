//! What producers of the engine wait for, and what they are told, on a real file system with real threads.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)] // what tests share fails as they do

mod common;

mod producers {
    mod batches;
    mod room;
}
