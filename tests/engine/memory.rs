//! Buffers of type `memory`: the same engine over the memory of the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use forebay::counters::Stats;
use forebay::sink::Blocking;
use forebay::{Code, Engine, Stream};

use crate::common::collect::Collect;
use crate::common::gate::{Gate, Syncs};
use crate::common::{LIMIT, Scratch, wait_until};

const MIB: u64 = 1 << 20;
/// A ring that holds little beside a small budget.
const SMALL: &str = r#""maxDiskBytes": 1048576, "maxBufferedBytes": 65536, "fsyncIntervalMs": 5"#;
const PAYLOAD: [u8; 1000] = [7; 1000];

/// A stream in memory whose sink is the test's own.
fn stream(name: &str, buffer: &str) -> String {
    format!(
        r#"{{"name": "{name}", "sink": {{"type": "callback", "id": "test"}},
            "buffer": {{"type": "memory", {buffer}}}, "batch": {{"maxLatencyMs": 5}},
            "delivery": {{"backoffMaxMs": 100}}}}"#
    )
}

/// A sink that takes nothing until the switch is set, and then everything.
struct Outage {
    is_up: Arc<AtomicBool>,
    sink: Collect,
}

impl Outage {
    fn new() -> Self {
        let is_up = Arc::new(AtomicBool::new(false));
        let up = Arc::clone(&is_up);
        let sink = Collect::with(move |_, answer| {
            if !up.load(Ordering::SeqCst) {
                answer.retry_rest(None);
            }
        });
        Self { is_up, sink }
    }

    fn open(&self, scratch: &Scratch, buffer: &str) -> (Engine, Stream) {
        let config = scratch.config(&stream("telemetry", buffer));
        let config = config.with_sink("test", Blocking::new(self.sink.clone()));
        let engine = Engine::open(&config).unwrap();
        let stream = engine.stream("telemetry").unwrap();
        (engine, stream)
    }

    fn end(&self) {
        self.is_up.store(true, Ordering::SeqCst);
    }

    /// What was accepted in the end: the last offsets that it got, each once.
    fn last(&self, count: u64) -> Vec<u64> {
        let offsets = self.sink.offsets();
        offsets[offsets.len() - usize::try_from(count).unwrap()..].to_vec()
    }
}

/// Appends, and waits for the syncer when the ring is full.
fn fill(stream: &Stream, count: u64, mut look: impl FnMut(&Stats)) {
    for n in 0..count {
        while stream.append(b"pump-7", n, &PAYLOAD).is_err() {
            std::thread::yield_now();
        }
        if n % 50 == 0 {
            look(&stream.stats());
        }
    }
    stream.flush(LIMIT).unwrap();
}

