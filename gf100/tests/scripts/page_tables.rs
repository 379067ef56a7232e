//! Whatever a guest writes into instance blocks, directories and tables, and does with them.
//!
//! Each step is an operation byte and its operands. The card must not panic or hang, and what a
//! client reads right after a flush must be what a fresh walk leads to.

use gf100::memory::blocklinear::{Layout, Rect};
use gf100::memory::{
    Access, BarId, BarWindow, Client, Flush, Memory, PhysAddr, Pramin, Privilege, Protection, Space,
};
use mmio::layout::instance;
use mmio::layout::pagetable::{Geometry, Pde, Pte, TablePointer};

use super::Bytes;

const VRAM: u64 = 1 << 20;
/// The one place on the bus where there is memory, sometimes.
const WINDOW: (u64, u64) = (0x10_0000, 0x1_0000);
/// The most that one step copies.
const BULK: u64 = 0x4000;

struct Machine {
    memory: std::sync::Arc<Memory>,
    client: Client,
    bars: [BarWindow; 2],
    pramin: Pramin,
    out: Vec<u8>,
}

/// Runs `script` on a small card.
pub fn run(script: &[u8]) {
    let memory = Memory::new(VRAM).expect("1 MiB of memory");
    let mut machine = Machine {
        client: Client::new(memory.clone(), Privilege::User),
        bars: [BarId::Bar1, BarId::Bar3].map(|id| BarWindow::new(memory.clone(), id)),
        pramin: Pramin::new(memory.clone()),
        out: vec![0; BULK as usize],
        memory,
    };
    let mut script = Bytes(script);
    while machine.step(&mut script).is_some() {}
}

/// An address near something: a page of the low tables or of the window, or anything at all.
fn address(script: &mut Bytes<'_>) -> Option<u64> {
    Some(match script.u8()? % 4 {
        0 => u64::from(script.u16()?) << 4,
        1 => WINDOW.0 + u64::from(script.u16()?),
        2 => u64::from(script.u32()?) << 8 | u64::from(script.u8()?),
        _ => script.u64()?,
    })
}

fn table(script: &mut Bytes<'_>) -> Option<Option<TablePointer>> {
    let choice = script.u8()?;
    let page = u64::from(script.u8()?);
    Some(
        match choice % 4 {
            0 => None,
            1 => Some((PhysAddr::vram(page << 12), false)),
            2 => Some((PhysAddr::system(WINDOW.0 + ((page & 15) << 12)), true)),
            _ => Some((PhysAddr::vram(page << 32), false)),
        }
        .map(|(at, volatile)| TablePointer {
            aperture: at.aperture,
            address: at.address,
            volatile,
        }),
    )
}

