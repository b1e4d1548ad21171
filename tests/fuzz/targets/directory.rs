//! A store that is changed in every way: bytes, lengths, names, with checksums made right again or not.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use support::{seal_file, template, try_all};

static TEMPLATE: OnceLock<Vec<(String, Vec<u8>)>> = OnceLock::new();

/// Takes numbers from the front of bytes; behind the end all are zero.
struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn next(&mut self, count: usize) -> usize {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte))
    }
}

fuzz_target!(|data: &[u8]| {
    let mut files = TEMPLATE.get_or_init(template).clone();
    let mut numbers = Numbers(data);
    while !numbers.0.is_empty() && !files.is_empty() {
        let at = numbers.next(1) % files.len();
        let op = numbers.next(1);
        let (name, bytes) = &mut files[at];
        match op % 8 {
            // Bytes in a header of some page, or anywhere.
            0..=3 => {
                let (page, place) = (numbers.next(1), numbers.next(2));
                let place = match op % 2 {
                    0 => page * 4096 + place % 128,
                    _ => page * 4096 + place,
                };
                let len = 1 + numbers.next(1) % 8;
                let value = numbers.next(len);
                let value = value.to_le_bytes();
                for (byte, value) in bytes.iter_mut().skip(place).zip(value).take(len) {
                    *byte = value;
                }
                if op & 16 == 0 {
                    seal_file(name, bytes);
                }
            }
            4 => bytes.truncate(numbers.next(3)),
            5 => {
                files.swap_remove(at);
            }
            6 => {
                let names = ["segment-000001", "segment-000007", "damaged-000002-3", "lock", "checkpoint"];
                let new = names[numbers.next(1) % names.len()].to_owned();
                let bytes = bytes.clone();
                files.retain(|(name, _)| *name != new);
                files.push((new, bytes));
            }
            _ => {
                // A page of one file in the place of another one.
                let (from, to) = (numbers.next(1) * 4096, numbers.next(1) * 4096);
                let other = numbers.next(1) % files.len();
                let page: Vec<u8> = files[other].1.iter().skip(from).take(4096).copied().collect();
                for (byte, value) in files[at].1.iter_mut().skip(to).zip(page) {
                    *byte = value;
                }
            }
        }
    }
    try_all(&files);
});
