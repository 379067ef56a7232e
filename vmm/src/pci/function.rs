//! A [`Function`] of ours (the software card, a virtual GPU) on the machine's own bus.
//!
//! The function keeps its configuration space; what is read off it here is where its BARs are
//! and where its message goes.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use mmio::{Access, Bar, Width};
use parking_lot::Mutex;
use vmm_sys_util::eventfd::EventFd;

use super::config::{bar_changes, bar_register, decoded_at};
use super::{BarChange, BarKind, BarSpec, Command, PciDevice, Window, intx_gsi, msi};
use crate::gpu::SlotMapper;
use crate::irq::{Interrupts, MessageVector, PinShare};
use crate::memory::{self, GuestMemory};
use crate::vfio_user::{Function, Protection};

/// BARs that a function may have.
const BARS: [Bar; 4] = [Bar::Bar0, Bar::Bar1, Bar::Bar3, Bar::Bar5];

/// The interrupts of one slot.
pub struct SlotInterrupts {
    message: MessageVector,
    pin: PinShare,
}

impl SlotInterrupts {
    /// Those of `slot`.
    pub fn new(interrupts: &Arc<Interrupts>, slot: u8) -> io::Result<Arc<Self>> {
        Ok(Arc::new(SlotInterrupts {
            message: interrupts.message()?,
            pin: interrupts.pin(intx_gsi(slot, 0)),
        }))
    }
}

impl SlotInterrupts {
    /// The event behind the message.
    pub fn message_event(&self) -> &EventFd {
        self.message.event()
    }
}

impl gf100::Bus for SlotInterrupts {
    fn msi(&self) {
        self.message.raise();
    }

    fn intx(&self, level: bool) {
        self.pin.set(level);
    }
}

/// The function in its slot.
pub struct FunctionDevice<F: Function> {
    function: F,
    interrupts: Arc<SlotInterrupts>,
    bars: Vec<BarSpec>,
    /// What of the BARs is mapped.
    mapper: Option<Arc<SlotMapper>>,
    /// Where the MSI capability is.
    msi: Option<u16>,
    decoded: Mutex<Vec<Option<u64>>>,
}

impl<F: Function> FunctionDevice<F> {
    /// Puts `function`, which raises `interrupts`, on the bus and opens all of `memory` to it.
    /// `mapper`, if there is one, learns of the BARs' places and of the accesses that trap.
    pub fn new(
        function: F,
        interrupts: Arc<SlotInterrupts>,
        memory: &GuestMemory,
        mapper: Option<Arc<SlotMapper>>,
    ) -> io::Result<Self> {
        function.reset();
        function.dma_clear();
        let everything = Protection {
            read: true,
            write: true,
        };
        for range in memory::ranges(memory) {
            // SAFETY: `memory` keeps the descriptor open meanwhile.
            let file = unsafe { BorrowedFd::borrow_raw(range.fd) }.try_clone_to_owned()?;
            function.dma_map(
                range.guest,
                range.len,
                everything,
                file.into(),
                range.offset,
            )?;
        }
        let bars: Vec<_> = BARS
            .into_iter()
            .filter_map(|bar| bar_spec(&function, bar))
            .collect();
        Ok(FunctionDevice {
            msi: msi::find(|offset, width| config_read(&function, offset, width)),
            decoded: Mutex::new(vec![None; bars.len()]),
            bars,
            function,
            interrupts,
            mapper,
        })
    }
}

impl<F: Function> FunctionDevice<F> {
    fn trapped(&self, access: &Access) {
        if let Some(mapper) = &self.mapper {
            mapper.trapped(access.bar, access.offset);
        }
    }
}

impl<F: Function> Drop for FunctionDevice<F> {
    /// The machine is gone: nothing of it stays in the function, and its memory is its own again.
    fn drop(&mut self) {
        self.function.reset();
        self.function.dma_clear();
    }
}

fn config_read(function: &impl Function, offset: u16, width: Width) -> u32 {
    let mut data = [0; 4];
    let len = width.bytes().min(4);
    function.config_read(u64::from(offset), &mut data[..len]);
    u32::from_le_bytes(data)
}

