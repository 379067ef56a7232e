//! The instance block: 4 KiB that describe a channel (or an aperture) to the card.
//!
//! Source: K61 `nvkm/engine/fifo/gpfifogf100.c gf100_fifo_gpfifo_new`, `gf100_fifo_gpfifo_engine_init`,
//! `nvkm/subdev/mmu/vmmgf100.c gf100_vmm_join_`; K612 `nvkm/engine/fifo/gf100.c gf100_chan_ramfc_write`.

/// Bytes of an instance block.
pub const SIZE: u64 = 0x1000;

/// Physical address of the channel's USERD page, low word.
pub const USERD: u64 = 0x008;
/// Physical address of the channel's USERD page, high word.
pub const USERD_HI: u64 = 0x00c;
/// [`SIGNATURE_VALUE`].
pub const SIGNATURE: u64 = 0x010;
/// What software stores at [`SIGNATURE`].
pub const SIGNATURE_VALUE: u32 = 0x0000_face;
/// Semaphore acquire time-out and retry policy.
pub const ACQUIRE: u64 = 0x030;
/// Virtual address of the indirect buffer, low word.
pub const GP_BASE: u64 = 0x048;
/// High byte of the indirect buffer's address; log2 of its entries in bits 16-20.
pub const GP_BASE_HI: u64 = 0x04c;
/// Subchannel to engine map, one byte each for 0-3; `0x1f` is software.
pub const SUBCHANNEL_ENGINES: u64 = 0x0a4;
/// Time slice of the channel on its PBDMA.
pub const PB_TIMESLICE: u64 = 0x0f8;
/// Time slice of the channel on its engine.
pub const ENG_TIMESLICE: u64 = 0x0fc;
/// Page-directory base: address, aperture in bits 0-1, volatile in bit 2.
pub const PAGE_DIR_BASE: u64 = 0x200;
/// High word of the page-directory base.
pub const PAGE_DIR_BASE_HI: u64 = 0x204;
/// Highest virtual address, low word.
pub const ADDR_LIMIT: u64 = 0x208;
/// Highest virtual address, high word.
pub const ADDR_LIMIT_HI: u64 = 0x20c;
/// Virtual address of the PGRAPH context; bit 2 valid.
pub const GR_CONTEXT: u64 = 0x210;
/// Virtual address of the first copy engine's context.
pub const CE0_CONTEXT: u64 = 0x230;
/// Virtual address of the second copy engine's context.
pub const CE1_CONTEXT: u64 = 0x240;
