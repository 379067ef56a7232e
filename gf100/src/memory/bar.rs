//! The CPU's views of memory: BAR1 and BAR3 through page tables, PRAMIN without.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use mmio::layout::pagetable::{Aperture, SMALL_SHIFT, VA_BITS};

use super::epoch::Slot;
use super::gate::Published;
use super::mmu::Privilege;
use super::{
    Access, BusError, Fault, FaultClient, FaultReason, FaultReport, FaultUnit, Guard, HubClient,
    Memory, PhysAddr, Space, Translation,
};

/// Cached pages of a window.
const ENTRIES: usize = 1024;

/// Which aperture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarId {
    /// Video memory and USERD, controlled by 0x001704.
    Bar1,
    /// Instance memory, controlled by 0x001714.
    Bar3,
}

impl BarId {
    fn unit(self) -> FaultUnit {
        match self {
            BarId::Bar1 => FaultUnit::Bar1,
            BarId::Bar3 => FaultUnit::Bar3,
        }
    }
}

/// What the control register makes of a window.
#[derive(Clone, Copy)]
struct Target {
    /// The register.
    control: u32,
    instance: Option<PhysAddr>,
    space: Option<Space>,
    slot: Slot,
}

impl Target {
    /// Bit of the control register that selects translation; without it the window shows video
    /// memory from address 0.
    ///
    /// Source: ENV `rnndb/bus/pbus.xml` HOST_MEM BAR1, MODE.
    const TRANSLATE: u32 = 1 << 31;
}

/// A cached translation, readable while it is replaced: `check` is the key that it is for, xored
/// with `page`, so that a mixture of two entries matches neither.
#[derive(Default)]
struct Entry {
    check: AtomicU64,
    page: AtomicU64,
}

/// BAR1 or BAR3: an aperture into an address space of its own, used by all virtual CPUs at once.
pub struct BarWindow {
    memory: Arc<Memory>,
    id: BarId,
    target: Published<Target>,
    tlb: Box<[Entry]>,
}

impl BarWindow {
    /// A window as after reset: it shows video memory.
    pub fn new(memory: Arc<Memory>, id: BarId) -> Self {
        Self {
            memory,
            id,
            target: Published::new(Target {
                control: 0,
                instance: None,
                space: None,
                slot: Slot::default(),
            }),
            tlb: (0..ENTRIES).map(|_| Entry::default()).collect(),
        }
    }

    /// The control register, 0x001704 or 0x001714.
    pub fn control(&self) -> u32 {
        let guard = self.memory.enter();
        self.target(&guard).control
    }

    /// Writes the control register: bit 31 selects translation, the rest names the instance block,
    /// which is read now. Waits for accesses in flight.
    pub fn set_control(&self, control: u32) {
        let instance =
            PhysAddr::from_channel_word(control).filter(|_| control & Target::TRANSLATE != 0);
        let space = instance.and_then(|at| Space::load(&self.memory, at).ok());
        let slot = space
            .and_then(|space| space.directory)
            .map(Slot::of)
            .unwrap_or_default();
        let target = Target {
            control,
            instance,
            space,
            slot,
        };
        self.target.replace(&self.memory.shared.gate, target, || ());
        // Nobody can add an entry of the old address space any more.
        for entry in &self.tlb {
            entry.check.store(0, Ordering::Relaxed);
            entry.page.store(0, Ordering::Relaxed);
        }
    }

