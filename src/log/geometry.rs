//! How large segments are, how many there are, and how far a checkpoint reaches.

use std::time::Duration;

use heapless::String;

use crate::clock::Stamp;
use crate::format::{
    CHECKPOINT_FILE_SIZE, LIFE_BOUND, NAME_LEN_MAX, PAGE_BODY_SIZE, PAGE_SIZE, PAGES_MIN,
    record_size,
};
use crate::segment::Io;

/// The smallest segment, in bytes.
pub const SEGMENT_SIZE_MIN: u64 = 65_536;
/// The smallest budget of a store, in bytes.
pub const BUDGET_MIN: u64 = 1 << 20;
/// The most segments of a store. The budget's share for each is the smallest size in force.
pub const SEGMENTS_MAX: u64 = 1024;

/// What is kept of the budget for everything but segments: checkpoint, lock, the directory, and what the
/// file system needs to find the blocks of large files.
pub const OVERHEAD: u64 = 256 * 1024;
/// What of it is in use from the start.
pub(super) const OVERHEAD_NOW: u64 = CHECKPOINT_FILE_SIZE + 2 * PAGE_SIZE as u64;
/// A new stream starts with a segment of this size, if that holds four of its longest records.
const FIRST_SIZE: u64 = 1 << 20;
/// A checkpoint reaches at least this many rings, and at most [`REACH_MAX`].
pub(super) const REACH_MIN: u64 = 2;
const REACH_MAX: u64 = 64;

const _: () = assert!(OVERHEAD_NOW <= OVERHEAD);

/// What a log is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// The stream's name.
    pub name: String<NAME_LEN_MAX>,
    /// The size that segments should have, in bytes.
    pub segment_bytes: u64,
    /// The whole budget, in bytes of allocated blocks.
    pub disk_bytes_max: u64,
    /// Drop the oldest segment when the budget is used up.
    pub drop_oldest: bool,
    /// Segments whose records are all older go, if the oldest may be dropped.
    pub age_max: Option<Duration>,
    /// A store in which damage is found is not opened, and not touched.
    pub is_strict: bool,
    /// So many bytes of the file system are left to others.
    pub free_bytes_min: u64,
    /// So many bytes of files with damage are kept aside.
    pub aside_bytes_max: u64,
    /// All segments of the budget are made ahead.
    pub reserves_all: bool,
    /// How the active segment is written.
    pub io: Io,
    /// The most records in the ring.
    pub ring_records: u32,
    /// The longest body of a record.
    pub body_len_max: u32,
}

/// The sizes in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// The pages of a segment.
    pub pages: u32,
    /// The pages of a new stream's first segment.
    pub first_pages: u32,
    /// The pages of all segments together.
    pub budget_pages: u64,
    ring_records: u64,
}

impl Geometry {
    /// Works them out: at most a quarter of the budget, at least its 1024th part, at least one record.
    pub fn of(options: &Options) -> Self {
        let budget = options.disk_bytes_max.max(BUDGET_MIN) - OVERHEAD;
        let one = segment_size_for(options.body_len_max, 1);
        let share = (budget / SEGMENTS_MAX).next_multiple_of(PAGE_SIZE as u64);
        let wanted = options.segment_bytes.max(share).max(SEGMENT_SIZE_MIN);
        let size = wanted.min(budget / 4).max(one);
        let first = FIRST_SIZE
            .max(segment_size_for(options.body_len_max, 4))
            .min(size);
        Self {
            pages: pages(size),
            first_pages: pages(first),
            budget_pages: budget / PAGE_SIZE as u64,
            ring_records: options.ring_records.into(),
        }
    }

    /// The size of a segment, in bytes.
    pub fn segment_size(&self) -> u64 {
        u64::from(self.pages) * PAGE_SIZE as u64
    }

    /// The pages of the next new segment, after one of `newest` pages: sizes double.
    pub(super) fn next_pages(&self, newest: Option<u32>) -> u32 {
        newest.map_or(self.first_pages, |newest| {
            newest.saturating_mul(2).min(self.pages)
        })
    }

    /// The pages of the next segment that is made ahead, where so many are taken. What is left at the end
    /// is one too, unless it is smaller than a new stream's first.
    pub(super) fn reserve_pages(&self, taken: u64, newest: Option<u32>) -> Option<u32> {
        let left = self.budget_pages.saturating_sub(taken);
        let left = u32::try_from(left).unwrap_or(u32::MAX);
        let pages = self.next_pages(newest).min(left);
        (pages >= self.first_pages).then_some(pages)
    }

    /// Whether the budget has room for `pages` more.
    pub(super) fn has_room(&self, taken: u64, pages: u32) -> bool {
        taken + u64::from(pages) <= self.budget_pages
    }

    /// How far the first checkpoint of a run reaches, in offsets past its mark.
    pub(super) fn reach(&self) -> u64 {
        REACH_MIN * self.ring_records
    }

