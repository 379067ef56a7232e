//! Message signalled interrupts with a table in a BAR (PCI Local Bus 3.0, section 6.8.2).

use mmio::{Bar, Width};
use parking_lot::Mutex;

use super::ConfigSpace;
use crate::irq::MessageVector;
use crate::vm::MsiMessage;

/// Capability ID.
const ID: u8 = 0x11;
/// Message control: enabled; all vectors masked.
const ENABLE: u32 = 1 << 15;
const FUNCTION_MASK: u32 = 1 << 14;
/// Bytes per table entry: address, data, control.
const ENTRY: u64 = 16;
const ENTRY_DATA: usize = 8;
const ENTRY_CONTROL: usize = 12;
/// Entry control: masked.
const MASKED: u8 = 1;

/// The capability, its table, and the interrupts behind it.
pub struct Msix {
    at: u16,
    vectors: Vec<MessageVector>,
    state: Mutex<State>,
}

struct State {
    enabled: bool,
    masked: bool,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy)]
struct Entry {
    bytes: [u8; ENTRY as usize],
    pending: bool,
}

impl Entry {
    fn masked(&self) -> bool {
        self.bytes[ENTRY_CONTROL] & MASKED != 0
    }

    fn message(&self) -> MsiMessage {
        let dword = |at: usize| {
            let mut bytes = [0; 4];
            bytes.copy_from_slice(&self.bytes[at..at + 4]);
            u32::from_le_bytes(bytes)
        };
        MsiMessage {
            address: u64::from(dword(4)) << 32 | u64::from(dword(0) & !3),
            data: dword(ENTRY_DATA),
        }
    }
}

impl Msix {
    /// Adds the capability to `config`; the table lies at `table` of `bar`, the pending bits at
    /// `pending`.
    pub fn add_to(
        config: &mut ConfigSpace,
        vectors: Vec<MessageVector>,
        bar: Bar,
        table: u32,
        pending: u32,
    ) -> Self {
        let mut body = [0; 10];
        body[..2].copy_from_slice(&(vectors.len() as u16 - 1).to_le_bytes());
        body[2..6].copy_from_slice(&(table | bar.index() as u32).to_le_bytes());
        body[6..].copy_from_slice(&(pending | bar.index() as u32).to_le_bytes());
        let control = ((ENABLE | FUNCTION_MASK) as u16).to_le_bytes();
        let mut entry = Entry {
            bytes: [0; ENTRY as usize],
            pending: false,
        };
        entry.bytes[ENTRY_CONTROL] = MASKED;
        Msix {
            at: config.add_capability(ID, &body, &control),
            state: Mutex::new(State {
                enabled: false,
                masked: false,
                entries: vec![entry; vectors.len()],
            }),
            vectors,
        }
    }

    /// Takes over what `config` says; to be called after each write to it.
    pub fn update(&self, config: &ConfigSpace) {
        let control = config.read(self.at + 2, Width::Word);
        let mut state = self.state.lock();
        let (enabled, masked) = (control & ENABLE != 0, control & FUNCTION_MASK != 0);
        if (state.enabled, state.masked) != (enabled, masked) {
            (state.enabled, state.masked) = (enabled, masked);
            for index in 0..self.vectors.len() {
                self.settle(&mut state, index);
            }
        }
    }

    /// Routes vector `index` as the table says, and sends what waited for that.
    fn settle(&self, state: &mut State, index: usize) {
        let (enabled, masked) = (state.enabled, state.masked);
        let entry = &mut state.entries[index];
        let open = enabled && !masked && !entry.masked();
        self.vectors[index].route(open.then(|| entry.message()));
        if open && std::mem::take(&mut entry.pending) {
            self.vectors[index].raise();
        }
    }

    /// Whether the guest uses messages instead of the pin.
    pub fn enabled(&self) -> bool {
        self.state.lock().enabled
    }

    /// Raises vector `index`, now or when it is unmasked; there may be no such vector.
    pub fn raise(&self, index: u16) {
        let index = usize::from(index);
        let mut state = self.state.lock();
        let State {
            enabled,
            masked,
            entries,
        } = &mut *state;
        let Some(entry) = entries.get_mut(index) else {
            return;
        };
        if *masked || entry.masked() {
            entry.pending = true;
        } else if *enabled {
            self.vectors[index].raise();
        }
    }

    /// Reads the table.
    pub fn read_table(&self, offset: u64, width: Width) -> u64 {
        let state = self.state.lock();
        let mut value = [0; 8];
        if let Some(entry) = state.entries.get((offset / ENTRY) as usize) {
            let at = (offset % ENTRY) as usize;
            let len = width.bytes().min(ENTRY as usize - at);
            value[..len].copy_from_slice(&entry.bytes[at..at + len]);
        }
        u64::from_le_bytes(value)
    }

    /// Writes the table.
    pub fn write_table(&self, offset: u64, width: Width, value: u64) {
        let mut state = self.state.lock();
        let index = (offset / ENTRY) as usize;
        if let Some(entry) = state.entries.get_mut(index) {
            let at = (offset % ENTRY) as usize;
            let len = width.bytes().min(ENTRY as usize - at);
            entry.bytes[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
            self.settle(&mut state, index);
        }
    }

    /// Reads the pending bits.
    pub fn read_pending(&self, offset: u64, width: Width) -> u64 {
        let state = self.state.lock();
        let first = offset as usize * 8;
        let bits = state.entries.iter().skip(first).take(width.bytes() * 8);
        bits.enumerate().fold(0, |value, (bit, entry)| {
            value | u64::from(entry.pending) << bit
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::irq::Interrupts;
    use crate::layout::IO_APIC_PINS;
    use crate::pci::Identity;
    use crate::vm::testing::TestVm;

    fn msix(vm: &Arc<TestVm>) -> (ConfigSpace, Msix) {
        let interrupts = Interrupts::new(vm.clone());
        let mut config = ConfigSpace::new(&Identity::default());
        let vectors = (0..2).map(|_| interrupts.message().unwrap()).collect();
        let msix = Msix::add_to(&mut config, vectors, Bar::Bar0, 0x1000, 0x2000);
        (config, msix)
    }

    #[test]
    fn vector_raised_while_masked_is_sent_when_unmasked() {
        let vm = Arc::new(TestVm::default());
        let (mut config, msix) = msix(&vm);
        config.write(msix.at + 2, Width::Word, ENABLE);
        msix.update(&config);
        msix.write_table(ENTRY, Width::Dword, 0xfee0_0000);
        msix.write_table(ENTRY + 8, Width::Dword, 0x31);

        msix.raise(1);
        assert_eq!(msix.read_pending(0, Width::Qword), 2);
        assert!(msix.vectors[1].event().read().is_err());
        msix.write_table(ENTRY + 12, Width::Dword, 0);

        assert_eq!(msix.read_pending(0, Width::Qword), 0);
        assert_eq!(msix.vectors[1].event().read().unwrap(), 1);
        assert_eq!(vm.0.lock().messages[&(IO_APIC_PINS + 1)].data, 0x31);
    }

    #[test]
    fn vector_that_does_not_exist_is_ignored() {
        let vm = Arc::new(TestVm::default());
        let (_, msix) = msix(&vm);

        msix.raise(0xffff);
        msix.write_table(ENTRY * 2, Width::Qword, u64::MAX);

        assert_eq!(msix.read_table(ENTRY * 2, Width::Qword), 0);
    }
}
