//! PMC: identification, unit enables, and the root of the interrupt tree.

use bitflags::bitflags;

use crate::register::registers;

bitflags! {
    /// The interrupt sources of the card, as PMC shows them.
    ///
    /// Source: K61 `nvkm/subdev/mc/gf100.c gf100_mc_intr`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Intr: u32 {
        /// Post-processor.
        const MSPPP = 1 << 0;
        /// First copy engine.
        const CE0 = 1 << 5;
        /// Second copy engine.
        const CE1 = 1 << 6;
        /// Host.
        const PFIFO = 1 << 8;
        /// Graphics and compute.
        const PGRAPH = 1 << 12;
        /// Frame buffer (alternate line).
        const FB_ALT = 1 << 13;
        /// Bitstream decoder.
        const MSVLD = 1 << 15;
        /// Picture decoder.
        const MSPDEC = 1 << 17;
        /// Thermal sensor.
        const THERM = 1 << 18;
        /// Timer.
        const PTIMER = 1 << 20;
        /// GPIO and I2C.
        const GPIO = 1 << 21;
        /// Power management unit.
        const PMU = 1 << 24;
        /// Level-two cache.
        const LTC = 1 << 25;
        /// Display.
        const DISP = 1 << 26;
        /// Frame buffer.
        const FB = 1 << 27;
        /// Register bus.
        const PBUS = 1 << 28;
        /// Private ring.
        const PRIV_RING = 1 << 30;
    }
}

bitflags! {
    /// Which units run; clearing a bit resets its unit.
    ///
    /// Source: K61 `nvkm/subdev/mc/gf100.c gf100_mc_reset`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Enable: u32 {
        /// Post-processor.
        const MSPPP = 1 << 1;
        /// First copy engine.
        const CE0 = 1 << 6;
        /// Second copy engine.
        const CE1 = 1 << 7;
        /// Host.
        const PFIFO = 1 << 8;
        /// Graphics and compute.
        const PGRAPH = 1 << 12;
        /// Power management unit.
        const PMU = 1 << 13;
        /// Bitstream decoder.
        const MSVLD = 1 << 15;
        /// Picture decoder.
        const MSPDEC = 1 << 17;
        /// Performance monitors.
        const PM = 1 << 28;
    }
}

registers! { Pmc, "PMC";
    /// Chip identification: implementation in bits 20-28, revision in bits 0-7.
    BOOT_0 = 0x000000, Ro, reset = 0x0c00_00a3, "K61 nvkm/engine/device/base.c nvkm_device_ctor";
    /// Endianness of the register interface, 0 little.
    BOOT_1 = 0x000004, Ro, "K61 nvkm/engine/device/base.c nvkm_device_endianness";
    /// Pending interrupts, one register per line.
    INTR_HOST[2; 4] = 0x000100, Ro, fields = Intr, "K61 nvkm/subdev/mc/gf100.c gf100_mc_intr_stat";
    /// Bit 0 lets a line reach the bus.
    INTR_EN_HOST[2; 4] = 0x000140, Rw, "K61 nvkm/subdev/mc/gf100.c gf100_mc_intr_rearm";
    /// Unit enables.
    ENABLE = 0x000200, Rw, reset = 0, fields = Enable, "K61 nvkm/subdev/mc/gf100.c gf100_mc_reset";
    /// Gate for the context-switch falcons while they are loaded.
    CTXCTL_GATE = 0x000260, Rw, reset = 1, "K61 nvkm/subdev/mc/gf100.c gf100_mc_unk260";
    /// Sources that reach each line; 6.1 leaves it at reset, 6.12 blocks and allows with it.
    INTR_MASK[2; 4] = 0x000640, Rw, reset = 0xffff_ffff, fields = Intr,
        "K612 nvkm/subdev/mc/gt215.c gt215_mc_intr_allow; ENV docs/hw/bus/pmc.rst";
}
