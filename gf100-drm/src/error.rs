//! Why a request fails, and the number that says so to its program.

use thiserror::Error;

/// Why a request fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// No such handle, channel, class or parameter, or an argument that makes no sense.
    #[error("Invalid argument")]
    Invalid,
    /// No buffer with that handle.
    #[error("No such buffer")]
    NoEntry,
    /// Memory, addresses or channels have run out.
    #[error("Out of memory")]
    NoMemory,
    /// The channel was killed.
    #[error("The channel is dead")]
    Dead,
    /// The buffer is in use, and the program does not want to wait.
    #[error("In use")]
    Busy,
    /// No such request.
    #[error("Not supported")]
    NotSupported,
}

impl Error {
    /// As nouveau numbers it.
    pub fn errno(self) -> i32 {
        match self {
            Error::Invalid => libc::EINVAL,
            Error::NoEntry => libc::ENOENT,
            Error::NoMemory => libc::ENOMEM,
            Error::Dead => libc::ENODEV,
            Error::Busy => libc::EBUSY,
            Error::NotSupported => libc::ENOTTY,
        }
    }
}
