//! The operator's terminal: raw while a guest has it, as it was before afterwards, also when the
//! process dies of an error of its own.

use std::io;
use std::os::fd::RawFd;

use parking_lot::Mutex;

/// The settings to go back to.
static SAVED: Mutex<Option<libc::termios>> = Mutex::new(None);

/// Signals by which a process dies at once, without a chance to drop anything.
const DEADLY: [i32; 5] = [
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGILL,
    libc::SIGSEGV,
];

/// Keeps the terminal raw until it is dropped.
#[derive(Debug)]
pub struct RawTerminal(());

impl RawTerminal {
    /// Makes standard input raw, if it is a terminal: every key goes to the guest as it is.
    /// Output keeps its processing, so that log lines stay readable.
    pub fn new() -> io::Result<Option<Self>> {
        // SAFETY: `isatty` takes any number.
        if unsafe { libc::isatty(libc::STDIN_FILENO) } == 0 {
            return Ok(None);
        }
        let before = attributes(libc::STDIN_FILENO)?;
        let mut raw = before;
        raw.c_iflag &= !(libc::IGNBRK
            | libc::BRKINT
            | libc::PARMRK
            | libc::ISTRIP
            | libc::INLCR
            | libc::IGNCR
            | libc::ICRNL
            | libc::IXON);
        raw.c_lflag &= !(libc::ECHO | libc::ECHONL | libc::ICANON | libc::ISIG | libc::IEXTEN);
        raw.c_cflag = raw.c_cflag & !(libc::CSIZE | libc::PARENB) | libc::CS8;
        raw.c_cc[libc::VMIN] = 1;
        raw.c_cc[libc::VTIME] = 0;
        *SAVED.lock() = Some(before);
        for signal in DEADLY {
            restore_at(signal)?;
        }
        set_attributes(libc::STDIN_FILENO, &raw)?;
        Ok(Some(RawTerminal(())))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        restore();
    }
}

/// Puts the terminal back, where it was made raw. For exits that drop nothing: it may be called
/// from a signal handler, and then does nothing in the instant in which the settings change.
pub fn restore() {
    if let Some(mut saved) = SAVED.try_lock()
        && let Some(before) = saved.take()
    {
        // There is nobody left to tell.
        let _ = set_attributes(libc::STDIN_FILENO, &before);
    }
}

/// Puts the terminal back when `signal` comes, before it does what it does to a process.
fn restore_at(signal: i32) -> io::Result<()> {
    extern "C" fn handle(signal: i32) {
        restore();
        // SAFETY: any thread may raise a signal; the handler is gone by now.
        unsafe { libc::raise(signal) };
    }
    // SAFETY: a sigaction of zeros is a valid value: no flags, nothing blocked.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handle as extern "C" fn(i32) as usize;
    action.sa_flags = libc::SA_RESETHAND | libc::SA_ONSTACK;
    // SAFETY: `action` is complete, and its handler calls only what signal handlers may.
    match unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn attributes(fd: RawFd) -> io::Result<libc::termios> {
    // SAFETY: a termios of zeros is a valid value to be overwritten.
    let mut attributes = unsafe { std::mem::zeroed() };
    // SAFETY: `attributes` is a termios.
    match unsafe { libc::tcgetattr(fd, &raw mut attributes) } {
        0 => Ok(attributes),
        _ => Err(io::Error::last_os_error()),
    }
}

fn set_attributes(fd: RawFd, attributes: &libc::termios) -> io::Result<()> {
    // SAFETY: `attributes` is a termios.
    match unsafe { libc::tcsetattr(fd, libc::TCSANOW, attributes) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
