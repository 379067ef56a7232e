//! Offsets and constants of the VBIOS tables.

/// Bytes per block: image sizes are counted in these.
pub const BLOCK: usize = 512;

/// Least size of an image. The driver fetches this much before it looks at the header.
///
/// Source: K61 `nvkm/subdev/bios/shadow.c shadow_image`.
pub const MIN_SIZE: usize = 0x1000;

/// The expansion ROM header.
///
/// Source: K61 `nvkm/subdev/bios/image.c nvbios_imagen`, `pcir.c`, `dcb.c`.
pub mod rom {
    /// u16: [`MAGIC`].
    pub const SIGNATURE: usize = 0x00;
    /// u8: size of the image in blocks.
    pub const BLOCKS: usize = 0x02;
    /// The x86 entry point.
    pub const ENTRY: usize = 0x03;
    /// u16: where the PCI data structure is.
    pub const PCIR: usize = 0x18;
    /// u16: where the display configuration block is.
    pub const DCB: usize = 0x36;
    /// First byte behind the header.
    pub const END: usize = 0x40;

    /// An expansion ROM's signature.
    pub const MAGIC: u16 = 0xaa55;
    /// x86 `retf`: whoever calls the entry point comes straight back.
    pub const RETF: u8 = 0xcb;
}

/// The PCI data structure.
///
/// Source: K61 `nvkm/subdev/bios/pcir.c nvbios_pcirTp`.
pub mod pcir {
    /// u16: PCI vendor id.
    pub const VENDOR: usize = 0x04;
    /// u16: PCI device id.
    pub const DEVICE: usize = 0x06;
    /// u16: length of this structure.
    pub const LENGTH: usize = 0x0a;
    /// u24: PCI class code.
    pub const CLASS: usize = 0x0d;
    /// u16: size of the image in blocks.
    pub const BLOCKS: usize = 0x10;
    /// u16: revision of the image's code.
    pub const REVISION: usize = 0x12;
    /// u8: what the image holds; 0 is x86 code.
    pub const CODE_TYPE: usize = 0x14;
    /// u8: bit 7 marks the last image.
    pub const INDICATOR: usize = 0x15;
    /// Length of the structure.
    pub const SIZE: usize = 0x18;

    /// The structure's signature.
    pub const MAGIC: &[u8; 4] = b"PCIR";
    /// No image follows.
    pub const LAST: u8 = 0x80;
}

/// The BIOS information table: the directory of all others.
///
/// Source: K61 `nvkm/subdev/bios/base.c nvkm_bios_new`, `bit.c bit_entry`.
pub mod bit {
    /// u16: version, 1.0 in binary-coded decimal.
    pub const VERSION: usize = 0x06;
    /// u8: length of this header.
    pub const HEADER_LENGTH: usize = 0x08;
    /// u8: length of one entry.
    pub const ENTRY_LENGTH: usize = 0x09;
    /// u8: number of entries.
    pub const ENTRIES: usize = 0x0a;
    /// u8: makes the header sum to zero.
    pub const CHECKSUM: usize = 0x0b;
    /// Length of the header.
    pub const HEADER: usize = 0x0c;
    /// Length of an entry: u8 id, u8 version, u16 length, u16 offset.
    pub const ENTRY: usize = 6;

    /// The header's signature; the driver searches the image for it.
    pub const MAGIC: &[u8; 6] = b"\xff\xb8BIT\0";
}

/// Table 'i': what this image is.
///
/// Source: K61 `nouveau_bios.c parse_bit_i_tbl_entry`, `nvkm/subdev/bios/base.c nvkm_bios_new`.
pub mod info {
    /// u8: version, micro.
    pub const MICRO: usize = 0x00;
    /// u8: version, minor.
    pub const MINOR: usize = 0x01;
    /// u8: version, chip.
    pub const CHIP: usize = 0x02;
    /// u8: version, major.
    pub const MAJOR: usize = 0x03;
    /// u8: version, patch.
    pub const PATCH: usize = 0x04;
    /// Length of the table. The driver insists on 15 bytes, up to the pointer to the analogue
    /// load detection table (0: there is none); the boards' own tables have this length.
    pub const SIZE: usize = 0x19;
}

/// Table 'I': the initialisation scripts.
///
/// Source: K61 `nouveau_bios.c parse_bit_init_tbl_entry`, `nvkm/subdev/bios/init.c`.
pub mod init {
    /// u16: where the list of script pointers is; 0 ends that list.
    pub const SCRIPTS: usize = 0x00;
    /// Length of the table: seven pointers. With an eighth the driver would look for one more
    /// script.
    pub const SIZE: usize = 14;
    /// Length of a list without scripts.
    pub const EMPTY_LIST: usize = 2;
}

/// Table 'M', version 2, and M0203, which tells the memory's kind by its RAMCFG strap.
///
/// Source: K61 `nvkm/subdev/bios/M0203.c`, `nvkm/subdev/fb/base.c nvkm_fb_bios_memtype`.
pub mod memory {
    /// u16: where M0203 is.
    pub const M0203: usize = 0x03;
    /// Length of table 'M'.
    pub const SIZE: usize = 0x05;

    /// u8: version of M0203.
    pub const VERSION: usize = 0x00;
    /// u8: length of the header of M0203.
    pub const HEADER_LENGTH: usize = 0x01;
    /// u8: length of an entry.
    pub const ENTRY_LENGTH: usize = 0x02;
    /// u8: number of entries.
    pub const ENTRIES: usize = 0x03;
    /// u8: what selects the entry; 0 is the RAMCFG strap.
    pub const SELECTOR: usize = 0x04;
    /// Length of the header.
    pub const HEADER: usize = 0x07;
    /// Length of an entry: u8 kind (low half) and strap (high half), u8 group.
    pub const ENTRY: usize = 2;

    /// The one version there is.
    pub const V10: u8 = 0x10;
    /// The RAMCFG strap selects the entry.
    pub const BY_RAMCFG: u8 = 0;
}

/// The display configuration block.
///
/// Source: K61 `nvkm/subdev/bios/dcb.c dcb_table`, `nouveau_bios.c parse_dcb_table`.
pub mod dcb {
    /// u8: version, major in the high half.
    pub const VERSION: usize = 0x00;
    /// u8: length of the header.
    pub const HEADER_LENGTH: usize = 0x01;
    /// u8: number of entries.
    pub const ENTRIES: usize = 0x02;
    /// u8: length of an entry.
    pub const ENTRY_LENGTH: usize = 0x03;
    /// u32: [`MAGIC`].
    pub const SIGNATURE: usize = 0x06;
    /// Length of the header; the pointers behind the signature (I2C, GPIO, connectors) are 0.
    pub const HEADER: usize = 0x1b;
    /// Length of an entry.
    pub const ENTRY: usize = 8;

    /// The block's signature.
    pub const MAGIC: u32 = 0x4edc_bdcb;
    /// Version 4.0.
    pub const V40: u8 = 0x40;
}
