//! Time: since the boot, of the day, and which boot this is. Nothing else in the crate asks the time.
//!
//! Waits are measured on the boot clock, which runs on while a board sleeps and never steps. The time
//! of day may be unknown (a gateway without a battery-backed clock boots in 1970) and may step; it is
//! only ever written beside the boot clock, so that it can be put right later.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The time of day counts as known from this instant on: 2024-01-01T00:00:00Z, in milliseconds. A clock
/// that shows less has not been set since the board booted.
pub const WALL_KNOWN_MS: u64 = 1_704_067_200_000;

/// An instant on the boot clock, in nanoseconds since the boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Mono(pub u64);

impl Mono {
    /// An instant that never comes.
    pub const NEVER: Mono = Mono(u64::MAX);

    /// Whole milliseconds since the boot.
    pub fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// This instant put off by `wait`; [`Mono::NEVER`] when that is beyond the clock.
    #[must_use]
    pub fn plus(self, wait: Duration) -> Mono {
        let nanos = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        Mono(self.0.saturating_add(nanos))
    }

    /// How long from `earlier` until this instant; zero when it lies in the past.
    pub fn since(self, earlier: Mono) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// When something happened: which boot, how long after it, and the time of day if it was known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Stamp {
    /// Names the boot; equal values mean that `mono_ms` can be compared.
    pub boot: u64,
    /// Milliseconds since that boot.
    pub mono_ms: u64,
    /// Milliseconds since 1970 at that instant; 0 when the time of day was not known.
    pub wall_ms: u64,
}

impl Stamp {
    /// The time of day in whole seconds since 1970; 0 when it was not known.
    pub fn wall_s(self) -> u32 {
        u32::try_from(self.wall_ms / 1000).unwrap_or(u32::MAX)
    }
}

/// A clock. The real one is [`System`]; tests bring their own.
pub trait Clock: Send + Sync {
    /// Now, on the boot clock.
    fn mono(&self) -> Mono;
    /// Milliseconds since 1970 as the system has them, set or not.
    fn wall_ms(&self) -> u64;
    /// Names this boot.
    fn boot(&self) -> u64;

    /// Now, as it is written down.
    fn stamp(&self) -> Stamp {
        let wall_ms = self.wall_ms();
        Stamp {
            boot: self.boot(),
            mono_ms: self.mono().as_millis(),
            wall_ms: if wall_ms >= WALL_KNOWN_MS { wall_ms } else { 0 },
        }
    }
}

/// The system's clocks. Reading them calls the kernel only where its fast path is missing.
#[derive(Debug)]
pub struct System {
    boot: u64,
}

impl System {
    /// Reads which boot this is; 0 where the kernel does not tell.
    #[allow(clippy::disallowed_methods)] // the boot id is a file, and this is the place that asks for it
    pub fn new() -> Self {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Self {
            boot: boot_from_text(&text),
        }
    }
}

impl Default for System {
    fn default() -> Self {
        Self::new()
    }
}

/// The first 16 hexadecimal digits of the kernel's boot id.
fn boot_from_text(text: &str) -> u64 {
    let digits = text.chars().filter_map(|c| c.to_digit(16)).take(16);
    digits.fold(0, |boot, digit| boot << 4 | u64::from(digit))
}

impl Clock for System {
    fn mono(&self) -> Mono {
        let now = clock_gettime(ClockId::Boottime);
        // Neither part of this clock is ever negative.
        Mono(now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs())
    }

    fn wall_ms(&self) -> u64 {
        let now = clock_gettime(ClockId::Realtime);
        let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
        seconds * 1000 + now.tv_nsec.unsigned_abs() / 1_000_000
    }

    fn boot(&self) -> u64 {
        self.boot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_id_is_its_first_sixteen_digits() {
        assert_eq!(
            boot_from_text("0123456789ab-cdef-ffff-ffff\n"),
            0x0123_4567_89ab_cdef
        );
        assert_eq!(boot_from_text(""), 0);
    }

    #[test]
    fn instants_far_ahead_never_come() {
        assert_eq!(Mono(5).plus(Duration::MAX), Mono::NEVER);
        assert_eq!(Mono(5).since(Mono(9)), Duration::ZERO);
    }
}
