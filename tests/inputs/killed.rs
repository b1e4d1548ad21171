//! The process is killed under load, again and again: what was answered is there.

use std::collections::HashMap;
use std::time::Duration;

use rustix::process::Signal;

use crate::client::{Client, Listening, STREAMS, storing};
use crate::process::{Setup, payloads};

/// Records that a client has sent and has no answer for.
const UNDER_WAY: u64 = 200;
const KILLS: u64 = 8;

/// Sends numbers, at most [`UNDER_WAY`] of them unanswered, until the other end is gone. `answered`: up to where.
fn send_until_killed(mut client: Client, name: &str, answered: &mut u64) {
    let send =
        |client: &mut Client, bytes: String| client.socket.write_all(bytes.as_bytes()).is_ok();
    if !send(&mut client, "#acknowledge\n".to_owned()) || client.answer().is_none() {
        return;
    }
    let mut next = *answered;
    loop {
        let until = *answered + UNDER_WAY;
        let lines: String = (next..until).map(|n| format!("{name} {n}\n")).collect();
        if !send(&mut client, lines) {
            return;
        }
        next = until;
        for _ in 0..UNDER_WAY / 4 {
            match client.answer() {
                Some(answer) => assert_eq!(answer, "ok"),
                None => return,
            }
            *answered += 1;
        }
    }
}

/// `L-4`, `L-9`, `L-82`: what was answered is never missing; what was not is sent again, and is there at most once
/// more for each kill.
#[test]
fn what_was_answered_outlives_any_number_of_kills() {
    for kind in STREAMS {
        let setup = storing("killed", kind, r#", "acknowledge": "asked""#);
        let mut answered = [0, 0, 0];
        for kill in 0..KILLS {
            let listening = Listening::start(&setup, kind);
            let clients = [(); 3].map(|()| listening.connect());
            std::thread::scope(|scope| {
                for (n, (client, answered)) in clients.into_iter().zip(&mut answered).enumerate() {
                    scope.spawn(move || send_until_killed(client, &format!("c{n}"), answered));
                }
                std::thread::sleep(Duration::from_millis(50 + 37 * kill));
                listening.running.signal(Signal::KILL);
            });
        }
        check(&setup, answered);
    }
}

fn check(setup: &Setup, answered: [u64; 3]) {
    let stored = setup.stored();
    let mut counts: HashMap<&str, u64> = HashMap::new();
    for payload in payloads(&stored) {
        *counts.entry(payload).or_default() += 1;
    }
    let mut repeats = 0;
    for (n, answered) in answered.into_iter().enumerate() {
        assert!(answered > 100, "only {answered} were answered");
        for record in 0..answered {
            let name = format!("c{n} {record}");
            let count = counts.remove(&*name).unwrap_or(0);
            assert!(count >= 1, "{name} was answered and is gone");
            repeats += count - 1;
        }
        // Of what was not answered at the last kill some is there.
        for record in answered..answered + UNDER_WAY {
            let count = counts.remove(&*format!("c{n} {record}")).unwrap_or(0);
            repeats += count.saturating_sub(1);
        }
    }
    assert!(counts.is_empty(), "nobody sent {counts:?}");
    let bound = KILLS * 3 * UNDER_WAY;
    assert!(repeats <= bound, "{repeats} of at most {bound} repeats");
    println!("{answered:?} answered, {repeats} repeats, at most {bound}");
}

/// Where nobody asks for answers, what was not durable yet may go; what is there has its order, and nothing is
/// there twice.
#[test]
fn without_answers_what_is_stored_has_its_order_and_no_repeats() {
    let setup = storing("killed-silent", "tcp", "");
    let mut next = 0_u64;
    for _ in 0..3 {
        let listening = Listening::start(&setup, "tcp");
        let mut client = listening.connect();
        std::thread::scope(|scope| {
            let next = &mut next;
            let send = move || {
                let line = |n: u64| format!("{n}\n");
                while client.socket.write_all(line(*next).as_bytes()).is_ok() {
                    *next += 1;
                }
            };
            scope.spawn(send);
            std::thread::sleep(Duration::from_millis(300));
            listening.running.signal(Signal::KILL);
        });
    }
    let stored = setup.stored();
    let numbers = payloads(&stored).into_iter();
    let numbers: Vec<u64> = numbers.map(|text| text.parse().unwrap_or(0)).collect();
    assert!(numbers.len() >= 1000, "{} of {next}", numbers.len());
    assert!(numbers.is_sorted_by(|before, after| before < after));
}
