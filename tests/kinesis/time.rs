//! Clocks that are wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use forebay::Engine;
use forebay::clock::{Clock, Mono, System};
use forebay::counters::SinkState;
use forebay::engine::World;

use super::delivery::Run;
use super::server::Server;
use crate::common::{Scratch, wait_until};

/// The system's clock, with a time of day of its own.
pub struct Wrong {
    inner: System,
    wall_ms: AtomicU64,
}

impl Clock for Wrong {
    fn mono(&self) -> Mono {
        self.inner.mono()
    }

    fn wall_ms(&self) -> u64 {
        self.wall_ms.load(Ordering::Relaxed)
    }

    fn boot(&self) -> u64 {
        self.inner.boot()
    }
}

fn open(scratch: &Scratch, server: &Server, wall_ms: u64) -> (Run, Arc<Wrong>) {
    let delivery = r#","delivery":{"backoffBaseMs":1,"backoffMaxMs":50}"#;
    open_at(scratch, &server.stream("", delivery), wall_ms)
}

/// The same for any stream.
pub fn open_at(scratch: &Scratch, stream: &str, wall_ms: u64) -> (Run, Arc<Wrong>) {
    let wall_ms = AtomicU64::new(wall_ms);
    let inner = System::new();
    let clock = Arc::new(Wrong { inner, wall_ms });
    let world = World {
        clock: clock.clone(),
        ..World::real()
    };
    let engine = Engine::open_in(&scratch.config(stream), &world).unwrap();
    let stream = engine.stream("telemetry").unwrap();
    (Run { engine, stream }, clock)
}

/// `L-112`, `L-114`: at 1970, ten minutes behind and ahead: the second attempt is right, and all later ones.
#[test]
fn a_wrong_clock_costs_one_attempt() {
    let now = System::new().wall_ms();
    for wall in [0, now - 600_000, now + 600_000, now + 86_400_000 * 400] {
        let (scratch, server) = (Scratch::new("kinesis-time"), Server::new());
        let (run, clock) = open(&scratch, &server, wall);
        run.append(0..10);
        run.drained();
        assert_eq!(
            server.state().refused,
            ["InvalidSignatureException"],
            "{wall}"
        );
        // Whatever the clock shows later does not matter any more.
        for wall in [0, now + 3_600_000] {
            clock.wall_ms.store(wall, Ordering::Relaxed);
            run.append(0..10);
            run.drained();
        }
        let state = server.state();
        assert_eq!((state.refused.len(), state.taken.len()), (1, 30));
        drop(state);
        assert_eq!(run.stream.stats().retries_total, 0);
        run.engine.close(crate::common::LIMIT).unwrap();
    }
}

/// `L-114`: a refused signature without a date to go by is a state, and is tried again.
#[test]
fn without_a_date_it_is_a_state() {
    let (scratch, server) = (Scratch::new("kinesis-dateless"), Server::new());
    server.state().has_date = false;
    let (run, clock) = open(&scratch, &server, 0);
    run.append(0..10);
    wait_until("a state", || run.state() == SinkState::Auth);
    assert!(run.error().starts_with("InvalidSignatureException"));
    // Somebody sets the clock.
    clock
        .wall_ms
        .store(System::new().wall_ms(), Ordering::Relaxed);
    run.drained();
    assert_eq!(server.payloads().len(), 10);
}
