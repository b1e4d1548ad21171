//! What inputs need of the system besides files: waits that an order to stop ends, and sockets.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

/// Ends waits. Where the system has no place for it, they end by their limits only.
#[derive(Debug)]
pub struct Wake(Option<OwnedFd>);

impl Default for Wake {
    fn default() -> Self {
        Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok())
    }
}

impl Wake {
    /// Ends all waits from now on.
    pub fn wake(&self) {
        if let Some(file) = &self.0 {
            // Any number but none.
            let _ = rustix::io::write(file, &[1; 8]);
        }
    }

    /// Waits for `limit`, or for the order to stop.
    pub fn pause(&self, limit: Duration) {
        let _ = self.wait(&mut [], Some(limit));
    }

    /// Waits until one of the sources is ready, `limit` is over or the order to stop comes, and notes which
    /// are ready.
    pub fn wait(&self, sources: &mut [Source<'_>], limit: Option<Duration>) -> io::Result<()> {
        let mut polled = Vec::with_capacity(sources.len() + 1);
        for source in sources.iter_mut() {
            source.is_readable = false;
            source.is_writable = false;
            if !source.is_waited_for() {
                continue;
            }
            let mut flags = PollFlags::empty();
            flags.set(PollFlags::IN, source.for_reading);
            flags.set(PollFlags::OUT, source.for_writing);
            polled.push(PollFd::from_borrowed_fd(source.fd, flags));
        }
        if let Some(file) = &self.0 {
            polled.push(PollFd::new(file, PollFlags::IN));
        }
        let limit = limit.map(|limit| Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        });
        match poll(&mut polled, limit.as_ref()) {
            Err(rustix::io::Errno::INTR) => return Ok(()),
            done => done?,
        };
        let waited_for = sources.iter_mut().filter(|source| source.is_waited_for());
        for (source, polled) in waited_for.zip(&polled) {
            let done = polled.revents();
            let ended = PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL;
            // What has ended says so when it is read.
            source.is_readable = done.intersects(PollFlags::IN | ended);
            source.is_writable = done.contains(PollFlags::OUT);
        }
        Ok(())
    }
}

/// Something that is waited for.
#[allow(clippy::struct_excessive_bools)] // two questions and their two answers
pub struct Source<'a> {
    fd: BorrowedFd<'a>,
    /// It is waited for until there is something to read.
    pub for_reading: bool,
    /// It is waited for until something can be written.
    pub for_writing: bool,
    /// Reading it does not block.
    pub is_readable: bool,
    /// Writing to it does not block.
    pub is_writable: bool,
}

impl<'a> Source<'a> {
    /// The end of what nobody waits for would end each wait.
    fn is_waited_for(&self) -> bool {
        self.for_reading || self.for_writing
    }

    /// Something that is read.
    #[allow(dead_code)] // the inputs that use it are features of their own
    pub fn read(file: &'a impl AsFd) -> Self {
        Self {
            fd: file.as_fd(),
            for_reading: true,
            for_writing: false,
            is_readable: false,
            is_writable: false,
        }
    }
}

#[cfg(feature = "input-mqtt")]
pub use peers::*;

/// Connections to others.
#[cfg(feature = "input-mqtt")]
mod peers {
    use std::net::SocketAddr;

    use rustix::io::Errno;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, ipproto, socket_with};

    use super::{OwnedFd, io};

    /// A socket that is being connected: it can be written when that has ended, well or not. None of its
    /// calls blocks.
    pub fn begin_to_connect(address: SocketAddr) -> io::Result<OwnedFd> {
        let family = match address {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
        match connect(&socket, &address) {
            Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => Ok(socket),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(feature = "input-exec")]
pub use programs::*;

/// Programs.
#[cfg(feature = "input-exec")]
mod programs {
    use rustix::io::ioctl_fionbio;
    use rustix::process::{Pid, Signal, kill_process_group};

    use super::{AsFd, io};

    /// Reading a pipe does not block from now on.
    pub fn set_nonblocking(pipe: &impl AsFd) -> io::Result<()> {
        Ok(ioctl_fionbio(pipe, true)?)
    }

    /// Tells a program and what it started to end.
    pub fn end_group(id: u32) {
        signal(id, Signal::TERM);
    }

    /// Ends them.
    pub fn kill_group(id: u32) {
        signal(id, Signal::KILL);
    }

    fn signal(id: u32, signal: Signal) {
        if let Some(group) = i32::try_from(id).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, signal);
        }
    }
}

#[cfg(feature = "input-serial")]
pub use lines::*;

/// Serial lines.
#[cfg(feature = "input-serial")]
mod lines {
    use std::io::Read;
    use std::os::fd::BorrowedFd;
    use std::path::Path;

    use rustix::fs::{Mode, OFlags, open};
    use rustix::termios::{
        ControlModes, InputModes, OptionalActions, QueueSelector, Termios, ioctl_tiocexcl, tcflush,
        tcgetattr, tcsetattr,
    };

