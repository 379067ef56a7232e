//! Addresses in a guest, and the memories as the caller gives them.

use mmio::layout::pagetable::Aperture;

/// An address as the guest knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GuestAddress {
    /// In the guest's video memory, which starts at 0.
    Vram(u64),
    /// Guest-physical, in the guest's RAM.
    Ram(u64),
}

impl GuestAddress {
    /// The address that a pointer with this aperture means.
    pub const fn new(aperture: Aperture, address: u64) -> Self {
        match aperture {
            Aperture::Vram => Self::Vram(address),
            Aperture::SysCoherent | Aperture::SysNonCoherent => Self::Ram(address),
        }
    }

    /// `bytes` further on.
    pub const fn offset(self, bytes: u64) -> Self {
        match self {
            Self::Vram(address) => Self::Vram(address.wrapping_add(bytes)),
            Self::Ram(address) => Self::Ram(address.wrapping_add(bytes)),
        }
    }
}

/// The memory in which a guest keeps its page tables.
///
/// Addresses are within what [`Translation`](crate::Translation) calls the VM's own, and multiples
/// of what is read. The guest may write at the same time: each read returns some value that was
/// there.
pub trait GuestTables {
    /// Reads a 32-bit word: the naive algorithm's only way.
    fn read_word(&mut self, at: GuestAddress) -> u32;

    /// Reads entries in a row.
    fn read_block(&mut self, at: GuestAddress, out: &mut [u64]);
}

/// The card's video memory, of which shadow tables have a part.
///
/// Addresses are the card's, within the [`TablePool`](crate::TablePool)'s memory. Writes reach
/// memory in order.
pub trait CardTables {
    /// Writes a 32-bit word: the naive algorithm's only way.
    fn write_word(&mut self, address: u64, word: u32);

    /// Writes entries in a row, each with one store of 64 bits: the card may be walking them.
    fn write_block(&mut self, address: u64, entries: &[u64]);
}
