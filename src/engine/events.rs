//! What the host may want to know at once: a bounded channel of small values.
//!
//! ```text
//!  syncer's turn ──▶ StreamWatch ─┐
//!                                 ├┬ try_send ─▶ | at most EVENTS_MAX | ─▶ Events::try_recv
//!  exporter's turn ─▶ SinkWatch ──┘└ offer ────▶ the stream that is named for it, if one is
//!                                    no room: counted, never waited for
//! ```
//!
//! A watch looks at the board at the end of a turn that its thread makes anyway and tells what is no longer
//! as it was. Idle threads make no turns, so nothing is polled.
//!
//! **Threads.** A watch belongs to the thread that calls it. Any thread may receive. Nothing is allocated
//! after open.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::clock::{Clock, Mono, Stamp};
use crate::counters::{Board, CURSORS_MAX, CursorCounter, SinkState, StreamCounter};
use crate::format::StoreId;
use crate::log::Shared;

mod records;

pub use records::{EVENT_RECORDS_MAX, EventRecords};

/// The most events that wait to be received.
pub const EVENTS_MAX: usize = 256;
/// Shares of the budget, in percent, whose crossing by the backlog is an event.
pub const BACKLOG_LEVELS: [u8; 3] = [50, 80, 95];
/// So much below a level, in percent, the backlog is under it again.
const LEVEL_MARGIN: u64 = 10;
/// Records that a sink is said to take and does not count as stalled after this time.
const STALLED_AFTER: Duration = Duration::from_mins(1);
/// The time of day may drift by so much, in milliseconds, before it was set.
const STEP_MIN_MS: u64 = 1000;

/// Something that happened to a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// The stream.
    pub stream: Arc<str>,
    /// What happened.
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// Records that nobody had acknowledged were dropped to make room.
    DroppingBegan,
    /// The backlog is below half of the budget again, after records were dropped.
    DroppingEnded,
    /// The backlog has come to this share of the budget, in percent: one of [`BACKLOG_LEVELS`].
    BacklogOver(u8),
    /// The backlog is 10 % of the budget below that level again.
    BacklogUnder(u8),
    /// A sink stopped working, works again, or fails in another way. [`SinkState::Idle`] and
    /// [`SinkState::Ok`] are the same here: it works.
    Sink {
        /// The sink's name.
        name: Arc<str>,
        /// Its state now.
        state: SinkState,
    },
    /// Records are damaged, as an open or a sink that came to them found out. What the ledger of losses has
    /// already is not told again, by whatever sink or after whatever restart. `store` and `start`
    /// together name the damage for ever.
    Damage {
        /// The store's id.
        store: StoreId,
        /// The first offset.
        start: u64,
        /// Behind the last.
        end: u64,
        /// How many records.
        records: u64,
    },
    /// A sink's records became dead letters because the process died of each of them, again and again.
    CrashLoop {
        /// The sink's name.
        name: Arc<str>,
        /// How many records.
        records: u64,
    },
    /// The time of day was set: it is so many milliseconds later than the passing of time explains, or
    /// earlier. Told by each stream.
    ClockStepped {
        /// By how much.
        by_ms: i64,
    },
    /// A thread panicked: the stream takes nothing until the engine is opened again.
    Poisoned,
}

impl Event {
    /// It as an object of JSON, as it is a record (`eventsStream`). `time_ms`: the time of day, 0 where
    /// it is not known.
    pub fn to_json(&self, time_ms: u64) -> String {
        let mut text = String::new();
        // A string takes all that is written.
        let _ = records::write(&mut text, self, time_ms);
        text
    }
}

impl EventKind {
    /// The word for it.
    pub fn name(&self) -> &'static str {
        match self {
            EventKind::DroppingBegan => "droppingBegan",
            EventKind::DroppingEnded => "droppingEnded",
            EventKind::BacklogOver(_) => "backlogOver",
            EventKind::BacklogUnder(_) => "backlogUnder",
            EventKind::Sink { .. } => "sink",
            EventKind::Damage { .. } => "damage",
            EventKind::CrashLoop { .. } => "crashLoop",
            EventKind::ClockStepped { .. } => "clockStepped",
            EventKind::Poisoned => "poisoned",
        }
    }
}

