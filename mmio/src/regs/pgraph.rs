//! PGRAPH: graphics and compute, its context switcher (FECS and GPCCS), and the clusters.
//!
//! Only what the card gives behaviour is named; the several hundred stores of a driver's set-up
//! and of a context's register list are plain storage. The falcons' own registers are in
//! [`super::falcon`].

use bitflags::bitflags;

use crate::RegId;
use crate::register::registers;

bitflags! {
    /// Interrupts of PGRAPH.
    ///
    /// Source: ENV `rnndb/graph/gf100_pgraph/pgraph.xml` INTR; K61 `nvkm/engine/gr/gf100.c
    /// gf100_gr_intr`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Intr: u32 {
        /// A notify that asked for an interrupt.
        const NOTIFY = 1 << 0;
        /// A query that asked for an interrupt.
        const QUERY = 1 << 1;
        /// The class has no such method.
        const ILLEGAL_MTHD = 1 << 4;
        /// The card has no such class.
        const ILLEGAL_CLASS = 1 << 5;
        /// An M2MF transfer that asked for an interrupt.
        const BUFFER_NOTIFY = 1 << 16;
        /// The context switcher has something to say.
        const CTXCTL_UP = 1 << 19;
        /// A method's argument makes no sense; see `DATA_ERROR`.
        const DATA_ERROR = 1 << 20;
        /// A command failed half way; see `TRAP`.
        const TRAP = 1 << 21;
    }
}

bitflags! {
    /// Units that report traps.
    ///
    /// Source: ENV `rnndb/graph/gf100_pgraph/pgraph.xml` TRAP; K61 `nvkm/engine/gr/gf100.c
    /// gf100_gr_trap_intr`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Trap: u32 {
        /// The dispatcher of methods.
        const DISPATCH = 1 << 0;
        /// The copy unit.
        const M2MF = 1 << 1;
        /// The constant cache.
        const CCACHE = 1 << 3;
        /// Shader set-up.
        const SHADER = 1 << 4;
        /// The macro processor.
        const MACRO = 1 << 7;
        /// A GPC; see `TRAP_GPCS`.
        const GPC = 1 << 24;
        /// A ROP.
        const ROP = 1 << 25;
    }
}

bitflags! {
    /// Flow of methods into PGRAPH.
    ///
    /// Source: ENV `rnndb/graph/gf100_pgraph/pgraph.xml` FIFO.CONTROL.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct FifoControl: u32 {
        /// Methods are executed. A trap clears it, software sets it again.
        const PULL = 1 << 0;
        /// Set together with [`FifoControl::PULL`].
        const UNK16 = 1 << 16;
    }
}

bitflags! {
    /// What the firmware of FECS reports to the host.
    ///
    /// Source: K61 `nvkm/engine/gr/gf100.c gf100_gr_ctxctl_isr`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct FecsIntr: u32 {
        /// The firmware ran into an error; its code is in `FECS_SCRATCH[5]`.
        const FIRMWARE = 1 << 0;
        /// A context switch took too long.
        const WATCHDOG = 1 << 19;
    }
}

/// Bytes from one GPC's registers to the next one's.
pub const GPC_STRIDE: u32 = 0x8000;
/// Bytes from one TPC's registers to the next one's, within a GPC.
pub const TPC_STRIDE: u32 = 0x800;
/// Resets a trap register of a unit (its errors), when stored.
pub const TRAP_RESET: u32 = 1 << 31;
/// Lets a unit trap.
pub const TRAP_ENABLE: u32 = 1 << 30;

/// Commands of the context switcher's built-in firmware: makes the channel of `FECS_WRCMD_DATA` current
/// without loading its context.
///
/// Source: K61 `nvkm/engine/gr/fuc/hub.fuc main`.
pub const FECS_SET_CHANNEL: u32 = 0x01;
/// Saves the current channel's context.
pub const FECS_SAVE: u32 = 0x02;
/// The built-in firmware is ready, or has done a command: `FECS_SCRATCH[0]`.
pub const FECS_READY: u32 = 1 << 31;
/// There is a channel: `FECS_CHAN` and `FECS_CHAN_NEXT`.
pub const FECS_CHAN_VALID: u32 = 1 << 31;
/// `FE_MTHD`: execute the method.
pub const FE_MTHD_GO: u32 = 1 << 31;
/// `FE_PWR_MODE`: the change has not taken effect.
pub const PWR_MODE_PENDING: u32 = 1 << 4;
/// `STATUS`: an internal command is executed.
pub const STATUS_ICMD: u32 = 1 << 2;
/// `FE_STATUS`: the front end is busy.
pub const FE_BUSY: u32 = 1 << 0;
/// The internal command that is done when PGRAPH is idle, in bits 0-15 of `ICMD_CMD`.
///
/// Source: K61 `nvkm/engine/gr/gf100.c gf100_gr_icmd`.
pub const ICMD_GO_IDLE: u32 = 0xe100;

