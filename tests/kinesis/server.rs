//! A server that speaks as Kinesis does, checks what it is sent, and misbehaves when it is told to.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::shards::Shard;
use super::signature::{Key, Request, check, civil};
use super::wire;

const CBOR: &str = "application/x-amz-cbor-1.1";

/// How a request is answered, when it is right.
#[derive(Clone, Debug)]
pub enum Act {
    /// As it should be.
    Take,
    /// Some records fail, by place, with these codes.
    Partly(Vec<(usize, &'static str)>),
    /// Nothing is taken: a status, and the name of the error.
    Refuse(u16, &'static str),
    /// Nothing is taken: any answer.
    Say(u16, String),
    /// Nothing is taken, and the connection is cut.
    Cut,
    /// All is taken, and the connection is cut before the answer.
    TakeAndCut,
    /// All is taken, and so much of the answer comes, in percent.
    TakeAndTruncate(usize),
    /// All is taken, and the answer has half of itself, with a length that says so.
    TakeAndHalve,
    /// All is taken, and the answer has one entry too few.
    TakeAndMiscount,
    /// All is taken, and the answer comes late: whether it was waited for, the connection tells.
    TakeAndWait(Duration),
}

impl Act {
    /// What was taken may come again: nobody heard of it.
    fn is_lost(&self) -> bool {
        matches!(
            self,
            Act::TakeAndCut | Act::TakeAndTruncate(_) | Act::TakeAndHalve | Act::TakeAndMiscount
        )
    }
}

/// A record that was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    pub key: String,
    pub data: Vec<u8>,
    /// The explicit hash key, if there is one.
    pub hash_key: Option<u128>,
    /// The answer did not arrive.
    pub is_lost: bool,
}

type Script = Box<dyn FnMut(&Value) -> Act + Send>;
/// Other addresses: status, headers, body.
type Pages = Box<dyn FnMut(&Request) -> Option<(u16, Vec<(&'static str, String)>, String)> + Send>;

pub struct State {
    pub keys: Vec<Key>,
    pub stream: &'static str,
    /// What the server's clock shows more than the host's, in seconds.
    pub ahead_secs: i64,
    /// The server tells its time.
    pub has_date: bool,
    pub script: Script,
    pub pages: Pages,
    /// The longest record.
    pub record_bytes_max: usize,
    /// Of the stream; one without limits takes everything when there is none.
    pub shards: Vec<Shard>,
    /// What was taken, in order.
    pub taken: Vec<Taken>,
    /// The counts of records of each request that came, right or not.
    pub requests: Vec<usize>,
    /// The names of the errors of requests that were not right.
    pub refused: Vec<&'static str>,
    pub connections: usize,
    /// How many of them are open.
    pub open: usize,
    /// The bytes of all bodies.
    pub body_bytes: usize,
    /// How the last request was written.
    pub content_type: String,
}

#[derive(Clone)]
pub struct Server {
    pub port: u16,
    state: Arc<Mutex<State>>,
    is_over: Arc<AtomicBool>,
}

impl Server {
    pub fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            port: listener.local_addr().unwrap().port(),
            state: Arc::new(Mutex::new(State {
                keys: vec![Key::new("AKID", "hunter2secret", None)],
                stream: "telemetry",
                ahead_secs: 0,
                has_date: true,
                script: Box::new(|_| Act::Take),
                pages: Box::new(|_| None),
                record_bytes_max: 1 << 20,
                shards: Vec::new(),
                taken: Vec::new(),
                requests: Vec::new(),
                refused: Vec::new(),
                connections: 0,
                open: 0,
                body_bytes: 0,
                content_type: String::new(),
            })),
            is_over: Arc::default(),
        };
        let this = server.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if this.is_over.load(Ordering::Relaxed) {
                    return;
                }
                this.state().connections += 1;
                this.state().open += 1;
                let this = this.clone();
                thread::spawn(move || this.serve(&stream));
            }
        });
        server
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub fn script(&self, script: impl FnMut(&Value) -> Act + Send + 'static) {
        self.state().script = Box::new(script);
    }

