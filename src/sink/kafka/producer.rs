//! A client with the thread that hears what it has to say, and with what was heard and not taken.
//!
//! **Threads.** The sink's thread makes it, produces, takes reports and retires it. The thread of its own
//! sleeps inside librdkafka until there is something to hear, and ends the client after it was retired:
//! that may take a while, when the client is looking up a name or connecting.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::client::{Client, ErrorCode, Event, Headers, Message, Settings};
use super::codes;
use super::quiet::Quiet;
use crate::sink::{Link, SinkWaker};
use crate::watermark::seam::Mutex;

/// What became of a message: its number, and 0 or the error.
pub type Report = (u32, ErrorCode);

/// What was heard and not taken.
#[derive(Default)]
pub struct Heard {
    pub reports: Vec<Report>,
    /// Nothing can be delivered at present, and why.
    pub trouble: Option<(Link, String)>,
    /// The client is of no more use, and why.
    pub broken: Option<String>,
    /// A message was delivered after the trouble.
    pub works: bool,
}

struct Shared {
    client: Client,
    heard: Mutex<Heard>,
    waker: Mutex<Option<SinkWaker>>,
    is_retired: AtomicBool,
}

/// A client that is served.
pub struct Producer {
    shared: Arc<Shared>,
    ended: Receiver<()>,
}

/// A client that is being ended.
pub struct Ending(Receiver<()>);

impl Producer {
    /// Starts a client and its thread.
    pub fn new(settings: Settings, topic: &str, quiet: Quiet) -> Result<Self, String> {
        let shared = Arc::new(Shared {
            client: Client::new(settings, topic)?,
            heard: Mutex::default(),
            waker: Mutex::default(),
            is_retired: AtomicBool::new(false),
        });
        let (end, ended) = bounded(0);
        let theirs = Arc::clone(&shared);
        thread::Builder::new()
            .name("forebay-kafka".to_owned())
            .spawn(move || serve(theirs, &quiet, end))
            .map_err(|error| format!("start a thread: {error}"))?;
        Ok(Self { shared, ended })
    }

    /// Whom to wake when something was heard.
    pub fn set_waker(&self, waker: SinkWaker) {
        *self.shared.waker.lock() = Some(waker);
    }

    /// The client, for the steps of its transactions.
    pub fn client(&self) -> &Client {
        &self.shared.client
    }

    /// Hands a message over.
    pub fn produce(&self, message: &Message<'_>, headers: Headers) -> Result<(), ErrorCode> {
        self.shared.client.produce(message, headers)
    }

    /// What was heard since the last time, in place of `heard`. Trouble that was left there stays until
    /// something works: the client does not say it again for a while.
    pub fn take(&self, heard: &mut Heard) {
        heard.reports.clear();
        let left = heard.trouble.take();
        std::mem::swap(&mut *self.shared.heard.lock(), heard);
        if heard.trouble.is_none() && !heard.works {
            heard.trouble = left;
        }
    }

    /// A link that was down while nothing was under way is no trouble.
    pub fn forget_trouble(&self) {
        let heard = &mut *self.shared.heard.lock();
        heard.trouble.take_if(|(link, _)| *link == Link::Down);
    }

    /// Uses the client no more. What it still has is not sent, and its reports are lost.
    pub fn retire(self) -> Ending {
        self.shared.is_retired.store(true, Ordering::Release);
        self.shared.client.interrupt();
        Ending(self.ended)
    }
}

impl Ending {
    /// Whether the client and its threads are gone, within `timeout`.
    pub fn wait(&self, timeout: Duration) -> bool {
        // The other end of the channel is dropped, and nothing ever sent.
        self.0.recv_timeout(timeout) == Err(crossbeam_channel::RecvTimeoutError::Disconnected)
    }
}

/// How often the end of the last user is looked for, after it was announced.
const LOOK_MILLIS: i32 = 10;

fn serve(shared: Arc<Shared>, quiet: &Quiet, end: Sender<()>) {
    while !shared.is_retired.load(Ordering::Acquire) {
        listen(&shared, quiet, -1);
    }
    // Whoever drops it last waits for the threads of the client: that is to be this one.
    let mut shared = shared;
    let client = loop {
        match Arc::try_unwrap(shared) {
            Ok(last) => break last,
            Err(again) => shared = again,
        }
        shared.client.poll(LOOK_MILLIS, |_| {});
    };
    drop(client);
    drop(end);
}

/// Waits for something, and notes it.
fn listen(shared: &Shared, quiet: &Quiet, millis: i32) {
    let mut is_news = false;
    // Nothing else is done while it is locked: whoever takes what was heard waits for a moment at most.
    let mut heard = None;
    shared.client.poll(millis, |event| match event {
        Event::Report(number, code) => {
            let heard = heard.get_or_insert_with(|| shared.heard.lock());
            heard.reports.push((number, code));
            heard.works |= code == 0;
            if code == 0 {
                heard.trouble = None;
            }
            is_news = true;
        }
        Event::Error {
            code,
            text,
            is_fatal,
        } => {
            quiet.error(code, text);
            if is_fatal {
                shared.heard.lock().broken = Some(text.to_owned());
                is_news = true;
            } else if codes::stops_everything(code, text) {
                let mut heard = shared.heard.lock();
                // What refuses the credentials is not reached afterwards, and that is the lesser news.
                let is_worse = |(before, _): &(Link, String)| *before == Link::Down;
                if heard.trouble.as_ref().is_none_or(is_worse) {
                    heard.trouble = Some((codes::link_of(code, text), text.to_owned()));
                }
                heard.works = false;
                is_news = true;
            }
        }
        Event::Log { severity, text } => quiet.client(severity, text),
    });
    drop(heard);
    if is_news && let Some(waker) = &*shared.waker.lock() {
        waker.wake();
    }
}
