//! The time of day as the service has it.
//!
//! A signature holds for five minutes around its time, and a gateway's clock may show 1970. So the time
//! is taken from the service: its `Date`, held against the middle of the request on the boot clock. From
//! then on requests are signed by the boot clock, which no step of the time of day can reach.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::{Clock, Mono};

/// A difference below this is no reason for a refused signature.
const SKEW_MIN_MS: u64 = 4 * 60 * 1000;
/// An answer that took longer says too little about when its date was.
const ROUND_TRIP_MAX: Duration = Duration::from_secs(15 * 60);

/// When a request was sent, when its answer came, and the date in it.
#[derive(Clone, Copy, Debug)]
pub struct Dated {
    pub sent: Mono,
    pub received: Mono,
    /// Milliseconds since 1970; `None`: it had no date, or came out of a cache.
    pub date_ms: Option<u64>,
}

impl Dated {
    /// Milliseconds since 1970 when the boot clock began. `None`: it does not tell.
    fn began_ms(&self) -> Option<u64> {
        let round_trip = self.received.since(self.sent);
        if round_trip > ROUND_TRIP_MAX {
            return None;
        }
        let middle = self.sent.plus(round_trip / 2);
        self.date_ms?.checked_sub(middle.as_millis())
    }
}

/// Tells the time. All lanes of a sink have the same.
#[derive(Debug, Default)]
pub struct Time {
    /// Milliseconds since 1970 when the boot clock began, as the service sees it; 0: nobody has asked.
    began_ms: AtomicU64,
}

impl Time {
    /// Milliseconds since 1970.
    pub fn now_ms(&self, clock: &dyn Clock) -> u64 {
        match self.began_ms.load(Ordering::Relaxed) {
            0 => clock.wall_ms(),
            began => began.saturating_add(clock.mono().as_millis()),
        }
    }

    /// A request that was signed at `signed_ms` was refused. Whether the time was the reason: then it is
    /// right from now on.
    pub fn correct(&self, signed_ms: u64, dated: &Dated) -> bool {
        let Some(began) = dated.began_ms() else {
            return false;
        };
        let there = began.saturating_add(dated.sent.as_millis());
        if there.abs_diff(signed_ms) < SKEW_MIN_MS {
            return false;
        }
        self.began_ms.store(began, Ordering::Relaxed);
        true
    }

    /// A request was taken: where the time is the service's, it stays so although clocks drift.
    pub fn follow(&self, dated: &Dated) {
        if self.began_ms.load(Ordering::Relaxed) == 0 {
            return;
        }
        if let Some(began) = dated.began_ms() {
            self.began_ms.store(began, Ordering::Relaxed);
        }
    }
}

/// Milliseconds since 1970 of an HTTP date: `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn http_date_ms(text: &str) -> Option<u64> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let (_, text) = text.split_once(", ")?;
    let mut parts = text.split(' ');
    let (day, month, year) = (parts.next()?, parts.next()?, parts.next()?);
    let (time, zone) = (parts.next()?, parts.next()?);
    if month.len() != 3 || zone != "GMT" || parts.next().is_some() {
        return None;
    }
    let month = MONTHS.find(month).filter(|at| at % 3 == 0)? / 3 + 1;
    date_ms(year.parse().ok()?, month as u64, day.parse().ok()?, time)
}

/// Milliseconds since 1970 of a date as credentials have it: `2018-01-18T09:18:06Z`, with parts of a second
/// or without.
pub fn iso_date_ms(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let time = time.split('.').next()?;
    let mut parts = date.split('-').map(str::parse);
    let (year, month) = (parts.next()?.ok()?, parts.next()?.ok()?);
    date_ms(year, month, parts.next()?.ok()?, time)
}

