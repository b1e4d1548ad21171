//! A real broker: Apache Kafka as one process, killed and started again at will, and its own reader.

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::common::{Scratch, wait_until};

/// What is fetched from the public repository of Java packages, once.
const POM: &str = r"<project><modelVersion>4.0.0</modelVersion><groupId>t</groupId><artifactId>t</artifactId>
<version>1</version><dependencies>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>4.1.0</version></dependency>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>4.1.0</version>
<exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion></exclusions></dependency>
</dependencies></project>
";

/// The jars of Kafka, fetched when they are not there. `None`: they cannot be had here.
pub fn jars() -> Option<PathBuf> {
    static JARS: std::sync::OnceLock<Option<PathBuf>> = std::sync::OnceLock::new();
    JARS.get_or_init(fetch).clone()
}

fn fetch() -> Option<PathBuf> {
    let java = Command::new("java").arg("-version").output();
    if !java.is_ok_and(|done| done.status.success()) {
        left_out("there is no java here to run Apache Kafka with");
        return None;
    }
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("apache-kafka-4.1.0");
    let jars = dir.join("jars");
    if dir.join("complete").exists() {
        return Some(jars);
    }
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("pom.xml"), POM).unwrap();
    let fetched = Command::new("mvn")
        .current_dir(&dir)
        .args(["-q", "-B", "dependency:copy-dependencies"])
        .args(["-DincludeScope=runtime", "-DoutputDirectory=jars"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !fetched.is_ok_and(|status| status.success()) {
        left_out("Apache Kafka cannot be fetched here (mvn, network)");
        return None;
    }
    fs::write(dir.join("complete"), "").unwrap();
    Some(jars)
}

/// Says what is not shown here, also when the test harness keeps what tests print.
fn left_out(why: &str) {
    let _ = writeln!(std::io::stderr(), "LEFT OUT: {why}");
}

/// A port of the loopback that is free at present.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Where a broker listens, and where clients are told to come to; by default at a port that is free.
#[derive(Clone, Copy, Default)]
pub struct Place {
    pub port: Option<u16>,
    pub advertised: Option<u16>,
}

/// One broker that is its own controller.
pub struct Broker {
    scratch: Scratch,
    jars: PathBuf,
    pub port: u16,
    child: Option<Child>,
}

/// A message as the reader that comes with Kafka shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    pub time_ms: u64,
    pub partition: u32,
    pub headers: String,
    pub key: String,
    pub value: String,
}

impl Read {
    /// The value of one of the headers.
    pub fn header(&self, name: &str) -> &str {
        let mut headers = self
            .headers
            .split(',')
            .filter_map(|header| header.split_once(':'));
        headers
            .find(|(known, _)| *known == name)
            .unwrap_or_else(|| panic!("{self:?}"))
            .1
    }

    pub fn offset(&self) -> u64 {
        self.header("forebay.offset").parse().unwrap()
    }
}

impl Broker {
    /// A broker that listens, with more properties.
    pub fn start(name: &str, place: Place, more: &str) -> Option<Self> {
        Self::start_with(name, place, more, &[])
    }

    /// The same, with more arguments for what prepares its directory.
    pub fn start_with(name: &str, place: Place, more: &str, prepare: &[&str]) -> Option<Self> {
        let jars = jars()?;
        let scratch = Scratch::new(&format!("broker-{name}"));
        let (port, controller) = (place.port.unwrap_or_else(free_port), free_port());
        let data = scratch.join("data");
        let advertised = place.advertised.unwrap_or(port);
        let properties = format!(
            "process.roles=broker,controller\nnode.id=1\n\
             controller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{advertised}\n\
             controller.listener.names=CONTROLLER\n\
             listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n\
             inter.broker.listener.name=PLAINTEXT\nlog.dirs={}\nnum.partitions=3\n\
             offsets.topic.replication.factor=1\noffsets.topic.num.partitions=1\n\
             transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
             group.initial.rebalance.delay.ms=0\nbroker.session.timeout.ms=2000\n\
             broker.heartbeat.interval.ms=500\n{more}\n",
            data.display()
        );
        fs::write(scratch.join("server.properties"), properties).unwrap();
        let mut this = Self {
            scratch,
            jars,
            port,
            child: None,
        };
        let formatted = this
            .java("kafka.tools.StorageTool")
            .args(["format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c"])
            .arg(this.scratch.join("server.properties"))
            .args(prepare)
            .output()
            .unwrap();
        assert!(formatted.status.success(), "{formatted:?}");
        this.restart();
        Some(this)
    }

