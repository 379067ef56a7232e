//! PPCI: configuration space as BAR0 shows it.

use crate::register::registers;

/// Where configuration space starts.
///
/// Source: K61 `nvkm/subdev/pci/nv40.c nv40_pci_rd32`.
pub const CONFIG: u32 = 0x088000;

registers! { Ppci, "PPCI";
    /// PCIe capability of the chip: version 2 in bit 0, its speeds in bit 7.
    PCIE_VERSION = 0x02241c, Rw, "K61 nvkm/subdev/pci/gf100.c gf100_pcie_set_version";
    /// Shadowing of the expansion ROM.
    ROM_SHADOW = 0x088050, Rw, "K61 nvkm/subdev/pci/base.c nvkm_pci_rom_shadow";
    /// Link control and status: current speed in bits 16-17.
    LINK_STATUS = 0x088088, Rw, reset = 0x0001_0000,
        "K61 nvkm/subdev/pci/g84.c g84_pcie_cur_speed";
    /// Highest speed of the link.
    LINK_SPEED = 0x088460, Rw, "K61 nvkm/subdev/pci/g84.c g84_pcie_max_speed";
    /// A store of any byte lets the card send its next message.
    MSI_REARM = 0x088704, Wo, "K61 nvkm/subdev/pci/gf100.c gf100_pci_msi_rearm";
}
