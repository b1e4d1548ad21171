//! Several records in one of the service's, as the Kinesis Producer Library puts them there.
//!
//! ```text
//!  F3 89 9A C2 | AggregatedRecord (protocol buffers) | MD5 of it
//!    1 partition key, each once   2 explicit hash key   3 record: 1 key's place, 2 hash key's, 3 data
//! ```
//!
//! A reader that follows the service's libraries drops what has a hash key outside of its shard. So the
//! range of hash keys is divided into groups; a record belongs to that of its partition key, all records of
//! a group are given the hash key in its middle, and an aggregate has those of one group. A key's records
//! keep their order and their shard, whatever shards there are.
//!
//! An aggregate of one record would be longer than the record, and is sent as it is, with the group's hash
//! key. (Not so a block of many records, which is always inside of an aggregate.)
//!
//! **Invariant.** What `add` counts is what `write` writes, to the byte; only blocks may come out shorter.

use std::fmt::Write;
use std::hash::{DefaultHasher, Hasher};

use md5::{Digest, Md5};

use super::body::{Added, Body, Bounds, map_key};
use super::envelope::{self, Content, Origin};
use crate::record::RecordView;
use crate::sink::Batch;

mod message;

pub use message::read;
use message::{MAGIC, SUM_LEN, TAG_HASH_KEY, TAG_KEY};
use message::{field_len, push_field, push_record, push_sum, record_len};

/// The partition key of an aggregate, which nobody uses: it has a hash key.
const OUTER_KEY: &str = "a";
/// In place of the number of something that is not there.
const NONE: u32 = u32::MAX;

/// What the tables have for each record, at most, in bytes.
const TABLES_OF_RECORD: usize = 224;
const _: () = assert!(
    (size_of::<Aggregate>() + size_of::<Member>() + size_of::<Key>() + 6 * 4) * 2
        <= TABLES_OF_RECORD
);

/// Puts the records of a request into aggregates. Allocates only while its tables grow.
#[derive(Debug)]
pub struct Aggregates {
    bounds: Bounds,
    content: Content,
    groups: Vec<Group>,
    list: Vec<Aggregate>,
    members: Vec<Member>,
    keys: Vec<Key>,
    /// Places in `keys`, by a hash of the key.
    slots: Vec<u32>,
    /// The bytes that are going to be sent, of aggregates in their present state.
    len: usize,
    /// The members, aggregate by aggregate, and where each aggregate's begin.
    order: Vec<u32>,
    starts: Vec<u32>,
    bytes: Vec<u8>,
    data: Vec<u8>,
}

#[derive(Debug)]
struct Group {
    /// The one in its middle.
    hash_key: heapless::String<39>,
    /// The aggregate that still has room.
    open: u32,
}

#[derive(Clone, Copy, Debug)]
struct Aggregate {
    group: u32,
    records: u32,
    keys: u32,
    /// Magic and checksum included.
    size: usize,
    /// What its first record takes when it is sent alone.
    alone: usize,
}

/// A record of the request.
#[derive(Clone, Copy, Debug)]
struct Member {
    /// Its place in the batch.
    at: usize,
    aggregate: u32,
    /// The place of its key in the aggregate's table, and whether it is the first there that has it.
    key: u32,
    is_first: bool,
}

/// A partition key of the request.
#[derive(Clone, Copy, Debug)]
struct Key {
    /// The place in the batch of a record that has it.
    at: usize,
    /// As it is sent, in bytes.
    len: usize,
    group: u32,
    /// The aggregate that it was last used in, and its place there.
    aggregate: u32,
    place: u32,
}

impl Aggregates {
    /// For requests of such bounds, in so many groups.
    pub fn new(bounds: Bounds, groups: u32, content: Content) -> Self {
        Self {
            bounds,
            content,
            groups: (0..groups)
                .map(|group| Group {
                    hash_key: digits(middle(group, groups.into())),
                    open: NONE,
                })
                .collect(),
            list: Vec::new(),
            members: Vec::new(),
            keys: Vec::new(),
            slots: Vec::new(),
            len: 0,
            order: Vec::new(),
            starts: Vec::new(),
            bytes: Vec::new(),
            data: Vec::new(),
        }
    }

    /// The most bytes that tables and buffers take, for so many records in a request.
    pub fn memory_max(bounds: Bounds, records: usize) -> usize {
        // Buffers that grow may have twice their size: an aggregate, and a record with its envelope.
        records * TABLES_OF_RECORD + bounds.record_bytes_max.min(bounds.bytes_max) * 4
    }

    /// Begins anew, for at most so many records.
    pub fn clear(&mut self, count: usize) {
        self.groups.iter_mut().for_each(|group| group.open = NONE);
        self.list.clear();
        self.members.clear();
        self.keys.clear();
        self.slots.clear();
        self.slots.resize(count.next_power_of_two() * 2, NONE);
        self.len = 0;
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.list.len()
    }

    /// How many bytes of data and key each of those that were written has.
    pub fn lens(&self) -> impl Iterator<Item = usize> {
        let content = self.content;
        self.list.iter().map(move |one| sent_len(one, content))
    }

