//! What a medium does to a store while it is off: it flips a byte, or brings up a page that belongs somewhere
//! else. And what a store's bytes prove, worked out without the engine.

use forebay::format::{
    Checkpoint, HEADER_COPIES, PAGE_HEADER_SIZE, PAGE_SIZE, PageHeader, RecordHeader, SLOT_SIZE,
    SegmentHeader,
};

#[cfg(feature = "rules")]
use forebay::rules::intact;

use crate::sim::oracle::Oracle;
use crate::sim::random::Random;
use crate::sim::storage::SimDisk;

const CHECKPOINT: &str = "checkpoint";

/// Also where a rule is taken out this goes by all of them.
#[cfg(not(feature = "rules"))]
fn intact<R>(f: impl FnOnce() -> R) -> R {
    f()
}

/// Does damage now and then, and tells the oracle what it may cost and what the bytes prove.
pub fn harm(disk: &SimDisk, oracle: &mut Oracle, random: &mut Random) {
    intact(|| {
        for _ in 0..random.below(4) {
            flip(disk, oracle, random);
        }
        if random.chance(2) {
            misplace(disk, random);
        }
        oracle.proven = proven(disk);
    });
    let min = oracle.proven_min.unwrap_or(oracle.proven);
    oracle.proven_min = Some(min.min(oracle.proven));
}

fn segments(disk: &SimDisk) -> Vec<String> {
    let names = disk.names().into_iter();
    names.filter(|name| name.starts_with("segment-")).collect()
}

fn newest(disk: &SimDisk) -> Option<Checkpoint> {
    let has_one = disk.names().iter().any(|name| name == CHECKPOINT);
    let bytes = has_one.then(|| disk.bytes(CHECKPOINT))?;
    let slots = bytes.chunks(SLOT_SIZE).map(Checkpoint::decode);
    slots.flatten().max_by_key(|found| found.generation)
}

fn header(bytes: &[u8]) -> Option<SegmentHeader> {
    let copies = bytes.chunks(PAGE_SIZE).take(HEADER_COPIES as usize);
    let copies = copies.filter_map(|copy| SegmentHeader::decode(copy).ok());
    copies.max_by_key(|header| header.life)
}

/// The pages of a file that belong there, with their places.
fn pages(bytes: &[u8]) -> Vec<(usize, PageHeader)> {
    let Some(segment) = header(bytes) else {
        return Vec::new();
    };
    let pages = bytes.chunks(PAGE_SIZE).enumerate();
    let pages = pages.skip(HEADER_COPIES as usize);
    let pages = pages.filter_map(|(at, page)| Some((at, PageHeader::decode(page)?)));
    let belongs = |(at, page): &(usize, PageHeader)| {
        page.slot as usize == *at
            && page.base == segment.base
            && page.store == segment.store.tag()
            && page.life >= segment.life
    };
    pages.filter(belongs).collect()
}

/// Everything below this offset is proven to have been durable.
fn proven(disk: &SimDisk) -> u64 {
    let mut proven = newest(disk).map_or(0, |newest| newest.mark);
    for name in segments(disk) {
        let bytes = disk.bytes(&name);
        proven = proven.max(header(&bytes).map_or(0, |header| header.base));
        let marks = pages(&bytes).into_iter().map(|(_, page)| page.mark);
        proven = proven.max(marks.max().unwrap_or(0));
    }
    proven
}

