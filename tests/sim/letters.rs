//! The dead letters of a simulated store: opened as the engine opens them, and read.

use std::cell::Cell;
use std::sync::Arc;

use forebay::counters::Board;
use forebay::format::StoreId;
use forebay::log::{self, BatchBuffer, Ended, Opened, Opening, Options, Reader};
use forebay::segment::Io;
use forebay::syncer::{DeadLetters, LETTERS_MAX, Letter, LetterBox, Stream, letter_len_max};
use forebay::watermark::Waker;

use super::clock::SimClock;
use super::session::{BODY_MAX, Session, Setup, new_board, payload};
use super::storage::SimDisk;

/// A letter, as far as tests look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dead {
    pub sink: String,
    pub reason: String,
    pub offset: u64,
    pub attempts: u32,
}

/// Gives a stream its dead letters, with a box for each cursor. `None` when the power went.
pub fn with_letters(
    stream: Stream,
    disk: &SimDisk,
    clock: &Arc<SimClock>,
    setup: Setup,
    cursors: usize,
    board: &Arc<Board>,
) -> Option<(Stream, Vec<Arc<LetterBox>>)> {
    let (disk, clock) = (disk.clone(), clock.clone());
    let dir = disk.letters_dir();
    let open = move || -> forebay::Result<Opened> {
        let board = Cell::new(Some(new_board()));
        let board = |_: StoreId| Ok((board.take().unwrap(), "nowhere".to_owned()));
        log::open(Opening {
            dir: dir.clone(),
            lock_dir: dir.clone(),
            clock: clock.clone(),
            options: Options {
                name: "telemetry".try_into().unwrap(),
                segment_bytes: 1 << 20,
                disk_bytes_max: setup.letters_budget,
                drop_oldest: true,
                io: Io::Write,
                ring_records: u32::try_from(LETTERS_MAX).unwrap(),
                body_len_max: letter_len_max(BODY_MAX),
                age_max: None,
                is_strict: false,
                free_bytes_min: 0,
                aside_bytes_max: u64::MAX,
                reserves_all: false,
            },
            cursors: &[],
            board: &board,
            ring: &|_| Ok(forebay::ring::Left::Nothing),
            pid: 1,
        })
    };
    let interval = setup.checkpoint_interval;
    let is_there = !disk.letters_names().is_empty();
    let letters = DeadLetters::new(Box::new(open), is_there, board.clone(), interval);
    let mut letters = match letters {
        Ok(letters) => letters,
        Err(error) => {
            assert!(disk.is_off() || disk.may_fail(), "open failed: {error}");
            return None;
        }
    };
    let new_box = || {
        let waker = || Arc::new(Waker::new());
        Arc::new(LetterBox::new(BODY_MAX, waker(), waker()).unwrap())
    };
    let boxes: Vec<_> = (0..cursors).map(|_| new_box()).collect();
    for letter_box in &boxes {
        letters.add_box(letter_box.clone());
    }
    Some((stream.with_letters(letters), boxes))
}

impl Session {
    /// All dead letters that are durable and kept, oldest first, checked against what was appended.
    pub fn letters(&self) -> Vec<Dead> {
        self.letters_at()
            .into_iter()
            .map(|(_, dead)| dead)
            .collect()
    }

    /// The first letter that is kept.
    pub fn letters_head(&self) -> u64 {
        let letters = self.syncer.streams()[0].letters().unwrap();
        letters.log().map_or(0, |log| log.shared().head())
    }

    /// The same with the offsets that they have in their own log.
    pub fn letters_at(&self) -> Vec<(u64, Dead)> {
        let letters = self.syncer.streams()[0].letters().unwrap();
        let Some(log) = letters.log() else {
            return Vec::new();
        };
        let shared = log.shared().clone();
        let mut reader = Reader::new(shared.clone(), self.clock.clone()).unwrap();
        let len_max = letter_len_max(BODY_MAX) as usize;
        let mut batch = BatchBuffer::new(1000, 1 << 20, len_max).unwrap();
        let (mut dead, mut next) = (Vec::new(), shared.head());
        loop {
            batch.clear();
            let (ended, after) = reader.read(next, u64::MAX, &mut batch).unwrap();
            for entry in batch.entries() {
                let letter = Letter::read(batch.view(entry)).unwrap();
                let record = letter.record;
                assert_eq!(
                    (record.key, letter.cut),
                    (&super::session::key(record.time_ms)[..], 0)
                );
                assert!(record.payload == payload(record.time_ms), "it changed");
                assert_eq!(
                    record.time_ms,
                    letter.offset + 1,
                    "the id of another record"
                );
                assert_eq!(letter.properties().count(), 0);
                let letter = (
                    entry.offset,
                    Dead {
                        sink: letter.sink.to_owned(),
                        reason: letter.reason.to_owned(),
                        offset: letter.offset,
                        attempts: letter.attempts,
                    },
                );
                dead.push(letter);
            }
            next = after;
            if ended == Ended::CaughtUp {
                return dead;
            }
        }
    }
}