/// What the function says of `bar`, if it has it.
fn bar_spec(function: &impl Function, bar: Bar) -> Option<BarSpec> {
    let size = function.bar_size(bar);
    let register = config_read(function, bar_register(bar) as u16, Width::Dword);
    (size != 0).then_some(BarSpec {
        bar,
        kind: BarKind::from_register(register),
        size,
    })
}

impl<F: Function> PciDevice for FunctionDevice<F> {
    fn bars(&self) -> Vec<BarSpec> {
        self.bars.clone()
    }

    fn config_read(&self, offset: u16, width: Width) -> u32 {
        config_read(&self.function, offset, width)
    }

    fn config_write(&self, offset: u16, width: Width, value: u32) -> Vec<BarChange> {
        let read = |offset, width| config_read(&self.function, offset, width);
        let mut decoded = self.decoded.lock();
        let data = value.to_le_bytes();
        let len = width.bytes().min(4);
        self.function.config_write(u64::from(offset), &data[..len]);
        if let Some(at) = self.msi {
            self.interrupts.message.route(msi::message(at, read));
        }
        let command = Command::read(read);
        bar_changes(&self.bars, &mut decoded, |spec| {
            decoded_at(spec, command, read)
        })
    }

    fn read(&self, access: &Access) -> u64 {
        let mut data = [0; 8];
        let len = access.width.bytes();
        self.function
            .read(access.bar, access.offset, &mut data[..len]);
        self.trapped(access);
        u64::from_le_bytes(data)
    }

    fn write(&self, access: &Access, value: u64) {
        let data = value.to_le_bytes();
        let len = access.width.bytes();
        self.function.write(access.bar, access.offset, &data[..len]);
        self.trapped(access);
    }

    fn windows(&self, bar: Bar) -> Vec<Window> {
        let whole = self.function.bar_memory(bar).map(|host| Window::Memory {
            offset: 0,
            len: self.function.bar_size(bar),
            host,
            read_only: false,
        });
        whole.into_iter().collect()
    }

    fn placed(&self, bar: Bar, base: Option<u64>) {
        if let Some(mapper) = &self.mapper {
            mapper.place(bar, base);
        }
    }
}

#[cfg(test)]
mod tests {
    use gf100::{Card, Config};
    use mmio::VmId;

    use super::*;
    use crate::bus::AddressSpace;
    use crate::layout::{self, IO_APIC_PINS};
    use crate::memory_slots::MemorySlots;
    use crate::pci::PciHost;
    use crate::vm::testing::TestVm;

    /// PMC_BOOT_0, with which a driver begins.
    const BOOT_0: u64 = 0;

    #[test]
    fn card_in_a_slot_answers_where_the_guest_put_it_and_interrupts_it() {
        let vm = Arc::new(TestVm::default());
        let interrupts = Interrupts::new(vm.clone());
        let space = AddressSpace::new();
        let memory = memory::create(2 << 20, memory::Pages::Small).unwrap();
        let host = PciHost::new(
            VmId(0),
            vm.clone(),
            Arc::clone(&space),
            2 << 20,
            MemorySlots::from(1),
        )
        .unwrap();
        let slot = SlotInterrupts::new(&interrupts, 0).unwrap();
        let config = Config::quadro_6000(256 << 20);
        let card = Arc::new(Card::new(config, slot.clone()).unwrap());
        let device = FunctionDevice::new(card, slot, &memory, None).unwrap();
        let msi = device.msi.unwrap();
        host.plug(Arc::new(device)).unwrap();
        host.connect().unwrap();
        let mut view = space.view();
        let mut write = |offset: u16, value: u32| {
            let at = layout::ECAM_START + u64::from(offset);
            view.mmio_write(at, &value.to_le_bytes());
        };

        write(0x10, 0xd000_0000);
        write(4, 7);
        write(msi + 4, 0xfee0_1000);
        write(msi + 12, 0x35);
        write(msi, 1 << 16);

        let mut boot = [0; 4];
        assert!(view.mmio_read(0xd000_0000 + BOOT_0, &mut boot));
        assert_eq!(u32::from_le_bytes(boot) & 0x1ff0_0000, 0x0c00_0000);
        let message = vm.0.lock().messages[&IO_APIC_PINS];
        assert_eq!((message.address, message.data), (0xfee0_1000, 0x35));
    }
}
