//! The falcons of a guest's device: their memories behind their ports.
//!
//! A guest uploads its firmware here; the card's own falcons run what the aggregator started.

use mmio::FalconPorts;
use mmio::regs::falcon::{self, offset};
use parking_lot::Mutex;

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
pub struct Falcons([Mutex<FalconPorts>; BASES.len()]);

impl Falcons {
    /// The falcon with a port at `register` of BAR0, and the port's place.
    fn find(&self, register: u32) -> Option<(&Mutex<FalconPorts>, u32)> {
        let index = BASES
            .iter()
            .position(|&base| register & !(falcon::SIZE - 1) == base)?;
        Some((&self.0[index], register - BASES[index]))
    }

    /// A load; `None` if no memory port is there.
    pub fn read(&self, register: u32) -> Option<u32> {
        let (memories, place) = self.find(register)?;
        memories.lock().read(place)
    }

    /// A store; `false` if no memory port is there.
    pub fn write(&self, register: u32, value: u32) -> bool {
        let Some((memories, place)) = self.find(register) else {
            return false;
        };
        // DMA of code is instant.
        place == offset::DMACTL || memories.lock().write(place, value)
    }

    /// Empties the memories of the falcons in `range` of BAR0.
    pub fn reset(&self, range: std::ops::Range<u32>) {
        for (memories, _) in self
            .0
            .iter()
            .zip(BASES)
            .filter(|(_, base)| range.contains(base))
        {
            *memories.lock() = FalconPorts::default();
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
        falcons.write(
            port(offset::DMEM_CTRL),
            falcon::AUTO_INCREMENT_WRITE | 0xfffc,
        );
        assert!(falcons.write(port(offset::DMEM_DATA), 1));
        assert!(falcons.write(port(offset::DMEM_DATA), 2));
        falcons.write(port(offset::DMEM_CTRL), 0);
        assert_eq!(falcons.read(port(offset::DMEM_DATA)), Some(2));
        falcons.reset(falcon::FECS..falcon::FECS + 1);
        assert_eq!(falcons.read(port(offset::DMEM_DATA)), Some(0));
        assert_eq!(falcons.read(port(offset::UC_CTRL)), None);
    }
}
