//! The software card in this process, as GPUvm's aggregator drives it.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gpu_model::{Card, Protection};
use mmio::Bar;
use parking_lot::{Condvar, Mutex};

use crate::gpu::HostCard;

/// Configuration space: MSI enable in the message control of the capability at 0x68.
///
/// Source: `gf100/src/pci.rs`, which has the capability there as boards of this family do.
const MSI_CONTROL: u64 = 0x6a;
const MSI_ENABLE: u16 = 1;

/// What executes the programs of a software card's SMs, as an option.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Sm {
    /// Instruction by instruction.
    Interpreter,
    /// Machine code of the host, where the host can run it.
    #[default]
    Jit,
}

impl From<Sm> for gf100::sm::Engine {
    fn from(sm: Sm) -> Self {
        match sm {
            Sm::Interpreter => Self::Interpreter,
            Sm::Jit => Self::JIT,
        }
    }
}

/// What the card's work costs, as options.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct CardCost {
    /// Nanoseconds that every read of a software card's BAR costs on top.
    #[arg(long, value_name = "NS", default_value_t = 0)]
    pcie_read_ns: u64,

    /// Nanoseconds that every write to a software card's BAR costs on top.
    #[arg(long, value_name = "NS", default_value_t = 0)]
    pcie_write_ns: u64,

    /// A software card's engines take at least so many times as long as those of a Quadro 6000, so
    /// that guests wait for the card and not for the host's processors; 0: as long as the host
    /// takes.
    #[arg(long, value_name = "FACTOR", default_value_t = 0,
        value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    slow_motion: u32,

    /// What executes the programs of a software card's SMs.
    #[arg(long, value_enum, value_name = "ENGINE", default_value_t)]
    sm: Sm,
}

impl CardCost {
    /// A Quadro 6000 with `vram` bytes of video memory whose work costs that.
    pub fn quadro_6000(self, vram: u64) -> gf100::Config {
        gf100::Config {
            pcie_read: Duration::from_nanos(self.pcie_read_ns),
            pcie_write: Duration::from_nanos(self.pcie_write_ns),
            slow_motion: self.slow_motion,
            engine: self.sm.into(),
            ..gf100::Config::quadro_6000(vram)
        }
    }
}

/// Where the card's message arrives.
#[derive(Default)]
struct Doorbell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl gf100::Bus for Doorbell {
    fn msi(&self) {
        *self.rung.lock() = true;
        self.changed.notify_one();
    }

    fn intx(&self, _level: bool) {}
}

/// A software card that nobody else has.
pub struct SoftCard {
    card: gf100::Card,
    doorbell: Arc<Doorbell>,
}

impl SoftCard {
    /// Powers a card on.
    ///
    /// # Errors
    ///
    /// See [`gf100::Card::new`].
    pub fn new(config: gf100::Config) -> Result<Self, gf100::Error> {
        let doorbell = Arc::new(Doorbell::default());
        let card = gf100::Card::new(config, doorbell.clone())?;
        card.config_write(MSI_CONTROL, &MSI_ENABLE.to_le_bytes());
        Ok(Self { card, doorbell })
    }
}

impl Card for SoftCard {
    fn bar_size(&self, bar: Bar) -> u64 {
        self.card.bar_size(bar)
    }

    fn read(&self, bar: Bar, offset: u64, data: &mut [u8]) {
        self.card.read(bar, offset, data);
    }

    fn write(&self, bar: Bar, offset: u64, data: &[u8]) {
        self.card.write(bar, offset, data);
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
        let protection = gf100::memory::Protection {
            read: protection.read,
            write: protection.write,
        };
        let dma = self.card.dma();
        dma.map(iova, size, protection, file, offset)
            .map_err(io::Error::other)
    }

    fn dma_unmap(&self, iova: u64, size: u64) {
        self.card.dma().unmap(iova, size);
    }

    fn wait_interrupt(&self, at_most: Duration) -> bool {
        let end = Instant::now() + at_most;
        let mut rung = self.doorbell.rung.lock();
        while !*rung {
            if self.doorbell.changed.wait_until(&mut rung, end).timed_out() {
                break;
            }
        }
        std::mem::take(&mut *rung)
    }

    fn vram_read(&self, address: u64, data: &mut [u8]) -> bool {
        self.card.vram_read(address, data);
        true
    }

    fn vram_write(&self, address: u64, data: &[u8]) -> bool {
        self.card.vram_write(address, data);
        true
    }

    fn scrub(&self, address: u64, len: u64) -> bool {
        self.card.memory().vram().scrub(address, len).is_ok()
    }
}

impl HostCard for SoftCard {
    fn host_address(&self, address: u64, len: u64) -> Option<u64> {
        let len = usize::try_from(len).ok()?;
        let at = self.card.memory().vram().host_ptr(address, len)?;
        Some(at.addr().get() as u64)
    }
}
