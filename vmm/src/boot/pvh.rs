//! The PVH boot protocol (Xen's `public/arch-x86/hvm/start_info.h`), for kernels in ELF form.

use linux_loader::configurator::pvh::PvhBootConfigurator;
use linux_loader::configurator::{BootConfigurator, BootParams};
use linux_loader::start_info::{hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info};
use vm_memory::GuestAddress;

use super::{BootError, Entry, Initrd, memory_map};
use crate::layout;
use crate::memory::GuestMemory;

/// `XEN_HVM_START_MAGIC_VALUE`.
const MAGIC: u32 = 0x336e_c578;
/// The version that has the memory map.
const VERSION: u32 = 1;

/// Writes the start information.
pub(super) fn prepare(
    memory: &GuestMemory,
    entry: GuestAddress,
    initrd: Option<Initrd>,
) -> Result<Entry, BootError> {
    let map: Vec<_> = memory_map(memory)
        .into_iter()
        .map(|(addr, size, kind)| hvm_memmap_table_entry {
            addr,
            size,
            type_: kind as u32,
            reserved: 0,
        })
        .collect();
    let modules: Vec<_> = initrd
        .iter()
        .map(|initrd| hvm_modlist_entry {
            paddr: initrd.address,
            size: initrd.size,
            ..Default::default()
        })
        .collect();
    let info = hvm_start_info {
        magic: MAGIC,
        version: VERSION,
        cmdline_paddr: layout::CMDLINE,
        rsdp_paddr: layout::ACPI_TABLES,
        memmap_paddr: layout::PVH_MEMORY_MAP,
        memmap_entries: map.len() as u32,
        modlist_paddr: layout::PVH_MODULES,
        nr_modules: modules.len() as u32,
        ..Default::default()
    };

    let mut params = BootParams::new(&info, GuestAddress(layout::PVH_START_INFO));
    params.set_sections(&map, GuestAddress(layout::PVH_MEMORY_MAP));
    params.set_modules(&modules, GuestAddress(layout::PVH_MODULES));
    PvhBootConfigurator::write_bootparams(&params, memory).map_err(BootError::Parameters)?;
    Ok(Entry::Pvh(entry.0))
}

#[cfg(test)]
mod tests {
    use vm_memory::Bytes;

    use super::*;

    #[test]
    fn start_info_names_the_initrd_as_its_module() {
        let memory = crate::memory::create(64 << 20, crate::memory::Pages::Small).unwrap();
        let initrd = Initrd {
            address: 0x300_0000,
            size: 0x1234,
        };

        let entry = prepare(&memory, GuestAddress(0x100_0000), Some(initrd)).unwrap();

        assert_eq!(entry, Entry::Pvh(0x100_0000));
        let info: hvm_start_info = memory
            .read_obj(GuestAddress(layout::PVH_START_INFO))
            .unwrap();
        assert_eq!((info.magic, info.nr_modules), (MAGIC, 1));
        let module: hvm_modlist_entry = memory.read_obj(GuestAddress(info.modlist_paddr)).unwrap();
        assert_eq!((module.paddr, module.size), (0x300_0000, 0x1234));
    }
}
