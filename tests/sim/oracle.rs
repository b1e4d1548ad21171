//! What was promised, and whether it is kept.

use std::collections::BTreeMap;

use forebay::format::Loss;

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was handed an offset; nothing was promised.
    Open,
    /// It was announced as durable, or found at an open.
    Promised,
    /// It was declared gone, and must not come back.
    Gone,
}

/// A record as the oracle remembers it: where its content comes from, and its fate.
#[derive(Clone, Copy, Debug)]
pub struct Remembered {
    pub id: u64,
    pub fate: Fate,
}

#[derive(Clone, Default)]
pub struct Oracle {
    records: BTreeMap<u64, Remembered>,
    /// Everything below was announced or declared gone.
    pub durable: u64,
    /// The greatest mark that a page or checkpoint can have on the medium.
    pub life: u64,
    /// The least head that an open may show, and the greatest.
    pub head_max: u64,
    /// The least position of the cursor after a crash, and the greatest.
    pub cursor_min: u64,
    pub cursor_max: u64,
    /// Damage was done to the store, so records may be missing that were promised.
    pub forgives: bool,
    pub forgiven: u64,
    pub salvaged: u64,
}

impl Oracle {
    /// The offset that was never handed out yet.
    pub fn next(&self) -> u64 {
        self.records
            .last_key_value()
            .map_or(0, |(offset, _)| offset + 1)
    }

    pub fn hand_out(&mut self, offset: u64, id: u64) {
        assert!(
            offset >= self.next(),
            "offset {offset} was handed out before, or skipped back"
        );
        self.records.insert(
            offset,
            Remembered {
                id,
                fate: Fate::Open,
            },
        );
    }

    /// Everything below `durable` is on the medium, the engine says.
    pub fn announce(&mut self, durable: u64) {
        for (_, record) in self.records.range_mut(self.durable.min(durable)..durable) {
            if record.fate == Fate::Open {
                record.fate = Fate::Promised;
            }
        }
        self.durable = self.durable.max(durable);
    }

    /// The run ended: what was not announced was not promised.
    pub fn end_run(&mut self) {
        for record in self.records.values_mut() {
            if record.fate == Fate::Open {
                record.fate = Fate::Gone;
            }
        }
    }

    /// What became of each record.
    pub fn fates(&self) -> impl Iterator<Item = (u64, Fate)> {
        self.records
            .iter()
            .map(|(offset, record)| (*offset, record.fate))
    }

    pub fn id_at(&self, offset: u64) -> Option<u64> {
        self.records.get(&offset).map(|record| record.id)
    }

    /// Every record that was read is one that was handed out, with its content, and was not gone.
    pub fn check_read(&self, offset: u64, id: u64) {
        let Some(record) = self.records.get(&offset) else {
            panic!("a record at offset {offset}, which nobody was handed");
        };
        assert_eq!(record.id, id, "another record at offset {offset}");
        assert_ne!(
            record.fate,
            Fate::Gone,
            "the record at {offset} had been declared gone: a ghost"
        );
    }

    /// A reader in the middle of anything has all promised records from `from` up to `to`.
    pub fn check_complete(&mut self, from: u64, to: u64, found: &[u64]) {
        for (offset, record) in self.records.range(from..to.max(from)) {
            if record.fate == Fate::Promised && found.binary_search(offset).is_err() {
                assert!(self.forgives, "the durable record {offset} is missing");
                self.forgiven += 1;
            }
        }
    }

    /// What an open found. From now on that is promised, and the rest is gone.
    pub fn opened(
        &mut self,
        head: u64,
        next: u64,
        found: &[u64],
        ledger: &[Loss],
        evidence: u64,
        settled: u64,
    ) {
        assert!(
            next >= self.next(),
            "the next offset {next} was handed out before"
        );
        if !self.forgives {
            let known = self.durable.max(settled);
            assert!(
                evidence <= known,
                "evidence {evidence} for what never was durable"
            );
        }
        let covered = |offset: u64| {
            ledger
                .iter()
                .any(|loss| (loss.start..loss.end).contains(&offset))
        };
        self.check_complete(head, next, found);
        for (offset, record) in self.records.range_mut(head..next) {
            if found.binary_search(offset).is_ok() {
                if record.fate == Fate::Open {
                    self.salvaged += 1;
                }
                record.fate = Fate::Promised;
            } else {
                assert!(
                    covered(*offset),
                    "record {offset} is gone and the ledger does not say so"
                );
                if record.fate == Fate::Open {
                    let damage = ledger.iter().any(|loss| {
                        (loss.start..loss.end).contains(offset)
                            && loss.reason == forebay::format::Reason::Damage
                    });
                    assert!(
                        !damage || self.forgives,
                        "record {offset} never was durable; it reads as damage"
                    );
                }
                record.fate = Fate::Gone;
            }
        }
        for (_, record) in self.records.range_mut(..head) {
            record.fate = Fate::Gone;
        }
        self.durable = self.durable.max(next);
    }
}
