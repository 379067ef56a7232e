//! Whether a bzImage is whole and has room, told before the guest starts: the code that unpacks it
//! there has nobody to tell.
//!
//! Source: Linux `Documentation/arch/x86/boot.rst`.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use linux_loader::bootparam::setup_header;
use vm_memory::ByteValued;

use super::BootError;
use crate::layout;

/// Where the setup header is.
const HEADER_AT: u64 = 0x1f1;
/// The first version of the protocol with a 64-bit entry point.
const VERSION_64: u16 = 0x20c;
const SECTOR: u64 = 512;
/// Bytes of a paragraph, in which the size of the protected-mode code is counted.
const PARAGRAPH: u64 = 16;

/// How payloads begin: gzip, bzip2, lzma, xz, lzo, lz4, zstd, and one that is not compressed.
const MAGICS: [&[u8]; 8] = [
    b"\x1f\x8b",
    b"BZh",
    b"\x5d\x00\x00",
    b"\xfd7zXZ\x00",
    b"\x89LZO",
    b"\x02\x21\x4c\x18",
    b"\x28\xb5\x2f\xfd",
    b"\x7fELF",
];

/// Looks at the bzImage in `file`, for a guest with RAM up to `memory_end` below 4 GiB; the end of
/// the memory that the kernel unpacks itself in.
///
/// # Errors
///
/// The file is cut short or damaged, or that memory is not there.
pub(super) fn check(path: &Path, file: &mut File, memory_end: u64) -> Result<u64, BootError> {
    let failed = |source| BootError::Read {
        path: path.into(),
        source,
    };
    let have = file.seek(SeekFrom::End(0)).map_err(failed)?;
    let whole = |need| match have < need {
        true => Err(BootError::Truncated {
            path: path.into(),
            have,
            need,
        }),
        false => Ok(()),
    };
    let mut header = setup_header::default();
    whole(HEADER_AT + size_of::<setup_header>() as u64)?;
    read_at(file, HEADER_AT, header.as_mut_slice()).map_err(failed)?;
    if header.version < VERSION_64 {
        return Err(BootError::NoLongMode);
    }
    let sectors = match header.setup_sects {
        0 => 4,
        sectors => u64::from(sectors),
    };
    let code = (sectors + 1) * SECTOR;
    whole(code + u64::from(header.syssize) * PARAGRAPH)?;
    let payload = code + u64::from(header.payload_offset);
    whole(payload + u64::from(header.payload_length))?;
    let mut magic = [0; 6];
    read_at(file, payload, &mut magic).map_err(failed)?;
    if !MAGICS.iter().any(|known| magic.starts_with(known)) {
        return Err(BootError::Damaged(path.into()));
    }
    file.rewind().map_err(failed)?;

    // Where it is loaded is where it runs, unless it prefers a place further on.
    let alignment = u64::from(header.kernel_alignment.max(1));
    let start = layout::HIGH_MEMORY.next_multiple_of(alignment);
    let need = start
        .max(header.pref_address)
        .saturating_add(header.init_size.into());
    match need > memory_end {
        true => Err(BootError::KernelTooLarge {
            need,
            have: memory_end,
        }),
        false => Ok(need),
    }
}

/// Where the offset of the version's text is, which counts from the end of the boot sector.
const VERSION_AT: u64 = 0x20e;
/// Most bytes of the text.
const MOST_VERSION: usize = 64;

/// What the bzImage at `path` says of its version; `None` if it says nothing.
pub fn kernel_version(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let mut offset = [0; 2];
    read_at(&mut file, VERSION_AT, &mut offset).ok()?;
    let offset = u16::from_le_bytes(offset);
    let mut text = [0; MOST_VERSION];
    read_at(&mut file, SECTOR + u64::from(offset), &mut text).ok()?;
    let printable = text.split(|byte| !byte.is_ascii_graphic()).next()?;
    let version = String::from_utf8_lossy(printable).into_owned();
    (offset != 0 && !version.is_empty()).then_some(version)
}

fn read_at(file: &mut File, at: u64, bytes: &mut [u8]) -> io::Result<()> {
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// An image with one setup sector and `payload` behind it.
    fn image(payload: &[u8]) -> Vec<u8> {
        let header = setup_header {
            setup_sects: 1,
            version: VERSION_64,
            syssize: 4096 / PARAGRAPH as u32,
            payload_length: payload.len() as u32,
            kernel_alignment: 2 << 20,
            pref_address: 16 << 20,
            init_size: 8 << 20,
            ..Default::default()
        };
        let mut image = vec![0; 1024 + 4096];
        image[HEADER_AT as usize..][..size_of::<setup_header>()].copy_from_slice(header.as_slice());
        image[1024..1024 + payload.len()].copy_from_slice(payload);
        image
    }

    fn checked(image: &[u8], memory_end: u64) -> Result<u64, BootError> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(image).unwrap();
        check(Path::new("vmlinuz"), &mut file, memory_end)
    }

    #[test]
    fn whole_image_says_how_far_it_unpacks() {
        let end = checked(&image(b"\x28\xb5\x2f\xfd and more"), 64 << 20).unwrap();

        assert_eq!(end, 24 << 20);
    }

    #[test]
    fn image_that_is_cut_short_anywhere_is_refused() {
        let image = image(b"\x28\xb5\x2f\xfd and more");
        for len in [0, 0x1f1, 0x210, 1024, image.len() - 1] {
            let result = checked(&image[..len], 64 << 20);
            assert!(matches!(result, Err(BootError::Truncated { .. })), "{len}");
        }
    }

    #[test]
    fn payload_of_no_known_format_is_damaged() {
        let result = checked(&image(b"garbage"), 64 << 20);

        assert!(matches!(result, Err(BootError::Damaged(_))));
    }

    #[test]
    fn guest_without_room_to_unpack_is_refused() {
        let result = checked(&image(b"\x1f\x8b and more"), 20 << 20);

        assert!(matches!(
            result,
            Err(BootError::KernelTooLarge { need, .. }) if need == 24 << 20
        ));
    }
}
