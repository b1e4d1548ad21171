//! Configurations: refused with a reason, or a document that means the same when it is printed.

#![no_main]

use forebay::Config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Err(error) = Config::from_json(text) {
        assert!(!error.to_string().is_empty());
    }
});
