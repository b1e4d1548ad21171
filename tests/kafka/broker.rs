//! A real broker: Apache Kafka as one process, killed and started again at will, and its own reader.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

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

/// One broker that is its own controller.
pub struct Broker {
    scratch: Scratch,
    jars: PathBuf,
    pub port: u16,
    child: Option<Child>,
    /// Ends the process when this one has ended.
    watch: Option<Child>,
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
    /// A broker that listens at a port, with more properties, and more arguments for what prepares its
    /// directory.
    pub fn start(port: u16, more: &str, prepare: &[&str]) -> Option<Self> {
        let jars = jars()?;
        let scratch = Scratch::new("broker");
        let properties = format!(
            "process.roles=broker,controller\nnode.id=1\ncontroller.listener.names=CONTROLLER\n\
             inter.broker.listener.name=PLAINTEXT\nlog.dirs={}\nnum.partitions=3\n\
             offsets.topic.replication.factor=1\noffsets.topic.num.partitions=1\n\
             transaction.state.log.num.partitions=1\n\
             transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
             group.initial.rebalance.delay.ms=0\nbroker.session.timeout.ms=2000\n\
             broker.heartbeat.interval.ms=500\n{more}\n",
            scratch.join("data").display()
        );
        fs::write(scratch.join("server.properties"), properties).unwrap();
        let mut this = Self {
            scratch,
            jars,
            port,
            child: None,
            watch: None,
        };
        let properties = this.scratch.join("server.properties");
        let mut format = vec!["format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c"];
        format.push(properties.to_str().unwrap());
        this.run("kafka.tools.StorageTool", &[&format, prepare].concat());
        this.restart();
        Some(this)
    }

    /// Runs one of the programs that come with Kafka to its end.
    pub fn run(&self, main: &str, args: &[&str]) {
        let done = self.java(main).args(args).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    }

    /// The same, for one that talks to the broker.
    pub fn ask(&self, main: &str, args: &[&str]) {
        self.run(
            main,
            &[&["--bootstrap-server", &self.address()], args].concat(),
        );
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
        self.end_with_us(&child);
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

    /// It ends with this process, which does not drop what its tests share.
    fn end_with_us(&mut self, broker: &Child) {
        let script = "cat >/dev/null; kill -9 $0; rm -rf -- \"$1\"";
        let watch = Command::new("sh")
            .args(["-c", script, &broker.id().to_string()])
            .arg(&self.scratch.0)
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        if let Some(mut last) = self.watch.replace(watch) {
            // Its broker is gone already, and the directory is still needed.
            let _ = (last.kill(), last.wait());
        }
    }

    /// Whether the process is there.
    pub fn is_running(&mut self) -> bool {
        let child = self.child.as_mut();
        child.is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Ends the process as a failing machine does.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Makes a topic that takes no message of more than 5000 bytes.
    pub fn create_small(&self, topic: &str) {
        let main = "org.apache.kafka.tools.TopicCommand";
        let config = ["--config", "max.message.bytes=5000"];
        self.ask(
            main,
            &[&["--create", "--topic", topic], &config[..]].concat(),
        );
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

    /// Reads a topic from its beginning: so many messages, and what lies behind them.
    pub fn read(&self, topic: &str, count: u64) -> Vec<Read> {
        self.read_as(topic, count, "read_uncommitted")
    }

    /// The same of what is committed.
    pub fn read_committed(&self, topic: &str, count: u64) -> Vec<Read> {
        self.read_as(topic, count, "read_committed")
    }

    fn read_as(&self, topic: &str, count: u64, isolation: &str) -> Vec<Read> {
        let count = usize::try_from(count).unwrap();
        let mut command = self.java("org.apache.kafka.tools.consumer.ConsoleConsumer");
        command
            .args(["--bootstrap-server", &self.address()])
            .args(["--topic", topic, "--from-beginning"])
            .args(["--isolation-level", isolation])
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        for name in ["timestamp", "partition", "headers", "key", "value"] {
            command.args(["--property", &format!("print.{name}=true")]);
        }
        let mut reader = command.spawn().unwrap();
        let output = BufReader::new(reader.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        let pump = thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut messages = Vec::new();
        loop {
            // What lies behind those that are waited for is there already, and comes at once.
            let is_enough = messages.len() >= count;
            let wait = Duration::from_secs(if is_enough { 2 } else { 60 });
            match lines.recv_timeout(wait) {
                Ok(line) => messages.extend(parse(&line)),
                Err(_) => break,
            }
        }
        let _ = (reader.kill(), reader.wait());
        pump.join().unwrap();
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
        if let Some(mut watch) = self.watch.take() {
            let _ = (watch.kill(), watch.wait());
        }
    }
}
