//! The kernel inside a bzImage: an ELF file, to be booted without Linux's own loader.
//!
//! Source: Linux `Documentation/arch/x86/boot.rst` for the setup header.

use std::io::Read;

use anyhow::{Context, Result};
use ruzstd::decoding::StreamingDecoder;

/// The setup code's length in sectors behind the first one; 0 means 4.
const SETUP_SECTORS: usize = 0x1f1;
const SECTOR: usize = 512;
/// Where the payload is behind the setup code, and its length.
const PAYLOAD_OFFSET: usize = 0x248;
const PAYLOAD_LENGTH: usize = 0x24c;
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// The kernel in `image`; `None` if it is not compressed with zstd, as Debian does since 6.12.
///
/// # Errors
///
/// It is no bzImage, or damaged.
pub fn unpack(image: &[u8]) -> Result<Option<Vec<u8>>> {
    let payload = payload(image).context("The image is no bzImage")?;
    if !payload.starts_with(ZSTD) {
        return Ok(None);
    }
    let mut kernel = Vec::new();
    StreamingDecoder::new(payload)
        .context("The kernel is damaged")?
        .read_to_end(&mut kernel)
        .context("The kernel is damaged")?;
    Ok(Some(kernel))
}

fn payload(image: &[u8]) -> Option<&[u8]> {
    let word = |at: usize| {
        let bytes = image.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    let sectors = match image.get(SETUP_SECTORS)? {
        0 => 4,
        sectors => usize::from(*sectors),
    };
    let start = (sectors + 1) * SECTOR + word(PAYLOAD_OFFSET)?;
    image.get(start..start.checked_add(word(PAYLOAD_LENGTH)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An image whose payload is `payload`.
    fn image(payload: &[u8]) -> Vec<u8> {
        let mut image = vec![0; 2 * SECTOR];
        image[SETUP_SECTORS] = 1;
        image[PAYLOAD_LENGTH..PAYLOAD_LENGTH + 4]
            .copy_from_slice(&(payload.len() as u32).to_le_bytes());
        image.extend_from_slice(payload);
        image
    }

    #[test]
    fn payload_behind_the_setup_code_is_unpacked() {
        // A frame of one raw block, written by hand (RFC 8878, section 3.1.1).
        let frame = [
            ZSTD,
            &[0x20, 4, 0x21, 0, 0],
            b"\x7fELF",
            // The length that Linux appends.
            &[4, 0, 0, 0],
        ]
        .concat();
        assert_eq!(
            unpack(&image(&frame)).unwrap().as_deref(),
            Some(&b"\x7fELF"[..])
        );
    }

    #[test]
    fn other_compression_is_left_alone_and_a_short_file_refused() {
        assert_eq!(unpack(&image(b"\xfd7zXZ\0")).unwrap(), None);
        let mut short = image(ZSTD);
        short.pop();
        assert!(unpack(&short).is_err());
        assert!(unpack(b"MZ").is_err());
    }
}