    /// Loads `buf.len()` bytes; those that cannot be loaded are ones.
    ///
    /// # Errors
    ///
    /// The first fault, for PFIFO to report.
    pub fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), FaultReport> {
        let guard = self.memory.enter();
        let mut done = 0;
        while done < buf.len() {
            let va = offset.wrapping_add(done as u64);
            let result = self.span_at(&guard, va, Access::Read).map(|(at, left)| {
                let len = left.min((buf.len() - done) as u64) as usize;
                let part = &mut buf[done..done + len];
                match (len, self.memory.span(&guard, at, Access::Read)) {
                    (4, Ok(span)) => {
                        let word: Option<u32> = span.load(0);
                        part.copy_from_slice(&word.unwrap_or(u32::MAX).to_le_bytes());
                        Ok(4)
                    }
                    (8, Ok(span)) => {
                        let word: Option<u64> = span.load(0);
                        part.copy_from_slice(&word.unwrap_or(u64::MAX).to_le_bytes());
                        Ok(8)
                    }
                    (_, Ok(span)) => Ok(span.copy_to(part)),
                    (_, Err(error)) => Err(error),
                }
            });
            match self.settle(&guard, result, va, Access::Read) {
                Ok(len) => done += len,
                Err(report) => {
                    buf[done..].fill(0xff);
                    return Err(report);
                }
            }
        }
        Ok(())
    }

    /// Stores `buf`; what cannot be stored is dropped.
    ///
    /// # Errors
    ///
    /// The first fault, for PFIFO to report.
    pub fn write(&self, offset: u64, buf: &[u8]) -> Result<(), FaultReport> {
        let guard = self.memory.enter();
        let mut done = 0;
        while done < buf.len() {
            let va = offset.wrapping_add(done as u64);
            let result = self.span_at(&guard, va, Access::Write).map(|(at, left)| {
                let len = left.min((buf.len() - done) as u64) as usize;
                let part = &buf[done..done + len];
                let span = self.memory.span(&guard, at, Access::Write)?;
                let stored = match *part {
                    [a, b, c, d] => span.store(0, u32::from_le_bytes([a, b, c, d])),
                    [a, b, c, d, e, f, g, h] => {
                        span.store(0, u64::from_le_bytes([a, b, c, d, e, f, g, h]))
                    }
                    _ => return Ok(span.copy_from(part)),
                };
                Ok(if stored { len } else { span.copy_from(part) })
            });
            done += self.settle(&guard, result, va, Access::Write)?;
        }
        Ok(())
    }

    /// Where the window leads at `offset`, and how many bytes from there are contiguous.
    ///
    /// # Errors
    ///
    /// The fault that an access would raise.
    pub fn translate(&self, offset: u64, access: Access) -> Result<(PhysAddr, u64), FaultReport> {
        let guard = self.memory.enter();
        self.span_at(&guard, offset, access)
            .map_err(|fault| self.report(&guard, fault))
    }

    fn target<'g>(&self, guard: &'g Guard<'_>) -> &'g Target {
        // SAFETY: the guard is of the gate at which `set_control` waits: both are `memory`'s.
        unsafe { self.target.get(guard) }
    }

    /// The physical address for `va`, and the bytes to the end of its 4 KiB.
    fn span_at(
        &self,
        guard: &Guard<'_>,
        va: u64,
        access: Access,
    ) -> Result<(PhysAddr, u64), Fault> {
        let target = self.target(guard);
        let page = va >> SMALL_SHIFT;
        let within = va & ((1 << SMALL_SHIFT) - 1);
        let left = (1 << SMALL_SHIFT) - within;
        if target.control & Target::TRANSLATE == 0 {
            return Ok((PhysAddr::vram(va), left));
        }
        let epoch = self.memory.shared.epochs.current(target.slot);
        let entry = &self.tlb[page as usize % ENTRIES];
        let cached = entry.page.load(Ordering::Relaxed);
        // Above 40 bits a key would not be unique; the walk refuses such an address.
        if va >> VA_BITS == 0
            && entry.check.load(Ordering::Relaxed) ^ cached == key(page, epoch)
            && let Some(at) = unpack(cached, access)
        {
            return Ok((at.offset(within), left));
        }
        let space = target.space.ok_or(Fault {
            reason: FaultReason::NoChannel,
            va,
            access,
        })?;
        let found = space.walk(&self.memory, guard, va, access, Privilege::System)?;
        let packed = pack(&found, va);
        entry
            .check
            .store(packed ^ key(page, epoch), Ordering::Relaxed);
        entry.page.store(packed, Ordering::Relaxed);
        Ok((found.at(va), left))
    }

    /// Folds the two ways to fail into what the hardware reports.
    fn settle(
        &self,
        guard: &Guard<'_>,
        result: Result<Result<usize, BusError>, Fault>,
        va: u64,
        access: Access,
    ) -> Result<usize, FaultReport> {
        let reason = FaultReason::RegionViolation;
        result
            .and_then(|inner| inner.map_err(|_| Fault { reason, va, access }))
            .map_err(|fault| self.report(guard, fault))
    }

    fn report(&self, guard: &Guard<'_>, fault: Fault) -> FaultReport {
        FaultReport {
            unit: self.id.unit(),
            client: FaultClient::Hub(match fault.access {
                Access::Read => HubClient::BarRead,
                Access::Write => HubClient::BarWrite,
            }),
            instance: self.target(guard).instance,
            fault,
        }
    }
}

