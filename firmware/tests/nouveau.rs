//! Reads the images the way nouveau does, with a parser that shares nothing with the builder.
//!
//! The rules are those of K61 `nvkm/subdev/bios/{shadow,image,pcir,base,bit,dcb,M0203,init}.c`,
//! `nvkm/subdev/fb/base.c` and `nouveau_bios.c`; a read outside the image gives 0, as there.

use firmware::vbios::{RamKind, Vbios};

struct Rom<'a>(&'a [u8]);

struct BitEntry {
    version: u8,
    length: u16,
    offset: usize,
}

impl Rom<'_> {
    fn u8(&self, at: usize) -> u8 {
        self.0.get(at).copied().unwrap_or(0)
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from(self.u8(at)) | u16::from(self.u8(at + 1)) << 8
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from(self.u16(at)) | u32::from(self.u16(at + 2)) << 16
    }

    /// Score of the image as shadow.c gives it, and the bytes it has.
    fn score(&self) -> (u32, usize) {
        if self.0.len() < 0x1000 || ![0xaa55, 0xbb77, 0x4e56].contains(&self.u16(0)) {
            return (0, 0);
        }
        let Some(pcir) = self.pcir() else {
            return (0, 0);
        };
        let size = usize::from(self.u16(pcir + 0x10)) * 512;
        let last = self.u8(pcir + 0x15) & 0x80 != 0;
        if self.u8(pcir + 0x14) != 0 || !last || size > self.0.len() {
            return (0, 0);
        }
        let sum = self.0[..size]
            .iter()
            .fold(0u8, |sum, b| sum.wrapping_add(*b));
        (if sum == 0 { 4 } else { 2 }, size)
    }

    fn pcir(&self) -> Option<usize> {
        let at = usize::from(self.u16(0x18));
        (at != 0 && self.u32(at) == 0x5249_4350).then_some(at)
    }

    fn bit(&self, id: u8) -> Option<BitEntry> {
        let base = self.0.windows(5).position(|w| w == b"\xff\xb8BIT")?;
        let step = usize::from(self.u8(base + 9));
        (0..usize::from(self.u8(base + 10)))
            .map(|n| base + 12 + n * step)
            .find(|at| self.u8(*at) == id)
            .map(|at| BitEntry {
                version: self.u8(at + 1),
                length: self.u16(at + 2),
                offset: self.u16(at + 4).into(),
            })
    }

    fn dcb(&self) -> Option<usize> {
        let at = usize::from(self.u16(0x36));
        let known = (0x30..0x42).contains(&self.u8(at)) && self.u32(at + 6) == 0x4edc_bdcb;
        (at != 0 && known).then_some(at)
    }

    /// The memory type for a strap: fb/base.c's number, or nothing where it would warn.
    fn memory_type(&self, strap: u8) -> Option<u8> {
        let m = self.bit(b'M').filter(|m| m.version == 2 && m.length > 4)?;
        let table = usize::from(self.u16(m.offset + 3));
        if table == 0 || self.u8(table) != 0x10 || self.u8(table + 4) != 0 {
            return None;
        }
        let (header, step) = (self.u8(table + 1), self.u8(table + 2));
        (0..usize::from(self.u8(table + 3)))
            .map(|n| self.u8(table + usize::from(header) + n * usize::from(step)))
            .find(|entry| entry >> 4 == strap)
            .map(|entry| entry & 0xf)
    }
}

#[test]
fn quadro_6000_image_gets_the_best_score_of_a_single_image() {
    let image = Vbios::quadro_6000().build();
    assert_eq!(Rom(&image).score(), (4, image.len()));
}

#[test]
fn pcir_names_the_function() {
    let image = Vbios::quadro_6000().device_id(0x06dd).build();
    let rom = Rom(&image);
    let pcir = rom.pcir().expect("a PCIR structure");
    assert_eq!((rom.u16(pcir + 4), rom.u16(pcir + 6)), (0x10de, 0x06dd));
    assert_eq!([0xd, 0xe, 0xf].map(|o| rom.u8(pcir + o)), [0, 0, 3]);
    assert_eq!(rom.u16(pcir + 0xa), 0x18);
}

#[test]
fn info_table_is_long_enough_and_holds_the_version() {
    let mut vbios = Vbios::quadro_6000();
    vbios.version.patch = 0x42;
    let image = vbios.build();
    let rom = Rom(&image);
    let i = rom.bit(b'i').expect("BIT 'i'");
    assert!(i.length >= 15, "nouveau_bios.c refuses {} bytes", i.length);
    let version = [3, 2, 1, 0, 4].map(|o| rom.u8(i.offset + o));
    assert_eq!(version, [0x70, 0x00, 0x00, 0x00, 0x42]);
    assert_eq!(rom.u8(i.offset + 5) & 0x10, 0, "must not be a mobile board");
    assert_eq!(
        rom.u16(i.offset + 13),
        0,
        "must not have a load detection table"
    );
}

#[test]
fn init_table_points_to_an_empty_script_list() {
    let image = Vbios::quadro_6000().build();
    let rom = Rom(&image);
    let init = rom.bit(b'I').expect("BIT 'I'");
    assert!((14..16).contains(&init.length), "{} bytes", init.length);
    let list = usize::from(rom.u16(init.offset));
    assert_ne!(list, 0, "a null pointer is a warning");
    assert_eq!(rom.u16(list), 0, "the list must end at once");
}

#[test]
fn dcb_is_valid_and_headless() {
    let image = Vbios::quadro_6000().build();
    let rom = Rom(&image);
    let dcb = rom.dcb().expect("a DCB");
    assert_eq!(rom.u8(dcb), 0x40);
    assert_eq!(rom.u8(dcb + 2), 0, "no outputs");
    assert!(
        rom.u8(dcb + 1) >= 0x16,
        "the header must cover the connector pointer"
    );
    for pointer in [0x04, 0x0a, 0x14] {
        assert_eq!(rom.u16(dcb + pointer), 0);
    }
}

#[test]
fn memory_type_is_found_for_every_strap_that_the_board_uses() {
    let mut vbios = Vbios::quadro_6000().ram_kind(RamKind::Ddr3);
    vbios.ram[5] = Some(RamKind::Gddr5);
    vbios.ram[9] = None;
    let image = vbios.build();
    for strap in 0..16 {
        let expected = match strap {
            5 => Some(3),
            9 => None,
            _ => Some(1),
        };
        assert_eq!(Rom(&image).memory_type(strap), expected, "strap {strap}");
    }
}

#[test]
fn optional_tables_are_absent() {
    let image = Vbios::quadro_6000().build();
    for id in *b"ACDLPT" {
        assert!(Rom(&image).bit(id).is_none(), "BIT '{}'", char::from(id));
    }
}

#[test]
fn description_names_device_version_and_memory() {
    let text = Vbios::quadro_6000().to_string();
    for part in [
        "10de:06d8",
        "70.00.00.00.01",
        "GDDR5: strap 0 1 2",
        "DCB    version 4.0",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
}
