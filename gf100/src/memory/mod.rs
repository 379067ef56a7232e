//! The card's memory system: video memory, the bus, the MMU and its TLBs, and the apertures.
//!
//! * [`Memory`] is what every part of the card shares: [`Vram`], the windows onto its bus
//!   ([`DmaSpace`]), and the knowledge of which translations are out of date.
//! * [`Client`] is one engine's view of one address space, with a TLB of its own.
//! * [`BarWindow`] and [`Pramin`] are the CPU's views.
//! * [`blocklinear`] is the layout of tiled surfaces.
//!
//! # What is ordered with what
//!
//! Accesses are made under a [`Guard`]. A TLB flush ([`Memory::flush`], the write of 0x100cbc) is
//! complete when it returns: the next access of any client sees the new tables. An access that is
//! already in flight (a word, or a span that was obtained and is still held under its guard)
//! finishes on the old translation; nothing waits for it, as on hardware software idles a channel
//! before it reuses memory. Closing a DMA window does wait: after [`DmaSpace::unmap`] the card does
//! not touch that memory again, whatever the page tables say.
//!
//! A TLB never outlives what is safe: video memory is mapped as long as [`Memory`] lives, and
//! closing a window flushes every TLB before it waits.

mod aliases;
mod bar;
pub mod blocklinear;
mod client;
mod dma;
mod dma_error;
mod epoch;
mod fault;
mod files;
mod gate;
mod lost;
mod mapping;
mod mmu;
mod span;
mod tables;
mod tlb;
mod vram;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fmt, io};

use mmio::layout::pagetable::{Aperture, Geometry};
use thiserror::Error;

use self::aliases::Aliases;
pub use self::bar::{BarId, BarWindow, Pramin};
pub use self::client::Client;
pub use self::dma::{DmaSpace, Protection};
pub use self::dma_error::DmaError;
use self::epoch::Epochs;
pub use self::epoch::Flush;
pub use self::fault::{
    Access, Fault, FaultClient, FaultReason, FaultReport, FaultUnit, GpcClient, HubClient,
};
use self::gate::Gate;
pub use self::gate::Guard;
pub use self::mmu::{Privilege, Space, Translation};
pub use self::span::{HostSpan, Word};
pub use self::tables::Tables;
pub use self::vram::Vram;

/// An address behind the MMU.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PhysAddr {
    /// Which memory.
    pub aperture: Aperture,
    /// Byte address there; for system memory, an address on the card's bus.
    pub address: u64,
}

impl PhysAddr {
    /// An address in video memory.
    pub const fn vram(address: u64) -> Self {
        Self {
            aperture: Aperture::Vram,
            address,
        }
    }

    /// An address in system memory, snooped.
    pub const fn system(address: u64) -> Self {
        Self {
            aperture: Aperture::SysCoherent,
            address,
        }
    }

    /// The address `offset` bytes on.
    pub const fn offset(self, offset: u64) -> Self {
        Self {
            address: self.address.wrapping_add(offset),
            ..self
        }
    }

    /// The instance block that a channel register names: page in bits 0-27, target in 28-29.
    ///
    /// Source: ENV `rnndb/g80_defs.xml` g80_channel.
    pub const fn from_channel_word(word: u32) -> Option<Self> {
        match Aperture::from_target((word >> 28) as u64) {
            Some(aperture) => Some(Self {
                aperture,
                address: ((word & 0x0fff_ffff) as u64) << 12,
            }),
            None => None,
        }
    }

    /// How a channel register names this instance block.
    pub const fn to_channel_word(self) -> u32 {
        (self.address >> 12) as u32 & 0x0fff_ffff | (self.aperture.target() as u32) << 28
    }
}

impl fmt::Debug for PhysAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}:{:#x}", self.aperture, self.address)
    }
}

/// Nothing took a physical access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BusError {
    /// Behind the end of video memory, or outside every DMA window.
    #[error("Nothing answers at {address:#x}")]
    Nothing {
        /// Where.
        address: u64,
    },
    /// In a DMA window that does not allow it.
    #[error("The DMA window at {address:#x} does not allow the access")]
    Protection {
        /// Where.
        address: u64,
    },
}

/// What the parts of [`Memory`] have in common.
struct Shared {
    gate: Gate,
    epochs: Epochs,
}

impl Shared {
    fn new() -> Self {
        Self {
            gate: Gate::default(),
            epochs: Epochs::new(),
        }
    }
}

/// All memory that the card reaches.
pub struct Memory {
    vram: Vram,
    dma: DmaSpace,
    shared: Arc<Shared>,
    /// Large pages are 64 KiB.
    large_64k: AtomicBool,
    aliases: Aliases,
}

impl Memory {
    /// A card with `vram` bytes of video memory and no DMA windows.
    ///
    /// # Errors
    ///
    /// See [`Vram::new`].
    pub fn new(vram: u64) -> io::Result<Arc<Self>> {
        let shared = Arc::new(Shared::new());
        Ok(Arc::new(Self {
            vram: Vram::new(vram)?,
            dma: DmaSpace::new(shared.clone()),
            shared,
            large_64k: AtomicBool::new(false),
            aliases: Aliases::default(),
        }))
    }

    /// Video memory.
    #[inline]
    pub fn vram(&self) -> &Vram {
        &self.vram
    }

    /// The windows onto the bus.
    pub fn dma(&self) -> &DmaSpace {
        &self.dma
    }

