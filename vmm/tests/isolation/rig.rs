//! Three machines on one software card, each driven through the BARs of its virtual GPU.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use gpu_model::{Card, Host, Layout, Partition, Protection, Settings, Slot, VirtualGpu};
use guest::hostile::Device;
use mmio::Bar;
use vmm::soft_card::SoftCard;

/// How many.
pub const MACHINES: u16 = 3;
/// Video memory of each.
pub const EACH: u64 = 64 << 20;
/// Video memory for the shadow tables of each.
const TABLES: u64 = 16 << 20;

struct Pins;

impl Slot for Pins {
    fn msi(&self) {}
    fn intx(&self, _level: bool) {}
}

/// The BARs of a virtual GPU.
pub struct Bars(pub Arc<VirtualGpu>);

impl Device for Bars {
    fn load(&self, bar: Bar, offset: u64) -> u32 {
        let mut word = [0; 4];
        self.0.read(bar, offset, &mut word);
        u32::from_le_bytes(word)
    }

    fn store(&self, bar: Bar, offset: u64, value: u32) {
        self.0.write(bar, offset, &value.to_le_bytes());
    }
}

/// The machines.
pub struct Machines {
    pub host: Host,
    pub layout: Layout,
    pub bars: Vec<Bars>,
}

impl Machines {
    /// On a card of their own.
    pub fn new(settings: Settings) -> Self {
        Self::behind(settings, |card| card)
    }

    /// On a card of their own, behind whatever `wrap` makes of it.
    pub fn behind(settings: Settings, wrap: impl FnOnce(Arc<dyn Card>) -> Arc<dyn Card>) -> Self {
        let vram = Layout::vram_for(MACHINES, EACH, TABLES).next_multiple_of(6 << 20);
        let layout = Layout::new(MACHINES, EACH, vram).unwrap();
        let card = SoftCard::new(gf100::Config::quadro_6000(vram)).unwrap();
        let slots = (0..MACHINES).map(|_| Arc::new(Pins) as Arc<dyn Slot>);
        let host = Host::new(
            wrap(Arc::new(card)),
            layout.clone(),
            settings,
            slots.collect(),
        );
        let host = host.unwrap();
        let bars = host.vgpus().iter().cloned().map(Bars).collect();
        Self { host, layout, bars }
    }

    /// What a machine has of the card.
    pub fn part(&self, machine: usize) -> Partition {
        self.layout.partition(self.bars[machine].0.vm())
    }

    /// Reads a machine's video memory behind its back.
    pub fn vram(&self, machine: usize, address: u64, len: u64) -> Vec<u8> {
        let mut bytes = vec![0; len as usize];
        let at = self.part(machine).vram(address, len).unwrap();
        self.host.card().vram_read(at, &mut bytes);
        bytes
    }
}

/// Gives a machine `bytes` as its RAM, at `address`; fails where the virtual GPU refuses it.
pub fn give_ram(gpu: &VirtualGpu, address: u64, bytes: &[u8]) -> std::io::Result<File> {
    let ram = tempfile::tempfile()?;
    ram.write_all_at(bytes, 0)?;
    let all = Protection {
        read: true,
        write: true,
    };
    gpu.dma_map(address, bytes.len() as u64, all, ram.try_clone()?, 0)?;
    Ok(ram)
}