    /// A stream's configuration that delivers here.
    pub fn stream(&self, sink: &str, rest: &str) -> String {
        let (port, key) = (self.port, "\"type\":\"static\",\"accessKeyId\":\"AKID\"");
        let credentials = match sink.contains("\"credentials\"") {
            true => String::new(),
            false => format!(r#""credentials":{{{key},"secretAccessKey":"hunter2secret"}},"#),
        };
        format!(
            r#"{{"name":"telemetry","sink":{{"type":"kinesis","streamName":"telemetry",{credentials}
            "region":"eu-west-1","endpointUrl":"http://127.0.0.1:{port}/"{sink}}},
            "buffer":{{"maxDiskBytes":33554432,"segmentBytes":1048576,"fsyncIntervalMs":5}},
            "batch":{{"maxLatencyMs":5}}{rest}}}"#
        )
    }

    /// The payloads that were taken, in order.
    pub fn payloads(&self) -> Vec<String> {
        let state = self.state();
        let taken = state.taken.iter();
        taken
            .map(|taken| String::from_utf8(taken.data.clone()).unwrap())
            .collect()
    }

    fn serve(&self, stream: &TcpStream) {
        stream.set_nodelay(true).unwrap();
        let mut client = Client {
            stream,
            is_broken: false,
        };
        // What the last request brought.
        let mut latest = 0..0;
        while let Some(request) = read_request(&mut client) {
            if self.is_over.load(Ordering::Relaxed) {
                break;
            }
            let (is_on, taken) = self.answer(stream, &request);
            latest = taken;
            if !is_on {
                break;
            }
        }
        let mut state = self.state();
        if client.left() {
            state.taken[latest]
                .iter_mut()
                .for_each(|taken| taken.is_lost = true);
        }
        state.open -= 1;
        let _ = stream.shutdown(Shutdown::Both);
    }

    /// Whether the connection goes on, and which of all that was taken the request brought.
    fn answer(&self, stream: &TcpStream, request: &Request) -> (bool, Range<usize>) {
        let (act, status, body, taken) = {
            let mut state = self.state();
            if let Some((status, headers, body)) = (state.pages)(request) {
                let date = state.date();
                let is_on = write(stream, status, &headers, &date, body.as_bytes());
                return (is_on, 0..0);
            }
            let before = state.taken.len();
            let (act, status, body) = state.handle(request);
            (act, status, body, before..state.taken.len())
        };
        let is_on = self.act(stream, &act, status, &body);
        (is_on, taken)
    }

    /// False: the connection is over.
    fn act(&self, mut stream: &TcpStream, act: &Act, status: u16, body: &[u8]) -> bool {
        let date = self.state().date();
        match act {
            Act::Cut | Act::TakeAndCut => false,
            Act::TakeAndTruncate(percent) => {
                let mut bytes = head(status, &[], &date, body.len()).into_bytes();
                bytes.extend_from_slice(body);
                let _ = stream.write_all(&bytes[..bytes.len() * *percent / 100]);
                false
            }
            Act::TakeAndHalve => {
                let half = body.len() / 2;
                write(stream, status, &[], &date, &body[..half])
            }
            Act::TakeAndWait(time) => {
                thread::sleep(*time);
                write(stream, status, &[], &date, body)
            }
            _ => write(stream, status, &[], &date, body),
        }
    }
}

/// Whoever asks, at the other end of a connection.
struct Client<'a> {
    stream: &'a TcpStream,
    is_broken: bool,
}

impl Client<'_> {
    /// It went before it had read all that was written for it. Then its system resets the connection, at
    /// once when bytes lie there, or when the next ones come.
    fn left(&self) -> bool {
        self.is_broken || self.stream.take_error().is_ok_and(|error| error.is_some())
    }
}

impl Read for Client<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let result = self.stream.read(bytes);
        self.is_broken |= result.is_err();
        result
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The one that the test has: the others are the threads'.
        if Arc::strong_count(&self.state) <= 2 {
            self.is_over.store(true, Ordering::Relaxed);
            let _ = TcpStream::connect(("127.0.0.1", self.port));
        }
    }
}

impl State {
    fn now_secs(&self) -> u64 {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        now.checked_add_signed(self.ahead_secs).unwrap()
    }

    fn date(&self) -> String {
        if !self.has_date {
            return String::new();
        }
        let secs = self.now_secs();
        let (year, month, day) = civil(secs / 86_400);
        let months = [
            "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
        ];
        let days = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
        let (weekday, month) = (
            days[usize::try_from(secs / 86_400 % 7).unwrap()],
            months[usize::try_from(month).unwrap() - 1],
        );
        let rest = secs % 86_400;
        format!(
            "Date: {weekday}, {day:02} {month} {year} {:02}:{:02}:{:02} GMT\r\n",
            rest / 3600,
            rest / 60 % 60,
            rest % 60
        )
    }

    /// Checks a request as the service does, and takes what it is told to take.
    fn handle(&mut self, request: &Request) -> (Act, u16, Vec<u8>) {
        self.body_bytes += request.body.len();
        self.content_type = request.header("content-type").to_owned();
        let is_cbor = self.content_type == CBOR;
        let body: Value = match is_cbor {
            false => serde_json::from_slice(&request.body).unwrap_or_default(),
            true => wire::from_cbor(&request.body).unwrap_or_default(),
        };
        let said = |text: String| match (is_cbor, serde_json::from_str(&text)) {
            (true, Ok(value)) => wire::to_cbor(&value),
            _ => text.into_bytes(),
        };
        let records = body["Records"].as_array().cloned().unwrap_or_default();
        self.requests.push(records.len());
        let now = self.now_secs();
        let wrong = check(request, &self.keys, now)
            .err()
            .or_else(|| self.wrong(request, &body));
        if let Some(name) = wrong {
            self.refused.push(name);
            return (Act::Take, 400, said(error(name)));
        }
        let act = (self.script)(&body);
        let (status, text) = match &act {
            Act::Refuse(status, name) => (*status, said(error(name))),
            Act::Say(status, text) => (*status, text.clone().into_bytes()),
            Act::Cut => (500, Vec::new()),
            act => (200, said(self.take(&records, act))),
        };
        (act, status, text)
    }

