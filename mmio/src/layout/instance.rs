//! The instance block: 4 KiB that describe a channel (or an aperture) to the card.
//!
//! Up to [`RAMFC_SIZE`] it is RAMFC: a channel's PBDMA registers, each at its own offset from the
//! PBDMA's base, while the channel is on none.
//!
//! Source: K61 `nvkm/engine/fifo/gpfifogf100.c gf100_fifo_gpfifo_new`, `gf100_fifo_gpfifo_engine_init`,
//! `nvkm/subdev/mmu/vmmgf100.c gf100_vmm_join_`; K612 `nvkm/engine/fifo/gf100.c gf100_chan_ramfc_write`;
//! ENV `rnndb/fifo/gf100_pfifo.xml PSUBFIFO` (RAMFC).

/// Bytes of an instance block.
pub const SIZE: u64 = 0x1000;

/// Bytes of RAMFC.
pub const RAMFC_SIZE: u64 = 0x110;
/// Index behind the last entry of the indirect buffer.
pub const IB_PUT: u64 = 0x000;
/// Physical address of the channel's USERD page, low word; target in bits 0-1.
pub const USERD: u64 = 0x008;
/// Physical address of the channel's USERD page, high word.
pub const USERD_HI: u64 = 0x00c;
/// [`SIGNATURE_VALUE`].
pub const SIGNATURE: u64 = 0x010;
/// What software stores at [`SIGNATURE`].
pub const SIGNATURE_VALUE: u32 = 0x0000_face;
/// Index of the next entry of the indirect buffer.
pub const IB_GET: u64 = 0x014;
/// Where the PBDMA fetches, low word.
pub const DMA_GET: u64 = 0x018;
/// Where the PBDMA fetches, high word.
pub const DMA_GET_HI: u64 = 0x01c;
/// Where it fetches in the main ring, low word.
pub const DMA_MGET: u64 = 0x020;
/// Where it fetches in the main ring, high word; valid in bit 31.
pub const DMA_MGET_HI: u64 = 0x024;
/// The reference counter.
pub const REF_CNT: u64 = 0x028;
/// Semaphore acquire time-out: units of 1024 ns in bits 15-30, their log2 in bits 11-14, enabled by
/// bit 31.
pub const ACQUIRE: u64 = 0x030;
/// When the acquire at hand times out: bits 10-41 of PTIMER.
pub const ACQUIRE_DEADLINE: u64 = 0x034;
/// Semaphore address, high word.
pub const SEMAPHORE_ADDRESS_HI: u64 = 0x038;
/// Semaphore address, low word.
pub const SEMAPHORE_ADDRESS: u64 = 0x03c;
/// Semaphore sequence.
pub const SEMAPHORE_SEQUENCE: u64 = 0x040;
/// The last semaphore operation.
pub const SEMAPHORE_STATE: u64 = 0x044;
/// Virtual address of the indirect buffer, low word.
pub const GP_BASE: u64 = 0x048;
/// High byte of the indirect buffer's address; log2 of its entries in bits 16-20.
pub const GP_BASE_HI: u64 = 0x04c;
/// Where the segment at hand ends, low word.
pub const DMA_PUT: u64 = 0x05c;
/// Where the segment at hand ends, high word.
pub const DMA_PUT_HI: u64 = 0x060;
/// Flags of the segment at hand; bit 3: it is not part of the main ring.
pub const IB_FLAGS: u64 = 0x0e0;
/// The command at hand: method in bits 2-13, subchannel in bits 16-18, mode in bits 29-31.
pub const DMA_STATE_0: u64 = 0x084;
/// The command at hand: words to come, in bits 0-12.
pub const DMA_STATE_1: u64 = 0x088;
/// This card in a sub-device mask in bits 0-11, the stored mask in bits 16-27, match in bit 28,
/// enable in bit 29.
pub const SLI: u64 = 0x094;
/// Subchannel to engine map, one byte each for 0-3; `0x1f` is software.
pub const SUBCHANNEL_ENGINES: u64 = 0x0a4;
/// The engine in use.
pub const CURRENT_ENGINE: u64 = 0x0ac;
/// The method at hand: method in bits 2-13, subchannel in bits 16-18, valid in bit 31.
pub const CACHE_ADDR: u64 = 0x0c0;
/// The argument of the method at hand.
pub const CACHE_DATA: u64 = 0x0c4;
/// The engine with a job of the channel that was paused, plus 1; 0 for none. The card's own: no
/// driver looks here.
pub const PAUSED_ENGINE: u64 = 0x100;
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
/// Bit of a context's address: there is one.
pub const CONTEXT_VALID: u64 = 1 << 2;
/// Virtual address of the PGRAPH context; [`CONTEXT_VALID`].
pub const GR_CONTEXT: u64 = 0x210;
/// Virtual address of the first copy engine's context.
pub const CE0_CONTEXT: u64 = 0x230;
/// Virtual address of the second copy engine's context.
pub const CE1_CONTEXT: u64 = 0x240;
