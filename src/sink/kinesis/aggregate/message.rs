//! The message that an aggregate is: protocol buffers, as much of them as it takes.

use md5::{Digest, Md5};

/// What an aggregate begins with.
pub const MAGIC: [u8; 4] = [0xf3, 0x89, 0x9a, 0xc2];
/// Of the checksum behind it.
pub const SUM_LEN: usize = 16;
pub const TAG_KEY: u8 = 0x0a;
pub const TAG_HASH_KEY: u8 = 0x12;
const TAG_RECORD: u8 = 0x1a;
const TAG_KEY_PLACE: u8 = 0x08;
const TAG_HASH_KEY_PLACE: u8 = 0x10;
const TAG_DATA: u8 = 0x1a;

fn varint_len(number: usize) -> usize {
    let bits = usize::BITS - number.leading_zeros();
    bits.max(1).div_ceil(7) as usize
}

fn push_varint(bytes: &mut Vec<u8>, mut number: usize) {
    while number > 127 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

pub fn field_len(len: usize) -> usize {
    1 + varint_len(len) + len
}

pub fn push_field(bytes: &mut Vec<u8>, tag: u8, data: &[u8]) {
    bytes.push(tag);
    push_varint(bytes, data.len());
    bytes.extend_from_slice(data);
}

/// What is in a record: the places of its keys, and its data.
pub fn record_len(key: u32, data_len: usize) -> usize {
    1 + varint_len(key as usize) + 2 + field_len(data_len)
}

pub fn push_record(bytes: &mut Vec<u8>, key: u32, data: &[u8]) {
    bytes.push(TAG_RECORD);
    push_varint(bytes, record_len(key, data.len()));
    bytes.push(TAG_KEY_PLACE);
    push_varint(bytes, key as usize);
    bytes.extend_from_slice(&[TAG_HASH_KEY_PLACE, 0]);
    push_field(bytes, TAG_DATA, data);
}

/// The checksum of what stands behind the magic.
pub fn push_sum(bytes: &mut Vec<u8>) {
    let sum = Md5::digest(&bytes[MAGIC.len()..]);
    bytes.extend_from_slice(&sum);
}

/// The records of an aggregate: partition key and data of each. `None`: it is none. What does not verify is
/// a record like any other.
pub fn read(bytes: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let rest = bytes.strip_prefix(&MAGIC)?;
    let (mut rest, sum) = rest.split_last_chunk::<SUM_LEN>()?;
    if Md5::digest(rest)[..] != sum[..] {
        return None;
    }
    let (mut keys, mut records) = (Vec::new(), Vec::new());
    while let Some((tag, data)) = next_field(&mut rest)? {
        match tag {
            1 => keys.push(data),
            3 => {
                let (mut inside, mut place, mut found) = (data, 0, None);
                while let Some((tag, data)) = next_field(&mut inside)? {
                    match tag {
                        1 => place = read_varint(&mut { data })?,
                        3 => found = Some(data),
                        _ => {}
                    }
                }
                records.push((usize::try_from(place).ok()?, found?));
            }
            _ => {}
        }
    }
    let named = |(place, data): (usize, _)| Some((*keys.get(place)?, data));
    records.into_iter().map(named).collect()
}

/// The number of the next field, and what is in it: of numbers the bytes of the number. `Some(None)`: there
/// is none.
#[allow(clippy::option_option)] // three answers
fn next_field<'a>(bytes: &mut &'a [u8]) -> Option<Option<(u64, &'a [u8])>> {
    if bytes.is_empty() {
        return Some(None);
    }
    let tag = read_varint(bytes)?;
    let len = match tag & 7 {
        0 => {
            let mut behind = *bytes;
            read_varint(&mut behind)?;
            bytes.len() - behind.len()
        }
        1 => 8,
        2 => usize::try_from(read_varint(bytes)?).ok()?,
        5 => 4,
        _ => return None,
    };
    let (data, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(Some((tag >> 3, data)))
}

fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 127).checked_shl(shift)?;
        if byte & 128 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_counted_as_they_are_written() {
        for number in [
            0,
            1,
            127,
            128,
            16_383,
            16_384,
            2_097_151,
            2_097_152,
            usize::MAX,
        ] {
            let mut bytes = Vec::new();
            push_varint(&mut bytes, number);
            assert_eq!(bytes.len(), varint_len(number), "{number}");
            assert_eq!(read_varint(&mut &bytes[..]), Some(number as u64));
        }
        for len in [0, 1, 127, 128, 300] {
            let (mut field, mut record) = (Vec::new(), Vec::new());
            push_field(&mut field, TAG_KEY, &vec![7; len]);
            assert_eq!(field.len(), field_len(len));
            push_record(&mut record, 200, &vec![7; len]);
            assert_eq!(record.len(), field_len(record_len(200, len)));
        }
    }

    #[test]
    fn what_does_not_verify_is_no_aggregate() {
        let mut good = MAGIC.to_vec();
        push_field(&mut good, TAG_KEY, b"k");
        push_field(&mut good, TAG_KEY, b"l");
        push_field(&mut good, TAG_HASH_KEY, b"12");
        push_record(&mut good, 1, b"one");
        push_record(&mut good, 0, b"");
        push_sum(&mut good);
        assert_eq!(
            read(&good),
            Some(vec![(&b"l"[..], &b"one"[..]), (b"k", b"")])
        );
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert_eq!(read(&bad), None);
            assert_eq!(read(&good[..at]), None);
        }
        // It verifies, and names a key that is not there.
        let mut bad = MAGIC.to_vec();
        push_record(&mut bad, 1, b"one");
        push_sum(&mut bad);
        assert_eq!(read(&bad), None);
    }
}