/// Flips a byte somewhere. What that may cost is noted.
fn flip(disk: &SimDisk, oracle: &mut Oracle, random: &mut Random) {
    let names = segments(disk);
    if names.is_empty() {
        return;
    }
    let name = &names[narrow(random.below(names.len() as u64))];
    let bit = 1 << random.below(8);
    // What is written twice stands one fault: there is one in a life.
    let is_double = random.below(4) == 0 && !std::mem::replace(&mut oracle.is_double_hit, true);
    match random.below(2) {
        0 if is_double && newest(disk).is_some() => disk.damage(CHECKPOINT, |bytes| {
            let written = bytes.iter().enumerate().filter(|(_, byte)| **byte != 0);
            let written: Vec<usize> = written.map(|(at, _)| at).collect();
            bytes[written[narrow(random.below(written.len() as u64))]] ^= bit;
        }),
        1 if is_double => disk.damage(name, |bytes| {
            let copy = narrow(random.below(HEADER_COPIES.into()));
            bytes[copy * PAGE_SIZE + narrow(random.below(100))] ^= bit;
        }),
        _ => disk.damage(name, |bytes| {
            let pages = pages(bytes);
            if pages.is_empty() {
                return;
            }
            // The last ones are those that matter most.
            let back = random.below(pages.len().min(6) as u64);
            let (slot, page) = pages[pages.len() - 1 - narrow(back)];
            let at = match random.chance(2) {
                true => narrow(random.below(PAGE_HEADER_SIZE as u64)),
                false => narrow(random.below(PAGE_SIZE as u64)),
            };
            let cost = cost(&bytes[slot * PAGE_SIZE..][..PAGE_SIZE], &page, at);
            oracle.hit.extend(cost);
            bytes[slot * PAGE_SIZE + at] ^= bit;
        }),
    }
}

/// The offsets that a flipped byte of a page may cost: the record that it hits, or all of the page when it
/// hits the page's header or a record's.
fn cost(page: &[u8], header: &PageHeader, at: usize) -> std::ops::Range<u64> {
    let first = header.first - u64::from(header.carried > 0);
    let all = first..header.end();
    if at < PAGE_HEADER_SIZE {
        return all;
    }
    if at < header.start.into() {
        return first..header.first;
    }
    let mut place = usize::from(header.start);
    for offset in header.first..header.end() {
        let Some(record) = RecordHeader::decode(&page[place..]) else {
            return all;
        };
        let body = place + forebay::format::RECORD_HEADER_SIZE;
        let end = place + record.size as usize;
        if at < body {
            return all;
        }
        if at < end {
            return offset..offset + 1;
        }
        place = end;
    }
    0..0
}

/// Where nothing is, a page comes up: of another place, of another segment, of another store, or of a former
/// writing of that place.
fn misplace(disk: &SimDisk, random: &mut Random) {
    let names = segments(disk);
    let Some(store) = newest(disk).map(|newest| newest.store) else {
        return;
    };
    if names.is_empty() {
        return;
    }
    let mut pick = || names[narrow(random.below(names.len() as u64))].clone();
    let (from, to) = (pick(), pick());
    let bytes = disk.bytes(&from);
    let sources = pages(&bytes);
    if sources.is_empty() {
        return;
    }
    let (at, mut page) = sources[narrow(random.below(sources.len() as u64))];
    let mut copy = bytes[at * PAGE_SIZE..][..PAGE_SIZE].to_vec();
    disk.damage(&to, |bytes| {
        let Some(segment) = header(bytes) else { return };
        let taken = pages(bytes);
        let end = taken
            .last()
            .map_or(HEADER_COPIES as usize, |last| last.0 + 1);
        let count = bytes.len() / PAGE_SIZE;
        if end >= count {
            return;
        }
        let room = (count - end).min(4) as u64;
        let place = end + narrow(random.below(room));
        let slot = u32::try_from(place).unwrap();
        // Right in all but one thing.
        (page.store, page.base) = (store.tag(), segment.base);
        (page.slot, page.life) = (slot, page.life.max(segment.life));
        match random.below(4) {
            0 => {
                page.store ^= 1 << 40;
                (page.mark, page.first) = (page.mark + 1000, page.first + random.below(500));
            }
            1 => page.base = segment.base + 1 + random.below(50),
            2 => {
                page.slot = if page.slot == at as u32 {
                    slot + 1
                } else {
                    at as u32
                }
            }
            _ => page.life = segment.life - 1,
        }
        page.encode(&mut copy);
        bytes[place * PAGE_SIZE..][..PAGE_SIZE].copy_from_slice(&copy);
    });
}

fn narrow(n: u64) -> usize {
    usize::try_from(n).unwrap()
}
