//! Sinks that simply block.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::{Batch, Limits, Link, Outcome, Outcomes, Picked, Sink, SinkWaker, Ticket};
use crate::format::StoreId;
use crate::log::BatchBuffer;

/// A sink that delivers one batch at a time and blocks meanwhile.
pub trait BlockingSink: Send {
    /// What it can take; `in_flight_max` and `keeps_order` do not matter.
    fn limits(&self) -> Limits {
        Limits::default()
    }

    /// Delivers a batch within `timeout` and answers for its records. What is not answered for when it
    /// returns, or panics, is sent again.
    fn deliver(&mut self, batch: &Batch<'_>, timeout: Duration, answer: &mut Answer<'_>);

    /// Called once, at the end. Blocks no longer than `timeout`.
    fn close(&mut self, timeout: Duration) {
        let _ = timeout;
    }
}

/// The answer to one delivery.
#[derive(Debug)]
pub struct Answer<'a> {
    outcomes: &'a mut Outcomes,
    ticket: Ticket,
}

impl Answer<'_> {
    /// What became of the record at `index` of the batch. The first outcome of a record counts.
    pub fn set(&mut self, index: usize, outcome: Outcome<'_>) {
        self.outcomes.set(self.ticket, index, outcome);
    }

    /// All records were accepted that have no other outcome.
    pub fn accept_rest(&mut self) {
        self.outcomes.set_all(self.ticket, Outcome::Accepted);
    }

    /// The records that have no other outcome were not taken this time.
    pub fn retry_rest(&mut self, after: Option<Duration>) {
        self.outcomes.set_all(self.ticket, Outcome::Retry(after));
    }

    /// The records that have no other outcome can never be accepted.
    pub fn reject_rest(&mut self, reason: &str) {
        self.outcomes
            .set_all(self.ticket, Outcome::Rejected(reason));
    }

    /// So many records were sent under another key, because the far side does not take theirs.
    pub fn add_mapped(&mut self, count: u64) {
        self.outcomes.add_mapped(count);
    }

    /// How the link is; and, if it does not work, what the far side said.
    pub fn set_link(&mut self, link: Link, error: &str) {
        self.outcomes.set_link(link, error);
    }
}

/// Makes a [`Sink`] of a sink that blocks: submitting delivers, on the exporter's thread.
pub struct Blocking<S> {
    sink: S,
    outcomes: Outcomes,
}

impl<S: BlockingSink> Blocking<S> {
    /// Around `sink`.
    pub fn new(sink: S) -> Self {
        Self {
            sink,
            outcomes: Outcomes::with_capacity(0),
        }
    }
}

impl<S: BlockingSink> Sink for Blocking<S> {
    fn limits(&self) -> Limits {
        Limits {
            in_flight_max: 1,
            keeps_order: true,
            ..self.sink.limits()
        }
    }

    fn submit(&mut self, ticket: Ticket, batch: &Batch<'_>) {
        let timeout = self.sink.limits().answer_timeout;
        deliver(&mut self.sink, ticket, batch, timeout, &mut self.outcomes);
    }

    fn poll(&mut self, outcomes: &mut Outcomes) {
        outcomes.append(&mut self.outcomes);
    }

    fn close(&mut self, timeout: Duration) {
        self.sink.close(timeout);
    }
}

fn deliver(
    sink: &mut impl BlockingSink,
    ticket: Ticket,
    batch: &Batch<'_>,
    timeout: Duration,
    outcomes: &mut Outcomes,
) {
    outcomes.expect(ticket, batch.len());
    let mut answer = Answer { outcomes, ticket };
    sink.deliver(batch, timeout, &mut answer);
    answer.retry_rest(None);
}

/// Makes a [`Sink`] of several sinks that block: each has its own thread and delivers a batch while the
/// others deliver theirs. How many of them are used, `delivery.ordering` and `delivery.maxInFlight` say.
///
/// A batch is copied for its lane. Memory for that is taken at the first batches, and kept.
pub struct Lanes {
    all: Vec<Lane>,
    limits: Limits,
    waker: Option<SinkWaker>,
    /// What no lane could be asked.
    outcomes: Outcomes,
}

struct Lane {
    /// Dropped to end the thread.
    orders: Option<Sender<Order>>,
    answers: Receiver<Box<Job>>,
    /// Here when the lane has nothing to do.
    idle: Option<Box<Job>>,
}

enum Order {
    Deliver(Box<Job>),
    Close(Duration),
}

/// What goes to a lane and comes back.
struct Job {
    ticket: Ticket,
    timeout: Duration,
    batch: Copied,
    outcomes: Outcomes,
    waker: Option<SinkWaker>,
}

/// A batch that is not borrowed.
struct Copied {
    stream: String,
    store: StoreId,
    epoch: u64,
    buffer: [BatchBuffer; 1],
}

impl Copied {
    fn fill(&mut self, batch: &Batch<'_>) -> io::Result<()> {
        if self.stream != batch.stream() {
            batch.stream().clone_into(&mut self.stream);
        }
        (self.store, self.epoch) = (batch.store(), batch.epoch());
        batch.copy_to(&mut self.buffer[0])
    }

    fn batch(&self) -> Batch<'_> {
        let (store, epoch) = (self.store, self.epoch);
        Batch::new(&self.stream, store, epoch, &self.buffer, Picked::All)
    }
}

/// So much longer than its sink may take is waited for a lane.
const GRACE: Duration = Duration::from_secs(5);

