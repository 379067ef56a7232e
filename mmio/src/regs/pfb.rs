//! PFB: memory partitions and the MMU's control registers.

use bitflags::bitflags;

use crate::layout::pagetable::Geometry;
use crate::register::registers;

bitflags! {
    /// What a write to [`VM_FLUSH`] does.
    ///
    /// Source: K61 `nvkm/subdev/mmu/vmmgf100.c gf100_vmm_flush`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct VmFlush: u32 {
        /// All pages of the address space, not one.
        const PAGE_ALL = 1 << 0;
        /// All address spaces, not the one of [`VM_FLUSH_PDB`].
        const ALL_PDB = 1 << 1;
        /// Only the hub's TLB.
        const HUB_ONLY = 1 << 2;
        /// Start.
        const TRIGGER = 1 << 31;
    }
}

/// `MMU_CTRL`: large pages are of 64 KiB.
///
/// Source: K61 `nvkm/subdev/fb/gf100.c gf100_fb_init_page`.
pub const LARGE_64K: u32 = 1 << 0;
/// `MMU_CTRL`: free flush slots.
pub const FLUSH_SLOTS: u32 = 0x00ff_0000;
/// `MMU_CTRL`: flushes have been queued, and are done when the queue is.
pub const FLUSH_DONE: u32 = 1 << 15;

/// The size of large pages that a value of `MMU_CTRL` sets.
pub const fn geometry(mmu_ctrl: u32) -> Geometry {
    match mmu_ctrl & LARGE_64K {
        0 => Geometry::Large128K,
        _ => Geometry::Large64K,
    }
}

registers! { Pfb, "PFB";
    /// Where the card flushes writes to system memory: DMA address >> 8.
    SYSMEM_FLUSH = 0x100c10, Rw, "K61 nvkm/subdev/fb/gf100.c gf100_fb_init";
    /// MMU control: large pages of 64 KiB in bit 0, a flush queued in bit 15, free flush slots in
    /// bits 16-23.
    MMU_CTRL = 0x100c80, Rw, reset = 0x00ff_8000,
        "K61 nvkm/subdev/mmu/vmmgf100.c gf100_vmm_invalidate; ENV rnndb/memory/gf100_vm.xml";
    /// The directory to flush: address >> 8, aperture in bits 0-1.
    VM_FLUSH_PDB = 0x100cb8, Rw, "K61 nvkm/subdev/mmu/vmmgf100.c gf100_vmm_invalidate";
    /// Flushes TLBs.
    VM_FLUSH = 0x100cbc, Rw, fields = VmFlush,
        "K61 nvkm/subdev/mmu/vmmgf100.c gf100_vmm_invalidate";
    /// MiB of a partition, broadcast.
    PARTITION_SIZE_ALL = 0x10f20c, Ro, "ENV rnndb/memory/gf100_pbfb.xml";
    /// MiB of each memory partition.
    PARTITION_SIZE[8; 0x1000] = 0x11020c, Ro, "K61 nvkm/subdev/fb/ramgf100.c gf100_ram_ctor";
}
