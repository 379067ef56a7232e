//! FORMAT: which bytes of a source pixel become which bytes of a destination pixel.
//!
//! Source: K61 `nvkm/engine/ce/fuc/com.fuc` cmd_exec_set_format; ENV `rnndb/fifo/pcopy.xml`
//! SWIZZLE_MAP.

use super::methods::{State, Word};

/// Most bytes of a pixel: 4 components of 4 bytes.
const PIXEL: usize = 16;

/// Where a byte of a destination pixel comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// This byte of the source pixel.
    Source(u8),
    /// A constant.
    Byte(u8),
}

/// A translation of pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remap {
    source: usize,
    destination: usize,
    map: [Origin; PIXEL],
}

impl Remap {
    /// The translation that the state's FORMAT describes: selectors of the destination's components
    /// in bits 0-15 (0-3 source component, 4-5 constant, others 0), and, each less one, bytes of a
    /// component in bits 16-17, components of the source in 20-21 and of the destination in 24-25.
    pub fn new(state: &State) -> Self {
        let format = state.get(Word::Format);
        let field = |shift: u32| (format >> shift & 3) as usize + 1;
        let (bytes, from, to) = (field(16), field(20), field(24));
        let constants = [
            state.get(Word::SwzConst0).to_le_bytes(),
            state.get(Word::SwzConst1).to_le_bytes(),
        ];
        let mut map = [Origin::Byte(0); PIXEL];
        for component in 0..to {
            let select = (format >> (4 * component) & 0xf) as usize;
            for byte in 0..bytes {
                map[component * bytes + byte] = match select {
                    // There is nothing behind the source pixel.
                    0..=3 if select < from => Origin::Source((select * bytes + byte) as u8),
                    4 | 5 => Origin::Byte(constants[select - 4][byte]),
                    _ => Origin::Byte(0),
                };
            }
        }
        Self {
            source: bytes * from,
            destination: bytes * to,
            map,
        }
    }

    /// Bytes of a source pixel.
    pub fn source_bytes(&self) -> u32 {
        self.source as u32
    }

    /// Bytes of a destination pixel.
    pub fn destination_bytes(&self) -> u32 {
        self.destination as u32
    }

    /// Whether the source matters at all.
    pub fn reads_source(&self) -> bool {
        self.map[..self.destination]
            .iter()
            .any(|origin| matches!(origin, Origin::Source(_)))
    }

    /// Translates pixels.
    pub fn apply(&self, from: &[u8], to: &mut [u8]) {
        let pixels = to.chunks_exact_mut(self.destination);
        for (to, from) in pixels.zip(from.chunks_exact(self.source)) {
            for (byte, origin) in to.iter_mut().zip(self.map) {
                *byte = match origin {
                    Origin::Source(at) => from[usize::from(at)],
                    Origin::Byte(value) => value,
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remap(format: u32) -> Remap {
        let mut state = State::default();
        state.set(Word::Format, format);
        state.set(Word::SwzConst0, 0x4433_2211);
        state.set(Word::SwzConst1, 0x8877_6655);
        Remap::new(&state)
    }

    #[test]
    fn components_are_reordered_in_their_own_width() {
        // Four components of two bytes, reversed.
        let remap = remap(0x0331_0123);
        let mut out = [0; 8];
        remap.apply(&[1, 2, 3, 4, 5, 6, 7, 8], &mut out);
        assert_eq!(out, [7, 8, 5, 6, 3, 4, 1, 2]);
    }

    #[test]
    fn constants_and_zeros_need_no_source() {
        // One source component of four bytes to three: constant 0, constant 1, zero.
        let remap = remap(0x0203_0654);
        assert!(!remap.reads_source());
        let mut out = [0xff; 12];
        remap.apply(&[9; 4], &mut out);
        assert_eq!(
            out,
            [0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0, 0, 0, 0]
        );
    }

    #[test]
    fn a_component_behind_the_source_pixel_is_zero() {
        // One source component of a byte to two: components 0 and 3.
        let remap = remap(0x0100_0030);
        let mut out = [0xff; 4];
        remap.apply(&[7, 8], &mut out);
        assert_eq!(out, [7, 0, 8, 0]);
    }
}
