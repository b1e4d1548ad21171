//! Packets of MQTT 3.1.1, as many of them as a subscriber needs.

use std::borrow::Cow;

/// The longest topic, and what stands around it and the payload.
const AROUND_MAX: usize = 2 + 65_535 + 2;
/// The most bytes of the number that says how long a packet is.
const LENGTH_SIZE_MAX: usize = 4;
/// What a payload that is too long began with, of which so much is kept.
const BEGIN_MAX: usize = 64;

/// A packet from a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// Whether the broker takes the connection.
    Connected {
        /// 0, or why not.
        code: u8,
        /// It knows the session.
        is_known: bool,
    },
    /// What it makes of the topics that were asked for.
    Subscribed(&'a [u8]),
    /// A message.
    Message(Message<'a>),
    /// The broker is there.
    Alive,
}

/// A message that was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// To which topic.
    pub topic: Cow<'a, str>,
    /// The number by which it is to be acknowledged, if it is.
    pub number: Option<u16>,
    /// The broker has sent it before, it says.
    pub is_repeated: bool,
    /// What it is, or what it began with if it is too long.
    pub payload: &'a [u8],
    /// It was passed over.
    pub is_too_long: bool,
}

/// What has come, and is no whole packet yet. It holds no more than one packet and what was read with it.
#[derive(Debug)]
pub struct Inbox {
    bytes: Vec<u8>,
    /// So many of them are used.
    used: usize,
    /// So many that will come are passed over.
    skipped: usize,
    payload_max: usize,
}

/// The bytes are none that a broker sends, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Senseless(pub &'static str);

impl Inbox {
    /// For payloads of at most so many bytes.
    pub fn new(payload_max: usize) -> Self {
        Self {
            bytes: Vec::new(),
            used: 0,
            skipped: 0,
            payload_max,
        }
    }

    /// Adds what was read.
    pub fn add(&mut self, bytes: &[u8]) {
        let skipped = self.skipped.min(bytes.len());
        self.skipped -= skipped;
        self.bytes.drain(..self.used);
        self.used = 0;
        self.bytes.extend_from_slice(&bytes[skipped..]);
    }

    /// The next packet, if it is whole, or begins with all that is needed of one that is too long.
    pub fn packet(&mut self) -> Result<Option<Packet<'_>>, Senseless> {
        let rest = &self.bytes[self.used..];
        let Some((&first, behind)) = rest.split_first() else {
            return Ok(None);
        };
        if ![CONNACK, PUBLISH, SUBACK, PINGRESP].contains(&(first >> 4)) {
            return Err(STRANGE);
        }
        let Some((len, len_size)) = length(behind)? else {
            return Ok(None);
        };
        let body = &behind[len_size..];
        let is_too_long = len > AROUND_MAX + self.payload_max;
        let head_size = 1 + len_size;
        if !is_too_long && body.len() < len {
            return Ok(None);
        }
        if !is_too_long {
            let body = self.used + head_size..self.used + head_size + len;
            self.used = body.end;
            return packet(first, &self.bytes[body], self.payload_max).map(Some);
        }
        if first >> 4 != PUBLISH {
            return Err(Senseless("a packet that is far too long"));
        }
        // What stands before the payload, and its begin.
        let needed = AROUND_MAX.min(topic_len(body).map_or(AROUND_MAX, |len| 2 + len + 2));
        if body.len() < needed + BEGIN_MAX {
            return Ok(None);
        }
        let there = body.len().min(len);
        self.skipped = len - there;
        let body = self.used + head_size..self.used + head_size + there;
        self.used = body.end;
        // Of what is there, nothing is short enough.
        packet(first, &self.bytes[body], 0).map(Some)
    }
}

const CONNACK: u8 = 2;
const PUBLISH: u8 = 3;
const SUBACK: u8 = 9;
const PINGRESP: u8 = 13;
const STRANGE: Senseless = Senseless("a packet that no broker sends to a subscriber");

