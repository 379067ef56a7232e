//! The windows of a guest to its memory: PRAMIN, BAR1 and BAR3.
//!
//! Every access is translated and bounded here, by the guest's own tables for the BARs, and made
//! through the aggregator's window to video memory.

use mmio::Bar;
use mmio::layout::{instance, userd};
use mmio::regs::{PRAMIN, pbus, pfifo};
use shadow_pt::{AddressSpace, GuestAddress, Walker};

use super::VirtualGpu;
use super::memory::{GEOMETRY, Tables};
use crate::aggregator::Event;

const PAGE: u64 = 0x1000;
/// Bit of the control register of an aperture that selects translation.
const TRANSLATE: u32 = 1 << 31;
/// Fault reason: there is no page.
///
/// Source: ENV `rnndb/memory/gf100_vm.xml` GF100_VM_FAULT.
const PAGE_NOT_PRESENT: u32 = 2;
/// Fault type: a store; from the hub; and the clients there.
const FAULT_WRITE: u32 = 1 << 7;
const FAULT_HUB: u32 = 1 << 6;
const CLIENT_BAR_READ: u32 = 7;
const CLIENT_BAR_WRITE: u32 = 8;

/// What is behind a BAR.
pub enum Window {
    /// Video memory from address 0.
    Physical,
    /// An address space.
    Space(Box<Walker>),
    /// Nothing: the instance block makes no sense.
    Nothing,
}

/// The windows of both BARs.
pub struct Windows {
    bar1: Window,
    bar3: Window,
}

impl Default for Windows {
    fn default() -> Self {
        Self {
            bar1: Window::Physical,
            bar3: Window::Physical,
        }
    }
}

impl Windows {
    fn of(&mut self, bar: Bar) -> &mut Window {
        match bar {
            Bar::Bar3 => &mut self.bar3,
            _ => &mut self.bar1,
        }
    }

    /// Forgets translations.
    pub fn flush(&mut self) {
        for window in [&mut self.bar1, &mut self.bar3] {
            if let Window::Space(walker) = window {
                walker.flush();
            }
        }
    }
}

/// A part of an access that is in one page of the guest's video memory, if it is in memory.
struct Part {
    at: Option<u64>,
    len: usize,
}

impl VirtualGpu {
    /// The guest stored the control register of a BAR.
    pub(super) fn set_window(&self, bar: Bar, control: u32) {
        let mut window = Window::Physical;
        if control & TRANSLATE != 0 {
            let block = u64::from(control & 0x0fff_ffff) << 12;
            let vram = self.host.vram();
            let space = self
                .partition
                .vram(block, instance::SIZE)
                .filter(|_| control >> 28 & 3 == 0)
                .and_then(|at| {
                    let base = vram.load_wide(at + instance::PAGE_DIR_BASE);
                    let limit = vram.load_wide(at + instance::ADDR_LIMIT);
                    AddressSpace::new(base, limit, GEOMETRY)
                });
            window = space.map_or(Window::Nothing, |space| {
                Window::Space(Box::new(Walker::new(space)))
            });
        }
        *self.windows.lock().of(bar) = window;
    }

    /// Where the first bytes of `len` at `offset` of a BAR lead.
    fn resolve(&self, bar: Bar, offset: u64, len: usize) -> Part {
        let left = (PAGE - offset % PAGE).min(len as u64);
        let at = match self.windows.lock().of(bar) {
            Window::Physical => Some(offset),
            Window::Nothing => None,
            Window::Space(walker) => {
                let mut tables = Tables::new(self.host.vram(), &self.partition);
                let memory = self.memory.lock();
                match walker.resolve(&mut tables, memory.translation(), offset) {
                    Ok(mapping) => match mapping.at(offset) {
                        GuestAddress::Vram(address) => Some(address),
                        // The guest has nearer ways to its own RAM.
                        GuestAddress::Ram(_) => None,
                    },
                    Err(_) => None,
                }
            }
        };
        Part {
            at: at.filter(|&at| self.partition.vram(at, left).is_some()),
            len: left as usize,
        }
    }

