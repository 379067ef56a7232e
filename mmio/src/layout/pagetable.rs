//! The two-level page tables of the GF100: 40-bit virtual addresses, a directory of 8192 entries
//! that cover 128 MiB each, and per entry a table of large and one of small pages.
//!
//! A card that is set to large pages of 64 KiB halves what a directory entry covers: [`Geometry`].
//! The constants and free functions are those of the default, 128 KiB.
//!
//! Source: K61 `nvkm/subdev/mmu/vmmgf100.c gf100_vmm_pgd_pde, gf100_vmm_pgt_pte, gf100_vmm_valid`,
//! `gf100_vmm_desc_17_12`, `gf100_vmm_desc_17_17`, `gf100_vmm_desc_16_12`; ENV
//! `rnndb/memory/gf100_vm.xml`.

use super::kind;

/// Bits of a virtual address.
pub const VA_BITS: u32 = 40;
/// Entries of the directory.
pub const PDE_COUNT: u64 = 1 << (VA_BITS - PDE_SHIFT);
/// log2 of the bytes that a directory entry covers.
pub const PDE_SHIFT: u32 = 27;
/// log2 of a small page.
pub const SMALL_SHIFT: u32 = 12;
/// log2 of a large page.
pub const LARGE_SHIFT: u32 = 17;
/// Entries of a table of small pages.
pub const SMALL_COUNT: u64 = 1 << (PDE_SHIFT - SMALL_SHIFT);
/// Entries of a table of large pages.
pub const LARGE_COUNT: u64 = 1 << (PDE_SHIFT - LARGE_SHIFT);
/// Bytes of an entry, in both levels.
pub const ENTRY_SIZE: u64 = 8;

/// Which memory an address is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Aperture {
    /// The card's own memory.
    Vram,
    /// System memory, snooped.
    SysCoherent,
    /// System memory, not snooped.
    SysNonCoherent,
}

impl Aperture {
    /// The encoding in instance blocks, runlist registers and (for a page) PTEs.
    pub const fn target(self) -> u64 {
        match self {
            Aperture::Vram => 0,
            Aperture::SysCoherent => 2,
            Aperture::SysNonCoherent => 3,
        }
    }

    /// The aperture that `target` (2 bits) encodes; 1 encodes none.
    pub const fn from_target(target: u64) -> Option<Self> {
        match target & 3 {
            0 => Some(Aperture::Vram),
            2 => Some(Aperture::SysCoherent),
            3 => Some(Aperture::SysNonCoherent),
            _ => None,
        }
    }
}

/// Where a table of pages lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TablePointer {
    /// The memory that holds it.
    pub aperture: Aperture,
    /// Its address there, a multiple of 4 KiB.
    pub address: u64,
    /// Bypass the cache.
    pub volatile: bool,
}

/// A directory entry.
///
/// Where both of its tables have a valid entry for an address, that of the large page counts, and the
/// other one is not looked at.
///
/// Source: NVIDIA `open-gpu-kernel-modules`, `kernel-open/nvidia-uvm/uvm_mmu.h unmapped_pte`, of which
/// the oldest generation, Maxwell, has these tables; of GF100 itself nobody says. Drivers do not make
/// use of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Pde(pub u64);

impl Pde {
    /// The table of large pages.
    pub const fn large(self) -> Option<TablePointer> {
        Self::pointer(self.0 & 3, self.0 & 0xffff_fff0, self.0 >> 35 & 1)
    }

    /// The table of small pages.
    pub const fn small(self) -> Option<TablePointer> {
        Self::pointer(
            self.0 >> 32 & 3,
            self.0 >> 32 & 0xffff_fff0,
            self.0 >> 34 & 1,
        )
    }

    /// Bytes, from the start of what the entry covers, that its tables describe at most.
    pub const fn span(self) -> u64 {
        1 << PDE_SHIFT >> (self.0 >> 2 & 3)
    }

    /// Table pointers count their targets from 1: 0 says that there is no table.
    const fn pointer(target: u64, field: u64, volatile: u64) -> Option<TablePointer> {
        let aperture = match target {
            1 => Aperture::Vram,
            2 => Aperture::SysCoherent,
            3 => Aperture::SysNonCoherent,
            _ => return None,
        };
        Some(TablePointer {
            aperture,
            address: field << 8,
            volatile: volatile != 0,
        })
    }

