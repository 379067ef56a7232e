//! Lays tables out in an image.

use super::bits;

/// Tables start at multiples of this, which makes a dump readable.
const ALIGNMENT: usize = 16;

/// An image under construction. Offsets in a VBIOS are 16 bits wide; the tables this crate
/// describes fill a hundredth of that.
pub struct Image {
    bytes: Vec<u8>,
}

impl Image {
    /// An image with nothing but a ROM header.
    pub fn new() -> Self {
        let mut image = Self {
            bytes: vec![0; bits::rom::END],
        };
        image.put16(bits::rom::SIGNATURE, bits::rom::MAGIC);
        image.bytes[bits::rom::ENTRY] = bits::rom::RETF;
        image
    }

    /// Appends a table; its offset.
    pub fn place(&mut self, table: &[u8]) -> u16 {
        let offset = self.bytes.len().next_multiple_of(ALIGNMENT);
        self.bytes.resize(offset, 0);
        self.bytes.extend_from_slice(table);
        offset as u16
    }

    /// Writes a 16-bit field.
    pub fn put16(&mut self, offset: usize, value: u16) {
        self.bytes[offset..][..2].copy_from_slice(&value.to_le_bytes());
    }

    /// Rounds up to whole blocks, writes the size where the ROM header and the PCI data structure
    /// (at `pcir`) hold it, and makes the sum zero.
    pub fn finish(mut self, pcir: u16) -> Vec<u8> {
        // The last byte is the checksum's own.
        let size = (self.bytes.len() + 1)
            .max(bits::MIN_SIZE)
            .next_multiple_of(bits::BLOCK);
        self.bytes.resize(size, 0);
        let blocks = size / bits::BLOCK;
        self.bytes[bits::rom::BLOCKS] = blocks as u8;
        self.put16(usize::from(pcir) + bits::pcir::BLOCKS, blocks as u16);
        self.bytes[size - 1] = complement(&self.bytes);
        self.bytes
    }
}

/// What has to be added to `bytes` for a sum of zero modulo 256.
pub fn complement(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complement_of_a_sum_past_256_brings_it_to_zero() {
        let bytes = [0xff, 0x80, 0x33];
        let sum = bytes.iter().map(|b| u32::from(*b)).sum::<u32>() + u32::from(complement(&bytes));
        assert_eq!(sum % 256, 0);
    }

    #[test]
    fn place_keeps_tables_apart_and_aligned() {
        let mut image = Image::new();
        let first = image.place(&[1; 17]);
        let second = image.place(&[2; 3]);
        assert_eq!(usize::from(first), bits::rom::END);
        assert_eq!(usize::from(second), bits::rom::END + 32);
        assert_eq!(&image.bytes[usize::from(second)..], [2, 2, 2]);
    }
}
