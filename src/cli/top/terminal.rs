//! The terminal while a table has it as a whole: keys one by one, another screen, and all of it given back.
//!
//! **Invariants.** What [`Terminal::enter`] changed is as it was before when the value is dropped, when a
//! thread panics, and when a signal asks to end. Only SIGKILL leaves it; `reset` helps then.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, OwnedFd};
use rustix::io::Errno;
use rustix::termios::{
    InputModes, LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize,
    tcsetattr,
};
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGWINCH};
use signal_hook::{flag, low_level::pipe};

/// Another screen, no cursor, and lines that are cut at the right.
const ENTER: &str = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J";
const LEAVE: &str = "\x1b[?7h\x1b[?25h\x1b[?1049l";
/// What is taken for the size of a terminal that does not tell: the oldest there was.
const SIZE: (usize, usize) = (80, 24);

/// See the module's description.
pub struct Terminal {
    kept: Arc<Kept>,
    /// Gets a byte for each signal.
    signals: UnixStream,
    /// A signal asked to end.
    ends: Arc<AtomicBool>,
}

/// A key that means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Quit,
    Suspend,
    Now,
    Up,
    Down,
    PageUp,
    PageDown,
}

/// What ended a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    Key(Key),
    /// A signal asked to end, or the terminal is gone.
    End,
    /// The time, or another size.
    Nothing,
}

/// What is given back.
struct Kept {
    input: OwnedFd,
    output: OwnedFd,
    /// Of the input, if it is a terminal.
    modes: Option<Termios>,
    is_changed: AtomicBool,
}

impl Terminal {
    /// Takes the terminal of standard input and output.
    pub fn enter() -> io::Result<Self> {
        let input = io::stdin().as_fd().try_clone_to_owned()?;
        let output = io::stdout().as_fd().try_clone_to_owned()?;
        Self::enter_at(input, output)
    }

    fn enter_at(input: OwnedFd, output: OwnedFd) -> io::Result<Self> {
        let kept = Arc::new(Kept::new(input, output));
        let (signals, told) = UnixStream::pair()?;
        signals.set_nonblocking(true)?;
        told.set_nonblocking(true)?;
        let ends = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM, SIGHUP, SIGQUIT] {
            // The second one ends it at once: a terminal that takes nothing is waited for in vain.
            flag::register_conditional_default(signal, Arc::clone(&ends))?;
            flag::register(signal, Arc::clone(&ends))?;
            pipe::register(signal, told.try_clone()?)?;
        }
        for signal in [SIGWINCH, SIGCONT] {
            pipe::register(signal, told.try_clone()?)?;
        }
        // What a panic says is to be seen, so it is said on the old screen.
        let (before, of_hook) = (std::panic::take_hook(), Arc::clone(&kept));
        std::panic::set_hook(Box::new(move |panic| {
            of_hook.give_back();
            before(panic);
        }));
        kept.take()?;
        Ok(Self {
            kept,
            signals,
            ends,
        })
    }

    /// Columns and lines.
    pub fn size(&self) -> (usize, usize) {
        match tcgetwinsize(&self.kept.output) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => {
                (size.ws_col.into(), size.ws_row.into())
            }
            _ => SIZE,
        }
    }

    /// Writes a frame.
    pub fn show(&mut self, text: &str) -> io::Result<()> {
        self.kept.write(text)
    }

    /// Waits for a key, a signal, or so long.
    pub fn wait(&mut self, limit: Duration) -> io::Result<Wait> {
        let limit = Timespec::try_from(limit).ok();
        let of_keys = match self.kept.modes {
            Some(_) => PollFlags::IN,
            None => PollFlags::empty(),
        };
        let mut polled = [
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::new(&self.kept.input, of_keys),
        ];
        match poll(&mut polled, limit.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let has_keys = self.kept.modes.is_some() && !polled[1].revents().is_empty();
        let mut bytes = [0; 64];
        while rustix::io::read(&self.signals, &mut bytes).is_ok_and(|len| len > 0) {}
        if self.ends.load(Ordering::Relaxed) {
            return Ok(Wait::End);
        }
        if !has_keys {
            return Ok(Wait::Nothing);
        }
        match rustix::io::read(&self.kept.input, &mut bytes) {
            Ok(0) => Ok(Wait::End),
            Ok(len) => Ok(key(&bytes[..len]).map_or(Wait::Nothing, Wait::Key)),
            Err(Errno::INTR | Errno::AGAIN) => Ok(Wait::Nothing),
            Err(_) => Ok(Wait::End),
        }
    }

    /// Gives the terminal back and stops until somebody continues the process.
    pub fn suspend(&mut self) -> io::Result<()> {
        self.kept.give_back();
        rustix::process::kill_current_process_group(rustix::process::Signal::TSTP)?;
        self.kept.take()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.kept.give_back();
    }
}

