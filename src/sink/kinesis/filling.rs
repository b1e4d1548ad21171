//! Which records go into a request, and in what form.

use std::sync::Arc;

use super::Kinesis;
use super::body::Added;
use super::envelope::{self, Origin};
use crate::sink::text::Text;
use crate::sink::{Answer, Batch, Outcome};

impl Kinesis {
    /// Makes a request of the stretch's records, as many as have room; where the next one begins.
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
        let mut next = to;
        for index in from..to {
            match self.add(batch, index, &origin) {
                Added::Here => self.sent.push(index),
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
        }
        answer.add_mapped(self.body.take_mapped());
        next
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
