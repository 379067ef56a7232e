//! What a GF100 offers its owner.

use std::fs::File;
use std::io;
use std::time::Duration;

use mmio::{Bar, RegId};

use crate::stretch::Stretches;

/// What a DMA window lets the card do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protection {
    /// Loads.
    pub read: bool,
    /// Stores.
    pub write: bool,
}

/// A card: the software card in this process, or one on the bus.
///
/// Accesses may come from several threads at once. What cannot be loaded reads as ones; what
/// cannot be stored is dropped.
pub trait Card: Send + Sync {
    /// Bytes of a BAR.
    fn bar_size(&self, bar: Bar) -> u64;

    /// Loads from a BAR.
    fn read(&self, bar: Bar, offset: u64, data: &mut [u8]);

    /// Stores to a BAR.
    fn write(&self, bar: Bar, offset: u64, data: &[u8]);

    /// Looks for work of channel `chid`, whose put index was stored by a way on which the card sees
    /// no stores. A card on the bus sees all that are made through BAR1.
    fn look(&self, chid: u32);

    /// Loads from configuration space.
    fn config_read(&self, offset: u64, data: &mut [u8]);

    /// Opens a DMA window at bus address `iova` on `size` bytes of `file` from `offset`.
    ///
    /// # Errors
    ///
    /// When the window overlaps another or cannot be mapped.
    fn dma_map(
        &self,
        iova: u64,
        size: u64,
        protection: Protection,
        file: File,
        offset: u64,
    ) -> io::Result<()>;

    /// Closes the windows inside `size` bytes at `iova`.
    fn dma_unmap(&self, iova: u64, size: u64);

    /// Waits until the card sends its message, `at_most` that long; whether it did. One thread
    /// waits.
    fn wait_interrupt(&self, at_most: Duration) -> bool;

    /// From now on the card's BARs lead to `stretches` of its memory. For cards that have no shorter way
    /// to it.
    fn show(&self, stretches: &Stretches) {
        let _ = stretches;
    }

    /// Loads video memory, if the card has a way to it without a window; whether it has.
    fn vram_read(&self, address: u64, data: &mut [u8]) -> bool {
        let _ = (address, data);
        false
    }

    /// Stores to video memory, likewise: of 8 aligned bytes all or none are seen.
    fn vram_write(&self, address: u64, data: &[u8]) -> bool {
        let _ = (address, data);
        false
    }

    /// Lets the card see what [`vram_write`](Self::vram_write) has stored so far; `mapped`: and what
    /// others stored through mappings of video memory. For cards that would see it later than a store
    /// to a register.
    fn flush(&self, mapped: bool) {
        let _ = mapped;
    }

    /// Memory of this process of `size` bytes, which the card's engines see at bus address `iova` from
    /// now on, for blocks of video memory that they copy there; `None` if loads are as quick.
    fn stage(&self, iova: u64, size: u64) -> Option<File> {
        let _ = (iova, size);
        None
    }

    /// Clears `len` bytes of video memory at `address`, if the card has a quicker way to that than
    /// stores; whether it did.
    fn scrub(&self, address: u64, len: u64) -> bool;
}

/// Registers of a card, a word at a time.
pub trait Registers {
    /// Loads the register at `offset` of BAR0.
    fn load(&self, offset: u32) -> u32;

    /// Stores to the register at `offset` of BAR0.
    fn store(&self, offset: u32, value: u32);

    /// Loads a register.
    fn get(&self, register: RegId) -> u32 {
        self.load(register.offset())
    }

    /// Stores to a register.
    fn set(&self, register: RegId, value: u32) {
        self.store(register.offset(), value);
    }
}

impl Registers for dyn Card + '_ {
    fn load(&self, offset: u32) -> u32 {
        let mut word = [0; 4];
        self.read(Bar::Bar0, offset.into(), &mut word);
        u32::from_le_bytes(word)
    }

    fn store(&self, offset: u32, value: u32) {
        self.write(Bar::Bar0, offset.into(), &value.to_le_bytes());
    }
}
