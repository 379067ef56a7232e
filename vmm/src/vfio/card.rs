//! A card on the bus, as GPUvm's aggregator drives it.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gpu_model::{Card, Layout, Protection, Registers, Stretches};
use mmio::Bar;
use mmio::layout::userd;
use mmio::regs::{board, pbus, pfb};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::Device;
use super::memory::Mapping;
use crate::gpu::HostCard;
use crate::memory;
use crate::vfio_user::{self, Function};

/// How long a flush may take: nouveau waits as long.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);

/// A card on the bus that nobody else has.
pub struct VfioCard {
    device: Device,
    message: EventFd,
    /// Bytes of video memory.
    vram: u64,
    /// What of it is behind BARs: a way to it that takes no window, and that can be mapped into
    /// machines.
    shown: OnceLock<Stretches>,
    /// The card may not see yet what was stored that way.
    unflushed: AtomicBool,
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
        let mut card = Self {
            device,
            message,
            vram: 0,
            shown: OnceLock::new(),
            unflushed: AtomicBool::new(false),
        };
        card.vram = vram_size(&card);
        Ok(card)
    }

    /// Bytes of its memory.
    pub fn vram_size(&self) -> u64 {
        self.vram
    }

    /// Where the `len` bytes of video memory at `address` are: a BAR, and the place in it.
    fn find(&self, address: u64, len: u64) -> Option<(&Mapping, u64)> {
        let (bar, place) = self.shown.get()?.find(address, len)?;
        let bar = self.device.bar(bar)?;
        // A board may have smaller BARs than the layout needs.
        (place + len <= bar.len()).then_some((bar, place))
    }
}

/// Bytes of a card's memory, as its controllers say.
///
/// Source: K61 `nvkm/subdev/fb/ramgf100.c gf100_ram_ctor_`.
fn vram_size(card: &dyn Card) -> u64 {
    let controllers = card.get(board::FBP_COUNT);
    let disabled = card.get(board::DISABLED_FBPS);
    let sizes = pfb::PARTITION_SIZE.elements().zip(0..controllers);
    sizes
        .filter(|(_, number)| disabled >> number & 1 == 0)
        .map(|(offset, _)| u64::from(card.load(offset)) << 20)
        .sum()
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

    fn look(&self, chid: u32) {
        // Through BAR1 the card sees it. The highest byte is 0 in all indices of a ring with less than
        // 2^24 entries: a newer index is not overwritten.
        let highest = Layout::control_page(chid) + userd::GP_PUT + 3;
        self.write(Bar::Bar1, highest, &[0]);
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
        let protection = vfio_user::Protection {
            read: protection.read,
            write: protection.write,
        };
        self.device.dma_map(iova, size, protection, file, offset)
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

    fn show(&self, stretches: &Stretches) {
        // A card is brought up once.
        let _ = self.shown.set(stretches.clone());
    }

    fn vram_read(&self, address: u64, data: &mut [u8]) -> bool {
        let found = self.find(address, data.len() as u64);
        found.map(|(bar, place)| bar.read(place, data)).is_some()
    }

    fn vram_write(&self, address: u64, data: &[u8]) -> bool {
        let Some((bar, place)) = self.find(address, data.len() as u64) else {
            return false;
        };
        bar.write(place, data);
        self.unflushed.store(true, Ordering::Release);
        true
    }

    /// Source: K61 `nvkm/subdev/bar/g84.c g84_bar_flush`.
    fn flush(&self, mapped: bool) {
        if !self.unflushed.swap(false, Ordering::AcqRel) && !mapped {
            return;
        }
        let registers: &dyn Card = self;
        registers.set(pbus::BAR_FLUSH, 1);
        let begin = Instant::now();
        while registers.get(pbus::BAR_FLUSH) & pbus::BAR_FLUSH_BUSY != 0 {
            if begin.elapsed() > FLUSH_LIMIT {
                return tracing::debug!("The card does not finish a flush");
            }
        }
    }

    fn stage(&self, iova: u64, size: u64) -> Option<File> {
        let staged = || {
            let file = memory::memfd(c"staging", 0)?;
            file.set_len(size)?;
            let both = Protection {
                read: true,
                write: true,
            };
            self.dma_map(iova, size, both, file.try_clone()?, 0)?;
            Ok(file)
        };
        let failed = |error: &io::Error| {
            tracing::warn!(%error, "the card's memory is loaded, not fetched");
        };
        staged().inspect_err(failed).ok()
    }

    fn scrub(&self, _address: u64, _len: u64) -> bool {
        false
    }
}

impl HostCard for VfioCard {
    fn host_address(&self, address: u64, len: u64) -> Option<u64> {
        let (bar, place) = self.find(address, len)?;
        Some(bar.address() + place)
    }
}
