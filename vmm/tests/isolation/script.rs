//! Whatever two machines do to their virtual GPUs at the registers and windows, as a byte script.
//!
//! Each step is an operation byte, whose top bit says which machine, and its operands. Nothing may
//! panic; afterwards no shadow page table leads out of its machine's memory, and a third machine
//! has what it had and works.

use gpu_model::{Host, Optimisations, Partition, Settings};
use guest::hostile::{Device, Rig};
use mmio::layout::instance;
use mmio::layout::pagetable::{
    Aperture, ENTRY_SIZE, Geometry, Pde, Pte, SMALL_SHIFT, TablePointer,
};
use mmio::regs::PRAMIN;
use mmio::{Bar, RegisterMap};

use crate::rig::{Bars, Machines, give_ram};

const RAM: u64 = 1 << 20;
/// Steps of a script that are played.
const MOST_STEPS: usize = 400;
/// Memory of the honest machine that must not change, and what is in it.
const SECRET: std::ops::Range<u64> = 0x20_0000..0x24_0000;
const SECRET_BYTE: u8 = 0xa7;

/// The bytes of a script; zeros behind its end.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> u8 {
        match self.0 {
            [first, rest @ ..] => {
                let first = *first;
                self.0 = rest;
                first
            }
            [] => 0,
        }
    }

    fn word(&mut self) -> u32 {
        u32::from_le_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }
}

/// Plays a script.
pub fn run(script: &[u8]) {
    let machines = Machines::new(3, Settings::default());
    let Machines { host, layout, bars } = &machines;
    let secret = vec![SECRET_BYTE; (SECRET.end - SECRET.start) as usize];
    let honest = machines.part(2).vram.start;
    host.card().vram_write(honest + SECRET.start, &secret);
    let mut witness = Rig::new(&bars[2]);
    witness.recovers().unwrap();

    let mut bytes = Bytes(script);
    for _ in 0..MOST_STEPS {
        if bytes.0.is_empty() {
            break;
        }
        let operation = bytes.byte();
        step(
            &bars[usize::from(operation >> 7)],
            operation & 0x7f,
            &mut bytes,
        );
    }

    witness.works().unwrap();
    let now = machines.vram(2, SECRET.start, secret.len() as u64);
    assert!(now == secret, "memory of another machine changed");
    for gpu in host.vgpus() {
        let walk = Walk {
            host,
            part: layout.partition(gpu.vm()),
        };
        for chid in walk.part.channels.clone() {
            walk.instance(layout.instance(chid));
        }
    }
    for bars in &bars[..2] {
        bars.0.reset();
        Rig::new(bars).recovers().unwrap();
    }
}

fn step(bars: &Bars, operation: u8, bytes: &mut Bytes<'_>) {
    let gpu = &bars.0;
    match operation % 16 {
        0..=3 => {
            let registers = RegisterMap::gf100().iter().count();
            let number = bytes.word() as usize;
            let register = RegisterMap::gf100().iter().nth(number % registers);
            let register = register
                .map(|register| register.offset_of((number / registers) as u32 % register.count));
            let value = bytes.word();
            if let Some(at) = register {
                gpu.load(at);
                gpu.store(at, value);
            }
        }
        4..=6 => {
            let at = bytes.word() % (1 << 18) * 4;
            bars.store(Bar::Bar0, (PRAMIN.start + at).into(), bytes.word());
        }
        7 => {
            let bar = [Bar::Bar0, Bar::Bar1, Bar::Bar3, Bar::Bar5][usize::from(bytes.byte() % 4)];
            let offset = u64::from(bytes.word());
            let mut data: Vec<u8> = (0..bytes.byte() % 24).map(|_| bytes.byte()).collect();
            gpu.write(bar, offset, &data);
            gpu.read(bar, offset, &mut data);
        }
        8 | 9 => {
            let bar = [Bar::Bar1, Bar::Bar3][usize::from(operation & 1)];
            let at = u64::from(bytes.word() % (1 << 20));
            bars.store(bar, at, bytes.word());
            bars.load(bar, at);
        }
        10 => drop(Rig::new(bars).start()),
        11 => Rig::new(bars).release(u64::from(bytes.word() % (1 << 20)), bytes.word()),
        12 => gpu.config_write(u64::from(bytes.word() % 0x1100), &[bytes.byte()]),
        13 => gpu.set_optimisations(Optimisations::from_bits_truncate(bytes.word())),
        14 => {
            gpu.poll_doorbells();
            let at = u64::from(bytes.byte()) << (bytes.byte() % 64);
            match bytes.byte() & 1 {
                // Some are refused: what is not of pages, what is there already.
                0 => drop(give_ram(gpu, at, &[0; RAM as usize])),
                _ => gpu.dma_unmap(at, RAM),
            }
        }
        _ => gpu.reset(),
    }
}

/// Looks at what the card would walk for a machine.
struct Walk<'a> {
    host: &'a Host,
    part: Partition,
}

impl Walk<'_> {
    fn entries(&self, at: u64, count: u64) -> Vec<u64> {
        let mut bytes = vec![0; (count * ENTRY_SIZE) as usize];
        self.host.card().vram_read(at, &mut bytes);
        let entries = bytes.chunks_exact(8);
        entries
            .map(|entry| u64::from_le_bytes(entry.try_into().unwrap()))
            .collect()
    }

    fn instance(&self, block: u64) {
        let base = self.entries(block + instance::PAGE_DIR_BASE, 1)[0];
        if base == 0 || Aperture::from_target(base).is_none() {
            return;
        }
        assert_eq!(base & 3, 0, "a directory in RAM");
        let directory = base & !0xfff;
        assert!(
            self.part.tables.contains(&directory),
            "a directory at {directory:#x}"
        );
        let geometry = Geometry::default();
        for pde in self.entries(directory, geometry.pde_count()) {
            let pde = Pde(pde);
            let sides = [
                (pde.large(), geometry.large_shift()),
                (pde.small(), SMALL_SHIFT),
            ];
            for (table, shift) in sides {
                if let Some(table) = table {
                    self.table(table, pde.span() >> shift, shift);
                }
            }
        }
    }

    fn table(&self, table: TablePointer, count: u64, shift: u32) {
        assert_eq!(table.aperture, Aperture::Vram, "a table in RAM");
        assert!(self.part.tables.contains(&table.address), "{table:x?}");
        for pte in self.entries(table.address, count) {
            let pte = Pte(pte);
            if !pte.valid() {
                continue;
            }
            let memory = match pte.aperture() {
                Some(Aperture::Vram) => &self.part.vram,
                Some(_) => &self.part.dma,
                None => panic!("an entry of the reserved target: {pte:x?}"),
            };
            let end = pte.address() + (1 << shift);
            assert!(
                memory.contains(&pte.address()) && end <= memory.end,
                "{pte:x?} is not in {memory:x?}"
            );
        }
    }
}
