//! What a broker sends: the same packets in parts and at once, and nothing longer than the bound.

#![no_main]

use forebay::input::mqtt::packet::{Inbox, Packet};
use libfuzzer_sys::fuzz_target;

const PAYLOAD_MAX: usize = 200;

/// All packets, in words, and the error behind them if there is one.
fn all(data: &[u8], step: usize) -> Vec<String> {
    let mut inbox = Inbox::new(PAYLOAD_MAX);
    let mut found = Vec::new();
    for part in data.chunks(step) {
        inbox.add(part);
        loop {
            match inbox.packet() {
                Ok(Some(packet)) => {
                    if let Packet::Message(message) = &packet {
                        assert!(message.payload.len() <= PAYLOAD_MAX && message.topic.len() <= 3 * 65_535);
                        assert!(!message.is_too_long || message.payload.len() <= 64);
                    }
                    found.push(format!("{packet:?}"));
                }
                Ok(None) => break,
                Err(error) => {
                    found.push(error.0.to_owned());
                    return found;
                }
            }
        }
    }
    found
}

fuzz_target!(|data: &[u8]| {
    let Some((first, data)) = data.split_first() else {
        return;
    };
    let at_once = all(data, data.len().max(1));
    let in_parts = all(data, 1 + usize::from(*first));
    assert_eq!(at_once, in_parts);
});