/// Registers with addresses of memory, which do nothing here but store: where the GPCs' MMU makes
/// stores, and loads, that it turns away, >> 8.
///
/// Source: K61 `nvkm/engine/gr/gf100.c gf100_gr_init_gpc_mmu`.
pub const GPC_MMU_DEBUG_WR: RegId = RegId(0x4188b4);
/// Likewise, for loads.
pub const GPC_MMU_DEBUG_RD: RegId = RegId(0x4188b8);
/// The buffer of bundles, >> 8, in the hub and in the GPCs.
///
/// Source: K61 `nvkm/engine/gr/ctxgf100.c gf100_grctx_generate_bundle`.
pub const BUNDLE_HUB: RegId = RegId(0x408004);
/// Likewise, in the GPCs.
pub const BUNDLE_GPC: RegId = RegId(0x418808);
/// The pool of pages, >> 8, in the hub.
///
/// Source: K61 `nvkm/engine/gr/ctxgf100.c gf100_grctx_generate_pagepool`.
pub const PAGEPOOL_HUB: RegId = RegId(0x40800c);
/// Likewise, in the TPCs.
pub const PAGEPOOL_TPC: RegId = RegId(0x419004);
/// The buffer of attributes, >> 12, in the GPCs; flags above.
///
/// Source: K61 `nvkm/engine/gr/ctxgf100.c gf100_grctx_generate_attrib`.
pub const ATTRIBUTES_GPC: RegId = RegId(0x418810);
/// Likewise, in the TPCs.
pub const ATTRIBUTES_TPC: RegId = RegId(0x419848);

/// First bit of `GPC_TRAP` that is a TPC's.
pub const GPC_TRAP_TPC_SHIFT: u32 = 16;

