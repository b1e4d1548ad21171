//! A segment of arbitrary pages, with or without right checksums: scanned, read, written behind.

#![no_main]

use libfuzzer_sys::fuzz_target;
use support::{seal_file, template, try_all};

fuzz_target!(|data: &[u8]| {
    let Some((first, rest)) = data.split_first() else {
        return;
    };
    let (_, mut bytes) = template_segment();
    // Where a byte of the input is not zero, it changes one of the segment.
    let from = if first & 8 == 0 { 0 } else { 8192 + 4096 * usize::from(first >> 4) };
    for (byte, change) in bytes.iter_mut().skip(from).zip(rest) {
        *byte ^= change;
    }
    if first & 1 == 0 {
        seal_file("segment-000001", &mut bytes);
    }
    if first & 2 == 0 {
        bytes.truncate(8192 + rest.len().max(65_536));
    }
    let mut files = vec![("segment-000001".to_owned(), bytes)];
    if first & 4 == 0 {
        // All of it is the input.
        files[0].1 = rest.to_vec();
        seal_file("segment-000001", &mut files[0].1);
    }
    try_all(&files);
});

fn template_segment() -> (String, Vec<u8>) {
    use std::sync::OnceLock;
    static SEGMENT: OnceLock<(String, Vec<u8>)> = OnceLock::new();
    let find = || {
        let mut files = template().into_iter();
        files.find(|(name, _)| name == "segment-000001").unwrap()
    };
    SEGMENT.get_or_init(find).clone()
}
