//! Syncer, log and exporters over the simulated disk, in one thread: what is appended goes to scripted
//! sinks.

use std::sync::Arc;
use std::time::Duration;

use forebay::clock::{Clock, Mono};
use forebay::counters::{Board, SinkStats, Stats};
use forebay::cursor::Cursor;
use forebay::exporter::{self, Exporter, Next};
use forebay::log::Reader;
use forebay::sink::{Blocking, Sink};
use forebay::syncer;
use forebay::watermark::Waker;

use super::clock::SimClock;
use super::oracle::Oracle;
use super::session::{BODY_MAX, CursorSetup, Session, Setup, new_board};
use super::shm::Shm;
use super::sink::Script;
use super::storage::SimDisk;

/// The most turns without time passing: beyond that something spins.
const TURNS_MAX: usize = 10_000;

/// A sink and how it is delivered to.
#[derive(Clone)]
pub struct To {
    pub name: &'static str,
    pub script: Script,
    pub starts_newest: bool,
    /// By the adapter for sinks that block.
    pub blocks: bool,
    pub options: exporter::Options,
}

impl To {
    pub fn new(name: &'static str, seed: u64) -> Self {
        Self {
            name,
            script: Script::default(),
            starts_newest: false,
            blocks: false,
            options: exporter::Options {
                stream: "telemetry".to_owned(),
                records_max: 10,
                bytes_max: 20_000,
                body_len_max: BODY_MAX,
                linger: Duration::from_millis(200),
                ordering: exporter::Ordering::Stream,
                in_flight_max: 1,
                retries_max: None,
                rebases: false,
                backoff_base: Duration::from_millis(50),
                backoff_max: Duration::from_secs(30),
                seed,
            },
        }
    }
}

/// An exporter, and the other end of its sink.
pub struct Line {
    pub exporter: Exporter,
    pub orders: Arc<exporter::Orders>,
    pub script: Script,
    next: Next,
}

/// A run of the engine.
pub struct Delivery {
    pub session: Session,
    pub lines: Vec<Line>,
}

impl Delivery {
    /// Opens a store in a process that starts anew. `None` when the power went meanwhile.
    pub fn open(disk: &SimDisk, clock: &Arc<SimClock>, setup: Setup, to: &[To]) -> Option<Self> {
        Self::open_on(new_board(), disk, clock, setup, to)
    }

    /// Opens a store, with what stands on a board: after a crash of the process in the same boot.
    pub fn open_on(
        board: Board,
        disk: &SimDisk,
        clock: &Arc<SimClock>,
        setup: Setup,
        to: &[To],
    ) -> Option<Self> {
        Self::open_in(board, disk, clock, setup, to, None)
    }

    /// The same in a process whose ring lies in shared memory.
    pub fn open_in(
        board: Board,
        disk: &SimDisk,
        clock: &Arc<SimClock>,
        setup: Setup,
        to: &[To],
        shm: Option<&Shm>,
    ) -> Option<Self> {
        let cursors = to
            .iter()
            .map(|to| (to.name.try_into().unwrap(), to.starts_newest));
        let cursors: Vec<CursorSetup> = cursors.collect();
        let session = Session::open_in(disk, clock, setup, &cursors, board, shm)?;
        let lines = to.iter().enumerate();
        let lines = lines
            .map(|(index, to)| line(&session, index, to, clock))
            .collect();
        Some(Self { session, lines })
    }

    pub fn now(&self) -> Mono {
        self.session.clock.mono()
    }

    /// Appends so many records, whose ids are the offsets that they get plus one. Where the ring is full
    /// the syncer makes a turn; how many were taken.
    pub fn append(&mut self, oracle: &mut Oracle, count: u64) -> u64 {
        for done in 0..count {
            let id = self.session.ring.next_offset() + 1;
            if !self.session.append(oracle, id) {
                let on = self.session.step(oracle, Duration::ZERO);
                if !on || !self.session.append(oracle, id) {
                    return done;
                }
            }
        }
        count
    }

    /// What the threads do until all of them wait. Returns until when. No time passes.
    pub fn turn(&mut self, oracle: &mut Oracle) -> Mono {
        for _ in 0..TURNS_MAX {
            let before = self.marks();
            self.session.step(oracle, Duration::ZERO);
            for line in &mut self.lines {
                line.turn();
            }
            if self.marks() == before || self.session.disk.is_off() {
                return self.next();
            }
        }
        panic!("it spins");
    }

    /// What threads wake each other for: the durable mark, the cursors and the letters.
    fn marks(&self) -> (u64, Vec<u64>, Vec<u64>) {
        let positions = self
            .lines
            .iter()
            .map(|line| line.exporter.cursor().position());
        let turns = self.session.boxes.iter().map(|letters| letters.turns());
        (
            self.session.log().durable(),
            positions.collect(),
            turns.collect(),
        )
    }

    /// What an exporter waits for.
    pub fn next_of(&self, index: usize) -> Next {
        self.lines[index].next
    }

    fn next(&self) -> Mono {
        let now = self.now();
        let mut next = match self.session.next {
            syncer::Next::At(at) => at,
            syncer::Next::Woken => Mono::NEVER,
        };
        for line in &self.lines {
            next = next.min(line.script.next(now));
            if let Next::At(at) = line.next {
                next = next.min(at);
            }
        }
        next
    }