fn date_ms(year: u64, month: u64, day: u64, time: &str) -> Option<u64> {
    let mut parts = time.split(':').map(str::parse::<u64>);
    let (hour, minute) = (parts.next()?.ok()?, parts.next()?.ok()?);
    let second = parts.next()?.ok()?;
    let is_date = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !is_date || parts.next().is_some() {
        return None;
    }
    // Years that begin in March: the day that is inserted is their last.
    let (year, month) = match month {
        1 | 2 => (year - 1, month + 9),
        _ => (year, month - 3),
    };
    let leaps = year / 4 - year / 100 + year / 400;
    let days = year * 365 + leaps + (month * 153 + 2) / 5 + day - 1;
    let days = days.checked_sub(719_468)?; // those before 1970
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    /// A clock of which both hands are set by hand.
    #[derive(Default)]
    struct Set {
        mono_ms: AtomicU64,
        wall_ms: AtomicU64,
    }

    impl Clock for Set {
        fn mono(&self) -> Mono {
            Mono(self.mono_ms.load(Ordering::Relaxed) * 1_000_000)
        }

        fn wall_ms(&self) -> u64 {
            self.wall_ms.load(Ordering::Relaxed)
        }

        fn boot(&self) -> u64 {
            1
        }
    }

    const TRUE_MS: u64 = 1_800_000_000_000;

    fn millis(ms: u64) -> Mono {
        Mono(ms * 1_000_000)
    }

    #[test]
    fn dates_are_read() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(http_date_ms(date), Some(784_111_777_000));
        assert_eq!(
            http_date_ms("Thu, 29 Feb 2024 00:00:00 GMT"),
            iso_date_ms("2024-02-29T00:00:00Z")
        );
        assert_eq!(iso_date_ms("1970-01-01T00:00:01Z"), Some(1000));
        assert_eq!(
            iso_date_ms("2018-01-18T09:18:06.123Z"),
            Some(1_516_267_086_000)
        );
        assert_eq!(iso_date_ms("2000-03-01T00:00:00Z"), Some(951_868_800_000));
        for bad in [
            "",
            "Sunday",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 06 anF 1994 08:49:37 GMT",
        ] {
            assert_eq!(http_date_ms(bad), None, "{bad}");
        }
        for bad in [
            "",
            "2018-01-18",
            "2018-01-18T09:18:06",
            "2018-13-18T09:18:06Z",
            "1960-01-01T00:00:00Z",
        ] {
            assert_eq!(iso_date_ms(bad), None, "{bad}");
        }
    }

    /// `L-112`, `L-113`: a clock in 1970, ten minutes behind, and ahead; and one that is stepped while the
    /// request is on its way: after one refusal the time is right to the second.
    #[test]
    fn one_refusal_puts_the_time_right() {
        for (wall, stepped) in [
            (0, 0),
            (TRUE_MS - 600_000, TRUE_MS - 600_000),
            (TRUE_MS + 600_000, TRUE_MS + 600_000),
            (0, TRUE_MS),
            (TRUE_MS - 3_600_000, 0),
        ] {
            let (clock, time) = (Set::default(), Time::default());
            clock.mono_ms.store(5_000, Ordering::Relaxed);
            clock.wall_ms.store(wall, Ordering::Relaxed);
            let signed = time.now_ms(&clock);
            assert_eq!(signed, wall);
            clock.wall_ms.store(stepped, Ordering::Relaxed);
            clock.mono_ms.store(5_800, Ordering::Relaxed);
            let dated = Dated {
                sent: millis(5_000),
                received: millis(5_800),
                date_ms: Some(TRUE_MS),
            };
            assert!(time.correct(signed, &dated));
            assert_eq!(time.now_ms(&clock), TRUE_MS + 400);
            // Nor does a later step matter.
            clock.wall_ms.store(7, Ordering::Relaxed);
            assert_eq!(time.now_ms(&clock), TRUE_MS + 400);
        }
    }

    #[test]
    fn what_says_nothing_about_the_time_changes_nothing() {
        let (clock, time) = (Set::default(), Time::default());
        let dated = Dated {
            sent: millis(1000),
            received: millis(1000),
            date_ms: None,
        };
        assert!(!time.correct(0, &dated));
        let late = Dated {
            received: millis(1000 + 16 * 60_000),
            date_ms: Some(TRUE_MS),
            ..dated
        };
        assert!(!time.correct(0, &late));
        // A difference that no service minds: the signature itself is wrong.
        let near = Dated {
            date_ms: Some(TRUE_MS),
            ..dated
        };
        assert!(!time.correct(TRUE_MS - 200_000, &near));
        time.follow(&near);
        assert_eq!(time.now_ms(&clock), 0);
    }

    #[test]
    fn a_time_that_was_corrected_follows_the_service() {
        let (clock, time) = (Set::default(), Time::default());
        let dated = |ms, date| Dated {
            sent: millis(ms),
            received: millis(ms),
            date_ms: Some(date),
        };
        assert!(time.correct(0, &dated(0, TRUE_MS)));
        time.follow(&dated(1_000_000, TRUE_MS + 1_002_000));
        clock.mono_ms.store(1_000_000, Ordering::Relaxed);
        assert_eq!(time.now_ms(&clock), TRUE_MS + 1_002_000);
    }
}