impl Machine {
    fn step(&mut self, script: &mut Bytes<'_>) -> Option<()> {
        let vram = self.memory.vram();
        match script.u8()? % 20 {
            0 => vram.store(u64::from(script.u32()?), script.u64()?),
            1 => {
                let (at, slot) = (script.u8()?, script.u16()?);
                let pde = Pde::new(table(script)?, table(script)?);
                vram.store((u64::from(at) << 12) + u64::from(slot) * 8, pde.0);
            }
            2 => {
                let (at, slot, flags) = (script.u8()?, script.u16()?, script.u8()?);
                let pte = Pte::new(PhysAddr::vram(0).aperture, u64::from(script.u16()?) << 12);
                let pte = pte.0 ^ u64::from(flags & 7) ^ u64::from(flags >> 6) << 33;
                vram.store((u64::from(at) << 12) + u64::from(slot) * 8, pte);
            }
            3 => {
                let at = u64::from(script.u8()?) << 12;
                let directory = u64::from(script.u8()?) << 12 | u64::from(script.u8()? & 7);
                vram.store(at + instance::PAGE_DIR_BASE, directory);
                vram.store(at + instance::ADDR_LIMIT, script.u64()?);
            }
            4 => {
                let at = PhysAddr::vram(u64::from(script.u8()?) << 12);
                // Refused where there is no memory.
                let _ = self.client.bind(at);
            }
            5 => {
                if let Some(at) = PhysAddr::from_channel_word(script.u32()?) {
                    let _ = self.client.bind(at);
                }
            }
            6 => self.client.unbind(),
            7 => self.compare(address(script)?),
            8 => {
                let _ = self.client.store(address(script)?, script.u64()?);
            }
            9 => {
                let _ = self.client.load::<u16>(address(script)?);
            }
            10 => {
                let (to, from) = (address(script)?, address(script)?);
                let _ = self.client.copy(to, from, u64::from(script.u16()?) % BULK);
            }
            11 => {
                let len = usize::from(script.u16()?) % self.out.len();
                let _ = self.client.read(address(script)?, &mut self.out[..len]);
            }
            12 => {
                let layout = Layout::new(script.u32()?, script.u32()?, script.u32()?, 9);
                let rect = Rect {
                    x: script.u32()?,
                    y: script.u32()?,
                    z: u32::from(script.u8()?),
                    width: u32::from(script.u8()?),
                    height: u32::from(script.u8()?),
                };
                let (base, pitch) = (address(script)?, usize::from(script.u8()?));
                let out = &mut self.out;
                let _ = self.client.read_tiled(base, &layout, rect, out, pitch);
                let _ = self.client.write_tiled(base, &layout, rect, out, pitch);
            }
            13 => self.bar(script)?.set_control(script.u32()?),
            14 => {
                let len = usize::from(script.u8()?);
                let va = address(script)?;
                let mut out = vec![0; len];
                // Faults are for PFIFO to report.
                let _ = self.bar(script)?.read(va, &mut out);
                let _ = self.bar(script)?.write(va, &out);
            }
            15 => {
                self.pramin.set_window(script.u32()?);
                let (at, word) = (u64::from(script.u32()?), script.take::<4>()?);
                self.pramin.write(at, &word);
                self.pramin.read(at, &mut self.out[..usize::from(word[0])]);
            }
            16 => {
                if let Some(flush) = Flush::decode(script.u32()?, script.u32()?) {
                    self.memory.flush(flush);
                }
            }
            17 => self.memory.set_geometry(match script.u8()? & 1 {
                0 => Geometry::Large128K,
                _ => Geometry::Large64K,
            }),
            18 => {
                let file = tempfile::tempfile().expect("a file");
                file.set_len(WINDOW.1).expect("a small file");
                let protection = match script.u8()? & 1 {
                    0 => Protection::READ_WRITE,
                    _ => Protection::READ,
                };
                // Refused when it is open.
                let dma = self.memory.dma();
                let _ = dma.map(WINDOW.0, WINDOW.1, protection, file, 0);
            }
            _ => {
                let (first, pages) = (u64::from(script.u8()? & 15), u64::from(script.u8()? & 15));
                self.memory
                    .dma()
                    .unmap(WINDOW.0 + (first << 12), pages << 12);
            }
        }
        Some(())
    }

    fn bar(&self, script: &mut Bytes<'_>) -> Option<&BarWindow> {
        Some(&self.bars[usize::from(script.u8()? & 1)])
    }

    /// A byte through the TLB, against a walk of the tables as they are.
    fn compare(&mut self, va: u64) {
        let Some(instance) = self.client.instance() else {
            assert!(self.client.load::<u8>(va).is_err());
            return;
        };
        // The instance block may have been overwritten since, or be out of reach: bind again.
        let (Ok(()), Ok(space)) = (
            self.client.bind(instance),
            Space::load(&self.memory, instance),
        ) else {
            assert!(self.client.load::<u8>(va).is_err());
            return;
        };
        self.memory.flush(Flush::All);
        let guard = self.memory.enter();
        let expected = space
            .walk(&self.memory, &guard, va, Access::Read, Privilege::User)
            .map(|page| self.memory.load::<u8>(page.at(va)));
        drop(guard);
        // Once past the TLB, once from it.
        for _ in 0..2 {
            match (&expected, self.client.load::<u8>(va)) {
                (Ok(Ok(byte)), found) => assert_eq!(found, Ok(*byte)),
                (Ok(Err(_)), found) => assert!(found.is_err()),
                (Err(fault), found) => assert_eq!(found, Err(*fault)),
            }
        }
    }
}
