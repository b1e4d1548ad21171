//! Retention by age: which segments are too old, and when the next one will be.
//!
//! The newest record of a segment is no younger than the next segment, which was prepared to take what
//! came behind it: so the stamps in the headers say how old segments are, at least, and no other index is
//! needed. The segment that is written to never goes.
//!
//! Within a boot ages are measured on the boot clock, which never steps. Between boots they follow from
//! the times of day, if both were known; the newest stamp of a boot that has one puts the others of that
//! boot right. A segment of unknown age stays, until one behind it is known to be too old.

use std::time::Duration;

use super::{Log, Trouble};
use crate::clock::{Mono, Stamp};
use crate::format::Reason;

/// While the time of day is not known, segments of other boots are looked at again after this time.
const UNKNOWN_PAUSE: Duration = Duration::from_secs(60);

/// What a look at the ages shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    /// Everything below this offset is too old.
    below: Option<u64>,
    /// After so long there may be more of it.
    next: Option<Duration>,
}

/// Looks at sealed segments from the newest to the oldest: where each ends, and when that was at the
/// latest. `before` is the last stamp of the run before this one.
fn look(
    sealed: impl Iterator<Item = (u64, Stamp)>,
    before: Stamp,
    now: Stamp,
    age_max: Duration,
) -> Look {
    let mut known = before;
    let mut next: Option<Duration> = None;
    for (end, stamp) in sealed {
        if (stamp.boot != known.boot || known.wall_ms == 0) && stamp.wall_ms > 0 {
            known = stamp;
        }
        let wait = match age(stamp, known, now) {
            Some(age) if age > age_max => {
                return Look {
                    below: Some(end),
                    next,
                };
            }
            Some(age) => age_max.saturating_sub(age) + Duration::from_millis(1),
            None if now.wall_ms == 0 => UNKNOWN_PAUSE,
            None => continue,
        };
        next = Some(next.map_or(wait, |next| next.min(wait)));
    }
    Look { below: None, next }
}

/// How long ago a stamp was made; `None` where that is not known. `known` is the newest stamp with a time
/// of day, of whatever boot.
fn age(stamp: Stamp, known: Stamp, now: Stamp) -> Option<Duration> {
    if stamp == Stamp::default() {
        return None;
    }
    if stamp.boot == now.boot {
        return Some(Duration::from_millis(
            now.mono_ms.saturating_sub(stamp.mono_ms),
        ));
    }
    if known.boot != stamp.boot || known.wall_ms == 0 || now.wall_ms == 0 {
        return None;
    }
    let before_known = known.mono_ms.saturating_sub(stamp.mono_ms);
    let made = known.wall_ms.saturating_sub(before_known);
    Some(Duration::from_millis(now.wall_ms.saturating_sub(made)))
}

impl Log {
    /// When [`expire`](Self::expire) has something to do; not before.
    pub fn expiry_due(&self) -> Mono {
        self.expiry_due
    }

    /// Drops the segments that are too old, acknowledged or not, if it is time to look.
    ///
    /// Writes a checkpoint when any go. Where nothing may be dropped, what was acknowledged goes with the
    /// checkpoints anyway, whatever its age.
    pub fn expire(&mut self) -> Result<(), Trouble> {
        let now = self.clock.mono();
        if now < self.expiry_due {
            return Ok(());
        }
        let Some(age_max) = self.age_max() else {
            self.expiry_due = Mono::NEVER;
            return Ok(());
        };
        let (before, stamp) = (self.shared.before(), self.clock.stamp());
        let look = self
            .shared
            .with_table(|table| look(table.sealed(), before, stamp, age_max));
        if let Some(to) = look.below.filter(|to| *to > self.shared.head()) {
            let wanted = self.slowest();
            if wanted.is_none_or(|position| position < to) {
                self.drop_below(to, wanted, Reason::Age);
            }
            self.shared.set_head(to);
        }
        if self.durable_head < self.shared.head() {
            self.checkpoint_as(false)?;
        }
        self.expiry_due = look.next.map_or(Mono::NEVER, |next| now.plus(next));
        Ok(())
    }

