//! Producers that take turns in a ring, each with a source of its own, and what they are told.

use std::sync::LazyLock;
use std::time::Duration;

use forebay::config::{Buffer, Config};
use forebay::error::Code;
use forebay::format::SourceEntry;
use forebay::record::{Record, Source};

use super::oracle::Oracle;
use super::random::Random;
use super::session::{Session, key, payload};

pub const NAMES: [&str; 3] = ["pump", "valve", "tank"];
/// Longer payloads come without a source: it counts for the length of a record.
const PAYLOAD_MAX: usize = 11_000;
/// What was demanded is durable after so many turns, if nothing fails.
const TURNS_MAX: u32 = 10;

/// What streams of sessions are configured with: nothing waits, for there is but one thread.
pub static BUFFER: LazyLock<Buffer> = LazyLock::new(|| {
    let text =
        r#"{"streams":[{"name":"telemetry","sink":{"type":"none"},"buffer":{"path":"/nowhere"}}]}"#;
    let mut buffer = Config::from_json(text).unwrap().streams()[0].buffer.clone();
    buffer.sync_timeout = Duration::ZERO;
    buffer
});

/// How far each producer has read its source.
#[derive(Clone, Debug, Default)]
pub struct Producers {
    next: [u64; NAMES.len()],
}

/// Records that are about to be appended, as their producers have them.
struct Drafts {
    ids: std::ops::Range<u64>,
    payloads: Vec<Vec<u8>>,
    keys: Vec<[u8; 3]>,
    /// Of which source, and the place in it.
    places: Vec<Option<(usize, [u8; 8])>>,
}

impl Drafts {
    fn records(&self) -> Vec<Record<'_>> {
        let ids = self.ids.clone().zip(&self.payloads);
        let rest = self.keys.iter().zip(&self.places);
        ids.zip(rest)
            .map(|((id, payload), (key, place))| Record {
                source: place.as_ref().map(|(at, position)| Source {
                    name: NAMES[*at],
                    position,
                }),
                ..Record::new(key, id, payload)
            })
            .collect()
    }
}

impl Producers {
    /// They go on where the store says that they are.
    pub fn resume(&mut self, positions: &[SourceEntry]) {
        for (at, name) in NAMES.iter().enumerate() {
            let entries = positions.iter().filter(|entry| entry.name == **name);
            let newest = entries.max_by_key(|entry| entry.offset);
            let position = newest.map(|entry| place_of(&entry.position));
            self.next[at] = position.map_or(0, |position| position + 1);
        }
    }

    fn draft(&mut self, random: &mut Random, first: u64, count: u64) -> Drafts {
        let ids = first..first + count;
        let payloads: Vec<_> = ids.clone().map(payload).collect();
        let place = |payload: &Vec<u8>| {
            let at = usize::try_from(random.below(NAMES.len() as u64 + 1)).unwrap();
            let next = self.next.get_mut(at)?;
            if payload.len() > PAYLOAD_MAX {
                return None;
            }
            *next += 1;
            Some((at, (*next - 1).to_le_bytes()))
        };
        Drafts {
            places: payloads.iter().map(place).collect(),
            keys: ids.clone().map(key).collect(),
            payloads,
            ids,
        }
    }
}

/// The place that a position says.
pub fn place_of(position: &[u8]) -> u64 {
    u64::from_le_bytes(position.try_into().unwrap())
}

impl Session {
    /// Appends so many records, whose ids are their offsets plus one, in any of the ways that there are. Where
    /// the ring is full the syncer makes a turn; how many were taken.
    pub fn produce(
        &mut self,
        oracle: &mut Oracle,
        producers: &mut Producers,
        random: &mut Random,
        count: u64,
    ) -> u64 {
        let mut done = 0;
        while done < count && !self.disk.is_off() {
            let few = match random.below(5) {
                0 => 1 + random.below(6),
                _ => 1,
            };
            let is_waited_for = random.chance(12);
            let before = producers.clone();
            let first = self.ring.next_offset();
            let drafts = producers.draft(random, first + 1, few);
            let is_in = |session: &Self| session.ring.next_offset() > first;
            let mut refusal = self.put(&drafts, is_waited_for);
            if !is_in(self) && refusal == Some(Code::Full) {
                if !self.step(oracle, Duration::ZERO) {
                    return done;
                }
                refusal = self.put(&drafts, is_waited_for);
            }
            if !is_in(self) {
                *producers = before;
                if refusal == Some(Code::InvalidArg) {
                    continue; // The batch is too large.
                }
                return done;
            }
            assert_eq!(self.ring.next_offset(), first + few, "all or none");
            for (index, id) in drafts.ids.clone().enumerate() {
                oracle.hand_out(id - 1, id);
                if let Some((at, position)) = &drafts.places[index] {
                    oracle.note_source(id - 1, *at, place_of(position));
                }
            }
            done += few;
            if is_waited_for {
                self.wait(oracle, first + few);
            }
        }
        done
    }

    /// Appends them without waiting for anything. Says why it was not what it should be.
    fn put(&self, drafts: &Drafts, is_waited_for: bool) -> Option<Code> {
        let records = drafts.records();
        let done = match &records[..] {
            [record] if is_waited_for && record.source.is_none() => {
                let stream = &self.stream;
                stream.append_durable(record.key, record.time_ms, record.payload, Duration::ZERO)
            }
            [record] => self.stream.append_record(record),
            _ => self.stream.append_batch(&records).map(|range| range.start),
        };
        let code = done.err().map(|error| error.code());
        let is_too_large = code == Some(Code::InvalidArg) && records.len() > 1;
        let known = [Code::Full, Code::Timeout, Code::Io];
        let is_known = code.is_none_or(|code| known.contains(&code));
        assert!(is_known || is_too_large, "{code:?}");
        code
    }

    /// What somebody does who waits until everything below `offset` is durable: what the wait says is a promise.
    fn wait(&mut self, oracle: &mut Oracle, offset: u64) {
        for turn in 0.. {
            let told = self.stream.flush(Duration::ZERO);
            if told.is_ok() {
                assert!(self.log().durable() >= offset, "a flush told too much");
                oracle.announce(offset);
                return;
            }
            if turn == TURNS_MAX || !self.step(oracle, Duration::ZERO) {
                break;
            }
        }
        let may_be_full = self.may_be_full || self.disk.is_bounded();
        let is_held_up = self.disk.is_off() || self.disk.has_failed() || may_be_full;
        assert!(is_held_up, "what is demanded becomes durable at once");
    }

    /// Where producers go on: what the log says, and what a ring had that outlived its process.
    pub fn positions(&self) -> Vec<SourceEntry> {
        let durable = self.log().shared().sources();
        durable.iter().chain(&self.ring_sources).cloned().collect()
    }
}
