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
    /// A slot holds something that does not verify. The newest may then not be the last one written,
    /// so what it says of a clean close is not believed.
    pub is_damaged: bool,
    /// The slots that do not verify.
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
    Ok(Ok(found))
}

impl Found {
    fn add_bad(&mut self, slot: u32) {
        self.is_damaged = true;
        let _ = self.bad_slots.push(slot);
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
