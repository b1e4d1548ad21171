//! Brokers that die, links that are cut or fall silent, and no broker at all.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::broker::free_port;
use super::{Gateway, assert_complete, first_of_each, shared, wait_long};

fn pause(millis: u64) {
    thread::park_timeout(Duration::from_millis(millis));
}

/// `G-045`, `G-047`, `L-S6`, `L-S7`: a broker that dies while records come costs time. A request that it had
/// written and not confirmed may be there twice afterwards: brokers do not always know it again.
#[test]
fn a_broker_that_is_killed_under_load_costs_no_record_and_no_order() {
    let Some(mut shared) = shared::broker() else {
        return;
    };
    let broker = &mut shared.broker;
    let gateway = Gateway::open("killed", broker.port, "");
    thread::scope(|scope| {
        let load = scope.spawn(|| {
            for round in 0..200 {
                gateway.append(round * 100..(round + 1) * 100);
                pause(50);
            }
        });
        wait_long("the first records", || gateway.acked() > 200);
        for _ in 0..2 {
            broker.kill();
            wait_long("that it is noticed", || gateway.state() == "link");
            broker.restart();
            let before = gateway.acked();
            wait_long("that it goes on", || gateway.acked() > before);
        }
        load.join().unwrap();
    });
    gateway.wait_for(20_000);
    assert_eq!(
        gateway.stream.stats().retries_total,
        0,
        "the client did it alone"
    );
    gateway.close();
    let messages = broker.read("killed", 20_000);
    let count = messages.len();
    assert_complete(&first_of_each(messages), 20_000);
    println!("{} repeats", count - 20_000);
    assert!(
        count <= 20_000 + 4 * 500,
        "{count}: more than was under way"
    );
}

/// `L-72`, `G-045`: a link that is cut again and again.
#[test]
fn a_link_that_is_cut_many_times_costs_no_record_no_order_and_no_repeat() {
    let Some(shared) = shared::broker() else {
        return;
    };
    let (broker, proxy) = (&shared.broker, &shared.proxy);
    let properties = r#", "properties": {"reconnect.backoff.max.ms": 200}"#;
    let gateway = Gateway::open("cut", proxy.port, properties);
    for round in 0..100 {
        gateway.append(round * 100..(round + 1) * 100);
        pause(50);
        if round % 4 == 3 {
            proxy.cut();
        }
    }
    gateway.wait_for(10_000);
    gateway.close();
    assert_complete(&broker.read("cut", 10_000), 10_000);
}

/// `L-82`: no answer is not an answer. The client that waits for one is ended long before it would give up
/// itself, and what it had is sent again.
#[test]
fn a_link_that_falls_silent_is_given_up_and_what_was_under_way_is_sent_again() {
    let Some(shared) = shared::broker() else {
        return;
    };
    let (broker, proxy) = (&shared.broker, &shared.proxy);
    // By itself it would wait for five minutes.
    let fields = r#", "answerTimeoutMs": 2000, "properties": {"socket.timeout.ms": 300000,
                      "request.timeout.ms": 300000, "socket.connection.setup.timeout.ms": 300000}"#;
    let gateway = Gateway::open("silent", proxy.port, fields);
    gateway.append(0..1000);
    gateway.wait_for(1000);
    for round in 1..4 {
        proxy.set_silent(true);
        gateway.append(round * 1000..(round + 1) * 1000);
        wait_long("that nothing is answered", || gateway.state() == "link");
        proxy.set_silent(false);
        gateway.wait_for((round + 1) * 1000);
    }
    let retries = gateway.stream.stats().retries_total;
    assert!(retries >= 3, "{retries}");
    gateway.close();
    assert_complete(&first_of_each(broker.read("silent", 4000)), 4000);
}

/// Whoever stops a gateway does not wait for brokers that are not there.
#[test]
fn an_engine_ends_at_once_while_no_broker_is_there() {
    let gateway = Gateway::open("end", free_port(), "");
    gateway.append(0..1000);
    wait_long("that nobody is there", || gateway.state() == "link");
    gateway.engine.close(Duration::from_secs(10)).unwrap();
    assert_eq!(gateway.acked(), 0);
}

/// Lines that the sink logged.
static LINES: AtomicUsize = AtomicUsize::new(0);

struct Count;

impl log::Log for Count {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        if record.level() <= log::Level::Info && record.args().to_string().starts_with("kafka: ") {
            LINES.fetch_add(1, Ordering::Relaxed);
        }
    }
    fn flush(&self) {}
}

/// A number of the process, in the unit in which the kernel shows it.
fn of_process(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .unwrap();
    line.trim_matches(|c: char| !c.is_ascii_digit())
        .parse()
        .unwrap()
}

/// `L-67`, `L-S6`: the log is the only queue. A client that reaches nobody is made anew now and then, keeps
/// a batch and no more, and says so once a minute.
#[test]
fn without_a_broker_memory_is_flat_the_log_is_quiet_and_all_is_delivered_later() {
    let Some(shared) = shared::broker() else {
        return;
    };
    let proxy = &shared.proxy;
    proxy.set_closed(true);
    log::set_logger(&Count).unwrap();
    log::set_max_level(log::LevelFilter::Info);
    let gateway = Gateway::open("nobody", proxy.port, r#", "answerTimeoutMs": 1000"#);
    gateway.append(0..5000);
    wait_long("that nobody is there", || gateway.state() == "link");
    pause(3000);
    let (threads, memory) = (of_process("Threads:"), of_process("VmRSS:"));
    let retries = gateway.stream.stats().retries_total;
    // More than any queue of the client could hold without its bound.
    for round in 5..60 {
        gateway.append(round * 1000..(round + 1) * 1000);
        pause(200);
    }
    let again = gateway.stream.stats().retries_total;
    assert!(
        again > retries + 1000,
        "clients are made anew: {retries} {again}"
    );
    let grown = of_process("VmRSS:").saturating_sub(memory);
    assert!(grown < 8192, "{grown} KiB more");
    let more = of_process("Threads:").saturating_sub(threads);
    assert!(more <= 6, "{more} threads more");
    let lines = LINES.load(Ordering::Relaxed);
    assert!((1..=2).contains(&lines), "{lines} lines");
    proxy.set_closed(false);
    gateway.wait_for(60_000);
    gateway.close();
    assert_complete(&first_of_each(shared.broker.read("nobody", 60_000)), 60_000);
}