    use super::{AsFd, OwnedFd, io};

    /// A bit that is added to find errors.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Parity {
        /// There is none.
        None,
        /// It makes the number of ones even.
        Even,
        /// It makes it odd.
        Odd,
    }

    /// How the other end is made to wait.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Flow {
        /// Not at all.
        None,
        /// By wires.
        Hardware,
        /// By bytes.
        Software,
    }

    /// How a line is set.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Line {
        /// Bits a second.
        pub baud: u32,
        /// 7 or 8.
        pub data_bits: u32,
        /// See [`Parity`].
        pub parity: Parity,
        /// 1 or 2.
        pub stop_bits: u32,
        /// See [`Flow`].
        pub flow: Flow,
    }

    impl Line {
        fn set(&self, modes: &mut Termios) -> io::Result<()> {
            modes.make_raw();
            modes.set_speed(self.baud)?;
            let control = &mut modes.control_modes;
            control.remove(ControlModes::CSIZE);
            control.insert(match self.data_bits {
                7 => ControlModes::CS7,
                _ => ControlModes::CS8,
            });
            control.set(ControlModes::PARENB, self.parity != Parity::None);
            control.set(ControlModes::PARODD, self.parity == Parity::Odd);
            control.set(ControlModes::CSTOPB, self.stop_bits == 2);
            control.set(ControlModes::CRTSCTS, self.flow == Flow::Hardware);
            // Modem wires say nothing.
            control.insert(ControlModes::CREAD | ControlModes::CLOCAL);
            let input = &mut modes.input_modes;
            let software = InputModes::IXON | InputModes::IXOFF;
            input.set(software, self.flow == Flow::Software);
            // What does not have its parity is no byte, and neither is a break.
            let checks = InputModes::INPCK | InputModes::IGNPAR;
            input.set(checks, self.parity != Parity::None);
            input.insert(InputModes::IGNBRK);
            Ok(())
        }
    }

    /// A line that nobody else can open. Reading it does not block.
    pub struct OpenLine(OwnedFd);

    impl Read for OpenLine {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            Ok(rustix::io::read(&self.0, buf)?)
        }
    }

    impl AsFd for OpenLine {
        fn as_fd(&self) -> BorrowedFd<'_> {
            self.0.as_fd()
        }
    }

    /// Opens a line and sets it. What came before is left out: nobody knows how it was set then.
    pub fn open_line(path: &Path, line: &Line) -> io::Result<OpenLine> {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = open(path, flags, Mode::empty())?;
        let mut modes = match tcgetattr(&file) {
            Err(rustix::io::Errno::NOTTY) => {
                let text = "it is no serial line";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
            modes => modes?,
        };
        ioctl_tiocexcl(&file)?;
        line.set(&mut modes)?;
        tcsetattr(&file, OptionalActions::Now, &modes)?;
        tcflush(&file, QueueSelector::IFlush)?;
        Ok(OpenLine(file))
    }
}

#[cfg(feature = "input-tail")]
pub use watched::Watch;

/// Files that others write.
#[cfg(feature = "input-tail")]
mod watched {
    use std::path::Path;

    use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init, remove_watch};

    use std::os::fd::AsRawFd;

    use super::{AsFd, OwnedFd};
    use crate::storage::FileId;

    /// Is ready when a file is written, and when names in its directory change. Where the system has no place
    /// for it, it never is.
    pub struct Watch {
        system: Option<OwnedFd>,
        has_dir: bool,
        /// Which file it looks at, and by which number.
        file: Option<(FileId, i32)>,
    }

    impl Watch {
        /// One that looks at nothing yet.
        pub fn new() -> Self {
            Self {
                system: init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok(),
                has_dir: false,
                file: None,
            }
        }

        /// Looks at the directory of `path`, and at an open file.
        pub fn look_at(&mut self, path: &Path, open: Option<(FileId, &impl AsFd)>) {
            let Some(system) = &self.system else {
                return;
            };
            if !self.has_dir
                && let Some(dir) = path.parent()
            {
                let flags = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::MOVED_FROM;
                self.has_dir = add_watch(system, dir, flags).is_ok();
            }
            if self.file.map(|(id, _)| id) == open.as_ref().map(|(id, _)| *id) {
                return;
            }
            if let Some((_, number)) = self.file.take() {
                let _ = remove_watch(system, number);
            }
            if let Some((id, open)) = open {
                // By its number it is this one, whatever it is called by now.
                let own = format!("/proc/self/fd/{}", open.as_fd().as_raw_fd());
                let watch = add_watch(system, own, WatchFlags::MODIFY);
                self.file = watch.ok().map(|number| (id, number));
            }
        }

        /// All that is looked at is told of.
        pub fn is_there(&self) -> bool {
            self.has_dir && self.file.is_some()
        }

        /// What is ready when something has changed.
        pub fn file(&self) -> Option<&OwnedFd> {
            self.system.as_ref()
        }

        /// Forgets what has changed.
        pub fn forget(&self) {
            let Some(system) = &self.system else {
                return;
            };
            let mut events = [0; 4096];
            while rustix::io::read(system, &mut events).is_ok_and(|len| len > 0) {}
        }
    }
}