registers! { Pgraph, "PGRAPH";
    /// Pending interrupts.
    INTR = 0x400100, W1c, fields = Intr, "K61 nvkm/engine/gr/gf100.c gf100_gr_intr";
    /// Units with a pending trap.
    TRAP = 0x400108, W1c, fields = Trap, "K61 nvkm/engine/gr/gf100.c gf100_gr_trap_intr";
    /// What is wrong with the argument of the trapped method.
    DATA_ERROR = 0x400110, Ro, "ENV rnndb/graph/gf100_pgraph/pgraph.xml";
    /// GPCs with a pending trap.
    TRAP_GPCS = 0x400118, W1c, "K61 nvkm/engine/gr/gf100.c gf100_gr_trap_intr";
    /// ROPs with a pending trap.
    TRAP_ROPS = 0x40011c, W1c, "ENV rnndb/graph/gf100_pgraph/pgraph.xml";
    /// GPCs whose traps count.
    TRAP_GPCS_EN = 0x400130, Rw, "ENV rnndb/graph/gf100_pgraph/pgraph.xml";
    /// ROPs whose traps count.
    TRAP_ROPS_EN = 0x400134, Rw, "ENV rnndb/graph/gf100_pgraph/pgraph.xml";
    /// Units whose traps count.
    TRAP_EN = 0x400138, Rw, fields = Trap, "ENV rnndb/graph/gf100_pgraph/pgraph.xml";
    /// Interrupts that reach PMC.
    INTR_EN = 0x40013c, Rw, fields = Intr, "ENV rnndb/graph/gf100_pgraph/pgraph.xml";
    /// Executes an internal command.
    ICMD_CMD = 0x400200, Wo, "K61 nvkm/engine/gr/gf100.c gf100_gr_icmd";
    /// Argument of internal commands.
    ICMD_DATA = 0x400204, Rw, "K61 nvkm/engine/gr/gf100.c gf100_gr_icmd";
    /// Mode of internal commands.
    ICMD_MODE = 0x400208, Rw, "K61 nvkm/engine/gr/gf100.c gf100_gr_icmd";
    /// Flow of methods.
    FIFO_CONTROL = 0x400500, Rw, fields = FifoControl, "K61 nvkm/engine/gr/gf100.c gf100_gr_intr";
    /// Bit 0: the front end is busy.
    FE_STATUS = 0x40060c, Ro, "K61 nvkm/engine/gr/gf100.c gf100_gr_wait_idle";
    /// Busy units; bit 2 an internal command.
    STATUS = 0x400700, Ro, "K61 nvkm/engine/gr/gf100.c gf100_gr_wait_idle";
    /// The method that trapped: address, subchannel in bits 16-18.
    TRAPPED_ADDR = 0x400704, Ro, "K61 nvkm/engine/gr/gf100.c gf100_gr_intr";
    /// Its argument.
    TRAPPED_DATA = 0x400708, Ro, "K61 nvkm/engine/gr/gf100.c gf100_gr_intr";
    /// Errors of the dispatcher.
    DISPATCH_TRAP = 0x404000, Rw, "K61 nvkm/engine/gr/gf100.c gf100_gr_trap_intr";
    /// Timer of the idle filter.
    FE_IDLE_TIMEOUT = 0x404154, Rw, "K61 nvkm/engine/gr/ctxgf100.c gf100_grctx_generate_main";
    /// Power mode; bit 4 stays up until a change has taken effect.
    FE_PWR_MODE = 0x404170, Rw, "K61 nvkm/engine/gr/ctxgf100.c gf100_grctx_generate";
    /// Classes bound to the subchannels.
    SUBCHANNEL_CLASS[8; 4] = 0x404200, Rw, "K61 nvkm/engine/gr/gf100.c gf100_gr_intr";
    /// Executes a method from the host: class in bits 0-15, address >> 2 in bits 16-27, go in bit 31.
    FE_MTHD = 0x404488, Wo, "K61 nvkm/engine/gr/gf100.c gf100_gr_mthd";
    /// Argument of methods from the host.
    FE_MTHD_DATA = 0x40448c, Rw, "K61 nvkm/engine/gr/gf100.c gf100_gr_mthd";
    /// Errors of the macro processor.
    MACRO_TRAP = 0x404490, Rw, "K61 nvkm/engine/gr/gf100.c gf100_gr_trap_intr";
    /// Where the macro failed; bit 28 valid.
    MACRO_TRAP_PC = 0x404494, Ro, "K61 nvkm/engine/gr/gf100.c gf100_gr_trap_intr";
    /// The instruction there.
    MACRO_TRAP_OP = 0x40449c, Ro, "K61 nvkm/engine/gr/gf100.c gf100_gr_trap_intr";
    /// Errors of the copy unit.
    M2MF_TRAP = 0x404600, Rw, "K61 nvkm/engine/gr/gf100.c gf100_gr_trap_intr";
    /// Errors of shader set-up.
    SHADER_TRAP = 0x405840, Rw, "K61 nvkm/engine/gr/gf100.c gf100_gr_trap_intr";
    /// Errors of the constant cache.
    CCACHE_TRAP = 0x408030, Rw, "K61 nvkm/engine/gr/gf100.c gf100_gr_trap_intr";
    /// Argument of firmware commands.
    FECS_WRCMD_DATA = 0x409500, Rw, "K61 nvkm/engine/gr/fuc/macros.fuc";
    /// Gives the firmware a command.
    FECS_WRCMD_CMD = 0x409504, Wo, "K61 nvkm/engine/gr/fuc/macros.fuc";
    /// GPCs in bits 0-4, ROPs in bits 16-20.
    FECS_UNITS = 0x409604, Ro, "K61 nvkm/engine/gr/gf100.c gf100_gr_oneinit, gf100_gr_rops";
    /// Reset lines of the units behind FECS.
    FECS_RED_SWITCH = 0x409614, Rw, "K61 nvkm/engine/gr/ctxgf100.c gf100_grctx_generate";
    /// What firmware and host tell each other. After start: [0] bit 31 ready, [1] context size.
    FECS_SCRATCH[8; 4] = 0x409800, Rw, "K61 nvkm/engine/gr/fuc/macros.fuc";
    /// Sets bits of `FECS_SCRATCH`.
    FECS_SCRATCH_SET[8; 4] = 0x409820, Wo, "K61 nvkm/engine/gr/fuc/macros.fuc";
    /// Clears bits of `FECS_SCRATCH`.
    FECS_SCRATCH_CLR[8; 4] = 0x409840, Wo, "K61 nvkm/engine/gr/fuc/macros.fuc";
    /// Instance block of the channel that is on PGRAPH >> 12; bit 31 valid.
    FECS_CHAN = 0x409b00, Rw, "K61 nvkm/engine/gr/fuc/macros.fuc";
    /// Instance block of the channel that is to be next.
    FECS_CHAN_NEXT = 0x409b04, Rw, "K61 nvkm/engine/gr/fuc/macros.fuc";
    /// Interrupts of the firmware to the host.
    FECS_INTR_UP = 0x409c18, Ro, fields = FecsIntr,
        "K61 nvkm/engine/gr/gf100.c gf100_gr_ctxctl_isr";
    /// Acknowledges them.
    FECS_INTR_UP_ACK = 0x409c20, Wo, fields = FecsIntr,
        "K61 nvkm/engine/gr/gf100.c gf100_gr_ctxctl_isr";
    /// Lets them reach the host.
    FECS_INTR_UP_EN = 0x409c24, Rw, fields = FecsIntr,
        "K61 nvkm/engine/gr/gf100.c gf100_gr_init_fecs_exceptions";
    /// TPCs of a GPC.
    GPC_TPCS[8; 0x8000] = 0x502608, Ro, "K61 nvkm/engine/gr/gf100.c gf100_gr_oneinit";
    /// Traps of a GPC's units; from bit 16 its TPCs.
    GPC_TRAP[8; 0x8000] = 0x502c90, W1c, "K61 nvkm/engine/gr/gf100.c gf100_gr_trap_gpc";
}