/// A number of one to four bytes, and of how many.
fn length(bytes: &[u8]) -> Result<Option<(usize, usize)>, Senseless> {
    let mut len = 0;
    for (at, byte) in bytes.iter().take(LENGTH_SIZE_MAX).enumerate() {
        len |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Ok(Some((len, at + 1)));
        }
    }
    match bytes.len() < LENGTH_SIZE_MAX {
        true => Ok(None),
        false => Err(Senseless("a length of more than four bytes")),
    }
}

fn topic_len(body: &[u8]) -> Option<usize> {
    let bytes = body.get(..2)?.try_into().ok()?;
    Some(u16::from_be_bytes(bytes).into())
}

fn packet(first: u8, body: &[u8], payload_max: usize) -> Result<Packet<'_>, Senseless> {
    match (first >> 4, body) {
        (CONNACK, [flags, code]) => Ok(Packet::Connected {
            code: *code,
            is_known: flags & 1 != 0,
        }),
        (SUBACK, [_, _, codes @ ..]) => Ok(Packet::Subscribed(codes)),
        (PINGRESP, []) => Ok(Packet::Alive),
        (PUBLISH, _) => message(first, body, payload_max).map(Packet::Message),
        _ => Err(STRANGE),
    }
}

fn message(first: u8, body: &[u8], payload_max: usize) -> Result<Message<'_>, Senseless> {
    const SHORT: Senseless = Senseless("a message without all of its parts");
    let len = topic_len(body).ok_or(SHORT)?;
    let topic = body.get(2..2 + len).ok_or(SHORT)?;
    let mut payload = &body[2 + len..];
    let number = match (first >> 1) & 3 {
        0 => None,
        1 => {
            let (number, rest) = payload.split_at_checked(2).ok_or(SHORT)?;
            payload = rest;
            Some(u16::from_be_bytes([number[0], number[1]]))
        }
        _ => return Err(Senseless("a message of a quality that was not asked for")),
    };
    let is_too_long = payload.len() > payload_max;
    Ok(Message {
        topic: String::from_utf8_lossy(topic),
        number,
        is_repeated: first & 8 != 0,
        payload: match is_too_long {
            true => &payload[..payload.len().min(BEGIN_MAX)],
            false => payload,
        },
        is_too_long,
    })
}

/// Who connects, and how.
pub struct Connect<'a> {
    /// The client's name, by which the broker knows its session.
    pub client: &'a str,
    /// Its user, if it has one.
    pub user: Option<&'a str>,
    /// Its password, if it has one.
    pub password: Option<&'a str>,
    /// After so long without a packet, and half of it, the broker takes the client for gone.
    pub keep_alive_secs: u16,
}

impl Connect<'_> {
    /// Asks for a connection, and for the session that was there before.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut body = Vec::new();
        text("MQTT", &mut body);
        let flag = |is_there: bool, bit: u8| if is_there { bit } else { 0 };
        let flags = flag(self.user.is_some(), 0x80) | flag(self.password.is_some(), 0x40);
        body.extend([4, flags]);
        body.extend(self.keep_alive_secs.to_be_bytes());
        let texts = [Some(self.client), self.user, self.password];
        for part in texts.into_iter().flatten() {
            text(part, &mut body);
        }
        framed(0x10, &body, out);
    }
}

/// Asks for messages to these topics.
pub fn subscribe(topics: &[String], quality: u8, out: &mut Vec<u8>) {
    let mut body = vec![0, 1];
    for topic in topics {
        text(topic, &mut body);
        body.push(quality);
    }
    framed(0x82, &body, out);
}

/// Acknowledges a message.
pub fn acknowledge(number: u16, out: &mut Vec<u8>) {
    let [high, low] = number.to_be_bytes();
    out.extend([0x40, 2, high, low]);
}

/// Asks whether the broker is there.
pub fn ask(out: &mut Vec<u8>) {
    out.extend([0xc0, 0]);
}

/// Says good-bye.
pub fn disconnect(out: &mut Vec<u8>) {
    out.extend([0xe0, 0]);
}

/// A text with its length, which is at most 65535: the configuration has that bound.
fn text(text: &str, out: &mut Vec<u8>) {
    let len = u16::try_from(text.len()).unwrap_or(u16::MAX);
    out.extend(len.to_be_bytes());
    out.extend(&text.as_bytes()[..len.into()]);
}

