//! The two back ends of a segment on a file system: new, zero-filled and recycled files, at four rates.
//!
//! `media DIR [SYNCS]`: DIR lies on the file system to be measured, and nothing else writes to it. For each
//! case a segment's worth of pages is written with a sync for every second's records. Counts first: what
//! the device got by the kernel's own count (`/sys/dev/block/…/stat`), system calls, capacity; then the
//! time of a sync and the throughput. A second table shows what padding from so many pages on costs.

#![allow(clippy::disallowed_methods, clippy::print_stdout, missing_docs)]
#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use forebay::clock::Stamp;
use forebay::format::{HEADER_COPIES, SegmentHeader, StoreId};
use forebay::segment::{self, Draft, Io, Segment, SegmentWriter};
use forebay::storage::{Dir, File, PAGE_SIZE, Real, Storage};

const SEGMENT_SIZE: u64 = 64 << 20;
const BODY: [u8; 200] = [9; 200];
const STEP: usize = 256 * 1024;

/// What is in the file before its pages are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Blocks that were never written.
    New,
    /// Zeros, written and synced.
    Zeroed,
    /// Pages of a former life, and nothing of them in the cache.
    Recycled,
}

/// The bytes that the device has been given to write.
fn device_bytes(dir: &Path) -> Option<u64> {
    let device = std::fs::metadata(dir).ok()?.dev();
    let (major, minor) = (device >> 8 & 0xfff, device & 0xff);
    let text = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat"));
    // Btrfs has a device number of its own that no block device bears: the device is found by its mount.
    let text = text.ok().or_else(|| {
        let mounts = std::fs::read_to_string("/proc/self/mounts").ok()?;
        let of = |line: &str| {
            let mut fields = line.split(' ');
            Some((fields.next()?.to_owned(), PathBuf::from(fields.next()?)))
        };
        let lines = mounts.lines().filter_map(of);
        let (name, _) = lines
            .filter(|(_, mount)| dir.starts_with(mount))
            .max_by_key(|(_, mount)| mount.as_os_str().len())?;
        let name = name.strip_prefix("/dev/")?;
        std::fs::read_to_string(format!("/sys/class/block/{name}/stat")).ok()
    })?;
    let sectors: u64 = text.split_whitespace().nth(6)?.parse().ok()?;
    Some(sectors * 512)
}

/// The calls of this thread that write.
fn write_calls() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/io").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("syscw:"));
    let value = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    value.unwrap_or(0)
}

fn prepare(dir: &dyn Dir, state: State) -> std::io::Result<Arc<dyn File>> {
    let _ = dir.remove("segment-000001");
    let file = dir.create("segment-000001")?;
    file.preallocate(SEGMENT_SIZE)?;
    if state != State::New {
        let byte = if state == State::Zeroed { 0 } else { 0xa5 };
        for at in (0..SEGMENT_SIZE).step_by(STEP) {
            file.write_at(&vec![byte; STEP], at)?;
        }
    }
    file.sync()?;
    dir.sync()?;
    if state == State::Recycled {
        file.drop_cache();
    }
    Ok(file)
}

struct Measured {
    /// To the device, by the kernel's count, for each payload byte.
    device: Option<f64>,
    /// By our own count.
    written: f64,
    calls_per_sync: f64,
    /// Payload in the pages that are used up.
    used: f64,
    sync_ms: [f64; 3],
    records_per_second: f64,
}