    /// Where it listens without TLS.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn java(&self, main: &str) -> Command {
        let mut command = Command::new("java");
        command
            .args(["-Xmx384m", "-XX:TieredStopAtLevel=1", "-cp"])
            .arg(self.jars.join("*"))
            .arg(main)
            .stdin(Stdio::null());
        command
    }

    /// Starts the process and waits until it listens.
    pub fn restart(&mut self) {
        let log = fs::File::create(self.scratch.join("log")).unwrap();
        let child = self
            .java("kafka.Kafka")
            .arg(self.scratch.join("server.properties"))
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let port = self.port;
        for _ in 0..6 {
            let is_there = || TcpStream::connect(("127.0.0.1", port)).is_ok();
            if std::panic::catch_unwind(|| wait_until("the broker", is_there)).is_ok() {
                return;
            }
        }
        panic!("the broker does not start");
    }

    /// Ends the process as a failing machine does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// The codec of each batch of a topic, as its log has it: 1 gzip, 2 snappy, 3 lz4, 4 zstd.
    pub fn codecs(&self, topic: &str) -> Vec<u8> {
        let mut codecs = Vec::new();
        for partition in 0..3 {
            let log = format!("data/{topic}-{partition}/00000000000000000000.log");
            let bytes = fs::read(self.scratch.join(&log)).unwrap_or_default();
            let mut rest = &bytes[..];
            while rest.len() > BATCH_HEADER && rest[BATCH_MAGIC] == 2 {
                codecs.push(rest[BATCH_ATTRIBUTES + 1] & 7);
                let len = u32::from_be_bytes(rest[8..12].try_into().unwrap());
                rest = rest.get(12 + len as usize..).unwrap_or_default();
            }
        }
        codecs
    }

    /// Reads a topic from its beginning until so many messages were read, or none came for a while.
    pub fn read(&self, topic: &str, count: usize) -> Vec<Read> {
        self.read_as(topic, count, "read_uncommitted", 20_000)
    }

    /// Reads all that is committed, and looks whether there is more than so many.
    pub fn read_committed(&self, topic: &str, count: u64) -> Vec<Read> {
        let count = usize::try_from(count).unwrap();
        self.read_as(topic, count + 1000, "read_committed", 10_000)
    }

    /// Reads as one of the levels of isolation has it, until no message came for so many milliseconds.
    fn read_as(&self, topic: &str, count: usize, isolation: &str, wait_ms: u32) -> Vec<Read> {
        let mut command = self.java("org.apache.kafka.tools.consumer.ConsoleConsumer");
        command
            .args(["--bootstrap-server", &self.address()])
            .args(["--topic", topic, "--from-beginning"])
            .args(["--isolation-level", isolation])
            .args(["--timeout-ms", &wait_ms.to_string()])
            .args(["--max-messages", &count.to_string()]);
        for name in ["timestamp", "partition", "headers", "key", "value"] {
            command.args(["--property", &format!("print.{name}=true")]);
        }
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let messages: Vec<_> = text.lines().filter_map(parse).collect();
        if messages.is_empty() {
            println!("{text}{}", String::from_utf8_lossy(&output.stderr));
        }
        messages
    }
}

/// Where things are in a batch of Kafka's log: after offset, length, epoch, magic and checksum.
const BATCH_MAGIC: usize = 16;
const BATCH_ATTRIBUTES: usize = 21;
const BATCH_HEADER: usize = 61;

/// `CreateTime:5 TAB Partition:0 TAB a:1,b:2 TAB key TAB value`
fn parse(line: &str) -> Option<Read> {
    let mut cells = line.split('\t');
    let time_ms = cells.next()?.strip_prefix("CreateTime:")?.parse().ok()?;
    let partition = cells.next()?.strip_prefix("Partition:")?.parse().ok()?;
    let mut text = || cells.next().map(str::to_owned);
    Some(Read {
        time_ms,
        partition,
        headers: text()?,
        key: text()?,
        value: text()?,
    })
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}
