//! The hot path allocates nothing: `append` never, syncer and exporter not after they have warmed up.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use common::{LIMIT, Scratch, wait_until};
use forebay::{Engine, Record, Source};

/// Counts what all threads allocate, and what this one does.
struct Counting;

static ALL: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static HERE: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    ALL.fetch_add(1, Ordering::Relaxed);
    let _ = HERE.try_with(|here| here.set(here.get() + 1));
}

// SAFETY: all calls go to the system's allocator as they are; counting neither allocates nor unwinds.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// One test at a time: the threads of another would be counted too.
static ALONE: Mutex<()> = Mutex::new(());

fn all() -> u64 {
    ALL.load(Ordering::Relaxed)
}

fn here() -> u64 {
    HERE.with(Cell::get)
}

/// Once the stream has its first large segment and every buffer has its size, records go from `append` to
/// the file of the sink without one allocation in any thread. A roll may allocate (names, a file's
/// handle), within a bound.
#[test]
fn records_go_all_the_way_without_an_allocation() {
    go_all_the_way("private");
}

/// A shared ring costs no more.
#[test]
fn with_a_shared_ring_nothing_allocates_either() {
    go_all_the_way("shared");
}

fn go_all_the_way(ring: &str) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let scratch = Scratch::new("no-alloc");
    let out = scratch.join("out.ndjson");
    let stream = format!(
        r#"{{"name": "telemetry", "batch": {{"maxLatencyMs": 5}},
            "buffer": {{"ring": "{ring}", "fsyncIntervalMs": 20, "checkpointMs": 50}},
            "sink": {{"type": "file", "path": "{}", "maxFileBytes": 0, "fsync": "never"}}}}"#,
        out.display()
    );
    let engine = Engine::open(&scratch.config(&stream)).unwrap();
    let stream = engine.stream("telemetry").unwrap();
    let payload = [7u8; 100];
    let properties: [(&str, &[u8]); 1] = [("unit", b"bar")];
    let mut time_ms = 0;
    let mut append = |count: u64| {
        for _ in 0..count {
            time_ms += 1;
            let record = Record {
                key: b"pump-7",
                time_ms,
                payload: &payload,
                properties: &properties,
                source: Some(Source {
                    name: "tail",
                    position: &time_ms.to_le_bytes(),
                }),
            };
            while stream.append_record(&record).is_err() {
                std::thread::yield_now();
            }
            while stream.append(b"pump-7", time_ms, &payload).is_err() {
                std::thread::yield_now();
            }
        }
    };

    // Segments grow from 1 MiB to 64 MiB: the seventh is the first of full size.
    let rolls = |stream: &forebay::Stream| stream.shared().segments().len();
    while stream.stats().allocated_bytes < 100 << 20 {
        append(20_000);
    }
    stream.flush(LIMIT).unwrap();
    wait_until("delivery", || stream.stats().backlog == 0);
    // What is delivered goes with a checkpoint, and the names of its files allocate.
    wait_until("deletion", || rolls(&stream) == 1);

    let (all_before, here_before) = (all(), here());
    let before = stream.stats();
    for _ in 0..10 {
        append(2_000);
        stream.flush(LIMIT).unwrap();
        while stream
            .append_batch(&[Record::new(b"pump-7", 1, &payload); 50])
            .is_err()
        {
            std::thread::yield_now();
        }
    }
    let appended = here() - here_before;
    wait_until("delivery", || stream.stats().backlog == 0);
    // What this thread allocated while it waited is its own: a snapshot has lists.
    let others = (all() - all_before) - (here() - here_before);
    let after = stream.stats();
    assert_eq!(after.exported_total - before.exported_total, 40_500);
    assert!(after.syncs_total - before.syncs_total >= 10);
    assert_eq!(appended, 0, "appends and flush allocate nothing");
    assert_eq!(others, 0, "syncer and exporter allocate nothing");

    // A roll at least.
    let segments = rolls(&stream);
    let (all_before, here_before) = (all(), here());
    while rolls(&stream) == segments {
        append(20_000);
    }
    let per_roll = (all() - all_before) - (here() - here_before);
    assert!(per_roll <= 64, "{per_roll} allocations for a roll");
    engine.close(LIMIT).unwrap();
}

/// A refusal allocates nothing either: a producer that meets a full ring goes on as fast as before.
#[test]
fn a_refusal_allocates_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let scratch = Scratch::new("no-alloc-refused");
    let stream = r#"{"name": "telemetry", "sink": {"type": "none"},
        "buffer": {"maxBufferedBytes": 65536, "fsyncIntervalMs": 60000}}"#;
    let engine = Engine::open(&scratch.config(stream)).unwrap();
    let stream = engine.stream("telemetry").unwrap();
    let payload = [7u8; 10_000];
    let before = here();
    let mut refused = 0;
    for _ in 0..20_000 {
        refused += u64::from(stream.append(b"", 0, &payload).is_err());
    }
    assert_eq!(here(), before);
    assert!(refused > 0, "the ring was never full");
    assert_eq!(stream.stats().rejected_total, refused);
    engine.close(LIMIT).unwrap();
}