/// What an entry for `page` is known by: never 0, as an epoch is not.
fn key(page: u64, epoch: u64) -> u64 {
    (page / ENTRIES as u64) << 44 | epoch & ((1 << 44) - 1)
}

/// A translated 4 KiB page in a word: its address, its target in bits 0-1, read-only in bit 2.
fn pack(found: &Translation, va: u64) -> u64 {
    let at = found.at(va & !((1 << SMALL_SHIFT) - 1));
    at.address | at.aperture.target() | u64::from(found.read_only) << 2
}

fn unpack(word: u64, access: Access) -> Option<PhysAddr> {
    if access == Access::Write && word & 4 != 0 {
        return None;
    }
    Some(PhysAddr {
        aperture: Aperture::from_target(word)?,
        address: word & !0xfff,
    })
}

/// The window of BAR0 through which software reaches memory before it has page tables.
///
/// Source: ENV `rnndb/bus/pbus.xml` HOST_MEM PMEM; K61 `nvkm/subdev/instmem/nv50.c
/// nv50_instobj_wr32_slow`.
pub struct Pramin {
    memory: Arc<Memory>,
    window: AtomicU32,
}

impl Pramin {
    /// A window at the start of video memory.
    pub fn new(memory: Arc<Memory>) -> Self {
        Self {
            memory,
            window: AtomicU32::new(0),
        }
    }

    /// The window register, 0x001700: address in units of 64 KiB, target in bits 24-25.
    pub fn window(&self) -> u32 {
        self.window.load(Ordering::Relaxed)
    }

    /// Moves the window.
    pub fn set_window(&self, window: u32) {
        self.window.store(window, Ordering::Relaxed);
    }

    /// Loads `buf.len()` bytes from `offset` into the window; all ones where nothing answers.
    pub fn read(&self, offset: u64, buf: &mut [u8]) {
        let Some(at) = self.at(offset) else {
            return buf.fill(0xff);
        };
        match buf {
            [_, _, _, _] => {
                let word: u32 = self.memory.load(at).unwrap_or(u32::MAX);
                buf.copy_from_slice(&word.to_le_bytes());
            }
            _ => {
                if self.memory.read(at, buf).is_err() {
                    buf.fill(0xff);
                }
            }
        }
    }

    /// Stores `buf` at `offset` into the window; nothing where nothing answers.
    pub fn write(&self, offset: u64, buf: &[u8]) {
        let Some(at) = self.at(offset) else { return };
        // What nobody takes is dropped.
        let _ = match *buf {
            [a, b, c, d] => self.memory.store(at, u32::from_le_bytes([a, b, c, d])),
            _ => self.memory.write(at, buf),
        };
    }

