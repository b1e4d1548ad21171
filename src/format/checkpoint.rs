//! The checkpoint: what must be known before the log is read, three times, each time twice.

use heapless::{String, Vec};

use super::{
    FORMAT, Fault, Fields, NAME_LEN_MAX, PAGE_SIZE, PAGES_MAX, StoreId, Writer, is_life, is_offset,
    narrow, seal, verifies,
};
use crate::clock::Stamp;
use crate::counters::{CURSOR_NAME_MAX, CURSORS_MAX, INTERVALS_MAX, Place};
use crate::record::{SOURCE_NAME_MAX, SOURCE_POSITION_MAX};
use crate::rules::{Rule, holds};

/// How many slots a checkpoint file has.
pub const SLOT_COUNT: u32 = 3;
/// The smallest half of a slot: two of them fill a page.
pub const HALF_SIZE_MIN: usize = PAGE_SIZE / 2;
/// The largest half of a slot. A half is a power of two between the two.
pub const HALF_SIZE_MAX: usize = 16_384;
/// Where slots begin: a slot's number times this.
pub const SLOT_SIZE: usize = 2 * HALF_SIZE_MAX;
/// The size of the checkpoint file.
pub const CHECKPOINT_FILE_SIZE: u64 = SLOT_COUNT as u64 * SLOT_SIZE as u64;
/// The most sources whose positions are kept.
pub const SOURCES_MAX: usize = 32;
/// The most ranges in the ledger; beyond, neighbours merge.
pub const LEDGER_MAX: usize = 128;

const MAGIC: [u8; 4] = *b"fbCK";
const FLAG_CLEAN: u16 = 1;
const HEADER_SIZE: usize = 160;
const RESERVED_FOR_ENCRYPTION: usize = 24;
const CURSOR_SIZE_MAX: usize = 12 + 16 * INTERVALS_MAX + CURSOR_NAME_MAX;
const SOURCE_SIZE_MAX: usize = 12 + SOURCE_NAME_MAX + SOURCE_POSITION_MAX;
const LOSS_SIZE: usize = 32;

const _: () = assert!(
    HEADER_SIZE
        + NAME_LEN_MAX
        + CURSORS_MAX * CURSOR_SIZE_MAX
        + SOURCES_MAX * SOURCE_SIZE_MAX
        + LEDGER_MAX * LOSS_SIZE
        <= HALF_SIZE_MAX
);

/// What a checkpoint says.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Checkpoint {
    /// The store's id.
    pub store: StoreId,
    /// The store's epoch: raised when its offsets could not be continued.
    pub epoch: u64,
    /// Counts the checkpoints; the greatest that verifies counts.
    pub generation: u64,
    /// The greatest life in use.
    pub life: u64,
    /// The first offset that was not durable.
    pub mark: u64,
    /// The first offset that this run of the engine could hand out.
    pub opened: u64,
    /// The most records in this run's ring.
    pub ring_records: u32,
    /// The most offsets that are announced past `mark` before the next checkpoint.
    pub reach: u64,
    /// The first offset that is kept.
    pub head: u64,
    /// Where a clean close left off: the file's number; 0 when there was no segment.
    pub segment: u32,
    /// The page of that segment in which writing goes on.
    pub page: u32,
    /// When it was written.
    pub written: Stamp,
    /// Written by a clean close: the ring was empty and everything durable.
    pub is_clean: bool,
    /// The stream's name.
    pub name: String<NAME_LEN_MAX>,
    /// The cursors.
    pub cursors: Vec<CursorEntry, CURSORS_MAX>,
    /// The newest durable position in each source.
    pub sources: Vec<SourceEntry, SOURCES_MAX>,
    /// Losses, by rising offset, apart from each other.
    pub ledger: Vec<Loss, LEDGER_MAX>,
}

/// A cursor in a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct CursorEntry {
    /// Its name.
    pub name: String<CURSOR_NAME_MAX>,
    /// Where it stands.
    pub place: Place,
}

/// A source in a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct SourceEntry {
    /// Its name.
    pub name: String<SOURCE_NAME_MAX>,
    /// The offset of the record that brought the position.
    pub offset: u64,
    /// The position.
    pub position: Vec<u8, SOURCE_POSITION_MAX>,
}

/// A range of offsets whose records are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// The first offset.
    pub start: u64,
    /// The offset behind the last.
    pub end: u64,
    /// How many of them were records, as far as it is known.
    pub count: u64,
    /// When it was found, in seconds since 1970; 0 when the time of day was not known.
    pub wall_s: u32,
    /// Why.
    pub reason: Reason,
}