    /// Lets so much time pass, in the steps that somebody waits for. False when the power went.
    pub fn run(&mut self, oracle: &mut Oracle, wait: Duration) -> bool {
        let end = self.now().plus(wait);
        loop {
            let next = self.turn(oracle).min(end);
            if self.session.disk.is_off() {
                return false;
            }
            let now = self.now();
            if now >= end {
                return true;
            }
            // Who waits for what has passed already would be woken by somebody.
            let step = next.since(now).max(Duration::from_micros(100));
            self.session.clock.advance(step.min(end.since(now)));
        }
    }

    /// Lets time pass until `is_done`, for at most an hour.
    pub fn run_until(
        &mut self,
        oracle: &mut Oracle,
        what: &str,
        mut is_done: impl FnMut(&Self) -> bool,
    ) {
        let end = self.now().plus(Duration::from_secs(3600));
        loop {
            let next = self.turn(oracle);
            if is_done(self) {
                return;
            }
            let now = self.now();
            let nexts = || self.lines.iter().map(|line| line.next).collect::<Vec<_>>();
            let sinks = || self.stats().sinks;
            assert!(
                now < end,
                "{what}: not within an hour: {:?} {:#?}",
                nexts(),
                sinks()
            );
            assert!(!self.session.disk.is_off(), "{what}: the power went");
            let step = next.min(end).since(now).max(Duration::from_micros(100));
            self.session.clock.advance(step);
        }
    }

    /// Runs until everything that was appended is durable and delivered or skipped.
    pub fn drain(&mut self, oracle: &mut Oracle) {
        self.run_until(oracle, "drained", Self::is_drained);
    }

    pub fn is_drained(&self) -> bool {
        let next = self.session.ring.next_offset();
        let positions = self
            .lines
            .iter()
            .map(|line| line.exporter.cursor().position());
        self.session.log().durable() == next && positions.min() >= Some(next)
    }

    pub fn stats(&self) -> Stats {
        let next = self.session.ring.next_offset();
        let board = &self.session.board;
        board.snapshot(Some(next), self.session.clock.stamp())
    }

    pub fn sink_stats(&self, index: usize) -> SinkStats {
        self.stats().sinks[index].clone()
    }

    /// Where a sink's cursor stands.
    pub fn position(&self, index: usize) -> u64 {
        self.session.board.cursor(index).place().unwrap().position
    }

    /// Stops as the engine does: exporters, then the ring, then the syncer. False when it did not end.
    pub fn close(&mut self, oracle: &mut Oracle) -> bool {
        for line in &mut self.lines {
            line.orders.stop();
        }
        for _ in 0..TURNS_MAX {
            let next = self.turn(oracle);
            if self.session.disk.is_off() {
                return false;
            }
            if self.lines.iter().all(|line| line.next == Next::Stopped) {
                break;
            }
            let step = next.since(self.now()).max(Duration::from_micros(100));
            self.session.clock.advance(step);
        }
        for line in &mut self.lines {
            line.exporter.close(Duration::from_secs(1));
        }
        self.session.close(oracle)
    }

    /// The board as a process finds it that starts after this one crashed.
    pub fn board(&self) -> Board {
        let (from, to) = (&self.session.board, new_board());
        let places = self.lines.iter().enumerate().map(|(index, line)| {
            let place = from.cursor(index).place().unwrap();
            assert_eq!(place.position, line.exporter.cursor().position());
            (from.cursor(index).name(), place)
        });
        to.take(from.owner().unwrap(), &places.collect::<Vec<_>>());
        to
    }
}

impl Line {
    /// Steps until it waits.
    fn turn(&mut self) {
        for _ in 0..TURNS_MAX {
            if self.next != Next::Stopped {
                self.next = self.exporter.step();
            }
            self.script.check();
            if self.next != Next::Now {
                return;
            }
        }
        panic!("the exporter spins");
    }
}

fn line(session: &Session, index: usize, to: &To, clock: &Arc<SimClock>) -> Line {
    let shared = session.log().shared().clone();
    let reader = Reader::new(shared.clone(), clock.clone()).unwrap();
    let syncer = Arc::new(Waker::new());
    let cursor = Cursor::new(reader, shared, session.board.clone(), index, syncer);
    let sink: Box<dyn Sink> = match to.blocks {
        true => Box::new(Blocking::new(to.script.sink(clock))),
        false => Box::new(to.script.sink(clock)),
    };
    let orders = Arc::new(exporter::Orders::default());
    let waker = Arc::new(Waker::new());
    let exporter = Exporter::new(
        cursor,
        sink,
        to.options.clone(),
        clock.clone(),
        waker,
        orders.clone(),
        session.boxes[index].clone(),
    );
    to.script.set_gives_up(to.options.retries_max.is_some());
    let limits = to.script.state().limits;
    let (in_flight, keeps_order) = match to.blocks {
        true => (1, true),
        false => (limits.in_flight_max, limits.keeps_order),
    };
    let lanes = to.options.lanes(in_flight, keeps_order);
    to.script.set_order(to.options.ordering, lanes);
    Line {
        exporter: exporter.unwrap(),
        orders,
        script: to.script.clone(),
        next: Next::Now,
    }
}
