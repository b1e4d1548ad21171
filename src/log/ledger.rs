//! What was lost: a bounded list of ranges, part of the store.

use heapless::Vec;

use crate::format::{LEDGER_MAX, Loss, Reason};

/// Ranges of offsets whose records are gone, by rising offset, apart from each other.
///
/// When it is full, the two neighbours with the least between them become one range, which then also
/// covers what lies between; counts stay exact. So the ledger never forgets a loss, and a range of it
/// means "what is missing in here is missing for this reason", never "nothing is here".
#[derive(Debug, Default)]
pub struct Ledger {
    ranges: Vec<Loss, LEDGER_MAX>,
    changed: bool,
    /// Damage that nobody was told of.
    untold: Vec<Loss, UNTOLD_MAX>,
}

/// So much damage waits to be told one by one; what is more comes with the last.
const UNTOLD_MAX: usize = 16;

impl Ledger {
    /// The ledger of a checkpoint.
    pub fn from_checkpoint(ranges: &Vec<Loss, LEDGER_MAX>) -> Self {
        Self {
            ranges: ranges.clone(),
            ..Self::default()
        }
    }

    /// The ranges.
    pub fn ranges(&self) -> &Vec<Loss, LEDGER_MAX> {
        &self.ranges
    }

    /// Whether anything was added since this was last asked.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// The damage that was added since this was last asked.
    pub fn take_damage(&mut self) -> impl Iterator<Item = Loss> + use<> {
        std::mem::take(&mut self.untold).into_iter()
    }

    /// Adds a loss, without what the ledger has already.
    pub fn add(&mut self, loss: Loss) {
        self.add_with(loss, |ledger, part| {
            if part.reason == Reason::Damage
                && let Err(part) = ledger.untold.push(part)
                && let Some(last) = ledger.untold.last_mut()
            {
                last.start = last.start.min(part.start);
                last.end = last.end.max(part.end);
                last.count += part.count;
            }
        });
    }

    /// Calls `each` with each part that is new.
    fn add_with(&mut self, loss: Loss, each: impl Fn(&mut Self, Loss)) {
        let mut start = loss.start;
        while start < loss.end {
            // The next stretch that no range covers.
            let at = self.ranges.partition_point(|range| range.end <= start);
            let next = self.ranges.get(at);
            if let Some(range) = next.filter(|range| range.start <= start) {
                start = range.end;
                continue;
            }
            let end = next.map_or(loss.end, |range| range.start.min(loss.end));
            let all = loss.end - loss.start;
            // The part's share of the count: exact where the count is all or nothing.
            let count = if all == 0 {
                0
            } else {
                mul_div(loss.count, end - start, all)
            };
            let part = Loss {
                start,
                end,
                count,
                ..loss
            };
            each(self, part);
            self.insert(at, part);
            start = end;
        }
    }

    fn insert(&mut self, at: usize, loss: Loss) {
        self.changed = true;
        let touches = |a: &Loss, b: &Loss| a.end == b.start && a.reason == b.reason;
        let before = at
            .checked_sub(1)
            .filter(|before| touches(&self.ranges[*before], &loss));
        let joins_behind = self
            .ranges
            .get(at)
            .is_some_and(|behind| touches(&loss, behind));
        match (before, joins_behind) {
            (Some(before), true) => {
                let behind = self.ranges.remove(at);
                let before = &mut self.ranges[before];
                before.end = behind.end;
                before.count += loss.count + behind.count;
            }
            (Some(before), false) => {
                let before = &mut self.ranges[before];
                before.end = loss.end;
                before.count += loss.count;
            }
            (None, true) => {
                let behind = &mut self.ranges[at];
                behind.start = loss.start;
                behind.count += loss.count;
            }
            (None, false) if self.ranges.is_full() => {
                self.merge_nearest();
                self.add_again(loss);
            }
            (None, false) => {
                let full = self.ranges.insert(at, loss).is_err();
                assert!(!full, "there is room, as just seen");
            }
        }
    }

    /// Adds what has been told already.
    fn add_again(&mut self, loss: Loss) {
        self.add_with(loss, |_, _| {});
    }

    /// Makes one range of the two neighbours that have the least between them.
    fn merge_nearest(&mut self) {
        let pairs = self.ranges.windows(2).enumerate();
        let nearest = pairs.min_by_key(|(_, pair)| pair[1].start - pair[0].end);
        let Some((at, _)) = nearest else { return };
        let gone = self.ranges.remove(at + 1);
        let kept = &mut self.ranges[at];
        // The reason of the greater part stands for both.
        if gone.end - gone.start > kept.end - kept.start {
            kept.reason = gone.reason;
            kept.wall_s = gone.wall_s;
        }
        kept.end = gone.end;
        kept.count += gone.count;
    }

    /// The range that covers an offset.
    pub fn covering(&self, offset: u64) -> Option<&Loss> {
        let at = self.ranges.partition_point(|range| range.end <= offset);
        self.ranges.get(at).filter(|range| range.start <= offset)
    }

    /// How many offsets from `start` up to `end` the ranges cover.
    pub fn covered(&self, start: u64, end: u64) -> u64 {
        let part = |range: &Loss| range.end.min(end).saturating_sub(range.start.max(start));
        self.ranges.iter().map(part).sum()
    }

