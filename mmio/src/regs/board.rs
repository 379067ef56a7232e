//! Straps, fuses, sensors and clocks: what a board is, and what this one leaves out.

use crate::register::registers;
use crate::{Kind, RegId, Register, Unit};

/// Registers of units that only store: a named list keeps traces readable.
macro_rules! stores {
    ($table:ident, $unit:ident, $prefix:literal; $($name:ident = $offset:literal, $source:literal;)+) => {
        #[doc = concat!("The registers of ", $prefix, " that drivers touch.")]
        pub static $table: &[Register] = &[
            $(Register {
                id: RegId($offset),
                name: concat!($prefix, ".", stringify!($name)),
                unit: Unit::$unit,
                stride: 4,
                count: 1,
                kind: Kind::Rw,
                reset: 0,
                summary: "Stores.",
                source: $source,
                fields: None,
            },)+
        ];
    };
}

/// `DEVINIT_STATUS`: initialisation scripts have run.
pub const DEVINIT_DONE: u32 = 1 << 1;

registers! { Pfuse, "PFUSE";
    /// Largest number of GPCs.
    GPC_COUNT = 0x022430, Ro, "K61 nvkm/engine/pm/gf100.c gf100_pm_new_";
    /// Largest number of TPCs in a GPC.
    TPC_COUNT = 0x022434, Ro, "ENV rnndb/bus/pfuse.xml";
    /// Number of memory partitions.
    FBP_COUNT = 0x022438, Ro, "K61 nvkm/subdev/fb/ramgf100.c gf100_ram_ctor";
    /// Fused-off units: display 0, MSPDEC and MSPPP 1, MSVLD 2, CE0 8, CE1 9.
    DISABLED_ENGINES = 0x022500, Ro, reset = 0x7,
        "K61 nvkm/subdev/devinit/gf100.c gf100_devinit_disable";
    /// Fused-off GPCs.
    DISABLED_GPCS = 0x022504, Ro, "K61 nvkm/engine/pm/gf100.c gf100_pm_new_";
    /// Fused-off memory partitions.
    DISABLED_FBPS = 0x022554, Ro, "K61 nvkm/subdev/fb/ramgf100.c gf100_ram_ctor";
    /// Whether initialisation scripts have run.
    DEVINIT_STATUS = 0x02240c, Ro, reset = DEVINIT_DONE,
        "K61 nvkm/subdev/devinit/gf100.c gf100_devinit_preinit";
    /// Access to the fuses.
    FUSE_ACCESS = 0x022400, Rw, "K61 nvkm/subdev/fuse/gf100.c gf100_fuse_read";
    /// Speedo value of the chip.
    SPEEDO = 0x0212cc, Ro, reset = 0x400, "K61 nvkm/subdev/volt/gf100.c gf100_volt_speedo_read";
    /// 1: an internal temperature sensor is fitted.
    TEMPERATURE_SENSOR = 0x0212a8, Ro, "K61 nvkm/subdev/therm/gt215.c";
    /// Straps: crystal in bits 6 and 22, memory configuration in bits 2-5.
    STRAPS = 0x101000, Ro, reset = 0x0040_0000, "K61 nvkm/engine/device/base.c nvkm_device_ctor";
}

stores! { THERM_REGISTERS, Ptherm, "PTHERM";
    TEMPERATURE = 0x020400, "K61 nvkm/subdev/therm/g84.c";
    INTR_A = 0x00e720, "K61 nvkm/subdev/therm/gt215.c";
    INTR_B = 0x00e724, "K61 nvkm/subdev/therm/gt215.c";
}

stores! { GPIO_REGISTERS, Pgpio, "PGPIO";
    INTR_EN_0 = 0x00e050, "K61 nvkm/subdev/gpio/g94.c";
    INTR_0 = 0x00e054, "K61 nvkm/subdev/gpio/g94.c";
    INTR_EN_1 = 0x00e070, "K61 nvkm/subdev/gpio/g94.c";
    INTR_1 = 0x00e074, "K61 nvkm/subdev/gpio/g94.c";
    AUX_INTR = 0x00e06c, "K61 nvkm/subdev/i2c/g94.c";
    AUX_INTR_EN = 0x00e068, "K61 nvkm/subdev/i2c/g94.c";
}

stores! { PRIV_REGISTERS, Ppriv, "PPRIV";
    RING_COMMAND = 0x121c4c, "K61 nvkm/subdev/privring/gf100.c gf100_privring_intr";
    RING_INTR_0 = 0x121c58, "K61 nvkm/subdev/privring/gf100.c gf100_privring_intr";
    RING_INTR_1 = 0x121c5c, "K61 nvkm/subdev/privring/gf100.c gf100_privring_intr";
    RING_FBPS = 0x121c74, "ENV rnndb/bus/pibus.xml";
    RING_GPCS = 0x121c70, "ENV rnndb/bus/pibus.xml";
    RING_ROPS = 0x121c78, "ENV rnndb/bus/pibus.xml";
}

stores! { CLOCK_REGISTERS, Pclk, "PCLK";
    SOURCE = 0x137100, "K61 nvkm/subdev/clk/gf100.c read_clk";
    MEMORY_PLL = 0x132000, "K61 nvkm/subdev/clk/gf100.c read_pll";
    CRYSTAL_PLL_0 = 0x00e800, "K61 nvkm/subdev/clk/gf100.c read_pll";
    CRYSTAL_PLL_1 = 0x00e820, "K61 nvkm/subdev/clk/gf100.c read_pll";
}