    /// The reach of a checkpoint that was written because the one before did not reach far enough.
    pub(super) fn longer_reach(&self, reach: u64) -> u64 {
        (reach * 2).min(REACH_MAX * self.ring_records)
    }

    /// The reach of a checkpoint that was written because it was time.
    pub(super) fn shorter_reach(&self, reach: u64) -> u64 {
        (reach / 2).max(REACH_MIN * self.ring_records)
    }
}

/// The most that any run may have handed out past what a store without a checkpoint shows: the longest
/// reach of the largest ring, which holds fewer than 2²⁶ records.
pub(super) const REACH_UNKNOWN: u64 = (REACH_MAX + 4) << 26;

/// So many lives are taken at most before the next checkpoint says how many were.
pub(super) const LIVES_MAX: u64 = 256;
/// Lives that are left out where the newest checkpoint may be lost: more than several runs take in all.
const LIVES_UNKNOWN: u64 = 1 << 16;
/// So many times as many at most.
const LIVES_UNKNOWN_TIMES: u64 = 1 << 12;

/// The greatest life that can have been in use where `seen` is the greatest that is left. What followed
/// such an open before may be lost as well, with the life that it went on with: so it is another number at
/// another instant.
pub(super) fn life_past_unknown(seen: u64, now: Stamp) -> u64 {
    let instant = now.boot ^ now.mono_ms.rotate_left(24) ^ now.wall_ms.rotate_left(44);
    let scattered = instant.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let left_out = LIVES_UNKNOWN * (1 + scattered % LIVES_UNKNOWN_TIMES);
    // No store comes near the bound, but what was made up may.
    seen.max((seen + left_out).min(LIFE_BOUND / 2))
}

/// A segment that holds `count` records of the longest body.
fn segment_size_for(body_len_max: u32, count: u64) -> u64 {
    let record = record_size(body_len_max as usize) as u64;
    let body = (record * count).div_ceil(PAGE_BODY_SIZE as u64) + u64::from(PAGES_MIN);
    body * PAGE_SIZE as u64
}

fn pages(size: u64) -> u32 {
    u32::try_from(size / PAGE_SIZE as u64)
        .unwrap_or(u32::MAX)
        .max(PAGES_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(segment_bytes: u64, disk_bytes_max: u64, body_len_max: u32) -> Options {
        Options {
            name: String::new(),
            segment_bytes,
            disk_bytes_max,
            drop_oldest: true,
            age_max: None,
            is_strict: false,
            free_bytes_min: 0,
            aside_bytes_max: 0,
            reserves_all: false,
            io: Io::Write,
            ring_records: 10_000,
            body_len_max,
        }
    }

    /// `G-060`: a segment size that is too large for the budget is reduced, not refused.
    #[test]
    fn a_segment_is_at_most_a_quarter_of_the_budget() {
        let geometry = Geometry::of(&options(64 << 20, 16 << 20, 4096));
        assert_eq!(
            geometry.segment_size(),
            ((16 << 20) - OVERHEAD) / 4 / 4096 * 4096
        );
        assert_eq!(geometry.first_pages, 256);
        let geometry = Geometry::of(&options(64 << 20, 1 << 30, 1 << 20));
        assert_eq!(geometry.segment_size(), 64 << 20);
        assert!(
            u64::from(geometry.first_pages) * 4096 > 4 << 20,
            "four of the longest records"
        );
    }

    #[test]
    fn there_are_never_more_than_a_thousand_segments() {
        let geometry = Geometry::of(&options(65_536, 1 << 30, 4096));
        assert!(geometry.budget_pages / u64::from(geometry.pages) <= SEGMENTS_MAX);
    }

    #[test]
    fn lives_that_are_left_out_are_others_at_another_instant() {
        let stamp = |mono_ms| Stamp {
            boot: 7,
            mono_ms,
            wall_ms: 0,
        };
        let lives: Vec<u64> = (0..20).map(|ms| life_past_unknown(5, stamp(ms))).collect();
        for (at, life) in lives.iter().enumerate() {
            assert!(*life >= 5 + LIVES_UNKNOWN && *life < LIFE_BOUND / 2);
            let others = lives.iter().skip(at + 1);
            assert!(
                others
                    .clone()
                    .all(|other| life.abs_diff(*other) >= LIVES_UNKNOWN)
            );
        }
        assert_eq!(life_past_unknown(LIFE_BOUND - 1, stamp(0)), LIFE_BOUND - 1);
    }

    #[test]
    fn sizes_double_and_reaches_too() {
        let geometry = Geometry::of(&options(8 << 20, 1 << 30, 4096));
        assert_eq!(geometry.next_pages(None), 256);
        assert_eq!(geometry.next_pages(Some(256)), 512);
        assert_eq!(geometry.next_pages(Some(2048)), 2048);
        let mut reach = geometry.reach();
        for _ in 0..20 {
            reach = geometry.longer_reach(reach);
        }
        assert_eq!(reach, 640_000);
        assert_eq!(geometry.shorter_reach(geometry.reach()), 20_000);
    }
}
