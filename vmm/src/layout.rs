//! The guest's physical address map.
//!
//! | from | to | what |
//! |---|---|---|
//! | 0 | [`LOW_RAM_END`] at most | RAM |
//! | [`PCI32_START`] | [`PCI32_END`] | 32-bit BARs |
//! | [`ECAM_START`] | +1 MiB | configuration space of bus 0 |
//! | [`IO_APIC`], [`LOCAL_APIC`], [`KVM_IDENTITY_MAP`], [`KVM_TSS`] | | the irqchip, KVM's own pages |
//! | [`HIGH_RAM_START`] | | RAM that did not fit below |
//! | [`pci64_start`] | +[`PCI64_SIZE`] | 64-bit BARs |

use std::ops::Range;

/// End of the RAM below 4 GiB when there is that much.
pub const LOW_RAM_END: u64 = 0xc000_0000;
/// Start of the RAM that did not fit below [`LOW_RAM_END`].
pub const HIGH_RAM_START: u64 = 0x1_0000_0000;

/// Window for 32-bit BARs, start.
pub const PCI32_START: u64 = LOW_RAM_END;
/// Window for 32-bit BARs, end.
pub const PCI32_END: u64 = 0xf000_0000;
/// Configuration space, memory mapped, of the one bus there is.
pub const ECAM_START: u64 = 0xf000_0000;
/// 4 KiB for each function of 32 devices.
pub const ECAM_SIZE: u64 = 1 << 20;
/// Size and alignment of the window for 64-bit BARs: the largest BAR that fits anywhere.
pub const PCI64_SIZE: u64 = 64 << 30;
/// Window for BARs in I/O space, start.
pub const PCI_IO_START: u16 = 0xc000;
/// Window for BARs in I/O space, last port.
pub const PCI_IO_LAST: u16 = 0xffff;

/// I/O APIC registers.
pub const IO_APIC: u32 = 0xfec0_0000;
/// Local APIC registers.
pub const LOCAL_APIC: u32 = 0xfee0_0000;
/// Page that KVM needs on some Intel processors for real mode.
pub const KVM_IDENTITY_MAP: u64 = 0xfffb_c000;
/// Three pages that KVM needs for the same reason.
pub const KVM_TSS: u64 = 0xfffb_d000;

/// Global descriptor table at boot.
pub const BOOT_GDT: u64 = 0x500;
/// Start information for the PVH entry point, followed by its lists.
pub const PVH_START_INFO: u64 = 0x6000;
/// List of modules for the PVH entry point.
pub const PVH_MODULES: u64 = 0x6040;
/// Memory map for the PVH entry point.
pub const PVH_MEMORY_MAP: u64 = 0x6080;
/// The "zero page" of the Linux boot protocol.
pub const ZERO_PAGE: u64 = 0x7000;
/// First stack.
pub const BOOT_STACK: u64 = 0x8ff0;
/// Page tables at boot: one PML4, one PDPT, one page directory.
pub const BOOT_PML4: u64 = 0x9000;
/// See [`BOOT_PML4`].
pub const BOOT_PDPT: u64 = 0xa000;
/// See [`BOOT_PML4`].
pub const BOOT_PD: u64 = 0xb000;
/// Kernel command line.
pub const CMDLINE: u64 = 0x2_0000;
/// Longest kernel command line: `COMMAND_LINE_SIZE` of x86 Linux.
pub const CMDLINE_SIZE: usize = 2048;
/// Start of the legacy hole; RAM that the guest must not use as such.
pub const LEGACY_HOLE: u64 = 0x9_fc00;
/// Where the ACPI tables start: inside the area that is searched for the RSDP.
pub const ACPI_TABLES: u64 = 0xe_0000;
/// Where real-mode code jumps to reset the machine: F000:FFF0.
pub const RESET_VECTOR: u64 = 0xf_fff0;
/// End of the legacy hole, start of ordinary memory and of the kernel.
pub const HIGH_MEMORY: u64 = 0x10_0000;

/// First serial port.
pub const COM1: u16 = 0x3f8;
/// Its interrupt.
pub const COM1_IRQ: u32 = 4;
/// Keyboard controller: data port; the command port is 4 further.
pub const I8042: u16 = 0x60;
/// Power control: see [`crate::devices::power`].
pub const POWER: u16 = 0x600;
/// Marks of the guest: see [`crate::devices::marker`].
pub const MARKER: u16 = 0x6f0;
/// Configuration mechanism #1: address port; the data port is 4 further.
pub const PCI_CONFIG: u16 = 0xcf8;
/// First pin of the I/O APIC that PCI's INTx uses.
pub const PCI_INTX_GSI: u32 = 16;
/// Number of I/O APIC pins for INTx.
pub const PCI_INTX_COUNT: u32 = 8;
/// Pins of the I/O APIC: message interrupts get numbers from here on.
pub const IO_APIC_PINS: u32 = 24;

/// The RAM of a guest with `size` bytes, in address order.
pub fn ram(size: u64) -> Vec<Range<u64>> {
    let low = size.min(LOW_RAM_END);
    let mut ranges = vec![Range { start: 0, end: low }];
    if size > low {
        ranges.push(HIGH_RAM_START..HIGH_RAM_START + (size - low));
    }
    ranges
}

/// Start of the window for 64-bit BARs of a guest with `size` bytes of RAM.
pub fn pci64_start(size: u64) -> u64 {
    let ram_end = ram(size).last().map_or(0, |range| range.end);
    ram_end.next_multiple_of(PCI64_SIZE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_memory_is_one_range() {
        let ranges = ram(1 << 30);

        assert_eq!(ranges.len(), 1);
        assert_eq!(ranges[0], 0..1 << 30);
    }

    #[test]
    fn memory_beyond_3_gib_continues_at_4_gib() {
        assert_eq!(
            ram(4 << 30),
            [0..LOW_RAM_END, HIGH_RAM_START..HIGH_RAM_START + (1 << 30)]
        );
    }

    #[test]
    fn bar_window_lies_above_all_memory_and_is_aligned() {
        for size in [128 << 20, 3 << 30, 200 << 30] {
            let start = pci64_start(size);
            assert!(start >= ram(size).last().unwrap().end);
            assert_eq!(start % PCI64_SIZE, 0);
        }
    }
}
