//! The body of a request: JSON, in one buffer that is used again.
//!
//! ```text
//!  {"StreamName":"…","Records":[{"Data":"<base64>","PartitionKey":"pump-7"},{…}]}
//! ```
//!
//! The service counts the bytes of a record's key and of its data before base64. A key must be 1 to 256
//! characters; one that is not is mapped, the same each time: bytes that are not text to their digits, what
//! is too long to a checksum, and no key at all to the record's offset, so that such records spread.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use heapless::String as Short;

/// The most characters of a key.
const KEY_CHARS_MAX: usize = 256;
/// The longest key that is made here, in bytes: `hex:` and digits.
const MAPPED_LEN_MAX: usize = KEY_CHARS_MAX;
/// What stands around a record's data and key.
const FRAME_LEN: usize = r#"{"Data":"","PartitionKey":""},"#.len();
/// A byte of a key takes so many at most: `\u0000`.
const ESCAPED_LEN_MAX: usize = 6;

/// What a request may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_field_names)] // what is a bound ends so
pub struct Bounds {
    /// The most records.
    pub records_max: usize,
    /// The most bytes of keys and data together.
    pub bytes_max: usize,
    /// The most bytes of one record's key and data.
    pub record_bytes_max: usize,
}

/// What became of a record that was to be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is in the request.
    Here,
    /// It has no room in this request.
    NextTime,
    /// It fits into no request.
    Never,
}

/// Collects records.
#[derive(Debug)]
pub struct Body {
    bounds: Bounds,
    /// What each body begins with.
    head: Vec<u8>,
    bytes: Vec<u8>,
    records: usize,
    /// Of keys and data.
    len: usize,
    mapped: u64,
}

/// A key as the service takes it.
#[allow(clippy::large_enum_variant)] // it lives on the stack, for one record
enum Key<'a> {
    Own(&'a str),
    Mapped(Short<MAPPED_LEN_MAX>),
}

impl Key<'_> {
    fn text(&self) -> &str {
        match self {
            Key::Own(text) => text,
            Key::Mapped(text) => text,
        }
    }
}

impl Body {
    /// For requests to a stream. Takes no memory for records yet.
    pub fn new(stream_name: &str, bounds: Bounds) -> Self {
        let mut head = br#"{"StreamName":"#.to_vec();
        push_string(&mut head, stream_name);
        head.extend_from_slice(br#","Records":["#);
        Self {
            bounds,
            head,
            bytes: Vec::new(),
            records: 0,
            len: 0,
            mapped: 0,
        }
    }

    /// The most bytes that a body of such bounds has.
    pub fn size_max(bounds: Bounds) -> usize {
        // Escapes are not counted: a key full of control characters makes the buffer grow.
        bounds.bytes_max / 3 * 4 + bounds.records_max * (FRAME_LEN + 4) + 1024
    }

    /// Begins anew.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.extend_from_slice(&self.head);
        (self.records, self.len) = (0, 0);
    }