/// `syncs` times `per_sync` records and a sync.
fn measure(
    path: &Path,
    state: State,
    io: Io,
    per_sync: u64,
    syncs: u64,
    pad_from: u32,
) -> std::io::Result<Measured> {
    let dir = Real.open_dir(path, true)?;
    let file = prepare(&*dir, state)?;
    let store = StoreId([7; 16]);
    let pages = (SEGMENT_SIZE / PAGE_SIZE as u64) as u32;
    let header = SegmentHeader {
        store,
        epoch: 1,
        base: 0,
        life: 2,
        number: 1,
        pages,
        prepared: Stamp::default(),
        name: "media".try_into().unwrap_or_default(),
    };
    segment::write_headers(&*file, &header)?;
    file.sync()?;
    let segment = Segment {
        file,
        number: 1,
        base: 0,
        life: 2,
        pages,
        prepared: Stamp::default(),
    };
    let mut writer = SegmentWriter::new(io, store, segment, HEADER_COPIES, 2, 0, 0)?;
    writer.set_pad_from(pad_from);
    let (device_before, calls_before) = (device_bytes(path), write_calls());
    let (mut times, mut offset) = (Vec::new(), 0);
    let start = Instant::now();
    for second in 0..syncs {
        for _ in 0..per_sync {
            let draft = Draft {
                offset,
                time_ms: offset,
                extra_len: 0,
                key_len: 6,
                body: &BODY,
            };
            let stamp = Stamp {
                boot: 1,
                mono_ms: second * 1000,
                wall_ms: 0,
            };
            if !writer.fits(BODY.len(), stamp) {
                break;
            }
            writer.append(&draft, stamp)?;
            offset += 1;
        }
        let before = Instant::now();
        writer.flush(false)?;
        writer.sync()?;
        times.push(before.elapsed().as_secs_f64() * 1e3);
        writer.set_mark(offset);
    }
    let elapsed = start.elapsed().as_secs_f64();
    let calls = write_calls() - calls_before;
    // What the file system writes later for it counts too.
    dir.sync()?;
    std::thread::sleep(Duration::from_millis(50));
    let payload = (offset * BODY.len() as u64) as f64;
    let device = device_bytes(path).zip(device_before);
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    let pages_used = f64::from(writer.end_slot() - HEADER_COPIES) * PAGE_SIZE as f64;
    Ok(Measured {
        device: device.map(|(after, before)| (after - before) as f64 / payload),
        written: writer.take_written_bytes() as f64 / payload,
        calls_per_sync: calls as f64 / syncs as f64,
        used: payload / pages_used.max(1.0),
        sync_ms: [at(0.5), at(0.99), at(1.0)],
        records_per_second: offset as f64 / elapsed,
    })
}

fn main() {
    let args: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| arg != "--bench")
        .collect();
    let path = args.first().map_or_else(std::env::temp_dir, PathBuf::from);
    let path = path.join(format!("forebay-media-{}", std::process::id()));
    let syncs: u64 = args.get(1).and_then(|arg| arg.parse().ok()).unwrap_or(50);
    println!(
        "records/s  io     file      device  written  calls/sync  used   sync ms p50/p99/max       records/s of work"
    );
    for (rate, per_sync, count) in [
        ("1", 1, syncs),
        ("100", 100, syncs),
        ("10000", 10_000, syncs.min(20)),
        // Half of a ring of 4 MiB a sync, which is what as many as it takes come to.
        ("most", 9_000, 25),
    ] {
        for state in [State::New, State::Zeroed, State::Recycled] {
            for io in [Io::Write, Io::Map] {
                match measure(&path, state, io, per_sync, count, segment::PAD_FROM) {
                    Ok(measured) => {
                        show(rate, &format!("{io:?}"), &format!("{state:?}"), &measured)
                    }
                    Err(error) => println!("{rate:>9}  {io:?} {state:?}: {error}"),
                }
            }
        }
    }
    println!("\npadding from so many closed pages on, by records in a sync (zero-filled, writes)");
    for per_sync in [1, 10, 18, 36, 54, 72, 100, 180, 360] {
        for pad_from in [0, 2, 4, 8, u32::MAX] {
            let name = match pad_from {
                0 => "always".to_owned(),
                u32::MAX => "never".to_owned(),
                from => from.to_string(),
            };
            match measure(&path, State::Zeroed, Io::Write, per_sync, syncs, pad_from) {
                Ok(measured) => show(&per_sync.to_string(), "pad", &name, &measured),
                Err(error) => println!("{per_sync}: {error}"),
            }
        }
    }
    let _ = std::fs::remove_dir_all(&path);
}

fn show(rate: &str, io: &str, state: &str, measured: &Measured) {
    let device = measured
        .device
        .map_or_else(|| "?".to_owned(), |device| format!("{device:.2}"));
    let [p50, p99, max] = measured.sync_ms;
    println!(
        "{rate:>9}  {io:<5}  {state:<8} {device:>7} {:>8.2} {:>11.1} {:>4.0} %   {p50:>7.2} {p99:>7.2} {max:>7.2}  {:>12.0}",
        measured.written,
        measured.calls_per_sync,
        measured.used * 100.0,
        measured.records_per_second,
    );
}
