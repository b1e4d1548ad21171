//! How fast a backlog goes to Kafka: records a second, and seconds of CPU for a million records, from a store
//! to Apache Kafka in a process of its own; beside it, to the same broker in the same run, librdkafka alone
//! with the same properties, fed from memory, and `kcat` where it is installed.
//!
//! In turn, `ROUNDS` (3) times, each to a topic of its own; then the medians. `kafka [RECORDS]`. The broker is
//! fetched as for tests/kafka.rs. What is not there says `LEFT OUT`.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs
)]
// The client is called here as a program of C would.
#![allow(
    clippy::cast_precision_loss,
    clippy::multiple_unsafe_ops_per_block,
    dead_code,
    unsafe_code
)]

use std::ffi::{CString, c_char, c_void};
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use forebay::{Config, Engine};
use rdkafka_sys as sys;

#[path = "../tests/kafka/broker.rs"]
mod broker;
#[path = "../tests/common/mod.rs"]
mod common;

const LEN: usize = 200;
const KEYS: u64 = 8;

fn payload() -> Vec<u8> {
    (0..LEN)
        .map(|at| b"{\"temperature\":21.5,"[at % 20])
        .collect()
}

fn key(number: u64) -> String {
    format!("pump-{}", number % KEYS)
}

/// Seconds of CPU, to the hundredth: of this process, and of those that it has waited for.
fn cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = text.rsplit_once(") ").unwrap();
    let fields = fields.split(' ').skip(11).take(4);
    let ticks: u64 = fields.map(|field| field.parse::<u64>().unwrap()).sum();
    ticks as f64 / 100.0
}

/// Seconds by the clock and of the CPU.
fn measured(run: impl FnOnce()) -> [f64; 2] {
    let (began, before) = (Instant::now(), cpu());
    run();
    [began.elapsed().as_secs_f64(), cpu() - before]
}

/// A store is filled; what is measured is from its opening until all is acknowledged.
fn ours(path: &Path, address: &str, topic: &str, records: u64, more: &str) -> [f64; 2] {
    let (data, run) = (path.join("data"), path.join("run"));
    let text = format!(
        r#"{{"dataDir": {data:?}, "runDir": {run:?}, "streams": [{{"name": "bench",
            "batch": {{"maxRecords": 10000, "maxBytes": 4194304, "maxLatencyMs": 0}},
            "delivery": {{"maxInFlight": 4}}, "buffer": {{"volatile": "allow", "maxDiskBytes": 4294967296}},
            "sink": {{"type": "kafka", "bootstrapServers": "{address}", "topic": "{topic}"{more}}}}}]}}"#
    );
    let config = Config::from_json(&text).unwrap();
    let engine = Engine::open_to_store(&config).unwrap();
    let stream = engine.stream("bench").unwrap();
    let payload = payload();
    for n in 0..records {
        while stream.append(key(n).as_bytes(), time(n), &payload).is_err() {
            std::thread::yield_now();
        }
    }
    stream.flush(Duration::from_secs(120)).unwrap();
    engine.close(Duration::from_secs(60)).unwrap();
    let mut closing = None;
    let took = measured(|| {
        let engine = Engine::open(&config).unwrap();
        let stream = engine.stream("bench").unwrap();
        while stream.stats().backlog > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        closing = Some(engine);
    });
    closing.unwrap().close(Duration::from_secs(60)).unwrap();
    let _ = std::fs::remove_dir_all(path);
    took
}

/// A time that brokers take: not long ago.
fn time(number: u64) -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap().as_secs() * 1000 + number % 1000
}

/// What the sink sets, but for the user's properties.
const PROPERTIES: [(&str, &str); 6] = [
    ("acks", "all"),
    ("enable.idempotence", "true"),
    ("message.timeout.ms", "0"),
    ("queue.buffering.max.messages", "100000"),
    ("queue.buffering.max.kbytes", "65536"),
    ("log.connection.close", "false"),
];

static DELIVERED: AtomicU64 = AtomicU64::new(0);

unsafe extern "C" fn delivered(
    _: *mut sys::rd_kafka_t,
    message: *const sys::rd_kafka_message_t,
    _: *mut c_void,
) {
    // SAFETY: the client gives a message that lives until this returns.
    let error = unsafe { (*message).err };
    assert_eq!(error, sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR);
    DELIVERED.fetch_add(1, Relaxed);
}

