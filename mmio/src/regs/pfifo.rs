//! PFIFO: channels, runlists, the three PBDMAs, and what went wrong on any of them.
//!
//! Source: ENV `rnndb/fifo/gf100_pfifo.xml`; K61 `nvkm/engine/fifo/{gf100,gpfifogf100}.c`; K612
//! `nvkm/engine/fifo/{gf100,runl}.c`.

use bitflags::bitflags;

use crate::register::registers;

/// Channels of the card.
pub const CHANNELS: u32 = 128;
/// PBDMAs of the card.
pub const PBDMAS: u32 = 3;
/// Engine numbers that have registers.
pub const ENGINES: u32 = 6;

bitflags! {
    /// Interrupts of PFIFO.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Intr: u32 {
        /// The channel table was written in a way that makes no sense: `CHAN_TABLE_ERROR`.
        const CHAN_TABLE_ERROR = 1 << 0;
        /// A PIO submission failed.
        const BYPASS_ERROR = 1 << 4;
        /// The scheduler complains: `SCHED_ERROR`.
        const SCHED_ERROR = 1 << 8;
        /// A channel switch went wrong.
        const CHSW_ERROR = 1 << 16;
        /// An internal buffer overflowed.
        const LB_ERROR = 1 << 24;
        /// The MMU reported a fault: `VM_FAULT_SOURCE`.
        const VM_FAULT = 1 << 28;
        /// A PBDMA needs attention: `PBDMA_INTR_SOURCE`.
        const PBDMA = 1 << 29;
        /// A runlist was taken over: `INTR_RUNLIST`.
        const RUNLIST = 1 << 30;
        /// The non-stalling interrupt of a channel: `ENGINE_INTR_SOURCE`.
        const ENGINE = 1 << 31;
    }
}

bitflags! {
    /// Interrupts of a PBDMA. It stops until software has cleared them.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct PbdmaIntr: u32 {
        /// An engine does not take a method.
        const ENGINE_PULL_TIMEOUT = 1 << 8;
        /// The put index is behind the end of the indirect buffer.
        const IB_PUT_OVERFLOW = 1 << 14;
        /// An entry of the indirect buffer has no words.
        const IB_ENTRY_INVALID = 1 << 15;
        /// A word where a header should be is none.
        const ILLEGAL_CMD = 1 << 18;
        /// A method below 0x100 that the PBDMA does not know.
        const ILLEGAL_MTHD = 1 << 21;
        /// Method 0x7c with an argument.
        const MTHD_UNK7C_NONZERO = 1 << 22;
        /// A method for an engine that software has to play ("EMPTY_SUBC" in nouveau).
        const SW_MTHD = 1 << 23;
        /// A semaphore operation that does not exist.
        const ILLEGAL_SEM = 1 << 25;
        /// An acquire took longer than the channel may wait.
        const SEM_TIMEOUT = 1 << 26;
        /// RAMFC lacks its signature.
        const SIG_MISMATCH = 1 << 31;
    }
}

bitflags! {
    /// Half of a channel's entry in the channel table.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct ChanState: u32 {
        /// Software lets it run.
        const RUNNABLE = 1 << 0;
        /// It waits for a semaphore.
        const ACQUIRE_PENDING = 1 << 4;
        /// It is on a PBDMA.
        const LOADED = 1 << 12;
        /// It has work.
        const PENDING = 1 << 28;
        /// The engine that it uses.
        const ENGINE = 0x1f << 16;
    }
}

bitflags! {
    /// What an engine is doing.
    ///
    /// Source: K61 `nvkm/engine/fifo/gf100.c gf100_fifo_intr_sched_ctxsw`; K612
    /// `nvkm/engine/fifo/gf100.c gf100_engn_status`; ENV.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct EngState: u32 {
        /// The channel that it works for.
        const CHID = 0x7f;
        /// A channel switch waits.
        const SWITCH = 1 << 12;
        /// A channel switch waits, where 6.12 looks.
        const SWITCH_ACK = 1 << 14;
        /// A channel switch waits, where 6.1 looks.
        const SWITCH_STUCK = 1 << 18;
        /// A fault of it was not cleared.
        const FAULTED = 1 << 24;
        /// It is on a channel, where 6.12 looks.
        const BUSY = 1 << 28;
        /// It is on a channel, where 6.1 looks.
        const ON_CHANNEL = 1 << 31;
    }
}