    fn age_max(&self) -> Option<Duration> {
        self.options.age_max.filter(|_| self.options.drop_oldest)
    }

    /// A segment was sealed: it is as old as can be when it is as old as may be.
    pub(super) fn expect_expiry(&mut self) {
        if let Some(age_max) = self.age_max() {
            let wait = age_max + Duration::from_millis(1);
            self.expiry_due = self.expiry_due.min(self.clock.mono().plus(wait));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const WALL: u64 = 1_800_000_000_000;

    fn at(boot: u64, hours: u64, wall_ms: u64) -> Stamp {
        Stamp {
            boot,
            mono_ms: 1000 + hours * 3_600_000,
            wall_ms,
        }
    }

    fn wall(hours: u64) -> u64 {
        WALL + hours * 3_600_000
    }

    /// Stamps from the oldest to the newest, of segments that end at 10, 20 and so on.
    fn below(stamps: &[Stamp], before: Stamp, now: Stamp) -> (Option<u64>, Option<Duration>) {
        let ends = (1..).map(|n| n * 10).zip(stamps.iter().copied());
        let ends: Vec<_> = ends.take(stamps.len()).collect();
        let look = look(ends.into_iter().rev(), before, now, 2 * HOUR);
        (look.below, look.next)
    }

    #[test]
    fn within_a_boot_the_time_of_day_does_not_count() {
        let stamps = [at(1, 1, wall(1)), at(1, 2, wall(2)), at(1, 4, wall(4))];
        for now in [0, wall(0), wall(4), wall(4000)] {
            let seen = below(&stamps, Stamp::default(), at(1, 4, now));
            let ms = Duration::from_millis(1);
            assert_eq!(seen, (Some(10), Some(ms)), "{now}");
        }
        let later = at(1, 4, 0);
        let later = Stamp {
            mono_ms: later.mono_ms + 1,
            ..later
        };
        let seen = below(&stamps, Stamp::default(), later);
        assert_eq!(seen, (Some(20), Some(2 * HOUR)));
    }

    #[test]
    fn between_boots_both_times_of_day_must_be_known() {
        let stamps = [at(1, 1, 0), at(1, 2, 0)];
        for now in [0, wall(4000)] {
            let (below, next) = below(&stamps, at(1, 3, 0), at(2, 0, now));
            assert_eq!(below, None);
            assert_eq!(next, (now == 0).then_some(UNKNOWN_PAUSE), "no polling");
        }
        let stamps = [at(1, 1, wall(1)), at(1, 2, wall(2))];
        let before = at(1, 2, wall(2));
        let seen = below(&stamps, before, at(2, 0, 0));
        assert_eq!(seen, (None, Some(UNKNOWN_PAUSE)));
        let seen = below(&stamps, before, at(2, 0, wall(4)));
        assert_eq!(seen, (Some(10), Some(Duration::from_millis(1))));
        let seen = below(&stamps, before, at(2, 0, wall(0)));
        assert_eq!(seen.0, None, "a clock that went back makes nothing old");
    }

    #[test]
    fn the_newest_stamp_of_a_boot_puts_the_others_right() {
        // At first the clock showed nothing, then a year too little.
        let stamps = [at(1, 1, 0), at(1, 2, wall(2) - 365 * 24 * 3_600_000)];
        let before = at(1, 3, wall(3));
        let seen = below(&stamps, before, at(2, 0, wall(4)));
        assert_eq!(seen.0, Some(10));
        let seen = below(&stamps, before, at(2, 0, wall(3)));
        assert_eq!(seen, (None, Some(Duration::from_millis(1))));
    }

    #[test]
    fn what_is_older_than_the_old_is_old() {
        let stamps = [at(1, 1, 0), at(2, 1, wall(5)), at(3, 1, 0)];
        let seen = below(&stamps, Stamp::default(), at(4, 0, wall(8)));
        assert_eq!(seen, (Some(20), None));
    }
}
