//! The head of a request by HTTP, as it comes in parts: what was said of a part stays so, and nobody is let in by chance.

#![no_main]

use forebay::service::http::request::{HEAD_SIZE, Parsed, parse};
use libfuzzer_sys::fuzz_target;

/// Nobody knows it.
const TOKEN: &str = "7c0444d1-0c5e-4b6f-8a53-2f1d92f0be6a";

fuzz_target!(|data: &[u8]| {
    let (cut, head) = data.split_first().unwrap_or((&0, &[]));
    // The server reads no more.
    let head = &head[..head.len().min(HEAD_SIZE)];
    let whole = parse(head);
    let part = &head[..head.len() * usize::from(*cut) / 256];
    match parse(part) {
        Parsed::Partial => assert!(part.len() < HEAD_SIZE),
        said => assert_eq!(said, whole),
    }
    match whole {
        Parsed::Partial => assert!(head.len() < HEAD_SIZE),
        Parsed::Bad(status, why) => {
            assert!([400, 405, 431].contains(&status) && !why.is_empty());
        }
        Parsed::Request(request) => {
            assert!(!request.path.contains(['?', '\r', '\n', ' ']));
            assert!(!request.is_allowed(Some(TOKEN)));
            let names_no_host = !head
                .to_ascii_lowercase()
                .windows(5)
                .any(|five| five == b"host:");
            assert!(!names_no_host || request.is_allowed(None));
        }
    }
});
