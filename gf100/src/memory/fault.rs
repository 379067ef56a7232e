//! What the MMU reports when it cannot translate.
//!
//! Source: ENV `rnndb/memory/gf100_vm.xml` GF100_VM_FAULT, GF100_VM_ENGINE, GF100_VM_HUBCLIENT,
//! GF100_VM_GPCCLIENT, `rnndb/fifo/gf100_pfifo.xml` VM_FAULT; K61 `nvkm/engine/fifo/gf100.c
//! gf100_fifo_intr_fault` and the tables above it.

use thiserror::Error;

use super::PhysAddr;

/// Why, as the hardware numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FaultReason {
    /// The directory has no table for the address.
    PtNotPresent = 0x0,
    /// The table ends before the address.
    PtTooShort = 0x1,
    /// The table has no valid entry for the address.
    PageNotPresent = 0x2,
    /// The address is above the limit in the instance block.
    VmLimitExceeded = 0x3,
    /// No instance block is bound.
    NoChannel = 0x4,
    /// The page is for privileged clients.
    PageSystemOnly = 0x5,
    /// A store to a read-only page.
    PageReadOnly = 0x6,
    /// A compressed kind, or no memory that exists at all, outside video memory. Later cards call
    /// it an unsupported aperture (K61 `nvkm/engine/fifo/gk104.c gk104_fifo_fault_reason`).
    CompressedSysram = 0xa,
    /// A storage kind that does not exist.
    InvalidStorageType = 0xc,
    /// Translated, but nothing there answers: behind the end of video memory, or outside the DMA
    /// windows. Named by its meaning on later cards (K61 `nvkm/engine/fifo/gk104.c
    /// gk104_fifo_fault_reason`).
    RegionViolation = 0xd,
}

/// What was tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// A load.
    Read,
    /// A store or a read-modify-write.
    Write,
}

/// A translation that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{access:?} of {va:#012x} faults: {reason:?}")]
pub struct Fault {
    /// Why.
    pub reason: FaultReason,
    /// The virtual address.
    pub va: u64,
    /// What was tried there.
    pub access: Access,
}

/// The unit on whose behalf the MMU translated: which of the fault registers is filled, and which
/// engine the driver resets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // The names are the hardware's.
#[repr(u8)]
pub enum FaultUnit {
    Pgraph = 0x00,
    Peephole = 0x03,
    Bar1 = 0x04,
    Bar3 = 0x05,
    Pfifo0 = 0x07,
    Pfifo1 = 0x08,
    Pfifo2 = 0x09,
    Msvld = 0x10,
    Msppp = 0x11,
    Pcounter = 0x13,
    Mspdec = 0x14,
    Ce0 = 0x15,
    Ce1 = 0x16,
    Pmu = 0x17,
}

/// A client of the MMU in the hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // The names are the hardware's.
#[repr(u8)]
pub enum HubClient {
    Ce0 = 0x01,
    Ce1 = 0x02,
    Dispatch = 0x04,
    Ctxctl = 0x05,
    Pfifo = 0x06,
    BarRead = 0x07,
    BarWrite = 0x08,
    Mspdec = 0x0b,
    Msppp = 0x0c,
    Msvld = 0x0d,
    Pcounter = 0x11,
    Pmu = 0x12,
    Ccache = 0x14,
    CcachePost = 0x15,
}

/// A client of the MMU in a GPC. Level-one caches and texture units count by TPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // The names are the hardware's.
pub enum GpcClient {
    L1 { tpc: u8 },
    Tex { tpc: u8 },
    Poly { tpc: u8 },
    Esetup,
    Ccache,
    Ctxctl,
    Prop,
}

impl GpcClient {
    const fn code(self) -> u32 {
        match self {
            GpcClient::L1 { tpc } => (tpc as u32 & 3) * 3,
            GpcClient::Tex { tpc } => (tpc as u32 & 3) * 3 + 1,
            GpcClient::Poly { tpc } => (tpc as u32 & 3) * 3 + 2,
            GpcClient::Esetup => 0x0c,
            GpcClient::Ccache => 0x0d,
            GpcClient::Ctxctl => 0x0e,
            GpcClient::Prop => 0x0f,
        }
    }
}

/// Who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultClient {
    /// A unit of the hub.
    Hub(HubClient),
    /// A unit of a GPC.
    Gpc {
        /// Which GPC.
        gpc: u8,
        /// Which of its units.
        client: GpcClient,
    },
}

/// A fault with everything that PFIFO's fault registers show of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultReport {
    /// On whose behalf.
    pub unit: FaultUnit,
    /// Who asked.
    pub client: FaultClient,
    /// The instance block in use, if one was bound.
    pub instance: Option<PhysAddr>,
    /// What failed.
    pub fault: Fault,
}

impl FaultReport {
    /// The unit's four registers: instance, address low and high, type.
    pub fn registers(&self) -> [u32; 4] {
        let client = match self.client {
            FaultClient::Hub(client) => 1 << 6 | (client as u32) << 8,
            FaultClient::Gpc { gpc, client } => client.code() << 8 | (u32::from(gpc) & 0x1f) << 24,
        };
        let write = u32::from(self.fault.access == Access::Write) << 7;
        [
            self.instance.map_or(0, PhysAddr::to_channel_word),
            self.fault.va as u32,
            (self.fault.va >> 32) as u32,
            self.fault.reason as u32 | write | client,
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_reads_as_the_driver_decodes_it() {
        let report = FaultReport {
            unit: FaultUnit::Ce1,
            client: FaultClient::Hub(HubClient::Ce1),
            instance: Some(PhysAddr::vram(0x0abc_d000)),
            fault: Fault {
                reason: FaultReason::PageReadOnly,
                va: 0x12_3456_7890,
                access: Access::Write,
            },
        };
        assert_eq!(report.registers(), [0xabcd, 0x3456_7890, 0x12, 0x2c6]);
        let report = FaultReport {
            client: FaultClient::Gpc {
                gpc: 3,
                client: GpcClient::Tex { tpc: 2 },
            },
            ..report
        };
        assert_eq!(report.registers()[3], 0x0300_0786);
    }
}
