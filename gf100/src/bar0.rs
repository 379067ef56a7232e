//! BAR0: finds who answers for an offset.

use std::sync::Arc;

use mmio::regs::{PRAMIN, PROM};
use mmio::{Kind, RegisterMap, Unit, words};

use crate::block::Block;
use crate::pbus::Pbus;
use crate::shared::Shared;

/// Units by the number of their variant.
const UNITS: usize = Unit::COUNT;

/// The register space of a card.
pub struct Bar0 {
    shared: Arc<Shared>,
    map: &'static RegisterMap,
    blocks: [Option<Arc<dyn Block>>; UNITS],
    windows: Arc<Pbus>,
    rom: Box<[u8]>,
}

impl Bar0 {
    /// A register space with these units and this expansion ROM. A unit without a block stores.
    pub fn new(
        shared: Arc<Shared>,
        units: impl IntoIterator<Item = (Unit, Arc<dyn Block>)>,
        windows: Arc<Pbus>,
        rom: Vec<u8>,
    ) -> Self {
        let mut blocks = [const { None }; UNITS];
        for (unit, block) in units {
            blocks[unit as usize] = Some(block);
        }
        Self {
            shared,
            map: RegisterMap::gf100(),
            blocks,
            windows,
            rom: rom.into(),
        }
    }

    /// Loads from any offset, in any length: registers are read whole, as 32 bits.
    pub fn read(&self, offset: u64, data: &mut [u8]) {
        let Some(offset) = self.bounded(offset, data.len()) else {
            data.fill(0xff);
            return;
        };
        if PRAMIN.contains(&offset) {
            self.windows
                .pramin
                .read((offset - PRAMIN.start).into(), data);
        } else if PROM.contains(&offset) {
            let start = (offset - PROM.start) as usize;
            for (at, byte) in (start..).zip(data) {
                *byte = self.rom.get(at).copied().unwrap_or(0);
            }
        } else {
            words::load(offset, data, |at| self.load(at));
        }
    }

    /// Stores at any offset, in any length: the rest of a register that is stored in part comes
    /// from its storage.
    pub fn write(&self, offset: u64, data: &[u8]) {
        let Some(offset) = self.bounded(offset, data.len()) else {
            return;
        };
        if PRAMIN.contains(&offset) {
            self.windows
                .pramin
                .write((offset - PRAMIN.start).into(), data);
        } else if PROM.contains(&offset) {
            // Read-only.
        } else {
            let kept = |at| self.shared.registers.read(at);
            words::store(offset, data, kept, |at, value| self.store(at, value));
        }
    }

    /// The offset, if `len` bytes from it are inside BAR0.
    fn bounded(&self, offset: u64, len: usize) -> Option<u32> {
        let end = offset.checked_add(len as u64)?;
        (end <= self.shared.config.bar0).then_some(offset as u32)
    }

    /// Loads a register.
    #[inline]
    pub fn load(&self, offset: u32) -> u32 {
        if let Some(at) = self.map.lookup(offset) {
            if let Some(value) = self.blocks[at.register.unit as usize]
                .as_ref()
                .and_then(|block| block.read(at))
            {
                return value;
            }
            if at.register.kind == Kind::Wo {
                return 0;
            }
        }
        self.shared.registers.read(offset)
    }

    /// Stores to a register.
    #[inline]
    pub fn store(&self, offset: u32, value: u32) {
        let file = &self.shared.registers;
        let Some(at) = self.map.lookup(offset) else {
            file.write(offset, value);
            return;
        };
        let block = self.blocks[at.register.unit as usize].as_ref();
        if block.is_some_and(|block| block.write(at, value)) {
            return;
        }
        match at.register.kind {
            Kind::Rw | Kind::Wo => file.write(offset, value),
            Kind::W1c => {
                file.clear(offset, value);
            }
            Kind::Ro => {}
        }
    }

    /// Every register and unit back to its power-on state.
    pub fn reset(&self) {
        self.shared.registers.reset();
        for block in self.blocks.iter().flatten() {
            block.reset();
        }
    }
}
