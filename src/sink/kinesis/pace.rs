//! How fast each shard may be filled: what the service takes of records and bytes in a second, and less
//! while it throttles.
//!
//! ```text
//!  key ─ MD5 ─▶ 0 ··[lowest, highest seen]····[lowest, highest seen]·· 2¹²⁸
//!                      shard 3                      shard 4         ◀── answers name them
//! ```
//!
//! A shard has a stretch of the digests of keys. Which, the answers tell: each names the shard of each
//! record. So nobody needs to be allowed to list shards, and after a stream was cut anew the next answer
//! says so. A digest between two stretches counts to the nearer one; while nothing is known, the stream
//! counts as one shard.
//!
//! What a record costs of a shard's second is added up; up to half a second may be taken at once. A shard of
//! which more was taken is held until all of that is paid back, so that requests stay large. When the
//! service throttles a shard nevertheless (others send to it, too), its speed is halved, and comes back
//! within 16 s.
//!
//! **Threads.** The lanes of a sink share it.

use std::time::Duration;

use crate::clock::Mono;
use crate::watermark::seam::{Condvar, Mutex};

/// So much of a shard's time may be taken at once, in nanoseconds: half of what the service itself allows,
/// so that requests which arrive closer to each other than they were sent do no harm.
const BURST: u64 = 500_000_000;
/// The most shards that are told apart.
pub const SHARDS_MAX: usize = 256;
/// What is known of them takes no more than this, in bytes.
pub const SIZE: u64 = 32 << 10;
const _: () = assert!((SHARDS_MAX * size_of::<Shard>()) as u64 <= SIZE);
/// A speed is a number of parts of the whole one.
const WHOLE: u64 = 1024;
const SLOWEST: u64 = WHOLE / 64;
/// So many parts come back in a second.
const BACK_PER_SEC: u64 = WHOLE / 16;

/// Holds lanes back.
#[derive(Debug)]
pub struct Pace {
    records_per_sec: u64,
    bytes_per_sec: u64,
    shards: Mutex<Shards>,
    /// Nobody wakes who waits here.
    quiet: Condvar,
}

#[derive(Debug)]
struct Shards {
    /// Rising, and apart from each other.
    known: Vec<Shard>,
    /// Instead of all, while none is known.
    all: Bucket,
}

#[derive(Debug)]
struct Shard {
    number: u64,
    /// The lowest and the highest digest that went there.
    low: u128,
    high: u128,
    bucket: Bucket,
}

/// What was taken of a shard.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// When what was taken is paid back, by records and by bytes.
    records_until: Mono,
    bytes_until: Mono,
    is_held: bool,
    /// In parts of the whole.
    speed: u64,
    /// When the speed was that.
    since: Mono,
}

impl Bucket {
    const NEW: Self = Self {
        records_until: Mono(0),
        bytes_until: Mono(0),
        is_held: false,
        speed: WHOLE,
        since: Mono(0),
    };

    /// Zero when something may be taken; else how long that takes.
    fn wait(&mut self, now: Mono) -> Duration {
        let left = self.records_until.max(self.bytes_until).since(now);
        self.is_held = match self.is_held {
            true => !left.is_zero(),
            false => left >= Duration::from_nanos(BURST),
        };
        match self.is_held {
            true => left,
            false => Duration::ZERO,
        }
    }

    fn speed(&self, now: Mono) -> u64 {
        if self.speed == WHOLE {
            return WHOLE;
        }
        let back = now.since(self.since).as_millis().min(60_000);
        let back = u64::try_from(back).unwrap_or(0) * BACK_PER_SEC / 1000;
        WHOLE.min(self.speed + back)
    }

    fn take(&mut self, count: u64, per_sec: u64, now: Mono, is_bytes: bool) {
        let nanos = count.saturating_mul(1_000_000_000) / per_sec;
        let nanos = match self.speed(now) {
            WHOLE => nanos,
            speed => nanos.saturating_mul(WHOLE) / speed,
        };
        let until = match is_bytes {
            true => &mut self.bytes_until,
            false => &mut self.records_until,
        };
        *until = now.max(*until).plus(Duration::from_nanos(nanos));
    }