    /// Loads through BAR1 or BAR3; what is nowhere reads as ones and is a fault of the guest's.
    pub(super) fn aperture_read(&self, bar: Bar, offset: u64, data: &mut [u8]) {
        let mut done = 0;
        while done < data.len() {
            let va = offset.wrapping_add(done as u64);
            let part = self.resolve(bar, va, data.len() - done);
            let piece = &mut data[done..done + part.len];
            match part.at {
                Some(at) => self.load_vram(at, piece),
                None => {
                    data[done..].fill(0xff);
                    return self.aperture_fault(bar, va, FAULT_HUB | CLIENT_BAR_READ << 8);
                }
            }
            done += part.len;
        }
    }

    /// Stores through BAR1 or BAR3; what is nowhere is dropped and a fault of the guest's.
    pub(super) fn aperture_write(&self, bar: Bar, offset: u64, data: &[u8]) {
        let mut done = 0;
        while done < data.len() {
            let va = offset.wrapping_add(done as u64);
            let part = self.resolve(bar, va, data.len() - done);
            let Some(at) = part.at else {
                let kind = FAULT_HUB | FAULT_WRITE | CLIENT_BAR_WRITE << 8;
                return self.aperture_fault(bar, va, kind);
            };
            self.store_vram(at, &data[done..done + part.len]);
            done += part.len;
        }
        if bar == Bar::Bar1 {
            self.doorbells(offset, data.len() as u64);
        }
    }

    /// Rings the doorbells among the `len` bytes that were stored at `offset` of BAR1.
    fn doorbells(&self, offset: u64, len: u64) {
        let base = self.file.read(pfifo::BAR1_BASE.offset());
        if base & pfifo::BAR1_BASE_ENABLE == 0 {
            return;
        }
        let first = u64::from(base & 0x0fff_ffff) * userd::STRIDE;
        let area = first..first + u64::from(pfifo::CHANNELS) * userd::STRIDE;
        let end = offset.saturating_add(len);
        let mut page = offset / userd::STRIDE * userd::STRIDE;
        while page < end {
            let put = page + userd::GP_PUT;
            if area.contains(&page) && offset < put + 4 && put < end {
                let mut word = [0; 4];
                let part = self.resolve(Bar::Bar1, put, word.len());
                if let Some(at) = part.at {
                    self.load_vram(at, &mut word);
                    let guest = ((page - first) / userd::STRIDE) as u32;
                    self.doorbell(guest, u32::from_le_bytes(word));
                }
            }
            page += userd::STRIDE;
        }
    }

    fn aperture_fault(&self, bar: Bar, va: u64, kind: u32) {
        let (unit, control) = match bar {
            Bar::Bar3 => (5, pbus::BAR2_BLOCK),
            _ => (4, pbus::BAR1_BLOCK),
        };
        let block = self.file.read(control.offset()) & 0x3fff_ffff;
        self.deliver(Event::Fault {
            unit,
            registers: [block, va as u32, (va >> 32) as u32, kind | PAGE_NOT_PRESENT],
        });
    }

    /// Where PRAMIN at `offset` of BAR0 leads in the guest's video memory.
    fn pramin(&self, offset: u32) -> Option<u64> {
        let window = self.file.read(pbus::BAR0_WINDOW.offset());
        let base = u64::from(window & 0x00ff_ffff) << 16;
        (window >> 24 & 3 == 0).then(|| base + u64::from(offset - PRAMIN.start))
    }

    /// Loads through PRAMIN.
    pub(super) fn pramin_read(&self, offset: u32, data: &mut [u8]) {
        let len = data.len() as u64;
        match self.pramin(offset) {
            Some(at) if self.partition.vram(at, len).is_some() => self.load_vram(at, data),
            _ => data.fill(0xff),
        }
    }

    /// Stores through PRAMIN.
    pub(super) fn pramin_write(&self, offset: u32, data: &[u8]) {
        if let Some(at) = self.pramin(offset) {
            self.store_vram(at, data);
        }
    }

    /// Loads from the guest's video memory; what is beyond it reads as ones.
    fn load_vram(&self, address: u64, data: &mut [u8]) {
        match self.partition.vram(address, data.len() as u64) {
            Some(at) => self.host.vram().read(at, data),
            None => data.fill(0xff),
        }
    }

    /// Stores to the guest's video memory; what is beyond it is dropped. Stores to instance blocks
    /// of channels are mirrored.
    fn store_vram(&self, address: u64, data: &[u8]) {
        let len = data.len() as u64;
        let Some(at) = self.partition.vram(address, len) else {
            return;
        };
        self.host.vram().write(at, data);
        if len != 0 && self.watch.any(address, len) {
            self.mirror(address, len);
        }
    }
}
