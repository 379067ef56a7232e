//! The card's registers and memory through sysfs, for tests that need what the DRM interface
//! does not show: the reference counter of a channel, what interrupts, the size of large pages, the
//! read-only bit of a page.
//!
//! Sources: `nvkm/engine/fifo/gf100.c` and `gpfifogf100.c` (channel table, USERD),
//! `nvkm/subdev/instmem/nv50.c` (PRAMIN), `nvkm/subdev/fb/gf100.c` (large pages),
//! `nvkm/subdev/mmu/vmmgf100.c` (page tables), Linux 6.1.

use crate::aperture::Aperture;
use crate::{Channel, Device, Result};

/// BAR0: base of PRAMIN's window in VRAM, in units of 64 KiB.
const PRAMIN_BASE: u64 = 0x00_1700;
/// BAR0: the window of 1 MiB.
const PRAMIN: u64 = 0x70_0000;
const PRAMIN_BYTES: u64 = 1 << 20;
/// BAR0: interrupts of PFIFO that are enabled; bit 31 those that do not stall, which say that a
/// fence may have been reached.
const PFIFO_INTR_EN: u64 = 0x00_2140;
const PFIFO_NON_STALLING: u32 = 1 << 31;
/// BAR0: the MMU; bit 0 large pages of 64 KiB instead of 128 KiB.
const MMU_CONTROL: u64 = 0x10_0c80;
const MMU_LARGE_64K: u32 = 1 << 0;
/// BAR0: USERD area in BAR1, bits 27:0 its address >> 12.
const USERD_BASE: u64 = 0x00_2254;
/// BAR0: instance block of channel n, bits 27:0 its address >> 12.
const CHANNEL_TABLE: u64 = 0x00_3000;
const CHANNEL_STRIDE: u64 = 8;
const PAGE_NUMBER: u32 = 0x0fff_ffff;

/// Bytes of a channel's USERD.
const USERD_BYTES: u64 = 0x1000;
/// USERD: reference counter.
const USERD_REFERENCE: u64 = 0x48;

/// Instance block: page directory, address in 39:12, target in 1:0.
const INSTANCE_PAGE_DIRECTORY: u64 = 0x200;
/// Large pages that a directory entry covers.
const LARGE_PAGES: u64 = 1024;
/// Directory entry: target of the small-page table in 33:32, its address >> 12 in 63:36.
const PDE_SMALL_TARGET: u64 = 3 << 32;
const PDE_SMALL_VRAM: u64 = 1 << 32;
/// Table entry: valid, read-only.
const PTE_VALID: u64 = 1 << 0;
const PTE_READ_ONLY: u64 = 1 << 2;

fn aperture(device: &Device, index: u32) -> Result<Aperture> {
    Aperture::open(&device.sysfs()?.join(format!("resource{index}")))
}

/// VRAM through PRAMIN. The driver uses the same window and remembers where it stands, so the
/// window is put back after each access.
struct Vram<'a>(&'a Aperture);

impl Vram<'_> {
    fn with_window<T>(&self, address: u64, access: impl FnOnce(u64) -> T) -> T {
        let window = self.0.read(PRAMIN_BASE);
        self.0
            .write(PRAMIN_BASE, ((address & !(PRAMIN_BYTES - 1)) >> 16) as u32);
        let result = access(PRAMIN + address % PRAMIN_BYTES);
        self.0.write(PRAMIN_BASE, window);
        result
    }

    fn read(&self, address: u64) -> u64 {
        self.with_window(address, |at| {
            u64::from(self.0.read(at)) | u64::from(self.0.read(at + 4)) << 32
        })
    }

    fn write_low(&self, address: u64, value: u64) {
        self.with_window(address, |at| self.0.write(at, value as u32));
    }
}

/// Value of the channel's reference counter, which `SET_REFERENCE` sets.
pub fn reference_count(channel: &Channel) -> Result<u32> {
    let registers = aperture(channel.device(), 0)?;
    let memory = aperture(channel.device(), 1)?;
    let userd = u64::from(registers.read(USERD_BASE) & PAGE_NUMBER) << 12;
    Ok(memory.read(userd + channel.id() as u64 * USERD_BYTES + USERD_REFERENCE))
}

/// Whether the driver listens to fences. It does not while nobody waits for one.
pub fn listens_to_fences(device: &Device) -> Result<bool> {
    let enabled = aperture(device, 0)?.read(PFIFO_INTR_EN);
    Ok(enabled & PFIFO_NON_STALLING != 0)
}

/// Bytes of a large page.
pub fn large_page(device: &Device) -> Result<u64> {
    let control = aperture(device, 0)?.read(MMU_CONTROL);
    Ok(match control & MMU_LARGE_64K {
        0 => 128 << 10,
        _ => 64 << 10,
    })
}

/// Makes the 4 KiB page at `address` in the channel's address space read-only, behind the
/// driver's back. The caller has to bring about the flush of the TLBs.
///
/// Returns whether there is a small page in VRAM's page tables at that address.
pub fn make_read_only(channel: &Channel, address: u64) -> Result<bool> {
    let registers = aperture(channel.device(), 0)?;
    let vram = Vram(&registers);
    let entry = CHANNEL_TABLE + channel.id() as u64 * CHANNEL_STRIDE;
    let instance = u64::from(registers.read(entry) & PAGE_NUMBER) << 12;
    let directory = vram.read(instance + INSTANCE_PAGE_DIRECTORY) & !0xfff;
    let covered = LARGE_PAGES * large_page(channel.device())?;
    let pde = vram.read(directory + address / covered * 8);
    if pde & PDE_SMALL_TARGET != PDE_SMALL_VRAM {
        return Ok(false);
    }
    let table = pde >> 36 << 12;
    let pte_address = table + ((address % covered) >> 12) * 8;
    let pte = vram.read(pte_address);
    if pte & PTE_VALID == 0 {
        return Ok(false);
    }
    vram.write_low(pte_address, pte | PTE_READ_ONLY);
    Ok(true)
}