    /// Halves the speed, but not for each record of a request.
    fn throttle(&mut self, now: Mono) {
        let is_slowed = self.speed < WHOLE && now.since(self.since).as_nanos() < BURST.into();
        if is_slowed {
            return;
        }
        self.speed = (self.speed(now) / 2).max(SLOWEST);
        self.since = now;
        self.records_until = self
            .records_until
            .max(now.plus(Duration::from_nanos(BURST)));
        self.is_held = true;
    }
}

impl Shards {
    /// The shard of a digest, as far as is known.
    fn of(&mut self, digest: u128) -> &mut Bucket {
        let above = self.known.partition_point(|shard| shard.low <= digest);
        let below = above.checked_sub(1);
        let at = match (below, self.known.get(above)) {
            (None, None) => return &mut self.all,
            (None, Some(_)) => above,
            (Some(below), None) => below,
            (Some(below), Some(next)) => {
                let from = digest.saturating_sub(self.known[below].high);
                if from <= next.low - digest {
                    below
                } else {
                    above
                }
            }
        };
        &mut self.known[at].bucket
    }

    fn learn(&mut self, digest: u128, number: u64) {
        let (mut low, mut high, mut bucket) = (digest, digest, self.all);
        if let Some(at) = self.known.iter().position(|shard| shard.number == number) {
            let shard = &self.known[at];
            if (shard.low..=shard.high).contains(&digest) {
                return;
            }
            (low, high, bucket) = (shard.low.min(low), shard.high.max(high), shard.bucket);
            self.known.remove(at);
        }
        // Shards that are open have nothing in common: what does is closed.
        self.known
            .retain(|shard| shard.high < low || high < shard.low);
        if self.known.len() == SHARDS_MAX {
            let idle = self.known.iter().enumerate();
            let idle = idle.min_by_key(|(_, shard)| shard.bucket.records_until);
            self.known.remove(idle.map_or(0, |(at, _)| at));
        }
        let at = self.known.partition_point(|shard| shard.low < low);
        let shard = Shard {
            number,
            low,
            high,
            bucket,
        };
        self.known.insert(at, shard);
    }
}

impl Pace {
    /// For shards that take so much. Takes no memory yet.
    pub fn new(records_per_sec: u32, bytes_per_sec: u32) -> Self {
        Self {
            records_per_sec: records_per_sec.into(),
            bytes_per_sec: bytes_per_sec.into(),
            shards: Mutex::new(Shards {
                known: Vec::new(),
                all: Bucket::NEW,
            }),
            quiet: Condvar::new(),
        }
    }

    /// The only shard that is known, if there is one: then it does not matter which key a record has.
    pub fn only(&self) -> Option<u64> {
        match &self.shards.lock().known[..] {
            [shard] => Some(shard.number),
            _ => None,
        }
    }

    /// Zero when the shard of a digest may have another record; else how long that takes.
    pub fn wait(&self, digest: u128, now: Mono) -> Duration {
        self.shards.lock().of(digest).wait(now)
    }

    /// So many records of `len` bytes together go there.
    pub fn take(&self, digest: u128, records: u64, len: usize, now: Mono) {
        let mut shards = self.shards.lock();
        let bucket = shards.of(digest);
        bucket.take(records, self.records_per_sec, now, false);
        bucket.take(len as u64, self.bytes_per_sec, now, true);
    }

    /// A record with this digest went to the shard with that number.
    pub fn learn(&self, digest: u128, number: u64) {
        self.shards.lock().learn(digest, number);
    }

    /// The service asks to slow down: the shard of that number if it names one, else that of the digest.
    pub fn throttle(&self, digest: u128, number: Option<u64>, now: Mono) {
        let mut shards = self.shards.lock();
        let mut known = shards.known.iter_mut();
        match known.find(|shard| Some(shard.number) == number) {
            Some(shard) => shard.bucket.throttle(now),
            None => shards.of(digest).throttle(now),
        }
    }

