//! A card on the bus, as GPUvm's aggregator drives it.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use gpu_model::{Card, Protection};
use mmio::Bar;
use mmio::regs::{board, pfb};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::Device;
use crate::gpu::HostCard;

/// A card on the bus that nobody else has.
pub struct VfioCard {
    device: Device,
    message: EventFd,
}

impl VfioCard {
    /// Takes a card over, reset.
    ///
    /// # Errors
    ///
    /// It has no message interrupt.
    pub fn new(device: Device) -> io::Result<Self> {
        device.reset();
        let message = EventFd::new(EFD_NONBLOCK)?;
        device.enable_message(&message)?;
        Ok(Self { device, message })
    }

    /// Bytes of its memory, as its controllers say.
    ///
    /// Source: K61 `nvkm/subdev/fb/ramgf100.c gf100_ram_ctor_`.
    pub fn vram_size(&self) -> u64 {
        let load = |offset: u32| {
            let mut word = [0; 4];
            self.device.read(Bar::Bar0, offset.into(), &mut word);
            u32::from_le_bytes(word)
        };
        let controllers = load(board::FBP_COUNT.offset());
        let disabled = load(board::DISABLED_FBPS.offset());
        let sizes = pfb::PARTITION_SIZE.elements().zip(0..controllers);
        sizes
            .filter(|(_, number)| disabled >> number & 1 == 0)
            .map(|(offset, _)| u64::from(load(offset)) << 20)
            .sum()
    }
}

impl Card for VfioCard {
    fn bar_size(&self, bar: Bar) -> u64 {
        self.device.bar_size(bar)
    }

    fn read(&self, bar: Bar, offset: u64, data: &mut [u8]) {
        self.device.read(bar, offset, data);
    }

    fn write(&self, bar: Bar, offset: u64, data: &[u8]) {
        self.device.write(bar, offset, data);
    }

    fn config_read(&self, offset: u64, data: &mut [u8]) {
        self.device.config_read(offset, data);
    }

    fn dma_map(
        &self,
        iova: u64,
        size: u64,
        protection: Protection,
        file: File,
        offset: u64,
    ) -> io::Result<()> {
        self.device
            .dma_map(iova, size, protection.write, &file, offset)
    }

    fn dma_unmap(&self, iova: u64, size: u64) {
        self.device.dma_unmap(iova, size);
    }

    fn wait_interrupt(&self, at_most: Duration) -> bool {
        let mut wait = libc::pollfd {
            fd: self.message.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let milliseconds = i32::try_from(at_most.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: one descriptor record, which is ours.
        unsafe { libc::poll(&raw mut wait, 1, milliseconds) };
        self.message.read().is_ok()
    }

    fn scrub(&self, _address: u64, _len: u64) -> bool {
        false
    }
}

impl HostCard for VfioCard {
    fn host_address(&self, _address: u64, _len: u64) -> Option<u64> {
        None
    }
}
