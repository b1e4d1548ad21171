//! A run of the engine's disk side over the simulated disk, in one thread, with the oracle beside it.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use forebay::counters::{Board, Place, StreamCounter};
use forebay::error::Code;
use forebay::format::{CHECKPOINT_FILE_SIZE, SourceEntry, StoreId};
use forebay::log::{self, BatchBuffer, Ended, Gap, Opening, Options, Reader, Report};
use forebay::record::Record;
use forebay::ring::{self, Remains, Ring};
use forebay::segment::Io;
use forebay::storage::Memory;
use forebay::syncer::{self, LetterBox, Orders, Stream, Syncer};
use forebay::watermark::Waker;

use super::clock::SimClock;
use super::letters::with_letters;
use super::oracle::{Found, Moment, Oracle};
use super::producers::BUFFER;
use super::random::Random;
use super::shm::Shm;
use super::storage::SimDisk;
use super::traces;

pub const INTERVAL: Duration = Duration::from_secs(1);
pub const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5);
pub const BUDGET: u64 = 1 << 20;
pub const RING_SIZE: u32 = 64 * 1024;
pub const RING_RECORDS: u32 = 64;
pub const BODY_MAX: u32 = 12_000;

pub struct Session {
    pub disk: SimDisk,
    pub clock: Arc<SimClock>,
    pub ring: Arc<Ring>,
    pub syncer: Syncer,
    pub board: Arc<Board>,
    pub reader: Reader,
    pub report: Report,
    pub orders: Arc<Orders>,
    /// What the syncer's last turn left to wait for.
    pub next: syncer::Next,
    pub gaps: Vec<Gap>,
    /// Where the ring of the run before ended, if there was one.
    pub ring_end: Option<u64>,
    /// What producers are told of it.
    pub stream: forebay::Stream,
    /// Sources in that ring.
    pub ring_sources: Vec<SourceEntry>,
    /// There may be no room although nothing fails.
    pub may_be_full: bool,
    /// One for each cursor.
    pub boxes: Vec<Arc<LetterBox>>,
    /// The most that the files may take.
    quota: u64,
    batch: BatchBuffer,
}

/// How a session's log is set up.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub drop_oldest: bool,
    pub age_max: Option<Duration>,
    pub is_strict: bool,
    pub free_bytes_min: u64,
    pub reserves_all: bool,
    pub io: Io,
    pub checkpoint_interval: Duration,
    pub letters_budget: u64,
    pub budget: u64,
    pub segment_bytes: u64,
    pub ring_size: u32,
    pub ring_records: u32,
}

pub const SETUP: Setup = Setup {
    drop_oldest: true,
    age_max: None,
    is_strict: false,
    free_bytes_min: 0,
    reserves_all: false,
    io: Io::Write,
    checkpoint_interval: CHECKPOINT_INTERVAL,
    letters_budget: 16 << 20,
    budget: BUDGET,
    segment_bytes: 1 << 20,
    ring_size: RING_SIZE,
    ring_records: RING_RECORDS,
};

/// The name of a cursor, and whether a new one starts at the newest record.
pub type CursorSetup = (
    heapless::String<{ forebay::counters::CURSOR_NAME_MAX }>,
    bool,
);

/// A board that nobody has written to.
pub fn new_board() -> Board {
    Board::new(Memory::private(Board::LEN).unwrap())
}

pub fn options(setup: Setup) -> Options {
    Options {
        name: "telemetry".try_into().unwrap(),
        segment_bytes: setup.segment_bytes,
        disk_bytes_max: setup.budget,
        drop_oldest: setup.drop_oldest,
        age_max: setup.age_max,
        is_strict: setup.is_strict,
        free_bytes_min: setup.free_bytes_min,
        aside_bytes_max: u64::MAX,
        reserves_all: setup.reserves_all,
        io: setup.io,
        ring_records: setup.ring_records,
        body_len_max: BODY_MAX,
    }
}

/// Records from this id on have all the same size, so that they stand in all pages at the same places.
pub const ALIKE: u64 = 1 << 40;
const ALIKE_LEN: u64 = 101;
/// Those from this one on are long.
pub const BULKY: u64 = 1 << 41;

/// The payload of the record with that id: its id, and bytes that follow from it, of a length that does.
pub fn payload(id: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_payload(id, &mut bytes);
    bytes
}

