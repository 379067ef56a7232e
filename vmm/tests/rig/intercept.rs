//! A card between GPUvm and another one.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use gpu_model::{Card, Layout, Protection, Stretches};
use mmio::Bar;
use mmio::layout::userd;
use mmio::regs::pfifo;

/// What a test does with accesses of BARs.
pub trait Intercept: Send + Sync {
    /// A load, which `card` would serve.
    fn read(&self, card: &dyn Card, bar: Bar, offset: u64, data: &mut [u8]) {
        card.read(bar, offset, data);
    }

    /// Memory is to be cleared; whether `card` has a quick way to that.
    fn scrub(&self, card: &dyn Card, address: u64, len: u64) -> bool {
        card.scrub(address, len)
    }

    /// A load of video memory past the BARs; whether `card` has a way to that.
    fn vram_read(&self, card: &dyn Card, address: u64, data: &mut [u8]) -> bool {
        card.vram_read(address, data)
    }

    /// Memory for the engines of `card` to bring blocks to.
    fn stage(&self, card: &dyn Card, iova: u64, size: u64) -> Option<File> {
        card.stage(iova, size)
    }

    /// A store, which `card` would take.
    fn write(&self, card: &dyn Card, bar: Bar, offset: u64, data: &[u8]) {
        card.write(bar, offset, data);
    }
}

/// A card whose BARs a test answers for; all else is that of the card behind it.
pub struct Intercepted<T> {
    /// The card behind it.
    pub card: Arc<dyn Card>,
    /// The test's part.
    pub test: T,
}

impl<T: Intercept> Card for Intercepted<T> {
    fn bar_size(&self, bar: Bar) -> u64 {
        self.card.bar_size(bar)
    }

    fn read(&self, bar: Bar, offset: u64, data: &mut [u8]) {
        self.test.read(&*self.card, bar, offset, data);
    }

    fn write(&self, bar: Bar, offset: u64, data: &[u8]) {
        self.test.write(&*self.card, bar, offset, data);
    }

    fn look(&self, chid: u32) {
        self.card.look(chid);
    }

    fn config_read(&self, offset: u64, data: &mut [u8]) {
        self.card.config_read(offset, data);
    }

    fn dma_map(
        &self,
        iova: u64,
        size: u64,
        protection: Protection,
        file: File,
        offset: u64,
    ) -> io::Result<()> {
        self.card.dma_map(iova, size, protection, file, offset)
    }

    fn dma_unmap(&self, iova: u64, size: u64) {
        self.card.dma_unmap(iova, size);
    }

    fn wait_interrupt(&self, at_most: Duration) -> bool {
        self.card.wait_interrupt(at_most)
    }

    fn show(&self, stretches: &Stretches) {
        self.card.show(stretches);
    }

    fn vram_read(&self, address: u64, data: &mut [u8]) -> bool {
        self.test.vram_read(&*self.card, address, data)
    }

    fn vram_write(&self, address: u64, data: &[u8]) -> bool {
        self.card.vram_write(address, data)
    }

    fn flush(&self, mapped: bool) {
        self.card.flush(mapped);
    }

    fn stage(&self, iova: u64, size: u64) -> Option<File> {
        self.test.stage(&*self.card, iova, size)
    }

    fn scrub(&self, address: u64, len: u64) -> bool {
        self.test.scrub(&*self.card, address, len)
    }
}

/// Stands before the doorbell of the hypervisor's own channel.
#[derive(Default)]
pub struct OwnDoorbell {
    /// The card does not hear it.
    deaf: AtomicBool,
    /// How often it was rung.
    rung: AtomicU64,
}

impl OwnDoorbell {
    /// One that the card does not hear, or does.
    pub fn new(deaf: bool) -> Self {
        Self {
            deaf: AtomicBool::new(deaf),
            rung: AtomicU64::new(0),
        }
    }

    /// Where it is in BAR1: in the control page of the last channel.
    pub fn place() -> u64 {
        Layout::control_page(pfifo::CHANNELS - 1) + userd::GP_PUT
    }

    /// From now on the card hears it.
    pub fn hear(&self) {
        self.deaf.store(false, Ordering::Relaxed);
    }

    /// How often it was rung.
    pub fn rung(&self) -> u64 {
        self.rung.load(Ordering::Relaxed)
    }

    /// Passes a store on to `card`, unless it is one that is not heard.
    pub fn write(&self, card: &dyn Card, bar: Bar, offset: u64, data: &[u8]) {
        if bar == Bar::Bar1 && offset == Self::place() {
            self.rung.fetch_add(1, Ordering::Relaxed);
            if self.deaf.load(Ordering::Relaxed) {
                return;
            }
        }
        card.write(bar, offset, data);
    }
}
