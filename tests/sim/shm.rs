//! Shared memory that outlives a process: the ring and the board of a stream.
//!
//! A death is a copy of all of it at that moment; the next process finds the copy.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use forebay::clock::Clock;
use forebay::counters::Board;
use forebay::format::RingHead;
use forebay::log::{Opened, RunBefore};
use forebay::ring::{self, Consumer, Left, Remains, Ring, remains};
use forebay::storage::{Real, Storage};
use forebay::syncer::drain_all;
use forebay::watermark::Waker;

/// What a process left: the bytes of its board and of its ring.
type Copies = [Option<Vec<u8>>; 2];

struct State {
    dir: PathBuf,
    left: Mutex<Option<Copies>>,
}

impl Drop for State {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A machine's shared memory, as far as one stream uses it.
#[derive(Clone)]
pub struct Shm(Arc<State>);

impl Shm {
    pub fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("forebay-shm-{}-{number}", std::process::id());
        let memory = PathBuf::from("/dev/shm");
        let parent = if memory.is_dir() {
            memory
        } else {
            std::env::temp_dir()
        };
        let dir = parent.join(name);
        let _ = std::fs::remove_dir_all(&dir);
        std::fs::create_dir_all(&dir).unwrap();
        Self(Arc::new(State {
            dir,
            left: Mutex::default(),
        }))
    }

    fn paths(&self) -> [PathBuf; 2] {
        ["board", "ring"].map(|name| self.0.dir.join(name))
    }

    /// The process dies now. What it does from now on is not seen.
    pub fn die(&self) {
        let mut left = self.0.left.lock().unwrap();
        left.get_or_insert_with(|| self.paths().map(|path| std::fs::read(path).ok()));
    }

    /// What was there when the process died is there again. It is gone.
    pub fn come_back(&self) {
        let left = self.0.left.lock().unwrap().take().unwrap_or_default();
        for (path, bytes) in self.paths().iter().zip(left) {
            let _ = std::fs::remove_file(path);
            if let Some(bytes) = bytes {
                std::fs::write(path, bytes).unwrap();
            }
        }
    }

    /// The board boots.
    pub fn reboot(&self) {
        *self.0.left.lock().unwrap() = Some(Copies::default());
        self.come_back();
    }

    pub fn board(&self) -> Board {
        let [path, _] = self.paths();
        Board::new(Real.shared(&path, Board::LEN).unwrap())
    }

    /// As the engine looks for it.
    pub fn left(&self, before: &RunBefore, clock: &dyn Clock) -> Left {
        let [_, path] = self.paths();
        let Ok(memory) = Real.shared_behind(&path, ring::FRONT_SIZE, None) else {
            return Left::Nothing;
        };
        let bytes = remains::head(&memory);
        if bytes.iter().all(|byte| *byte == 0) {
            return Left::Nothing;
        }
        let Ok(head) = RingHead::decode(&bytes) else {
            return Left::Refused;
        };
        let is_ours =
            (head.store, head.epoch, head.boot) == (before.store, before.epoch, clock.boot());
        let options = ring::Options {
            size: head.size,
            records_max: head.records_max,
            body_len_max: head.body_len_max,
            first_offset: 0,
        };
        let found = Remains::find(memory, options).filter(|remains| {
            let first = remains.options().first_offset;
            is_ours && remains.is_of_run(before.opened) && first <= before.durable_max
        });
        found.map_or(Left::Refused, Left::Ring)
    }

    /// The ring to go on with, as the engine does.
    pub fn ring(
        &self,
        opened: &mut Opened,
        mut options: ring::Options,
        clock: &dyn Clock,
        waker: &Arc<Waker>,
    ) -> (Arc<Ring>, Consumer) {
        if let Some(remains) = opened.ring.take() {
            let found = *remains.options();
            let is_same = (found.size, found.records_max) == (options.size, options.records_max);
            let (ring, mut consumer) = remains.adopt(options.first_offset, waker.clone());
            if is_same || !drain_all(&mut consumer, &mut opened.log, clock) {
                return (ring, consumer);
            }
            options.first_offset = opened.log.next();
        }
        let [_, path] = self.paths();
        let len = Ring::memory_len(options.size, options.records_max) - ring::FRONT_SIZE;
        let memory = Real
            .shared_behind(&path, ring::FRONT_SIZE, Some(len))
            .unwrap();
        let shared = opened.log.shared();
        let head = RingHead {
            store: shared.store,
            epoch: shared.epoch,
            boot: clock.boot(),
            size: options.size,
            records_max: options.records_max,
            body_len_max: options.body_len_max,
        };
        remains::sign(
            &memory,
            &head.encode(),
            opened.report.next,
            options.first_offset,
        );
        Ring::new(memory, options, waker.clone())
    }
}
