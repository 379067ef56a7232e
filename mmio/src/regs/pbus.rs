//! PBUS: errors of the register bus, and where the apertures look.

use crate::register::registers;

/// Bit of [`BAR_FLUSH`]: it goes on.
pub const BAR_FLUSH_BUSY: u32 = 1 << 1;

registers! { Pbus, "PBUS";
    /// Pending bus errors; a store of 1 acknowledges.
    INTR = 0x001100, W1c, "K61 nvkm/subdev/bus/gf100.c gf100_bus_intr";
    /// Enabled bus errors.
    INTR_EN = 0x001140, Rw, "K61 nvkm/subdev/bus/gf100.c gf100_bus_init";
    /// Where the PRAMIN window looks: address >> 16 in VRAM.
    BAR0_WINDOW = 0x001700, Rw, "K61 nvkm/subdev/instmem/nv50.c nv50_instobj_wr32_slow";
    /// Address space behind BAR1: instance block >> 12, valid in bit 31.
    BAR1_BLOCK = 0x001704, Rw, "K61 nvkm/subdev/bar/gf100.c gf100_bar_bar1_init";
    /// Address space behind BAR3 ("BAR2"): instance block >> 12, valid in bit 31.
    BAR2_BLOCK = 0x001714, Rw, "K61 nvkm/subdev/bar/gf100.c gf100_bar_bar2_init";
    /// ROM access from the register bus.
    ROM_ACCESS = 0x001850, Rw, "K61 nvkm/subdev/mc/nv50.c nv50_mc_init";
    /// Data of the access that failed.
    FAULT_DATA = 0x009084, Ro, "K61 nvkm/subdev/bus/gf100.c gf100_bus_intr";
    /// Address and direction of the access that failed.
    FAULT_ADDR = 0x009088, Ro, "K61 nvkm/subdev/bus/gf100.c gf100_bus_intr";
    /// Flushes writes through the apertures; busy in bit 1.
    BAR_FLUSH = 0x070000, Wo, "K61 nvkm/subdev/bar/g84.c g84_bar_flush";
    /// Drops clean lines of the level-two cache; busy in bits 0-1.
    L2_INVALIDATE = 0x070004, Wo, "K61 nvkm/subdev/ltc/gf100.c gf100_ltc_invalidate";
    /// Writes dirty lines of the level-two cache back; busy in bits 0-1.
    L2_FLUSH = 0x070010, Wo, "K61 nvkm/subdev/ltc/gf100.c gf100_ltc_flush";
}
