//! The `kinesis` sink against a server that checks each request as the service does, and answers as badly
//! as a service and a bad line can.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)] // what tests share fails as they do

mod common;

mod kinesis {
    mod aggregates;
    mod credentials;
    mod delivery;
    mod encodings;
    mod faults;
    mod flaps;
    mod proxy;
    mod readers;
    mod server;
    mod shards;
    mod signature;
    mod time;
    mod tls;
    mod wire;
}
