//! File descriptors of the node: which they are, and the open file behind each.
//!
//! The descriptors are real ones, of the node's stand-in in the [`tree`](crate::tree), so that
//! whatever this library does not know of (a process that inherits them, `poll`) works as with any
//! file. Descriptors of this process that are not the node's cost one look at a bitmap.

use std::collections::HashMap;
use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, OnceLock};

use parking_lot::RwLock;

use crate::buffer::{Buffer, Layout};
use crate::client::Client;
use crate::device::Device;
use crate::memory::Block;
use crate::settings::{self, Settings};

/// Descriptors that can be the node's; the kernel gives the lowest that are free.
const DESCRIPTORS: usize = 1 << 16;

/// Which descriptors are in [`FILES`].
static KNOWN: [AtomicU64; DESCRIPTORS / 64] = [const { AtomicU64::new(0) }; DESCRIPTORS / 64];
static FILES: LazyLock<RwLock<HashMap<RawFd, Open>>> = LazyLock::new(RwLock::default);
static DEVICE: OnceLock<Option<Arc<Device>>> = OnceLock::new();

/// What a descriptor stands for.
#[derive(Clone)]
enum Open {
    /// The node.
    Node(Arc<Client>),
    /// A buffer that was given out.
    Buffer(Arc<Block>, Layout),
}

/// The card of this process. `None`, after a word to the user, if there is none.
fn device() -> Option<&'static Arc<Device>> {
    let make = || {
        settings::start_log();
        match Device::new(Settings::from_environment()) {
            Ok(device) => Some(device),
            Err(error) => {
                let source = std::error::Error::source(&error);
                let cause = source.map_or_else(String::new, |source| format!(": {source}"));
                eprintln!("gf100-drm: {error}{cause}");
                None
            }
        }
    };
    DEVICE.get_or_init(make).as_ref()
}

fn bit(fd: RawFd) -> Option<(&'static AtomicU64, u64)> {
    let index = usize::try_from(fd).ok()?;
    Some((KNOWN.get(index / 64)?, 1 << (index % 64)))
}

fn insert(fd: RawFd, open: Open) -> bool {
    let Some((word, bit)) = bit(fd) else {
        return false;
    };
    FILES.write().insert(fd, open);
    word.fetch_or(bit, Ordering::Release);
    true
}

fn get(fd: RawFd) -> Option<Open> {
    let (word, bit) = bit(fd)?;
    if word.load(Ordering::Acquire) & bit == 0 {
        return None;
    }
    FILES.read().get(&fd).cloned()
}

/// The node was opened as `fd`; `false` if it cannot be.
pub fn opened(fd: RawFd) -> bool {
    let client = device().and_then(|device| Client::new(device).ok());
    client.is_some_and(|client| insert(fd, Open::Node(Arc::new(client))))
}

/// `old` was duplicated as `new`.
pub fn duplicated(old: RawFd, new: RawFd) {
    if let Some(open) = get(old) {
        insert(new, open);
    }
}

/// `fd` is about to be closed.
pub fn closing(fd: RawFd) {
    if let Some((word, bit)) = bit(fd)
        && word.fetch_and(!bit, Ordering::AcqRel) & bit != 0
    {
        // What goes with the last descriptor waits for the card, so not under the lock.
        let open = FILES.write().remove(&fd);
        drop(open);
    }
}

/// The open file behind `fd`, if it is the node's.
pub fn client(fd: RawFd) -> Option<Arc<Client>> {
    match get(fd)? {
        Open::Node(client) => Some(client),
        Open::Buffer(..) => None,
    }
}

/// All open files.
pub fn clients() -> Vec<Arc<Client>> {
    let files = FILES.read();
    let clients = files.values().filter_map(|open| match open {
        Open::Node(client) => Some(client.clone()),
        Open::Buffer(..) => None,
    });
    clients.collect()
}

/// The card, if a file of the node was ever opened.
pub fn used_device() -> Option<&'static Arc<Device>> {
    DEVICE.get()?.as_ref()
}

/// A descriptor for a buffer, to be taken in by [`shared_buffer`].
pub fn share(block: Arc<Block>, layout: Layout, close_on_exec: bool) -> Option<RawFd> {
    let (file, _) = block.file();
    let command = match close_on_exec {
        true => libc::F_DUPFD_CLOEXEC,
        false => libc::F_DUPFD,
    };
    // SAFETY: a plain system call; the file is the memory's and open.
    let fd = unsafe { libc::fcntl(file, command, 0) };
    insert(fd, Open::Buffer(block, layout)).then_some(fd)
}

/// The buffer that a descriptor stands for.
pub fn shared_buffer(fd: RawFd) -> Option<(Arc<Block>, Layout)> {
    match get(fd)? {
        Open::Buffer(block, layout) => Some((block, layout)),
        Open::Node(_) => None,
    }
}

/// What a mapping of a descriptor of the node shows.
pub struct Shown {
    /// Where that is in this process already, and stays.
    pub host: NonNull<u8>,
    /// The file that it is a part of, and where in it.
    pub file: (RawFd, u64),
}

/// What a mapping of `fd` at `offset` shows, if there is something; nothing for a descriptor that
/// is not the node's.
pub fn mapping(fd: RawFd, offset: u64, len: u64) -> Option<Option<Shown>> {
    let within = |block: &Block, from: u64| {
        let (file, start) = block.file();
        let end = from.checked_add(len)?;
        (end <= block.size().next_multiple_of(crate::memory::PAGE)).then(|| Shown {
            // SAFETY: inside the block, of which all is mapped.
            host: unsafe { block.host().add(from as usize) },
            file: (file, start + from),
        })
    };
    Some(match get(fd)? {
        Open::Node(client) => client
            .buffer_to_map(offset)
            .and_then(|buffer: Arc<Buffer>| within(buffer.block(), 0)),
        Open::Buffer(block, _) => within(&block, offset),
    })
}

/// Whether an address of this process is in the card's memory.
pub fn is_shown(address: *const u8) -> bool {
    used_device().is_some_and(|device| device.vram.shows(address) || device.gart.shows(address))
}