    /// Starts an access, or a bounded batch of them.
    #[inline]
    pub fn enter(&self) -> Guard<'_> {
        self.shared.gate.enter()
    }

    /// Makes translations that were cached before out of date; see the module's notes on ordering.
    pub fn flush(&self, flush: Flush) {
        self.shared.epochs.flush(flush);
    }

    /// The size of large pages, bit 0 of 0x100c80. Takes effect for the next access.
    pub fn set_geometry(&self, geometry: Geometry) {
        self.large_64k
            .store(geometry == Geometry::Large64K, Ordering::SeqCst);
        self.flush(Flush::All);
    }

    /// The size of large pages.
    pub fn geometry(&self) -> Geometry {
        match self.large_64k.load(Ordering::SeqCst) {
            true => Geometry::Large64K,
            false => Geometry::Large128K,
        }
    }

    /// The memory from `at` as far as it is contiguous: at least one byte.
    ///
    /// # Errors
    ///
    /// Nothing is there, or the window forbids the access.
    ///
    /// # Panics
    ///
    /// The guard is of another card.
    #[inline]
    pub fn span<'g>(
        &'g self,
        guard: &'g Guard<'_>,
        at: PhysAddr,
        access: Access,
    ) -> Result<HostSpan<'g>, BusError> {
        match at.aperture {
            Aperture::Vram => {
                let span = self.vram.span_from(at.address);
                match span.is_empty() {
                    true => Err(BusError::Nothing {
                        address: at.address,
                    }),
                    false => Ok(span),
                }
            }
            Aperture::SysCoherent | Aperture::SysNonCoherent => {
                self.dma.span(guard, at.address, access == Access::Write)
            }
        }
    }

    /// Loads a word.
    ///
    /// # Errors
    ///
    /// Part of it is not there, or the window forbids it.
    #[inline]
    pub fn load<T: Word>(&self, at: PhysAddr) -> Result<T, BusError> {
        match at.aperture {
            // Video memory does not go away: no guard.
            Aperture::Vram => self.vram.span_from(at.address).load(0),
            _ => self.span(&self.enter(), at, Access::Read)?.load(0),
        }
        .ok_or(BusError::Nothing {
            address: at.address,
        })
    }

    /// Stores a word.
    ///
    /// # Errors
    ///
    /// Part of it is not there, or the window forbids it.
    #[inline]
    pub fn store<T: Word>(&self, at: PhysAddr, value: T) -> Result<(), BusError> {
        let stored = match at.aperture {
            // Video memory does not go away: no guard.
            Aperture::Vram => self.vram.span_from(at.address).store(0, value),
            _ => self.span(&self.enter(), at, Access::Write)?.store(0, value),
        };
        match stored {
            true => Ok(()),
            false => Err(BusError::Nothing {
                address: at.address,
            }),
        }
    }

    /// Copies out of memory.
    ///
    /// # Errors
    ///
    /// Part of it is not there, or a window forbids it; what came before it was copied.
    pub fn read(&self, at: PhysAddr, buf: &mut [u8]) -> Result<(), BusError> {
        let mut done = 0;
        while done < buf.len() {
            let guard = self.enter();
            let span = self.span(&guard, at.offset(done as u64), Access::Read)?;
            done += span.copy_to(&mut buf[done..]);
        }
        Ok(())
    }

    /// Copies into memory.
    ///
    /// # Errors
    ///
    /// Part of it is not there, or a window forbids it; what came before it was copied.
    pub fn write(&self, at: PhysAddr, buf: &[u8]) -> Result<(), BusError> {
        let mut done = 0;
        while done < buf.len() {
            let guard = self.enter();
            let span = self.span(&guard, at.offset(done as u64), Access::Write)?;
            done += span.copy_from(&buf[done..]);
        }
        Ok(())
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory")
            .field("vram", &self.vram.size())
            .field("windows", &self.dma.windows())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn physical_accesses_reach_both_memories() {
        let memory = Memory::new(1 << 20).unwrap();
        let file = dma::tests::memory_file(0x2000);
        memory
            .dma()
            .map(0x8000, 0x2000, Protection::READ_WRITE, file, 0)
            .unwrap();
        for at in [PhysAddr::vram(0x100), PhysAddr::system(0x8ffe)] {
            memory.store(at, 0x1234_5678u32).unwrap();
            assert_eq!(memory.load::<u32>(at), Ok(0x1234_5678));
            let mut bytes = [0; 4];
            memory.read(at, &mut bytes).unwrap();
            assert_eq!(bytes, [0x78, 0x56, 0x34, 0x12]);
        }
    }

    #[test]
    fn a_physical_access_outside_is_an_error() {
        let memory = Memory::new(1 << 20).unwrap();
        for at in [
            PhysAddr::vram((1 << 20) - 2),
            PhysAddr::vram(1 << 40),
            PhysAddr::system(0),
            PhysAddr::system(u64::MAX),
        ] {
            assert!(memory.load::<u32>(at).is_err());
            assert!(memory.store(at, 0u32).is_err());
            assert!(memory.write(at, &[0; 16]).is_err());
        }
    }

    #[test]
    fn a_channel_word_names_page_and_target() {
        let at = PhysAddr::system(0x12_3456_7000);
        assert_eq!(at.to_channel_word(), 0x2123_4567);
        assert_eq!(PhysAddr::from_channel_word(0x1000_0000), None);
        assert_eq!(
            PhysAddr::from_channel_word(0xc012_3456),
            Some(PhysAddr::vram(0x1_2345_6000))
        );
    }
}
