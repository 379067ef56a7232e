//! PLTC: the level-two cache, its zero-bandwidth-clear table and compression tags.

use crate::register::registers;

registers! { Pltc, "PLTC";
    /// Which caches have interrupts pending.
    INTR_MAP = 0x00017c, Ro, "K61 nvkm/subdev/ltc/gf100.c gf100_ltc_intr";
    /// A tag clear runs in this slice, one register per slice of the first cache.
    CBC_BUSY[2; 0x400] = 0x1410c8, Ro, "K61 nvkm/subdev/ltc/gf100.c gf100_ltc_cbc_wait";
    /// First and last tag of a clear, and its start.
    CBC_CLEAR[3; 4] = 0x17e8c8, Rw, "K61 nvkm/subdev/ltc/gf100.c gf100_ltc_cbc_clear";
    /// Base of the tag memory.
    CBC_BASE = 0x17e8d4, Rw, "K61 nvkm/subdev/ltc/gf100.c gf100_ltc_init";
    /// Slices of each cache in bits 28-31.
    SLICES = 0x17e8dc, Ro, reset = 0x2000_0000,
        "K61 nvkm/subdev/ltc/gf100.c gf100_ltc_oneinit";
}