    /// Adds a record if it has room. Allocates only while the buffer grows.
    pub fn add(&mut self, offset: u64, key: &[u8], data: &[u8]) -> Added {
        let key = map_key(offset, key);
        let len = key.text().len() + data.len();
        if len > self.bounds.record_bytes_max || len > self.bounds.bytes_max {
            return Added::Never;
        }
        if self.records == self.bounds.records_max || self.len + len > self.bounds.bytes_max {
            return Added::NextTime;
        }
        if let Key::Mapped(_) = key {
            self.mapped += 1;
        }
        let room = FRAME_LEN + data.len().div_ceil(3) * 4 + key.text().len() * ESCAPED_LEN_MAX;
        self.bytes.reserve(room);
        if self.records > 0 {
            self.bytes.push(b',');
        }
        self.bytes.extend_from_slice(br#"{"Data":""#);
        push_base64(&mut self.bytes, data);
        self.bytes.extend_from_slice(br#"","PartitionKey":"#);
        push_string(&mut self.bytes, key.text());
        self.bytes.push(b'}');
        self.records += 1;
        self.len += len;
        Added::Here
    }

    /// The whole body. Nothing is added to it any more.
    pub fn finish(&mut self) -> &[u8] {
        self.bytes.extend_from_slice(b"]}");
        &self.bytes
    }

    /// How many keys were mapped since the last time.
    pub fn take_mapped(&mut self) -> u64 {
        std::mem::take(&mut self.mapped)
    }
}

fn push_base64(bytes: &mut Vec<u8>, data: &[u8]) {
    let at = bytes.len();
    bytes.resize(at + data.len().div_ceil(3) * 4, 0);
    let written = STANDARD.encode_slice(data, &mut bytes[at..]).unwrap_or(0);
    assert_eq!(at + written, bytes.len(), "its size is known");
}

fn push_string(bytes: &mut Vec<u8>, text: &str) {
    // Writing text to memory cannot fail.
    let _ = serde_json::to_writer(bytes, text);
}

fn map_key(offset: u64, key: &[u8]) -> Key<'_> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let text = std::str::from_utf8(key).ok();
    if let Some(text) = text
        && !text.is_empty()
        && (text.len() <= KEY_CHARS_MAX || text.chars().count() <= KEY_CHARS_MAX)
    {
        return Key::Own(text);
    }
    let mut mapped = Short::new();
    let mut push = |prefix: &str, bytes: &[u8]| {
        // What is pushed is never longer than there is room.
        let _ = mapped.push_str(prefix);
        for byte in bytes {
            let _ = mapped.push(char::from(DIGITS[usize::from(byte >> 4)]));
            let _ = mapped.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    };
    match key.len() {
        0 => push("offset:", &spread(offset).to_be_bytes()),
        len if text.is_none() && "hex:".len() + len * 2 <= MAPPED_LEN_MAX => push("hex:", key),
        _ => push("fnv:", &fnv(key).to_be_bytes()),
    }
    Key::Mapped(mapped)
}

/// Neighbours become far apart: the mixing of splitmix64 (Steele, Lea, Flood: Fast splittable
/// pseudorandom number generators, 2014).
fn spread(offset: u64) -> u64 {
    let z = offset.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}

/// FNV-1a of 128 bits.
fn fnv(bytes: &[u8]) -> u128 {
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    let mix = |hash: u128, byte: &u8| (hash ^ u128::from(*byte)).wrapping_mul(PRIME);
    bytes.iter().fold(BASIS, mix)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        records_max: 3,
        bytes_max: 100,
        record_bytes_max: 60,
    };

    fn text(body: &mut Body) -> String {
        String::from_utf8(body.finish().to_vec()).unwrap()
    }

    fn key(bytes: &[u8]) -> String {
        map_key(7, bytes).text().to_owned()
    }

    #[test]
    fn a_body_is_what_the_service_documents() {
        let mut body = Body::new("tele\"metry", BOUNDS);
        body.clear();
        assert_eq!(body.add(0, b"pump-7", b"\xffab"), Added::Here);
        assert_eq!(body.add(1, "ä\n".as_bytes(), b""), Added::Here);
        let expected = concat!(
            r#"{"StreamName":"tele\"metry","Records":[{"Data":"/2Fi","PartitionKey":"pump-7"},"#,
            r#"{"Data":"","PartitionKey":"ä\n"}]}"#
        );
        assert_eq!(text(&mut body), expected);
        body.clear();
        body.add(0, b"k", b"a");
        let expected =
            r#"{"StreamName":"tele\"metry","Records":[{"Data":"YQ==","PartitionKey":"k"}]}"#;
        assert_eq!(text(&mut body), expected);
    }

    /// `G-039`, `L-93`, `L-96`: count, bytes and the longest record, each at its exact edge.
    #[test]
    fn a_request_keeps_its_bounds_to_the_byte() {
        let mut body = Body::new("s", BOUNDS);
        body.clear();
        assert_eq!(body.add(0, b"k", &[0; 59]), Added::Here); // 60 of 60
        assert_eq!(body.add(1, b"k", &[0; 60]), Added::Never);
        assert_eq!(body.add(1, b"k", &[0; 40]), Added::NextTime); // 101 of 100
        assert_eq!(body.add(1, b"k", &[0; 39]), Added::Here); // 100 of 100
        body.clear();
        for offset in 0..3 {
            assert_eq!(body.add(offset, b"k", b""), Added::Here);
        }
        assert_eq!(body.add(3, b"k", b""), Added::NextTime);
        // What is longer than a request, although a record may be: never.
        let mut body = Body::new(
            "s",
            Bounds {
                record_bytes_max: 200,
                ..BOUNDS
            },
        );
        body.clear();
        assert_eq!(body.add(0, b"k", &[0; 99]), Added::Here);
        body.clear();
        assert_eq!(body.add(0, b"k", &[0; 100]), Added::Never);
    }

    /// `G-039`, `L-93`: whatever sizes come, no request is over a bound, and no record is left out that
    /// has room.
    #[test]
    fn requests_of_random_sizes_keep_all_bounds_and_are_filled() {
        let mut state = 1;
        let mut random = |below: u64| {
            state = spread(state);
            usize::try_from(state % below).unwrap()
        };
        for _ in 0..300 {
            let bounds = Bounds {
                records_max: 1 + random(8),
                bytes_max: 1 + random(300),
                record_bytes_max: 1 + random(150),
            };
            let mut body = Body::new("s", bounds);
            body.clear();
            let (mut records, mut bytes) = (0, 0);
            for offset in 0..100 {
                let (key, data) = (vec![b'k'; 1 + random(20)], vec![0; random(150)]);
                let len = key.len() + data.len();
                let is_too_long = len > bounds.record_bytes_max || len > bounds.bytes_max;
                let is_full = records == bounds.records_max || bytes + len > bounds.bytes_max;
                match body.add(offset, &key, &data) {
                    Added::Never => assert!(is_too_long),
                    Added::NextTime => {
                        assert!(is_full && !is_too_long);
                        body.clear();
                        (records, bytes) = (0, 0);
                    }
                    Added::Here => {
                        assert!(!is_full && !is_too_long);
                        (records, bytes) = (records + 1, bytes + len);
                    }
                }
            }
        }
    }

    /// `G-042`: what the service would refuse is mapped, the same each time, and counted.
    #[test]
    fn keys_that_the_service_refuses_are_mapped() {
        assert_eq!(key("ä".repeat(256).as_bytes()), "ä".repeat(256));
        let long = "ä".repeat(257);
        assert!(key(long.as_bytes()).starts_with("fnv:"));
        assert_eq!(key(long.as_bytes()).len(), 4 + 32);
        assert_eq!(key(&[0xff; 126]), format!("hex:{}", "ff".repeat(126)));
        assert_eq!(key(&[0xff; 127]).len(), 4 + 32);
        assert_ne!(key(&[0xff; 127]), key(&[0xff; 128]));
        // The published value of FNV-1a for "a".
        assert_eq!(fnv(b"a"), 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964);
        assert_eq!(key(b""), key(b""));
        assert_ne!(map_key(8, b"").text(), key(b""));
        let mut body = Body::new("s", BOUNDS);
        body.clear();
        body.add(0, b"", b"");
        body.add(1, b"k", b"");
        body.add(2, b"\xff", b"");
        assert_eq!((body.take_mapped(), body.take_mapped()), (2, 0));
    }
}