    fn take(&mut self, records: &[Value], act: &Act) -> String {
        let mut entries = Vec::new();
        let mut failed = 0;
        for (at, record) in records.iter().enumerate() {
            let code = match act {
                Act::Partly(codes) => codes.iter().find(|(place, _)| *place == at),
                _ => None,
            };
            if let Some((_, code)) = code {
                failed += 1;
                entries.push(json!({"ErrorCode": code, "ErrorMessage": "not \"now\""}));
                continue;
            }
            let key = record["PartitionKey"].as_str().unwrap().to_owned();
            let data = STANDARD.decode(record["Data"].as_str().unwrap()).unwrap();
            let hash_key: Option<u128> = record["ExplicitHashKey"]
                .as_str()
                .map(|text| text.parse().unwrap());
            let len = key.len() + data.len();
            let shard = match Shard::place(&mut self.shards, &key, hash_key, len) {
                Ok(number) => format!("shardId-{number:012}"),
                Err(message) => {
                    failed += 1;
                    let code = "ProvisionedThroughputExceededException";
                    entries.push(json!({"ErrorCode": code, "ErrorMessage": message}));
                    continue;
                }
            };
            self.taken.push(Taken {
                key,
                data,
                hash_key,
                is_lost: act.is_lost(),
            });
            let number = format!("{:056}", self.taken.len());
            entries.push(json!({"SequenceNumber": number, "ShardId": shard}));
        }
        if let Act::TakeAndMiscount = act {
            entries.pop();
        }
        json!({"FailedRecordCount": failed, "Records": entries}).to_string()
    }

    /// What the service would say of the request itself.
    fn wrong(&self, request: &Request, body: &Value) -> Option<&'static str> {
        if request.header("x-amz-target") != "Kinesis_20131202.PutRecords" {
            return Some("UnknownOperationException");
        }
        if !["application/x-amz-json-1.1", CBOR].contains(&request.header("content-type")) {
            return Some("SerializationException");
        }
        if body["StreamName"] != self.stream {
            return Some("ResourceNotFoundException");
        }
        let Some(records) = body["Records"].as_array() else {
            return Some("SerializationException");
        };
        let mut sum = 0;
        for record in records {
            let (Some(key), Some(data)) =
                (record["PartitionKey"].as_str(), record["Data"].as_str())
            else {
                return Some("SerializationException");
            };
            let Ok(data) = STANDARD.decode(data) else {
                return Some("SerializationException");
            };
            let hash_key = &record["ExplicitHashKey"];
            if !hash_key.is_null() && !hash_key.as_str().is_some_and(is_hash_key) {
                return Some("InvalidArgumentException");
            }
            let len = key.len() + data.len();
            if !(1..=256).contains(&key.chars().count()) || len > self.record_bytes_max {
                return Some("ValidationException");
            }
            sum += len;
        }
        let is_in_bounds = (1..=500).contains(&records.len()) && sum <= 10 << 20;
        (!is_in_bounds).then_some("ValidationException")
    }
}

/// A number of 128 bits, written without zeros in front.
fn is_hash_key(text: &str) -> bool {
    text.parse::<u128>()
        .is_ok_and(|number| number.to_string() == text)
}

fn error(name: &str) -> String {
    json!({"__type": format!("com.amazonaws.kinesis#{name}"), "message": "no"}).to_string()
}

fn head(status: u16, headers: &[(&'static str, String)], date: &str, len: usize) -> String {
    let headers: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    format!("HTTP/1.1 {status} X\r\n{date}{headers}Content-Length: {len}\r\n\r\n")
}

fn write(
    mut stream: &TcpStream,
    status: u16,
    headers: &[(&'static str, String)],
    date: &str,
    body: &[u8],
) -> bool {
    let mut bytes = head(status, headers, date, body.len()).into_bytes();
    bytes.extend_from_slice(body);
    stream.write_all(&bytes).is_ok()
}

/// The next request of a connection.
pub fn read_request(stream: &mut impl Read) -> Option<Request> {
    let mut bytes = Vec::new();
    let mut part = [0; 65_536];
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        match stream.read(&mut part) {
            Ok(count) if count > 0 => bytes.extend_from_slice(&part[..count]),
            _ => return None,
        }
    };
    let text = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = text.lines();
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers: BTreeMap<_, _> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let len = headers
        .get("content-length")
        .map_or(0, |len| len.parse().unwrap());
    let mut body = bytes[end + 4..].to_vec();
    while body.len() < len {
        match stream.read(&mut part) {
            Ok(count) if count > 0 => body.extend_from_slice(&part[..count]),
            _ => return None,
        }
    }
    assert_eq!(body.len(), len, "one request at a time");
    Some(Request {
        method,
        path,
        headers,
        body,
    })
}
