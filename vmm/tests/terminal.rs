//! `gpuvm run` at a terminal: however it ends, the terminal is as it was.
//!
//! Without `/dev/kvm` only the end that is an error is tested.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// Where the kernel of the tests is in its file, and in memory.
const CODE: usize = 0x1000;
const LOADED: u64 = 0x10_0000;

/// A terminal, and the program at it.
struct Terminal {
    /// The operator's end.
    keyboard: File,
    /// The program's end.
    line: OwnedFd,
    before: libc::termios,
}

impl Terminal {
    fn new() -> Self {
        let (mut keyboard, mut line) = (-1, -1);
        let (name, settings, size) = (std::ptr::null_mut(), std::ptr::null(), std::ptr::null());
        // SAFETY: both places are there, and the other operands may be null.
        let made = unsafe { libc::openpty(&raw mut keyboard, &raw mut line, name, settings, size) };
        assert_eq!(made, 0, "no terminal is to be had");
        // SAFETY: the call made both descriptors, which nothing else owns.
        let (keyboard, line) = unsafe { (File::from_raw_fd(keyboard), OwnedFd::from_raw_fd(line)) };
        let before = attributes(&line);
        Self {
            keyboard,
            line,
            before,
        }
    }

    /// Starts `gpuvm run` of `kernel` at the terminal.
    fn run(&self, kernel: &Path) -> Child {
        Command::new(env!("CARGO_BIN_EXE_gpuvm"))
            .args(["run", "--memory", "16M", "--kernel"])
            .arg(kernel)
            .stdin(Stdio::from(self.line.try_clone().unwrap()))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn is_raw(&self) -> bool {
        attributes(&self.line).c_lflag & libc::ICANON == 0
    }

    fn is_as_before(&self) -> bool {
        let now = attributes(&self.line);
        let before = &self.before;
        (now.c_iflag, now.c_oflag, now.c_cflag, now.c_lflag, now.c_cc)
            == (
                before.c_iflag,
                before.c_oflag,
                before.c_cflag,
                before.c_lflag,
                before.c_cc,
            )
    }
}

fn attributes(line: &OwnedFd) -> libc::termios {
    // SAFETY: a termios of zeros is a valid value to be overwritten.
    let mut attributes = unsafe { std::mem::zeroed() };
    // SAFETY: `attributes` is a termios.
    let read = unsafe { libc::tcgetattr(line.as_raw_fd(), &raw mut attributes) };
    assert_eq!(read, 0);
    attributes
}

/// An ELF file with a PVH entry point, at which a processor stays for ever.
fn spinning_kernel(directory: &Path) -> std::path::PathBuf {
    let entry = LOADED as u32;
    let note = [
        &[4, 0, 0, 0, 4, 0, 0, 0, 18, 0, 0, 0][..],
        b"Xen\0",
        &entry.to_le_bytes(),
    ]
    .concat();
    let code = [0xeb, 0xfe];
    let header = |kind: u32, offset: u64, address: u64, size: u64| {
        let words = [offset, address, address, size, size, 0x1000];
        let flags = 7u32;
        let words = words.iter().flat_map(|word| word.to_le_bytes());
        let head = [kind.to_le_bytes(), flags.to_le_bytes()].concat();
        head.into_iter().chain(words).collect::<Vec<u8>>()
    };
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    // An executable for x86-64 with two program headers, of 56 bytes, behind this one of 64.
    file.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    file.extend(LOADED.to_le_bytes());
    file.extend(64u64.to_le_bytes());
    file.extend([0; 12]);
    file.extend([64, 0, 56, 0, 2, 0, 64, 0, 0, 0, 0, 0]);
    file.extend(header(1, CODE as u64, LOADED, code.len() as u64));
    file.extend(header(4, 0x200, 0, note.len() as u64));
    file.resize(0x200, 0);
    file.extend(note);
    file.resize(CODE, 0);
    file.extend(code);
    let path = directory.join("kernel");
    std::fs::write(&path, file).unwrap();
    path
}

fn wait(child: &mut Child) -> ExitStatus {
    let begin = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(begin.elapsed() < PATIENCE, "it does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn errors(child: &mut Child) -> String {
    let mut text = String::new();
    let mut stderr = child.stderr.take().unwrap();
    stderr.read_to_string(&mut text).unwrap();
    text
}

/// Runs a guest that never ends until the terminal is raw, ends it by `end`, and says how that went.
fn ended_by(end: impl FnOnce(&mut Terminal, &Child)) -> Option<ExitStatus> {
    if !Path::new("/dev/kvm").exists() {
        eprintln!("No /dev/kvm: nothing is tested");
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    let kernel = spinning_kernel(directory.path());
    let mut terminal = Terminal::new();
    let mut child = terminal.run(&kernel);
    let begin = Instant::now();
    while !terminal.is_raw() {
        let early = child.try_wait().unwrap();
        assert!(early.is_none(), "it ended early: {}", errors(&mut child));
        assert!(begin.elapsed() < PATIENCE, "the terminal is not raw");
        std::thread::sleep(Duration::from_millis(5));
    }
    // Mostly the guest runs by then; nothing depends on that.
    std::thread::sleep(Duration::from_millis(300));
    end(&mut terminal, &child);
    let status = wait(&mut child);
    assert!(terminal.is_as_before(), "{status}: {}", errors(&mut child));
    Some(status)
}

fn send(child: &Child, signal: libc::c_int) {
    // SAFETY: the child is ours, and has not been waited for.
    let sent = unsafe { libc::kill(child.id().cast_signed(), signal) };
    assert_eq!(sent, 0);
}

#[test]
fn a_guest_that_cannot_start_leaves_the_terminal_as_it_was() {
    let terminal = Terminal::new();
    let mut child = terminal.run(Path::new("/dev/null"));

    let status = wait(&mut child);

    assert_eq!(status.code(), Some(1));
    assert!(terminal.is_as_before());
}

#[test]
fn keys_that_end_a_guest_leave_the_terminal_as_it_was() {
    let status = ended_by(|terminal, _| terminal.keyboard.write_all(b"\x01x").unwrap());

    assert!(
        status.is_none_or(|status| status.code() == Some(5)),
        "{status:?}"
    );
}

#[test]
fn signals_that_end_it_leave_the_terminal_as_it_was() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        let status = ended_by(|_, child| send(child, signal));

        let code = Some(128 + signal);
        assert!(
            status.is_none_or(|status| status.code() == code),
            "{status:?}"
        );
    }
}

#[test]
fn a_crash_of_its_own_leaves_the_terminal_as_it_was() {
    let status = ended_by(|_, child| send(child, libc::SIGSEGV));

    let signal = Some(libc::SIGSEGV);
    assert!(
        status.is_none_or(|status| status.signal() == signal),
        "{status:?}"
    );
}