/// Where the events of an engine come out. Cheap to clone; each event is received once.
#[derive(Clone, Debug)]
pub struct Events(Receiver<Event>);

impl Events {
    /// The oldest event that nobody has received; `None` when there is none. Never blocks.
    pub fn try_recv(&self) -> Option<Event> {
        self.0.try_recv().ok()
    }

    /// Calls `to` with each event until `stopped` is disconnected, then with those that are left.
    pub(super) fn forward(self, stopped: &Receiver<()>, mut to: impl FnMut(&Event)) {
        loop {
            crossbeam_channel::select! {
                recv(self.0) -> event => match event {
                    Ok(event) => to(&event),
                    Err(_) => return,
                },
                recv(stopped) -> _ => break,
            }
        }
        self.for_each(|event| to(&event));
    }
}

/// All events that are there now.
impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        self.try_recv()
    }
}

/// Where the events of an engine go in.
#[derive(Clone)]
pub struct Teller {
    sender: Sender<Event>,
    records: Option<Arc<EventRecords>>,
}

/// A new channel, and a stream that gets the events, too.
pub fn channel(records: Option<Arc<EventRecords>>) -> (Teller, Events) {
    let (sender, receiver) = bounded(EVENTS_MAX);
    (Teller { sender, records }, Events(receiver))
}

/// Tells of one stream.
#[derive(Clone)]
pub struct StreamTeller {
    teller: Teller,
    stream: Arc<str>,
    board: Arc<Board>,
}

impl Teller {
    pub fn of(&self, stream: &str, board: &Arc<Board>) -> StreamTeller {
        StreamTeller {
            teller: self.clone(),
            stream: Arc::from(stream),
            board: Arc::clone(board),
        }
    }
}

impl StreamTeller {
    pub fn tell(&self, kind: EventKind) {
        let event = Event {
            stream: Arc::clone(&self.stream),
            kind,
        };
        let records = self.teller.records.as_ref();
        if records.is_some_and(|records| !records.append(&event)) {
            self.board.count_event_lost();
        }
        if self.teller.sender.try_send(event).is_err() {
            self.board.count_event_lost();
        }
    }

    /// Tells of the damage that has come into the ledger since this was last called.
    pub fn tell_damage(&self, shared: &Shared) {
        let found = shared.ledger().take_damage();
        for loss in found {
            self.tell(EventKind::Damage {
                store: shared.store,
                start: loss.start,
                end: loss.end,
                records: loss.count,
            });
        }
    }
}

/// Looks at what the syncer does with a stream.
pub struct StreamWatch {
    teller: StreamTeller,
    /// What the budget leaves for records, in bytes.
    budget: u64,
    /// So many of [`BACKLOG_LEVELS`] are passed.
    level: usize,
    drops: u64,
    is_dropping: bool,
    /// The time of day at the beginning of this boot, in milliseconds; 0 while it is not known.
    boot_ms: u64,
}

impl StreamWatch {
    pub fn new(teller: StreamTeller, budget: u64) -> Self {
        Self {
            teller,
            budget: budget.max(1),
            level: 0,
            drops: 0,
            is_dropping: false,
            boot_ms: 0,
        }
    }

    pub fn look(&mut self, clock: &dyn Clock) {
        let share = backlog_bytes(&self.teller.board).saturating_mul(100) / self.budget;
        while self.level < BACKLOG_LEVELS.len() && share >= u64::from(BACKLOG_LEVELS[self.level]) {
            self.teller
                .tell(EventKind::BacklogOver(BACKLOG_LEVELS[self.level]));
            self.level += 1;
        }
        while self.level > 0 && share + LEVEL_MARGIN < u64::from(BACKLOG_LEVELS[self.level - 1]) {
            self.level -= 1;
            self.teller
                .tell(EventKind::BacklogUnder(BACKLOG_LEVELS[self.level]));
        }
        let drops = self.teller.board.get(StreamCounter::Drops);
        if drops > self.drops && !self.is_dropping {
            self.is_dropping = true;
            self.teller.tell(EventKind::DroppingBegan);
        } else if drops == self.drops && self.is_dropping && share < u64::from(BACKLOG_LEVELS[0]) {
            self.is_dropping = false;
            self.teller.tell(EventKind::DroppingEnded);
        }
        self.drops = drops;
        self.look_at_clock(clock);
    }

