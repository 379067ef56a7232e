//! Machines on one software card, each driven through the BARs of its virtual GPU.

#![allow(dead_code)] // Every user needs another part of it.

pub mod intercept;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use gpu_model::{Card, Host, Layout, Partition, Protection, Settings, Slot, VirtualGpu};
use guest::hostile::Device;
use mmio::Bar;
use vmm::soft_card::SoftCard;

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

/// Video memory of a card for so many.
pub fn vram_of_all(count: u16) -> u64 {
    Layout::vram_for(count, EACH, TABLES).next_multiple_of(6 << 20)
}

/// A card for `count` machines.
pub fn soft_card(count: u16) -> Arc<dyn Card> {
    soft_card_with(count, gf100::Falcons::Resident)
}

/// Likewise, with what is said in its falcons.
pub fn soft_card_with(count: u16, falcons: gf100::Falcons) -> Arc<dyn Card> {
    let config = gf100::Config {
        falcons,
        ..gf100::Config::quadro_6000(vram_of_all(count))
    };
    Arc::new(SoftCard::new(config).unwrap())
}

/// The machines.
pub struct Machines {
    pub host: Host,
    pub layout: Layout,
    pub bars: Vec<Bars>,
}

impl Machines {
    /// So many, on a card of their own.
    pub fn new(count: u16, settings: Settings) -> Self {
        Self::on(soft_card(count), count, settings)
    }

    /// So many, on `card`, which is behind or the same as that of [`soft_card`].
    pub fn on(card: Arc<dyn Card>, count: u16, settings: Settings) -> Self {
        let layout = Layout::new(count, EACH, vram_of_all(count)).unwrap();
        let slots = (0..count).map(|_| Arc::new(Pins) as Arc<dyn Slot>);
        let host = Host::new(card, layout.clone(), settings, slots.collect()).unwrap();
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
