//! What a request and its answer tell about shards.

use super::answer::{Entry, Kind};
use super::{Batch, Kinesis, body};

impl Kinesis {
    /// The digest of the key of the request's record at `place`.
    fn digest(&self, batch: &Batch<'_>, place: usize) -> u128 {
        self.digests.get(place).copied().unwrap_or_else(|| {
            let record = batch.get(self.sent[place]);
            body::digest_of(record.offset, record.key)
        })
    }

    /// The service asks to slow down, and does not say which shards.
    pub(super) fn throttle_all(&self, batch: &Batch<'_>) {
        let now = self.shared.clock.mono();
        for place in 0..self.sent.len() {
            let digest = self.digest(batch, place);
            self.shared.pace.throttle(digest, None, now);
        }
    }

    /// Notes which shards the records went to, and which have no room.
    pub(super) fn learn(&self, batch: &Batch<'_>) {
        let (pace, now) = (&self.shared.pace, self.shared.clock.mono());
        let mut only = pace.only();
        let entries = self.entries.list().iter().zip(self.entries.shards());
        for (place, (entry, shard)) in entries.enumerate() {
            match (entry, *shard) {
                (Entry::Accepted, Some(number)) if only != Some(number) => {
                    pace.learn(self.digest(batch, place), number);
                    only = pace.only();
                }
                (Entry::Failed(Kind::Throttled), number) => {
                    pace.throttle(self.digest(batch, place), number, now);
                }
                _ => {}
            }
        }
    }
}
