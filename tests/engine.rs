//! The engine as its users see it, on a real file system, with real threads.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)] // what tests share fails as they do

mod common;

mod engine {
    mod api;
    mod damage;
    mod delivery;
    mod durability;
    mod events;
    mod lanes;
    mod memory;
    mod strict;
}
