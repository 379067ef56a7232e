//! The VBIOS as a described table.
//!
//! The image is what the driver needs to accept a board that some firmware has already brought
//! up: a ROM header, PCIR, BIT with the tables 'i', 'I' and 'M', M0203, and a DCB without
//! outputs. There are no scripts to run, no PLL limits (the driver takes their absence as "do not
//! reclock") and no perf, voltage or fan tables (all optional; their absence is only logged).

mod bits;
mod image;

use std::fmt;

use image::Image;

/// A board's VBIOS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vbios {
    /// Which function the image belongs to.
    pub pci: PciIdentity,
    /// The image's version.
    pub version: Version,
    /// The memory's kind for each value of the RAMCFG strap. A value that the board does not use
    /// is `None`; the driver then takes the kind as unknown.
    pub ram: [Option<RamKind>; 16],
}

/// What the PCI data structure says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PciIdentity {
    /// PCI vendor id.
    pub vendor: u16,
    /// PCI device id.
    pub device: u16,
    /// PCI class, subclass and programming interface, from the high byte down.
    pub class: [u8; 3],
}

/// A VBIOS version; NVIDIA prints it as `70.00.00.00.01`.
///
/// Source: K61 `nvkm/subdev/bios/base.c nvkm_bios_new`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// 0x70 on Fermi.
    pub major: u8,
    /// 0x00 on GF100.
    pub chip: u8,
    /// Board family.
    pub minor: u8,
    /// Build.
    pub micro: u8,
    /// Board's own part.
    pub patch: u8,
}

/// A kind of memory chip, with the number M0203 has for it.
///
/// Source: K61 `include/nvkm/subdev/bios/M0203.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RamKind {
    /// DDR2.
    Ddr2 = 0x0,
    /// DDR3.
    Ddr3 = 0x1,
    /// GDDR3.
    Gddr3 = 0x2,
    /// GDDR5; the driver loads link-training patterns for it.
    Gddr5 = 0x3,
}

impl Vbios {
    /// A Quadro 6000: 10de:06d8, GDDR5 for every strap.
    ///
    /// The class is that of a VGA controller, as on the boards; the function's configuration
    /// space decides how it really presents itself.
    pub fn quadro_6000() -> Self {
        Self {
            pci: PciIdentity {
                vendor: 0x10de,
                device: 0x06d8,
                class: [0x03, 0x00, 0x00],
            },
            version: Version {
                major: 0x70,
                chip: 0x00,
                minor: 0x00,
                micro: 0x00,
                patch: 0x01,
            },
            ram: [Some(RamKind::Gddr5); 16],
        }
    }

    /// The same board with another PCI device id.
    pub fn device_id(mut self, device: u16) -> Self {
        self.pci.device = device;
        self
    }

    /// The same board with one kind of memory, whatever its straps say.
    pub fn ram_kind(mut self, kind: RamKind) -> Self {
        self.ram = [Some(kind); 16];
        self
    }

    /// The image: whole blocks of 512 bytes that sum to 0 modulo 256.
    pub fn build(&self) -> Vec<u8> {
        let mut image = Image::new();
        let pcir = image.place(&self.pcir());
        image.put16(bits::rom::PCIR, pcir);
        let dcb = image.place(&dcb());
        image.put16(bits::rom::DCB, dcb);

        let scripts = image.place(&[0; bits::init::EMPTY_LIST]);
        let mut init = [0; bits::init::SIZE];
        init[bits::init::SCRIPTS..][..2].copy_from_slice(&scripts.to_le_bytes());

        let m0203 = image.place(&self.m0203());
        let mut memory = [0; bits::memory::SIZE];
        memory[bits::memory::M0203..][..2].copy_from_slice(&m0203.to_le_bytes());

        let tables: [(u8, u8, &[u8]); 3] = [
            (b'i', 2, &self.info()),
            (b'I', 1, &init),
            (b'M', 2, &memory),
        ];
        let entries: Vec<_> = tables
            .iter()
            .map(|(id, version, table)| (*id, *version, table.len() as u16, image.place(table)))
            .collect();
        image.place(&bit(&entries));
        image.finish(pcir)
    }

