//! The ports through which a CPU reaches a falcon's memories.
//!
//! The one behaviour that the card's falcons and the copies in a guest's device model share to the
//! letter: neither executes what is uploaded here, so all that software sees is memory, and whether
//! there is any code.

use crate::regs::falcon::{AUTO_INCREMENT_READ, AUTO_INCREMENT_WRITE, offset};

/// Most bytes that a port can address.
const MEMORY_SIZE: u32 = 1 << 16;

/// Code and data memory of one falcon, each behind its port: at most 64 KiB, grown as they are
/// written.
#[derive(Default)]
pub struct FalconPorts {
    code: Port,
    data: Port,
}

impl FalconPorts {
    /// Whether code was loaded that far that there is some at byte address `entry`.
    pub fn has_code_at(&self, entry: u32) -> bool {
        self.code.words.len() > (entry % MEMORY_SIZE / 4) as usize
    }

    /// A load at `at`, from the falcon's base; `None` if no memory port is there.
    pub fn read(&mut self, at: u32) -> Option<u32> {
        match at {
            offset::IMEM_CTRL => Some(self.code.control),
            offset::IMEM_DATA => Some(self.code.load()),
            offset::DMEM_CTRL => Some(self.data.control),
            offset::DMEM_DATA => Some(self.data.load()),
            _ => None,
        }
    }

    /// A store at `at`, from the falcon's base; `false` if no memory port is there.
    pub fn write(&mut self, at: u32, value: u32) -> bool {
        match at {
            offset::IMEM_CTRL => self.code.control = value,
            offset::IMEM_DATA => self.code.store(value),
            offset::DMEM_CTRL => self.data.control = value,
            offset::DMEM_DATA => self.data.store(value),
            _ => return false,
        }
        true
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_written_with_auto_increment_is_read_back_in_order() {
        let mut falcon = FalconPorts::default();
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
    fn there_is_code_where_some_was_stored() {
        let mut falcon = FalconPorts::default();
        assert!(!falcon.has_code_at(0));
        falcon.write(offset::DMEM_DATA, 5);
        assert!(!falcon.has_code_at(0));
        falcon.write(offset::IMEM_CTRL, AUTO_INCREMENT_WRITE);
        falcon.write(offset::IMEM_DATA, 0xf5);
        assert!(falcon.has_code_at(0) && !falcon.has_code_at(4));
    }

    #[test]
    fn a_port_wraps_at_the_end_of_its_memory() {
        let mut falcon = FalconPorts::default();
        falcon.write(offset::IMEM_CTRL, AUTO_INCREMENT_WRITE | 0xfffc);
        falcon.write(offset::IMEM_DATA, 5);
        falcon.write(offset::IMEM_DATA, 6);
        falcon.write(offset::IMEM_CTRL, 0);
        assert_eq!(falcon.read(offset::IMEM_DATA), Some(6));
    }

    #[test]
    fn other_registers_are_none_of_theirs() {
        let mut falcon = FalconPorts::default();
        assert_eq!(falcon.read(offset::UC_CTRL), None);
        assert!(!falcon.write(offset::UC_CTRL, 2));
    }
}
