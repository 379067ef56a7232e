//! The memories of a falcon behind their ports.
//!
//! The card does what the firmware would do without executing it, so code is kept only to be read
//! back; data memory is where drivers leave lists that the card's own code picks up.

use mmio::regs::falcon::offset;
use parking_lot::Mutex;

/// Most bytes that a port can address.
const MEMORY_SIZE: usize = 1 << 16;

const AUTO_INCREMENT_WRITE: u32 = 1 << 24;
const AUTO_INCREMENT_READ: u32 = 1 << 25;

/// Code and data memory of one falcon.
pub struct Falcon {
    code: Mutex<Port>,
    data: Mutex<Port>,
}

struct Port {
    control: u32,
    words: Vec<u32>,
}

impl Falcon {
    /// A falcon with empty memories.
    pub fn new() -> Self {
        Self {
            code: Mutex::new(Port::new()),
            data: Mutex::new(Port::new()),
        }
    }

    /// A load at `at`, from the falcon's base; `None` if no memory port is there.
    pub fn read(&self, at: u32) -> Option<u32> {
        match at {
            offset::IMEM_CTRL => Some(self.code.lock().control),
            offset::IMEM_DATA => Some(self.code.lock().load()),
            offset::DMEM_CTRL => Some(self.data.lock().control),
            offset::DMEM_DATA => Some(self.data.lock().load()),
            _ => None,
        }
    }

    /// A store at `at`; `false` if no memory port is there.
    pub fn write(&self, at: u32, value: u32) -> bool {
        match at {
            offset::IMEM_CTRL => self.code.lock().control = value,
            offset::IMEM_DATA => self.code.lock().store(value),
            offset::DMEM_CTRL => self.data.lock().control = value,
            offset::DMEM_DATA => self.data.lock().store(value),
            _ => return false,
        }
        true
    }

    /// Empties both memories.
    pub fn reset(&self) {
        *self.code.lock() = Port::new();
        *self.data.lock() = Port::new();
    }
}

impl Default for Falcon {
    fn default() -> Self {
        Self::new()
    }
}

impl Port {
    const fn new() -> Self {
        Self {
            control: 0,
            words: Vec::new(),
        }
    }

    fn word(&self) -> usize {
        self.control as usize % MEMORY_SIZE / 4
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
            let flags = self.control & !(MEMORY_SIZE as u32 - 1);
            self.control = flags | (self.control.wrapping_add(4) % MEMORY_SIZE as u32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_written_with_auto_increment_is_read_back_in_order() {
        let falcon = Falcon::new();
        falcon.write(offset::DMEM_CTRL, AUTO_INCREMENT_WRITE | 0x10);
        for value in [1, 2, 3] {
            falcon.write(offset::DMEM_DATA, value);
        }
        falcon.write(offset::DMEM_CTRL, AUTO_INCREMENT_READ | 0x10);
        let read: Vec<_> = (0..4)
            .map(|_| falcon.read(offset::DMEM_DATA).unwrap())
            .collect();
        assert_eq!(read, [1, 2, 3, 0]);
    }

    #[test]
    fn the_port_wraps_at_the_end_of_its_memory() {
        let falcon = Falcon::new();
        falcon.write(offset::IMEM_CTRL, AUTO_INCREMENT_WRITE | 0xfffc);
        falcon.write(offset::IMEM_DATA, 5);
        falcon.write(offset::IMEM_DATA, 6);
        falcon.write(offset::IMEM_CTRL, 0);
        assert_eq!(falcon.read(offset::IMEM_DATA), Some(6));
    }

    #[test]
    fn other_registers_are_not_its_own() {
        let falcon = Falcon::new();
        assert_eq!(falcon.read(offset::UC_CTRL), None);
        assert!(!falcon.write(offset::UC_CTRL, 2));
    }
}
