//! Buffers: GEM objects as one open file of the node has them.

use std::sync::{Arc, Weak};

use guest::uapi;
use parking_lot::Mutex;

use crate::channel::Channel;
use crate::error::Error;
use crate::memory::{Block, Mapped};

/// What a buffer is apart from its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// As the program asked for it.
    pub tile_mode: u32,
    /// Storage kind in bits 8-15, and [`uapi::GEM_TILE_NONCONTIG`].
    pub tile_flags: u32,
}

impl Layout {
    /// The storage kind of its pages.
    pub fn kind(self) -> u8 {
        (self.tile_flags >> 8) as u8
    }
}

/// A buffer.
pub struct Buffer {
    mapped: Mapped,
    layout: Layout,
    uses: Mutex<Vec<Use>>,
}

/// A submission that uses a buffer.
struct Use {
    channel: Weak<Channel>,
    sequence: u32,
    writes: bool,
}

impl Use {
    /// The channel, unless the program has freed it.
    fn channel(&self) -> Option<Arc<Channel>> {
        self.channel
            .upgrade()
            .filter(|channel| !channel.is_closed())
    }
}

impl Buffer {
    /// The buffer behind a mapping.
    pub fn new(mapped: Mapped, layout: Layout) -> Self {
        Self {
            mapped,
            layout,
            uses: Mutex::default(),
        }
    }

    /// The memory behind it.
    pub fn block(&self) -> &Arc<Block> {
        self.mapped.block()
    }

    /// Its GPU virtual address, which also names it to `mmap`.
    pub fn va(&self) -> u64 {
        self.mapped.va()
    }

    /// What it is apart from its memory.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// How nouveau describes it.
    pub fn info(&self, handle: u32) -> uapi::GemInfo {
        uapi::GemInfo {
            handle,
            domain: match self.block().is_vram() {
                true => uapi::GEM_DOMAIN_VRAM,
                false => uapi::GEM_DOMAIN_GART,
            },
            size: self.block().size(),
            offset: self.va(),
            map_handle: self.va(),
            tile_mode: self.layout.tile_mode,
            tile_flags: self.layout.tile_flags,
        }
    }

    /// A submission uses it.
    pub fn used_by(&self, channel: &Arc<Channel>, sequence: u32, writes: bool) {
        let mut uses = self.uses.lock();
        let newer = |old: &Use| {
            std::ptr::eq(old.channel.as_ptr(), Arc::as_ptr(channel)) && (writes || !old.writes)
        };
        uses.retain(|old| !newer(old) && old.channel().is_some());
        uses.push(Use {
            channel: Arc::downgrade(channel),
            sequence,
            writes,
        });
    }

    /// Waits until the processor may read it, or write it.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] instead of waiting, if the program wants that; [`Error::Dead`] if the
    /// channel of a submission that uses it died.
    pub fn prepare(&self, write: bool, no_wait: bool) -> Result<(), Error> {
        let uses = self.uses.lock();
        let waits: Vec<_> = uses
            .iter()
            .filter(|used| write || used.writes)
            .filter_map(|used| Some((used.channel()?, used.sequence)))
            .collect();
        drop(uses);
        for (channel, sequence) in waits {
            if no_wait && !channel.passed(sequence) {
                return Err(Error::Busy);
            }
            channel.wait(sequence)?;
        }
        Ok(())
    }
}
