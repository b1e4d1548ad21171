//! The checkpoint file: three slots, of which the two newest are never overwritten.

use std::io;
use std::sync::Arc;

use crate::format::{CHECKPOINT_FILE_SIZE, Checkpoint, Fault, PAGE_SIZE, SLOT_COUNT, SLOT_SIZE};
use crate::rules::{Rule, holds};
use crate::storage::{Buffer, Dir, File, read_what_can_be_read};

/// The name of the checkpoint file.
pub const FILE_NAME: &str = "checkpoint";

/// Writes checkpoints and knows which slots hold what.
pub struct Checkpoints {
    file: Arc<dyn File>,
    buffer: Buffer,
    /// The generation that each slot holds durably; 0 when it holds none, or its last write failed.
    generations: [u64; SLOT_COUNT as usize],
    written_bytes: u64,
}

/// What the slots of a file say.
#[derive(Debug, Default)]
pub struct Found {
    /// The newest checkpoint that verifies.
    pub newest: Option<Checkpoint>,
    /// How many of the newest generations, as many as there are slots, no slot holds. Each may have been
    /// the last one written: a page that was lost may read as zeros, or as that of another slot.
    pub lost: u32,
    /// The slots that hold something that does not belong there.
    pub bad_slots: heapless::Vec<u32, { SLOT_COUNT as usize }>,
    generations: [u64; SLOT_COUNT as usize],
}

/// Reads all slots. The outer error is the medium's, the inner one a newer format.
pub fn read(file: &dyn File, from_medium: bool) -> io::Result<Result<Found, u16>> {
    let mut buffer = Buffer::new(SLOT_SIZE)?;
    let mut found = Found::default();
    for slot in 0..SLOT_COUNT {
        let at = u64::from(slot) * SLOT_SIZE as u64;
        let len = if from_medium {
            // A bad block must not hide the other half, nor an error that passes the newest of all.
            read_what_can_be_read(file, &mut buffer, at)
        } else if let Ok(len) = file.read_at(&mut buffer, at) {
            len
        } else {
            found.add_bad(slot);
            continue;
        };
        match Checkpoint::decode(&buffer[..len]) {
            Ok(checkpoint) => {
                found.generations[slot as usize] = checkpoint.generation;
                let newest = found.newest.as_ref().map_or(0, |newest| newest.generation);
                if checkpoint.generation > newest && (newest == 0 || holds(Rule::CheckpointNewest))
                {
                    found.newest = Some(checkpoint);
                }
            }
            Err(Fault::Newer(format)) => return Ok(Err(format)),
            Err(Fault::Invalid) if buffer[..len].iter().any(|byte| *byte != 0) => {
                found.add_bad(slot);
            }
            Err(Fault::Invalid) => {}
        }
    }
    found.compare();
    Ok(Ok(found))
}

impl Found {
    fn add_bad(&mut self, slot: u32) {
        let _ = self.bad_slots.push(slot);
    }

    /// Every slot is written in turn, from the first open on: they hold generations that follow each
    /// other, unless one was lost or its write failed.
    fn compare(&mut self) {
        let newest = self.newest.as_ref().map_or(0, |newest| newest.generation);
        let expected = (0..u64::from(SLOT_COUNT)).map(|back| newest.saturating_sub(back));
        let is_lost = |expected: &u64| *expected == 0 || !self.generations.contains(expected);
        self.lost = expected.filter(is_lost).map(|_| 1).sum();
        for (slot, at) in (0..SLOT_COUNT).zip(0..) {
            let generation = self.generations[at];
            let is_copy = generation > 0 && self.generations[..at].contains(&generation);
            let is_erased = generation == 0 && newest >= SLOT_COUNT.into();
            if (is_copy || is_erased) && !self.bad_slots.contains(&slot) {
                self.add_bad(slot);
            }
        }
    }

    /// How many slots hold no checkpoint.
    pub fn empty_slots(&self) -> usize {
        let held = self.generations.iter();
        held.filter(|generation| **generation == 0).count()
    }
}

