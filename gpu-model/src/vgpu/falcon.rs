//! The falcons of a guest's device: their memories behind their ports.
//!
//! A guest uploads its firmware here; the card's own falcons run what the aggregator started.

use mmio::regs::falcon::{self, offset};
use parking_lot::Mutex;

/// Most bytes that a port can address.
const MEMORY_SIZE: u32 = 1 << 16;

const AUTO_INCREMENT_WRITE: u32 = 1 << 24;
const AUTO_INCREMENT_READ: u32 = 1 << 25;

#[derive(Default)]
struct Port {
    control: u32,
    words: Vec<u32>,
}

impl Port {
    fn word(&self) -> usize {
        (self.control % MEMORY_SIZE / 4) as usize
    }

    fn load(&mut self) -> u32 {
        let value = self.words.get(self.word()).copied().unwrap_or(0);
        self.advance(AUTO_INCREMENT_READ);
        value
    }

    fn store(&mut self, value: u32) {
        let word = self.word();
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        self.words[word] = value;
        self.advance(AUTO_INCREMENT_WRITE);
    }

    fn advance(&mut self, when: u32) {
        if self.control & when != 0 {
            let flags = self.control & !(MEMORY_SIZE - 1);
            self.control = flags | (self.control.wrapping_add(4) % MEMORY_SIZE);
        }
    }
}

/// Code and data memory of one falcon.
#[derive(Default)]
struct Memories {
    code: Port,
    data: Port,
}

/// Where the falcons are.
const BASES: [u32; 5] = [
    falcon::CE0,
    falcon::CE1,
    falcon::PMU,
    falcon::FECS,
    falcon::GPCCS,
];

/// All falcons of a device.
#[derive(Default)]
pub struct Falcons([Mutex<Memories>; BASES.len()]);

impl Falcons {
    /// The falcon with a port at `register` of BAR0, and the port's place.
    fn find(&self, register: u32) -> Option<(&Mutex<Memories>, u32)> {
        let index = BASES
            .iter()
            .position(|&base| register & !(falcon::SIZE - 1) == base)?;
        Some((&self.0[index], register - BASES[index]))
    }

    /// A load; `None` if no memory port is there.
    pub fn read(&self, register: u32) -> Option<u32> {
        let (memories, place) = self.find(register)?;
        let mut memories = memories.lock();
        match place {
            offset::IMEM_CTRL => Some(memories.code.control),
            offset::IMEM_DATA => Some(memories.code.load()),
            offset::DMEM_CTRL => Some(memories.data.control),
            offset::DMEM_DATA => Some(memories.data.load()),
            _ => None,
        }
    }

    /// A store; `false` if no memory port is there.
    pub fn write(&self, register: u32, value: u32) -> bool {
        let Some((memories, place)) = self.find(register) else {
            return false;
        };
        let mut memories = memories.lock();
        match place {
            offset::IMEM_CTRL => memories.code.control = value,
            offset::IMEM_DATA => memories.code.store(value),
            offset::DMEM_CTRL => memories.data.control = value,
            offset::DMEM_DATA => memories.data.store(value),
            // DMA of code is instant.
            offset::DMACTL => {}
            _ => return false,
        }
        true
    }

    /// Empties the memories of the falcons in `range` of BAR0.
    pub fn reset(&self, range: std::ops::Range<u32>) {
        for (memories, _) in self
            .0
            .iter()
            .zip(BASES)
            .filter(|(_, base)| range.contains(base))
        {
            *memories.lock() = Memories::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_written_with_auto_increment_is_read_back_until_a_reset() {
        let falcons = Falcons::default();
        let port = |place| falcon::FECS + place;
        falcons.write(port(offset::DMEM_CTRL), AUTO_INCREMENT_WRITE | 0xfffc);
        assert!(falcons.write(port(offset::DMEM_DATA), 1));
        assert!(falcons.write(port(offset::DMEM_DATA), 2));
        falcons.write(port(offset::DMEM_CTRL), 0);
        assert_eq!(falcons.read(port(offset::DMEM_DATA)), Some(2));
        falcons.reset(falcon::FECS..falcon::FECS + 1);
        assert_eq!(falcons.read(port(offset::DMEM_DATA)), Some(0));
        assert_eq!(falcons.read(port(offset::UC_CTRL)), None);
    }
}
