//! Falcon: the micro-controller in PMU, the copy engines, FECS and GPCCS.
//!
//! One register layout at five bases. [`offset`] has the places relative to a base; the tables
//! give each falcon its named registers.
//!
//! Source: ENV `rnndb/falcon.xml`; K61 `nvkm/falcon/v1.c`, `nvkm/engine/falcon.c`,
//! `nvkm/subdev/pmu/gt215.c`.

use crate::{Kind, RegId, Register, Unit};

/// Bytes of registers that belong to one falcon.
pub const SIZE: u32 = 0x1000;

/// Base of the power management unit's falcon.
pub const PMU: u32 = 0x10a000;
/// Base of the first copy engine's falcon; the second follows by [`SIZE`].
pub const CE0: u32 = 0x104000;
/// Base of the second copy engine's falcon.
pub const CE1: u32 = 0x105000;
/// Base of the context switcher's hub falcon.
pub const FECS: u32 = 0x409000;
/// Base of the context switcher's GPC falcons, broadcast.
pub const GPCCS: u32 = 0x41a000;

/// Bit of a memory port's control: a store moves the port on.
pub const AUTO_INCREMENT_WRITE: u32 = 1 << 24;
/// Bit of a memory port's control: a load moves the port on.
pub const AUTO_INCREMENT_READ: u32 = 1 << 25;

/// Bit of [`offset::UC_CTRL`] that starts the processor.
pub const START: u32 = 1 << 1;
/// Bits of [`offset::FIFO_CTRL`]: methods and channel switches reach the falcon.
///
/// Source: K61 `nvkm/engine/falcon.c nvkm_falcon_init`.
pub const FIFO_CTRL_ENABLE: u32 = 3;
/// Bit of [`offset::INTR_SET`] of FECS by which a context switch is asked for.
///
/// Source: K61 `nvkm/engine/gr/ctxgf100.c gf100_grctx_generate`.
pub const CHANNEL_SWITCH: u32 = 1 << 8;

/// Places of the registers, from the base of their falcon.
pub mod offset {
    /// Raises interrupts from outside.
    pub const INTR_SET: u32 = 0x000;
    /// Clears interrupts.
    pub const INTR_ACK: u32 = 0x004;
    /// Pending interrupts.
    pub const INTR: u32 = 0x008;
    /// Enables interrupts.
    pub const INTR_EN_SET: u32 = 0x010;
    /// Disables interrupts.
    pub const INTR_EN_CLR: u32 = 0x014;
    /// Which interrupts go to the host and which to the falcon.
    pub const INTR_DISPATCH: u32 = 0x01c;
    /// Channel switch and FIFO interface enable.
    pub const FIFO_CTRL: u32 = 0x048;
    /// Busy signals; all zero when idle.
    pub const STATUS: u32 = 0x04c;
    /// Instance block of the current channel >> 12.
    pub const CHANNEL_CUR: u32 = 0x050;
    /// Instance block of the next channel >> 12.
    pub const CHANNEL_NEXT: u32 = 0x054;
    /// Starts (bit 1) and halts the processor.
    pub const UC_CTRL: u32 = 0x100;
    /// Where it starts.
    pub const UC_ENTRY: u32 = 0x104;
    /// Code and data sizes.
    pub const UC_CAPS: u32 = 0x108;
    /// DMA of code and data; busy in bits 1-2.
    pub const DMACTL: u32 = 0x10c;
    /// First register of DMA of code and data: where from, where to, how much.
    pub const DMA_BASE: u32 = 0x110;
    /// Bytes of those registers.
    pub const DMA_SIZE: u32 = 0x10;
    /// Version in bits 0-3, security in bits 4-5.
    pub const UC_CAPS2: u32 = 0x12c;
    /// Code memory port: byte address, auto-increment on write (bit 24) and read (bit 25).
    pub const IMEM_CTRL: u32 = 0x180;
    /// Code memory port: data.
    pub const IMEM_DATA: u32 = 0x184;
    /// Code memory port: virtual page of the following words.
    pub const IMEM_TAG: u32 = 0x188;
    /// Data memory port: like [`IMEM_CTRL`].
    pub const DMEM_CTRL: u32 = 0x1c0;
    /// Data memory port: data.
    pub const DMEM_DATA: u32 = 0x1c4;
}

macro_rules! falcon {
    ($table:ident, $unit:ident, $prefix:literal, $base:expr) => {
        #[doc = concat!("The registers of ", $prefix, ".")]
        pub static $table: &[Register] = falcon!(@table $unit, $prefix, $base;
            INTR_SET, Wo, "Raises interrupts from outside.";
            INTR_ACK, Wo, "Clears interrupts.";
            INTR, Ro, "Pending interrupts.";
            INTR_EN_SET, Rw, "Enables interrupts.";
            INTR_EN_CLR, Wo, "Disables interrupts.";
            INTR_DISPATCH, Rw, "Routes interrupts to host or falcon.";
            FIFO_CTRL, Rw, "Channel switch and FIFO interface enable.";
            STATUS, Ro, "Busy signals.";
            CHANNEL_CUR, Rw, "Instance block of the current channel.";
            CHANNEL_NEXT, Rw, "Instance block of the next channel.";
            UC_CTRL, Rw, "Starts and halts the processor.";
            UC_ENTRY, Rw, "Where the processor starts.";
            UC_CAPS, Ro, "Code and data sizes.";
            DMACTL, Rw, "DMA of code and data.";
            UC_CAPS2, Ro, "Version and security.";
            IMEM_CTRL, Rw, "Code memory port, address.";
            IMEM_DATA, Rw, "Code memory port, data.";
            IMEM_TAG, Rw, "Code memory port, page.";
            DMEM_CTRL, Rw, "Data memory port, address.";
            DMEM_DATA, Rw, "Data memory port, data.";
        );
    };
    (@table $unit:ident, $prefix:literal, $base:expr;
     $($name:ident, $kind:ident, $summary:literal;)+) => {
        &[$(Register {
            id: RegId($base + offset::$name),
            name: concat!($prefix, ".", stringify!($name)),
            unit: Unit::$unit,
            stride: 4,
            count: 1,
            kind: Kind::$kind,
            reset: 0,
            summary: $summary,
            source: "ENV rnndb/falcon.xml",
            fields: None,
        },)+]
    };
}

falcon!(PMU_REGISTERS, Ppmu, "PPMU", PMU);
falcon!(CE0_REGISTERS, Pce, "PCE0", CE0);
falcon!(CE1_REGISTERS, Pce, "PCE1", CE1);
falcon!(FECS_REGISTERS, Pgraph, "PGRAPH.FECS", FECS);
falcon!(GPCCS_REGISTERS, Pgraph, "PGRAPH.GPCCS", GPCCS);
