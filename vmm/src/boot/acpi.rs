//! ACPI tables of a hardware-reduced machine (ACPI 6.5, section 4.1).
//!
//! One RSDP, and behind it the DSDT, FADT, MADT, MCFG and XSDT. Power-off and reset are single
//! bytes in I/O space, see [`crate::devices::power`].

use acpi_tables::aml::{
    AddressSpace as Window, AddressSpaceCacheable, Device, EISAName, IO, Interrupt, Memory32Fixed,
    Name, Package, PackageBuilder, Path, ResourceTemplate, Scope,
};
use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::madt::{
    EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic,
};
use acpi_tables::mcfg::MCFG;
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use acpi_tables::{Aml, AmlSink};
use vm_memory::{Bytes, GuestAddress, GuestMemoryError};

use crate::devices::power;
use crate::layout;
use crate::memory::GuestMemory;
use crate::pci::intx_gsi;

const OEM: [u8; 6] = *b"GPUVM ";
const TABLE: [u8; 8] = *b"GPUVM   ";
const REVISION: u32 = 1;
/// Length of a table's header.
const HEADER: u32 = 36;

/// Writes the tables of a machine with `cpus` processors and `memory_size` bytes of RAM, the
/// RSDP at [`layout::ACPI_TABLES`].
pub fn write(memory: &GuestMemory, cpus: u8, memory_size: u64) -> Result<(), GuestMemoryError> {
    let mut tables = Tables {
        memory,
        next: layout::ACPI_TABLES + 64,
    };

    let dsdt = tables.place(&dsdt(memory_size))?;
    let entries = [
        tables.place(&bytes(&fadt(dsdt)))?,
        tables.place(&bytes(&madt(cpus)))?,
        tables.place(&bytes(&mcfg()))?,
    ];
    let mut xsdt = XSDT::new(OEM, TABLE, REVISION);
    for entry in entries {
        xsdt.add_entry(entry);
    }
    let xsdt = tables.place(&bytes(&xsdt))?;

    let rsdp = bytes(&Rsdp::new(OEM, xsdt));
    memory.write_slice(&rsdp, GuestAddress(layout::ACPI_TABLES))
}

/// Lays tables out one behind the other.
struct Tables<'a> {
    memory: &'a GuestMemory,
    next: u64,
}

impl Tables<'_> {
    fn place(&mut self, table: &[u8]) -> Result<u64, GuestMemoryError> {
        let address = self.next;
        self.memory.write_slice(table, GuestAddress(address))?;
        self.next += (table.len() as u64).next_multiple_of(16);
        Ok(address)
    }
}

/// Collects what the table library emits byte by byte.
struct Collect(Vec<u8>);

impl AmlSink for Collect {
    fn byte(&mut self, byte: u8) {
        self.0.push(byte);
    }
}

fn bytes(table: &dyn Aml) -> Vec<u8> {
    let mut sink = Collect(Vec::new());
    table.to_aml_bytes(&mut sink);
    sink.0
}

fn io_byte(port: u16) -> GAS {
    GAS::new(
        AddressSpace::SystemIo,
        8,
        0,
        AccessSize::ByteAccess,
        u64::from(port),
    )
}

/// FADT's `IAPC_BOOT_ARCH`: there is no real-time clock. Linux asks it for a second or more otherwise,
/// at three exits a millisecond, whether it is busy.
///
/// Source: ACPI 6.5, table 5.11.
const NO_CMOS_RTC: u16 = 1 << 5;

fn fadt(dsdt: u64) -> impl Aml {
    let mut fadt = FADTBuilder::new(OEM, TABLE, REVISION)
        .dsdt_64(dsdt)
        .flag(Flags::HwReducedAcpi)
        .flag(Flags::ResetRegSup)
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton);
    fadt.iapc_boot_arch = NO_CMOS_RTC.into();
    fadt.reset_reg = io_byte(layout::POWER + power::RESET);
    fadt.reset_value = power::RESET_VALUE;
    fadt.sleep_control_reg = io_byte(layout::POWER + power::SLEEP_CONTROL);
    fadt.sleep_status_reg = io_byte(layout::POWER + power::SLEEP_STATUS);
    fadt.finalize()
}

fn madt(cpus: u8) -> MADT {
    let mut madt = MADT::new(
        OEM,
        TABLE,
        REVISION,
        LocalInterruptController::Address(layout::LOCAL_APIC),
    );
    for cpu in 0..cpus {
        madt.add_structure(ProcessorLocalApic::new(cpu, cpu, EnabledStatus::Enabled));
    }
    madt.add_structure(IoApic::new(0, layout::IO_APIC, 0));
    madt
}

fn mcfg() -> MCFG {
    let mut mcfg = MCFG::new(OEM, TABLE, REVISION);
    mcfg.add_ecam(layout::ECAM_START, 0, 0, 0);
    mcfg
}