    /// How many records were lost for a reason, as far as it is known.
    pub fn count(&self, reason: Reason) -> u64 {
        self.ranges
            .iter()
            .filter(|range| range.reason == reason)
            .map(|range| range.count)
            .sum()
    }
}

/// `a * b / c` without overflow in between; `b <= c`.
fn mul_div(a: u64, b: u64, c: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    u64::try_from(product / u128::from(c)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loss(start: u64, end: u64, reason: Reason) -> Loss {
        Loss {
            start,
            end,
            count: end - start,
            wall_s: 0,
            reason,
        }
    }

    fn spans(ledger: &Ledger) -> std::vec::Vec<(u64, u64, u64)> {
        ledger
            .ranges()
            .iter()
            .map(|range| (range.start, range.end, range.count))
            .collect()
    }

    #[test]
    fn what_is_known_already_is_not_added_twice() {
        let mut ledger = Ledger::default();
        ledger.add(loss(10, 20, Reason::Damage));
        ledger.add(loss(30, 40, Reason::NeverDurable));
        assert!(ledger.take_changed());
        ledger.add(loss(12, 18, Reason::Quota));
        assert!(!ledger.take_changed());
        ledger.add(loss(5, 35, Reason::Quota));
        assert_eq!(
            spans(&ledger),
            [(5, 10, 5), (10, 20, 10), (20, 30, 10), (30, 40, 10)]
        );
        assert_eq!(ledger.covered(0, 100), 35);
        assert_eq!(ledger.covering(29).unwrap().reason, Reason::Quota);
        assert!(ledger.covering(40).is_none() && ledger.covering(4).is_none());
    }

    /// `L-25`: each damage is told once, whoever meets it, and none is left out.
    #[test]
    fn damage_is_told_when_it_is_new() {
        let mut ledger = Ledger::default();
        ledger.add(loss(10, 20, Reason::Damage));
        ledger.add(loss(5, 30, Reason::Damage));
        ledger.add(loss(40, 50, Reason::Quota));
        let told: std::vec::Vec<_> = ledger.take_damage().map(|l| (l.start, l.end)).collect();
        assert_eq!(told, [(10, 20), (5, 10), (20, 30)]);
        ledger.add(loss(8, 25, Reason::Damage));
        assert_eq!(ledger.take_damage().count(), 0);
        let again = Ledger::from_checkpoint(ledger.ranges()).take_damage();
        assert_eq!(again.count(), 0, "what a checkpoint has was told");
        for n in 0..1000u64 {
            ledger.add(loss(100 + n * 10, 103 + n * 10, Reason::Damage));
        }
        let told = ledger.take_damage();
        assert_eq!(told.map(|loss| loss.count).sum::<u64>(), 3000);
    }

    #[test]
    fn a_range_that_grows_stays_one() {
        let mut ledger = Ledger::default();
        for start in [0, 10, 20, 40, 30] {
            ledger.add(loss(start, start + 10, Reason::Quota));
        }
        assert_eq!(spans(&ledger), [(0, 50, 50)]);
        assert_eq!(ledger.count(Reason::Quota), 50);
    }

    #[test]
    fn a_full_ledger_forgets_nothing() {
        let mut ledger = Ledger::default();
        let mut total = 0;
        for n in 0..1000u64 {
            let start = n * 100 + n % 7;
            ledger.add(loss(start, start + 3, Reason::Damage));
            total += 3;
            assert!(ledger.ranges().len() <= LEDGER_MAX);
        }
        assert_eq!(ledger.count(Reason::Damage), total);
        for n in 0..1000u64 {
            assert!(ledger.covering(n * 100 + n % 7 + 1).is_some());
        }
    }

    /// What touches a range of the same reason on either side, or on both.
    #[test]
    fn a_range_that_touches_another_joins_it() {
        for (starts, joined) in [
            (&[40, 30][..], (30, 50, 20)),
            (&[30, 40], (30, 50, 20)),
            (&[20, 40, 30], (20, 50, 30)),
        ] {
            let mut ledger = Ledger::default();
            for start in starts {
                ledger.add(loss(*start, start + 10, Reason::Age));
            }
            assert_eq!(spans(&ledger), [joined]);
            ledger.add(loss(joined.1, joined.1 + 5, Reason::Damage));
            assert_eq!(ledger.ranges().len(), 2, "another reason");
        }
    }

    /// The two that have the least between them become one, and the longer one says why.
    #[test]
    fn a_full_ledger_joins_its_nearest_ranges() {
        for (first, second, reason) in [
            (7, 8, Reason::Age),
            (8, 7, Reason::Damage),
            (8, 8, Reason::Damage),
        ] {
            let mut ledger = Ledger::default();
            for n in 0..LEDGER_MAX as u64 - 1 {
                ledger.add(loss(1000 * n, 1000 * n + first, Reason::Damage));
            }
            let at = 50_000;
            let behind = at + first + 5;
            let later = Loss {
                wall_s: 9,
                ..loss(behind, behind + second, Reason::Age)
            };
            ledger.add(later);
            assert!(ledger.ranges().is_full());
            ledger.add(loss(1_000_000, 1_000_001, Reason::Quota));
            assert!(ledger.ranges().is_full());
            let joined = Loss {
                start: at,
                end: behind + second,
                count: first + second,
                wall_s: if reason == Reason::Age { 9 } else { 0 },
                reason,
            };
            assert_eq!(ledger.covering(at), Some(&joined));
        }
    }
}