/// Puts it in the place of what `bytes` held.
fn write_payload(id: u64, bytes: &mut Vec<u8>) {
    let mut random = Random::new(id);
    let len = match random.below(20) {
        n if id >= BULKY => 500 + n * 150 + random.below(1000),
        _ if id >= ALIKE => ALIKE_LEN,
        0 => 4000 + random.below(8000),
        1..4 => random.below(1000),
        _ => 8 + random.below(120),
    };
    let len = usize::try_from(len).unwrap();
    bytes.clear();
    bytes.resize(len.next_multiple_of(8), 0);
    let mut word = id;
    for place in bytes.chunks_exact_mut(8) {
        place.copy_from_slice(&word.to_le_bytes());
        word = random.next();
    }
    bytes.truncate(len);
}

/// The key of the record with that id: one of a few.
pub fn key(id: u64) -> [u8; 3] {
    let number = Random::new(id).below(40) % 7;
    [b'k', b'-', b'0' + u8::try_from(number).unwrap()]
}

/// Opens the log alone. `None` when the power went meanwhile, or an operation was made to fail.
pub fn open_log(
    disk: &SimDisk,
    clock: &Arc<SimClock>,
    setup: Setup,
    cursors: &[CursorSetup],
    board: Board,
    left: &dyn Fn(&log::RunBefore) -> ring::Left,
) -> Option<log::Opened> {
    // A checkpoint that was lost is made anew, for which a full disk has no room.
    let needs_room = disk.lacks("checkpoint", CHECKPOINT_FILE_SIZE);
    let board = Cell::new(Some(board));
    let board = |_: StoreId| Ok((board.take().unwrap(), "nowhere".to_owned()));
    let opened = log::open(Opening {
        dir: disk.dir(),
        lock_dir: disk.dir(),
        clock: clock.clone(),
        options: options(setup),
        cursors,
        board: &board,
        ring: &|before| Ok(left(before)),
        pid: 1,
    });
    match opened {
        Ok(opened) => Some(opened),
        Err(error) => {
            let kind = error.io_error().map(std::io::Error::kind);
            let is_full = needs_room && kind == Some(std::io::ErrorKind::StorageFull);
            assert!(
                disk.is_off() || disk.may_fail() || is_full,
                "open failed: {error}"
            );
            let is_refused = error.code() == Code::Corrupt && !disk.is_off();
            assert!(!is_refused, "a crash is no damage: {error}");
            None
        }
    }
}

/// Room for what is read at once.
pub fn new_batch() -> BatchBuffer {
    BatchBuffer::new(1000, 100_000, BODY_MAX as usize).unwrap()
}