/// A broker without passwords and TLS.
fn start_broker() -> Option<broker::Broker> {
    let [port, controller] = [(); 2].map(|()| broker::free_port());
    let (here, ours) = ("127.0.0.1", "PLAINTEXT://127.0.0.1");
    let more = format!(
        "controller.quorum.voters=1@{here}:{controller}\n\
         listeners={ours}:{port},CONTROLLER://{here}:{controller}\nadvertised.listeners={ours}:{port}\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT"
    );
    broker::Broker::start(port, &more, &[])
}

/// librdkafka alone, with the same headers or with none.
fn alone(address: &str, topic: &str, records: u64, has_headers: bool) -> [f64; 2] {
    let payload = payload();
    DELIVERED.store(0, Relaxed);
    let c = |text: &str| CString::new(text).unwrap();
    let names = ["forebay.stream", "forebay.epoch", "forebay.offset"].map(c);
    measured(|| {
        let mut error = [0 as c_char; 512];
        // SAFETY: the handles are those that the library gave, used by this thread, destroyed once and last;
        // texts end in zero; messages are copied by the library.
        unsafe {
            let conf = sys::rd_kafka_conf_new();
            for (name, value) in PROPERTIES.iter().chain(&[("bootstrap.servers", address)]) {
                let (name, value) = (c(name), c(value));
                let (name, value, len) = (name.as_ptr(), value.as_ptr(), error.len());
                let done = sys::rd_kafka_conf_set(conf, name, value, error.as_mut_ptr(), len);
                assert_eq!(done, sys::rd_kafka_conf_res_t::RD_KAFKA_CONF_OK);
            }
            sys::rd_kafka_conf_set_dr_msg_cb(conf, Some(delivered));
            let kind = sys::rd_kafka_type_t::RD_KAFKA_PRODUCER;
            let client = sys::rd_kafka_new(kind, conf, error.as_mut_ptr(), error.len());
            assert!(!client.is_null());
            let topic = sys::rd_kafka_topic_new(client, c(topic).as_ptr(), ptr::null_mut());
            let mut offset = String::new();
            for n in 0..records {
                let key = key(n);
                loop {
                    let headers = match has_headers {
                        true => sys::rd_kafka_headers_new(8),
                        false => ptr::null_mut(),
                    };
                    if has_headers {
                        offset.clear();
                        write!(offset, "{n}").unwrap();
                        for (name, value) in names.iter().zip(["bench", "1", &offset]) {
                            let (value, len) = (value.as_ptr().cast(), value.len().cast_signed());
                            sys::rd_kafka_header_add(headers, name.as_ptr(), -1, value, len);
                        }
                    }
                    if produce(client, topic, &key, time(n), &payload, headers) {
                        break;
                    }
                    if has_headers {
                        sys::rd_kafka_headers_destroy(headers);
                    }
                    sys::rd_kafka_poll(client, 5);
                }
                sys::rd_kafka_poll(client, 0);
            }
            while DELIVERED.load(Relaxed) < records {
                sys::rd_kafka_poll(client, 100);
            }
            sys::rd_kafka_topic_destroy(topic);
            sys::rd_kafka_destroy(client);
        }
    })
}

/// False: the client's queue is full.
///
/// # Safety
///
/// Client, topic and headers are alive.
unsafe fn produce(
    client: *mut sys::rd_kafka_t,
    topic: *mut sys::rd_kafka_topic_t,
    key: &str,
    time: u64,
    payload: &[u8],
    headers: *mut sys::rd_kafka_headers_t,
) -> bool {
    use sys::rd_kafka_vtype_t as kind;
    type Value = sys::rd_kafka_vu_s__bindgen_ty_1;
    let bytes = |bytes: &[u8]| Value {
        mem: sys::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 {
            ptr: bytes.as_ptr().cast_mut().cast(),
            size: bytes.len(),
        },
    };
    let values = [
        (kind::RD_KAFKA_VTYPE_RKT, Value { rkt: topic }),
        (kind::RD_KAFKA_VTYPE_KEY, bytes(key.as_bytes())),
        (kind::RD_KAFKA_VTYPE_VALUE, bytes(payload)),
        (
            kind::RD_KAFKA_VTYPE_TIMESTAMP,
            Value {
                i64_: time.cast_signed(),
            },
        ),
        (
            kind::RD_KAFKA_VTYPE_MSGFLAGS,
            Value {
                i: sys::RD_KAFKA_MSG_F_COPY,
            },
        ),
        (kind::RD_KAFKA_VTYPE_HEADERS, Value { headers }),
    ];
    let values = values.map(|(vtype, u)| sys::rd_kafka_vu_t { vtype, u });
    let count = values.len() - usize::from(headers.is_null());
    // SAFETY: the caller says that all are alive; each value has the field of its kind.
    let error = unsafe { sys::rd_kafka_produceva(client, values.as_ptr(), count) };
    if error.is_null() {
        return true;
    }
    // SAFETY: the error is alive, and destroyed once.
    let code = unsafe { sys::rd_kafka_error_code(error) };
    // SAFETY: the same.
    unsafe { sys::rd_kafka_error_destroy(error) };
    assert_eq!(
        code,
        sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR__QUEUE_FULL
    );
    false
}