impl Kept {
    fn new(input: OwnedFd, output: OwnedFd) -> Self {
        Self {
            modes: tcgetattr(&input).ok(),
            input,
            output,
            is_changed: AtomicBool::new(false),
        }
    }

    fn take(&self) -> io::Result<()> {
        self.is_changed.store(true, Ordering::Relaxed);
        if let Some(modes) = &self.modes {
            let mut modes = modes.clone();
            let keys =
                LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG | LocalModes::IEXTEN;
            modes.local_modes.remove(keys);
            modes.input_modes.remove(InputModes::IXON);
            modes.special_codes[SpecialCodeIndex::VMIN] = 1;
            modes.special_codes[SpecialCodeIndex::VTIME] = 0;
            tcsetattr(&self.input, OptionalActions::Now, &modes)?;
        }
        self.write(ENTER)
    }

    /// Nobody can be told if that fails.
    fn give_back(&self) {
        if !self.is_changed.swap(false, Ordering::Relaxed) {
            return;
        }
        let _ = self.write(LEAVE);
        if let Some(modes) = &self.modes {
            let _ = tcsetattr(&self.input, OptionalActions::Now, modes);
        }
    }

    fn write(&self, text: &str) -> io::Result<()> {
        let mut left = text.as_bytes();
        while !left.is_empty() {
            match rustix::io::write(&self.output, left) {
                Ok(len) => left = &left[len..],
                Err(Errno::INTR) => {}
                // Somebody else's description of the terminal may be one that does not wait.
                Err(Errno::AGAIN) => {
                    let mut polled = [PollFd::new(&self.output, PollFlags::OUT)];
                    poll(&mut polled, None)?;
                }
                // Who looked at it has closed the window.
                Err(Errno::IO) => return Err(io::ErrorKind::BrokenPipe.into()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// What some bytes of a keyboard mean.
fn key(bytes: &[u8]) -> Option<Key> {
    match bytes {
        [b'\x1b', b'[' | b'O', rest @ ..] => match rest {
            [b'A', ..] => Some(Key::Up),
            [b'B', ..] => Some(Key::Down),
            [b'5', b'~', ..] => Some(Key::PageUp),
            [b'6', b'~', ..] => Some(Key::PageDown),
            _ => None,
        },
        bytes => bytes.iter().find_map(|byte| match byte {
            b'q' | b'Q' | 3 => Some(Key::Quit),
            26 => Some(Key::Suspend),
            b' ' => Some(Key::Now),
            b'k' => Some(Key::Up),
            b'j' => Some(Key::Down),
            _ => None,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};

    /// A pseudo terminal: our end, and the one that a program has.
    fn terminal() -> (OwnedFd, OwnedFd) {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
        let ours = openpt(flags).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let theirs = ioctl_tiocgptpeer(&ours, flags).unwrap();
        (ours, theirs)
    }

    #[test]
    fn a_panic_gives_the_terminal_back() {
        let (ours, theirs) = terminal();
        let modes = |fd: &OwnedFd| format!("{:?}", tcgetattr(fd).unwrap());
        let before = modes(&theirs);
        let (input, output) = (theirs.try_clone().unwrap(), theirs.try_clone().unwrap());
        let looks = || modes(&theirs);
        let panicked = std::panic::catch_unwind(move || {
            let mut terminal = Terminal::enter_at(input, output).unwrap();
            assert_ne!(looks(), before);
            terminal.show("a frame").unwrap();
            std::panic::resume_unwind(Box::new(before));
        });
        let before: Box<String> = panicked.unwrap_err().downcast().unwrap();
        assert_eq!(modes(&theirs), *before);
        // It may come in parts.
        let expected = format!("{ENTER}a frame{LEAVE}");
        let (mut said, mut bytes) = (Vec::new(), [0; 256]);
        while said.len() < expected.len() {
            let len = rustix::io::read(&ours, &mut bytes).unwrap();
            said.extend_from_slice(&bytes[..len]);
        }
        assert_eq!(String::from_utf8(said).unwrap(), expected);
    }

    #[test]
    fn keys_are_what_terminals_send() {
        for (bytes, expected) in [
            (&b"q"[..], Some(Key::Quit)),
            (b"xq", Some(Key::Quit)),
            (b"\x03", Some(Key::Quit)),
            (b"\x1a", Some(Key::Suspend)),
            (b"\x1b[A", Some(Key::Up)),
            (b"\x1bOB", Some(Key::Down)),
            (b"\x1b[5~", Some(Key::PageUp)),
            (b"\x1b[6~", Some(Key::PageDown)),
            (b"\x1b[1;5q", None),
            (b"\x1b", None),
            (b"", None),
        ] {
            assert_eq!(key(bytes), expected, "{bytes:?}");
        }
    }
}
