//! Sits between a broker and the input, and notes what the input acknowledges.

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What was seen.
#[derive(Default)]
pub struct Seen {
    /// Payloads that the input has acknowledged.
    pub acknowledged: HashSet<String>,
    /// How many messages the broker has sent, whether they were sent before or not.
    pub sent: u64,
}

/// Takes connections for the broker at `address`; returns where, and what is seen.
pub fn start(address: String) -> (String, Arc<Mutex<Seen>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = listener.local_addr().unwrap().to_string();
    let seen = Arc::new(Mutex::new(Seen::default()));
    let shared = Arc::clone(&seen);
    std::thread::spawn(move || {
        while let Ok((client, _)) = listener.accept() {
            if let Ok(broker) = TcpStream::connect(&address) {
                serve(client, broker, &shared);
            }
        }
    });
    (place, seen)
}

fn serve(client: TcpStream, broker: TcpStream, seen: &Arc<Mutex<Seen>>) {
    let under_way: Arc<Mutex<HashMap<[u8; 2], String>>> = Arc::default();
    let (from, to) = (broker.try_clone().unwrap(), client.try_clone().unwrap());
    let (noted, shared) = (Arc::clone(&under_way), Arc::clone(seen));
    std::thread::spawn(move || {
        pass(from, to, |first, body| {
            if first & 0xf6 == 0x32 {
                let topic = usize::from(u16::from_be_bytes([body[0], body[1]])) + 2;
                let number = [body[topic], body[topic + 1]];
                let payload = String::from_utf8(body[topic + 2..].to_vec()).unwrap();
                noted.lock().unwrap().insert(number, payload);
                shared.lock().unwrap().sent += 1;
            }
        });
    });
    let seen = Arc::clone(seen);
    std::thread::spawn(move || {
        pass(client, broker, |first, body| {
            if first == 0x40 {
                let payload = under_way.lock().unwrap().remove(body);
                let payload = payload.expect("only what was sent is acknowledged");
                seen.lock().unwrap().acknowledged.insert(payload);
            }
        });
    });
}

/// Notes each packet, and sends it on. When one side has ended, the other one is ended.
fn pass(mut from: TcpStream, mut to: TcpStream, mut note: impl FnMut(u8, &[u8])) {
    let mut next = || {
        let mut packet = vec![0];
        from.read_exact(&mut packet).ok()?;
        let (mut len, mut shift) = (0, 0);
        loop {
            let mut byte = [0];
            from.read_exact(&mut byte).ok()?;
            packet.push(byte[0]);
            len |= usize::from(byte[0] & 127) << shift;
            shift += 7;
            if byte[0] < 128 {
                break;
            }
        }
        let head = packet.len();
        packet.resize(head + len, 0);
        from.read_exact(&mut packet[head..]).ok()?;
        Some((packet, head))
    };
    while let Some((packet, head)) = next() {
        note(packet[0], &packet[head..]);
        if to.write_all(&packet).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