impl Checkpoints {
    /// Opens the file, or makes it: preallocated, zero, durable.
    pub fn open(dir: &dyn Dir) -> io::Result<Self> {
        let file = match dir.open(FILE_NAME) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => dir.create(FILE_NAME)?,
            Err(error) => return Err(error),
        };
        let mut this = Self {
            file,
            buffer: Buffer::new(SLOT_SIZE)?,
            generations: [0; SLOT_COUNT as usize],
            written_bytes: 0,
        };
        if this.file.size()? < CHECKPOINT_FILE_SIZE {
            this.extend(dir)?;
        }
        Ok(this)
    }

    /// Makes the file as long as it has to be. What stands in it stays.
    fn extend(&mut self, dir: &dyn Dir) -> io::Result<()> {
        let size = self.file.size()?;
        self.file.preallocate(CHECKPOINT_FILE_SIZE)?;
        let mut at = size;
        while at < CHECKPOINT_FILE_SIZE {
            let len = (PAGE_SIZE as u64 - at % PAGE_SIZE as u64).min(CHECKPOINT_FILE_SIZE - at);
            let len = usize::try_from(len).map_or(PAGE_SIZE, |len| len);
            self.file.write_at(&self.buffer[..len], at)?;
            at += len as u64;
        }
        self.written_bytes += CHECKPOINT_FILE_SIZE - size;
        self.file.sync()?;
        dir.sync()
    }

    /// Takes over which slots hold what.
    pub fn found(&mut self, found: &Found) {
        self.generations = found.generations;
    }

    /// Writes a checkpoint to the slot that holds the oldest and makes it durable. Its generation must
    /// be greater than all before. After an error the same slot is the next one to be written.
    pub fn write(&mut self, checkpoint: &Checkpoint) -> io::Result<()> {
        assert!(
            self.generations
                .iter()
                .all(|generation| *generation < checkpoint.generation)
        );
        let count = if holds(Rule::CheckpointSlotsThree) {
            3
        } else {
            2
        };
        let slots = self.generations.iter().enumerate().take(count);
        let slot = slots
            .min_by_key(|(_, generation)| **generation)
            .map_or(0, |(slot, _)| slot);
        self.generations[slot] = match holds(Rule::FailedSlotAgain) {
            true => 0,
            false => checkpoint.generation,
        };
        let mut len = checkpoint.encode(&mut self.buffer);
        if !holds(Rule::CheckpointHalves) {
            len /= 2;
        }
        self.written_bytes += len as u64;
        self.file
            .write_at(&self.buffer[..len], (slot * SLOT_SIZE) as u64)?;
        if holds(Rule::CheckpointSynced) {
            self.file.sync()?;
        }
        self.generations[slot] = checkpoint.generation;
        Ok(())
    }

    /// The bytes handed to the file since this was last asked.
    pub fn take_written_bytes(&mut self) -> u64 {
        std::mem::take(&mut self.written_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::ram_dir;

    const SLOT: u64 = SLOT_SIZE as u64;

    /// Slots that were written from the first on, each with the generation after the one before.
    fn written(count: u64) -> (Arc<dyn Dir>, Arc<dyn File>) {
        let dir = ram_dir(1 << 20);
        let mut checkpoints = Checkpoints::open(&*dir).unwrap();
        for generation in 1..=count {
            let checkpoint = Checkpoint {
                generation,
                ..Checkpoint::default()
            };
            checkpoints.write(&checkpoint).unwrap();
        }
        let file = dir.open(FILE_NAME).unwrap();
        (dir, file)
    }

    /// The newest generation, how many are lost, and the bad slots.
    fn seen(file: &dyn File) -> (u64, u32, Vec<u32>) {
        let found = read(file, true).unwrap().unwrap();
        let newest = found.newest.map_or(0, |newest| newest.generation);
        (newest, found.lost, found.bad_slots.to_vec())
    }

    #[test]
    fn slots_that_follow_each_other_are_whole() {
        for count in 3..8 {
            let (_dir, file) = written(count);
            assert_eq!(seen(&*file), (count, 0, vec![]));
        }
    }

    /// Zeros, noise and the page of another slot are all the same: something stood there.
    #[test]
    fn the_newest_slot_is_missed_whatever_stands_in_its_place() {
        let page = |file: &dyn File, at| {
            let mut page = vec![0; PAGE_SIZE];
            file.read_at(&mut page, at).unwrap();
            page
        };
        for what in 0..3 {
            // The third one is the newest, in the last slot.
            let (_dir, file) = written(3);
            let instead = match what {
                0 => vec![0; PAGE_SIZE],
                1 => vec![0xa5; PAGE_SIZE],
                _ => page(&*file, SLOT),
            };
            file.write_at(&instead, 2 * SLOT).unwrap();
            let (newest, lost, bad) = seen(&*file);
            assert_eq!((newest, lost), (2, 1), "{what}");
            // With two checkpoints the third slot may be blank: those were an open's, and say the same.
            assert_eq!(bad.is_empty(), what == 0, "{what}");
            let (_dir, file) = written(7);
            let instead = match what {
                2 => page(&*file, SLOT),
                _ => instead,
            };
            file.write_at(&instead, 0).unwrap();
            let (newest, lost, bad) = seen(&*file);
            assert_eq!((newest, lost, bad.len()), (6, 1, 1), "{what}");
        }
    }

    #[test]
    fn what_an_older_and_longer_checkpoint_left_in_a_slot_is_not_taken_for_its_newest() {
        let (_dir, file) = written(7);
        let mut older = vec![0; SLOT_SIZE];
        let checkpoint = Checkpoint {
            generation: 1,
            ..Checkpoint::default()
        };
        let len = checkpoint.encode(&mut older);
        file.write_at(&vec![0; PAGE_SIZE], 0).unwrap();
        file.write_at(&older[..len / 2], len as u64).unwrap();
        assert_eq!(seen(&*file), (6, 1, vec![]));
    }

    #[test]
    fn slots_that_were_never_written_are_counted() {
        for count in 0..6 {
            let (_dir, file) = written(count);
            let found = read(&*file, true).unwrap().unwrap();
            let empty = usize::try_from(3 - count.min(3)).unwrap();
            assert_eq!(found.empty_slots(), empty, "{count}");
        }
    }

    /// A file that is too short gets its length, and keeps what it holds.
    #[test]
    fn a_file_is_made_as_long_as_it_has_to_be() {
        let page = PAGE_SIZE as u64;
        for size in [0, 1, page - 1, page, SLOT + 100, CHECKPOINT_FILE_SIZE - 1] {
            let dir = ram_dir(1 << 20);
            let file = dir.create(FILE_NAME).unwrap();
            let held = vec![0xa5; usize::try_from(size).unwrap()];
            file.write_at(&held, 0).unwrap();
            let mut checkpoints = Checkpoints::open(&*dir).unwrap();
            assert_eq!(file.size().unwrap(), CHECKPOINT_FILE_SIZE, "{size}");
            let mut bytes = vec![1; usize::try_from(CHECKPOINT_FILE_SIZE).unwrap() + 1];
            let len = file.read_at(&mut bytes, 0).unwrap();
            let (before, behind) = bytes[..len].split_at(held.len());
            assert!(
                before == held && behind.iter().all(|byte| *byte == 0),
                "{size}"
            );
            let written = checkpoints.take_written_bytes();
            assert_eq!(written, CHECKPOINT_FILE_SIZE - size);
            assert_eq!(checkpoints.take_written_bytes(), 0);
        }
        // One that is long enough stays as it is.
        let (dir, file) = written(5);
        let mut checkpoints = Checkpoints::open(&*dir).unwrap();
        assert_eq!(checkpoints.take_written_bytes(), 0);
        assert_eq!(seen(&*file), (5, 0, vec![]));
    }

    /// What an open found says which slot is the oldest, and what is written is counted.
    #[test]
    fn the_oldest_slot_is_written_next() {
        for count in 0..5 {
            let (dir, file) = written(count);
            let mut checkpoints = Checkpoints::open(&*dir).unwrap();
            checkpoints.found(&read(&*file, true).unwrap().unwrap());
            checkpoints.take_written_bytes();
            let checkpoint = Checkpoint {
                generation: count + 1,
                ..Checkpoint::default()
            };
            checkpoints.write(&checkpoint).unwrap();
            let lost = 2_u32.saturating_sub(u32::try_from(count).unwrap());
            assert_eq!(seen(&*file), (count + 1, lost, vec![]));
            let len = checkpoint.encode(&mut vec![0; SLOT_SIZE]);
            assert_eq!(checkpoints.take_written_bytes(), len as u64);
        }
    }
}
