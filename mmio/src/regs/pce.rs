//! PCE: what the copy engines have beside the registers of a falcon ([`super::falcon`]).
//!
//! Element 0 is CE0, element 1 CE1. The scratch registers mean what the driver's firmware makes of
//! them.
//!
//! Source: K61 `nvkm/engine/ce/fuc/com.fuc`, `nvkm/engine/ce/{gt215,gf100}.c`.

use bitflags::bitflags;

use crate::register::registers;

bitflags! {
    /// Interrupts of a copy engine's falcon.
    ///
    /// Source: ENV `rnndb/falcon.xml`; K61 `nvkm/engine/falcon.c nvkm_falcon_intr`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Intr: u32 {
        /// The firmware halted.
        const HALT = 1 << 4;
        /// The firmware met a method that it cannot execute.
        const DISPATCH_ERROR = 1 << 6;
    }
}

/// `DISPATCH_ERROR`, bits 0-15: there is no such method.
pub const ERROR_ILLEGAL_MTHD: u32 = 1;
/// `DISPATCH_ERROR`, bits 0-15: a bit of the argument means nothing.
pub const ERROR_INVALID_BITFIELD: u32 = 3;

/// What the firmware stores to INTR_DISPATCH when it starts: all but lines 2 and 3 to the host.
pub const INTR_DISPATCH_VALUE: u32 = 0xfff3;
/// What the firmware stores to INTR_EN_SET when it starts.
pub const INTR_EN_VALUE: u32 = 0xffff;
/// UC_CAPS: 0x1200 bytes of code in units of 256, 0x800 of data.
///
/// Source: ENV `docs/hw/fifo/pcopy.rst`; K61 `nvkm/engine/falcon.c nvkm_falcon_oneinit`.
pub const UC_CAPS_VALUE: u32 = 0x12 | 0x8 << 9;
/// UC_CAPS2: version 3, nothing secret.
pub const UC_CAPS2_VALUE: u32 = 3;

registers! { Pce, "PCE";
    /// What was wrong in bits 0-15; method / 4 in bits 16-26, subchannel in bits 27-29.
    DISPATCH_ERROR[2; 0x1000] = 0x104040, Ro, "K61 nvkm/engine/ce/gt215.c gt215_ce_intr";
    /// The argument of the method.
    DISPATCH_DATA[2; 0x1000] = 0x104044, Ro, "K61 nvkm/engine/ce/gt215.c gt215_ce_intr";
    /// Which of the two the firmware is to be.
    UNIT[2; 0x1000] = 0x104084, Rw, "K61 nvkm/engine/ce/gf100.c gf100_ce_init";
}