impl Lanes {
    /// A lane for each of `sinks`, which are all alike: the first tells the limits. Starts a thread for
    /// each. Errors are those of starting threads; panics when there is no sink.
    pub fn new<S: BlockingSink + 'static>(sinks: Vec<S>) -> io::Result<Self> {
        let limits = match sinks.first() {
            Some(sink) => sink.limits(),
            None => panic!("at least one sink"),
        };
        let limits = Limits {
            in_flight_max: u32::try_from(sinks.len()).unwrap_or(u32::MAX),
            keeps_order: sinks.len() == 1,
            answer_timeout: limits.answer_timeout.saturating_add(GRACE),
            ..limits
        };
        let all: io::Result<_> = sinks.into_iter().map(Lane::new).collect();
        Ok(Self {
            all: all?,
            limits,
            waker: None,
            outcomes: Outcomes::with_capacity(0),
        })
    }
}

impl Lane {
    fn new<S: BlockingSink + 'static>(sink: S) -> io::Result<Self> {
        // Room for a job and the order to close: sending never blocks.
        let (orders, to_do) = bounded(2);
        let (done, answers) = bounded(1);
        thread::Builder::new()
            .name("forebay-lane".to_owned())
            .spawn(move || serve(sink, &to_do, &done))?;
        let buffer = BatchBuffer::new(0, 0, 0)?;
        Ok(Self {
            orders: Some(orders),
            answers,
            idle: Some(Box::new(Job {
                ticket: Ticket::default(),
                timeout: Duration::ZERO,
                batch: Copied {
                    stream: String::new(),
                    store: StoreId::default(),
                    epoch: 0,
                    buffer: [buffer],
                },
                outcomes: Outcomes::with_capacity(0),
                waker: None,
            })),
        })
    }
}

/// What a lane's thread does until it is told to close, or nobody is there any more.
fn serve<S: BlockingSink>(mut sink: S, orders: &Receiver<Order>, done: &Sender<Box<Job>>) {
    let mut timeout = Duration::ZERO;
    while let Ok(order) = orders.recv() {
        let mut job = match order {
            Order::Deliver(job) => job,
            Order::Close(limit) => {
                timeout = limit;
                break;
            }
        };
        job.deliver(&mut sink);
        let waker = job.waker.clone();
        if done.send(job).is_err() {
            break;
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }
    if catch_unwind(AssertUnwindSafe(|| sink.close(timeout))).is_err() {
        log::error!("a sink panicked when it was closed");
    }
}

impl Job {
    fn deliver(&mut self, sink: &mut impl BlockingSink) {
        let Self {
            ticket,
            timeout,
            batch,
            outcomes,
            ..
        } = self;
        let delivered = catch_unwind(AssertUnwindSafe(|| {
            deliver(sink, *ticket, &batch.batch(), *timeout, outcomes);
        }));
        if delivered.is_err() {
            outcomes.set_panicked();
            outcomes.set_all(*ticket, Outcome::Retry(None));
        }
    }
}

impl Sink for Lanes {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn start(&mut self, waker: SinkWaker) {
        self.waker = Some(waker);
    }

    fn submit(&mut self, ticket: Ticket, batch: &Batch<'_>) {
        if let Err(why) = self.deliver(ticket, batch) {
            self.outcomes.expect(ticket, batch.len());
            self.outcomes.set_all(ticket, Outcome::Retry(None));
            self.outcomes.set_link(Link::Down, &why);
        }
    }

    fn poll(&mut self, outcomes: &mut Outcomes) {
        outcomes.append(&mut self.outcomes);
        for lane in &mut self.all {
            lane.take_back();
            if let Some(job) = &mut lane.idle {
                outcomes.append(&mut job.outcomes);
            }
        }
    }

    fn close(&mut self, timeout: Duration) {
        for lane in &mut self.all {
            if let Some(orders) = lane.orders.take() {
                // Its room is kept for this.
                let _ = orders.try_send(Order::Close(timeout));
            }
        }
        // The threads end by themselves; those that do not end in time are left to it.
        let end = crossbeam_channel::after(timeout);
        for lane in &self.all {
            loop {
                let is_over = crossbeam_channel::select! {
                    recv(lane.answers) -> answer => answer.is_err(),
                    recv(end) -> _ => return,
                };
                if is_over {
                    break;
                }
            }
        }
    }
}

impl Lanes {
    /// Gives a batch to a lane that is free; else says why that cannot be.
    fn deliver(&mut self, ticket: Ticket, batch: &Batch<'_>) -> Result<(), String> {
        let timeout = self.limits.answer_timeout.saturating_sub(GRACE);
        for lane in &mut self.all {
            lane.take_back();
            let (Some(orders), Some(mut job)) = (&lane.orders, lane.idle.take()) else {
                continue;
            };
            if let Err(error) = job.batch.fill(batch) {
                lane.idle = Some(job);
                return Err(format!("no memory for a lane's batch: {error}"));
            }
            job.waker.clone_from(&self.waker);
            (job.ticket, job.timeout) = (ticket, timeout);
            return orders
                .try_send(Order::Deliver(job))
                .map_err(|_| "a lane's thread has ended".to_owned());
        }
        Err("every lane still has what was given up".to_owned())
    }
}

impl Lane {
    /// Takes the job back when it is done.
    fn take_back(&mut self) {
        if let Ok(job) = self.answers.try_recv() {
            self.idle = Some(job);
        }
    }
}
