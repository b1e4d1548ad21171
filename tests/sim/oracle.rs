//! What was promised, and whether it is kept.

use std::collections::{BTreeMap, BTreeSet};

use forebay::format::{Loss, Reason};

use super::storage::damage::Victims;

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
    /// What damage to single bytes may have cost.
    pub hit: BTreeSet<u64>,
    /// Damage was done to something of which there are two.
    pub is_double_hit: bool,
    /// Below this offset the bytes of the store proved everything to be durable, before it was opened.
    pub proven: u64,
    /// The least of these since an open was last seen to its end: what was decided is in the ledger for good.
    pub proven_min: Option<u64>,
    /// Damage that was done to the store: what it hit may be missing although it was promised.
    pub damage: Victims,
    pub forgiven: u64,
    pub salvaged: u64,
    /// The process died and the machine did not: its ring is found, and what it accepted is there.
    pub keeps_ring: bool,
}

/// What an open found.
pub struct Found<'a> {
    pub head: u64,
    pub next: u64,
    pub durable: u64,
    /// Where the ring of the run before ended.
    pub ring_end: Option<u64>,
    /// The records that can be read.
    pub offsets: &'a [u64],
    pub ledger: &'a [Loss],
    pub evidence: u64,
    /// Everything below was settled by opens that did not come to their end.
    pub settled: u64,
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
        // Without its checkpoint a store does not know what it had dropped.
        let is_back = self.damage.checkpoint && offset < self.head_max.max(self.cursor_max);
        assert!(
            record.fate != Fate::Gone || is_back || self.damage.offsets.contains(&offset),
            "the record at {offset} had been declared gone: a ghost"
        );
    }

    /// A reader in the middle of anything has all promised records from `from` up to `to`.
    pub fn check_complete(&mut self, from: u64, to: u64, found: &[u64]) {
        for (offset, record) in self.records.range(from..to.max(from)) {
            if record.fate == Fate::Promised && found.binary_search(offset).is_err() {
                let is_hit = self.damage.offsets.contains(offset) || self.hit.contains(offset);
                // Without its checkpoint a store does not know what it had given back.
                let is_given_back = self.damage.checkpoint && *offset < self.head_max;
                assert!(
                    is_hit || is_given_back,
                    "the durable record {offset} is missing"
                );
                self.forgiven += 1;
            }
        }
    }

    /// From now on what was found is promised, and the rest is gone.
    pub fn opened(&mut self, opened: &Found<'_>) {
        let Found { head, next, .. } = *opened;
        let handed_out = opened.ring_end.unwrap_or(0).max(next);
        assert!(
            handed_out >= self.next(),
            "the next offset {handed_out} was handed out before"
        );
        let known = self.durable.max(opened.settled);
        assert!(
            opened.evidence <= known,
            "evidence {} for what never was durable",
            opened.evidence
        );
        assert!(
            opened.evidence >= self.proven,
            "evidence {} where the bytes prove {}",
            opened.evidence,
            self.proven
        );
        let covering = |offset: u64| {
            let ranges = opened.ledger.iter();
            ranges.filter(move |loss| (loss.start..loss.end).contains(&offset))
        };
        let is_covered = |offset| covering(offset).next().is_some();
        let is_damaged = |offset| covering(offset).any(|loss| loss.reason == Reason::Damage);
        // What comes from the ring is behind.
        self.check_complete(head, next, opened.offsets);
        // The open may have taken over a ring and made room for what it held: the head is behind all it found.
        for (offset, record) in self.records.range_mut(head..next.max(head)) {
            // An open that was cut off may have found it before it was hit.
            let is_hit = self.damage.offsets.contains(offset) || self.hit.contains(offset);
            if opened.offsets.binary_search(offset).is_ok() {
                if record.fate == Fate::Open {
                    self.salvaged += 1;
                }
                record.fate = Fate::Promised;
                continue;
            }
            assert!(
                is_covered(*offset),
                "record {offset} is gone and the ledger does not say so"
            );
            let is_damage = is_damaged(*offset);
            if record.fate == Fate::Open {
                assert!(
                    !is_damage || is_hit || self.damage.checkpoint,
                    "record {offset} never was durable; it reads as damage"
                );
                assert!(
                    !self.keeps_ring || is_hit || self.damage.checkpoint,
                    "record {offset} was accepted, and the process's death lost it"
                );
            }
            assert!(
                record.fate != Fate::Promised
                    || is_damage
                    || *offset >= self.proven_min.unwrap_or(self.proven),
                "record {offset} was durable; it does not read as damage"
            );
            record.fate = Fate::Gone;
        }
        for (_, record) in self.records.range_mut(..head) {
            record.fate = Fate::Gone;
        }
        self.proven_min = None;
        self.durable = self.durable.max(next);
        self.announce(opened.durable);
    }

    /// Damage was done: what it hit may be missing.
    pub fn forgive(&mut self, victims: Victims) {
        self.damage.offsets.extend(victims.offsets);
        self.damage.checkpoint |= victims.checkpoint;
        self.damage.header |= victims.header;
        self.damage.hits += victims.hits;
    }

    pub fn fate(&self, offset: u64) -> Option<Fate> {
        self.records.get(&offset).map(|record| record.fate)
    }
}
