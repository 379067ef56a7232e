//! The registers of BAR0, a module for each unit.

pub mod board;
pub mod falcon;
pub mod pbus;
pub mod pce;
pub mod pfb;
pub mod pfifo;
pub mod pgraph;
pub mod pltc;
pub mod pmc;
pub mod ppci;
pub mod ppmu;
pub mod ptimer;

use crate::Register;

/// Where the expansion ROM shows in BAR0.
///
/// Source: K61 `nvkm/subdev/bios/shadowrom.c prom_read`.
pub const PROM: std::ops::Range<u32> = 0x300000..0x400000;

/// The window to VRAM that [`pbus::BAR0_WINDOW`] moves.
///
/// Source: K61 `nvkm/subdev/instmem/nv50.c nv50_instobj_rd32_slow`.
pub const PRAMIN: std::ops::Range<u32> = 0x700000..0x800000;

/// Every unit's table.
pub static BLOCKS: &[&[Register]] = &[
    board::REGISTERS,
    board::THERM_REGISTERS,
    board::GPIO_REGISTERS,
    board::PRIV_REGISTERS,
    board::CLOCK_REGISTERS,
    falcon::PMU_REGISTERS,
    falcon::CE0_REGISTERS,
    falcon::CE1_REGISTERS,
    falcon::FECS_REGISTERS,
    falcon::GPCCS_REGISTERS,
    pbus::REGISTERS,
    pce::REGISTERS,
    pfb::REGISTERS,
    pfifo::REGISTERS,
    pltc::REGISTERS,
    pgraph::REGISTERS,
    pgraph::tpc::REGISTERS[0],
    pgraph::tpc::REGISTERS[1],
    pgraph::tpc::REGISTERS[2],
    pgraph::tpc::REGISTERS[3],
    pmc::REGISTERS,
    ppci::REGISTERS,
    ppmu::REGISTERS,
    ptimer::REGISTERS,
];
