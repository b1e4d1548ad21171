//! Clients that are slow, half open, mad, or very many: they cost little, and hold up nobody.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::outside::{ANY_PORT, address, answer, ask, with_service};
use crate::process::{NO_SINK, Running, SMALL, STDIN, Setup, lines, number, wait_until};

fn serve(name: &str) -> (Setup, Running, String) {
    let setup = Setup::new(name, NO_SINK, SMALL, STDIN);
    with_service(&setup, ANY_PORT);
    let running = setup.serve(&[]);
    let address = address(&running);
    (setup, running, address)
}

/// A thousand clients that say nothing, some of them half a request, do not keep another from its answer.
#[test]
fn a_thousand_slow_clients_hold_up_nobody() {
    let (setup, mut running, address) = serve("thousand");
    let (open_before, rss_before) = running.costs();
    let mut slow = Vec::new();
    for n in 0..1000 {
        let mut stream = TcpStream::connect(&address).unwrap();
        match n % 4 {
            0 => {}
            1 => drop(stream.write_all(b"GET /met")),
            2 => drop(stream.write_all(b"GET /metrics HTTP/1.1\r\nX: ")),
            _ => drop(stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n")),
        }
        slow.push(stream);
        if n % 100 == 99 {
            let began = Instant::now();
            assert_eq!(ask(&address, "/health").status, 200);
            let took = began.elapsed();
            assert!(took < Duration::from_secs(1), "{n}: {took:?}");
        }
    }
    let (open, rss) = running.costs();
    assert!(open <= open_before + 40, "{open} sockets");
    assert!(rss <= rss_before + 2048, "{rss_before} to {rss} KiB");
    running.write(&lines(0..100));
    wait_until("the lines", || {
        number(&setup.stats(), "durableOffset") == 100
    });
    // Whoever is not done after a while is done with, and the process rests.
    wait_until("the end of them", || running.costs().0 <= open_before);
    drop(slow);
    running.end().expect(0);
}

/// A request that comes byte by byte is answered, if it comes in time.
#[test]
fn a_request_may_come_in_pieces_and_not_for_ever() {
    let (_setup, running, address) = serve("pieces");
    let mut stream = TcpStream::connect(&address).unwrap();
    for byte in b"GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n" {
        stream.write_all(&[*byte]).unwrap();
        std::thread::sleep(Duration::from_millis(2));
    }
    assert_eq!(answer(stream).status, 200);
    let began = Instant::now();
    let mut stream = TcpStream::connect(&address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream.write_all(b"GET /ready").unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(rest.is_empty());
    let took = began.elapsed();
    assert!((4..10).contains(&took.as_secs()), "{took:?}");
    running.end().expect(0);
}

#[test]
fn garbage_is_answered_with_a_status_or_not_at_all() {
    let (_setup, running, address) = serve("garbage");
    let long = [b"GET /".as_slice(), &[b'a'; 100_000], b" HTTP/1.1\r\n\r\n"].concat();
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(1000));
    let zeros = [0; 10_000];
    for (bytes, status) in [
        (
            b"POST /health HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello".as_slice(),
            405,
        ),
        (b"GET /../../etc/passwd HTTP/1.1\r\n\r\n", 404),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"GET\x00/ HTTP/1.1\r\n\r\n", 400),
        (&zeros, 400),
        (&long, 431),
        (many.as_bytes(), 431),
    ] {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let _ = stream.write_all(bytes);
        let answer = answer(stream);
        let shown = &bytes[..bytes.len().min(40)];
        // What was sent behind the answer may have cut it off.
        let is_cut = bytes.len() > 4096 && answer.status == 0;
        assert!(answer.status == status || is_cut, "{shown:?}: {answer:?}");
    }
    let head = {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.write_all(b"HEAD /health HTTP/1.1\r\n\r\n").unwrap();
        answer(stream)
    };
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(ask(&address, "/health").status, 200);
    running.end().expect(0);
}
