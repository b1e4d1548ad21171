//! Which records go into a request, and in what form.

use std::sync::Arc;
use std::time::Duration;

use super::Kinesis;
use super::body::{Added, digest_of};
use super::envelope::{self, Origin};
use crate::sink::text::Text;
use crate::sink::{Answer, Batch, Outcome};

impl Kinesis {
    /// Makes a request of the stretch's records, as many as have room, in it and in their shards; where the
    /// next one begins.
    /// What fits into no request is rejected here, before any holds it.
    pub(super) fn fill(
        &mut self,
        batch: &Batch<'_>,
        from: usize,
        to: usize,
        answer: &mut Answer<'_>,
    ) -> usize {
        self.body.clear();
        self.sent.clear();
        self.digests.clear();
        self.wait = Duration::ZERO;
        if let Some(aggregates) = &mut self.aggregates {
            aggregates.clear(to - from);
        }
        let shared = Arc::clone(&self.shared);
        let options = &shared.options;
        let origin = Origin {
            store: batch.store().0,
            epoch: batch.epoch(),
            device: options.device.as_ref().map_or("", Text::reveal),
            stream: batch.stream(),
        };
        let (pace, now) = (&shared.pace, shared.clock.mono());
        let is_one = pace.only().is_some();
        let mut next = to;
        for index in from..to {
            let digest = self.digest_before(batch, index, is_one);
            self.wait = pace.wait(digest, now);
            if !self.wait.is_zero() {
                next = index;
                break;
            }
            match self.add(batch, index, &origin) {
                Added::Here => {
                    self.sent.push(index);
                    let (records, len) = self.just_added(batch, index);
                    pace.take(digest, records, len, now);
                    // An aggregate's records have one digest; one shard needs none.
                    if records > 0 && (self.aggregates.is_some() || !is_one) {
                        self.digests.push(digest);
                    }
                }
                Added::NextTime => {
                    next = index;
                    break;
                }
                Added::Never => {
                    let max = options.record_bytes_max.min(options.request_bytes_max);
                    let text = format!("longer than the {max} bytes that the stream takes");
                    answer.set(index, Outcome::Rejected(&text));
                }
            }
        }
        if let Some(aggregates) = &mut self.aggregates {
            aggregates.write(batch, &origin, &mut self.body);
            if options.compresses {
                for (digest, len) in self.digests.iter().zip(aggregates.lens()) {
                    pace.take(*digest, 0, len, now);
                }
            }
        }
        answer.add_mapped(self.body.take_mapped());
        next
    }

    /// What a record's shard is found by: its key's digest, or its group's.
    fn digest_before(&mut self, batch: &Batch<'_>, index: usize, is_one: bool) -> u128 {
        if let Some(aggregates) = &mut self.aggregates {
            return aggregates.digest_of(batch, index);
        }
        let record = batch.get(index);
        match is_one {
            true => 0,
            false => digest_of(record.offset, record.key),
        }
    }

    /// How many of the service's records the last one made, and how many bytes: what is compressed is
    /// counted when that is known.
    fn just_added(&self, batch: &Batch<'_>, index: usize) -> (u64, usize) {
        let record = batch.get(index);
        let options = &self.shared.options;
        let data = match (
            options.compresses,
            self.aggregates.is_none() && options.has_envelope,
        ) {
            (true, _) => return (self.is_new(), 0),
            (_, true) => self.data.len(),
            _ => record.payload.len(),
        };
        (self.is_new(), record.key.len() + data)
    }

    /// 1 when the last record that was added is the first in one of the service's.
    fn is_new(&self) -> u64 {
        let aggregates = self.aggregates.as_ref();
        u64::from(aggregates.is_none_or(|aggregates| aggregates.count() > self.digests.len()))
    }

    fn add(&mut self, batch: &Batch<'_>, index: usize, origin: &Origin<'_>) -> Added {
        let record = batch.get(index);
        if let Some(aggregates) = &mut self.aggregates {
            let added = aggregates.add(batch, index, origin);
            if added == Added::Here {
                self.body.note_key(&record);
            }
            return added;
        }
        let data = match self.shared.options.has_envelope {
            true => {
                self.data.clear();
                envelope::write_one(&mut self.data, origin, &record);
                &self.data[..]
            }
            false => record.payload,
        };
        self.body.add(record.offset, record.key, data)
    }
}