/// Registers of a TPC, from its base.
///
/// Source: K61 `nvkm/engine/gr/gf100.c gf100_gr_trap_tpc, gf100_gr_trap_mp`.
pub mod tpc {
    use crate::{Kind, RegId, Register, Unit};

    /// Base of TPC 0 of GPC 0.
    pub const BASE: u32 = 0x504000;
    /// GPCs that the register space has room for, and TPCs of each that this chip has.
    pub const COUNT: (u32, u32) = (8, 4);
    /// Traps of the TPC: texture unit 0, SM 1, poly 2, L1 3, MPC 4.
    pub const TRAP: u32 = 0x508;
    /// The bit of the SM there.
    pub const TRAP_MP: u32 = 1 << 1;
    /// What a warp of the SM did wrong (bits 0-15), which one.
    pub const MP_WARP_ERROR: u32 = 0x648;
    /// What went wrong with the SM, cleared by storing ones.
    pub const MP_GLOBAL_ERROR: u32 = 0x650;

    /// The place of register `register` of a TPC.
    pub const fn offset(gpc: u32, tpc: u32, register: u32) -> u32 {
        BASE + gpc * super::GPC_STRIDE + tpc * super::TPC_STRIDE + register
    }

    /// The place of `register` of the TPC that has a register at `offset`.
    pub const fn sibling(offset: u32, register: u32) -> u32 {
        offset / super::TPC_STRIDE * super::TPC_STRIDE + register
    }

    macro_rules! tpcs {
        ($($number:literal $prefix:literal),+; $($name:ident, $kind:ident, $summary:literal;)+) => {
            tpcs!(@tables [$($number $prefix)+] [$($name, $kind, $summary;)+]);
        };
        (@tables [$($number:literal $prefix:literal)+] $registers:tt) => {
            /// The named registers of all TPCs.
            pub static REGISTERS: &[&[Register]] = &[$(tpcs!(@table $number $prefix $registers)),+];
        };
        (@table $number:literal $prefix:literal [$($name:ident, $kind:ident, $summary:literal;)+]) => {
            &[$(Register {
                id: RegId(offset(0, $number, $name)),
                name: concat!("PGRAPH.", $prefix, ".", stringify!($name)),
                unit: Unit::Pgraph,
                stride: super::GPC_STRIDE,
                count: COUNT.0,
                kind: Kind::$kind,
                reset: 0,
                summary: $summary,
                source: "K61 nvkm/engine/gr/gf100.c gf100_gr_trap_tpc, gf100_gr_trap_mp",
                fields: None,
            },)+]
        };
    }

    tpcs! { 0 "TPC0", 1 "TPC1", 2 "TPC2", 3 "TPC3";
        TRAP, Rw, "Traps of the TPC's units.";
        MP_WARP_ERROR, Rw, "What a warp did wrong, and which.";
        MP_GLOBAL_ERROR, W1c, "What went wrong with the SM.";
    }
}
