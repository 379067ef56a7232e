//! The 64-bit boot protocol of Linux (Documentation/arch/x86/boot.rst).

use linux_loader::bootparam::{boot_params, setup_header};
use linux_loader::configurator::linux::LinuxBootConfigurator;
use linux_loader::configurator::{BootConfigurator, BootParams};
use vm_memory::GuestAddress;

use super::{BootError, Entry, Initrd, memory_map};
use crate::layout;
use crate::memory::GuestMemory;

/// `type_of_loader` of a loader without a number of its own.
const LOADER_UNDEFINED: u8 = 0xff;
/// `xloadflags`: the kernel has the 64-bit entry point.
const XLF_KERNEL_64: u16 = 1;
/// Distance of that entry point from the start of the loaded kernel.
const ENTRY_64: u64 = 0x200;

/// Writes the zero page.
pub(super) fn prepare(
    memory: &GuestMemory,
    header: setup_header,
    kernel: GuestAddress,
    initrd: Option<Initrd>,
) -> Result<Entry, BootError> {
    if header.xloadflags & XLF_KERNEL_64 == 0 {
        return Err(BootError::NoLongMode);
    }
    let mut params = boot_params {
        hdr: header,
        acpi_rsdp_addr: layout::ACPI_TABLES,
        ..Default::default()
    };
    params.hdr.type_of_loader = LOADER_UNDEFINED;
    params.hdr.cmd_line_ptr = layout::CMDLINE as u32;
    params.hdr.cmdline_size = layout::CMDLINE_SIZE as u32 - 1;
    if let Some(initrd) = initrd {
        // Both lie below 4 GiB: `load_initrd` saw to it.
        params.hdr.ramdisk_image = initrd.address as u32;
        params.hdr.ramdisk_size = initrd.size as u32;
    }
    let map = memory_map(memory);
    params.e820_entries = map.len() as u8;
    for (entry, (addr, size, kind)) in params.e820_table.iter_mut().zip(map) {
        entry.addr = addr;
        entry.size = size;
        entry.r#type = kind as u32;
    }

    let params = BootParams::new(&params, GuestAddress(layout::ZERO_PAGE));
    LinuxBootConfigurator::write_bootparams(&params, memory).map_err(BootError::Parameters)?;
    Ok(Entry::Linux64(kernel.0 + ENTRY_64))
}

#[cfg(test)]
mod tests {
    use vm_memory::Bytes;

    use super::*;

    #[test]
    fn zero_page_names_command_line_initrd_and_memory() {
        let memory = crate::memory::create(64 << 20, crate::memory::Pages::Small).unwrap();
        let header = setup_header {
            xloadflags: XLF_KERNEL_64,
            ..Default::default()
        };
        let initrd = Initrd {
            address: 0x300_0000,
            size: 0x1234,
        };

        let entry = prepare(&memory, header, GuestAddress(0x10_0000), Some(initrd)).unwrap();

        assert_eq!(entry, Entry::Linux64(0x10_0200));
        let params: boot_params = memory.read_obj(GuestAddress(layout::ZERO_PAGE)).unwrap();
        let (image, size) = (params.hdr.ramdisk_image, params.hdr.ramdisk_size);
        assert_eq!((image, size), (0x300_0000, 0x1234));
        let cmdline = params.hdr.cmd_line_ptr;
        assert_eq!(cmdline, layout::CMDLINE as u32);
        let last_ram = params.e820_table[2];
        let (addr, size, kind) = (last_ram.addr, last_ram.size, last_ram.r#type);
        assert_eq!((addr, size, kind), (0x10_0000, 63 << 20, 1));
    }

    #[test]
    fn kernel_without_64_bit_entry_is_refused() {
        let memory = crate::memory::create(2 << 20, crate::memory::Pages::Small).unwrap();

        let result = prepare(
            &memory,
            setup_header::default(),
            GuestAddress(0x10_0000),
            None,
        );

        assert!(matches!(result, Err(BootError::NoLongMode)));
    }
}