    fn at(&self, offset: u64) -> Option<PhysAddr> {
        let window = self.window();
        Some(
            PhysAddr {
                aperture: Aperture::from_target(u64::from(window >> 24))?,
                address: u64::from(window & 0x00ff_ffff) << 16,
            }
            .offset(offset),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Tables;

    const MIB: u64 = 1 << 20;

    fn window() -> (Arc<Memory>, Tables, BarWindow) {
        let memory = Memory::new(16 * MIB).unwrap();
        let tables = Tables::new(memory.clone(), MIB);
        let window = BarWindow::new(memory.clone(), BarId::Bar1);
        (memory, tables, window)
    }

    fn read(window: &BarWindow, offset: u64) -> Result<u32, FaultReport> {
        let mut buf = [0; 4];
        window.read(offset, &mut buf)?;
        Ok(u32::from_le_bytes(buf))
    }

    #[test]
    fn a_window_without_translation_shows_video_memory() {
        let (memory, _, window) = window();
        memory.vram().store(0x1234, 0xcafe_f00du32);
        assert_eq!(read(&window, 0x1234), Ok(0xcafe_f00d));
        assert!(read(&window, 16 * MIB).is_err());
    }

    #[test]
    fn a_window_follows_its_tables_and_their_flushes() {
        let (memory, mut tables, window) = window();
        for n in 0..4u64 {
            memory.vram().store(8 * MIB + n * 0x1000, 100 + n as u32);
        }
        tables.map(0, PhysAddr::vram(8 * MIB), 0x2000, false);
        window.set_control(1 << 31 | tables.instance().to_channel_word());
        assert_eq!(read(&window, 0x1000), Ok(101));
        tables.map(0x1000, PhysAddr::vram(8 * MIB + 0x3000), 0x1000, false);
        assert_eq!(read(&window, 0x1000), Ok(101), "not flushed yet");
        tables.flush();
        assert_eq!(read(&window, 0x1000), Ok(103));
        window.write(0x1ffe, &[1, 2]).unwrap();
        assert_eq!(memory.vram().load::<u16>(8 * MIB + 0x3ffe), 0x0201);
    }

    #[test]
    fn an_access_across_pages_reaches_both() {
        let (memory, mut tables, window) = window();
        tables.map(0, PhysAddr::vram(8 * MIB), 0x1000, false);
        tables.map(0x1000, PhysAddr::vram(4 * MIB), 0x1000, false);
        window.set_control(1 << 31 | tables.instance().to_channel_word());
        window.write(0xffe, &[1, 2, 3, 4]).unwrap();
        assert_eq!(memory.vram().load::<u16>(8 * MIB + 0xffe), 0x0201);
        assert_eq!(memory.vram().load::<u16>(4 * MIB), 0x0403);
        assert_eq!(read(&window, 0xffe), Ok(0x0403_0201));
    }

    #[test]
    fn an_unmapped_page_reads_as_ones_and_reports_the_bar() {
        let (_, mut tables, window) = window();
        tables.map(0, PhysAddr::vram(8 * MIB), 0x1000, false);
        window.set_control(1 << 31 | tables.instance().to_channel_word());
        let mut buf = [0; 4];
        let report = window.read(0xffe, &mut buf).unwrap_err();
        assert_eq!(buf, [0, 0, 0xff, 0xff]);
        assert_eq!(report.unit, FaultUnit::Bar1);
        assert_eq!(report.client, FaultClient::Hub(HubClient::BarRead));
        assert_eq!(report.instance, Some(tables.instance()));
        assert_eq!(
            report.fault,
            Fault {
                reason: FaultReason::PageNotPresent,
                va: 0x1000,
                access: Access::Read
            }
        );
        let report = window.write(1 << 50, &[0]).unwrap_err();
        assert_eq!(report.client, FaultClient::Hub(HubClient::BarWrite));
        assert_eq!(report.fault.reason, FaultReason::VmLimitExceeded);
    }

    #[test]
    fn a_new_instance_block_takes_effect_at_once() {
        let (memory, mut tables, window) = window();
        let mut other = Tables::new(memory.clone(), 4 * MIB);
        memory.vram().store(8 * MIB, 1u32);
        memory.vram().store(9 * MIB, 2u32);
        tables.map(0, PhysAddr::vram(8 * MIB), 0x1000, false);
        other.map(0, PhysAddr::vram(9 * MIB), 0x1000, false);
        for (instance, value) in [(tables.instance(), 1), (other.instance(), 2)] {
            let control = 1 << 31 | instance.to_channel_word();
            window.set_control(control);
            assert_eq!(window.control(), control);
            assert_eq!(read(&window, 0), Ok(value));
        }
        window.set_control(0xb000_0000);
        assert_eq!(
            read(&window, 0).unwrap_err().fault.reason,
            FaultReason::NoChannel
        );
    }

    #[test]
    fn pramin_moves_in_units_of_64_kib() {
        let memory = Memory::new(16 * MIB).unwrap();
        let pramin = Pramin::new(memory.clone());
        pramin.set_window(0x12);
        pramin.write(0x8, &0x1122_3344u32.to_le_bytes());
        assert_eq!(memory.vram().load::<u32>(0x12_0008), 0x1122_3344);
        let mut byte = [0];
        pramin.read(0x9, &mut byte);
        assert_eq!(byte, [0x33]);
        pramin.set_window(0x00ff_ffff);
        let mut word = [0; 4];
        pramin.read(0, &mut word);
        assert_eq!(word, [0xff; 4]);
        pramin.set_window(0x0100_0000);
        pramin.write(0, &word);
        pramin.read(0, &mut word);
        assert_eq!(word, [0xff; 4]);
    }
}
