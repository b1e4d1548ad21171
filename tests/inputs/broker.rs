//! Debian's broker, and who publishes there.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::process::{Scratch, wait_until};

/// A broker on a port of its own, which keeps its sessions when it is killed.
pub struct Broker {
    config: std::path::PathBuf,
    child: Child,
    pub port: u16,
}

impl Broker {
    /// With these lines in its configuration.
    pub fn start(scratch: &Scratch, more: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let dir = scratch.join("broker");
        std::fs::create_dir_all(&dir).unwrap();
        let user = std::env::var("USER").unwrap_or_else(|_| "root".to_owned());
        let text = format!(
            "listener {port} 127.0.0.1\nuser {user}\nmax_queued_messages 1000000\npersistence true\n\
             persistence_location {}/\nautosave_on_changes true\nautosave_interval 1\n{more}\n",
            dir.display()
        );
        let config = scratch.write("mosquitto.conf", text);
        let child = start(&config);
        let this = Self {
            config,
            child,
            port,
        };
        this.wait();
        this
    }

    fn wait(&self) {
        wait_until("the broker", || TcpStream::connect(self.address()).is_ok());
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Ends it, in order or not.
    pub fn stop(&mut self, is_in_order: bool) {
        match is_in_order {
            true => {
                let id = i32::try_from(self.child.id()).unwrap();
                let id = rustix::process::Pid::from_raw(id).unwrap();
                rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
            }
            false => self.child.kill().unwrap(),
        }
        self.child.wait().unwrap();
    }

    pub fn start_again(&mut self) {
        self.child = start(&self.config);
        self.wait();
    }
}

fn start(config: &std::path::Path) -> Child {
    let mut command = Command::new("/usr/sbin/mosquitto");
    let command = command.arg("-c").arg(config);
    command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(text: &str) -> Vec<u8> {
    let len = u16::try_from(text.len()).unwrap();
    [&len.to_be_bytes(), text.as_bytes()].concat()
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let (mut out, mut len) = (vec![first], body.len());
    while len > 127 {
        out.push(u8::try_from(len % 128).unwrap() | 128);
        len /= 128;
    }
    out.push(u8::try_from(len).unwrap());
    out.extend(body);
    out
}

/// Who publishes.
pub struct Publisher(TcpStream);

impl Publisher {
    pub fn new(broker: &Broker, user: Option<(&str, &str)>) -> Self {
        let socket = TcpStream::connect(broker.address()).unwrap();
        socket.set_nodelay(true).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        let flags = if user.is_some() { 0xc2 } else { 2 };
        let mut body = [text("MQTT"), vec![4, flags, 0, 0], text("publisher")].concat();
        if let Some((user, password)) = user {
            body.extend([text(user), text(password)].concat());
        }
        let mut this = Self(socket);
        this.0.write_all(&packet(0x10, &body)).unwrap();
        assert_eq!(this.answer::<4>()[3], 0, "the broker refused the publisher");
        this
    }

    fn answer<const N: usize>(&mut self) -> [u8; N] {
        let mut answer = [0; N];
        self.0.read_exact(&mut answer).unwrap();
        answer
    }

    /// Publishes, and waits until the broker has all of it.
    pub fn publish(&mut self, quality: u8, messages: &[(&str, &str)]) {
        self.publish_with(0x30 | quality << 1, messages);
    }

    /// The same with other flags.
    pub fn publish_with(&mut self, first: u8, messages: &[(&str, &str)]) {
        let is_answered = first & 6 != 0;
        for messages in messages.chunks(100) {
            let mut out = Vec::new();
            for (topic, payload) in messages {
                let number: &[u8] = if is_answered { &[0, 1] } else { &[] };
                let body = [&text(topic), number, payload.as_bytes()].concat();
                out.extend(packet(first, &body));
            }
            self.0.write_all(&out).unwrap();
            for _ in messages.iter().filter(|_| is_answered) {
                assert_eq!(self.answer::<4>(), [0x40, 2, 0, 1]);
            }
        }
    }
}