    /// What the shard of the record at a place of the batch is found by.
    pub fn digest_of(&mut self, batch: &Batch<'_>, at: usize) -> u128 {
        let record = batch.get(at);
        let key = self.key_of(batch, at, &record);
        middle(self.keys[key].group, self.groups.len() as u128)
    }

    /// In which record of the request a member is.
    pub fn entry_of(&self, member: usize) -> usize {
        self.members[member].aggregate as usize
    }

    /// Adds the record at a place of the batch, if it has room.
    pub fn add(&mut self, batch: &Batch<'_>, at: usize, origin: &Origin<'_>) -> Added {
        let record = batch.get(at);
        let key_at = self.key_of(batch, at, &record);
        let key = self.keys[key_at];
        let group = &self.groups[key.group as usize];
        let max = self.bounds.record_bytes_max.min(self.bounds.bytes_max);
        // In a new aggregate it is the first to have its key.
        let frame = self.frame(group.hash_key.len(), key.len, origin);
        let in_new = self.size(&record, key.len, 0, true, origin) + frame;
        let alone = match self.content {
            Content::Blocks => in_new + OUTER_KEY.len(),
            _ => key.len + self.data_len(&record, origin),
        };
        if alone > max {
            return Added::Never;
        }
        let open = group.open;
        if let Some(aggregate) = self.list.get(open as usize).copied() {
            let is_first = key.aggregate != open;
            let place = if is_first { aggregate.keys } else { key.place };
            let size = aggregate.size + self.size(&record, key.len, place, is_first, origin);
            if size + OUTER_KEY.len() <= max {
                let len = self.len - sent_len(&aggregate, self.content) + size + OUTER_KEY.len();
                if len > self.bounds.bytes_max {
                    return Added::NextTime;
                }
                self.len = len;
                let aggregate = &mut self.list[open as usize];
                aggregate.size = size;
                aggregate.records += 1;
                aggregate.keys += u32::from(is_first);
                self.join(at, key_at, open, place, is_first);
                return Added::Here;
            }
        }
        let is_full = self.list.len() == self.bounds.records_max;
        if is_full || self.len + alone > self.bounds.bytes_max {
            return Added::NextTime;
        }
        let new = u32::try_from(self.list.len()).unwrap_or(NONE);
        self.list.push(Aggregate {
            group: key.group,
            records: 1,
            keys: 1,
            size: in_new,
            alone,
        });
        self.groups[key.group as usize].open = new;
        self.len += alone;
        self.join(at, key_at, new, 0, true);
        Added::Here
    }

    fn join(&mut self, at: usize, key_at: usize, aggregate: u32, place: u32, is_first: bool) {
        let key = &mut self.keys[key_at];
        (key.aggregate, key.place) = (aggregate, place);
        self.members.push(Member {
            at,
            aggregate,
            key: place,
            is_first,
        });
    }

    /// The place of a record's key among those of the request.
    fn key_of(&mut self, batch: &Batch<'_>, at: usize, record: &RecordView<'_>) -> usize {
        let mut hasher = DefaultHasher::new();
        // Records without a key have each their own.
        match record.key {
            [] => hasher.write_u64(record.offset),
            key => hasher.write(key),
        }
        let mask = self.slots.len() - 1;
        // The lower bits are as good as any.
        let mut slot = usize::try_from(hasher.finish() & mask as u64).unwrap_or(0);
        loop {
            let found = self.slots[slot];
            if found == NONE {
                break;
            }
            let known = &self.keys[found as usize];
            if !record.key.is_empty() && batch.get(known.at).key == record.key {
                return found as usize;
            }
            slot = (slot + 1) & mask;
        }
        let key = map_key(record.offset, record.key);
        let hash = u128::from_be_bytes(Md5::digest(key.text().as_bytes()).into());
        let groups = self.groups.len() as u128;
        let group = (hash / (u128::MAX / groups)).min(groups - 1);
        let new = self.keys.len();
        self.keys.push(Key {
            at,
            len: key.text().len(),
            group: u32::try_from(group).unwrap_or(0),
            aggregate: NONE,
            place: 0,
        });
        self.slots[slot] = u32::try_from(new).unwrap_or(NONE);
        new
    }

    /// The data of a record that has an envelope of its own, or none.
    fn data_len(&self, record: &RecordView<'_>, origin: &Origin<'_>) -> usize {
        match self.content {
            Content::Payloads => record.payload.len(),
            _ => envelope::head_len(origin) + envelope::record_len(record),
        }
    }

    /// What an aggregate has without records; of blocks: without what is in the block.
    fn frame(&self, hash_key_len: usize, key_len: usize, origin: &Origin<'_>) -> usize {
        let frame = MAGIC.len() + field_len(hash_key_len) + SUM_LEN;
        match self.content {
            // Lengths as long as they may become.
            Content::Blocks => {
                frame + field_len(key_len) + 2 * (1 + 5) + 4 + envelope::head_len(origin)
            }
            _ => frame,
        }
    }