/// `CTRL`: PFIFO works.
pub const CTRL_ENABLE: u32 = 1 << 0;
/// `CHAN`: the channel exists.
pub const CHAN_VALID: u32 = 1 << 31;
/// `BAR1_BASE`: channels are driven through BAR1.
pub const BAR1_BASE_ENABLE: u32 = 1 << 28;
/// `RUNLIST_RD_LEN`: not yet taken over.
pub const RUNLIST_PENDING: u32 = 1 << 20;
/// `RUNLIST_WR_LEN`: entries.
pub const RUNLIST_LENGTH: u32 = 0xfff;
/// `KICK`: the channel is still on a PBDMA or an engine.
pub const KICK_PENDING: u32 = 1 << 20;
/// `INTR_RUNLIST`: a runlist was taken over.
pub const INTR_RUNLIST_DONE: u32 = 1 << 28;
/// `VM_FAULT_INJECT`: the fault is to be raised, or was.
pub const INJECT_VALID: u32 = 1 << 8;
/// `SCHED_ERROR`: a channel does not leave its engine.
pub const SCHED_ERROR_CTXSW_TIMEOUT: u32 = 0x0a;
/// `CHAN_TABLE_ERROR`: a channel was taken away from the PBDMA that it is on.
pub const CHAN_TABLE_ERROR_ACTIVE: u32 = 3;
/// `CHAN_TABLE_ERROR`: an instance block in no memory.
pub const CHAN_TABLE_ERROR_TARGET: u32 = 6;
/// `PBDMA_CH`: there is a channel.
pub const PBDMA_CH_ACTIVE: u32 = 1 << 8;
/// `PBDMA_CACHE_ADDR`: there is a method.
pub const CACHE_VALID: u32 = 1 << 31;
/// Time-outs of PFIFO: enabled.
pub const TIMEOUT_ENABLE: u32 = 1 << 31;
/// Time-outs of PFIFO: microseconds.
pub const TIMEOUT_VALUE: u32 = 0x00ff_ffff;
/// `ENG_TIMEOUT`: microseconds.
pub const ENG_TIMEOUT_VALUE: u32 = 0x7fff_ffff;

