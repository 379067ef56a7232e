//! Entropy (virtio 1.2, section 5.4).

use std::io::Write;

use super::{Chain, Malformed, VirtioDevice};

/// Device type.
const ENTROPY: u16 = 4;
/// Most bytes that one request gets.
const MOST: usize = 64 << 10;

/// An endless source of random bytes.
#[derive(Debug, Default)]
pub struct Rng(());

impl VirtioDevice for Rng {
    fn kind(&self) -> u16 {
        ENTROPY
    }

    fn class(&self) -> u32 {
        // Unassigned: no class fits.
        0xff_0000
    }

    fn features(&self) -> u64 {
        0
    }

    fn queues(&self) -> u16 {
        1
    }

    fn config(&self) -> &[u8] {
        &[]
    }

    fn serve(&mut self, _queue: u16, chain: &Chain<'_>) -> Result<u32, Malformed> {
        let mut writer = chain
            .clone()
            .writer(chain.memory())
            .map_err(|_| Malformed)?;
        let mut left = writer.available_bytes().min(MOST);
        let mut bytes = [0; 1024];
        while left > 0 {
            let part = left.min(bytes.len());
            // SAFETY: the buffer is valid for its length.
            let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), part, 0) };
            // Requests of up to 256 bytes never fail; larger ones may be cut short by a signal.
            let Some(got) = usize::try_from(got).ok().filter(|&got| got > 0) else {
                continue;
            };
            writer.write_all(&bytes[..got]).map_err(|_| Malformed)?;
            left -= got;
        }
        Ok(writer.bytes_written() as u32)
    }
}
