//! Records from before the time of day was known get the time of their append.
//!
//! A gateway without a battery-backed clock boots in 1970, and its producers stamp what they append with
//! that. The log keeps boot and boot clock of each append: as soon as one instant of that boot is known with
//! its time of day, all are. That is looked for at each submission, so what waits for its line is put right
//! when the clock comes with the line.
//!
//! **Invariants.** The log keeps what the producer said. A time once put right stays as it is until the
//! process ends.

use super::Exporter;
use super::window::State;
use crate::clock::{Stamp, WALL_KNOWN_MS};
use crate::counters::CursorCounter;

impl Exporter {
    /// Puts the times right of the records that a lane is about to send.
    pub(super) fn rebase(&mut self, lane: usize) {
        let now = self.clock.stamp();
        let lane = &self.lanes[lane];
        let whole = lane.whole.into_iter().flat_map(|at| {
            let count = self.window.chunks[at].slots.len();
            (0..count).map(move |entry| (at, entry))
        });
        let picks = lane.picks.iter();
        let picks = picks.map(|pick| (pick.buffer as usize, pick.entry as usize));
        let (mut corrected, mut unknown) = (0, 0);
        // One look for all of a boot: most have come from one.
        let mut known: Option<(u64, Stamp)> = None;
        for (at, entry) in whole.chain(picks) {
            let (buffer, slot) = (
                &mut self.window.buffers[at],
                self.window.chunks[at].slots[entry],
            );
            debug_assert_eq!(slot.state, State::Away);
            if buffer.time_ms(entry) >= WALL_KNOWN_MS {
                continue;
            }
            let appended = buffer.entries()[entry].appended;
            let known = match known {
                Some((boot, known)) if boot == appended.boot => known,
                _ => {
                    let found = match appended.boot == now.boot && now.wall_ms > 0 {
                        true => Some(now),
                        false => self.cursor.shared().stamp_of(appended.boot),
                    };
                    known.insert((appended.boot, found.unwrap_or_default())).1
                }
            };
            match time_of(appended, known) {
                Some(time_ms) => {
                    buffer.set_time(entry, time_ms);
                    corrected += 1;
                }
                // Those that are sent again were counted.
                None => unknown += u64::from(slot.submissions == 1),
            }
        }
        self.cursor.add(CursorCounter::TimesCorrected, corrected);
        self.cursor.add(CursorCounter::TimesUnknown, unknown);
    }
}

/// The time of day of an append. `known` is another instant with its time of day, perhaps of the same boot.
fn time_of(appended: Stamp, known: Stamp) -> Option<u64> {
    if appended.wall_ms > 0 {
        return Some(appended.wall_ms);
    }
    // A kernel that does not tell its boot says 0 each time.
    if appended.boot == 0 || appended.boot != known.boot || known.wall_ms == 0 {
        return None;
    }
    let time_ms = known.wall_ms.checked_add(appended.mono_ms)?;
    time_ms.checked_sub(known.mono_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(boot: u64, mono_ms: u64, wall_ms: u64) -> Stamp {
        Stamp {
            boot,
            mono_ms,
            wall_ms,
        }
    }

    #[test]
    fn a_time_follows_from_another_of_the_same_boot() {
        let synced = stamp(7, 90_000, 1_800_000_000_000);
        assert_eq!(time_of(stamp(7, 2_000, 0), synced), Some(1_799_999_912_000));
        assert_eq!(
            time_of(stamp(7, 92_000, 0), synced),
            Some(1_800_000_002_000)
        );
        assert_eq!(time_of(stamp(8, 2_000, 1_700), synced), Some(1_700));
    }

    #[test]
    fn what_nobody_knows_is_not_made_up() {
        let synced = stamp(7, 90_000, 1_800_000_000_000);
        assert_eq!(time_of(stamp(8, 2_000, 0), synced), None);
        assert_eq!(time_of(stamp(7, 2_000, 0), stamp(7, 90_000, 0)), None);
        assert_eq!(time_of(stamp(0, 2_000, 0), stamp(0, 90_000, 1_800)), None);
    }
}
