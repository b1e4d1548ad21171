//! Those who send nothing, nonsense, or without end, and very many of them: nobody else is held up by them.

use std::time::{Duration, Instant};

use crate::client::{Client, Listening, STREAMS, storing};
use crate::process::wait_until;

/// Sends a record and is answered soon. How soon.
fn is_served(client: &mut Client) -> Duration {
    let began = Instant::now();
    client.send("good\n");
    client.expect(&["ok"]);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(3), "{took:?}");
    took
}

/// `L-61`: a thousand connections that say nothing, half a line, noise, a line without end, or that never read.
#[test]
fn a_thousand_hostile_clients_change_nothing_for_the_others() {
    for kind in STREAMS {
        let more = r#", "acknowledge": "asked", "maxRecordBytes": 65536"#;
        let setup = storing("thousand", kind, more);
        let listening = Listening::start(&setup, kind);
        let mut good = listening.connect();
        good.send("#acknowledge\n");
        good.expect(&["ok"]);
        is_served(&mut good);
        let (open_before, rss_before) = listening.running.costs();
        let noise: Vec<u8> = (0..100_000_u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8 | 128)
            .collect();
        let endless = vec![b'x'; 300_000];
        let (mut served, mut longest) = (1, Duration::ZERO);
        let mut hostile = Vec::new();
        for n in 0..1000 {
            let mut client = listening.connect();
            client.socket.set_write_timeout(Duration::from_millis(20));
            let bytes: &[u8] = match n % 5 {
                0 => b"",
                1 => b"half a li",
                2 => &noise,
                3 => &endless,
                _ => b"#acknowledge\n{\"never\": \"read\"}\n",
            };
            // Who comes when there is no place for more is closed.
            let _ = client.socket.write_all(bytes);
            hostile.push(client);
            if n % 10 == 9 {
                longest = longest.max(is_served(&mut good));
                served += 1;
            }
        }
        let (open, rss) = listening.running.costs();
        assert!(open <= open_before + 64, "{open_before} to {open} sockets");
        // Each of 64 holds the begin of a record at most.
        assert!(rss <= rss_before + 8192, "{rss_before} to {rss} KiB");
        println!(
            "{kind}: {rss_before} to {rss} KiB with 64 of 1000, another served within {longest:?}"
        );
        // The silent ones give way: somebody new is served, too.
        std::thread::sleep(Duration::from_millis(1100));
        is_served(&mut good);
        let mut new = listening.connect();
        new.send("#acknowledge\n");
        new.expect(&["ok"]);
        is_served(&mut new);
        drop(hostile);
        wait_until("the end of them", || {
            listening.running.costs().0 <= open_before + 1
        });
        is_served(&mut good);
        let said = listening.stop();
        assert!(said.contains(" denied"), "{said}");
        let stored = setup.stored();
        let good = stored.iter().filter(|record| record["payload"] == "good");
        assert_eq!(good.count(), served + 3);
    }
}

/// `L-61`: a line without end costs no more memory than the longest record, and is one record that is too long.
#[test]
fn a_line_without_end_is_passed_over_in_bounded_memory() {
    for kind in STREAMS {
        let setup = storing(
            "endless",
            kind,
            r#", "acknowledge": "always", "maxRecordBytes": 65536"#,
        );
        let listening = Listening::start(&setup, kind);
        let mut good = listening.connect();
        is_served(&mut good);
        let rss_before = listening.running.costs().1;
        let mut client = listening.connect();
        let part = vec![b'x'; 1 << 20];
        for n in 0..64 {
            client.send(&part);
            if n % 16 == 0 {
                is_served(&mut good);
            }
        }
        let rss = listening.running.costs().1;
        assert!(rss <= rss_before + 1024, "{rss_before} to {rss} KiB");
        client.send("\nand one more\n");
        client.expect(&["no too long", "ok"]);
        assert_eq!(
            listening.stop(),
            "6 records, 0 malformed, 0 refused, 1 too long"
        );
    }
}

/// What is no frame ends its connection and no other; a frame that is too long is passed over to its end.
#[test]
fn what_is_no_frame_ends_its_connection_and_no_other() {
    use crate::client::frame;
    for kind in STREAMS {
        let more = r#", "framing": "frames", "acknowledge": "always", "maxRecordBytes": 100"#;
        let setup = storing("noise", kind, more);
        let listening = Listening::start(&setup, kind);
        let mut good = listening.connect();
        for noise in [
            "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "\x16\x03\x01\x02\0\x01\0\x01",
            "\u{ff}\u{ff}\u{ff}\u{ff}",
        ] {
            let mut client = listening.connect();
            client.send(noise);
            assert_eq!(client.answer(), None, "{noise:?}");
            good.send(frame("good"));
            good.expect(&["ok"]);
        }
        good.send(frame([b'x'; 100_000]));
        good.send(frame("good"));
        good.expect(&["no too long", "ok"]);
        assert_eq!(
            listening.stop(),
            "4 records, 3 malformed, 0 refused, 1 too long"
        );
    }
}

/// Whoever is gone without saying so, or says nothing, is let go after a time.
#[test]
fn a_silent_connection_is_closed_after_its_time() {
    let setup = storing(
        "silent",
        "tcp",
        r#", "idleTimeoutMs": 500, "acknowledge": "asked""#,
    );
    let listening = Listening::start(&setup, "tcp");
    let mut busy = listening.connect();
    busy.send("#acknowledge\n");
    busy.expect(&["ok"]);
    let mut silent = listening.connect();
    silent.send("half a li");
    let began = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..15 {
                is_served(&mut busy);
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        assert_eq!(silent.answer(), None);
        let took = began.elapsed();
        assert!((450..5000).contains(&took.as_millis()), "{took:?}");
    });
    assert_eq!(listening.stop(), "15 records, 0 malformed, 0 refused");
}