registers! { Pfifo, "PFIFO";
    /// Which PBDMAs exist, where 6.12 looks.
    PBDMA_ENABLE_PMC = 0x000204, Rw, reset = 7, "K612 nvkm/engine/fifo/gf100.c gf100_fifo_runq_nr";
    /// Pending interrupts.
    INTR = 0x002100, W1c, fields = Intr, "K61 nvkm/engine/fifo/gf100.c gf100_fifo_intr";
    /// Enabled interrupts.
    INTR_EN = 0x002140, Rw, fields = Intr, "K61 nvkm/engine/fifo/gf100.c gf100_fifo_intr";
    /// Master switch in bit 0.
    CTRL = 0x002200, Rw, "K61 nvkm/engine/fifo/gf100.c gf100_fifo_init";
    /// Which PBDMAs exist; only those read back.
    PBDMA_ENABLE = 0x002204, Rw, reset = 7, "K61 nvkm/engine/fifo/gf100.c gf100_fifo_oneinit";
    /// The PBDMAs that may not use an engine, as bits.
    ENG_PBDMA_MASK[6; 4] = 0x002208, Rw, "ENV rnndb/fifo/gf100_pfifo.xml";
    /// Where in BAR1 the channels' control pages are: page in bits 0-27, enable in bit 28.
    BAR1_BASE = 0x002254, Rw, "ENV rnndb/fifo/gf100_pfifo.xml";
    /// The runlist to be taken over: page in bits 0-27, target in bits 28-29.
    RUNLIST_WR = 0x002270, Rw, "K61 nvkm/engine/fifo/gf100.c gf100_fifo_runlist_commit";
    /// Its entries; the store submits it.
    RUNLIST_WR_LEN = 0x002274, Rw, "K61 nvkm/engine/fifo/gf100.c gf100_fifo_runlist_commit";
    /// The runlist in use.
    RUNLIST_RD = 0x002278, Ro, "ENV rnndb/fifo/gf100_pfifo.xml";
    /// Its entries; bit 20 while a newer one is being taken over.
    RUNLIST_RD_LEN = 0x00227c, Ro, "K61 nvkm/engine/fifo/gf100.c gf100_fifo_runlist_commit";
    /// The engine that a PBDMA uses, 0x1f for none.
    PBDMA_ENGINE[3; 4] = 0x002390, Ro, reset = 0x1f, "ENV rnndb/fifo/gf100_pfifo.xml";
    /// What is wrong with the channel table.
    CHAN_TABLE_ERROR = 0x00252c, Ro, "ENV rnndb/fifo/gf100_pfifo.xml";
    /// Why the scheduler complains.
    SCHED_ERROR = 0x00254c, Ro, "K61 nvkm/engine/fifo/gf100.c gf100_fifo_intr_sched";
    /// What is wrong with a channel switch.
    CHSW_ERROR = 0x00256c, Ro, "ENV rnndb/fifo/gf100_pfifo.xml";
    /// What is wrong with the internal buffers.
    LB_ERROR = 0x00258c, Ro, "ENV rnndb/fifo/gf100_pfifo.xml";
    /// Units with a fault to be read.
    VM_FAULT_SOURCE = 0x00259c, W1c, "K61 nvkm/engine/fifo/gf100.c gf100_fifo_intr";
    /// PBDMAs with an interrupt.
    PBDMA_INTR_SOURCE = 0x0025a0, Ro, "K61 nvkm/engine/fifo/gf100.c gf100_fifo_intr";
    /// Engines with a non-stalling interrupt.
    ENGINE_INTR_SOURCE = 0x0025a4, Ro, "K61 nvkm/engine/fifo/gf100.c gf100_fifo_intr_engine";
    /// Non-stalling interrupts of an engine, 4 bits per source.
    ENGINE_INTR[16; 4] = 0x0025a8, W1c, "K61 nvkm/engine/fifo/gf100.c gf100_fifo_intr_engine_unit";
    /// Which of those 4 bits count.
    ENGINE_INTR_EN = 0x002628, Rw, "K61 nvkm/engine/fifo/gf100.c gf100_fifo_init";
    /// Engines that faulted; storing the bit lets the engine go on.
    ENG_FAULT = 0x00262c, W1c, "K61 nvkm/engine/fifo/gf100.c gf100_fifo_recover_work";
    /// Engines that take no methods.
    ENG_FREEZE = 0x002630, Rw, "K61 nvkm/engine/fifo/gf100.c gf100_fifo_recover_work";
    /// Takes a channel off its PBDMA and engines: bit 20 until that is done.
    KICK = 0x002634, Rw, "K61 nvkm/engine/fifo/gpfifogf100.c gf100_fifo_gpfifo_engine_fini";
    /// Stops all channels.
    FREEZE = 0x002638, Rw, "ENV rnndb/fifo/gf100_pfifo.xml";
    /// What an engine is doing.
    ENG_STATE[6; 4] = 0x002640, Ro, fields = EngState,
        "K612 nvkm/engine/fifo/gf100.c gf100_engn_status";
    /// Faults by unit: the channel's instance block >> 12 and its target.
    VM_FAULT_INST[32; 0x10] = 0x002800, Ro, "K61 nvkm/engine/fifo/gf100.c gf100_fifo_intr_fault";
    /// Faults by unit: the virtual address, low word.
    VM_FAULT_ADDR_LOW[32; 0x10] = 0x002804, Ro,
        "K61 nvkm/engine/fifo/gf100.c gf100_fifo_intr_fault";
    /// Faults by unit: the virtual address, high word.
    VM_FAULT_ADDR_HIGH[32; 0x10] = 0x002808, Ro,
        "K61 nvkm/engine/fifo/gf100.c gf100_fifo_intr_fault";
    /// Faults by unit: reason, source, access and client.
    VM_FAULT_TYPE[32; 0x10] = 0x00280c, Ro, "K61 nvkm/engine/fifo/gf100.c gf100_fifo_intr_fault";
    /// Runlist events.
    INTR_RUNLIST = 0x002a00, W1c, "K61 nvkm/engine/fifo/gf100.c gf100_fifo_intr_runlist";
    /// Time-out of memory accesses; memory answers at once.
    FB_TIMEOUT = 0x002a04, Rw, reset = 0x8001_ffff, "ENV rnndb/fifo/gf100_pfifo.xml";
    /// Time-out of what a PBDMA fetches; memory answers at once.
    PB_TIMEOUT = 0x002a08, Rw, reset = 0x80ff_ffff, "ENV rnndb/fifo/gf100_pfifo.xml";
    /// How long an engine may take to switch channels: microseconds in bits 0-30, enable in bit 31
    /// (as nvgpu's `gk20a_fifo_ctxsw_timeout_enable` uses it on the successor).
    ENG_TIMEOUT = 0x002a0c, Rw, reset = 0xffff_ffff, "ENV rnndb/fifo/gf100_pfifo.xml";
    /// How long a channel may take to leave its engine: microseconds, enable in bit 31.
    CHSW_TIMEOUT = 0x002a18, Rw, reset = 0x80ff_ffff, "ENV rnndb/fifo/gf100_pfifo.xml";
    /// Makes an engine's unit (bits 0-4) fault.
    VM_FAULT_INJECT[6; 4] = 0x002a30, Rw,
        "K612 nvkm/engine/fifo/gf100.c gf100_engn_mmu_fault_trigger";
    /// A channel's instance block: page in bits 0-27, target in bits 28-29, valid in bit 31.
    CHAN[128; 8] = 0x003000, Rw, "K61 nvkm/engine/fifo/gpfifogf100.c gf100_fifo_gpfifo_init";
    /// Whether a channel may run and what it is doing.
    CHAN_STATE[128; 8] = 0x003004, Rw, fields = ChanState,
        "K61 nvkm/engine/fifo/gpfifogf100.c gf100_fifo_gpfifo_init";

    /// PBDMA: index behind the last entry of the indirect buffer.
    PBDMA_IB_PUT[3; 0x2000] = 0x040000, Ro, "ENV rnndb/fifo/gf100_pfifo.xml";
    /// PBDMA: index of the next entry.
    PBDMA_IB_GET[3; 0x2000] = 0x040014, Ro, "ENV rnndb/fifo/gf100_pfifo.xml";
    /// PBDMA: where it fetches, low word.
    PBDMA_DMA_GET[3; 0x2000] = 0x040018, Ro, "ENV rnndb/fifo/gf100_pfifo.xml";
    /// PBDMA: where it fetches, high word.
    PBDMA_DMA_GET_HIGH[3; 0x2000] = 0x04001c, Ro, "ENV rnndb/fifo/gf100_pfifo.xml";
    /// PBDMA: the reference counter.
    PBDMA_REF_CNT[3; 0x2000] = 0x040028, Ro, "ENV rnndb/fifo/gf100_pfifo.xml";
    /// PBDMA: semaphore address, high word.
    PBDMA_SEMAPHORE_ADDRESS_HIGH[3; 0x2000] = 0x040038, Ro, "ENV rnndb/fifo/gf100_pfifo.xml";
    /// PBDMA: semaphore address, low word.
    PBDMA_SEMAPHORE_ADDRESS_LOW[3; 0x2000] = 0x04003c, Ro, "ENV rnndb/fifo/gf100_pfifo.xml";
    /// PBDMA: semaphore sequence.
    PBDMA_SEMAPHORE_SEQUENCE[3; 0x2000] = 0x040040, Ro, "ENV rnndb/fifo/gf100_pfifo.xml";
    /// PBDMA: the semaphore operation.
    PBDMA_SEMAPHORE_STATE[3; 0x2000] = 0x040044, Ro,
        fields = crate::layout::pushbuffer::Semaphore, "ENV rnndb/fifo/gf100_pfifo.xml";
    /// PBDMA: where the segment ends, low word.
    PBDMA_DMA_PUT[3; 0x2000] = 0x04005c, Ro, "ENV rnndb/fifo/gf100_pfifo.xml";
    /// PBDMA: where the segment ends, high word.
    PBDMA_DMA_PUT_HIGH[3; 0x2000] = 0x040060, Ro, "ENV rnndb/fifo/gf100_pfifo.xml";
    /// PBDMA: the method at hand: address in bits 2-13, subchannel in bits 16-18, valid in bit 31.
    PBDMA_CACHE_ADDR[3; 0x2000] = 0x0400c0, Rw,
        "K61 nvkm/engine/fifo/gf100.c gf100_fifo_intr_pbdma";
    /// PBDMA: the argument of the method at hand.
    PBDMA_CACHE_DATA[3; 0x2000] = 0x0400c4, Rw,
        "K61 nvkm/engine/fifo/gf100.c gf100_fifo_intr_pbdma";
    /// PBDMA: pending interrupts.
    PBDMA_INTR[3; 0x2000] = 0x040108, W1c, fields = PbdmaIntr,
        "K61 nvkm/engine/fifo/gf100.c gf100_fifo_intr_pbdma";
    /// PBDMA: enabled interrupts.
    PBDMA_INTR_EN[3; 0x2000] = 0x04010c, Rw, fields = PbdmaIntr,
        "K61 nvkm/engine/fifo/gf100.c gf100_fifo_init";
    /// PBDMA: the last word where a header was expected that is none.
    PBDMA_CMD_SHADOW[3; 0x2000] = 0x040118, Ro, "ENV rnndb/fifo/gf100_pfifo.xml";
    /// PBDMA: the channel in bits 0-6, active in bit 8.
    PBDMA_CH[3; 0x2000] = 0x040120, Ro, "K61 nvkm/engine/fifo/gf100.c gf100_fifo_intr_pbdma";
    /// PBDMA: a mask of interrupts that this card only stores.
    PBDMA_INTR_HALT_MASK[3; 0x2000] = 0x04013c, Rw, fields = PbdmaIntr,
        "K61 nvkm/engine/fifo/gf100.c gf100_fifo_init";
}