    /// What a record adds to an aggregate.
    fn size(
        &self,
        record: &RecordView<'_>,
        key_len: usize,
        key: u32,
        is_first: bool,
        origin: &Origin<'_>,
    ) -> usize {
        if self.content == Content::Blocks {
            return envelope::record_len(record);
        }
        let of_record = record_len(key, self.data_len(record, origin));
        field_len(of_record) + if is_first { field_len(key_len) } else { 0 }
    }

    /// Writes all of it to a body that has been cleared.
    pub fn write(&mut self, batch: &Batch<'_>, origin: &Origin<'_>, body: &mut Body) {
        self.sort();
        for at in 0..self.list.len() {
            let aggregate = self.list[at];
            let members = self.starts[at] as usize..self.starts[at + 1] as usize;
            let hash_key = &self.groups[aggregate.group as usize].hash_key;
            let first = batch.get(self.members[self.order[members.start] as usize].at);
            let key = map_key(first.offset, first.key);
            self.bytes.clear();
            if self.content == Content::Blocks {
                self.data.clear();
                let members = self.order[members].iter();
                let records = members.map(|at| batch.get(self.members[*at as usize].at));
                envelope::write_block(&mut self.data, origin, records);
                self.bytes.extend_from_slice(&MAGIC);
                push_field(&mut self.bytes, TAG_KEY, key.text().as_bytes());
                push_field(&mut self.bytes, TAG_HASH_KEY, hash_key.as_bytes());
                push_record(&mut self.bytes, 0, &self.data);
                push_sum(&mut self.bytes);
                assert!(
                    self.bytes.len() <= aggregate.size,
                    "a block is not longer than was counted"
                );
                self.list[at].size = self.bytes.len();
                body.push(OUTER_KEY, Some(hash_key), &self.bytes);
                continue;
            }
            if aggregate.records == 1 {
                let data = data_of(&mut self.data, self.content, origin, &first);
                body.push(key.text(), Some(hash_key), data);
                continue;
            }
            self.bytes.extend_from_slice(&MAGIC);
            for at in &self.order[members.clone()] {
                let member = self.members[*at as usize];
                if member.is_first {
                    let record = batch.get(member.at);
                    let key = map_key(record.offset, record.key);
                    push_field(&mut self.bytes, TAG_KEY, key.text().as_bytes());
                }
            }
            push_field(&mut self.bytes, TAG_HASH_KEY, hash_key.as_bytes());
            for at in &self.order[members] {
                let member = self.members[*at as usize];
                let record = batch.get(member.at);
                let data = data_of(&mut self.data, self.content, origin, &record);
                push_record(&mut self.bytes, member.key, data);
            }
            push_sum(&mut self.bytes);
            assert_eq!(self.bytes.len(), aggregate.size, "its size was counted");
            body.push(OUTER_KEY, Some(hash_key), &self.bytes);
        }
    }

    /// Members by aggregate, each aggregate's in their order.
    fn sort(&mut self) {
        self.starts.clear();
        let mut start = 0;
        for aggregate in &self.list {
            self.starts.push(start);
            start += aggregate.records;
        }
        self.starts.push(start);
        self.order.clear();
        self.order.resize(self.members.len(), 0);
        for (at, member) in self.members.iter().enumerate() {
            let next = &mut self.starts[member.aggregate as usize];
            self.order[*next as usize] = u32::try_from(at).unwrap_or(NONE);
            *next += 1;
        }
        // Each start is now where its aggregate ends, which is where the next one begins.
        self.starts.pop();
        self.starts.insert(0, 0);
    }
}

fn digits(number: u128) -> heapless::String<39> {
    let mut text = heapless::String::new();
    // The greatest number has 39 digits.
    let _ = write!(text, "{number}");
    text
}

/// What of the service's limits an aggregate takes, as it is.
fn sent_len(aggregate: &Aggregate, content: Content) -> usize {
    match (content, aggregate.records) {
        (Content::Payloads | Content::Envelopes, 1) => aggregate.alone,
        _ => aggregate.size + OUTER_KEY.len(),
    }
}

fn data_of<'a>(
    buffer: &'a mut Vec<u8>,
    content: Content,
    origin: &Origin<'_>,
    record: &RecordView<'a>,
) -> &'a [u8] {
    if content == Content::Payloads {
        return record.payload;
    }
    buffer.clear();
    envelope::write_one(buffer, origin, record);
    buffer
}

/// The hash key in the middle of a group.
fn middle(group: u32, groups: u128) -> u128 {
    let width = u128::MAX / groups;
    width * u128::from(group) + width / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `G-104`: each group's hash key lies in the group.
    #[test]
    fn a_group_has_its_own_hash_key() {
        for groups in 1..=64 {
            let width = u128::MAX / u128::from(groups);
            for group in 0..groups {
                let key = middle(group, groups.into());
                assert_eq!(key / width, u128::from(group));
            }
        }
        assert_eq!(middle(1023, 1024) >> 118, 1023);
    }
}