/// Why records are gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Reason {
    /// Dropped, because the quota was full.
    Quota = 1,
    /// Dropped, because they were too old.
    Age = 2,
    /// They had been durable, and do not verify.
    Damage = 3,
    /// They never became durable: the power went before, or nobody had the offset.
    NeverDurable = 4,
    /// Written in the last sync before a crash: torn by it, or damaged since. It cannot be told apart.
    Undecided = 5,
}

impl Reason {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Quota => "quota",
            Reason::Age => "age",
            Reason::Damage => "damage",
            Reason::NeverDurable => "neverDurable",
            Reason::Undecided => "undecided",
        }
    }

    fn from_number(number: u8) -> Option<Self> {
        let all = [
            Self::Quota,
            Self::Age,
            Self::Damage,
            Self::NeverDurable,
            Self::Undecided,
        ];
        all.into_iter().find(|reason| *reason as u8 == number)
    }
}

impl Checkpoint {
    /// Writes a slot, both halves, to the front of `slot`; returns how many bytes it takes.
    ///
    /// `slot` has at least [`SLOT_SIZE`] bytes.
    pub fn encode(&self, slot: &mut [u8]) -> usize {
        let size = self.size();
        let half = size.next_power_of_two().max(HALF_SIZE_MIN);
        assert!(half <= HALF_SIZE_MAX, "all parts are bounded");
        let (first, rest) = slot.split_at_mut(half);
        let mut writer = Writer::new(first);
        let flags = if self.is_clean { FLAG_CLEAN } else { 0 };
        writer
            .u32(0)
            .put(&MAGIC)
            .u16(FORMAT)
            .u16(flags)
            .u32(narrow(size));
        writer
            .put(&self.store.0)
            .u64(self.epoch)
            .u64(self.generation)
            .u64(self.life);
        writer
            .u64(self.mark)
            .u64(self.opened)
            .u64(self.reach)
            .u64(self.head);
        writer
            .u32(self.ring_records)
            .u32(self.segment)
            .u32(self.page)
            .u32(0);
        writer
            .u64(self.written.boot)
            .u64(self.written.mono_ms)
            .u64(self.written.wall_ms);
        writer.skip(RESERVED_FOR_ENCRYPTION);
        writer
            .u16(narrow(self.name.len()))
            .u16(narrow(self.cursors.len()));
        writer
            .u16(narrow(self.sources.len()))
            .u16(narrow(self.ledger.len()));
        assert_eq!(writer.at, HEADER_SIZE);
        writer.put(self.name.as_bytes());
        for cursor in &self.cursors {
            let place = &cursor.place;
            writer
                .u8(narrow(cursor.name.len()))
                .u8(narrow(place.intervals.len()))
                .u16(0);
            writer.u64(place.position);
            for (from, to) in &place.intervals {
                writer.u64(*from).u64(*to);
            }
            writer.put(cursor.name.as_bytes());
        }
        for source in &self.sources {
            writer
                .u8(narrow(source.name.len()))
                .u8(narrow(source.position.len()))
                .u16(0);
            writer
                .u64(source.offset)
                .put(source.name.as_bytes())
                .put(&source.position);
        }
        for loss in &self.ledger {
            writer.u64(loss.start).u64(loss.end).u64(loss.count);
            writer.u32(loss.wall_s).u8(loss.reason as u8).skip(3);
        }
        assert_eq!(writer.at, size);
        seal(&mut first[..size]);
        rest[..half].copy_from_slice(first);
        2 * half
    }

    fn size(&self) -> usize {
        let cursors = self.cursors.iter();
        let cursors = cursors.map(|c| 12 + 16 * c.place.intervals.len() + c.name.len());
        let sources = self
            .sources
            .iter()
            .map(|s| 12 + s.name.len() + s.position.len());
        let lists = cursors.sum::<usize>() + sources.sum::<usize>();
        HEADER_SIZE + self.name.len() + lists + self.ledger.len() * LOSS_SIZE
    }

    /// The newest half of a slot that verifies.
    ///
    /// The second half begins at a power of two that only the first half knows, so all are tried.
    pub fn decode(slot: &[u8]) -> Result<Self, Fault> {
        let mut found: Result<Self, Fault> = Err(Fault::Invalid);
        let mut at = 0;
        while at <= HALF_SIZE_MAX {
            match (
                Self::decode_half(slot.get(at..).unwrap_or_default()),
                &found,
            ) {
                (Err(Fault::Newer(format)), _) => return Err(Fault::Newer(format)),
                (Ok(new), Ok(old)) if new.generation <= old.generation => {}
                (Ok(new), _) => found = Ok(new),
                (Err(Fault::Invalid), _) => {}
            }
            at = if at == 0 { HALF_SIZE_MIN } else { at * 2 };
        }
        found
    }