    fn pcir(&self) -> [u8; bits::pcir::SIZE] {
        use bits::pcir::*;
        let [class, subclass, interface] = self.pci.class;
        let mut table = [0; SIZE];
        table[..MAGIC.len()].copy_from_slice(MAGIC);
        table[VENDOR..][..2].copy_from_slice(&self.pci.vendor.to_le_bytes());
        table[DEVICE..][..2].copy_from_slice(&self.pci.device.to_le_bytes());
        table[LENGTH..][..2].copy_from_slice(&(SIZE as u16).to_le_bytes());
        table[CLASS..][..3].copy_from_slice(&[interface, subclass, class]);
        table[REVISION] = 1;
        table[CODE_TYPE] = 0;
        table[INDICATOR] = LAST;
        table
    }

    fn info(&self) -> [u8; bits::info::SIZE] {
        use bits::info::*;
        let mut table = [0; SIZE];
        table[MICRO] = self.version.micro;
        table[MINOR] = self.version.minor;
        table[CHIP] = self.version.chip;
        table[MAJOR] = self.version.major;
        table[PATCH] = self.version.patch;
        table
    }

    fn m0203(&self) -> Vec<u8> {
        use bits::memory::*;
        let straps: Vec<_> = (0u8..)
            .zip(self.ram)
            .filter_map(|(s, k)| Some((s, k?)))
            .collect();
        let mut table = vec![0; HEADER];
        table[VERSION] = V10;
        table[HEADER_LENGTH] = HEADER as u8;
        table[ENTRY_LENGTH] = ENTRY as u8;
        table[ENTRIES] = straps.len() as u8;
        table[SELECTOR] = BY_RAMCFG;
        for (strap, kind) in straps {
            table.extend([strap << 4 | kind as u8, 0]);
        }
        table
    }
}

fn dcb() -> [u8; bits::dcb::HEADER] {
    use bits::dcb::*;
    let mut table = [0; HEADER];
    table[VERSION] = V40;
    table[HEADER_LENGTH] = HEADER as u8;
    table[ENTRIES] = 0;
    table[ENTRY_LENGTH] = ENTRY as u8;
    table[SIGNATURE..][..4].copy_from_slice(&MAGIC.to_le_bytes());
    table
}

fn bit(entries: &[(u8, u8, u16, u16)]) -> Vec<u8> {
    use bits::bit::*;
    let mut table = vec![0; HEADER];
    table[..MAGIC.len()].copy_from_slice(MAGIC);
    table[VERSION..][..2].copy_from_slice(&0x0100u16.to_le_bytes());
    table[HEADER_LENGTH] = HEADER as u8;
    table[ENTRY_LENGTH] = ENTRY as u8;
    table[ENTRIES] = entries.len() as u8;
    table[CHECKSUM] = image::complement(&table);
    for (id, version, length, offset) in entries {
        table.extend([*id, *version]);
        table.extend(length.to_le_bytes());
        table.extend(offset.to_le_bytes());
    }
    table
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            major,
            chip,
            minor,
            micro,
            patch,
        } = self;
        write!(
            f,
            "{major:02x}.{chip:02x}.{minor:02x}.{micro:02x}.{patch:02x}"
        )
    }
}

impl fmt::Display for RamKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ddr2 => "DDR2",
            Self::Ddr3 => "DDR3",
            Self::Gddr3 => "GDDR3",
            Self::Gddr5 => "GDDR5",
        })
    }
}

/// The tables as a human reads them, one line each; straps that name the same kind share a line.
impl fmt::Display for Vbios {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PciIdentity {
            vendor,
            device,
            class: [class, subclass, interface],
        } = self.pci;
        let size = self.build().len();
        writeln!(
            f,
            "ROM    {} KiB, {} blocks, checksum 0",
            size / 1024,
            size / bits::BLOCK
        )?;
        writeln!(
            f,
            "PCIR   {vendor:04x}:{device:04x}, class {class:02x}{subclass:02x}{interface:02x}, \
             the only image"
        )?;
        writeln!(f, "BIT i  version {}", self.version)?;
        writeln!(f, "BIT I  no scripts: the board counts as posted")?;
        writeln!(f, "BIT M  M0203, selected by the RAMCFG strap:")?;
        for kind in [RamKind::Ddr2, RamKind::Ddr3, RamKind::Gddr3, RamKind::Gddr5] {
            let straps: Vec<String> = (0..self.ram.len())
                .filter(|strap| self.ram[*strap] == Some(kind))
                .map(|strap| strap.to_string())
                .collect();
            if !straps.is_empty() {
                writeln!(f, "         {kind}: strap {}", straps.join(" "))?;
            }
        }
        write!(f, "DCB    version 4.0, no outputs")
    }
}