    /// Waits so long, in the thread of a lane.
    pub fn pause(&self, wait: Duration) {
        drop(self.quiet.wait_for(self.shards.lock(), wait));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(ms: u64) -> Mono {
        Mono(ms * 1_000_000)
    }

    /// What a sender that never rests gets through in so many milliseconds, in records of one size.
    fn run(pace: &Pace, digest: u128, len: usize, from: u64, to: u64) -> u64 {
        let (mut now, mut count) = (millis(from), 0);
        while now < millis(to) {
            match pace.wait(digest, now) {
                Duration::ZERO => {
                    pace.take(digest, 1, len, now);
                    count += 1;
                }
                wait => now = now.plus(wait),
            }
        }
        count
    }

    /// In any second no more than a second's worth and the burst; and over time hardly less.
    #[test]
    fn a_shard_gets_what_it_takes_in_a_second() {
        let pace = Pace::new(1000, 1_000_000);
        let records = run(&pace, 1, 10, 1_000, 11_000);
        assert!((10_000..=10_502).contains(&records), "{records}");
        let bytes = run(&pace, 1, 100_000, 20_000, 30_000) * 100_000;
        assert!((9_500_000..=10_600_000).contains(&bytes), "{bytes}");
        // The first requests are as large as can be.
        assert_eq!(run(&Pace::new(1000, 1_000_000), 1, 10, 0, 1), 500);
    }

    /// One that is larger than what is left goes when nothing is owed, and is paid back.
    #[test]
    fn a_large_record_is_paid_back() {
        let pace = Pace::new(1000, 1_000_000);
        assert_eq!(pace.wait(7, millis(0)), Duration::ZERO);
        pace.take(7, 1, 10_000_000, millis(0));
        assert_eq!(pace.wait(7, millis(0)), Duration::from_secs(10));
        assert_eq!(pace.wait(7, millis(9_999)), Duration::from_millis(1));
        assert_eq!(pace.wait(7, millis(10_000)), Duration::ZERO);
    }

    /// Each shard has its own pace, also those that a shard was cut into; a digest in between counts to the
    /// nearer one.
    #[test]
    fn shards_are_learned_from_answers() {
        let pace = Pace::new(1000, 1_000_000);
        assert_eq!(pace.only(), None);
        pace.learn(100, 0);
        pace.learn(200, 0);
        assert_eq!(pace.only(), Some(0));
        pace.learn(1000, 1);
        assert_eq!(pace.only(), None);
        let is_free = |digest, at| pace.wait(digest, millis(at)) == Duration::ZERO;
        run(&pace, 150, 1, 0, 1);
        assert!(!is_free(0, 1) && !is_free(300, 1) && !is_free(600, 1));
        assert!(is_free(601, 1) && is_free(u128::MAX, 1));
        // Shard 0 becomes 2 and 3.
        pace.learn(120, 2);
        pace.learn(180, 3);
        run(&pace, 120, 1, 2_000, 2_001);
        assert!(!is_free(100, 2_001) && is_free(180, 2_001));
        // And 3 and 1 become 4.
        pace.learn(180, 4);
        pace.learn(1000, 4);
        assert!(is_free(500, 2_001) && !is_free(120, 2_001));
        assert_eq!(pace.shards.lock().known.len(), 2);
        pace.learn(500, 5);
        pace.learn(120, 5);
        assert_eq!(pace.only(), Some(5));
    }

    /// However many there are, no more are kept than there is room for.
    #[test]
    fn the_number_of_shards_has_a_bound() {
        let pace = Pace::new(1000, 1_000_000);
        for number in 0..1000 {
            pace.learn(u128::from(number) << 64, number);
        }
        let shards = pace.shards.lock();
        assert_eq!(shards.known.len(), SHARDS_MAX);
        assert!(shards.known.is_sorted_by_key(|shard| shard.low));
    }

    /// A shard that is throttled gets half, and half again, and in the end its own again.
    #[test]
    fn throttling_halves_the_speed_and_it_comes_back() {
        let pace = Pace::new(1000, 1_000_000);
        pace.learn(1, 0);
        pace.learn(9, 1);
        for _ in 0..500 {
            pace.throttle(9, None, millis(1_000)); // of one request: that counts once
        }
        let slow = run(&pace, 9, 10, 1_000, 3_000);
        assert!((700..=1_300).contains(&slow), "{slow}");
        for at in 0..20 {
            pace.throttle(1, Some(1), millis(3_000 + at * 600));
        }
        let slowest = run(&pace, 9, 10, 14_500, 15_500);
        assert!(slowest < 150, "{slowest}");
        assert_eq!(
            pace.wait(1, millis(15_500)),
            Duration::ZERO,
            "the other is not"
        );
        let again = run(&pace, 9, 10, 60_000, 70_000);
        assert!((10_000..=10_502).contains(&again), "{again}");
    }
}