fn framed(first: u8, body: &[u8], out: &mut Vec<u8>) {
    out.push(first);
    let mut len = body.len();
    loop {
        #[allow(clippy::cast_possible_truncation)] // seven bits
        let byte = (len & 0x7f) as u8;
        len >>= 7;
        out.push(if len > 0 { byte | 0x80 } else { byte });
        if len == 0 {
            break;
        }
    }
    out.extend(body);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(first: u8, topic: &str, number: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut body = Vec::new();
        text(topic, &mut body);
        body.extend(number);
        body.extend(payload);
        let mut out = Vec::new();
        framed(first, &body, &mut out);
        out
    }

    /// All packets of `bytes`, which come in parts of `step` bytes, in words.
    fn all(bytes: &[u8], step: usize) -> Vec<String> {
        let mut inbox = Inbox::new(100);
        let mut found = Vec::new();
        for part in bytes.chunks(step) {
            inbox.add(part);
            loop {
                match inbox.packet() {
                    Ok(Some(packet)) => found.push(format!("{packet:?}")),
                    Ok(None) => break,
                    Err(error) => {
                        found.push(error.0.to_owned());
                        return found;
                    }
                }
            }
            assert!(inbox.bytes.len() < AROUND_MAX + 1000 + step);
        }
        found
    }

    #[test]
    fn packets_are_the_same_however_their_bytes_come() {
        let mut bytes = vec![0x20, 2, 1, 0, 0x90, 4, 0, 1, 1, 0x80];
        bytes.extend(publish(0x30, "a/b", &[], b"zero"));
        bytes.extend(publish(0x3b, "a", &[1, 2], b""));
        bytes.extend(publish(0x32, "long", &[0, 3], &[b'x'; 101]));
        bytes.extend(publish(0x32, "longer", &[0, 4], &[b'x'; 200_000]));
        bytes.extend([0xd0, 0]);
        let expected = all(&bytes, bytes.len());
        assert_eq!(expected.len(), 7, "{expected:?}");
        assert_eq!(
            expected[..2],
            [
                "Connected { code: 0, is_known: true }",
                "Subscribed([1, 128])"
            ]
        );
        assert!(expected[2].contains("\"a/b\", number: None, is_repeated: false"));
        assert!(expected[3].contains("\"a\", number: Some(258), is_repeated: true"));
        let long = expected[4].contains("Some(3)") && expected[4].ends_with("is_too_long: true })");
        assert!(long, "{}", expected[4]);
        let long = expected[5].contains("Some(4)") && expected[5].ends_with("is_too_long: true })");
        assert!(long, "{}", expected[5]);
        assert_eq!(expected[6], "Alive");
        for step in [1, 2, 3, 7, 100, 1000, 65_536] {
            assert_eq!(all(&bytes, step), expected, "{step}");
        }
    }

    #[test]
    fn what_no_broker_sends_is_an_error() {
        for bytes in [
            &b"HTTP/1.1 400 Bad Request"[..],
            &[0x20, 1, 0],
            &[0x30, 1, 0],
            &[0x30, 2, 0, 5],
            &[0x32, 3, 0, 0, 1],
            &[0x34, 5, 0, 1, b'a', 0, 1],
            &[0x40, 2, 0, 1],
            &[0x30, 0xff, 0xff, 0xff, 0xff],
            &[0xd0, 0xff, 0xff, 0x7f],
        ] {
            let found = all(bytes, 1);
            assert!(
                found.last().is_some_and(|last| last.starts_with("a ")),
                "{bytes:?}: {found:?}"
            );
        }
    }

    #[test]
    fn a_client_says_who_it_is() {
        let mut out = Vec::new();
        let connect = Connect {
            client: "gw",
            user: Some("u"),
            password: Some("p"),
            keep_alive_secs: 60,
        };
        connect.write(&mut out);
        assert_eq!(
            out,
            b"\x10\x14\0\x04MQTT\x04\xc0\0\x3c\0\x02gw\0\x01u\0\x01p"
        );
        out.clear();
        subscribe(&["a/#".to_owned()], 1, &mut out);
        assert_eq!(out, b"\x82\x08\0\x01\0\x03a/#\x01");
    }
}