/// All records from `from` up to the durable mark, checked; their offsets, and the gaps between.
pub fn read_all(
    disk: &SimDisk,
    reader: &mut Reader,
    batch: &mut BatchBuffer,
    (oracle, moment): (&Oracle, &Moment<'_>),
    from: u64,
) -> (Vec<u64>, Vec<Gap>) {
    let (mut offsets, mut gaps) = (Vec::new(), Vec::new());
    let (mut next, mut expected) = (from, Vec::new());
    let failures = disk.set_read_failures(0);
    loop {
        batch.clear();
        let read = reader.read(next, u64::MAX, batch);
        for entry in batch.entries() {
            let view = batch.view(entry);
            let id = view.time_ms;
            oracle.check_read(moment, entry.offset, id);
            oracle.check_source(entry.offset, view.source());
            write_payload(id, &mut expected);
            assert!(
                view.payload == expected,
                "the payload of {} changed",
                entry.offset
            );
            assert_eq!(view.key, key(id));
            assert!(offsets.last().is_none_or(|last| *last < entry.offset));
            offsets.push(entry.offset);
        }
        let Ok((ended, after)) = read else {
            if disk.is_off() {
                break;
            }
            assert!(moment.damage.hits > 0, "it can be read");
            next = reader.position();
            reader.give_up_unreadable();
            continue;
        };
        assert!(
            after > next || ended == Ended::CaughtUp,
            "reading makes progress"
        );
        next = after;
        match ended {
            Ended::Gap(gap) => gaps.push(gap),
            Ended::Full => {}
            Ended::CaughtUp => break,
        }
    }
    disk.set_read_failures(failures);
    (offsets, gaps)
}

impl Session {
    /// Opens the store. `None` when the power went meanwhile, or an operation was made to fail.
    pub fn open(disk: &SimDisk, clock: &Arc<SimClock>, setup: Setup) -> Option<Self> {
        let cursors = [("file".try_into().unwrap(), false)];
        Self::open_with(disk, clock, setup, &cursors, new_board())
    }

    /// The same with other cursors, and with what stands on a board.
    pub fn open_with(
        disk: &SimDisk,
        clock: &Arc<SimClock>,
        setup: Setup,
        cursors: &[CursorSetup],
        board: Board,
    ) -> Option<Self> {
        Self::open_in(disk, clock, setup, cursors, board, None)
    }

    /// The same in a process whose ring lies in shared memory.
    pub fn open_in(
        disk: &SimDisk,
        clock: &Arc<SimClock>,
        setup: Setup,
        cursors: &[CursorSetup],
        board: Board,
        shm: Option<&Shm>,
    ) -> Option<Self> {
        let before = disk.allocated() + 4096;
        let left = |before: &log::RunBefore| {
            shm.map_or(ring::Left::Nothing, |shm| shm.left(before, &**clock))
        };
        let mut opened = open_log(disk, clock, setup, cursors, board, &left)?;
        let waker = Arc::new(Waker::new());
        let ring_options = ring::Options {
            size: setup.ring_size,
            records_max: setup.ring_records,
            body_len_max: BODY_MAX,
            first_offset: opened.log.next(),
        };
        let ring_end = opened.ring.as_ref().map(Remains::end);
        let mut ring_sources = heapless::Vec::new();
        if let Some(remains) = &opened.ring {
            remains.sources(ring_options.first_offset, |offset, source| {
                log::put_source(&mut ring_sources, offset, source);
            });
        }
        let (ring, consumer) = match shm {
            Some(shm) => shm.ring(&mut opened, ring_options, &**clock, &waker),
            None => {
                let len = Ring::memory_len(setup.ring_size, setup.ring_records);
                Ring::new(Memory::private(len).unwrap(), ring_options, waker.clone())
            }
        };
        let shared = opened.log.shared().clone();
        let run = Stream::new(
            consumer,
            opened.log,
            opened.board.clone(),
            syncer::Options {
                sync_interval: INTERVAL,
                checkpoint_interval: setup.checkpoint_interval,
            },
        );
        let (run, boxes) = with_letters(run, disk, clock, setup, cursors.len(), &opened.board)?;
        let orders = Arc::new(Orders::default());
        let ring_sources: Vec<SourceEntry> = ring_sources.into_iter().collect();
        let stream = forebay::Stream::new(
            "telemetry",
            ring.clone(),
            ring_sources.clone(),
            shared.clone(),
            opened.board.clone(),
            clock.clone(),
            &BUFFER,
        );
        Some(Self {
            boxes,
            stream,
            ring_sources,
            may_be_full: !setup.drop_oldest || disk.is_bounded(),
            disk: disk.clone(),
            clock: clock.clone(),
            ring,
            syncer: Syncer::new(vec![run], clock.clone(), waker, orders.clone()),
            board: opened.board,
            reader: Reader::new(shared, clock.clone()).unwrap(),
            report: opened.report,
            orders,
            next: syncer::Next::Woken,
            gaps: Vec::new(),
            ring_end,
            quota: setup.budget.max(before),
            batch: new_batch(),
        })
    }

    pub fn log(&self) -> &log::Log {
        self.syncer.streams()[0].log()
    }

    /// Appends the record with that id; false when there is no room.
    pub fn append(&mut self, oracle: &mut Oracle, id: u64) -> bool {
        let payload = payload(id);
        match self.ring.append(&Record::new(&key(id), id, &payload)) {
            Ok(offset) => {
                oracle.hand_out(offset, id);
                true
            }
            Err(refusal) => {
                assert_eq!(refusal, ring::Refusal::Full);
                false
            }
        }
    }

    /// Lets time pass and makes a turn. False when the power went.
    pub fn step(&mut self, oracle: &mut Oracle, wait: Duration) -> bool {
        self.clock.advance(wait);
        self.next = self.syncer.step();
        let durable = self.log().durable();
        // What an operation announced before the power went was announced.
        oracle.announce(durable);
        let shared = self.log().shared();
        oracle.head_max = oracle.head_max.max(shared.head());
        let allocated = self.disk.allocated() + 4096;
        // A store with less than it had gives back what it may.
        let quota = self.quota;
        assert!(
            allocated <= quota,
            "the quota: {allocated} of {quota} in {:?}",
            self.disk.names()
        );
        !self.disk.is_off()
    }

    /// All records from `from` up to the durable mark, checked; their offsets.
    pub fn read(&mut self, oracle: &Oracle, from: u64) -> Vec<u64> {
        let seen = (oracle, &oracle.now());
        let (offsets, gaps) = read_all(&self.disk, &mut self.reader, &mut self.batch, seen, from);
        self.gaps = gaps;
        if traces() {
            eprintln!(
                "read {} records from {from}, gaps {:?}",
                offsets.len(),
                self.gaps
            );
        }
        offsets
    }

    /// Reads all there is and compares it with what was promised.
    pub fn check(&mut self, oracle: &mut Oracle) {
        let head = self.log().shared().head();
        let found = self.read(oracle, head);
        if self.disk.is_off() {
            return;
        }
        // The head may have moved; here nobody moves it meanwhile.
        oracle.check_complete(head, self.log().durable(), &found);
    }

    /// After an open: everything that was promised is there, and the rest is accounted for.
    pub fn check_opened(&mut self, oracle: &mut Oracle) {
        if !self.check_records(oracle) {
            return;
        }
        let head = self.log().shared().head();
        // A cursor that was overtaken skips when it is read.
        let place = self.place().max(head);
        assert!(
            (oracle.cursor_min.max(head)..=oracle.cursor_max.max(head)).contains(&place),
            "the cursor stands at {place}, not from {} to {}",
            oracle.cursor_min,
            oracle.cursor_max,
        );
    }

    /// The same but for the cursor. False when the power went.
    pub fn check_records(&mut self, oracle: &mut Oracle) -> bool {
        let head = self.log().shared().head();
        let found = self.read(oracle, head);
        if self.disk.is_off() {
            return false;
        }
        // An open frees what was acknowledged.
        let reached = oracle.head_max.max(oracle.cursor_max);
        // So does what was drained from a ring, where the oldest may go.
        let is_drained = self.ring_end.is_some();
        assert!(
            head <= reached || is_drained,
            "the head {head} was never so far"
        );
        oracle.head_max = oracle.head_max.max(head);
        // Far from all that segments show: there was no room for one that begins there.
        let last = self
            .log()
            .shared()
            .segments()
            .last()
            .map_or(0, |last| last.base);
        oracle.is_unproven = self.report.next > last + (1 << 32);
        let life = self.board.get(StreamCounter::Life);
        assert!(life > oracle.life, "life {life} was used before");
        let ledger = self.log().shared().ledger().ranges().to_vec();
        let positions = self.positions();
        oracle.check_positions(&oracle.now(), &positions, &found, (head, self.report.next));
        oracle.opened(&Found {
            head,
            durable_head: self.board.get(StreamCounter::HeadOffset),
            next: self.report.next,
            durable: self.log().durable(),
            ring_end: self.ring_end,
            offsets: &found,
            ledger: &ledger,
            evidence: self.report.evidence,
            // An open that did not come to its end settled what was below its next offset, too.
            settled: self.disk.opened(),
        });
        true
    }

    pub fn place(&self) -> u64 {
        self.board.cursor(0).place().unwrap().position
    }

    /// Moves the cursor towards the durable mark.
    pub fn acknowledge(&mut self, oracle: &mut Oracle, random: &mut Random) {
        let (from, to) = (
            self.place().max(self.log().shared().head()),
            self.log().durable(),
        );
        let position = from + random.below(to.saturating_sub(from) + 1);
        oracle.cursor_max = oracle.cursor_max.max(position);
        self.board.cursor(0).set_place(&Place {
            position,
            ..Place::default()
        });
        self.log().shared().cursor_moved.raise();
    }

    /// Notes what must survive: lives in use and checkpointed cursors.
    pub fn note(&self, oracle: &mut Oracle) {
        oracle.life = oracle.life.max(self.disk.page_life());
        if let Some(position) = self.log().checkpointed("file") {
            oracle.cursor_min = oracle.cursor_min.max(position);
        }
    }

    /// Closes cleanly. False when it could not.
    pub fn close(&mut self, oracle: &mut Oracle) -> bool {
        self.ring.close();
        self.orders.close();
        for _ in 0..100 {
            if self.syncer.is_closed() {
                return true;
            }
            if !self.step(oracle, Duration::from_secs(11)) {
                return false;
            }
        }
        false
    }
}