    fn look_at_clock(&mut self, clock: &dyn Clock) {
        let mut boot_ms = boot_ms(clock.stamp());
        if self.is_step(boot_ms) {
            // The thread may have been stopped between its looks at the two clocks.
            boot_ms = self::boot_ms(clock.stamp());
        }
        if self.is_step(boot_ms) {
            let by_ms = boot_ms
                .cast_signed()
                .wrapping_sub(self.boot_ms.cast_signed());
            self.teller.tell(EventKind::ClockStepped { by_ms });
        }
        self.boot_ms = boot_ms;
    }

    fn is_step(&self, boot_ms: u64) -> bool {
        let is_known = boot_ms > 0 && self.boot_ms > 0;
        is_known && boot_ms.abs_diff(self.boot_ms) > STEP_MIN_MS
    }
}

/// The time of day at which this boot began, in milliseconds; 0 while it is not known.
fn boot_ms(now: Stamp) -> u64 {
    now.wall_ms.saturating_sub(now.mono_ms)
}

/// The bytes of the log from the slowest cursor on, as well as records tell them: those in use, by the
/// share of the records that are left.
fn backlog_bytes(board: &Board) -> u64 {
    let head = board.get(StreamCounter::HeadOffset);
    let durable = board.get(StreamCounter::DurableOffset);
    let stored = durable.saturating_sub(head);
    if stored == 0 {
        return 0;
    }
    let cursors = (0..CURSORS_MAX).map(|index| board.cursor(index));
    let named = cursors.take_while(|cursor| !cursor.name().is_empty());
    let slowest = named
        .filter_map(|cursor| cursor.place())
        .map(|place| place.position)
        .min();
    let left = durable.saturating_sub(slowest.unwrap_or(head).max(head));
    let bytes = u128::from(board.get(StreamCounter::DiskBytes)) * u128::from(left);
    u64::try_from(bytes / u128::from(stored)).unwrap_or(u64::MAX)
}

/// Looks at what an exporter does.
pub struct SinkWatch {
    teller: StreamTeller,
    name: Arc<str>,
    index: usize,
    shared: Arc<Shared>,
    state: SinkState,
    damaged: u64,
    fatal: u64,
    /// Where the cursor stood, and what the sink had accepted.
    progress: (u64, u64),
}

impl SinkWatch {
    /// `linger` is how long a batch may wait for more.
    pub fn new(
        teller: StreamTeller,
        name: &str,
        index: usize,
        shared: &Arc<Shared>,
        linger: Duration,
        now: Mono,
    ) -> Self {
        let after = linger.saturating_add(STALLED_AFTER).as_millis();
        let after = u64::try_from(after).unwrap_or(u64::MAX);
        let cursor = teller.board.cursor(index);
        cursor.set(CursorCounter::StalledAfterMs, after);
        cursor.set(CursorCounter::ProgressMs, now.as_millis());
        Self {
            progress: (0, 0),
            teller,
            name: Arc::from(name),
            index,
            shared: Arc::clone(shared),
            state: SinkState::Ok,
            damaged: 0,
            fatal: 0,
        }
    }

    pub fn look(&mut self, clock: &dyn Clock) {
        let cursor = self.teller.board.cursor(self.index);
        let position = cursor.place().map_or(0, |place| place.position);
        let progress = (position, cursor.get(CursorCounter::Exported));
        if progress != self.progress {
            self.progress = progress;
            cursor.set(CursorCounter::ProgressMs, clock.mono().as_millis());
        }
        let state = match SinkState::from_number(cursor.get(CursorCounter::State)) {
            SinkState::Idle => SinkState::Ok,
            state => state,
        };
        let damaged = cursor.get(CursorCounter::DroppedDamage);
        if state != self.state {
            self.state = state;
            let name = Arc::clone(&self.name);
            self.teller.tell(EventKind::Sink { name, state });
        }
        let fatal = cursor.get(CursorCounter::CrashLoops);
        if fatal > self.fatal {
            let (name, records) = (Arc::clone(&self.name), fatal - self.fatal);
            self.fatal = fatal;
            self.teller.tell(EventKind::CrashLoop { name, records });
        }
        if damaged > self.damaged {
            self.damaged = damaged;
            self.teller.tell_damage(&self.shared);
        }
    }
}
