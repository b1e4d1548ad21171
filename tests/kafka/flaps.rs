//! A link that goes and comes back, in all ways that links have.
//!
//! `FLAPS=n` cuts and heals it so often, `SEED=n` in another order.

use std::thread;
use std::time::{Duration, Instant};

use super::proxy::Proxy;
use super::{Gateway, assert_complete, first_of_each, shared, wait_long};

type Cut = fn(&Proxy);

/// All of them end with [`Proxy::heal`].
const KINDS: [(&str, Cut); 6] = [
    ("cut", Proxy::cut),
    ("refused", |proxy| proxy.set_closed(true)),
    ("silent", |proxy| proxy.set_silent(true)),
    ("half-open", Proxy::deafen),
    ("somebody else", Proxy::estrange),
    ("forgotten", Proxy::forget),
];

const ANSWER_TIMEOUT: Duration = Duration::from_millis(1000);

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

/// Another number each time (`SplitMix64`).
fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// `L-72`: whatever the link does, records go on to arrive within the back-off and 5 s after it heals, and
/// none is missing in the end.
#[test]
fn sending_resumes_whenever_the_link_heals() {
    let Some(shared) = shared::broker() else {
        return;
    };
    let (flaps, mut random) = (number("FLAPS").unwrap_or(6), number("SEED").unwrap_or(1));
    let fields = format!(
        r#", "answerTimeoutMs": {}, "properties": {{"reconnect.backoff.ms": 20,
              "reconnect.backoff.max.ms": 100, "retry.backoff.ms": 20, "retry.backoff.max.ms": 100, "socket.timeout.ms": 1000,
              "socket.connection.setup.timeout.ms": 1000}}"#,
        ANSWER_TIMEOUT.as_millis()
    );
    let gateway = Gateway::open("flaps", shared.proxy.port, &fields);
    let (mut appended, mut slowest) = (0, Duration::ZERO);
    let mut counts = [0; KINDS.len()];
    for flap in 0..flaps {
        let kind = match usize::try_from(flap) {
            Ok(first) if first < KINDS.len() => first,
            _ => usize::try_from(draw(&mut random)).unwrap() % KINDS.len(),
        };
        counts[kind] += 1;
        let (name, cut) = KINDS[kind];
        cut(&shared.proxy);
        gateway.append(appended..appended + 60);
        appended += 60;
        gateway.stream.flush(super::common::LIMIT).unwrap();
        thread::sleep(Duration::from_millis(draw(&mut random) % 60));
        shared.proxy.heal();
        let (healed, before) = (Instant::now(), gateway.acked());
        wait_long("a record that arrives", || {
            let acked = gateway.acked();
            acked > before || acked == appended
        });
        let took = healed.elapsed();
        // The longest back-off of this gateway.
        assert!(
            took < Duration::from_millis(500 + 5000),
            "flap {flap}, {name}: {took:?}"
        );
        slowest = slowest.max(took);
    }
    gateway.wait_for(appended);
    assert_eq!(gateway.stream.stats().failed_total, 0);
    gateway.close();
    let messages = shared.broker.read("flaps", appended);
    let arrived = messages.len() as u64;
    assert_complete(&first_of_each(messages), appended);
    println!(
        "{flaps} flaps ({counts:?}): at most {slowest:?} until records arrived; {} of {appended} came twice",
        arrived - appended
    );
}