/// `kcat` with lines from a file, without headers; `None`: it is not installed.
fn kcat(path: &Path, address: &str, topic: &str, records: u64) -> Option<[f64; 2]> {
    let payload = String::from_utf8(payload()).unwrap();
    let lines: String = (0..records)
        .map(|n| format!("{}\t{payload}\n", key(n)))
        .collect();
    std::fs::create_dir_all(path).unwrap();
    let file = path.join("lines");
    std::fs::write(&file, lines).unwrap();
    let mut command = Command::new("kcat");
    command
        .args(["-P", "-b", address, "-t", topic, "-K", "\t", "-l"])
        .arg(&file);
    for (name, value) in &PROPERTIES {
        command.args(["-X", &format!("{name}={value}")]);
    }
    let mut is_there = false;
    let took = measured(|| {
        let status = command.stdout(Stdio::null()).status();
        is_there = status.is_ok_and(|status| status.success());
    });
    let _ = std::fs::remove_dir_all(path);
    is_there.then_some(took)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    let records: u64 = args.next().map_or(400_000, |arg| arg.parse().unwrap());
    let rounds = std::env::var("ROUNDS").map_or(3, |text| text.parse().unwrap());
    let Some(broker) = start_broker() else {
        return;
    };
    let address = broker.address();
    let path = std::env::temp_dir().join(format!("forebay-kafka-{}", std::process::id()));
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!(
        "{records} records of {LEN} B and a key of 6; load {}",
        load.trim()
    );
    let mut rows: Vec<(&str, Vec<[f64; 2]>)> = Vec::new();
    for round in 0..=rounds {
        let mut note = |name: &'static str, run: &dyn Fn(&str) -> Option<[f64; 2]>| {
            let topic = format!("{}-{round}", name.replace([' ', ','], "-"));
            let Some([wall, cpu]) = run(&topic) else {
                println!("{name}: LEFT OUT, it is not there");
                return;
            };
            let figures = [records as f64 / wall, cpu / (records as f64 / 1e6)];
            let [speed, cost] = figures;
            println!("{round} {name}: {speed:.0} records/s, {cost:.2} CPU s for a million records");
            // The broker and its disk get warm in a round that does not count.
            if round == 0 {
                return;
            }
            match rows.iter_mut().find(|row| row.0 == name) {
                Some(row) => row.1.push(figures),
                None => rows.push((name, vec![figures])),
            }
        };
        note(ALONE, &|topic| Some(alone(&address, topic, records, true)));
        note("ours", &|topic| {
            Some(ours(&path, &address, topic, records, ""))
        });
        note("ours, exactly once", &|topic| {
            let more = r#", "exactlyOnce": true"#;
            Some(ours(&path, &address, topic, records, more))
        });
        note("librdkafka without headers", &|topic| {
            Some(alone(&address, topic, records, false))
        });
        note("kcat without headers", &|topic| {
            kcat(&path, &address, topic, records)
        });
    }
    let of = |row: &(&str, Vec<[f64; 2]>), at: usize| {
        median(row.1.iter().map(|took| took[at]).collect())
    };
    let Some(plain) = rows.iter().find(|row| row.0 == ALONE) else {
        return;
    };
    let plain = [of(plain, 0), of(plain, 1)];
    println!(
        "\n| medians of {rounds} | records/s | CPU s a million | times librdkafka, by the clock | by CPU |"
    );
    println!("|---|---|---|---|---|");
    for row in &rows {
        let [speed, cost] = [0, 1].map(|at| of(row, at));
        let (by_clock, by_cpu) = (speed / plain[0], plain[1] / cost);
        println!(
            "| {} | {speed:.0} | {cost:.2} | {by_clock:.2} | {by_cpu:.2} |",
            row.0
        );
    }
}

/// What all is compared with.
const ALONE: &str = "librdkafka";