/// The DSDT: soft-off, the PCI root, the serial port, and what belongs to no device.
fn dsdt(memory_size: u64) -> Vec<u8> {
    let soft_off = Name::new(
        "_S5_".into(),
        &Package::new(vec![&power::SOFT_OFF, &power::SOFT_OFF, &0u8, &0u8]),
    );
    let devices = [pci_root(memory_size), board(), serial_port()].concat();

    let mut table = Sdt::new(*b"DSDT", HEADER, 6, OEM, TABLE, REVISION);
    table.append_slice(&bytes(&soft_off));
    table.append_slice(&Scope::raw(Path::new("_SB_"), devices));
    table.as_slice().to_vec()
}

/// The PCI root with its windows and pins.
fn pci_root(memory_size: u64) -> Vec<u8> {
    let pci64 = layout::pci64_start(memory_size);
    bytes(&Device::new(
        "PCI0".into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new("PNP0A08")),
            &Name::new("_CID".into(), &EISAName::new("PNP0A03")),
            &Name::new("_ADR".into(), &0u8),
            &Name::new("_SEG".into(), &0u8),
            &Name::new("_BBN".into(), &0u8),
            &Name::new("_UID".into(), &0u8),
            &Name::new(
                "_CRS".into(),
                &ResourceTemplate::new(vec![
                    &Window::<u16>::new_bus_number(0, 0),
                    &IO::new(layout::PCI_CONFIG, layout::PCI_CONFIG, 1, 8),
                    &Window::<u16>::new_io(layout::PCI_IO_START, layout::PCI_IO_LAST, None),
                    &Window::<u32>::new_memory(
                        AddressSpaceCacheable::NotCacheable,
                        true,
                        layout::PCI32_START as u32,
                        (layout::PCI32_END - 1) as u32,
                        None,
                    ),
                    &Window::<u64>::new_memory(
                        AddressSpaceCacheable::PreFetchable,
                        true,
                        pci64,
                        pci64 + layout::PCI64_SIZE - 1,
                        None,
                    ),
                ]),
            ),
            &Name::new("_PRT".into(), &pin_routing()),
        ],
    ))
}

/// Resources of the board itself.
fn board() -> Vec<u8> {
    bytes(&Device::new(
        "MBRD".into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new("PNP0C02")),
            &Name::new("_UID".into(), &0u8),
            &Name::new(
                "_CRS".into(),
                &ResourceTemplate::new(vec![
                    &Memory32Fixed::new(true, layout::ECAM_START as u32, layout::ECAM_SIZE as u32),
                    &IO::new(layout::POWER, layout::POWER, 1, power::SIZE as u8),
                ]),
            ),
        ],
    ))
}

fn serial_port() -> Vec<u8> {
    bytes(&Device::new(
        "COM1".into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new("PNP0501")),
            &Name::new("_UID".into(), &0u8),
            &Name::new("_DDN".into(), &"COM1"),
            &Name::new(
                "_CRS".into(),
                &ResourceTemplate::new(vec![
                    &Interrupt::new(true, true, false, false, layout::COM1_IRQ),
                    &IO::new(layout::COM1, layout::COM1, 1, 8),
                ]),
            ),
        ],
    ))
}

/// `_PRT`: which pin of the I/O APIC each device's INTA to INTD drives.
fn pin_routing() -> PackageBuilder {
    let mut routes = PackageBuilder::new();
    for slot in 0..32u8 {
        for pin in 0..4u8 {
            let address = u32::from(slot) << 16 | 0xffff;
            let gsi = intx_gsi(slot, pin);
            routes.add_element(&Package::new(vec![&address, &pin, &0u8, &gsi]));
        }
    }
    routes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checksum(memory: &GuestMemory, address: u64, len: usize) -> u8 {
        let mut table = vec![0; len];
        memory
            .read_slice(&mut table, GuestAddress(address))
            .unwrap();
        table.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
    }

    #[test]
    fn every_table_is_reachable_from_the_rsdp_and_sums_to_zero() {
        let memory = crate::memory::create(2 << 20, crate::memory::Pages::Small).unwrap();

        write(&memory, 4, 2 << 20).unwrap();

        let read64 = |at| memory.read_obj::<u64>(GuestAddress(at)).unwrap();
        let read32 = |at| memory.read_obj::<u32>(GuestAddress(at)).unwrap();
        assert_eq!(checksum(&memory, layout::ACPI_TABLES, 36), 0);
        let xsdt = read64(layout::ACPI_TABLES + 24);
        let len = read32(xsdt + 4);
        assert_eq!(checksum(&memory, xsdt, len as usize), 0);
        let mut signatures = Vec::new();
        for entry in 0..u64::from(len - 36) / 8 {
            let table = read64(xsdt + 36 + 8 * entry);
            assert_eq!(checksum(&memory, table, read32(table + 4) as usize), 0);
            signatures.push(read32(table).to_le_bytes());
        }
        assert_eq!(signatures, [*b"FACP", *b"APIC", *b"MCFG"]);
        let fadt = read64(xsdt + 36);
        let boot_arch = memory.read_obj::<u16>(GuestAddress(fadt + 109)).unwrap();
        assert_eq!(boot_arch, NO_CMOS_RTC);
        let dsdt = read64(fadt + 140);
        assert_eq!(&read32(dsdt).to_le_bytes(), b"DSDT");
        assert_eq!(checksum(&memory, dsdt, read32(dsdt + 4) as usize), 0);
    }
}
