//! USERD: the page per channel through which its owner drives the ring.
//!
//! Source: K612 `nvkm/engine/fifo/gf100.c gf100_chan_userd_clear`; K61 `nouveau_chan.c
//! nouveau_channel_init`, `nouveau_dma.c nv50_dma_push`.

/// Bytes per channel, and so the stride of channels in the BAR1 window.
pub const STRIDE: u64 = 0x1000;

/// Put pointer of the legacy pusher, low word.
pub const PUT: u64 = 0x40;
/// Where the pusher fetches, low word.
pub const GET: u64 = 0x44;
/// The last value of the REF method.
pub const REF_CNT: u64 = 0x48;
/// Put pointer of the legacy pusher, high word.
pub const PUT_HI: u64 = 0x4c;
/// The fetch address of the outermost segment, low word.
pub const TOP_LEVEL_GET: u64 = 0x58;
/// The fetch address of the outermost segment, high word.
pub const TOP_LEVEL_GET_HI: u64 = 0x5c;
/// Where the pusher fetches, high word.
pub const GET_HI: u64 = 0x60;
/// Index of the next indirect-buffer entry that the card will take.
pub const GP_GET: u64 = 0x88;
/// Index behind the last indirect-buffer entry that software wrote: the doorbell.
pub const GP_PUT: u64 = 0x8c;
