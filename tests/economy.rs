//! What records cost on the medium by the default policy: syncs, bytes written, space. Counted on the
//! simulated disk with its clock, so the numbers are the same on every machine.

mod sim;

use std::sync::Arc;
use std::time::Duration;

use forebay::counters::{Board, Place, StreamCounter};
use forebay::log::{self, Opening};
use forebay::record::Record;
use forebay::ring::{self, Ring};
use forebay::segment::Io;
use forebay::storage::Memory;
use forebay::syncer::{self, Orders, Stream, Syncer};
use forebay::watermark::Waker;
use sim::clock::SimClock;
use sim::storage::SimDisk;

const KEY: &[u8] = b"pump-7";
const RECORD_LEN: usize = 200;
const RING_SIZE: u32 = 4 << 20;

struct Cost {
    syncs_per_second: f64,
    /// Bytes handed to the device for each byte of keys and payloads, checkpoints included.
    written: f64,
    /// The share of the space in use that is keys and payloads.
    used: f64,
    /// Bytes that only prepared new files, for each byte of keys and payloads.
    prepared: f64,
}

/// What is done with records that are durable.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Kept,
    Acknowledged,
}

/// Appends `rate` records a second for so many seconds.
fn run(rate: u64, seconds: u64, segment_bytes: u64, then: Then) -> Cost {
    let (disk, clock) = (SimDisk::new(1), Arc::new(SimClock::new()));
    let board = |_| {
        let memory = Memory::private(Board::LEN)?;
        Ok((Board::new(memory), "nowhere".to_owned()))
    };
    let opened = log::open(Opening {
        dir: disk.dir(),
        lock_dir: disk.dir(),
        clock: clock.clone(),
        options: log::Options {
            name: "telemetry".try_into().unwrap(),
            segment_bytes,
            disk_bytes_max: 1 << 30,
            age_max: None,
            is_strict: false,
            free_bytes_min: 0,
            aside_bytes_max: u64::MAX,
            reserves_all: false,
            drop_oldest: true,
            io: Io::Write,
            ring_records: 10_000,
            body_len_max: RING_SIZE / 4,
        },
        cursors: &[("file".try_into().unwrap(), false)],
        board: &board,
        ring: &|_| Ok(ring::Left::Nothing),
        pid: 1,
    })
    .unwrap();
    let waker = Arc::new(Waker::new());
    let ring_options = ring::Options {
        size: RING_SIZE,
        records_max: 10_000,
        body_len_max: RING_SIZE / 4,
        first_offset: opened.log.next(),
    };
    let memory = Memory::private(Ring::memory_len(RING_SIZE, 10_000)).unwrap();
    let (ring, consumer) = Ring::new(memory, ring_options, waker.clone());
    let options = syncer::Options {
        sync_interval: Duration::from_secs(1),
        checkpoint_interval: Duration::from_secs(5),
    };
    let board = opened.board.clone();
    let stream = Stream::new(consumer, opened.log, board.clone(), options);
    let mut syncer = Syncer::new(
        vec![stream],
        clock.clone(),
        waker,
        Arc::new(Orders::default()),
    );

    let payload = [7u8; RECORD_LEN - KEY.len()];
    let mut before = None;
    // The first seconds make the first segment; they are not counted.
    let warm_up = 10;
    for second in 0..warm_up + seconds {
        if second == warm_up {
            before = Some(board.snapshot(None, Default::default()));
        }
        for n in 0..rate {
            ring.append(&Record::new(KEY, second * 1000 + n, &payload))
                .unwrap();
            clock.advance(Duration::from_nanos(1_000_000_000 / rate));
            syncer.step();
        }
        if then == Then::Acknowledged {
            let position = syncer.streams()[0].log().durable();
            board.cursor(0).set_place(&Place {
                position,
                ..Place::default()
            });
            syncer.streams()[0].log().shared().cursor_moved.raise();
        }
    }
    let (before, after) = (before.unwrap(), board.snapshot(None, Default::default()));
    #[allow(clippy::cast_precision_loss)]
    let ratio = |a: u64, b: u64| a as f64 / b as f64;
    // A roll syncs and writes for the next segment what has nothing to do with the rate.
    let prepared = after.prepared_bytes - before.prepared_bytes;
    let taken = (after.durable_offset - before.durable_offset) * RECORD_LEN as u64;
    assert_eq!(board.get(StreamCounter::Poisoned), 0);
    Cost {
        syncs_per_second: ratio(after.syncs_total - before.syncs_total, seconds),
        written: ratio(after.written_bytes - before.written_bytes - prepared, taken),
        prepared: ratio(prepared, taken),
        used: ratio(taken, after.disk_bytes.saturating_sub(before.disk_bytes)),
    }
}

/// `L-52`: by the default policy a second costs at most one sync of the log, 100 records a second of
/// 200 B at most 1.3 bytes of flash for each byte, and even one record a second leaves no more than a
/// quarter of the space unused. Checkpoints are included, the zeros of new segments apart: those are
/// written once in the life of a store. Where segments fill, each roll adds two syncs.
#[test]
fn a_trickle_costs_little_flash_and_little_space() {
    for (rate, seconds, syncs_max, written_max, used_min) in [
        (1, 3000, 1.0, f64::INFINITY, 0.75),
        (10, 1000, 1.0, f64::INFINITY, 0.75),
        (100, 1000, 1.0, 1.3, 0.75),
        (1000, 300, 1.05, 1.3, 0.75),
    ] {
        let cost = run(rate, seconds, 64 << 20, Then::Kept);
        println!(
            "{rate:>5}/s: {:.3} syncs/s, {:.2} bytes written per byte, {:.1} % of the space used",
            cost.syncs_per_second,
            cost.written,
            cost.used * 100.0
        );
        assert!(
            cost.syncs_per_second <= syncs_max,
            "at {rate}/s: {:.3} syncs/s",
            cost.syncs_per_second
        );
        assert!(
            cost.written <= written_max,
            "at {rate}/s: {:.3}",
            cost.written
        );
        assert!(cost.used >= used_min, "at {rate}/s: {:.3}", cost.used);
    }
}

/// `G-088`: while the link is up, segments go round: what was delivered is written again, and no new file
/// is filled with zeros only to take the place of one that is removed.
#[test]
fn a_stream_that_is_drained_fills_no_new_files() {
    let cost = run(1000, 600, 1 << 20, Then::Acknowledged);
    println!("prepared for each byte: {:.3}", cost.prepared);
    assert!(cost.prepared <= 0.01, "{:.3}", cost.prepared);
    assert!(cost.written <= 1.3, "{:.3}", cost.written);
}
