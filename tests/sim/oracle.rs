//! What was promised, and whether it is kept.

use std::collections::{BTreeMap, BTreeSet};

use forebay::format::{Loss, Reason, SourceEntry};
use forebay::record::Source;

use super::producers::{NAMES, place_of};
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
    /// Which producer a record has a position of, and which.
    sources: BTreeMap<u64, (usize, u64)>,
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
    /// Only the checkpoint says from where on the run hands out: there was no room for a segment that does.
    pub is_unproven: bool,
    /// The process died and the machine did not: its ring is found, and what it accepted is there.
    pub keeps_ring: bool,
}

/// What an open found.
pub struct Found<'a> {
    pub head: u64,
    /// The head that a checkpoint says which was written. What lies between may come back: room was made for
    /// what came from the ring, and no checkpoint says so yet.
    pub durable_head: u64,
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

/// When a run ended, and what was done to its store behind that.
pub struct Moment<'a> {
    /// What stood at or above this was not announced then.
    pub durable: u64,
    /// Offsets below were handed out.
    pub next: u64,
    /// What was below may have been given back.
    pub head: u64,
    /// What damage may have cost up to the open.
    pub damage: &'a Victims,
}

impl Moment<'_> {
    fn fate(&self, offset: u64, record: &Remembered) -> Fate {
        match record.fate {
            Fate::Promised if offset >= self.durable => Fate::Open,
            fate => fate,
        }
    }

    /// It is one that the run went beyond.
    fn is_past(&self) -> bool {
        self.durable < u64::MAX
    }
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

    /// The record at that offset has the place in a producer's source.
    pub fn note_source(&mut self, offset: u64, producer: usize, place: u64) {
        self.sources.insert(offset, (producer, place));
    }

    /// A record that was read says of its source what its producer said.
    pub fn check_source(&self, offset: u64, source: Option<Source<'_>>) {
        let said = source.map(|source| (source.name, place_of(source.position)));
        let known = self.sources.get(&offset);
        let known = known.map(|(producer, place)| (NAMES[*producer], *place));
        assert_eq!(said, known, "the source of {offset}");
    }

    /// Each producer goes on behind its last durable record, and behind none that is not there.
    pub fn check_positions(
        &self,
        moment: &Moment<'_>,
        positions: &[SourceEntry],
        found: &[u64],
        (head, next): (u64, u64),
    ) {
        for (producer, name) in NAMES.iter().enumerate() {
            let entries = positions.iter().filter(|entry| entry.name == **name);
            let newest = entries.max_by_key(|entry| entry.offset);
            if let Some(entry) = newest {
                let offset = entry.offset;
                let said = self.sources.get(&offset);
                let said = said.filter(|_| offset < moment.next);
                let place = place_of(&entry.position);
                assert_eq!(said, Some(&(producer, place)), "{name}: at {offset}");
                let fate = self
                    .records
                    .get(&offset)
                    .map(|record| moment.fate(offset, record));
                let is_there =
                    found.binary_search(&offset).is_ok() || offset < head || offset >= next;
                assert!(
                    is_there || fate == Some(Fate::Promised) || moment.damage.hits > 0,
                    "{name} goes on behind {offset}, which is {fate:?}"
                );
            }
            let is_kept = |offset: &u64| {
                let record = &self.records[offset];
                moment.fate(*offset, record) == Fate::Promised
                    && !moment.damage.offsets.contains(offset)
                    && !self.hit.contains(offset)
            };
            let mut mine = self.sources.iter().rev();
            let last = mine.find(|(offset, (other, _))| *other == producer && is_kept(offset));
            let newest = newest.map(|entry| entry.offset);
            let last = last.map(|(offset, _)| *offset);
            assert!(
                newest >= last || moment.damage.checkpoint,
                "{name} goes on behind {newest:?}, and {last:?} was durable"
            );
        }
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

    /// The moment at which the run ended, where it is not an earlier one.
    pub fn now(&self) -> Moment<'_> {
        Moment {
            durable: u64::MAX,
            next: self.next(),
            head: self.head_max,
            damage: &self.damage,
        }
    }

    /// Every record that was read is one that was handed out, with its content, and was not gone.
    pub fn check_read(&self, moment: &Moment<'_>, offset: u64, id: u64) {
        let record = self.records.get(&offset).filter(|_| offset < moment.next);
        let Some(record) = record else {
            panic!("a record at offset {offset}, which nobody was handed");
        };
        assert_eq!(record.id, id, "another record at offset {offset}");
        // Without its checkpoint a store does not know what it had dropped. And where a segment's header is gone,
        // the one before it is read beyond where that one took over: what had been given up there comes back.
        let mut lost = moment.damage.headers.iter();
        let is_back =
            moment.damage.checkpoint && offset < moment.head || lost.any(|base| *base <= offset);
        assert!(
            record.fate != Fate::Gone || is_back || moment.damage.offsets.contains(&offset),
            "the record at {offset} had been declared gone: a ghost"
        );
    }

    /// A reader in the middle of anything has all promised records from `from` up to `to`.
    pub fn check_complete(&mut self, from: u64, to: u64, found: &[u64]) {
        self.forgiven += self.missing(&self.now(), from, to, found);
    }

    /// How many promised records from `from` up to `to` damage may have cost. No other one is missing.
    fn missing(&self, moment: &Moment<'_>, from: u64, to: u64, found: &[u64]) -> u64 {
        let mut missing = 0;
        for (offset, record) in self.records.range(from..to.max(from)) {
            let fate = moment.fate(*offset, record);
            if fate == Fate::Promised && found.binary_search(offset).is_err() {
                let is_hit = moment.damage.offsets.contains(offset) || self.hit.contains(offset);
                // Without its checkpoint a store does not know what it had given back.
                let is_given_back = moment.damage.checkpoint && *offset < moment.head;
                assert!(
                    is_hit || is_given_back,
                    "the durable record {offset} is missing"
                );
                missing += 1;
            }
        }
        missing
    }

    /// Nothing is left that says how far the run had come: all of the checkpoint was lost, and so was each durable
    /// record that it was told of behind what was found, or there was none and no segment that says so.
    pub fn is_run_forgotten(&self, moment: &Moment<'_>, next: u64) -> bool {
        let damage = moment.damage;
        let mut behind = self.records.range(next..moment.next.max(next));
        let is_hit = |offset| damage.offsets.contains(offset) || self.hit.contains(offset);
        next < moment.next
            && damage.checkpoint
            && (!damage.offsets.is_empty() || self.is_unproven)
            && behind.all(|(offset, record)| {
                moment.fate(*offset, record) != Fate::Promised || is_hit(offset)
            })
    }

    /// What an open found is what it may find. Returns what damage cost, and what else came back.
    pub fn check_opened(&self, moment: &Moment<'_>, opened: &Found<'_>) -> (u64, u64) {
        let Found { head, next, .. } = *opened;
        let damage = moment.damage;
        let handed_out = opened.ring_end.unwrap_or(0).max(next);
        assert!(
            handed_out >= moment.next,
            "the next offset {handed_out} was handed out before, up to {}",
            moment.next
        );
        let known = self.durable.min(moment.durable).max(opened.settled);
        assert!(
            opened.evidence <= known,
            "evidence {} for what never was durable",
            opened.evidence
        );
        assert!(
            moment.is_past() || opened.evidence >= self.proven,
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
        let missing = self.missing(moment, head, next, opened.offsets);
        let mut salvaged = 0;
        // The open may have taken over a ring and made room for what it held: the head is behind all it found.
        let end = next.max(head).min(moment.next.max(head));
        for (offset, record) in self.records.range(head..end) {
            let fate = moment.fate(*offset, record);
            let is_open = fate == Fate::Open;
            // An open that was cut off may have found it before it was hit.
            let is_hit = damage.offsets.contains(offset) || self.hit.contains(offset);
            if opened.offsets.binary_search(offset).is_ok() {
                salvaged += u64::from(is_open);
                continue;
            }
            assert!(
                is_covered(*offset),
                "record {offset} is gone and the ledger does not say so"
            );
            let is_damage = is_damaged(*offset);
            if is_open {
                assert!(
                    !is_damage || is_hit || damage.checkpoint,
                    "record {offset} never was durable; it reads as damage"
                );
                assert!(
                    !self.keeps_ring || is_hit || damage.checkpoint || moment.is_past(),
                    "record {offset} was accepted, and the process's death lost it"
                );
            }
            assert!(
                moment.is_past()
                    || fate != Fate::Promised
                    || is_damage
                    || *offset >= self.proven_min.unwrap_or(self.proven),
                "record {offset} was durable; it does not read as damage"
            );
        }
        (missing, salvaged)
    }

    /// From now on what was found is promised, and the rest is gone.
    pub fn opened(&mut self, opened: &Found<'_>) {
        let Found { head, next, .. } = *opened;
        let (missing, salvaged) = self.check_opened(&self.now(), opened);
        self.forgiven += missing;
        self.salvaged += salvaged;
        for (offset, record) in self.records.range_mut(head..next.max(head)) {
            record.fate = match opened.offsets.binary_search(offset) {
                Ok(_) => Fate::Promised,
                Err(_) => Fate::Gone,
            };
        }
        for (_, record) in self.records.range_mut(..opened.durable_head) {
            record.fate = Fate::Gone;
        }
        self.proven_min = None;
        self.durable = self.durable.max(next);
        self.announce(opened.durable);
    }

    /// Damage was done: what it hit may be missing.
    pub fn forgive(&mut self, victims: Victims) {
        self.damage.extend(victims);
    }

    pub fn fate(&self, offset: u64) -> Option<Fate> {
        self.records.get(&offset).map(|record| record.fate)
    }
}
