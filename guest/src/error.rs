//! What can go wrong between a tool and the driver.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// A failure of the DRM interface.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No render node belongs to nouveau.
    #[error("No nouveau render node under {0}")]
    NoDevice(PathBuf),
    /// A file cannot be opened.
    #[error("Cannot open {path}")]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel refused an ioctl.
    #[error("{what} failed")]
    Ioctl {
        /// The request in words.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A mapping cannot be made.
    #[error("Cannot map {0}")]
    Map(&'static str, #[source] io::Error),
    /// The GPU did not do in time what it was asked for.
    #[error("{what} did not happen within {limit:?}")]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        limit: Duration,
    },
    /// A submission is larger than the channel's command buffer.
    #[error("A push of {words} words does not fit into a command buffer of {limit}")]
    PushTooLong {
        /// Length of the push in 32-bit words.
        words: usize,
        /// Capacity of the command buffer in 32-bit words.
        limit: usize,
    },
}

impl Error {
    /// The errno of a refused ioctl.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Error::Ioctl { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}

/// Shorthand for results of this library.
pub type Result<T> = std::result::Result<T, Error>;
