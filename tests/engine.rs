//! The engine as its users see it, on a real file system, with real threads.

mod common;

mod engine {
    mod api;
    mod delivery;
    mod durability;
}
