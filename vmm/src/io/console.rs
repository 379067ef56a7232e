//! Between the operator's standard streams and the guest's serial port.

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;

use event_manager::{EventOps, Events, MutEventSubscriber};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::eventfd::EventFd;

use super::watch;
use crate::devices::serial::Serial;
use crate::ending::{EndSwitch, Ending};

/// Most bytes taken from standard input ahead of the guest.
const AHEAD: usize = 256;
/// Longest line that is kept together.
const LONGEST_LINE: usize = 4096;
/// Ctrl-A: the next key is for the VMM.
const ESCAPE: u8 = 0x01;
/// After [`ESCAPE`]: end the machine.
const ESCAPE_QUIT: u8 = b'x';

/// Where a guest's console is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ConsolePlace {
    /// Standard input and output.
    #[default]
    Terminal,
    /// Standard output, each line behind the machine's name.
    Lines(String),
    /// A file, which is replaced.
    File(PathBuf),
}

impl fmt::Display for ConsolePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConsolePlace::Terminal | ConsolePlace::Lines(_) => f.write_str("on the terminal"),
            ConsolePlace::File(path) => path.display().fmt(f),
        }
    }
}

impl ConsolePlace {
    /// Where output goes, of the machine that `end` ends.
    pub fn output(&self, end: Arc<EndSwitch>) -> io::Result<Box<dyn Write + Send>> {
        Ok(match self {
            ConsolePlace::Terminal => Box::new(Output { end }),
            ConsolePlace::Lines(name) => Box::new(Lines {
                prefix: format!("{name}| ").into_bytes(),
                line: Vec::new(),
                out: Output { end },
            }),
            ConsolePlace::File(path) => Box::new(File::create(path)?),
        })
    }

    /// Where input comes from.
    pub fn input(&self) -> io::Result<File> {
        match self {
            ConsolePlace::Terminal => Ok(io::stdin().as_fd().try_clone_to_owned()?.into()),
            _ => File::open("/dev/null"),
        }
    }
}

/// Standard output, unbuffered: the end of a crash is what matters most.
struct Output {
    end: Arc<EndSwitch>,
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // SAFETY: the buffer is valid for its length.
        let written =
            unsafe { libc::write(libc::STDOUT_FILENO, bytes.as_ptr().cast(), bytes.len()) };
        if written >= 0 {
            return Ok(written.cast_unsigned());
        }
        let error = io::Error::last_os_error();
        // A reader that stopped reading must not keep the machine from ending.
        if error.kind() == io::ErrorKind::Interrupted && self.end.pulled().is_some() {
            return Ok(bytes.len());
        }
        Err(error)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Output in whole lines, so that those of several machines do not mix.
struct Lines<W: Write> {
    prefix: Vec<u8>,
    line: Vec<u8>,
    out: W,
}

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for &byte in bytes {
            if self.line.is_empty() {
                self.line.extend_from_slice(&self.prefix);
            }
            self.line.push(byte);
            if byte == b'\n' || self.line.len() >= LONGEST_LINE {
                self.flush()?;
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut line = std::mem::take(&mut self.line);
        if line.last().is_some_and(|last| *last != b'\n') {
            line.push(b'\n');
        }
        self.out.write_all(&line)
    }
}

impl<W: Write> Drop for Lines<W> {
    fn drop(&mut self) {
        // There is nobody left to tell.
        let _ = self.flush();
    }
}

/// Feeds standard input to the serial port.
pub struct Console<R: Read, W: Write> {
    input: R,
    port: Arc<Serial<W>>,
    drained: EventFd,
    end: Arc<EndSwitch>,
    /// Ctrl-A is ours: somebody sits at a terminal.
    interactive: bool,
    escaped: bool,
    waiting: VecDeque<u8>,
    watching: bool,
    ended: bool,
}

impl<R: Read + std::os::fd::AsRawFd, W: Write> Console<R, W> {
    /// From `input` to `port`, which signals `drained`.
    pub fn new(
        input: R,
        port: Arc<Serial<W>>,
        drained: EventFd,
        end: Arc<EndSwitch>,
        interactive: bool,
    ) -> Self {
        Console {
            input,
            port,
            drained,
            end,
            interactive,
            escaped: false,
            waiting: VecDeque::new(),
            watching: false,
            ended: false,
        }
    }

