//! Constant buffers as the programs of a launch see them.

use std::sync::OnceLock;

use super::launch::{CONSTANT_BUFFERS, Launch};
use crate::memory::{Client, Fault};

/// Bytes of a buffer at most.
const MAX_BYTES: u32 = 64 << 10;
/// Bytes that are read at once: drivers bind all 64 KiB and use few of them.
const BLOCK_BYTES: u32 = 1 << 10;

/// A block of a constant buffer, once somebody looked at it.
type Block = OnceLock<Box<[u8; BLOCK_BYTES as usize]>>;

/// The constant buffers of a launch, each block as it was when it was first looked at.
pub struct Constants {
    bindings: [(u64, u32); CONSTANT_BUFFERS],
    banks: [OnceLock<Box<[Block]>>; CONSTANT_BUFFERS],
}

impl Constants {
    /// Those of a launch.
    pub fn new(launch: &Launch) -> Self {
        Self {
            bindings: launch
                .constants
                .map(|buffer| (buffer.address, buffer.size.min(MAX_BYTES))),
            banks: Default::default(),
        }
    }

    /// The word at a multiple of 4; 0 behind the end.
    ///
    /// # Errors
    ///
    /// The buffer cannot be read.
    pub fn word(&self, client: &mut Client, bank: u32, offset: u32) -> Result<u32, Fault> {
        let Some(&(address, size)) = self.bindings.get(bank as usize) else {
            return Ok(0);
        };
        let blocks = self.banks[bank as usize].get_or_init(|| {
            let count = size.div_ceil(BLOCK_BYTES);
            (0..count).map(|_| Block::new()).collect()
        });
        let (n, at) = (offset / BLOCK_BYTES, offset % BLOCK_BYTES);
        let Some(block) = blocks.get(n as usize) else {
            return Ok(0);
        };
        let bytes = match block.get() {
            Some(bytes) => bytes,
            None => {
                let start = n * BLOCK_BYTES;
                let rest = (size - start).min(BLOCK_BYTES) as usize;
                let mut bytes = Box::new([0; BLOCK_BYTES as usize]);
                client.read(address.wrapping_add(start.into()), &mut bytes[..rest])?;
                block.get_or_init(|| bytes)
            }
        };
        let word = bytes.get(at as usize..).and_then(<[u8]>::first_chunk);
        Ok(word.map_or(0, |word| u32::from_le_bytes(*word)))
    }
}