#[cfg(any(feature = "input-unix", feature = "input-udp"))]
pub use sockets::*;

/// Sockets.
#[cfg(any(feature = "input-unix", feature = "input-udp"))]
mod sockets {
    use super::{AsFd, io};

    /// Asks the system for so much room for what waits to be received. It gives what its own bound allows.
    pub fn set_receive_buffer(socket: &impl AsFd, size: usize) -> io::Result<()> {
        if rustix::net::sockopt::set_socket_recv_buffer_size_force(socket, size).is_err() {
            rustix::net::sockopt::set_socket_recv_buffer_size(socket, size)?;
        }
        Ok(())
    }

    /// The number by which the system's tables name a socket.
    #[cfg(feature = "input-udp")]
    pub fn socket_number(socket: &impl AsFd) -> Option<u64> {
        rustix::fs::fstat(socket).ok().map(|stat| stat.st_ino)
    }
}

#[cfg(feature = "input-unix")]
pub use local::*;

/// Sockets in the file system.
#[cfg(feature = "input-unix")]
mod local {
    use std::io::IoSliceMut;
    use std::mem::MaybeUninit;
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
    use std::path::Path;

    use rustix::fs::{FileType, Mode};
    use rustix::net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
        SocketAddrUnix, SocketFlags, SocketType, UCred, bind, connect, listen, recvmsg,
        socket_with, sockopt,
    };

    use super::{OwnedFd, io};

    /// Who is at the other end of a socket.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Peer {
        /// The user.
        pub uid: u32,
        /// The user's group.
        pub gid: u32,
    }

    impl From<UCred> for Peer {
        fn from(credentials: UCred) -> Self {
            Self {
                uid: credentials.uid.as_raw(),
                gid: credentials.gid.as_raw(),
            }
        }
    }

    /// A socket that listens for streams.
    pub fn listen_at(path: &Path, mode: u32) -> io::Result<UnixListener> {
        let socket = socket_at(path, mode, SocketType::STREAM)?;
        listen(&socket, 128)?;
        Ok(UnixListener::from(socket))
    }

    /// A socket for datagrams, which tells who sent them.
    pub fn datagrams_at(path: &Path, mode: u32) -> io::Result<UnixDatagram> {
        let socket = socket_at(path, mode, SocketType::DGRAM)?;
        sockopt::set_socket_passcred(&socket, true)?;
        Ok(UnixDatagram::from(socket))
    }

    /// A socket that has a path. One that a process left behind which has ended is replaced.
    fn socket_at(path: &Path, mode: u32, kind: SocketType) -> io::Result<OwnedFd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let new = || socket_with(AddressFamily::UNIX, kind, flags, None);
        let address = SocketAddrUnix::new(path)?;
        let socket = new()?;
        // Before it has a path, so that nobody comes in by a mode that is not meant.
        rustix::fs::fchmod(&socket, Mode::from_raw_mode(mode))?;
        let bound = || {
            bind(&socket, &address)?;
            // The process's own mask has taken something away.
            rustix::fs::chmod(path, Mode::from_raw_mode(mode))
        };
        match bound() {
            Err(rustix::io::Errno::ADDRINUSE) => {}
            done => {
                done?;
                return Ok(socket);
            }
        }
        // The system refuses to connect to what is no socket, too: that is somebody's file.
        let found = FileType::from_raw_mode(rustix::fs::lstat(path)?.st_mode);
        let is_left = connect(&new()?, &address) == Err(rustix::io::Errno::CONNREFUSED);
        if found != FileType::Socket || !is_left {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        rustix::fs::unlink(path)?;
        bound()?;
        Ok(socket)
    }

    /// Who is at the other end.
    pub fn peer_of(stream: &UnixStream) -> io::Result<Peer> {
        Ok(sockopt::socket_peercred(stream)?.into())
    }

    /// Receives a datagram: its length, whether it was longer than the buffer, and who sent it.
    pub fn receive(
        socket: &UnixDatagram,
        buf: &mut [u8],
    ) -> io::Result<(usize, bool, Option<Peer>)> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(buf)];
        let received = recvmsg(socket, &mut parts, &mut control, RecvFlags::DONTWAIT)?;
        let peer = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmCredentials(credentials) => Some(credentials.into()),
            _ => None,
        });
        let is_cut = received.flags.contains(ReturnFlags::TRUNC);
        Ok((received.bytes, is_cut, peer))
    }
}
