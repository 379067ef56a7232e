//! Why windows are refused, and how many there may be.

use std::io;

use thiserror::Error;

/// Windows that may be open at once, those that continue each other counted as one: the RAM of a
/// guest with 4 GiB in the worst of orders.
pub(super) const MAX_WINDOWS: usize = 1 << 20;
/// Files that may be mapped at once: well below what a process may have, as there are other users
/// of that.
pub(super) const MAX_FILES: usize = 4096;

/// Why a window was not opened.
#[derive(Debug, Error)]
pub enum DmaError {
    /// Address, size or file offset is not a multiple of 4 KiB, the window is empty or wraps.
    #[error("Window {iova:#x}+{size:#x} is not made of whole pages")]
    Shape {
        /// Bus address.
        iova: u64,
        /// Bytes.
        size: u64,
    },
    /// Part of it is open already.
    #[error("Window {iova:#x}+{size:#x} overlaps an open one")]
    Overlap {
        /// Bus address.
        iova: u64,
        /// Bytes.
        size: u64,
    },
    /// There are too many to keep.
    #[error("{MAX_WINDOWS} windows are open, which is the limit")]
    TooManyWindows,
    /// There are too many files behind them.
    #[error("There are open windows on {MAX_FILES} files, which is the limit")]
    TooManyFiles,
    /// The file lost memory that another window led to.
    #[error("Memory of the window's file is gone, and windows on it are still open")]
    Lost,
    /// The file cannot be mapped so.
    #[error("Cannot map the window's memory")]
    Map(#[source] io::Error),
}