    /// The entry that points to these tables.
    pub const fn new(large: Option<TablePointer>, small: Option<TablePointer>) -> Self {
        let mut entry = 0;
        if let Some(table) = large {
            entry |= Self::target(table.aperture) | table.address >> 8 & 0xffff_fff0;
            entry |= (table.volatile as u64) << 35;
        }
        if let Some(table) = small {
            entry |= Self::target(table.aperture) << 32 | (table.address >> 8 & 0xffff_fff0) << 32;
            entry |= (table.volatile as u64) << 34;
        }
        Self(entry)
    }

    /// The same tables, which describe `bytes` at most: 16 MiB to 128 MiB, a power of two.
    pub const fn with_span(self, bytes: u64) -> Self {
        let halvings = PDE_SHIFT.saturating_sub(bytes.trailing_zeros()) as u64;
        Self(self.0 & !0xc | (halvings & 3) << 2)
    }

    const fn target(aperture: Aperture) -> u64 {
        match aperture {
            Aperture::Vram => 1,
            Aperture::SysCoherent => 2,
            Aperture::SysNonCoherent => 3,
        }
    }
}

/// A page-table entry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Pte(pub u64);

impl Pte {
    /// Bits of the address field: 28 bits of 4 KiB pages.
    const ADDRESS: u64 = 0xffff_fff0;
    /// Bits of the compression tag.
    const TAG: u64 = 0x1_ffff << 44;

    /// The page exists.
    pub const fn valid(self) -> bool {
        self.0 & 1 != 0
    }

    /// Only the kernel's channels may use it.
    pub const fn privileged(self) -> bool {
        self.0 & 2 != 0
    }

    /// Stores fault.
    pub const fn read_only(self) -> bool {
        self.0 & 4 != 0
    }

    /// Address of the page in its aperture.
    pub const fn address(self) -> u64 {
        (self.0 & Self::ADDRESS) << 8
    }

    /// Bypass the cache.
    pub const fn volatile(self) -> bool {
        self.0 >> 32 & 1 != 0
    }

    /// Which memory the page is in; `None` for the reserved encoding.
    pub const fn aperture(self) -> Option<Aperture> {
        Aperture::from_target(self.0 >> 33)
    }

    /// Storage kind: 0 pitch, others block-linear or compressed.
    pub const fn kind(self) -> u8 {
        (self.0 >> 36) as u8
    }

    /// Compression tag.
    pub const fn tag(self) -> u32 {
        ((self.0 & Self::TAG) >> 44) as u32
    }

    /// A valid entry for `address` in `aperture`, kind 0.
    pub const fn new(aperture: Aperture, address: u64) -> Self {
        Self(1 | address >> 8 & Self::ADDRESS | aperture.target() << 33)
    }

    /// The same page, read-only.
    pub const fn with_read_only(self) -> Self {
        Self(self.0 | 4)
    }

    /// The same page with a storage kind.
    pub const fn with_kind(self, kind: u8) -> Self {
        Self(self.0 & !(0xff << 36) | (kind as u64) << 36)
    }

    /// The same page without compression: no tag, and the kind that is arranged alike.
    pub const fn uncompressed(self) -> Self {
        match kind::uncompressed(self.kind()) {
            kind if kind == self.kind() => self,
            kind => Self(self.0 & !Self::TAG).with_kind(kind),
        }
    }

    /// The same attributes for a page elsewhere.
    pub const fn with_address(self, address: u64) -> Self {
        Self(self.0 & !Self::ADDRESS | address >> 8 & Self::ADDRESS)
    }
}

/// The size of large pages, and what follows from it: a directory entry always covers 1024.
///
/// Source: K61 `nvkm/subdev/fb/gf100.c gf100_fb_init_page`, `nvkm/subdev/mmu/vmmgf100.c
/// gf100_vmm_desc_16_12`; ENV `rnndb/memory/gf100_pffb.xml` LARGE_PAGE_SIZE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Geometry {
    /// Large pages of 128 KiB: what nouveau sets.
    #[default]
    Large128K,
    /// Large pages of 64 KiB.
    Large64K,
}

impl Geometry {
    /// log2 of a large page.
    pub const fn large_shift(self) -> u32 {
        match self {
            Geometry::Large128K => LARGE_SHIFT,
            Geometry::Large64K => LARGE_SHIFT - 1,
        }
    }

    /// log2 of the bytes that a directory entry covers.
    pub const fn pde_shift(self) -> u32 {
        self.large_shift() + 10
    }

    /// Entries of the directory.
    pub const fn pde_count(self) -> u64 {
        1 << (VA_BITS - self.pde_shift())
    }

