//! The windows of a guest to its memory: PRAMIN, BAR1 and BAR3.
//!
//! Every access is translated and bounded here, by the guest's own tables for the BARs, and made
//! through the aggregator's window to video memory.

use mmio::Bar;
use mmio::layout::instance;
use mmio::layout::pagetable::Geometry;
use mmio::regs::{PRAMIN, pbus};
use shadow_pt::{AddressSpace, GuestAddress, Walker};

use super::VirtualGpu;
use crate::aggregator::Event;

/// Bytes of a page.
pub const PAGE: u64 = 0x1000;
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

    /// The address space behind a BAR, or none for video memory as it is.
    ///
    /// # Errors
    ///
    /// There is nothing behind it.
    pub fn space(&mut self, bar: Bar) -> Result<Option<AddressSpace>, ()> {
        match self.of(bar) {
            Window::Physical => Ok(None),
            Window::Space(walker) => Ok(Some(*walker.space())),
            Window::Nothing => Err(()),
        }
    }

    /// The guest set the size of large pages.
    pub fn read_as(&mut self, geometry: Geometry) {
        for window in [&mut self.bar1, &mut self.bar3] {
            if let Window::Space(walker) = window {
                **walker = Walker::new(AddressSpace {
                    geometry,
                    ..*walker.space()
                });
            }
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

/// A part of an access that is in one page.
struct Part {
    /// Where it leads, if to memory of the guest.
    at: Option<GuestAddress>,
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
                    AddressSpace::new(base, limit, self.geometry())
                });
            window = space.map_or(Window::Nothing, |space| {
                Window::Space(Box::new(Walker::new(space)))
            });
        }
        *self.windows.lock().of(bar) = window;
        self.remap(bar);
    }

    /// Where the first bytes of `len` at `offset` of a BAR lead.
    fn resolve(&self, bar: Bar, offset: u64, len: usize) -> Part {
        let left = (PAGE - offset % PAGE).min(len as u64);
        let at = match self.windows.lock().of(bar) {
            Window::Physical => Some(GuestAddress::Vram(offset)),
            Window::Nothing => None,
            Window::Space(walker) => {
                let memory = self.memory.lock();
                let mut tables = memory.tables(&self.host, &self.partition);
                let mapping = walker.resolve(&mut tables, memory.translation(), offset);
                mapping.ok().map(|mapping| mapping.at(offset))
            }
        };
        Part {
            at,
            len: left as usize,
        }
    }

    /// Loads through BAR1 or BAR3; what is nowhere reads as ones and is a fault of the guest's.
    pub(super) fn aperture_read(&self, bar: Bar, offset: u64, data: &mut [u8]) {
        let mut done = 0;
        while done < data.len() {
            let va = offset.wrapping_add(done as u64);
            let left = (PAGE - va % PAGE).min((data.len() - done) as u64) as usize;
            if let Some(place) = self.userd(va).filter(|_| bar == Bar::Bar1) {
                self.userd_read(place, &mut data[done..done + left]);
                done += left;
                continue;
            }
            let part = self.resolve(bar, va, data.len() - done);
            let piece = &mut data[done..done + part.len];
            let there = match part.at {
                Some(GuestAddress::Vram(at)) => {
                    self.load_vram(at, piece);
                    self.partition.vram(at, part.len as u64).is_some()
                }
                Some(GuestAddress::Ram(at)) => self.memory.lock().ram().read(at, piece),
                None => false,
            };
            if !there {
                data[done..].fill(0xff);
                return self.aperture_fault(bar, va, FAULT_HUB | CLIENT_BAR_READ << 8);
            }
            done += part.len;
        }
    }

    /// Stores through BAR1 or BAR3; what is nowhere is dropped and a fault of the guest's.
    pub(super) fn aperture_write(&self, bar: Bar, offset: u64, data: &[u8]) {
        let mut done = 0;
        while done < data.len() {
            let va = offset.wrapping_add(done as u64);
            let left = (PAGE - va % PAGE).min((data.len() - done) as u64) as usize;
            if let Some(place) = self.userd(va).filter(|_| bar == Bar::Bar1) {
                self.userd_write(place, &data[done..done + left]);
                done += left;
                continue;
            }
            let part = self.resolve(bar, va, data.len() - done);
            let piece = &data[done..done + part.len];
            let there = match part.at {
                Some(GuestAddress::Vram(at)) => self.store_vram(at, piece),
                Some(GuestAddress::Ram(at)) => self.memory.lock().ram().write(at, piece),
                None => false,
            };
            if !there {
                let kind = FAULT_HUB | FAULT_WRITE | CLIENT_BAR_WRITE << 8;
                return self.aperture_fault(bar, va, kind);
            }
            done += part.len;
        }
    }

    /// Stores at `va` of an address space of the guest's, as far as that leads to memory of the guest.
    pub(super) fn store_virtual(&self, space: AddressSpace, va: u64, data: &[u8]) {
        let mut walker = Walker::new(space);
        let mut done = 0;
        while done < data.len() {
            let va = va + done as u64;
            let left = (PAGE - va % PAGE).min((data.len() - done) as u64) as usize;
            let piece = &data[done..done + left];
            done += left;
            let at = {
                let memory = self.memory.lock();
                let mut tables = memory.tables(&self.host, &self.partition);
                let mapping = walker.resolve(&mut tables, memory.translation(), va);
                mapping.ok().map(|mapping| mapping.at(va))
            };
            match at {
                Some(GuestAddress::Vram(at)) => _ = self.store_vram(at, piece),
                Some(GuestAddress::Ram(at)) => _ = self.memory.lock().ram().write(at, piece),
                None => {}
            }
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
            guest: None,
            registers: [block, va as u32, (va >> 32) as u32, kind | PAGE_NOT_PRESENT],
        });
    }

    /// Where PRAMIN at `offset` of BAR0 leads in the guest's video memory.
    pub(super) fn pramin(&self, offset: u32) -> Option<u64> {
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
    pub(super) fn load_vram(&self, address: u64, data: &mut [u8]) {
        match self.partition.vram(address, data.len() as u64) {
            Some(at) => self.host.fetch(at, data),
            None => data.fill(0xff),
        }
    }

    /// Stores to the guest's video memory; what is beyond it is dropped. Stores to instance blocks
    /// of channels are mirrored. Whether all of it is there.
    fn store_vram(&self, address: u64, data: &[u8]) -> bool {
        let len = data.len() as u64;
        if !self.store_plain(address, data) {
            return false;
        }
        if len != 0 && self.watch.any(address, len) {
            self.mirror(address, len);
        }
        true
    }

    /// Stores to the guest's video memory what has no other effect.
    pub(super) fn store_plain(&self, address: u64, data: &[u8]) -> bool {
        let Some(at) = self.partition.vram(address, data.len() as u64) else {
            return false;
        };
        self.host.vram().write(at, data);
        self.tracker.mark(address, data.len() as u64);
        true
    }
}
