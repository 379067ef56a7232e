//! The card as its slot sees it: configuration space, BARs, DMA windows, reset.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use firmware::vbios::Vbios;
use mmio::regs::pmc::Enable;
use mmio::{Bar, Unit};

use crate::bar0::Bar0;
use crate::block::Block;
use crate::board::Board;
use crate::bus::Bus;
use crate::ce::{CopyEngine, Pce};
use crate::clock::Clock;
use crate::config::{Config, ConfigError};
use crate::engine::Engine;
use crate::fifo::Pfifo;
use crate::gr::Pgraph;
use crate::interrupts::Interrupts;
use crate::memory::{DmaSpace, FaultReport, Memory};
use crate::pbus::Pbus;
use crate::pci::Function;
use crate::pci_mirror::Ppci;
use crate::pfb::Pfb;
use crate::pmc::Pmc;
use crate::pmu::Pmu;
use crate::ptimer::Ptimer;
use crate::register_file::RegisterFile;
use crate::shared::Shared;

/// Why there is no card.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The board cannot be.
    #[error("The board cannot be built")]
    Config(#[from] ConfigError),
    /// The host has no memory or no thread for it.
    #[error("The host does not carry the card")]
    Host(#[from] io::Error),
}

/// A GF100 in a slot. All methods may be called from several threads at once; none waits for an
/// engine's work.
pub struct Card {
    shared: Arc<Shared>,
    function: Function,
    bar0: Bar0,
    windows: Arc<Pbus>,
    fifo: Arc<Pfifo>,
}

impl Card {
    /// Powers a card on in the slot `bus`.
    ///
    /// # Errors
    ///
    /// The configuration is impossible, or the host has no room for memory and threads.
    pub fn new(config: Config, bus: Arc<dyn Bus>) -> Result<Self, Error> {
        config.validate()?;
        let rom = Vbios::quadro_6000().device_id(config.device_id).build();
        let shared = Arc::new(Shared {
            registers: RegisterFile::new(config.bar0),
            memory: Memory::new(config.vram)?,
            interrupts: Interrupts::new(bus),
            clock: Clock::new(),
            config,
        });
        let windows = Pbus::new(&shared);
        let pmu: Arc<dyn Block> = Arc::new(Pmu::new(shared.clone()));
        let pgraph = Arc::new(Pgraph::new(shared.clone()));
        let copy = [0, 1].map(|number| Arc::new(CopyEngine::new(shared.clone(), number)));
        let engines: Vec<Arc<dyn Engine>> = vec![pgraph.clone(), copy[0].clone(), copy[1].clone()];
        let fifo = Pfifo::new(shared.clone(), engines)?;
        let resettable: Vec<(Enable, Arc<dyn Block>)> = vec![
            (Enable::CE0, copy[0].clone()),
            (Enable::CE1, copy[1].clone()),
            (Enable::PFIFO, fifo.clone()),
            (Enable::PMU, pmu.clone()),
            (Enable::PGRAPH, pgraph.clone()),
        ];
        let units: Vec<(Unit, Arc<dyn Block>)> = vec![
            (Unit::Pmc, Arc::new(Pmc::new(shared.clone(), resettable))),
            (Unit::Pbus, windows.clone()),
            (Unit::Ptimer, Arc::new(Ptimer::new(shared.clone())?)),
            (Unit::Pfb, Arc::new(Pfb::new(shared.clone()))),
            (Unit::Pfuse, Arc::new(Board::new(shared.clone()))),
            (Unit::Ppci, Arc::new(Ppci::new(shared.clone()))),
            (Unit::Ppmu, pmu),
            (Unit::Pgraph, pgraph),
            (Unit::Pfifo, fifo.clone()),
            (Unit::Pce, Arc::new(Pce(copy))),
        ];
        Ok(Self {
            function: Function::new(shared.clone()),
            bar0: Bar0::new(shared.clone(), units, windows.clone(), rom),
            windows,
            fifo,
            shared,
        })
    }

    /// Bytes of a BAR.
    pub fn bar_size(&self, bar: Bar) -> u64 {
        self.function.bar_size(bar)
    }

    /// Loads from configuration space.
    pub fn config_read(&self, offset: u64, data: &mut [u8]) {
        self.function.read(offset, data);
    }

    /// Stores to configuration space.
    pub fn config_write(&self, offset: u64, data: &[u8]) {
        self.function.write(offset, data);
    }

    /// Loads from a BAR, in any length and alignment; what is not there reads as ones.
    pub fn read(&self, bar: Bar, offset: u64, data: &mut [u8]) {
        charge(self.shared.config.pcie_read);
        match bar {
            Bar::Bar0 => self.bar0.read(offset, data),
            Bar::Bar1 => self.settle(self.windows.bar1.read(offset, data)),
            Bar::Bar3 => self.settle(self.windows.bar3.read(offset, data)),
            // The ports that a VBIOS uses in real mode; nothing runs one.
            Bar::Bar5 => data.fill(0),
        }
    }

    /// Stores to a BAR, in any length and alignment; what is not there is dropped.
    pub fn write(&self, bar: Bar, offset: u64, data: &[u8]) {
        charge(self.shared.config.pcie_write);
        match bar {
            Bar::Bar0 => self.bar0.write(offset, data),
            Bar::Bar1 => {
                self.settle(self.windows.bar1.write(offset, data));
                self.fifo.aperture_stored(offset, data.len() as u64);
            }
            Bar::Bar3 => self.settle(self.windows.bar3.write(offset, data)),
            Bar::Bar5 => {}
        }
    }

    /// Loads video memory as through an aperture that shows all of it; what is not there reads as
    /// ones.
    pub fn vram_read(&self, address: u64, data: &mut [u8]) {
        charge(self.shared.config.pcie_read);
        self.memory().vram().read(address, data);
    }

    /// Stores to video memory, likewise. Of 8 aligned bytes all or none are seen, also by engines.
    pub fn vram_write(&self, address: u64, data: &[u8]) {
        charge(self.shared.config.pcie_write);
        let vram = self.memory().vram();
        if !address.is_multiple_of(8) || !data.len().is_multiple_of(8) {
            return vram.write(address, data);
        }
        let mut span = vram.span_from(address);
        for word in data.chunks_exact(8) {
            let word = u64::from_le_bytes(word.try_into().unwrap_or_default());
            // What is behind the end of memory is dropped.
            if !span.store(0, word) {
                return;
            }
            span = span.skip(8);
        }
    }

    /// Looks for work of channel `chid`, as after a store of its put index through BAR1: for software
    /// that stored it straight to memory.
    pub fn look(&self, chid: u32) {
        if let Ok(chid) = u8::try_from(chid) {
            self.fifo.doorbell(chid);
        }
    }

    /// What an access of an aperture may end in goes to software through PFIFO.
    fn settle(&self, access: Result<(), FaultReport>) {
        if let Err(fault) = access {
            self.fifo.report_fault(&fault);
        }
    }

    /// The windows through which the card reaches the machine's memory.
    pub fn dma(&self) -> &DmaSpace {
        self.shared.memory.dma()
    }

    /// Its memory, as the owner of the card may look at it.
    pub fn memory(&self) -> &Arc<Memory> {
        &self.shared.memory
    }

    /// A function-level reset: all but video memory and DMA windows is as after power-on.
    pub fn reset(&self) {
        self.function.reset();
        self.bar0.reset();
        self.shared.interrupts.reset();
    }
}

/// Spends the time that an access takes on the bus.
fn charge(cost: Duration) {
    if cost.is_zero() {
        return;
    }
    let begin = Instant::now();
    while begin.elapsed() < cost {
        std::hint::spin_loop();
    }
}