    /// Entries of a table of small pages.
    pub const fn small_count(self) -> u64 {
        1 << (self.pde_shift() - SMALL_SHIFT)
    }

    /// The directory index of a virtual address.
    pub const fn pde_index(self, va: u64) -> u64 {
        va >> self.pde_shift() & (self.pde_count() - 1)
    }

    /// The small-page index of a virtual address within its directory entry.
    pub const fn small_index(self, va: u64) -> u64 {
        va >> SMALL_SHIFT & (self.small_count() - 1)
    }

    /// The large-page index of a virtual address within its directory entry.
    pub const fn large_index(self, va: u64) -> u64 {
        va >> self.large_shift() & (LARGE_COUNT - 1)
    }
}

/// The directory index of a virtual address.
pub const fn pde_index(va: u64) -> u64 {
    va >> PDE_SHIFT & (PDE_COUNT - 1)
}

/// The small-page index of a virtual address within its directory entry.
pub const fn small_index(va: u64) -> u64 {
    va >> SMALL_SHIFT & (SMALL_COUNT - 1)
}

/// The large-page index of a virtual address within its directory entry.
pub const fn large_index(va: u64) -> u64 {
    va >> LARGE_SHIFT & (LARGE_COUNT - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn aperture() -> impl Strategy<Value = Aperture> {
        prop_oneof![
            Just(Aperture::Vram),
            Just(Aperture::SysCoherent),
            Just(Aperture::SysNonCoherent)
        ]
    }

    fn table() -> impl Strategy<Value = Option<TablePointer>> {
        proptest::option::of((aperture(), 0u64..1 << 28, any::<bool>()).prop_map(
            |(aperture, page, volatile)| TablePointer {
                aperture,
                address: page << 12,
                volatile,
            },
        ))
    }

    proptest! {
        #[test]
        fn a_directory_entry_gives_back_its_tables(large in table(), small in table()) {
            let entry = Pde::new(large, small);
            prop_assert_eq!(entry.large(), large);
            prop_assert_eq!(entry.small(), small);
            prop_assert_eq!(entry.span(), 128 << 20);
            for span in [16 << 20, 32 << 20, 64 << 20, 128 << 20] {
                let short = entry.with_span(span);
                prop_assert_eq!((short.large(), short.small()), (large, small));
                prop_assert_eq!(short.span(), span);
            }
        }

        #[test]
        fn a_page_entry_gives_back_its_page(at in aperture(), page in 0u64..1 << 28, kind: u8) {
            let entry = Pte::new(at, page << 12).with_kind(kind);
            prop_assert!(entry.valid() && !entry.read_only());
            prop_assert_eq!(entry.aperture(), Some(at));
            prop_assert_eq!(entry.address(), page << 12);
            prop_assert_eq!(entry.kind(), kind);
            prop_assert!(entry.with_read_only().read_only());
            prop_assert_eq!(entry.with_address(0x5000).address(), 0x5000);
            let plain = Pte(entry.0 | 0x1_5aa5 << 44).uncompressed();
            prop_assert_eq!(plain.kind(), kind::uncompressed(kind));
            prop_assert_eq!((plain.aperture(), plain.address()), (Some(at), page << 12));
            prop_assert_eq!(plain.tag() == 0, kind::is_compressed(kind));
        }
    }

    #[test]
    fn the_default_geometry_is_that_of_the_constants() {
        let geometry = Geometry::default();
        for va in [0, 0x1000, 0x12_3456_7890, (1 << VA_BITS) - 1] {
            assert_eq!(geometry.pde_index(va), pde_index(va));
            assert_eq!(geometry.small_index(va), small_index(va));
            assert_eq!(geometry.large_index(va), large_index(va));
        }
        assert_eq!(geometry.pde_count(), PDE_COUNT);
        assert_eq!(geometry.small_count(), SMALL_COUNT);
    }

    #[test]
    fn large_pages_of_64_kib_halve_what_an_entry_covers() {
        let geometry = Geometry::Large64K;
        assert_eq!(geometry.pde_count(), 2 * PDE_COUNT);
        assert_eq!(geometry.pde_index(1 << 26), 1);
        assert_eq!(geometry.large_index(0x3ff_0000), LARGE_COUNT - 1);
    }

    #[test]
    fn an_empty_directory_entry_has_no_tables() {
        assert_eq!((Pde(0).large(), Pde(0).small()), (None, None));
    }
}