    fn decode_half(bytes: &[u8]) -> Result<Self, Fault> {
        let mut fields = Fields(bytes);
        fields.skip(4);
        let (magic, format, flags) = (fields.array(), fields.u16(), fields.u16());
        let size = fields.u32() as usize;
        if magic != MAGIC || !(HEADER_SIZE..=HALF_SIZE_MAX).contains(&size) {
            return Err(Fault::Invalid);
        }
        let bytes = bytes.get(..size).ok_or(Fault::Invalid)?;
        if holds(Rule::CheckpointChecksum) && !verifies(bytes) {
            return Err(Fault::Invalid);
        }
        if format > FORMAT {
            return Err(Fault::Newer(format));
        }
        Self::decode_fields(Fields(&bytes[16..]), flags).ok_or(Fault::Invalid)
    }

    fn decode_fields(mut fields: Fields<'_>, flags: u16) -> Option<Self> {
        let mut checkpoint = Self {
            store: StoreId(fields.array()),
            epoch: fields.u64(),
            generation: fields.u64(),
            life: fields.u64(),
            mark: fields.u64(),
            opened: fields.u64(),
            reach: fields.u64(),
            head: fields.u64(),
            ring_records: fields.u32(),
            segment: fields.u32(),
            page: fields.u32(),
            is_clean: flags & FLAG_CLEAN != 0,
            ..Self::default()
        };
        fields.skip(4);
        checkpoint.written = Stamp {
            boot: fields.u64(),
            mono_ms: fields.u64(),
            wall_ms: fields.u64(),
        };
        fields.skip(RESERVED_FOR_ENCRYPTION);
        let lengths = [fields.u16(), fields.u16(), fields.u16(), fields.u16()];
        let [name_len, cursors, sources, losses] = lengths;
        checkpoint.name = text(fields.take(name_len.into())?)?;
        for _ in 0..cursors {
            let (name_len, intervals) = (fields.u8(), fields.u8());
            fields.skip(2);
            let mut place = Place {
                position: fields.u64(),
                ..Place::default()
            };
            for _ in 0..intervals {
                place.intervals.push((fields.u64(), fields.u64())).ok()?;
            }
            let name = text(fields.take(name_len.into())?)?;
            checkpoint.cursors.push(CursorEntry { name, place }).ok()?;
        }
        for _ in 0..sources {
            let (name_len, position_len) = (fields.u8(), fields.u8());
            fields.skip(2);
            let offset = fields.u64();
            let name = text(fields.take(name_len.into())?)?;
            let position = Vec::from_slice(fields.take(position_len.into())?).ok()?;
            checkpoint
                .sources
                .push(SourceEntry {
                    name,
                    offset,
                    position,
                })
                .ok()?;
        }
        for _ in 0..losses {
            let (start, end, count) = (fields.u64(), fields.u64(), fields.u64());
            let (wall_s, reason) = (fields.u32(), Reason::from_number(fields.u8())?);
            fields.skip(3);
            checkpoint
                .ledger
                .push(Loss {
                    start,
                    end,
                    count,
                    wall_s,
                    reason,
                })
                .ok()?;
        }
        checkpoint.is_within_bounds().then_some(checkpoint)
    }

    /// Whether all numbers are such as can have been written: sums of them fit, and ranges rise.
    fn is_within_bounds(&self) -> bool {
        let Self {
            mark,
            opened,
            reach,
            head,
            ..
        } = *self;
        let numbers = [mark, opened, reach, head];
        let is_whole = self.generation < u64::MAX >> 1 && is_life(self.life);
        is_whole
            && self.page <= PAGES_MAX
            && numbers.into_iter().all(is_offset)
            && self.cursors.iter().all(|cursor| {
                let place = &cursor.place;
                is_offset(place.position) && is_rising(place.position, &place.intervals)
            })
            && self.sources.iter().all(|source| is_offset(source.offset))
            && self
                .ledger
                .iter()
                .all(|loss| loss.count <= loss.end - loss.start.min(loss.end))
            && self
                .ledger
                .iter()
                .all(|loss| loss.start < loss.end && is_offset(loss.end))
            && self
                .ledger
                .windows(2)
                .all(|pair| pair[0].end <= pair[1].start)
    }
}

/// Whether intervals follow each other above `position`.
fn is_rising(position: u64, intervals: &[(u64, u64)]) -> bool {
    let mut last = position;
    intervals.iter().all(|(from, to)| {
        let is_next = last <= *from && from < to && is_offset(*to);
        last = *to;
        is_next
    })
}

fn text<const LEN: usize>(bytes: &[u8]) -> Option<String<LEN>> {
    std::str::from_utf8(bytes)
        .ok()
        .and_then(|text| String::try_from(text).ok())
}
