//! The process that the demo kills: host telemetry through an engine into a file behind a link.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{DRAIN, Done, RATE, STREAM, clock, is_cut, json_path};
use crate::clock::{Clock, Mono};
use crate::config::Config;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::input::{Progress, host};
use crate::sink::file::{File, Options};
use crate::sink::lines::LineFormat;
use crate::sink::text::Text;
use crate::sink::{Answer, Batch, Blocking, BlockingSink, Link};
use crate::storage::{Memory, PAGE_SIZE, Real, Storage};
use crate::watermark::seam::park;

/// Where the file is that the demo's records end in.
pub fn out_path(dir: &Path) -> PathBuf {
    dir.join("out.ndjson")
}

/// Where shared memory lies.
pub fn run_dir(dir: &Path) -> PathBuf {
    dir.join("run")
}

/// The child: until its standard input ends.
pub fn main(dir: &Path, start: Mono, seconds: u32) -> Done {
    let config = config(dir, start, seconds)?;
    let engine = Engine::open(&config)?;
    let stream = engine.stream(STREAM)?;
    let shared = Shared::make(dir)?;
    let progress = Arc::new(Progress::default());
    let watched = Arc::clone(&progress);
    let body = move || {
        // Nothing is ever sent: it ends when the parent lets go, or dies.
        let _ = io::stdin().lock().read(&mut [0]);
        watched.stop();
    };
    let thread = std::thread::Builder::new()
        .name("forebay-demo".to_owned())
        .spawn(body);
    thread.map_err(|error| Error::io("start thread", error))?;
    let clock = clock();
    host::run_with(
        &host::Options { rate: RATE },
        &stream,
        &progress,
        |stream, record| {
            let before = clock.mono();
            let appended = stream.append_record(record);
            if appended.is_ok() {
                shared.count(record.payload.len() as u64, clock.mono().since(before));
            }
            appended
        },
    );
    let until = clock.mono().plus(DRAIN);
    while stream.stats().backlog > 0 && clock.mono() < until {
        park(Some(Duration::from_millis(50)));
    }
    Ok(engine.close(Duration::from_secs(10))?)
}

fn config(dir: &Path, start: Mono, seconds: u32) -> Result<Config> {
    let (data, run) = (json_path(&dir.join("data")), json_path(&run_dir(dir)));
    let text = format!(
        r#"{{"dataDir": {data}, "runDir": {run}, "streams": [{{"name": "{STREAM}",
            "sink": {{"type": "callback", "id": "link", "name": "link"}},
            "buffer": {{"volatile": "allow"}},
            "batch": {{"maxLatencyMs": 200}},
            "delivery": {{"backoffMaxMs": 1000}}}}]}}"#
    );
    let options = Options {
        path: Text::open(out_path(dir).to_string_lossy()),
        format: LineFormat::Ndjson,
        file_bytes_max: 0,
        roll_every: Duration::ZERO,
        files_max: 0,
        sync: true,
    };
    let file = File::new(options, &Real, clock())?;
    let link = LinkedFile {
        file,
        clock: clock(),
        start,
        seconds,
    };
    Ok(Config::from_json(&text)?.with_sink("link", Blocking::new(link)))
}

/// A file behind a link that is cut and healed on a schedule.
struct LinkedFile {
    file: File,
    clock: Arc<dyn Clock>,
    start: Mono,
    seconds: u32,
}

impl BlockingSink for LinkedFile {
    fn deliver(&mut self, batch: &Batch<'_>, timeout: Duration, answer: &mut Answer<'_>) {
        if is_cut(self.seconds, self.clock.mono().since(self.start)) {
            answer.set_link(Link::Down, "the link is cut");
            return answer.retry_rest(None);
        }
        self.file.deliver(batch, timeout, answer);
    }

    fn close(&mut self, timeout: Duration) {
        self.file.close(timeout);
    }
}

/// What the child counts, in memory that outlives it: records, payload bytes, and how many appends took
/// how long, four classes for each doubling.
pub struct Shared(Memory);

const APPENDED: usize = 0;
const PAYLOAD: usize = 1;
const CLASSES_AT: usize = 8;
const CLASSES: usize = 4 * 40;

const _: () = assert!((CLASSES_AT + CLASSES) * 8 <= PAGE_SIZE);

impl Shared {
    fn make(dir: &Path) -> io::Result<Self> {
        Real.shared(&run_dir(dir).join("demo"), PAGE_SIZE).map(Self)
    }

    /// What a child has counted, and those before it.
    pub fn open(dir: &Path) -> io::Result<Self> {
        Real.shared_by_other(&run_dir(dir).join("demo")).map(Self)
    }

    fn add(&self, at: usize, count: u64) {
        let word = &self.0.words()[at];
        word.store(word.load(Ordering::Relaxed) + count, Ordering::Relaxed);
    }

    fn count(&self, payload: u64, time: Duration) {
        self.add(APPENDED, 1);
        self.add(PAYLOAD, payload);
        self.add(CLASSES_AT + class(time), 1);
    }

    /// Records that append accepted.
    pub fn appended(&self) -> u64 {
        self.0.words()[APPENDED].load(Ordering::Relaxed)
    }

    /// Their payload.
    pub fn payload_bytes(&self) -> u64 {
        self.0.words()[PAYLOAD].load(Ordering::Relaxed)
    }

    /// Times below which 99 %, 99.9 % and all appends stayed.
    pub fn latencies(&self) -> [String; 3] {
        let words = &self.0.words()[CLASSES_AT..CLASSES_AT + CLASSES];
        let counts: Vec<u64> = words
            .iter()
            .map(|word| word.load(Ordering::Relaxed))
            .collect();
        let total: u64 = counts.iter().sum();
        [990, 999, 1000].map(|permille| {
            let enough = (total * permille).div_ceil(1000);
            let mut sum = 0;
            let class = counts.iter().position(|count| {
                sum += count;
                sum >= enough
            });
            let nanos = upper_bound(class.unwrap_or(0));
            if nanos < 10_000 {
                format!("{nanos} ns")
            } else {
                format!("{} us", nanos / 1000)
            }
        })
    }
}

/// The class of a time: its power of two, and the two bits behind the first.
fn class(time: Duration) -> usize {
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(4);
    let power = nanos.ilog2() as usize;
    let quarter = usize::try_from(nanos >> (power - 2) & 3).unwrap_or(0);
    (4 * power + quarter).min(CLASSES - 1)
}

/// The least time, in nanoseconds, that is above all of a class.
fn upper_bound(class: usize) -> u64 {
    let (power, quarter) = (class / 4, class as u64 % 4);
    (5 + quarter) << power >> 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_is_below_the_bound_of_its_class() {
        for nanos in (4..10_000).chain([1 << 20, (1 << 30) + 1, 3 << 35]) {
            let class = class(Duration::from_nanos(nanos));
            assert!(nanos < upper_bound(class), "{nanos}");
            assert!(class == 8 || nanos >= upper_bound(class - 1), "{nanos}");
        }
    }
}
