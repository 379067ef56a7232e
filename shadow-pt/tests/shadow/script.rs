//! Byte scripts: what a fuzzer, or a seed file, writes into a guest's tables.
//!
//! Each step is an operation byte, whose top bit changes the size of large pages, and its operands.
//! `fuzz/fuzz_targets` feeds scripts from a fuzzer, `fuzz.rs` from `fuzz/seeds`.

use mmio::layout::pagetable::Geometry;
use shadow_pt::{Algorithm, GuestAddress, Shadow};

use crate::reference::{check, check_isolation};
use crate::rig::{RAM, Rig, VRAM};

/// Syncs per script: each is checked whole.
const SYNCS: usize = 8;

/// The bytes of a script, taken from the front. `None` ends the script.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk()?;
        self.0 = tail;
        Some(*head)
    }

    fn u8(&mut self) -> Option<u64> {
        Some(u64::from(u8::from_le_bytes(self.take()?)))
    }

    fn u16(&mut self) -> Option<u64> {
        Some(u64::from(u16::from_le_bytes(self.take()?)))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take()?))
    }

    /// A page: a low one, one around the end of a memory, or any.
    fn page(&mut self) -> Option<u64> {
        let near = |end: u64, offset: u64| (end >> 12) + offset - 8;
        Some(match self.u8()? {
            page @ 0..128 => page,
            choice @ 128..144 => near(VRAM, choice - 128),
            choice @ 144..160 => near(RAM[0].1, choice - 144),
            choice @ 160..176 => near(RAM[1].0, choice - 160),
            choice @ 176..192 => near(RAM[1].0 + RAM[1].1, choice - 176),
            _ => self.u64()? & 0xfff_ffff,
        })
    }

    /// A pointer to a table: target and page in 32 bits.
    fn pointer(&mut self) -> Option<u64> {
        Some(self.u8()? & 15 | self.page()? << 4)
    }
}

struct Machine {
    rig: Rig,
    directory: GuestAddress,
    shadow: Shadow,
    syncs: usize,
}

/// Runs `script` in a VM; whatever it does, what the card finds after a sync is what the reference
/// finds.
pub fn run(script: &[u8]) {
    let mut script = Bytes(script);
    if let Some(mut machine) = Machine::new(&mut script) {
        while machine.syncs < SYNCS && machine.step(&mut script).is_some() {}
        machine.sync(Algorithm::Incremental);
        let retired = machine.shadow.close(&mut machine.rig.pool);
        machine.rig.pool.release(retired);
        assert_eq!(machine.rig.pool.used(), 0);
    }
}

impl Machine {
    fn new(script: &mut Bytes<'_>) -> Option<Self> {
        let mut rig = Rig::default();
        let options = script.u8()?;
        if options & 1 != 0 {
            rig.geometry = Geometry::Large64K;
        }
        let address = script.page()? << 12;
        let directory = match options & 2 {
            0 => GuestAddress::Vram(address),
            _ => GuestAddress::Ram(address),
        };
        let shadow = rig.shadow(directory);
        Some(Self {
            rig,
            directory,
            shadow,
            syncs: 0,
        })
    }

    fn step(&mut self, script: &mut Bytes<'_>) -> Option<()> {
        let operation = script.u8()?;
        if operation & 0x80 != 0 {
            self.rig.geometry = match self.rig.geometry {
                Geometry::Large128K => Geometry::Large64K,
                Geometry::Large64K => Geometry::Large128K,
            };
        }
        match operation % 8 {
            0 => {
                let at = self.directory.offset(script.u16()? * 8);
                let pde = script.pointer()? | script.pointer()? << 32;
                self.put(at, pde);
            }
            1 => {
                let at = GuestAddress::Vram(script.page()? << 12);
                let slot = script.u16()?;
                let pte = script.pointer()? | (script.u8()? << 33 & 0xf << 32);
                self.put(at.offset(slot * 8), pte);
            }
            2 => {
                let at = GuestAddress::Ram(script.page()? << 12);
                let slot = script.u16()?;
                let pte = script.pointer()? | (script.u8()? << 33 & 0xf << 32);
                self.put(at.offset(slot * 8), pte);
            }
            3 => {
                let at = GuestAddress::Vram(script.page()? << 12);
                let (slot, value) = (script.u16()?, script.u64()?);
                self.put(at.offset(slot * 8), value);
            }
            4 => {
                let at = GuestAddress::Vram(script.page()? << 12);
                let (count, value) = (script.u16()? % 2048, script.u64()?);
                for slot in 0..count {
                    self.put(at.offset(slot * 8), value.wrapping_add(slot << 4));
                }
            }
            5 => self.sync(Algorithm::Naive),
            6 => self.sync(Algorithm::Bulk),
            _ => self.sync(Algorithm::Incremental),
        }
        Some(())
    }

    fn put(&mut self, at: GuestAddress, entry: u64) {
        if self.rig.policy.reachable(at, 8) == 8 {
            self.rig.put(at, entry);
        }
    }

    fn sync(&mut self, algorithm: Algorithm) {
        self.syncs += 1;
        self.rig.sync(&mut self.shadow, algorithm);
        match self.shadow.is_starved() {
            false => check(&mut self.rig, &self.shadow),
            true => check_isolation(&self.rig, &self.shadow),
        }
    }
}
