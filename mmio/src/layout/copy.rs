//! The methods of the copy engines' class that the hypervisor uses itself.
//!
//! Source: K61 `nvkm/engine/ce/fuc/com.fuc` dispatch_table, `nouveau_bo90b5.c nvc0_bo_move_copy`.

/// The class of the first copy engine in bits 0-15, and the engine in bits 16-20.
pub const CE0: u32 = 0x4_90b5;
/// First of source address high, low, destination address high, low, source pitch, destination
/// pitch, bytes per line, lines.
pub const SRC_ADDRESS_HIGH: u16 = 0x30c;
/// Starts the copy, as [`exec`] says.
pub const EXEC: u16 = 0x300;
/// Most lines of a copy.
pub const MOST_LINES: u64 = 0x1fff;

/// Bits of [`EXEC`].
pub mod exec {
    /// The source has a pitch.
    pub const SRC_LINEAR: u16 = 1 << 4;
    /// The destination has a pitch.
    pub const DST_LINEAR: u16 = 1 << 8;
}