    /// Takes what was typed; keeps what is for the VMM.
    fn typed(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if !self.interactive {
                self.waiting.push_back(byte);
            } else if std::mem::take(&mut self.escaped) {
                match byte {
                    ESCAPE_QUIT => self.end.pull(Ending::Stopped),
                    ESCAPE => self.waiting.push_back(ESCAPE),
                    _ => {}
                }
            } else if byte == ESCAPE {
                self.escaped = true;
            } else {
                self.waiting.push_back(byte);
            }
        }
    }

    fn pass_on(&mut self) {
        let taken = self.port.receive(self.waiting.make_contiguous());
        self.waiting.drain(..taken);
    }

    /// Watches the input only while there is room for it.
    fn adjust(&mut self, ops: &mut EventOps) {
        let wanted = self.waiting.is_empty() && !self.ended;
        if wanted == self.watching {
            return;
        }
        let events = Events::new(&self.input, EventSet::IN);
        if wanted {
            // A file on disk cannot be waited for: then the guest gets no input.
            self.watching = watch(ops, events);
            self.ended = !self.watching;
        } else {
            self.watching = ops.remove(events).is_err();
        }
    }
}

impl<R: Read + std::os::fd::AsRawFd + Send, W: Write + Send> MutEventSubscriber for Console<R, W> {
    fn init(&mut self, ops: &mut EventOps) {
        watch(ops, Events::new(&self.drained, EventSet::IN));
        self.adjust(ops);
    }

    fn process(&mut self, events: Events, ops: &mut EventOps) {
        if events.fd() == std::os::fd::AsRawFd::as_raw_fd(&self.drained) {
            // Reading only clears the event.
            let _ = self.drained.read();
        } else {
            let mut bytes = [0; AHEAD];
            match self.input.read(&mut bytes) {
                Ok(0) => self.ended = true,
                Ok(count) => self.typed(&bytes[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.ended = true,
            }
        }
        self.pass_on();
        self.adjust(ops);
    }
}

#[cfg(test)]
mod tests {
    use vm_device::DevicePio;
    use vm_device::bus::PioAddress;
    use vmm_sys_util::eventfd::EFD_NONBLOCK;

    use super::*;

    fn console(interactive: bool) -> Console<File, Vec<u8>> {
        let event = || EventFd::new(EFD_NONBLOCK).unwrap();
        let drained = event();
        let port = Serial::new(event(), drained.try_clone().unwrap(), Vec::new());
        let end = Arc::new(EndSwitch::new().unwrap());
        let input = File::open("/dev/null").unwrap();
        Console::new(input, port, drained, end, interactive)
    }

    fn received(console: &Console<File, Vec<u8>>) -> u8 {
        let mut byte = [0];
        console.port.pio_read(PioAddress(0x3f8), 0, &mut byte);
        byte[0]
    }

    #[test]
    fn escape_x_stops_the_machine() {
        let mut console = console(true);

        console.typed(&[ESCAPE, ESCAPE_QUIT]);

        assert_eq!(console.end.pulled(), Some(Ending::Stopped));
    }

    #[test]
    fn escape_twice_is_for_the_guest() {
        let mut console = console(true);

        console.typed(&[ESCAPE, ESCAPE]);
        console.pass_on();

        assert_eq!(received(&console), ESCAPE);
        assert_eq!(console.end.pulled(), None);
    }

    #[test]
    fn lines_are_whole_and_named() {
        let mut lines = Lines {
            prefix: b"vm1| ".to_vec(),
            line: Vec::new(),
            out: Vec::new(),
        };

        lines.write_all(b"login").unwrap();
        assert_eq!(lines.out, b"");
        lines.write_all(b": a\nrest").unwrap();
        lines.flush().unwrap();

        assert_eq!(lines.out, b"vm1| login: a\nvm1| rest\n");
    }

    #[test]
    fn piped_input_has_no_escape() {
        let mut console = console(false);

        console.typed(&[ESCAPE, ESCAPE_QUIT]);
        console.pass_on();

        assert_eq!(received(&console), ESCAPE);
        assert_eq!(console.end.pulled(), None);
    }
}