/// `G-057`, `G-058`, `G-073`: what a memory buffer takes is delivered in order, nothing lies on a disk, and
/// the next open begins with nothing, under another epoch.
#[test]
fn a_memory_buffer_delivers_and_ends_with_its_engine() {
    let scratch = Scratch::new("memory-ends");
    let mut epochs = Vec::new();
    for _ in 0..3 {
        let (accepting, failing) = (Outage::new(), Outage::new());
        accepting.end();
        let (engine, stream) = accepting.open(&scratch, r#""fsyncIntervalMs": 5"#);
        assert_eq!(stream.stats().next_offset, 0);
        for n in 0..100 {
            assert_eq!(stream.append(b"pump-7", n, b"x").unwrap(), n);
        }
        wait_until("delivery", || stream.stats().exported_total == 100);
        assert_eq!(accepting.sink.offsets(), (0..100).collect::<Vec<u64>>());
        epochs.push((stream.shared().epoch, stream.shared().store));
        engine.close(LIMIT).unwrap();
        std::thread::park_timeout(Duration::from_millis(5));

        let (engine, stream) = failing.open(&scratch, r#""fsyncIntervalMs": 5"#);
        stream.append_durable(b"", 0, b"lost", LIMIT).unwrap();
        assert_eq!(stream.stats().backlog, 1);
        engine.close(LIMIT).unwrap();
        std::thread::park_timeout(Duration::from_millis(5));
    }
    assert!(!scratch.join("data").exists());
    epochs.dedup_by(|a, b| a.0 == b.0 || a.1 == b.1);
    assert_eq!(epochs.len(), 3, "{epochs:?}");
    // All of them had one place for what others see of them.
    let files = scratch.files("run");
    let names: Vec<_> = files.iter().map(|(path, _)| path.file_name()).collect();
    assert_eq!(names, [Some("board".as_ref()), Some("lock".as_ref())]);
}

/// `G-004`, `G-073`: a backlog in memory outlives an outage of the sink.
#[test]
fn a_backlog_in_memory_survives_an_outage_of_the_sink() {
    let scratch = Scratch::new("memory-outage");
    let outage = Outage::new();
    let (engine, stream) = outage.open(&scratch, r#""fsyncIntervalMs": 5"#);
    fill(&stream, 5000, |_| {});
    wait_until("tries", || stream.stats().retries_total > 2);
    let stats = stream.stats();
    assert_eq!((stats.backlog, stats.durable_offset), (5000, 5000));
    outage.end();
    wait_until("delivery", || stream.stats().backlog == 0);
    assert_eq!(outage.last(5000), (0..5000).collect::<Vec<u64>>());
    assert_eq!(stream.stats().dropped_total, 0);
    engine.close(LIMIT).unwrap();
}

/// `G-060`, `G-062`: under `dropOldest` memory never takes more than the budget, the oldest go, counted,
/// and what is left is delivered.
#[test]
fn a_memory_buffer_drops_its_oldest_at_the_budget() {
    let scratch = Scratch::new("memory-drops");
    let outage = Outage::new();
    let (engine, stream) = outage.open(&scratch, SMALL);
    let count = 5000;
    let mut largest = 0;
    fill(&stream, count, |stats| {
        largest = largest.max(stats.allocated_bytes);
    });
    println!("largest {largest}");
    assert!(largest <= MIB, "{largest} bytes");
    assert!(largest >= MIB / 2, "the budget is used: {largest}");
    outage.end();
    wait_until("delivery", || stream.stats().backlog == 0);
    let stats = stream.stats();
    assert!(stats.dropped_quota > count / 2, "{stats:?}");
    assert_eq!(stats.exported_total + stats.dropped_total, count);
    let rest = outage.last(400);
    assert_eq!(rest, (count - 400..count).collect::<Vec<u64>>());
    engine.close(LIMIT).unwrap();
}

/// `G-065`: under `rejectNew` nothing that was taken goes, the newest are refused, and there is room again
/// when the sink has taken some.
#[test]
fn a_memory_buffer_refuses_the_newest_at_the_budget() {
    let scratch = Scratch::new("memory-rejects");
    let outage = Outage::new();
    let buffer = format!(r#"{SMALL}, "onFull": "rejectNew""#);
    let (engine, stream) = outage.open(&scratch, &buffer);
    let (mut taken, mut refused) = (0, 0);
    while refused < 500 {
        match stream.append(b"pump-7", 0, &PAYLOAD) {
            Ok(offset) => {
                assert_eq!(offset, taken);
                (taken, refused) = (taken + 1, 0);
            }
            Err(error) => {
                assert_eq!(error.code(), Code::Full);
                refused += 1;
                std::thread::park_timeout(Duration::from_millis(1));
            }
        }
    }
    let stats = stream.stats();
    assert!(stats.allocated_bytes <= MIB, "{}", stats.allocated_bytes);
    assert!(taken > 400 && taken < 1000, "{taken}");
    outage.end();
    wait_until("delivery", || stream.stats().exported_total == taken);
    assert_eq!(outage.last(taken), (0..taken).collect::<Vec<u64>>());
    assert_eq!(stream.stats().dropped_total, 0);
    wait_until("room", || stream.append(b"", 0, b"again").is_ok());
    engine.close(LIMIT).unwrap();
}

/// A card that does not answer delays no stream in memory: with `fsync: always` each append returns when its
/// record is stored, and it is delivered.
#[test]
fn a_disk_that_stalls_delays_no_memory_buffer() {
    let scratch = Scratch::new("memory-stall");
    let gate = Gate::default();
    let sink = Collect::default();
    let disk = r#"{"name": "disk", "sink": {"type": "none"}, "buffer": {"fsyncIntervalMs": 5}}"#;
    let streams = format!("{disk}, {}", stream("telemetry", r#""fsync": "always""#));
    let config = scratch.config(&streams);
    let config = config.with_sink("test", Blocking::new(sink.clone()));
    let engine = Engine::open_in(&config, &gate.world()).unwrap();
    let (disk, memory) = (
        engine.stream("disk").unwrap(),
        engine.stream("telemetry").unwrap(),
    );
    disk.append_durable(b"", 0, b"x", LIMIT).unwrap();
    gate.set(Syncs::Stalled);
    disk.append(b"", 1, b"x").unwrap();
    let stuck = disk.flush(Duration::from_millis(50)).unwrap_err();
    assert_eq!(stuck.code(), Code::Timeout);
    let mut longest = Duration::ZERO;
    for n in 0..500 {
        let start = Instant::now();
        let offset = memory.append(b"pump-7", n, &PAYLOAD).unwrap();
        longest = longest.max(start.elapsed());
        assert!(memory.stats().durable_offset > offset);
    }
    println!("the longest append took {longest:?}");
    assert!(longest < Duration::from_secs(2), "{longest:?}");
    wait_until("delivery", || memory.stats().exported_total == 500);
    let stats = disk.stats();
    assert_eq!((stats.durable_offset, stats.next_offset), (1, 2));
    gate.set(Syncs::Done);
    engine.close(LIMIT).unwrap();
}

/// `G-034`: a stream in memory has one engine at a time, as a store on disk has, and is free again when that
/// has ended.
#[test]
fn a_memory_buffer_has_one_engine_at_a_time() {
    let scratch = Scratch::new("memory-lock");
    let text = stream("telemetry", SMALL);
    let engine = Engine::open(&scratch.config(&text)).unwrap();
    let error = Engine::open(&scratch.config(&text)).err().unwrap();
    assert_eq!(error.code(), Code::Io);
    let told = format!("process {} has it open", std::process::id());
    assert!(error.to_string().contains(&told), "{error}");
    // Another one of the same directory is another one.
    let other = Scratch::new("memory-lock-other");
    let run_dir = scratch.join("run");
    let config = other.config(&text).with_run_dir(&run_dir);
    Engine::open(&config).unwrap().close(LIMIT).unwrap();
    engine.close(LIMIT).unwrap();
    Engine::open(&scratch.config(&text)).unwrap();
}