/// The same from C: taken or refused, with properties or without, and with the text of the refusal.
#[test]
#[cfg(feature = "ffi")]
#[allow(unsafe_code)]
fn an_append_from_c_allocates_nothing() {
    use forebay::ffi::{self, forebay_result};
    use std::ffi::CString;
    use std::ptr;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let scratch = Scratch::new("no-alloc-c");
    let stream = r#"{"name": "telemetry", "sink": {"type": "none"},
        "buffer": {"maxBufferedBytes": 65536, "fsyncIntervalMs": 60000}}"#;
    let text = CString::new(scratch.document(stream)).unwrap();
    let (mut engine, mut stream) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: a text with its NUL, and room for a handle.
    let opened = unsafe { ffi::forebay_open(text.as_ptr(), &raw mut engine) };
    assert_eq!(opened, forebay_result::FOREBAY_OK);
    // SAFETY: as above.
    let given = unsafe { ffi::forebay_stream_get(engine, c"telemetry".as_ptr(), &raw mut stream) };
    assert_eq!(given, forebay_result::FOREBAY_OK);
    let payload = [7u8; 4_000];
    let property = ffi::forebay_property {
        name: c"unit".as_ptr(),
        name_len: 4,
        value: payload.as_ptr().cast(),
        value_len: 3,
    };
    let record = ffi::forebay_record {
        size: u32::try_from(size_of::<ffi::forebay_record>()).unwrap(),
        source_len: 4,
        time_ms: 1,
        key: payload.as_ptr().cast(),
        key_len: 16,
        payload: payload.as_ptr().cast(),
        payload_len: payload.len(),
        properties: &raw const property,
        properties_len: 1,
        source: c"tail".as_ptr(),
        position: payload.as_ptr().cast(),
        position_len: 8,
    };
    let (key, body) = (payload.as_ptr().cast(), payload.as_ptr().cast());
    let (mut taken, mut refused) = (0, 0);
    let before = here();
    for _ in 0..10_000 {
        let mut offset = 0;
        // SAFETY: the pointers are to bytes that live here, as many as is said.
        let plain =
            unsafe { ffi::forebay_stream_append(stream, key, 16, 1, body, 4_000, &raw mut offset) };
        // SAFETY: as above.
        let whole = unsafe {
            ffi::forebay_stream_append_record(stream, &raw const record, &raw mut offset)
        };
        for result in [plain, whole] {
            taken += u64::from(result == forebay_result::FOREBAY_OK);
            refused += u64::from(result == forebay_result::FOREBAY_ERR_FULL);
        }
    }
    assert_eq!(here(), before);
    assert_eq!(taken + refused, 20_000);
    assert!(taken > 0 && refused > 0, "{taken} taken, {refused} refused");
    assert_eq!(ffi::forebay_stream_free(stream), forebay_result::FOREBAY_OK);
    assert_eq!(
        ffi::forebay_close(engine, 20_000),
        forebay_result::FOREBAY_OK
    );
}

/// Answers each request as Kinesis does, for as many records as it has, and allocates nothing meanwhile.
#[cfg(feature = "kinesis")]
fn serve_kinesis(listener: &std::net::TcpListener, requests: &AtomicU64) {
    use std::io::{Read, Write};
    let entry =
        r#"{"SequenceNumber":"49590338271490256608559692538361571095","ShardId":"shardId-0"}"#;
    let answer = |count: usize| {
        let entries = vec![entry; count].join(",");
        let body = format!(r#"{{"FailedRecordCount":0,"Records":[{entries}]}}"#);
        format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    };
    let answers: Vec<Vec<u8>> = (0..=500).map(answer).collect();
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_nodelay(true).unwrap();
    let mut bytes = vec![0; 1 << 20];
    let mut len = 0;
    loop {
        match stream.read(&mut bytes[len..]) {
            Ok(count) if count > 0 => len += count,
            _ => return,
        }
        // The end of a request's JSON.
        if !bytes[..len].ends_with(b"]}") {
            continue;
        }
        let names = bytes[..len]
            .windows(14)
            .filter(|part| part == b"\"PartitionKey\"");
        let count = names.count();
        requests.fetch_add(1, Ordering::Relaxed);
        stream.write_all(&answers[count]).unwrap();
        len = 0;
    }
}

/// `G-035`: a request costs some allocations, in its client and for its signature; a record none.
#[test]
#[cfg(feature = "kinesis")]
fn a_record_in_a_request_allocates_nothing() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let scratch = Scratch::new("no-alloc-kinesis");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    static REQUESTS: AtomicU64 = AtomicU64::new(0);
    let server = std::thread::spawn(move || serve_kinesis(&listener, &REQUESTS));
    let stream = format!(
        r#"{{"name": "telemetry", "batch": {{"maxLatencyMs": 20}},
            "buffer": {{"fsyncIntervalMs": 20, "checkpointMs": 50}},
            "sink": {{"type": "kinesis", "streamName": "s", "region": "r", "endpointUrl": "http://127.0.0.1:{port}/",
                "credentials": {{"type": "static", "accessKeyId": "a", "secretAccessKey": "b"}}}}}}"#
    );
    let engine = Engine::open(&scratch.config(&stream)).unwrap();
    let stream = engine.stream("telemetry").unwrap();
    let payload = [7u8; 200];
    let records = [Record::new(b"pump-7", 1, &payload); 500];
    // What a number of requests with so many records each allocate in all threads but this one.
    let requests = |count: u64, len: usize| {
        let (all_before, here_before) = (all(), here());
        let before = REQUESTS.load(Ordering::Relaxed);
        for _ in 0..count {
            stream.append_batch(&records[..len]).unwrap();
            wait_until("delivery", || stream.stats().backlog == 0);
        }
        let allocated = (all() - all_before) - (here() - here_before);
        (allocated, REQUESTS.load(Ordering::Relaxed) - before)
    };
    requests(20, 500);
    let ((small, few), (large, many)) = (requests(20, 1), requests(20, 500));
    println!(
        "allocations: {small} for {few} requests of 1 record, {large} for {many} of up to 500"
    );
    assert!((20..=40).contains(&few) && (20..=40).contains(&many));
    // What others of the engine's threads do once in a while is in it.
    assert!(
        large / many <= small / few + 5,
        "a record allocates nothing"
    );
    assert!(small <= few * 150, "{small}");
    engine.close(LIMIT).unwrap();
    server.join().unwrap();
}
